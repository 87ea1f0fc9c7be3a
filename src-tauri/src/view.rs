//! What the window sees: twins of `node`'s types, from which the TypeScript is generated.
//!
//! `node` knows no window and no specta, so its types are converted here by hand, field by field. A field that `node`
//! gains does not reach the page until somebody decides here that it should. JavaScript has one number, a double: counts
//! and milliseconds travel as `f64` (exact to 2^53, which is 285,000 years of milliseconds), seeds and money as strings.

use serde::Serialize;
use specta::Type;

/// Turns plain enums of `node` into their twins (`from`), or twins into `node`'s (`into`), variant by variant: one that
/// is missing on either side does not compile.
macro_rules! same_variants {
    (from node::$name:ident { $($variant:ident),+ $(,)? }) => {
        impl From<node::$name> for $name {
            fn from(value: node::$name) -> Self {
                match value { $(node::$name::$variant => Self::$variant),+ }
            }
        }
    };
    (into node::$name:ident { $($variant:ident),+ $(,)? }) => {
        impl From<$name> for node::$name {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant),+ }
            }
        }
    };
}

mod chat;
mod community;
mod earned;
mod energy;
mod models;
mod money;
mod peers;
mod prices;
mod settings;
mod sign;
mod status;
mod votes;

pub(crate) use chat::{
    AnswerEvent, ChatPatch, ChatSummary, ChatView, ContextUse, ExportFormat, SearchHit,
};
pub(crate) use community::{CommunityModel, CommunityView};
pub(crate) use earned::{EarningRow, EarningsBy, Payment, Proof};
pub(crate) use energy::EnergyUsed;
pub(crate) use models::{ModelRow, ModelsView};
pub(crate) use money::{MoneyStatus, Receiving, TransactionView};
pub(crate) use peers::{Invite, Link, LogLine, Peer, PeerChoice};
pub(crate) use prices::{AskedPrice, OfferPrice};
pub(crate) use settings::Settings;
pub(crate) use sign::{Asked, Intent, Preview};
pub(crate) use status::{Answered, Check, NodeStatus, Receipt};
pub(crate) use votes::VoteStatus;

/// An error as a screen needs it: `code` to branch on, `message` to show, `fix` as the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorView {
    /// Stable, snake_case; the only part that the page may compare.
    pub code: String,
    /// One sentence that says what went wrong.
    pub message: String,
    /// One sentence that says what to do next.
    pub fix: Option<String>,
}

/// What the About section says.
#[derive(Debug, Clone, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppInfo {
    pub version: String,
    pub data_folder: String,
    /// The licences of this program, as an SPDX expression.
    pub licences: String,
}

impl From<node::ErrorView> for ErrorView {
    fn from(error: node::ErrorView) -> Self {
        Self {
            code: error.code,
            message: error.message,
            fix: error.fix,
        }
    }
}

impl From<node::wallet::WalletProblem> for ErrorView {
    fn from(problem: node::wallet::WalletProblem) -> Self {
        problem.view().into()
    }
}

impl From<node::NodeError> for ErrorView {
    fn from(error: node::NodeError) -> Self {
        error.view().into()
    }
}

/// A count or a time as JavaScript has it.
#[allow(
    clippy::cast_precision_loss,
    reason = "exact to 2^53, see the module's text"
)]
fn number(value: u64) -> f64 {
    value as f64
}

/// [`number`], where there may be none.
fn maybe(value: Option<u64>) -> Option<f64> {
    value.map(number)
}
