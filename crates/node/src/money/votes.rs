//! What is voted on, and what it would change here: decoded from the data of its calls, never from its description.

use chain::{B256, Change, Proposal, ProposalState};
use protocol::ModelDigest;
use serde::{Deserialize, Serialize};

use super::{
    ActError, EarningsBy, Live,
    rules::{self, PARTS, Rules},
    view::RulesView,
};
use crate::{
    Node, clock,
    error::NodeError,
    models::Model,
    node::Inner,
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

/// What has to be sent next for a carried proposal to take effect. Anybody may send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextStep {
    /// Into its waiting time.
    Queue,
    /// Out of it: it has waited.
    Execute,
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
    /// Something on this computer follows it. What does not is read and shown, and that is all.
    pub used: bool,
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
    /// What anybody can do now to bring it into force.
    pub next: Option<NextStep>,
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
    pub params: RulesView,
}

/// What this computer did in the last month.
struct Month {
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
        Ok(status(&self.inner, &live, wallet, &month)
            .await
            .map_err(ActError::Chain)?)
    }

    async fn month(&self) -> Result<Month, NodeError> {
        let now = clock::unix_ms();
        let rows = self
            .earnings(now.saturating_sub(MONTH_MS), now, EarningsBy::Device)
            .await?;
        Ok(Month {
            earned: rows
                .iter()
                .filter_map(|row| row.earned.parse::<u128>().ok())
                .fold(0, u128::saturating_add),
        })
    }
}

async fn status(
    inner: &Inner,
    live: &Live,
    wallet: Option<chain::Address>,
    month: &Month,
) -> Result<VoteStatus, chain::ChainError> {
    let chain = &live.chain;
    let set = rules::read(chain).await?;
    let rules = chain.vote_rules().await?;
    let (power, mine) = match wallet {
        Some(address) => (
            Some(chain.votes(address).await?),
            Some(chain.account(address).await?.token),
        ),
        None => (None, None),
    };
    let here = Here {
        live,
        set: &set,
        month,
        model: &|digest| inner.models.by_digest(&ModelDigest::new(digest.0)),
    };
    let mut proposals = Vec::new();
    for proposal in chain.proposals().await? {
        let (weight, voted) = match wallet {
            Some(address) => chain.standing(&proposal, address).await?,
            None => (0, false),
        };
        proposals.push(view(&here, &proposal, (weight, voted)));
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
        params: rules::view(inner, &set),
    })
}

/// Calls in words, each beside what holds now where it changes that.
pub(super) async fn changes(
    live: &Live,
    calls: &[chain::DecodedCall],
) -> Result<Vec<String>, chain::ChainError> {
    let set = rules::read(&live.chain).await?;
    let here = Here {
        live,
        set: &set,
        month: &Month { earned: 0 },
        model: &|_| None,
    };
    let said = calls.iter().map(|call| {
        let text = call.text(live.network());
        let change = call.change.as_ref();
        match change.and_then(|change| meaning(&here, change).now) {
            Some(now) => format!("{text} (now {now})"),
            None => text,
        }
    });
    Ok(said.collect())
}

/// What a change is held against: what holds now, and what this computer has and did.
struct Here<'a> {
    live: &'a Live,
    set: &'a Rules,
    month: &'a Month,
    /// The row here whose file has this digest.
    model: &'a (dyn Fn(&B256) -> Option<Model> + Sync),
}

fn view(here: &Here<'_>, proposal: &Proposal, (weight, voted): (u128, bool)) -> ProposalView {
    let network = here.live.network();
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
        next: next_step(proposal, here.live.chain_now()),
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
                Some(change) => meaning(here, change),
                None => ChangeView {
                    what: "other".to_owned(),
                    now: None,
                    then: call.text(network),
                    used: false,
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
                title: call.text(network),
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

/// What can be sent now. One that is queued waits for its time; one that waited too long is over.
fn next_step(proposal: &Proposal, now_s: u64) -> Option<NextStep> {
    match proposal.state {
        ProposalState::Succeeded => Some(NextStep::Queue),
        ProposalState::Queued if proposal.eta.is_some_and(|eta| eta <= now_s) => {
            Some(NextStep::Execute)
        }
        ProposalState::Queued
        | ProposalState::Pending
        | ProposalState::Active
        | ProposalState::Canceled
        | ProposalState::Defeated
        | ProposalState::Expired
        | ProposalState::Executed => None,
    }
}

/// What a change means, beside what holds now and what this computer has and did in the last month.
fn meaning(here: &Here<'_>, change: &Change) -> ChangeView {
    let network = here.live.network();
    let params = &here.set.params;
    let percent = |bps: u16| format!("{}.{:02} %", bps / 100, bps % 100);
    let token = |amount: u128| {
        let token = &network.token;
        chain::amount_text(chain::U256::from(amount), token.decimals, &token.symbol)
    };
    // Only what something here follows may claim to mean something here.
    let unused = |what: &str, now: String, then: String| ChangeView {
        what: what.to_owned(),
        now: Some(now),
        then,
        used: false,
        on_this_node: None,
    };
    match change {
        Change::AuditRate(rate) => {
            unused("audit_rate", percent(params.audit_rate), percent(*rate))
        }
        Change::AuditorShare(bps) => unused(
            "auditor_share",
            percent(params.auditor_share_bps),
            percent(*bps),
        ),
        Change::Slash(bps) => unused("slash", percent(params.slash_bps), percent(*bps)),
        Change::MinimumStake(amount) => unused(
            "minimum_stake",
            token(params.minimum_stake),
            token(*amount),
        ),
        Change::Fee { bps, .. } => ChangeView {
            what: "fee".to_owned(),
            now: Some(percent(params.fee.bps)),
            then: percent(*bps),
            used: true,
            on_this_node: fee_on_month(here.month.earned, params.fee.bps, *bps).map(|(then, now)| {
                format!(
                    "Of the {} that your last 30 days earned, {} would have gone to the fee instead of {}.",
                    token(here.month.earned),
                    token(then),
                    token(now),
                )
            }),
        },
        Change::ListModel(model) => ChangeView {
            what: "model_add".to_owned(),
            now: listed(here, &model.digest),
            then: format!("{} ({}), {}", model.family, model.licence, model.digest),
            used: true,
            on_this_node: Some(match (here.model)(&model.digest) {
                Some(row) => format!("You know it as {}; it would be marked as listed.", row.name),
                None => "No model of your list has this file.".to_owned(),
            }),
        },
        Change::DropModel { digest } => ChangeView {
            what: "model_remove".to_owned(),
            now: listed(here, digest),
            then: digest.to_string(),
            used: true,
            on_this_node: Some(match (here.model)(digest) {
                Some(row) => format!(
                    "You know it as {}; it would lose its mark, and work as before.",
                    row.name
                ),
                None => "No model of your list has this file.".to_owned(),
            }),
        },
    }
}

/// How a file is listed now.
fn listed(here: &Here<'_>, digest: &B256) -> Option<String> {
    let mut models = here.set.models.iter();
    models
        .find(|model| model.digest == *digest)
        .map(|model| format!("{} ({})", model.family, model.licence))
}

/// What the fee would have taken of a month's earnings, and what it takes of them now; `None` where nothing was earned.
fn fee_on_month(earned: u128, now_bps: u16, then_bps: u16) -> Option<(u128, u128)> {
    let of = |bps: u16| earned / PARTS * u128::from(bps);
    (earned > 0).then(|| (of(then_bps), of(now_bps)))
}

#[cfg(test)]
mod tests {
    use chain::{Address, Motion, U256};

    use super::*;

    fn proposal(state: ProposalState, eta: Option<u64>) -> Proposal {
        Proposal {
            id: U256::from(1),
            state,
            proposer: Address::ZERO,
            motion: Motion {
                targets: Vec::new(),
                values: Vec::new(),
                calldatas: Vec::new(),
                description: String::new(),
            },
            calls: Vec::new(),
            start: 10,
            end: 20,
            votes_for: 5,
            against: 1,
            abstain: 0,
            quorum: Some(4),
            eta,
            block: 1,
        }
    }

    #[test]
    fn a_carried_proposal_is_queued_then_waits_then_can_be_executed() {
        let next = |state, eta, now| next_step(&proposal(state, eta), now);
        assert_eq!(next(ProposalState::Active, None, 15), None);
        assert_eq!(
            next(ProposalState::Succeeded, None, 21),
            Some(NextStep::Queue)
        );
        assert_eq!(next(ProposalState::Queued, Some(40), 39), None);
        assert_eq!(
            next(ProposalState::Queued, Some(40), 40),
            Some(NextStep::Execute)
        );
        for over in [
            ProposalState::Executed,
            ProposalState::Expired,
            ProposalState::Defeated,
            ProposalState::Canceled,
        ] {
            assert_eq!(next(over, Some(40), 99), None, "{over:?}");
        }
    }

    #[test]
    fn a_defeat_says_whether_too_few_voted() {
        let mut lost = proposal(ProposalState::Defeated, None);
        assert_eq!(stage(&lost), (Stage::Closed, Some(Outcome::Rejected)));
        lost.quorum = Some(6);
        assert_eq!(stage(&lost), (Stage::Closed, Some(Outcome::NoQuorum)));
    }

    #[test]
    fn a_fee_is_told_by_what_the_last_month_earned() {
        assert_eq!(fee_on_month(0, 0, 100), None);
        assert_eq!(fee_on_month(1_000_000, 25, 100), Some((10_000, 2_500)));
    }
}
