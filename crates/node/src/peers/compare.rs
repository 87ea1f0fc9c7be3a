//! Who would be asked, and why not the others: the choice, shown without asking anybody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ask::digest_of,
    chat::Sampling,
    clock,
    error::NodeError,
    node::Node,
    route::{self, Dice, Known},
};

/// Input tokens of the question that peers are compared by: a short chat.
const TYPICAL_INPUT: usize = 500;

/// A peer that offers a model, as the choice sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerChoice {
    /// Its PeerId.
    pub id: String,
    /// A short form of the id, for reading.
    pub name: String,
    /// It is connected.
    pub connected: bool,
    /// How often it would be among the two that are asked for a quote first, from 0 to 1. 0 for one that is not taken.
    pub chance: f64,
    /// Milliseconds to the first token of a short chat, by its offer and what was measured.
    pub first_token_ms: Option<f64>,
    /// Tokens per second after it, the same way.
    pub tokens_per_second: Option<f64>,
    /// The chance that a job goes well, as it is reckoned with.
    pub reliability: f64,
    /// Where it says that it is; nothing proves it.
    pub region: Option<String>,
    /// Why it is not taken, in a sentence's words.
    pub not_taken: Option<String>,
}

impl Node {
    /// Compares the known peers that offer a model (`None`: the one of new chats), best first, then those that are not
    /// taken, each with the reason. Nobody is asked.
    ///
    /// # Errors
    /// [`NodeError::ModelUnknown`], [`NodeError::NoModel`], [`NodeError::ModelNotPinned`].
    pub fn peers_compare(&self, model: Option<&str>) -> Result<Vec<PeerChoice>, NodeError> {
        // Enough for two digits of a share.
        const DRAWS: u32 = 400;
        let inner = &self.inner;
        let (id, digest) = match (inner.preferred_model(model), model) {
            (Some(chosen), _) => {
                let digest = chosen.digest;
                let unpinned = NodeError::ModelNotPinned { model: chosen.name };
                (chosen.id, digest.ok_or(unpinned)?)
            }
            (None, Some(id)) => {
                let unknown = || NodeError::ModelUnknown { id: id.to_owned() };
                (id.to_owned(), digest_of(id).ok_or_else(unknown)?)
            }
            (None, None) => return Err(NodeError::NoModel),
        };
        let session = inner.asking.now();
        let status = session.network.status();
        let status = status.borrow().clone();
        let mut known: BTreeMap<_, Known> = BTreeMap::new();
        for offer in inner.known_offers(&session) {
            if offer.model.digest == digest {
                known.insert(offer.peer, inner.known(&offer, &status));
            }
        }
        let known: Vec<Known> = known.into_values().collect();
        let want = crate::ask::choose::want(
            &inner.settings.borrow(),
            (&id, digest),
            (TYPICAL_INPUT, Sampling::default().max_out),
            None,
            false,
        );
        // The same choice is shown for the same facts.
        let mut dice = Dice::new(0);
        let list = route::shortlist(&want, &known, &mut dice, clock::unix_ms());
        let mut drawn: BTreeMap<_, u32> = BTreeMap::new();
        for _ in 0..DRAWS {
            for peer in list.draw(&mut dice).quoted {
                *drawn.entry(peer).or_default() += 1;
            }
        }
        let of = |peer: &protocol::PeerId| known.iter().find(|known| known.peer == *peer);
        let show = |known: &Known, not_taken: Option<String>| {
            let estimate = list.estimate(&known.peer);
            let drawn = drawn.get(&known.peer).copied().unwrap_or(0);
            PeerChoice {
                id: known.peer.to_string(),
                name: known.peer.short(),
                connected: status.peers.iter().any(|peer| peer.peer == known.peer),
                chance: f64::from(drawn) / f64::from(DRAWS),
                first_token_ms: estimate.map(|estimate| estimate.first_token_s * 1000.0),
                tokens_per_second: estimate.map(|estimate| estimate.decode_tps),
                reliability: known.record.p_ok(),
                region: Some(known.claims.region.clone()).filter(|region| !region.is_empty()),
                not_taken,
            }
        };
        let taken = list.taken.iter().map(|taken| show(&taken.known, None));
        let not_taken = list
            .not_taken
            .iter()
            .filter_map(|(peer, why)| Some(show(of(peer)?, Some(why.to_string()))));
        Ok(taken.chain(not_taken).collect())
    }

    /// Takes a new name for asking at once, as it happens every day: whoever answers from now on cannot tell that it is
    /// asked by the same computer, except by its address. Running answers keep the old one.
    ///
    /// # Errors
    /// [`NodeError::Network`] when no new swarm can be started; the old name stays then.
    pub async fn peers_new_name(&self) -> Result<(), NodeError> {
        self.inner.new_session().await?;
        crate::status::refresh(&self.inner).await;
        Ok(())
    }

    /// This computer woke, or its network is another one: connections begin anew, and running answers are taken up again.
    /// The network notices that by its clocks and interfaces; this is for a shell that the system tells.
    pub async fn peers_woke(&self) {
        self.inner.asking.now().network.wake().await;
        if let Some(serving) = self.inner.serving.network() {
            serving.wake().await;
        }
    }

    /// Forgets what was measured of all peers, here and on the disk.
    ///
    /// # Errors
    /// [`NodeError::Ledger`]; what is in memory is forgotten all the same.
    pub async fn peers_forget_records(&self) -> Result<(), NodeError> {
        self.inner.measured.forget();
        self.inner.ledger.forget_measured().await?;
        crate::status::refresh(&self.inner).await;
        Ok(())
    }
}
