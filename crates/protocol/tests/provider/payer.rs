//! A provider that takes money, and somebody who signs.

use bytes::Bytes;
use protocol::{
    JobId,
    frame::{Frame, Open, Pay, Phase, RefuseCode, Reserved},
    job::provider::{
        Action, Charging, Config, Event, Provider, Recorded, Room, Served, Standing, Welcome,
    },
    price::{Price, Prices, Totals, due},
    quote::Bound,
    receipt::work_of_job,
    tokens,
    voucher::{
        Address, B256, SessionKey, Vault, Voucher,
        payee::{Costs, Debt, PREFILL_CHUNK, STREAM_WINDOW, SignerFacts},
        payer::{Book, Grant},
    },
};

use crate::desk::{UNIX_MS, VOCAB, at, client, config, phases_in};

pub(crate) const DAY: u64 = 24 * 60 * 60;
pub(crate) const QUOTE: [u8; 16] = [8; 16];
pub(crate) const PAYEE: Address = Address::repeat_byte(2);

pub(crate) fn vault() -> Vault {
    Vault::new(31_337, Address::repeat_byte(0xee))
}

/// Three base units per token of input, seven per token of output.
pub(crate) fn prices() -> Prices {
    Prices {
        input: Price::new(3_000_000),
        cached: Price::FREE,
        output: Price::new(7_000_000),
    }
}

pub(crate) fn cost(input: u64, output: u64) -> u128 {
    let totals = Totals {
        input,
        cached: 0,
        output,
    };
    due(&prices(), &totals).unwrap()
}

/// Somebody who signs, whatever is asked of him.
pub(crate) struct Payer {
    pub(crate) address: Address,
    pub(crate) key: SessionKey,
    pub(crate) vault: Vault,
}

impl Payer {
    pub(crate) fn honest() -> Self {
        Self::with(1, 7, vault())
    }

    pub(crate) fn with(address: u8, secret: u8, vault: Vault) -> Self {
        Self {
            address: Address::repeat_byte(address),
            key: SessionKey::from_secret(&[secret; 32]).unwrap(),
            vault,
        }
    }

    pub(crate) fn book(&self) -> Book {
        let grant = Grant {
            granted: u128::MAX,
            until: u64::MAX,
        };
        Book::new(self.address, self.key.address(), grant)
    }

    pub(crate) fn voucher(&self, cumulative: u128, work: B256) -> Voucher {
        let promised = self.book().promise(PAYEE, cumulative, work, 0).unwrap();
        self.key.sign(&self.vault, promised).unwrap()
    }

    pub(crate) fn pay(&self, cumulative: u128, work: B256) -> Event {
        self.pay_ahead(cumulative, 0, work)
    }

    /// The same where so much of it is for the job that it opens.
    pub(crate) fn pay_ahead(&self, cumulative: u128, adds: u128, work: B256) -> Event {
        let voucher = Bytes::copy_from_slice(&self.voucher(cumulative, work).encode());
        let adds = Bytes::copy_from_slice(&protocol::price::to_bytes(adds));
        Event::Frame(Frame::Pay(Pay { voucher, adds }))
    }

    pub(crate) fn reserve(&self, upto: u128) -> Event {
        let held = self.book().hold(PAYEE, upto, DAY, u128::MAX, 0).unwrap();
        let signed = self.key.sign_reservation(&self.vault, held).unwrap();
        Event::Frame(Frame::Reserved(Reserved {
            reservation: Bytes::copy_from_slice(&signed.encode()),
        }))
    }
}

pub(crate) fn charging() -> Config {
    let config = config();
    Config {
        models: vec![Served {
            ctx_max: 10_000,
            prices: prices(),
            ..config.models[0].clone()
        }],
        max_out: 200,
        charging: Some(Charging {
            vault: vault(),
            payee: PAYEE,
            stream_window: STREAM_WINDOW,
        }),
        ..config
    }
}

pub(crate) fn paid_open(n_in: u32) -> Open {
    let prompt: Vec<u32> = (0..n_in).map(|id| id % VOCAB).collect();
    Open {
        quote_id: Bytes::copy_from_slice(&QUOTE),
        prompt_tokens: tokens::pack(&prompt),
        max_out: 200,
        ..crate::desk::open()
    }
}

pub(crate) fn opened(open: Open, quoted: Option<Bound>) -> (Event, JobId) {
    let bytes = Frame::Open(Box::new(open)).to_bytes();
    let job = JobId::new(*blake3::hash(&bytes).as_bytes());
    let event = Event::Open {
        from: client().peer_id(),
        bytes,
        welcome: Welcome::Yes,
        quoted,
    };
    (event, job)
}

pub(crate) fn standing(paid: u128) -> Standing {
    Standing {
        paid,
        elsewhere: 0,
        signer: SignerFacts {
            left: u128::MAX,
            until: UNIX_MS / 1000 + 30 * DAY,
            bond: u128::MAX,
        },
        debt: Debt {
            open: paid,
            claimed: 0,
        },
        costs: Costs {
            claim: 1,
            reserve: 1,
        },
    }
}

/// A provider whose client said what it wants and nothing else.
pub(crate) fn waiting(n_in: u32) -> (Provider, JobId) {
    let mut provider = Provider::new(charging(), false, at(0));
    let (open, job) = opened(paid_open(n_in), Some(prices().into()));
    assert_eq!(provider.step(open, at(0)), []);
    (provider, job)
}

/// Has nothing against the payer, and holds a slot for the job.
pub(crate) fn admitted(provider: &mut Provider, ms: u64) -> Vec<Action> {
    let admitted = Event::Admitted {
        standing: standing(0),
        last_held: None,
    };
    let sought = provider.step(admitted, at(ms));
    assert!(matches!(sought[..], [Action::Seek(_)]), "{sought:?}");
    provider.step(Event::Room(Room::Free), at(ms))
}

/// A job that was accepted at 0 ms, on a line that stood at 100.
pub(crate) fn accepted(n_in: u32) -> (Provider, JobId) {
    let (mut provider, job) = waiting(n_in);
    let pay = Payer::honest().pay(100, work_of_job(&job));
    provider.step(pay, at(0));
    admitted(&mut provider, 0);
    let actions = provider.step(Event::Recorded(Recorded::Fresh), at(0));
    assert!(
        matches!(&actions[0], Action::Send(Frame::Accept(accept)) if accept.stream_window == STREAM_WINDOW && accept.chunk_tokens == PREFILL_CHUNK),
        "{actions:?}"
    );
    assert_eq!(phases_in(&actions), [Phase::Unpaid]);
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Start(_)))
    );
    (provider, job)
}

/// Pays so much for the job, and has it written down.
pub(crate) fn paid(provider: &mut Provider, job: &JobId, sum: u128, ms: u64) -> Vec<Action> {
    let pay = Payer::honest().pay(100 + sum, work_of_job(job));
    let actions = provider.step(pay, at(ms));
    let [Action::HoldVoucher { voucher, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(voucher.cumulative, 100 + sum);
    provider.step(Event::Standing(standing(sum)), at(ms))
}

/// A job of three tokens of input that computes, its input paid for.
pub(crate) fn computing() -> (Provider, JobId) {
    let (mut provider, job) = accepted(3);
    let actions = paid(&mut provider, &job, cost(3, 0), 5);
    assert!(matches!(&actions[..], [Action::Start(_)]), "{actions:?}");
    (provider, job)
}

pub(crate) fn errors(actions: &[Action]) -> Vec<RefuseCode> {
    let codes = actions.iter().filter_map(|action| match action {
        Action::Send(Frame::Error(error)) => Some(error.code()),
        Action::Send(Frame::Refuse(refuse)) => Some(refuse.code()),
        _ => None,
    });
    codes.collect()
}

pub(crate) fn is_refused(actions: &[Action]) {
    assert_eq!(errors(actions), [RefuseCode::PaymentRefused], "{actions:?}");
    assert!(matches!(actions.last(), Some(Action::Close(_))));
}
