//! Votes: who has which weight, what is proposed, and what it would change ([`change`]). Read from the chain itself: there
//! is no index of somebody's in between.

mod change;

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::{SolEvent, SolEventInterface},
};
use futures::{StreamExt as _, TryStreamExt as _, stream, try_join};

pub use change::{Change, DecodedCall, Model, Motion};

use crate::{
    abi::{DgcGovernor, ModelRegistry, VoteDgc},
    chain::{Chain, Inner},
    error::ChainError,
    events::ranges,
    reason::amount,
    rpc::{endpoint::words, wire::Event},
};

/// Of many proposals, the newest are shown.
const MAX_PROPOSALS: usize = 200;
/// So many proposals are read at once: public endpoints count questions.
const READS_AT_ONCE: usize = 4;
/// What of a foreign description is kept: all of any that came in a transaction, since nodes pass on none of more. Without its last byte
/// its proposal could not be queued from here.
const MAX_DESCRIPTION: usize = 128 * 1024;

/// An account's weight. Amounts in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VotePower {
    /// Turned into votes.
    pub wrapped: u128,
    /// What counts when it votes: its own where delegated to itself, and what others lent it.
    pub votes: u128,
    /// Whom its own count for; `None` where for nobody, and so not at all.
    pub delegate: Option<Address>,
}

/// How one votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// No.
    Against,
    /// Yes.
    For,
    /// Counted for the quorum alone.
    Abstain,
}

impl Support {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Against => 0,
            Self::For => 1,
            Self::Abstain => 2,
        }
    }
}

impl std::fmt::Display for Support {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Against => "against",
            Self::For => "for",
            Self::Abstain => "abstain",
        })
    }
}

/// Where a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalState {
    /// Voting begins later.
    Pending,
    /// Voting is open.
    Active,
    /// Taken back by its proposer.
    Canceled,
    /// Not carried.
    Defeated,
    /// Carried, and to be queued.
    Succeeded,
    /// Waits until its time.
    Queued,
    /// Waited too long.
    Expired,
    /// Done.
    Executed,
}

/// A proposal. Weights in base units, times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the terms of every vote")]
pub struct Proposal {
    pub id: U256,
    pub state: ProposalState,
    pub proposer: Address,
    pub motion: Motion,
    /// Decoded from the data of its calls, never from its description.
    pub calls: Vec<DecodedCall>,
    /// Weights count as of then.
    pub start: u64,
    pub end: u64,
    pub votes_for: u128,
    pub against: u128,
    pub abstain: u128,
    /// What for and abstain together need; `None` before the start.
    pub quorum: Option<u128>,
    /// From then on it can be executed; `None` where it is not queued.
    pub eta: Option<u64>,
    /// The block it was made in.
    pub block: u64,
}

/// The rules of voting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRules {
    /// From proposal to voting, in seconds.
    pub delay_s: u64,
    /// How long voting is open, in seconds.
    pub period_s: u64,
    /// What a proposer needs, in base units of votes.
    pub threshold: u128,
}

/// What the events of the votes' contracts said so far, up to a final block.
#[derive(Debug, Default)]
pub(crate) struct Found {
    governor: Scan<Made>,
    models: Scan<ModelEvent>,
}

#[derive(Debug)]
struct Scan<T> {
    /// The next block to look at.
    next: Option<u64>,
    length: ranges::Length,
    found: Vec<T>,
}

impl<T> Default for Scan<T> {
    fn default() -> Self {
        Self {
            next: None,
            length: ranges::Length::default(),
            found: Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
struct Made {
    id: U256,
    proposer: Address,
    motion: Motion,
    start: u64,
    end: u64,
    block: u64,
}

#[derive(Clone, Debug)]
enum ModelEvent {
    Listed(Model),
    Dropped(B256),
}

impl Chain {
    /// An account's weight.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn votes(&self, address: Address) -> Result<VotePower, ChainError> {
        let block = self.inner.last_final()?;
        let at = self.inner.network.votes;
        let (balance, votes, delegates) = (
            VoteDgc::balanceOfCall { account: address },
            VoteDgc::getVotesCall { account: address },
            VoteDgc::delegatesCall { account: address },
        );
        let (wrapped, votes, delegate) = try_join!(
            self.inner.read(at, &balance, block),
            self.inner.read(at, &votes, block),
            self.inner.read(at, &delegates, block),
        )?;
        Ok(VotePower {
            wrapped: amount("votes", wrapped)?,
            votes: amount("votes", votes)?,
            delegate: (!delegate.is_zero()).then_some(delegate),
        })
    }

    /// Which weight an account has in a proposal, and whether it has voted. Weight is zero before the proposal's start.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn standing(
        &self,
        proposal: &Proposal,
        account: Address,
    ) -> Result<(u128, bool), ChainError> {
        let tip = self.inner.tip().ok_or(ChainError::NotYet)?.last_final;
        let at = self.inner.network.governor;
        let voted = DgcGovernor::hasVotedCall {
            proposalId: proposal.id,
            account,
        };
        let voted = self.inner.read(at, &voted, tip.number).await?;
        if tip.time <= proposal.start {
            return Ok((0, voted));
        }
        let weight = DgcGovernor::getVotesCall {
            account,
            timepoint: U256::from(proposal.start),
        };
        let weight = self.inner.read(at, &weight, tip.number).await?;
        Ok((amount("votes", weight)?, voted))
    }

    /// The rules of voting; they never change.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn vote_rules(&self) -> Result<VoteRules, ChainError> {
        let block = self.inner.last_final()?;
        let at = self.inner.network.governor;
        let (delay, period, threshold) = (
            DgcGovernor::votingDelayCall {},
            DgcGovernor::votingPeriodCall {},
            DgcGovernor::proposalThresholdCall {},
        );
        let (delay, period, threshold) = try_join!(
            self.inner.read(at, &delay, block),
            self.inner.read(at, &period, block),
            self.inner.read(at, &threshold, block),
        )?;
        Ok(VoteRules {
            delay_s: seconds(delay)?,
            period_s: seconds(period)?,
            threshold: amount("votes", threshold)?,
        })
    }

    /// The newest proposals, the newest first, read from the chain itself.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn proposals(&self) -> Result<Vec<Proposal>, ChainError> {
        let tip = self.inner.tip().ok_or(ChainError::NotYet)?.last_final;
        let made: Vec<Made> = {
            let mut found = self.inner.found.lock().await;
            let at = self.inner.network.governor;
            let topic = DgcGovernor::ProposalCreated::SIGNATURE_HASH;
            found
                .governor
                .go_on(&self.inner, at, &[topic], tip.number, made)
                .await?;
            let all = &found.governor.found;
            all.iter().rev().take(MAX_PROPOSALS).cloned().collect()
        };
        stream::iter(made)
            .map(|made| self.proposal(made, tip.number, tip.time))
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn proposal(&self, made: Made, block: u64, now: u64) -> Result<Proposal, ChainError> {
        let at = self.inner.network.governor;
        let (state, votes, eta) = (
            DgcGovernor::stateCall {
                proposalId: made.id,
            },
            DgcGovernor::proposalVotesCall {
                proposalId: made.id,
            },
            DgcGovernor::proposalEtaCall {
                proposalId: made.id,
            },
        );
        let (state, votes, eta) = try_join!(
            self.inner.read(at, &state, block),
            self.inner.read(at, &votes, block),
            self.inner.read(at, &eta, block),
        )?;
        let quorum = if now > made.start {
            let quorum = DgcGovernor::quorumCall {
                timepoint: U256::from(made.start),
            };
            Some(amount("votes", self.inner.read(at, &quorum, block).await?)?)
        } else {
            None
        };
        Ok(Proposal {
            id: made.id,
            state: proposal_state(state)?,
            proposer: made.proposer,
            calls: made.motion.decode(&self.inner.network),
            motion: made.motion,
            start: made.start,
            end: made.end,
            votes_for: amount("votes", votes.forVotes)?,
            against: amount("votes", votes.againstVotes)?,
            abstain: amount("votes", votes.abstainVotes)?,
            quorum,
            eta: match seconds(eta)? {
                0 => None,
                eta => Some(eta),
            },
            block: made.block,
        })
    }

    /// The models that the vote lists, by digest.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn models(&self) -> Result<Vec<Model>, ChainError> {
        let block = self.inner.last_final()?;
        let mut found = self.inner.found.lock().await;
        let at = self.inner.network.models;
        found
            .models
            .go_on(&self.inner, at, &[], block, model_event)
            .await?;
        let mut listed = BTreeMap::new();
        for event in &found.models.found {
            match event {
                ModelEvent::Listed(model) => {
                    listed.insert(model.digest, model.clone());
                }
                ModelEvent::Dropped(digest) => {
                    listed.remove(digest);
                }
            }
        }
        Ok(listed.into_values().collect())
    }
}

impl<T> Scan<T> {
    /// Reads the events up to a final block that were not read yet. What was read is kept also where a later range fails.
    async fn go_on(
        &mut self,
        chain: &Inner,
        at: Address,
        topics: &[B256],
        to: u64,
        read: impl Fn(&Event) -> Option<T>,
    ) -> Result<(), ChainError> {
        let mut next = self.next.unwrap_or(chain.network.gas.first_block);
        while next <= to {
            let (events, end) =
                ranges::next(&chain.endpoints, &mut self.length, at, topics, next, to).await?;
            self.found.extend(events.iter().filter_map(&read));
            next = end.saturating_add(1);
            self.next = Some(next);
        }
        Ok(())
    }
}

fn made(event: &Event) -> Option<Made> {
    let made = DgcGovernor::ProposalCreated::decode_log(&event.log)
        .ok()?
        .data;
    let mut description = made.description;
    if description.len() > MAX_DESCRIPTION {
        // It could not be executed from here: its hash needs the whole. It is shown, and that is all.
        let end = (0..=MAX_DESCRIPTION)
            .rev()
            .find(|at| description.is_char_boundary(*at))
            .unwrap_or(0);
        description.truncate(end);
    }
    Some(Made {
        id: made.proposalId,
        proposer: made.proposer,
        motion: Motion {
            targets: made.targets,
            values: made.values,
            calldatas: made.calldatas,
            description,
        },
        start: u64::try_from(made.voteStart).ok()?,
        end: u64::try_from(made.voteEnd).ok()?,
        block: event.block,
    })
}

fn model_event(event: &Event) -> Option<ModelEvent> {
    use ModelRegistry::ModelRegistryEvents as Events;
    match Events::decode_log(&event.log).ok()?.data {
        Events::ModelListed(it) => Some(ModelEvent::Listed(Model {
            digest: it.digest,
            licence: words(&it.licence),
            family: words(&it.family),
            card: it.card,
        })),
        Events::ModelDropped(it) => Some(ModelEvent::Dropped(it.digest)),
    }
}

fn proposal_state(number: u8) -> Result<ProposalState, ChainError> {
    Ok(match number {
        0 => ProposalState::Pending,
        1 => ProposalState::Active,
        2 => ProposalState::Canceled,
        3 => ProposalState::Defeated,
        4 => ProposalState::Succeeded,
        5 => ProposalState::Queued,
        6 => ProposalState::Expired,
        7 => ProposalState::Executed,
        other => {
            return Err(ChainError::Answer {
                what: "a proposal's state".to_owned(),
                problem: format!("{other} is none"),
            });
        }
    })
}

fn seconds(value: U256) -> Result<u64, ChainError> {
    u64::try_from(value).map_err(|_| ChainError::Answer {
        what: "a time".to_owned(),
        problem: format!("{value} is none"),
    })
}
