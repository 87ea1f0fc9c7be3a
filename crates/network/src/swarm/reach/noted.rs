//! What the connection log is told.

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    swarm::{ConnectionError, ConnectionId, DialError, ListenError},
};

use super::{super::dial, Loop};
use crate::{
    admission::Denied,
    guard::Refused,
    identity,
    log::{ClosedBecause, ConnectionChange, Path, RefusedBecause},
    peers::{self, Direction, Link},
};

impl Loop {
    pub(in crate::swarm) fn close_because(&mut self, connection: ConnectionId, why: ClosedBecause) {
        if self.swarm.close_connection(connection) {
            self.reaching.because.insert(connection, why);
        }
    }

    pub(in crate::swarm) fn log_opened(&self, peer: PeerId, connection: ConnectionId) {
        let link = self
            .peers
            .get(&peer)
            .and_then(|connected| connected.links().iter().find(|link| link.id == connection));
        if let Some(link) = link {
            let peer = identity::to_protocol(&peer);
            self.log
                .add(peer, link.direction, link.path(), ConnectionChange::Opened);
        }
    }

    pub(in crate::swarm) fn log_closed(
        &mut self,
        peer: PeerId,
        link: &Link,
        cause: Option<&ConnectionError>,
    ) {
        let why = self.reaching.because.remove(&link.id);
        let why = why.unwrap_or(match cause {
            Some(ConnectionError::IO(_)) => ClosedBecause::Broken,
            Some(ConnectionError::KeepAliveTimeout) | None => ClosedBecause::Finished,
        });
        let peer = identity::to_protocol(&peer);
        self.log.add(
            peer,
            link.direction,
            link.path(),
            ConnectionChange::Closed(why),
        );
    }

    pub(in crate::swarm) fn log_not_let_in(
        &self,
        peer: Option<PeerId>,
        local: &Multiaddr,
        remote: &Multiaddr,
        error: &ListenError,
    ) {
        let endpoint = ConnectedPoint::Listener {
            local_addr: local.clone(),
            send_back_addr: remote.clone(),
        };
        let why = match error {
            ListenError::Denied { cause } => {
                if cause
                    .downcast_ref::<libp2p::allow_block_list::Blocked>()
                    .is_some()
                {
                    RefusedBecause::Blocked
                } else {
                    match cause.downcast_ref::<Denied>() {
                        Some(Denied::OutOfReach | Denied::Asking) => RefusedBecause::Policy,
                        _ => RefusedBecause::Limit,
                    }
                }
            }
            ListenError::WrongPeerId { .. } => RefusedBecause::WrongPeer,
            ListenError::Aborted | ListenError::Transport(_) | ListenError::LocalPeerId { .. } => {
                RefusedBecause::Handshake
            }
        };
        let path = peers::path_of(&endpoint);
        let peer = peer.as_ref().and_then(identity::to_protocol);
        self.log
            .add(peer, Direction::In, path, ConnectionChange::Refused(why));
    }

    pub(in crate::swarm) fn log_failed_dial(&self, peer: Option<PeerId>, error: &DialError) {
        let (path, why) = match error {
            DialError::Denied { cause } => {
                let why = if cause
                    .downcast_ref::<libp2p::allow_block_list::Blocked>()
                    .is_some()
                {
                    RefusedBecause::Blocked
                } else if cause.downcast_ref::<Refused>().is_some() {
                    RefusedBecause::Policy
                } else {
                    RefusedBecause::Limit
                };
                (Path::Unknown, why)
            }
            DialError::WrongPeerId { address, .. } => {
                (dialled_path(address), RefusedBecause::WrongPeer)
            }
            DialError::Transport(attempts) => {
                let path = match attempts.as_slice() {
                    [(address, _)] => dialled_path(address),
                    _ => Path::Unknown,
                };
                let refused = attempts.iter().any(|(_, error)| dial::is_refused(error));
                let mode = self.reaching.mode();
                let outside = attempts.iter().any(|(address, _)| !mode.may_dial(address));
                let why = if outside {
                    RefusedBecause::Policy
                } else if refused {
                    RefusedBecause::NothingListens
                } else {
                    RefusedBecause::Unreachable
                };
                (path, why)
            }
            // Nothing was tried.
            DialError::LocalPeerId { .. }
            | DialError::NoAddresses
            | DialError::DialPeerConditionFalse(_)
            | DialError::Aborted => return,
        };
        let peer = peer.as_ref().and_then(identity::to_protocol);
        self.log
            .add(peer, Direction::Out, path, ConnectionChange::Refused(why));
    }
}

fn dialled_path(address: &Multiaddr) -> Path {
    peers::path_of(&ConnectedPoint::Dialer {
        address: address.clone(),
        role_override: libp2p::core::Endpoint::Dialer,
        port_use: libp2p::core::transport::PortUse::Reuse,
    })
}
