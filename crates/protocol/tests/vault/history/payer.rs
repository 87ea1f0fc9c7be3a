//! What payers do: put in and take out, grant, sign.

use protocol::voucher::{
    Address, B256, Voucher,
    payer::{Book, Grant},
};

use super::{History, START};
use crate::{chain::PayVault, model::DAY};

impl History {
    pub(super) fn deposit(&mut self) {
        let (from, payer) = (self.payer(), self.payer());
        let amount = self.dice.amount();
        self.both(
            "deposit",
            from,
            &PayVault::depositCall { payer, amount },
            |model| model.deposit(from, payer, amount),
        );
    }

    pub(super) fn withdraw(&mut self) {
        let payer = self.payer();
        let amount = self.dice.amount();
        self.both(
            "withdraw",
            payer,
            &PayVault::withdrawCall { amount },
            |model| model.withdraw(payer, amount),
        );
    }

    pub(super) fn set_signer(&mut self) {
        let device = self.device();
        let (payer, signer) = self.grant(device);
        let before = self.model.signers.get(&(payer, signer)).cloned();
        let until = before.map_or(0, |signer| signer.until);
        let until = until.max(self.chain.now) + self.dice.below(30 * DAY);
        let until = match self.dice.below(12) {
            0 => u64::MAX,
            1 => self.chain.now.saturating_sub(1),
            _ => until,
        };
        let add = self.dice.amount();
        let bond = self.dice.amount() / 4;
        let gas_pot = self.dice.below(2_000).into();
        let call = PayVault::setSignerCall {
            signer,
            add,
            until,
            bond,
            gasPot: gas_pot,
        };
        let rounds = self.round(device);
        self.both("set signer", payer, &call, |model| {
            model.set_signer((payer, signer), add, until, bond, gas_pot)
        });
        self.note_mended(device, rounds);
        self.tell(device);
        self.compare_signer(device);
    }

    pub(super) fn end_signer(&mut self) {
        let device = self.device();
        let (payer, signer) = self.grant(device);
        self.both(
            "end signer",
            payer,
            &PayVault::endSignerCall { signer },
            |model| model.end_signer((payer, signer)),
        );
        self.tell(device);
    }

    /// The payee's rules say whether it goes on, the payer's whether it signs.
    pub(super) fn promise(&mut self) {
        let device = self.device();
        let payee = self.payee();
        let line = self.line(device, payee);
        let more = u128::from(self.dice.below(900));
        let work = B256::repeat_byte(self.dice.below(250) as u8);
        let stands = self.known.get(&line).map_or(0, |known| known.accepted);
        if !self.serves(line, stands, more) {
            self.tally.count("serve", false);
            return;
        }
        let signed = if self.devices[device].honest {
            let now = self.chain.now;
            let book = &mut self.devices[device].book;
            let level = book.cumulative(&payee) + more;
            let promised = book.promise(payee, level, work, now);
            self.tally.count("promise", promised.is_ok());
            let Ok(promised) = promised else { return };
            self.devices[device]
                .key
                .sign(&self.vault, promised)
                .unwrap()
        } else {
            self.tally.count("overpromise", true);
            self.sign_anything(device, payee, more, work)
        };
        let known = self.known.entry(line).or_default();
        known.accepted = known.accepted.max(signed.cumulative);
        known.best = Some(signed);
        self.vouchers.push(signed);
    }

    /// Signs without a book: what stops an honest device is its own rule, and nothing else.
    pub(super) fn sign_anything(
        &mut self,
        device: usize,
        payee: Address,
        more: u128,
        work: B256,
    ) -> Voucher {
        let device = &mut self.devices[device];
        let total = device.signed.entry(payee).or_default();
        *total += more * 20;
        let mut careless = careless(device.payer, device.key.address());
        let promised = careless.promise(payee, *total, work, START).unwrap();
        device.key.sign(&self.vault, promised).unwrap()
    }

    pub(super) fn hold(&mut self) {
        let device = self.device();
        let payee = self.payee();
        let now = self.chain.now;
        let life = match self.dice.below(3) {
            0 => self.dice.below(9 * DAY),
            _ => self.dice.below(DAY),
        };
        let more = u128::from(self.dice.below(3_000));
        let (until, signed) = if self.devices[device].honest {
            let book = &mut self.devices[device].book;
            let level = book.cumulative(&payee) + more;
            let held = book.hold(payee, level, now + life, more, now);
            self.tally.count("hold", held.is_ok());
            let Ok(held) = held else { return };
            let key = &self.devices[device].key;
            (now + life, key.sign_reservation(&self.vault, held).unwrap())
        } else {
            let device = &self.devices[device];
            let mut careless = careless(device.payer, device.key.address());
            let nonce = self.dice.below(4);
            for _ in 0..nonce {
                let _ = careless.hold(payee, 1, START + 1, 1, START).unwrap();
            }
            let level = device.signed.get(&payee).copied().unwrap_or(0) + more;
            let life = life.min(DAY);
            let held = careless.hold(payee, level, now + life, level, now).unwrap();
            (
                now + life,
                device.key.sign_reservation(&self.vault, held).unwrap(),
            )
        };
        assert_eq!(signed.until, until);
        self.reservations.push(signed);
    }
}

/// A book that lets everything pass.
fn careless(payer: Address, signer: Address) -> Book {
    let grant = Grant {
        granted: u128::MAX,
        until: u64::MAX,
    };
    Book::new(payer, signer, grant)
}
