//! How many streams of one household are listened to at a time before they said what they want.
//!
//! A stream that was opened and says nothing holds a task until its time is over. Were all tasks first come, first served, one computer
//! under a few names could keep everybody else out by opening streams and sending nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use network::JobStream;
use protocol::frame::{Busy, Frame};

use super::payer::Payer;

/// Streams of one household that wait for their first frame: a quarter of all that are listened to. An honest one's comes with the stream
/// itself, and eight answers are all that a person's program asks for at once.
const PER_HOUSE: usize = super::MAX_JOB_TASKS / 4;

/// When who was turned away may come again: a first frame is here or given up by then, or soon.
const RETRY_AFTER_MS: u32 = 2_000;

/// The streams that were let in and said nothing yet.
#[derive(Debug, Default)]
pub(super) struct Doors(Arc<Mutex<BTreeMap<Payer, usize>>>);

impl Doors {
    /// Lets one more stream of a household in, if there are not too many of it.
    pub(super) fn enter(&self, house: Payer) -> Option<Door> {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_house = inside.get(&house).copied().unwrap_or(0);
        if of_house >= PER_HOUSE {
            return None;
        }
        inside.insert(house, of_house + 1);
        Some(Door {
            inside: Arc::clone(&self.0),
            house,
        })
    }
}

/// To be dropped as soon as the stream has said what it wants, or ended.
#[derive(Debug)]
pub(super) struct Door {
    inside: Arc<Mutex<BTreeMap<Payer, usize>>>,
    house: Payer,
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_house) = inside.get_mut(&self.house) {
            *of_house = of_house.saturating_sub(1);
            if *of_house == 0 {
                inside.remove(&self.house);
            }
        }
    }
}

/// Tells a stream for which there is no room to come again. A reset would say that something is broken here.
pub(super) fn turn_away(stream: JobStream) {
    let (_, writer) = stream.split();
    // Who does not take it hears nothing.
    let _ = writer.send(&Frame::Busy(Busy {
        retry_after_ms: RETRY_AFTER_MS,
        queue: 0,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_that_says_nothing_keeps_nobody_else_out() {
        let doors = Doors::default();
        let house = |last: u8| Payer::of(&format!("/ip4/203.0.113.{last}/tcp/1"));
        let held: Vec<_> = (0..100).filter_map(|_| doors.enter(house(1))).collect();
        assert_eq!(held.len(), PER_HOUSE);
        let neighbour = doors.enter(house(2));
        assert!(neighbour.is_some());
        drop(held);
        assert!(
            doors.enter(house(1)).is_some(),
            "who has said it makes room"
        );
        drop(neighbour);
        assert!(doors.0.lock().unwrap().is_empty(), "and nothing is left");
    }
}
