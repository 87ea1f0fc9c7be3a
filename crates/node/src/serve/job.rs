//! One job of a stranger: drives the provider machine of `protocol`.
//!
//! Its place is `seat`'s, its stream `link`'s, its books are `books`', how it is paid is `paying`'s. Three tasks: this one steps the
//! machine and writes, one reads the stream, one computes. The engine task is told to pause, go on or end through a `watch`; its
//! events and the stream's frames come back through one bounded channel.
//!
//! A job whose stream is cut is kept for its asker, without a stream, until he comes back with another one ([`Call::Take`]),
//! its time is over, or its place is needed.

mod books;
mod link;
mod paying;
mod seat;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use engine::Class;
use network::{Flow, JobStream, WriteError};
use protocol::{
    ModelDigest, PeerId,
    frame::Frame,
    job::{
        CloseWhy, Finish, RESUME_GRACE_MS,
        provider::{
            Action, Charging, Config, Ended, EngineEvent, Event, Provider, Served, StartJob,
            Wanted, quote_of, resumes,
        },
    },
    quote::Bound,
    voucher::payee::stream_window,
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use books::{Begun, Entered};
use link::{Link, flow_of};
pub(super) use link::{Report, Said};

use super::{
    ServedModel,
    charge::{Charge, news_of},
    compute::{Asked, Wish, compute},
    doors::Door,
    offers,
    payer::Payer,
    rooms::{Call, Known, Place, Rooms, Taking, needed},
};
use crate::{clock, money::Till, node::Inner, receipts};
use seat::turn_of;

/// What the reading and the computing task have told and the machine has not taken. They wait beyond it.
const INBOX: usize = 32;

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
pub(super) async fn run(context: Context, stream: JobStream, door: Door) {
    let (peer, payer) = (stream.peer, Payer::of(&stream.remote_addr));
    let (mut reader, writer) = stream.split();
    let bytes = tokio::select! {
        opened = reader.open() => match opened {
            Ok(bytes) => bytes,
            Err(error) => return tracing::debug!(%peer, %error, "a stream brought no job"),
        },
        () = context.off.cancelled(), if context.open => return,
    };
    drop(door);
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
    let charging = till.as_ref().map(|till| {
        let model = quoted.map(|(_, model)| model);
        till.charging(window(&context, &peer, model))
    });
    let mut job = Job {
        provider: Provider::new(config(&context, charging), own_work, clock::now()),
        till,
        model: quoted.map(|(_, model)| model),
        payer,
        charge: None,
        context,
        peer,
        link: None,
        links: 0,
        taking: None,
        reports,
        inbox,
        computing: None,
        wanted: None,
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
    let bound = quoted.and_then(|(id, model)| {
        let rooms = &job.context.rooms;
        rooms.quoted.take(&id, (peer, model), clock::unix_ms())
    });
    job.run(bytes, bound).await;
}

#[derive(Debug)]
struct Computing {
    _task: AbortOnDropHandle<()>,
    wish: watch::Sender<Wish>,
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
    /// What a place is wanted for, once that is known.
    wanted: Option<Wanted>,
    place: Option<Place>,
    /// Who takes money here, if anybody does.
    till: Option<Arc<Till>>,
    /// The model that its quote was for.
    model: Option<ModelDigest>,
    /// For whom it counts: where it comes from, until a wallet has paid.
    payer: Payer,
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
    async fn run(mut self, bytes: Bytes, quoted: Option<Bound>) {
        let mut off_told = false;
        let mut event = Event::Open {
            from: self.peer,
            bytes,
            welcome: self.welcome(),
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
                charge.computed(self.provider.used(), self.provider.unvouchered());
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
                () = needed(&self.known) => Event::Evicted,
                turn = turn_of(&mut self.place) => Event::Room(self.room(turn)),
                news = news_of(&mut self.charge) => news,
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

    async fn act(&mut self, action: Action) -> Step {
        match action {
            Action::Send(frame) => {
                self.context.inner.serving.refused().note(&frame);
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
                return Step::Then(self.record(job, expires_unix_ms).await);
            }
            Action::Seek(wanted) => return Step::Then(self.seek(wanted).await),
            Action::Admit { job, voucher, adds } => {
                return Step::Then(self.admit(job, (&voucher, adds)).await);
            }
            Action::HoldVoucher { voucher, totals } => {
                if let Some(declined) = self.hold(voucher, totals).await {
                    return Step::Then(Event::Declined(declined));
                }
            }
            Action::HoldReservation { reservation } => {
                return Step::Then(self.hold_reservation(&reservation).await);
            }
            Action::Start(job) => return self.start(*job),
            Action::Park => {
                self.link = None;
                if let Some(known) = &mut self.known {
                    known.parked(true);
                }
            }
            Action::Attach => {
                if let Some(taking) = self.taking.take() {
                    self.attach(taking.reader, taking.writer);
                }
            }
            Action::Decline(refuse) => {
                self.context.inner.serving.refused().count(refuse.code());
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

    fn wish(&self, wish: Wish) {
        if let Some(computing) = &self.computing {
            computing.wish.send_replace(wish);
        }
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

/// Tokens that are computed ahead of payment for this peer: more where many come in the time that it takes to pay for them.
fn window(context: &Context, peer: &PeerId, model: Option<ModelDigest>) -> u32 {
    let mut served = context.served.iter();
    let served = served.find(|served| Some(served.reference.digest) == model);
    let tps = served.map_or(0, |served| {
        offers::writes_at_most(&context.inner, &served.file)
    });
    let status = context.inner.serving.network_status();
    let status = status.borrow();
    let known = status.peers.iter().find(|known| known.peer == *peer);
    let rtt_ms = known.and_then(|known| known.rtt_ms).unwrap_or(0);
    stream_window(tps, rtt_ms.into())
}

fn config(context: &Context, charging: Option<Charging>) -> Config {
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
        charging,
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
