//! A step: what the scheduler chose is computed at once, and everyone gets theirs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::compute::Compute;
use super::crash;
use super::loaded::Loaded;
use super::sequence::{Outcome, Sequence};
use super::watchdog::step_limit;
use crate::decoder::{Span, Step};
use crate::scheduler::{Candidate, Plan};
use crate::wire::Say;
use crate::{Class, EngineError};

impl Compute {
    pub(super) fn step(&mut self, candidates: &[Candidate], plan: &Plan) {
        let Plan::Step { model, chosen } = plan else {
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
                self.scheduler.done(candidates, plan, took, now);
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

    fn compute(&mut self, id: u64, tokens: &BTreeMap<u64, u32>) -> Result<Step, EngineError> {
        let Some(model) = self.models.get_mut(id) else {
            return Err(EngineError::Displaced);
        };
        let Loaded {
            decoder,
            pool,
            info,
            ..
        } = model;
        let mut controls = Vec::with_capacity(tokens.len());
        let mut own = false;
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(tokens.len());
        for sequence in &mut self.sequences {
            if let Some(&tokens) = tokens.get(&sequence.call) {
                controls.push(sequence.control.clone());
                own |= sequence.class == Class::Own;
                spans.push(sequence.span(tokens));
            }
        }
        let (rows, read) = spans
            .iter()
            .fold((0, 0), |(rows, read), span| match span.ids.len() {
                1 => (rows + 1, read),
                more => (rows, read + more as u32),
            });
        let expected = self.scheduler.predict(id, rows, read);
        let limit = step_limit(expected, rows as u32 + read, info.text.weights_bytes);
        let what = format!("a step of {rows} sequences and {read} tokens of prompts");
        let all = &self.shared.controls;
        let interrupted =
            || !own && all.own_waits() || controls.iter().all(|control| control.is_cancelled());
        self.shared.watch.begin(what, limit);
        crash::phase("a step");
        let step = decoder.step(pool, &mut spans, &interrupted);
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
            if !rows.is_empty() {
                self.speed.tokens += 1;
            }
            match sequence.take(rows, tokens, took, model) {
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
            let needed: usize = self
                .sequences
                .iter()
                .filter_map(|sequence| {
                    let tokens = tokens.get(&sequence.call)?;
                    Some(sequence.state.pages_needed(*tokens as usize))
                })
                .sum();
            let Some(model) = self.models.get_mut(id) else {
                return moved;
            };
            if needed <= model.pool.free() {
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
            model.pool.retire(&last.asker.key, &last.ids, state);
            moved = true;
        }
    }
}

fn take_calls(sequences: &mut Vec<Sequence>, calls: &BTreeMap<u64, u32>) -> Vec<Sequence> {
    let (taken, left) = std::mem::take(sequences)
        .into_iter()
        .partition(|sequence| calls.contains_key(&sequence.call));
    *sequences = left;
    taken
}
