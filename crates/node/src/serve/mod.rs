//! The switch: answering others, or not.
//!
//! One task owns it, and with it the swarm that serves (`swarm`), which runs while it is on. It hears orders (on, off,
//! pause), strangers' streams, and what changes around it (own work, models, the engine), and it alone says what the
//! [`ServingState`] is. Each stranger's job is a task of its own (`job`), ended by the token of the period in which it
//! began; how many may stand there and say nothing is decided in `doors`, which of them has a place and who waits in `line`. What is
//! offered, and what not and why, is decided in `offers`; what a job would take is told in `quotes`.

mod charge;
mod compute;
mod doors;
mod job;
mod line;
mod measure;
mod offers;
mod payer;
mod quoted;
mod quotes;
mod refused;
mod rooms;
mod swarm;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use network::{IncomingJob, Network, NetworkStatus};
use protocol::{PeerId, offer::SignedEnvelope};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub(crate) use job::finish_of;
pub(crate) use offers::{ServedModel, offered_by_others, prices_of};

use self::{doors::Doors, swarm::Swarm};

use refused::Refused;
use rooms::Rooms;

use crate::{
    clock,
    error::{ErrorView, NodeError},
    node::Inner,
    status::{NotOffered, ServingState},
};

/// Streams of others that have a task, most of them waiting for a first frame or being refused. Each holds one prompt
/// of a MiB at most.
const MAX_JOB_TASKS: usize = 32;

/// How long running jobs have to tell their askers that the node goes off, out of the two seconds it may take.
const FAREWELL: Duration = Duration::from_millis(800);

/// Orders come from a person.
const ORDERS: usize = 8;

/// What a shell may order.
#[derive(Debug)]
enum Order {
    Switch {
        on: bool,
        done: oneshot::Sender<Result<(), NodeError>>,
    },
    Pause {
        minutes: Option<u32>,
        done: oneshot::Sender<Result<(), NodeError>>,
    },
    Resume {
        done: oneshot::Sender<Result<(), NodeError>>,
    },
    SettingsChanged {
        done: oneshot::Sender<Result<(), NodeError>>,
    },
    ShutDown {
        done: oneshot::Sender<Result<(), NodeError>>,
    },
}

/// What the switch shows of itself.
#[derive(Debug, Clone)]
pub(crate) struct ServingView {
    pub(crate) state: ServingState,
    pub(crate) served: Arc<Vec<ServedModel>>,
    pub(crate) not_offered: Vec<NotOffered>,
    /// Duration of the last switch-off.
    pub(crate) off_ms: Option<u64>,
    /// Rises when the books changed: a job began or ended.
    pub(crate) books: u64,
    /// The swarm that serves, while the switch is on.
    network: Option<Network>,
}

/// A handle on the switch.
#[derive(Debug)]
pub(crate) struct Serving {
    orders: mpsc::Sender<Order>,
    view: watch::Receiver<ServingView>,
    network: watch::Receiver<NetworkStatus>,
    refused: Refused,
}

/// The other end of [`Serving`], for [`run`].
#[derive(Debug)]
pub(crate) struct Orders {
    inbox: mpsc::Receiver<Order>,
    view: watch::Sender<ServingView>,
    network: watch::Sender<NetworkStatus>,
}

impl Serving {
    pub(crate) fn new() -> (Self, Orders) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (sender, view) = watch::channel(ServingView {
            state: ServingState::Off,
            served: Arc::default(),
            not_offered: Vec::new(),
            off_ms: None,
            books: 0,
            network: None,
        });
        let (shown, network) = watch::channel(NetworkStatus::default());
        (
            Self {
                orders,
                view,
                network,
                refused: Refused::default(),
            },
            Orders {
                inbox,
                view: sender,
                network: shown,
            },
        )
    }

    /// Jobs that were refused.
    pub(crate) fn refused(&self) -> &Refused {
        &self.refused
    }

    /// What the switch shows of itself, as it changes.
    pub(crate) fn view(&self) -> watch::Receiver<ServingView> {
        self.view.clone()
    }

    /// The swarm that serves, while the switch is on.
    pub(crate) fn network(&self) -> Option<Network> {
        self.view.borrow().network.clone()
    }

    /// Its state, as it changes; empty while the switch is off.
    pub(crate) fn network_status(&self) -> watch::Receiver<NetworkStatus> {
        self.network.clone()
    }

    /// The person connected to a peer: the swarm that serves meets it, too, so that it hears what is offered here.
    pub(crate) fn meet(&self, inner: &Arc<Inner>, peer: PeerId) {
        let Some(network) = self.network() else {
            return;
        };
        let addresses = inner.book().addresses(&peer);
        inner.tasks.spawn(async move {
            for address in addresses {
                match network.connect(&address).await {
                    Ok(_) => return,
                    Err(error) => tracing::debug!(%error, "the serving swarm did not meet a peer"),
                }
            }
        });
    }

    pub(crate) async fn switch(&self, on: bool) -> Result<(), NodeError> {
        self.order(|done| Order::Switch { on, done }).await
    }

    pub(crate) async fn pause(&self, minutes: Option<u32>) -> Result<(), NodeError> {
        self.order(|done| Order::Pause { minutes, done }).await
    }

    pub(crate) async fn resume(&self) -> Result<(), NodeError> {
        self.order(|done| Order::Resume { done }).await
    }

    /// The settings changed: listeners and offers follow.
    pub(crate) async fn settings_changed(&self) -> Result<(), NodeError> {
        self.order(|done| Order::SettingsChanged { done }).await
    }

    /// Off, and the task ends.
    pub(crate) async fn shut_down(&self) {
        // An error says that it is down already.
        let _ = self.order(|done| Order::ShutDown { done }).await;
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), NodeError>>) -> Order,
    ) -> Result<(), NodeError> {
        let (done, answer) = oneshot::channel();
        self.orders
            .send(order(done))
            .await
            .map_err(|_| NodeError::Stopping)?;
        answer.await.map_err(|_| NodeError::Stopping)?
    }
}

/// Runs the switch until it is told to shut down.
pub(crate) async fn run(inner: Arc<Inner>, orders: Orders) {
    let Orders {
        inbox,
        view,
        network,
    } = orders;
    Switch {
        own_work: inner.answers.watch_own_work(),
        inner,
        view,
        network,
        inbox,
        swarm: None,
        on: false,
        paused: None,
        trouble: None,
        since_ms: 0,
        period: CancellationToken::new(),
        tasks: JoinSet::new(),
        rooms: Rooms::default(),
        doors: Doors::default(),
        refresh: None,
        offered: Vec::new(),
        offered_at: Vec::new(),
        waits_for: None,
        headers: offers::Headers::default(),
        measuring: None,
    }
    .run()
    .await;
}

/// A pause that a person ordered.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until_ms: Option<u64>,
    until: Option<Instant>,
}

/// The task's state.
#[derive(Debug)]
struct Switch {
    inner: Arc<Inner>,
    view: watch::Sender<ServingView>,
    network: watch::Sender<NetworkStatus>,
    inbox: mpsc::Receiver<Order>,
    swarm: Option<Swarm>,
    own_work: watch::Receiver<usize>,
    on: bool,
    paused: Option<Pause>,
    /// Why it cannot serve although the person wants it.
    trouble: Option<ErrorView>,
    since_ms: u64,
    /// Cancelled at its end: the jobs that began in it end, too.
    period: CancellationToken,
    tasks: JoinSet<()>,
    rooms: Rooms,
    doors: Doors,
    /// When the offers have to be made anew.
    refresh: Option<Instant>,
    /// What they were made from.
    offered: Vec<offers::Basis>,
    /// The addresses in them.
    offered_at: Vec<Bytes>,
    /// Nothing is offered, and a file is still being hashed.
    waits_for: Option<&'static str>,
    /// What was read of the files' headers.
    headers: offers::Headers,
    /// Measures models that were not yet.
    measuring: Option<AbortOnDropHandle<()>>,
}

impl Switch {
    async fn run(mut self) {
        let mut models = self.inner.models.view();
        let mut engine = self.inner.engine.stats();
        let mut running = self.rooms.running.subscribe();
        let mut money = self.inner.money.opened();
        let mut network = self.network.subscribe();
        loop {
            let pause_ends = self.paused.and_then(|pause| pause.until);
            tokio::select! {
                order = self.inbox.recv() => {
                    let Some(order) = order else { return };
                    if let Some(done) = self.obey(order).await {
                        // A caller that went away does not need the answer.
                        let _ = done.send(Ok(()));
                        return;
                    }
                }
                () = self.inner.stop.cancelled() => {
                    self.period.cancel();
                    return;
                }
                job = next_job(&mut self.swarm) => self.take(job),
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                Ok(()) = running.changed() => {
                    self.view.send_modify(|view| view.books += 1);
                    if *running.borrow_and_update() == 0 {
                        self.since_ms = clock::unix_ms();
                    }
                }
                Ok(()) = self.own_work.changed() => {}
                Ok(()) = engine.changed() => {
                    engine.borrow_and_update();
                    if !self.on {
                        continue;
                    }
                }
                Ok(()) = models.changed() => {
                    models.borrow_and_update();
                    // A download changes the list many times a second, and the offers not at all.
                    let checked = self.waits_for.is_some() && !self.inner.models.checking();
                    if self.on && (checked || self.offered != offers::basis(&self.inner)) {
                        self.offer().await;
                    }
                }
                // Where this node is reached stands in offers.
                Ok(()) = network.changed() => {
                    network.borrow_and_update();
                    if !self.on || self.offered_at == offers::addresses(&self.inner) {
                        continue;
                    }
                    self.offer().await;
                }
                // Whom to pay stands in offers.
                Ok(()) = money.changed() => {
                    money.borrow_and_update();
                    if self.on {
                        self.offer().await;
                    }
                }
                () = sleep_until(self.refresh) => self.offer().await,
                () = sleep_until(pause_ends) => self.go_on().await,
            }
            self.show();
        }
    }

    /// Carries out an order. What to answer, when the task is to end.
    async fn obey(&mut self, order: Order) -> Option<oneshot::Sender<Result<(), NodeError>>> {
        let (result, done) = match order {
            Order::Switch { on: true, done } => (self.turn_on().await, done),
            Order::Switch { on: false, done } => {
                self.turn_off().await;
                (Ok(()), done)
            }
            Order::Pause { minutes, done } => (self.pause(minutes).await, done),
            Order::Resume { done } => (self.resume().await, done),
            Order::SettingsChanged { done } => (self.settings_changed().await, done),
            Order::ShutDown { done } => {
                if self.on {
                    self.turn_off().await;
                }
                return Some(done);
            }
        };
        self.show();
        // A caller that went away does not need the answer.
        let _ = done.send(result);
        None
    }

    async fn turn_on(&mut self) -> Result<(), NodeError> {
        if let Some(problem) = &self.inner.identity_problem {
            self.trouble = Some(problem.clone());
            return Err(NodeError::NoIdentity {
                problem: problem.clone(),
            });
        }
        if self.on {
            return Ok(());
        }
        self.preparing("Opening the listening addresses", 0, 2);
        self.listen()
            .await
            .inspect_err(|error| self.trouble = Some(error.view()))?;
        self.on = true;
        self.paused = None;
        self.period = CancellationToken::new();
        self.since_ms = clock::unix_ms();
        self.preparing("Reading the models that others may use", 1, 2);
        self.offer().await;
        Ok(())
    }

    /// Opens the listening addresses of the settings, and starts the swarm where it does not run.
    async fn listen(&mut self) -> Result<(), NodeError> {
        let (listen, mdns) = {
            let settings = self.inner.settings.borrow();
            (settings.listen.clone(), settings.mdns)
        };
        match &self.swarm {
            Some(swarm) => {
                swarm.network.set_listening(listen, mdns).await?;
            }
            None => {
                let (rooms, status) = (self.rooms.clone(), self.network.clone());
                let inner = &self.inner;
                let swarm = Swarm::start(inner, (listen, mdns), &self.view, rooms, status).await?;
                let network = swarm.network.clone();
                self.view.send_modify(|view| view.network = Some(network));
                self.swarm = Some(swarm);
            }
        }
        Ok(())
    }

    /// Ends the swarm: its listeners and connections are closed, politely.
    async fn leave(&mut self) {
        self.view.send_modify(|view| view.network = None);
        if let Some(swarm) = self.swarm.take() {
            swarm.network.shutdown().await;
        }
        self.network.send_replace(NetworkStatus::default());
    }

    /// Off: askers are told, listeners closed, and the model unloaded unless the person's own answer uses it.
    async fn turn_off(&mut self) {
        let begun = Instant::now();
        let was_on = self.on;
        self.on = false;
        self.paused = None;
        self.trouble = None;
        self.refresh = None;
        self.measuring = None;
        self.end_jobs().await;
        self.leave().await;
        if self.inner.answers.own_work() == 0
            && let Err(error) = self.inner.engine.unload().await
        {
            tracing::warn!(%error, "the engine was not unloaded");
        }
        if was_on {
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.view.send_modify(|view| view.off_ms = Some(took));
        }
    }

    /// Withdraws the offers, tells every asker, and waits for the farewells.
    async fn end_jobs(&mut self) {
        self.publish(Vec::new()).await;
        self.view.send_modify(|view| {
            view.served = Arc::default();
            view.not_offered = Vec::new();
        });
        self.period.cancel();
        let farewells = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, farewells).await.is_err() {
            // Their streams close with them; the askers notice that as well.
            self.tasks.shutdown().await;
        }
        // Jobs that were dropped in the middle did not count themselves down.
        self.rooms = self.rooms.anew();
        self.rooms.running.send_replace(0);
    }

    async fn pause(&mut self, minutes: Option<u32>) -> Result<(), NodeError> {
        if !self.on {
            return Err(NodeError::NodeOff);
        }
        let length = minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60));
        self.paused = Some(Pause {
            until_ms: length.map(|length| {
                clock::unix_ms() + u64::try_from(length.as_millis()).unwrap_or(u64::MAX / 2)
            }),
            until: length.and_then(|length| Instant::now().checked_add(length)),
        });
        self.refresh = None;
        self.end_jobs().await;
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), NodeError> {
        if !self.on {
            return Err(NodeError::NodeOff);
        }
        self.go_on().await;
        Ok(())
    }

    async fn go_on(&mut self) {
        if self.paused.take().is_some() {
            self.period = CancellationToken::new();
            self.since_ms = clock::unix_ms();
            self.offer().await;
        }
    }

    async fn settings_changed(&mut self) -> Result<(), NodeError> {
        if !self.on {
            return Ok(());
        }
        let outdated = {
            let settings = self.inner.settings.borrow();
            let swarm = self.swarm.as_ref();
            swarm.is_some_and(|swarm| swarm.is_outdated(&settings))
        };
        if outdated {
            self.end_jobs().await;
            self.leave().await;
            self.period = CancellationToken::new();
        }
        let listening = self.listen().await;
        self.offer().await;
        if let Err(error) = &listening {
            self.trouble = Some(error.view());
        }
        listening
    }

    /// Publishes what may be offered now.
    async fn offer(&mut self) {
        if !self.on || self.paused.is_some() {
            self.refresh = None;
            return;
        }
        self.offered = offers::basis(&self.inner);
        self.offered_at = offers::addresses(&self.inner);
        // Asked before the offers are made: money that opens meanwhile is in none of them, and makes them anew in a moment.
        let opened_later = self.inner.money_opens();
        let offers = offers::build(&self.inner, &mut self.headers, self.rooms.waiting()).await;
        self.publish(offers.envelopes).await;
        self.refresh = Some(Instant::now() + offers::next(&self.inner));
        // Large files are hashed for minutes, and a chain is asked for seconds: until then it is no trouble that nothing is
        // offered.
        self.waits_for = match offers.served.is_empty() {
            true if self.inner.models.checking() => Some("Checking the model files"),
            true if opened_later => Some("Asking the network that money is on"),
            true if offers::is_closed(&self.inner) => {
                Some("Waiting some minutes, since the list of answered jobs is new")
            }
            true | false => None,
        };
        self.trouble = (offers.served.is_empty() && self.waits_for.is_none())
            .then(|| offers::nothing(&self.inner));
        self.measure(&offers.served);
        self.view.send_modify(|view| {
            view.served = Arc::new(offers.served);
            view.not_offered = offers.not_offered;
        });
    }

    async fn publish(&self, envelopes: Vec<SignedEnvelope>) {
        if let Some(swarm) = &self.swarm {
            swarm.network.set_offers(envelopes).await;
        }
    }

    /// Has the engine measure what is served and was not measured yet.
    fn measure(&mut self, served: &[ServedModel]) {
        let running = self
            .measuring
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        let files: Vec<_> = served.iter().map(|model| model.file.clone()).collect();
        let models = measure::unmeasured(&self.inner, &files);
        if !running && !models.is_empty() {
            let task = tokio::spawn(measure::measure(Arc::clone(&self.inner), models));
            self.measuring = Some(AbortOnDropHandle::new(task));
        }
    }

    /// Gives a stranger's stream a task.
    fn take(&mut self, incoming: IncomingJob) {
        let stream = &incoming.stream;
        let door = self.doors.enter(stream.peer, &stream.remote_addr);
        let Some(door) = door.filter(|_| self.tasks.len() < MAX_JOB_TASKS) else {
            return doors::turn_away(incoming.stream);
        };
        let served = Arc::clone(&self.view.borrow().served);
        let open = self.on && self.paused.is_none();
        self.tasks.spawn(job::run(
            job::Context {
                inner: Arc::clone(&self.inner),
                served,
                rooms: self.rooms.clone(),
                off: self.period.clone(),
                open,
                own_work: self.own_work.clone(),
            },
            incoming.stream,
            door,
        ));
    }

    fn preparing(&self, step: &str, done: u64, total: u64) {
        let state = ServingState::Preparing {
            step: step.to_owned(),
            done,
            total,
        };
        self.view.send_modify(|view| view.state = state);
    }

    /// Says what the state is. The only place that does.
    fn show(&self) {
        let state = self.state();
        self.view.send_if_modified(|view| {
            let changed = view.state != state;
            view.state = state;
            changed
        });
    }

    fn state(&self) -> ServingState {
        if !self.on {
            return match &self.trouble {
                Some(error) => ServingState::Attention {
                    error: error.clone(),
                },
                None => ServingState::Off,
            };
        }
        if let Some(pause) = self.paused {
            return ServingState::PausedByYou {
                until_ms: pause.until_ms,
            };
        }
        if let Some(error) = &self.trouble {
            return ServingState::Attention {
                error: error.clone(),
            };
        }
        if let Some(step) = self.waits_for {
            return ServingState::Preparing {
                step: step.to_owned(),
                done: 0,
                total: 0,
            };
        }
        match *self.rooms.running.borrow() {
            1.. if *self.own_work.borrow() > 0 => ServingState::PausedOwnWork,
            0 => ServingState::Waiting {
                since_ms: self.since_ms,
            },
            jobs => {
                let stats = self.inner.engine.stats();
                let tokens_per_second = stats.borrow().tokens_per_second;
                ServingState::Serving {
                    jobs,
                    tokens_per_second,
                }
            }
        }
    }
}

/// The next stream of a stranger's; never, while no swarm runs.
async fn next_job(swarm: &mut Option<Swarm>) -> IncomingJob {
    if let Some(swarm) = swarm
        && let Some(job) = swarm.jobs.recv().await
    {
        return job;
    }
    std::future::pending().await
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
