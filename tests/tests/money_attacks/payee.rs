//! A payee that takes money and cheats: it offers the starter for a price, keeps every voucher, and gives what it likes.

use std::sync::{Arc, Mutex};

use decentralgpt_tests::wire;
use network::{HeadSource, Inbound, JobStream, Network, NetworkOptions};
use protocol::{
    ChainHash, JobId, ModelRef, NetworkId, Signer,
    binding::{Binding, OperatorSigner},
    chain,
    frame::{Accept, Cap, Done, Frame, Signed, Tokens},
    job::Finish,
    offer::{Offer, Payment},
    price::{self, Price, Prices, Totals},
    quote::{QUOTE_LIFETIME_MS, Quote},
    receipt::{Receipt, SAMPLER, SEED_FROM_JOB, prompt_hash, seed_of},
    tokens,
    voucher::{Address, Vault, Voucher},
};

/// Base units per million tokens.
const PRICE: Price = Price::new(10_000_000_000_000_000_000);
/// Tokens that a cheating payee gives.
pub(crate) const GIVEN: u32 = 10;

/// How it cheats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Takes the money for reading the prompt, and never says a word again.
    SendsNothing,
    /// Gives some tokens, and falls silent.
    Stops,
    /// Gives some tokens, and signs for many more.
    OverCounts,
}

pub(crate) struct Payee {
    pub(crate) address: String,
    /// The highest total that it was promised, and the input that it was asked to read.
    pub(crate) held: Arc<Mutex<Held>>,
    network: Network,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) jobs: u32,
    pub(crate) total: u128,
    pub(crate) n_in: u32,
}

/// Who is paid, and where.
#[derive(Clone)]
pub(crate) struct Till {
    pub(crate) chain_id: u64,
    pub(crate) vault: Address,
    pub(crate) token: Address,
}

pub(crate) fn prices() -> Prices {
    Prices {
        input: PRICE,
        cached: Price::FREE,
        output: PRICE,
    }
}

pub(crate) fn due(input: u32, output: u32) -> u128 {
    let totals = Totals {
        input: u64::from(input),
        cached: 0,
        output: u64::from(output),
    };
    price::due(&prices(), &totals).unwrap()
}

impl Payee {
    pub(crate) async fn start(
        trick: Trick,
        till: Till,
        model: ModelRef,
        starter: &std::path::Path,
    ) -> Self {
        let seed = wire::seed();
        let signer = Signer::from_seed(seed);
        let operator = OperatorSigner::from_secret(&wire::seed()).unwrap();
        let mut options = NetworkOptions::new(seed);
        options.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
        let (network, inbound) = Network::start(options).await.unwrap();
        let address = network.status().borrow().listening[0].clone();
        let offer = offer(model, &till, &signer, &operator);
        network.set_offers(vec![offer.sign(&signer)]).await;
        let held = Arc::new(Mutex::new(Held::default()));
        let cheat = Cheat {
            trick,
            vault: Vault::new(till.chain_id, till.vault),
            payee: Address::from(operator.account()),
            signer,
            model,
            held: Arc::clone(&held),
        };
        tokio::spawn(serve(inbound, Arc::new(cheat), starter.to_owned()));
        Self {
            address,
            held,
            network,
        }
    }

    pub(crate) async fn end(self) -> Held {
        self.network.shutdown().await;
        *self.held.lock().unwrap()
    }
}

struct Cheat {
    trick: Trick,
    vault: Vault,
    payee: Address,
    signer: Signer,
    model: ModelRef,
    held: Arc<Mutex<Held>>,
}

async fn serve(mut inbound: Inbound, cheat: Arc<Cheat>, starter: std::path::PathBuf) {
    loop {
        tokio::select! {
            Some(head) = inbound.heads.recv() => {
                let file = HeadSource::File { path: starter.clone(), len: cheat.model.head_len };
                let _ = head.reply.send(Some(file));
            }
            Some(asked) = inbound.quotes.recv() => {
                let quote = Quote {
                    request_hash: asked.request_hash,
                    eta_first_token_ms: 100,
                    decode_tps: 100,
                    queue_pos: 0,
                    prices: prices(),
                    cached_prefix_tokens: 0,
                    quote_id: wire::seed()[..16].try_into().unwrap(),
                    expires_unix_ms: now_ms() + QUOTE_LIFETIME_MS,
                };
                let _ = asked.reply.send(Some(quote.sign(&cheat.signer)));
            }
            Some(job) = inbound.jobs.recv() => {
                tokio::spawn(answer(job.stream, Arc::clone(&cheat)));
            }
            else => return,
        }
    }
}

async fn answer(stream: JobStream, cheat: Arc<Cheat>) {
    let client = stream.peer;
    let (mut reader, writer) = stream.split();
    let Ok(bytes) = reader.open().await else {
        return;
    };
    let Ok(Some(Frame::Open(open))) = Frame::from_bytes(&bytes, Cap::Open) else {
        return;
    };
    let job = JobId::new(*blake3::hash(&bytes).as_bytes());
    let prompt = tokens::unpack(&open.prompt_tokens, u32::MAX).unwrap_or_default();
    let nonce: [u8; 32] = open.nonce.as_ref().try_into().unwrap();
    let n_in = prompt.len() as u32;
    {
        let mut held = cheat.held.lock().unwrap();
        held.jobs += 1;
        held.n_in = n_in;
    }
    let ids: Vec<u32> = (0..GIVEN).map(|n| 100 + n).collect();
    let h = chain::extend(&chain::start(&job), &ids);
    let mut paid = 0;
    while let Ok(frame) = reader.next(Cap::Client).await {
        let Frame::Pay(pay) = frame else { continue };
        let voucher = Voucher::decode(&pay.voucher, cheat.payee).unwrap();
        let voucher = voucher.check(&cheat.vault).unwrap();
        {
            let mut held = cheat.held.lock().unwrap();
            held.total = held.total.max(voucher.cumulative);
        }
        paid += 1;
        let say = |frame: Frame| {
            let _ = writer.send(&frame);
        };
        match paid {
            // It belongs to the first frame, and promises nothing new.
            1 => say(Frame::Accept(Accept {
                n_in,
                stream_window: 64,
                chunk_tokens: 2048,
                heartbeat_ms: 1000,
                max_out: open.max_out,
                ..Accept::default()
            })),
            2 if cheat.trick != Trick::SendsNothing => {
                say(Frame::Tokens(Tokens::padded(0, &ids)));
                if cheat.trick == Trick::OverCounts {
                    let receipt = receipt(&cheat, job, client, (&nonce, &prompt), h);
                    say(Frame::Done(Done {
                        receipt: Some(receipt),
                    }));
                }
            }
            _ => {}
        }
    }
}

/// Signs for ten times of what was given.
fn receipt(
    cheat: &Cheat,
    job: JobId,
    client: protocol::PeerId,
    (nonce, prompt): (&[u8; 32], &[u32]),
    h: ChainHash,
) -> Signed {
    let totals = Totals {
        input: prompt.len() as u64,
        cached: 0,
        output: u64::from(10 * GIVEN),
    };
    let receipt = Receipt {
        job,
        provider: cheat.signer.peer_id(),
        client,
        model: cheat.model.digest,
        template: None,
        prompt_hash: prompt_hash(nonce, prompt, &[]),
        totals,
        first_index: 0,
        h,
        due: price::due(&prices(), &totals).unwrap(),
        finish: Finish::Stop,
        engine_build: "a cheat".to_owned(),
        numerics_class: "A32".to_owned(),
        kv_type: "f32".to_owned(),
        sampler: SAMPLER.to_owned(),
        seed_source: SEED_FROM_JOB.to_owned(),
        seed: seed_of(&job),
        accepted_unix_ms: now_ms(),
        first_token_ms: 1,
        total_ms: 2,
    };
    let signed = receipt.sign(&cheat.signer);
    Signed {
        payload: signed.payload,
        sig: signed.provider_sig,
    }
}

fn offer(model: ModelRef, till: &Till, signer: &Signer, operator: &OperatorSigner) -> Offer {
    let now = now_ms();
    let binding = Binding {
        network: NetworkId::MAIN,
        peer: signer.peer_id(),
        chain_id: till.chain_id,
        operator: operator.account(),
        not_before_unix_ms: now - 60_000,
        not_after_unix_ms: now + 3_600_000,
        serial: now,
    };
    Offer {
        network: NetworkId::MAIN,
        peer: signer.peer_id(),
        addrs: Vec::new(),
        model,
        quant: "Q4_1".to_owned(),
        ctx_max: 8192,
        out_max: 4096,
        parallel_slots: 8,
        features: Vec::new(),
        prices: prices(),
        payment: Some(Payment {
            chain_id: till.chain_id,
            asset: till.token.into_array(),
            vault: till.vault.into_array(),
            stream_window: 64,
        }),
        binding: binding.sign(signer, operator),
        prefill_tps: 1_000,
        decode_tps: 100,
        queue_depth: 0,
        queue_max: 8,
        region: String::new(),
        software: "a cheat".to_owned(),
        issued_unix_ms: now,
        expires_unix_ms: now + 10 * 60 * 1000,
        seq: now,
        engine_class: String::new(),
        free_tokens: 0,
        proto_min: 1,
        proto_max: 1,
        vrf_key: None,
    }
}

fn now_ms() -> u64 {
    u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}
