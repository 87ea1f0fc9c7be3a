//! What votes have set, as this node has it: read from final blocks, again and again, and obeyed without a restart.
//!
//! The fee on claims counts in what is worth claiming and in what is shown of earnings; the list of models marks those that are
//! here. The other figures are read and shown, and nothing here acts on them: no audit runs, and no stake is asked for.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use chain::{Chain, ChainError, Model, Params};
use protocol::{ModelDigest, voucher::payee::WORTH_THE_GAS};

use super::{
    Live,
    view::{ListedModel, RulesView},
};
use crate::node::Inner;

/// How often it is read: what a vote changed is obeyed well within a minute of its final block.
const LOOK: Duration = Duration::from_secs(20);
/// The same while it could not be read.
const RETRY: Duration = Duration::from_secs(3);
/// Figures of the contracts are parts of this many.
pub(super) const PARTS: u128 = 10_000;

/// What final blocks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) params: Params,
    pub(super) models: Vec<Model>,
}

/// Reads it until the network is closed.
pub(super) async fn keep(inner: Arc<Inner>, weak: Weak<Live>) {
    let Some(chain) = weak.upgrade().map(|live| live.chain.clone()) else {
        return;
    };
    loop {
        let read = tokio::select! {
            () = inner.stop.cancelled() => return,
            read = read(&chain) => read,
        };
        let Some(live) = weak.upgrade() else { return };
        let wait = match read {
            Ok(rules) => {
                live.rules.send_replace(Some(rules));
                LOOK
            }
            Err(error) => {
                tracing::debug!(%error, "what votes have set could not be read");
                RETRY
            }
        };
        drop(live);
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

pub(super) async fn read(chain: &Chain) -> Result<Rules, ChainError> {
    Ok(Rules {
        params: chain.params().await?,
        models: chain.models().await?,
    })
}

impl Live {
    /// What has to be owed for its claim to be worth its gas, the fee on claims included; zero where nobody is paid here.
    pub(super) fn worth_claiming(&self) -> u128 {
        let Some(till) = &self.till else { return 0 };
        worth_claiming(till.costs().claim, self.fee_bps())
    }

    /// What is taken of claims, in parts of 10,000; none before it was read.
    pub(super) fn fee_bps(&self) -> u16 {
        let rules = self.rules.borrow();
        rules.as_ref().map_or(0, |rules| rules.params.fee.bps)
    }
}

/// The fee is taken out of what is claimed: what is left has to be worth the gas.
fn worth_claiming(claim_gas: u128, fee_bps: u16) -> u128 {
    let net = claim_gas.saturating_mul(WORTH_THE_GAS);
    let left = PARTS.saturating_sub(u128::from(fee_bps)).max(1);
    net.saturating_mul(PARTS).div_ceil(left)
}

/// What reaches the payout's owner of a claim, as the vault rounds it.
pub(super) fn after_fee(amount: u128, fee_bps: u16) -> u128 {
    let fee = chain::U256::from(amount) * chain::U256::from(fee_bps) / chain::U256::from(PARTS);
    amount.saturating_sub(u128::try_from(fee).unwrap_or(amount))
}

/// As a shell sees it, with the rows of the models that are listed.
pub(super) fn view(inner: &Inner, rules: &Rules) -> RulesView {
    let Params {
        audit_rate,
        auditor_share_bps,
        slash_bps,
        minimum_stake,
        fee,
        max_minimum_stake: _,
        block,
    } = rules.params;
    RulesView {
        fee_bps: fee.bps,
        audit_rate,
        auditor_share_bps,
        slash_bps,
        minimum_stake: minimum_stake.to_string(),
        block,
        listed: rules
            .models
            .iter()
            .map(|model| ListedModel {
                digest: hex::encode(model.digest),
                licence: model.licence.clone(),
                family: model.family.clone(),
                model: inner
                    .models
                    .by_digest(&ModelDigest::new(model.digest.0))
                    .map(|here| here.id),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_raises_what_is_worth_claiming_so_that_the_rest_still_pays_the_gas() {
        assert_eq!(worth_claiming(1_000, 0), 50_000);
        for bps in [1, 25, 500, 1_000] {
            let worth = worth_claiming(1_000, bps);
            assert!(after_fee(worth, bps) >= 50_000, "{bps}");
            assert!(after_fee(worth - 2, bps) < 50_000, "{bps}");
        }
    }

    #[test]
    fn the_fee_is_rounded_as_the_vault_does() {
        assert_eq!(after_fee(10_000, 250), 9_750);
        // The fee of 39 is 0.975, and nothing is taken.
        assert_eq!(after_fee(39, 250), 39);
        assert_eq!(after_fee(u128::MAX, 10_000), 0);
        assert_eq!(after_fee(u128::MAX, 0), u128::MAX);
    }
}
