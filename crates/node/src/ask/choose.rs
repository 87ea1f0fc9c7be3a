//! Whom an answer is asked of, and in which order: gathers the facts that `route` decides by, and carries out what it
//! wants to know, the quotes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use network::{NetworkError, NetworkStatus};
use protocol::{
    PeerId,
    job::client::{Candidate, PayTo},
    offer::{FEATURE_PREPAID, Offer},
    price::Terms,
    quote::{self, QuoteRequest},
};

use super::{attempts::is_ours, session::Session};
use crate::{
    clock,
    error::NodeError,
    node::Inner,
    route::{
        self, Claims, Dice, Draw, Group, Known, NotTaken, Outcome, Quoted, Rules, Shortlist,
        Standing, Verdict, Want, Yardstick,
    },
    settings::Settings,
};

/// A peer has this long for a connection and its quote; then the answer is asked for without.
const QUOTE_WAIT: Duration = Duration::from_millis(quote::QUOTE_TIMEOUT_MS);

/// Once one quote is here, the other has this long: about the round trip by which a far peer is slower than a near one.
const SECOND_QUOTE_WAIT: Duration = Duration::from_millis(250);

/// Output tokens that an answer is expected to have, where it may have more: an answer of a page.
const EXPECTED_OUT: u32 = 300;

/// Nineteen of twenty waits are shorter than so many times the mean, where waits are spread as those in queues are,
/// exponentially: −ln 0.05.
const P95_OVER_MEAN: f64 = 3.0;

/// Spares that are dialled beforehand at most.
const SPARES: usize = 4;

/// An answer that is about to be asked for.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) want: Want,
    /// The peer that the person chose for the chat: asked first, whatever it scores.
    pub(super) chosen: Option<PeerId>,
    /// The input's ids.
    pub(super) input: &'a [u32],
}

/// Who is asked, and what is expected of them.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// In the order in which they are asked.
    pub(super) candidates: Vec<Candidate>,
    /// Milliseconds after which each is expected to give the first token: its quote's word, or what its offer and record
    /// let expect.
    pub(super) first_token_ms: BTreeMap<PeerId, f64>,
    /// Peers worth a connection beforehand, in case the first fails; not all of them are needed.
    pub(super) spares: Vec<PeerId>,
    /// What of the input is told, and to whom.
    pub(super) told: Told,
}

/// The prefixes of an input, and the one peer that may be told of them: it wrote the chat's last answer, and has read what they
/// are hashes of. Nobody else is to learn what was said before.
#[derive(Debug, Default)]
pub(super) struct Told {
    peer: Option<PeerId>,
    hashes: Vec<[u8; 32]>,
}

impl Told {
    fn new(peer: Option<PeerId>, input: &[u32]) -> Self {
        let hashes = match peer {
            Some(_) => quote::prefix_hashes(input),
            None => Vec::new(),
        };
        Self { peer, hashes }
    }

    /// What this peer is told.
    pub(super) fn to(&self, peer: &PeerId) -> Vec<[u8; 32]> {
        match self.peer == Some(*peer) {
            true => self.hashes.clone(),
            false => Vec::new(),
        }
    }
}

/// What the peers of a draw answered.
#[derive(Debug, Default)]
struct Quotes {
    by_peer: BTreeMap<PeerId, Quoted>,
    /// The names of those that were truly given, which bind the peer to its prices.
    ids: BTreeMap<PeerId, [u8; quote::QUOTE_ID]>,
    /// Those that have jobs in front of the next one.
    busy: BTreeSet<PeerId>,
}

/// What came of asking one peer for a quote.
enum Asked {
    Quote(Quoted, [u8; quote::QUOTE_ID], u32),
    /// It does not speak of quotes.
    Unsupported,
    /// It does not want the job now, or said nothing that counts.
    Declined,
    /// It could not be reached, or did not answer.
    Failed,
}

/// The job as `route` sees it. A model is named by its id, which has its limits, and its digest.
pub(crate) fn want(
    settings: &Settings,
    (id, model): (&str, protocol::ModelDigest),
    (n_in, max_out): (usize, u32),
    sticky: Option<(PeerId, u32)>,
    private: bool,
) -> Want {
    Want {
        model,
        n_in: u32::try_from(n_in).unwrap_or(u32::MAX),
        max_out,
        expected_out: max_out.min(EXPECTED_OUT),
        features: Vec::new(),
        rules: rules(settings, id),
        preset: settings.routing,
        sticky,
        explore: settings.explore && !private,
    }
}

impl Inner {
    /// Chooses among these offers and puts them in order.
    ///
    /// # Errors
    /// [`NodeError::NobodyFits`] when there are offers and every one breaks a rule.
    pub(super) async fn choose(
        self: &Arc<Self>,
        session: &Arc<Session>,
        offers: &[Offer],
        question: Question<'_>,
        name: &str,
    ) -> Result<Chosen, NodeError> {
        let mut dice = Dice::new(u64::from_le_bytes(random()?));
        let Question {
            want,
            chosen,
            input,
        } = question;
        let told = Told::new(want.sticky.map(|(peer, _)| peer), input);
        let known: Vec<Known> = {
            let status = session.network.status();
            let status = status.borrow();
            offers
                .iter()
                .map(|offer| self.known(offer, &status))
                .collect()
        };
        let others: Vec<Known> = known
            .iter()
            .filter(|known| Some(known.peer) != chosen)
            .cloned()
            .collect();
        let list = route::shortlist(&want, &others, &mut dice, clock::unix_ms());
        let draw = list.draw(&mut dice);
        let mut not_taken = list.not_taken.clone();
        // Whatever it scores, the person's limit holds for it too.
        let chosen = known
            .iter()
            .find(|known| Some(known.peer) == chosen)
            .filter(|known| match route::within_cap(&want, known) {
                Ok(()) => true,
                Err(why) => {
                    not_taken.push((known.peer, why));
                    false
                }
            });
        let warm = warm(&list, &want, |peer| session.is_connected(peer));
        // Where the person chose, one is there alone, or the one that has read the chat is at hand, quotes decide nothing and
        // would cost a round trip.
        let quotes = match (chosen.map(|known| known.peer).or(warm), list.taken.len()) {
            (Some(_), _) | (None, 0 | 1) => None,
            (None, _) => Some(self.quotes(session, &list, &draw, &want, &told).await?),
        };
        let order = match &quotes {
            Some(quotes) => list.settle(&draw, &quotes.by_peer),
            None => {
                let by_score = list.taken.iter().map(|taken| taken.known.peer);
                let others = by_score.filter(|peer| Some(*peer) != warm);
                warm.into_iter().chain(others).collect()
            }
        };
        let Quotes {
            by_peer: quotes,
            ids,
            busy,
        } = quotes.unwrap_or_default();
        let mut first_token_ms = BTreeMap::new();
        if let Some(known) = chosen {
            let estimate = Yardstick::of(&want, &[known]).estimate(&want, known);
            first_token_ms.insert(known.peer, estimate.first_token_s * 1000.0);
        }
        for peer in &order {
            let expected = match quotes.get(peer) {
                Some(quote) => Some(f64::from(quote.eta_first_token_ms)),
                None => list
                    .estimate(peer)
                    .map(|estimate| estimate.first_token_s * 1000.0),
            };
            first_token_ms.extend(expected.map(|expected| (*peer, expected)));
        }
        let candidates: Vec<Candidate> = chosen
            .map(|known| known.peer)
            .into_iter()
            .chain(order)
            .filter_map(|peer| {
                let offer = offers.iter().find(|offer| offer.peer == peer)?;
                let mut candidate = self.candidate(offer);
                if let Some(quote) = quotes.get(&peer) {
                    // The rules, and the person, saw what the offer asks.
                    if quote.prices.exceed(&offer.prices) {
                        return None;
                    }
                    candidate.terms = Terms::new(quote.prices, quote.cached_prefix_tokens);
                }
                candidate.quote_id = ids.get(&peer).copied();
                candidate.prepaid &= !busy.contains(&peer);
                let expected = first_token_ms.get(&peer);
                candidate.first_token_p95_ms = expected.map(|mean| (mean * P95_OVER_MEAN) as u32);
                Some(candidate)
            })
            .collect();
        if let (true, Some(why)) = (candidates.is_empty(), commonest(&not_taken)) {
            return Err(NodeError::NobodyFits {
                model: name.to_owned(),
                count: not_taken.len(),
                why,
            });
        }
        let spares = candidates.iter().skip(1).take(SPARES);
        Ok(Chosen {
            spares: spares.map(|candidate| candidate.peer).collect(),
            candidates,
            first_token_ms,
            told,
        })
    }

    /// An offer that turned up while the answer runs, if the rules allow it.
    pub(super) fn late(&self, session: &Session, want: &Want, offer: &Offer) -> Option<Candidate> {
        if offer.peer == self.identity.peer_id() {
            return None;
        }
        let known = self.known(offer, &session.network.status().borrow());
        match route::judge(want, &known, clock::unix_ms()) {
            Ok(()) => Some(self.candidate(offer)),
            Err(why) => {
                tracing::debug!(peer = %offer.peer, %why, "an offer that turned up is not taken");
                None
            }
        }
    }

    /// Everything that the choice of a peer depends on.
    pub(crate) fn known(&self, offer: &Offer, status: &NetworkStatus) -> Known {
        let peer = offer.peer;
        let connected = status.peers.iter().find(|status| status.peer == peer);
        let book = self.book();
        let by_hand = book.addresses(&peer);
        let address = connected.map(|status| &status.addr).or(by_hand.first());
        Known {
            peer,
            claims: Claims::from(offer),
            record: self.measured.record(&peer, &offer.model.digest),
            rtt_ms: connected.and_then(|status| status.rtt_ms).map(f64::from),
            group: group_of(address.map(String::as_str), &offer.addrs),
            wallet: offer.binding.as_ref().map(|signed| signed.binding.operator),
            blocked: book.is_blocked(&peer),
            payable: self.pay_to(offer).is_some(),
            standing: self.measured.standing(&peer),
        }
    }

    /// How an offer would be paid from here; `None`: it cannot be.
    pub(super) fn pay_to(&self, offer: &Offer) -> Option<PayTo> {
        self.money.purse()?.pay_to(offer)
    }

    fn candidate(&self, offer: &Offer) -> Candidate {
        Candidate {
            peer: offer.peer,
            ctx_max: offer.ctx_max,
            out_max: offer.out_max,
            terms: offer.prices.into(),
            pay_to: self.pay_to(offer),
            quote_id: None,
            prepaid: (offer.features.iter()).any(|feature| feature == FEATURE_PREPAID),
            first_token_p95_ms: None,
        }
    }

    async fn quotes(
        self: &Arc<Self>,
        session: &Session,
        list: &Shortlist,
        draw: &Draw,
        want: &Want,
        told: &Told,
    ) -> Result<Quotes, NodeError> {
        let mut asked = FuturesUnordered::new();
        for peer in &draw.quoted {
            let request = QuoteRequest {
                nonce: random()?,
                model: want.model,
                n_in: want.n_in,
                max_out: want.max_out,
                prefix_hashes: told.to(peer),
            };
            asked.push(async move { (*peer, self.quote(session, peer, &request).await) });
        }
        let mut quotes = Quotes::default();
        let mut until = tokio::time::Instant::now() + QUOTE_WAIT;
        while let Ok(Some((peer, answer))) = tokio::time::timeout_at(until, asked.next()).await {
            match answer {
                Asked::Quote(quote, id, queue_pos) => {
                    self.measured.answered(&peer);
                    quotes.by_peer.insert(peer, quote);
                    quotes.ids.insert(peer, id);
                    if queue_pos > 0 {
                        quotes.busy.insert(peer);
                    }
                    until = until.min(tokio::time::Instant::now() + SECOND_QUOTE_WAIT);
                }
                // It is compared by what its offer lets expect.
                Asked::Unsupported => {
                    if let Some(expected) = list.estimate(&peer) {
                        let quote = by_estimate(&expected, list, &peer);
                        quotes.by_peer.insert(peer, quote);
                    }
                }
                Asked::Declined => {}
                Asked::Failed => {
                    let failed = Verdict {
                        outcome: Outcome::Failed,
                        ban: true,
                    };
                    self.blame(&peer, &want.model, failed).await;
                }
            }
        }
        Ok(quotes)
    }

    async fn quote(&self, session: &Session, peer: &PeerId, request: &QuoteRequest) -> Asked {
        if let Err(error) = self.reach(session, peer).await {
            tracing::debug!(%error, %peer, "a peer could not be reached for its quote");
            return match is_ours(&error) {
                true => Asked::Declined,
                false => Asked::Failed,
            };
        }
        match session.network.quote(peer, request).await {
            Ok(quote) => {
                let (id, queue_pos) = (quote.quote_id, quote.queue_pos);
                let quoted = Quoted {
                    eta_first_token_ms: quote.eta_first_token_ms,
                    decode_tps: quote.decode_tps,
                    prices: quote.prices,
                    cached_prefix_tokens: quote.cached_prefix_tokens,
                };
                Asked::Quote(quoted, id, queue_pos)
            }
            Err(error) => {
                tracing::debug!(%error, %peer, "a peer gave no quote");
                if matches!(error, NetworkError::Unsupported { .. }) {
                    return Asked::Unsupported;
                }
                let failed = matches!(
                    error,
                    NetworkError::Timeout { .. }
                        | NetworkError::NotConnected { .. }
                        | NetworkError::Malformed { .. }
                );
                if failed {
                    Asked::Failed
                } else {
                    Asked::Declined
                }
            }
        }
    }
}

/// What the person allows for the model of this id.
fn rules(settings: &Settings, model: &str) -> Rules {
    let regions = |list: &[String]| list.iter().map(|region| region.to_uppercase()).collect();
    Rules {
        price_cap: settings.price_cap_of(model),
        regions_allow: regions(&settings.regions_allow),
        regions_deny: regions(&settings.regions_deny),
    }
}

/// The peer that gave the chat's last answer, where it may be asked at once: it is connected, nothing is held against it,
/// and it alone has read the conversation. A price that is not its price any more it turns away, and then others are asked.
fn warm(list: &Shortlist, want: &Want, connected: impl Fn(&PeerId) -> bool) -> Option<PeerId> {
    let (peer, _) = want.sticky?;
    let taken = list.taken.iter().find(|taken| taken.known.peer == peer)?;
    (taken.known.standing == Standing::Free && connected(&peer)).then_some(peer)
}

fn by_estimate(expected: &route::Estimate, list: &Shortlist, peer: &PeerId) -> Quoted {
    Quoted {
        // Both are small and not negative; a float becomes the nearest integer that holds it.
        eta_first_token_ms: (expected.first_token_s * 1000.0) as u32,
        decode_tps: expected.decode_tps as u32,
        prices: list
            .find(peer)
            .map(|taken| taken.known.claims.prices)
            .unwrap_or_default(),
        cached_prefix_tokens: 0,
    }
}

/// The reason that most peers share.
fn commonest(not_taken: &[(PeerId, NotTaken)]) -> Option<NotTaken> {
    let kind = |why: &NotTaken| std::mem::discriminant(why);
    let count = |why: &NotTaken| {
        let alike = not_taken
            .iter()
            .filter(|(_, other)| kind(other) == kind(why));
        alike.count()
    };
    let most = not_taken.iter().max_by_key(|(_, why)| count(why))?;
    Some(most.1.clone())
}

/// The address in a multiaddr like /ip4/192.0.2.1/udp/4001/quic-v1, if it begins with one.
pub(super) fn ip_of(address: &str) -> Option<IpAddr> {
    let mut parts = address.split('/').skip(1);
    match parts.next()? {
        "ip4" | "ip6" => parts.next()?.parse().ok(),
        _ => None,
    }
}

/// In which block of addresses a peer is. Of a stranger that is not connected its own word counts: else a thousand names behind one
/// line would be so many peers.
fn group_of(address: Option<&str>, offered: &[bytes::Bytes]) -> Option<Group> {
    let at = address.and_then(ip_of);
    at.or_else(|| network::front_ip(offered))
        .and_then(Group::of)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| crate::identity::IdentityError::Random(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::examples::{NOW, known, peer, want};

    #[test]
    fn the_peer_that_has_read_the_chat_is_asked_at_once_unless_something_speaks_against_it() {
        let sticky = Want {
            sticky: Some((peer(2), 100)),
            ..want()
        };
        let warm_of = |want: &Want, standing, connected| {
            let mut all: Vec<Known> = (1..4).map(known).collect();
            all[1].standing = standing;
            let list = route::shortlist(want, &all, &mut Dice::new(1), NOW);
            warm(&list, want, |_| connected)
        };
        assert_eq!(warm_of(&sticky, Standing::Free, true), Some(peer(2)));
        assert_eq!(warm_of(&sticky, Standing::Free, false), None, "far away");
        assert_eq!(warm_of(&want(), Standing::Free, true), None, "a new chat");
        assert_eq!(warm_of(&sticky, Standing::HalfOpen, true), None, "failed");
        let banned = Standing::Banned { until_ms: NOW + 1 };
        assert_eq!(warm_of(&sticky, banned, true), None, "failed just now");
    }

    #[test]
    fn a_stranger_that_is_not_connected_is_where_its_offer_says() {
        // The multiaddr /ip4/198.51.100.7/tcp/4001: a code and four bytes, a code and two.
        let offered = bytes::Bytes::from_static(&[4, 198, 51, 100, 7, 6, 0x0f, 0xa1]);
        let near = Some(Group::V4([198, 51, 100]));
        assert_eq!(group_of(None, std::slice::from_ref(&offered)), near);
        let seen = group_of(Some("/ip4/203.0.113.9/tcp/1"), &[offered]);
        assert_eq!(seen, Some(Group::V4([203, 0, 113])), "seen, not said");
        assert_eq!(group_of(None, &[]), None);
        // However many names are offered from there, two of them are in the choice.
        let sybils: Vec<Known> = (0..20)
            .map(|n| Known {
                group: near,
                ..known(n)
            })
            .collect();
        let list = route::shortlist(&want(), &sybils, &mut Dice::new(0), NOW);
        assert_eq!(list.taken.len(), route::PER_GROUP);
    }

    #[test]
    fn addresses_give_their_ip() {
        assert_eq!(
            ip_of("/ip4/192.0.2.1/udp/4001/quic-v1"),
            "192.0.2.1".parse().ok()
        );
        assert_eq!(
            ip_of("/ip6/2001:db8::1/tcp/1/p2p/x"),
            "2001:db8::1".parse().ok()
        );
        assert_eq!(ip_of("/dns4/example.org/tcp/1"), None);
        assert_eq!(ip_of(""), None);
    }

    #[test]
    fn the_commonest_reason_is_told() {
        let peer = |n: u8| PeerId::from_public_key(&[n; 32]);
        let denied = |region: &str| NotTaken::RegionDenied {
            region: region.to_owned(),
        };
        let list = [
            (peer(1), NotTaken::Blocked),
            (peer(2), denied("DE")),
            (peer(3), denied("FR")),
        ];
        assert!(matches!(
            commonest(&list),
            Some(NotTaken::RegionDenied { .. })
        ));
        assert_eq!(commonest(&[]), None);
    }
}
