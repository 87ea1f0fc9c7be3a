//! `vote`: what is voted on, one's own vote, and bringing what was carried into force.

use node::{
    money::{NextStep, VoteStatus},
    wallet::{Change, Intent, Support, WalletRole},
};

use crate::{
    arguments::{Vote, VoteAct},
    core::Core,
    failure::Failure,
    money::{Act, amount, parts, reached, sign, tokens},
    output::Output,
    stop::Stop,
};

pub(crate) async fn vote(
    core: &Core,
    command: Vote,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let (intent, sure) = match command.act {
        None | Some(VoteAct::List) => {
            reached(core, output).await?;
            output.clear_progress();
            let status = core.client.vote_status().await?;
            return match command.json {
                true => output.json(&status),
                false => voted(&status).iter().try_for_each(|line| output.line(line)),
            };
        }
        Some(VoteAct::For { id, sure }) => (support(id, Support::For), sure),
        Some(VoteAct::Against { id, sure }) => (support(id, Support::Against), sure),
        Some(VoteAct::Abstain { id, sure }) => (support(id, Support::Abstain), sure),
        Some(VoteAct::Queue { id, sure }) => (Intent::Queue { id }, sure),
        Some(VoteAct::Execute { id, sure }) => (Intent::Execute { id }, sure),
        Some(VoteAct::Wrap { amount: text, sure }) => (
            Intent::Wrap {
                amount: amount(&text)?,
            },
            sure,
        ),
        Some(VoteAct::Unwrap { amount: text, sure }) => (
            Intent::Unwrap {
                amount: amount(&text)?,
            },
            sure,
        ),
        Some(VoteAct::Delegate { to, sure }) => {
            let to = match to {
                Some(to) => to,
                None => own(core).await?,
            };
            (Intent::Delegate { to }, sure)
        }
        Some(VoteAct::Propose {
            what,
            value,
            title,
            why,
            sure,
        }) => (
            Intent::Propose {
                title,
                description: why,
                changes: vec![Change { what, value }],
            },
            sure,
        ),
    };
    let act = Act::new(intent, sure, command.password_file.as_deref(), command.json);
    sign(core, act, output, stop).await
}

fn support(id: String, support: Support) -> Intent {
    Intent::Vote { id, support }
}

async fn own(core: &Core) -> Result<String, Failure> {
    let status = core.client.wallet_status().await?;
    let mut accounts = status.accounts.into_iter();
    accounts
        .find(|account| account.role == WalletRole::Wallet)
        .map(|account| account.address)
        .ok_or_else(|| {
            Failure::new(
                "wallet_missing",
                "There is no wallet.",
                "Run `decentralgpt wallet new`.",
            )
        })
}

fn voted(status: &VoteStatus) -> Vec<String> {
    let mut lines = vec![format!(
        "Tokens vote. Your votes: {} ({} wrapped{})",
        tokens(&status.power),
        tokens(&status.wrapped),
        match (&status.delegate, status.wrapped.as_str()) {
            (_, "0") | (Some(_), _) => "",
            (None, _) => ", lent to nobody: delegate them to use them",
        }
    )];
    let params = &status.params;
    lines.push(format!(
        "In force (block {}): fee on claims {}, {} models listed.",
        params.block,
        parts(params.fee_bps),
        params.listed.len()
    ));
    lines.push(format!(
        "  read, and nothing here uses it yet: {} of jobs checked again, {} of the fee for auditors, a stake of {}, {} of it lost for a fault",
        parts(params.audit_rate),
        parts(params.auditor_share_bps),
        tokens(&params.minimum_stake),
        parts(params.slash_bps)
    ));
    if status.proposals.is_empty() {
        lines.push("Nothing is voted on.".to_owned());
    }
    for proposal in &status.proposals {
        let state = serde_json::to_value(proposal.state).ok();
        let state = state
            .as_ref()
            .and_then(|state| state.as_str())
            .unwrap_or("");
        lines.push(format!("{state}: {}  ({})", proposal.title, proposal.id));
        lines.push(format!(
            "  for {}, against {}, abstain {}, quorum {}",
            tokens(&proposal.r#for),
            tokens(&proposal.against),
            tokens(&proposal.abstain),
            proposal.quorum.as_deref().map_or("?".to_owned(), tokens)
        ));
        for change in &proposal.changes {
            lines.push(format!(
                "  {}: {} → {}",
                change.what,
                change.now.as_deref().unwrap_or("—"),
                change.then
            ));
            lines.extend(change.on_this_node.iter().map(|text| format!("  {text}")));
            if !change.used && change.what != "other" {
                lines.push("  nothing here uses it yet".to_owned());
            }
        }
        lines.extend(proposal.next.map(|next| {
            let (what, command) = match next {
                NextStep::Queue => ("carried: it can be sent into its waiting time", "queue"),
                NextStep::Execute => ("carried, and has waited: it can come into force", "execute"),
            };
            format!(
                "  {what}, by anybody: `decentralgpt vote {command} {}`",
                proposal.id
            )
        }));
    }
    lines
}
