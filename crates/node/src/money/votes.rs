//! What is voted on, and what it would change here: decoded from the data of its calls, never from its description.

use chain::{Change, Params, Proposal, ProposalState};
use serde::{Deserialize, Serialize};

use super::{ActError, EarningsBy, Live};
use crate::{
    Node, clock,
    error::NodeError,
    wallet::{NamedValue, WalletProblem, WalletRole},
};

/// The last month's figures stand for the next one's.
const MONTH_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Where a proposal stands, as a list is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Voting begins later.
    Upcoming,
    /// Voting is open.
    Open,
    /// Carried, and waits for its time.
    Counting,
    /// Over.
    Closed,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Carried.
    Passed,
    /// More were against it.
    Rejected,
    /// Too few voted.
    NoQuorum,
    /// Carried, and done.
    Executed,
    /// Taken back, or not executed in its time.
    Cancelled,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeView {
    /// Which parameter: `audit_rate`, `auditor_share`, `minimum_stake`, `slash`, `fee`, `model_add`, `model_remove`, `other`.
    pub what: String,
    /// What it is now, with its unit.
    pub now: Option<String>,
    /// What it would be.
    pub then: String,
    /// What that means here, in figures of this computer; `None` where it means nothing.
    pub on_this_node: Option<String>,
}

/// One call of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    /// Whom it calls.
    pub to: String,
    /// It is one of the things that a vote is for here.
    pub known: bool,
    /// In words.
    pub title: String,
    /// Its parts.
    pub fields: Vec<NamedValue>,
}

/// A proposal. Weights in base units, times in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the terms of every vote")]
pub struct ProposalView {
    pub id: String,
    pub title: String,
    pub description: String,
    pub state: Stage,
    pub outcome: Option<Outcome>,
    pub starts_unix_ms: u64,
    pub ends_unix_ms: u64,
    pub eta_unix_ms: Option<u64>,
    pub r#for: String,
    pub against: String,
    pub abstain: String,
    pub quorum: Option<String>,
    /// The wallet's account has voted.
    pub voted: bool,
    /// Its weight in this vote: what it had when voting began.
    pub weight: String,
    pub changes: Vec<ChangeView>,
    pub calls: Vec<CallView>,
}

/// What votes have set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParamsView {
    /// Audited jobs, in parts of 10,000.
    pub audit_rate: u16,
    /// The auditors' part of the fee, in parts of 10,000.
    pub auditor_share_bps: u16,
    /// What is asked of a provider, in base units.
    pub minimum_stake: String,
    /// The first slash of a stake, in parts of 10,000.
    pub slash_bps: u16,
    /// The fee on claims, in parts of 10,000.
    pub fee_bps: u16,
}

/// Everything about votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoteStatus {
    /// Tokens of the wallet that were turned into votes.
    pub wrapped: String,
    /// What counts when it votes.
    pub power: String,
    /// Whom its own votes count for.
    pub delegate: Option<String>,
    /// Tokens of the wallet that are not wrapped; `None` without a wallet.
    pub mine: Option<String>,
    /// What a proposer needs.
    pub threshold: String,
    /// The newest first.
    pub proposals: Vec<ProposalView>,
    /// What votes have set.
    pub params: ParamsView,
}

/// What this computer did in the last month.
struct Month {
    jobs: u64,
    earned: u128,
}

impl Node {
    /// What is voted on, read from the chain itself.
    ///
    /// # Errors
    /// [`NodeError::Act`] where there is no network, or its endpoints do not answer.
    pub async fn vote_status(&self) -> Result<VoteStatus, NodeError> {
        let live = self
            .inner
            .money
            .live()
            .ok_or(ActError::Wallet(WalletProblem::NoMoney))?;
        let month = self.month().await?;
        let wallet = self
            .inner
            .wallet
            .status()
            .accounts
            .into_iter()
            .find(|account| account.role == WalletRole::Wallet)
            .and_then(|account| account.address.parse().ok());
        Ok(status(&live, wallet, &month)
            .await
            .map_err(ActError::Chain)?)
    }

    async fn month(&self) -> Result<Month, NodeError> {
        let now = clock::unix_ms();
        let rows = self
            .earnings(now.saturating_sub(MONTH_MS), now, EarningsBy::Device)
            .await?;
        Ok(Month {
            jobs: rows.iter().map(|row| row.jobs).sum(),
            earned: rows
                .iter()
                .filter_map(|row| row.earned.parse::<u128>().ok())
                .fold(0, u128::saturating_add),
        })
    }
}

async fn status(
    live: &Live,
    wallet: Option<chain::Address>,
    month: &Month,
) -> Result<VoteStatus, chain::ChainError> {
    let chain = &live.chain;
    let params = chain.params().await?;
    let rules = chain.vote_rules().await?;
    let (power, mine) = match wallet {
        Some(address) => (
            Some(chain.votes(address).await?),
            Some(chain.account(address).await?.token),
        ),
        None => (None, None),
    };
    let mut proposals = Vec::new();
    for proposal in chain.proposals().await? {
        let (weight, voted) = match wallet {
            Some(address) => chain.standing(&proposal, address).await?,
            None => (0, false),
        };
        proposals.push(view(live, &proposal, (weight, voted), &params, month));
    }
    Ok(VoteStatus {
        wrapped: power.map_or(0, |power| power.wrapped).to_string(),
        power: power.map_or(0, |power| power.votes).to_string(),
        delegate: power
            .and_then(|power| power.delegate)
            .map(|delegate| delegate.to_checksum(None)),
        mine: mine.map(|mine| mine.to_string()),
        threshold: rules.threshold.to_string(),
        proposals,
        params: ParamsView {
            audit_rate: params.audit_rate,
            auditor_share_bps: params.auditor_share_bps,
            minimum_stake: params.minimum_stake.to_string(),
            slash_bps: params.slash_bps,
            fee_bps: params.fee.bps,
        },
    })
}

fn view(
    live: &Live,
    proposal: &Proposal,
    (weight, voted): (u128, bool),
    params: &Params,
    month: &Month,
) -> ProposalView {
    let description = &proposal.motion.description;
    let (title, rest) = description.split_once('\n').unwrap_or((description, ""));
    let ms = |seconds: u64| seconds.saturating_mul(1000);
    let (state, outcome) = stage(proposal);
    ProposalView {
        id: proposal.id.to_string(),
        title: title.trim_start_matches('#').trim().to_owned(),
        description: rest.trim().to_owned(),
        state,
        outcome,
        starts_unix_ms: ms(proposal.start),
        ends_unix_ms: ms(proposal.end),
        eta_unix_ms: proposal.eta.map(ms),
        r#for: proposal.votes_for.to_string(),
        against: proposal.against.to_string(),
        abstain: proposal.abstain.to_string(),
        quorum: proposal.quorum.map(|quorum| quorum.to_string()),
        voted,
        weight: weight.to_string(),
        changes: proposal
            .calls
            .iter()
            .map(|call| match &call.change {
                Some(change) => meaning(live, change, params, month),
                None => ChangeView {
                    what: "other".to_owned(),
                    now: None,
                    then: call.text(live.network()),
                    on_this_node: None,
                },
            })
            .collect(),
        calls: proposal
            .calls
            .iter()
            .map(|call| CallView {
                to: call.target.to_checksum(None),
                known: call.change.is_some(),
                title: call.text(live.network()),
                fields: vec![NamedValue {
                    name: "data".to_owned(),
                    value: call.data.to_string(),
                }],
            })
            .collect(),
    }
}

fn stage(proposal: &Proposal) -> (Stage, Option<Outcome>) {
    match proposal.state {
        ProposalState::Pending => (Stage::Upcoming, None),
        ProposalState::Active => (Stage::Open, None),
        ProposalState::Succeeded | ProposalState::Queued => {
            (Stage::Counting, Some(Outcome::Passed))
        }
        ProposalState::Executed => (Stage::Closed, Some(Outcome::Executed)),
        ProposalState::Canceled | ProposalState::Expired => {
            (Stage::Closed, Some(Outcome::Cancelled))
        }
        ProposalState::Defeated => {
            let voted = proposal.votes_for.saturating_add(proposal.abstain);
            let few = proposal.quorum.is_some_and(|quorum| voted < quorum);
            let outcome = match few {
                true => Outcome::NoQuorum,
                false => Outcome::Rejected,
            };
            (Stage::Closed, Some(outcome))
        }
    }
}

/// What a change means, beside what holds now and what this computer did in the last month.
fn meaning(live: &Live, change: &Change, params: &Params, month: &Month) -> ChangeView {
    let network = live.network();
    let symbol = &network.token.symbol;
    let percent = |bps: u16| format!("{}.{:02} %", bps / 100, bps % 100);
    let token = |amount: u128| {
        chain::amount_text(chain::U256::from(amount), network.token.decimals, symbol)
    };
    let of = |amount: u128, bps: u16| amount / 10_000 * u128::from(bps);
    let (what, now, then, on_this_node) = match change {
        Change::Fee { bps, .. } => (
            "fee",
            Some(percent(params.fee.bps)),
            percent(*bps),
            (month.earned > 0).then(|| {
                format!(
                    "Of the {} that your last 30 days earned, {} would have gone to the fee instead of {}.",
                    token(month.earned),
                    token(of(month.earned, *bps)),
                    token(of(month.earned, params.fee.bps)),
                )
            }),
        ),
        Change::AuditRate(rate) => (
            "audit_rate",
            Some(percent(params.audit_rate)),
            percent(*rate),
            (month.jobs > 0).then(|| {
                format!(
                    "Of the {} paid jobs of your last 30 days, about {} would have been computed again instead of about {}.",
                    month.jobs,
                    month.jobs * u64::from(*rate) / 10_000,
                    month.jobs * u64::from(params.audit_rate) / 10_000,
                )
            }),
        ),
        Change::AuditorShare(bps) => (
            "auditor_share",
            Some(percent(params.auditor_share_bps)),
            percent(*bps),
            None,
        ),
        Change::Slash(bps) => ("slash", Some(percent(params.slash_bps)), percent(*bps), None),
        Change::MinimumStake(amount) => (
            "minimum_stake",
            Some(token(params.minimum_stake)),
            token(*amount),
            None,
        ),
        Change::ListModel(model) => (
            "model_add",
            None,
            format!("{} ({}), {}", model.family, model.licence, model.digest),
            None,
        ),
        Change::DropModel { digest } => ("model_remove", None, digest.to_string(), None),
    };
    ChangeView {
        what: what.to_owned(),
        now,
        then,
        on_this_node,
    }
}
