//! Several endpoints, asked the same at once: what most of them say counts, and who says otherwise is named.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256, Bytes, U256};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{
    endpoint::{Endpoint, RpcError, words},
    wire::{self, Block, Called, Event, Receipt},
};
use crate::error::ChainError;

/// Who contradicted the others is named this long, so that a person who looks later sees it.
const NAMED_FOR: Duration = Duration::from_secs(600);

/// The endpoints of one chain.
#[derive(Debug)]
pub(crate) struct Endpoints {
    chain_id: u64,
    list: Vec<Kept>,
    /// How many told their newest block when they were last asked for it.
    reached: AtomicUsize,
}

/// The events of a range of blocks.
#[derive(Debug)]
pub(crate) enum Range {
    /// All of them.
    Events(Vec<Event>),
    /// Some endpoint does not answer for so many blocks at once.
    TooLong,
}

#[derive(Debug)]
struct Kept {
    endpoint: Endpoint,
    report: Mutex<Report>,
}

/// What is known of an endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// It was seen to serve the right chain, and has answered since.
    ready: bool,
    pub(crate) head: Option<u64>,
    pub(crate) problem: Option<String>,
    contradicted: Option<(Instant, String)>,
}

impl Report {
    /// What it contradicted the others in, of late.
    pub(crate) fn contradiction(&self) -> Option<&str> {
        self.contradicted
            .as_ref()
            .filter(|(at, _)| at.elapsed() < NAMED_FOR)
            .map(|(_, what)| what.as_str())
    }
}

impl Kept {
    fn report(&self) -> MutexGuard<'_, Report> {
        // A report is whole after each of its changes.
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, chain_id: u64, method: &str, params: &Value) -> Result<Value, RpcError> {
        if !self.report().ready {
            self.check_chain(chain_id).await?;
        }
        let answer = self.endpoint.call(method, params).await;
        match &answer {
            Ok(_) | Err(RpcError::Refused(_)) => {}
            Err(error) => self.failed(error),
        }
        answer
    }

    async fn check_chain(&self, expected: u64) -> Result<(), RpcError> {
        let checked = match self.endpoint.call("eth_chainId", &json!([])).await {
            Ok(value) => match wire::quantity(&value) {
                Ok(got) if got == expected => Ok(()),
                Ok(got) => Err(RpcError::WrongChain { got, expected }),
                Err(problem) => Err(RpcError::Garbage(problem)),
            },
            Err(error) => Err(error),
        };
        match &checked {
            Ok(()) => {
                let mut report = self.report();
                report.ready = true;
                report.problem = None;
            }
            Err(error) => self.failed(error),
        }
        checked
    }

    fn failed(&self, error: &RpcError) {
        let mut report = self.report();
        report.ready = false;
        report.head = None;
        report.problem = Some(error.to_string());
    }
}

impl Endpoints {
    pub(crate) fn new(chain_id: u64, addresses: &[String]) -> Result<Self, ChainError> {
        let list = addresses
            .iter()
            .map(|address| {
                Ok(Kept {
                    endpoint: Endpoint::new(address)?,
                    report: Mutex::new(Report::default()),
                })
            })
            .collect::<Result<_, ChainError>>()?;
        Ok(Self {
            chain_id,
            list,
            reached: AtomicUsize::new(0),
        })
    }

    /// Each endpoint's host, and what is known of it.
    pub(crate) fn reports(&self) -> Vec<(String, Report)> {
        self.list
            .iter()
            .map(|kept| (kept.endpoint.host.clone(), kept.report().clone()))
            .collect()
    }

    /// The newest block that most of those who answer have reached, and how many answered. One who runs ahead alone, or stands still alone,
    /// changes nothing where there are three.
    pub(crate) async fn head(&self) -> Result<(u64, usize), ChainError> {
        let params = json!(["latest", false]);
        let answers = join_all(self.list.iter().map(|kept| async {
            let answer = kept
                .ask(self.chain_id, "eth_getBlockByNumber", &params)
                .await
                .map_err(|error| error.to_string())
                .and_then(|value| wire::block(&value)?.ok_or("no newest block".to_owned()));
            let mut report = kept.report();
            match answer {
                Ok(block) => {
                    report.head = Some(block.number);
                    report.problem = None;
                    Some(block.number)
                }
                Err(problem) => {
                    report.head = None;
                    report.problem = Some(problem);
                    None
                }
            }
        }))
        .await;
        let mut heads: Vec<u64> = answers.into_iter().flatten().collect();
        self.reached.store(heads.len(), Ordering::Relaxed);
        heads.sort_unstable_by(|a, b| b.cmp(a));
        let majority = heads.len() / 2;
        match heads.get(majority) {
            Some(head) => Ok((*head, heads.len())),
            None => Err(self.offline()),
        }
    }

    /// Marks those whose newest block is far from `head`.
    pub(crate) fn mark_strays(&self, head: u64, far: u64) {
        for kept in &self.list {
            let mut report = kept.report();
            if let Some(at) = report.head
                && at.abs_diff(head) > far
            {
                let problem = if at < head {
                    format!("it stands at block {at}, and the others at {head}")
                } else {
                    format!("it claims block {at}, and the others are at {head}")
                };
                report.problem = Some(problem);
            }
        }
    }

    /// The block of that number.
    pub(crate) async fn block(&self, number: u64) -> Result<Block, ChainError> {
        let what = format!("block {number}");
        self.compare(
            &what,
            "eth_getBlockByNumber",
            &json!([hex(number), false]),
            |answer| {
                let block = wire::block(&answer.map_err(|error| error.to_string())?)?
                    .ok_or("it has not reached that block")?;
                if block.number == number {
                    Ok(block)
                } else {
                    Err("another block than the one asked for".to_owned())
                }
            },
        )
        .await
    }

    /// What a contract answers at a block.
    pub(crate) async fn call(
        &self,
        what: &str,
        request: &Value,
        block: u64,
    ) -> Result<Called, ChainError> {
        self.compare(what, "eth_call", &json!([request, hex(block)]), called)
            .await
    }

    /// What it would answer if some accounts were as they are said to be.
    pub(crate) async fn call_as(
        &self,
        what: &str,
        request: &Value,
        accounts: &Value,
        block: u64,
    ) -> Result<Called, ChainError> {
        let params = json!([request, hex(block), accounts]);
        self.compare(what, "eth_call", &params, called).await
    }

    /// What an account has of the chain's own coin.
    pub(crate) async fn balance(&self, address: Address, block: u64) -> Result<U256, ChainError> {
        self.compare(
            "a balance",
            "eth_getBalance",
            &json!([address, hex(block)]),
            |answer| wire::wide(&answer.map_err(|error| error.to_string())?),
        )
        .await
    }

    /// How many transactions of an account are in blocks up to this one: the nonce of its next.
    pub(crate) async fn nonce(&self, address: Address, block: u64) -> Result<u64, ChainError> {
        self.compare(
            "a nonce",
            "eth_getTransactionCount",
            &json!([address, hex(block)]),
            |answer| wire::quantity(&answer.map_err(|error| error.to_string())?),
        )
        .await
    }

    /// The code at an address.
    pub(crate) async fn code(&self, address: Address, block: u64) -> Result<Bytes, ChainError> {
        self.compare(
            "a contract's code",
            "eth_getCode",
            &json!([address, hex(block)]),
            |answer| wire::bytes(&answer.map_err(|error| error.to_string())?),
        )
        .await
    }

    /// Whether, and where, a transaction is in a block.
    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, ChainError> {
        self.compare(
            "a receipt",
            "eth_getTransactionReceipt",
            &json!([hash]),
            |answer| {
                let receipt = wire::receipt(&answer.map_err(|error| error.to_string())?)?;
                match receipt {
                    Some(receipt) if receipt.tx != hash => {
                        Err("the receipt of another transaction".to_owned())
                    }
                    receipt => Ok(receipt),
                }
            },
        )
        .await
    }

    /// The events of a contract in a range of blocks, both ends within it.
    ///
    /// Where an endpoint refuses, whatever its words for it, the range counts as too long: otherwise one that answers any
    /// range would be alone with its answer.
    pub(crate) async fn events(
        &self,
        address: Address,
        topics: &[B256],
        from: u64,
        to: u64,
    ) -> Result<Range, ChainError> {
        let mut filter = json!({ "address": address, "fromBlock": hex(from), "toBlock": hex(to) });
        if !topics.is_empty() {
            filter["topics"] = json!([topics]);
        }
        let refused = AtomicBool::new(false);
        let events = self
            .compare("events", "eth_getLogs", &json!([filter]), |answer| {
                if let Err(RpcError::Refused(_) | RpcError::TooLarge) = &answer {
                    refused.store(true, Ordering::Relaxed);
                }
                let answer = answer.map_err(|error| error.to_string())?;
                wire::events(&answer, address, from, to)
            })
            .await;
        if refused.into_inner() && to > from {
            return Ok(Range::TooLong);
        }
        events.map(Range::Events)
    }

    /// What each endpoint answers, for figures on which they need not agree: prices and estimates.
    pub(crate) async fn each(
        &self,
        method: &str,
        params: &Value,
    ) -> Vec<(String, Result<Value, RpcError>)> {
        join_all(self.list.iter().map(|kept| async {
            let answer = kept.ask(self.chain_id, method, params).await;
            (kept.endpoint.host.clone(), answer)
        }))
        .await
    }

    /// The answer that most of those who answer give.
    async fn compare<T: PartialEq>(
        &self,
        what: &str,
        method: &str,
        params: &Value,
        read: impl Fn(Result<Value, RpcError>) -> Result<T, String>,
    ) -> Result<T, ChainError> {
        let answers = join_all(
            self.list
                .iter()
                .map(|kept| kept.ask(self.chain_id, method, params)),
        )
        .await;
        let mut groups: Vec<(T, Vec<usize>)> = Vec::new();
        let mut tried = Vec::new();
        for (at, answer) in answers.into_iter().enumerate() {
            match read(answer) {
                Ok(answer) => match groups.iter_mut().find(|(said, _)| *said == answer) {
                    Some((_, who)) => who.push(at),
                    None => groups.push((answer, vec![at])),
                },
                Err(problem) => tried.push((self.host(at), words(&problem))),
            }
        }
        let answered: usize = groups.iter().map(|(_, who)| who.len()).sum();
        if answered == 0 {
            return Err(ChainError::Offline { tried });
        }
        if answered == 1 && self.reached.load(Ordering::Relaxed) > 1 {
            // Others are there: what one says alone is not taken for what they would have said.
            return Err(ChainError::Unconfirmed {
                what: what.to_owned(),
                silent: tried,
            });
        }
        groups.sort_by_key(|(_, who)| std::cmp::Reverse(who.len()));
        let most = groups.first().map_or(0, |(_, who)| who.len());
        if most * 2 <= answered {
            for (_, who) in &groups {
                self.contradict(who, what);
            }
            return Err(ChainError::Disagree {
                what: what.to_owned(),
                hosts: groups
                    .iter()
                    .map(|(_, who)| who.iter().map(|at| self.host(*at)).collect())
                    .collect(),
            });
        }
        for (_, who) in groups.iter().skip(1) {
            self.contradict(who, what);
        }
        groups
            .into_iter()
            .next()
            .map(|(answer, _)| answer)
            .ok_or(ChainError::Offline { tried })
    }

    fn contradict(&self, who: &[usize], what: &str) {
        for kept in who.iter().filter_map(|at| self.list.get(*at)) {
            tracing::warn!(
                host = kept.endpoint.host,
                what,
                "an endpoint contradicts the others"
            );
            kept.report().contradicted = Some((
                Instant::now(),
                format!("it contradicts the others about {what}"),
            ));
        }
    }

    fn host(&self, at: usize) -> String {
        self.list
            .get(at)
            .map(|kept| kept.endpoint.host.clone())
            .unwrap_or_default()
    }

    fn offline(&self) -> ChainError {
        ChainError::Offline {
            tried: self
                .reports()
                .into_iter()
                .map(|(host, report)| (host, report.problem.unwrap_or_default()))
                .collect(),
        }
    }
}

fn called(answer: Result<Value, RpcError>) -> Result<Called, String> {
    match answer {
        Ok(value) => wire::bytes(&value).map(Called::Returned),
        Err(RpcError::Refused(refused)) => wire::reverted(&refused)
            .map(Called::Reverted)
            .ok_or(refused.message),
        Err(error) => Err(error.to_string()),
    }
}

/// A number as JSON-RPC writes it.
fn hex(number: u64) -> String {
    format!("{number:#x}")
}
