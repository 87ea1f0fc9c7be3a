//! Which call of the chain each thing is that the person asks for, and whose transaction.

use std::{sync::Arc, time::Duration};

use chain::{Call, Spender, Start, U256};
use protocol::voucher::Address;

use super::{
    ActError, Live,
    ended::{self, Rest},
    start,
};
use crate::{
    Node, clock,
    wallet::{Change, Intent, Support, WalletProblem, WalletRole},
};

/// How long the key of a device may promise after a deposit: a season. A lost computer's grant ends by itself.
const GRANT_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The part of a deposit that is the bond: it is lost if the key promises too much, and gives strangers a reason to trust it.
const BOND_PART: u128 = 20;
/// Payees whose claims the gas pot pays for once the key has ended.
const GAS_SHARES: u128 = 4;
/// The most of a deposit that goes into the gas pot: one part in this many.
const POT_PART: u128 = 20;
/// A permit is used by the transaction that carries it, minutes later at most.
const PERMIT_LIFE_S: u64 = 60 * 60;
/// The longest grant, in days: what the vault allows.
pub(super) const MAX_DAYS: u32 = 365;

impl Node {
    /// Whose transaction it is, and which.
    pub(super) async fn call(
        &self,
        live: &Arc<Live>,
        intent: &Intent,
    ) -> Result<(WalletRole, Call), ActError> {
        let payer = self.payer_role();
        Ok(match intent {
            Intent::Send { to, asset, amount } => {
                let (to, amount) = (address(to)?, amount.0);
                let call = match asset {
                    crate::wallet::Asset::Token => Call::TransferToken { to, amount },
                    crate::wallet::Asset::Coin => Call::TransferCoin { to, amount },
                };
                (WalletRole::Wallet, call)
            }
            Intent::Withdraw { amount } => {
                let owner = self.address(payer)?;
                (payer, withdraw(live, owner, amount.0).await?)
            }
            Intent::Grant { amount, days } => {
                if !(1..=MAX_DAYS).contains(days) {
                    return Err(ActError::Days);
                }
                let call = Call::SetSigner {
                    signer: self.address(WalletRole::Session)?,
                    add: amount.0,
                    until: live.chain_now() + u64::from(*days) * 24 * 60 * 60,
                    bond: 0,
                    gas_pot: 0,
                };
                (payer, call)
            }
            Intent::EndSigner => {
                let owner = self.address(payer)?;
                let lost = self
                    .inner
                    .ledger
                    .lost_signers(owner.into_array(), live.chain_now())
                    .await?;
                // One that was put aside goes first: nobody uses it, and it can still promise.
                let signer = match lost.first() {
                    Some(lost) => Address::from(lost.signer),
                    None => self.address(WalletRole::Session)?,
                };
                (payer, Call::EndSigner { signer })
            }
            Intent::RegisterPayee => {
                let payout = self.address(WalletRole::Wallet)?;
                (WalletRole::Operator, Call::RegisterPayee { payout })
            }
            Intent::Join => (WalletRole::Wallet, self.join(live).await?),
            Intent::Unjoin => {
                let payee = self.address(WalletRole::Operator)?;
                (WalletRole::Wallet, Call::Unjoin { payee })
            }
            Intent::Delegate { to } => (WalletRole::Wallet, Call::Delegate { to: address(to)? }),
            Intent::Wrap { amount } => {
                let owner = self.address(WalletRole::Wallet)?;
                let allowed = live.chain.allowance(owner, Spender::Votes).await?;
                let call = match allowed < amount.0 {
                    // The first of two: the wrapper may take exactly this much.
                    true => Call::Approve {
                        spender: Spender::Votes,
                        amount: amount.0,
                    },
                    false => Call::Wrap { amount: amount.0 },
                };
                (WalletRole::Wallet, call)
            }
            Intent::Unwrap { amount } => (WalletRole::Wallet, Call::Unwrap { amount: amount.0 }),
            Intent::Faucet => {
                let to = self.address(payer)?;
                (payer, Call::Faucet { to })
            }
            Intent::Claim { claims } => (WalletRole::Wallet, claims.call(live.network())?),
            Intent::Vote { id, support } => {
                let call = Call::Vote {
                    id: id
                        .parse::<U256>()
                        .map_err(|_| ActError::NoProposal(id.clone()))?,
                    support: match support {
                        Support::Against => chain::Support::Against,
                        Support::For => chain::Support::For,
                        Support::Abstain => chain::Support::Abstain,
                    },
                    reason: String::new(),
                };
                (WalletRole::Wallet, call)
            }
            Intent::Queue { id } => (WalletRole::Wallet, Call::Queue(motion(live, id).await?)),
            Intent::Execute { id } => (WalletRole::Wallet, Call::Execute(motion(live, id).await?)),
            Intent::Relay { start } => (
                WalletRole::Wallet,
                start::bring(start, live.chain.network())?,
            ),
            Intent::Propose {
                title,
                description,
                changes,
            } => {
                let changes = changes
                    .iter()
                    .map(|change| read_change(live, change))
                    .collect::<Result<_, _>>()?;
                let call = Call::Propose {
                    changes,
                    description: format!("# {title}\n\n{description}"),
                };
                (WalletRole::Wallet, call)
            }
            Intent::Create
            | Intent::Import
            | Intent::Unlock
            | Intent::ShowWords
            | Intent::ConfirmWords
            | Intent::Export
            | Intent::Remember
            | Intent::ChangePassword
            | Intent::SignStart { .. }
            | Intent::Deposit { .. }
            | Intent::SpeedUp { .. }
            | Intent::Cancel { .. } => return Err(WalletProblem::NothingToSign.into()),
        })
    }

    /// What this node earns, for the key of this device, which lives as long as after a deposit made now.
    async fn join(&self, live: &Live) -> Result<Call, ActError> {
        let owner = self.address(WalletRole::Wallet)?;
        let signer = self.address(WalletRole::Session)?;
        let known = live.chain.signer(owner, signer).await?;
        let until = live.chain_now() + GRANT_LIFE.as_secs();
        Ok(Call::Join {
            payee: self.address(WalletRole::Operator)?,
            signer,
            // A life is never made shorter.
            until: known.map_or(until, |signer| signer.until.max(until)),
        })
    }

    /// Tokens into the vault, and the key of this device with a grant out of them.
    pub(super) async fn deposit(
        &self,
        live: &Live,
        payer: WalletRole,
        amount: u128,
    ) -> Result<Start, ActError> {
        let address = self.address(payer)?;
        let signer = self.address(WalletRole::Session)?;
        let deadline = live.chain_now() + PERMIT_LIFE_S;
        first_steps(live, address, signer, (amount, 0), deadline).await
    }
}

/// Whether a call only makes way for what was asked for.
pub(super) fn comes_first(intent: &Intent, call: &Call) -> bool {
    matches!(
        (intent, call),
        (Intent::Wrap { .. }, Call::Approve { .. }) | (Intent::Withdraw { .. }, Call::Thaw { .. })
    )
}

/// Tokens out of the vault. Where too few are free, what an ended key has left is taken back first.
async fn withdraw(live: &Live, payer: Address, amount: u128) -> Result<Call, ActError> {
    if live.chain.account(payer).await?.vault_balance < amount {
        let now = live.chain_now();
        let ended = ended::signers(&live.chain, &live.ledger, payer).await?;
        let due = ended.iter().find(|(_, view)| Rest::of(view, now).due > 0);
        if let Some((signer, _)) = due {
            return Ok(Call::Thaw {
                payer,
                signer: *signer,
            });
        }
    }
    Ok(Call::Withdraw { amount })
}

fn address(text: &str) -> Result<Address, ActError> {
    // The mixed case of an address is its checksum: one that has it and does not hold is a typing error.
    let bare = text.trim();
    let digits = bare.strip_prefix("0x").unwrap_or_default();
    let mixed = digits.chars().any(|digit| digit.is_ascii_uppercase())
        && digits.chars().any(|digit| digit.is_ascii_lowercase());
    let read = match mixed {
        true => Address::parse_checksummed(bare, None).ok(),
        false => bare.parse().ok(),
    };
    read.ok_or_else(|| ActError::NoAddress(text.to_owned()))
}

/// A deposit, and this device's key with what of it is left after the bond, the pot for late claims and the share of who brings
/// it.
pub(super) async fn first_steps(
    live: &Live,
    payer: Address,
    signer: Address,
    (amount, relayer_fee): (u128, u128),
    deadline: u64,
) -> Result<Start, ActError> {
    let terms = live.chain.vault_terms().await?;
    let bond = amount / BOND_PART;
    let gas_pot = terms
        .gas_share
        .saturating_mul(GAS_SHARES)
        .min(amount / POT_PART);
    let grant = (amount - bond - gas_pot)
        .checked_sub(relayer_fee)
        .filter(|grant| *grant > 0)
        .ok_or(ActError::FeeTooHigh)?;
    Ok(Start {
        payer,
        deposit: amount,
        signer,
        grant,
        until: live.chain_now() + GRANT_LIFE.as_secs(),
        bond,
        gas_pot,
        relayer_fee,
        // Any number that was not used: the time of now in milliseconds.
        nonce: U256::from(clock::unix_ms()),
        deadline: U256::from(deadline),
    })
}

/// The calls of a proposal, as the chain has them.
pub(super) async fn motion(live: &Live, id: &str) -> Result<chain::Motion, ActError> {
    let none = || ActError::NoProposal(id.to_owned());
    let number: U256 = id.parse().map_err(|_| none())?;
    let proposals = live.chain.proposals().await?;
    let mut proposals = proposals.into_iter();
    proposals
        .find(|proposal| proposal.id == number)
        .map(|proposal| proposal.motion)
        .ok_or_else(none)
}

/// A model as it is proposed: digest of the file, licence, family and digest of its card, with a blank between them.
fn listing(value: &str) -> Option<chain::Model> {
    let parts: Vec<&str> = value.split_whitespace().collect();
    let [digest, licence, family, card] = parts.as_slice() else {
        return None;
    };
    Some(chain::Model {
        digest: digest.parse().ok()?,
        licence: (*licence).to_owned(),
        family: (*family).to_owned(),
        card: card.parse().ok()?,
    })
}

fn read_change(live: &Live, change: &Change) -> Result<chain::Change, ActError> {
    let bad = || ActError::NoChange {
        what: change.what.clone(),
        value: change.value.clone(),
    };
    let small = || change.value.parse::<u16>().map_err(|_| bad());
    Ok(match change.what.as_str() {
        "audit_rate" => chain::Change::AuditRate(small()?),
        "auditor_share" => chain::Change::AuditorShare(small()?),
        "slash" => chain::Change::Slash(small()?),
        "minimum_stake" => {
            chain::Change::MinimumStake(super::settings::sum(&change.value).ok_or_else(bad)?)
        }
        "model_add" => chain::Change::ListModel(listing(&change.value).ok_or_else(bad)?),
        "model_remove" => chain::Change::DropModel {
            digest: change.value.parse().map_err(|_| bad())?,
        },
        // What the vault takes goes to those who decide over it.
        "fee" => chain::Change::Fee {
            bps: small()?,
            to: live.chain.network().timelock,
        },
        _ => return Err(bad()),
    })
}
