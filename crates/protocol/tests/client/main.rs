//! The client's machine, step by step: what the simulation does not single out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

mod asking;
mod cached;
mod desk;
mod line;
mod payer;
mod paying;
mod resuming;
mod running;
