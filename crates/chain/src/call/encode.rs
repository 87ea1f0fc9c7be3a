//! From a call to a transaction's target, value and data.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolCall,
};

use super::{Call, CallError, ClaimRow, FinalRow, MAX_DESCRIPTION, MAX_ROWS, PromiseRow, Request};
use crate::{
    abi::{DgcDev, DgcGovernor, MemoryRegistry, PayVault, ProviderStake, VoteDgc},
    key::CompactSignature,
    network::Network,
    typed::Start,
    votes::Motion,
};

impl Call {
    /// The transaction's target, value and data. One arm per thing: there is nothing to share.
    pub(crate) fn encode(&self, network: &Network, from: Address) -> Result<Request, CallError> {
        let (token, vault, stake) = (network.token.address, network.vault, network.stake);
        Ok(match self {
            Self::TransferCoin { to, amount } => {
                not_lost(network, *to)?;
                Request {
                    to: *to,
                    value: U256::from(*amount),
                    input: Bytes::new(),
                }
            }
            Self::TransferToken { to, amount } => {
                not_lost(network, *to)?;
                let value = U256::from(*amount);
                at(token, &DgcDev::transferCall { to: *to, value })
            }
            Self::Approve { spender, amount } => at(
                token,
                &DgcDev::approveCall {
                    spender: spender.address(network),
                    value: U256::from(*amount),
                },
            ),
            Self::Faucet { to } => {
                if !network.faucet {
                    return Err(not_here(network, "faucet"));
                }
                at(token, &DgcDev::faucetCall { to: *to })
            }
            Self::Deposit {
                amount,
                permit,
                nonce,
            } => at(
                vault,
                &PayVault::startCall {
                    intent: (&Start::deposit(from, *amount, *nonce)).into(),
                    permit: permit.as_ref().into(),
                },
            ),
            Self::Start { start, permit } => {
                if start.payer != from {
                    return Err(CallError::NotPayer {
                        from,
                        payer: start.payer,
                    });
                }
                at(
                    vault,
                    &PayVault::startCall {
                        intent: start.into(),
                        permit: permit.as_ref().into(),
                    },
                )
            }
            Self::StartFor {
                start,
                permit,
                signature,
            } => {
                let (r, vs) = halves(signature);
                at(
                    vault,
                    &PayVault::startForCall {
                        intent: start.into(),
                        permit: permit.as_ref().into(),
                        r,
                        vs,
                    },
                )
            }
            Self::SetSigner {
                signer,
                add,
                until,
                bond,
                gas_pot,
            } => at(
                vault,
                &PayVault::setSignerCall {
                    signer: *signer,
                    add: *add,
                    until: *until,
                    bond: *bond,
                    gasPot: *gas_pot,
                },
            ),
            Self::EndSigner { signer } => at(vault, &PayVault::endSignerCall { signer: *signer }),
            Self::Thaw { payer, signer } => at(
                vault,
                &PayVault::thawCall {
                    payer: *payer,
                    signer: *signer,
                },
            ),
            Self::Withdraw { amount } => at(vault, &PayVault::withdrawCall { amount: *amount }),
            Self::RegisterPayee { payout } => {
                not_lost(network, *payout)?;
                at(vault, &PayVault::registerPayeeCall { payout: *payout })
            }
            Self::MovePayout { payee, payout } => {
                not_lost(network, *payout)?;
                at(
                    vault,
                    &PayVault::movePayoutCall {
                        payee: *payee,
                        payout: *payout,
                    },
                )
            }
            Self::Join {
                payee,
                signer,
                until,
            } => at(
                vault,
                &PayVault::joinCall {
                    payee: *payee,
                    signer: *signer,
                    until: *until,
                },
            ),
            Self::Unjoin { payee } => at(vault, &PayVault::unjoinCall { payee: *payee }),
            Self::Reserve {
                payer,
                payee,
                upto,
                until,
                nonce,
                signature,
            } => {
                let (r, vs) = halves(signature);
                at(
                    vault,
                    &PayVault::reserveCall {
                        payer: *payer,
                        payee: *payee,
                        upto: *upto,
                        until: *until,
                        nonce: *nonce,
                        r,
                        vs,
                    },
                )
            }
            Self::Claim { payee, rows } => at(
                vault,
                &PayVault::claimCall {
                    payee: *payee,
                    rows: bounded(rows)?.iter().map(claim_row).collect(),
                },
            ),
            Self::Release {
                payer,
                signer,
                payee,
            } => at(
                vault,
                &PayVault::releaseCall {
                    payer: *payer,
                    signer: *signer,
                    payee: *payee,
                },
            ),
            Self::ProveOverdraft {
                payer,
                signer,
                rows,
            } => {
                let mut rows = bounded(rows)?.to_vec();
                // As the vault wants them: one for each payee, sorted.
                rows.sort_by_key(|row| row.payee);
                at(
                    vault,
                    &PayVault::proveOverdraftCall {
                        payer: *payer,
                        signer: *signer,
                        rows: rows.iter().map(promise_row).collect(),
                    },
                )
            }
            Self::SettleOverdraft {
                payer,
                signer,
                payees,
            } => at(
                vault,
                &PayVault::settleOverdraftCall {
                    payer: *payer,
                    signer: *signer,
                    payees: bounded(payees)?.to_vec(),
                },
            ),
            Self::Stake { amount } => at(stake, &ProviderStake::stakeCall { amount: *amount }),
            Self::SetOperator {
                operator,
                signature,
            } => {
                let (r, vs) = halves(signature);
                at(
                    stake,
                    &ProviderStake::setOperatorCall {
                        operator: *operator,
                        r,
                        vs,
                    },
                )
            }
            Self::RetireOperator { operator } => at(
                stake,
                &ProviderStake::retireOperatorCall {
                    operator: *operator,
                },
            ),
            Self::ThawStake { amount } => at(stake, &ProviderStake::thawCall { amount: *amount }),
            Self::Unstake => at(stake, &ProviderStake::unstakeCall {}),
            Self::TakeReward => at(stake, &ProviderStake::takeRewardCall {}),
            Self::Slash(finals) => {
                let [a, b] = finals.as_ref();
                let ((ra, vsa), (rb, vsb)) = (halves(&a.signature), halves(&b.signature));
                at(
                    stake,
                    &ProviderStake::slashCall {
                        a: a.into(),
                        ra,
                        vsa,
                        b: b.into(),
                        rb,
                        vsb,
                    },
                )
            }
            Self::Wrap { amount } => at(
                network.votes,
                &VoteDgc::depositForCall {
                    account: from,
                    value: U256::from(*amount),
                },
            ),
            Self::Unwrap { amount } => at(
                network.votes,
                &VoteDgc::withdrawToCall {
                    account: from,
                    value: U256::from(*amount),
                },
            ),
            Self::Delegate { to } => at(network.votes, &VoteDgc::delegateCall { delegatee: *to }),
            Self::Vote {
                id,
                support,
                reason,
            } => at(
                network.governor,
                &DgcGovernor::castVoteWithReasonCall {
                    proposalId: *id,
                    support: support.number(),
                    reason: short(reason)?.to_owned(),
                },
            ),
            Self::Propose {
                changes,
                description,
            } => {
                bounded(changes)?;
                let motion = Motion::new(network, changes, short(description)?);
                at(
                    network.governor,
                    &DgcGovernor::proposeCall {
                        values: motion.values,
                        targets: motion.targets,
                        calldatas: motion.calldatas,
                        description: motion.description,
                    },
                )
            }
            Self::Queue(motion) => at(
                network.governor,
                &DgcGovernor::queueCall {
                    targets: motion.targets.clone(),
                    values: motion.values.clone(),
                    calldatas: motion.calldatas.clone(),
                    descriptionHash: motion.description_hash(),
                },
            ),
            Self::Execute(motion) => at(
                network.governor,
                &DgcGovernor::executeCall {
                    targets: motion.targets.clone(),
                    values: motion.values.clone(),
                    calldatas: motion.calldatas.clone(),
                    descriptionHash: motion.description_hash(),
                },
            ),
            Self::PointMemory {
                manifest,
                generation,
            } => at(
                network
                    .memory
                    .ok_or_else(|| not_here(network, "registry of backups"))?,
                &MemoryRegistry::pointCall {
                    manifest: *manifest,
                    generation: *generation,
                },
            ),
        })
    }
}

fn at<C: SolCall>(to: Address, call: &C) -> Request {
    Request {
        to,
        value: U256::ZERO,
        input: call.abi_encode().into(),
    }
}

fn not_here(network: &Network, what: &'static str) -> CallError {
    CallError::NotHere {
        network: network.title.clone(),
        what,
    }
}

/// None of the contracts can send on what is transferred to it.
fn not_lost(network: &Network, to: Address) -> Result<(), CallError> {
    if to.is_zero() {
        return Err(CallError::Lost {
            to,
            what: "nobody's",
        });
    }
    match network.contract_at(to) {
        Some(what) => Err(CallError::Lost { to, what }),
        None => Ok(()),
    }
}

fn bounded<T>(rows: &[T]) -> Result<&[T], CallError> {
    if rows.is_empty() || rows.len() > MAX_ROWS {
        return Err(CallError::Rows { rows: rows.len() });
    }
    Ok(rows)
}

fn short(text: &str) -> Result<&str, CallError> {
    if text.len() > MAX_DESCRIPTION {
        return Err(CallError::Description { bytes: text.len() });
    }
    Ok(text)
}

fn halves(signature: &CompactSignature) -> (B256, B256) {
    (
        B256::from_slice(&signature[..32]),
        B256::from_slice(&signature[32..]),
    )
}

fn claim_row(row: &ClaimRow) -> PayVault::Claim {
    let (r, vs) = halves(&row.signature);
    PayVault::Claim {
        payer: row.payer,
        cumulative: row.cumulative,
        work: row.work,
        r,
        vs,
    }
}

fn promise_row(row: &PromiseRow) -> PayVault::Promise {
    let (r, vs) = halves(&row.signature);
    PayVault::Promise {
        payee: row.payee,
        amount: row.amount,
        until: row.until,
        nonce: row.nonce,
        work: row.work,
        r,
        vs,
    }
}

impl From<&FinalRow> for ProviderStake::Final {
    fn from(row: &FinalRow) -> Self {
        Self {
            job: row.job,
            node: row.node,
            model: row.model,
            output: row.output,
            outTokens: row.out_tokens,
            expiry: row.expiry,
        }
    }
}
