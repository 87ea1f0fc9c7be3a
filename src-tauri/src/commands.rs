//! What the page may call. Each command converts, calls `node`, converts; a decision never lives here.
//!
//! A new command is written in the file of its place, listed in [`crate::bindings::bindings`], and allowed to the window
//! in `permissions/window.toml`; a test compares the last two. Those of the signing window have lists of their own.

pub(crate) mod chat;
pub(crate) mod models;
pub(crate) mod money;
pub(crate) mod node;
pub(crate) mod peers;
pub(crate) mod settings;
pub(crate) mod sign;
pub(crate) mod system;

use crate::view::ErrorView;

/// What every command gives: its value, or an error that a screen can show.
pub(crate) type Answer<T> = Result<T, ErrorView>;
