//! How a job comes to its place: whether its peer is served at all, what the job asks of the line, and what it hears there.

use protocol::job::provider::{Event, Room, Wanted, Welcome};

use super::{
    super::{
        line::{Asker, Full, Memory},
        offers, quotes,
        rooms::{Place, Turn},
    },
    Job,
};

/// What an engine rounds up to whole pages, and holds besides: at most so many tokens of each job.
const ROUNDED_TOKENS: u64 = 64;

/// When somebody may ask again whose answer broke elsewhere, and who found no room here: a second later somebody else has it, or
/// nobody.
const RETRY_BROKEN_AFTER_MS: u32 = 500;

impl Job {
    /// Whether this peer is served at all.
    pub(super) fn welcome(&self) -> Welcome {
        if !self.context.open || self.context.off.is_cancelled() {
            return Welcome::Off;
        }
        match self.context.inner.book().is_blocked(&self.peer) {
            true => Welcome::NotAllowed,
            false => Welcome::Yes,
        }
    }

    /// Looks for a place, and takes it or stands in line for it.
    pub(super) async fn seek(&mut self, wanted: Wanted) -> Event {
        let asker = Asker {
            payer: self.payer,
            peer: self.peer,
            memory: self.memory(&wanted),
            goes_on: wanted.goes_on,
            may_wait: wanted.may_wait,
        };
        self.wanted = Some(wanted);
        let room = match self.context.rooms.place(asker).await {
            Ok(place) => {
                let turn = place.turn();
                self.place = Some(place);
                self.room(turn)
            }
            Err(full) => self.full(full),
        };
        Event::Room(room)
    }

    /// What the job may come to hold of what others may have in memory, where its model is there.
    fn memory(&self, wanted: &Wanted) -> Option<Memory> {
        let mut served = self.context.served.iter();
        let served = served.find(|served| served.reference.digest == wanted.model)?;
        let stats = self.context.inner.engine.stats();
        let stats = stats.borrow();
        if stats.model_file.as_ref() != Some(&served.file) {
            return None;
        }
        Some(Memory {
            needs: u64::from(wanted.tokens) + ROUNDED_TOKENS,
            of: stats.network_tokens?,
        })
    }

    /// How the job stands, in the machine's words.
    pub(super) fn room(&self, turn: Turn) -> Room {
        match turn {
            Turn::Seated => Room::Free,
            Turn::Waits(in_front) => Room::InLine { in_front },
            Turn::Dismissed => self.full(self.context.rooms.full()),
        }
    }

    fn full(&self, Full { waiting }: Full) -> Room {
        let wanted = self.wanted.as_ref();
        let retry_after_ms = match wanted.is_some_and(|wanted| wanted.goes_on) {
            true => RETRY_BROKEN_AFTER_MS,
            false => quotes::retry_after_ms(self.decode_tps()),
        };
        Room::Full {
            retry_after_ms,
            queue: waiting,
        }
    }

    /// Tokens per second that the job's model writes here; 0 where that was not measured.
    fn decode_tps(&self) -> u32 {
        let mut served = self.context.served.iter();
        let model = self.wanted.as_ref().map(|wanted| wanted.model);
        let served = served.find(|served| Some(served.reference.digest) == model);
        served.map_or(0, |served| {
            offers::speeds_of(&self.context.inner, &served.file).1
        })
    }
}

/// How a job stands in line, when that changes.
pub(super) async fn turn_of(place: &mut Option<Place>) -> Turn {
    match place {
        Some(place) => place.changed().await,
        None => std::future::pending().await,
    }
}
