//! What proposals do: changes, the calls they become, and what calls of others are.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::{SolCall, SolValue as _},
};

use crate::{
    abi::{ModelRegistry, NetworkParams, PayVault},
    network::{Network, amount_text},
    rpc::endpoint::words,
};

/// More calls than this in one proposal are counted and not decoded.
const MAX_CALLS: usize = 64;

/// What a vote can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Jobs that are audited, in parts of 10,000.
    AuditRate(u16),
    /// The auditors' part of the fee, in parts of 10,000.
    AuditorShare(u16),
    /// The first slash of a stake, in parts of 10,000.
    Slash(u16),
    /// What is asked of a provider, in base units.
    MinimumStake(u128),
    /// The fee on claims, in parts of 10,000, and who gets it.
    Fee {
        /// In parts of 10,000.
        bps: u16,
        /// Who gets it.
        to: Address,
    },
    /// A model that the vote lists.
    ListModel(Model),
    /// One that it lists no more.
    DropModel {
        /// SHA-256 of the file.
        digest: B256,
    },
}

/// A listed model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// SHA-256 of the file.
    pub digest: B256,
    /// SPDX identifier or name of its licence.
    pub licence: String,
    /// Its architecture, as the file names it.
    pub family: String,
    /// SHA-256 of the calibration card.
    pub card: B256,
}

/// The calls of a proposal, as the governor knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Motion {
    /// Whom it calls.
    pub targets: Vec<Address>,
    /// With how much of the coin.
    pub values: Vec<U256>,
    /// With which data.
    pub calldatas: Vec<Bytes>,
    /// In its proposer's words: they bind nobody.
    pub description: String,
}

/// One call of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedCall {
    /// Whom it calls.
    pub target: Address,
    /// With how much of the coin.
    pub value: U256,
    /// With which data.
    pub data: Bytes,
    /// What it changes; `None` where it is none of the things that a vote is for here, and so needs a careful look.
    pub change: Option<Change>,
}

impl Change {
    /// Whom the timelock calls for it, and with which data.
    fn encode(&self, network: &Network) -> (Address, Bytes) {
        let params = network.params;
        let (target, data) = match self {
            Self::AuditRate(rate) => (
                params,
                NetworkParams::setAuditRateCall { rate: *rate }.abi_encode(),
            ),
            Self::AuditorShare(bps) => (
                params,
                NetworkParams::setAuditorShareCall { bps: *bps }.abi_encode(),
            ),
            Self::Slash(bps) => (
                params,
                NetworkParams::setSlashCall { bps: *bps }.abi_encode(),
            ),
            Self::MinimumStake(amount) => (
                params,
                NetworkParams::setMinimumStakeCall { amount: *amount }.abi_encode(),
            ),
            Self::Fee { bps, to } => (
                network.vault,
                PayVault::setFeeCall { bps: *bps, to: *to }.abi_encode(),
            ),
            Self::ListModel(model) => (
                network.models,
                ModelRegistry::listCall {
                    digest: model.digest,
                    licence: model.licence.clone(),
                    family: model.family.clone(),
                    card: model.card,
                }
                .abi_encode(),
            ),
            Self::DropModel { digest } => (
                network.models,
                ModelRegistry::dropCall { digest: *digest }.abi_encode(),
            ),
        };
        (target, data.into())
    }

    fn decode(network: &Network, target: Address, data: &[u8]) -> Option<Self> {
        let change = if target == network.params {
            Self::decode_param(data)?
        } else if target == network.vault {
            let call = PayVault::setFeeCall::abi_decode(data).ok()?;
            Self::Fee {
                bps: call.bps,
                to: call.to,
            }
        } else if target == network.models {
            Self::decode_model(data)?
        } else {
            return None;
        };
        // Bytes behind the arguments, or odd padding, would make a second form of the same: it is shown as unknown.
        (change.encode(network) == (target, Bytes::copy_from_slice(data))).then_some(change)
    }

    fn decode_param(data: &[u8]) -> Option<Self> {
        use NetworkParams as P;
        P::setAuditRateCall::abi_decode(data)
            .map(|call| Self::AuditRate(call.rate))
            .or_else(|_| {
                P::setAuditorShareCall::abi_decode(data).map(|c| Self::AuditorShare(c.bps))
            })
            .or_else(|_| P::setSlashCall::abi_decode(data).map(|call| Self::Slash(call.bps)))
            .or_else(|_| {
                P::setMinimumStakeCall::abi_decode(data).map(|call| Self::MinimumStake(call.amount))
            })
            .ok()
    }

    fn decode_model(data: &[u8]) -> Option<Self> {
        if let Ok(call) = ModelRegistry::dropCall::abi_decode(data) {
            return Some(Self::DropModel {
                digest: call.digest,
            });
        }
        let call = ModelRegistry::listCall::abi_decode(data).ok()?;
        Some(Self::ListModel(Model {
            digest: call.digest,
            licence: words(&call.licence),
            family: words(&call.family),
            card: call.card,
        }))
    }

    /// In words.
    pub fn text(&self, network: &Network) -> String {
        let parts = |bps: u16| format!("{}.{:02} %", bps / 100, bps % 100);
        match self {
            Self::AuditRate(rate) => format!("Audited jobs: {}", parts(*rate)),
            Self::AuditorShare(bps) => format!("Auditors' part of the fee: {}", parts(*bps)),
            Self::Slash(bps) => format!("First slash of a stake: {}", parts(*bps)),
            Self::MinimumStake(amount) => format!(
                "Stake asked of a provider: {}",
                amount_text(
                    U256::from(*amount),
                    network.token.decimals,
                    &network.token.symbol
                )
            ),
            Self::Fee { bps, to } => format!("Fee on claims: {}, to {to}", parts(*bps)),
            Self::ListModel(model) => format!(
                "List the {} model {} ({})",
                model.family, model.digest, model.licence
            ),
            Self::DropModel { digest } => format!("List the model {digest} no more"),
        }
    }
}

impl DecodedCall {
    /// In words.
    pub fn text(&self, network: &Network) -> String {
        match &self.change {
            Some(change) => change.text(network),
            None => format!(
                "An unknown call of {} bytes to {}",
                self.data.len(),
                network
                    .contract_at(self.target)
                    .map_or_else(|| self.target.to_string(), str::to_owned)
            ),
        }
    }
}

impl Motion {
    /// What proposes these changes.
    pub fn new(network: &Network, changes: &[Change], description: &str) -> Self {
        let (targets, calldatas): (Vec<_>, Vec<_>) =
            changes.iter().map(|change| change.encode(network)).unzip();
        Self {
            values: vec![U256::ZERO; targets.len()],
            targets,
            calldatas,
            description: description.to_owned(),
        }
    }

    /// The number that the governor gives it: it binds every call and the whole description.
    pub fn id(&self) -> U256 {
        let content = (
            self.targets.clone(),
            self.values.clone(),
            self.calldatas.clone(),
            self.description_hash(),
        );
        U256::from_be_bytes(keccak256(content.abi_encode_params()).0)
    }

    /// Its title, which its proposer wrote: the first line of the description.
    pub fn title(&self) -> &str {
        let line = self.description.lines().next().unwrap_or_default();
        line.trim_start_matches('#').trim()
    }

    pub(crate) fn description_hash(&self) -> B256 {
        keccak256(self.description.as_bytes())
    }

    /// What its calls are.
    pub fn decode(&self, network: &Network) -> Vec<DecodedCall> {
        self.targets
            .iter()
            .zip(&self.values)
            .zip(&self.calldatas)
            .take(MAX_CALLS)
            .map(|((target, value), data)| DecodedCall {
                target: *target,
                value: *value,
                data: data.clone(),
                change: value
                    .is_zero()
                    .then(|| Change::decode(network, *target, data))
                    .flatten(),
            })
            .collect()
    }
}
