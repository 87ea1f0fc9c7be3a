//! The places for strangers' jobs: who holds one, who gets the next, and where a job that lost its stream is found again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use network::{FrameReader, FrameWriter};
use protocol::{JobId, PeerId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, sleep},
};

use super::quoted::Quoted;

/// Jobs of others that compute at once. They share the engine's steps: with more, nobody gets an answer at reading pace.
pub(super) const SLOTS: usize = 2;

/// Places besides for answers that broke elsewhere and go on here: whoever waits for one has half of it before his eyes. Who says so of
/// a new one gets a place when the others are taken, and slows down nobody by more than that one.
const RESCUES: usize = 1;

/// What may wait for one job's task: a stream that takes it up, and a word that its place is needed.
const CALLS: usize = 2;

/// How long a newcomer waits for the place of a job that was told to make room, or of its own last one: such a job ends within
/// milliseconds.
const EVICTION: Duration = Duration::from_millis(300);
const EVICTION_STEP: Duration = Duration::from_millis(10);

/// A stream that asks to take up a job.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) peer: PeerId,
    /// The first frame.
    pub(super) bytes: Bytes,
    pub(super) reader: FrameReader,
    pub(super) writer: FrameWriter,
}

/// What a place is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer from its beginning.
    New,
    /// One that broke elsewhere.
    Broken,
}

/// What others want of a running job.
#[derive(Debug)]
pub(super) enum Call {
    Take(Box<Taking>),
    MakeRoom,
}

#[derive(Debug)]
struct Running {
    peer: PeerId,
    /// Its stream is gone, and it waits for its asker.
    parked: bool,
    calls: mpsc::Sender<Call>,
}

/// The places for jobs, and the quotes by which jobs may still come, shared by their tasks.
#[derive(Debug, Clone)]
pub(super) struct Rooms {
    slots: Arc<Semaphore>,
    rescues: Arc<Semaphore>,
    /// Who has a job: a stranger who does not pay gets one at a time.
    peers: Arc<Mutex<BTreeMap<PeerId, ()>>>,
    jobs: Arc<Mutex<BTreeMap<[u8; 32], Running>>>,
    /// Jobs that were accepted and are not over.
    pub(super) running: watch::Sender<u32>,
    pub(super) quoted: Quoted,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(SLOTS)),
            rescues: Arc::new(Semaphore::new(RESCUES)),
            peers: Arc::default(),
            jobs: Arc::default(),
            running: watch::Sender::new(0),
            quoted: Quoted::default(),
        }
    }
}

impl Rooms {
    /// Empty ones, of which the same eyes are told.
    pub(super) fn anew(&self) -> Self {
        Self {
            running: self.running.clone(),
            ..Self::default()
        }
    }

    /// A place for this peer, that of a job which waits for its asker if need be: first of the same peer's, who begins
    /// anew where it could go on. `None`: all places are in use.
    pub(super) async fn place(&self, peer: PeerId, job: Kind) -> Option<Place> {
        if let Some(place) = self.free_place(peer, job) {
            return Some(place);
        }
        // Who asks the next question right behind an answer finds its last job writing down the receipt.
        let own_ends = lock(&self.peers).contains_key(&peer);
        if !self.evict(peer) && !own_ends {
            return None;
        }
        let until = Instant::now() + EVICTION;
        while Instant::now() < until {
            sleep(EVICTION_STEP).await;
            if let Some(place) = self.free_place(peer, job) {
                return Some(place);
            }
        }
        None
    }

    /// Makes a job known by its id, so that its asker's next stream finds it.
    pub(super) fn started(&self, job: &JobId, peer: PeerId) -> (Known, mpsc::Receiver<Call>) {
        let (calls, inbox) = mpsc::channel(CALLS);
        let id = *job.as_bytes();
        let running = Running {
            peer,
            parked: false,
            calls,
        };
        lock(&self.jobs).insert(id, running);
        let known = Known {
            id,
            rooms: self.clone(),
        };
        (known, inbox)
    }

    /// Hands a stream to the job that it asks for, or back: there is no such job, or it hears nobody any more.
    pub(super) fn take_up(&self, job: &JobId, taking: Box<Taking>) -> Result<(), Box<Taking>> {
        let calls = lock(&self.jobs)
            .get(job.as_bytes())
            .map(|job| job.calls.clone());
        let Some(calls) = calls else {
            return Err(taking);
        };
        match calls.try_reserve() {
            Ok(permit) => {
                permit.send(Call::Take(taking));
                Ok(())
            }
            Err(_) => Err(taking),
        }
    }

    fn free_place(&self, peer: PeerId, job: Kind) -> Option<Place> {
        let mut peers = lock(&self.peers);
        if peers.contains_key(&peer) {
            return None;
        }
        let take = |slots: &Arc<Semaphore>| Arc::clone(slots).try_acquire_owned().ok();
        let slot = take(&self.slots).or_else(|| match job {
            Kind::New => None,
            Kind::Broken => take(&self.rescues),
        })?;
        peers.insert(peer, ());
        Some(Place {
            _slot: slot,
            rooms: self.clone(),
            peer,
        })
    }

    /// Tells one parked job to go. False: there is none whose place would help.
    fn evict(&self, peer: PeerId) -> bool {
        let own_runs = lock(&self.peers).contains_key(&peer);
        let jobs = lock(&self.jobs);
        let mut parked = jobs.values().filter(|job| job.parked);
        let victim = if own_runs {
            parked.find(|job| job.peer == peer)
        } else {
            parked.next()
        };
        // A job that hears nobody is about to end.
        victim.is_some_and(|job| job.calls.try_send(Call::MakeRoom).is_ok())
    }
}

/// The place that a running job takes; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _slot: OwnedSemaphorePermit,
    rooms: Rooms,
    peer: PeerId,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.rooms.peers).remove(&self.peer);
    }
}

/// A job that is known by its id; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Known {
    id: [u8; 32],
    rooms: Rooms,
}

impl Known {
    /// Whether it has a stream now.
    pub(super) fn parked(&self, parked: bool) {
        if let Some(job) = lock(&self.rooms.jobs).get_mut(&self.id) {
            job.parked = parked;
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        lock(&self.rooms.jobs).remove(&self.id);
    }
}

/// What is kept under these locks is whole after each statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8) -> PeerId {
        protocol::Signer::from_seed([byte; 32]).peer_id()
    }

    fn job(byte: u8) -> JobId {
        JobId::from_bytes(&[byte; 32]).unwrap()
    }

    #[tokio::test]
    async fn a_peer_has_one_place_and_all_have_two() {
        let rooms = Rooms::default();
        let first = rooms.place(peer(1), Kind::New).await.unwrap();
        assert!(rooms.place(peer(1), Kind::New).await.is_none());
        let _second = rooms.place(peer(2), Kind::New).await.unwrap();
        assert!(rooms.place(peer(3), Kind::New).await.is_none());
        drop(first);
        assert!(rooms.place(peer(3), Kind::New).await.is_some());
    }

    #[tokio::test]
    async fn an_answer_that_broke_elsewhere_finds_a_place_when_all_are_taken() {
        let rooms = Rooms::default();
        let _first = rooms.place(peer(1), Kind::New).await.unwrap();
        let _second = rooms.place(peer(2), Kind::Broken).await.unwrap();
        assert!(rooms.place(peer(3), Kind::New).await.is_none());
        let third = rooms.place(peer(3), Kind::Broken).await.unwrap();
        assert!(rooms.place(peer(4), Kind::Broken).await.is_none());
        drop(third);
        assert!(rooms.place(peer(4), Kind::Broken).await.is_some());
    }

    #[tokio::test]
    async fn a_job_that_waits_for_its_asker_makes_room_for_another() {
        let rooms = Rooms::default();
        let place = rooms.place(peer(1), Kind::New).await.unwrap();
        let _other = rooms.place(peer(2), Kind::New).await.unwrap();
        let (known, mut calls) = rooms.started(&job(1), peer(1));
        assert!(
            rooms.place(peer(3), Kind::New).await.is_none(),
            "it has its stream"
        );
        known.parked(true);
        let leaving = tokio::spawn(async move {
            assert!(matches!(calls.recv().await, Some(Call::MakeRoom)));
            drop((place, known));
        });
        assert!(rooms.place(peer(3), Kind::New).await.is_some());
        leaving.await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_begins_anew_loses_its_own_waiting_job_and_no_other() {
        let rooms = Rooms::default();
        let _mine = rooms.place(peer(1), Kind::New).await.unwrap();
        let (known, mut calls) = rooms.started(&job(1), peer(2));
        known.parked(true);
        assert!(rooms.place(peer(1), Kind::New).await.is_none());
        assert!(
            calls.try_recv().is_err(),
            "somebody else's job is left alone"
        );
    }
}
