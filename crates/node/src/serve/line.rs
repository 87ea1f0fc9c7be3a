//! Who has a place for a job, who waits for one, and who gets the next: a pure function of what was asked and given up.
//!
//! - **Order.** What is paid for comes before what is not. Within that, payers take turns: everybody's first job comes before
//!   anybody's second, and of equal turns, who came first. So nobody is passed by who comes later and has as little.
//! - **Bounds.** A payer has [`PER_PAYER`] jobs that compute and as many that wait, a peer that does not pay one of each, and all
//!   together [`WAITING`] wait. Who finds neither a place nor room in line is told so at once.
//! - **Memory.** The first in line gets its place when what it may come to hold fits beside those that compute. What is behind it
//!   waits as well, or a long job would never have its turn.
//! - **Answers that broke elsewhere** have [`RESCUES`] places besides.

use std::collections::BTreeMap;

use protocol::PeerId;

use super::payer::Payer;

/// Jobs of others that compute at once. They share the engine's steps: with more, nobody gets an answer at reading pace.
pub(super) const SLOTS: usize = 2;

/// Places besides for answers that broke elsewhere and go on here: whoever waits for one has half of it before his eyes. Who says so of
/// a new one gets a place when the others are taken, and slows down nobody by more than that one.
const RESCUES: usize = 1;

/// Jobs that wait at most: the last one's turn comes after four times what one takes, and nobody waits longer for an answer.
pub(super) const WAITING: usize = 4 * SLOTS;

/// Jobs of one payer that compute, and as many that wait: a household has more than one computer, and is no crowd.
const PER_PAYER: usize = 2;

/// The same of one peer that does not pay. A person asks one thing after the other.
const PER_FREE_PEER: usize = 1;

/// Names a job here; later ones have larger numbers.
pub(super) type Ticket = u64;

/// What a place is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer from its beginning.
    New,
    /// One that broke elsewhere.
    Broken,
}

/// A job that wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) payer: Payer,
    pub(super) peer: PeerId,
    pub(super) kind: Kind,
    /// `None`: not known before its model is loaded.
    pub(super) memory: Option<Memory>,
    /// It can wait for more than a moment.
    pub(super) may_wait: bool,
}

/// What a job may come to hold in memory, in tokens of context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Its input and longest output.
    pub(super) needs: u64,
    /// What others' jobs may hold together.
    pub(super) of: u64,
}

/// There is neither a place nor room in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// Jobs that wait.
    pub(super) waiting: u32,
}

#[derive(Debug, Clone, Copy)]
struct Seated {
    asker: Asker,
    place: Place,
}

/// The places and the line.
#[derive(Debug, Default)]
pub(super) struct Line {
    seated: BTreeMap<Ticket, Seated>,
    waiting: BTreeMap<Ticket, Asker>,
    next: Ticket,
}

/// What came of a job that wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) ticket: Ticket,
    /// Who had to leave the line for it.
    pub(super) displaced: Option<Ticket>,
}

/// Where a job may sit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the [`SLOTS`].
    Slot,
    /// One of the [`RESCUES`]: everybody's, so it counts as nobody's.
    Rescue,
}

impl Line {
    /// Takes a job in. It waits until [`Line::seat`] names it.
    pub(super) fn join(&mut self, asker: Asker) -> Result<Joined, Full> {
        let full = Full {
            waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
        };
        // All that there is would not do.
        if asker.memory.is_some_and(|memory| memory.needs > memory.of) {
            return Err(full);
        }
        // Who gets a place at once does not stand in line.
        let passes = self
            .waiting
            .values()
            .all(|other| self.place(other).is_none());
        if passes && self.place(&asker).is_some() && self.fits(&asker) {
            return Ok(self.take(asker, None));
        }
        let same = |same: fn(&Asker, &Asker) -> bool| {
            self.waiting
                .values()
                .filter(|other| same(other, &asker))
                .count()
        };
        let of_payer = same(|a, b| a.payer == b.payer);
        let of_peer = same(|a, b| a.peer == b.peer);
        if of_payer >= PER_PAYER || (!asker.payer.pays() && of_peer >= PER_FREE_PEER) {
            return Err(full);
        }
        if self.waiting.len() < WAITING {
            return Ok(self.take(asker, None));
        }
        // Who pays, and is there to wait, does not stay outside for who does not.
        let last = self.order().pop();
        let displaced = last.filter(|last| {
            let pays = self
                .waiting
                .get(last)
                .is_some_and(|other| other.payer.pays());
            asker.payer.pays() && asker.may_wait && !pays
        });
        let Some(displaced) = displaced else {
            return Err(full);
        };
        self.waiting.remove(&displaced);
        Ok(self.take(asker, Some(displaced)))
    }

    fn take(&mut self, asker: Asker, displaced: Option<Ticket>) -> Joined {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, asker);
        Joined { ticket, displaced }
    }

    /// A job is over, or waits no longer.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.seated.remove(&ticket);
        self.waiting.remove(&ticket);
    }

    /// Gives away the places that are free: who has one from now on, in the order of the line.
    pub(super) fn seat(&mut self) -> Vec<Ticket> {
        let mut seated = Vec::new();
        while let Some((ticket, asker, place)) = self.next_seated() {
            self.waiting.remove(&ticket);
            self.seated.insert(ticket, Seated { asker, place });
            seated.push(ticket);
        }
        seated
    }

    /// The first in line for whom there is a place, if it fits; it holds up all behind it until then.
    fn next_seated(&self) -> Option<(Ticket, Asker, Place)> {
        let first = self.order().into_iter().find_map(|ticket| {
            let asker = self.waiting.get(&ticket)?;
            Some((ticket, *asker, self.place(asker)?))
        });
        first.filter(|(_, asker, _)| self.fits(asker))
    }

    /// The line, from its front on.
    pub(super) fn order(&self) -> Vec<Ticket> {
        let mut turns: BTreeMap<Payer, usize> = BTreeMap::new();
        for seated in self.seated.values() {
            *turns.entry(seated.asker.payer).or_default() += 1;
        }
        let waiting = self.waiting.iter();
        let mut order: Vec<_> = waiting
            .map(|(&ticket, asker)| {
                let turn = turns.entry(asker.payer).or_default();
                *turn += 1;
                (!asker.payer.pays(), *turn, ticket)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, ticket)| ticket).collect()
    }

    /// The place that is free for a job, and that its payer and its peer may have.
    fn place(&self, asker: &Asker) -> Option<Place> {
        let count =
            |of: &dyn Fn(&Seated) -> bool| self.seated.values().filter(|seated| of(seated)).count();
        let of_peer = count(&|seated| seated.asker.peer == asker.peer);
        if !asker.payer.pays() && of_peer >= PER_FREE_PEER {
            return None;
        }
        let of_payer =
            count(&|seated| seated.place == Place::Slot && seated.asker.payer == asker.payer);
        let slots = count(&|seated| seated.place == Place::Slot);
        if slots < SLOTS && of_payer < PER_PAYER {
            return Some(Place::Slot);
        }
        let rescues = count(&|seated| seated.place == Place::Rescue);
        (asker.kind == Kind::Broken && rescues < RESCUES).then_some(Place::Rescue)
    }

    fn fits(&self, asker: &Asker) -> bool {
        let Some(memory) = asker.memory else {
            return true;
        };
        let held = self
            .seated
            .values()
            .filter_map(|seated| seated.asker.memory);
        let held: u64 = held.map(|held| held.needs).sum();
        held.saturating_add(memory.needs) <= memory.of
    }

    /// Whether a job of this peer has a place.
    pub(super) fn computes_for(&self, peer: &PeerId) -> bool {
        let mut seated = self.seated.values();
        seated.any(|seated| seated.asker.peer == *peer)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests;
