//! Which head of a file is gone by where no row pins one.
//!
//! Nothing binds a head to its file's weights but the word of who offers both, and names cost nothing. So it is counted who names which:
//! one block of addresses, or one account that is paid, has one voice for a head, however many names it has. Where a peer is that is
//! not connected only it says, so such voices decide only where those of peers that were seen are as many. What a peer says of its
//! speed decides nothing. A head that nobody gives, that cannot be read, or that contradicts the row is passed over for the next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use engine::{EngineError, FileProblem, TextInfo};
use network::NetworkError;
use protocol::{ModelRef, PeerId, offer::Offer};

use super::{choose::ip_of, session::Session, target::Found};
use crate::{
    community::told_by_a_stranger, error::NodeError, models::Model, node::Inner, peers::PeerBook,
    route::Group,
};

/// Heads of one file that are tried: a person waits for them.
pub(crate) const MAX_HEADS: usize = 4;

/// The largest head takes as long on a line of two megabits a second. Who sends slower is left.
const LOOK_FOR: Duration = Duration::from_secs(150);

/// What one owner may hold cheaply: a block of public addresses, or one address of a private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Block {
    Public(Group),
    Private(IpAddr),
}

/// Where peers are, as far as this computer sees it.
#[derive(Debug)]
pub(crate) struct Places {
    /// Addresses of those that are connected.
    connected: BTreeMap<PeerId, String>,
    book: PeerBook,
}

impl Places {
    pub(crate) fn connected(&self) -> BTreeSet<PeerId> {
        self.connected.keys().copied().collect()
    }

    /// In which block an offer's peer is: as seen, else as it says.
    pub(crate) fn block(&self, offer: &Offer) -> Option<Block> {
        let by_hand = self.book.addresses(&offer.peer);
        let address = self.connected.get(&offer.peer).or(by_hand.first());
        let seen = address.and_then(|address| ip_of(address));
        let ip = seen.or_else(|| network::front_ip(&offer.addrs))?;
        Some(Group::of(ip).map_or(Block::Private(ip), Block::Public))
    }
}

/// What the voice of one peer depends on.
#[derive(Debug, Clone, Copy)]
struct Voter {
    /// It wrote answers with this file here.
    wrote: bool,
    connected: bool,
    /// `None`: nobody says where it is. All of those have one voice.
    block: Option<Block>,
    /// The account that it says is paid.
    wallet: Option<[u8; 20]>,
}

/// Voices for one head: one for each block and account.
#[derive(Debug, Default)]
struct Tally {
    blocks: BTreeSet<Option<Block>>,
    wallets: BTreeSet<[u8; 20]>,
    voices: usize,
}

impl Tally {
    fn count(&mut self, voter: &Voter) {
        let is_another = |wallet: [u8; 20]| !self.wallets.contains(&wallet);
        if self.blocks.contains(&voter.block) || !voter.wallet.is_none_or(is_another) {
            return;
        }
        self.blocks.insert(voter.block);
        self.wallets.extend(voter.wallet);
        self.voices += 1;
    }
}

#[derive(Debug, Default)]
struct Votes {
    seen: Tally,
    said: Tally,
    wrote: bool,
}

impl Votes {
    fn count(&mut self, voter: &Voter) {
        match voter.connected || voter.wrote {
            true => self.seen.count(voter),
            false => self.said.count(voter),
        }
        self.wrote |= voter.wrote;
    }

    /// Higher is gone by first.
    fn rank(&self) -> (usize, bool, usize) {
        (self.seen.voices, self.wrote, self.said.voices)
    }
}

/// The heads that are named in these offers of one file, the one to go by first. `lot` decides between equals: nobody else knows it.
fn elect(
    offers: &[Offer],
    voter: impl Fn(&Offer) -> Voter,
    lot: impl Fn(&ModelRef) -> u64,
) -> Vec<ModelRef> {
    let mut votes: BTreeMap<ModelRef, Votes> = BTreeMap::new();
    for offer in offers {
        let of = votes.entry(offer.model).or_default();
        of.count(&voter(offer));
    }
    let mut heads: Vec<(ModelRef, Votes)> = votes.into_iter().collect();
    heads.sort_by_key(|(head, votes)| (std::cmp::Reverse(votes.rank()), lot(head)));
    heads.into_iter().map(|(head, _)| head).collect()
}

/// A head, and who names it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) model: ModelRef,
    pub(super) offers: Vec<Offer>,
}

/// The offers by their head, in the order of these; whoever names none of them is left out. The head of the peer that the person chose,
/// whose offer is the first, comes before all others.
pub(super) fn by_head(
    offers: Vec<Offer>,
    mut heads: Vec<ModelRef>,
    chosen: Option<PeerId>,
) -> VecDeque<Named> {
    let of_chosen = offers
        .first()
        .filter(|offer| Some(offer.peer) == chosen)
        .map(|offer| offer.model);
    heads.sort_by_key(|head| Some(*head) != of_chosen);
    heads.truncate(MAX_HEADS);
    let named = |model| Named {
        model,
        offers: Vec::new(),
    };
    let mut by_head: VecDeque<Named> = heads.into_iter().map(named).collect();
    for offer in offers {
        let of = by_head.iter_mut().find(|named| named.model == offer.model);
        if let Some(named) = of {
            named.offers.push(offer);
        }
    }
    by_head
}

/// What of a head cannot be so, going by the row that names its file.
fn contradiction(row: &Model, info: &TextInfo) -> Option<FileProblem> {
    let bad = |key: &str, value: String| {
        Some(FileProblem::BadValue {
            key: key.to_owned(),
            value,
        })
    };
    if let Some(architecture) = &row.architecture
        && *architecture != info.architecture
    {
        return bad("general.architecture", format!("not {architecture}"));
    }
    // Pages often name less than the file says, and never more.
    match row.context_max {
        Some(context) if info.context_train < context => {
            bad("the context length", format!("less than {context}"))
        }
        Some(_) | None => None,
    }
}

impl Inner {
    pub(crate) fn places(&self, session: &Session) -> Places {
        let status = session.network.status();
        let status = status.borrow();
        let connected = status.peers.iter();
        Places {
            connected: connected
                .map(|peer| (peer.peer, peer.addr.clone()))
                .collect(),
            book: self.book().clone(),
        }
    }

    /// The heads that are named in these offers of one file, the one to go by first. One that failed lately comes after the others.
    pub(crate) fn heads_of(
        &self,
        session: &Session,
        offers: &[Offer],
        places: &Places,
    ) -> Vec<ModelRef> {
        let first = offers.first().map(|offer| offer.model);
        if let Some(only) = first
            && offers.iter().all(|offer| offer.model == only)
        {
            return vec![only];
        }
        let voter = |offer: &Offer| {
            let record = self.measured.record(&offer.peer, &offer.model.digest);
            Voter {
                wrote: record.successes > record.failures && record.lies == 0.0,
                connected: places.connected.contains_key(&offer.peer),
                block: places.block(offer),
                wallet: offer.binding.as_ref().map(|signed| signed.binding.operator),
            }
        };
        let mut heads = elect(offers, voter, |head| session.lot(head));
        let now = Instant::now();
        heads.sort_by_key(|head| session.failed_lately(&head.head_sha256, now));
        heads
    }

    /// The head to write with, of those that were found: the first that comes, can be read, and is not contradicted by the row. With what
    /// it says.
    ///
    /// # Errors
    /// Of the first: [`NodeError::Head`], [`NodeError::HeadUnreadable`]. Those of the engine.
    pub(super) async fn readable_head(
        &self,
        session: &Session,
        found: &mut Found,
    ) -> Result<(PathBuf, TextInfo), NodeError> {
        let mut first = None;
        loop {
            let error = match self.read_head(session, found).await {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            if !is_of_head(&error) {
                return Err(error);
            }
            tracing::debug!(%error, head = %found.model.head_sha256, "a head is passed over");
            session.head_failed(found.model.head_sha256, Instant::now());
            let first = first.get_or_insert(error);
            if !found.next_head() {
                return Err(std::mem::replace(first, NodeError::Stopping));
            }
        }
    }

    async fn read_head(
        &self,
        session: &Session,
        found: &Found,
    ) -> Result<(PathBuf, TextInfo), NodeError> {
        let peers: Vec<PeerId> = found.offers.iter().map(|offer| offer.peer).collect();
        let local = found.local.as_ref();
        let file = match found.others.is_empty() {
            true => {
                let fetching = self.head(session, &found.model, &found.name, local, &peers);
                fetching.await?
            }
            // Nobody holds up the others by letting a head of his own drip.
            false => {
                let (model, name) = (&found.model, &found.name);
                let fetching = self.head_in_time(session, model, name, local, &peers);
                fetching.await?
            }
        };
        let unreadable = |error: EngineError| match found.is_pinned() {
            true => error.into(),
            false => told_by_a_stranger(&found.name, error.into()),
        };
        let info = self.read_text(&file).await.map_err(unreadable)?;
        let row = found.row.as_ref().filter(|_| !found.is_pinned());
        match row.and_then(|row| contradiction(row, &info)) {
            Some(problem) => Err(unreadable(EngineError::BadFile { file, problem })),
            None => Ok((file, info)),
        }
    }

    /// A file that holds the head, if it comes within [`LOOK_FOR`].
    ///
    /// # Errors
    /// [`NodeError::Head`].
    pub(crate) async fn head_in_time(
        &self,
        session: &Session,
        model: &ModelRef,
        name: &str,
        local: Option<&Model>,
        peers: &[PeerId],
    ) -> Result<PathBuf, NodeError> {
        let fetching = self.head(session, model, name, local, peers);
        match tokio::time::timeout(LOOK_FOR, fetching).await {
            Ok(file) => file,
            Err(_) => {
                let slow = NetworkError::Timeout {
                    what: "the description",
                    after: LOOK_FOR,
                };
                Err(NodeError::Head {
                    model: name.to_owned(),
                    source: Box::new(slow.into()),
                })
            }
        }
    }

    /// What a file, or its head, says. A worker that died over another one is started again.
    pub(crate) async fn read_text(&self, file: &Path) -> Result<TextInfo, EngineError> {
        match self.engine.open_text(file).await {
            Err(EngineError::WorkerDied { .. }) => self.engine.open_text(file).await,
            info => info,
        }
    }
}

/// Whether another head may do where this one does not.
pub(crate) fn is_of_head(error: &NodeError) -> bool {
    matches!(
        error,
        NodeError::Head { .. } | NodeError::HeadUnreadable { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::community::tests::offer;

    const AWAY: Voter = Voter {
        wrote: false,
        connected: false,
        block: None,
        wallet: None,
    };

    /// In a block of its own.
    fn at(block: u8) -> Voter {
        Voter {
            block: Some(Block::Public(Group::V4([198, 51, block]))),
            ..AWAY
        }
    }

    fn near(block: u8) -> Voter {
        Voter {
            connected: true,
            ..at(block)
        }
    }

    /// The first bytes of the heads, in the order in which they are gone by: each peer names one, and has this voice.
    fn order(named: &[(u8, Voter)], lot: impl Fn(u8) -> u64) -> Vec<u8> {
        let byte = |head: &ModelRef| head.head_sha256.as_bytes()[0];
        let offers: Vec<Offer> = (0u8..)
            .zip(named)
            .map(|(peer, (head, _))| Offer {
                // Whoever lies says that it is fast.
                decode_tps: 1000 - u32::from(*head),
                ..offer(peer, [3; 32], *head)
            })
            .collect();
        let voter = |of: &Offer| {
            let at = offers.iter().position(|offer| offer.peer == of.peer);
            named[at.unwrap()].1
        };
        let heads = elect(&offers, voter, |head| lot(byte(head)));
        heads.iter().map(byte).collect()
    }

    #[test]
    fn the_head_that_most_name_is_first() {
        let named = [(9, near(1)), (5, near(2)), (5, near(3)), (7, near(4))];
        assert_eq!(order(&named, u64::from), [5, 7, 9]);
        assert!(order(&[], u64::from).is_empty());
    }

    #[test]
    fn names_of_one_machine_have_one_voice() {
        let liar = [(1, near(1)), (1, near(1)), (1, near(1))];
        let honest = [(9, near(2)), (9, near(3))];
        assert_eq!(order(&[&liar[..], &honest].concat(), u64::from), [9, 1]);
        // Nor do those of one account in many blocks, nor those of whom nobody says where they are.
        let paid = |block| Voter {
            wallet: Some([7; 20]),
            ..near(block)
        };
        let liar = [(1, paid(4)), (1, paid(5)), (1, paid(6))];
        assert_eq!(order(&[&liar[..], &honest].concat(), u64::from), [9, 1]);
        let liar = [(1, AWAY), (1, AWAY), (1, AWAY)];
        let said = [(9, at(2)), (9, at(3))];
        assert_eq!(order(&[&liar[..], &said].concat(), u64::from), [9, 1]);
    }

    #[test]
    fn places_that_were_made_up_outvote_nobody_that_was_seen() {
        let liar: Vec<(u8, Voter)> = (10..30).map(|block| (1, at(block))).collect();
        assert_eq!(
            order(&[&liar[..], &[(9, near(1))]].concat(), u64::from),
            [9, 1]
        );
        let wrote = Voter {
            wrote: true,
            ..at(1)
        };
        assert_eq!(
            order(&[&liar[..], &[(9, wrote)]].concat(), u64::from),
            [9, 1]
        );
    }

    #[test]
    fn between_equals_who_wrote_here_and_then_chance_decides_and_no_speed() {
        let two = [(1, near(1)), (9, near(2))];
        assert_eq!(order(&two, u64::from), [1, 9]);
        assert_eq!(order(&two, |head| 100 - u64::from(head)), [9, 1]);
        let wrote = Voter {
            wrote: true,
            ..near(2)
        };
        assert_eq!(order(&[(1, near(1)), (9, wrote)], u64::from), [9, 1]);
    }

    #[test]
    fn the_next_head_is_there_with_who_names_it_and_a_chosen_peer_s_own_comes_first() {
        let of = |peer, head| offer(peer, [3; 32], head);
        let offers = vec![of(1, 9), of(2, 5), of(3, 5), of(4, 7)];
        let heads = vec![of(0, 5).model, of(0, 9).model, of(0, 7).model];
        let split = |chosen: Option<u8>| -> Vec<(u8, usize)> {
            let chosen = chosen.map(|peer| PeerId::from_public_key(&[peer; 32]));
            by_head(offers.clone(), heads.clone(), chosen)
                .iter()
                .map(|named| (named.model.head_sha256.as_bytes()[0], named.offers.len()))
                .collect()
        };
        assert_eq!(split(None), [(5, 2), (9, 1), (7, 1)]);
        assert_eq!(
            split(Some(1)),
            [(9, 1), (5, 2), (7, 1)],
            "the person chose it"
        );
        assert_eq!(split(Some(8)), [(5, 2), (9, 1), (7, 1)], "it offers none");
        let many = (0u8..20).map(|head| of(0, head).model).collect();
        assert_eq!(by_head(offers, many, None).len(), MAX_HEADS);
    }

    #[test]
    fn a_head_of_another_kind_than_the_row_says_is_told() {
        let row = Model {
            id: "a".to_owned(),
            name: "A".to_owned(),
            starter: false,
            file: None,
            digest: None,
            reference: None,
            not_served: None,
            system_prompt: None,
            architecture: Some("llama".to_owned()),
            context_max: Some(2048),
            quant: String::new(),
            fits: true,
        };
        let info = |architecture: &str, context_train| TextInfo {
            architecture: architecture.to_owned(),
            runs_here: true,
            embeds_only: false,
            name: "A".to_owned(),
            vocab_size: 4,
            context_train,
            has_template: true,
            eog_ids: vec![2],
            head_len: 4,
            head_sha256: [0; 32],
            parameters: 1,
            quant: String::new(),
            kv_bytes_per_token: 1,
            weights_bytes: 0,
            load_bytes: 0,
            has_weights: false,
        };
        let wrong = |architecture, context| contradiction(&row, &info(architecture, context));
        assert_eq!(wrong("llama", 2048), None);
        assert_eq!(wrong("llama", 4096), None, "the page rounded it down");
        assert!(wrong("llama", 1024).is_some());
        assert!(wrong("qwen2", 2048).is_some());
        let unknown = Model {
            architecture: None,
            context_max: None,
            ..row.clone()
        };
        assert_eq!(contradiction(&unknown, &info("qwen2", 1)), None);
    }
}
