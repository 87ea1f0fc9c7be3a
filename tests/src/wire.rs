//! The other end of a job stream, held by a test: a bare asker, and a provider that lies in a way that is asked of it.
//!
//! Both speak the true messages over the true network; only what they say differs from what a node would.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use engine::{ChatPrompt, EngineHandle, EngineOptions};
use network::{HeadSource, Inbound, JobStream, Network, NetworkOptions};
use protocol::{
    HeadDigest, JobId, ModelDigest, ModelRef, NetworkId, PeerId, Signer, chain,
    frame::{Accept, Cap, Done, Frame, Open, Phase, Progress, Sampling, Signed, Tokens},
    job::Finish,
    offer::Offer,
    price::{Prices, Totals},
    receipt::{Receipt, SAMPLER, SEED_FROM_JOB, seed_of},
    tokens,
};
use sha2::{Digest, Sha256};

/// Loopback, any port.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
/// Times that a busy provider is asked again: it gives a finished job's place free within seconds.
const PATIENCE: u32 = 30;
/// A peer that says nothing for this long has hung.
const HANG: Duration = Duration::from_secs(120);

/// An engine of the test's own, to speak in tokens.
#[derive(Debug)]
pub struct Text {
    engine: EngineHandle,
    file: PathBuf,
}

impl Text {
    /// On the starter.
    #[must_use]
    pub fn new(starter: &Path) -> Self {
        let programs = crate::program("decentralgpt-worker")
            .parent()
            .unwrap()
            .to_owned();
        let engine = EngineHandle::new(EngineOptions {
            worker_dirs: vec![programs],
            readable: vec![starter.parent().unwrap().to_owned()],
            ..EngineOptions::default()
        });
        Self {
            engine,
            file: starter.to_owned(),
        }
    }

    /// The prompt's ids, as a node renders them.
    pub async fn prompt(&self, system: &str, question: &str) -> Vec<u32> {
        let prompt = ChatPrompt {
            system: Some(system.to_owned()),
            ..ChatPrompt::ask(question)
        };
        self.engine.render(&self.file, &prompt).await.unwrap()
    }

    /// What these output ids say.
    pub async fn say(&self, ids: &[u32]) -> String {
        let mut stream = self
            .engine
            .text_stream(&self.file, Vec::new())
            .await
            .unwrap();
        let mut text = stream.push(ids).await.unwrap().text;
        text.push_str(&stream.finish().await.unwrap().text);
        text
    }

    /// Which file and head these weights are.
    pub async fn reference(&self) -> ModelRef {
        let info = self.engine.open_text(&self.file).await.unwrap();
        let digest: [u8; 32] = Sha256::digest(std::fs::read(&self.file).unwrap()).into();
        ModelRef {
            digest: ModelDigest::new(digest),
            head_len: info.head_len,
            head_sha256: HeadDigest::new(info.head_sha256),
        }
    }

    /// Ends the worker.
    pub async fn end(self) {
        self.engine.shutdown().await;
    }
}

/// A network that only dials, with a key that no other test has.
pub async fn dialler() -> Network {
    Network::start(NetworkOptions::new(seed())).await.unwrap().0
}

/// A greedy job without a conscience: no receipts, no failover. Its output ids, until the provider's last word. `max_out`
/// counts what is new, behind `resume`.
pub async fn ask(
    network: &Network,
    peer: PeerId,
    model: ModelDigest,
    prompt: &[u32],
    resume: &[u32],
    max_out: u32,
) -> Vec<u32> {
    for _ in 0..PATIENCE {
        match attempt(
            network,
            peer,
            open(peer, model, prompt, resume, max_out),
            resume.len(),
        )
        .await
        {
            Ok(ids) => return ids,
            // The job before may still be waiting for a signature that this asker never gives.
            Err(retry_after) => tokio::time::sleep(retry_after).await,
        }
    }
    panic!("the provider stays busy");
}

/// One try; `Err` when the provider is busy, with when to come again.
async fn attempt(
    network: &Network,
    peer: PeerId,
    open: Open,
    resumed: usize,
) -> Result<Vec<u32>, Duration> {
    let (mut reader, writer) = network.open_job(&peer).await.unwrap().split();
    writer.send(&Frame::Open(Box::new(open))).unwrap();
    let mut ids = Vec::new();
    loop {
        match tokio::time::timeout(HANG, reader.next(Cap::Provider))
            .await
            .expect("the provider hangs")
        {
            Ok(Frame::Tokens(tokens)) => {
                assert_eq!(
                    tokens.first_index as usize,
                    resumed + ids.len(),
                    "a gap or a repeat in the provider's tokens"
                );
                ids.extend(tokens.ids);
            }
            Ok(Frame::Done(_)) => return Ok(ids),
            Ok(Frame::Busy(busy)) => {
                return Err(Duration::from_millis(u64::from(busy.retry_after_ms)));
            }
            Ok(
                Frame::Accept(_)
                | Frame::Progress(_)
                | Frame::Checkpoint(_)
                | Frame::Ping(_)
                | Frame::Pong(_),
            ) => {}
            other => panic!("instead of an answer: {other:?}"),
        }
    }
}

/// A whole job in a frame.
#[must_use]
pub fn open(
    peer: PeerId,
    model: ModelDigest,
    prompt: &[u32],
    resume: &[u32],
    max_out: u32,
) -> Open {
    Open {
        provider: Bytes::copy_from_slice(peer.as_bytes()),
        nonce: Bytes::copy_from_slice(&seed()),
        expires_unix_ms: now_ms() + 60_000,
        model_digest: Bytes::copy_from_slice(model.as_bytes()),
        prompt_tokens: tokens::pack(prompt),
        resume_tokens: tokens::pack(resume),
        sampling: Some(Sampling {
            temperature: 0.0,
            ..Sampling::default()
        }),
        max_out,
        ..Open::default()
    }
}

/// What a dishonest provider does with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Bytes that are no frame.
    Garbage,
    /// A length far above every cap.
    Oversized,
    /// Accepts, then ids that no vocabulary has.
    OutOfVocabulary,
    /// Accepts, then an index with a gap before it.
    OutOfOrder,
    /// Reads the job and never says a word.
    Silence,
    /// Accepts, and then never says a word.
    SilenceAfterAccept,
    /// Says that it is in line, and then never says a word.
    SilenceInLine,
    /// Accepts, says that it reads the prompt, and then never says a word.
    SilenceWhileReading,
    /// Accepts, closes its half of the stream, and goes on listening.
    HalfCloses,
    /// Accepts, and calls the job done with a receipt for another model.
    AnotherModel,
    /// Closes the stream at once.
    Closes,
}

/// A provider that offers the starter and answers every job with one lie.
#[derive(Debug)]
pub struct Liar {
    /// Where it can be dialled.
    pub address: String,
    jobs: Arc<AtomicU32>,
    network: Network,
}

impl Liar {
    /// Starts it, with an offer that promises more speed than anybody has.
    pub async fn start(lie: Lie, model: ModelRef, starter: &Path) -> Self {
        let seed = seed();
        let mut options = NetworkOptions::new(seed);
        options.listen = vec![LISTEN.to_owned()];
        let (network, inbound) = Network::start(options).await.unwrap();
        let address = network
            .status()
            .borrow()
            .listening
            .first()
            .cloned()
            .unwrap();
        network
            .set_offers(vec![offer(model).sign(&Signer::from_seed(seed))])
            .await;
        let jobs = Arc::new(AtomicU32::new(0));
        tokio::spawn(serve(
            inbound,
            (lie, Signer::from_seed(seed)),
            model,
            starter.to_owned(),
            Arc::clone(&jobs),
        ));
        Self {
            address,
            jobs,
            network,
        }
    }

    /// How many jobs it was given.
    #[must_use]
    pub fn jobs(&self) -> u32 {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub async fn end(self) {
        self.network.shutdown().await;
    }
}

async fn serve(
    mut inbound: Inbound,
    (lie, signer): (Lie, Signer),
    model: ModelRef,
    starter: PathBuf,
    jobs: Arc<AtomicU32>,
) {
    loop {
        tokio::select! {
            Some(head) = inbound.heads.recv() => {
                let _ = head.reply.send(Some(HeadSource::File { path: starter.clone(), len: model.head_len }));
            }
            Some(job) = inbound.jobs.recv() => {
                jobs.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(job.stream, lie, signer.clone()));
            }
            else => return,
        }
    }
}

async fn answer(stream: JobStream, lie: Lie, signer: Signer) {
    let client = stream.peer;
    let (mut reader, writer) = stream.split();
    if lie == Lie::Closes {
        return;
    }
    let Ok(open) = reader.open().await else {
        return;
    };
    let accept = Frame::Accept(Accept {
        n_in: 40,
        heartbeat_ms: 1000,
        max_out: 100,
        ..Accept::default()
    });
    let say = |frame: Frame| {
        // The asker may have hung up already, which is what it should do.
        let _ = writer.send(&frame);
    };
    match lie {
        Lie::Closes => {}
        Lie::Garbage => {
            let _ = writer.send_bytes(Bytes::from_static(&[
                0x07, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ]));
        }
        Lie::Oversized => {
            // An unsigned varint of 2^27: the length of a frame that nobody may send.
            let _ = writer.send_bytes(Bytes::from_static(&[0x80, 0x80, 0x80, 0x40]));
        }
        Lie::OutOfVocabulary => {
            say(accept);
            say(Frame::Tokens(Tokens::padded(0, &[u32::MAX, 4_000_000_000])));
        }
        Lie::OutOfOrder => {
            say(accept);
            say(Frame::Tokens(Tokens::padded(7, &[1, 2, 3])));
        }
        Lie::Silence => {}
        Lie::SilenceAfterAccept => say(accept),
        Lie::SilenceInLine => say(progress(Phase::Queued)),
        Lie::SilenceWhileReading => {
            say(accept);
            say(progress(Phase::Prefill));
        }
        Lie::HalfCloses => {
            say(accept);
            writer.finish();
            while reader.next(Cap::Client).await.is_ok() {}
            return;
        }
        Lie::AnotherModel => {
            say(accept);
            say(Frame::Done(Done {
                receipt: Some(of_another_model(&signer, &open, client)),
            }));
        }
    }
    // Keeps the stream open until the asker has had enough of it.
    while reader.next(Cap::Client).await.is_ok() {}
}

fn progress(phase: Phase) -> Frame {
    Frame::Progress(Progress {
        phase: phase.into(),
        done: 1,
        total: 40,
        queue_pos: 1,
    })
}

/// In order, but for what it says was computed.
fn of_another_model(signer: &Signer, open: &Bytes, client: PeerId) -> Signed {
    let job = JobId::new(*blake3::hash(open).as_bytes());
    let receipt = Receipt {
        job,
        provider: signer.peer_id(),
        client,
        model: ModelDigest::new([7; 32]),
        template: None,
        prompt_hash: [7; 32],
        totals: Totals {
            input: 40,
            ..Totals::default()
        },
        first_index: 0,
        h: chain::start(&job),
        due: 0,
        finish: Finish::Stop,
        engine_build: "a liar".to_owned(),
        numerics_class: "A32".to_owned(),
        kv_type: "f32".to_owned(),
        sampler: SAMPLER.to_owned(),
        seed_source: SEED_FROM_JOB.to_owned(),
        seed: seed_of(&job),
        accepted_unix_ms: now_ms(),
        first_token_ms: 1,
        total_ms: 2,
    };
    let signed = receipt.sign(signer);
    Signed {
        payload: signed.payload,
        sig: signed.provider_sig,
    }
}

/// An offer that promises more speed than anybody has.
#[must_use]
pub fn offer(model: ModelRef) -> Offer {
    let now = now_ms();
    Offer {
        network: NetworkId::MAIN,
        // Signing puts the signer's own id here.
        peer: Signer::from_seed([0; 32]).peer_id(),
        addrs: Vec::new(),
        model,
        quant: "Q4_1".to_owned(),
        ctx_max: 8192,
        out_max: 4096,
        parallel_slots: 8,
        features: Vec::new(),
        prices: Prices::FREE,
        payment: None,
        binding: None,
        prefill_tps: 1_000_000,
        decode_tps: 1_000_000,
        queue_depth: 0,
        queue_max: 8,
        region: String::new(),
        software: "a liar".to_owned(),
        issued_unix_ms: now,
        expires_unix_ms: now + 10 * 60 * 1000,
        seq: now,
        engine_class: String::new(),
        free_tokens: 4096,
        proto_min: 1,
        proto_max: 1,
        vrf_key: None,
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap()
}

/// 32 bytes that no other call gives: for keys and nonces that are worth nothing.
#[must_use]
pub fn seed() -> [u8; 32] {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let mut hash = Sha256::new();
    hash.update(std::process::id().to_le_bytes());
    hash.update(CALLS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    hash.update(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos()
            .to_le_bytes(),
    );
    hash.finalize().into()
}

/// Runs this to its end on a runtime of its own.
///
/// # Panics
/// When the system gives no threads.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}
