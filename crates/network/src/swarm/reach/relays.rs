//! Places at relays: when they are wanted, asked for, held and given up; and carrying for others.

use std::{io, time::Instant};

use libp2p::{core::transport::ListenerId, relay};

use super::{Loop, UNSURE};
use crate::{
    peers::unix_ms,
    reach::{PortState, ReachMode, RelayClient, Role},
    relay::circuit,
};

impl Loop {
    pub(super) fn wants_relays(&self) -> bool {
        let reaching = &self.reaching;
        let on = reaching.role == Role::Serving
            && reaching.policy.mode != ReachMode::LanOnly
            && self.listening.is_on();
        let unsure = reaching
            .listening_since
            .is_none_or(|since| since.elapsed() >= UNSURE);
        on && match reaching.policy.relay_client {
            RelayClient::Off => false,
            RelayClient::Always => true,
            RelayClient::WhenUnreachable => {
                !reaching.reach.is_public()
                    && (reaching.reach.is_disproved() || self.listening.by_relay_only() || unsure)
            }
        }
    }

    /// Asks relays for a place, as long as one is wanted and somebody can be asked.
    pub(super) fn reserve(&mut self) {
        if !self.wants_relays() {
            return;
        }
        let now = Instant::now();
        while let Some((peer, address)) = self.reaching.relays.next(now) {
            match self.swarm.listen_on(circuit(peer, &address)) {
                Ok(listener) => self.reaching.relays.asked(&peer, listener),
                Err(error) => {
                    tracing::debug!(%peer, %error, "a relay cannot be asked");
                    self.reaching.relays.failed(&peer, now);
                }
            }
            self.dirty = true;
        }
    }

    pub(in crate::swarm) fn on_relay(&mut self, event: relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                limit,
                ..
            } => {
                let limit = limit.map(|limit| {
                    let seconds = limit.duration().map(|lasts| lasts.as_secs());
                    (limit.data_in_bytes(), seconds)
                });
                self.reaching
                    .relays
                    .accepted(&relay_peer_id, limit, unix_ms());
                self.swarm.behaviour_mut().admission.value(relay_peer_id);
                self.reach_changed();
            }
            // What it carries ends with the connection to it.
            relay::client::Event::OutboundCircuitEstablished { relay_peer_id, .. } => {
                self.swarm.behaviour_mut().admission.value(relay_peer_id);
            }
            relay::client::Event::InboundCircuitEstablished { .. } => {}
        }
    }

    /// A listener closed. True when it was that of a place at a relay.
    pub(in crate::swarm) fn relay_ended(
        &mut self,
        listener: ListenerId,
        reason: Option<&io::Error>,
    ) -> bool {
        let ended = self.reaching.relays.ended(listener, Instant::now());
        if ended {
            tracing::debug!(?reason, "a relay gives no place, or it is lost");
            self.reach_changed();
            self.reserve();
        }
        ended
    }

    /// Gives the places at relays back, by closing the connections: the library keeps asking for them otherwise, and closing their
    /// listener while it does would be an error inside it.
    pub(in crate::swarm) fn leave_relays(&mut self) {
        for relay in self.reaching.relays.in_use() {
            // Already gone is as good.
            let _ = self.swarm.disconnect_peer_id(relay);
        }
        self.reaching.listening_since = None;
        self.reaching.reach.forget();
        self.reaching.reach.port_443 = PortState::NotTried;
        self.forget_router();
        self.reach_changed();
    }

    // The variants left out only say that a peer went away in the middle, and are deprecated.
    #[allow(clippy::wildcard_enum_match_arm)]
    pub(in crate::swarm) fn on_relaying(&mut self, event: relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.reaching.reservations.insert(src_peer_id);
            }
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => {
                self.reaching.reservations.remove(&src_peer_id);
            }
            relay::Event::CircuitReqAccepted {
                src_peer_id,
                dst_peer_id,
            } => {
                let ends = (src_peer_id, dst_peer_id);
                *self.reaching.circuits.entry(ends).or_default() += 1;
            }
            relay::Event::CircuitClosed {
                src_peer_id,
                dst_peer_id,
                ..
            } => {
                let ends = (src_peer_id, dst_peer_id);
                if let Some(count) = self.reaching.circuits.get_mut(&ends) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.reaching.circuits.remove(&ends);
                    }
                }
            }
            relay::Event::ReservationReqDenied { src_peer_id, .. }
            | relay::Event::CircuitReqDenied { src_peer_id, .. } => {
                tracing::debug!(peer = %src_peer_id, "a peer is not carried");
                self.refusals.relayed += 1;
            }
            _ => {}
        }
        self.dirty = true;
    }
}
