//! Puts the contracts on a chain, and says what came of it as a network file.

mod probe;
mod sender;

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolConstructor,
};

use self::sender::Sender;
use crate::{
    abi::{
        DgcDev, DgcGovernor, MemoryRegistry, ModelRegistry, NetworkParams, PayVault, ProviderStake,
        TimelockController, VoteDgc,
    },
    error::ChainError,
    key::Key,
    network::{Coin, DECIMALS, Evm, Gas, Network, Token},
    rpc::Endpoints,
    typed,
};

/// One row of a claim that is sent alone, the first of its line and to a payout that had nothing: the dearest there is.
/// A test compares it with what anvil charges.
const CLAIM_ROW_GAS: u64 = 110_000;
/// The first reservation of a line; compared in the same way.
const RESERVE_GAS: u64 = 75_000;

/// What the contracts are made with.
#[derive(Clone, Debug)]
pub struct DeployOptions {
    /// The network file's name.
    pub name: String,
    /// What people read.
    pub title: String,
    /// Every amount on it is worth nothing.
    pub test: bool,
    /// The token; `None` makes a new one with a faucet, for development alone.
    pub token: Option<Address>,
    /// What pays for gas there.
    pub coin: Coin,
    /// As in the network file.
    pub confirmations: u64,
    /// As in the network file.
    pub block_ms: u64,
    /// As in the network file.
    pub token_per_gas: u128,
    /// What a line gets out of the gas pot of an ended signer; base units.
    pub gas_share: u128,
    /// What who shows an overdraft gets; base units.
    pub report_reward: u128,
    /// The highest minimum stake that a vote can set; base units.
    pub max_minimum_stake: u128,
    /// The rules of voting; they never change.
    pub voting: Voting,
}

/// The rules of voting.
#[derive(Clone, Copy, Debug)]
pub struct Voting {
    /// From proposal to voting, in seconds.
    pub delay_s: u32,
    /// How long voting is open, in seconds.
    pub period_s: u32,
    /// What a proposer needs; base units.
    pub threshold: u128,
    /// Of all wrapped tokens, in parts of 100.
    pub quorum_percent: u8,
    /// From a carried vote to its execution, in seconds.
    pub timelock_s: u64,
}

/// Deploys the contracts, and gives up every power over them.
///
/// The chain's opcodes are tried first: where those are missing that the votes need, nothing is deployed.
///
/// # Errors
/// [`ChainError::EvmTooOld`]; [`ChainError::Contract`] for a token that is none; [`ChainError::Reverted`] with the
/// contract that was refused; else as every read.
pub async fn deploy(
    rpc: &[String],
    key: &Key,
    options: &DeployOptions,
) -> Result<Network, ChainError> {
    let mut sender = Sender::open(rpc, key).await?;
    let evm = probe::evm(&sender.endpoints, sender.head).await?;
    if evm < Evm::Cancun {
        return Err(ChainError::EvmTooOld {
            has: evm.to_string(),
            needs: Evm::Cancun.to_string(),
        });
    }
    let first_block = sender.head;
    let token_at = match options.token {
        Some(token) => token,
        None => {
            sender
                .create("token", DgcDev::BYTECODE.clone(), &[])
                .await?
        }
    };
    let token = token(
        &sender.endpoints,
        sender.latest().await?,
        sender.chain_id,
        token_at,
    )
    .await?;
    let voting = votes(&mut sender, token_at, options).await?;
    let money = money(&mut sender, token_at, voting.timelock, options).await?;
    let memory = sender
        .create("memory", MemoryRegistry::BYTECODE.clone(), &[])
        .await?;
    Ok(Network {
        name: options.name.clone(),
        title: options.title.clone(),
        test: options.test,
        chain_id: sender.chain_id,
        rpc: rpc.to_vec(),
        confirmations: options.confirmations,
        block_ms: options.block_ms,
        evm,
        faucet: options.token.is_none(),
        vault: money.vault,
        stake: money.stake,
        votes: voting.votes,
        governor: voting.governor,
        timelock: voting.timelock,
        params: money.params,
        models: money.models,
        memory: Some(memory),
        coin: options.coin.clone(),
        token,
        gas: Gas {
            claim_row: CLAIM_ROW_GAS,
            reserve: RESERVE_GAS,
            token_per_gas: options.token_per_gas,
            first_block,
        },
    })
}

struct VotesMade {
    votes: Address,
    timelock: Address,
    governor: Address,
}

struct MoneyMade {
    vault: Address,
    params: Address,
    stake: Address,
    models: Address,
}

/// Anybody may execute what has waited; proposing is the governor's alone, and nobody administers.
async fn votes(
    sender: &mut Sender<'_>,
    token: Address,
    options: &DeployOptions,
) -> Result<VotesMade, ChainError> {
    let voting = &options.voting;
    let votes = sender
        .create(
            "votes",
            VoteDgc::BYTECODE.clone(),
            &VoteDgc::constructorCall { dgc: token }.abi_encode(),
        )
        .await?;
    let timelock = sender
        .create(
            "timelock",
            TimelockController::BYTECODE.clone(),
            &TimelockController::constructorCall {
                minDelay: U256::from(voting.timelock_s),
                proposers: Vec::new(),
                executors: vec![Address::ZERO],
                admin: sender.address(),
            }
            .abi_encode(),
        )
        .await?;
    let governor = sender
        .create(
            "governor",
            DgcGovernor::BYTECODE.clone(),
            &DgcGovernor::constructorCall {
                votes,
                timelock,
                delaySeconds: alloy::primitives::Uint::from(voting.delay_s),
                periodSeconds: voting.period_s,
                threshold: U256::from(voting.threshold),
                quorumPercent: U256::from(voting.quorum_percent),
            }
            .abi_encode(),
        )
        .await?;
    let block = sender.latest().await?;
    let proposer = sender
        .read(timelock, &TimelockController::PROPOSER_ROLECall {}, block)
        .await?;
    let canceller = sender
        .read(timelock, &TimelockController::CANCELLER_ROLECall {}, block)
        .await?;
    for role in [proposer, canceller] {
        let grant = TimelockController::grantRoleCall {
            role,
            account: governor,
        };
        sender.call("timelock", timelock, &grant).await?;
    }
    let renounce = TimelockController::renounceRoleCall {
        // The role of administrators is zero.
        role: B256::ZERO,
        callerConfirmation: sender.address(),
    };
    sender.call("timelock", timelock, &renounce).await?;
    Ok(VotesMade {
        votes,
        timelock,
        governor,
    })
}

async fn money(
    sender: &mut Sender<'_>,
    token: Address,
    timelock: Address,
    options: &DeployOptions,
) -> Result<MoneyMade, ChainError> {
    let vault = sender
        .create(
            "vault",
            PayVault::BYTECODE.clone(),
            &PayVault::constructorCall {
                token,
                feeSetter: timelock,
                gasShare: options.gas_share,
                reportReward: options.report_reward,
            }
            .abi_encode(),
        )
        .await?;
    let params = sender
        .create(
            "params",
            NetworkParams::BYTECODE.clone(),
            &NetworkParams::constructorCall {
                setter: timelock,
                maxMinimumStake: options.max_minimum_stake,
            }
            .abi_encode(),
        )
        .await?;
    let stake = sender
        .create(
            "stake",
            ProviderStake::BYTECODE.clone(),
            &ProviderStake::constructorCall {
                token,
                domain: vault,
                params,
                auditPool: timelock,
            }
            .abi_encode(),
        )
        .await?;
    let models = sender
        .create(
            "models",
            ModelRegistry::BYTECODE.clone(),
            &ModelRegistry::constructorCall { setter: timelock }.abi_encode(),
        )
        .await?;
    Ok(MoneyMade {
        vault,
        params,
        stake,
        models,
    })
}

/// What a token says of itself, and whether its permits can be signed.
async fn token(
    endpoints: &Endpoints,
    block: u64,
    chain_id: u64,
    address: Address,
) -> Result<Token, ChainError> {
    let wrong = |problem: String| ChainError::Contract {
        contract: "token",
        address,
        problem,
    };
    let name = sender::read(endpoints, address, &DgcDev::nameCall {}, block).await?;
    let symbol = sender::read(endpoints, address, &DgcDev::symbolCall {}, block).await?;
    let decimals = sender::read(endpoints, address, &DgcDev::decimalsCall {}, block).await?;
    let domain = sender::read(endpoints, address, &DgcDev::DOMAIN_SEPARATORCall {}, block).await?;
    if decimals != DECIMALS {
        return Err(wrong(format!(
            "it has {decimals} decimals and not {DECIMALS}"
        )));
    }
    let token = Token {
        symbol,
        name,
        // Of OpenZeppelin's permits, and so of nearly all.
        version: "1".to_owned(),
        decimals,
        address,
    };
    let ours = typed::domain(&token.name, &token.version, chain_id, address).separator();
    if ours != domain {
        return Err(wrong(
            "its permits are signed in a domain that is not known here".to_owned(),
        ));
    }
    Ok(token)
}
