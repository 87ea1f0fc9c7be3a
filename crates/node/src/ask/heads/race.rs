//! One head from several peers: from one after another, and from the next one beside a peer that lets it drip.
//!
//! Whoever is asked first may send as slowly as is just waited for, which for a large head is half an hour. So a fetch that does not get
//! on is left alone with the next peer for a while, and whoever brought less in that time is given up: where the line here is the slow
//! one, that costs some seconds of half the line for each peer, and no more.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::select_all;
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
}

impl Pace {
    pub(super) const SENSIBLE: Self = Self {
        look: Duration::from_secs(3),
        soon: Duration::from_secs(10),
        trial: Duration::from_secs(6),
    };
}

struct Run<F> {
    peer: PeerId,
    fetch: Pin<Box<F>>,
    came: Arc<AtomicU32>,
    /// What was here at the last look.
    looked: u32,
    /// What was here when the youngest of them began.
    compared: u32,
}

impl<F> Run<F> {
    fn here(&self) -> u32 {
        self.came.load(Ordering::Relaxed)
    }

    /// Whether it gets on well enough to be left alone.
    fn comes_soon(&self, len: u32, pace: Pace) -> bool {
        let gained = self.here().saturating_sub(self.looked);
        let rest = len.saturating_sub(self.here());
        // Without a division: rest / (gained / look) <= soon.
        u128::from(rest) * pace.look.as_millis() <= u128::from(gained) * pace.soon.as_millis()
    }
}

/// The first head that is whole: `len` bytes of it are fetched with `fetch`, which counts what is here. Each peer is asked once, and once
/// more where it was given up for another. `Err`: the last reason; `None` where there was nobody to ask.
pub(super) async fn first_whole<F, E>(
    peers: &[PeerId],
    len: u32,
    fetch: impl Fn(PeerId, Arc<AtomicU32>) -> F,
    pace: Pace,
) -> Result<Vec<u8>, Option<E>>
where
    F: Future<Output = Result<Vec<u8>, E>>,
{
    let begin = |peer| {
        let came = Arc::new(AtomicU32::new(0));
        Run {
            peer,
            fetch: Box::pin(fetch(peer, Arc::clone(&came))),
            came,
            looked: 0,
            compared: 0,
        }
    };
    let mut left: VecDeque<PeerId> = peers.iter().copied().collect();
    // Given up for another one: asked again only where nothing comes any more, or the two would take turns for ever.
    let (mut given_up, mut again) = (Vec::<PeerId>::new(), VecDeque::<PeerId>::new());
    let mut runs: Vec<Run<F>> = Vec::new();
    let mut last = None;
    let (mut next_look, mut youngest) = (Instant::now() + pace.look, Instant::now());
    loop {
        if runs.is_empty() {
            let Some(peer) = left.pop_front().or_else(|| again.pop_front()) else {
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
                    runs.remove(at);
                }
            },
            () = tokio::time::sleep_until(next_look) => {
                next_look = Instant::now() + pace.look;
                if youngest.elapsed() >= pace.trial {
                    for peer in leave_the_slower(&mut runs) {
                        if !given_up.contains(&peer) {
                            given_up.push(peer);
                            again.push_back(peer);
                        }
                    }
                }
                let gets_on = runs.iter().any(|run| run.comes_soon(len, pace));
                let none_moves = runs.iter().all(|run| run.here() == run.looked);
                // Two at a time: more would take from a slow line here what each of them needs to be in time.
                let next = match (gets_on || runs.len() > 1, none_moves) {
                    (true, _) => None,
                    (false, true) => left.pop_front().or_else(|| again.pop_front()),
                    (false, false) => left.pop_front(),
                };
                if let Some(peer) = next {
                    runs.push(begin(peer));
                    youngest = Instant::now();
                    for run in &mut runs {
                        run.compared = run.here();
                    }
                }
                for run in &mut runs {
                    run.looked = run.here();
                }
            }
        }
    }
}

/// Gives up whoever brought less than another one since the youngest began. Nobody, where none brought more than the others.
fn leave_the_slower<F>(runs: &mut Vec<Run<F>>) -> Vec<PeerId> {
    let gained = |run: &Run<F>| run.here().saturating_sub(run.compared);
    let most = runs.iter().map(gained).max().unwrap_or(0);
    let slower = runs.extract_if(.., |run| gained(run) < most);
    slower.map(|run| run.peer).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use protocol::Signer;

    use super::*;

    const LEN: u32 = 100;
    const HANG: Duration = Duration::from_secs(20);
    /// A hundredth of what is sensible, and a tenth of what is soon.
    const QUICK: Pace = Pace {
        look: Duration::from_millis(30),
        soon: Duration::from_secs(1),
        trial: Duration::from_millis(60),
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
        let fetch = |peer, came: Arc<AtomicU32>| {
            let at = peers.iter().position(|one| *one == peer).unwrap();
            *asked.lock().unwrap().entry(at).or_default() += 1;
            async move {
                let Some((pause, most)) = does[at] else {
                    return Err(at as u8);
                };
                for here in 1..=most {
                    tokio::time::sleep(pause).await;
                    came.store(here, Ordering::Relaxed);
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
        let begun = Instant::now();
        let (head, asked) = fetched(&[None, FAST, FAST]).await;
        assert_eq!((head.unwrap(), asked.len()), (vec![1], 2));
        assert!(begun.elapsed() < Duration::from_secs(5));
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
}
