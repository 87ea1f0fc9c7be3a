//! How many streams of one household are listened to at a time before they said what they want.
//!
//! A stream that was opened and says nothing holds a task until its time is over. Were all tasks first come, first served, one computer
//! under a few names could keep everybody else out by opening streams and sending nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use network::JobStream;
use protocol::{
    PeerId,
    frame::{Busy, Frame},
};

use super::payer::Payer;
use crate::route::Group;

/// Streams of one household that wait for their first frame: a quarter of all that are listened to. An honest one's comes with the stream
/// itself, and eight answers are all that a person's program asks for at once.
const PER_HOUSE: usize = super::MAX_JOB_TASKS / 4;

/// When who was turned away may come again: a first frame is here or given up by then, or soon.
const RETRY_AFTER_MS: u32 = 2_000;

/// For whom a stream counts that has not said yet who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum House {
    /// Where it comes from.
    Far(Payer),
    /// A program of this computer or of its local network: the person's own, each for itself.
    Near(PeerId),
}

impl House {
    fn of(peer: PeerId, remote: &str) -> Self {
        match Payer::of(remote) {
            Payer::House(ip) if Group::of(ip).is_none() => Self::Near(peer),
            far @ (Payer::Wallet(_) | Payer::House(_) | Payer::Relayed(_)) => Self::Far(far),
        }
    }
}

/// The streams that were let in and said nothing yet.
#[derive(Debug, Default)]
pub(super) struct Doors(Arc<Mutex<BTreeMap<House, usize>>>);

impl Doors {
    /// Lets one more stream in of this peer at this multiaddr, if there are not too many of its household.
    pub(super) fn enter(&self, peer: PeerId, remote: &str) -> Option<Door> {
        let house = House::of(peer, remote);
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
    inside: Arc<Mutex<BTreeMap<House, usize>>>,
    house: House,
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
        let peer = |byte| PeerId::from_public_key(&[byte; 32]);
        let (house, next) = ("/ip4/203.0.113.5/tcp/1", "/ip4/203.0.113.6/tcp/1");
        // Under as many names as it likes.
        let held: Vec<_> = (0..100)
            .filter_map(|name| doors.enter(peer(name), house))
            .collect();
        assert_eq!(held.len(), PER_HOUSE);
        let neighbour = doors.enter(peer(1), next);
        assert!(neighbour.is_some());
        // Programs of this computer are each for themselves.
        let near = "/ip4/127.0.0.1/tcp/1";
        let own: Vec<_> = (0..100).map(|name| doors.enter(peer(name), near)).collect();
        assert!(own.iter().all(Option::is_some));
        drop(own);
        drop(held);
        assert!(doors.enter(peer(1), house).is_some(), "there is room again");
        drop(neighbour);
        assert!(doors.0.lock().unwrap().is_empty(), "and nothing is left");
    }
}
