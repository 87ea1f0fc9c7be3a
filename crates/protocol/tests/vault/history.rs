//! One random history: payers with honest and dishonest signers, payees that follow their rules, and strangers who meddle.

use std::collections::BTreeMap;

use alloy_sol_types::SolCall;
use protocol::{
    price::{Price, Prices},
    voucher::{
        Address, B256, Reservation, SessionKey, Vault, Voucher,
        payee::{self, Costs, Debt, LineOfJob, Next, SignerFacts},
        payer::{Book, Grant},
    },
};
use revm::primitives::{Log, U256};

use crate::{
    chain::{Chain, DgcDev, Done, FEE_SETTER, PayVault, halves},
    model::{self, DAY, Evidence, LineOf, Refused, Row},
};

const START: u64 = 1_800_000_000;
const GAS_SHARE: u128 = 300;
const REPORT_REWARD: u128 = 5_000;
const PAYERS: [Address; 2] = [Address::repeat_byte(0xa1), Address::repeat_byte(0xa2)];
const PAYEES: [Address; 3] = [
    Address::repeat_byte(0xb1),
    Address::repeat_byte(0xb2),
    Address::repeat_byte(0xb3),
];
/// Signers of each payer. The last one of the second payer signs whatever it likes.
const SIGNERS: usize = 2;
/// What each payer starts with: the token's faucet gives no less.
const TOKENS: u128 = 1_000_000_000_000_000_000_000;
const COSTS: Costs = Costs {
    claim: 20,
    reserve: 30,
};
/// Everything is compared after so many steps; what a step touched, after each.
const COMPARE_ALL: u64 = 40;

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: BTreeMap<&'static str, u64>,
    refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, what: &'static str, done: bool) {
        let side = if done {
            &mut self.done
        } else {
            &mut self.refused
        };
        *side.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.done {
            *self.done.entry(what).or_default() += count;
        }
        for (what, count) in &other.refused {
            *self.refused.entry(what).or_default() += count;
        }
    }

    pub(crate) fn says_something(&self) {
        for what in [
            "deposit",
            "withdraw",
            "set signer",
            "end signer",
            "promise",
            "overpromise",
            "hold",
            "reserve",
            "release",
            "claim",
            "thaw",
            "prove",
            "settle",
            "decided",
            "mended",
            "all honest vouchers paid",
            "move payout",
            "join",
            "unjoin",
            "kept as grant",
            "kept as balance",
        ] {
            assert!(
                self.done.get(what).is_some_and(|count| *count > 20),
                "{what} hardly ever happened"
            );
        }
        for what in [
            "withdraw",
            "set signer",
            "promise",
            "reserve",
            "release",
            "thaw",
            "prove",
            "settle",
            "move payout",
            "join",
            "unjoin",
        ] {
            assert!(
                self.refused.get(what).is_some_and(|count| *count > 20),
                "{what} was hardly ever refused"
            );
        }
    }
}

struct Device {
    key: SessionKey,
    payer: Address,
    honest: bool,
    book: Book,
    /// What a dishonest one remembers instead.
    signed: BTreeMap<Address, u128>,
}

/// What a payee knows of a line.
#[derive(Clone, Default)]
struct Known {
    best: Option<Voucher>,
    accepted: u128,
}

pub(crate) struct History {
    dice: Dice,
    chain: Chain,
    model: model::Vault,
    vault: Vault,
    devices: Vec<Device>,
    known: BTreeMap<LineOf, Known>,
    /// Every voucher and reservation that was ever signed: anybody may bring any of them at any time.
    vouchers: Vec<Voucher>,
    reservations: Vec<Reservation>,
    steps: u64,
    pub(crate) tally: Tally,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chain = Chain::new(START, GAS_SHARE, REPORT_REWARD);
        let mut model = model::Vault::new(START, GAS_SHARE, REPORT_REWARD);
        for payer in PAYERS {
            chain
                .send(payer, &DgcDev::faucetCall { to: payer })
                .unwrap();
            let spender = chain.vault;
            let value = U256::MAX;
            chain
                .send(payer, &DgcDev::approveCall { spender, value })
                .unwrap();
            model.tokens.insert(payer, TOKENS);
        }
        let vault = Vault::new(crate::chain::CHAIN_ID, chain.vault);
        let separator = chain.look(&PayVault::domainSeparatorCall {});
        assert_eq!(separator, vault.separator());
        let mut devices = Vec::new();
        for (p, payer) in PAYERS.into_iter().enumerate() {
            for s in 0..SIGNERS {
                let secret = [(p * SIGNERS + s + 1) as u8; 32];
                let key = SessionKey::from_secret(&secret).unwrap();
                let book = Book::new(
                    payer,
                    key.address(),
                    Grant {
                        granted: 0,
                        until: 0,
                    },
                );
                devices.push(Device {
                    key,
                    payer,
                    honest: (p, s) != (1, SIGNERS - 1),
                    book,
                    signed: BTreeMap::new(),
                });
            }
        }
        let mut history = Self {
            dice: Dice(seed),
            chain,
            model,
            vault,
            devices,
            known: BTreeMap::new(),
            vouchers: Vec::new(),
            reservations: Vec::new(),
            steps: 0,
            tally: Tally::default(),
        };
        // The third one says later, or never, where its claims go.
        for payee in &PAYEES[..2] {
            history.register(*payee);
        }
        history
    }

    pub(crate) fn step(&mut self) {
        self.steps += 1;
        match self.dice.below(100) {
            0..6 => self.deposit(),
            6..9 => self.withdraw(),
            9..18 => self.set_signer(),
            18..19 => self.end_signer(),
            19..42 => self.promise(),
            42..50 => self.hold(),
            50..58 => self.reserve(),
            58..62 => self.release(),
            62..79 => self.claim(),
            79..81 => self.thaw(),
            81..85 => self.prove(),
            85..88 => self.settle(),
            88..89 => {
                let payee = self.payee();
                self.register(payee);
            }
            89..90 => self.set_fee(),
            90..91 => self.move_payout(),
            91..93 => self.join(),
            93..94 => self.unjoin(),
            _ => self.wait(),
        }
        if self.steps.is_multiple_of(COMPARE_ALL) {
            self.compare_all();
        }
    }

    // ------------------------------------------------------------------------------------------------ what payers do

    fn deposit(&mut self) {
        let (from, payer) = (self.payer(), self.payer());
        let amount = self.dice.amount();
        self.both(
            "deposit",
            from,
            &PayVault::depositCall { payer, amount },
            |model| model.deposit(from, payer, amount),
        );
    }

    fn withdraw(&mut self) {
        let payer = self.payer();
        let amount = self.dice.amount();
        self.both(
            "withdraw",
            payer,
            &PayVault::withdrawCall { amount },
            |model| model.withdraw(payer, amount),
        );
    }

    fn set_signer(&mut self) {
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

    fn end_signer(&mut self) {
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
    fn promise(&mut self) {
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
    fn sign_anything(&mut self, device: usize, payee: Address, more: u128, work: B256) -> Voucher {
        let device = &mut self.devices[device];
        let total = device.signed.entry(payee).or_default();
        *total += more * 20;
        let mut careless = careless(device.payer, device.key.address());
        let promised = careless.promise(payee, *total, work, START).unwrap();
        device.key.sign(&self.vault, promised).unwrap()
    }

    fn hold(&mut self) {
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

    // ------------------------------------------------------------------------------------------------ what payees do

    /// Whether a payee computes on for `more` after what it holds, by the rules of this crate.
    fn serves(&mut self, line: LineOf, stands: u128, more: u128) -> bool {
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

    fn debt(&self, payee: Address, payer: Address) -> Debt {
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
    fn reserve(&mut self) {
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

    fn release(&mut self) {
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

    fn claim(&mut self) {
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
    fn claim_rows(&mut self, payee: Address, rows: &[Voucher]) {
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
    fn note_kept(&mut self, logs: &[Log]) {
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
    fn payout(&mut self) -> Address {
        match self.dice.below(2) {
            0 => self.payer(),
            _ => Address::repeat_byte(0xc0 + self.dice.below(3) as u8),
        }
    }

    /// Whom a payee's claims go to, or somebody who would like to be.
    fn payout_of(&mut self, payee: Address) -> Address {
        let payout = self.model.payouts.get(&payee).copied();
        match (self.dice.below(6), payout) {
            (0, _) | (_, None) => self.payout(),
            (_, Some(payout)) => payout,
        }
    }

    fn move_payout(&mut self) {
        let payee = self.payee();
        let (from, payout) = (self.payout_of(payee), self.payout());
        let call = PayVault::movePayoutCall { payee, payout };
        self.both("move payout", from, &call, |model| {
            model.move_payout(from, payee, payout)
        });
        self.compare_payee(payee);
    }

    /// To a signer of the payout, mostly.
    fn join(&mut self) {
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

    fn unjoin(&mut self) {
        let payee = self.payee();
        let from = self.payout_of(payee);
        let call = PayVault::unjoinCall { payee };
        self.both("unjoin", from, &call, |model| model.unjoin(from, payee));
        self.compare_payee(payee);
    }

    fn register(&mut self, payee: Address) {
        let payout = self.payout();
        self.both(
            "register",
            payee,
            &PayVault::registerPayeeCall { payout },
            |model| model.register(payee, payout),
        );
    }

    // ----------------------------------------------------------------------------------------------- what anyone does

    fn thaw(&mut self) {
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
    fn prove(&mut self) {
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

    fn settle(&mut self) {
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

    fn set_fee(&mut self) {
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

    fn wait(&mut self) {
        let seconds = match self.dice.below(20) {
            0 => self.dice.below(20 * DAY),
            1..4 => self.dice.below(2 * DAY),
            _ => self.dice.below(4 * 60 * 60),
        };
        self.pass(seconds);
    }

    fn pass(&mut self, seconds: u64) {
        self.chain.now += seconds;
        self.model.now = self.chain.now;
        for device in &mut self.devices {
            device.book.chain_time(self.chain.now);
        }
    }

    // --------------------------------------------------------------------------------------------------- comparisons

    /// Takes a step in both, and makes sure that both take it or neither.
    fn both<C: SolCall, T>(
        &mut self,
        what: &'static str,
        from: Address,
        call: &C,
        step: impl FnOnce(&mut model::Vault) -> Result<T, Refused>,
    ) -> Option<(T, Done<C::Return>)> {
        let real = self.chain.send(from, call);
        let model = self.model.whole(step);
        assert_eq!(
            real.is_some(),
            model.is_ok(),
            "step {}: {what}, {}",
            self.steps,
            if real.is_some() {
                "the vault did it"
            } else {
                "the vault refused"
            }
        );
        self.tally.count(what, real.is_some());
        Some((model.ok()?, real?))
    }

    fn compare_signer(&mut self, device: usize) {
        let (payer, signer) = self.grant(device);
        let real = self.chain.look(&PayVault::signerOfCall { payer, signer });
        let ours = self
            .model
            .signers
            .get(&(payer, signer))
            .cloned()
            .unwrap_or_default();
        let read = model::Signer {
            granted: real.granted,
            spent: real.spent,
            locked: real.locked,
            until: real.until,
            thawed: real.thawed,
            contested: real.contested,
            bond: real.bond,
            gas_pot: real.gasPot,
        };
        assert_eq!(read, ours, "step {}", self.steps);
    }

    fn compare_line(&mut self, line: LineOf) {
        let real = self.chain.look(&PayVault::lineOfCall {
            payer: line.0,
            signer: line.1,
            payee: line.2,
        });
        let ours = self.model.lines.get(&line).cloned().unwrap_or_default();
        let read = model::Line {
            claimed: real.claimed,
            reserved_upto: real.reservedUpto,
            reserved_until: real.reservedUntil,
            nonce: real.nonce,
            gas_paid: real.gasPaid,
        };
        assert_eq!(read, ours, "step {}", self.steps);
    }

    fn compare_payee(&mut self, payee: Address) {
        let payout = self.chain.look(&PayVault::payoutOfCall { payee });
        let joined = self.chain.look(&PayVault::joinedToCall { payee });
        let of = |map: &BTreeMap<Address, Address>| map.get(&payee).copied().unwrap_or_default();
        assert_eq!(
            (payout, joined),
            (of(&self.model.payouts), of(&self.model.joined))
        );
    }

    fn compare_all(&mut self) {
        for payee in PAYEES {
            self.compare_payee(payee);
        }
        for device in 0..self.devices.len() {
            self.compare_signer(device);
            for payee in PAYEES {
                self.compare_line(self.line(device, payee));
            }
            let (payer, signer) = self.grant(device);
            let real = self
                .chain
                .look(&PayVault::overdraftOfCall { payer, signer });
            let ours = self
                .model
                .overdrafts
                .get(&(payer, signer))
                .cloned()
                .unwrap_or_default();
            let read = model::Overdraft {
                round: real.round,
                mend_by: real.mendBy,
                calm_until: real.calmUntil,
                reporter: real.reporter,
                promised: real.promised,
                open: real.open,
                share: real.share,
                decided: real.decided,
            };
            assert_eq!(read, ours, "step {}", self.steps);
        }
        let mut inside = U256::ZERO;
        let owners: Vec<Address> = self.model.balances.keys().copied().collect();
        for owner in owners {
            let real = self.chain.look(&PayVault::balanceOfCall { payer: owner });
            assert_eq!(real, self.model.balances[&owner], "step {}", self.steps);
            inside += U256::from(real);
        }
        let owners: Vec<Address> = self.model.tokens.keys().copied().collect();
        for owner in owners {
            let real = self.chain.tokens_of(owner);
            assert_eq!(
                real,
                U256::from(self.model.tokens[&owner]),
                "step {}",
                self.steps
            );
        }
        // The vault holds what it owes, and nothing else.
        for (grant, signer) in &self.model.signers {
            assert!(
                signer.spent + signer.locked <= signer.granted,
                "step {}: {signer:?}",
                self.steps
            );
            if !signer.thawed {
                inside += U256::from(signer.granted - signer.spent);
            }
            inside += U256::from(signer.bond) + U256::from(signer.gas_pot);
            if let Some(case) = self.model.overdrafts.get(grant) {
                inside += U256::from(case.share);
            }
        }
        let vault = self.chain.vault;
        let holds = self.chain.tokens_of(vault);
        // Shares that were paid out are gone.
        assert!(holds <= inside, "step {}: {holds} of {inside}", self.steps);
    }

    /// Every voucher of an honest signer that its payee brings in time is paid to the last unit.
    pub(crate) fn finish(&mut self) {
        for payee in PAYEES {
            self.register(payee);
        }
        // Locks that are over hold others up until somebody gives them up.
        for device in 0..self.devices.len() {
            for payee in PAYEES {
                let line = self.line(device, payee);
                let call = PayVault::releaseCall {
                    payer: line.0,
                    signer: line.1,
                    payee,
                };
                self.both("release", PAYEES[0], &call, |model| {
                    model.release(PAYEES[0], line)
                });
            }
        }
        for payee in PAYEES {
            let rows: Vec<Voucher> = (0..self.devices.len())
                .filter_map(|device| self.known.get(&self.line(device, payee))?.best)
                .collect();
            self.claim_rows(payee, &rows);
        }
        for device in 0..self.devices.len() {
            let grant = self.grant(device);
            let signer = self.model.signers.get(&grant).cloned().unwrap_or_default();
            let in_time = signer.until != 0 && self.model.now < signer.until + 14 * DAY;
            if !self.devices[device].honest || signer.thawed || !in_time {
                continue;
            }
            for payee in PAYEES {
                let line = self.line(device, payee);
                let claimed = self.model.lines.get(&line).map_or(0, |line| line.claimed);
                assert_eq!(claimed, self.devices[device].book.cumulative(&payee));
                self.tally.count("all honest vouchers paid", true);
            }
        }
        self.compare_all();
    }

    // -------------------------------------------------------------------------------------------------------- choices

    /// What final blocks say now reaches the book of a device.
    fn tell(&mut self, device: usize) {
        let grant = self.grant(device);
        if let Some(signer) = self.model.signers.get(&grant) {
            self.devices[device].book.granted(Grant {
                granted: signer.granted,
                until: signer.until,
            });
        }
    }

    fn round(&self, device: usize) -> u32 {
        let case = self.model.overdrafts.get(&self.grant(device));
        case.map_or(0, |case| case.round)
    }

    fn note_mended(&mut self, device: usize, before: u32) {
        if self.round(device) > before {
            self.tally.count("mended", true);
            self.tell(device);
        }
    }

    fn payer(&mut self) -> Address {
        PAYERS[self.dice.below(2) as usize]
    }

    fn payee(&mut self) -> Address {
        PAYEES[self.dice.below(3) as usize]
    }

    fn device(&mut self) -> usize {
        self.dice.below(self.devices.len() as u64) as usize
    }

    /// The one that overdraws, most of the time.
    fn suspect(&mut self) -> usize {
        match self.dice.below(4) {
            0 => self.device(),
            _ => self.devices.len() - 1,
        }
    }

    fn grant(&self, device: usize) -> model::Grant {
        let device = &self.devices[device];
        (device.payer, device.key.address())
    }

    fn line(&self, device: usize, payee: Address) -> LineOf {
        let (payer, signer) = self.grant(device);
        (payer, signer, payee)
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

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a history is its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Small ones mostly, with the edges of the type among them.
    fn amount(&mut self) -> u128 {
        match self.below(40) {
            0 => 0,
            1 => 1,
            2 => u128::MAX,
            3 => u128::MAX - u128::from(self.below(1_000)),
            4..10 => u128::from(self.below(200_000)),
            _ => u128::from(self.below(20_000)),
        }
    }

    fn any<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let at = self.below(list.len() as u64) as usize;
        list.get(at)
    }
}
