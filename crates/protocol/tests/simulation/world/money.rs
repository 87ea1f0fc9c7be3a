//! The books of both sides, and what must be true of every promise: nobody pays for what is not here, nobody computes for long
//! what is not paid for.

use protocol::{
    job::{
        client::PromiseId,
        provider::{Charging, Standing},
    },
    price::{self, Price},
    voucher::{
        Address, B256, Checked, Opening, Reservation, SessionKey, Split, Vault, Voucher,
        payee::{Costs, Debt, OPENING_TOKENS, SignerFacts},
        payer::{Book, Grant},
    },
};

use super::*;

/// What answers cost, and what the payer is to the payees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Money {
    /// Base units per 10⁶ tokens: input, output.
    pub(crate) prices: (u128, u128),
    /// Input tokens that every quote counts as cached: a tenth of the price of the others.
    pub(crate) cached: u32,
    pub(crate) window: u32,
    /// How long a signature takes with the disk, and how long the payee takes to write it down.
    pub(crate) sign_ms: u64,
    pub(crate) hold_ms: u64,
    pub(crate) bonded: bool,
    pub(crate) max_cost: Option<u128>,
    pub(crate) granted: u128,
}

impl Money {
    pub(crate) fn prices(&self) -> Prices {
        Prices {
            input: Price::new(self.prices.0),
            cached: Price::new(self.prices.0 / 10),
            output: Price::new(self.prices.1),
        }
    }

    /// What a quote says.
    pub(crate) fn terms(&self) -> Terms {
        Terms::new(self.prices(), self.cached)
    }

    pub(crate) fn due(&self, input: u32, output: u32) -> u128 {
        price::due(&self.prices(), &self.terms().totals(input, output)).unwrap()
    }
}

/// One provider's books. They are on disk: no kill takes them.
#[derive(Debug, Default)]
pub(super) struct Till {
    held: Option<Voucher>,
    split: Split,
    reserved: u128,
}

impl Till {
    fn total(&self) -> u128 {
        self.held.map_or(0, |held| held.cumulative)
    }

    fn hold(&mut self, voucher: Voucher) {
        if voucher.cumulative >= self.total() {
            self.held = Some(voucher);
        }
    }
}

/// The payer's books, and what is known of each job.
#[derive(Debug)]
pub(super) struct Purse {
    book: Book,
    pub(super) n_in: BTreeMap<JobId, u32>,
    pub(super) promised: BTreeMap<JobId, u128>,
    /// What was paid with the first frame of each job that was accepted, and does not count.
    lost: BTreeMap<JobId, u128>,
    /// What the client asked for and has not heard of: base units, and whether they are signed for.
    pub(super) signing: BTreeMap<PromiseId, (u128, bool)>,
}

const DAY_S: u64 = 24 * 3_600;

fn key() -> SessionKey {
    SessionKey::from_secret(&[7; 32]).unwrap()
}

fn vault() -> Vault {
    Vault::new(31_337, Address::repeat_byte(0xee))
}

fn payer() -> Address {
    Address::repeat_byte(1)
}

fn payee(peer: usize) -> Address {
    Address::repeat_byte(peer as u8 + 10)
}

pub(super) fn charging(money: &Money, peer: usize) -> Charging {
    Charging {
        vault: vault(),
        payee: payee(peer),
        stream_window: money.window,
    }
}

pub(super) fn pay_to(peer: usize) -> client::PayTo {
    client::PayTo {
        vault: vault(),
        payee: payee(peer),
    }
}

impl Purse {
    pub(super) fn new(granted: u128) -> Self {
        let grant = Grant {
            granted,
            until: UNIX_MS / 1000 + 300 * DAY_S,
        };
        Self {
            book: Book::new(payer(), key().address(), grant),
            n_in: BTreeMap::new(),
            promised: BTreeMap::new(),
            lost: BTreeMap::new(),
            signing: BTreeMap::new(),
        }
    }

    /// Everything that was promised to anybody.
    pub(super) fn spent(&self) -> u128 {
        self.promised.values().sum()
    }
}

impl World {
    fn unix_s(&self) -> u64 {
        (UNIX_MS + self.now) / 1000
    }

    pub(super) fn sign(
        &mut self,
        (promise, attempt): (PromiseId, AttemptId),
        payee: Address,
        add: u128,
        work: B256,
    ) {
        let money = self.scene.money.expect("a promise where all is free");
        let job = self.streams[&attempt].id.expect("a promise before Open");
        let now = self.unix_s();
        let purse = &mut self.purse;
        let line = purse.book.cumulative(&payee);
        let signed = match purse.book.promise(payee, line + add, work, now) {
            Ok(promised) => key().sign(&vault(), promised).unwrap(),
            Err(refused) => {
                let why = refused.to_string();
                let event = client::Event::NotPromised { promise, why };
                purse.signing.insert(promise, (add, false));
                return self.after(money.sign_ms, Event::Client(event));
            }
        };
        purse.signing.insert(promise, (add, true));
        let promised = purse.promised.entry(job).or_default();
        *promised += add;
        // One more than was shown: an end token is held back until its receipt is here.
        let delivered = match self.emitted.get(&job).map_or(0, |ids| ids.len() as u32) {
            0 if add == 0 => 0,
            shown => shown + 1,
        };
        let n_in = purse.n_in[&job];
        let most = match purse.lost.get(&job) {
            Some(lost) => lost + money.due(n_in, delivered),
            // Before it is accepted, a part of the prompt is all that is at stake.
            None => money.due(n_in.min(OPENING_TOKENS), 0),
        };
        assert!(
            *promised <= most,
            "{promised} promised for what is worth {most}"
        );
        if let Some(most) = money.max_cost {
            assert!(purse.spent() <= most, "more than the person allowed");
        }
        let event = client::Event::Promised {
            promise,
            voucher: signed,
        };
        self.after(money.sign_ms, Event::Client(event));
    }

    pub(super) fn sign_reservation(
        &mut self,
        promise: PromiseId,
        payee: Address,
        (least, rest): (u128, u128),
    ) {
        let money = self.scene.money.expect("a reservation where all is free");
        let now = self.unix_s();
        let upto = self.purse.book.cumulative(&payee) + least;
        let until = now + DAY_S;
        let event = match self.purse.book.hold(payee, upto, until, rest, now) {
            Ok(held) => client::Event::Reserved {
                promise,
                reservation: key().sign_reservation(&vault(), held).unwrap(),
            },
            Err(refused) => client::Event::NotPromised {
                promise,
                why: refused.to_string(),
            },
        };
        self.after(money.sign_ms, Event::Client(event));
    }

    /// The provider says what of the first voucher counts.
    pub(super) fn was_accepted(&mut self, attempt: AttemptId, accept: &protocol::frame::Accept) {
        let Some(job) = self.streams.get(&attempt).and_then(|stream| stream.id) else {
            return;
        };
        let promised = self.purse.promised.get(&job).copied().unwrap_or(0);
        let counts = price::from_bytes(&accept.paid).unwrap();
        let lost = self.purse.lost.entry(job);
        lost.or_insert(promised.saturating_sub(counts));
    }

    pub(super) fn admit(
        &mut self,
        number: JobNumber,
        job: JobId,
        (voucher, adds): (Voucher, u128),
    ) {
        let money = self.scene.money.expect("a voucher where all is free");
        let peer = self.jobs[number].peer;
        assert_eq!(
            (voucher.payer, voucher.signer()),
            (payer(), key().address())
        );
        let till = &mut self.tills[peer];
        let last_held = till.held.map(|held| held.encode());
        let before = till.total();
        till.hold(voucher);
        let cumulative = voucher.cumulative;
        till.split.open(job, before, Opening { cumulative, adds });
        let standing = self.standing(number, job);
        let event = provider::Event::Admitted {
            standing,
            last_held,
        };
        self.after(money.hold_ms, Event::Provider(number, event));
    }

    pub(super) fn hold(&mut self, number: JobNumber, voucher: Voucher) {
        let money = self.scene.money.expect("a voucher where all is free");
        let peer = self.jobs[number].peer;
        let job = self.jobs[number].machine.job().unwrap();
        assert!(voucher.cumulative <= self.purse.book.cumulative(&voucher.payee));
        let till = &mut self.tills[peer];
        till.hold(voucher);
        till.split.take(&job, voucher.cumulative);
        let event = provider::Event::Standing(self.standing(number, job));
        self.after(money.hold_ms, Event::Provider(number, event));
    }

    pub(super) fn hold_reservation(&mut self, number: JobNumber, held: Reservation<Checked>) {
        let peer = self.jobs[number].peer;
        let job = self.jobs[number].machine.job().unwrap();
        let signed = provider::Event::Standing(self.standing(number, job));
        self.after(2, Event::Provider(number, signed));
        // A block is final some time later.
        self.tills[peer].reserved = held.upto;
        let counts = provider::Event::Standing(self.standing(number, job));
        self.after(4_000, Event::Provider(number, counts));
    }

    fn standing(&self, number: JobNumber, job: JobId) -> Standing {
        let money = self.scene.money.expect("a standing where all is free");
        let till = &self.tills[self.jobs[number].peer];
        Standing {
            paid: till.split.paid(&job),
            elsewhere: 0,
            signer: SignerFacts {
                left: money.granted,
                until: self.unix_s() + 200 * DAY_S,
                bond: if money.bonded { u128::MAX } else { 0 },
            },
            debt: Debt {
                open: till.total().saturating_sub(till.reserved),
                claimed: 0,
            },
            costs: Costs {
                claim: 1,
                reserve: 1,
            },
        }
    }

    /// Whether one more token may be computed, by what is on the provider's disk: counted anew, one token at a time.
    pub(super) fn may_compute(&self, number: JobNumber) {
        let Some(money) = self.scene.money else {
            return;
        };
        let job = &self.jobs[number];
        let Some(id) = job.machine.job() else { return };
        let paid = self.tills[job.peer].split.paid(&id);
        let n_in = self.purse.n_in[&id];
        assert!(money.due(n_in, 0) <= paid, "the prompt is not paid for");
        let unpaid = (job.computed + 1).saturating_sub(money.window);
        assert!(
            money.due(n_in, unpaid) <= paid,
            "token {} is computed for {paid}",
            job.computed + 1
        );
    }

    /// When a job is signed for by both, exactly what is due was promised, however often it was taken up.
    pub(super) fn all_paid(&self, receipt: &SignedReceipt) {
        let job = &receipt.receipt.job;
        let promised = self.purse.promised.get(job).copied().unwrap_or(0);
        let due = receipt.receipt.due;
        let lost = self.purse.lost.get(job).copied().unwrap_or(0);
        if receipt.receipt.totals.output > 0 {
            assert!(promised <= due + lost, "{promised} for {due}");
        }
    }

    pub(super) fn check_money(&self) {
        // What is answered once the client is over was named by it.
        let late = self.purse.signing.values().filter(|(add, _)| *add > 0);
        assert_eq!(self.story.outcome.signing, late.clone().count());
        let late: u128 = late.filter(|(_, signed)| *signed).map(|(add, _)| add).sum();
        assert_eq!(self.story.outcome.paid + late, self.purse.spent());
        let payees = (0..self.scene.peers.len()).map(payee);
        let lines: u128 = payees.map(|payee| self.purse.book.cumulative(&payee)).sum();
        assert_eq!(lines, self.purse.spent());
        for (peer, till) in self.tills.iter().enumerate() {
            assert!(till.total() <= self.purse.book.cumulative(&payee(peer)));
        }
        if let Some(most) = self.scene.money.and_then(|money| money.max_cost) {
            assert!(self.purse.spent() <= most);
        }
    }

    /// What each provider holds in the end.
    pub(super) fn tally(&self) -> Vec<u128> {
        self.tills.iter().map(Till::total).collect()
    }
}
