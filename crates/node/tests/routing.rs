//! The choice of peers over many jobs, in virtual time: clients that know only offers and what they measured themselves
//! share providers, some of which are dead, slow, lying or new.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;

use node::route::{
    Bans, Claims, Dice, Known, Observation, Outcome, Preset, Quoted, Record, Rules, VERSION, Want,
    shortlist,
};
use protocol::{ModelDigest, PeerId, price::Prices};

const NOW: u64 = 1_800_000_000_000;
const N_IN: u32 = 500;
const N_OUT: u32 = 300;
/// Offers are this old: what they say of a queue is stale.
const OFFER_AGE_S: f64 = 240.0;

/// A provider as it truly is.
#[derive(Clone, Copy)]
struct Provider {
    claimed_tps: u32,
    true_tps: f64,
    /// Share of jobs that break off.
    breaks: f64,
    /// It answers nobody.
    dead: bool,
    /// It promises the first token at once, and gives it this much later.
    promises_nothing: bool,
    slots: u32,
}

const HONEST: Provider = Provider {
    claimed_tps: 40,
    true_tps: 28.0,
    breaks: 0.0,
    dead: false,
    promises_nothing: false,
    slots: 2,
};

/// What one client has seen.
#[derive(Default)]
struct Client {
    records: BTreeMap<PeerId, Record>,
    bans: Bans,
}

struct World {
    providers: Vec<Provider>,
    clients: Vec<Client>,
    /// When each slot of each provider is free again, seconds.
    busy_until: Vec<Vec<f64>>,
    dice: Dice,
    preset: Preset,
    explore: bool,
    /// Jobs begun at each provider, failed ones included.
    asked: Vec<u32>,
    done: u32,
    waited_s: f64,
}

fn id(n: usize) -> PeerId {
    let mut key = [9; 32];
    key[..8].copy_from_slice(&(n as u64).to_le_bytes());
    PeerId::from_public_key(&key)
}

impl World {
    fn new(providers: Vec<Provider>, clients: usize, seed: u64) -> Self {
        Self {
            busy_until: providers
                .iter()
                .map(|provider| vec![0.0; provider.slots as usize])
                .collect(),
            asked: vec![0; providers.len()],
            providers,
            clients: (0..clients).map(|_| Client::default()).collect(),
            dice: Dice::new(seed),
            preset: Preset::Balanced,
            explore: true,
            done: 0,
            waited_s: 0.0,
        }
    }

    /// Seconds until a provider would begin.
    fn wait_s(&self, at: usize, now_s: f64) -> f64 {
        let first = self.busy_until[at]
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        (first - now_s).max(0.0)
    }

    fn known(&self, client: usize, now_ms: u64) -> Vec<Known> {
        self.providers
            .iter()
            .enumerate()
            .map(|(at, provider)| {
                let peer = id(at);
                let seen = &self.clients[client];
                Known {
                    peer,
                    claims: Claims {
                        model: ModelDigest::new([1; 32]),
                        ctx_max: 8192,
                        out_max: 2048,
                        slots: provider.slots,
                        // Everybody reads the same old offer.
                        queue_depth: 0,
                        prefill_tps: 1000,
                        decode_tps: provider.claimed_tps,
                        prices: Prices::FREE,
                        region: String::new(),
                        features: Vec::new(),
                        versions: (VERSION, VERSION),
                        expires_unix_ms: u64::MAX,
                    },
                    record: seen
                        .records
                        .get(&peer)
                        .copied()
                        .unwrap_or_default()
                        .at(now_ms),
                    rtt_ms: Some(40.0),
                    group: None,
                    wallet: None,
                    blocked: false,
                    payable: true,
                    standing: seen.bans.standing(&peer, now_ms),
                }
            })
            .collect()
    }

    /// One client asks at this moment, as the program does: quotes, then one peer after the other.
    fn ask(&mut self, client: usize, now_s: f64) {
        let now_ms = NOW + (now_s * 1000.0) as u64;
        let want = Want {
            model: ModelDigest::new([1; 32]),
            n_in: N_IN,
            max_out: 512,
            expected_out: N_OUT,
            features: Vec::new(),
            rules: Rules::default(),
            preset: self.preset,
            sticky: None,
            explore: self.explore,
        };
        let known = self.known(client, now_ms);
        let list = shortlist(&want, &known, &mut self.dice, now_ms);
        let draw = list.draw(&mut self.dice);
        let mut quotes = BTreeMap::new();
        for peer in &draw.quoted {
            let at = self.index(peer);
            let provider = self.providers[at];
            if provider.dead {
                self.observe(client, at, Observation::of(Outcome::Failed), now_ms);
                continue;
            }
            self.clients[client].bans.answered(peer, now_ms);
            let wait = if provider.promises_nothing {
                0.0
            } else {
                self.wait_s(at, now_s)
            };
            let quote = Quoted {
                eta_first_token_ms: ((wait + 0.5) * 1000.0) as u32,
                decode_tps: provider.claimed_tps,
                prices: Prices::FREE,
                cached_prefix_tokens: 0,
            };
            quotes.insert(*peer, quote);
        }
        for peer in list.settle(&draw, &quotes) {
            let at = self.index(&peer);
            self.asked[at] += 1;
            if self.job(client, at, now_s, quotes.get(&peer)) {
                return;
            }
        }
    }

    /// Whether the job came to its end there.
    fn job(&mut self, client: usize, at: usize, now_s: f64, quote: Option<&Quoted>) -> bool {
        let provider = self.providers[at];
        let now_ms = NOW + (now_s * 1000.0) as u64;
        if provider.dead || self.dice.unit() < provider.breaks {
            self.observe(client, at, Observation::of(Outcome::Failed), now_ms);
            return false;
        }
        let wait = self.wait_s(at, now_s);
        let first_s = wait + 0.5;
        let end = now_s + first_s + f64::from(N_OUT) / provider.true_tps;
        let slot = (0..self.busy_until[at].len())
            .min_by(|a, b| self.busy_until[at][*a].total_cmp(&self.busy_until[at][*b]))
            .unwrap();
        self.busy_until[at][slot] = end;
        self.done += 1;
        self.waited_s += wait;
        let seen = Observation {
            rtt_ms: Some(40.0),
            late_ms: quote.map(|quote| first_s * 1000.0 - f64::from(quote.eta_first_token_ms)),
            decode_tps: Some(provider.true_tps),
            ..Observation::of(Outcome::Good)
        };
        self.observe(client, at, seen, now_ms);
        true
    }

    fn observe(&mut self, client: usize, at: usize, seen: Observation, now_ms: u64) {
        let client = &mut self.clients[client];
        let peer = id(at);
        client
            .records
            .entry(peer)
            .or_default()
            .observe(&seen, now_ms);
        match seen.outcome {
            Outcome::Failed | Outcome::Lied => client.bans.failed(&peer, now_ms),
            Outcome::Good => client.bans.succeeded(&peer),
            Outcome::Neutral => {}
        }
    }

    fn index(&self, peer: &PeerId) -> usize {
        (0..self.providers.len())
            .find(|at| id(*at) == *peer)
            .unwrap()
    }

    /// Clients take turns, one job every `every_s` seconds, `jobs` in all.
    fn run(&mut self, jobs: usize, every_s: f64) {
        for n in 0..jobs {
            self.ask(n % self.clients.len(), n as f64 * every_s);
        }
    }

    fn share(&self, at: usize) -> f64 {
        f64::from(self.asked[at]) / f64::from(self.asked.iter().sum::<u32>())
    }
}

#[test]
fn equal_providers_get_equal_work() {
    let mut world = World::new(vec![HONEST; 8], 40, 1);
    world.run(8_000, 2.0);
    let most = (0..8).map(|at| world.share(at)).fold(0.0, f64::max);
    let least = (0..8).map(|at| world.share(at)).fold(1.0, f64::min);
    println!("shares of equal providers: {least:.3} to {most:.3}, 0.125 each would be even");
    assert!(
        most < 1.5 * 0.125 && least > 0.5 * 0.125,
        "{:?}",
        world.asked
    );
    assert_eq!(world.done, 8_000);
}

#[test]
fn the_herd_is_spread_although_offers_are_stale() {
    // Enough work for 70 % of all slots, from clients that have met nobody and all read the same offers.
    let spread = |clients: usize| {
        let mut world = World::new(vec![HONEST; 16], clients, 2);
        let job_s = 0.5 + f64::from(N_OUT) / HONEST.true_tps;
        let jobs = 4_000;
        assert!(jobs as f64 * job_s > OFFER_AGE_S);
        world.run(jobs, job_s / (16.0 * 2.0 * 0.7));
        world.waited_s / f64::from(world.done)
    };
    let waited = spread(4_000);
    println!("mean wait in queues: {waited:.2} s");
    // All to the one whose offer reads best would queue without end; by chance alone, without quotes, M/M/c gives more.
    assert!(waited < 2.0, "{waited}");
}

#[test]
fn a_dead_peer_is_left() {
    let mut dead = HONEST;
    dead.dead = true;
    dead.claimed_tps = 80;
    let mut world = World::new(vec![dead, HONEST, HONEST, HONEST], 1, 3);
    world.run(20, 20.0);
    let begun = world.asked[0];
    world.asked = vec![0; 4];
    world.run(400, 20.0);
    println!(
        "jobs begun at a dead peer: {begun} of the first 20, then {} of 400",
        world.asked[0]
    );
    assert!(world.share(0) < 0.01, "{:?}", world.asked);
    assert_eq!(world.done, 420);
}

#[test]
fn a_peer_that_lies_about_its_speed_is_left() {
    for claimed in [100, 1_000, u32::MAX] {
        let mut liar = HONEST;
        liar.claimed_tps = claimed;
        liar.true_tps = 4.0;
        liar.promises_nothing = true;
        let mut world = World::new(vec![liar, HONEST, HONEST, HONEST], 1, 4);
        world.preset = Preset::Fast;
        world.run(200, 30.0);
        println!(
            "a peer that claims {claimed}/s and gives 4: {} of 200 jobs",
            world.asked[0]
        );
        assert!(
            world.share(0) < 0.05,
            "claimed {claimed}: {:?}",
            world.asked
        );
    }
}

#[test]
fn a_peer_that_breaks_off_gets_less_the_more_it_does() {
    let share = |breaks: f64| {
        let mut bad = HONEST;
        bad.breaks = breaks;
        let mut world = World::new(vec![bad, HONEST, HONEST, HONEST], 4, 5);
        world.run(2_000, 8.0);
        world.share(0)
    };
    let (never, sometimes, often) = (share(0.0), share(0.2), share(0.7));
    println!(
        "share of a peer that breaks off 0, 20, 70 % of jobs: {never:.3}, {sometimes:.3}, {often:.3}"
    );
    assert!(never > sometimes && sometimes > often && often < 0.1);
}

#[test]
fn a_newcomer_among_known_peers_finds_work_only_by_exploration() {
    let share = |explore| {
        let mut world = World::new(vec![HONEST; 9], 20, 6);
        world.explore = explore;
        // Everybody knows the first eight.
        for client in &mut world.clients {
            for at in 0..8 {
                for _ in 0..30 {
                    let seen = Observation {
                        decode_tps: Some(28.0),
                        ..Observation::of(Outcome::Good)
                    };
                    client
                        .records
                        .entry(id(at))
                        .or_default()
                        .observe(&seen, NOW);
                }
            }
        }
        world.run(4_000, 2.0);
        world.share(8)
    };
    let (with, without) = (share(true), share(false));
    println!(
        "share of a newcomer beside eight known peers: {with:.3} with exploration, {without:.3} without"
    );
    assert!(without == 0.0 && with > 0.03);
}
