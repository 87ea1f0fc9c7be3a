//! Peers that a person connected to, and those they blocked, in DATA/peers.toml.

use std::path::{Path, PathBuf};

use protocol::PeerId;
use serde::{Deserialize, Serialize};

use crate::{
    data::{self, AtomicWrite},
    error::{ErrorView, NodeError},
};

/// A person does not connect to more by hand; the oldest are forgotten first.
const MAX_KNOWN: usize = 256;

/// Blocked peers cost a line each; one who needs more has another problem.
const MAX_BLOCKED: usize = 4096;

/// 256 peers of 8 addresses and 4096 blocked ids, twice over.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;

/// Addresses kept per peer: an invite's, and what the peer was last dialled at.
const MAX_ADDRESSES: usize = 8;

/// The file, and its content in memory.
#[derive(Debug, Clone)]
pub(crate) struct PeerBook {
    path: PathBuf,
    page: Page,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Page {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peer: Vec<Known>,
}

/// One peer that was connected by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    id: String,
    #[serde(default)]
    addresses: Vec<String>,
}

impl PeerBook {
    /// Reads the book. A damaged one is kept aside and said; the run goes on with an empty one.
    pub(crate) fn open(path: &Path) -> (Self, Option<ErrorView>) {
        let book = |page| Self {
            path: path.to_owned(),
            page,
        };
        let text = match data::read_capped(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return (book(Page::default()), None);
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => String::from("\u{0}"),
            Err(error) => {
                let notice = ErrorView::new(
                    "peers_unreadable",
                    format!("The list of known peers cannot be read: {error}."),
                    Some(format!("Check the rights on {}.", path.display())),
                );
                return (book(Page::default()), Some(notice));
            }
        };
        match toml::from_str::<Page>(&text) {
            Ok(mut page) => {
                page.peer.truncate(MAX_KNOWN);
                page.blocked.truncate(MAX_BLOCKED);
                (book(page), None)
            }
            Err(error) => {
                let kept = data::keep_aside(path).unwrap_or_else(|_| path.to_owned());
                let notice = ErrorView::new(
                    "peers_corrupt",
                    format!("The list of known peers is damaged: {}.", error.message()),
                    Some(format!(
                        "It is kept as {}. Connect to your peers again.",
                        kept.display()
                    )),
                );
                (book(Page::default()), Some(notice))
            }
        }
    }

    /// Every known address, with `/p2p/…`, of peers that are not blocked.
    pub(crate) fn dialable(&self) -> Vec<String> {
        let open = self
            .page
            .peer
            .iter()
            .filter(|peer| !self.page.blocked.contains(&peer.id));
        open.flat_map(|peer| {
            peer.addresses
                .iter()
                .map(|address| with_peer(address, &peer.id))
        })
        .collect()
    }

    /// Addresses of one peer, with `/p2p/…`.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<String> {
        let id = peer.to_string();
        let known = self.page.peer.iter().find(|known| known.id == id);
        known.map_or_else(Vec::new, |known| {
            known
                .addresses
                .iter()
                .map(|address| with_peer(address, &id))
                .collect()
        })
    }

    /// Remembers a peer at these addresses, the newest first.
    pub(crate) fn remember(&mut self, peer: &PeerId, addresses: &[String]) {
        let id = peer.to_string();
        let mut known = match self.page.peer.iter().position(|known| known.id == id) {
            Some(at) => self.page.peer.remove(at),
            None => Known {
                id,
                addresses: Vec::new(),
            },
        };
        for address in addresses.iter().rev() {
            let bare = without_peer(address).to_owned();
            if bare.is_empty() {
                continue;
            }
            known.addresses.retain(|old| *old != bare);
            known.addresses.insert(0, bare);
        }
        known.addresses.truncate(MAX_ADDRESSES);
        self.page.peer.insert(0, known);
        self.page.peer.truncate(MAX_KNOWN);
    }

    /// Blocks a peer, or lets it in again.
    pub(crate) fn set_blocked(&mut self, peer: &PeerId, blocked: bool) {
        let id = peer.to_string();
        self.page.blocked.retain(|other| *other != id);
        if blocked {
            self.page.blocked.insert(0, id);
            self.page.blocked.truncate(MAX_BLOCKED);
        }
    }

    /// Whether the person wants nothing of this peer.
    pub(crate) fn is_blocked(&self, peer: &PeerId) -> bool {
        self.page.blocked.contains(&peer.to_string())
    }

    /// All blocked peers whose id is one.
    pub(crate) fn blocked(&self) -> Vec<PeerId> {
        self.page
            .blocked
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect()
    }

    /// What has to be written where, for a thread that may wait for a disk.
    pub(crate) fn to_write(&self) -> (PathBuf, Result<String, toml::ser::Error>) {
        (self.path.clone(), toml::to_string_pretty(&self.page))
    }
}

/// Writes the book as [`PeerBook::to_write`] gave it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), NodeError> {
    data::write_atomically(path, text.as_bytes(), AtomicWrite::Secret).map_err(|source| {
        NodeError::File {
            path: path.to_owned(),
            what: "written",
            source,
        }
    })
}

fn with_peer(address: &str, id: &str) -> String {
    format!("{address}/p2p/{id}")
}

/// An address without the peer's id at its end. That of a relay stands in the middle and stays: without it, and the circuit behind it,
/// the address would be the relay's own.
pub(super) fn without_peer(address: &str) -> &str {
    match address.rsplit_once("/p2p/") {
        Some((bare, id)) if !id.contains('/') => bare,
        Some(_) | None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8) -> PeerId {
        PeerId::from_public_key(&[byte; 32])
    }

    #[test]
    fn remembers_and_blocks_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.toml");
        let (mut book, notice) = PeerBook::open(&path);
        assert!(notice.is_none());
        book.remember(
            &peer(1),
            &[
                "/ip4/127.0.0.1/tcp/1/p2p/x".to_owned(),
                "/ip4/127.0.0.1/tcp/2".to_owned(),
            ],
        );
        book.remember(&peer(2), &["/ip4/127.0.0.1/tcp/3".to_owned()]);
        book.set_blocked(&peer(2), true);
        let (at, text) = book.to_write();
        write(&at, &text.unwrap()).unwrap();
        let (book, notice) = PeerBook::open(&path);
        assert!(notice.is_none());
        assert!(book.is_blocked(&peer(2)));
        let id = peer(1);
        assert_eq!(
            book.dialable(),
            [
                format!("/ip4/127.0.0.1/tcp/1/p2p/{id}"),
                format!("/ip4/127.0.0.1/tcp/2/p2p/{id}")
            ]
        );
    }

    #[test]
    fn the_way_through_a_relay_is_remembered_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (mut book, _) = PeerBook::open(&folder.path().join("peers.toml"));
        let (id, relay) = (peer(1), peer(2));
        let circuit = format!("/ip4/192.0.2.9/udp/443/quic-v1/p2p/{relay}/p2p-circuit");
        book.remember(&id, &[format!("{circuit}/p2p/{id}"), circuit.clone()]);
        assert_eq!(book.addresses(&id), [format!("{circuit}/p2p/{id}")]);
        assert_eq!(without_peer(&circuit), circuit);
        assert_eq!(without_peer(&format!("/p2p/{id}")), "");
    }

    #[test]
    fn bounded_and_the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let (mut book, _) = PeerBook::open(&folder.path().join("peers.toml"));
        for n in 0..=MAX_KNOWN {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(n as u64).to_le_bytes());
            book.remember(
                &PeerId::from_public_key(&key),
                &["/ip4/127.0.0.1/tcp/1".to_owned()],
            );
        }
        assert_eq!(book.dialable().len(), MAX_KNOWN);
        assert!(
            book.addresses(&PeerId::from_public_key(&[0; 32]))
                .is_empty()
        );
    }

    #[test]
    fn a_damaged_book_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.toml");
        std::fs::write(&path, "peer = 3").unwrap();
        let (book, notice) = PeerBook::open(&path);
        assert!(book.dialable().is_empty());
        assert_eq!(notice.unwrap().code, "peers_corrupt");
        assert_eq!(
            std::fs::read_to_string(folder.path().join("peers.toml.broken-1")).unwrap(),
            "peer = 3"
        );
    }
}
