//! What can go wrong between us and the chain.

use std::{io, path::PathBuf};

use alloy::primitives::{Address, B256};

use crate::{call::CallError, key::KeyError, network::NetworkError, pending::TxId};

/// Why the chain did not answer, or was not asked.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The network file is wrong.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No endpoint answered. Whatever it was, it waits.
    #[error("no endpoint of the chain answers: {}", problems(.tried))]
    Offline {
        /// Each endpoint's host, and what is wrong with it.
        tried: Vec<(String, String)>,
    },
    /// The endpoints contradict each other, and no side has the majority.
    #[error("the endpoints contradict each other about {what}: {}", groups(.hosts))]
    Disagree {
        /// What was asked.
        what: String,
        /// Who said the same.
        hosts: Vec<Vec<String>>,
    },
    /// Only one of several endpoints answered this, though the others are there.
    #[error("one endpoint alone answers about {what}: {}", problems(.silent))]
    Unconfirmed {
        /// What was asked.
        what: String,
        /// The others' hosts, and what is wrong with them.
        silent: Vec<(String, String)>,
    },
    /// The majority says so, and it is no answer to what was asked.
    #[error("the chain's answer about {what} is none: {problem}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The contract refused.
    #[error("{what}: {reason}")]
    Reverted {
        /// What was asked.
        what: String,
        /// Why the contract refuses it.
        reason: String,
    },
    /// No final block is known yet.
    #[error("the chain was not reached yet")]
    NotYet,
    /// What was final is not any more. Nothing is read until somebody has looked.
    #[error("block {number} was final as {was}, and is {is} now")]
    Rewritten {
        /// Which block.
        number: u64,
        /// Its hash before.
        was: B256,
        /// Its hash now.
        is: B256,
    },
    /// The contracts of the network file are not what lies at their addresses.
    #[error("{contract} at {address} is not what the network file says: {problem}")]
    Contract {
        /// Its name in the network file.
        contract: &'static str,
        /// Its address there.
        address: Address,
        /// What is wrong with it.
        problem: String,
    },
    /// The call makes no sense on this network.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What is to be sent is not what was shown.
    #[error("what is to be sent is not what was shown")]
    PreviewChanged,
    /// It was shown too long ago.
    #[error("this was shown {seconds} seconds ago: look again")]
    PreviewOld {
        /// How long ago.
        seconds: u64,
    },
    /// Another key than the one it was made for.
    #[error("this was made for {expected}, and the key is that of {got}")]
    Key {
        /// Whose transaction it is.
        expected: Address,
        /// Whose key was given.
        got: Address,
    },
    /// The curve gives no signature.
    #[error(transparent)]
    Secret(#[from] KeyError),
    /// There is no such transaction here.
    #[error("there is no transaction {0}")]
    UnknownTx(TxId),
    /// It can be neither replaced nor taken back any more.
    #[error("transaction {id} is {state}")]
    NotReplaceable {
        /// Which.
        id: TxId,
        /// How it stands.
        state: &'static str,
    },
    /// The file of pending transactions cannot be read or written. Nothing is sent that is not on disk.
    #[error("{} cannot be read or written", .path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file of pending transactions is damaged.
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Too much waits for the chain.
    #[error("{count} transactions wait already")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// An address of the network file cannot be asked.
    #[error("{host} cannot be asked: {problem}")]
    Endpoint {
        /// Which.
        host: String,
        /// Why not.
        problem: String,
    },
    /// The chain lacks opcodes that a contract needs.
    #[error("the chain has the opcodes of {has}, and the votes need those of {needs}")]
    EvmTooOld {
        /// The newest that it was seen to have.
        has: String,
        /// The oldest that serves.
        needs: String,
    },
}

fn problems(tried: &[(String, String)]) -> String {
    tried
        .iter()
        .map(|(host, problem)| format!("{host}: {problem}"))
        .collect::<Vec<_>>()
        .join("; ")
}

fn groups(hosts: &[Vec<String>]) -> String {
    hosts
        .iter()
        .map(|group| group.join(" and "))
        .collect::<Vec<_>>()
        .join(" against ")
}
