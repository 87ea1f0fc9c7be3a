//! This computer slept, or its network changed: what is dead is dropped, and everything is found out anew.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use if_watch::IfEvent;
use libp2p::{PeerId, swarm::ConnectionId};

use super::{INTERFACES, Loop, PORT_443};
use crate::{
    behaviour,
    log::ClosedBecause,
    peers::{self, Direction, unix_ms},
    reach::{PortState, ReachMode, Role},
};

/// A clock that jumps by this much more than the other stood still meanwhile: the computer slept. A clock that is set right by
/// less is no reason to drop anything.
const SLEPT: Duration = Duration::from_secs(15);
/// Interfaces come and go in bursts: a new network is looked at once it has settled.
const SETTLED: Duration = Duration::from_secs(2);
/// Peers that are dialled again after a sleep or a change of network.
const REDIALS: usize = 32;

/// When the loop last looked, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    monotonic: Instant,
    wall_unix_ms: u64,
}

impl Looked {
    pub(super) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall_unix_ms: unix_ms(),
        }
    }

    /// How long the computer slept between then and now, where it did. On some systems the monotonic clock stands still meanwhile,
    /// on others it goes on and only the loop stood still.
    fn slept_until(self, now: Self) -> Option<Duration> {
        let monotonic = now.monotonic.saturating_duration_since(self.monotonic);
        let wall = Duration::from_millis(now.wall_unix_ms.saturating_sub(self.wall_unix_ms));
        let jump = wall.saturating_sub(monotonic).max(monotonic);
        (jump >= SLEPT).then_some(jump)
    }
}

impl Loop {
    pub(in crate::swarm) fn reach_tick(&mut self) {
        let now = Looked::now();
        let before = std::mem::replace(&mut self.reaching.looked, now);
        if let Some(slept) = before.slept_until(now) {
            tracing::info!(seconds = slept.as_secs(), "this computer slept");
            self.woke();
        }
        if self
            .reaching
            .changed
            .is_some_and(|settled| settled <= now.monotonic)
        {
            self.network_changed();
        }
        self.listen_on_443();
        self.try_again(now.monotonic);
        if self.wants_relays() {
            if let Some(relay) = self.reaching.relays.next_dial(now.monotonic) {
                self.dial_known(relay);
            }
            self.reserve();
        }
        self.dirty = true;
    }

    fn listen_on_443(&mut self) {
        let reaching = &self.reaching;
        let wanted = reaching.policy.port_443
            && reaching.policy.mode == ReachMode::Internet
            && reaching.role == Role::Serving
            && reaching.reach.port_443 == PortState::NotTried
            && reaching.reach.has_own_address(&reaching.interfaces)
            && self.listening.is_on();
        if wanted {
            self.open_extra(&PORT_443);
        }
    }

    pub(in crate::swarm) fn on_interface(&mut self, event: io::Result<IfEvent>) {
        let reaching = &mut self.reaching;
        let changed = match event {
            Ok(IfEvent::Up(net)) => {
                reaching.interfaces.len() < INTERFACES && reaching.interfaces.insert(net.addr())
            }
            Ok(IfEvent::Down(net)) => reaching.interfaces.remove(&net.addr()),
            Err(error) => {
                tracing::debug!(%error, "an interface cannot be watched");
                false
            }
        };
        if changed {
            // What is asked for on every interface that is allowed does not wait.
            if reaching.mode() == ReachMode::LanOnly {
                self.open_what_is_asked();
                self.settled();
            }
            self.reaching.changed = Some(Instant::now() + SETTLED);
        }
    }

    /// Every connection is taken for lost: the other ends gave up on us, or our router did.
    pub(in crate::swarm) fn woke(&mut self) {
        let all: Vec<_> = self
            .peers
            .iter()
            .flat_map(|(peer, connected)| connected.links().iter().map(|link| (*peer, link.id)))
            .collect();
        self.clocks.forget();
        self.start_over(&all);
    }

    /// Connections whose packets leave from another address now, or from none, are dead.
    pub(in crate::swarm) fn network_changed(&mut self) {
        self.reaching.changed = None;
        let dead: Vec<_> = self
            .peers
            .iter()
            .flat_map(|(peer, connected)| {
                connected
                    .links()
                    .iter()
                    .filter(|link| link.source != peers::source_towards(&link.remote))
                    .map(|link| (*peer, link.id))
            })
            .collect();
        let before = std::mem::replace(&mut self.reaching.way_out, way_out());
        // An interface that carries nothing of ours, as those of virtual machines, changes nothing.
        if dead.is_empty() && before == self.reaching.way_out {
            return;
        }
        tracing::info!(
            connections = dead.len(),
            "the network of this computer changed"
        );
        self.start_over(&dead);
    }

    fn start_over(&mut self, dead: &[(PeerId, ConnectionId)]) {
        for (peer, connection) in dead {
            let dialled = self.peers.get(peer).is_some_and(|connected| {
                connected
                    .links()
                    .iter()
                    .any(|link| link.direction == Direction::Out)
            });
            if dialled && self.reaching.redial.len() < REDIALS {
                self.reaching.redial.insert(*peer);
            }
            self.close_because(*connection, ClosedBecause::NetworkChanged);
        }
        let now = Instant::now();
        self.reaching.reach.forget();
        self.reaching.retry = None;
        self.reaching.relays.hurry(now);
        if let Some(autonat) = self.swarm.behaviour_mut().autonat.as_mut() {
            autonat.reset(behaviour::prober());
        }
        let listening: Vec<_> = self.listening.addresses().into_iter().cloned().collect();
        for address in &listening {
            self.offer_candidate(address);
        }
        self.forget_router();
        self.ask_router();
        self.hurry_known();
        self.reach_changed();
    }
}

/// From which addresses packets would leave for anywhere; the two are documentation's (RFC 5737, RFC 3849). Nothing is sent.
pub(super) fn way_out() -> [Option<IpAddr>; 2] {
    ["/ip4/192.0.2.1", "/ip6/2001:db8::1"].map(|anywhere| {
        anywhere
            .parse()
            .ok()
            .and_then(|anywhere| peers::source_towards(&anywhere))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_seen_by_either_clock_and_a_small_correction_is_none() {
        let start = Looked {
            monotonic: Instant::now(),
            wall_unix_ms: 1_000_000,
        };
        let later = |monotonic_s: u64, wall_s: i64| Looked {
            monotonic: start.monotonic + Duration::from_secs(monotonic_s),
            wall_unix_ms: start.wall_unix_ms.saturating_add_signed(wall_s * 1000),
        };
        assert_eq!(start.slept_until(later(1, 1)), None);
        assert_eq!(
            start.slept_until(later(1, 10)),
            None,
            "set right by a time server"
        );
        assert_eq!(start.slept_until(later(1, -3600)), None, "set back");
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(start.slept_until(later(1, 3601)), hour, "Linux, macOS");
        assert_eq!(start.slept_until(later(3600, 3600)), hour, "Windows");
        assert_eq!(
            start.slept_until(later(3600, 0)),
            hour,
            "with the clock set back meanwhile"
        );
    }
}
