//! How fast a loaded model computes, by its own steps without anything around them.

use std::time::{Duration, Instant};

use crate::EngineError;
use crate::cache::{PagePool, SequenceState};
use crate::decoder::{Decoder, Span, Step, Wanted};
use crate::scheduler::STEP_TOKENS;

/// Measures over a model's own pages. Everything may be given up between two layers, and then yields `None`.
pub(super) struct Speed<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) pool: &'a mut PagePool,
    /// Whether to go on.
    pub(super) go_on: &'a dyn Fn() -> bool,
}

impl Speed<'_> {
    /// Tokens per second of reading a prompt of `tokens`.
    pub(super) fn prefill(&mut self, tokens: usize) -> Result<Option<f64>, EngineError> {
        let ids = self.ids(tokens);
        let mut state = SequenceState::default();
        let begun = Instant::now();
        let mut read = Ok(Some(()));
        for chunk in ids.chunks(STEP_TOKENS as usize) {
            read = self.step(std::slice::from_mut(&mut state), chunk, Wanted::Last);
            if !matches!(read, Ok(Some(()))) {
                break;
            }
        }
        let took = begun.elapsed();
        self.pool.release(state);
        Ok(read?.map(|()| tokens as f64 / took.as_secs_f64()))
    }

    /// Tokens per second over `sequences` that are decoded together from their beginnings, over so many steps or until the
    /// time is up.
    pub(super) fn decode(
        &mut self,
        sequences: usize,
        steps: usize,
        at_most: Duration,
    ) -> Result<Option<f64>, EngineError> {
        let mut states: Vec<SequenceState> = Vec::new();
        states.resize_with(sequences, SequenceState::default);
        let ids = self.ids(steps.max(1));
        let begun = Instant::now();
        let (mut done, mut decoded) = (0, Ok(Some(())));
        for id in &ids {
            decoded = self.step(&mut states, std::slice::from_ref(id), Wanted::Last);
            if !matches!(decoded, Ok(Some(()))) {
                break;
            }
            done += 1;
            if begun.elapsed() >= at_most {
                break;
            }
        }
        let took = begun.elapsed();
        for state in states {
            self.pool.release(state);
        }
        Ok(decoded?.map(|()| (done * sequences) as f64 / took.as_secs_f64()))
    }

    /// One step in which every sequence reads the same ids.
    fn step(
        &mut self,
        states: &mut [SequenceState],
        ids: &[u32],
        wanted: Wanted,
    ) -> Result<Option<()>, EngineError> {
        let spans = states.iter_mut().map(|state| Span { state, ids, wanted });
        let mut spans: Vec<Span<'_>> = spans.collect();
        let go_on = self.go_on;
        Ok(
            match self.decoder.step(self.pool, &mut spans, &|| !go_on())? {
                Step::Computed(_) => Some(()),
                Step::Interrupted => None,
            },
        )
    }

    /// Any ids do: the time does not depend on which.
    fn ids(&self, count: usize) -> Vec<u32> {
        let vocabulary = self.decoder.vocabulary();
        (0..count)
            .map(|at| ((at * 7919 + 13) % vocabulary) as u32)
            .collect()
    }
}
