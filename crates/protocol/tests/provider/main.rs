//! The provider's machine, step by step: what it refuses, when it speaks, how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

mod cached;
mod desk;
mod line;
mod opening;
mod payer;
mod paying;
mod resuming;
mod serving;
