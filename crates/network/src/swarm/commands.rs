//! Commands of the handle, and events of the swarm, each to its place.

use libp2p::{
    identify, mdns, ping,
    swarm::{ConnectionId, ListenError, SwarmEvent},
};

use super::{Command, Loop};
use crate::{
    address::{self, Scope},
    behaviour::BehaviourEvent,
    identity,
    log::ClosedBecause,
    peers::{self, Word},
};

/// Peers found on the local network that are dialled without being asked for.
const MDNS_DIALS: usize = 16;
/// Protocols remembered of one peer. An honest one speaks ten.
const PROTOCOLS: usize = 32;
/// Addresses taken from what one peer says of itself.
const ADDRESSES: usize = 8;

impl Loop {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::SetListening {
                listen,
                mdns,
                reply,
            } => self.set_listening(&listen, mdns, reply),
            Command::Connect { addr, reply } => self.connect(&addr, reply),
            Command::Disconnect { peer, reply } => {
                if let Some(peer) = identity::to_libp2p(&peer) {
                    // Already gone is as good.
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
                let _ = reply.send(());
            }
            Command::SetBlocked {
                peer,
                blocked,
                reply,
            } => {
                self.set_blocked(&peer, blocked);
                let _ = reply.send(());
            }
            Command::Renew { peer, reply } => self.renew(&peer, reply),
            Command::WithinReach { mut peers, reply } => {
                peers.retain(|peer| {
                    identity::to_libp2p(peer).is_some_and(|peer| self.is_within_reach(&peer))
                });
                let _ = reply.send(peers);
            }
            Command::OpenJob { peer, reply } => self.open_job(&peer, reply),
            Command::PullOffers { peer, reply } => self.pull_offers(&peer, reply),
            Command::SetOffers { offers, reply } => {
                self.set_offers(offers);
                let _ = reply.send(());
            }
            Command::FindOffers { model, enough, out } => self.find_offers(model, enough, out),
            Command::HeadPiece {
                peer,
                model,
                offset,
                reply,
            } => self.ask_for_piece(&peer, &model, offset, reply),
            Command::Quote {
                peer,
                request,
                reply,
            } => self.ask_for_quote(&peer, request, reply),
            Command::Wake { reply } => {
                self.woke();
                let _ = reply.send(());
            }
            Command::NetworkChanged { reply } => {
                self.network_changed();
                let _ = reply.send(());
            }
            // The run loop ends on this one before it comes here.
            Command::Shutdown { reply } => drop(reply),
            #[cfg(feature = "lab")]
            Command::Lab(command) => self.on_lab(command),
        }
    }

    fn set_blocked(&mut self, peer: &protocol::PeerId, blocked: bool) {
        let Some(peer) = identity::to_libp2p(peer) else {
            return;
        };
        if blocked {
            self.blocked.insert(peer);
            self.shut_out(peer);
        } else if self.blocked.remove(&peer) && !self.conduct.is_banned(&peer) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        self.dirty = true;
    }

    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.peers.opened(peer_id, connection_id, &endpoint);
                self.log_opened(peer_id, connection_id);
                self.reach_changed();
                self.dial_succeeded(connection_id, peer_id, &endpoint);
                self.dirty = true;
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                if let Some(link) = self.peers.closed(&peer_id, connection_id) {
                    self.log_closed(peer_id, &link, cause.as_ref());
                }
                self.reach_changed();
                if num_established == 0 {
                    self.peer_gone(&peer_id);
                }
                self.dirty = true;
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                self.dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError {
                peer_id,
                error,
                local_addr,
                send_back_addr,
                ..
            } => {
                tracing::debug!(%error, "a connection was not let in");
                self.refusals.connections += u64::from(matches!(error, ListenError::Denied { .. }));
                self.log_not_let_in(peer_id, &local_addr, &send_back_addr, &error);
                self.dirty = true;
            }
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => self.listener_has(listener_id, address),
            SwarmEvent::ExpiredListenAddr {
                listener_id,
                address,
            } => self.listener_lost(listener_id, &address),
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => self.listener_closed(listener_id, reason.err()),
            SwarmEvent::ListenerError { listener_id, error } => {
                tracing::debug!(?listener_id, %error, "a listener reports an error and goes on");
            }
            SwarmEvent::IncomingConnection { .. }
            | SwarmEvent::Dialing { .. }
            | SwarmEvent::NewExternalAddrCandidate { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. }
            | SwarmEvent::NewExternalAddrOfPeer { .. } => {}
            // The enum may grow: what is new concerns nobody here yet.
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Admission(never)
            | BehaviourEvent::Limits(never)
            | BehaviourEvent::Blocked(never) => match never {},
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => self.identified(peer_id, connection_id, &info),
            BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. }) => {
                tracing::debug!(peer = %peer_id, %error, "a peer did not introduce itself");
                self.is_no_peer_of_ours(peer_id);
            }
            BehaviourEvent::Identify(
                identify::Event::Sent { .. } | identify::Event::Pushed { .. },
            ) => {}
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result,
            }) => {
                let rtt = result.ok();
                if let Some(rtt) = rtt {
                    let admission = &mut self.swarm.behaviour_mut().admission;
                    admission.pinged(connection, rtt);
                }
                if self.peers.pinged(&peer, connection, rtt) {
                    tracing::debug!(%peer, "a connection is closed, since pings do not come back");
                    self.close_because(connection, ClosedBecause::Silent);
                }
                self.dirty = true;
            }
            BehaviourEvent::Autonat(event) => self.on_probed(&event),
            BehaviourEvent::AutonatServer(event) => self.on_tried(&event),
            BehaviourEvent::RelayClient(event) => self.on_relay(event),
            BehaviourEvent::RelayServer(event) => self.on_relaying(event),
            BehaviourEvent::Dcutr(event) => self.on_hole_punched(&event),
            BehaviourEvent::Upnp(event) => self.on_upnp(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_local_network(found),
            BehaviourEvent::Mdns(mdns::Event::Expired(_)) => {}
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Offers(event) => self.on_offers(event),
            BehaviourEvent::Heads(event) => self.on_heads(event),
            BehaviourEvent::Quotes(event) => self.on_quotes(event),
            BehaviourEvent::Streams(event) => self.on_stream(event),
        }
    }

    /// A peer said who it is and what it speaks, for the first time or again.
    fn identified(&mut self, peer: libp2p::PeerId, on: ConnectionId, info: &identify::Info) {
        let Some(connected) = self.peers.get_mut(&peer) else {
            return;
        };
        connected.agent = Some(peers::agent(&info.agent_version));
        connected.protocols = Some(
            info.protocols
                .iter()
                .take(PROTOCOLS)
                .map(ToString::to_string)
                .collect(),
        );
        let scope = connected.scope();
        let told = info.listen_addrs.iter().map(address::without_peer);
        let told = told.take(ADDRESSES).collect();
        self.learn(peer, told, scope, peer);
        self.dirty = true;
        self.introduced(peer, on, &info.observed_addr);
        self.dial_identified(&peer);
        self.hunt_identified(peer);
        self.route_to(&peer);
        self.refresh_offers(peer);
        self.search_met(peer);
    }

    fn on_local_network(&mut self, found: Vec<(libp2p::PeerId, libp2p::Multiaddr)>) {
        for (peer, address) in found {
            let is_us = peer == *self.swarm.local_peer_id()
                || identity::to_protocol(&peer) == self.other_self;
            if is_us || self.is_shut_out(&peer) {
                continue;
            }
            if !address::may_tell(Scope::Private, &address::without_peer(&address)) {
                continue;
            }
            self.addresses.add(peer, [address], Word::Own);
            if self.peers.iter().count() < MDNS_DIALS {
                self.dial_neighbour(peer);
            }
        }
    }

    fn peer_gone(&mut self, peer: &libp2p::PeerId) {
        self.dial_lost(peer);
        self.unsure_gone(peer);
        self.reach_gone(peer);
        self.search_heard(peer);
    }
}
