//! Who has a place for a job, who waits for one, and who gets the next: a pure function of what was asked and given up.
//!
//! - **Order.** What is paid for comes before what is not, and still the first that is not has its turn after [`PAID_BEFORE_FREE`] that
//!   are. Within each, payers take turns: everybody's first job comes before anybody's second, and of equal turns, who came first. So
//!   nobody is passed by who comes later and has as little. The peers behind one payer take turns in the same way.
//! - **Bounds.** A payer has [`PER_PAYER`] jobs that compute and as many that wait ([`PER_RELAY`] where it is a relay), a peer that does
//!   not pay one of each, and all together [`WAITING`] wait, of which payers leave [`FREE_WAITING`] to who does not pay. Who finds neither
//!   a place nor room in line is told so at once.
//! - **Memory.** The first in line gets its place when what it may come to hold fits beside those that compute. What is behind it
//!   waits as well, or a long job would never have its turn.
//! - **Answers that broke elsewhere** have [`RESCUES`] places besides: half of one is before somebody's eyes. Nobody here can check who
//!   says so, and so it is worth little: to a payer that has no place yet, one job more beside the others.

use std::collections::{BTreeMap, BTreeSet};

use protocol::PeerId;

use super::payer::Payer;

/// Jobs of others that compute at once. They share the engine's steps: with more, nobody gets an answer at reading pace.
pub(super) const SLOTS: usize = 2;

/// Places beside the [`SLOTS`] for answers that broke elsewhere. Who says so of a new one gets a place when the others are taken, and
/// slows down nobody by more than that one.
const RESCUES: usize = 1;

/// Jobs that wait at most: the last one's turn comes after four times what one takes, and nobody waits longer for an answer.
pub(super) const WAITING: usize = 4 * SLOTS;

/// Jobs that are paid for and get a place before one that is not, while such a one waits: an owner who lends for nothing as well means
/// it, and a fifth of the places is little to those who pay.
const PAID_BEFORE_FREE: usize = 4;

/// Of those that wait, so many places are never a payer's: a turn that comes helps nobody who found no room to wait for it.
const FREE_WAITING: usize = WAITING / 4;

/// Jobs of one payer that compute, and as many that wait: a household has more than one computer, and is no crowd.
const PER_PAYER: usize = 2;

/// Jobs that wait through one relay, which has many households behind it. Half of the line: a node that is reached through relays alone
/// has two of them.
const PER_RELAY: usize = WAITING / 2;

/// Jobs that compute, and jobs that wait, of one peer that does not pay. A person asks one thing after the other.
const PER_FREE_PEER: usize = 1;

/// Names a job here; later ones have larger numbers.
pub(super) type Ticket = u64;

/// A job that wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) payer: Payer,
    pub(super) peer: PeerId,
    /// `None`: not known before its model is loaded.
    pub(super) memory: Option<Memory>,
    /// A part of the answer is there already, so it says.
    pub(super) goes_on: bool,
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

/// The places and the line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    seated: BTreeMap<Ticket, Asker>,
    waiting: BTreeMap<Ticket, Asker>,
    /// Of the seated, those beside the [`SLOTS`].
    rescues: BTreeSet<Ticket>,
    /// Paid jobs that got a place while one waits that is not paid for, since the last such one did; counted up to
    /// [`PAID_BEFORE_FREE`].
    paid_before: usize,
    next: Ticket,
}

/// What came of a job that wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) ticket: Ticket,
    /// Who had to leave the line for it.
    pub(super) displaced: Option<Ticket>,
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
        let passes = self.waiting.values().all(|other| !self.has_place(other));
        if passes && self.has_place(&asker) && self.fits(&asker) {
            return Ok(self.take(asker, None));
        }
        let of_payer = count(&self.waiting, |other| other.payer == asker.payer);
        if of_payer >= most_waiting(&asker.payer) {
            return Err(full);
        }
        if asker.payer.pays() {
            let paid = count(&self.waiting, |other| other.payer.pays());
            if paid >= WAITING - FREE_WAITING {
                return Err(full);
            }
        } else if count(&self.waiting, |other| other.peer == asker.peer) >= PER_FREE_PEER {
            return Err(full);
        }
        if self.waiting.len() < WAITING {
            return Ok(self.take(asker, None));
        }
        // Who pays, and is there to wait, does not stay outside for who does not. More than those whose room is theirs are in line.
        if !asker.payer.pays() || !asker.may_wait {
            return Err(full);
        }
        let is_free = |ticket: &Ticket| {
            let other = self.waiting.get(ticket);
            other.is_some_and(|other| !other.payer.pays())
        };
        let Some(displaced) = self.order().into_iter().rev().find(is_free) else {
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
        self.rescues.remove(&ticket);
        self.waiting.remove(&ticket);
        if !self.free_waits() {
            self.paid_before = 0;
        }
    }

    /// Gives away the places that are free: who has one from now on, in the order of the line.
    pub(super) fn seat(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| self.seat_next()).collect()
    }

    fn seat_next(&mut self) -> Option<Ticket> {
        let (ticket, asker) = self.next_seated()?;
        self.waiting.remove(&ticket);
        let is_rescue = !self.has_slot();
        self.seated.insert(ticket, asker);
        if is_rescue {
            // It takes nobody's turn, and so it is nobody's turn.
            self.rescues.insert(ticket);
            return Some(ticket);
        }
        self.paid_before = match asker.payer.pays() && self.free_waits() {
            true => PAID_BEFORE_FREE.min(self.paid_before + 1),
            false => 0,
        };
        Some(ticket)
    }

    /// The first in line for whom there is a place, if it fits; it holds up all behind it until then.
    fn next_seated(&self) -> Option<(Ticket, Asker)> {
        let mut able = self.by_turns();
        able.retain(|(_, asker)| self.has_place(asker));
        let first = self.in_order(able).into_iter().next();
        first.filter(|(_, asker)| self.fits(asker))
    }

    /// The line, from its front on.
    pub(super) fn order(&self) -> Vec<Ticket> {
        let order = self.in_order(self.by_turns());
        order.into_iter().map(|(ticket, _)| ticket).collect()
    }

    /// These, payers first and the others between them as their turn comes.
    fn in_order(&self, by_turns: Vec<(Ticket, Asker)>) -> Vec<(Ticket, Asker)> {
        let (paid, free): (Vec<_>, Vec<_>) = by_turns
            .into_iter()
            .partition(|(_, asker)| asker.payer.pays());
        let (mut paid, mut free) = (paid.into_iter().peekable(), free.into_iter().peekable());
        let mut paid_before = self.paid_before;
        let mut order = Vec::new();
        loop {
            let is_paid =
                free.peek().is_none() || (paid_before < PAID_BEFORE_FREE && paid.peek().is_some());
            let next = match is_paid {
                true => paid.next(),
                false => free.next(),
            };
            let Some(next) = next else { return order };
            paid_before = if is_paid { paid_before + 1 } else { 0 };
            order.push(next);
        }
    }

    /// Who waits, everybody's first before anybody's second: so of one payer by its peers, and then of all by their payers.
    fn by_turns(&self) -> Vec<(Ticket, Asker)> {
        let mut of_peer: BTreeMap<(Payer, PeerId), usize> = BTreeMap::new();
        let mut of_payer: BTreeMap<Payer, usize> = BTreeMap::new();
        for seated in self.seated.values() {
            *of_peer.entry((seated.payer, seated.peer)).or_default() += 1;
            *of_payer.entry(seated.payer).or_default() += 1;
        }
        let mut line: Vec<(usize, Ticket, Asker)> = Vec::new();
        for (&ticket, asker) in &self.waiting {
            let turn = of_peer.entry((asker.payer, asker.peer)).or_default();
            *turn += 1;
            line.push((*turn, ticket, *asker));
        }
        let by_turn = |(turn, ticket, _): &(usize, Ticket, Asker)| (*turn, *ticket);
        line.sort_unstable_by_key(by_turn);
        for (turn, _, asker) in &mut line {
            let of_payer = of_payer.entry(asker.payer).or_default();
            *of_payer += 1;
            *turn = *of_payer;
        }
        line.sort_unstable_by_key(by_turn);
        line.into_iter()
            .map(|(_, ticket, asker)| (ticket, asker))
            .collect()
    }

    /// Whether a place is free for a job, and one that its payer and its peer may have.
    fn has_place(&self, asker: &Asker) -> bool {
        let of_payer = count(&self.seated, |seated| seated.payer == asker.payer);
        let of_peer = count(&self.seated, |seated| seated.peer == asker.peer);
        let rescued = asker.goes_on && of_payer == 0 && self.rescues.len() < RESCUES;
        (self.has_slot() || rescued)
            && of_payer < PER_PAYER
            && (asker.payer.pays() || of_peer < PER_FREE_PEER)
    }

    fn has_slot(&self) -> bool {
        self.seated.len() - self.rescues.len() < SLOTS
    }

    fn fits(&self, asker: &Asker) -> bool {
        let Some(memory) = asker.memory else {
            return true;
        };
        let held = self.seated.values().filter_map(|seated| seated.memory);
        let held: u64 = held.map(|held| held.needs).sum();
        held.saturating_add(memory.needs) <= memory.of
    }

    fn free_waits(&self) -> bool {
        self.waiting.values().any(|asker| !asker.payer.pays())
    }

    /// Whether a job of this peer has a place.
    pub(super) fn computes_for(&self, peer: &PeerId) -> bool {
        self.seated.values().any(|seated| seated.peer == *peer)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

fn count(jobs: &BTreeMap<Ticket, Asker>, of: impl Fn(&Asker) -> bool) -> usize {
    jobs.values().filter(|asker| of(asker)).count()
}

fn most_waiting(payer: &Payer) -> usize {
    match payer {
        Payer::Relayed(_) => PER_RELAY,
        Payer::Wallet(_) | Payer::House(_) => PER_PAYER,
    }
}

#[cfg(test)]
mod tests;
