//! Opening and closing listeners while the program runs.
//!
//! What is asked for may name every interface. Where only some of them are allowed, such a wish is opened on each of these, and
//! again when the interfaces change.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    time::Duration,
};

use libp2p::{
    Multiaddr,
    core::transport::ListenerId,
    swarm::{FromSwarm, NetworkBehaviour, NewListenAddr, behaviour::toggle::Toggle},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Loop, Note};
use crate::{
    address::{self, Scope},
    error::NetworkError,
    neighbours::Neighbours,
};

/// How long listeners have to open and close: the system answers in microseconds, so that is a sign of trouble.
const SETTLE: Duration = Duration::from_secs(3);
/// How long peers have to hear that nothing is offered any more before the listeners close: with them go the QUIC connections
/// that others opened. A round trip to the other side of the world takes half of it.
const FAREWELL: Duration = Duration::from_millis(500);
/// Addresses a node may be told to listen on.
const LISTENERS: usize = 16;

type Reply = oneshot::Sender<Result<Vec<String>, NetworkError>>;

#[derive(Debug)]
struct Listener {
    /// What was asked for, which may have port 0 or every interface.
    asked: Multiaddr,
    /// What came of it.
    has: BTreeSet<Multiaddr>,
    /// Opened because this node is publicly reachable, and not because somebody asked for it.
    extra: bool,
}

/// The listeners, and who waits for a change of them.
#[derive(Debug, Default)]
pub(super) struct Listening {
    open: HashMap<ListenerId, Listener>,
    /// What the owner asked for.
    asked: BTreeSet<Multiaddr>,
    closing: HashSet<ListenerId>,
    failed: Vec<(String, String)>,
    waiting: Option<(Reply, Instant)>,
    /// Everything is to be closed as soon as the peers know.
    leaving: bool,
    /// Something is to be opened on every interface that is allowed, and none is known yet.
    waits_for_interfaces: bool,
}

impl Listening {
    /// Whether this is an address of one of the listeners.
    pub(super) fn has(&self, address: &Multiaddr) -> bool {
        self.open
            .values()
            .any(|listener| listener.has.contains(address))
    }

    /// What is listened on, as it was asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Multiaddr> {
        self.open.values().map(|listener| &listener.asked)
    }

    /// Whether anybody may reach this node, over a listener or through a relay.
    pub(super) fn is_on(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether relays are the only way to this node.
    pub(super) fn by_relay_only(&self) -> bool {
        self.is_on()
            && self
                .asked
                .iter()
                .all(|asked| *asked == address::any_relay())
    }

    /// The addresses of all listeners that can be dialled: public ones first, this computer's own last.
    pub(super) fn addresses(&self) -> Vec<&Multiaddr> {
        let mut addresses: Vec<_> = self
            .open
            .values()
            .flat_map(|listener| &listener.has)
            .filter(|address| address::is_dialable(address))
            .collect();
        addresses.sort_by_key(|address| std::cmp::Reverse(address::scope(address)));
        addresses
    }

    /// Tells a behaviour that was not there of the listeners.
    pub(super) fn replay(&self, behaviour: &mut impl NetworkBehaviour) {
        for (id, listener) in &self.open {
            for addr in &listener.has {
                behaviour.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                    listener_id: *id,
                    addr,
                }));
            }
        }
    }

    pub(super) fn failures(&self) -> Vec<(String, String)> {
        self.failed.clone()
    }

    fn is_settled(&self) -> bool {
        !self.leaving
            && !self.waits_for_interfaces
            && self.closing.is_empty()
            && self.open.values().all(|listener| !listener.has.is_empty())
    }
}

impl Loop {
    pub(super) fn set_listening(&mut self, listen: &[String], mdns: bool, reply: Reply) {
        let asked: Result<BTreeSet<_>, _> = listen
            .iter()
            .take(LISTENERS)
            .map(|text| address::listen_on(text))
            .collect();
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return drop(reply.send(Err(error))),
        };
        // A second call takes the place of the first, whose caller hears of what is there so far.
        self.answer_listening();
        self.listening.failed.clear();
        let off = asked.is_empty();
        // Whoever listens to this computer alone is reached by nobody on the local network, and has no business there.
        let alone = asked
            .iter()
            .all(|address| address::scope(address) == Some(Scope::Loopback));
        self.listening.asked = asked;
        self.set_mdns(mdns && !alone);

        self.listening.leaving = false;
        self.listening.waiting = Some((reply, Instant::now() + SETTLE));
        if off {
            self.set_offers(Vec::new());
            return self.say_farewell();
        }
        self.open_what_is_asked();
        self.settled();
    }

    /// Opens what was asked for and is not open, and closes what was not asked for.
    pub(super) fn open_what_is_asked(&mut self) {
        let wanted = self.wanted();
        let unwanted: Vec<_> = self
            .listening
            .open
            .iter()
            .filter(|(_, listener)| !listener.extra && !wanted.contains(&listener.asked))
            .map(|(id, _)| *id)
            .collect();
        for id in unwanted {
            self.close_listener(id);
        }
        for address in wanted {
            let open = &self.listening.open;
            if !open.values().any(|listener| listener.asked == address) {
                self.open_listener(address, false);
            }
        }
        self.reach_changed();
    }

    /// What is asked for, as it can be opened: where not every interface is allowed, "every interface" is each of those that are.
    fn wanted(&mut self) -> BTreeSet<Multiaddr> {
        let mode = self.reaching.mode();
        let mut wanted = BTreeSet::new();
        self.listening.waits_for_interfaces = false;
        for asked in &self.listening.asked {
            if *asked == address::any_relay() {
                continue;
            }
            match address::ip(asked) {
                Some(any) if any.is_unspecified() && !mode.may_listen(asked) => {
                    let allowed = self
                        .reaching
                        .interfaces()
                        .iter()
                        .filter(|ip| ip.is_ipv4() == any.is_ipv4())
                        .map(|ip| {
                            std::iter::once((*ip).into())
                                .chain(asked.iter().skip(1))
                                .collect()
                        })
                        .filter(|address| mode.may_listen(address));
                    let before = wanted.len();
                    wanted.extend(allowed);
                    self.listening.waits_for_interfaces |= wanted.len() == before;
                }
                _ => {
                    wanted.insert(asked.clone());
                }
            }
        }
        wanted
    }

    /// Closes everything once the peers that are being told have heard it, or had their time.
    fn say_farewell(&mut self) {
        self.listening.leaving = true;
        if !self.tells_changes() {
            return self.leave();
        }
        let note = self.note.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            // A loop that is gone has closed everything.
            let _ = note.send(Note::Farewell).await;
        });
    }

    /// The peers know. Does nothing when this node was switched on again meanwhile.
    pub(super) fn leave(&mut self) {
        if std::mem::take(&mut self.listening.leaving) {
            self.close_listeners();
            self.settled();
        }
    }

    pub(super) fn close_listeners(&mut self) {
        let all: Vec<_> = self.listening.open.keys().copied().collect();
        for id in all {
            self.close_listener(id);
        }
        self.set_mdns(false);
        self.leave_relays();
    }

    fn open_listener(&mut self, address: Multiaddr, extra: bool) {
        match self.swarm.listen_on(address.clone()) {
            Ok(id) => {
                self.listening.open.insert(
                    id,
                    Listener {
                        asked: address,
                        has: BTreeSet::new(),
                        extra,
                    },
                );
            }
            Err(error) if extra => self.extra_refused(innermost(&error)),
            Err(error) => self
                .listening
                .failed
                .push((address.to_string(), innermost(&error))),
        }
    }

    /// Opens these besides what was asked for, once. What cannot be opened is said in the status, and is no failure.
    pub(super) fn open_extra(&mut self, addresses: &[&str]) {
        for address in addresses {
            if let Ok(address) = address::listen_on(address) {
                self.open_listener(address, true);
            }
        }
    }

    fn close_listener(&mut self, id: ListenerId) {
        self.listening.open.remove(&id);
        if self.swarm.remove_listener(id) {
            self.listening.closing.insert(id);
        }
        self.dirty = true;
        self.reach_changed();
    }

    fn set_mdns(&mut self, on: bool) {
        if on == self.swarm.behaviour().mdns.is_enabled() {
            return;
        }
        // Off is not a setting of the behaviour but its absence: no socket stays bound.
        let (local, role) = (*self.swarm.local_peer_id(), self.reaching.role());
        let behaviour = on.then(|| Neighbours::new(local, role));
        let behaviour = match behaviour.transpose() {
            Ok(mut behaviour) => {
                // It missed the listeners that are open already.
                if let Some(mdns) = &mut behaviour {
                    self.listening.replay(mdns);
                }
                behaviour
            }
            Err(error) => {
                self.listening
                    .failed
                    .push(("multicast DNS".to_owned(), error.to_string()));
                None
            }
        };
        self.swarm.behaviour_mut().mdns = Toggle::from(behaviour);
        self.dirty = true;
    }

    pub(super) fn listener_has(&mut self, id: ListenerId, address: Multiaddr) {
        if let Some(listener) = self.listening.open.get_mut(&id) {
            let address = address::without_peer(&address);
            listener.has.insert(address.clone());
            if listener.extra {
                self.extra_opened();
            }
            self.dirty = true;
            self.new_listener(&address);
            self.reach_changed();
        }
        self.settled();
    }

    pub(super) fn listener_lost(&mut self, id: ListenerId, address: &Multiaddr) {
        if let Some(listener) = self.listening.open.get_mut(&id) {
            listener.has.remove(&address::without_peer(address));
            self.dirty = true;
            self.reach_changed();
        }
    }

    pub(super) fn listener_closed(&mut self, id: ListenerId, reason: Option<io::Error>) {
        if self.relay_ended(id, reason.as_ref()) {
            return;
        }
        self.listening.closing.remove(&id);
        if let Some(listener) = self.listening.open.remove(&id) {
            let reason = reason.map_or_else(|| "it closed".to_owned(), |error| error.to_string());
            self.listening
                .failed
                .push((listener.asked.to_string(), reason));
        }
        self.dirty = true;
        self.settled();
    }

    pub(super) fn listening_tick(&mut self) {
        if self
            .listening
            .waiting
            .as_ref()
            .is_some_and(|(_, until)| *until <= Instant::now())
        {
            self.answer_listening();
        }
    }

    pub(super) fn settled(&mut self) {
        if self.listening.is_settled() {
            self.answer_listening();
        }
    }

    fn answer_listening(&mut self) {
        let Some((reply, _)) = self.listening.waiting.take() else {
            return;
        };
        self.publish();
        let answer = match (
            self.listening.open.is_empty(),
            self.listening.failed.first(),
        ) {
            (true, Some((address, reason))) => Err(NetworkError::Listen {
                address: address.clone(),
                reason: reason.clone(),
            }),
            (true, None) | (false, _) => Ok(self.dialable()),
        };
        drop(reply.send(answer));
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
