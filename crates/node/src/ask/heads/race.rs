//! One head from several peers: from one after another, and from the next one beside a peer that lets it drip.
//!
//! Whoever is asked first may send as slowly as is just waited for, which for a large head is half an hour. So a fetch that does not get
//! on is set beside the next peer's for a while, and whoever brought less in that time is given up. Where the line here is the slow one,
//! that costs half of it for as long as a piece takes, once for each peer: the time beside another does not count for how slowly a head
//! may come, or two that each have half of a slow line would both be too slow.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::future::select_all;
use network::HeadProgress;
use protocol::PeerId;
use tokio::time::Instant;

/// When the fetches under way are looked at, and when one that does not get on is given company.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How often they are looked at: a person waits three seconds for a peer that does not answer, and no longer for this.
    look: Duration,
    /// One that would be whole within this time, at what it brought since the last look, is left to come.
    soon: Duration,
    /// How long two are compared: the younger one has a connection to make, and a first piece to bring.
    trial: Duration,
    /// Nothing comes any more where none brought a piece for so long: one takes 16 s at the slowest pace that is waited for.
    still: Duration,
}

impl Pace {
    pub(super) const SENSIBLE: Self = Self {
        look: Duration::from_secs(3),
        soon: Duration::from_secs(10),
        trial: Duration::from_secs(6),
        still: Duration::from_secs(20),
    };
}

struct Run<F> {
    peer: PeerId,
    fetch: Pin<Box<F>>,
    progress: Arc<HeadProgress>,
    /// What was here at the last look.
    looked: u32,
    /// When a look last found more.
    moved: Instant,
    /// What was here when the youngest of them began.
    compared: u32,
}

impl<F> Run<F> {
    fn here(&self) -> u32 {
        self.progress.came()
    }

    /// Whether it gets on well enough to be left alone.
    fn comes_soon(&self, len: u32, pace: Pace) -> bool {
        let gained = self.here().saturating_sub(self.looked);
        let rest = len.saturating_sub(self.here());
        // Without a division: rest / (gained / look) <= soon.
        u128::from(rest) * pace.look.as_millis() <= u128::from(gained) * pace.soon.as_millis()
    }
}

/// Who was given up for whom.
#[derive(Default)]
struct GivenUp {
    /// All that ever were. Each is asked again where nothing comes any more, and only once: two would take turns for ever.
    ever: Vec<PeerId>,
    again: VecDeque<PeerId>,
    /// Who, and who brought more.
    pairs: Vec<(PeerId, PeerId)>,
}

impl GivenUp {
    fn add(&mut self, slower: PeerId, better: PeerId) {
        if !self.ever.contains(&slower) {
            self.ever.push(slower);
            self.again.push_back(slower);
        }
        // Who was given up for the slower one is given up for the better one now.
        for (_, other) in &mut self.pairs {
            if *other == slower {
                *other = better;
            }
        }
        self.pairs.push((slower, better));
    }

    /// Next of those who are asked again.
    fn next(&mut self) -> Option<PeerId> {
        let peer = self.again.pop_front()?;
        self.pairs.retain(|(slower, _)| *slower != peer);
        Some(peer)
    }

    /// Those who were given up for one that failed. They are asked like those who never were; who fails is asked no more, so this ends.
    fn failed(&mut self, failed: PeerId) -> Vec<PeerId> {
        let free = self.pairs.extract_if(.., |(_, better)| *better == failed);
        let free: Vec<PeerId> = free.map(|(slower, _)| slower).collect();
        self.again.retain(|peer| !free.contains(peer));
        free
    }
}

/// The first head that is whole: `len` bytes of it are fetched with `fetch`, which tells what is here. Each peer is asked once, once more
/// where it was given up for another and nothing comes any more, and again where that other one failed. `Err`: the last reason; `None`
/// where there was nobody to ask.
pub(super) async fn first_whole<F, E>(
    peers: &[PeerId],
    len: u32,
    fetch: impl Fn(PeerId, Arc<HeadProgress>) -> F,
    pace: Pace,
) -> Result<Vec<u8>, Option<E>>
where
    F: Future<Output = Result<Vec<u8>, E>>,
{
    let begin = |peer| {
        let progress = Arc::new(HeadProgress::default());
        Run {
            peer,
            fetch: Box::pin(fetch(peer, Arc::clone(&progress))),
            progress,
            looked: 0,
            moved: Instant::now(),
            compared: 0,
        }
    };
    let mut left: VecDeque<PeerId> = peers.iter().copied().collect();
    let mut given_up = GivenUp::default();
    let mut runs: Vec<Run<F>> = Vec::new();
    let mut last = None;
    let (mut next_look, mut youngest) = (Instant::now() + pace.look, Instant::now());
    loop {
        if runs.is_empty() {
            let Some(peer) = left.pop_front().or_else(|| given_up.next()) else {
                return Err(last);
            };
            runs.push(begin(peer));
            (next_look, youngest) = (Instant::now() + pace.look, Instant::now());
        }
        let fetches = runs.iter_mut().map(|run| run.fetch.as_mut());
        let first = async {
            let (ended, at, _) = select_all(fetches).await;
            (ended, at)
        };
        tokio::select! {
            (ended, at) = first => match ended {
                Ok(head) => return Ok(head),
                Err(error) => {
                    last = Some(error);
                    left.extend(given_up.failed(runs.remove(at).peer));
                }
            },
            () = tokio::time::sleep_until(next_look) => {
                next_look = Instant::now() + pace.look;
                if youngest.elapsed() >= pace.trial {
                    let alike = youngest.elapsed() >= pace.still;
                    let slower = leave_the_slower(&mut runs, alike);
                    if let Some(better) = runs.first() {
                        for peer in slower {
                            given_up.add(peer, better.peer);
                        }
                    }
                }
                for run in &mut runs {
                    if run.here() > run.looked {
                        run.moved = Instant::now();
                    }
                }
                let gets_on = runs.iter().any(|run| run.comes_soon(len, pace));
                let none_moves = runs.iter().all(|run| run.moved.elapsed() >= pace.still);
                // Two at a time: more would take from a slow line here what each of them needs to be in time.
                let next = match (gets_on || runs.len() > 1, none_moves) {
                    (true, _) => None,
                    (false, true) => left.pop_front().or_else(|| given_up.next()),
                    (false, false) => left.pop_front(),
                };
                if let Some(peer) = next {
                    runs.push(begin(peer));
                    youngest = Instant::now();
                    for run in &mut runs {
                        run.compared = run.here();
                    }
                }
                let beside_another = runs.len() > 1;
                for run in &mut runs {
                    run.looked = run.here();
                    if beside_another {
                        // All of it until the next look: what one that is given up has asked for may still come over the same line.
                        run.progress.allow(pace.look);
                    }
                }
            }
        }
    }
}

/// Gives up whoever brought less than another one since the youngest began; where they were compared for so long that they are `alike`,
/// also all but the oldest of those that brought the same: two that drip would keep everybody else out. Nobody, where none brought anything.
fn leave_the_slower<F>(runs: &mut Vec<Run<F>>, alike: bool) -> Vec<PeerId> {
    let gained = |run: &Run<F>| run.here().saturating_sub(run.compared);
    let most = runs.iter().map(gained).max().unwrap_or(0);
    let mut stays = false;
    let slower = runs.extract_if(.., |run| {
        most > 0 && (gained(run) < most || (std::mem::replace(&mut stays, true) && alike))
    });
    slower.map(|run| run.peer).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Mutex,
            atomic::{AtomicU32, Ordering},
        },
    };

    use protocol::Signer;

    use super::*;

    const LEN: u32 = 100;
    const HANG: Duration = Duration::from_secs(20);
    /// A hundredth of what is sensible, and a tenth of what is soon.
    const QUICK: Pace = Pace {
        look: Duration::from_millis(30),
        soon: Duration::from_secs(1),
        trial: Duration::from_millis(60),
        still: Duration::from_millis(200),
    };

    /// The same, and nothing of a head comes soon over this line.
    const SLOW_LINE: Pace = Pace {
        soon: Duration::from_millis(100),
        ..QUICK
    };

    fn peer(seed: u8) -> PeerId {
        Signer::from_seed([seed; 32]).peer_id()
    }

    /// How long a piece may take by itself.
    const PIECE: Duration = Duration::from_millis(200);

    /// What a peer does: a byte of the head every so often, and after so many nothing more (`None`: it says no at once).
    type Does = Option<(Duration, u32)>;

    /// Fetches from peers that do so, in this order. What came, and how often each was asked.
    async fn fetched(does: &[Does]) -> (Result<Vec<u8>, Option<u8>>, BTreeMap<usize, usize>) {
        let peers: Vec<_> = (0..does.len()).map(|at| peer(at as u8 + 1)).collect();
        let asked = Mutex::new(BTreeMap::new());
        let fetch = |peer, progress: Arc<HeadProgress>| {
            let at = peers.iter().position(|one| *one == peer).unwrap();
            *asked.lock().unwrap().entry(at).or_default() += 1;
            async move {
                let Some((pause, most)) = does[at] else {
                    return Err(at as u8);
                };
                for here in 1..=most {
                    tokio::time::sleep(pause).await;
                    progress.set_came(here);
                }
                match most {
                    LEN => Ok(vec![at as u8]),
                    _ => {
                        tokio::time::sleep(PIECE).await;
                        Err(at as u8)
                    }
                }
            }
        };
        let first = first_whole(&peers, LEN, fetch, QUICK);
        let first = tokio::time::timeout(HANG, first).await.unwrap();
        (first, asked.into_inner().unwrap())
    }

    const FAST: Does = Some((Duration::from_millis(1), LEN));
    const DRIPS: Does = Some((Duration::from_secs(1), LEN));
    const STALLS: Does = Some((Duration::from_millis(1), LEN / 2));
    const SILENT: Does = Some((Duration::ZERO, 0));

    #[tokio::test]
    async fn beside_a_peer_that_lets_it_drip_the_next_one_is_asked() {
        for held_up_by in [DRIPS, STALLS, SILENT] {
            let (head, asked) = fetched(&[held_up_by, FAST]).await;
            assert_eq!(head.unwrap(), [1], "{held_up_by:?}");
            assert_eq!(asked[&1], 1);
        }
        // Two of them hold up nobody either.
        let (head, _) = fetched(&[SILENT, DRIPS, FAST]).await;
        assert_eq!(head.unwrap(), [2]);
        let (head, _) = fetched(&[STALLS, SILENT, SILENT, DRIPS, None, FAST]).await;
        assert_eq!(head.unwrap(), [5]);
    }

    #[tokio::test]
    async fn a_peer_that_gets_on_is_left_alone_and_one_that_says_no_is_left_at_once() {
        let (head, asked) = fetched(&[None, FAST, FAST]).await;
        assert_eq!((head.unwrap(), asked.len()), (vec![1], 2));
        let (nobody, asked) = fetched(&[None, None]).await;
        assert_eq!((nobody.unwrap_err(), asked.len()), (Some(1), 2));
        let (nobody, _) = fetched(&[]).await;
        assert_eq!(nobody.unwrap_err(), None);
    }

    #[tokio::test]
    async fn where_the_line_here_is_slow_the_better_one_of_two_stays() {
        let slow = Some((Duration::from_millis(20), LEN));
        let slower = Some((Duration::from_millis(50), LEN));
        let (head, asked) = fetched(&[slow, slower]).await;
        assert_eq!(head.unwrap(), [0]);
        assert!(asked[&1] <= 2, "each is asked once more at most: {asked:?}");
        let (head, _) = fetched(&[slower, slow]).await;
        assert_eq!(head.unwrap(), [1]);
    }

    #[tokio::test]
    async fn who_was_given_up_is_asked_again_where_the_better_one_fails() {
        // It leads, and then brings nothing more.
        let leads = Some((Duration::from_millis(5), LEN / 2));
        let honest = Some((Duration::from_millis(20), LEN));
        let (head, asked) = fetched(&[honest, leads]).await;
        assert_eq!(head.unwrap(), [0]);
        assert!(asked[&0] <= 2);
    }

    #[tokio::test]
    async fn who_was_given_up_twice_is_asked_again_where_all_the_better_ones_fail() {
        // They lead, and then say no.
        let lies = Some((Duration::from_millis(2), LEN - 1));
        let honest = Some((Duration::from_millis(20), LEN));
        let (head, asked) = fetched(&[honest, lies, lies, lies]).await;
        assert_eq!(head.unwrap(), [0], "{asked:?}");
        assert!((1..4).all(|liar| asked[&liar] <= 4), "{asked:?}");
    }

    #[test]
    fn who_is_given_up_waits_for_the_best_one_to_fail() {
        let [one, two, three] = [1, 2, 3].map(peer);
        let mut given_up = GivenUp::default();
        given_up.add(one, two);
        given_up.add(two, three);
        assert!(given_up.failed(two).is_empty());
        assert_eq!(given_up.failed(three), [one, two]);
        assert_eq!(given_up.next(), None, "they are asked once for it");
        given_up.add(one, two);
        assert_eq!(
            given_up.next(),
            None,
            "and not again while another brings more"
        );
        assert_eq!(given_up.failed(two), [one]);
    }

    #[test]
    fn of_two_that_drip_alike_the_older_one_stays() {
        let run = |seed, came| {
            let progress = Arc::new(HeadProgress::default());
            progress.set_came(came);
            Run {
                peer: peer(seed),
                fetch: Box::pin(()),
                progress,
                looked: 0,
                moved: Instant::now(),
                compared: 0,
            }
        };
        let mut runs = vec![run(1, 5), run(2, 5)];
        assert!(leave_the_slower(&mut runs, false).is_empty());
        assert_eq!(leave_the_slower(&mut runs, true), [peer(2)]);
        let mut runs = vec![run(1, 4), run(2, 5)];
        assert_eq!(leave_the_slower(&mut runs, true), [peer(1)]);
        let mut runs = vec![run(1, 0), run(2, 0)];
        assert!(leave_the_slower(&mut runs, true).is_empty());
    }

    /// How many fetch over the line of this computer. Told when dropped.
    struct Fetching<'a>(&'a AtomicU32);

    impl<'a> Fetching<'a> {
        fn begin(all: &'a AtomicU32) -> Self {
            all.fetch_add(1, Ordering::Relaxed);
            Self(all)
        }
    }

    impl Drop for Fetching<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn over_a_slow_line_no_two_make_each_other_too_slow() {
        // A hundredth of 20 KiB/s: a piece takes 128 ms of the whole line, and may take 100 ms and 160 for each piece that is here.
        const SLICES: u32 = 16;
        const SLICE: Duration = Duration::from_millis(8);
        const PIECES: u32 = 10;
        let peers = [1, 2, 3, 4, 5].map(peer);
        let (line, too_slow) = (AtomicU32::new(0), AtomicU32::new(0));
        let fetch = |_, progress: Arc<HeadProgress>| {
            let (line, too_slow) = (&line, &too_slow);
            async move {
                let _one = Fetching::begin(line);
                // By the line, and not by the clock: a busy machine sleeps longer.
                let mut took = Duration::ZERO;
                for here in 1..=PIECES {
                    for _ in 0..SLICES {
                        let slice = SLICE * line.load(Ordering::Relaxed);
                        tokio::time::sleep(slice).await;
                        took += slice;
                        let allowed = Duration::from_millis(100 + 160 * u64::from(here));
                        if took > allowed + progress.allowed() {
                            too_slow.fetch_add(1, Ordering::Relaxed);
                            return Err(());
                        }
                    }
                    progress.set_came(here * LEN / PIECES);
                }
                Ok(Vec::new())
            }
        };
        let fetched = first_whole(&peers, LEN, fetch, SLOW_LINE);
        let fetched = tokio::time::timeout(HANG, fetched).await.unwrap();
        assert!(fetched.is_ok());
        assert_eq!(too_slow.into_inner(), 0);
    }
}
