//! What anyone does: thaw, show an overdraft and settle it, and let time pass.

use protocol::voucher::{Address, B256};

use super::{History, PAYEES};
use crate::{
    chain::{Chain, FEE_SETTER, PayVault, halves},
    model::{DAY, Evidence},
};

impl History {
    pub(super) fn thaw(&mut self) {
        let device = self.device();
        let (payer, signer) = self.grant(device);
        self.both(
            "thaw",
            PAYEES[0],
            &PayVault::thawCall { payer, signer },
            |model| model.thaw((payer, signer)),
        );
        self.compare_signer(device);
    }

    /// Shows all that is known of a signer, or a part of it.
    pub(super) fn prove(&mut self) {
        let device = self.suspect();
        let (payer, signer) = self.grant(device);
        let mut rows = Vec::new();
        let mut evidence = Vec::new();
        for payee in PAYEES {
            if self.dice.below(6) == 0 {
                continue;
            }
            let line = (payer, signer, payee);
            if self.dice.below(6) == 0 {
                // What the vault holds of it already.
                rows.push(promise_of(payee, 0, 0, 0, B256::ZERO, [0; 64]));
                evidence.push(Evidence {
                    payee,
                    signer: Address::ZERO,
                    amount: 0,
                    until: 0,
                    nonce: 0,
                });
                continue;
            }
            let held = self
                .reservations
                .iter()
                .rev()
                .find(|held| (held.payer, held.signer(), held.payee) == line);
            if let Some(held) = held.filter(|_| self.dice.below(3) == 0) {
                rows.push(promise_of(
                    payee,
                    held.upto,
                    held.until,
                    held.nonce,
                    B256::ZERO,
                    held.signature(),
                ));
                evidence.push(Evidence {
                    payee,
                    signer: held.signer(),
                    amount: held.upto,
                    until: held.until,
                    nonce: held.nonce,
                });
            } else if let Some(best) = self.known.get(&line).and_then(|known| known.best) {
                rows.push(promise_of(
                    payee,
                    best.cumulative,
                    0,
                    0,
                    best.work,
                    best.signature(),
                ));
                evidence.push(Evidence {
                    payee,
                    signer: best.signer(),
                    amount: best.cumulative,
                    until: 0,
                    nonce: 0,
                });
            }
        }
        let reporter = self.payee();
        let call = PayVault::proveOverdraftCall {
            payer,
            signer,
            rows,
        };
        let shown = self.both("prove", reporter, &call, |model| {
            model.prove(reporter, (payer, signer), &evidence)
        });
        if shown.is_some() {
            assert!(
                !self.devices[device].honest,
                "an honest signer was shown to overdraw"
            );
        }
        self.compare_signer(device);
    }

    pub(super) fn settle(&mut self) {
        let device = self.suspect();
        let (payer, signer) = self.grant(device);
        let rounds = self.round(device);
        let call = PayVault::settleOverdraftCall {
            payer,
            signer,
            payees: PAYEES.to_vec(),
        };
        let done = self.both("settle", PAYEES[1], &call, |model| {
            model.settle((payer, signer), &PAYEES)
        });
        if let Some((_, done)) = done {
            if !Chain::events::<PayVault::OverdraftDecided>(&done.logs).is_empty() {
                self.tally.count("decided", true);
            }
            self.note_kept(&done.logs);
        }
        self.note_mended(device, rounds);
        self.compare_signer(device);
    }

    pub(super) fn set_fee(&mut self) {
        let from = if self.dice.below(3) == 0 {
            self.payee()
        } else {
            FEE_SETTER
        };
        let bps = self.dice.below(1_100) as u16;
        let to = Address::repeat_byte(0xf1);
        self.both(
            "set fee",
            from,
            &PayVault::setFeeCall { bps, to },
            |model| model.set_fee(from, bps, to),
        );
    }

    pub(super) fn wait(&mut self) {
        let seconds = match self.dice.below(20) {
            0 => self.dice.below(20 * DAY),
            1..4 => self.dice.below(2 * DAY),
            _ => self.dice.below(4 * 60 * 60),
        };
        self.pass(seconds);
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.chain.now += seconds;
        self.model.now = self.chain.now;
        for device in &mut self.devices {
            device.book.chain_time(self.chain.now);
        }
    }
}

fn promise_of(
    payee: Address,
    amount: u128,
    until: u64,
    nonce: u64,
    work: B256,
    signature: [u8; 64],
) -> PayVault::Promise {
    let (r, vs) = halves(signature);
    PayVault::Promise {
        payee,
        amount,
        until,
        nonce,
        work,
        r,
        vs,
    }
}
