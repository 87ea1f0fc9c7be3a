//! Downloads against a small server on the loopback that misbehaves on purpose, and the list over real folders.

mod catalogue;
mod downloads;
mod engine;
mod list;
mod server;
mod trial;
