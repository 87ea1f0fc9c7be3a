//! The list of first peers that comes with the program: text that anybody can read, sign anew with a key of their own, and ship
//! with a fork.
//!
//! ```text
//! decentralgpt/peers/1
//! network decentralgpt/1
//! serial 3
//! issued 1790000000
//! expires 1820000000
//! next 12D3KooW…                                         (where the next list is signed with another key)
//! peer /ip4/192.0.2.1/udp/443/quic-v1/p2p/12D3KooW…
//! sig <128 hex digits>
//! ```
//!
//! One field a line, one space behind its name, lines end in `\n`, times are Unix seconds. The signature is Ed25519 over
//! [`DOMAIN`] and all bytes before its line, by the maker's key, which is written as the peer id that it would have.
//!
//! A key is changed by a list that names the `next` one: from then on that key alone counts. A file may hold several lists one after
//! the other, so that a program which knows only the first key follows the changes to the last list, which is the one that counts.

use bytes::Bytes;
use libp2p::Multiaddr;
use protocol::{NetworkId, PeerId, Signer};

use super::Candidate;
use crate::address;

/// Domain of a list's signature.
pub(crate) const DOMAIN: &str = "decentralgpt/peers/1";
/// The first line of a list.
const TITLE: &str = DOMAIN;
/// Bytes of a file: a dozen lists of 64 peers.
pub(crate) const MAX_BYTES: usize = 128 << 10;
/// Lists in one file: a change of key a year.
const MAX_LISTS: usize = 16;
/// Peers in one list: eight of four operators are the aim.
pub(crate) const MAX_PEERS: usize = 64;

/// A list, and whose signature counts.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    /// The bytes of the file.
    pub list: Bytes,
    /// The key that the program was built with.
    pub maker: PeerId,
}

/// Why a list does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// More bytes, lists or peers than allowed.
    #[error("the list of first peers is too long")]
    TooLong,
    /// A line that is not of the form.
    #[error("line {line} of the list of first peers is malformed")]
    Malformed {
        /// Counted from one.
        line: usize,
    },
    /// No list in it.
    #[error("the list of first peers is empty or breaks off")]
    Incomplete,
    /// Signed by somebody else, or altered.
    #[error("list {serial} of first peers is not signed by {expected}")]
    Signature {
        /// The list's number.
        serial: u64,
        /// Whose signature would count.
        expected: PeerId,
    },
    /// Numbers must rise from list to list.
    #[error("list {serial} of first peers comes after list {before}")]
    Order {
        /// Its number.
        serial: u64,
        /// The one before it.
        before: u64,
    },
    /// For another network.
    #[error("the list of first peers is for another network")]
    WrongNetwork,
    /// Its time is over.
    #[error("the list of first peers ended at {expires_unix_s} (Unix seconds)")]
    Expired {
        /// When.
        expires_unix_s: u64,
    },
}

/// A list to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerList {
    /// The network that it is for.
    pub network: NetworkId,
    /// Rises with each list.
    pub serial: u64,
    /// Unix seconds.
    pub issued_unix_s: u64,
    /// Unix seconds.
    pub expires_unix_s: u64,
    /// The key that signs the lists after this one, where it is another.
    pub next: Option<PeerId>,
    /// Multiaddrs with `/p2p/…`.
    pub peers: Vec<String>,
}

impl PeerList {
    /// The list with its signature: the whole file, or a piece to be put behind the lists before it.
    #[must_use]
    pub fn sign(&self, maker: &Signer) -> String {
        use std::fmt::Write;
        let mut text = format!(
            "{TITLE}\nnetwork {}\nserial {}\nissued {}\nexpires {}\n",
            self.network, self.serial, self.issued_unix_s, self.expires_unix_s
        );
        // Writing into a String does not fail.
        if let Some(next) = &self.next {
            let _ = writeln!(text, "next {next}");
        }
        for peer in &self.peers {
            let _ = writeln!(text, "peer {peer}");
        }
        let sig = maker.sign(DOMAIN, text.as_bytes());
        let _ = writeln!(text, "sig {}", hex::encode(sig));
        text
    }

    /// Reads a file: every list in it must hold, and the last one must be in time.
    ///
    /// # Errors
    /// The first reason found, see [`ListError`].
    pub fn verify(
        bytes: &[u8],
        maker: PeerId,
        network: &NetworkId,
        unix_s: u64,
    ) -> Result<Self, ListError> {
        if bytes.len() > MAX_BYTES {
            return Err(ListError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ListError::Malformed { line: 1 })?;
        let mut lines = Lines {
            text,
            at: 0,
            line: 0,
        };
        let mut trusted = maker;
        let mut last: Option<Self> = None;
        for lists in 0.. {
            if lines.at == text.len() {
                break;
            }
            if lists == MAX_LISTS {
                return Err(ListError::TooLong);
            }
            let list = lines.list(&trusted)?;
            if let Some(before) = &last
                && list.serial <= before.serial
            {
                return Err(ListError::Order {
                    serial: list.serial,
                    before: before.serial,
                });
            }
            trusted = list.next.unwrap_or(trusted);
            last = Some(list);
        }
        let last = last.ok_or(ListError::Incomplete)?;
        if last.network != *network {
            return Err(ListError::WrongNetwork);
        }
        if last.expires_unix_s <= unix_s {
            return Err(ListError::Expired {
                expires_unix_s: last.expires_unix_s,
            });
        }
        Ok(last)
    }
}

/// The peers of a list, if it counts.
pub(crate) fn candidates(
    built_in: &BuiltIn,
    network: &NetworkId,
    unix_ms: u64,
) -> Result<Vec<Candidate>, ListError> {
    let list = PeerList::verify(&built_in.list, built_in.maker, network, unix_ms / 1000)?;
    Ok(list
        .peers
        .iter()
        .filter_map(|text| candidate(text))
        .collect())
}

/// An address with a peer id that can be dialled.
pub(crate) fn candidate(text: &str) -> Option<Candidate> {
    let address: Multiaddr = text.parse().ok()?;
    let peer = address::peer_of(&address)?;
    let address = address::without_peer(&address);
    address::is_dialable(&address).then_some(Candidate {
        peer: Some(peer),
        address,
    })
}

/// Where in the file we are.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn malformed(&self) -> ListError {
        ListError::Malformed { line: self.line }
    }

    fn next(&mut self) -> Result<&'a str, ListError> {
        self.line += 1;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find('\n').ok_or(ListError::Incomplete)?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn field(&mut self, name: &str) -> Result<&'a str, ListError> {
        let line = self.next()?;
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(' '))
            .filter(|value| !value.is_empty())
            .ok_or_else(|| self.malformed())
    }

    fn number(&mut self, name: &str) -> Result<u64, ListError> {
        let text = self.field(name)?;
        text.parse().map_err(|_| self.malformed())
    }

    fn list(&mut self, trusted: &PeerId) -> Result<PeerList, ListError> {
        let begin = self.at;
        if self.next()? != TITLE {
            return Err(self.malformed());
        }
        let network = NetworkId::new(self.field("network")?).map_err(|_| self.malformed())?;
        let mut list = PeerList {
            network,
            serial: self.number("serial")?,
            issued_unix_s: self.number("issued")?,
            expires_unix_s: self.number("expires")?,
            next: None,
            peers: Vec::new(),
        };
        loop {
            let end = self.at;
            let line = self.next()?;
            match line.split_once(' ') {
                Some(("next", key)) if list.next.is_none() && list.peers.is_empty() => {
                    list.next = Some(key.parse().map_err(|_| self.malformed())?);
                }
                Some(("peer", peer)) => {
                    if list.peers.len() == MAX_PEERS {
                        return Err(ListError::TooLong);
                    }
                    candidate(peer).ok_or_else(|| self.malformed())?;
                    list.peers.push(peer.to_owned());
                }
                Some(("sig", sig)) => {
                    let sig = hex::decode(sig).map_err(|_| self.malformed())?;
                    let signed = self.text.as_bytes().get(begin..end).unwrap_or_default();
                    protocol::verify(trusted, DOMAIN, signed, &sig).map_err(|_| {
                        ListError::Signature {
                            serial: list.serial,
                            expected: *trusted,
                        }
                    })?;
                    return Ok(list);
                }
                _ => return Err(self.malformed()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn maker(seed: u8) -> Signer {
        Signer::from_seed([seed; 32])
    }

    fn list(serial: u64) -> PeerList {
        PeerList {
            network: NetworkId::MAIN,
            serial,
            issued_unix_s: NOW - 10,
            expires_unix_s: NOW + 10,
            next: None,
            peers: vec![format!(
                "/ip4/192.0.2.1/udp/443/quic-v1/p2p/{}",
                maker(9).peer_id()
            )],
        }
    }

    fn read(text: &str) -> Result<PeerList, ListError> {
        PeerList::verify(text.as_bytes(), maker(1).peer_id(), &NetworkId::MAIN, NOW)
    }

    #[test]
    fn a_list_of_the_maker_counts_until_it_ends() {
        let text = list(1).sign(&maker(1));
        assert_eq!(read(&text), Ok(list(1)));
        let at = |unix_s| {
            PeerList::verify(
                text.as_bytes(),
                maker(1).peer_id(),
                &NetworkId::MAIN,
                unix_s,
            )
        };
        assert!(at(NOW + 9).is_ok());
        assert!(matches!(at(NOW + 10), Err(ListError::Expired { .. })));
        let elsewhere = NetworkId::new("decentralgpt/lab").unwrap();
        let other = PeerList::verify(text.as_bytes(), maker(1).peer_id(), &elsewhere, NOW);
        assert_eq!(other, Err(ListError::WrongNetwork));
    }

    /// `docs/protocol.md` shows this one.
    #[test]
    fn the_page_of_the_protocol_shows_a_list_that_counts() {
        let list = PeerList {
            serial: 3,
            issued_unix_s: NOW,
            expires_unix_s: NOW + 31_536_000,
            next: Some(maker(2).peer_id()),
            ..list(3)
        };
        let page = include_str!("../../../../docs/protocol.md");
        let text = list.sign(&maker(1));
        assert!(page.contains(&format!("```text list\n{text}```")), "{text}");
        assert_eq!(read(&text), Ok(list));
    }

    #[test]
    fn a_list_of_somebody_else_or_altered_by_one_byte_does_not() {
        assert!(matches!(
            read(&list(1).sign(&maker(2))),
            Err(ListError::Signature { .. })
        ));
        let text = list(1).sign(&maker(1));
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] ^= 1;
            // Hex digits of either case are the same signature, and nothing else is.
            let read = PeerList::verify(&altered, maker(1).peer_id(), &NetworkId::MAIN, NOW);
            assert!(read.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_key_is_handed_over_and_the_old_one_counts_no_more() {
        let handover = PeerList {
            next: Some(maker(2).peer_id()),
            expires_unix_s: NOW - 5,
            ..list(1)
        };
        let handover = handover.sign(&maker(1));
        let chain = |signer| format!("{handover}{}", list(2).sign(&maker(signer)));
        assert_eq!(
            read(&chain(2)),
            Ok(list(2)),
            "the handover itself may be over"
        );
        assert!(matches!(
            read(&chain(1)),
            Err(ListError::Signature { serial: 2, .. })
        ));
        let back = format!("{handover}{}", list(1).sign(&maker(2)));
        assert_eq!(
            read(&back),
            Err(ListError::Order {
                serial: 1,
                before: 1
            })
        );
        assert!(matches!(read(&handover), Err(ListError::Expired { .. })));
    }

    #[test]
    fn senseless_and_endless_lists_are_refused() {
        assert_eq!(read(""), Err(ListError::Incomplete));
        assert_eq!(read("decentralgpt/peers/1\n"), Err(ListError::Incomplete));
        assert_eq!(
            read("something else\n"),
            Err(ListError::Malformed { line: 1 })
        );
        assert_eq!(read(&"x".repeat(MAX_BYTES + 1)), Err(ListError::TooLong));
        let mut many = list(1);
        many.peers = vec![many.peers[0].clone(); MAX_PEERS + 1];
        assert_eq!(read(&many.sign(&maker(1))), Err(ListError::TooLong));
        let chain: String = (1..=MAX_LISTS as u64 + 1)
            .map(|at| list(at).sign(&maker(1)))
            .collect();
        assert_eq!(read(&chain), Err(ListError::TooLong));
        for peer in [
            "",
            "nonsense",
            "/ip4/192.0.2.1/tcp/1",
            "/dnsaddr/example.org",
        ] {
            let list = PeerList {
                peers: vec![peer.to_owned()],
                ..list(1)
            };
            assert_eq!(
                read(&list.sign(&maker(1))),
                Err(ListError::Malformed { line: 6 }),
                "{peer}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error(text in "(?s).{0,300}") {
            prop_assert!(read(&text).is_err());
        }

        #[test]
        fn lines_in_any_order_are_a_list_or_an_error(order in prop::collection::vec(0usize..7, 0..20)) {
            let text = list(1).sign(&maker(1));
            let lines: Vec<_> = text.lines().collect();
            let mixed: String = order.iter().map(|at| format!("{}\n", lines[*at])).collect();
            let whole = order == [0, 1, 2, 3, 4, 5, 6];
            prop_assert_eq!(read(&mixed).is_ok(), whole);
        }
    }
}
