//! Who is there, how far away, who is gone, and who knows whom: the same for the simulator and for the real nodes.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use network::lab::{self, Key};
use protocol::{ModelDigest, PeerId};

use crate::{error::LabError, switch::link::Random};

/// The /24 of an address.
pub type Site = [u8; 3];

/// Peers of one bucket of a routing table.
const BUCKET: usize = 20;
/// Peers of one /24 in one bucket, and in the whole table: the product's own limits.
const PER_SITE_AND_BUCKET: usize = 2;
const PER_SITE: usize = 8;
/// One way from a machine to the middle, in milliseconds: between two of them a round trip of 40 to 240, 140 on average.
const WAY_MS: (u64, u64) = (10, 60);
/// Machines that an attacker puts into one /24.
const SYBILS_PER_SITE: usize = 64;
/// Identities that an attacker tries for each one that it keeps. More is a matter of minutes for it, and moves its machines nearer
/// to the keys than the honest ones by one more bit each time it is doubled.
const GROUND: usize = 64;
/// The name of the network, which the keys depend on.
pub const NETWORK: &str = "decentralgpt/lab";

/// How large, and how bad.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Machines, without attackers.
    pub nodes: usize,
    /// Those that routing tables name and that are gone.
    pub stale: f64,
    /// Machines that provide the model, all of them there.
    pub providers: usize,
    /// Machines that only look for it, each alone, besides the nodes: nobody's table names them.
    pub clients: usize,
    /// Attackers, as a share of the nodes, ground to stand next to the model's keys.
    pub sybils: f64,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

/// One machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What its key comes of.
    pub seed: [u8; 32],
    /// Who.
    pub peer: PeerId,
    /// Where, in the table's space.
    pub place: [u8; 32],
    /// Where, in the network.
    pub address: Ipv4Addr,
    /// How far from the middle, one way.
    pub way: Duration,
    /// Whether it answers.
    pub alive: bool,
    /// It takes records and forgets them.
    pub hostile: bool,
    /// It only asks: it answers no routing queries, and nobody dials it.
    pub asks: bool,
    /// Whom its routing table names.
    pub knows: Vec<usize>,
}

impl Machine {
    /// The /24 of its address.
    #[must_use]
    pub fn site(&self) -> Site {
        let [a, b, c, _] = self.address.octets();
        [a, b, c]
    }
}

/// Everything that is given.
#[derive(Debug)]
pub struct Scenario {
    /// How it was made.
    pub size: Size,
    /// All machines.
    pub machines: Vec<Machine>,
    /// Who provides the model.
    pub providers: Vec<usize>,
    /// Who looks for it.
    pub clients: Vec<usize>,
    /// The model.
    pub model: ModelDigest,
    /// When it is.
    pub unix_ms: u64,
    by_peer: HashMap<PeerId, usize>,
}

impl Scenario {
    /// Makes one, for the keys of this day; the same size makes the same one again.
    ///
    /// # Errors
    /// [`LabError::Wrong`]: a seed gives no key.
    pub fn new(size: Size, unix_ms: u64) -> Result<Self, LabError> {
        let mut random = Random::new(size.seed);
        let model = ModelDigest::new([5; 32]);
        let mut machines = Vec::new();
        for number in 0..size.nodes {
            machines.push(machine(&mut random, number)?);
        }
        let gone = (size.nodes as f64 * size.stale) as usize;
        // The first ones, so that nobody who is gone provides.
        for machine in &mut machines[..gone] {
            machine.alive = false;
        }
        let providers: Vec<usize> = (gone..gone + size.providers).collect();
        let targets: Vec<[u8; 32]> = lab::keys_today(NETWORK, &model, unix_ms)
            .iter()
            .map(lab::place_of_key)
            .collect();
        let sybils = (size.nodes as f64 * size.sybils) as usize;
        for number in 0..sybils {
            machines.push(sybil(&mut random, size.nodes, number, &targets)?);
        }
        let nodes = machines.len();
        for number in 0..size.clients {
            let mut client = machine(&mut random, nodes + number)?;
            client.asks = true;
            machines.push(client);
        }
        let mut scenario = Self {
            size,
            unix_ms,
            by_peer: machines
                .iter()
                .enumerate()
                .map(|(number, machine)| (machine.peer, number))
                .collect(),
            clients: (nodes..machines.len()).collect(),
            machines,
            providers,
            model,
        };
        scenario.acquaint(&mut random);
        Ok(scenario)
    }

    /// The number of a peer.
    #[must_use]
    pub fn number(&self, peer: &PeerId) -> Option<usize> {
        self.by_peer.get(peer).copied()
    }

    /// The keys under which a provider says that it stands.
    #[must_use]
    pub fn keys_of(&self, provider: usize) -> Vec<Key> {
        let peer = &self.machines[provider].peer;
        lab::keys_of(NETWORK, peer, self.model, self.unix_ms)
    }

    /// The keys of today that a search looks under, in an order of its own.
    #[must_use]
    pub fn plan(&self) -> Vec<Key> {
        lab::keys_today(NETWORK, &self.model, self.unix_ms)
    }

    /// The clients that want a few offers, and those that want every one: a fifth of them.
    #[must_use]
    pub fn askers(&self) -> (&[usize], &[usize]) {
        let greedy = self.clients.len() / 5;
        self.clients.split_at(self.clients.len() - greedy)
    }

    /// Whether a machine provides the model.
    #[must_use]
    pub fn provides(&self, machine: usize) -> bool {
        let gone = self.providers.first().copied().unwrap_or_default();
        (gone..gone + self.providers.len()).contains(&machine)
    }

    /// The way between two machines, one way.
    #[must_use]
    pub fn way(&self, one: usize, other: usize) -> Duration {
        self.machines[one].way + self.machines[other].way
    }

    /// Fills each routing table from all that there are: for each distance, up to a bucket's worth by chance.
    fn acquaint(&mut self, random: &mut Random) {
        let mut sorted: Vec<usize> = (0..self.machines.len())
            .filter(|number| !self.machines[*number].asks)
            .collect();
        sorted.sort_by_key(|number| self.machines[*number].place);
        let places: Vec<[u8; 32]> = sorted
            .iter()
            .map(|number| self.machines[*number].place)
            .collect();
        for number in 0..self.machines.len() {
            let place = self.machines[number].place;
            let mut knows = Vec::new();
            let mut sites: HashMap<Site, usize> = HashMap::new();
            for bit in 0..256 {
                let (low, high) = sibling(&place, bit);
                let from = places.partition_point(|one| *one < low);
                let until = places.partition_point(|one| *one <= high);
                self.fill(&sorted[from..until], &mut knows, &mut sites, random);
                let (low, high) = within(&place, bit + 1);
                let from = places.partition_point(|one| *one < low);
                let until = places.partition_point(|one| *one <= high);
                // Nobody is left but itself, and not even that where it is in no table.
                if until - from <= usize::from(!self.machines[number].asks) {
                    break;
                }
            }
            self.machines[number].knows = knows;
        }
    }

    fn fill(
        &self,
        choice: &[usize],
        knows: &mut Vec<usize>,
        sites: &mut HashMap<Site, usize>,
        random: &mut Random,
    ) {
        let mut left: Vec<usize> = choice.to_vec();
        let mut here: HashMap<Site, usize> = HashMap::new();
        let mut taken = 0;
        while taken < BUCKET && !left.is_empty() {
            let chosen = left.swap_remove(random.below(left.len()));
            let site = self.machines[chosen].site();
            let in_table = sites.entry(site).or_default();
            let in_bucket = here.entry(site).or_default();
            if *in_table >= PER_SITE || *in_bucket >= PER_SITE_AND_BUCKET {
                continue;
            }
            *in_table += 1;
            *in_bucket += 1;
            taken += 1;
            knows.push(chosen);
        }
    }
}

fn machine(random: &mut Random, number: usize) -> Result<Machine, LabError> {
    let (seed, peer) = identity(random)?;
    let (least, most) = WAY_MS;
    let micros = (least * 1000) as f64 + random.share() * ((most - least) * 1000) as f64;
    Ok(Machine {
        seed,
        place: lab::place_of(&peer).unwrap_or_default(),
        peer,
        // A /24 each, from 20.0.0.0 on.
        address: Ipv4Addr::from(0x1400_0001 + ((number as u32) << 8)),
        way: Duration::from_micros(micros as u64),
        alive: true,
        hostile: false,
        asks: false,
        knows: Vec::new(),
    })
}

/// An attacker's machine: of many identities the one nearest to any of the keys.
fn sybil(
    random: &mut Random,
    nodes: usize,
    number: usize,
    targets: &[[u8; 32]],
) -> Result<Machine, LabError> {
    // Addresses from 60.0.0.0 on, a few to each /24.
    let mut best = machine(random, nodes)?;
    let (site, in_site) = (number / SYBILS_PER_SITE, number % SYBILS_PER_SITE);
    best.address = Ipv4Addr::from(0x3c00_0001 + ((site as u32) << 8) + in_site as u32);
    best.hostile = true;
    let nearest = |place: &[u8; 32]| targets.iter().map(|target| distance(place, target)).min();
    let mut least = nearest(&best.place);
    for _ in 0..GROUND {
        let (seed, peer) = identity(random)?;
        let Some(place) = lab::place_of(&peer) else {
            continue;
        };
        let found = nearest(&place);
        if found < least {
            (best.seed, best.peer, best.place, least) = (seed, peer, place, found);
        }
    }
    Ok(best)
}

fn identity(random: &mut Random) -> Result<([u8; 32], PeerId), LabError> {
    let mut seed = [0; 32];
    for part in seed.chunks_mut(8) {
        part.copy_from_slice(&random.bits().to_le_bytes());
    }
    let peer = lab::peer_of(seed).map_err(|error| LabError::Wrong(error.to_string()))?;
    Ok((seed, peer))
}

/// By exclusive or, as Kademlia measures.
#[must_use]
pub fn distance(one: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// First and last place that share the first `bits` bits.
fn within(place: &[u8; 32], bits: usize) -> ([u8; 32], [u8; 32]) {
    let (mut low, mut high) = (*place, *place);
    for bit in bits..256 {
        let mask = 0x80 >> (bit % 8);
        low[bit / 8] &= !mask;
        high[bit / 8] |= mask;
    }
    (low, high)
}

/// First and last place that share the bits before this one and differ in it.
fn sibling(place: &[u8; 32], bit: usize) -> ([u8; 32], [u8; 32]) {
    let mut other = *place;
    other[bit / 8] ^= 0x80 >> (bit % 8);
    within(&other, bit + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_000 * 24 * 60 * 60 * 1000 + 12 * 60 * 60 * 1000;
    const SMALL: Size = Size {
        nodes: 300,
        stale: 0.25,
        providers: 20,
        clients: 10,
        sybils: 0.2,
        seed: 1,
    };

    #[test]
    fn a_scenario_is_as_it_was_asked_for_and_the_same_again() {
        let one = Scenario::new(SMALL, NOON).unwrap();
        assert_eq!(one.machines.len(), 370, "nodes, attackers and clients");
        let gone = one.machines.iter().filter(|machine| !machine.alive);
        assert_eq!(gone.count(), 75);
        assert!(
            one.providers
                .iter()
                .all(|number| one.machines[*number].alive)
        );
        let again = Scenario::new(SMALL, NOON).unwrap();
        assert!(
            one.machines
                .iter()
                .zip(&again.machines)
                .all(|(a, b)| a.peer == b.peer && a.knows == b.knows)
        );
    }

    #[test]
    fn tables_hold_whoever_is_nearest() {
        let size = Size {
            sybils: 0.0,
            ..SMALL
        };
        let scenario = Scenario::new(size, NOON).unwrap();
        for (number, machine) in scenario.machines.iter().enumerate() {
            let by_distance =
                |other: &usize| distance(&machine.place, &scenario.machines[*other].place);
            let nearest = (0..scenario.machines.len())
                .filter(|other| *other != number && !scenario.machines[*other].asks)
                .min_by_key(by_distance)
                .unwrap();
            assert!(machine.knows.contains(&nearest));
            assert!(!machine.knows.contains(&number));
        }
    }

    #[test]
    fn an_attacker_is_nearer_to_the_keys_and_holds_few_places() {
        let scenario = Scenario::new(SMALL, NOON).unwrap();
        let targets: Vec<_> = scenario.plan().iter().map(lab::place_of_key).collect();
        let nearest = |machine: &Machine| {
            targets
                .iter()
                .map(|target| distance(&machine.place, target))
                .min()
                .unwrap()
        };
        let (bad, good): (Vec<_>, Vec<_>) = scenario
            .machines
            .iter()
            .filter(|machine| !machine.asks)
            .partition(|machine| machine.hostile);
        let middle = |mut all: Vec<[u8; 32]>| {
            all.sort();
            all[all.len() / 2]
        };
        assert!(
            middle(bad.into_iter().map(nearest).collect())
                < middle(good.into_iter().map(nearest).collect())
        );
        for machine in &scenario.machines {
            let hostile = machine
                .knows
                .iter()
                .filter(|known| scenario.machines[**known].hostile);
            assert!(hostile.count() <= PER_SITE, "one /24 fills a table");
        }
    }
}
