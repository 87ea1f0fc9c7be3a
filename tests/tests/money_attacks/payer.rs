//! A payer without a conscience: it has the keys of a real asker, with its grant, and says on the wire what it likes.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use decentralgpt_tests::{Folder, QUESTION, SYSTEM, Serving, wire};
use network::{FrameReader, FrameWriter, Network};
use protocol::{
    JobId, ModelDigest, PeerId,
    frame::{Accept, Cap, Frame, Pay, Phase, RefuseCode},
    price::{self, Prices, Totals},
    quote::QuoteRequest,
    receipt::work_of_job,
    voucher::{
        Address, B256, SessionKey, Vault, Voucher,
        payer::{Book, Grant},
    },
};

/// A provider that waits for money says so. What does not come within this does not come.
const QUIET: Duration = Duration::from_secs(4);
/// Beyond this it hangs. Longer than a provider waits for a voucher.
const HANG: Duration = Duration::from_secs(90);

pub(crate) struct Payer {
    pub(crate) vault: Vault,
    pub(crate) address: Address,
    pub(crate) key: SessionKey,
    pub(crate) payee: Address,
    pub(crate) prices: Prices,
    prompt: Vec<u32>,
    model: ModelDigest,
    network: Network,
    peer: PeerId,
}

impl Payer {
    /// Takes the keys out of an asker's folder, and learns from the provider's own offer whom to pay and how much.
    pub(crate) async fn new(asker: &Folder, provider: &Serving, prompt: Vec<u32>) -> Self {
        let network = wire::dialler().await;
        let peer = network.connect(&provider.address).await.unwrap();
        let offer = network.offers(&peer).await.unwrap().remove(0);
        let payment = offer.payment.unwrap();
        Self {
            vault: Vault::new(payment.chain_id, Address::from(payment.vault)),
            address: asker.account("spend"),
            key: session_key(asker),
            payee: Address::from(offer.binding.unwrap().binding.operator),
            prices: offer.prices,
            prompt,
            model: offer.model.digest,
            network,
            peer,
        }
    }

    /// What so much of an answer costs.
    pub(crate) fn due(&self, output: u64) -> u128 {
        let totals = Totals {
            input: self.prompt.len() as u64,
            cached: 0,
            output,
        };
        price::due(&self.prices, &totals).unwrap()
    }

    /// Signs anything, whatever was granted.
    pub(crate) fn sign_in(
        &self,
        vault: &Vault,
        payee: Address,
        total: u128,
        work: B256,
    ) -> Voucher {
        let grant = Grant {
            granted: u128::MAX,
            until: u64::MAX,
        };
        let mut book = Book::new(self.address, self.key.address(), grant);
        let promised = book.promise(payee, total, work, 0).unwrap();
        self.key.sign(vault, promised).unwrap()
    }

    pub(crate) fn sign(&self, total: u128, job: &JobId) -> Voucher {
        self.sign_in(&self.vault, self.payee, total, work_of_job(job))
    }

    /// Asks for an answer, in a frame that names a quote in force. Nothing is paid yet.
    pub(crate) async fn open(&self, max_out: u32) -> Job {
        let request = QuoteRequest {
            nonce: wire::seed()[..16].try_into().unwrap(),
            model: self.model,
            n_in: self.prompt.len() as u32,
            max_out,
            prefix_hashes: Vec::new(),
        };
        let quote = self.network.quote(&self.peer, &request).await.unwrap();
        let mut open = wire::open(self.peer, self.model, &self.prompt, &[], max_out);
        open.quote_id = Bytes::copy_from_slice(&quote.quote_id);
        open.ignore_eog = true;
        let frame = Frame::Open(Box::new(open));
        self.say(frame).await
    }

    /// Sends a first frame, again if it was sent before.
    pub(crate) async fn say(&self, open: Frame) -> Job {
        let (reader, writer) = self.network.open_job(&self.peer).await.unwrap().split();
        let id = JobId::new(*blake3::hash(&open.to_bytes()).as_bytes());
        writer.send(&open).unwrap();
        Job {
            id,
            open,
            reader,
            writer,
            tokens: 0,
        }
    }

    pub(crate) async fn leave(self) {
        self.network.shutdown().await;
    }
}

/// A job on a stream.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) open: Frame,
    /// Output tokens that came.
    pub(crate) tokens: u64,
    reader: FrameReader,
    writer: FrameWriter,
}

/// How a job came to its end, or to a standstill.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The provider waits.
    Nothing,
    Refused(RefuseCode),
    Done,
    Gone,
}

impl Job {
    pub(crate) fn pay(&self, voucher: &Voucher) {
        let voucher = Bytes::copy_from_slice(&voucher.encode());
        let _ = self.writer.send(&Frame::Pay(Pay {
            voucher,
            ..Pay::default()
        }));
    }

    /// The provider's terms.
    pub(crate) async fn accepted(&mut self) -> Accept {
        match tokio::time::timeout(HANG, self.reader.next(Cap::Provider)).await {
            Ok(Ok(Frame::Accept(accept))) => accept,
            other => panic!("instead of an Accept: {other:?}"),
        }
    }

    /// Listens until the provider ends the job, or has waited for money for a while.
    pub(crate) async fn until_quiet(&mut self) -> Came {
        self.listen(Some(QUIET)).await
    }

    /// Listens until the provider ends the job.
    pub(crate) async fn until_over(&mut self) -> Came {
        self.listen(None).await
    }

    async fn listen(&mut self, quiet: Option<Duration>) -> Came {
        let mut waits: Option<Instant> = None;
        loop {
            let limit = match (quiet, waits) {
                (Some(quiet), Some(since)) => quiet.saturating_sub(since.elapsed()),
                _ => HANG,
            };
            let frame = match tokio::time::timeout(limit, self.reader.next(Cap::Provider)).await {
                Err(_) if limit < HANG => return Came::Nothing,
                Err(_) => panic!("the provider hangs"),
                Ok(Err(_)) => return Came::Gone,
                Ok(Ok(frame)) => frame,
            };
            match frame {
                Frame::Tokens(tokens) => {
                    self.tokens += tokens.ids.len() as u64;
                    waits = None;
                }
                Frame::Progress(progress) => {
                    waits = (progress.phase() == Phase::Unpaid)
                        .then(|| waits.unwrap_or_else(Instant::now));
                }
                Frame::Done(_) => return Came::Done,
                Frame::Refuse(refuse) => return Came::Refused(refuse.code()),
                Frame::Error(error) => return Came::Refused(error.code()),
                Frame::Accept(_)
                | Frame::Checkpoint(_)
                | Frame::Reserve(_)
                | Frame::Ping(_)
                | Frame::Pong(_) => {}
                Frame::Open(_)
                | Frame::Busy(_)
                | Frame::Ack(_)
                | Frame::Cancel(_)
                | Frame::Pay(_)
                | Frame::Reserved(_) => panic!("no provider says this here"),
            }
        }
    }
}

/// The key by which an asker promises.
fn session_key(asker: &Folder) -> SessionKey {
    SessionKey::from_secret(&secret(&asker.path().join("session.key"))).unwrap()
}

/// The secret in a key's file.
pub(crate) fn secret(file: &Path) -> [u8; 32] {
    let text = fs::read_to_string(file).unwrap();
    let digits = text
        .lines()
        .find_map(|line| line.strip_prefix("secret "))
        .unwrap();
    let bytes: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// A prompt's ids, by an engine of the test's own.
pub(crate) async fn prompt(starter: &Path) -> Vec<u32> {
    let text = wire::Text::new(starter);
    let ids = text.prompt(SYSTEM, QUESTION).await;
    text.end().await;
    ids
}
