//! What the contracts say, at the newest final block.

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolEvent,
};
use futures::try_join;

use crate::{
    abi::{DgcDev, NetworkParams, PayVault, ProviderStake, VoteDgc},
    call::Spender,
    chain::Chain,
    error::ChainError,
    events::ranges::{self, Length},
    reason::amount,
};

/// No reservation lives longer: the vault's bound, in milliseconds.
const MAX_RESERVATION_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// What an account has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Of the chain's coin, in its smallest unit.
    pub coin: u128,
    /// Of the token, in base units.
    pub token: u128,
    /// The number that its next permit carries.
    pub token_nonce: U256,
    /// In the vault and in no grant, in base units.
    pub vault_balance: u128,
    /// The block at which it was so.
    pub block: u64,
}

/// A signer of a payer. Amounts in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerView {
    /// What it may sign for in all; only grows.
    pub granted: u128,
    /// What was paid out of it.
    pub spent: u128,
    /// The part of the rest that reservations hold.
    pub locked: u128,
    /// From then on it signs nothing that counts; seconds since 1970.
    pub until: u64,
    /// What an overdraft costs.
    pub bond: u128,
    /// What payees get for claiming late.
    pub gas_pot: u128,
    /// `until` has passed on the chain.
    pub ended: bool,
    /// What was left was given back, or may not be drawn any more.
    pub thawed: bool,
    /// An overdraft of it was shown.
    pub contested: bool,
}

/// What was claimed and reserved between a payer's signer and a payee. Amounts in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineView {
    /// The sum of all that was paid on it.
    pub claimed: u128,
    /// The level that is reserved.
    pub reserved_upto: u128,
    /// Until when; seconds since 1970, zero where nothing is.
    pub reserved_until: u64,
    /// Of its last reservation: the next one needs a higher one.
    pub nonce: u64,
    /// Its share of the signer's gas pot was paid.
    pub gas_paid: bool,
}

/// A case of overdraft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverdraftView {
    /// When the grant has to be mended; zero where there is no case.
    pub mend_by: u64,
    /// No new case before then.
    pub calm_until: u64,
    /// Who showed it.
    pub reporter: Address,
    /// What was promised at least: what was spent, and what shown promises are above it.
    pub promised: U256,
    /// What is open of the shown promises, beyond what reservations hold.
    pub open: U256,
    /// What there is to share of them, once it is decided; base units.
    pub share: u128,
    /// What is left of the grant is being shared.
    pub decided: bool,
}

/// The fee on claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fee {
    /// In parts of 10,000.
    pub bps: u16,
    /// Who gets it.
    pub to: Address,
}

/// What votes set, and within which bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Jobs that are audited, in parts of 10,000.
    pub audit_rate: u16,
    /// The auditors' part of the fee, in parts of 10,000.
    pub auditor_share_bps: u16,
    /// The first slash of a stake, in parts of 10,000.
    pub slash_bps: u16,
    /// What is asked of a provider, in base units.
    pub minimum_stake: u128,
    /// The fee on claims.
    pub fee: Fee,
    /// The highest `minimum_stake` that a vote can set.
    pub max_minimum_stake: u128,
    /// The block at which it was so.
    pub block: u64,
}

/// What the vault was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultTerms {
    /// What a line gets out of the gas pot of an ended signer, once; base units.
    pub gas_share: u128,
    /// What who shows an overdraft gets out of the bond, half of it at most; base units.
    pub report_reward: u128,
}

/// A provider's stake. Amounts in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StakeView {
    /// What is put down.
    pub amount: u128,
    /// What is on its way out.
    pub thawing: u128,
    /// When that can be taken; seconds since 1970.
    pub thaws_at: u64,
    /// How many faults were shown.
    pub faults: u32,
    /// What waits to be taken for faults that it showed.
    pub reward: u128,
}

/// An operator key, as the stake knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorView {
    /// Whose stake answers for it.
    pub owner: Address,
    /// From then on it does not; zero while it is in use.
    pub lapses_at: u64,
    /// A fault of it was shown.
    pub slashed: bool,
}

impl Chain {
    /// What an account has.
    ///
    /// # Errors
    /// Of every read: [`ChainError::NotYet`] before the first final block, [`ChainError::Offline`],
    /// [`ChainError::Disagree`], and [`ChainError::Answer`] for an answer that is none.
    pub async fn account(&self, address: Address) -> Result<Account, ChainError> {
        let block = self.inner.last_final()?;
        self.account_at(address, block).await
    }

    pub(crate) async fn account_at(
        &self,
        address: Address,
        block: u64,
    ) -> Result<Account, ChainError> {
        let chain = &self.inner;
        let token = chain.network.token.address;
        let balance = DgcDev::balanceOfCall { account: address };
        let nonces = DgcDev::noncesCall { owner: address };
        let in_vault = PayVault::balanceOfCall { payer: address };
        let (coin, tokens, token_nonce, vault_balance) = try_join!(
            chain.endpoints.balance(address, block),
            chain.read(token, &balance, block),
            chain.read(token, &nonces, block),
            chain.read(chain.network.vault, &in_vault, block),
        )?;
        Ok(Account {
            coin: amount("a balance", coin)?,
            token: amount("a balance", tokens)?,
            token_nonce,
            vault_balance,
            block,
        })
    }

    /// What a contract of the network may take of an account's tokens, in base units.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn allowance(&self, owner: Address, spender: Spender) -> Result<u128, ChainError> {
        let chain = &self.inner;
        let call = DgcDev::allowanceCall {
            owner,
            spender: spender.address(&chain.network),
        };
        let allowed = chain
            .read(chain.network.token.address, &call, chain.last_final()?)
            .await?;
        // An allowance without end is more than fits, and more than anybody has.
        Ok(u128::try_from(allowed).unwrap_or(u128::MAX))
    }

    /// The hash of a block: whether this is still the chain that was seen before.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn block_hash(&self, number: u64) -> Result<B256, ChainError> {
        Ok(self.inner.endpoints.block(number).await?.hash)
    }

    /// A signer of a payer; `None` where it was never granted anything.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn signer(
        &self,
        payer: Address,
        signer: Address,
    ) -> Result<Option<SignerView>, ChainError> {
        let tip = self.inner.tip().ok_or(ChainError::NotYet)?.last_final;
        let call = PayVault::signerOfCall { payer, signer };
        let it = self
            .inner
            .read(self.inner.network.vault, &call, tip.number)
            .await?;
        Ok((it.until != 0).then_some(SignerView {
            granted: it.granted,
            spent: it.spent,
            locked: it.locked,
            until: it.until,
            bond: it.bond,
            gas_pot: it.gasPot,
            ended: it.until <= tip.time,
            thawed: it.thawed,
            contested: it.contested,
        }))
    }

    /// A line; all zero where nothing was ever claimed or reserved on it.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn line(
        &self,
        payer: Address,
        signer: Address,
        payee: Address,
    ) -> Result<LineView, ChainError> {
        let call = PayVault::lineOfCall {
            payer,
            signer,
            payee,
        };
        let it = self.vault(&call).await?;
        Ok(LineView {
            claimed: it.claimed,
            reserved_upto: it.reservedUpto,
            reserved_until: it.reservedUntil,
            nonce: it.nonce,
            gas_paid: it.gasPaid,
        })
    }

    /// The case of overdraft of a signer, as far as there is one.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn overdraft(
        &self,
        payer: Address,
        signer: Address,
    ) -> Result<OverdraftView, ChainError> {
        let it = self
            .vault(&PayVault::overdraftOfCall { payer, signer })
            .await?;
        Ok(OverdraftView {
            mend_by: it.mendBy,
            calm_until: it.calmUntil,
            reporter: it.reporter,
            promised: it.promised,
            open: it.open,
            share: it.share,
            decided: it.decided,
        })
    }

    /// For whom a signer's reservations were brought that may still be live, by the vault's events: sorted, each once. One that was
    /// given up is among them.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn reserved_payees(
        &self,
        payer: Address,
        signer: Address,
    ) -> Result<Vec<Address>, ChainError> {
        let chain = &self.inner;
        let last = chain.last_final()?;
        let blocks = MAX_RESERVATION_MS / chain.network.block_ms.max(1);
        let first = last.saturating_sub(blocks);
        let mut next = first.max(chain.network.gas.first_block);
        let mut length = Length::default();
        let mut payees = BTreeSet::new();
        while next <= last {
            let (at, topics) = (chain.network.vault, [PayVault::Reserved::SIGNATURE_HASH]);
            let (events, end) =
                ranges::next(&chain.endpoints, &mut length, at, &topics, next, last).await?;
            let reserved = events.iter().filter_map(|event| {
                let held = PayVault::Reserved::decode_log(&event.log).ok()?.data;
                (held.payer == payer && held.signer == signer).then_some(held.payee)
            });
            payees.extend(reserved);
            next = end.saturating_add(1);
        }
        Ok(payees.into_iter().collect())
    }

    /// Where the claims of a payee go; `None` where it never said.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn payout(&self, payee: Address) -> Result<Option<Address>, ChainError> {
        let payout = self.vault(&PayVault::payoutOfCall { payee }).await?;
        Ok((!payout.is_zero()).then_some(payout))
    }

    /// Which signer of its payout the claims of a payee are kept in the vault for; `None` where they leave it.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn joined(&self, payee: Address) -> Result<Option<Address>, ChainError> {
        let signer = self.vault(&PayVault::joinedToCall { payee }).await?;
        Ok((!signer.is_zero()).then_some(signer))
    }

    /// The fee on claims.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn fee(&self) -> Result<Fee, ChainError> {
        let (bps, to) = (PayVault::feeBpsCall {}, PayVault::feeToCall {});
        let (bps, to) = try_join!(self.vault(&bps), self.vault(&to))?;
        Ok(Fee { bps, to })
    }

    /// What the vault was made with; it never changes.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn vault_terms(&self) -> Result<VaultTerms, ChainError> {
        let (share, reward) = (PayVault::GAS_SHARECall {}, PayVault::REPORT_REWARDCall {});
        let (gas_share, report_reward) = try_join!(self.vault(&share), self.vault(&reward))?;
        Ok(VaultTerms {
            gas_share,
            report_reward,
        })
    }

    /// What votes have set.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn params(&self) -> Result<Params, ChainError> {
        let block = self.inner.last_final()?;
        let chain = &self.inner;
        let at = chain.network.params;
        let (audit, share, slash, minimum, most) = (
            NetworkParams::auditRateCall {},
            NetworkParams::auditorShareBpsCall {},
            NetworkParams::slashBpsCall {},
            NetworkParams::minimumStakeCall {},
            NetworkParams::MAX_MINIMUM_STAKECall {},
        );
        let (audit_rate, auditor_share_bps, slash_bps, minimum_stake, max_minimum_stake, fee) = try_join!(
            chain.read(at, &audit, block),
            chain.read(at, &share, block),
            chain.read(at, &slash, block),
            chain.read(at, &minimum, block),
            chain.read(at, &most, block),
            self.fee(),
        )?;
        Ok(Params {
            audit_rate,
            auditor_share_bps,
            slash_bps,
            minimum_stake,
            fee,
            max_minimum_stake,
            block,
        })
    }

    /// What an owner has put down.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn stake(&self, owner: Address) -> Result<StakeView, ChainError> {
        let block = self.inner.last_final()?;
        let at = self.inner.network.stake;
        let stake = ProviderStake::stakeOfCall { owner };
        let reward = ProviderStake::rewardOfCall { who: owner };
        let (stake, reward) = try_join!(
            self.inner.read(at, &stake, block),
            self.inner.read(at, &reward, block),
        )?;
        Ok(StakeView {
            amount: stake.amount,
            thawing: stake.thawing,
            thaws_at: stake.thawsAt,
            faults: stake.faults,
            reward,
        })
    }

    /// An operator key; `None` where no stake answers for it.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub async fn operator(&self, operator: Address) -> Result<Option<OperatorView>, ChainError> {
        let block = self.inner.last_final()?;
        let call = ProviderStake::operatorOfCall { operator };
        let it = self
            .inner
            .read(self.inner.network.stake, &call, block)
            .await?;
        Ok((!it.owner.is_zero()).then_some(OperatorView {
            owner: it.owner,
            lapses_at: it.lapsesAt,
            slashed: it.slashed,
        }))
    }

    /// Asks the contracts whether they are those of the network file: code is there, the vault holds this token and signs
    /// in this domain, and what votes set is set by this timelock alone.
    ///
    /// # Errors
    /// [`ChainError::Contract`] with the first that is not; else as [`Chain::account`].
    pub async fn verify(&self) -> Result<(), ChainError> {
        let block = self.inner.last_final()?;
        let chain = &self.inner;
        let network = &chain.network;
        for (contract, address) in network.contracts() {
            if chain.endpoints.code(address, block).await?.is_empty() {
                return Err(ChainError::Contract {
                    contract,
                    address,
                    problem: "there is no code".to_owned(),
                });
            }
        }
        let token = self.vault(&PayVault::TOKENCall {}).await?;
        same(
            "vault",
            network.vault,
            "its token",
            token,
            network.token.address,
        )?;
        let setter = self.vault(&PayVault::FEE_SETTERCall {}).await?;
        same(
            "vault",
            network.vault,
            "who sets its fee",
            setter,
            network.timelock,
        )?;
        let domain = self.vault(&PayVault::domainSeparatorCall {}).await?;
        let ours = crate::typed::vault_domain(network).separator();
        same("vault", network.vault, "its signing domain", domain, ours)?;
        let permits = chain
            .read(
                network.token.address,
                &DgcDev::DOMAIN_SEPARATORCall {},
                block,
            )
            .await?;
        let ours: B256 = crate::typed::token_domain(network).separator();
        same(
            "token",
            network.token.address,
            "the domain of its permits",
            permits,
            ours,
        )?;
        let wrapped = chain
            .read(network.votes, &VoteDgc::underlyingCall {}, block)
            .await?;
        same(
            "votes",
            network.votes,
            "what it wraps",
            wrapped,
            network.token.address,
        )?;
        let setter = chain
            .read(network.params, &NetworkParams::SETTERCall {}, block)
            .await?;
        same(
            "params",
            network.params,
            "who sets them",
            setter,
            network.timelock,
        )
    }

    async fn vault<C: alloy::sol_types::SolCall>(&self, call: &C) -> Result<C::Return, ChainError> {
        let block = self.inner.last_final()?;
        self.inner.read(self.inner.network.vault, call, block).await
    }
}

fn same<T: PartialEq + std::fmt::Display>(
    contract: &'static str,
    address: Address,
    what: &str,
    is: T,
    should: T,
) -> Result<(), ChainError> {
    if is == should {
        return Ok(());
    }
    Err(ChainError::Contract {
        contract,
        address,
        problem: format!("{what} is {is} and not {should}"),
    })
}
