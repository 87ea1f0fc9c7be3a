//! What a job's two sides sign: the provider's [`Checkpoint`]s on the way, and one [`Receipt`] at the end that the
//! client countersigns. Signatures cover the bytes that travelled, never a re-encoding.
//!
//! Left out until they are true: VRF proof of the seed and fingerprints of the logits. Their field numbers are free.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    ChainHash, JobId, ModelDigest, PeerId, SignatureError, Signer,
    frame::Signed,
    job::Finish,
    price::{self, Totals},
    verify,
    voucher::B256,
};

/// Domain of a checkpoint's signature.
pub const CHECKPOINT_DOMAIN: &str = "decentralgpt/checkpoint/1";
/// Domain of the provider's signature on a receipt.
pub const RECEIPT_DOMAIN: &str = "decentralgpt/receipt/1";
/// Domain of the client's countersignature: another one, so that neither side's signature passes for the other's.
pub const COUNTERSIGN_DOMAIN: &str = "decentralgpt/receipt-client/1";
/// Context string that derives the seed of a job from its id. The provider cannot choose it; until a VRF stands
/// behind it, a client can try several nonces.
const SEED_CONTEXT: &str = "decentralgpt/ssr/v1/seed";
/// Context string of [`work_of`].
const WORK_CONTEXT: &str = "decentralgpt/paid-work/1";
/// Context string of [`prompt_hash`].
const PROMPT_CONTEXT: &str = "decentralgpt/ssr/v1/prompt";

/// The sampler this version knows (docs/protocol.md, `Sampling`).
pub const SAMPLER: &str = "SSR-GM1";
/// How the seed came about: from the job id.
pub const SEED_FROM_JOB: &str = "job";
/// Bytes of the short names in a receipt.
const MAX_NAME: usize = 64;

/// Why a checkpoint or receipt was refused before its content was compared with anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not signed by the one who should have.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// No protobuf, or a field of the wrong size.
    #[error("{0} in the signed message is malformed")]
    Malformed(&'static str),
    /// A version that this program does not know.
    #[error("version {0} is not known here")]
    Version(u32),
    /// No receipt in the frame.
    #[error("the receipt is missing")]
    Missing,
}

/// What the provider signs for while a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The job.
    pub job: JobId,
    /// Tokens so far.
    pub totals: Totals,
    /// The chain over the output tokens.
    pub h: ChainHash,
    /// Base units due so far.
    pub due: u128,
}

impl Checkpoint {
    /// Signs it as the provider.
    pub fn sign(&self, signer: &Signer) -> Signed {
        let wire = wire::Checkpoint {
            v: 1,
            job: Bytes::copy_from_slice(self.job.as_bytes()),
            upto_in: self.totals.input,
            upto_cached: self.totals.cached,
            upto_out: self.totals.output,
            h: Bytes::copy_from_slice(self.h.as_bytes()),
            due: Bytes::copy_from_slice(&price::to_bytes(self.due)),
        };
        seal(wire.encode_to_vec(), CHECKPOINT_DOMAIN, signer)
    }

    /// Verifies that `provider` signed it, then decodes it.
    pub fn verify_then_decode(signed: &Signed, provider: &PeerId) -> Result<Self, ReceiptError> {
        verify(provider, CHECKPOINT_DOMAIN, &signed.payload, &signed.sig)?;
        let wire = wire::Checkpoint::decode(signed.payload.clone())
            .map_err(|_| ReceiptError::Malformed("protobuf"))?;
        if wire.v != 1 {
            return Err(ReceiptError::Version(wire.v));
        }
        Ok(Self {
            job: JobId::from_bytes(&wire.job).map_err(|_| ReceiptError::Malformed("job"))?,
            totals: Totals {
                input: wire.upto_in,
                cached: wire.upto_cached,
                output: wire.upto_out,
            },
            h: ChainHash::from_bytes(&wire.h).map_err(|_| ReceiptError::Malformed("h"))?,
            due: price::from_bytes(&wire.due).ok_or(ReceiptError::Malformed("due"))?,
        })
    }
}

/// What both sides sign for when a job is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The job.
    pub job: JobId,
    /// Who answered.
    pub provider: PeerId,
    /// Who asked.
    pub client: PeerId,
    /// The model file.
    pub model: ModelDigest,
    /// Digest of the chat template and tokenizer, where the provider knows it.
    pub template: Option<[u8; 32]>,
    /// Hash of the input ids, prompt and resumed output, see [`prompt_hash`].
    pub prompt_hash: [u8; 32],
    /// Tokens of the whole job.
    pub totals: Totals,
    /// Index in the message's output at which this job began.
    pub first_index: u32,
    /// The chain over the job's output tokens.
    pub h: ChainHash,
    /// Base units due.
    pub due: u128,
    /// Why it ended.
    pub finish: Finish,
    /// The engine that computed it, as it names itself.
    pub engine_build: String,
    /// Numerics class: `A8`, `A16` or `A32`.
    pub numerics_class: String,
    /// Number format of the cache: `f32`, `f16`, …
    pub kv_type: String,
    /// The sampler's name, [`SAMPLER`].
    pub sampler: String,
    /// Where the seed comes from, [`SEED_FROM_JOB`].
    pub seed_source: String,
    /// The seed.
    pub seed: u64,
    /// When the job was accepted, Unix milliseconds by the provider's clock.
    pub accepted_unix_ms: u64,
    /// Milliseconds from then to the first token; 0 when there was none.
    pub first_token_ms: u64,
    /// Milliseconds from then to the end.
    pub total_ms: u64,
}

/// A receipt with its signatures: what is stored, shown and, later, paid on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    /// The signed bytes.
    pub payload: Bytes,
    /// The provider's signature, 64 bytes.
    pub provider_sig: Bytes,
    /// The client's countersignature, 64 bytes, once it came.
    pub client_sig: Option<Bytes>,
    /// The decoded content of `payload`.
    pub receipt: Receipt,
}

impl Receipt {
    /// Signs it as the provider.
    pub fn sign(&self, signer: &Signer) -> SignedReceipt {
        let wire = wire::Receipt {
            v: 1,
            job: Bytes::copy_from_slice(self.job.as_bytes()),
            provider: Bytes::copy_from_slice(self.provider.as_bytes()),
            client: Bytes::copy_from_slice(self.client.as_bytes()),
            model_digest: Bytes::copy_from_slice(self.model.as_bytes()),
            tmpl_digest: self
                .template
                .map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest)),
            prompt_ids_hash: Bytes::copy_from_slice(&self.prompt_hash),
            upto_in: self.totals.input,
            upto_cached: self.totals.cached,
            upto_out: self.totals.output,
            first_index: self.first_index,
            h: Bytes::copy_from_slice(self.h.as_bytes()),
            due: Bytes::copy_from_slice(&price::to_bytes(self.due)),
            finish: self.finish.to_wire(),
            engine_build: self.engine_build.clone(),
            numerics_class: self.numerics_class.clone(),
            kv_type: self.kv_type.clone(),
            sampler: self.sampler.clone(),
            seed_source: self.seed_source.clone(),
            seed: self.seed,
            accepted_unix_ms: self.accepted_unix_ms,
            first_token_ms: self.first_token_ms,
            total_ms: self.total_ms,
        };
        let signed = seal(wire.encode_to_vec(), RECEIPT_DOMAIN, signer);
        SignedReceipt {
            payload: signed.payload,
            provider_sig: signed.sig,
            client_sig: None,
            receipt: self.clone(),
        }
    }

    /// Decodes a payload whose signature was checked, or that comes from our own disk.
    pub fn decode(payload: &Bytes) -> Result<Self, ReceiptError> {
        let wire = wire::Receipt::decode(payload.clone())
            .map_err(|_| ReceiptError::Malformed("protobuf"))?;
        if wire.v != 1 {
            return Err(ReceiptError::Version(wire.v));
        }
        let names = [
            &wire.engine_build,
            &wire.numerics_class,
            &wire.kv_type,
            &wire.sampler,
            &wire.seed_source,
        ];
        if names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(ReceiptError::Malformed("name"));
        }
        let template = match wire.tmpl_digest.len() {
            0 => None,
            _ => Some(array(&wire.tmpl_digest, "tmpl_digest")?),
        };
        Ok(Self {
            job: JobId::from_bytes(&wire.job).map_err(|_| ReceiptError::Malformed("job"))?,
            provider: PeerId::from_bytes(&wire.provider)
                .map_err(|_| ReceiptError::Malformed("provider"))?,
            client: PeerId::from_bytes(&wire.client)
                .map_err(|_| ReceiptError::Malformed("client"))?,
            model: ModelDigest::from_bytes(&wire.model_digest)
                .map_err(|_| ReceiptError::Malformed("model_digest"))?,
            template,
            prompt_hash: array(&wire.prompt_ids_hash, "prompt_ids_hash")?,
            totals: Totals {
                input: wire.upto_in,
                cached: wire.upto_cached,
                output: wire.upto_out,
            },
            first_index: wire.first_index,
            h: ChainHash::from_bytes(&wire.h).map_err(|_| ReceiptError::Malformed("h"))?,
            due: price::from_bytes(&wire.due).ok_or(ReceiptError::Malformed("due"))?,
            finish: Finish::from_wire(wire.finish).ok_or(ReceiptError::Malformed("finish"))?,
            engine_build: wire.engine_build,
            numerics_class: wire.numerics_class,
            kv_type: wire.kv_type,
            sampler: wire.sampler,
            seed_source: wire.seed_source,
            seed: wire.seed,
            accepted_unix_ms: wire.accepted_unix_ms,
            first_token_ms: wire.first_token_ms,
            total_ms: wire.total_ms,
        })
    }
}

impl SignedReceipt {
    /// Verifies that `provider` signed what came in `Done`, then decodes it.
    pub fn verify_then_decode(signed: &Signed, provider: &PeerId) -> Result<Self, ReceiptError> {
        verify(provider, RECEIPT_DOMAIN, &signed.payload, &signed.sig)?;
        let receipt = Receipt::decode(&signed.payload)?;
        Ok(Self {
            payload: signed.payload.clone(),
            provider_sig: signed.sig.clone(),
            client_sig: None,
            receipt,
        })
    }

    /// Puts a stored receipt together again. Signatures are not checked here: see [`SignedReceipt::provider_check`].
    pub fn from_parts(
        payload: Bytes,
        provider_sig: Bytes,
        client_sig: Option<Bytes>,
    ) -> Result<Self, ReceiptError> {
        let receipt = Receipt::decode(&payload)?;
        Ok(Self {
            payload,
            provider_sig,
            client_sig,
            receipt,
        })
    }

    /// What travels in `Done`.
    pub fn to_signed(&self) -> Signed {
        Signed {
            payload: self.payload.clone(),
            sig: self.provider_sig.clone(),
        }
    }

    /// Countersigns as the client.
    pub fn countersign(&mut self, signer: &Signer) {
        self.client_sig = Some(Bytes::copy_from_slice(
            &signer.sign(COUNTERSIGN_DOMAIN, &self.payload),
        ));
    }

    /// Takes the client's countersignature if it holds.
    pub fn add_countersignature(&mut self, sig: &Bytes) -> Result<(), SignatureError> {
        verify(&self.receipt.client, COUNTERSIGN_DOMAIN, &self.payload, sig)?;
        self.client_sig = Some(sig.clone());
        Ok(())
    }

    /// Whether the provider named in the receipt signed it.
    pub fn provider_check(&self) -> Result<(), SignatureError> {
        verify(
            &self.receipt.provider,
            RECEIPT_DOMAIN,
            &self.payload,
            &self.provider_sig,
        )
    }

    /// Whether the client named in the receipt signed it; `None` when there is no countersignature.
    pub fn client_check(&self) -> Option<Result<(), SignatureError>> {
        let sig = self.client_sig.as_ref()?;
        Some(verify(
            &self.receipt.client,
            COUNTERSIGN_DOMAIN,
            &self.payload,
            sig,
        ))
    }
}

/// What a voucher names as its work when it pays for what a checkpoint says.
pub fn work_of(checkpoint: &Signed) -> B256 {
    B256::new(blake3::derive_key(WORK_CONTEXT, &checkpoint.payload))
}

/// What it names before there is a checkpoint.
pub fn work_of_job(job: &JobId) -> B256 {
    B256::new(*job.as_bytes())
}

/// The seed of a job's sampler.
pub fn seed_of(job: &JobId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = blake3::derive_key(SEED_CONTEXT, job.as_bytes());
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Hash of a job's input: the nonce of its first frame, then its ids as u32 little-endian, prompt first, resumed output behind it.
///
/// The nonce is known to both sides of the job and stands in no receipt: whoever finds a receipt cannot try prompts against it.
pub fn prompt_hash(nonce: &[u8; 32], prompt: &[u32], resume: &[u32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(PROMPT_CONTEXT);
    hasher.update(nonce);
    for id in prompt.iter().chain(resume) {
        hasher.update(&id.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

fn seal(payload: Vec<u8>, domain: &str, signer: &Signer) -> Signed {
    let sig = Bytes::copy_from_slice(&signer.sign(domain, &payload));
    Signed {
        payload: Bytes::from(payload),
        sig,
    }
}

fn array(bytes: &Bytes, name: &'static str) -> Result<[u8; 32], ReceiptError> {
    bytes
        .as_ref()
        .try_into()
        .map_err(|_| ReceiptError::Malformed(name))
}

/// Field numbers of the signed messages.
mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Checkpoint {
        #[prost(uint32, tag = "1")]
        pub(super) v: u32,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) job: Bytes,
        #[prost(uint64, tag = "3")]
        pub(super) upto_in: u64,
        #[prost(uint64, tag = "4")]
        pub(super) upto_cached: u64,
        #[prost(uint64, tag = "5")]
        pub(super) upto_out: u64,
        #[prost(bytes = "bytes", tag = "6")]
        pub(super) h: Bytes,
        #[prost(bytes = "bytes", tag = "7")]
        pub(super) due: Bytes,
        // 8: fp_hash.
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Receipt {
        #[prost(uint32, tag = "1")]
        pub(super) v: u32,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) job: Bytes,
        #[prost(uint64, tag = "3")]
        pub(super) upto_in: u64,
        #[prost(uint64, tag = "4")]
        pub(super) upto_cached: u64,
        #[prost(uint64, tag = "5")]
        pub(super) upto_out: u64,
        #[prost(bytes = "bytes", tag = "6")]
        pub(super) h: Bytes,
        #[prost(bytes = "bytes", tag = "7")]
        pub(super) due: Bytes,
        // 8: fp_hash, 9: vrf_beta, 10: vrf_pi.
        #[prost(bytes = "bytes", tag = "11")]
        pub(super) provider: Bytes,
        #[prost(bytes = "bytes", tag = "12")]
        pub(super) client: Bytes,
        #[prost(bytes = "bytes", tag = "13")]
        pub(super) model_digest: Bytes,
        #[prost(bytes = "bytes", tag = "14")]
        pub(super) tmpl_digest: Bytes,
        #[prost(bytes = "bytes", tag = "15")]
        pub(super) prompt_ids_hash: Bytes,
        #[prost(uint32, tag = "16")]
        pub(super) first_index: u32,
        #[prost(uint32, tag = "17")]
        pub(super) finish: u32,
        #[prost(string, tag = "18")]
        pub(super) engine_build: String,
        #[prost(string, tag = "19")]
        pub(super) numerics_class: String,
        #[prost(string, tag = "20")]
        pub(super) kv_type: String,
        #[prost(string, tag = "21")]
        pub(super) sampler: String,
        #[prost(string, tag = "22")]
        pub(super) seed_source: String,
        #[prost(fixed64, tag = "23")]
        pub(super) seed: u64,
        #[prost(uint64, tag = "24")]
        pub(super) accepted_unix_ms: u64,
        #[prost(uint64, tag = "25")]
        pub(super) first_token_ms: u64,
        #[prost(uint64, tag = "26")]
        pub(super) total_ms: u64,
    }
}
