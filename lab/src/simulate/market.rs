//! Who gets the jobs: equal providers and clients that choose among them by the product's own rules, in virtual time.
//!
//! Each client knows the providers that its last search brought and what it measured itself. How evenly the jobs spread is the Gini
//! coefficient of what equal machines earn; beside it stands that of a draw by lot, which no rule can be better than. Some providers join
//! later, with the same machine and no record: how long they wait for their first job is the price of coming late.

use std::collections::BTreeMap;

use node::route::{
    Bans, Claims, Dice, Known, Observation, Outcome, Preset, Quoted, Record, Rules, Standing,
    VERSION, Want, shortlist,
};
use protocol::{ModelDigest, PeerId, price::Prices};

use super::outcome::SEARCHES_PER_HOUR;
use crate::{
    figures::{Figures, Row, quantile},
    switch::link::Random,
};

/// Providers from the beginning, and those that join later.
const PROVIDERS: usize = 400;
const NEWCOMERS: usize = 20;
/// Clients, each with a record of its own.
const CLIENTS: usize = 4000;
/// Providers that a search brings to a client: an answer has room for 32 offers.
const KNOWN: usize = 32;
/// Jobs of all clients in an hour: each provider could take ten times its share.
const JOBS_PER_HOUR: usize = 25_600;
const HOUR_S: f64 = 3600.0;
/// In the first hour everybody gets to know somebody. In the second one it is counted, and newcomers are there.
const BEGIN_S: f64 = HOUR_S;
const END_S: f64 = 2.0 * HOUR_S;
/// Unix milliseconds at the beginning.
const NOW: u64 = 1_800_000_000_000;
const N_IN: u32 = 500;
const N_OUT: u32 = 300;
const MAX_OUT: u32 = 512;
const SLOTS: usize = 2;
const CLAIMED_TPS: u32 = 30;
/// Tokens a second of a provider that is alone with its job: they differ from job to job, not from machine to machine.
const TPS: (f64, f64) = (24.0, 32.0);
/// Seconds to the first token, without a queue.
const FIRST_S: f64 = 0.5;

#[derive(Default)]
struct Client {
    known: Vec<usize>,
    searched_s: f64,
    records: BTreeMap<usize, Record>,
    bans: Bans,
}

struct Market {
    peers: Vec<PeerId>,
    busy_until: Vec<[f64; SLOTS]>,
    clients: Vec<Client>,
    dice: Dice,
    random: Random,
    /// Tokens that each provider was paid for while they were counted.
    income: Vec<f64>,
    first_job_s: Vec<Option<f64>>,
}

/// Runs it and says what came of it.
pub fn run(figures: &mut Figures) {
    eprintln!("{CLIENTS} clients share {PROVIDERS} equal providers");
    let mut market = Market::new();
    market.run();
    let income = &market.income[..PROVIDERS];
    let total: f64 = income.iter().sum();
    let lots = by_lot((total / f64::from(N_OUT)) as usize);
    figures.push(Row::new("income_gini", "gini", gini(income)).against("by lot", gini(&lots)));
    let waits: Vec<f64> = market.first_job_s[PROVIDERS..]
        .iter()
        .flatten()
        .map(|at| at - BEGIN_S)
        .collect();
    for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
        if let Some(wait) = quantile(&waits, share) {
            figures.push(Row::new(
                format!("new_provider_first_job_{name}"),
                "s",
                wait,
            ));
        }
    }
    let without = 1.0 - waits.len() as f64 / NEWCOMERS as f64;
    figures.push(Row::new(
        "new_providers_without_job_in_an_hour",
        "part",
        without,
    ));
    eprintln!("{:?}", figures.rows);
    let newcomers: f64 = market.income[PROVIDERS..].iter().sum();
    let share = (newcomers / NEWCOMERS as f64) / (total / PROVIDERS as f64);
    figures.push(Row::new("new_provider_income_first_hour", "x", share));
}

impl Market {
    fn new() -> Self {
        let all = PROVIDERS + NEWCOMERS;
        let peers = (0..all).map(|number| {
            let mut key = [3; 32];
            key[..8].copy_from_slice(&(number as u64).to_le_bytes());
            PeerId::from_public_key(&key)
        });
        Self {
            peers: peers.collect(),
            busy_until: vec![[0.0; SLOTS]; all],
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            dice: Dice::new(11),
            random: Random::new(11),
            income: vec![0.0; all],
            first_job_s: vec![None; all],
        }
    }

    fn run(&mut self) {
        let every = HOUR_S / JOBS_PER_HOUR as f64;
        // Nobody's first search is at the same time.
        for client in 0..CLIENTS {
            self.clients[client].searched_s = -self.random.share() * HOUR_S / SEARCHES_PER_HOUR;
            self.search(client, PROVIDERS);
        }
        let mut now_s = 0.0;
        while now_s < END_S {
            let client = self.random.below(CLIENTS);
            let there = if now_s < BEGIN_S {
                PROVIDERS
            } else {
                PROVIDERS + NEWCOMERS
            };
            if now_s - self.clients[client].searched_s >= HOUR_S / SEARCHES_PER_HOUR {
                self.clients[client].searched_s = now_s;
                self.search(client, there);
            }
            self.ask(client, now_s);
            now_s += every;
        }
    }

    /// Whom a search brings: any of those that are there.
    fn search(&mut self, client: usize, there: usize) {
        let mut all: Vec<usize> = (0..there).collect();
        let mut found = Vec::with_capacity(KNOWN);
        for _ in 0..KNOWN {
            found.push(all.swap_remove(self.random.below(all.len())));
        }
        self.clients[client].known = found;
    }

    fn known(&self, client: usize, now_ms: u64) -> Vec<Known> {
        let client = &self.clients[client];
        let known = |provider: &usize| Known {
            payable: false,
            peer: self.peers[*provider],
            claims: Claims {
                model: ModelDigest::new([1; 32]),
                ctx_max: 8192,
                out_max: 2048,
                slots: SLOTS as u32,
                queue_depth: 0,
                prefill_tps: 1000,
                decode_tps: CLAIMED_TPS,
                prices: Prices::FREE,
                region: String::new(),
                features: Vec::new(),
                versions: (VERSION, VERSION),
                expires_unix_ms: u64::MAX,
            },
            record: client
                .records
                .get(provider)
                .copied()
                .unwrap_or_default()
                .at(now_ms),
            rtt_ms: Some(80.0),
            group: None,
            wallet: None,
            blocked: false,
            standing: client.bans.standing(&self.peers[*provider], now_ms),
        };
        let all = client.known.iter().map(known);
        all.filter(|known| !matches!(known.standing, Standing::Banned { .. }))
            .collect()
    }

    fn wait_s(&self, provider: usize, now_s: f64) -> f64 {
        let first = self.busy_until[provider]
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        (first - now_s).max(0.0)
    }

    fn ask(&mut self, client: usize, now_s: f64) {
        let now_ms = NOW + (now_s * 1000.0) as u64;
        let want = Want {
            model: ModelDigest::new([1; 32]),
            n_in: N_IN,
            max_out: MAX_OUT,
            expected_out: N_OUT,
            features: Vec::new(),
            rules: Rules::default(),
            preset: Preset::Balanced,
            sticky: None,
            explore: true,
        };
        let list = shortlist(&want, &self.known(client, now_ms), &mut self.dice, now_ms);
        let draw = list.draw(&mut self.dice);
        let mut quotes = BTreeMap::new();
        for peer in &draw.quoted {
            self.clients[client].bans.answered(peer, now_ms);
            let Some(provider) = self.number(peer) else {
                continue;
            };
            let quote = Quoted {
                eta_first_token_ms: ((self.wait_s(provider, now_s) + FIRST_S) * 1000.0) as u32,
                decode_tps: CLAIMED_TPS,
                prices: Prices::FREE,
                cached_prefix_tokens: 0,
            };
            quotes.insert(*peer, quote);
        }
        let first = list.settle(&draw, &quotes).first().copied();
        if let Some(provider) = first.and_then(|peer| self.number(&peer)) {
            let quoted = quotes.get(&self.peers[provider]).cloned();
            self.job(client, provider, now_s, quoted.as_ref());
        }
    }

    fn job(&mut self, client: usize, provider: usize, now_s: f64, quoted: Option<&Quoted>) {
        let tps = TPS.0 + self.random.share() * (TPS.1 - TPS.0);
        let first_s = self.wait_s(provider, now_s) + FIRST_S;
        let end = now_s + first_s + f64::from(N_OUT) / tps;
        let slots = &mut self.busy_until[provider];
        if let Some(slot) = slots.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *slot = end;
        }
        self.first_job_s[provider].get_or_insert(now_s);
        if now_s >= BEGIN_S {
            self.income[provider] += f64::from(N_OUT);
        }
        let seen = Observation {
            rtt_ms: Some(80.0),
            late_ms: quoted.map(|quote| first_s * 1000.0 - f64::from(quote.eta_first_token_ms)),
            decode_tps: Some(tps),
            ..Observation::of(Outcome::Good)
        };
        let now_ms = NOW + (now_s * 1000.0) as u64;
        let client = &mut self.clients[client];
        let record = client.records.entry(provider).or_default();
        record.observe(&seen, now_ms);
        client.bans.succeeded(&self.peers[provider]);
    }

    fn number(&self, peer: &PeerId) -> Option<usize> {
        self.peers.iter().position(|other| other == peer)
    }
}

/// As many jobs, each to a provider by lot.
fn by_lot(jobs: usize) -> Vec<f64> {
    let mut random = Random::new(5);
    let mut income = vec![0.0; PROVIDERS];
    for _ in 0..jobs {
        income[random.below(PROVIDERS)] += f64::from(N_OUT);
    }
    income
}

/// 0: all have the same; 1: one has everything.
fn gini(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (count, total) = (sorted.len() as f64, sorted.iter().sum::<f64>());
    let weighted: f64 = sorted
        .iter()
        .zip(1_u32..)
        .map(|(value, rank)| value * f64::from(rank))
        .sum();
    2.0 * weighted / (count * total) - (count + 1.0) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gini_is_nothing_among_equals_and_nearly_one_where_one_has_all() {
        assert!(gini(&[5.0; 100]).abs() < 1e-9);
        let mut one = [0.0; 100];
        one[3] = 7.0;
        assert!((gini(&one) - 0.99).abs() < 1e-9);
        // Of two, one has three quarters.
        assert!((gini(&[1.0, 3.0]) - 0.25).abs() < 1e-9);
    }
}
