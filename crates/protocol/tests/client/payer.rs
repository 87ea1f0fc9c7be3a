//! A client that pays, its books, and what it was told and told to do.

use protocol::{
    JobId, Signer,
    frame::{Accept, Cancel, CancelReason, Done, Frame, Open, Phase, Progress, Tokens},
    job::{
        Finish,
        client::{Action, Candidate, Client, Event, Local, PayTo, Request},
    },
    price::{Price, Prices, Totals, due, from_bytes, to_bytes},
    receipt::{Receipt, SAMPLER, SEED_FROM_JOB, prompt_hash, seed_of},
    voucher::{
        Address, B256, SessionKey, Vault, Voucher,
        payee::PREFILL_CHUNK,
        payer::{Book, Grant},
    },
};

use crate::desk::{self, MODEL, at, config, peer};

pub(crate) const QUOTE: [u8; 16] = [8; 16];
pub(crate) const PAYEE: Address = Address::repeat_byte(2);
pub(crate) const WINDOW: u32 = 64;
pub(crate) const STRIDE: u32 = 16;

pub(crate) fn prices() -> Prices {
    Prices {
        input: Price::new(3_000_000),
        cached: Price::FREE,
        output: Price::new(7_000_000),
    }
}

pub(crate) fn cost(input: u32, output: u32) -> u128 {
    let totals = Totals {
        input: u64::from(input),
        cached: 0,
        output: u64::from(output),
    };
    due(&prices(), &totals).unwrap()
}

pub(crate) fn candidate(number: u8) -> Candidate {
    Candidate {
        ctx_max: 20_000,
        out_max: 500,
        terms: prices().into(),
        pay_to: Some(PayTo {
            vault: Vault::new(31_337, Address::repeat_byte(0xee)),
            payee: PAYEE,
        }),
        quote_id: Some(QUOTE),
        ..desk::candidate(number)
    }
}

/// A client, its books, and what it was told and told to do.
pub(crate) struct Payer {
    pub(crate) client: Client,
    pub(crate) line: u128,
    pub(crate) prompt: Vec<u32>,
    pub(crate) open: Option<Open>,
    /// What was promised beyond nothing, and what was handed over.
    pub(crate) promises: Vec<u128>,
    pub(crate) paid: Vec<Voucher>,
    pub(crate) works: Vec<B256>,
    /// What each that was handed over says is for its job.
    pub(crate) adds: Vec<u128>,
    /// Whether it signs what it is asked to.
    pub(crate) signs: bool,
}

impl Payer {
    pub(crate) fn asks(n_in: u32, max_cost: Option<u128>) -> (Self, Vec<Action>) {
        Self::asks_with(n_in, max_cost, vec![candidate(1)])
    }

    pub(crate) fn asks_with(
        n_in: u32,
        max_cost: Option<u128>,
        candidates: Vec<Candidate>,
    ) -> (Self, Vec<Action>) {
        let prompt: Vec<u32> = (0..n_in).map(|id| 3 + id % 900).collect();
        let request = Request {
            prompt: prompt.clone(),
            resume: Vec::new(),
            max_out: 300,
            max_cost,
            ..desk::request()
        };
        let mut payer = Self {
            client: Client::new(config(Local::Never), request),
            line: 1_000,
            prompt,
            open: None,
            promises: Vec::new(),
            paid: Vec::new(),
            works: Vec::new(),
            adds: Vec::new(),
            signs: true,
        };
        let actions = payer.step(Event::Start(candidates), 0);
        (payer, actions)
    }

    /// Feeds an event, and signs at once what it leads to.
    pub(crate) fn step(&mut self, event: Event, ms: u64) -> Vec<Action> {
        let mut all = Vec::new();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.client.step(event, at(ms)) {
                if let Action::Promise {
                    promise, add, work, ..
                } = action
                    && self.signs
                {
                    self.line += add;
                    self.promises.push(add);
                    self.works.push(work);
                    let voucher = signed(self.line, work);
                    events.push(Event::Promised { promise, voucher });
                }
                if let Action::Send { frame, .. } = &action {
                    self.sent(frame);
                }
                all.push(action);
            }
        }
        all
    }

    pub(crate) fn sent(&mut self, frame: &Frame) {
        match frame {
            Frame::Open(open) => self.open = Some(Open::clone(open)),
            Frame::Pay(pay) => {
                let voucher = Voucher::decode(&pay.voucher, PAYEE).unwrap();
                let vault = Vault::new(31_337, Address::repeat_byte(0xee));
                self.paid.push(voucher.check(&vault).unwrap());
                self.adds.push(from_bytes(&pay.adds).unwrap());
            }
            _ => {}
        }
    }

    pub(crate) fn say(&mut self, frame: Frame, ms: u64) -> Vec<Action> {
        self.step(Event::Frame { attempt: 0, frame }, ms)
    }

    pub(crate) fn connected(&mut self) -> Vec<Action> {
        let connected = Event::Connected {
            attempt: 0,
            rtt_ms: 10,
        };
        self.step(connected, 0)
    }

    pub(crate) fn accept(&mut self) -> Vec<Action> {
        let accept = self.terms();
        self.say(Frame::Accept(accept), 0)
    }

    pub(crate) fn terms(&self) -> Accept {
        Accept {
            n_in: self.prompt.len() as u32,
            max_out: self.open.as_ref().unwrap().max_out,
            heartbeat_ms: 1_000,
            resume_grace_s: 60,
            stream_window: WINDOW,
            chunk_tokens: PREFILL_CHUNK,
            ..Accept::default()
        }
    }

    /// Takes the job, where so much of its first voucher counts.
    pub(crate) fn accept_counting(&mut self, counts: u128) -> Vec<Action> {
        let accept = Accept {
            paid: to_bytes(counts).to_vec().into(),
            ..self.terms()
        };
        self.say(Frame::Accept(accept), 0)
    }

    pub(crate) fn running(n_in: u32, max_cost: Option<u128>) -> Self {
        let (mut payer, _) = Self::asks(n_in, max_cost);
        payer.connected();
        payer.accept();
        payer
    }

    pub(crate) fn tokens(&mut self, first_index: u32, count: u32, ms: u64) -> Vec<Action> {
        let ids: Vec<u32> = (0..count).map(|id| 100 + id).collect();
        self.say(Frame::Tokens(Tokens::padded(first_index, &ids)), ms)
    }

    pub(crate) fn reads(&mut self, done: u64, ms: u64) -> Vec<Action> {
        let progress = Progress {
            phase: Phase::Prefill.into(),
            done,
            total: self.prompt.len() as u64,
            queue_pos: 0,
        };
        self.say(Frame::Progress(progress), ms)
    }

    pub(crate) fn job(&self) -> JobId {
        let bytes = Frame::Open(Box::new(self.open.clone().unwrap())).to_bytes();
        JobId::new(*blake3::hash(&bytes).as_bytes())
    }

    pub(crate) fn nonce(&self) -> [u8; 32] {
        let open = self.open.as_ref().unwrap();
        open.nonce.as_ref().try_into().unwrap()
    }

    pub(crate) fn total(&self) -> u128 {
        self.promises.iter().sum()
    }

    /// `Done` for a job whose output is `count` tokens as [`Payer::tokens`] gives them in one piece.
    pub(crate) fn done(&self, count: u32, finish: Finish) -> Frame {
        let ids: Vec<u32> = (0..count).map(|id| 100 + id).collect();
        let job = self.job();
        let n_in = self.prompt.len() as u32;
        let receipt = Receipt {
            job,
            provider: peer(1),
            client: Signer::from_seed([99; 32]).peer_id(),
            model: MODEL,
            template: None,
            prompt_hash: prompt_hash(&self.nonce(), &self.prompt, &[]),
            totals: Totals {
                input: u64::from(n_in),
                cached: 0,
                output: u64::from(count),
            },
            first_index: 0,
            h: protocol::chain::extend(&protocol::chain::start(&job), &ids),
            due: cost(n_in, count),
            finish,
            engine_build: "test 1".into(),
            numerics_class: "A32".into(),
            kv_type: "f32".into(),
            sampler: SAMPLER.into(),
            seed_source: SEED_FROM_JOB.into(),
            seed: seed_of(&job),
            accepted_unix_ms: 0,
            first_token_ms: 0,
            total_ms: 0,
        };
        Frame::Done(Done {
            receipt: Some(receipt.sign(&Signer::from_seed([1; 32])).to_signed()),
        })
    }
}

pub(crate) fn signed(cumulative: u128, work: B256) -> Voucher {
    signed_by(1, cumulative, work)
}

pub(crate) fn signed_by(payer: u8, cumulative: u128, work: B256) -> Voucher {
    let key = SessionKey::from_secret(&[7; 32]).unwrap();
    let grant = Grant {
        granted: u128::MAX,
        until: u64::MAX,
    };
    let mut book = Book::new(Address::repeat_byte(payer), key.address(), grant);
    let promised = book.promise(PAYEE, cumulative, work, 0).unwrap();
    let vault = Vault::new(31_337, Address::repeat_byte(0xee));
    key.sign(&vault, promised).unwrap()
}

pub(crate) fn cancels(actions: &[Action]) -> Vec<CancelReason> {
    let reasons = actions.iter().filter_map(|action| match action {
        Action::Send {
            frame: Frame::Cancel(Cancel { reason }),
            ..
        } => CancelReason::try_from(*reason).ok(),
        _ => None,
    });
    reasons.collect()
}
