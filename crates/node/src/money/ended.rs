//! What keys that have ended have left in the vault, and when it can be taken back.

use chain::{Chain, SignerView};
use ledger::{Ledger, THAW_S};
use protocol::voucher::Address;

use super::act::ActError;

/// What is left of ended keys, in base units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rest {
    /// Rests of grants, bonds and gas pots. Payees may still claim of it.
    pub(super) left: u128,
    /// The part of it that can be taken back now.
    pub(super) due: u128,
    /// When the next part of it can be, in Unix seconds.
    pub(super) next_s: Option<u64>,
}

/// Every key of this computer for a payer whose time is over, as the chain has it: also one whose books were lost.
pub(super) async fn signers(
    chain: &Chain,
    ledger: &Ledger,
    payer: Address,
) -> Result<Vec<(Address, SignerView)>, ActError> {
    let mut ended = Vec::new();
    for signer in ledger.signers_of(payer.into_array()).await? {
        let signer = Address::from(signer);
        if let Some(view) = chain.signer(payer, signer).await?
            && view.ended
        {
            ended.push((signer, view));
        }
    }
    Ok(ended)
}

/// What of a grant was neither paid out nor given back.
fn grant_left(view: &SignerView) -> u128 {
    match view.thawed {
        true => 0,
        false => view.granted.saturating_sub(view.spent),
    }
}

impl Rest {
    /// Of one key: the rest of its grant comes back one thaw after its end, bond and gas pot after two.
    pub(super) fn of(view: &SignerView, now_s: u64) -> Self {
        let parts = [
            (grant_left(view), 1),
            (view.bond.saturating_add(view.gas_pot), 2),
        ];
        let mut rest = Self::default();
        for (amount, thaws) in parts.into_iter().filter(|(amount, _)| *amount > 0) {
            let from_s = view.until.saturating_add(thaws * THAW_S);
            rest.left = rest.left.saturating_add(amount);
            // What an overdraft was shown of is not decided yet.
            match view.contested {
                true => {}
                false if now_s >= from_s => rest.due = rest.due.saturating_add(amount),
                false => rest.next_s = Some(rest.next_s.map_or(from_s, |next| next.min(from_s))),
            }
        }
        rest
    }

    /// Of several keys.
    pub(super) fn sum(rests: impl Iterator<Item = Self>) -> Self {
        rests.fold(Self::default(), |all, one| Self {
            left: all.left.saturating_add(one.left),
            due: all.due.saturating_add(one.due),
            next_s: [all.next_s, one.next_s].into_iter().flatten().min(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_comes_back_after_one_thaw_and_the_bond_after_two() {
        let view = SignerView {
            granted: 10,
            spent: 4,
            locked: 0,
            until: 1_000,
            bond: 1,
            gas_pot: 2,
            ended: true,
            thawed: false,
            contested: false,
        };
        let (first, second) = (1_000 + THAW_S, 1_000 + 2 * THAW_S);
        let rest = |due, next_s| Rest {
            left: 9,
            due,
            next_s,
        };
        assert_eq!(Rest::of(&view, first - 1), rest(0, Some(first)));
        assert_eq!(Rest::of(&view, first), rest(6, Some(second)));
        assert_eq!(Rest::of(&view, second), rest(9, None));
        let thawed = SignerView {
            thawed: true,
            ..view
        };
        assert_eq!(Rest::of(&thawed, second - 1).due, 0);
        assert_eq!(Rest::of(&thawed, second).due, 3);
        let contested = SignerView {
            contested: true,
            ..view
        };
        assert_eq!(Rest::of(&contested, u64::MAX), rest(0, None));
        let both = Rest::sum([rest(6, Some(second)), rest(0, Some(first))].into_iter());
        let sum = Rest {
            left: 18,
            due: 6,
            next_s: Some(first),
        };
        assert_eq!(both, sum);
    }
}
