//! The node: the one struct that a window, a command line and a server start, use and stop.
//!
//! [`Node::start`] opens a data folder, which nobody else can hold at the same time, and gives a handle that clones. Its
//! methods are the vocabulary of the whole program: chats are asked and answered, models fetched, the switch turned,
//! peers met, receipts opened. What changes by itself comes as whole snapshots on `watch` channels ([`Node::status`],
//! [`Node::models`], [`Node::chats`]); what belongs to one call comes as that call's own stream ([`Node::chat_send`]).
//! [`control`] speaks the same methods as JSON lines, so that a command line beside a running window attaches to it.
//!
//! ```no_run
//! # async fn example() -> Result<(), node::NodeError> {
//! use node::{AnswerEvent, Node, NodeOptions};
//!
//! let node = Node::start(NodeOptions::new("data")).await?;
//! let chat = node.chat_create(false).await?;
//! let mut answer = node.chat_send(&chat.id, None, Some("What is the capital of France?".to_owned())).await?;
//! while let Some(event) = answer.recv().await {
//!     if let AnswerEvent::Text { append, .. } = event {
//!         // shown as it comes
//!         drop(append);
//!     }
//! }
//! node.stop().await;
//! # Ok(()) }
//! ```
//!
//! # What is where
//!
//! | module | is |
//! |---|---|
//! | `node` | start and stop: who owns which handle, in which order things open and close |
//! | [`chat`] | conversations: what a shell sees and does with them |
//! | `ask` | one answer: where it is computed, its prompt, the text that comes, the failover; the swarm that asks |
//! | [`route`] | which peer is asked, as pure decisions |
//! | `serve` | the switch, the offers, the jobs of others |
//! | [`peers`] | connecting by address or invite, the book of known and blocked peers, what was measured of them |
//! | `devices` | the adapters of the machine, measured rates, which device computes |
//! | [`energy`] | what the computer's meters count while it computes for others |
//! | [`models`] | the catalogue, files, downloads, fit |
//! | `community` | what peers offer and no row of the models names |
//! | [`mod@wallet`] | whether there is a wallet, whether it is open, the keys of this device |
//! | [`money`] | paying and being paid, what goes on with the chain by itself, what the wallet is asked to do, votes |
//! | [`settings`], [`identity`], [`data`] | the files of the data folder |
//! | [`installed`] | where an installed program finds its worker and models |
//! | [`status`], [`doctor`], [`receipts`] | what a shell shows of it all |
//! | [`control`] | the same methods over a socket |
//!
//! # What it never does
//!
//! It draws nothing and prints nothing. It computes no token and parses no model file: that is the engine's worker. It
//! sends nothing of a chat to a peer unless that chat has consented. No input from a disk, the network or a person makes
//! it panic.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod ask;
pub mod chat;
mod clock;
mod community;
pub mod control;
pub mod data;
mod devices;
pub mod doctor;
pub mod energy;
mod error;
pub mod identity;
pub mod installed;
pub mod models;
pub mod money;
mod node;
pub mod peers;
pub mod receipts;
pub mod route;
mod serve;
pub mod settings;
pub mod status;
pub mod wallet;

pub use chat::{
    AnswerEvent, ChatPatch, ChatSummary, ChatView, ContextUse, ExportFormat, Message, MessageState,
    MoveReason, OnFull, Phase, Place, Role, Sampling, SearchHit, Span,
};
pub use community::{CommunityModel, CommunityPrices, CommunityView, HeadSays, SpeedRange};
pub use doctor::{Check, CheckAct, CheckState};
pub use error::{ErrorView, NodeError};
pub use models::{
    Fit, FitKind, Measured, ModelRow, ModelState, ModelsFolder, ModelsView, Origin, ServeForPay,
};
pub use node::{Node, NodeOptions};
pub use peers::{Invite, PeerChoice, qr_text};
pub use receipts::{Checked, ClientSignature, ProviderSignature, Receipt, ReceiptRole};
pub use route::Preset;
pub use settings::{Settings, Theme};
pub use status::{
    Answered, AnsweredState, DataUsed, Direction, EngineState, EngineStatus, Fix, Lender, LogLine,
    NodeStatus, NotOffered, Peer, PeerRecord, ReachKind, Reachability, ServingState, SourceView,
    Transport,
};
