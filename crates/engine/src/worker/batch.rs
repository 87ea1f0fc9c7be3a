//! A step: what the scheduler chose is computed at once, and everyone gets theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compute::Compute;
use super::controls::Control;
use super::crash;
use super::draft;
use super::sequence::{Outcome, Sequence, Work};
#[cfg(debug_assertions)]
use super::simulated;
use super::watchdog::step_limit;
use super::weights::Weights;
use crate::decoder::Step;
use crate::encoder::Encoder;
use crate::scheduler::{Candidate, Chosen, Plan, STEP_TOKENS};
use crate::wire::Say;
use crate::{Class, EngineError};

impl Compute {
    pub(super) fn step(&mut self, candidates: &[Candidate], plan: &Plan) {
        let Plan::Step { model, chosen } = plan else {
            return;
        };
        let chosen = chosen.iter().copied();
        let mut chosen: Vec<Chosen> = chosen
            .filter(|chosen| self.takes_part(candidates, chosen))
            .collect();
        self.draft(*model, &mut chosen);
        let plan = Plan::Step {
            model: *model,
            chosen,
        };
        let Plan::Step { model, chosen } = &plan else {
            return;
        };
        let tokens: BTreeMap<u64, u32> = chosen
            .iter()
            .map(|chosen| (chosen.call, chosen.tokens))
            .collect();
        if self.make_room(*model, &tokens) {
            // Somebody stands aside now: it is planned anew without them.
            return;
        }
        let begun = Instant::now();
        let computed = self.compute(*model, &tokens);
        let computing = begun.elapsed();
        crash::phase("choosing tokens");
        match computed {
            Ok(Step::Computed(rows)) => {
                self.steps += 1;
                self.hand_out(*model, &tokens, rows, computing);
                // All that the step led to is the device's time, telling included.
                let took = begun.elapsed();
                let now = self.now();
                self.learn_pace(candidates, &plan, took);
                self.scheduler.done(candidates, &plan, took, now);
                self.speed.time += took;
            }
            Ok(Step::Interrupted) => {
                let (took, now) = (begun.elapsed(), self.now());
                self.scheduler.gave_up(took, now);
            }
            Err(error) => {
                for sequence in take_calls(&mut self.sequences, &tokens) {
                    self.close(sequence, vec![Say::Failed(error.clone())]);
                }
            }
        }
    }

    /// Drafts for the sequence that a step is computed for: one alone, or the owner's only one beside others, who are there
    /// on condition that it loses nothing. Among equals one would wait for the other's guesses. Of the network's, only
    /// while the owner wants nothing.
    fn draft(&mut self, model: u64, chosen: &mut [Chosen]) {
        for sequence in &mut self.sequences {
            // Of a step that was given up.
            sequence.drafted.clear();
        }
        let Some(model) = self.models.get(model).filter(|_| draft::EXACT) else {
            return;
        };
        let is_own = |sequence: &Sequence| sequence.class == Class::Own;
        let own_is_here = self.sequences.iter().any(is_own);
        let leads = |sequence: &&mut Sequence| {
            chosen.iter().any(|chosen| chosen.call == sequence.call)
                && is_own(sequence) == own_is_here
        };
        let mut leading: Vec<&mut Sequence> = self.sequences.iter_mut().filter(leads).collect();
        let ([sequence], true) = (leading.as_mut_slice(), own_is_here || chosen.len() == 1) else {
            return;
        };
        let all: u32 = chosen.iter().map(|chosen| chosen.tokens).sum();
        let of_call = |chosen: &&mut Chosen| chosen.call == sequence.call;
        if let Some(chosen) = chosen.iter_mut().find(of_call).filter(|it| it.tokens == 1) {
            chosen.tokens = sequence.draft(model, STEP_TOKENS.saturating_sub(all));
        }
    }

    /// Takes account of what a step of one sequence that decodes took.
    fn learn_pace(&mut self, candidates: &[Candidate], plan: &Plan, took: Duration) {
        let Plan::Step { model, chosen } = plan else {
            return;
        };
        let [chosen] = chosen.as_slice() else {
            return;
        };
        let decodes = candidates
            .iter()
            .any(|candidate| candidate.call == chosen.call && candidate.left == 1);
        if let Some(model) = self.models.get_mut(*model).filter(|_| decodes) {
            model.pace.learn(chosen.tokens as usize, took);
        }
    }

    /// Whether a chosen sequence gets what it needs. What is computed as a whole waits for a step with room for all of it;
    /// the first of a step always has that.
    fn takes_part(&self, candidates: &[Candidate], chosen: &Chosen) -> bool {
        let of_call = |sequence: &&Sequence| sequence.call == chosen.call;
        let whole = self.sequences.iter().find(of_call).is_some_and(
            |sequence| matches!(&sequence.work, Work::Embedding(embedding) if embedding.is_whole()),
        );
        let left = candidates
            .iter()
            .find(|candidate| candidate.call == chosen.call)
            .map_or(0, |candidate| candidate.left);
        !whole || chosen.tokens >= left
    }

    fn compute(&mut self, id: u64, tokens: &BTreeMap<u64, u32>) -> Result<Step, EngineError> {
        let Some(model) = self.models.get_mut(id) else {
            return Err(EngineError::Displaced);
        };
        let in_step = |sequence: &&mut Sequence| tokens.contains_key(&sequence.call);
        let mut sequences: Vec<&mut Sequence> = self.sequences.iter_mut().filter(in_step).collect();
        let controls: Vec<Arc<Control>> = sequences
            .iter()
            .map(|sequence| sequence.control.clone())
            .collect();
        let own = sequences
            .iter()
            .any(|sequence| sequence.class == Class::Own);
        let (rows, read) = tokens
            .values()
            .fold((0, 0), |(rows, read), &tokens| match tokens {
                1 => (rows + 1, read),
                more => (rows, read + more),
            });
        let expected = self.scheduler.predict(id, rows, read);
        let limit = step_limit(expected, rows as u32 + read, model.info.text.weights_bytes);
        let what = format!("a step of {rows} sequences and {read} tokens of prompts");
        let all = &self.shared.controls;
        let interrupted =
            || !own && all.own_waits() || controls.iter().all(|control| control.is_cancelled());
        crash::phase("a step");
        #[cfg(debug_assertions)]
        if simulated::hangs_after(self.steps) {
            self.shared.watch.begin(what, simulated::ALLOWED);
            simulated::hang();
        }
        self.shared.watch.begin(what, limit);
        let step = match &mut model.weights {
            Weights::Decoder { decoder, pool } => {
                let spans = sequences.iter_mut().map(|sequence| {
                    let tokens = tokens.get(&sequence.call).copied().unwrap_or(0);
                    sequence.span(tokens)
                });
                decoder.step(pool, &mut spans.collect::<Vec<_>>(), &interrupted)
            }
            Weights::Encoder(encoder) => encode(encoder, &sequences, &interrupted),
        };
        self.shared.watch.end();
        step
    }

    /// Gives each sequence its rows, in the order in which they were computed.
    fn hand_out(
        &mut self,
        id: u64,
        tokens: &BTreeMap<u64, u32>,
        rows: Vec<Vec<f32>>,
        took: Duration,
    ) {
        let Some(model) = self.models.get_mut(id) else {
            return;
        };
        let mut rows = rows.into_iter();
        let mut over = Vec::new();
        for sequence in &mut self.sequences {
            let Some(&tokens) = tokens.get(&sequence.call) else {
                continue;
            };
            sequence.last_step = self.steps;
            let rows = rows.next().unwrap_or_default();
            let before = sequence.counts();
            let taken = sequence.take(rows, tokens, took, model);
            let after = sequence.counts();
            self.speed.tokens += after.produced - before.produced;
            self.drafts.verified += u64::from(after.drafted - before.drafted);
            self.drafts.accepted += u64::from(after.accepted - before.accepted);
            match taken {
                Ok(Outcome::On(say)) => {
                    if let Some(say) = say {
                        self.shared.outbox.say(sequence.call, say);
                    }
                }
                Ok(Outcome::End(last)) => over.push((sequence.call, last)),
                Err(error) => over.push((sequence.call, vec![Say::Failed(error)])),
            }
        }
        for (call, last) in over {
            let at = self
                .sequences
                .iter()
                .position(|sequence| sequence.call == call);
            if let Some(at) = at {
                let sequence = self.sequences.remove(at);
                self.close(sequence, last);
            }
        }
    }

    /// Sees to it that the pool has the pages of a step. Where it has not, the last of the last class that holds any stands
    /// aside: its pages go, and it begins again by prefill when there is room for all that it was promised. True when
    /// somebody stands aside.
    fn make_room(&mut self, id: u64, tokens: &BTreeMap<u64, u32>) -> bool {
        let mut moved = false;
        loop {
            let Some(model) = self.models.get_mut(id) else {
                return moved;
            };
            let Some(pool) = model.weights.pool() else {
                return moved;
            };
            let in_step = self.sequences.iter().filter_map(|sequence| {
                let tokens = tokens.get(&sequence.call)?;
                Some(pool.needed(&sequence.state, *tokens as usize))
            });
            if in_step.sum::<u64>() <= pool.free() {
                return moved;
            }
            let holders = self
                .sequences
                .iter_mut()
                .filter(|sequence| sequence.model == id && !sequence.aside);
            let Some(last) = holders.max_by_key(|sequence| (sequence.class, sequence.call)) else {
                return moved;
            };
            let state = last.stand_aside();
            // They stay findable until somebody needs the room, and then go, the oldest first.
            model.retire(&last.asker.key, &last.ids, state);
            moved = true;
        }
    }
}

/// The states of whole texts.
fn encode(
    encoder: &Encoder,
    sequences: &[&mut Sequence],
    interrupted: &dyn Fn() -> bool,
) -> Result<Step, EngineError> {
    let mut states = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        match encoder.states(&sequence.ids, interrupted)? {
            Some(rows) => states.push(rows),
            None => return Ok(Step::Interrupted),
        }
    }
    Ok(Step::Computed(states))
}

fn take_calls(sequences: &mut Vec<Sequence>, calls: &BTreeMap<u64, u32>) -> Vec<Sequence> {
    let (taken, left) = std::mem::take(sequences)
        .into_iter()
        .partition(|sequence| calls.contains_key(&sequence.call));
    *sequences = left;
    taken
}
