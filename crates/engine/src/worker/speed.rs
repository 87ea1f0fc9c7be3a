//! How fast a loaded model computes, by its own steps without anything around them.

use std::time::{Duration, Instant};

use crate::EngineError;
use crate::cache::{Asker, PagePool, SequenceState};
use crate::decoder::{Decoder, Span, Step, Wanted};
use crate::scheduler::STEP_TOKENS;

/// Measures over a model's own pages. Everything may be given up between two layers of many rows, and between two tokens, and then
/// yields `None`.
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
        let read = self.read(std::slice::from_mut(&mut state), &ids);
        let took = begun.elapsed();
        self.pool.release(state);
        Ok(read?.map(|()| tokens as f64 / took.as_secs_f64()))
    }

    /// Tokens per second over `sequences` that are decoded together, each after a prompt of `prompt` tokens, over so many
    /// steps or until the time is up.
    pub(super) fn decode(
        &mut self,
        sequences: usize,
        prompt: usize,
        steps: usize,
        at_most: Duration,
    ) -> Result<Option<f64>, EngineError> {
        let mut states: Vec<SequenceState> = Vec::new();
        states.resize_with(sequences, SequenceState::default);
        let prompt = self.ids(prompt);
        let mut decoded = Ok(Some(()));
        for state in &mut states {
            decoded = self.read(std::slice::from_mut(state), &prompt);
            if !matches!(decoded, Ok(Some(()))) {
                break;
            }
        }
        let ids = self.ids(steps.max(1));
        let begun = Instant::now();
        let mut done = 0;
        for id in &ids {
            if !matches!(decoded, Ok(Some(()))) {
                break;
            }
            decoded = self.step(&mut states, std::slice::from_ref(id), Wanted::Last);
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

    /// Time to the first token of a turn of `turn` tokens behind a chat of `chat` tokens that was read before.
    pub(super) fn second_turn(
        &mut self,
        chat: usize,
        turn: usize,
    ) -> Result<Option<Duration>, EngineError> {
        let ids = self.ids(chat + turn);
        let mut state = SequenceState::default();
        let first = self.read(std::slice::from_mut(&mut state), &ids[..chat]);
        if !matches!(first, Ok(Some(()))) {
            self.pool.release(state);
            return first.map(|_| None);
        }
        self.pool.retire(&Asker::OWNER, &ids[..chat], state);
        let begun = Instant::now();
        let mut state = self.pool.adopt(&Asker::OWNER, &ids);
        let known = state.len();
        let read = self.read(std::slice::from_mut(&mut state), &ids[known..]);
        let took = begun.elapsed();
        self.pool.release(state);
        Ok(read?.map(|()| took))
    }

    /// Reads ids in chunks; logits are made of the last, as before a first token.
    fn read(
        &mut self,
        states: &mut [SequenceState],
        ids: &[u32],
    ) -> Result<Option<()>, EngineError> {
        let chunks = ids.chunks(STEP_TOKENS as usize);
        let last = chunks.len().saturating_sub(1);
        for (at, chunk) in chunks.enumerate() {
            let wanted = if at == last {
                Wanted::Last
            } else {
                Wanted::Nothing
            };
            if self.step(states, chunk, wanted)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
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
        // A step of one row is not interrupted, and many of them are a long time.
        if !go_on() {
            return Ok(None);
        }
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

#[cfg(test)]
#[path = "../../tests/tiny/mod.rs"]
mod tiny;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;

    use super::{tiny, *};
    use crate::worker::{loaded::Loaded, texts::TextModels, weights::Planned};

    #[test]
    fn whoever_comes_while_it_measures_waits_for_a_token_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.gguf");
        let model = tiny::Model {
            architecture: "qwen2",
            layers: 2,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            feed_forward: 96,
            tied: false,
            kind: tiny::Kind::Q4_1,
        };
        tiny::Tiny::model(model, tiny::bpe()).write(&file);
        let (text, opened) = TextModels::default().with_file(&file).unwrap();
        let plan = Planned::of(&opened).unwrap();
        let mut model = Loaded::open(1, &file, &plan, None, u64::MAX, text, &mut |_| true)
            .unwrap()
            .unwrap();
        let (decoder, pool) = model.decoding().unwrap();
        let asked = Cell::new(0);
        let comes = Cell::new(u32::MAX);
        let go_on = || {
            asked.set(asked.get() + 1);
            asked.get() < comes.get()
        };
        let mut speed = Speed {
            decoder,
            pool,
            go_on: &go_on,
        };
        let all = speed.decode(1, 0, 40, Duration::MAX).unwrap();
        assert!(
            all.is_some() && asked.get() == 40,
            "it asks before every token"
        );
        asked.set(0);
        comes.set(3);
        assert_eq!(speed.decode(1, 0, 40, Duration::MAX).unwrap(), None);
        assert_eq!(asked.get(), 3, "and computes no other");
    }
}
