//! The address book as it lies on disk: JSON, so that a person can read whom their computer knows.

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{ADDRESSES, ANCHORS, BUCKETS, Entry, PLACES, PeerBook, Table};
use crate::address;

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct BookFile {
    version: u32,
    /// Decides who stands where; 32 bytes in hex.
    key: String,
    anchors: Vec<String>,
    peers: Vec<PeerLine>,
}

#[derive(Serialize, Deserialize)]
struct PeerLine {
    peer: String,
    addresses: Vec<String>,
    tried: bool,
    bucket: u64,
    place: u64,
    reached_unix_ms: u64,
    dialled_unix_ms: u64,
    failures: u32,
}

impl PeerBook {
    /// The book as a file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Text, numbers and lists: nothing in it fails to become JSON.
        serde_json::to_vec_pretty(&self.to_file()).unwrap_or_default()
    }

    fn to_file(&self) -> BookFile {
        BookFile {
            version: VERSION,
            key: hex::encode(self.key),
            anchors: self.anchors.iter().map(ToString::to_string).collect(),
            peers: self
                .entries
                .iter()
                .map(|(peer, entry)| PeerLine {
                    peer: peer.to_string(),
                    addresses: entry.addresses.iter().map(ToString::to_string).collect(),
                    tried: entry.place.0 == Table::Tried,
                    bucket: entry.place.1,
                    place: entry.place.2,
                    reached_unix_ms: entry.reached_unix_ms,
                    dialled_unix_ms: entry.dialled_unix_ms,
                    failures: entry.failures,
                })
                .collect(),
        }
    }

    /// Reads a book from the bytes of a file. `None`: it is none. A peer that could not stand where it says is left out.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let file: BookFile = serde_json::from_slice(bytes).ok()?;
        if file.version != VERSION {
            return None;
        }
        let mut key = [0; 32];
        hex::decode_to_slice(&file.key, &mut key).ok()?;
        let mut book = Self::with_key(key);
        for line in file.peers.into_iter().take((2 * BUCKETS * PLACES) as usize) {
            book.take_line(line);
        }
        let anchors = file.anchors.iter().filter_map(|text| text.parse().ok());
        book.anchors = anchors
            .filter(|peer| book.entries.contains_key(peer))
            .take(ANCHORS)
            .collect();
        book.changed = false;
        Some(book)
    }

    fn take_line(&mut self, line: PeerLine) {
        let Ok(peer) = line.peer.parse::<PeerId>() else {
            return;
        };
        let addresses: Vec<Multiaddr> = line
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .filter(|address| address::is_dialable(address) && address::peer_of(address).is_none())
            .take(ADDRESSES)
            .collect();
        let table = if line.tried { Table::Tried } else { Table::New };
        let place = (table, line.bucket, line.place);
        let taken = self.places.contains_key(&place) || self.entries.contains_key(&peer);
        if addresses.is_empty() || line.bucket >= BUCKETS || line.place >= PLACES || taken {
            return;
        }
        let entry = Entry {
            addresses,
            place,
            reached_unix_ms: line.reached_unix_ms,
            dialled_unix_ms: line.dialled_unix_ms,
            failures: line.failures,
        };
        self.insert(peer, entry);
    }
}
