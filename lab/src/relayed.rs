//! Providers behind routers: reached through relays, past them by holes in the routers, and after a relay's death.
//!
//! Two relays with public addresses carry and do nothing else; they are the product's network without a model. Each provider is the real
//! program behind a router of its own and knows the relays alone. Who asks it is the real program too, and knows it by its addresses.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use decentralgpt_tests::{Folder, Serving, wire};
use network::{Inbound, Network, NetworkOptions};
use serde_json::Value;

use crate::{
    answer::{Asker, Faults, Question},
    error::LabError,
    figures::{Figures, Row, quantile},
    matrix, process,
    ready::Ready,
    reference::{self, Reference},
    switch::{
        Port, Switch,
        link::Line,
        namespace::Namespace,
        nat::{Kind, Nat},
    },
};

const RELAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 11), Ipv4Addr::new(198, 18, 0, 12)];
/// What stands before the providers.
const PROVIDERS: [(&str, Kind); 3] = [
    ("full_cone", Kind::FullCone),
    ("port_restricted", Kind::PortRestricted),
    ("symmetric", Kind::Symmetric),
];
/// What stands before those who ask.
const ASKERS: [(&str, Option<Kind>); 3] = [
    ("open", None),
    ("port_restricted", Some(Kind::PortRestricted)),
    ("symmetric", Some(Kind::Symmetric)),
];
/// Between a provider and who asks it, directly.
const ROUND_TRIP_MS: u64 = 40;
/// Tokens of an answer: seconds at the starter's pace.
const TOKENS: u32 = 192;
/// The relay dies when this many tokens are there.
const DISTURB_AFTER: u64 = 16;
/// And here it is looked whether the way is direct: a hole is punched in the first second, or not at all.
const LOOK_AFTER: u64 = 96;
const LOOK: Duration = Duration::from_millis(20);
/// So long it is listened which relay an answer goes through: several frames of it.
const LISTEN: Duration = Duration::from_millis(400);
/// A provider looks for relays after twenty seconds without an address that others reach; a busy machine needs some more.
const READY: Duration = Duration::from_secs(120);
/// How often a provider is asked where it is reached.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// An answer that is not whole by then never will be.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why something is not shown on this machine.
pub type NotHere = String;

/// Everything behind the switch.
#[derive(Debug)]
pub struct World {
    switch: Switch,
    relays: Vec<Relay>,
    providers: Vec<Provider>,
}

#[derive(Debug)]
struct Relay {
    port: Port,
    network: Network,
    address: String,
    runtime: tokio::runtime::Runtime,
    // Nobody asks it for anything that it would have to answer.
    _inbound: Inbound,
    _namespace: Namespace,
}

#[derive(Debug)]
struct Provider {
    name: &'static str,
    serving: Serving,
    /// Where others reach it.
    addresses: Vec<String>,
    /// Peers that are or were connected to it, besides who asks now.
    known: BTreeSet<String>,
    /// The other providers: who is to be answered by this one must not ask them.
    others: Vec<String>,
    _namespace: Namespace,
}

/// The cells of the matrix: each kind of provider asked from behind each kind of router, and a relay's death.
///
/// # Errors
/// [`LabError`] when the relays or a program do not start. An answer that is lost is a figure.
pub fn run(
    starter: &Path,
    ready: &Ready,
    references: &[Reference],
    figures: &mut Figures,
) -> Result<(), LabError> {
    let mut world = match world(starter, ready, &PROVIDERS)? {
        Ok(world) => world,
        Err(why) => {
            figures.skip(why);
            return Ok(());
        }
    };
    let mut share = (0, 0);
    let mut faults = Faults::default();
    for (number, provider) in world.providers.iter_mut().enumerate() {
        for (at, (name, kind)) in ASKERS.into_iter().enumerate() {
            let cell = format!("{}.{name}", provider.name);
            eprintln!("behind routers: {cell}");
            let machine = Ipv4Addr::new(198, 18, 20 + number as u8, 1 + at as u8);
            let (_, namespace) = asker(&mut world.switch, machine, kind)?;
            let reference = &references[at % references.len()];
            let asked = ask(&namespace, provider, reference, |_| ())?;
            match asked.outcome {
                Ok((pause, found)) => {
                    faults.add(found);
                    figures.push(Row::new(
                        format!("relayed.{cell}"),
                        "s",
                        pause.as_secs_f64(),
                    ));
                }
                Err(why) => {
                    eprintln!("{cell}: {why}");
                    figures.push(Row::new(format!("relayed.{cell}.lost"), "answers", 1.0));
                }
            }
            if let Some(direct) = asked.direct {
                figures.push(Row::new(
                    format!("direct.{cell}"),
                    "part",
                    f64::from(u8::from(direct)),
                ));
                share.0 += usize::from(direct);
                share.1 += 1;
            }
        }
    }
    if share.1 > 0 {
        figures.push(Row::new(
            "direct_connections",
            "part",
            share.0 as f64 / share.1 as f64,
        ));
    }
    faults.add(deaths(&mut [world], references, figures)?);
    let count = |work: &str, number: usize| Row::new(work, "count", number as f64).goal("<= 0");
    figures.push(count("relayed_tokens_wrong", faults.wrong));
    figures.push(count("relayed_tokens_missing", faults.missing));
    figures.push(count("relayed_tokens_doubled", faults.doubled));
    Ok(())
}

/// Two relays, and a provider that no hole can be punched to; or why they cannot be made here.
///
/// # Errors
/// [`LabError`] when one of them does not start.
pub fn hidden(starter: &Path, ready: &Ready) -> Result<Result<World, NotHere>, LabError> {
    world(starter, ready, &[("symmetric", Kind::Symmetric)])
}

/// The deaths of relays alone, one in each world, in the middle of an answer of the provider behind it.
///
/// # Errors
/// As [`run`].
pub fn short(
    worlds: Vec<Result<World, NotHere>>,
    references: &[Reference],
    figures: &mut Figures,
) -> Result<Faults, LabError> {
    match worlds.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(mut worlds) => deaths(&mut worlds, references, figures),
        Err(why) => {
            figures.skip(why);
            Ok(Faults::default())
        }
    }
}

/// Starts relays and providers.
fn world(
    starter: &Path,
    ready: &Ready,
    kinds: &[(&'static str, Kind)],
) -> Result<Result<World, NotHere>, LabError> {
    let mut switch = Switch::new().map_err(LabError::system("no thread for the switch"))?;
    let mut places = Vec::new();
    for address in RELAYS {
        match switch.attach(address, line(), None) {
            Ok((port, namespace)) => places.push((address, port, namespace)),
            Err(error) => {
                return Ok(Err(format!(
                    "providers behind a router, the share of direct connections, relay death (no network namespace can be made here: {error})"
                )));
            }
        }
    }
    let mut relays = Vec::new();
    for (address, port, namespace) in places {
        relays.push(relay(address, port, namespace)?);
    }
    let (first, second) = (&relays[0], &relays[1]);
    // Each tries the other's addresses, and so learns that it is reached.
    first
        .runtime
        .block_on(first.network.connect(&second.address))
        .map_err(|error| LabError::Wrong(error.to_string()))?;
    for relay in &relays {
        carries(relay)?;
    }
    let mut providers = Vec::new();
    for (number, (name, kind)) in kinds.iter().enumerate() {
        let outside = Ipv4Addr::new(198, 18, 10 + number as u8, 1);
        let inside = Ipv4Addr::new(192, 168, 100 + number as u8, 2);
        let (_, namespace) = switch
            .attach(inside, line(), Some(Nat::new(*kind, outside)))
            .map_err(LabError::system("no namespace for a provider"))?;
        providers.push(serve(name, namespace, starter, ready, &relays)?);
    }
    let all: Vec<String> = providers
        .iter()
        .map(|provider| provider.serving.peer.clone())
        .collect();
    for provider in &mut providers {
        let own = provider.serving.peer.clone();
        provider.others = all.iter().filter(|id| **id != own).cloned().collect();
        reached(provider)?;
    }
    Ok(Ok(World {
        switch,
        relays,
        providers,
    }))
}

fn line() -> Line {
    matrix::line(ROUND_TRIP_MS, 0)
}

fn relay(address: Ipv4Addr, port: Port, namespace: Namespace) -> Result<Relay, LabError> {
    let started = namespace
        .run(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            let options = NetworkOptions {
                listen: vec![
                    format!("/ip4/{address}/udp/4001/quic-v1"),
                    format!("/ip4/{address}/tcp/4001"),
                ],
                ..NetworkOptions::new(wire::seed())
            };
            let started = runtime.block_on(Network::start(options));
            let (network, inbound) =
                started.map_err(|error| std::io::Error::other(error.to_string()))?;
            Ok::<_, std::io::Error>((runtime, network, inbound))
        })
        .and_then(|started| started)
        .map_err(LabError::system("a relay does not start"))?;
    let (runtime, network, inbound) = started;
    let address = format!("/ip4/{address}/udp/4001/quic-v1/p2p/{}", network.peer_id());
    Ok(Relay {
        port,
        network,
        address,
        runtime,
        _inbound: inbound,
        _namespace: namespace,
    })
}

/// Waits until a relay knows that it is reached, and carries.
fn carries(relay: &Relay) -> Result<(), LabError> {
    relay.runtime.block_on(async {
        let mut status = relay.network.status();
        let carries = status.wait_for(|status| status.reach.relaying.offered);
        let waited = tokio::time::timeout(READY, carries).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(LabError::Wrong("a relay does not carry".to_owned())),
        }
    })
}

fn serve(
    name: &'static str,
    namespace: Namespace,
    starter: &Path,
    ready: &Ready,
    relays: &[Relay],
) -> Result<Provider, LabError> {
    let folder = Folder::new();
    folder.set(
        &["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001"],
        "upnp = false\nthreads = 1\n",
    );
    ready.put_into(&folder)?;
    let addresses: Vec<String> = relays.iter().map(|relay| relay.address.clone()).collect();
    let known = relays
        .iter()
        .map(|relay| relay.network.peer_id().to_string())
        .collect();
    let starter = starter.to_owned();
    let serving = namespace
        .run(move || {
            for address in addresses {
                // Remembered for the program that serves afterwards.
                let mut command = folder.decentralgpt();
                let said = decentralgpt_tests::run(command.args(["peers", "connect", &address]));
                if said.code() != Some(0) {
                    return Err(LabError::Wrong(said.err));
                }
            }
            Ok(Serving::start_offering(folder, &starter))
        })
        .map_err(LabError::system(
            "a program does not serve in its namespace",
        ))??;
    Ok(Provider {
        name,
        serving,
        addresses: Vec::new(),
        known,
        others: Vec::new(),
        _namespace: namespace,
    })
}

/// What a running program says of itself.
fn status(serving: &Serving) -> Value {
    let mut command = serving.folder().decentralgpt();
    let said = decentralgpt_tests::run(command.args(["status", "--json"]));
    serde_json::from_str(&said.out).unwrap_or_default()
}

/// Waits until others reach a provider: through both relays, or directly.
fn reached(provider: &mut Provider) -> Result<(), LabError> {
    let begun = Instant::now();
    loop {
        let status = status(&provider.serving);
        let told = status["listening"].as_array().into_iter().flatten();
        let outside: Vec<String> = told
            .filter_map(Value::as_str)
            .filter(|address| address.starts_with("/ip4/198.18."))
            .map(str::to_owned)
            .collect();
        let relayed = outside
            .iter()
            .filter(|address| address.contains("/p2p-circuit"))
            .count();
        if relayed >= RELAYS.len() || outside.len() > relayed {
            eprintln!("{}: {}", provider.name, outside.join(", "));
            provider.addresses = outside;
            return Ok(());
        }
        if begun.elapsed() > READY {
            return Err(LabError::Wrong(format!(
                "nobody reaches the provider behind a {} router: {}",
                provider.name, status["reach"]
            )));
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

fn asker(
    switch: &mut Switch,
    outside: Ipv4Addr,
    kind: Option<Kind>,
) -> Result<(Port, Namespace), LabError> {
    let nat = kind.map(|kind| Nat::new(kind, outside));
    let [_, _, third, fourth] = outside.octets();
    let inside = if nat.is_some() {
        Ipv4Addr::new(192, 168, third, fourth + 1)
    } else {
        outside
    };
    switch
        .attach(inside, line(), nat)
        .map_err(LabError::system("no namespace for who asks"))
}

/// An answer: whole, with its longest pause and its tokens; or why it is not.
type Outcome = Result<(Duration, Faults), String>;

struct Asked {
    outcome: Outcome,
    /// Whether the provider saw the asker directly in the end; `None`: it did not see it at all.
    direct: Option<bool>,
}

/// Asks one provider once. `disturb` is called once, in the middle.
fn ask(
    namespace: &Namespace,
    provider: &mut Provider,
    reference: &Reference,
    disturb: impl FnOnce(&Provider),
) -> Result<Asked, LabError> {
    let (peers, prompt) = (provider.addresses.clone(), reference.question);
    let tokens = reference.ids.len() as u32;
    let folder = matrix::abroad();
    for other in &provider.others {
        let mut command = folder.decentralgpt();
        let said = decentralgpt_tests::run(command.args(["peers", "block", other]));
        if said.code() != Some(0) {
            return Err(LabError::Wrong(said.err));
        }
    }
    let asker = namespace
        .run(move || {
            let question = Question {
                peers: &peers,
                prompt,
                tokens,
            };
            Asker::start(folder, &question)
        })
        .map_err(LabError::system("a program does not ask in its namespace"))?;
    let begun = Instant::now();
    let mut disturb = Some(disturb);
    let (mut looked, mut direct) = (false, None);
    while !asker.ended() {
        let progress = asker.progress();
        if progress.tokens >= DISTURB_AFTER
            && let Some(disturb) = disturb.take()
        {
            disturb(provider);
        }
        if progress.tokens >= LOOK_AFTER && !looked {
            looked = true;
            direct = sees_directly(provider);
        }
        if begun.elapsed() > PATIENCE {
            // One that ends just now is as good.
            let _ = process::signal(asker.id, libc::SIGKILL);
        }
        std::thread::sleep(LOOK);
    }
    let outcome = match asker.answer() {
        Err(error) => Err(error.to_string()),
        Ok(answer) => answer
            .check(reference)
            .map(|faults| (answer.progress.longest_gap, faults))
            .map_err(|error| error.to_string()),
    };
    Ok(Asked { outcome, direct })
}

/// Whether the newest peer of a provider is connected without a relay.
fn sees_directly(provider: &mut Provider) -> Option<bool> {
    let status = status(&provider.serving);
    let mut direct = None;
    for peer in status["peers"].as_array().into_iter().flatten() {
        let id = peer["id"].as_str().unwrap_or_default().to_owned();
        if peer["asks"] == true && provider.known.insert(id) {
            direct = Some(peer["relayed"] == false);
        }
    }
    direct
}

/// In each of these, the relay that carries an answer dies in its middle.
fn deaths(
    worlds: &mut [World],
    references: &[Reference],
    figures: &mut Figures,
) -> Result<Faults, LabError> {
    let mut faults = Faults::default();
    let (mut pauses, mut lost) = (Vec::new(), 0_usize);
    for (world, reference) in worlds.iter_mut().zip(references.iter().cycle()) {
        match death(world, reference)? {
            None => figures.skip("relay death (an answer went through no relay)"),
            Some(Ok((pause, found))) => {
                faults.add(found);
                pauses.push(pause.as_secs_f64());
            }
            Some(Err(why)) => {
                eprintln!("relay death: {why}");
                lost += 1;
            }
        }
    }
    let count = |work: &str, number: usize| Row::new(work, "count", number as f64);
    figures.push(count("rescues.relay_death", pauses.len()));
    figures.push(count("answers_lost.relay_death", lost).goal("<= 0"));
    if let Some(p95) = quantile(&pauses, 0.95) {
        figures.push(Row::new("rescue_p95.relay_death", "s", p95).goal("<= 3"));
    }
    Ok(faults)
}

/// The relay that carries an answer dies in its middle; the other one lives. `None`: it went through none.
fn death(world: &mut World, reference: &Reference) -> Result<Option<Outcome>, LabError> {
    eprintln!("a relay dies");
    let outside = Ipv4Addr::new(198, 18, 30, 1);
    let (port, namespace) = asker(&mut world.switch, outside, Some(Kind::Symmetric))?;
    let Some(provider) = world.providers.last_mut() else {
        return Ok(None);
    };
    let (switch, relays) = (&world.switch, &world.relays);
    let mut died = false;
    let asked = ask(&namespace, provider, reference, |_| {
        if let Some(relay) = carrying(switch, port, relays) {
            switch.cut(relay, true);
            died = true;
        }
    })?;
    died &= asked.direct != Some(true);
    Ok(died.then_some(asked.outcome))
}

/// The relay that the answer goes through: there may be a circuit through each, and most bytes pass the one that is used. `None`:
/// nothing passes either.
fn carrying(switch: &Switch, asker: Port, relays: &[Relay]) -> Option<Port> {
    let moved = |relay: &Relay| switch.between(asker, relay.port);
    let before: Vec<u64> = relays.iter().map(moved).collect();
    std::thread::sleep(LISTEN);
    relays
        .iter()
        .zip(before)
        .map(|(relay, before)| (relay, moved(relay) - before))
        .filter(|(_, bytes)| *bytes > 0)
        .max_by_key(|(_, bytes)| *bytes)
        .map(|(relay, _)| relay.port)
}

/// The cells of the matrix that are about relays, without the others.
///
/// # Errors
/// As [`run`].
pub fn alone(starter: &Path) -> Result<Figures, LabError> {
    let mut figures = Figures::default();
    let ready = Ready::of(starter)?;
    let references = {
        let undisturbed = matrix::here(starter, &ready)?;
        reference::references(starter, &undisturbed, TOKENS)?
    };
    run(starter, &ready, &references, &mut figures)?;
    Ok(figures)
}
