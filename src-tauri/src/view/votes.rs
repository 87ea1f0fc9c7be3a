//! Votes, as the page draws them.

use node::money;
use serde::Serialize;
use specta::Type;

use super::{maybe, money::Rules, number};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProposalState {
    Upcoming,
    Open,
    Counting,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VoteOutcome {
    Passed,
    Rejected,
    NoQuorum,
    Executed,
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NextStep {
    Queue,
    Execute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChangeCode {
    AuditRate,
    AuditorShare,
    MinimumStake,
    Slash,
    Fee,
    ModelAdd,
    ModelRemove,
    Other,
}

/// One change, decoded from the data of its call.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangeView {
    pub what: ChangeCode,
    pub now: Option<String>,
    pub then: String,
    /// Something here follows it.
    pub used: bool,
    /// Null: it means nothing here.
    pub on_this_node: Option<String>,
}

#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallField {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallView {
    pub to: String,
    pub known: bool,
    pub title: String,
    pub fields: Vec<CallField>,
}

#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProposalView {
    pub id: String,
    pub title: String,
    pub description: String,
    pub state: ProposalState,
    pub outcome: Option<VoteOutcome>,
    pub starts_unix_ms: f64,
    pub ends_unix_ms: f64,
    pub eta_unix_ms: Option<f64>,
    /// What anybody can do now to bring it into force.
    pub next: Option<NextStep>,
    pub r#for: String,
    pub against: String,
    pub abstain: String,
    pub quorum: Option<String>,
    pub voted: bool,
    pub weight: String,
    pub changes: Vec<ChangeView>,
    pub calls: Vec<CallView>,
}

/// Everything about votes.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VoteStatus {
    pub wrapped: String,
    pub power: String,
    pub delegate: Option<String>,
    pub mine: Option<String>,
    pub threshold: String,
    pub proposals: Vec<ProposalView>,
    pub params: Rules,
}

impl From<money::VoteStatus> for VoteStatus {
    fn from(status: money::VoteStatus) -> Self {
        Self {
            wrapped: status.wrapped,
            power: status.power,
            delegate: status.delegate,
            mine: status.mine,
            threshold: status.threshold,
            proposals: status.proposals.into_iter().map(Into::into).collect(),
            params: status.params.into(),
        }
    }
}

impl From<money::ProposalView> for ProposalView {
    fn from(proposal: money::ProposalView) -> Self {
        Self {
            id: proposal.id,
            title: proposal.title,
            description: proposal.description,
            state: match proposal.state {
                money::Stage::Upcoming => ProposalState::Upcoming,
                money::Stage::Open => ProposalState::Open,
                money::Stage::Counting => ProposalState::Counting,
                money::Stage::Closed => ProposalState::Closed,
            },
            outcome: proposal.outcome.map(|outcome| match outcome {
                money::Outcome::Passed => VoteOutcome::Passed,
                money::Outcome::Rejected => VoteOutcome::Rejected,
                money::Outcome::NoQuorum => VoteOutcome::NoQuorum,
                money::Outcome::Executed => VoteOutcome::Executed,
                money::Outcome::Cancelled => VoteOutcome::Cancelled,
            }),
            starts_unix_ms: number(proposal.starts_unix_ms),
            ends_unix_ms: number(proposal.ends_unix_ms),
            eta_unix_ms: maybe(proposal.eta_unix_ms),
            next: proposal.next.map(|next| match next {
                money::NextStep::Queue => NextStep::Queue,
                money::NextStep::Execute => NextStep::Execute,
            }),
            r#for: proposal.r#for,
            against: proposal.against,
            abstain: proposal.abstain,
            quorum: proposal.quorum,
            voted: proposal.voted,
            weight: proposal.weight,
            changes: proposal
                .changes
                .into_iter()
                .map(|change| ChangeView {
                    what: match change.what.as_str() {
                        "audit_rate" => ChangeCode::AuditRate,
                        "auditor_share" => ChangeCode::AuditorShare,
                        "minimum_stake" => ChangeCode::MinimumStake,
                        "slash" => ChangeCode::Slash,
                        "fee" => ChangeCode::Fee,
                        "model_add" => ChangeCode::ModelAdd,
                        "model_remove" => ChangeCode::ModelRemove,
                        _ => ChangeCode::Other,
                    },
                    now: change.now,
                    then: change.then,
                    used: change.used,
                    on_this_node: change.on_this_node,
                })
                .collect(),
            calls: proposal
                .calls
                .into_iter()
                .map(|call| CallView {
                    to: call.to,
                    known: call.known,
                    title: call.title,
                    fields: call
                        .fields
                        .into_iter()
                        .map(|field| CallField {
                            name: field.name,
                            value: field.value,
                        })
                        .collect(),
                })
                .collect(),
        }
    }
}
