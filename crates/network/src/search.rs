//! In which steps a search for providers goes on: whose keys are walked to, who is dialled, and when it is over.
//!
//! A plain function of what was heard and of the time, so that the program and a simulation of many nodes decide alike.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use rand::seq::IteratorRandom;

use crate::{address::Prefix, providers::Key};

/// Keys asked for at first: providers spread evenly over the 16, so two hold an eighth of them.
const FIRST_KEYS: usize = 2;
/// Keys asked for at a time: each query takes up to six requests at once.
const KEYS_AT_ONCE: usize = 4;
/// One more key is asked for after this time without enough offers: by then a first provider has answered where one is near.
const NEXT_KEY: Duration = Duration::from_secs(1);
/// Providers of one search that are dialled at a time, so that their offers can be pulled.
const DIALS_AT_ONCE: usize = 16;
/// Providers of one search that are dialled in all, and that wait for it: whoever stands next to a key can name as many as it likes.
const DIALS: usize = 128;
/// How often one provider may be named, each time at other addresses, and dialled there: one for each path of a walk. Whoever answers
/// first may lie about where it is, and the others are heard all the same.
const NAMINGS: usize = 6;
/// Of those, from one site (a /24 or /48): many that name one network are one that names many.
const DIALS_PER_SITE: usize = 4;
/// A provider that gave no answer by then gives none to this search: a dial takes ten seconds, and so does a request.
const ANSWER: Duration = Duration::from_secs(20);
/// A search ends by then, whatever is still under way: a walk takes 20 s, and so does a dial with a request.
const SEARCH: Duration = Duration::from_secs(40);

/// One search. `W` is what a walk through the table is known by.
#[derive(Debug)]
pub(crate) struct Steps<W> {
    /// Keys not asked for yet, the likeliest first.
    plan: VecDeque<Key>,
    walks: HashMap<W, Key>,
    /// Peers whose offers may still come, and since when.
    waiting: HashMap<PeerId, Instant>,
    seen: HashSet<PeerId>,
    /// How often the table named a provider.
    namings: HashMap<PeerId, usize>,
    /// Providers that the table named and that were not dialled yet.
    named: Vec<PeerId>,
    named_in_all: usize,
    sites: HashMap<Prefix, usize>,
    begun: Instant,
    next_key: Instant,
}

impl<W: Copy + Eq + Hash> Steps<W> {
    /// Begins with these keys.
    pub(crate) fn new(plan: VecDeque<Key>, now: Instant) -> Self {
        Self {
            plan,
            walks: HashMap::new(),
            waiting: HashMap::new(),
            seen: HashSet::new(),
            namings: HashMap::new(),
            named: Vec::new(),
            named_in_all: 0,
            sites: HashMap::new(),
            begun: now,
            next_key: now,
        }
    }

    /// Looks at the time. False: it has gone on for long enough.
    pub(crate) fn go_on(&mut self, now: Instant) -> bool {
        self.waiting
            .retain(|_, since| now.saturating_duration_since(*since) < ANSWER);
        now.saturating_duration_since(self.begun) < SEARCH
    }

    /// Keys to walk to now. Each is to be told to [`Steps::walks_to`].
    pub(crate) fn next_keys(&mut self, now: Instant) -> Vec<Key> {
        if !(self.walks.is_empty() || self.next_key <= now) {
            return Vec::new();
        }
        let at_once = (self.walks.len() + 1).clamp(FIRST_KEYS, KEYS_AT_ONCE);
        let count = at_once
            .saturating_sub(self.walks.len())
            .min(self.plan.len());
        if count > 0 {
            self.next_key = now + NEXT_KEY;
        }
        self.plan.drain(..count).collect()
    }

    /// A walk began.
    pub(crate) fn walks_to(&mut self, walk: W, key: Key) {
        self.walks.insert(walk, key);
    }

    /// A walk is over.
    pub(crate) fn walked(&mut self, walk: &W) {
        self.walks.remove(walk);
    }

    /// Where a walk of this search leads.
    pub(crate) fn key_of(&self, walk: &W) -> Option<Key> {
        self.walks.get(walk).copied()
    }

    /// Walks under way.
    pub(crate) fn walks(&self) -> impl Iterator<Item = &W> {
        self.walks.keys()
    }

    /// Whether the table may name this peer: it was not heard of before, and there is room for one more.
    pub(crate) fn is_new(&self, provider: &PeerId) -> bool {
        self.named_in_all < DIALS && !self.seen.contains(provider)
    }

    /// Whether the table named this peer already and may do so again, at other addresses.
    pub(crate) fn is_named_again(&self, provider: &PeerId) -> bool {
        let namings = self.namings.get(provider).copied().unwrap_or_default();
        self.named_in_all < DIALS && (1..NAMINGS).contains(&namings)
    }

    /// Whether one more provider may be dialled at this site.
    pub(crate) fn has_room_at(&self, site: &Prefix) -> bool {
        self.sites.get(site).copied().unwrap_or_default() < DIALS_PER_SITE
    }

    /// The table named a provider, at addresses of these sites that it did not name it at before.
    pub(crate) fn names(&mut self, provider: PeerId, sites: impl IntoIterator<Item = Prefix>) {
        for site in sites {
            *self.sites.entry(site).or_default() += 1;
        }
        self.seen.insert(provider);
        *self.namings.entry(provider).or_default() += 1;
        self.named_in_all += 1;
        if !self.named.contains(&provider) {
            self.named.push(provider);
        }
    }

    /// A provider to dial now: a few at a time, and in no order that whoever named them could choose. One that is waited for already
    /// has its place among the few. Each that is dialled is to be told to [`Steps::waits_for`], each that cannot be to
    /// [`Steps::dials_later`].
    pub(crate) fn next_dial(&mut self) -> Option<PeerId> {
        let has_room = self.waiting.len() < DIALS_AT_ONCE;
        let named = self.named.iter().enumerate();
        let (at, _) = named
            .filter(|(_, provider)| has_room || self.waiting.contains_key(provider))
            .choose(&mut rand::rng())?;
        Some(self.named.swap_remove(at))
    }

    /// There was no room to dial this one: it is still named.
    pub(crate) fn dials_later(&mut self, provider: PeerId) {
        if !self.named.contains(&provider) {
            self.named.push(provider);
        }
    }

    /// A peer was met. True: it is to be asked.
    pub(crate) fn meets(&mut self, peer: PeerId) -> bool {
        self.seen.insert(peer)
    }

    /// A peer was asked, or is dialled so that it can be.
    pub(crate) fn waits_for(&mut self, peer: PeerId, now: Instant) {
        self.waiting.insert(peer, now);
    }

    /// A peer answered with its offers, or will not.
    pub(crate) fn heard(&mut self, peer: &PeerId) {
        self.waiting.remove(peer);
    }

    /// Whether nothing more will come of what is under way and planned.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.plan.is_empty()
            && self.walks.is_empty()
            && self.waiting.is_empty()
            && self.named.is_empty()
    }

    /// More keys, after those of the first plan.
    pub(crate) fn plan_more(&mut self, keys: VecDeque<Key>) {
        self.plan.extend(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(keys: u8) -> (Steps<u8>, Instant) {
        let now = Instant::now();
        (
            Steps::new((0..keys).map(|key| [key; 32]).collect(), now),
            now,
        )
    }

    fn walk(steps: &mut Steps<u8>, now: Instant) -> usize {
        let keys = steps.next_keys(now);
        for key in &keys {
            steps.walks_to(key[0], *key);
        }
        keys.len()
    }

    #[test]
    fn two_keys_first_then_one_more_each_second_up_to_four_at_a_time() {
        let (mut steps, now) = begun(16);
        let at = |ms| now + Duration::from_millis(ms);
        assert_eq!(walk(&mut steps, now), FIRST_KEYS);
        assert_eq!(walk(&mut steps, at(500)), 0);
        assert_eq!(walk(&mut steps, at(1000)), 1);
        assert_eq!(walk(&mut steps, at(2000)), 1);
        assert_eq!(walk(&mut steps, at(3000)), 0, "four are under way");
        steps.walked(&0);
        assert_eq!(walk(&mut steps, at(3000)), 1);
        assert!(!steps.is_exhausted());
    }

    #[test]
    fn a_few_are_dialled_at_a_time_and_few_of_one_site() {
        let (mut steps, now) = begun(0);
        let site = Prefix::of_site(&"/ip4/198.51.100.1/tcp/1".parse().unwrap()).unwrap();
        let mut names = |site: Option<Prefix>, count: usize| {
            (0..count)
                .filter(|_| {
                    let peer = PeerId::random();
                    let named =
                        steps.is_new(&peer) && site.is_none_or(|site| steps.has_room_at(&site));
                    if named {
                        steps.names(peer, site);
                    }
                    named
                })
                .count()
        };
        let of_one_site = names(Some(site), 10);
        assert_eq!(of_one_site, DIALS_PER_SITE);
        assert_eq!(of_one_site + names(None, 200), DIALS);
        let mut dialled = Vec::new();
        while let Some(peer) = steps.next_dial() {
            steps.waits_for(peer, now);
            dialled.push(peer);
        }
        assert_eq!(dialled.len(), DIALS_AT_ONCE);
        steps.heard(&dialled[0]);
        assert!(steps.next_dial().is_some());
    }

    #[test]
    fn who_is_waited_for_and_named_again_needs_no_place_of_its_own() {
        let (mut steps, now) = begun(0);
        let sought = PeerId::random();
        steps.names(sought, None);
        while steps.named_in_all < DIALS_AT_ONCE {
            steps.names(PeerId::random(), None);
        }
        while let Some(peer) = steps.next_dial() {
            steps.waits_for(peer, now);
        }
        // Somebody else names it where it is, while all places wait for silent ones.
        steps.names(PeerId::random(), None);
        steps.names(sought, None);
        assert_eq!(steps.next_dial(), Some(sought));
        assert_eq!(steps.next_dial(), None);
        steps.dials_later(sought);
        assert!(steps.go_on(now + ANSWER / 2) && !steps.is_exhausted());
        assert_eq!(steps.next_dial(), Some(sought), "it is still named");
    }

    #[test]
    fn a_provider_may_be_named_again_but_not_for_ever() {
        let (mut steps, now) = begun(0);
        let (provider, met) = (PeerId::random(), PeerId::random());
        assert!(steps.is_new(&provider) && !steps.is_named_again(&provider));
        steps.names(provider, None);
        assert_eq!(steps.next_dial(), Some(provider));
        steps.waits_for(provider, now);
        for _ in 1..NAMINGS {
            assert!(!steps.is_new(&provider) && steps.is_named_again(&provider));
            steps.names(provider, None);
        }
        assert!(!steps.is_named_again(&provider));
        assert_eq!(steps.next_dial(), Some(provider), "it is dialled once more");
        assert_eq!(steps.next_dial(), None, "and not for each naming");
        // Who was met is asked where it is.
        assert!(steps.meets(met) && !steps.is_new(&met) && !steps.is_named_again(&met));
        // All namings together have the room that they had.
        while steps.is_new(&PeerId::random()) {
            steps.names(PeerId::random(), None);
        }
        assert_eq!(steps.named_in_all, DIALS);
    }

    #[test]
    fn who_does_not_answer_is_waited_for_no_longer_and_a_search_ends() {
        let (mut steps, now) = begun(0);
        steps.waits_for(PeerId::random(), now);
        assert!(steps.go_on(now + ANSWER / 2) && !steps.is_exhausted());
        assert!(steps.go_on(now + ANSWER) && steps.is_exhausted());
        assert!(!steps.go_on(now + SEARCH));
    }
}
