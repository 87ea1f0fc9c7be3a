//! What a remote answer costs against a local one.
//!
//! Both are asked of running nodes through their control sockets, by the same command, by turns: the one that has the weights
//! answers itself, the other one asks it. So both are warm, and know how fast they are; what differs is the network. Four parts: over loopback, for the pace and
//! the processor's time; over the switch with a round trip of 100 ms, for the first token and the bytes; then nothing, for what
//! nodes send that are merely connected; and over the switch again, paid for (`paid`).

use std::{net::Ipv4Addr, path::Path, time::Duration};

use decentralgpt_tests::{Folder, SYSTEM, Serving};
use serde_json::Value;

use crate::{
    error::LabError,
    figures::{Figures, Row, quantile},
    matrix::{here, serve},
    paid, process,
    ready::Ready,
    reference::QUESTIONS,
    switch::{Port, Switch, link::Line, namespace::Namespace},
};

/// Tokens of an answer: long against its beginning.
pub(crate) const TOKENS: u32 = 200;
/// The round trip of the second part.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// A round trip passes two lines in each direction.
const LINES: u32 = 4;
/// The machines of the second part: one that answers, and two that ask.
const PROVIDER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 2), Ipv4Addr::new(198, 18, 0, 3)];
/// What is measured in seconds is told per hour.
const HOUR: f64 = 3600.0;

/// Runs all parts: `rounds` answers of each side, and `idle` of silence.
///
/// # Errors
/// [`LabError`] when a program does not start or does not answer.
pub fn run(starter: &Path, rounds: usize, idle: Duration) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    let ready = Ready::warm(starter)?;
    loopback(starter, &ready, rounds, &mut figures)?;
    let mut switch = Switch::new().map_err(LabError::system("no thread for the switch"))?;
    let free = over_the_switch(&mut switch, starter, &ready, rounds, idle, &mut figures);
    match free.and_then(|()| paid::run(&mut switch, starter, &ready, rounds, &mut figures)) {
        Err(LabError::System { what, source }) => {
            figures.skip(format!("what wants the switch ({what}: {source})"));
        }
        other => other?,
    }
    Ok(figures)
}

/// Pace and first token of several answers of one side.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) pace: Vec<f64>,
    pub(crate) first_ms: Vec<f64>,
    tokens: f64,
}

impl Side {
    pub(crate) fn take(&mut self, message: &Value) {
        self.pace.extend(message["tokensPerSecond"].as_f64());
        self.first_ms.extend(message["firstTokenMs"].as_f64());
        self.tokens += message["outputTokens"].as_f64().unwrap_or(0.0);
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5).unwrap_or(f64::NAN)
}

fn loopback(
    starter: &Path,
    ready: &Ready,
    rounds: usize,
    figures: &mut Figures,
) -> Result<(), LabError> {
    let provider = here(starter, ready)?;
    let asker = here(starter, ready)?;
    let (ids, mut spent) = ((provider.program.id(), asker.program.id()), (0.0, 0.0));
    ask(provider.folder(), Place::Here, QUESTIONS[0])?;
    ask(asker.folder(), Place::At(&provider.address), QUESTIONS[0])?;
    let (mut local, mut remote) = (Side::default(), Side::default());
    for round in 0..rounds {
        let question = QUESTIONS[round % QUESTIONS.len()];
        local.take(&ask(provider.folder(), Place::Here, question)?);
        let before = (cpu(ids.0), cpu(ids.1));
        remote.take(&ask(
            asker.folder(),
            Place::At(&provider.address),
            question,
        )?);
        spent.0 += cpu(ids.0) - before.0;
        spent.1 += cpu(ids.1) - before.1;
    }
    let pace = Row::new("tokens_per_second.loopback", "tok/s", median(&remote.pace));
    figures.push(pace.against("local", median(&local.pace)).goal(">= 0.98"));
    let first = Row::new("first_token.loopback", "ms", median(&remote.first_ms));
    figures.push(first.against("local", median(&local.first_ms)));
    // Of the programs that talk, not of the workers that compute.
    let per_token = |seconds: f64| seconds * 1e3 / remote.tokens.max(1.0);
    figures.push(Row::new("cpu_per_token.provider", "ms", per_token(spent.0)));
    figures.push(Row::new("cpu_per_token.asker", "ms", per_token(spent.1)));
    Ok(())
}

fn cpu(id: u32) -> f64 {
    process::cpu_time(id).unwrap_or_default().as_secs_f64()
}

/// The line of a machine at that round trip from every other.
pub(crate) fn line() -> Line {
    Line {
        delay: ROUND_TRIP / LINES,
        ..Line::CLEAR
    }
}

fn over_the_switch(
    switch: &mut Switch,
    starter: &Path,
    ready: &Ready,
    rounds: usize,
    idle: Duration,
    figures: &mut Figures,
) -> Result<(), LabError> {
    let mut attach = |address| -> Result<(Port, Serving, Namespace), LabError> {
        let (port, namespace) = switch
            .attach(address, line(), None)
            .map_err(LabError::system("no network namespace can be made here"))?;
        Ok((port, serve(&namespace, address, starter, ready)?, namespace))
    };
    let provider = attach(PROVIDER)?;
    let clients = [attach(CLIENTS[0])?, attach(CLIENTS[1])?];
    let place = Place::At(&provider.1.address);
    ask(provider.1.folder(), Place::Here, QUESTIONS[0])?;
    for client in &clients {
        ask(client.1.folder(), place, QUESTIONS[0])?;
    }
    let (mut local, mut remote) = (Side::default(), Side::default());
    let mut bytes = 0;
    for round in 0..rounds {
        let question = QUESTIONS[round % QUESTIONS.len()];
        local.take(&ask(provider.1.folder(), Place::Here, question)?);
        let before = both(switch, clients[0].0);
        remote.take(&ask(clients[0].1.folder(), place, question)?);
        bytes += both(switch, clients[0].0) - before;
    }
    let beyond =
        median(&remote.first_ms) - median(&local.first_ms) - ROUND_TRIP.as_secs_f64() * 1e3;
    let first = Row::new("first_token.rtt100", "ms", median(&remote.first_ms));
    figures.push(first.against("local", median(&local.first_ms)));
    figures.push(Row::new("first_token_beyond_one_rtt.rtt100", "ms", beyond).goal("<= 5"));
    let pace = Row::new("tokens_per_second.rtt100", "tok/s", median(&remote.pace));
    figures.push(pace.against("local", median(&local.pace)));
    figures.push(Row::new(
        "bytes_per_token",
        "bytes",
        bytes as f64 / remote.tokens.max(1.0),
    ));
    eprintln!("{} s of silence", idle.as_secs());
    let before = [provider.0, clients[0].0].map(|port| both(switch, port));
    std::thread::sleep(idle);
    let after = [provider.0, clients[0].0].map(|port| both(switch, port));
    let hourly = |at: usize| (after[at] - before[at]) as f64 / 1024.0 * HOUR / idle.as_secs_f64();
    let seconds = idle.as_secs();
    let row = |whose: &str, at: usize| {
        Row::new(
            format!("idle_traffic.{whose}.over_{seconds}s"),
            "KiB/h",
            hourly(at),
        )
    };
    figures.push(row("client", 1));
    figures.push(row("provider_with_two_clients", 0));
    Ok(())
}

fn both(switch: &Switch, port: Port) -> u64 {
    let (up, down) = switch.bytes(port);
    up + down
}

/// Where an answer is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// By the node that is asked.
    Here,
    /// By the node at this address.
    At(&'a str),
}

/// Asks the node that runs on this folder; its finished message.
pub(crate) fn ask(folder: &Folder, place: Place<'_>, question: &str) -> Result<Value, LabError> {
    ask_for(folder, place, question, TOKENS)
}

/// The same, for so many tokens.
pub(crate) fn ask_for(
    folder: &Folder,
    place: Place<'_>,
    question: &str,
    tokens: u32,
) -> Result<Value, LabError> {
    let mut command = folder.decentralgpt();
    command.args(["chat", "--json", "--temperature", "0", "--system", SYSTEM]);
    match place {
        Place::Here => command.args(["--place", "local"]),
        Place::At(address) => command.args(["--peer", address]),
    };
    command
        .args(["--max-out", &tokens.to_string()])
        .arg(question);
    let said = decentralgpt_tests::run(&mut command);
    let lines = said.out.lines();
    lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["kind"] == "finished")
        .map(|event| event["message"].clone())
        .filter(|message| matches!(message["state"].as_str(), Some("complete" | "length")))
        .ok_or_else(|| LabError::Wrong(format!("a question was not answered: {}", said.err.trim())))
}
