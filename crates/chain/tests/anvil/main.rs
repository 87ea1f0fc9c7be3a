//! Everything against a real chain: anvil with the real contracts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod deploying;
mod liar;
mod lies;
mod money;
mod pending;
mod voting;
mod voucher;
mod world;
