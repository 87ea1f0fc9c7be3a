//! The places for strangers' jobs as the jobs see them: one is asked for, waited for in line and given back; and a job that lost its
//! stream is found again by its id. Who gets which is for [`Line`] to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use network::{FrameReader, FrameWriter};
use protocol::{JobId, PeerId};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    line::{Asker, Full, Line, Ticket},
    quoted::Quoted,
};

/// What may wait for one job's task: a stream that takes it up, and a word that its place is needed.
const CALLS: usize = 2;

/// How long a newcomer waits, without a word, for the place of a job that was told to make room, or of its own last one: such a job
/// ends within milliseconds.
const EVICTION: Duration = Duration::from_millis(300);

/// How long a job that lost its stream keeps its place while others wait in line: a computer that changes its network is back by then.
const PARKED_BESIDE_A_LINE: Duration = Duration::from_secs(5);

/// A stream that asks to take up a job.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) peer: PeerId,
    /// The first frame.
    pub(super) bytes: Bytes,
    pub(super) reader: FrameReader,
    pub(super) writer: FrameWriter,
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

/// How a job stands that asked for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It waits, and so many in front of it.
    Waits(u32),
    /// It has its place.
    Seated,
    /// It had to leave the line.
    Dismissed,
}

/// The line, and who is to be told where it stands.
#[derive(Debug, Default)]
struct Places {
    line: Line,
    turns: BTreeMap<Ticket, watch::Sender<Turn>>,
    /// How many wait.
    waiting: watch::Sender<u32>,
}

/// The places for jobs, and the quotes by which jobs may still come, shared by their tasks.
#[derive(Debug, Clone)]
pub(super) struct Rooms {
    places: Arc<Mutex<Places>>,
    jobs: Arc<Mutex<BTreeMap<[u8; 32], Running>>>,
    /// Jobs that were accepted and are not over.
    pub(super) running: watch::Sender<u32>,
    pub(super) quoted: Quoted,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            places: Arc::default(),
            jobs: Arc::default(),
            running: watch::Sender::new(0),
            quoted: Quoted::default(),
        }
    }
}

impl Places {
    /// Gives away what is free, and tells everybody whose turn is another.
    fn settle(&mut self) {
        for ticket in self.line.seat() {
            self.tell(ticket, Turn::Seated);
        }
        for (in_front, ticket) in (0u32..).zip(self.line.order()) {
            self.tell(ticket, Turn::Waits(in_front));
        }
        let waiting = u32::try_from(self.line.waiting()).unwrap_or(u32::MAX);
        self.waiting.send_replace(waiting);
    }

    fn tell(&self, ticket: Ticket, turn: Turn) {
        if let Some(told) = self.turns.get(&ticket) {
            told.send_if_modified(|known| std::mem::replace(known, turn) != turn);
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

    /// A place, or for whoever may wait one in line. The job of somebody who lost his stream makes room if need be: first one of the
    /// same peer's, who begins anew where it could go on.
    pub(super) async fn place(&self, asker: Asker) -> Result<Place, Full> {
        let joined = self.join(asker);
        if let Ok(place) = &joined
            && place.turn() == Turn::Seated
        {
            return joined;
        }
        // Who asks the next question right behind an answer finds its last job writing down the receipt.
        let own_ends = lock(&self.places).line.computes_for(&asker.peer);
        let soon = self.evict(asker.peer) || own_ends;
        let mut place = joined?;
        if soon {
            // Whether its turn came in time is seen below.
            let _ = timeout(EVICTION, place.seated()).await;
        }
        let waits = match place.turn() {
            Turn::Seated => false,
            Turn::Waits(_) | Turn::Dismissed => true,
        };
        if waits && !asker.may_wait {
            drop(place);
            return Err(self.full());
        }
        Ok(place)
    }

    fn join(&self, asker: Asker) -> Result<Place, Full> {
        let mut places = lock(&self.places);
        let joined = places.line.join(asker)?;
        if let Some(displaced) = joined.displaced {
            places.tell(displaced, Turn::Dismissed);
            places.turns.remove(&displaced);
        }
        let (told, turn) = watch::channel(Turn::Waits(0));
        places.turns.insert(joined.ticket, told);
        places.settle();
        Ok(Place {
            ticket: joined.ticket,
            rooms: self.clone(),
            turn,
        })
    }

    /// What somebody is told for whom there is nothing.
    pub(super) fn full(&self) -> Full {
        Full {
            waiting: self.waiting(),
        }
    }

    /// Jobs that wait in line.
    pub(super) fn waiting(&self) -> u32 {
        *lock(&self.places).waiting.borrow()
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
            parked: None,
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

    /// Tells one parked job to go. False: there is none whose place would help.
    fn evict(&self, peer: PeerId) -> bool {
        let own_runs = lock(&self.places).line.computes_for(&peer);
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

/// A job's place, or the one in line that becomes it; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    ticket: Ticket,
    rooms: Rooms,
    turn: watch::Receiver<Turn>,
}

impl Place {
    /// How it stands.
    pub(super) fn turn(&self) -> Turn {
        *self.turn.borrow()
    }

    /// How it stands, when that changes.
    pub(super) async fn changed(&mut self) -> Turn {
        if self.turn.changed().await.is_err() {
            // Nothing more comes behind the last word.
            return std::future::pending().await;
        }
        *self.turn.borrow_and_update()
    }

    /// Its turn has come, or will not.
    async fn seated(&mut self) {
        // It is told as long as it is here.
        let _ = (self.turn)
            .wait_for(|turn| !matches!(turn, Turn::Waits(_)))
            .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.rooms.places);
        places.turns.remove(&self.ticket);
        places.line.leave(self.ticket);
        places.settle();
    }
}

/// A job that is known by its id; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Known {
    id: [u8; 32],
    rooms: Rooms,
    /// Since when it has no stream.
    parked: Option<Instant>,
}

impl Known {
    /// Whether it has a stream now.
    pub(super) fn parked(&mut self, parked: bool) {
        self.parked = parked.then(Instant::now);
        if let Some(job) = lock(&self.rooms.jobs).get_mut(&self.id) {
            job.parked = parked;
        }
    }
}

/// Waits until the place of a job without a stream is needed by somebody in line, and its asker had time to come back.
pub(super) async fn needed(known: &Option<Known>) {
    let parked = known
        .as_ref()
        .and_then(|known| Some((known, known.parked?)));
    let Some((known, since)) = parked else {
        return std::future::pending().await;
    };
    sleep_until(since + PARKED_BESIDE_A_LINE).await;
    let mut waiting = lock(&known.rooms.places).waiting.subscribe();
    if waiting.wait_for(|waiting| *waiting > 0).await.is_err() {
        // The line is gone, and nobody in it.
        std::future::pending().await
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
    use crate::serve::payer::Payer;

    fn peer(byte: u8) -> PeerId {
        protocol::Signer::from_seed([byte; 32]).peer_id()
    }

    fn job(byte: u8) -> JobId {
        JobId::from_bytes(&[byte; 32]).unwrap()
    }

    /// Each from a house of its own.
    fn asks(byte: u8) -> Asker {
        Asker {
            payer: Payer::of(&format!("/ip4/203.0.113.{byte}/tcp/1")),
            peer: peer(byte),
            memory: None,
            goes_on: false,
            may_wait: true,
        }
    }

    /// One that has never heard of lines.
    fn hasty(byte: u8) -> Asker {
        Asker {
            may_wait: false,
            ..asks(byte)
        }
    }

    #[tokio::test]
    async fn who_cannot_wait_is_told_at_once_and_who_can_gets_the_next_place() {
        let rooms = Rooms::default();
        let first = rooms.place(asks(1)).await.unwrap();
        let second = rooms.place(asks(2)).await.unwrap();
        assert_eq!((first.turn(), second.turn()), (Turn::Seated, Turn::Seated));
        assert_eq!(rooms.place(hasty(3)).await.unwrap_err().waiting, 0);
        let mut third = rooms.place(asks(3)).await.unwrap();
        let mut fourth = rooms.place(asks(4)).await.unwrap();
        assert_eq!(
            (third.turn(), fourth.turn()),
            (Turn::Waits(0), Turn::Waits(1))
        );
        assert_eq!(rooms.waiting(), 2);
        drop(first);
        assert_eq!(third.changed().await, Turn::Seated);
        assert_eq!(fourth.changed().await, Turn::Waits(0));
        // Whoever goes is out of it at once.
        drop(fourth);
        assert_eq!(rooms.waiting(), 0);
        drop((second, third));
    }

    #[tokio::test]
    async fn a_job_that_waits_for_its_asker_makes_room_for_another() {
        let rooms = Rooms::default();
        let place = rooms.place(asks(1)).await.unwrap();
        let _other = rooms.place(asks(2)).await.unwrap();
        let (mut known, mut calls) = rooms.started(&job(1), peer(1));
        assert!(rooms.place(hasty(3)).await.is_err(), "it has its stream");
        known.parked(true);
        let leaving = tokio::spawn(async move {
            assert!(matches!(calls.recv().await, Some(Call::MakeRoom)));
            drop((place, known));
        });
        let seated = rooms.place(hasty(3)).await.unwrap();
        assert_eq!(seated.turn(), Turn::Seated);
        leaving.await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_begins_anew_loses_its_own_waiting_job_and_no_other() {
        let rooms = Rooms::default();
        let _mine = rooms.place(asks(1)).await.unwrap();
        let (mut known, mut calls) = rooms.started(&job(1), peer(2));
        known.parked(true);
        assert!(rooms.place(hasty(1)).await.is_err());
        assert!(
            calls.try_recv().is_err(),
            "somebody else's job is left alone"
        );
    }

    #[tokio::test]
    async fn a_job_without_a_stream_makes_room_for_who_waits_once_its_asker_had_time() {
        let rooms = Rooms::default();
        let _place = rooms.place(asks(1)).await.unwrap();
        let _other = rooms.place(asks(2)).await.unwrap();
        let (mut known, _calls) = rooms.started(&job(1), peer(1));
        let moment = Duration::from_millis(10);
        let waits = rooms.place(asks(3)).await.unwrap();
        known.parked(true);
        let mut known = Some(known);
        assert!(timeout(moment, needed(&known)).await.is_err(), "too early");
        known.as_mut().unwrap().parked = Instant::now().checked_sub(PARKED_BESIDE_A_LINE);
        needed(&known).await;
        drop(waits);
        let nobody = timeout(moment, needed(&known)).await;
        assert!(nobody.is_err(), "nobody waits");
    }

    #[tokio::test]
    async fn the_next_question_waits_a_moment_for_the_last_answer_to_be_written_down() {
        let rooms = Rooms::default();
        let last = rooms.place(asks(1)).await.unwrap();
        let ending = tokio::spawn(async move {
            tokio::time::sleep(EVICTION / 10).await;
            drop(last);
        });
        let next = rooms.place(hasty(1)).await.unwrap();
        assert_eq!(next.turn(), Turn::Seated);
        ending.await.unwrap();
    }

    #[tokio::test]
    async fn who_has_to_leave_for_a_payer_is_told_so() {
        let rooms = Rooms::default();
        let mut places = Vec::new();
        for byte in 1..=10 {
            places.push(rooms.place(asks(byte)).await.unwrap());
        }
        let pays = Asker {
            payer: Payer::Wallet(protocol::voucher::Address::repeat_byte(1)),
            ..asks(11)
        };
        let payer = rooms.place(pays).await.unwrap();
        assert_eq!(payer.turn(), Turn::Waits(0));
        let mut last = places.pop().unwrap();
        assert_eq!(last.changed().await, Turn::Dismissed);
    }
}
