//! Peers: connecting by address or invite, blocking, inviting.

mod book;
mod invite;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::{FutureExt as _, select_ok};
use network::NetworkError;
use protocol::{ModelDigest, PeerId};
use serde::{Deserialize, Serialize};

pub(crate) use book::{PeerBook, write as write_book};
pub use invite::{InviteError, InviteText, MAX_ADDRESSES, Pasted, read};

use crate::{
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
    /// The same as a QR code, as an SVG document.
    pub qr_svg: String,
    /// The addresses in it, each with `/p2p/…`.
    pub addresses: Vec<String>,
}

impl Node {
    /// Connects to a peer by an invite, a multiaddr, or its id when its address is known. The peer is remembered.
    ///
    /// # Errors
    /// [`NodeError::Invite`] for a text that is none, [`NodeError::Network`] with the reason when it cannot be reached.
    pub async fn peers_connect(&self, text: &str) -> Result<Peer, NodeError> {
        let inner = &self.inner;
        let (peer, addresses) = match read(text)? {
            Pasted::Address(address) => {
                let peer = match address.parse::<PeerId>() {
                    Ok(peer) => {
                        inner.reach(&peer).await?;
                        peer
                    }
                    Err(_) => inner.network.connect(&address).await?,
                };
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
                if invite.peer == inner.network.peer_id() {
                    return Err(NetworkError::OwnAddress {
                        address: invite.peer.to_string(),
                    }
                    .into());
                }
                inner.book().remember(&invite.peer, &invite.addresses);
                inner.reach(&invite.peer).await?;
                (invite.peer, invite.addresses)
            }
        };
        inner.book().remember(&peer, &addresses);
        inner.write_book().await?;
        // What it offers is part of what is shown; a peer that offers nothing is connected all the same.
        let offers = match inner.network.offers(&peer).await {
            Ok(offers) => offers.len(),
            Err(error) => {
                tracing::debug!(%error, %peer, "a new peer gave no offers");
                0
            }
        };
        let shown = inner
            .peer_view(&peer, offers)
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
        self.inner.network.disconnect(&peer_id(id)?).await;
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
        inner.network.set_blocked(&peer, blocked).await;
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
        let status = inner.network.status();
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
        // Loopback last, QUIC before TCP: what is dialled first works oftenest.
        addresses.sort_by_key(|address| {
            (
                address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/"),
                !address.contains("/quic"),
            )
        });
        addresses.truncate(MAX_ADDRESSES);
        let bare = addresses
            .iter()
            .map(|address| address.split("/p2p/").next().unwrap_or(address).to_owned());
        let text = InviteText {
            peer: inner.network.peer_id(),
            addresses: bare.collect(),
        }
        .encode();
        let qr_svg = invite::qr_svg(&text).ok_or(NodeError::NoAddress)?;
        Ok(Invite {
            text,
            qr_svg,
            addresses,
        })
    }
}

impl Inner {
    /// Connects to a peer unless it is connected: at every address of the book at once, and at what the network knows.
    ///
    /// # Errors
    /// [`NodeError::Network`] with the last reason.
    pub(crate) async fn reach(&self, peer: &PeerId) -> Result<(), NodeError> {
        let mut addresses = {
            let book = self.book();
            if book.is_blocked(peer) {
                return Err(NetworkError::Blocked { peer: *peer }.into());
            }
            book.addresses(peer)
        };
        // One that is connected is found by its id at once.
        addresses.insert(0, peer.to_string());
        addresses.truncate(MAX_DIALS);
        let dials = addresses.iter().map(|address| {
            let dial = async move {
                let found = self.network.connect(address).await?;
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
    async fn peer_view(&self, peer: &PeerId, offers: usize) -> Option<Peer> {
        let names = status::names(self);
        let blocked = self.book().is_blocked(peer);
        let mut network = self.network.status();
        let whole = |network: &network::NetworkStatus| {
            let shown = network.peers.iter().find(|status| status.peer == *peer);
            shown.is_some_and(|shown| shown.agent.is_some() && shown.offers.len() >= offers)
        };
        // What is not whole by then is shown as far as it is.
        let _ = tokio::time::timeout(SHOWN_WAIT, network.wait_for(whole)).await;
        let network = network.borrow();
        let shown = network.peers.iter().find(|status| status.peer == *peer)?;
        Some(status::peer(shown, &names, blocked))
    }
}

/// Counts, for the list of models, how many peers offer each.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut network = inner.network.status();
    let mut engine = inner.engine.stats();
    loop {
        let mut counts: BTreeMap<ModelDigest, u32> = BTreeMap::new();
        for known in inner.network.known_offers() {
            *counts.entry(known.offer.model.digest).or_default() += 1;
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
            Ok(()) = engine.changed() => {}
        }
    }
}

fn peer_id(id: &str) -> Result<PeerId, NodeError> {
    id.parse()
        .map_err(|_| NodeError::NotAPeer { id: id.to_owned() })
}
