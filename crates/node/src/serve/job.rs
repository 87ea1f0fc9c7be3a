//! One job of a stranger: drives the provider machine of `protocol`.
//!
//! Its stream is `link`'s, how it is paid is `paying`'s. Three tasks: this one steps the machine and writes, one reads the stream, one computes. The engine task is told to
//! pause, go on or end through a `watch`; its events and the stream's frames come back through one bounded channel.
//!
//! A job whose stream is cut is kept for its asker, without a stream, until he comes back with another one ([`Call::Take`]),
//! its time is over, or its place is needed.

mod link;
mod paying;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use engine::Class;
use ledger::{AnsweredState, JobRecord, NewAnswer};
use network::{Flow, JobStream, WriteError};
use protocol::{
    JobId, ModelDigest, PeerId,
    frame::Frame,
    job::{
        CloseWhy, Finish, RESUME_GRACE_MS,
        provider::{
            Action, Config, Ended, EngineEvent, Event, Provider, Recorded, Room, Served, StartJob,
            goes_on, quote_of, resumes,
        },
    },
    price::Prices,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use link::{Link, flow_of};
pub(super) use link::{Report, Said};

use super::{
    ServedModel,
    charge::{Charge, standing_of},
    compute::{Asked, Wish, compute},
    rooms::{Call, Kind, Known, Place, Rooms, Taking},
};
use crate::{clock, money::Till, node::Inner, receipts};

/// What the reading and the computing task have told and the machine has not taken. They wait beyond it.
const INBOX: usize = 32;

/// When somebody who found no room may ask again.
const RETRY_AFTER_MS: u32 = 2_000;
/// The same for somebody whose answer broke elsewhere: a second later somebody else has it, or nobody.
const RETRY_BROKEN_AFTER_MS: u32 = 500;

/// How this engine counts, for offers and receipts: quantised weights meet activations that were rounded to eight bits, and the
/// cache holds 32-bit floats. Files of floats alone are counted finer than this says.
const NUMERICS_CLASS: &str = "A8";
const KV_TYPE: &str = "f32";

/// Name and version of what computes.
const ENGINE_BUILD: &str = concat!("decentralgpt-engine/", env!("CARGO_PKG_VERSION"));

/// What a job needs to know when it begins.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) inner: Arc<Inner>,
    pub(super) served: Arc<Vec<ServedModel>>,
    pub(super) rooms: Rooms,
    pub(super) off: CancellationToken,
    /// The node is on and not paused.
    pub(super) open: bool,
    pub(super) own_work: watch::Receiver<usize>,
}

/// As it stands in offers.
pub(super) fn engine_class() -> String {
    format!("{NUMERICS_CLASS}/{KV_TYPE}/{ENGINE_BUILD}")
}

/// The engine's word for an end, in the protocol's.
pub(crate) fn finish_of(finish: engine::Finish) -> Finish {
    match finish {
        engine::Finish::Stop => Finish::Stop,
        engine::Finish::Length => Finish::Length,
        engine::Finish::StopString => Finish::StopString,
        engine::Finish::Cancelled => Finish::Abort,
    }
}

/// Runs one job to its end.
pub(super) async fn run(context: Context, stream: JobStream) {
    let peer = stream.peer;
    let (mut reader, writer) = stream.split();
    let bytes = tokio::select! {
        opened = reader.open() => match opened {
            Ok(bytes) => bytes,
            Err(error) => return tracing::debug!(%peer, %error, "a stream brought no job"),
        },
        () = context.off.cancelled(), if context.open => return,
    };
    let (mut reader, mut writer) = (reader, writer);
    if let Some(job) = resumes(&bytes) {
        let taking = Box::new(Taking {
            peer,
            bytes: bytes.clone(),
            reader,
            writer,
        });
        match context.rooms.take_up(&job, taking) {
            Ok(()) => return,
            // A new machine refuses it, in the words that such a job gets.
            Err(taking) => (reader, writer) = (taking.reader, taking.writer),
        }
    }
    let (reports, inbox) = mpsc::channel(INBOX);
    let own_work = *context.own_work.borrow() > 0;
    let till = context.inner.money.till();
    let quoted = quote_of(&bytes);
    let mut job = Job {
        provider: Provider::new(config(&context, till.as_deref()), own_work, clock::now()),
        till,
        model: quoted.map(|(_, model)| model),
        kind: match goes_on(&bytes) {
            true => Kind::Broken,
            false => Kind::New,
        },
        charge: None,
        context,
        peer,
        link: None,
        links: 0,
        taking: None,
        reports,
        inbox,
        computing: None,
        place: None,
        known: None,
        calls: None,
        begun: None,
        accepted: false,
        entered: None,
        sent: 0,
        receipt: None,
    };
    job.attach(reader, writer);
    let prices = quoted.and_then(|(id, model)| {
        let rooms = &job.context.rooms;
        rooms.quoted.take(&id, (peer, model), clock::unix_ms())
    });
    job.run(bytes, prices).await;
}

#[derive(Debug)]
struct Computing {
    _task: AbortOnDropHandle<()>,
    wish: watch::Sender<Wish>,
}

/// A job that the engine began.
#[derive(Debug)]
struct Begun {
    job: JobId,
    model: ModelDigest,
    /// Tokens of its input.
    input: u32,
}

/// A job in the list of answers.
#[derive(Debug)]
struct Entered {
    job: ledger::Job,
    input: u32,
    /// The task that writes down its beginning.
    noted: JoinHandle<()>,
}

#[derive(Debug)]
struct Job {
    context: Context,
    provider: Provider,
    peer: PeerId,
    /// `None` while it is parked.
    link: Option<Link>,
    /// Streams it had.
    links: u32,
    /// The stream that asks to take it up, until the machine has judged it.
    taking: Option<Box<Taking>>,
    reports: mpsc::Sender<Report>,
    inbox: mpsc::Receiver<Report>,
    computing: Option<Computing>,
    place: Option<Place>,
    /// Who takes money here, if anybody does.
    till: Option<Arc<Till>>,
    /// The model that its quote was for.
    model: Option<ModelDigest>,
    kind: Kind,
    /// How it is paid, once it has paid.
    charge: Option<Charge>,
    /// Once it computes.
    known: Option<Known>,
    calls: Option<mpsc::Receiver<Call>>,
    /// What the engine began, until it is in the books.
    begun: Option<Begun>,
    /// The job is on disk, and fresh.
    accepted: bool,
    /// The job in the books, once both hold.
    entered: Option<Entered>,
    /// Tokens sent, for a job that ends without a receipt.
    sent: u32,
    receipt: Option<(u32, u32, Finish)>,
}

impl Job {
    async fn run(mut self, bytes: Bytes, quoted: Option<Prices>) {
        // A place for a job that costs something is looked for once it has paid.
        let room = match quoted.is_some_and(|prices| !prices.is_free()) {
            true => self.willing(),
            false => self.room().await,
        };
        let mut off_told = false;
        let mut event = Event::Open {
            from: self.peer,
            bytes,
            room,
            quoted,
        };
        // What the actions themselves led to, before anything else is heard.
        let mut follow_ups = VecDeque::new();
        loop {
            for action in self.provider.step(event, clock::now()) {
                match self.act(action).await {
                    Step::On => {}
                    Step::Then(event) => follow_ups.push_back(event),
                    Step::Over(ended) => return self.over(ended).await,
                }
            }
            if let Some(charge) = &self.charge {
                charge.unvouchered(self.provider.unvouchered());
            }
            if let Some(next) = follow_ups.pop_front() {
                event = next;
                continue;
            }
            if self.provider.is_done() {
                return;
            }
            event = self.next_event(&mut off_told).await;
        }
    }

    /// What happens next that means anything to the machine.
    async fn next_event(&mut self, off_told: &mut bool) -> Event {
        loop {
            let deadline = self.provider.deadline();
            return tokio::select! {
                () = self.context.off.cancelled(), if !*off_told => {
                    *off_told = true;
                    Event::Off
                }
                Some(report) = self.inbox.recv() => match report {
                    Report::Engine(event) => Event::Engine(event),
                    Report::Stream(number, said) => {
                        if self.link.as_ref().is_none_or(|link| link.number != number) {
                            continue;
                        }
                        match said {
                            Said::Frame(frame) => Event::Frame(frame),
                            Said::Closed(why) => Event::Closed(why),
                        }
                    }
                },
                Some(call) = next_call(&mut self.calls) => match call {
                    Call::MakeRoom => Event::Evicted,
                    Call::Take(taking) => {
                        let event = Event::Resumed {
                            from: taking.peer,
                            bytes: taking.bytes.clone(),
                        };
                        self.taking = Some(taking);
                        event
                    }
                },
                standing = standing_of(&mut self.charge) => Event::Standing(standing),
                Ok(()) = self.context.own_work.changed() => Event::OwnWork(*self.context.own_work.borrow_and_update() > 0),
                flow = flow_of(&mut self.link) => match flow {
                    Flow::Blocked => Event::WriteBlocked,
                    Flow::Flowing => Event::Drained,
                    Flow::Closed => Event::Closed(CloseWhy::Ended),
                },
                () = sleep_until(deadline) => Event::Tick,
            };
        }
    }

    /// Whether this peer is served at all.
    fn willing(&self) -> Room {
        if !self.context.open || self.context.off.is_cancelled() {
            return Room::Off;
        }
        match self.context.inner.book().is_blocked(&self.peer) {
            true => Room::NotAllowed,
            false => Room::Free,
        }
    }

    /// Whether there is room for a job of this peer, and takes it.
    async fn room(&mut self) -> Room {
        let willing = self.willing();
        if willing != Room::Free {
            return willing;
        }
        self.place = self.context.rooms.place(self.peer, self.kind).await;
        match self.place {
            Some(_) => Room::Free,
            None => Room::Full {
                retry_after_ms: match self.kind {
                    Kind::New => RETRY_AFTER_MS,
                    Kind::Broken => RETRY_BROKEN_AFTER_MS,
                },
                queue: 0,
            },
        }
    }

    async fn act(&mut self, action: Action) -> Step {
        match action {
            Action::Send(frame) => {
                if let Frame::Tokens(tokens) = &frame {
                    self.sent = self
                        .sent
                        .saturating_add(u32::try_from(tokens.ids.len()).unwrap_or(u32::MAX));
                }
                let Some(link) = &self.link else {
                    return Step::On;
                };
                match link.writer.send(&frame) {
                    // A queue that is full is told by its flow, a stream that is gone by its reader.
                    Ok(Flow::Flowing | Flow::Blocked | Flow::Closed) | Err(WriteError::Closed) => {}
                    Err(error @ WriteError::Full { .. }) => {
                        return Step::Then(Event::Closed(CloseWhy::Cut(error.to_string())));
                    }
                }
            }
            Action::Record {
                job,
                expires_unix_ms,
            } => {
                let recorded = self
                    .context
                    .inner
                    .ledger
                    .record_job(*job.as_bytes(), expires_unix_ms, clock::unix_ms())
                    .await;
                let recorded = match recorded {
                    Ok(record) => recorded_of(record),
                    Err(error) => {
                        tracing::warn!(%error, "a job could not be written down, and is refused");
                        Recorded::Failed
                    }
                };
                self.accepted = recorded == Recorded::Fresh;
                self.enter();
                return Step::Then(Event::Recorded(recorded));
            }
            Action::Admit { job, voucher } => return Step::Then(self.admit(job, &voucher).await),
            Action::HoldVoucher { voucher, totals } => {
                return Step::Then(self.hold(&voucher, totals).await);
            }
            Action::HoldReservation { reservation } => {
                return Step::Then(self.hold_reservation(&reservation).await);
            }
            Action::Start(job) => return self.start(*job),
            Action::Park => {
                self.link = None;
                if let Some(known) = &self.known {
                    known.parked(true);
                }
            }
            Action::Attach => {
                if let Some(taking) = self.taking.take() {
                    self.attach(taking.reader, taking.writer);
                }
            }
            Action::Decline(refuse) => {
                if let Some(taking) = self.taking.take() {
                    // Whoever is refused may be gone.
                    let _ = taking.writer.send(&Frame::Refuse(refuse));
                    taking.writer.finish();
                }
            }
            Action::Pause => self.wish(Wish::Pause),
            Action::Resume => self.wish(Wish::Run),
            Action::CancelEngine => self.computing = None,
            Action::Store(receipt) => {
                let totals = &receipt.receipt.totals;
                let count = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
                self.receipt = Some((
                    count(totals.input + totals.cached),
                    count(totals.output),
                    receipt.receipt.finish,
                ));
                let name = self.name_of(&receipt.receipt.model);
                let kept = receipts::keep(
                    &self.context.inner.ledger,
                    ledger::ReceiptRole::Provider,
                    &receipt,
                    &name,
                )
                .await;
                if let Err(error) = kept {
                    tracing::warn!(%error, "a receipt could not be kept");
                }
            }
            Action::Close(ended) => return Step::Over(ended),
        }
        Step::On
    }

    fn start(&mut self, job: StartJob) -> Step {
        let served = self
            .context
            .served
            .iter()
            .find(|served| served.reference.digest == job.model);
        let Some(file) = served.map(|served| served.file.clone()) else {
            return Step::Then(Event::Engine(EngineEvent::Failed(
                "the model is gone".to_owned(),
            )));
        };
        self.begun = Some(Begun {
            job: job.job,
            model: job.model,
            input: u32::try_from(job.prompt.len() + job.resume.len()).unwrap_or(u32::MAX),
        });
        self.enter();
        let (wish, wishes) = watch::channel(Wish::Run);
        let (inner, reports) = (Arc::clone(&self.context.inner), self.reports.clone());
        let peer = self.peer;
        let class = match self.charge {
            Some(_) => Class::Paid,
            None => Class::Free,
        };
        let task = tokio::spawn(async move {
            let asked = Asked { file, peer, class };
            if let Err(error) = compute(&inner, asked, job, wishes, &reports).await {
                let failed = Report::Engine(EngineEvent::Failed(error.to_string()));
                // The job is over already.
                let _ = reports.send(failed).await;
            }
        });
        self.computing = Some(Computing {
            _task: AbortOnDropHandle::new(task),
            wish,
        });
        Step::On
    }

    /// Puts a job into the books that was accepted and is begun, so that it can be taken up and is counted. Neither the engine nor the
    /// client waits for that.
    fn enter(&mut self) {
        let Some(begun) = self.begun.take_if(|_| self.accepted) else {
            return;
        };
        let rooms = &self.context.rooms;
        let (known, calls) = rooms.started(&begun.job, self.peer);
        rooms.running.send_modify(|running| *running += 1);
        let new = NewAnswer {
            job: *begun.job.as_bytes(),
            at_ms: clock::unix_ms(),
            peer: self.peer.to_string(),
            model: self.name_of(&begun.model),
            model_digest: *begun.model.as_bytes(),
        };
        let inner = Arc::clone(&self.context.inner);
        let noted = self.context.inner.tasks.spawn(async move {
            if let Err(error) = inner.ledger.answer_started(new).await {
                tracing::warn!(%error, "a job is not in the list of answers");
            }
        });
        (self.known, self.calls) = (Some(known), Some(calls));
        self.entered = Some(Entered {
            job: *begun.job.as_bytes(),
            input: begun.input,
            noted,
        });
    }

    fn wish(&self, wish: Wish) {
        if let Some(computing) = &self.computing {
            computing.wish.send_replace(wish);
        }
    }

    fn name_of(&self, model: &protocol::ModelDigest) -> String {
        let served = self
            .context
            .served
            .iter()
            .find(|served| served.reference.digest == *model);
        served.map_or_else(|| model.to_string(), |served| served.name.clone())
    }

    async fn over(self, ended: Ended) {
        tracing::debug!(peer = %self.peer, ?ended, "a job is over");
        let Self {
            context,
            link,
            computing,
            place,
            known,
            entered,
            sent,
            receipt,
            charge,
            ..
        } = self;
        drop((computing, known, charge));
        if let Some(link) = link {
            link.writer.finish();
        }
        if let Some(Entered { job, input, noted }) = entered {
            // Its end is written behind its beginning. A task that panicked wrote neither.
            let _ = noted.await;
            let (tokens_in, tokens_out, finish) = receipt.unwrap_or((input, sent, Finish::Abort));
            let state = match ended {
                Ended::Signed => AnsweredState::Signed,
                Ended::Unsigned
                | Ended::Refused(_)
                | Ended::Busy
                | Ended::Cancelled
                | Ended::ClientGone(_)
                | Ended::Failed(_) => AnsweredState::Unsigned,
            };
            let noted = context
                .inner
                .ledger
                .answer_ended(job, tokens_in, tokens_out, finish.name(), state)
                .await;
            if let Err(error) = noted {
                tracing::warn!(%error, "a job's end is not in the list of answers");
            }
            context
                .rooms
                .running
                .send_modify(|running| *running = running.saturating_sub(1));
        }
        drop(place);
    }
}

/// What comes of an action.
#[allow(
    clippy::large_enum_variant,
    reason = "one lives at a time, for a moment"
)]
enum Step {
    On,
    Then(Event),
    Over(Ended),
}

fn config(context: &Context, till: Option<&Till>) -> Config {
    Config {
        signer: context.inner.identity.signer(),
        models: context
            .served
            .iter()
            .map(|served| Served {
                model: served.reference.digest,
                vocab_size: served.vocab_size,
                ctx_max: served.ctx_max,
                prices: served.prices,
                template: None,
            })
            .collect(),
        max_out: context.inner.settings.borrow().serve_max_out,
        engine_build: ENGINE_BUILD.to_owned(),
        numerics_class: NUMERICS_CLASS.to_owned(),
        kv_type: KV_TYPE.to_owned(),
        resume_grace_ms: RESUME_GRACE_MS,
        charging: till.map(Till::charging),
    }
}

fn recorded_of(record: JobRecord) -> Recorded {
    match record {
        JobRecord::Fresh => Recorded::Fresh,
        JobRecord::Repeat | JobRecord::Expired { .. } => Recorded::Seen,
        JobRecord::TooLong | JobRecord::ClockBehind { .. } | JobRecord::Full => Recorded::Failed,
    }
}

/// The next call, of a job that can be called.
async fn next_call(calls: &mut Option<mpsc::Receiver<Call>>) -> Option<Call> {
    match calls {
        Some(calls) => calls.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(mono_ms: Option<u64>) {
    match mono_ms {
        Some(mono_ms) => tokio::time::sleep_until(clock::instant(mono_ms)).await,
        None => std::future::pending().await,
    }
}
