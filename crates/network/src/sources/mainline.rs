//! First peers from BitTorrent's Mainline DHT (BEP 5): millions of computers that keep, for half an hour, who announced itself under
//! a key of 20 bytes. Ours follows from the network and the week. It yields IPv4 addresses and ports and nothing else; who is there
//! shows in the handshake.
//!
//! Whoever looks at the wire, or asks for the same key, sees that this computer runs the program: hence the switch.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use futures::StreamExt;
use libp2p::{Multiaddr, multiaddr::Protocol};
use mainline::{Dht, Id, async_dht::AsyncDht};
use protocol::{
    NetworkId,
    lookup::{WEEK_MS, mainline_key},
};

use super::Candidate;
use crate::address::{self, Scope};

/// On both sides of the change both keys are used.
const OVERLAP_MS: u64 = 60 * 60 * 1000;
/// Addresses taken from one look-up: strangers may put any there.
const ADDRESSES: usize = 32;
/// How long a look-up may take; the network's own requests take two seconds each.
const LOOK_UP: Duration = Duration::from_secs(15);
/// How long an announcement may take: a look-up and a write.
const ANNOUNCE: Duration = Duration::from_secs(30);
/// Mainline forgets an announcement after about half an hour.
pub(crate) const ANNOUNCE_EVERY: Duration = Duration::from_secs(20 * 60);

/// Whether BitTorrent's DHT is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mainline {
    /// No socket for it is made.
    #[default]
    Off,
    /// Looked at while no other source brings peers, and announced to while this node is reached from outside.
    On {
        /// Where to enter. `None`: the public entry points that are built into the library.
        bootstrap: Option<Vec<SocketAddr>>,
    },
}

/// Where we enter it.
#[derive(Clone, Debug)]
pub(crate) struct Entry(Option<Vec<SocketAddr>>);

impl Mainline {
    pub(crate) fn entry(&self) -> Option<Entry> {
        match self {
            Self::Off => None,
            Self::On { bootstrap } => Some(Entry(bootstrap.clone())),
        }
    }
}

impl Entry {
    /// A node of it on a thread of its own, which ends when the last handle is dropped. Resolves names: not for the loop's thread.
    fn open(&self) -> io::Result<AsyncDht> {
        let mut builder = Dht::builder();
        if let Some(bootstrap) = &self.0 {
            builder.bootstrap(bootstrap);
        }
        if self.scope() == Scope::Loopback {
            builder.bind_address(Ipv4Addr::LOCALHOST);
        }
        Ok(builder.build()?.as_async())
    }

    /// How near the network is that we enter: only one on this computer may name addresses of this computer.
    pub(crate) fn scope(&self) -> Scope {
        let given = self.0.iter().flatten();
        given
            .filter_map(|at| address::scope(&Multiaddr::from(at.ip())))
            .max()
            .unwrap_or(Scope::Public)
    }

    /// Who announced itself lately.
    pub(crate) async fn look_up(
        &self,
        network: &NetworkId,
        unix_ms: u64,
    ) -> Result<Vec<Candidate>, String> {
        let dht = self.ready().await?;
        let mut found: Vec<SocketAddrV4> = Vec::new();
        let look = async {
            for key in keys(network, unix_ms) {
                let mut answers = dht.get_peers(key);
                while let Some(answer) = answers.next().await
                    && found.len() < ADDRESSES
                {
                    for at in answer.into_iter().take(ADDRESSES) {
                        if !found.contains(&at) && found.len() < ADDRESSES {
                            found.push(at);
                        }
                    }
                }
            }
        };
        // What came until then is as good.
        let _ = tokio::time::timeout(LOOK_UP, look).await;
        Ok(self.candidates(&found))
    }

    /// Says that this node listens on this port, at whatever address this computer has to the outside.
    pub(crate) async fn announce(
        &self,
        network: &NetworkId,
        port: u16,
        unix_ms: u64,
    ) -> Result<(), String> {
        let dht = self.ready().await?;
        for key in keys(network, unix_ms) {
            let announced =
                tokio::time::timeout(ANNOUNCE, dht.announce_peer(key, Some(port))).await;
            announced
                .map_err(|_| format!("no answer within {} s", ANNOUNCE.as_secs()))?
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn ready(&self) -> Result<AsyncDht, String> {
        let entry = self.clone();
        let opened = tokio::task::spawn_blocking(move || entry.open()).await;
        opened
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    /// Both transports of each address: an announcement does not say which.
    fn candidates(&self, found: &[SocketAddrV4]) -> Vec<Candidate> {
        let scope = self.scope();
        found
            .iter()
            .flat_map(|at| {
                let ip = Multiaddr::from(*at.ip());
                let quic = ip
                    .clone()
                    .with(Protocol::Udp(at.port()))
                    .with(Protocol::QuicV1);
                [quic, ip.with(Protocol::Tcp(at.port()))]
            })
            .filter(|address| address::may_tell(scope, address))
            .map(|address| Candidate {
                peer: None,
                address,
            })
            .collect()
    }
}

/// This week's key, and that of the week which began, or begins, within the hour.
fn keys(network: &NetworkId, unix_ms: u64) -> Vec<Id> {
    let weeks = unix_ms.saturating_sub(OVERLAP_MS) / WEEK_MS..=(unix_ms + OVERLAP_MS) / WEEK_MS;
    weeks
        .filter_map(|week| Id::from_bytes(mainline_key(network.as_str(), week)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bootstrap: &[&str]) -> Entry {
        Entry(Some(
            bootstrap.iter().map(|text| text.parse().unwrap()).collect(),
        ))
    }

    #[test]
    fn the_key_changes_by_week_and_network_and_nobody_is_missed_at_the_change() {
        let other = NetworkId::new("decentralgpt/lab").unwrap();
        let key = |network: &NetworkId, week| mainline_key(network.as_str(), week);
        assert_ne!(key(&NetworkId::MAIN, 1), key(&NetworkId::MAIN, 2));
        assert_ne!(key(&NetworkId::MAIN, 1), key(&other, 1));
        let change = 2900 * WEEK_MS;
        assert_eq!(keys(&NetworkId::MAIN, change + WEEK_MS / 2).len(), 1);
        for off in [1, OVERLAP_MS / 2] {
            let (before, after) = (
                keys(&NetworkId::MAIN, change - off),
                keys(&NetworkId::MAIN, change + off),
            );
            assert_eq!((before.len(), &before), (2, &after));
        }
    }

    #[test]
    fn strangers_name_no_addresses_of_this_home_or_computer() {
        let found = [
            "192.168.0.1:80",
            "127.0.0.1:80",
            "198.51.100.1:4001",
            "198.51.100.1:0",
            "0.0.0.0:1",
        ];
        let found = found.map(|text| text.parse().unwrap());
        let public = entry(&["198.51.100.9:6881"]).candidates(&found);
        let shown: Vec<_> = public.iter().map(|one| one.address.to_string()).collect();
        assert_eq!(
            shown,
            [
                "/ip4/198.51.100.1/udp/4001/quic-v1",
                "/ip4/198.51.100.1/tcp/4001"
            ]
        );
        assert_eq!(Entry(None).candidates(&found), public);
        assert_eq!(
            entry(&["198.51.100.9:6881", "127.0.0.1:1"]).candidates(&found),
            public
        );
        assert!(entry(&["127.0.0.1:6881"]).candidates(&found).len() > public.len());
    }
}
