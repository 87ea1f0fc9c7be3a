//! The payer's one rule: a signer promises no more than it was granted.
//!
//! A [`Book`] is what one device's signer promised to whom. Each promise goes through it, and onto the disk, before it is
//! signed; so whoever holds a voucher of an honest payer holds money. A book that was lost, copied or restored is never
//! gone on with: its signer ends, and a new one begins.

use std::collections::BTreeMap;

use super::{Address, B256, Typed};

/// The longest life of a reservation, in seconds: the vault refuses a longer one.
pub const MAX_RESERVATION_S: u64 = 7 * 24 * 60 * 60;
/// The longest life of the first reservation for a payee that nothing was paid to yet.
pub const FIRST_RESERVATION_S: u64 = 24 * 60 * 60;
/// The part of a grant that a single reservation may hold: one over this.
const HELD_PART: u128 = 10;
/// A reservation covers this many times what is left of the job it is for.
const HELD_REST: u128 = 2;
/// Reservations of one line that may be signed and neither released nor over.
const MAX_HELD: usize = 8;
/// Payees that one signer pays. A new signer is a transaction; a device that asks a thousand strangers can afford it.
pub const MAX_LINES: usize = 4096;

/// What the chain says of a signer, in blocks that are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it may promise in all. Claims are never taken off: a claim is a promise kept.
    pub granted: u128,
    /// When it ends, in Unix seconds.
    pub until: u64,
}

/// Why a promise was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It would be more than was granted.
    #[error("{promised} of {granted} base units are promised, and {more} more were asked for")]
    Grant {
        /// Promised to all payees.
        promised: u128,
        /// What the chain granted.
        granted: u128,
        /// What the promise would add.
        more: u128,
    },
    /// A voucher never says less than the one before.
    #[error("{cumulative} base units were asked for on a line that stands at {line}")]
    Lower {
        /// The line's total.
        line: u128,
        /// The total that was asked for.
        cumulative: u128,
    },
    /// The signer is at its end.
    #[error("the signer ended at {until}")]
    Ended {
        /// Unix seconds.
        until: u64,
    },
    /// The reservation would hold more than any may.
    #[error("a reservation of {more} base units was asked for, {most} are allowed")]
    HoldsTooMuch {
        /// What it would hold beyond what is promised.
        more: u128,
        /// The most for this job and grant.
        most: u128,
    },
    /// The reservation would last longer than any may.
    #[error("a reservation of {seconds} s was asked for, {most} s are allowed")]
    HoldsTooLong {
        /// Its life.
        seconds: u64,
        /// The longest life for this payee.
        most: u64,
    },
    /// Too many lines or reservations.
    #[error("{what} are full")]
    Full {
        /// Which.
        what: &'static str,
    },
}

/// A reservation that was signed, and is neither given up nor over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Up to which total of the line.
    pub upto: u128,
    /// Until when, in Unix seconds of the chain.
    pub until: u64,
    /// Its number on the line.
    pub nonce: u64,
}

/// What was promised to one payee.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The total of its highest voucher.
    pub cumulative: u128,
    /// Reservations that count, in the order of their numbers.
    pub holds: Vec<Hold>,
    /// The number of the last reservation.
    pub nonce: u64,
}

impl Line {
    /// The most that this line may come to cost.
    fn promised(&self) -> u128 {
        let held = self.holds.iter().map(|hold| hold.upto).max().unwrap_or(0);
        self.cumulative.max(held)
    }
}

/// A voucher that may be signed once it is on disk.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a promise counts against the grant from now on"]
pub struct Promised {
    pub(super) payer: Address,
    pub(super) signer: Address,
    pub(super) payee: Address,
    pub(super) cumulative: u128,
    pub(super) work: B256,
}

impl Promised {
    /// The line's new total.
    pub fn cumulative(&self) -> u128 {
        self.cumulative
    }

    pub(super) fn typed(&self) -> Typed {
        Typed::voucher(self.payer, self.payee, self.cumulative, self.work)
    }
}

/// A reservation that may be signed once it is on disk.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation counts against the grant from now on"]
pub struct Held {
    pub(super) payer: Address,
    pub(super) signer: Address,
    pub(super) payee: Address,
    pub(super) upto: u128,
    pub(super) until: u64,
    pub(super) nonce: u64,
}

impl Held {
    /// Its number on the line.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    pub(super) fn typed(&self) -> Typed {
        Typed::reservation(self.payer, self.payee, self.upto, self.until, self.nonce)
    }
}

/// What one signer promised to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    payer: Address,
    signer: Address,
    grant: Grant,
    lines: BTreeMap<Address, Line>,
}

impl Book {
    /// An empty book of a signer that was registered and never used.
    pub fn new(payer: Address, signer: Address, grant: Grant) -> Self {
        Self {
            payer,
            signer,
            grant,
            lines: BTreeMap::new(),
        }
    }

    /// A book as it was kept on disk. What is handed in is taken as it is: whoever keeps it says whether it is the newest.
    pub fn restore(
        payer: Address,
        signer: Address,
        grant: Grant,
        lines: impl IntoIterator<Item = (Address, Line)>,
    ) -> Self {
        Self {
            lines: lines.into_iter().collect(),
            ..Self::new(payer, signer, grant)
        }
    }

    /// What the chain granted.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Its lines, by payee.
    pub fn lines(&self) -> impl Iterator<Item = (&Address, &Line)> {
        self.lines.iter()
    }

    /// What final blocks say of the grant now. A smaller grant than before is what a lying endpoint says: it is not taken, since
    /// no transaction can shrink one; an earlier end is.
    pub fn granted(&mut self, grant: Grant) {
        self.grant.granted = self.grant.granted.max(grant.granted);
        self.grant.until = grant.until;
    }

    /// Promised to all payees. It fits: no promise is made past the grant.
    pub fn promised(&self) -> u128 {
        self.lines
            .values()
            .fold(0, |sum: u128, line| sum.saturating_add(line.promised()))
    }

    /// The total of one line.
    pub fn cumulative(&self, payee: &Address) -> u128 {
        self.lines.get(payee).map_or(0, |line| line.cumulative)
    }

    /// Promises a line's new total. The same total again is allowed: a job begins with a voucher of increment zero.
    ///
    /// # Errors
    /// One variant of [`Refused`] per rule; the book is as before then.
    pub fn promise(
        &mut self,
        payee: Address,
        cumulative: u128,
        work: B256,
        now: u64,
    ) -> Result<Promised, Refused> {
        self.alive(now)?;
        let line = self.lines.get(&payee);
        let stands = line.map_or(0, |line| line.cumulative);
        if cumulative < stands {
            return Err(Refused::Lower {
                line: stands,
                cumulative,
            });
        }
        self.within_grant(line, cumulative)?;
        self.line(payee)?.cumulative = cumulative;
        Ok(Promised {
            payer: self.payer,
            signer: self.signer,
            payee,
            cumulative,
            work,
        })
    }

    /// A total that a line reached before, to be signed again: whoever has it can claim no more by it. `None` where the line did
    /// not reach it.
    pub fn again(&self, payee: Address, cumulative: u128, work: B256) -> Option<Promised> {
        (cumulative <= self.cumulative(&payee)).then_some(Promised {
            payer: self.payer,
            signer: self.signer,
            payee,
            cumulative,
            work,
        })
    }

    /// A reservation that was signed before, to be signed again. `None` where it is not one that still counts, nor one whose level
    /// the line has reached.
    pub fn hold_again(&self, payee: Address, hold: Hold) -> Option<Held> {
        let line = self.lines.get(&payee)?;
        let reached = hold.nonce <= line.nonce && hold.upto <= line.cumulative;
        (reached || line.holds.contains(&hold)).then_some(Held {
            payer: self.payer,
            signer: self.signer,
            payee,
            upto: hold.upto,
            until: hold.until,
            nonce: hold.nonce,
        })
    }

    /// Holds a line up to a level, for what a job may still cost (`rest`, base units).
    ///
    /// # Errors
    /// One variant of [`Refused`] per rule; the book is as before then.
    pub fn hold(
        &mut self,
        payee: Address,
        upto: u128,
        until: u64,
        rest: u128,
        now: u64,
    ) -> Result<Held, Refused> {
        self.alive(now)?;
        let line = self.lines.get(&payee);
        let stands = line.map_or(0, |line| line.cumulative);
        let most = rest
            .saturating_mul(HELD_REST)
            .min(self.grant.granted / HELD_PART);
        let more = upto.saturating_sub(stands);
        if more > most {
            return Err(Refused::HoldsTooMuch { more, most });
        }
        let longest = if stands == 0 {
            FIRST_RESERVATION_S
        } else {
            MAX_RESERVATION_S
        };
        let seconds = until.saturating_sub(now);
        if seconds > longest {
            return Err(Refused::HoldsTooLong {
                seconds,
                most: longest,
            });
        }
        self.within_grant(line, upto)?;
        let (payer, signer) = (self.payer, self.signer);
        let line = self.line(payee)?;
        if line.holds.len() >= MAX_HELD {
            return Err(Refused::Full {
                what: "the reservations of this line",
            });
        }
        line.nonce += 1;
        let nonce = line.nonce;
        line.holds.push(Hold { upto, until, nonce });
        Ok(Held {
            payer,
            signer,
            payee,
            upto,
            until,
            nonce,
        })
    }

    /// A final block shows that the payee gave its reservations up to this nonce up. The nonce is that of the event alone: a release
    /// can be mined of a line where none was brought, and says 0 then, which frees nothing.
    pub fn released(&mut self, payee: &Address, nonce: u64) {
        if let Some(line) = self.lines.get_mut(payee) {
            line.holds.retain(|hold| hold.nonce > nonce);
        }
    }

    /// The chain's own time: reservations that ended by it hold nothing any more. The clock of this computer does not count
    /// here: one that runs ahead would free what the vault still holds.
    pub fn chain_time(&mut self, seconds: u64) {
        for line in self.lines.values_mut() {
            line.holds.retain(|hold| hold.until > seconds);
        }
    }

    fn alive(&self, now: u64) -> Result<(), Refused> {
        if now < self.grant.until {
            Ok(())
        } else {
            Err(Refused::Ended {
                until: self.grant.until,
            })
        }
    }

    fn within_grant(&self, line: Option<&Line>, level: u128) -> Result<(), Refused> {
        let before = line.map_or(0, Line::promised);
        let more = level.saturating_sub(before);
        let promised = self.promised();
        let fits = promised
            .checked_add(more)
            .is_some_and(|sum| sum <= self.grant.granted);
        if fits {
            Ok(())
        } else {
            Err(Refused::Grant {
                promised,
                granted: self.grant.granted,
                more,
            })
        }
    }

    fn line(&mut self, payee: Address) -> Result<&mut Line, Refused> {
        if !self.lines.contains_key(&payee) && self.lines.len() >= MAX_LINES {
            return Err(Refused::Full {
                what: "the lines of this signer",
            });
        }
        Ok(self.lines.entry(payee).or_default())
    }
}
