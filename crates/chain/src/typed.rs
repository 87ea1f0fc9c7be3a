//! What wallets sign for the contracts: permits of the token, first steps, operators (EIP-712).

use std::borrow::Cow;

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::{Eip712Domain, SolStruct},
};

use crate::{
    abi::{PayVault, typed},
    network::Network,
};

/// The vault's domain, as it has them in its code.
const VAULT_NAME: &str = "DGC Pay Vault";
const VAULT_VERSION: &str = "1";

/// All that a newcomer wants to do first, in one signed intent: a deposit, and a signer with a grant out of it. Amounts
/// in base units, times in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Whose balance.
    pub payer: Address,
    /// What goes into the vault; may be zero.
    pub deposit: u128,
    /// The first signer; zero for none.
    pub signer: Address,
    /// What it may sign for.
    pub grant: u128,
    /// Until when.
    pub until: u64,
    /// What an overdraft of it costs.
    pub bond: u128,
    /// What payees get for claiming after its end.
    pub gas_pot: u128,
    /// What who brings it gets.
    pub relayer_fee: u128,
    /// Any number that this payer did not use before.
    pub nonce: U256,
    /// After it nobody can bring it.
    pub deadline: U256,
}

/// A permit of the token for exactly one deposit (EIP-2612).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// What may be taken, in base units.
    pub value: u128,
    /// Until when, in seconds since 1970.
    pub deadline: U256,
    /// 27 or 28.
    pub v: u8,
    /// Of the signature.
    pub r: B256,
    /// Of the signature.
    pub s: B256,
}

impl Start {
    /// A deposit alone.
    pub(crate) fn deposit(payer: Address, deposit: u128, nonce: U256) -> Self {
        Self {
            payer,
            deposit,
            signer: Address::ZERO,
            grant: 0,
            until: 0,
            bond: 0,
            gas_pot: 0,
            relayer_fee: 0,
            nonce,
            deadline: U256::MAX,
        }
    }
}

pub(crate) fn vault_domain(network: &Network) -> Eip712Domain {
    domain(VAULT_NAME, VAULT_VERSION, network.chain_id, network.vault)
}

pub(crate) fn token_domain(network: &Network) -> Eip712Domain {
    domain(
        &network.token.name,
        &network.token.version,
        network.chain_id,
        network.token.address,
    )
}

/// What the owner of tokens signs so that the vault may take `value` of them, once.
///
/// The domain is the network file's, and no endpoint's: what is signed can count for no other token.
pub fn permit_digest(
    network: &Network,
    owner: Address,
    value: u128,
    nonce: U256,
    deadline: U256,
) -> B256 {
    typed::Permit {
        owner,
        spender: network.vault,
        value: U256::from(value),
        nonce,
        deadline,
    }
    .eip712_signing_hash(&token_domain(network))
}

/// What a payer signs so that somebody else may bring its first steps.
pub fn start_digest(network: &Network, start: &Start) -> B256 {
    typed::Start {
        payer: start.payer,
        deposit: start.deposit,
        signer: start.signer,
        grant: start.grant,
        until: start.until,
        bond: start.bond,
        gasPot: start.gas_pot,
        relayerFee: start.relayer_fee,
        nonce: start.nonce,
        deadline: start.deadline,
    }
    .eip712_signing_hash(&vault_domain(network))
}

/// What an operator key signs to be bound to an owner's stake.
pub fn operator_digest(network: &Network, owner: Address) -> B256 {
    let operator = typed::Operator {
        stake: network.stake,
        owner,
    };
    // The stake signs in the vault's domain.
    keccak256(
        [
            &[0x19, 0x01],
            vault_domain(network).separator().as_slice(),
            operator.eip712_hash_struct().as_slice(),
        ]
        .concat(),
    )
}

impl From<&Start> for PayVault::Start {
    fn from(start: &Start) -> Self {
        Self {
            payer: start.payer,
            deposit: start.deposit,
            signer: start.signer,
            grant: start.grant,
            until: start.until,
            bond: start.bond,
            gasPot: start.gas_pot,
            relayerFee: start.relayer_fee,
            nonce: start.nonce,
            deadline: start.deadline,
        }
    }
}

/// Without one, the vault has its allowance already.
impl From<Option<&Permit>> for PayVault::Permit {
    fn from(permit: Option<&Permit>) -> Self {
        match permit {
            Some(permit) => Self {
                value: U256::from(permit.value),
                deadline: permit.deadline,
                v: permit.v,
                r: permit.r,
                s: permit.s,
            },
            None => Self {
                value: U256::ZERO,
                deadline: U256::ZERO,
                v: 0,
                r: B256::ZERO,
                s: B256::ZERO,
            },
        }
    }
}

pub(crate) fn domain(name: &str, version: &str, chain_id: u64, contract: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some(Cow::Owned(name.to_owned())),
        Some(Cow::Owned(version.to_owned())),
        Some(U256::from(chain_id)),
        Some(contract),
        None,
    )
}
