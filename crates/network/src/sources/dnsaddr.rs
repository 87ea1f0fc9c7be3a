//! Names whose TXT records name first peers: `_dnsaddr.NAME` has records `dnsaddr=/ip4/…/p2p/…`, or `dnsaddr=/dnsaddr/OTHER` to be
//! looked up in turn (libp2p specifications, addressing).

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};
use libp2p::multiaddr::{Multiaddr, Protocol};

use super::{Candidate, built_in};

/// Names that a node may be told to look up: each is a question to a name server, and may lead to more of them.
pub const MAX_DNS_NAMES: usize = 8;
/// Look-ups in all, those of names that names led to included.
const LOOKUPS: usize = 16;
/// Records of one name that count.
const RECORDS: usize = 32;
/// Candidates in all: as many as one list has.
const CANDIDATES: usize = built_in::MAX_PEERS;
/// How long one look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks up what these names stand for. What could be had is returned with the first reason why not all could.
pub(crate) async fn look_up(
    names: &[String],
    server: Option<SocketAddr>,
) -> (Vec<Candidate>, Option<String>) {
    let resolver = match resolver(server) {
        Ok(resolver) => resolver,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut names: VecDeque<_> = names.iter().take(MAX_DNS_NAMES).cloned().collect();
    let mut seen: HashSet<_> = names.iter().cloned().collect();
    let (mut found, mut problem) = (Vec::new(), None);
    for _ in 0..LOOKUPS {
        let Some(name) = names.pop_front() else { break };
        let question = format!("_dnsaddr.{}.", name.trim_end_matches('.'));
        let answer = tokio::time::timeout(PATIENCE, resolver.txt_lookup(question)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                problem.get_or_insert(format!("{name}: {error}"));
                continue;
            }
            Err(_) => {
                problem.get_or_insert(format!("{name}: no answer within {} s", PATIENCE.as_secs()));
                continue;
            }
        };
        for record in answer.answers().iter().take(RECORDS) {
            let RData::TXT(txt) = &record.data else {
                continue;
            };
            // A record of more than 255 bytes comes in pieces that belong together.
            let text: Vec<u8> = txt
                .txt_data
                .iter()
                .flat_map(|piece| piece.iter().copied())
                .collect();
            match read(&text) {
                Some(Told::Peer(candidate)) if found.len() < CANDIDATES => found.push(candidate),
                Some(Told::Name(name)) if seen.len() < LOOKUPS && seen.insert(name.clone()) => {
                    names.push_back(name);
                }
                Some(Told::Peer(_) | Told::Name(_)) => {}
                None => tracing::debug!(name, "a TXT record is no address"),
            }
        }
    }
    (found, problem)
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let Some(server) = server else {
        return TokioResolver::builder_tokio()?.build();
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

/// What one record says.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Peer(Candidate),
    Name(String),
}

fn read(record: &[u8]) -> Option<Told> {
    let text = std::str::from_utf8(record).ok()?.strip_prefix("dnsaddr=")?;
    if let Some(candidate) = built_in::candidate(text) {
        return Some(Told::Peer(candidate));
    }
    let address: Multiaddr = text.parse().ok()?;
    match address.iter().next() {
        Some(Protocol::Dnsaddr(name)) => Some(Told::Name(name.into_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_peer_or_another_name_or_nothing() {
        let peer = libp2p::PeerId::random();
        let told = read(format!("dnsaddr=/ip4/192.0.2.1/tcp/443/p2p/{peer}").as_bytes());
        assert_eq!(
            told,
            Some(Told::Peer(Candidate {
                peer: Some(peer),
                address: "/ip4/192.0.2.1/tcp/443".parse().unwrap()
            }))
        );
        let name = read(b"dnsaddr=/dnsaddr/eu.example.org");
        assert_eq!(name, Some(Told::Name("eu.example.org".to_owned())));
        let nothing: [&[u8]; 5] = [
            b"",
            b"v=spf1 -all",
            b"dnsaddr=/ip4/192.0.2.1/tcp/443",
            b"dnsaddr=/ip4/0.0.0.0/tcp/1/p2p/x",
            b"\xff",
        ];
        for record in nothing {
            assert_eq!(read(record), None);
        }
    }
}
