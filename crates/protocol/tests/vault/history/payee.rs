//! What payees do: serve by their rules, reserve, claim, and say where their claims go.

use protocol::{
    price::{Price, Prices},
    voucher::{
        Address, Voucher,
        payee::{self, Debt, LineOfJob, Next, SignerFacts},
    },
};
use revm::primitives::Log;

use super::{COSTS, History, PAYEES, SIGNERS};
use crate::{
    chain::{Chain, PayVault, halves},
    model::{DAY, LineOf, Row},
};

impl History {
    /// Whether a payee computes on for `more` after what it holds, by the rules of this crate.
    pub(super) fn serves(&mut self, line: LineOf, stands: u128, more: u128) -> bool {
        let signer = self
            .model
            .signers
            .get(&(line.0, line.1))
            .cloned()
            .unwrap_or_default();
        let facts = SignerFacts {
            left: self.model.free((line.0, line.1)),
            until: signer.until,
            bond: signer.bond,
        };
        let job = LineOfJob {
            base: stands,
            due: more,
            vouchered: 0,
            window: payee::STREAM_WINDOW,
        };
        let debt = self.debt(line.2, line.0);
        let prices = Prices {
            output: Price::new(1_000_000),
            ..Prices::FREE
        };
        let next = payee::next(&prices, &facts, &debt, &COSTS, &job, self.chain.now);
        matches!(next, Ok(Next::Serve | Next::Voucher { .. }))
    }

    pub(super) fn debt(&self, payee: Address, payer: Address) -> Debt {
        let mut debt = Debt::default();
        for (line, known) in &self.known {
            if line.0 != payer || line.2 != payee {
                continue;
            }
            let row = self.model.lines.get(line).cloned().unwrap_or_default();
            let live = row.reserved_until > self.model.now;
            let covered = if live {
                row.reserved_upto.max(row.claimed)
            } else {
                row.claimed
            };
            debt.open += known.accepted.saturating_sub(covered);
            debt.claimed += row.claimed;
        }
        debt
    }

    /// Brings any reservation that was ever signed.
    pub(super) fn reserve(&mut self) {
        // The newest one, mostly.
        let held = match self.dice.below(3) {
            0 => self.dice.any(&self.reservations).copied(),
            _ => self.reservations.last().copied(),
        };
        let Some(held) = held else {
            return;
        };
        let line = (held.payer, held.signer(), held.payee);
        let (r, vs) = halves(held.signature());
        let mut call = PayVault::reserveCall {
            payer: held.payer,
            payee: held.payee,
            upto: held.upto,
            until: held.until,
            nonce: held.nonce,
            r,
            vs,
        };
        if self.dice.below(12) == 0 {
            // One unit more than was signed: somebody else's signature, of somebody who is no signer.
            call.upto += 1;
            let done = self.chain.send(held.payee, &call);
            assert!(done.is_none(), "a forged reservation was taken");
            self.tally.count("forged", false);
            return;
        }
        self.both("reserve", held.payee, &call, |model| {
            model.reserve(line, held.upto, held.until, held.nonce)
        });
        self.compare_line(line);
    }

    pub(super) fn release(&mut self) {
        let device = self.device();
        let payee = self.payee();
        let line = self.line(device, payee);
        let from = if self.dice.below(2) == 0 {
            payee
        } else {
            self.payee()
        };
        let call = PayVault::releaseCall {
            payer: line.0,
            signer: line.1,
            payee,
        };
        let nonce = self.both("release", from, &call, |model| model.release(from, line));
        if let Some((nonce, done)) = nonce {
            let events = Chain::events::<PayVault::Released>(&done.logs);
            assert_eq!(events[0].nonce, nonce);
            self.devices[device].book.released(&payee, nonce);
        }
        self.compare_line(line);
    }

    pub(super) fn claim(&mut self) {
        let payee = self.payee();
        let mut rows: Vec<Voucher> = Vec::new();
        for _ in 0..=self.dice.below(4) {
            let device = self.device();
            let best = self
                .known
                .get(&self.line(device, payee))
                .and_then(|known| known.best);
            match (self.dice.below(5), best) {
                (0, _) => rows.extend(self.dice.any(&self.vouchers).copied()),
                (_, best) => rows.extend(best),
            }
        }
        self.claim_rows(payee, &rows);
    }

    /// Brings rows, also those that were signed for another payee: they recover to a stranger, and are passed over.
    pub(super) fn claim_rows(&mut self, payee: Address, rows: &[Voucher]) {
        let call = PayVault::claimCall {
            payee,
            rows: rows
                .iter()
                .map(|row| {
                    let (r, vs) = halves(row.signature());
                    PayVault::Claim {
                        payer: row.payer,
                        cumulative: row.cumulative,
                        work: row.work,
                        r,
                        vs,
                    }
                })
                .collect(),
        };
        let genuine: Vec<Row> = rows
            .iter()
            .filter(|row| row.payee == payee)
            .map(|row| Row {
                payer: row.payer,
                signer: row.signer(),
                cumulative: row.cumulative,
            })
            .collect();
        let before = self.model.lines.clone();
        let now = self.model.now;
        let paid = self.both("claim", PAYEES[0], &call, |model| {
            model.claim(payee, &genuine)
        });
        if let Some((paid, done)) = paid {
            assert_eq!(done.value, paid);
            let events = Chain::events::<PayVault::Claimed>(&done.logs);
            assert_eq!(events.iter().map(|event| event.paid).sum::<u128>(), paid);
            for event in events {
                let line = (event.payer, event.signer, event.payee);
                // Events come row by row: the last of a line says where it stands.
                assert!(event.claimed <= self.model.lines[&line].claimed);
            }
            self.note_kept(&done.logs);
            // What was reserved is paid, whatever became of its signer.
            for row in &genuine {
                let line = (row.payer, row.signer, payee);
                let held = before.get(&line).cloned().unwrap_or_default();
                if held.reserved_until > now {
                    let stands = self.model.lines[&line].claimed;
                    assert!(stands >= row.cumulative.min(held.reserved_upto));
                }
            }
        }
        for row in &genuine {
            self.compare_line((row.payer, row.signer, payee));
        }
    }

    /// What stayed in the vault reaches the books of the devices that may spend it, and the events say whether it does.
    pub(super) fn note_kept(&mut self, logs: &[Log]) {
        let raised = Chain::events::<PayVault::SignerSet>(logs);
        for kept in Chain::events::<PayVault::Kept>(logs) {
            let says =
                |set: &&PayVault::SignerSet| (set.payer, set.signer) == (kept.payer, kept.signer);
            self.tally.count(
                match raised.iter().any(|set| says(&set)) {
                    true => "kept as grant",
                    false => "kept as balance",
                },
                true,
            );
            // Of several in one transaction, the last one says how it stands.
            if let Some(set) = raised.iter().rfind(says) {
                let grant = (set.payer, set.signer);
                assert_eq!(set.granted, self.model.signers[&grant].granted);
            }
        }
        for device in 0..self.devices.len() {
            self.tell(device);
            self.compare_signer(device);
        }
    }

    /// A stranger's account, or that of somebody who also asks.
    pub(super) fn payout(&mut self) -> Address {
        match self.dice.below(2) {
            0 => self.payer(),
            _ => Address::repeat_byte(0xc0 + self.dice.below(3) as u8),
        }
    }

    /// Whom a payee's claims go to, or somebody who would like to be.
    pub(super) fn payout_of(&mut self, payee: Address) -> Address {
        let payout = self.model.payouts.get(&payee).copied();
        match (self.dice.below(6), payout) {
            (0, _) | (_, None) => self.payout(),
            (_, Some(payout)) => payout,
        }
    }

    pub(super) fn move_payout(&mut self) {
        let payee = self.payee();
        let (from, payout) = (self.payout_of(payee), self.payout());
        let call = PayVault::movePayoutCall { payee, payout };
        self.both("move payout", from, &call, |model| {
            model.move_payout(from, payee, payout)
        });
        self.compare_payee(payee);
    }

    /// To a signer of the payout, mostly.
    pub(super) fn join(&mut self) {
        let payee = self.payee();
        let from = self.payout_of(payee);
        let device = (0..self.devices.len())
            .filter(|device| self.devices[*device].payer == from)
            .nth(self.dice.below(SIGNERS as u64) as usize)
            .unwrap_or(0);
        let (_, signer) = self.grant(device);
        let before = self.model.signers.get(&(from, signer));
        let until = before.map_or(0, |signer| signer.until).max(self.chain.now);
        let until = match self.dice.below(12) {
            0 => u64::MAX,
            _ => until + self.dice.below(30 * DAY),
        };
        let call = PayVault::joinCall {
            payee,
            signer,
            until,
        };
        let rounds = self.round(device);
        self.both("join", from, &call, |model| {
            model.join(from, payee, signer, until)
        });
        self.note_mended(device, rounds);
        self.tell(device);
        self.compare_signer(device);
        self.compare_payee(payee);
    }

    pub(super) fn unjoin(&mut self) {
        let payee = self.payee();
        let from = self.payout_of(payee);
        let call = PayVault::unjoinCall { payee };
        self.both("unjoin", from, &call, |model| model.unjoin(from, payee));
        self.compare_payee(payee);
    }

    pub(super) fn register(&mut self, payee: Address) {
        let payout = self.payout();
        self.both(
            "register",
            payee,
            &PayVault::registerPayeeCall { payout },
            |model| model.register(payee, payout),
        );
    }
}
