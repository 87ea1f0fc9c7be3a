//! The same answer over many networks: round trips, loss, routers, and cuts in the middle of it.
//!
//! Three providers with public addresses and one asking machine per kind of router hang on one switch. Their lines are set anew for
//! each pair of round trip and loss; then the three ask at once, and the same thing happens to each in the middle of its answer.

use std::{
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use decentralgpt_tests::{Folder, Serving};

use crate::{
    answer::{Asker, Faults, Question},
    error::LabError,
    figures::{Figures, Row, quantile},
    process,
    ready::Ready,
    reference::{self, Reference},
    relayed,
    switch::{
        Port, Switch,
        link::Line,
        namespace::Namespace,
        nat::{Kind, Nat},
    },
};

/// Round trips between an asker and a provider, in milliseconds.
const ROUND_TRIPS: [u64; 3] = [20, 100, 300];
/// Packets lost on the whole way, in hundredths.
const LOSSES: [u32; 3] = [0, 1, 5];
/// What stands before the asking machines.
const ROUTERS: [(&str, Option<Kind>); 3] = [
    ("open", None),
    ("cone", Some(Kind::PortRestricted)),
    ("symmetric", Some(Kind::Symmetric)),
];
/// Machines with a public address. Each has two places for strangers, and one that lost its asker keeps the place for a while: three have
/// room for every asker twice.
const PROVIDERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(198, 18, 0, 2),
    Ipv4Addr::new(198, 18, 0, 3),
];
/// Where an asking machine is reached from: QUIC sends from where it listens, and from loopback nothing leaves a machine.
const ANY_INTERFACE: [&str; 2] = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"];
/// A way passes two lines in each direction.
const LINES: u32 = 4;
/// Tokens of an answer: several seconds at the starter's pace.
const TOKENS: u32 = 192;
/// The disturbance comes when this many tokens are there.
const DISTURB_AFTER: u64 = 16;
/// How often the answers are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// An answer that is not whole by then never will be: the longest cut, and a minute to come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens in the middle of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Nothing,
    /// The asker's own line is cut for so many seconds.
    Cut(u64),
    /// The way to the provider that answers is gone; the other one's is not.
    ProviderLost,
    /// The asker's router starts anew.
    Rebind,
}

const EVENTS: [Event; 5] = [
    Event::Nothing,
    Event::Cut(2),
    Event::Cut(30),
    Event::ProviderLost,
    Event::Rebind,
];

impl Event {
    fn name(self) -> String {
        match self {
            Self::Nothing => "undisturbed".to_owned(),
            Self::Cut(seconds) => format!("cut_{seconds}s"),
            Self::ProviderLost => "provider_lost".to_owned(),
            Self::Rebind => "rebind".to_owned(),
        }
    }
}

#[derive(Debug)]
struct Machine {
    name: &'static str,
    nat: bool,
    port: Port,
    namespace: Namespace,
}

/// Runs as much of the matrix as fits into the time.
///
/// # Errors
/// [`LabError`] when the providers do not start. An answer that is lost is a figure.
pub fn run(starter: &Path, within: Duration) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    let mut switch = Switch::new().map_err(LabError::system("no thread for the switch"))?;
    let askers = match askers(&mut switch) {
        Ok(askers) => askers,
        Err(error) => {
            figures.skip(format!(
                "the matrix, providers behind a router, relay death (no network namespace can be made here: {error})"
            ));
            return Ok(figures);
        }
    };
    let ready = Ready::of(starter)?;
    let (references, head) = {
        let undisturbed = here(starter, &ready)?;
        (
            reference::references(starter, &undisturbed, TOKENS)?,
            Head::of(&undisturbed)?,
        )
    };
    let mut providers = Vec::new();
    for address in PROVIDERS {
        let (port, namespace) = switch
            .attach(address, Line::CLEAR, None)
            .map_err(LabError::system("no namespace for a provider"))?;
        providers.push((
            port,
            serve(&namespace, address, starter, &ready)?,
            namespace,
        ));
    }
    relayed::run(starter, &ready, &references, &mut figures)?;
    let begun = Instant::now();
    let mut not_reached = 0;
    let mut totals = Totals::default();
    for round_trip in ROUND_TRIPS {
        for loss in LOSSES {
            let line = line(round_trip, loss);
            for (port, ..) in &providers {
                switch.set_line(*port, line);
            }
            for asker in &askers {
                switch.set_line(asker.port, line);
            }
            for event in EVENTS {
                if begun.elapsed() >= within {
                    not_reached += askers.iter().filter(|asker| concerns(event, asker)).count();
                    continue;
                }
                let cell = format!("rtt{round_trip}.loss{loss}");
                eprintln!("{cell} {}", event.name());
                let found = row(&switch, &providers, &askers, (&references, &head), event)?;
                totals.take(&cell, event, found, &mut figures);
            }
        }
    }
    totals.report(&mut figures);
    if not_reached > 0 {
        figures.skip(format!(
            "{not_reached} cells (the time was over; --minutes gives more)"
        ));
    }
    Ok(figures)
}

/// What a program needs of a model's file to write to it. It is fetched once for a model, and over the worst of these lines for a
/// minute and more: what is measured here is the answers.
#[derive(Debug)]
struct Head {
    name: OsString,
    bytes: Vec<u8>,
}

/// Where a program keeps it, in its folder.
const HEADS: &str = "heads";

impl Head {
    /// Has a program fetch it.
    fn of(provider: &Serving) -> Result<Self, LabError> {
        let folder = Folder::new();
        let mut command = folder.decentralgpt();
        command.args([
            "chat",
            "--peer",
            &provider.address,
            "--max-out",
            "1",
            "Hello.",
        ]);
        let said = decentralgpt_tests::run(&mut command);
        let kept = folder.files("gguf");
        let (Some(path), Some(name)) =
            (kept.first(), kept.first().and_then(|path| path.file_name()))
        else {
            return Err(LabError::Wrong(format!(
                "no head was fetched: {}",
                said.err.trim()
            )));
        };
        Ok(Self {
            name: name.to_owned(),
            bytes: fs::read(path).map_err(LabError::system("a head cannot be read"))?,
        })
    }

    fn put_into(&self, folder: &Folder) -> Result<(), LabError> {
        let heads = folder.path().join(HEADS);
        fs::create_dir_all(&heads)
            .and_then(|()| fs::write(heads.join(&self.name), &self.bytes))
            .map_err(LabError::system("a folder cannot be prepared"))
    }
}

/// What became of one answer.
#[derive(Debug)]
struct Cell {
    router: &'static str,
    /// Whole, with its longest pause and its tokens; or why it is not.
    outcome: Result<(Duration, Faults), String>,
}

#[derive(Debug, Default)]
struct Totals {
    faults: Faults,
    /// Of each event: answers asked, answers whole, longest pauses.
    by_event: Vec<(String, usize, usize, Vec<f64>)>,
}

impl Totals {
    fn take(&mut self, cell: &str, event: Event, found: Vec<Cell>, figures: &mut Figures) {
        let name = event.name();
        if !self.by_event.iter().any(|(of, ..)| *of == name) {
            self.by_event.push((name.clone(), 0, 0, Vec::new()));
        }
        let Some((_, asked, whole, pauses)) = self.by_event.iter_mut().find(|(of, ..)| *of == name)
        else {
            return;
        };
        for Cell { router, outcome } in found {
            *asked += 1;
            let work = format!("{cell}.{router}.{name}");
            match outcome {
                Ok((pause, faults)) => {
                    *whole += 1;
                    pauses.push(pause.as_secs_f64());
                    self.faults.add(faults);
                    figures.push(Row::new(work, "s", pause.as_secs_f64()));
                }
                Err(why) => {
                    eprintln!("{work}: {why}");
                    figures.push(Row::new(format!("{work}.lost"), "answers", 1.0));
                }
            }
        }
    }

    fn report(self, figures: &mut Figures) {
        for (name, asked, whole, pauses) in &self.by_event {
            let share = *whole as f64 / (*asked).max(1) as f64;
            figures.push(Row::new(format!("whole_answers.{name}"), "part", share).goal(">= 1"));
            if let Some(p95) = quantile(pauses, 0.95) {
                figures.push(Row::new(format!("longest_pause_p95.{name}"), "s", p95));
            }
        }
        let count = |work: &str, number: usize| Row::new(work, "count", number as f64).goal("<= 0");
        figures.push(count("tokens_wrong", self.faults.wrong));
        figures.push(count("tokens_missing", self.faults.missing));
        figures.push(count("tokens_doubled", self.faults.doubled));
    }
}

/// One way's round trip and loss, in four equal parts.
pub(crate) fn line(round_trip_ms: u64, loss_percent: u32) -> Line {
    let way = 1.0 - f64::from(loss_percent) / 100.0;
    Line {
        delay: Duration::from_millis(round_trip_ms) / LINES,
        // A tenth of the way's delay, as on a home's wireless.
        jitter: Duration::from_millis(round_trip_ms) / LINES / 10,
        loss: 1.0 - way.sqrt(),
        ..Line::CLEAR
    }
}

fn askers(switch: &mut Switch) -> std::io::Result<Vec<Machine>> {
    let mut askers = Vec::new();
    for (number, (name, kind)) in (1_u8..).zip(ROUTERS) {
        let open = Ipv4Addr::new(198, 18, 1, number);
        let home = Ipv4Addr::new(192, 168, number, 2);
        let nat = kind.map(|kind| Nat::new(kind, open));
        let address = if nat.is_some() { home } else { open };
        let (port, namespace) = switch.attach(address, Line::CLEAR, nat)?;
        askers.push(Machine {
            name,
            nat: kind.is_some(),
            port,
            namespace,
        });
    }
    Ok(askers)
}

/// A program that serves in a namespace, by both transports, at fixed ports.
pub(crate) fn serve(
    namespace: &Namespace,
    address: Ipv4Addr,
    starter: &Path,
    ready: &Ready,
) -> Result<Serving, LabError> {
    let starter: PathBuf = starter.to_owned();
    let folder = Folder::new();
    folder.set(
        &[
            &format!("/ip4/{address}/udp/4001/quic-v1"),
            &format!("/ip4/{address}/tcp/4001"),
        ],
        "",
    );
    ready.put_into(&folder)?;
    namespace
        .run(move || Serving::start_offering(folder, &starter))
        .map_err(LabError::system(
            "a program does not serve in its namespace",
        ))
}

/// The folder of a program that asks beyond its own machine.
pub(crate) fn abroad() -> Folder {
    let folder = Folder::new();
    folder.set(&ANY_INTERFACE, "");
    folder
}

/// A program that serves on loopback.
pub(crate) fn here(starter: &Path, ready: &Ready) -> Result<Serving, LabError> {
    let folder = Folder::new();
    ready.put_into(&folder)?;
    Ok(Serving::start_offering(folder, starter))
}

/// A rebind is nothing to who has no router.
fn concerns(event: Event, asker: &Machine) -> bool {
    event != Event::Rebind || asker.nat
}

/// All askers at once, each with the same disturbance.
fn row(
    switch: &Switch,
    providers: &[(Port, Serving, Namespace)],
    askers: &[Machine],
    (references, head): (&[Reference], &Head),
    event: Event,
) -> Result<Vec<Cell>, LabError> {
    let peers: Vec<String> = providers
        .iter()
        .map(|(_, serving, _)| serving.address.clone())
        .collect();
    let mut running = Vec::new();
    let chosen = askers.iter().filter(|asker| concerns(event, asker));
    for (machine, reference) in chosen.zip(references) {
        let (peers, prompt) = (peers.clone(), reference.question);
        let folder = abroad();
        head.put_into(&folder)?;
        let asker = machine
            .namespace
            .run(move || {
                let question = Question {
                    peers: &peers,
                    prompt,
                    tokens: TOKENS,
                };
                Asker::start(folder, &question)
            })
            .map_err(LabError::system("a program does not ask in its namespace"))?;
        running.push((machine, asker, reference, Disturbance::default()));
    }
    let begun = Instant::now();
    while running.iter().any(|(_, asker, ..)| !asker.ended()) {
        if begun.elapsed() > PATIENCE {
            for (_, asker, ..) in running.iter().filter(|(_, asker, ..)| !asker.ended()) {
                // One that ends just now is as good.
                let _ = process::signal(asker.id, libc::SIGKILL);
            }
        }
        for (machine, asker, _, disturbance) in &mut running {
            disturbance.go_on(switch, machine, asker, providers, event);
        }
        std::thread::sleep(LOOK);
    }
    let mut cells = Vec::new();
    for (machine, asker, reference, disturbance) in running {
        disturbance.mend(switch, machine.port);
        let happened = event == Event::Nothing || disturbance.begun.is_some();
        let outcome = match asker.answer() {
            Err(error) => Err(error.to_string()),
            Ok(_) if !happened => Err("it ended before anything happened to it".to_owned()),
            Ok(answer) => answer
                .check(reference)
                .map(|faults| (answer.progress.longest_gap, faults))
                .map_err(|error| error.to_string()),
        };
        cells.push(Cell {
            router: machine.name,
            outcome,
        });
    }
    Ok(cells)
}

/// What was done to one answer, and is to be undone.
#[derive(Debug, Default)]
struct Disturbance {
    begun: Option<Instant>,
    parted: Option<Port>,
    mended: bool,
}

impl Disturbance {
    fn go_on(
        &mut self,
        switch: &Switch,
        machine: &Machine,
        asker: &Asker,
        providers: &[(Port, Serving, Namespace)],
        event: Event,
    ) {
        match (self.begun, event) {
            (Some(begun), Event::Cut(seconds)) => {
                if !self.mended && begun.elapsed() >= Duration::from_secs(seconds) {
                    switch.cut(machine.port, false);
                    self.mended = true;
                }
            }
            (Some(_), _) | (None, Event::Nothing) => {}
            (None, _) => {
                let progress = asker.progress();
                if progress.tokens < DISTURB_AFTER || progress.finished.is_some() {
                    return;
                }
                match event {
                    Event::Nothing => {}
                    Event::Cut(_) => switch.cut(machine.port, true),
                    Event::Rebind => switch.rebind(machine.port),
                    Event::ProviderLost => {
                        let of = progress.provider.unwrap_or_default();
                        let found = providers.iter().find(|(_, serving, _)| serving.peer == of);
                        let Some((port, ..)) = found else { return };
                        switch.part(machine.port, *port, true);
                        self.parted = Some(*port);
                    }
                }
                self.begun = Some(Instant::now());
            }
        }
    }

    fn mend(&self, switch: &Switch, port: Port) {
        switch.cut(port, false);
        if let Some(provider) = self.parted {
            switch.part(port, provider, false);
        }
    }
}
