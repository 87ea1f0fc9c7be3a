//! The scenario with real nodes in one process: the product's whole network, every protocol and limit of it, over wires with a delay.
//!
//! Bytes travel, and searches look at the time, by a clock that goes on whenever nothing is left to compute: what is measured is the wires'
//! delay and the nodes' decisions, however busy the machine is.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use network::{
    Inbound, Network, NetworkOptions, ReachPolicy, RelayClient, RelayServer, Role,
    lab::{self, Clock, Counts, QUERY, Wires},
};
use protocol::{
    HeadDigest, ModelRef, NetworkId, Signer,
    offer::{Offer, SignedEnvelope},
    price::Prices,
};
use tokio::task::JoinSet;

use super::{
    PUBLISH_EVERY, SEARCH_EVERY,
    outcome::{Found, Run},
    scenario::{Machine, NETWORK, Scenario},
    unix_ms,
};
use crate::error::LabError;

/// After the last walk has had its time, records and offers are still on their way.
const SETTLE: Duration = Duration::from_secs(3);
/// How long an offer holds: longer than a run that counts.
const OFFER_LIVES_MS: u64 = 25 * 60 * 1000;
/// How often a node looks at its walks and searches.
const TICK: Duration = Duration::from_secs(1);

/// Runs the whole scenario; who wants a few offers wants so many.
///
/// # Errors
/// [`LabError`] when a node does not start.
pub fn run(scenario: &Scenario, enough: usize) -> Result<Run, LabError> {
    let wires = Wires::default();
    let clock = wires.clock.clone();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || clock.jump())
        .build()
        .map_err(LabError::system("no runtime for the nodes"))?
        .block_on(whole(scenario, &wires, enough))
}

struct Node {
    network: Network,
    counts: Arc<Counts>,
    // What others ask of it goes nowhere, as long as there is a queue for it.
    _inbound: Inbound,
}

type Nodes = HashMap<usize, Node>;

async fn whole(scenario: &Scenario, wires: &Wires, enough: usize) -> Result<Run, LabError> {
    let nodes = start(scenario, wires).await?;
    let asked = || -> Vec<u64> {
        (0..scenario.machines.len())
            .map(|number| nodes.get(&number).map_or(0, |node| node.counts.all()))
            .collect()
    };
    let begun = asked();
    // Walks end by the clock of the wires, which only these looks tell the nodes.
    let mut looks = JoinSet::new();
    for provider in &scenario.providers {
        let machine = &scenario.machines[*provider];
        if let Some(node) = nodes.get(provider) {
            let offer = offer(scenario, machine)?;
            looks.spawn(look(node.network.clone(), wires.clock.clone()));
            node.network.set_offers(vec![offer]).await;
        }
        wires.clock.sleep(PUBLISH_EVERY).await;
    }
    wires.clock.sleep(QUERY + SETTLE).await;
    drop(looks);
    let published = asked();
    let (few, greedy) = scenario.askers();
    let found = search(scenario, wires, &nodes, few, enough).await?;
    let searched = asked();
    let all = search(scenario, wires, &nodes, greedy, usize::MAX).await?;
    let searched_all = asked();
    let less = |after: &[u64], before: &[u64]| -> Vec<u64> {
        after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect()
    };
    Ok(Run {
        found,
        all,
        publishing: less(&published, &begun),
        searching: less(&searched, &published),
        searching_all: less(&searched_all, &searched),
    })
}

async fn start(scenario: &Scenario, wires: &Wires) -> Result<Nodes, LabError> {
    for machine in &scenario.machines {
        wires.place(machine.address, machine.way);
    }
    let mut nodes = Nodes::new();
    for (number, machine) in scenario.machines.iter().enumerate() {
        if !machine.alive {
            continue;
        }
        let options = NetworkOptions {
            network_id: NetworkId::new(NETWORK).map_err(wrong)?,
            role: if machine.asks {
                Role::Asking
            } else {
                Role::Serving
            },
            // There are no routers here.
            reach: ReachPolicy {
                upnp: false,
                port_443: false,
                hole_punching: false,
                relay_server: RelayServer::Off,
                relay_client: RelayClient::Off,
                ..ReachPolicy::default()
            },
            ..NetworkOptions::new(machine.seed)
        };
        let started = lab::start(wires, options, machine.address, machine.hostile).await;
        let (network, inbound, counts) = started.map_err(wrong)?;
        let node = Node {
            network,
            counts,
            _inbound: inbound,
        };
        nodes.insert(number, node);
    }
    for (number, node) in &nodes {
        let known: Vec<_> = scenario.machines[*number]
            .knows
            .iter()
            .map(|known| {
                let known = &scenario.machines[*known];
                (known.peer, known.address)
            })
            .collect();
        let took = lab::know(&node.network, &known).await.map_err(wrong)?;
        if took != known.len() {
            return Err(LabError::Wrong(format!(
                "a node took {took} of {} peers into its table",
                known.len()
            )));
        }
    }
    Ok(nodes)
}

fn wrong(error: impl std::fmt::Display) -> LabError {
    LabError::Wrong(error.to_string())
}

fn offer(scenario: &Scenario, machine: &Machine) -> Result<SignedEnvelope, LabError> {
    let signer = Signer::from_seed(machine.seed);
    let now = unix_ms();
    let offer = Offer {
        network: NetworkId::new(NETWORK).map_err(wrong)?,
        peer: machine.peer,
        addrs: vec![Bytes::from(lab::address(machine.address))],
        model: ModelRef {
            digest: scenario.model,
            head_len: 1 << 20,
            head_sha256: HeadDigest::new([7; 32]),
        },
        quant: "Q4_0".to_owned(),
        ctx_max: 4096,
        out_max: 1024,
        parallel_slots: 1,
        features: Vec::new(),
        prices: Prices::default(),
        payment: None,
        binding: None,
        prefill_tps: 500,
        decode_tps: 30,
        queue_depth: 0,
        queue_max: 4,
        region: String::new(),
        software: "lab".to_owned(),
        issued_unix_ms: now,
        expires_unix_ms: now + OFFER_LIVES_MS,
        seq: 1,
        engine_class: String::new(),
        free_tokens: 1024,
        proto_min: 1,
        proto_max: 1,
        vrf_key: None,
    };
    Ok(offer.sign(&signer))
}

async fn search(
    scenario: &Scenario,
    wires: &Wires,
    nodes: &Nodes,
    clients: &[usize],
    enough: usize,
) -> Result<Vec<Found>, LabError> {
    let mut searching = JoinSet::new();
    for (order, client) in clients.iter().enumerate() {
        let Some(node) = nodes.get(client) else {
            continue;
        };
        let (network, model, clock) = (node.network.clone(), scenario.model, wires.clock.clone());
        searching.spawn(async move {
            let begun = clock.now();
            let looks = tokio::spawn(look(network.clone(), clock.clone()));
            let mut offers = network.find_offers(Some(model), enough).await;
            let (mut times, mut peers) = (Vec::new(), Vec::new());
            while let Some(found) = offers.recv().await {
                times.push(clock.now() - begun);
                peers.push(found.offer.peer);
            }
            looks.abort();
            (order, times, peers)
        });
        wires.clock.sleep(SEARCH_EVERY).await;
    }
    let mut found = Vec::new();
    while let Some(joined) = searching.join_next().await {
        let (order, offers, peers) =
            joined.map_err(|_| LabError::Wrong("a search ended early".to_owned()))?;
        let providers: HashSet<usize> = peers
            .iter()
            .filter_map(|peer| scenario.number(peer))
            .collect();
        found.push((order, Found { offers, providers }));
    }
    found.sort_by_key(|(order, _)| *order);
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

/// Has a node look at its searches each second of the clock; its own ticks are the system's.
async fn look(network: Network, clock: Clock) {
    while lab::tick(&network).await.is_ok() {
        clock.sleep(TICK).await;
    }
}
