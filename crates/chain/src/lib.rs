//! The chain: what the vault, the stake and the votes say, and the transactions that change it.
//!
//! What it is: a handle over several endpoints of one EVM network, whose answers are compared.
//!
//! What it owns: nonces and pending transactions, on disk before they are sent.
//!
//! What it never does: it keeps no key beyond a call, and decides nothing that costs money.
//!
//! ```no_run
//! # async fn example(key: chain::Key) -> Result<(), Box<dyn std::error::Error>> {
//! use chain::{Call, Chain, Network};
//!
//! let network = Network::load("networks/devnet.toml".as_ref())?;
//! let chain = Chain::open(network, "data/chain".as_ref())?;
//! chain.reached().await;
//! let preview = chain.preview(key.address(), &Call::Withdraw { amount: 5 }).await?;
//! // Shown to a person, who agrees.
//! let id = chain.send(&key, preview).await?;
//! println!("{:?}", chain.settled(id).await?);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod abi;
mod allowed;
mod call;
mod chain;
mod deploy;
#[cfg(feature = "dev")]
pub mod dev;
mod error;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod key;
mod network;
mod pending;
mod preview;
mod reads;
mod reason;
mod rpc;
mod typed;
mod votes;

pub use alloy::primitives::{Address, B256, Bytes, U256};

pub use crate::{
    call::{Asset, Call, CallError, ClaimRow, Described, FinalRow, MAX_ROWS, PromiseRow, Spender},
    chain::Chain,
    deploy::{DeployOptions, Voting, deploy},
    error::ChainError,
    events::{Final, Happened, VaultEvent},
    health::{EndpointHealth, Health, State},
    key::{CompactSignature, Key, KeyError},
    network::{Coin, DECIMALS, Evm, Gas, Network, NetworkError, Token, amount_text},
    pending::{Tx, TxId, TxState},
    preview::{GasPrice, Preview, Simulation},
    reads::{
        Account, Fee, LineView, OperatorView, OverdraftView, Params, SignerView, StakeView,
        VaultTerms,
    },
    typed::{Permit, Start, operator_digest, permit_digest, start_digest},
    votes::{
        Change, DecodedCall, Model, Motion, Proposal, ProposalState, Support, VotePower, VoteRules,
    },
};
