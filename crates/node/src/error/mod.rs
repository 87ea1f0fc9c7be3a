//! What can go wrong in a node, and how a shell says it.
//!
//! [`NodeError`] carries the facts and the cause. At the boundary it becomes an [`ErrorView`]: a code to branch on, a
//! sentence to show, and the next step. A shell never branches on text.

mod causes;

use std::{io, path::PathBuf};

use engine::EngineError;
use ledger::LedgerError;
use memory::MemoryError;
use network::NetworkError;
use serde::{Deserialize, Serialize};

use self::causes::{
    engine_code, engine_fix, identity_code, ledger_code, ledger_fix, memory_code, memory_fix,
    network_code, network_fix,
};
use crate::{
    data::DataError, identity::IdentityError, models::ModelsError, money::ActError,
    peers::InviteError, settings::SettingsError, wallet::WalletProblem,
};

/// An error as a screen shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// What a shell branches on, in snake_case.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next, wherever it is read.
    pub fix: Option<String>,
    /// The command line that does it, where there is one: a window does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl ErrorView {
    /// An error with its next step.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>, fix: Option<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            fix,
            command: None,
        }
    }

    /// With the command line that does what is to be done.
    #[must_use]
    pub fn by(self, command: impl Into<Option<String>>) -> Self {
        Self {
            command: command.into(),
            ..self
        }
    }
}

impl std::fmt::Display for ErrorView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.fix {
            Some(fix) => write!(f, " {fix}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ErrorView {}

/// A length of time for a sentence: "40 minutes", "23 hours".
pub(crate) fn span(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0..=1 => "a minute".to_owned(),
        2..120 => format!("{minutes} minutes"),
        120..2880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / (24 * 60)),
    }
}

/// Why a node cannot start, or a call on it did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The identity file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The settings file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The conversations.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The record of jobs and receipts.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Models and their downloads.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// An invite or address that a person pasted.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// The wallet.
    #[error(transparent)]
    Wallet(#[from] WalletProblem),
    /// Something that the wallet was to sign.
    #[error(transparent)]
    Act(#[from] ActError),
    /// No such chat: deleted meanwhile, or never there.
    #[error("this chat no longer exists")]
    ChatMissing {
        /// The id that was asked for.
        chat: String,
    },
    /// No such message in the chat.
    #[error("this message is not in the chat")]
    MessageMissing {
        /// The id that was asked for.
        message: String,
    },
    /// An answer is being written in this chat.
    #[error("an answer is being written in this chat")]
    ChatBusy,
    /// More answers than the node writes at once.
    #[error("{limit} answers are being written already")]
    TooManyAnswers {
        /// The bound.
        limit: usize,
    },
    /// There is no text to send, and no message to answer.
    #[error("there is nothing to send")]
    NothingToSend,
    /// An answer that is whole, or of which only the text is known.
    #[error("this answer cannot be gone on with")]
    NothingToContinue,
    /// Tokens mean nothing to another model.
    #[error("this answer was begun by {wrote}, and {now} cannot go on with it")]
    OtherModel {
        /// The model that began.
        wrote: String,
        /// The model that is chosen now.
        now: String,
    },
    /// The text is longer than any context.
    #[error("the message has {bytes} bytes, and at most {limit} can be sent")]
    TooLong {
        /// What came.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The chat would go to a peer, and the person has not agreed to that.
    #[error("a stranger's computer would read this chat")]
    ConsentNeeded,
    /// No model is chosen, and none is on this computer.
    #[error("no model is chosen")]
    NoModel,
    /// The model is not on this computer.
    #[error("{model} is not on this computer")]
    ModelMissing {
        /// Its name.
        model: String,
    },
    /// No row here names the model, so that neither its file is here nor a place to get it from is known.
    #[error("{model} is not in your catalogue, and only peers have it")]
    UnlistedNotHere {
        /// What it is called.
        model: String,
    },
    /// Nothing is known by this id.
    #[error("there is no model named {id}")]
    ModelUnknown {
        /// The id.
        id: String,
    },
    /// No digest of the file is known, so no peer can be asked for it.
    #[error("{model} has no known digest yet, so a peer cannot be asked for exactly this file")]
    ModelNotPinned {
        /// Its name.
        model: String,
    },
    /// Nobody who is reachable offers the model.
    #[error("no reachable peer offers {model}")]
    NoPeer {
        /// Its name.
        model: String,
    },
    /// Offers came, and by this computer's clock none is of now.
    #[error("nobody can be asked: this computer's clock is {} {} that of {}", span(*apart_ms), if *ahead { "ahead of" } else { "behind" }, if *peers == 1 { "the peer that answered" } else { "the peers that answered" })]
    OtherTime {
        /// How far the clocks are apart.
        apart_ms: u64,
        /// Whether this computer's is ahead.
        ahead: bool,
        /// Peers that said what time it is there.
        peers: usize,
    },
    /// Peers offer the model, and each breaks a rule of the person's or of the job.
    #[error("{count} peers offer {model}, and none of them can be asked")]
    NobodyFits {
        /// The model's name.
        model: String,
        /// How many.
        count: usize,
        /// The reason that most of them share.
        #[source]
        why: crate::route::NotTaken,
    },
    /// The chosen peer is reachable, and offers nothing.
    #[error("the peer {peer} offers no model right now")]
    PeerOffersNothing {
        /// Short form of its id.
        peer: String,
    },
    /// The chosen peer offers only what no row here names, and the chat names no model.
    #[error(
        "the peer {peer} offers only models that are not in your catalogue, and this chat names none of them"
    )]
    OnlyUnlisted {
        /// Short form of its id.
        peer: String,
    },
    /// What no row here names is not listed.
    #[error("community models are off")]
    CommunityOff,
    /// What peers give for the head of a file is none that the engine can read.
    #[error("what peers give for the description of {model} cannot be read: {why}")]
    HeadUnreadable {
        /// What it is called.
        model: String,
        /// Why, in words that may quote the file: cut and cleaned.
        why: String,
    },
    /// The head of the model's file could not be got or kept.
    #[error("what is needed to write to {model} could not be fetched")]
    Head {
        /// The model's name.
        model: String,
        /// Why.
        #[source]
        source: Box<NodeError>,
    },
    /// The conversation no longer fits the model's context.
    #[error("this chat needs {used} tokens and {model} holds {limit}")]
    ContextFull {
        /// Tokens of the prompt and the room kept for an answer.
        used: u32,
        /// The model's context.
        limit: u32,
        /// The model's name.
        model: String,
    },
    /// Even the last message alone does not fit.
    #[error("this message alone needs {used} tokens and {model} holds {limit}")]
    MessageTooLong {
        /// Tokens of the shortest prompt.
        used: u32,
        /// The model's context.
        limit: u32,
        /// The model's name.
        model: String,
    },
    /// Every peer that was tried failed, and the model is not here.
    #[error("the answer broke off: {why}")]
    Lost {
        /// The last reason.
        why: String,
    },
    /// The node cannot be turned on with the identity it has.
    #[error("{}", problem.message)]
    NoIdentity {
        /// Why, as it was said at the start.
        problem: ErrorView,
    },
    /// The model is being used.
    #[error("an answer is being written with this model")]
    ModelInUse,
    /// The node is off, and what was asked needs it on.
    #[error("the node is off")]
    NodeOff,
    /// No address of this node can be dialled by others.
    #[error("this node has no address that others can dial")]
    NoAddress,
    /// No such receipt.
    #[error("there is no receipt for this job")]
    ReceiptMissing,
    /// A stored receipt cannot be read.
    #[error("the stored receipt of this job is damaged")]
    ReceiptDamaged,
    /// The clock of the list of jobs is not ahead of this computer's.
    #[error("the clock has not gone back, and there is nothing to forget")]
    ClockInOrder,
    /// This computer's clock is behind that of the network of money.
    #[error("this computer's clock is {minutes} minutes behind the network's")]
    ClockWrong {
        /// By how much.
        minutes: u64,
    },
    /// The id is not a peer's.
    #[error("{id} is not a peer's id")]
    NotAPeer {
        /// What was given.
        id: String,
    },
    /// A file of the data folder cannot be read or written.
    #[error("{path} cannot be {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// "read" or "written".
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The node is stopping.
    #[error("the program is closing")]
    Stopping,
}

/// An error and its causes in one sentence, without repeating a cause that the error already says.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !more.is_empty() && !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => {
            let mut sentence: String = first.to_uppercase().chain(letters).collect();
            if !sentence.ends_with(['.', '!', '?', '…']) {
                sentence.push('.');
            }
            sentence
        }
        None => text,
    }
}

/// Whether a system's error says that the disk is full.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Every command of ours takes another data folder.
pub(crate) const ANOTHER_FOLDER: &str = "decentralgpt --data DIR COMMAND";

pub(crate) const DISK_FULL_FIX: &str =
    "Free some space on the disk, then try again. What was there before is kept.";

impl NodeError {
    /// What a shell branches on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(DataError::InUse { .. }) => "already_running",
            Self::Data(DataError::Unusable { source, .. }) if is_disk_full(source) => "disk_full",
            Self::Data(DataError::Unusable { .. }) => "data_folder",
            Self::Identity(error) => identity_code(error),
            Self::NoIdentity { .. } => "no_identity",
            Self::ModelInUse => "model_in_use",
            Self::Settings(error) => match error {
                SettingsError::Unreadable { .. } => "settings_unreadable",
                SettingsError::Corrupt { .. } => "settings_corrupt",
                SettingsError::OutOfRange { .. } => "settings_out_of_range",
                SettingsError::Write { source, .. } if is_disk_full(source) => "disk_full",
                SettingsError::Write { .. } => "settings_not_written",
            },
            Self::Memory(error) => memory_code(error),
            Self::Ledger(error) => ledger_code(error),
            Self::Network(error) => network_code(error),
            Self::Engine(error) => engine_code(error),
            Self::Models(error) => error.code(),
            Self::Invite(error) => error.code(),
            Self::Wallet(problem) => problem.code(),
            Self::Act(error) => error.code(),
            Self::ChatMissing { .. } => "chat_missing",
            Self::MessageMissing { .. } => "message_missing",
            Self::ChatBusy => "chat_busy",
            Self::TooManyAnswers { .. } => "too_many_answers",
            Self::NothingToSend => "nothing_to_send",
            Self::NothingToContinue => "nothing_to_continue",
            Self::OtherModel { .. } => "other_model",
            Self::TooLong { .. } | Self::MessageTooLong { .. } => "message_too_long",
            Self::ConsentNeeded => "consent_needed",
            Self::NoModel | Self::ModelMissing { .. } => "model_missing",
            Self::UnlistedNotHere { .. } => "unlisted_not_here",
            Self::ModelUnknown { .. } => "model_unknown",
            Self::ModelNotPinned { .. } => "model_not_pinned",
            Self::NoPeer { .. } | Self::PeerOffersNothing { .. } => "no_peer",
            Self::NobodyFits { .. } => "nobody_fits",
            Self::OnlyUnlisted { .. } => "only_unlisted",
            Self::CommunityOff => "community_off",
            Self::Head { .. } => "head_missing",
            Self::HeadUnreadable { .. } => "head_unreadable",
            Self::ContextFull { .. } => "context_full",
            Self::Lost { .. } => "answer_lost",
            Self::NodeOff => "node_off",
            Self::NoAddress => "no_address",
            Self::ReceiptMissing => "receipt_missing",
            Self::ReceiptDamaged => "receipt_damaged",
            Self::ClockInOrder => "clock_in_order",
            Self::ClockWrong { .. } | Self::OtherTime { .. } => "clock_wrong",
            Self::NotAPeer { .. } => "not_a_peer",
            Self::File { source, .. } if is_disk_full(source) => "disk_full",
            Self::File { .. } => "file",
            Self::Stopping => "stopping",
        }
    }

    /// What the person can do next.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        let fixed = |text: &str| Some(text.to_owned());
        if self.code() == "disk_full" {
            return fixed(DISK_FULL_FIX);
        }
        match self {
            Self::Data(DataError::InUse { .. }) => {
                fixed("Use the one that runs, a window or a command line, or end it.")
            }
            Self::Data(DataError::Unusable { path, .. }) => Some(format!(
                "Make {} a folder that you may write to.",
                path.display()
            )),
            Self::Identity(error) => Some(error.fix()),
            Self::NoIdentity { problem } => problem.fix.clone(),
            Self::ModelInUse => fixed("Wait for the answer, or stop it."),
            Self::Settings(error) => Some(error.fix()),
            Self::Memory(error) => memory_fix(error),
            Self::Ledger(error) => ledger_fix(error),
            Self::Network(error) => network_fix(error),
            Self::Engine(error) => engine_fix(error),
            Self::Models(error) => error.fix(),
            Self::Wallet(problem) => Some(problem.fix()),
            Self::Act(error) => Some(error.fix()),
            Self::Invite(_) => fixed(
                "Ask for the invite again and paste all of it, or paste an address that begins with /ip4 or /ip6.",
            ),
            Self::ChatMissing { .. } => fixed("Open another chat, or start a new one."),
            Self::MessageMissing { .. } => fixed("Open the chat again."),
            Self::ChatBusy => fixed("Wait for the answer, or stop it."),
            Self::TooManyAnswers { .. } => fixed("Wait for one of them, or stop one."),
            Self::NothingToSend => fixed("Write a message first."),
            Self::NothingToContinue => fixed("Answer the question again."),
            Self::OtherModel { .. } => {
                fixed("Choose the model that began it, or answer the question again with this one.")
            }
            Self::TooLong { .. } | Self::MessageTooLong { .. } => {
                fixed("Shorten the message, or choose a model with a larger context.")
            }
            Self::ConsentNeeded => fixed("Agree to it for this chat, or answer on this computer."),
            Self::NoModel => fixed("Download a model, or choose a peer's."),
            Self::ModelMissing { .. } => {
                fixed("Download it, choose another model, or let a peer's computer answer.")
            }
            Self::UnlistedNotHere { .. } => {
                fixed("Let a peer's computer answer, or choose another model.")
            }
            Self::ModelUnknown { .. } => fixed("Choose a model from the list."),
            Self::ModelNotPinned { .. } => fixed("Download it once, or choose another model."),
            Self::NoPeer { .. } => fixed(
                "Connect to a peer that offers it, choose another model, or answer on this computer.",
            ),
            Self::NobodyFits { .. } => fixed(
                "Allow more regions or a higher price in the settings, shorten the chat, or choose another model.",
            ),
            Self::PeerOffersNothing { .. } => fixed(
                "Ask its owner to switch the node on, choose another peer, or answer on this computer.",
            ),
            Self::OnlyUnlisted { .. } => fixed(
                "Choose one of them for a chat under Models, Community models, or choose another peer.",
            ),
            Self::CommunityOff => fixed("Switch them on under Models, Community models."),
            Self::Head { .. } => fixed("Try again; another peer may give it."),
            Self::HeadUnreadable { .. } => {
                fixed("Choose another model: nothing can be written to this one.")
            }
            Self::ContextFull { .. } => fixed(
                "Leave out the oldest messages, or go on in a new chat that starts from a summary.",
            ),
            Self::Lost { .. } => fixed("Try again: the text so far is kept."),
            Self::NodeOff => fixed("Switch the node on first."),
            Self::NoAddress => {
                fixed("Switch the node on, and check the listening addresses in the settings.")
            }
            Self::ReceiptMissing | Self::ReceiptDamaged | Self::ClockInOrder => None,
            Self::ClockWrong { .. } => fixed("Set this computer's clock."),
            Self::OtherTime { .. } => fixed(
                "Set this computer's clock, then ask again. Where it is right, theirs are wrong: ask others.",
            ),
            Self::NotAPeer { .. } => fixed("Copy the whole id; it begins with 12D3Koo."),
            Self::File { path, .. } => Some(format!("Check the rights on {}.", path.display())),
            Self::Stopping => fixed("Start the program again."),
        }
    }

    /// The command line that does it, where there is one.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        if let Self::Models(error) = self {
            return error.command();
        }
        let command = match self.code() {
            "only_unlisted" => "decentralgpt models community",
            "community_off" => "decentralgpt models community --on",
            code if matches!(self, Self::Data(_)) && code != "disk_full" => ANOTHER_FOLDER,
            _ => return None,
        };
        Some(command.to_owned())
    }

    /// The error as a screen shows it.
    #[must_use]
    pub fn view(&self) -> ErrorView {
        ErrorView::new(self.code(), sentence(self), self.fix()).by(self.command())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ModelsError;

    #[test]
    fn a_next_step_is_right_in_the_window_and_the_command_line_stands_beside_it() {
        let path = PathBuf::from("/somewhere/else");
        let kind = |kind| DataError::Unusable {
            path: path.clone(),
            source: io::Error::from(kind),
        };
        for (error, command) in [
            (
                NodeError::Data(DataError::InUse { path: path.clone() }),
                Some("decentralgpt --data DIR COMMAND"),
            ),
            (
                NodeError::Data(kind(io::ErrorKind::PermissionDenied)),
                Some("decentralgpt --data DIR COMMAND"),
            ),
            (NodeError::Data(kind(io::ErrorKind::StorageFull)), None),
            (
                NodeError::Models(ModelsError::Moving { to: path.clone() }),
                Some("decentralgpt models move /somewhere/else"),
            ),
            (NodeError::NodeOff, None),
            (
                NodeError::CommunityOff,
                Some("decentralgpt models community --on"),
            ),
        ] {
            let view = error.view();
            assert_eq!(view.command.as_deref(), command);
            let fix = view.fix.unwrap();
            assert!(!fix.contains("--") && !fix.contains('`'), "{fix}");
        }
    }

    #[test]
    fn an_error_of_an_older_program_has_no_command() {
        let old = r#"{"code":"file","message":"It cannot be read.","fix":null}"#;
        let view: ErrorView = serde_json::from_str(old).unwrap();
        assert_eq!(view, ErrorView::new("file", "It cannot be read.", None));
        assert_eq!(serde_json::to_string(&view).unwrap(), old);
    }
}
