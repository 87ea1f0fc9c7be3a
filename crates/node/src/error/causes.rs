//! Codes and next steps of the errors that lower crates report.

use engine::EngineError;
use ledger::{LedgerError, MoneyError};
use memory::MemoryError;
use network::NetworkError;

use super::{DISK_FULL_FIX, ErrorView, is_disk_full, sentence};
use crate::identity::IdentityError;

pub(super) fn identity_code(error: &IdentityError) -> &'static str {
    match error {
        IdentityError::Unreadable { .. } => "identity_unreadable",
        IdentityError::TooOpen { .. } => "identity_too_open",
        IdentityError::Corrupt { .. } => "identity_corrupt",
        IdentityError::Write { source, .. } if is_disk_full(source) => "disk_full",
        IdentityError::Write { .. } => "identity_not_written",
        IdentityError::Random(_) => "no_randomness",
    }
}

impl From<&IdentityError> for ErrorView {
    fn from(error: &IdentityError) -> Self {
        Self::new(identity_code(error), sentence(error), Some(error.fix()))
    }
}

pub(super) fn network_code(error: &NetworkError) -> &'static str {
    match error {
        NetworkError::NotAnAddress { .. } | NetworkError::UnsupportedAddress { .. } => {
            "not_an_address"
        }
        NetworkError::NameNotResolved { .. } => "name_not_resolved",
        NetworkError::OwnAddress { .. } => "own_address",
        NetworkError::UnknownPeer { .. } => "unknown_peer",
        NetworkError::Unreachable { .. }
        | NetworkError::Refused { .. }
        | NetworkError::Timeout { .. }
        | NetworkError::NotConnected { .. }
        | NetworkError::Broken { .. } => "unreachable",
        NetworkError::WrongPeer { .. } => "wrong_peer",
        NetworkError::Blocked { .. } => "peer_blocked",
        NetworkError::TooManyConnections { .. }
        | NetworkError::Busy { .. }
        | NetworkError::HeadBusy { .. } => "network_busy",
        NetworkError::TurnedAway { .. } => "turned_away",
        NetworkError::Unsupported { .. } => "peer_too_different",
        NetworkError::Malformed { .. } => "peer_broke_protocol",
        NetworkError::HeadNotHeld { .. }
        | NetworkError::HeadTooLarge { .. }
        | NetworkError::HeadTooSlow { .. }
        | NetworkError::HeadDigest { .. } => "head_missing",
        NetworkError::Listen { .. } => "cannot_listen",
        NetworkError::Start { .. } | NetworkError::Thread(_) | NetworkError::Closed => {
            "network_down"
        }
    }
}

pub(super) fn network_fix(error: &NetworkError) -> Option<String> {
    let text = match error {
        NetworkError::NotAnAddress { .. } => {
            "Paste an invite that begins with dgpt1:, or an address like /ip4/203.0.113.7/udp/4001/quic-v1."
        }
        NetworkError::UnsupportedAddress { .. } => {
            "Ask for an address with /tcp or /udp/…/quic-v1."
        }
        NetworkError::NameNotResolved { .. } => {
            "Check the name and your connection to the internet."
        }
        NetworkError::OwnAddress { .. } => "Ask the other person for their address.",
        NetworkError::UnknownPeer { .. } => "Ask for an invite: it carries the addresses.",
        NetworkError::Unreachable { .. }
        | NetworkError::Refused { .. }
        | NetworkError::Timeout { .. }
        | NetworkError::NotConnected { .. }
        | NetworkError::Broken { .. } => {
            "Ask whether the node there is switched on, and check your own connection."
        }
        NetworkError::WrongPeer { .. } => {
            "Ask for a new invite: another computer answers at this address now."
        }
        NetworkError::Blocked { .. } => "Unblock the peer under Node, or choose another.",
        NetworkError::TooManyConnections { .. }
        | NetworkError::Busy { .. }
        | NetworkError::HeadBusy { .. } => "Try again in a moment.",
        NetworkError::TurnedAway { .. } => {
            "Wait ten seconds, then try again. Close programs here that are connected to it and not needed."
        }
        NetworkError::Unsupported { .. } => "One of the two programs is too old: update both.",
        NetworkError::Malformed { .. } => "Choose another peer; this one may be broken or hostile.",
        NetworkError::HeadNotHeld { .. }
        | NetworkError::HeadTooLarge { .. }
        | NetworkError::HeadTooSlow { .. }
        | NetworkError::HeadDigest { .. } => "Choose another peer or another model.",
        NetworkError::Listen { .. } => {
            "Choose other listening addresses in the settings: port 0 takes any free one."
        }
        NetworkError::Start { .. } | NetworkError::Thread(_) | NetworkError::Closed => {
            "Start the program again."
        }
    };
    Some(text.to_owned())
}

pub(super) fn engine_code(error: &EngineError) -> &'static str {
    match error {
        EngineError::ContextTooLong { .. } => "context_full",
        EngineError::NotEnoughMemory { .. } => "not_enough_memory",
        EngineError::OnlyEmbeds { .. }
        | EngineError::UnsupportedArchitecture { .. }
        | EngineError::UnsupportedTensor { .. }
        | EngineError::UnsupportedFeature { .. } => "model_unsupported",
        EngineError::BadFile { .. } | EngineError::BadNumbers { .. } => "model_damaged",
        EngineError::NoWeights { .. } => "model_missing",
        EngineError::NotReadable { .. } => "model_not_readable",
        EngineError::Template { .. } | EngineError::NoTemplate { .. } => "model_template",
        EngineError::TokenOutside { .. }
        | EngineError::BadRequest { .. }
        | EngineError::BadConstraint { .. } => "bad_request",
        EngineError::Displaced | EngineError::TooManyCalls { .. } => "engine_busy",
        EngineError::Cancelled => "cancelled",
        EngineError::OutOfMemory { .. } => "not_enough_memory",
        EngineError::WorkerDied { .. }
        | EngineError::WorkerHung { .. }
        | EngineError::WorkerStays { .. }
        | EngineError::WorkerSpokeWrong { .. }
        | EngineError::Compute { .. } => "worker_died",
        EngineError::WorkerMissing { .. }
        | EngineError::WorkerNotStarted { .. }
        | EngineError::WorkerOtherBuild { .. } => "worker_missing",
        EngineError::ShutDown => "stopping",
    }
}

pub(super) fn engine_fix(error: &EngineError) -> Option<String> {
    let text = match error {
        EngineError::ContextTooLong { .. } => {
            "Leave out the oldest messages, or go on in a new chat that starts from a summary."
        }
        EngineError::NotEnoughMemory { .. } | EngineError::OutOfMemory { .. } => {
            "Close other programs, choose a smaller model, or let a peer's computer answer."
        }
        EngineError::OnlyEmbeds { .. }
        | EngineError::UnsupportedArchitecture { .. }
        | EngineError::UnsupportedTensor { .. }
        | EngineError::UnsupportedFeature { .. } => {
            "Choose another model: this version cannot run this one."
        }
        EngineError::BadFile { .. } | EngineError::BadNumbers { .. } => {
            "Remove the model and download it again."
        }
        EngineError::NoWeights { .. } => "Download the model, or let a peer's computer answer.",
        EngineError::NotReadable { .. } => "Add the file again under Models.",
        EngineError::Template { .. } | EngineError::NoTemplate { .. } => {
            "Choose another model: this file does not say how a chat is written."
        }
        EngineError::TokenOutside { .. }
        | EngineError::BadRequest { .. }
        | EngineError::BadConstraint { .. } => "Reset the sampling settings of this chat.",
        EngineError::Displaced | EngineError::TooManyCalls { .. } => "Try again in a moment.",
        EngineError::Cancelled => return None,
        EngineError::WorkerStays { .. } => {
            "End the process by the system's own means, or start the computer again."
        }
        EngineError::WorkerOtherBuild { .. } => {
            "Install the program again, so that both come from one release; from sources, build \
             both anew."
        }
        EngineError::WorkerDied { .. }
        | EngineError::WorkerHung { .. }
        | EngineError::WorkerSpokeWrong { .. }
        | EngineError::Compute { .. } => {
            "Send it again: the engine starts anew. If it stays, choose a smaller model."
        }
        EngineError::WorkerMissing { .. } | EngineError::WorkerNotStarted { .. } => {
            "Install the program again: a part of it is missing."
        }
        EngineError::ShutDown => "Start the program again.",
    };
    Some(text.to_owned())
}

pub(super) fn memory_code(error: &MemoryError) -> &'static str {
    match error {
        MemoryError::NewerDatabase { .. } => "memory_newer",
        MemoryError::NotAMemory { .. }
        | MemoryError::Corrupt { .. }
        | MemoryError::Unreadable { .. } => "memory_damaged",
        MemoryError::DiskFull { .. } => "disk_full",
        MemoryError::Access { .. } | MemoryError::Busy { .. } | MemoryError::Sqlite(_) => {
            "memory_unusable"
        }
        MemoryError::NoChat(_) => "chat_missing",
        MemoryError::NoMessage(_) => "message_missing",
        MemoryError::Finished(_) | MemoryError::NoEnd => "message_finished",
        MemoryError::TooLarge { .. } => "message_too_long",
        MemoryError::Closed => "stopping",
    }
}

pub(super) fn memory_fix(error: &MemoryError) -> Option<String> {
    let text = match error {
        MemoryError::NewerDatabase { path, .. } => {
            return Some(format!(
                "Install the newest version of the program. {} was not touched.",
                path.display()
            ));
        }
        MemoryError::NotAMemory { path } | MemoryError::Corrupt { path, .. } => {
            return Some(format!(
                "Put your backup of {0} back, or move it away to start with no chats; and with it {0}-wal and {0}-shm, where they are there.",
                path.display()
            ));
        }
        MemoryError::Unreadable { .. } => "Install the newest version of the program.",
        MemoryError::DiskFull { .. } => DISK_FULL_FIX,
        MemoryError::Access { path, .. } => {
            return Some(format!("Check the rights on {}.", path.display()));
        }
        MemoryError::Busy { .. } => {
            "Close the other program that has the file open, then try again."
        }
        MemoryError::NoChat(_) => "Open another chat, or start a new one.",
        MemoryError::NoMessage(_) | MemoryError::Finished(_) | MemoryError::NoEnd => {
            "Open the chat again."
        }
        MemoryError::TooLarge { .. } => "Shorten the text.",
        MemoryError::Sqlite(_) => "Try again; if it stays, start the program again.",
        MemoryError::Closed => "Start the program again.",
    };
    Some(text.to_owned())
}

pub(super) fn ledger_code(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::NewerDatabase { .. } => "ledger_newer",
        LedgerError::NotALedger { .. }
        | LedgerError::Corrupt { .. }
        | LedgerError::Unreadable { .. } => "ledger_damaged",
        LedgerError::DiskFull { .. } => "disk_full",
        LedgerError::Access { .. } | LedgerError::Busy { .. } | LedgerError::Sqlite(_) => {
            "ledger_unusable"
        }
        LedgerError::TooLarge { .. } | LedgerError::OtherReceipt => "receipt_damaged",
        LedgerError::Money(MoneyError::SignerLost { .. } | MoneyError::NoBook { .. }) => {
            "signer_lost"
        }
        LedgerError::Money(MoneyError::FinalityBroken { .. }) => "finality_broken",
        LedgerError::Money(MoneyError::OtherVault { .. }) => "other_vault",
        LedgerError::Money(
            MoneyError::PastGrant { .. } | MoneyError::Lower { .. } | MoneyError::NonceUsed { .. },
        ) => "promise_refused",
        LedgerError::Statement(_) => "statement_unwritten",
        LedgerError::Closed => "stopping",
    }
}

pub(super) fn ledger_fix(error: &LedgerError) -> Option<String> {
    let text = match error {
        LedgerError::NewerDatabase { path, .. } => {
            return Some(format!(
                "Install the newest version of the program. {} was not touched.",
                path.display()
            ));
        }
        LedgerError::NotALedger { path } | LedgerError::Corrupt { path, .. } => {
            return Some(format!(
                "Put your backup of {0} back, or move it away to start with empty books; and with it {0}-wal and {0}-shm, where they are there.",
                path.display()
            ));
        }
        LedgerError::Unreadable { .. } => "Install the newest version of the program.",
        LedgerError::DiskFull { .. } => DISK_FULL_FIX,
        LedgerError::Access { path, .. } => {
            return Some(format!("Check the rights on {}.", path.display()));
        }
        LedgerError::Busy { .. } => {
            "Close the other program that has the file open, then try again."
        }
        LedgerError::TooLarge { .. } | LedgerError::OtherReceipt => return None,
        LedgerError::Money(MoneyError::SignerLost { .. } | MoneyError::NoBook { .. }) => {
            "End this device's grant and give it a new one: what was signed before stays payable."
        }
        LedgerError::Money(MoneyError::FinalityBroken { .. }) => {
            "Check the endpoints of the network: one of them took a final block back."
        }
        LedgerError::Money(MoneyError::OtherVault { .. }) => {
            "Choose the network that these books began with, or start with another data folder."
        }
        LedgerError::Money(MoneyError::PastGrant { .. }) => "Grant this device more.",
        LedgerError::Money(MoneyError::Lower { .. } | MoneyError::NonceUsed { .. }) => return None,
        LedgerError::Statement(_) => "Choose a place that can be written to and has room.",
        LedgerError::Sqlite(_) => "Try again; if it stays, start the program again.",
        LedgerError::Closed => "Start the program again.",
    };
    Some(text.to_owned())
}
