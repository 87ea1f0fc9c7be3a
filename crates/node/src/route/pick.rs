//! From all known peers to an order of asking.

use std::collections::BTreeMap;

use protocol::{PeerId, price::Prices};

use super::{
    Dice, Group, Known, Standing, Want,
    filter::{NotTaken, judge},
    score::Yardstick,
};

/// Peers that are drawn from. A ninth best is rarely worth a question.
pub const SHORTLIST: usize = 8;

/// Peers of one /24 or /48 among them: a hosting account gets a whole block at once.
pub const PER_GROUP: usize = 2;

/// Peers that pay out to one wallet among them.
pub const PER_WALLET: usize = 3;

/// Share of small jobs that go to a peer of which too little is known here: else newcomers would never be found.
pub const EXPLORED_SHARE: f64 = 0.05;

/// A peer is a newcomer until it had so many jobs here. With one alone its record is still far behind those of the
/// peers that are asked every day, and it would never be asked again.
const KNOWN_JOBS: f64 = 15.0;

/// Output tokens of a small job: little is lost when it has to be asked again.
pub const MAX_SMALL_OUT: u32 = 512;

/// A peer of the shortlist with its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Who, with all that is known.
    pub known: Known,
    /// Lower is better.
    pub score: f64,
}

/// The best peers for a job, best first, and why the others are not among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortlist {
    want: Want,
    yardstick: Yardstick,
    /// At most [`SHORTLIST`], best first.
    pub taken: Vec<Taken>,
    /// Peers of which too little is known here, of all that the rules allow: one may be explored.
    newcomers: Vec<Taken>,
    /// Everybody else.
    pub not_taken: Vec<(PeerId, NotTaken)>,
    /// All that the rules allow are banned, so the bans do not count.
    pub bans_ignored: bool,
}

/// What a peer answered when it was asked for a quote.
#[derive(Debug, Clone, PartialEq)]
pub struct Quoted {
    /// Milliseconds until the first token.
    pub eta_first_token_ms: u32,
    /// Tokens per second after it.
    pub decode_tps: u32,
    /// What it asks; it holds for the quote's time.
    pub prices: Prices,
    /// Input tokens that it has read before.
    pub cached_prefix_tokens: u32,
}

/// Whom to ask for quotes, and who is there besides.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Up to two, to be asked at the same time.
    pub quoted: Vec<PeerId>,
    /// The rest of the shortlist, best first. The first of them is worth a connection as a spare.
    pub rest: Vec<PeerId>,
    /// The one of `quoted` that is asked only because nobody here knows it.
    pub explored: Option<PeerId>,
}

/// Applies the rules, scores what is left, and keeps the best: not too many of one network or owner.
#[must_use]
pub fn shortlist(want: &Want, all: &[Known], dice: &mut Dice, now_ms: u64) -> Shortlist {
    let mut allowed = Vec::new();
    let mut banned = Vec::new();
    let mut not_taken = Vec::new();
    for known in all {
        match judge(want, known, now_ms) {
            Ok(()) => allowed.push(known),
            Err(why @ NotTaken::Banned { .. }) => banned.push((known, why)),
            Err(why) => not_taken.push((known.peer, why)),
        }
    }
    let bans_ignored = allowed.is_empty() && !banned.is_empty();
    if bans_ignored {
        allowed = banned.iter().map(|(known, _)| *known).collect();
    } else {
        not_taken.extend(banned.into_iter().map(|(known, why)| (known.peer, why)));
    }
    let yardstick = Yardstick::of(want, &allowed);
    let mut scored: Vec<Taken> = allowed
        .into_iter()
        .map(|known| Taken {
            score: yardstick.score(want, known, &yardstick.estimate(want, known)),
            known: known.clone(),
        })
        .collect();
    // Chance breaks ties: an order that all clients share would send all of them to the same peers.
    dice.shuffle(&mut scored);
    scored.sort_by(|a, b| a.score.total_cmp(&b.score));
    let newcomers = scored
        .iter()
        .filter(|taken| taken.known.record.jobs() < KNOWN_JOBS)
        .filter(|taken| taken.known.standing == Standing::Free)
        .cloned()
        .collect();
    let mut room = Room::default();
    let mut taken = Vec::new();
    for candidate in scored {
        let peer = candidate.known.peer;
        if taken.len() >= SHORTLIST {
            not_taken.push((peer, NotTaken::Outscored));
        } else if room.takes(&candidate.known) {
            taken.push(candidate);
        } else {
            not_taken.push((peer, NotTaken::Alike));
        }
    }
    Shortlist {
        want: want.clone(),
        yardstick,
        taken,
        newcomers,
        not_taken,
        bans_ignored,
    }
}

/// Counts who is like whom.
#[derive(Debug, Default)]
struct Room {
    groups: BTreeMap<Group, usize>,
    wallets: BTreeMap<[u8; 20], usize>,
}

impl Room {
    fn takes(&mut self, known: &Known) -> bool {
        let full = |count: Option<&usize>, most| count.is_some_and(|count| *count >= most);
        let group = known.group.and_then(|group| self.groups.get(&group));
        let wallet = known.wallet.and_then(|wallet| self.wallets.get(&wallet));
        if full(group, PER_GROUP) || full(wallet, PER_WALLET) {
            return false;
        }
        if let Some(group) = known.group {
            *self.groups.entry(group).or_default() += 1;
        }
        if let Some(wallet) = known.wallet {
            *self.wallets.entry(wallet).or_default() += 1;
        }
        true
    }
}

impl Shortlist {
    /// Draws whom to ask for quotes: two, each with a probability in proportion to e^(−score). The peer of the chat's
    /// last answer is always one of them, since it alone has read the conversation. A chat that has no such peer may
    /// explore one that nobody here knows.
    pub fn draw(&self, dice: &mut Dice) -> Draw {
        let mut left: Vec<&Taken> = self.taken.iter().collect();
        let mut quoted = Vec::new();
        let mut explored = None;
        if let Some(newcomer) = self.explore(dice) {
            left.retain(|taken| taken.known.peer != newcomer);
            quoted.push(newcomer);
            explored = Some(newcomer);
        }
        let sticky = self.want.sticky.map(|(peer, _)| peer);
        if let Some(at) = left
            .iter()
            .position(|taken| Some(taken.known.peer) == sticky)
        {
            quoted.push(left.remove(at).known.peer);
        }
        while quoted.len() < 2 && !left.is_empty() {
            let at = sample(&left, dice);
            quoted.push(left.remove(at).known.peer);
        }
        // Who has not shown that it is back after a ban is asked last.
        left.sort_by_key(|taken| taken.known.standing == Standing::HalfOpen);
        Draw {
            quoted,
            rest: left.into_iter().map(|taken| taken.known.peer).collect(),
            explored,
        }
    }

    fn explore(&self, dice: &mut Dice) -> Option<PeerId> {
        let small = self.want.max_out <= MAX_SMALL_OUT;
        if !(self.want.explore && small && self.want.sticky.is_none())
            || dice.unit() >= EXPLORED_SHARE
        {
            return None;
        }
        let newcomer = self.newcomers.get(dice.below(self.newcomers.len()))?;
        Some(newcomer.known.peer)
    }

    /// Puts everybody of a draw in the order of asking: the one that is explored where it gave a quote, then the better
    /// quote, then the other, then the rest; who was asked for a quote and gave none comes last.
    #[must_use]
    pub fn settle(&self, draw: &Draw, quotes: &BTreeMap<PeerId, Quoted>) -> Vec<PeerId> {
        let mut answered: Vec<(bool, f64, PeerId)> = draw
            .quoted
            .iter()
            .filter_map(|peer| Some((peer, self.find(peer)?, quotes.get(peer)?)))
            .map(|(peer, taken, quote)| {
                let estimate = self
                    .yardstick
                    .estimate_quoted(&self.want, &taken.known, quote);
                let score = self.yardstick.score(&self.want, &taken.known, &estimate);
                (Some(*peer) != draw.explored, score, *peer)
            })
            .collect();
        answered.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let silent = draw.quoted.iter().filter(|peer| !quotes.contains_key(peer));
        answered
            .into_iter()
            .map(|(_, _, peer)| peer)
            .chain(draw.rest.iter().copied())
            .chain(silent.copied())
            .collect()
    }

    /// A peer of the list, or one that may be explored.
    #[must_use]
    pub fn find(&self, peer: &PeerId) -> Option<&Taken> {
        let all = self.taken.iter().chain(&self.newcomers);
        all.into_iter().find(|taken| taken.known.peer == *peer)
    }

    /// What a job at this peer is expected to take, by its offer and record.
    #[must_use]
    pub fn estimate(&self, peer: &PeerId) -> Option<super::Estimate> {
        let taken = self.find(peer)?;
        Some(self.yardstick.estimate(&self.want, &taken.known))
    }
}

/// Draws one in proportion to e^(−score), relative to the best, so that nothing underflows where all are bad.
fn sample(taken: &[&Taken], dice: &mut Dice) -> usize {
    let best = taken
        .iter()
        .map(|taken| taken.score)
        .fold(f64::INFINITY, f64::min);
    let weights: Vec<f64> = taken
        .iter()
        .map(|taken| (best - taken.score).exp())
        .collect();
    dice.weighted(&weights).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{
        super::{
            Observation, Outcome,
            examples::{NOW, known, peer, want},
        },
        *,
    };

    fn measured(n: u32) -> Known {
        let mut known = known(n);
        for _ in 0..40 {
            let seen = Observation {
                decode_tps: Some(30.0),
                ..Observation::of(Outcome::Good)
            };
            known.record.observe(&seen, NOW);
        }
        known
    }

    #[test]
    fn not_more_than_two_of_a_neighbourhood_nor_three_of_an_owner() {
        let mut all: Vec<Known> = (0..6).map(known).collect();
        for known in &mut all {
            known.group = Some(Group::V4([198, 51, 100]));
        }
        for n in 6..12 {
            all.push(Known {
                wallet: Some([1; 20]),
                ..known(n)
            });
        }
        let list = shortlist(&want(), &all, &mut Dice::new(0), NOW);
        let count =
            |of: fn(&Known) -> bool| list.taken.iter().filter(|taken| of(&taken.known)).count();
        assert_eq!(count(|known| known.group.is_some()), PER_GROUP);
        assert_eq!(count(|known| known.wallet.is_some()), PER_WALLET);
        assert!(
            list.not_taken
                .iter()
                .all(|(_, why)| *why == NotTaken::Alike)
        );
        assert_eq!(list.taken.len() + list.not_taken.len(), all.len());
    }

    #[test]
    fn bans_hold_unless_all_are_banned() {
        let banned = |n| Known {
            standing: Standing::Banned {
                until_ms: NOW + 1000,
            },
            ..known(n)
        };
        let list = shortlist(&want(), &[known(1), banned(2)], &mut Dice::new(0), NOW);
        assert_eq!((list.taken.len(), list.bans_ignored), (1, false));
        assert_eq!(
            list.not_taken,
            [(
                peer(2),
                NotTaken::Banned {
                    until_ms: NOW + 1000
                }
            )]
        );
        let list = shortlist(&want(), &[banned(1), banned(2)], &mut Dice::new(0), NOW);
        assert_eq!((list.taken.len(), list.bans_ignored), (2, true));
        // What the person decided is never ignored.
        let blocked = Known {
            blocked: true,
            ..banned(1)
        };
        assert!(
            shortlist(&want(), &[blocked], &mut Dice::new(0), NOW)
                .taken
                .is_empty()
        );
    }

    #[test]
    fn a_draw_follows_the_scores() {
        let mut slow = measured(2);
        slow.record = known(2).record;
        for _ in 0..10 {
            let seen = Observation {
                decode_tps: Some(15.0),
                ..Observation::of(Outcome::Good)
            };
            slow.record.observe(&seen, NOW);
        }
        let mut fast = measured(1);
        fast.record = known(1).record;
        for _ in 0..10 {
            let seen = Observation {
                decode_tps: Some(30.0),
                ..Observation::of(Outcome::Good)
            };
            fast.record.observe(&seen, NOW);
        }
        let list = shortlist(&want(), &[slow, fast], &mut Dice::new(0), NOW);
        assert_eq!(list.taken[0].known.peer, peer(1));
        let gap = list.taken[1].score - list.taken[0].score;
        let expected = 1.0 / (1.0 + (-gap).exp());
        let mut dice = Dice::new(3);
        let first = (0..20_000)
            .filter(|_| list.draw(&mut dice).quoted[0] == peer(1))
            .count();
        let share = first as f64 / 20_000.0;
        assert!(
            (share - expected).abs() < 0.02,
            "{share} instead of {expected}"
        );
    }

    #[test]
    fn the_better_quote_wins_and_who_gave_none_comes_last() {
        let list = shortlist(
            &want(),
            &(0..4).map(measured).collect::<Vec<_>>(),
            &mut Dice::new(0),
            NOW,
        );
        let draw = list.draw(&mut Dice::new(1));
        assert_eq!(
            (draw.quoted.len(), draw.rest.len(), draw.explored),
            (2, 2, None)
        );
        let quote = |eta| Quoted {
            eta_first_token_ms: eta,
            decode_tps: 30,
            prices: Prices::FREE,
            cached_prefix_tokens: 0,
        };
        let (one, two) = (draw.quoted[0], draw.quoted[1]);
        let quotes = BTreeMap::from([(one, quote(9000)), (two, quote(100))]);
        assert_eq!(list.settle(&draw, &quotes)[..2], [two, one]);
        let order = list.settle(&draw, &BTreeMap::from([(one, quote(9000))]));
        assert_eq!((order[0], order[3]), (one, two));
        assert_eq!(list.settle(&draw, &BTreeMap::new())[..2], draw.rest[..]);
    }

    #[test]
    fn the_last_peer_of_a_chat_is_always_asked() {
        let all: Vec<Known> = (0..8).map(measured).collect();
        let want = Want {
            sticky: Some((peer(7), 400)),
            ..want()
        };
        let list = shortlist(&want, &all, &mut Dice::new(0), NOW);
        for seed in 0..100 {
            assert_eq!(list.draw(&mut Dice::new(seed)).quoted[0], peer(7));
        }
    }

    #[test]
    fn one_small_job_in_twenty_explores_and_no_other_does() {
        let all: Vec<Known> = (0..8).map(measured).chain((8..12).map(known)).collect();
        let share = |want: &Want| {
            let list = shortlist(want, &all, &mut Dice::new(0), NOW);
            let mut dice = Dice::new(5);
            let mut seen = BTreeSet::new();
            let mut count = 0;
            for _ in 0..20_000 {
                if let Some(explored) = list.draw(&mut dice).explored {
                    seen.insert(explored);
                    count += 1;
                }
            }
            (f64::from(count) / 20_000.0, seen)
        };
        let small = Want {
            explore: true,
            max_out: MAX_SMALL_OUT,
            ..want()
        };
        let (explored, who) = share(&small);
        assert!((explored - EXPLORED_SHARE).abs() < 0.01, "{explored}");
        assert_eq!(who, (8..12).map(peer).collect());
        assert_eq!(
            share(&Want {
                explore: false,
                ..small.clone()
            })
            .0,
            0.0
        );
        assert_eq!(
            share(&Want {
                max_out: MAX_SMALL_OUT + 1,
                ..small.clone()
            })
            .0,
            0.0
        );
        assert_eq!(
            share(&Want {
                sticky: Some((peer(1), 10)),
                ..small
            })
            .0,
            0.0
        );
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_nobody_comes_twice(
            peers in prop::collection::vec((0..6u8, 0..4u8, any::<bool>(), 0..3u8, 0..200u32), 0..40),
            seed in any::<u64>(), sticky in prop::option::of(0..40u32), answers in any::<u8>(),
        ) {
            let all: Vec<Known> = peers.iter().enumerate().map(|(n, (group, wallet, blocked, standing, tps))| {
                let mut known = known(n as u32);
                known.group = (*group > 0).then_some(Group::V4([1, 2, *group]));
                known.wallet = (*wallet > 0).then_some([*wallet; 20]);
                known.blocked = *blocked;
                known.claims.decode_tps = *tps;
                known.standing = [Standing::Free, Standing::HalfOpen, Standing::Banned { until_ms: NOW + 1 }][usize::from(*standing)];
                known
            }).collect();
            let want = Want { sticky: sticky.map(|n| (peer(n), 7)), explore: true, max_out: 100, ..want() };
            let list = shortlist(&want, &all, &mut Dice::new(seed), NOW);
            prop_assert_eq!(list.taken.len() + list.not_taken.len(), all.len());
            prop_assert!(list.taken.len() <= SHORTLIST);
            prop_assert!(list.taken.windows(2).all(|pair| pair[0].score <= pair[1].score));
            for taken in &list.taken {
                let alike = |of: &dyn Fn(&Known) -> bool| list.taken.iter().filter(|other| of(&other.known)).count();
                if let Some(group) = taken.known.group {
                    prop_assert!(alike(&|known| known.group == Some(group)) <= PER_GROUP);
                }
                if let Some(wallet) = taken.known.wallet {
                    prop_assert!(alike(&|known| known.wallet == Some(wallet)) <= PER_WALLET);
                }
                prop_assert!(!taken.known.blocked);
            }
            let draw = list.draw(&mut Dice::new(seed));
            prop_assert!((list.taken.len().min(2)..=2).contains(&draw.quoted.len()));
            let quote = Quoted { eta_first_token_ms: 5, decode_tps: 9, prices: Prices::FREE, cached_prefix_tokens: 0 };
            let quotes = draw.quoted.iter().enumerate()
                .filter(|(at, _)| answers & (1 << at) != 0)
                .map(|(_, peer)| (*peer, quote.clone())).collect();
            let order = list.settle(&draw, &quotes);
            let distinct: BTreeSet<PeerId> = order.iter().copied().collect();
            prop_assert_eq!(distinct.len(), order.len());
            for taken in &list.taken {
                prop_assert!(distinct.contains(&taken.known.peer));
            }
            prop_assert!(order.iter().all(|peer| list.find(peer).is_some()));
        }
    }
}
