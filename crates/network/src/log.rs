//! What happened to connections lately, for a person who wonders why something does not connect.
//!
//! A ring of a few hundred entries in memory. Nothing in it is text that a peer sent.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use protocol::PeerId;

use crate::{
    address::Transport,
    peers::{Direction, unix_ms},
};

/// Entries that are kept: an evening of a quiet node, some minutes of a busy one. At 100 bytes each, 50 KiB.
const ENTRIES: usize = 512;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// When, Unix milliseconds.
    pub unix_ms: u64,
    /// With whom; `None` where nobody proved who it is.
    pub peer: Option<PeerId>,
    /// Who dialled.
    pub direction: Direction,
    /// Through what.
    pub path: Path,
    /// What.
    pub what: ConnectionChange,
}

/// Through what a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Within this computer.
    Loopback(Transport),
    /// Within the local network.
    Local(Transport),
    /// Over the internet.
    Internet(Transport),
    /// Through a relay.
    Relayed,
    /// It is not known: no address was tried, or several were.
    Unknown,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionChange {
    /// It was opened.
    Opened,
    /// It was closed.
    Closed(ClosedBecause),
    /// It was not let in, or not made.
    Refused(RefusedBecause),
    /// The peer was reached through a relay, and is reached directly now.
    Upgraded,
    /// A direct connection was tried in place of the relayed one, and did not come about.
    NotUpgraded,
}

/// Why a connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClosedBecause {
    /// The peer closed it, or it was unused for two minutes and this node did.
    Finished,
    /// It broke: the peer vanished, the network did, or a relay cut it.
    Broken,
    /// Pings did not come back.
    Silent,
    /// This computer slept, or its network changed.
    NetworkChanged,
}

/// Why a connection was not let in, or not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedBecause {
    /// A limit of this node on connections.
    Limit,
    /// The peer is blocked or banned here.
    Blocked,
    /// Nobody answered, or not in time.
    Unreachable,
    /// The computer answers, and nothing listens there.
    NothingListens,
    /// Somebody else answered.
    WrongPeer,
    /// The handshake broke.
    Handshake,
    /// The settings do not allow it.
    Policy,
}

/// The ring. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionLog(Arc<RwLock<VecDeque<ConnectionEvent>>>);

impl ConnectionLog {
    pub(crate) fn add(
        &self,
        peer: Option<PeerId>,
        direction: Direction,
        path: Path,
        what: ConnectionChange,
    ) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES {
            entries.pop_front();
        }
        entries.push_back(ConnectionEvent {
            unix_ms: unix_ms(),
            peer,
            direction,
            path,
            what,
        });
    }

    /// All of them, the oldest first.
    pub(crate) fn entries(&self) -> Vec<ConnectionEvent> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_newest_and_no_more_than_its_place() {
        let log = ConnectionLog::default();
        for at in 0..3 * ENTRIES {
            let what = if at < 2 * ENTRIES {
                ConnectionChange::Opened
            } else {
                ConnectionChange::Upgraded
            };
            log.add(None, Direction::In, Path::Unknown, what);
        }
        let entries = log.entries();
        assert_eq!(entries.len(), ENTRIES);
        assert!(
            entries
                .iter()
                .all(|entry| entry.what == ConnectionChange::Upgraded)
        );
    }
}
