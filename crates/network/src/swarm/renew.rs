//! Another connection in place of those that are doubted.
//!
//! A path that is gone cannot be told from a peer that thinks. QUIC gives up after ten seconds of silence, TCP after minutes, and
//! until then new streams go onto the dead connection as well. So whoever waits in vain for an answer has another one made: if
//! that succeeds, the peer lives and the ones before do not.

use std::collections::HashMap;

use libp2p::{
    PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{Loop, dial};
use crate::{error::NetworkError, identity, log::ClosedBecause};

/// Renewals under way: each belongs to an answer, and a person has a handful of them.
const RENEWALS: usize = 16;
/// Addresses that are tried.
const ADDRESSES: usize = 8;

pub(super) type Reply = oneshot::Sender<Result<(), NetworkError>>;

/// Renewals under way, by the connection that is being made, each with the address that it is told by.
#[derive(Debug, Default)]
pub(super) struct Renewals(HashMap<ConnectionId, (String, Reply)>);

impl Loop {
    pub(super) fn renew(&mut self, of: &protocol::PeerId, reply: Reply) {
        match self.renewal(of) {
            Ok((peer, options, address)) => {
                let connection = options.connection_id();
                self.renewals.0.insert(connection, (address, reply));
                if let Err(error) = self.swarm.dial(options) {
                    self.dial_failed(connection, Some(peer), &error);
                }
            }
            // A caller that is gone needs no answer, here and below.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn renewal(&self, of: &protocol::PeerId) -> Result<(PeerId, DialOpts, String), NetworkError> {
        let not_connected = || NetworkError::NotConnected { peer: *of };
        let peer = identity::to_libp2p(of).ok_or_else(not_connected)?;
        if self.is_shut_out(&peer) {
            return Err(NetworkError::Blocked { peer: *of });
        }
        if self.renewals.0.len() >= RENEWALS {
            return Err(NetworkError::Busy { limit: RENEWALS });
        }
        let mut addresses: Vec<_> = self
            .peers
            .get(&peer)
            .map_or_else(Vec::new, |connected| connected.dialled().cloned().collect());
        for address in self.addresses.of(&peer) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.truncate(ADDRESSES);
        let shown = addresses.first().ok_or_else(not_connected)?.to_string();
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            // From the old port, a router that forgot the old way would not let the answer in.
            .allocate_new_port()
            .build();
        Ok((peer, options, shown))
    }

    /// A connection was made. True if it was a renewal: the peer's other ones are closed.
    pub(super) fn renewed(&mut self, connection: ConnectionId, peer: &PeerId) -> bool {
        let Some((_, reply)) = self.renewals.0.remove(&connection) else {
            return false;
        };
        let links = self.peers.get(peer).map(|connected| connected.links());
        let doubted: Vec<_> = links
            .into_iter()
            .flatten()
            .map(|link| link.id)
            .filter(|id| *id != connection)
            .collect();
        for id in doubted {
            self.close_because(id, ClosedBecause::Silent);
        }
        drop(reply.send(Ok(())));
        true
    }

    /// A connection was not made. True if it was to be a renewal.
    pub(super) fn renewal_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        if let Some((address, reply)) = self.renewals.0.remove(&connection) {
            drop(reply.send(Err(dial::reason(error, &address, peer))));
        }
    }
}
