//! Who computes in the next step: a pure function of what waits, what was promised to the owner, what the network has
//! left of its share, and the time.
//!
//! [`Scheduler::plan`] decides and changes nothing; [`Scheduler::done`] is told what the step took. Between the two the
//! worker computes. Four rules, each in a file of its own:
//!
//! - **Order**: nothing is computed in a step in which something runnable of an earlier class is not. Inside a class,
//!   askers take turns by the time they have had, in proportion to their weights ([`fair`]).
//! - **The owner's latency**: while the owner's answers run, others are computed beside them only out of a slack that
//!   grows with a fixed part of the owner's own time; what they will cost is predicted from the steps before ([`cost`]).
//! - **The network's share** of the device's time is a budget that refills ([`budget`]).
//! - **Room**: pages are promised in the order of the classes; who does not fit stands aside and resumes by prefill
//!   ([`room`]).

pub mod budget;
pub mod cost;
pub mod fair;
pub mod room;
#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::time::Duration;

use budget::Budget;
use cost::Costs;
use fair::Fair;

use crate::{Benchmark, Class, Sharing};

/// Most tokens of a step: as many of a prompt as nobody minds waiting for.
pub const STEP_TOKENS: u32 = crate::families::PREFILL_CHUNK;

/// Most sequences that produce a token in one step. Beyond it a step only gets longer: the weights' bytes are spread over
/// enough rows already.
pub const STEP_ROWS: usize = 32;

/// A step of the owner's may become longer by this part of itself at once: a pause that is longer than the beat of the
/// tokens is seen.
const STUTTER: f64 = 0.5;

/// Most slack that is kept, as a part of a step of the owner's: enough for what may be done at once, and little, since a
/// short answer feels all of what the one before it left.
const KEPT: f64 = 0.6;

/// A sequence that could be stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its call.
    pub call: u64,
    /// Whose work it is.
    pub class: Class,
    /// Who asks, as the worker numbers them.
    pub asker: u64,
    /// The asker's weight, at least 1.
    pub weight: u16,
    /// Which model computes it, as the worker numbers them. A step is one model's.
    pub model: u64,
    /// Tokens it has that are not computed yet: one when it decodes.
    pub left: u32,
    /// Most of them that it takes in one step.
    pub most: u32,
    /// It is neither paused nor without pages.
    pub runnable: bool,
    /// The number of the step in which it was computed last; 0 for never.
    pub last_step: u64,
}

impl Candidate {
    /// It takes one row and yields a token.
    fn decodes(&self) -> bool {
        self.left <= 1
    }

    fn chunk(&self, room: u32) -> u32 {
        self.left.min(self.most).min(room)
    }
}

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Which sequence.
    pub call: u64,
    /// How many of its tokens that are left.
    pub tokens: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Compute these, all of one model.
    Step {
        /// The model.
        model: u64,
        /// Each at most once, in the order of their classes.
        chosen: Vec<Chosen>,
    },
    /// The network has had its share: look again after this time, or when something changes.
    Wait(Duration),
    /// Nothing can run until something changes.
    Nothing,
}

/// What is remembered from step to step.
#[derive(Debug, Clone)]
pub struct Scheduler {
    sharing: Sharing,
    budget: Budget,
    fair: Fair,
    /// What steps cost, by model.
    costs: BTreeMap<u64, Costs>,
    /// Seconds by which the owner's next steps may become longer.
    slack: f64,
}

impl Scheduler {
    /// A scheduler that has seen nothing yet. `now` is any clock that only goes forward.
    pub fn new(sharing: Sharing, now: Duration) -> Self {
        Self {
            budget: Budget::new(sharing.network_share, now),
            sharing,
            fair: Fair::default(),
            costs: BTreeMap::new(),
            slack: 0.0,
        }
    }

    /// Other rules from now on.
    pub fn set_sharing(&mut self, sharing: Sharing, now: Duration) {
        self.budget.set_share(sharing.network_share, now);
        self.sharing = sharing;
    }

    /// What a step of a model is expected to take; `None` before any was measured.
    pub fn predict(&self, model: u64, rows: usize, tokens: u32) -> Option<Duration> {
        let seconds = self.costs.get(&model)?.step(rows, tokens)?;
        Some(Duration::from_secs_f64(seconds))
    }

    /// Takes account of an earlier measurement of a model, so that its first steps are planned with what is known.
    pub fn know(&mut self, model: u64, benchmark: &Benchmark) {
        let costs = self.costs.entry(model).or_default();
        for rate in &benchmark.decode {
            let seconds = f64::from(rate.sequences) / rate.tokens_per_second;
            costs.learn(rate.sequences as usize, 0, seconds);
        }
        let seconds = f64::from(STEP_TOKENS) / benchmark.prefill_tokens_per_second;
        costs.learn(0, STEP_TOKENS, seconds);
    }

    /// Forgets a model that was unloaded.
    pub fn forget_model(&mut self, model: u64) {
        self.costs.remove(&model);
    }

    /// Who computes next.
    pub fn plan(&self, candidates: &[Candidate], now: Duration) -> Plan {
        let mut queues: BTreeMap<Class, Vec<Candidate>> = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| candidate.runnable) {
            queues.entry(candidate.class).or_default().push(*candidate);
        }
        let Some((&first, queue)) = queues.first_key_value() else {
            return Plan::Nothing;
        };
        if first.is_network() && self.budget.is_spent(now) {
            return match self.budget.wait(now) {
                Some(wait) => Plan::Wait(wait),
                None => Plan::Nothing,
            };
        }
        let Some(leader) = self
            .fair
            .order(first, queue.clone(), &self.costs)
            .into_iter()
            .next()
        else {
            return Plan::Nothing;
        };
        let mut step = Step::new(leader.model);
        for (&class, queue) in &queues {
            let ordered = self.fair.order(class, queue.clone(), &self.costs);
            let all_in = if class.is_network() && first == Class::Own {
                self.fill_beside_own(&mut step, &ordered, now)
            } else {
                step.fill(&ordered)
            };
            if !all_in {
                break;
            }
        }
        debug_assert!(in_order(candidates, &step.chosen));
        Plan::Step {
            model: step.model,
            chosen: step.chosen,
        }
    }

    /// Adds others to a step of the owner's, as far as the owner's latency target leaves room. True when all of them are
    /// in.
    fn fill_beside_own(&self, step: &mut Step, ordered: &[Candidate], now: Duration) -> bool {
        // The first token is what the owner waits for: nothing is put beside a prompt.
        if step.own_prefill || self.budget.is_spent(now) {
            return ordered.is_empty();
        }
        let Some(costs) = self.costs.get(&step.model) else {
            return ordered.is_empty();
        };
        let Some(own) = costs.step(step.own_rows, 0) else {
            return ordered.is_empty();
        };
        let allowed = self.slack.min(own * STUTTER);
        for candidate in ordered {
            let Some(now_costs) = costs.step(step.rows, step.prefill) else {
                return false;
            };
            let left = allowed - (now_costs - own);
            if candidate.model != step.model || left <= 0.0 {
                return false;
            }
            let tokens = if candidate.decodes() {
                u32::from(costs.row() <= left)
            } else {
                costs.affordable(left).min(candidate.chunk(step.room()))
            };
            if tokens == 0 || !step.add(candidate, tokens) || tokens < candidate.chunk(STEP_TOKENS)
            {
                return false;
            }
        }
        true
    }

    /// Takes account of a step that was computed: who was in it and what it took.
    pub fn done(&mut self, candidates: &[Candidate], plan: &Plan, took: Duration, now: Duration) {
        let Plan::Step { model, chosen } = plan else {
            return;
        };
        let taken: Vec<(Candidate, u32)> = chosen
            .iter()
            .filter_map(|chosen| {
                let of = candidates
                    .iter()
                    .find(|candidate| candidate.call == chosen.call)?;
                Some((*of, chosen.tokens))
            })
            .collect();
        let count = |which: fn(&Candidate) -> bool| {
            let mut rows = 0;
            let mut prefill = 0;
            for (candidate, tokens) in taken.iter().filter(|(candidate, _)| which(candidate)) {
                if candidate.decodes() {
                    // More than one where a draft is verified.
                    rows += *tokens as usize;
                } else {
                    prefill += tokens;
                }
            }
            (rows, prefill)
        };
        let (own_rows, own_prefill) = count(|candidate| !candidate.class.is_network());
        let (others_rows, others_prefill) = count(|candidate| candidate.class.is_network());
        let others = others_rows > 0 || others_prefill > 0;
        let seconds = took.as_secs_f64();
        let costs = self.costs.entry(*model).or_default();
        if own_rows > 0 || own_prefill > 0 {
            // What the owner's part alone would have taken: measured where it was alone, predicted where it was not.
            let own = match others {
                true => costs
                    .step(own_rows, own_prefill)
                    .unwrap_or(seconds)
                    .min(seconds),
                false => seconds,
            };
            let earned = own * f64::from(self.sharing.slowdown);
            self.slack = (self.slack + earned - (seconds - own)).min(own * KEPT);
            self.budget.spend(seconds - own, now);
        } else {
            self.budget.spend(seconds, now);
        }
        costs.learn(
            own_rows + others_rows,
            own_prefill + others_prefill,
            seconds,
        );
        for (candidate, tokens) in &taken {
            let spent = if candidate.decodes() {
                costs.row() * f64::from(*tokens)
            } else {
                costs.token() * f64::from(*tokens)
            };
            self.fair.charge(candidate, spent);
        }
        self.fair.settle(candidates);
    }

    /// Takes account of a step that was given up for the owner: its time was the network's, though it led to nothing.
    pub fn gave_up(&mut self, took: Duration, now: Duration) {
        self.budget.spend(took.as_secs_f64(), now);
    }
}

/// Whether nothing runnable of an earlier class is left out for something of a later one.
fn in_order(candidates: &[Candidate], chosen: &[Chosen]) -> bool {
    let inside = |candidate: &&Candidate| chosen.iter().any(|chosen| chosen.call == candidate.call);
    let last = candidates
        .iter()
        .filter(inside)
        .map(|candidate| candidate.class)
        .max();
    candidates
        .iter()
        .filter(|candidate| candidate.runnable && !inside(candidate))
        .all(|left_out| last.is_none_or(|last| left_out.class >= last))
}

/// A step in the making.
#[derive(Debug)]
struct Step {
    model: u64,
    chosen: Vec<Chosen>,
    rows: usize,
    prefill: u32,
    own_rows: usize,
    own_prefill: bool,
}

impl Step {
    fn new(model: u64) -> Self {
        Self {
            model,
            chosen: Vec::new(),
            rows: 0,
            prefill: 0,
            own_rows: 0,
            own_prefill: false,
        }
    }

    /// Tokens that still go in.
    fn room(&self) -> u32 {
        STEP_TOKENS.saturating_sub(self.prefill + self.rows as u32)
    }

    /// Adds a class: those that decode first, since each is one row, then prompts. True when nobody of it is left out.
    fn fill(&mut self, ordered: &[Candidate]) -> bool {
        let mut all_in = true;
        let (decoding, reading): (Vec<&Candidate>, Vec<&Candidate>) =
            ordered.iter().partition(|candidate| candidate.decodes());
        for candidate in decoding.into_iter().chain(reading) {
            let tokens = candidate.chunk(self.room());
            all_in &= candidate.model == self.model && self.add(candidate, tokens);
        }
        all_in
    }

    fn add(&mut self, candidate: &Candidate, tokens: u32) -> bool {
        let full = candidate.decodes() && self.rows >= STEP_ROWS;
        if tokens == 0 || full {
            return false;
        }
        let own = !candidate.class.is_network();
        if candidate.decodes() {
            self.rows += 1;
            self.own_rows += usize::from(own);
        } else {
            self.prefill += tokens;
            self.own_prefill |= own;
        }
        self.chosen.push(Chosen {
            call: candidate.call,
            tokens,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchRate;

    #[test]
    fn a_model_that_was_measured_before_is_planned_for_at_once() {
        let mut scheduler = Scheduler::new(Sharing::default(), Duration::ZERO);
        assert_eq!(scheduler.predict(1, 2, 0), None);
        // A step of so many sequences takes 10 ms and 1 ms for each.
        let decode = [1u32, 4, 8].map(|sequences| BatchRate {
            sequences,
            tokens_per_second: f64::from(sequences) / (0.010 + 0.001 * f64::from(sequences)),
        });
        let benchmark = Benchmark {
            build: String::new(),
            device: String::new(),
            prefill_tokens_per_second: 1000.0,
            decode: decode.to_vec(),
        };
        scheduler.know(1, &benchmark);
        let close = |rows, tokens, due: f64| {
            let predicted = scheduler.predict(1, rows, tokens).unwrap().as_secs_f64();
            assert!((predicted - due).abs() < 1e-6, "{predicted} for {due}");
        };
        close(2, 0, 0.012);
        close(0, 100, 0.1);
        close(6, 50, 0.066);
    }
}
