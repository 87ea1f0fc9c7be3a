//! The contracts, as `contracts/abi` has them: calls, events, errors and code.

// What the macro writes follows its own rules.
#![allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    missing_debug_implementations,
    unreachable_pub
)]

use alloy::sol;

sol!(
    #[sol(extra_derives(Debug, PartialEq))]
    PayVault,
    "../../contracts/abi/PayVault.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    ProviderStake,
    "../../contracts/abi/ProviderStake.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    DgcDev,
    "../../contracts/abi/DgcDev.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    VoteDgc,
    "../../contracts/abi/VoteDgc.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    DgcGovernor,
    "../../contracts/abi/DgcGovernor.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    TimelockController,
    "../../contracts/abi/TimelockController.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    NetworkParams,
    "../../contracts/abi/NetworkParams.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    ModelRegistry,
    "../../contracts/abi/ModelRegistry.json"
);
sol!(
    #[sol(extra_derives(Debug))]
    MemoryRegistry,
    "../../contracts/abi/MemoryRegistry.json"
);

/// What wallets sign.
pub mod typed {
    alloy::sol! {
        #[derive(Debug)]
        struct Permit {
            address owner;
            address spender;
            uint256 value;
            uint256 nonce;
            uint256 deadline;
        }

        #[derive(Debug)]
        struct Start {
            address payer;
            uint128 deposit;
            address signer;
            uint128 grant;
            uint64 until;
            uint128 bond;
            uint128 gasPot;
            uint128 relayerFee;
            uint256 nonce;
            uint256 deadline;
        }

        #[derive(Debug)]
        struct Operator {
            address stake;
            address owner;
        }
    }
}
