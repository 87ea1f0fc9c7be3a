//! How it stands with the chain: the newest block, the newest final one, and what is wrong with whom.

use std::time::{Duration, Instant};

use crate::{
    chain::Inner,
    error::ChainError,
    network::Network,
    rpc::{Endpoints, wire::Block},
};

/// Blocks of a fast chain are not worth a question each.
const MIN_POLL: Duration = Duration::from_millis(500);
/// A person who waits for a payment looks up about this often.
const MAX_POLL: Duration = Duration::from_secs(6);
/// While nothing is agreed upon, endpoints are tried at this pace.
const OFFLINE_POLL: Duration = Duration::from_secs(3);
/// So many times the usual time without a new block, and at least [`STALL`], is a standstill.
const STALL_BLOCKS: u32 = 20;
const STALL: Duration = Duration::from_secs(60);
/// Endpoints of a healthy chain are a few blocks apart: one that is farther from the others than this is named.
const STRAY: u64 = 30;

/// How it stands with the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// In the order of the network file.
    pub endpoints: Vec<EndpointHealth>,
    /// The newest block that most endpoints have reached.
    pub head: Option<u64>,
    /// The newest block that counts as final.
    pub final_block: Option<u64>,
    /// When that block was made, in seconds since 1970, as its maker says. It never goes back.
    pub final_time: Option<u64>,
    /// What it comes to.
    pub state: State,
    /// No new block for a long time, though endpoints answer.
    pub stalled: bool,
    /// Why nothing goes on, in words.
    pub problem: Option<String>,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// At least two endpoints, and they agree.
    Online,
    /// One endpoint: nobody confirms what it says.
    OneOnly,
    /// They contradict each other: nothing is read until they agree.
    Disagree,
    /// No endpoint answers.
    #[default]
    Offline,
}

/// How it stands with one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Host and port; never the path, where keys may be.
    pub url_host: String,
    /// Its newest block.
    pub block: Option<u64>,
    /// It contradicted nobody of late.
    pub agrees: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// The newest blocks, agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) head: Block,
    pub(crate) last_final: Block,
}

impl Health {
    /// Before anything was asked.
    pub(crate) fn before(endpoints: &Endpoints) -> Self {
        Self {
            endpoints: each(endpoints),
            ..Self::default()
        }
    }
}

fn each(endpoints: &Endpoints) -> Vec<EndpointHealth> {
    endpoints
        .reports()
        .into_iter()
        .map(|(url_host, report)| EndpointHealth {
            url_host,
            block: report.head,
            agrees: report.contradiction().is_none(),
            problem: report
                .problem
                .clone()
                .or_else(|| report.contradiction().map(str::to_owned)),
        })
        .collect()
}

/// Follows the newest blocks until the last handle is gone.
pub(crate) async fn follow(inner: std::sync::Weak<Inner>) {
    let mut grew = Instant::now();
    loop {
        let Some(chain) = inner.upgrade() else { return };
        let before = chain.tip();
        let looked = look(&chain.endpoints, &chain.network, before).await;
        if let Ok((tip, _)) = &looked
            && before.is_none_or(|before| before.head.hash != tip.head.hash)
        {
            grew = Instant::now();
        }
        let poll = poll(&chain.network, looked.is_ok());
        let health = health(&chain, &looked, grew.elapsed());
        if let Ok((tip, _)) = looked {
            chain.set_tip(tip);
        }
        chain.health.send_if_modified(|now| {
            let changed = *now != health;
            *now = health;
            changed
        });
        let woken = chain.wake.clone();
        drop(chain);
        tokio::select! {
            () = tokio::time::sleep(poll) => {}
            () = woken.notified() => {}
        }
    }
}

/// The tip now, and how many endpoints answered.
async fn look(
    endpoints: &Endpoints,
    network: &Network,
    before: Option<Tip>,
) -> Result<(Tip, usize), ChainError> {
    let (head, answered) = endpoints.head().await?;
    endpoints.mark_strays(head, STRAY.max(network.confirmations));
    let last_final = head.saturating_sub(network.confirmations);
    let head = endpoints.block(head).await?;
    if let Some(before) = before {
        if before.head == head {
            return Ok((before, answered));
        }
        // What was final stays so, whatever is said later.
        let still = endpoints.block(before.last_final.number).await?;
        if still.hash != before.last_final.hash {
            return Err(ChainError::Rewritten {
                number: still.number,
                was: before.last_final.hash,
                is: still.hash,
            });
        }
    }
    let last_final = match before {
        Some(before) if before.last_final.number >= last_final => before.last_final,
        _ => endpoints.block(last_final).await?,
    };
    if let Some(before) = before
        && last_final.time < before.last_final.time
    {
        return Err(ChainError::Answer {
            what: format!("block {}", last_final.number),
            problem: "it is older than a block before it".to_owned(),
        });
    }
    Ok((Tip { head, last_final }, answered))
}

fn poll(network: &Network, answered: bool) -> Duration {
    if !answered {
        return OFFLINE_POLL;
    }
    Duration::from_millis(network.block_ms / 2).clamp(MIN_POLL, MAX_POLL)
}

fn health(chain: &Inner, looked: &Result<(Tip, usize), ChainError>, since: Duration) -> Health {
    let before = chain.tip();
    let tip = looked.as_ref().ok().map(|(tip, _)| *tip).or(before);
    let state = match looked {
        Ok((_, answered)) if *answered >= 2 => State::Online,
        Ok(_) => State::OneOnly,
        Err(ChainError::Offline { .. }) => State::Offline,
        // Two are there, and one of them says nothing of use.
        Err(ChainError::Unconfirmed { .. }) => State::OneOnly,
        Err(_) => State::Disagree,
    };
    let usual = Duration::from_millis(chain.network.block_ms) * STALL_BLOCKS;
    Health {
        endpoints: each(&chain.endpoints),
        head: tip.map(|tip| tip.head.number),
        final_block: tip.map(|tip| tip.last_final.number),
        final_time: tip.map(|tip| tip.last_final.time),
        state,
        stalled: looked.is_ok() && since > usual.max(STALL),
        problem: looked.as_ref().err().map(ToString::to_string),
    }
}
