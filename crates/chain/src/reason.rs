//! Why a contract refused, in words.

use alloy::{
    primitives::U256,
    sol_types::{Panic, SolError, SolInterface},
};

use crate::{
    abi::{
        DgcDev::DgcDevErrors, DgcGovernor::DgcGovernorErrors, MemoryRegistry::MemoryRegistryErrors,
        ModelRegistry::ModelRegistryErrors, NetworkParams::NetworkParamsErrors,
        PayVault::PayVaultErrors, ProviderStake::ProviderStakeErrors,
        TimelockController::TimelockControllerErrors, VoteDgc::VoteDgcErrors,
    },
    rpc::{endpoint::words, wire},
};

/// The reason in the data of a revert.
pub(crate) fn read(data: &[u8]) -> String {
    if data.is_empty() {
        return "refused without a reason".to_owned();
    }
    if let Some(text) = wire::revert_text(data) {
        return text;
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return format!("the contract stopped with panic {:#x}", panic.code);
    }
    if let Ok(error) = PayVaultErrors::abi_decode(data) {
        return vault(&error);
    }
    named(data).unwrap_or_else(|| {
        format!(
            "an error that is not known here: {}",
            alloy::hex::encode_prefixed(&data[..data.len().min(4)])
        )
    })
}

fn vault(error: &PayVaultErrors) -> String {
    match error {
        PayVaultErrors::Unnamed(_) => "an address is missing".to_owned(),
        PayVaultErrors::NothingArrived(_) => {
            "the token did not bring what was asked for; one that takes a fee cannot be deposited"
                .to_owned()
        }
        PayVaultErrors::BalanceTooLow(e) => format!(
            "the balance in the vault is {}, and {} is needed (base units)",
            e.has, e.needs
        ),
        PayVaultErrors::BadUntil(e) => format!("the end {} is out of its bounds", e.until),
        PayVaultErrors::SignerUnknown(e) => {
            format!("{} never granted {} anything", e.payer, e.signer)
        }
        PayVaultErrors::SignerOver(e) => format!("the signer {} has ended", e.signer),
        PayVaultErrors::TooEarly(e) => format!("too early: from {} on", e.from),
        PayVaultErrors::CaseOpen(e) => format!("an overdraft of {} is open", e.signer),
        PayVaultErrors::PayeeUnknown(e) => format!("{} has not said where its claims go", e.payee),
        PayVaultErrors::PayeeKnown(e) => {
            format!("{} has said where its claims go already", e.payee)
        }
        PayVaultErrors::NotPayout(e) => format!("not the account that {} is paid to", e.payee),
        PayVaultErrors::NotPayee(e) => format!("not {}, and its reservation is not over", e.payee),
        PayVaultErrors::NotJoined(e) => {
            format!("what {} claims leaves the vault already", e.payee)
        }
        PayVaultErrors::NotFeeSetter(_) => "only a vote sets the fee".to_owned(),
        PayVaultErrors::FeeTooHigh(e) => format!("a fee of {}/10000 is too high", e.bps),
        PayVaultErrors::NonceUsed(e) => format!("number {} was used already", e.nonce),
        PayVaultErrors::LineLocked(e) => {
            format!("a reservation up to {} until {} is live", e.upto, e.until)
        }
        PayVaultErrors::GrantTooLow(e) => format!(
            "{} of the grant is free, and {} is needed (base units)",
            e.free, e.needs
        ),
        PayVaultErrors::BadSignature(_) => "a signature is not the right one".to_owned(),
        PayVaultErrors::OutOfOrder(e) => format!("the row of {} is out of order", e.payee),
        PayVaultErrors::NoOverdraft(e) => {
            format!(
                "{} was promised of {} granted: no overdraft",
                e.promised, e.granted
            )
        }
        PayVaultErrors::Late(e) => format!("too late: it was due by {}", e.deadline),
        PayVaultErrors::SafeERC20FailedOperation(_) => "the token refuses".to_owned(),
        PayVaultErrors::ReentrancyGuardReentrantCall(_) => {
            "a contract called back into the vault".to_owned()
        }
    }
}

/// By the contracts' own names, which say it well enough to those who vote or stake.
fn named(data: &[u8]) -> Option<String> {
    fn debug<E: SolInterface + std::fmt::Debug>(data: &[u8]) -> Option<String> {
        let text = format!("{:?}", E::abi_decode(data).ok()?);
        // `Name(Name { field: value })`: once is enough.
        let inner = text
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'))
            .unwrap_or(&text);
        Some(words(inner))
    }
    debug::<DgcDevErrors>(data)
        .or_else(|| debug::<ProviderStakeErrors>(data))
        .or_else(|| debug::<VoteDgcErrors>(data))
        .or_else(|| debug::<DgcGovernorErrors>(data))
        .or_else(|| debug::<TimelockControllerErrors>(data))
        .or_else(|| debug::<NetworkParamsErrors>(data))
        .or_else(|| debug::<ModelRegistryErrors>(data))
        .or_else(|| debug::<MemoryRegistryErrors>(data))
}

/// A `uint256` of a contract that counts in base units.
pub(crate) fn amount(what: &str, value: U256) -> Result<u128, crate::ChainError> {
    u128::try_from(value).map_err(|_| crate::ChainError::Answer {
        what: what.to_owned(),
        problem: format!("{value} is more than there can be"),
    })
}
