//! Which build of the engine this is.

/// Version, and a number made from the sources: the app and its worker compare it when they meet, since two that were made
/// from different sources do not understand each other, or worse, seem to.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("ENGINE_SOURCES"));
