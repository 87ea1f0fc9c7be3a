//! One endpoint: JSON-RPC over HTTP, with a bound on time and size, since whoever runs it may send anything.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use reqwest::{Client, Url, redirect::Policy};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{error::ChainError, network::is_loopback};

/// A busy public endpoint answers within a few seconds; beyond this it is as good as gone.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Within this a reachable host has answered the first packet several times over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The largest thing asked for is the events of a range of blocks, which is asked for again in halves when it is larger.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Of what an endpoint says in words, this much is kept.
const MAX_WORDS: usize = 200;

/// One endpoint of a chain.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Host and port: paths and queries of such addresses often carry somebody's key.
    pub(crate) host: String,
    url: Url,
    client: Client,
    next: AtomicU64,
}

/// Why an endpoint gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// It understood, and says no.
    #[error("{}", .0.message)]
    Refused(Refused),
    /// Nothing came in time.
    #[error("no answer within {} seconds", TIMEOUT.as_secs())]
    Timeout,
    /// Nothing came at all.
    #[error("not reached")]
    Unreachable,
    /// The web server before it says no.
    #[error("HTTP {0}")]
    Http(u16),
    /// More than anybody needs.
    #[error("an answer of more than {MAX_ANSWER} bytes")]
    TooLarge,
    /// What came is no answer in JSON-RPC.
    #[error("an answer that is none: {0}")]
    Garbage(String),
    /// It serves another chain.
    #[error("it serves chain {got} and not {expected}")]
    WrongChain { got: u64, expected: u64 },
}

/// An error in JSON-RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: i64,
    pub(crate) message: String,
    /// What a contract reverted with.
    pub(crate) data: Option<Value>,
}

#[derive(Deserialize)]
struct Response {
    id: Value,
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

impl Endpoint {
    pub(crate) fn new(address: &str) -> Result<Self, ChainError> {
        let bad = |problem: String| ChainError::Endpoint {
            host: words(address),
            problem,
        };
        let url = Url::parse(address).map_err(|error| bad(error.to_string()))?;
        let mut builder = Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Somewhere else is somebody else.
            .redirect(Policy::none());
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| bad(error.to_string()))?;
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(bad("it names no host".to_owned())),
        };
        Ok(Self {
            host,
            url,
            client,
            next: AtomicU64::new(1),
        })
    }

    /// The `result` of the answer; JSON `null` where there is none.
    pub(crate) async fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let question = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .body(question.to_string())
            .send()
            .await
            .map_err(transport)?;
        let status = response.status();
        let body = bounded(response).await?;
        // Some endpoints send an error of JSON-RPC with a status that is no success: the words are worth more.
        match result_of(&body, id) {
            Ok(_) | Err(RpcError::Garbage(_)) if !status.is_success() => {
                Err(RpcError::Http(status.as_u16()))
            }
            answer => answer,
        }
    }
}

/// The `result` of an answer to the question of this number; JSON `null` where there is none.
pub(crate) fn result_of(body: &[u8], id: u64) -> Result<Value, RpcError> {
    let answer: Response = serde_json::from_slice(body)
        .map_err(|error| RpcError::Garbage(words(&error.to_string())))?;
    if let Some(error) = answer.error {
        return Err(RpcError::Refused(Refused {
            code: error.code,
            message: words(&error.message),
            data: error.data,
        }));
    }
    if answer.id != json!(id) {
        return Err(RpcError::Garbage(
            "it belongs to another question".to_owned(),
        ));
    }
    Ok(answer.result.unwrap_or(Value::Null))
}

async fn bounded(mut response: reqwest::Response) -> Result<Vec<u8>, RpcError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(RpcError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport(error: reqwest::Error) -> RpcError {
    if error.is_timeout() {
        RpcError::Timeout
    } else {
        RpcError::Unreachable
    }
}

/// Foreign words that a person may see: in one line, and few.
pub(crate) fn words(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_WORDS)
        .collect()
}
