//! The scenario in virtual time: one queue of events, no threads, no network.
//!
//! The decisions are the product's (which keys, which records are kept and named, the steps of a search). What is modelled beside the
//! walk is what passes between two nodes: a connection takes one round trip, introductions a second one, and then each asks the other for
//! its offers, as the product does.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use network::lab::{self, CONNECTIONS_OUT, DIALS_OUT, Key, QUERY, Search, Store};

use super::{
    PUBLISH_EVERY, SEARCH_EVERY,
    outcome::Found,
    scenario::{Scenario, distance},
    walk::Walk,
};
use crate::switch::link::Random;

/// How long a dial to nobody takes: the product's patience with a handshake.
pub const NOBODY: Duration = Duration::from_secs(10);
/// Machines that an answer names.
const NAMED: usize = 20;
/// Offers of others in an answer to who asks for no model, and in one to who does.
const GOSSIP: usize = 8;
const OFFERS: usize = 32;
/// Peers that came to a node and that it tries to reach itself.
const VERIFIED: usize = 16;
/// How often a search looks at the time.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// A provider says where it stands.
    Publish(usize),
    /// A client begins to look: which one, and how many offers are enough.
    Begin(usize, usize),
    /// A dial came to its end.
    Dialled { from: usize, to: usize },
    /// Both ends know what the other one is.
    Introduced { from: usize, to: usize },
    /// A node reached one that had come to it.
    Reached { from: usize, to: usize },
    /// A walk's question reaches whom it is for; its answer comes back.
    Asked { to: usize, errand: usize },
    Answered {
        by: usize,
        errand: usize,
        named: Vec<usize>,
        nearer: Vec<usize>,
    },
    /// A record reaches whom it is for.
    Keep { to: usize, errand: usize },
    /// A question for offers reaches whom it is for: of the model, or of anything; its answer comes back.
    Pull { from: usize, to: usize, model: bool },
    Pulled {
        from: usize,
        to: usize,
        offers: Vec<usize>,
    },
    /// A walk has had its time.
    Late(usize),
    /// A search looks at the time.
    Wake(usize),
}

#[derive(Debug)]
struct Errand {
    who: usize,
    key: Key,
    target: [u8; 32],
    walk: Walk,
    /// The search that it is for; else it publishes.
    hunt: Option<usize>,
    done: bool,
}

#[derive(Debug)]
struct Hunt {
    who: usize,
    begun: Duration,
    enough: usize,
    steps: Search,
    over: bool,
    /// From the beginning to each offer.
    offers: Vec<Duration>,
    from: HashSet<usize>,
}

/// What one machine has at hand.
#[derive(Debug, Default)]
struct State {
    store: Option<Store>,
    /// Providers whose offers it has, in order, so that a choice depends on the seed alone.
    offers: BTreeSet<usize>,
    dials: usize,
    /// To whom it opened a connection, the oldest first.
    made: VecDeque<usize>,
    verified: usize,
}

#[derive(Debug, Default)]
struct Link {
    up: bool,
    introduced: bool,
    /// Walks that wait for the connection: who asks whom, for which.
    waiting: Vec<(usize, usize)>,
}

/// See the module.
#[derive(Debug)]
pub struct World<'a> {
    scenario: &'a Scenario,
    now: Duration,
    sequence: u64,
    queue: BinaryHeap<Reverse<(Duration, u64, Happens)>>,
    states: Vec<State>,
    links: HashMap<(usize, usize), Link>,
    errands: Vec<Errand>,
    hunts: Vec<Hunt>,
    random: Random,
    asked: Vec<u64>,
}

impl<'a> World<'a> {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(scenario: &'a Scenario) -> Self {
        let states = scenario.machines.iter().map(|machine| State {
            store: Store::of(&machine.peer),
            ..State::default()
        });
        Self {
            now: Duration::ZERO,
            sequence: 0,
            queue: BinaryHeap::new(),
            states: states.collect(),
            links: HashMap::new(),
            errands: Vec::new(),
            hunts: Vec::new(),
            random: Random::new(scenario.size.seed),
            asked: vec![0; scenario.machines.len()],
            scenario,
        }
    }

    /// Every provider says where it stands, one after the other; until that is over.
    pub fn publish(&mut self) {
        let mut at = self.now;
        for provider in &self.scenario.providers {
            self.happens(at, Happens::Publish(*provider));
            at += PUBLISH_EVERY;
        }
        self.run();
    }

    /// Requests of the table that each machine got since this was asked last.
    pub fn take_asked(&mut self) -> Vec<u64> {
        let none = vec![0; self.asked.len()];
        std::mem::replace(&mut self.asked, none)
    }

    /// These clients search until each has enough, one beginning after the other; until that is over.
    pub fn search(&mut self, clients: &[usize], enough: usize) -> Vec<Found> {
        let first = self.hunts.len();
        let mut at = self.now;
        for client in clients {
            self.happens(at, Happens::Begin(*client, enough));
            at += SEARCH_EVERY;
        }
        self.run();
        self.hunts[first..]
            .iter()
            .map(|hunt| Found {
                offers: hunt.offers.clone(),
                providers: hunt.from.clone(),
            })
            .collect()
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, what))) = self.queue.pop() {
            self.now = at;
            match what {
                Happens::Publish(provider) => {
                    for key in self.scenario.keys_of(provider) {
                        self.set_out(provider, key, None);
                    }
                }
                Happens::Begin(client, enough) => self.begin(client, enough),
                Happens::Dialled { from, to } => self.on_dialled(from, to),
                Happens::Introduced { from, to } => self.on_introduced(from, to),
                Happens::Reached { from, to } => self.exchange(from, to),
                Happens::Asked { to, errand } => self.on_asked(to, errand),
                Happens::Answered {
                    by,
                    errand,
                    named,
                    nearer,
                } => self.on_answered(by, errand, &named, &nearer),
                Happens::Keep { to, errand } => self.on_keep(to, errand),
                Happens::Pull { from, to, model } => self.on_pull(from, to, model),
                Happens::Pulled { from, to, offers } => self.on_pulled(from, to, &offers),
                Happens::Late(errand) => {
                    if !self.errands[errand].done {
                        self.end(errand);
                    }
                }
                Happens::Wake(hunt) => {
                    self.go_on(hunt);
                    if !self.hunts[hunt].over {
                        self.happens(self.now + TICK, Happens::Wake(hunt));
                    }
                }
            }
        }
    }

    fn happens(&mut self, at: Duration, what: Happens) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, what)));
    }

    // Walks.

    fn set_out(&mut self, who: usize, key: Key, hunt: Option<usize>) -> usize {
        let target = lab::place_of_key(&key);
        let nearest = self.nearest(who, &target, who);
        let errand = self.errands.len();
        self.errands.push(Errand {
            who,
            key,
            target,
            walk: Walk::new(&nearest),
            hunt,
            done: false,
        });
        self.happens(self.now + QUERY, Happens::Late(errand));
        self.walk_on(errand);
        errand
    }

    /// Whom a machine would name to another one, nearest to the target first.
    fn nearest(&self, machine: usize, target: &[u8; 32], to: usize) -> Vec<([u8; 32], usize)> {
        let machines = &self.scenario.machines;
        let mut known: Vec<_> = machines[machine]
            .knows
            .iter()
            .filter(|known| **known != to)
            .map(|known| (distance(&machines[*known].place, target), *known))
            .collect();
        if known.len() > NAMED {
            known.select_nth_unstable(NAMED);
            known.truncate(NAMED);
        }
        known.sort_unstable();
        known
    }

    fn walk_on(&mut self, errand: usize) {
        if self.errands[errand].done {
            return;
        }
        let who = self.errands[errand].who;
        let mut refused = Vec::new();
        for to in self.errands[errand].walk.wants() {
            if !self.ask(who, to, errand) {
                refused.push(to);
            }
        }
        for to in &refused {
            self.walk_failed(*to, errand);
        }
        if !refused.is_empty() {
            return self.walk_on(errand);
        }
        if self.errands[errand].walk.over() {
            self.end(errand);
        }
    }

    fn walk_failed(&mut self, machine: usize, errand: usize) {
        let one = &mut self.errands[errand];
        let far = distance(&self.scenario.machines[machine].place, &one.target);
        one.walk.failed(machine, far);
    }

    /// A walk has got where it leads, or has had its time: a record goes to the nearest of those that answered.
    fn end(&mut self, errand: usize) {
        let one = &mut self.errands[errand];
        one.done = true;
        if let Some(hunt) = one.hunt {
            self.hunts[hunt].steps.walked(errand);
            return self.go_on(hunt);
        }
        let (who, nearest) = (one.who, one.walk.nearest());
        for to in nearest {
            let at = self.now + self.scenario.way(who, to);
            self.happens(at, Happens::Keep { to, errand });
        }
    }

    /// Sends a walk's question, over a connection that is there or after a dial. False: no dial is possible.
    fn ask(&mut self, from: usize, to: usize, errand: usize) -> bool {
        let way = self.scenario.way(from, to);
        match self.links.get_mut(&pair(from, to)) {
            Some(link) if link.up => self.happens(self.now + way, Happens::Asked { to, errand }),
            Some(link) => link.waiting.push((to, errand)),
            None => {
                if !self.dial(from, to) {
                    return false;
                }
                if let Some(link) = self.links.get_mut(&pair(from, to)) {
                    link.waiting.push((to, errand));
                }
            }
        }
        true
    }

    fn dial(&mut self, from: usize, to: usize) -> bool {
        let state = &mut self.states[from];
        if state.dials >= DIALS_OUT {
            return false;
        }
        state.dials += 1;
        let way = self.scenario.way(from, to);
        let machine = &self.scenario.machines[to];
        let takes = if machine.alive { 2 * way } else { NOBODY };
        self.links.insert(pair(from, to), Link::default());
        self.happens(self.now + takes, Happens::Dialled { from, to });
        true
    }

    /// One more connection of a machine's own; the oldest goes for it.
    fn makes(&mut self, from: usize, to: usize) {
        let made = &mut self.states[from].made;
        made.push_back(to);
        if made.len() > CONNECTIONS_OUT
            && let Some(oldest) = made.pop_front()
        {
            self.links.remove(&pair(from, oldest));
        }
    }

    fn on_dialled(&mut self, from: usize, to: usize) {
        self.states[from].dials -= 1;
        let way = self.scenario.way(from, to);
        if !self.scenario.machines[to].alive {
            let link = self.links.remove(&pair(from, to)).unwrap_or_default();
            for (machine, errand) in link.waiting {
                self.walk_failed(machine, errand);
                self.walk_on(errand);
            }
            return self.heard(from, to);
        }
        self.makes(from, to);
        let waiting = match self.links.get_mut(&pair(from, to)) {
            Some(link) => {
                link.up = true;
                std::mem::take(&mut link.waiting)
            }
            None => Vec::new(),
        };
        // A walk that ended meanwhile asks nobody any more.
        for (to, errand) in waiting {
            if !self.errands[errand].done {
                self.happens(self.now + way, Happens::Asked { to, errand });
            }
        }
        self.happens(self.now + 2 * way, Happens::Introduced { from, to });
    }

    fn on_introduced(&mut self, from: usize, to: usize) {
        if let Some(link) = self.links.get_mut(&pair(from, to)) {
            link.introduced = true;
        }
        // Who came and routes is tried at its own address.
        let way = self.scenario.way(from, to);
        let comer = &self.scenario.machines[from];
        if !comer.asks && !self.scenario.machines[to].knows.contains(&from) {
            let state = &mut self.states[to];
            if state.verified < VERIFIED {
                state.verified += 1;
                let at = self.now + 4 * way;
                self.happens(at, Happens::Reached { from: to, to: from });
            }
        }
        self.exchange(from, to);
        for hunt in 0..self.hunts.len() {
            if self.hunts[hunt].who == from && !self.hunts[hunt].over {
                let peer = &self.scenario.machines[to].peer;
                if self.hunts[hunt].steps.meets(peer) {
                    self.hunts[hunt].steps.waits_for(peer, self.now);
                    self.pull(from, to, true);
                }
            }
        }
    }

    /// Each asks the other for its offers.
    fn exchange(&mut self, from: usize, to: usize) {
        self.pull(from, to, false);
        self.pull(to, from, false);
    }

    fn on_asked(&mut self, to: usize, errand: usize) {
        self.asked[to] += 1;
        let one = &self.errands[errand];
        let (from, target) = (one.who, one.target);
        let mut named = Vec::new();
        if one.hunt.is_some()
            && let Some(store) = &self.states[to].store
        {
            let answer = store.answer(&one.key);
            named = answer
                .iter()
                .filter_map(|peer| self.scenario.number(peer))
                .filter(|provider| *provider != from)
                .collect();
        }
        let nearer = self
            .nearest(to, &target, from)
            .into_iter()
            .map(|(_, known)| known)
            .collect();
        let at = self.now + self.scenario.way(from, to);
        self.happens(
            at,
            Happens::Answered {
                by: to,
                errand,
                named,
                nearer,
            },
        );
    }

    fn on_answered(&mut self, by: usize, errand: usize, named: &[usize], nearer: &[usize]) {
        let machines = &self.scenario.machines;
        let one = &mut self.errands[errand];
        if one.done {
            return;
        }
        let far = |machine: usize| distance(&machines[machine].place, &one.target);
        let here = far(by);
        let told: Vec<_> = nearer
            .iter()
            .filter(|machine| **machine != one.who)
            .map(|machine| (far(*machine), *machine))
            .collect();
        one.walk.answered(by, here, &told);
        if let Some(hunt) = one.hunt {
            for provider in named {
                let provider = &machines[*provider];
                self.hunts[hunt]
                    .steps
                    .names(&provider.peer, provider.address);
            }
            self.go_on(hunt);
        }
        self.walk_on(errand);
    }

    fn on_keep(&mut self, to: usize, errand: usize) {
        self.asked[to] += 1;
        let one = &self.errands[errand];
        let provider = &self.scenario.machines[one.who];
        if !self.scenario.machines[to].hostile
            && let Some(store) = &mut self.states[to].store
        {
            store.keep(&one.key, &provider.peer, provider.address);
        }
    }

    // Offers.

    fn pull(&mut self, from: usize, to: usize, model: bool) {
        let at = self.now + self.scenario.way(from, to);
        self.happens(at, Happens::Pull { from, to, model });
    }

    fn on_pull(&mut self, from: usize, to: usize, model: bool) {
        let mut others: Vec<usize> = self.states[to]
            .offers
            .iter()
            .copied()
            .filter(|offer| *offer != from && !(model && self.states[from].offers.contains(offer)))
            .collect();
        let mut offers = Vec::new();
        if self.scenario.provides(to) {
            offers.push(to);
        }
        let most = if model { OFFERS } else { GOSSIP };
        while offers.len() < most && !others.is_empty() {
            offers.push(others.swap_remove(self.random.below(others.len())));
        }
        let at = self.now + self.scenario.way(from, to);
        self.happens(at, Happens::Pulled { from, to, offers });
    }

    fn on_pulled(&mut self, from: usize, to: usize, offers: &[usize]) {
        self.states[from]
            .offers
            .extend(offers.iter().copied().filter(|offer| *offer != from));
        self.heard(from, to);
    }

    /// A peer answered a client, or will not.
    fn heard(&mut self, client: usize, peer: usize) {
        for hunt in 0..self.hunts.len() {
            if self.hunts[hunt].who == client && !self.hunts[hunt].over {
                let peer = &self.scenario.machines[peer].peer;
                self.hunts[hunt].steps.heard(peer);
                self.go_on(hunt);
            }
        }
    }

    // Searches.

    fn begin(&mut self, client: usize, enough: usize) {
        self.hunts.push(Hunt {
            who: client,
            begun: self.now,
            enough,
            steps: Search::new(self.scenario.plan(), self.now),
            over: false,
            offers: Vec::new(),
            from: HashSet::new(),
        });
        self.happens(self.now, Happens::Wake(self.hunts.len() - 1));
    }

    fn go_on(&mut self, hunt: usize) {
        let one = &mut self.hunts[hunt];
        if one.over {
            return;
        }
        let took = self.now - one.begun;
        for offer in &self.states[one.who].offers {
            if one.offers.len() < one.enough && one.from.insert(*offer) {
                one.offers.push(took);
            }
        }
        if one.offers.len() >= one.enough || !one.steps.go_on(self.now) {
            return self.give_up(hunt);
        }
        let who = one.who;
        for key in one.steps.next_keys(self.now) {
            let errand = self.errands.len();
            self.hunts[hunt].steps.walks_to(errand, key);
            self.set_out(who, key, Some(hunt));
        }
        while let Some(provider) = self.hunts[hunt].steps.next_dial() {
            let Some(number) = self.scenario.number(&provider) else {
                continue;
            };
            let introduced = self
                .links
                .get(&pair(who, number))
                .map(|link| link.introduced);
            match introduced {
                Some(true) => self.pull(who, number, true),
                Some(false) => {}
                None => {
                    self.dial(who, number);
                }
            }
            self.hunts[hunt].steps.waits_for(&provider, self.now);
        }
        if self.hunts[hunt].steps.is_exhausted() {
            self.give_up(hunt);
        }
    }

    fn give_up(&mut self, hunt: usize) {
        self.hunts[hunt].over = true;
        for errand in &mut self.errands {
            errand.done |= errand.hunt == Some(hunt);
        }
    }
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}
