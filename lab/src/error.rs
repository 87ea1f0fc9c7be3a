//! What can go wrong in a run itself; a fault that was planned is a figure and no error.

use std::io;

/// A run that could not be made, or that found the product wrong.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The system refused something that the lab needs.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An asking program kept something that cannot be read.
    #[error("what {whose} kept cannot be read: {why}")]
    Kept {
        /// Which asking program.
        whose: String,
        /// Why.
        why: String,
    },
    /// The starter model is not on this machine.
    #[error("the starter model is not here (cargo xtask test starter)")]
    NoStarter,
    /// The product did what it must not.
    #[error("{0}")]
    Wrong(String),
}

impl LabError {
    /// For `map_err`: the system's word with what was tried.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// For `map_err`: something kept on disk that cannot be read.
    pub fn kept<E: std::fmt::Display>(whose: &str) -> impl FnOnce(E) -> Self {
        let whose = whose.to_owned();
        move |error| Self::Kept {
            whose,
            why: error.to_string(),
        }
    }
}
