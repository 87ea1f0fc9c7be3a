//! The vault's own bytecode, as it is deployed, in a machine within this process. Included by path.
#![allow(dead_code)] // Each of its users needs a part of it.

use alloy_sol_types::{SolCall, SolEvent, sol};
use protocol::voucher::{Address, B256};
use revm::{
    Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext, MainnetEvm,
    context::{BlockEnv, CfgEnv, Journal, TxEnv, result::ExecutionResult},
    database::{CacheDB, EmptyDB},
    primitives::{Bytes, Log, TxKind, U256},
};

sol!(
    #[derive(Debug)]
    PayVault,
    "../../contracts/abi/PayVault.json"
);
sol!(
    #[derive(Debug)]
    DgcDev,
    "../../contracts/abi/DgcDev.json"
);

type Machine =
    MainnetEvm<Context<BlockEnv, TxEnv, CfgEnv, CacheDB<EmptyDB>, Journal<CacheDB<EmptyDB>>>>;

/// The chain of foundry's development node, so that digests look alike.
pub(crate) const CHAIN_ID: u64 = 31_337;
/// Enough for a batch of any size here.
const GAS: u64 = 16_000_000;
pub(crate) const DEPLOYER: Address = Address::repeat_byte(0xd0);
pub(crate) const FEE_SETTER: Address = Address::repeat_byte(0xfe);

/// A vault and its token on a chain of their own.
pub(crate) struct Chain {
    machine: Machine,
    pub(crate) vault: Address,
    pub(crate) token: Address,
    pub(crate) now: u64,
}

/// What a transaction that went through did.
pub(crate) struct Done<T> {
    pub(crate) value: T,
    pub(crate) logs: Vec<Log>,
    pub(crate) gas: u64,
}

impl Chain {
    /// Both contracts deployed, at a time of the chain.
    pub(crate) fn new(now: u64, gas_share: u128, report_reward: u128) -> Self {
        let machine = Context::mainnet()
            .with_db(CacheDB::<EmptyDB>::default())
            .modify_cfg_chained(|cfg| {
                cfg.chain_id = CHAIN_ID;
                cfg.disable_nonce_check = true;
            })
            .build_mainnet();
        let mut chain = Self {
            machine,
            vault: Address::ZERO,
            token: Address::ZERO,
            now,
        };
        chain.token = chain.create(DgcDev::BYTECODE.clone());
        let arguments = PayVault::constructorCall {
            token: chain.token,
            feeSetter: FEE_SETTER,
            gasShare: gas_share,
            reportReward: report_reward,
        };
        let mut code = PayVault::BYTECODE.to_vec();
        code.extend(alloy_sol_types::SolConstructor::abi_encode(&arguments));
        chain.vault = chain.create(code.into());
        chain
    }

    fn create(&mut self, code: Bytes) -> Address {
        match self.run(DEPLOYER, TxKind::Create, code) {
            ExecutionResult::Success { output, .. } => *output.address().expect("an address"),
            other @ (ExecutionResult::Revert { .. } | ExecutionResult::Halt { .. }) => {
                panic!("not deployed: {other:?}")
            }
        }
    }

    fn run(&mut self, from: Address, to: TxKind, data: Bytes) -> ExecutionResult {
        self.machine.set_block(BlockEnv {
            timestamp: U256::from(self.now),
            gas_limit: GAS,
            ..BlockEnv::default()
        });
        let tx = TxEnv {
            caller: from,
            kind: to,
            data,
            gas_limit: GAS,
            chain_id: Some(CHAIN_ID),
            ..TxEnv::default()
        };
        self.machine
            .transact_commit(tx)
            .expect("a valid transaction")
    }

    /// A call that changes the chain; `None` where it reverts.
    pub(crate) fn send<C: SolCall>(&mut self, from: Address, call: &C) -> Option<Done<C::Return>> {
        let to = if C::SIGNATURE.starts_with("faucet") || C::SIGNATURE.starts_with("approve") {
            self.token
        } else {
            self.vault
        };
        match self.run(from, TxKind::Call(to), call.abi_encode().into()) {
            ExecutionResult::Success {
                output, logs, gas, ..
            } => Some(Done {
                value: C::abi_decode_returns(output.data()).expect("what the interface says"),
                logs,
                gas: gas.tx_gas_used(),
            }),
            ExecutionResult::Revert { .. } => None,
            other => panic!("{}: {other:?}", C::SIGNATURE),
        }
    }

    /// A call that only looks.
    pub(crate) fn look<C: SolCall>(&mut self, call: &C) -> C::Return {
        self.send(DEPLOYER, call).expect("a view").value
    }

    /// The vault's events of a kind.
    pub(crate) fn events<E: SolEvent>(logs: &[Log]) -> Vec<E> {
        logs.iter()
            .filter(|log| log.data.topics().first() == Some(&E::SIGNATURE_HASH))
            .map(|log| E::decode_log(log).expect("what the interface says").data)
            .collect()
    }

    /// The domain in which the token's permits are signed.
    pub(crate) fn token_domain(&mut self) -> B256 {
        B256::from(self.ask_token(&DgcDev::DOMAIN_SEPARATORCall {}))
    }

    pub(crate) fn tokens_of(&mut self, owner: Address) -> U256 {
        self.ask_token(&DgcDev::balanceOfCall { account: owner })
    }

    /// A view of the token that answers one word.
    fn ask_token(&mut self, call: &impl SolCall) -> U256 {
        match self.run(DEPLOYER, TxKind::Call(self.token), call.abi_encode().into()) {
            ExecutionResult::Success { output, .. } => U256::from_be_slice(output.data()),
            other @ (ExecutionResult::Revert { .. } | ExecutionResult::Halt { .. }) => {
                panic!("{other:?}")
            }
        }
    }
}

/// r and vs of a compact signature.
pub(crate) fn halves(signature: [u8; 64]) -> (B256, B256) {
    (
        B256::from_slice(&signature[..32]),
        B256::from_slice(&signature[32..]),
    )
}
