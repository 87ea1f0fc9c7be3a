//! Whose work it is, and how the device is shared between them.

use serde::{Deserialize, Serialize};

use super::within;
use crate::EngineError;

/// Length of an asker's name in bytes: a peer id has about fifty.
pub const MAX_ASKER_BYTES: usize = 128;

/// Heaviest weight of an asker: the others still get a thousandth.
pub const MAX_WEIGHT: u16 = 1000;

/// Whose work it is, the first before the later: a class is computed when nothing of an earlier one can be. The owner's
/// answers are held to a latency target, so that of the others only what it leaves is computed beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The owner's of this computer.
    Own,
    /// A stranger's who pays.
    Paid,
    /// A stranger's who does not.
    Free,
    /// Checking what others computed.
    Audit,
}

impl Class {
    /// Every class, in their order.
    pub const ALL: [Class; 4] = [Class::Own, Class::Paid, Class::Free, Class::Audit];

    /// Whether it is work for others, which the owner's rules bound.
    pub fn is_network(self) -> bool {
        self != Class::Own
    }
}

/// How the device is shared between its owner and others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sharing {
    /// The part of the device's time that others may have, 0 to 1.
    pub network_share: f32,
    /// The part by which the owner's answers may become slower for others who are computed beside them, 0 to 1.
    pub slowdown: f32,
}

impl Default for Sharing {
    /// All the time that the owner leaves, and of the owner's own two parts in a hundred: less than is felt, or told from
    /// the ups and downs of a busy machine.
    fn default() -> Self {
        Self {
            network_share: 1.0,
            slowdown: 0.02,
        }
    }
}

impl Sharing {
    /// Refuses parts that are none.
    pub fn check(&self) -> Result<(), EngineError> {
        within("network_share", self.network_share, 0.0, 1.0)?;
        within("slowdown", self.slowdown, 0.0, 1.0)
    }
}

/// Who asks. What one asker's answers have in common is computed once; between two askers nothing is shared, so that
/// nobody learns from a delay what another one asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asker {
    /// The owner of this computer.
    #[default]
    Owner,
    /// Somebody else, by a name that is theirs alone (a peer id).
    Peer(String),
}

/// Refuses an asker that does not belong to the class: the owner's cache is the owner's alone.
pub(crate) fn check_asker(class: Class, asker: &Asker, weight: u16) -> Result<(), EngineError> {
    let bad = |what: &str| {
        Err(EngineError::BadRequest {
            what: what.to_owned(),
        })
    };
    match (class, asker) {
        (Class::Own, Asker::Peer(_)) => return bad("a peer asks in the owner's class"),
        (Class::Paid | Class::Free, Asker::Owner) => {
            return bad("the owner asks in a class of strangers");
        }
        (_, Asker::Peer(name)) if name.is_empty() || name.len() > MAX_ASKER_BYTES => {
            return bad("an asker's name: 1 to 128 bytes");
        }
        (Class::Own | Class::Audit, Asker::Owner)
        | (Class::Paid | Class::Free | Class::Audit, Asker::Peer(_)) => {}
    }
    if !(1..=MAX_WEIGHT).contains(&weight) {
        return bad("weight: 1 to 1000");
    }
    Ok(())
}
