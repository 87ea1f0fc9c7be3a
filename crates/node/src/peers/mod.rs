//! Peers: connecting by address or invite, blocking, inviting; what was measured of them.

mod book;
mod compare;
mod first;
mod invite;
mod link;
mod measured;
pub(crate) mod swarms;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::{FutureExt as _, select_ok};
use network::NetworkError;
use protocol::{ModelDigest, PeerId};
use serde::{Deserialize, Serialize};

pub(crate) use book::{PeerBook, write as write_book};
pub use compare::PeerChoice;
pub(crate) use invite::qr_svg;
pub use invite::{InviteError, InviteText, MAX_ADDRESSES, Pasted, qr_text, read};
pub use link::{LINK_SCHEME, is_link, read_link};
pub(crate) use measured::Measurements;

use crate::{
    ask::session::Session,
    error::NodeError,
    node::{Inner, Node},
    status::{self, Peer},
};

/// Addresses of one peer that are dialled at the same time.
const MAX_DIALS: usize = 8;

/// A connection that was just made shows up in the network's snapshot within this time.
const SHOWN_WAIT: Duration = Duration::from_secs(2);

/// Offers change by the minute; how many peers have a model is counted no oftener.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// What a person gives to others so that they can connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    /// One line to send or read out.
    pub text: String,
    /// The same as a link, which opens the app where it is installed.
    pub link: String,
    /// The same as a QR code, as an SVG document.
    pub qr_svg: String,
    /// The addresses in it, each with `/p2p/…`.
    pub addresses: Vec<String>,
}

/// An invite of somebody, looked at and not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invited {
    /// The invite as one line, as [`Node::peers_connect`] takes it.
    pub text: String,
    /// Who answers there.
    pub peer: String,
    /// A short form of that.
    pub name: String,
    /// Where it would be dialled, as the invite says.
    pub addresses: Vec<String>,
    /// It leads to this computer itself.
    pub own: bool,
    /// The person blocked this peer.
    pub blocked: bool,
    /// It is connected already.
    pub connected: bool,
}

impl Node {
    /// What an invite proposes. Nobody is dialled and nothing is remembered.
    #[must_use]
    pub fn invite_look(&self, invite: &InviteText) -> Invited {
        let inner = &self.inner;
        let peer = invite.peer;
        let session = inner.asking.now();
        let network = session.network.status();
        let connected = network.borrow().peers.iter().any(|met| met.peer == peer);
        Invited {
            text: invite.encode(),
            peer: peer.to_string(),
            name: peer.short(),
            addresses: invite.addresses.clone(),
            own: peer == inner.identity.peer_id(),
            blocked: inner.book().is_blocked(&peer),
            connected,
        }
    }

    /// Connects to a peer by an invite, a multiaddr, or its id when its address is known. The peer is remembered.
    ///
    /// # Errors
    /// [`NodeError::Invite`] for a text that is none, [`NodeError::Network`] with the reason when it cannot be reached.
    pub async fn peers_connect(&self, text: &str) -> Result<Peer, NodeError> {
        let inner = &self.inner;
        let session = inner.outside().await?;
        let own = inner.identity.peer_id();
        let own_address = |address: &str| NetworkError::OwnAddress {
            address: address.to_owned(),
        };
        let (peer, addresses) = match read(text)? {
            Pasted::Address(address) => {
                let peer = match address.parse::<PeerId>() {
                    Ok(peer) if peer == own => return Err(own_address(&address).into()),
                    Ok(peer) => {
                        inner.reach(&session, &peer).await?;
                        peer
                    }
                    Err(_) => session.network.connect(&address).await?,
                };
                // The swarm that serves is another one to the swarm that asks.
                if peer == own {
                    session.network.disconnect(&peer).await;
                    return Err(own_address(&address).into());
                }
                (
                    peer,
                    if address.starts_with('/') {
                        vec![address]
                    } else {
                        Vec::new()
                    },
                )
            }
            Pasted::Invite(invite) => {
                if invite.peer == own {
                    return Err(own_address(&invite.peer.to_string()).into());
                }
                inner.book().remember(&invite.peer, &invite.addresses);
                inner.reach(&session, &invite.peer).await?;
                (invite.peer, invite.addresses)
            }
        };
        inner.book().remember(&peer, &addresses);
        inner.write_book().await?;
        inner.serving.meet(inner, peer);
        // What it offers is part of what is shown; a peer that offers nothing is connected all the same.
        let offers = match session.network.offers(&peer).await {
            Ok(offers) => offers.len(),
            Err(error) => {
                tracing::debug!(%error, %peer, "a new peer gave no offers");
                0
            }
        };
        let shown = inner
            .peer_view(&session, &peer, offers)
            .await
            .ok_or(NetworkError::NotConnected { peer })?;
        status::refresh(inner).await;
        Ok(shown)
    }

    /// Closes the connections to a peer.
    ///
    /// # Errors
    /// [`NodeError::NotAPeer`].
    pub async fn peers_disconnect(&self, id: &str) -> Result<(), NodeError> {
        let peer = peer_id(id)?;
        self.inner.asking.now().network.disconnect(&peer).await;
        if let Some(serving) = self.inner.serving.network() {
            serving.disconnect(&peer).await;
        }
        status::refresh(&self.inner).await;
        Ok(())
    }

    /// Refuses a peer from now on, or lets it in again. Kept across restarts.
    ///
    /// # Errors
    /// [`NodeError::NotAPeer`], [`NodeError::File`].
    pub async fn peers_block(&self, id: &str, blocked: bool) -> Result<(), NodeError> {
        let inner = &self.inner;
        let peer = peer_id(id)?;
        inner.book().set_blocked(&peer, blocked);
        let session = inner.asking.now();
        session.network.set_blocked(&peer, blocked).await;
        if let Some(serving) = inner.serving.network() {
            serving.set_blocked(&peer, blocked).await;
        }
        inner.write_book().await?;
        status::refresh(inner).await;
        Ok(())
    }

    /// An invite to this node, which must be on.
    ///
    /// # Errors
    /// [`NodeError::NodeOff`], [`NodeError::NoAddress`].
    pub fn peers_invite(&self) -> Result<Invite, NodeError> {
        let inner = &self.inner;
        let status = inner.serving.network_status();
        let mut addresses: Vec<String> = status.borrow().listening.clone();
        if addresses.is_empty() {
            let on = !matches!(
                inner.serving.view().borrow().state,
                status::ServingState::Off
            );
            return Err(if on {
                NodeError::NoAddress
            } else {
                NodeError::NodeOff
            });
        }
        // The best come first: with many interfaces, those of the home do not push out the way through a relay.
        addresses.truncate(MAX_ADDRESSES);
        let bare = addresses.iter().map(|address| book::without_peer(address));
        let invite = InviteText {
            peer: inner.identity.peer_id(),
            addresses: bare.map(str::to_owned).collect(),
        };
        let text = invite.encode();
        // Capitals alone use the dense alphanumeric form; reading is case-blind.
        let qr_svg = invite::qr_svg(&text.to_uppercase()).ok_or(NodeError::NoAddress)?;
        Ok(Invite {
            link: invite.link(),
            text,
            qr_svg,
            addresses,
        })
    }
}

impl Inner {
    /// Whether [`Inner::reach`] knows more of this peer than the swarm that asks does.
    pub(crate) fn has_met(&self, peer: &PeerId) -> bool {
        let met = self.serving.network_status();
        let met = met.borrow().peers.iter().any(|met| met.peer == *peer);
        met || !self.book().addresses(peer).is_empty()
    }

    /// Connects to a peer unless it is connected: at every address of the book at once, and at what the network knows.
    ///
    /// # Errors
    /// [`NodeError::Network`] with the last reason.
    pub(crate) async fn reach(&self, session: &Session, peer: &PeerId) -> Result<(), NodeError> {
        let mut addresses = {
            let book = self.book();
            if book.is_blocked(peer) {
                return Err(NetworkError::Blocked { peer: *peer }.into());
            }
            book.addresses(peer)
        };
        // One that the serving swarm met, in the local network or by itself.
        let met = self.serving.network_status();
        let met = met
            .borrow()
            .peers
            .iter()
            .find(|met| met.peer == *peer)
            .cloned();
        if let Some(met) = met.filter(|met| met.direction == network::Direction::Out) {
            addresses.push(format!("{}/p2p/{peer}", met.addr));
        }
        // One that is connected is found by its id at once.
        addresses.insert(0, peer.to_string());
        addresses.truncate(MAX_DIALS);
        let dials = addresses.iter().map(|address| {
            let dial = async move {
                let found = session.network.connect(address).await?;
                match found == *peer {
                    true => Ok(()),
                    false => Err(NetworkError::WrongPeer {
                        address: address.clone(),
                        expected: *peer,
                        found: found.to_string(),
                    }),
                }
            };
            dial.boxed()
        });
        match select_ok(dials).await {
            Ok(((), _)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A connected peer as a shell sees it, as soon as the network shows it with its name and so many offers.
    async fn peer_view(&self, session: &Session, peer: &PeerId, offers: usize) -> Option<Peer> {
        let names = status::names(self);
        let mut network = session.network.status();
        let whole = |network: &network::NetworkStatus| {
            let shown = network.peers.iter().find(|status| status.peer == *peer);
            shown.is_some_and(|shown| shown.agent.is_some() && shown.offers.len() >= offers)
        };
        // What is not whole by then is shown as far as it is.
        let _ = tokio::time::timeout(SHOWN_WAIT, network.wait_for(whole)).await;
        let network = network.borrow();
        let shown = network.peers.iter().find(|status| status.peer == *peer)?;
        Some(status::peer(self, shown, &names))
    }
}

/// Counts, for the list of models, how many peers offer each.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut session = inner.asking.watch();
    let mut network = session.borrow_and_update().network.status();
    let mut engine = inner.engine.stats();
    loop {
        let mut counts: BTreeMap<ModelDigest, u32> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for offer in inner.known_offers(&inner.asking.now()) {
            if seen.insert((offer.peer, offer.model.digest)) {
                *counts.entry(offer.model.digest).or_default() += 1;
            }
        }
        inner.models.set_peers(counts);
        inner
            .models
            .set_loaded(engine.borrow_and_update().model_file.clone());
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
        tokio::select! {
            () = inner.stop.cancelled() => return,
            Ok(()) = network.changed() => { network.borrow_and_update(); }
            Ok(()) = session.changed() => network = session.borrow_and_update().network.status(),
            Ok(()) = engine.changed() => {}
        }
    }
}

fn peer_id(id: &str) -> Result<PeerId, NodeError> {
    id.parse()
        .map_err(|_| NodeError::NotAPeer { id: id.to_owned() })
}
