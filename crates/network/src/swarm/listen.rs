//! Opening and closing listeners while the program runs.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    mdns,
    swarm::{FromSwarm, NetworkBehaviour, NewListenAddr, behaviour::toggle::Toggle},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Loop, Note};
use crate::{
    address::{self, Scope},
    error::NetworkError,
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
}

/// The listeners, and who waits for a change of them.
#[derive(Debug, Default)]
pub(super) struct Listening {
    open: HashMap<ListenerId, Listener>,
    closing: HashSet<ListenerId>,
    failed: Vec<(String, String)>,
    waiting: Option<(Reply, Instant)>,
    /// Everything is to be closed as soon as the peers know.
    leaving: bool,
}

impl Listening {
    /// Whether this is an address of one of the listeners.
    pub(super) fn has(&self, address: &Multiaddr) -> bool {
        self.open
            .values()
            .any(|listener| listener.has.contains(address))
    }

    /// The addresses of all listeners.
    pub(super) fn addresses(&self) -> Vec<&Multiaddr> {
        self.open
            .values()
            .flat_map(|listener| &listener.has)
            .collect()
    }

    /// What another computer can dial: public addresses first, this computer's own last.
    pub(super) fn dialable(&self, local: PeerId) -> Vec<String> {
        let mut addresses: Vec<_> = self
            .open
            .values()
            .flat_map(|listener| &listener.has)
            .collect();
        addresses.sort_by_key(|address| std::cmp::Reverse(address::scope(address)));
        addresses
            .into_iter()
            .filter(|address| address::is_dialable(address))
            .map(|address| address::with_peer(address, local).to_string())
            .collect()
    }

    /// What peers may be told of ourselves: while one of them is a stranger, no address of this home.
    pub(super) fn tellable(&self, widest: Scope) -> Vec<Multiaddr> {
        let addresses = self.open.values().flat_map(|listener| &listener.has);
        addresses
            .filter(|address| address::may_tell(widest, address))
            .cloned()
            .collect()
    }

    pub(super) fn failures(&self) -> Vec<(String, String)> {
        self.failed.clone()
    }

    fn is_settled(&self) -> bool {
        !self.leaving
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
        self.set_mdns(mdns && !off);

        self.swarm.behaviour_mut().kad.serve(!off);
        self.listening.leaving = false;
        self.listening.waiting = Some((reply, Instant::now() + SETTLE));
        if off {
            self.set_offers(Vec::new());
            return self.say_farewell();
        }
        let unwanted: Vec<_> = self
            .listening
            .open
            .iter()
            .filter(|(_, listener)| !asked.contains(&listener.asked))
            .map(|(id, _)| *id)
            .collect();
        for id in unwanted {
            self.close_listener(id);
        }
        for address in asked {
            if !self
                .listening
                .open
                .values()
                .any(|listener| listener.asked == address)
            {
                self.open_listener(address);
            }
        }
        self.settled();
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
    }

    fn open_listener(&mut self, address: Multiaddr) {
        match self.swarm.listen_on(address.clone()) {
            Ok(id) => {
                self.listening.open.insert(
                    id,
                    Listener {
                        asked: address,
                        has: BTreeSet::new(),
                    },
                );
            }
            Err(error) => self
                .listening
                .failed
                .push((address.to_string(), innermost(&error))),
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
        let behaviour = on.then(|| {
            mdns::tokio::Behaviour::new(mdns::Config::default(), *self.swarm.local_peer_id())
        });
        let behaviour = match behaviour.transpose() {
            Ok(mut behaviour) => {
                // It missed the listeners that are open already.
                if let Some(mdns) = &mut behaviour {
                    for (id, listener) in &self.listening.open {
                        for addr in &listener.has {
                            mdns.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                                listener_id: *id,
                                addr,
                            }));
                        }
                    }
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
            listener.has.insert(address::without_peer(&address));
            self.dirty = true;
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

    fn settled(&mut self) {
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
            (true, None) | (false, _) => Ok(self.listening.dialable(*self.swarm.local_peer_id())),
        };
        drop(reply.send(answer));
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
