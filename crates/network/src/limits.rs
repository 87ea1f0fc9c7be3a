//! Who may do what how often. Everything here is a plain function of its state and the time handed in.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Offers of others that one peer may bring us: its first hundred at once, then one in ten seconds, as Bitcoin does for addresses.
pub(crate) const OFFERS_RELAYED: Rate = Rate {
    burst: 100.0,
    per_second: 0.1,
};
/// Provider records that one peer may put here: a provider offers a handful of models, and says so every 20 minutes.
pub(crate) const PROVIDER_RECORDS: Rate = Rate {
    burst: 32.0,
    per_second: 0.2,
};

/// Questions to the routing table, and records for it, that one peer may send: fifty in ten seconds, after twice as many at once.
/// A search asks each peer sixteen times in as many seconds, and in a small network everybody is asked everything.
pub(crate) const ROUTING: Rate = Rate {
    burst: 100.0,
    per_second: 5.0,
};

/// Peers, and addresses, whose rates are remembered.
const PEERS: usize = 1024;
/// How many peers one address may have that each ask as much as one may: what a family or an office does. Somebody who makes a
/// thousand identities gets no more than this out of them.
const PEERS_PER_HOST: f64 = 4.0;

/// What a peer can ask for, each at its own rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A stream of `/decentralgpt/infer/1`.
    Job,
    /// A request for offers.
    Offers,
    /// A chunk of a head.
    Head,
    /// A quote.
    Quote,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Job, Self::Offers, Self::Head, Self::Quote];

    /// How often one peer may.
    pub(crate) const fn rate(self) -> Rate {
        match self {
            // Four in ten seconds keep a conversation going, eight at once let a program that starts, or a person who
            // regenerates, do so without a pause.
            Self::Job => Rate {
                burst: 8.0,
                per_second: 0.4,
            },
            // One follows each change of ours, and each change of identify.
            Self::Offers => Rate {
                burst: 10.0,
                per_second: 0.5,
            },
            // 256 are two of the largest heads, then 2 MiB a second.
            Self::Head => Rate {
                burst: 256.0,
                per_second: 8.0,
            },
            // One goes before each job, and a program that starts asks of several models.
            Self::Quote => Rate {
                burst: 10.0,
                per_second: 1.0,
            },
        }
    }
}

/// The rates of all kinds, in both directions.
#[derive(Debug)]
pub(crate) struct Rates {
    by_peer: [Buckets<PeerId>; Kind::ALL.len()],
    by_host: [Buckets<IpAddr>; Kind::ALL.len()],
    ours: [Buckets<PeerId>; Kind::ALL.len()],
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            by_peer: Kind::ALL.map(|kind| Buckets::per_peer(kind.rate())),
            by_host: Kind::ALL.map(|kind| {
                let Rate { burst, per_second } = kind.rate();
                let rate = Rate {
                    burst: burst * PEERS_PER_HOST,
                    per_second: per_second * PEERS_PER_HOST,
                };
                Buckets::new(rate, PEERS)
            }),
            ours: Kind::ALL.map(|kind| Buckets::per_peer(kind.rate())),
        }
    }
}

impl Rates {
    /// A peer at this address asks. `Err`: how long until it may.
    pub(crate) fn asks(
        &mut self,
        peer: PeerId,
        host: Option<IpAddr>,
        kind: Kind,
        now: Instant,
    ) -> Result<(), Duration> {
        self.by_peer[kind as usize].take(peer, now)?;
        // Through a relay nobody's address is seen: there the rate of the peer is all there is.
        host.map_or(Ok(()), |host| {
            self.by_host[kind as usize].take(household(host), now)
        })
    }

    /// We ask a peer: not more than an honest peer grants, since it would ban us.
    pub(crate) fn we_ask(
        &mut self,
        peer: PeerId,
        kind: Kind,
        now: Instant,
    ) -> Result<(), Duration> {
        self.ours[kind as usize].take(peer, now)
    }
}

/// The address, or for IPv6 the /64 that one household has.
fn household(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}

/// Inbound job streams of one peer at a time: one answering, one queued, and failovers that have not noticed their end yet.
const JOBS_PER_PEER: usize = 8;
/// Inbound job streams in all. Each may hold an Open of 1 MiB.
const JOBS_IN_ALL: usize = 128;

/// A peer that does this often in [`VIOLATION_WINDOW`] is banned: one bad frame may be a bug, three are not an accident.
const VIOLATIONS: usize = 3;
/// See [`VIOLATIONS`].
const VIOLATION_WINDOW: Duration = Duration::from_secs(600);
/// How long a ban lasts. Long enough to cost an attacker its connection, short enough for a client with a bug that was fixed.
pub(crate) const BAN: Duration = Duration::from_secs(600);
/// Streams refused for their rate that count as one violation: a client that is merely impatient stays far below.
pub(crate) const REFUSALS_PER_VIOLATION: u32 = 64;

/// How often something may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// At once, after a long pause.
    pub(crate) burst: f64,
    /// In the long run.
    pub(crate) per_second: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A token bucket per key, for at most `keys` keys.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    keys: usize,
    buckets: HashMap<K, Bucket>,
}

impl<K: Copy + Eq + std::hash::Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate, keys: usize) -> Self {
        Self {
            rate,
            keys,
            buckets: HashMap::new(),
        }
    }

    pub(crate) fn per_peer(rate: Rate) -> Self {
        Self::new(rate, PEERS)
    }

    /// Takes one token, or says how long until there is one.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.buckets.len() >= self.keys && !self.buckets.contains_key(&key) {
            self.forget_one(now);
        }
        let Rate { burst, per_second } = self.rate;
        let bucket = self.buckets.entry(key).or_insert(Bucket {
            tokens: burst,
            at: now,
        });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        *bucket = Bucket {
            tokens: (bucket.tokens + gained).min(burst),
            at: now,
        };
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - bucket.tokens) / per_second))
        }
    }

    fn forget_one(&mut self, now: Instant) {
        let Rate { burst, per_second } = self.rate;
        let full_after = Duration::from_secs_f64(burst / per_second);
        self.buckets
            .retain(|_, bucket| now.saturating_duration_since(bucket.at) < full_after);
        if self.buckets.len() >= self.keys
            && let Some(oldest) = self
                .buckets
                .iter()
                .min_by_key(|(_, bucket)| bucket.at)
                .map(|(key, _)| *key)
        {
            self.buckets.remove(&oldest);
        }
    }
}

/// Counts rules that peers broke, and says who is banned.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    violations: HashMap<PeerId, VecDeque<Instant>>,
    refusals: HashMap<PeerId, u32>,
    banned: BTreeMap<PeerId, Instant>,
    /// Bans that ended early, for others to have their place, until the loop looks.
    crowded_out: Vec<PeerId>,
}

impl Conduct {
    /// One rule broken. True when that was the one too many: the peer is banned from now on.
    pub(crate) fn violation(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.violations.len() >= PEERS && !self.violations.contains_key(&peer) {
            self.violations.retain(|_, times| {
                times
                    .back()
                    .is_some_and(|at| now.saturating_duration_since(*at) < VIOLATION_WINDOW)
            });
            if self.violations.len() >= PEERS {
                self.violations.clear();
            }
        }
        let times = self.violations.entry(peer).or_default();
        while times
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= VIOLATION_WINDOW)
        {
            times.pop_front();
        }
        times.push_back(now);
        if times.len() < VIOLATIONS {
            return false;
        }
        self.violations.remove(&peer);
        // A ban entry costs 50 bytes and needs three connections' worth of work to make.
        if self.banned.len() >= PEERS
            && let Some(first) = self.banned.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first.0;
            self.banned.remove(&first);
            self.crowded_out.push(first);
        }
        self.banned.insert(peer, now + BAN);
        true
    }

    /// One stream or request refused for its rate. True as [`Conduct::violation`].
    pub(crate) fn refusal(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.refusals.len() >= PEERS && !self.refusals.contains_key(&peer) {
            self.refusals.clear();
        }
        let count = self.refusals.entry(peer).or_default();
        *count += 1;
        if *count < REFUSALS_PER_VIOLATION {
            return false;
        }
        self.refusals.remove(&peer);
        self.violation(peer, now)
    }

    /// Bans that are over, taken out of the list.
    pub(crate) fn pardoned(&mut self, now: Instant) -> Vec<PeerId> {
        let mut over = std::mem::take(&mut self.crowded_out);
        // Who was banned again meanwhile is not let in by the older ban's end.
        over.retain(|peer| !self.banned.contains_key(peer));
        over.extend(
            self.banned
                .iter()
                .filter(|(_, until)| **until <= now)
                .map(|(peer, _)| *peer),
        );
        for peer in &over {
            self.banned.remove(peer);
        }
        over
    }

    pub(crate) fn is_banned(&self, peer: &PeerId) -> bool {
        self.banned.contains_key(peer)
    }

    pub(crate) fn banned(&self) -> impl Iterator<Item = &PeerId> {
        self.banned.keys()
    }
}

/// Counts the job streams that are open from outside; each holds a [`JobSlot`].
#[derive(Clone, Debug, Default)]
pub(crate) struct JobSlots(Arc<Mutex<HashMap<PeerId, usize>>>);

impl JobSlots {
    /// Whether a stream of this peer is open.
    pub(crate) fn has(&self, peer: &PeerId) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.contains_key(peer)
    }

    /// A place for one more stream of this peer, where there is one.
    pub(crate) fn take(&self, peer: PeerId) -> Option<JobSlot> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_all: usize = open.values().sum();
        let of_peer = open.get(&peer).copied().unwrap_or_default();
        if in_all >= JOBS_IN_ALL || of_peer >= JOBS_PER_PEER {
            return None;
        }
        open.insert(peer, of_peer + 1);
        Some(JobSlot {
            slots: self.clone(),
            peer,
        })
    }
}

/// Freed when dropped.
#[derive(Debug)]
pub(crate) struct JobSlot {
    slots: JobSlots,
    peer: PeerId,
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        let mut open = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_bucket_refills_and_never_beyond_its_burst() {
        let mut buckets = Buckets::new(
            Rate {
                burst: 2.0,
                per_second: 0.5,
            },
            4,
        );
        let start = Instant::now();
        assert!(buckets.take(1, start).is_ok());
        assert!(buckets.take(1, start).is_ok());
        assert_eq!(buckets.take(1, start), Err(Duration::from_secs(2)));
        assert!(buckets.take(2, start).is_ok(), "another key has its own");
        let later = start + Duration::from_secs(2);
        assert!(buckets.take(1, later).is_ok());
        assert!(buckets.take(1, later).is_err());
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(
            (0..5)
                .filter(|_| buckets.take(1, much_later).is_ok())
                .count(),
            2
        );
    }

    #[test]
    fn ten_thousand_keys_do_not_take_more_than_their_place() {
        let mut buckets = Buckets::new(Kind::Job.rate(), 16);
        let now = Instant::now();
        for key in 0..10_000 {
            let _ = buckets.take(key, now + Duration::from_millis(key));
            assert!(buckets.buckets.len() <= 16);
        }
    }

    #[test]
    fn the_third_violation_in_ten_minutes_bans_for_ten() {
        let mut conduct = Conduct::default();
        let (peer, start) = (PeerId::random(), Instant::now());
        assert!(!conduct.violation(peer, start));
        assert!(!conduct.violation(peer, start + Duration::from_secs(1)));
        // The first two have left the window by then.
        let later = start + VIOLATION_WINDOW + Duration::from_secs(2);
        assert!(!conduct.violation(peer, later));
        assert!(!conduct.violation(peer, later));
        assert!(conduct.violation(peer, later));
        assert!(conduct.is_banned(&peer));
        assert_eq!(
            conduct.pardoned(later + BAN - Duration::from_secs(1)),
            vec![]
        );
        assert_eq!(conduct.pardoned(later + BAN), vec![peer]);
        assert!(!conduct.is_banned(&peer));
    }

    #[test]
    fn a_flood_of_refused_streams_bans_and_a_few_do_not() {
        let mut conduct = Conduct::default();
        let (peer, now) = (PeerId::random(), Instant::now());
        let needed = VIOLATIONS as u32 * REFUSALS_PER_VIOLATION;
        assert!((1..needed).all(|_| !conduct.refusal(peer, now)));
        assert!(conduct.refusal(peer, now));
    }

    #[test]
    fn job_slots_are_given_back() {
        let slots = JobSlots::default();
        let peer = PeerId::random();
        let held: Vec<_> = (0..JOBS_PER_PEER)
            .map(|_| slots.take(peer).unwrap())
            .collect();
        assert!(slots.take(peer).is_none());
        assert!(
            slots.take(PeerId::random()).is_some(),
            "another peer is not held up"
        );
        drop(held);
        assert!(slots.take(peer).is_some());
        assert!(slots.0.lock().unwrap().len() <= 1);
    }

    #[test]
    fn who_found_no_slot_leaves_nothing_behind_and_is_not_at_work() {
        let slots = JobSlots::default();
        let held: Vec<_> = (0..JOBS_IN_ALL)
            .map(|_| slots.take(PeerId::random()).unwrap())
            .collect();
        for _ in 0..100 {
            let late = PeerId::random();
            assert!(slots.take(late).is_none() && !slots.has(&late));
        }
        drop(held);
        assert!(slots.0.lock().unwrap().is_empty());
    }

    #[test]
    fn bans_make_room_for_one_another_and_each_is_ended() {
        let mut conduct = Conduct::default();
        let start = Instant::now();
        let mut banned = Vec::new();
        for at in 0..PEERS as u64 + 10 {
            let (peer, now) = (PeerId::random(), start + Duration::from_millis(at));
            while !conduct.violation(peer, now) {}
            banned.push(peer);
        }
        assert_eq!(conduct.banned.len(), PEERS);
        let early = conduct.pardoned(start + Duration::from_secs(60));
        assert_eq!(
            early.iter().collect::<BTreeSet<_>>(),
            banned[..10].iter().collect(),
            "those that would have ended first"
        );
        let rest = conduct.pardoned(start + 2 * BAN);
        assert_eq!(early.len() + rest.len(), banned.len());
        assert!(conduct.pardoned(start + 3 * BAN).is_empty());
    }

    /// Who writes another client keeps to what the page says.
    #[test]
    fn the_page_of_the_protocol_says_how_often() {
        let page = include_str!("../../../docs/protocol.md");
        for (what, rate) in [
            ("jobs", Kind::Job.rate()),
            ("requests for offers", Kind::Offers.rate()),
            ("pieces of heads", Kind::Head.rate()),
            ("quotes", Kind::Quote.rate()),
            ("questions to the routing table", ROUTING),
            ("provider records", PROVIDER_RECORDS),
            ("offers of others in answers to one peer", OFFERS_RELAYED),
            (
                "connections from one address",
                crate::admission::NEW_PER_HOUSEHOLD,
            ),
        ] {
            let row = format!(
                "| {what} | {} | {} ms |",
                rate.burst,
                1000.0 / rate.per_second
            );
            assert!(page.contains(&row), "{row}");
        }
        let of_conduct =
            format!("so are {REFUSALS_PER_VIOLATION} refusals. Three within ten minutes");
        assert!(page.contains(&of_conduct));
        assert_eq!(
            (VIOLATIONS, VIOLATION_WINDOW, BAN),
            (3, Duration::from_secs(600), Duration::from_secs(600))
        );
    }

    #[test]
    fn a_thousand_identities_of_one_address_get_what_four_get() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        let host = "203.0.113.5".parse().ok();
        let granted = (0..1000)
            .filter(|_| rates.asks(PeerId::random(), host, Kind::Quote, now).is_ok())
            .count();
        assert_eq!(granted, 40);
        assert!(
            rates
                .asks(PeerId::random(), host, Kind::Offers, now)
                .is_ok(),
            "another kind"
        );
        assert!(
            rates.asks(PeerId::random(), None, Kind::Quote, now).is_ok(),
            "through a relay"
        );
    }

    #[test]
    fn we_ask_as_often_as_we_grant() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        for kind in Kind::ALL {
            let peer = PeerId::random();
            let granted = (0..1000)
                .take_while(|_| rates.asks(peer, None, kind, now).is_ok())
                .count();
            let asked = (0..1000)
                .take_while(|_| rates.we_ask(peer, kind, now).is_ok())
                .count();
            assert_eq!(granted, asked, "{kind:?}");
        }
    }

    #[test]
    fn a_peer_through_the_night_asks_no_more_than_its_rate() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let peer = PeerId::random();
        let granted = (0..3600)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                rates.asks(peer, None, Kind::Job, now).is_ok()
            })
            .count();
        assert!((1440..=1450).contains(&granted), "{granted}");
    }
}
