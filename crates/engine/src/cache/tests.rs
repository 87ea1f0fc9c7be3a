use proptest::prelude::*;

use super::*;
use crate::cache::first_seen;
use crate::families::Local;
use std::collections::BTreeMap;

/// What hashes of beginnings are derived by.
const CONTEXT: &str = "engine tests";

/// Pages of the pool under test.
const PAGES: u64 = 12;

fn shape() -> Shape {
    Shape::of_heads(1, 1, 16)
}

/// One layer that sees everything, and one that sees the last 40 positions.
fn windowed() -> Shape {
    let plain = shape();
    Shape {
        local: Some(Local {
            window: 40,
            layers: vec![false, true],
            rope: plain.rope.clone(),
        }),
        ..plain
    }
}

fn pool() -> PagePool<HostPage> {
    PagePool::new(&shape(), page() * PAGES)
}

/// Bytes of a page.
fn page() -> u64 {
    HostPage::bytes(&Layout::new(&shape(), Reach::All))
}

/// What a model would compute for the last of `ids`: a function of all of them.
fn computed(ids: &[u32]) -> f32 {
    let mixed = ids
        .iter()
        .fold(7u32, |sum, &id| sum.wrapping_mul(31).wrapping_add(id + 1));
    (mixed % 1_000_003) as f32
}

/// A sequence with the ids that it stands for.
#[derive(Debug, Default)]
struct Running {
    asker: usize,
    ids: Vec<u32>,
    state: SequenceState<HostPage>,
}

impl Running {
    /// Computes the next tokens, as a step does; false when there is no room.
    fn grow(&mut self, pool: &mut PagePool<HostPage>, ids: &[u32]) -> bool {
        let before = (self.state.len(), self.state.pages.len());
        if pool.reserve(&mut self.state, ids.len()).is_err() {
            assert_eq!(before, (self.state.len(), self.state.pages.len()));
            return false;
        }
        for &id in ids {
            self.ids.push(id);
            let value = [computed(&self.ids); 16];
            let position = self.ids.len() - 1;
            for reach in Reach::BOTH.into_iter().filter(|&reach| pool.has(reach)) {
                let page = self.state.page_mut(position, reach);
                let page = page.expect("a page of its own");
                page.write((0, 0), position % PAGE, 16, &value, &value);
            }
        }
        self.state.advance(ids.len());
        self.state.leave(pool);
        true
    }

    fn holds_what_it_should(&self, pool: &PagePool<HostPage>) {
        assert_eq!(self.state.len(), self.ids.len());
        for reach in Reach::BOTH.into_iter().filter(|&reach| pool.has(reach)) {
            let seen = match reach {
                Reach::All => 0,
                Reach::Window => first_seen(pool.window(), self.ids.len()) * PAGE,
            };
            for position in seen..self.ids.len() {
                let page = self.state.page(position / PAGE, reach).unwrap();
                let due = computed(&self.ids[..=position]);
                assert_eq!(page.keys(0, 0)[5 * PAGE + position % PAGE], due);
                assert_eq!(page.values(0, 0)[position % PAGE * 16 + 5], due);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Start { asker: usize, ids: Vec<u32> },
    Grow { which: usize, ids: Vec<u32> },
    Cut { which: usize, len: usize },
    Publish(usize),
    Retire(usize),
    Release(usize),
    Forget,
}

/// Ids of few values in runs, so that sequences share beginnings often.
fn ids(most: usize) -> impl Strategy<Value = Vec<u32>> {
    let runs = proptest::collection::vec((0u32..2, 1usize..40), 1..4);
    runs.prop_map(move |runs| {
        let ids = runs
            .into_iter()
            .flat_map(|(id, times)| std::iter::repeat_n(id, times));
        ids.take(most).collect()
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0usize..2, ids(100)).prop_map(|(asker, ids)| Act::Start { asker, ids }),
        4 => (0usize..4, ids(40)).prop_map(|(which, ids)| Act::Grow { which, ids }),
        1 => (0usize..4, 0usize..90).prop_map(|(which, len)| Act::Cut { which, len }),
        2 => (0usize..4).prop_map(Act::Publish),
        2 => (0usize..4).prop_map(Act::Retire),
        1 => (0usize..4).prop_map(Act::Release),
        1 => Just(Act::Forget),
    ]
}

fn asker(index: usize) -> Asker {
    [Asker::OWNER, Asker::client([9; 32])][index]
}

/// A beginning, as a node that serves others names it.
fn prefix(ids: &[u32]) -> Prefix {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    Prefix {
        tokens: ids.len() as u32,
        hash: *hasher.finalize().as_bytes(),
    }
}

fn by_hash(pool: &PagePool<HostPage>, who: usize, prefixes: &[Prefix]) -> Option<KnownPrefix> {
    let hasher = blake3::Hasher::new_derive_key(CONTEXT);
    pool.known(&asker(who), prefixes, &hasher)
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn pages_have_one_writer_and_none_is_lost(
        acts in proptest::collection::vec(act(), 1..60),
        has_window in any::<bool>(),
    ) {
        let shape = if has_window { windowed() } else { shape() };
        let mut pool = PagePool::new(&shape, 0);
        let capacity = PAGES * pool.page_bytes();
        pool.set_bytes(capacity);
        let mut running: Vec<Running> = Vec::new();
        // All that was ever published, by asker: what may be found at most.
        let mut published: [Vec<Vec<u32>>; 2] = [Vec::new(), Vec::new()];
        for act in acts {
            match act {
                Act::Start { asker: who, ids } => {
                    let state = pool.adopt(&asker(who), &ids);
                    let known = state.len();
                    let most = published[who].iter().map(|other| common(other, &ids)).max();
                    prop_assert!(known <= most.unwrap_or(0) && (known < ids.len() || known == 0));
                    let mut new = Running { asker: who, ids: ids[..known].to_vec(), state };
                    new.holds_what_it_should(&pool);
                    if running.len() < 4 && new.grow(&mut pool, &ids[known..]) {
                        running.push(new);
                    } else {
                        pool.release(new.state);
                    }
                }
                Act::Grow { which, ids } => {
                    if let Some(one) = running.get_mut(which) {
                        let needed = pool.needed(&one.state, ids.len());
                        let free = pool.free();
                        prop_assert_eq!(one.grow(&mut pool, &ids), needed <= free);
                    }
                }
                Act::Cut { which, len } => {
                    if let Some(one) = running.get_mut(which) {
                        let before = one.state.len();
                        one.state.truncate(&mut pool, len);
                        // What lost its window begins anew.
                        prop_assert!(one.state.len() == before.min(len) || has_window && one.state.is_empty());
                        one.ids.truncate(one.state.len());
                    }
                }
                Act::Publish(which) => {
                    if let Some(one) = running.get(which) {
                        pool.publish(&asker(one.asker), &one.ids, &one.state);
                        published[one.asker].push(one.ids[..one.ids.len() / PAGE * PAGE].to_vec());
                    }
                }
                Act::Retire(which) | Act::Release(which) if which >= running.len() => {}
                Act::Retire(which) => {
                    let one = running.swap_remove(which);
                    published[one.asker].push(one.ids.clone());
                    pool.retire(&asker(one.asker), &one.ids, one.state);
                    // Nothing took room since, so all of it is found again.
                    let again: Vec<u32> = one.ids.iter().copied().chain([7]).collect();
                    let found = pool.adopt(&asker(one.asker), &again);
                    prop_assert_eq!(found.len(), one.ids.len());
                    pool.release(found);
                    // The same by its hash, and by that of a part; what others asked is not found so.
                    for len in [one.ids.len(), one.ids.len() / 2].into_iter().filter(|&len| len > 0) {
                        let prefix = prefix(&one.ids[..len]);
                        let known = by_hash(&pool, one.asker, &[prefix]).expect("it was just computed");
                        prop_assert_eq!(known.prefix, prefix);
                        let all = len == one.ids.len() || !has_window;
                        prop_assert!(known.tokens as usize <= len && (!all || known.tokens as usize == len));
                        let other = 1 - one.asker;
                        let said = published[other].iter().any(|ids| common(ids, &one.ids) >= len);
                        prop_assert!(said || by_hash(&pool, other, &[prefix]).is_none());
                    }
                }
                Act::Release(which) => {
                    let one = running.swap_remove(which);
                    pool.release(one.state);
                }
                Act::Forget => {
                    pool.forget();
                    published = [Vec::new(), Vec::new()];
                }
            }
            running.iter().for_each(|one| one.holds_what_it_should(&pool));
            // Every page that lives is a sequence's or a prefix's, and is counted once.
            let pages = running.iter().flat_map(|one| one.state.pages.iter().flat_map(|pages| pages.0.iter().flatten()));
            let held: BTreeMap<*const Page<HostPage>, u64> = pages.map(|page| (Arc::as_ptr(page), page.bytes())).collect();
            prop_assert_eq!(pool.free(), capacity - held.values().sum::<u64>());
            prop_assert!(pool.living() <= capacity);
        }
        running.into_iter().for_each(|one| pool.release(one.state));
        prop_assert_eq!(pool.free(), capacity);
        pool.forget();
        prop_assert_eq!(pool.living(), 0);
    }
}

#[test]
fn the_longest_beginning_is_found_by_its_hash_until_it_makes_room() {
    let mut pool = pool();
    let chat: Vec<u32> = (0..100).collect();
    let mut one = Running::default();
    assert!(one.grow(&mut pool, &chat));
    pool.retire(&asker(1), &one.ids, one.state);
    // A chat that goes on: the whole of it is not known, of its parts the longest is.
    let next: Vec<u32> = (0..128).collect();
    let prefixes = [128, 120, 96, 64].map(|len| prefix(&next[..len]));
    let found = |pool: &PagePool<HostPage>, who| by_hash(pool, who, &prefixes);
    let longest = found(&pool, 1).unwrap();
    assert_eq!((longest.prefix, longest.tokens), (prefixes[2], 96));
    assert_eq!(found(&pool, 0), None, "another asker's");
    let wrong = Prefix {
        tokens: 96,
        ..prefix(&next[..64])
    };
    assert_eq!(by_hash(&pool, 1, &[wrong]), None);
    assert_eq!(by_hash(&pool, 1, &[]), None);
    // Its last page makes room, then what is left of it.
    let mut other = Running::default();
    assert!(other.grow(&mut pool, &[9; 9 * PAGE]));
    assert_eq!(found(&pool, 1).unwrap().tokens, 96);
    assert!(other.grow(&mut pool, &[9; PAGE]));
    assert_eq!(found(&pool, 1).unwrap().tokens, 64);
    assert!(other.grow(&mut pool, &[9; 2 * PAGE]));
    assert_eq!(found(&pool, 1), None);
}

#[test]
fn a_beginning_whose_window_moved_on_is_known_and_not_all_there() {
    let mut pool = PagePool::new(&windowed(), 0);
    pool.set_bytes(PAGES * pool.page_bytes());
    let chat: Vec<u32> = (0..6 * PAGE as u32).collect();
    let mut one = Running::default();
    for part in chat.chunks(PAGE) {
        assert!(one.grow(&mut pool, part));
    }
    pool.retire(&asker(1), &one.ids, one.state);
    let tokens = |pool: &PagePool<HostPage>, len: usize| {
        by_hash(pool, 1, &[prefix(&chat[..len])]).map(|known| known.tokens as usize)
    };
    assert_eq!(tokens(&pool, chat.len()), Some(chat.len()));
    // As much as a sequence would find there.
    let adopted = pool.adopt(&asker(1), &chat[..=2 * PAGE]).len();
    assert_eq!(tokens(&pool, 2 * PAGE), Some(adopted));
    assert!(adopted < 2 * PAGE);
}

#[test]
fn a_dropped_sequence_gives_its_pages_back_too() {
    let mut pool = pool();
    let mut one = Running::default();
    assert!(one.grow(&mut pool, &[1; 70]));
    assert_eq!(pool.free(), (PAGES - 3) * page());
    drop(one);
    assert_eq!(pool.free(), PAGES * page());
}

#[test]
fn what_a_prefix_holds_for_nobody_can_go_though_a_sequence_reads_its_window() {
    let mut pool = PagePool::new(&windowed(), 0);
    pool.set_bytes(PAGES * pool.page_bytes());
    // The window of its first pages moves on.
    let mut first = Running::default();
    assert!(first.grow(&mut pool, &[0; 4 * PAGE]));
    pool.retire(&Asker::OWNER, &first.ids, first.state);
    // The same beginning, computed anew and known once more.
    let mut second = Running::default();
    assert!(second.grow(&mut pool, &[0; PAGE]));
    pool.publish(&Asker::OWNER, &second.ids, &second.state);
    assert_eq!(pool.free(), (PAGES - 1) * pool.page_bytes());
    let mut all = SequenceState::default();
    let rest = (PAGES as usize - 1) * PAGE;
    pool.reserve(&mut all, rest).unwrap();
    second.holds_what_it_should(&pool);
}

#[test]
fn the_longest_unused_prefix_goes_first() {
    let mut pool = pool();
    for first in 0..3 {
        let mut one = Running::default();
        assert!(one.grow(&mut pool, &[first; 128]));
        pool.retire(&Asker::OWNER, &one.ids, one.state);
    }
    // All room is taken by prefixes of four pages each; the first is used again.
    let again = pool.adopt(&Asker::OWNER, &[0; 129]);
    pool.release(again);
    let mut other = Running::default();
    assert!(other.grow(&mut pool, &[9; 40]));
    let found = |pool: &mut PagePool<HostPage>, id| {
        let state = pool.adopt(&Asker::OWNER, &[id; 129]);
        let len = state.len();
        pool.release(state);
        len
    };
    assert_eq!(found(&mut pool, 0), 128);
    assert_eq!(found(&mut pool, 1), 64, "its last two pages made room");
    assert_eq!(found(&mut pool, 2), 128);
}

#[test]
fn prefixes_keep_no_more_than_they_may_and_strangers_cost_the_owner_nothing() {
    let mut pool = pool();
    pool.set_cached(Cached {
        own: 4 * page(),
        others: 4 * page(),
    });
    let ask = |asker: Asker, first: u32, pool: &mut PagePool<HostPage>| {
        let mut one = Running::default();
        assert!(one.grow(pool, &[first; 96]));
        pool.retire(&asker, &one.ids, one.state);
    };
    ask(Asker::OWNER, 0, &mut pool);
    for stranger in 1..9 {
        ask(
            Asker::client([stranger; 32]),
            u32::from(stranger),
            &mut pool,
        );
        assert!(pool.living() <= (3 + 4) * page(), "{} bytes", pool.living());
    }
    let found = |asker: Asker, id: u32, pool: &mut PagePool<HostPage>| {
        let state = pool.adopt(&asker, &[id; 97]);
        let len = state.len();
        pool.release(state);
        len
    };
    assert_eq!(found(Asker::OWNER, 0, &mut pool), 96);
    assert_eq!(found(Asker::client([8; 32]), 8, &mut pool), 96);
    assert_eq!(found(Asker::client([7; 32]), 7, &mut pool), 32);
    assert_eq!(found(Asker::client([1; 32]), 1, &mut pool), 0);
    // The owner's own are bounded too, and what is read now is not counted.
    let reads = pool.adopt(&Asker::OWNER, &[0; 97]);
    ask(Asker::OWNER, 9, &mut pool);
    assert_eq!(pool.living(), (3 + 3 + 4) * page());
    pool.release(reads);
    assert_eq!(pool.living(), (4 + 4) * page());
    assert_eq!(found(Asker::OWNER, 9, &mut pool), 96);
    pool.set_cached(Cached { own: 0, others: 0 });
    assert_eq!(pool.living(), 0);
}

#[test]
fn room_for_others_is_made_of_their_prefixes_before_the_owners() {
    let mut pool = pool();
    let chat: Vec<u32> = (0..4 * PAGE as u32).collect();
    let mut own = Running::default();
    assert!(own.grow(&mut pool, &chat));
    pool.retire(&Asker::OWNER, &own.ids, own.state);
    // Prefixes of others that were used later fill the rest.
    for seed in [1000, 2000] {
        let mut other = Running::default();
        let ids: Vec<u32> = (0..4 * PAGE as u32).map(|at| seed + at).collect();
        assert!(other.grow(&mut pool, &ids));
        pool.retire(&asker(1), &other.ids, other.state);
    }
    let mut next = Running::default();
    let ids: Vec<u32> = (0..8 * PAGE as u32).map(|at| 3000 + at).collect();
    assert!(next.grow(&mut pool, &ids));
    assert_eq!(pool.adopt(&Asker::OWNER, &chat).len(), chat.len() - 1);
}

#[test]
fn memory_is_untouched_until_a_page_takes_it_and_cached_pages_have_it() {
    let mut pool = pool();
    assert_eq!(pool.untouched(), PAGES * page());
    let mut running = Running::default();
    assert!(running.grow(&mut pool, &[1; 3 * PAGE]));
    assert_eq!(pool.untouched(), (PAGES - 3) * page());
    pool.retire(&Asker::OWNER, &running.ids, running.state);
    let (untouched, free) = (pool.untouched(), pool.free());
    assert_eq!((untouched, free), ((PAGES - 3) * page(), PAGES * page()));
    let other = pool.adopt(&Asker::OWNER, &[1; 9]);
    pool.release(other);
    pool.forget();
    assert_eq!(pool.untouched(), PAGES * page());
}
