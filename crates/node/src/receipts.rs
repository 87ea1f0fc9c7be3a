//! Receipts of both sides: kept by the ledger, verified by `protocol` each time one is opened.

use bytes::Bytes;
use ledger::Ledger;
use protocol::{JobId, ModelDigest, receipt::SignedReceipt};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    clock,
    error::NodeError,
    node::Node,
    status::{Answered, AnsweredState},
};

/// A list on a screen is not longer; who wants all of it exports.
const MAX_LISTED: u32 = 1000;

/// Whose side of a job this computer was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptRole {
    /// It answered.
    Provider,
    /// It asked.
    Client,
}

/// What checking the provider's signature gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderSignature {
    /// It holds.
    Valid,
    /// It does not.
    Invalid,
}

/// What checking the client's countersignature gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientSignature {
    /// It holds.
    Valid,
    /// None came.
    Missing,
    /// It does not.
    Invalid,
}

/// What is known about the work itself, beyond the signatures. Nothing re-computes answers yet, and no other word is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checked {
    /// Nobody computed it again.
    #[serde(rename = "not checked")]
    NotChecked,
}

/// One receipt, opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The job's id, hex.
    pub job: String,
    /// Whose side this computer was on.
    pub role: ReceiptRole,
    /// The other side.
    pub peer: String,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of its file, hex.
    pub model_digest: String,
    /// No row here names that file now: the model's name is the file's own word, or made of the digest.
    #[serde(default)]
    pub unlisted: bool,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Those of them that were in the provider's cache.
    pub tokens_cached: u64,
    /// Tokens written.
    pub tokens_out: u64,
    /// Why it ended.
    pub finish: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The hash chain's end over every token, hex.
    pub chain: String,
    /// Whether the provider signed it.
    pub provider_signature: ProviderSignature,
    /// Whether the client signed it.
    pub client_signature: ClientSignature,
    /// What it costs, in base units of the token.
    pub due: String,
    /// Whether the work was computed again by somebody.
    pub checked: Checked,
    /// The receipt as readable JSON, with the signed bytes in it.
    pub json: String,
}

impl Node {
    /// What this computer answered for others, newest first. Never any content.
    ///
    /// # Errors
    /// [`NodeError::Ledger`].
    pub async fn node_answers(&self, limit: u32) -> Result<Vec<Answered>, NodeError> {
        let list = self.inner.ledger.answered(limit.min(MAX_LISTED)).await?;
        Ok(list.into_iter().map(answered).collect())
    }

    /// Opens the receipt of a job and checks its signatures anew.
    ///
    /// # Errors
    /// [`NodeError::ReceiptMissing`], [`NodeError::ReceiptDamaged`], [`NodeError::Ledger`].
    pub async fn receipt_open(&self, job: &str) -> Result<Receipt, NodeError> {
        let id: JobId = job.parse().map_err(|_| NodeError::ReceiptMissing)?;
        let stored = self
            .inner
            .ledger
            .receipts_of(*id.as_bytes())
            .await?
            .into_iter()
            .next();
        let stored = stored.ok_or(NodeError::ReceiptMissing)?;
        let digest = ModelDigest::new(stored.model_digest);
        open(stored, !self.inner.models.lists(&digest))
    }
}

/// Keeps a receipt of either side.
pub(crate) async fn keep(
    ledger: &Ledger,
    role: ledger::ReceiptRole,
    signed: &SignedReceipt,
    model: &str,
) -> Result<(), NodeError> {
    let receipt = &signed.receipt;
    let other = match role {
        ledger::ReceiptRole::Provider => receipt.client,
        ledger::ReceiptRole::Client => receipt.provider,
    };
    let count = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
    let provider_signature = signed
        .provider_sig
        .as_ref()
        .try_into()
        .map_err(|_| NodeError::ReceiptDamaged)?;
    let client_signature = match &signed.client_sig {
        Some(signature) => Some(
            signature
                .as_ref()
                .try_into()
                .map_err(|_| NodeError::ReceiptDamaged)?,
        ),
        None => None,
    };
    ledger
        .store_receipt(ledger::Receipt {
            job: *receipt.job.as_bytes(),
            role,
            peer: other.to_string(),
            model: model.to_owned(),
            model_digest: *receipt.model.as_bytes(),
            tokens_in: count(receipt.totals.input.saturating_add(receipt.totals.cached)),
            tokens_out: count(receipt.totals.output),
            finish: receipt.finish.name().to_owned(),
            at_ms: clock::unix_ms(),
            chain: *receipt.h.as_bytes(),
            signed: signed.payload.to_vec(),
            provider_signature,
            client_signature,
        })
        .await?;
    Ok(())
}

fn open(stored: ledger::Receipt, unlisted: bool) -> Result<Receipt, NodeError> {
    let signed = SignedReceipt::from_parts(
        Bytes::from(stored.signed.clone()),
        Bytes::copy_from_slice(&stored.provider_signature),
        stored
            .client_signature
            .map(|signature| Bytes::copy_from_slice(&signature)),
    )
    .map_err(|_| NodeError::ReceiptDamaged)?;
    let content = &signed.receipt;
    let provider_signature = match signed.provider_check() {
        Ok(()) => ProviderSignature::Valid,
        Err(_) => ProviderSignature::Invalid,
    };
    let client_signature = match signed.client_check() {
        Some(Ok(())) => ClientSignature::Valid,
        Some(Err(_)) => ClientSignature::Invalid,
        None => ClientSignature::Missing,
    };
    let document = json!({
        "format": "decentralgpt-receipt-1",
        "job": content.job.to_string(),
        "provider": content.provider.to_string(),
        "client": content.client.to_string(),
        "modelDigest": content.model.to_string(),
        "promptHash": hex::encode(content.prompt_hash),
        "tokensIn": content.totals.input,
        "tokensCached": content.totals.cached,
        "tokensOut": content.totals.output,
        "firstIndex": content.first_index,
        "chain": content.h.to_string(),
        "due": content.due.to_string(),
        "finish": content.finish.name(),
        "engineBuild": content.engine_build,
        "numericsClass": content.numerics_class,
        "kvType": content.kv_type,
        "sampler": content.sampler,
        "seedSource": content.seed_source,
        "seed": content.seed.to_string(),
        "acceptedUnixMs": content.accepted_unix_ms,
        "firstTokenMs": content.first_token_ms,
        "totalMs": content.total_ms,
        "signedBytes": hex::encode(&signed.payload),
        "providerSignature": hex::encode(&signed.provider_sig),
        "clientSignature": signed.client_sig.as_ref().map(hex::encode),
    });
    Ok(Receipt {
        job: content.job.to_string(),
        role: match stored.role {
            ledger::ReceiptRole::Provider => ReceiptRole::Provider,
            ledger::ReceiptRole::Client => ReceiptRole::Client,
        },
        peer: stored.peer,
        model: stored.model,
        model_digest: content.model.to_string(),
        unlisted,
        tokens_in: content.totals.input.saturating_add(content.totals.cached),
        tokens_cached: content.totals.cached,
        tokens_out: content.totals.output,
        finish: content.finish.name().to_owned(),
        at_ms: stored.at_ms,
        chain: content.h.to_string(),
        provider_signature,
        client_signature,
        due: content.due.to_string(),
        checked: Checked::NotChecked,
        json: format!("{document:#}"),
    })
}

fn answered(stored: ledger::Answered) -> Answered {
    Answered {
        job: hex::encode(stored.job),
        at_ms: stored.at_ms,
        model: stored.model,
        tokens_in: u64::from(stored.tokens_in),
        tokens_out: u64::from(stored.tokens_out),
        finish: stored.finish,
        state: match stored.state {
            ledger::AnsweredState::Answering => AnsweredState::Answering,
            ledger::AnsweredState::Signed => AnsweredState::Signed,
            ledger::AnsweredState::Unsigned => AnsweredState::Unsigned,
        },
        earned: stored.earned.map(|units| units.to_string()),
        peer: stored.peer,
    }
}
