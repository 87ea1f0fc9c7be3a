//! One answer's way through its constraint.

use std::time::{Duration, Instant};

use llguidance::TokenParser;
use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;

use super::{first_line, problem};
use crate::sampler::Mask;
use crate::{ConstraintProblem, EngineError};

/// Time that all steps of an answer may take beside [`TIME_PER_TOKEN`]. Ambiguous grammars can make single steps long, and
/// others wait for them.
const TIME: Duration = Duration::from_millis(500);

/// Time that each token may add. A usual one takes a fraction of a millisecond.
const TIME_PER_TOKEN: Duration = Duration::from_millis(20);

/// The state of one answer: which tokens may come next.
pub struct Matcher {
    inner: llguidance::Matcher,
    /// Tokens taken so far.
    taken: u32,
    /// The last of them is an end token that llguidance did not take: for it, a text that can only end has ended.
    ended: bool,
    /// Time that all steps took.
    spent: Duration,
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl Matcher {
    pub(super) fn new(parser: TokenParser) -> Self {
        Self {
            inner: llguidance::Matcher::new(Ok(parser)),
            taken: 0,
            ended: false,
            spent: Duration::ZERO,
        }
    }

    /// The tokens that may come next; never none. When the text can only end, the end tokens.
    pub fn mask(&mut self) -> Result<Mask, EngineError> {
        let begun = Instant::now();
        let mask = self.inner.compute_mask_or_eos();
        let mask: SimpleVob = mask.map_err(|error| self.stuck(&error))?;
        self.spend(begun)?;
        if mask.is_zero() {
            return Err(self.stuck(&"no token fits"));
        }
        Ok(Mask::new(mask.into()))
    }

    /// Takes the chosen token.
    pub fn advance(&mut self, id: u32) -> Result<(), EngineError> {
        self.resume(&[id])
    }

    /// Takes output that was chosen before, here or elsewhere. After a token that does not fit nothing fits.
    pub fn resume(&mut self, ids: &[u32]) -> Result<(), EngineError> {
        for &id in ids {
            let begun = Instant::now();
            if !self.take(id)? {
                return Err(problem(ConstraintProblem::Differs { index: self.taken }));
            }
            self.taken += 1;
            self.spend(begun)?;
        }
        Ok(())
    }

    fn take(&mut self, id: u32) -> Result<bool, EngineError> {
        if self.inner.stop_reason() == StopReason::NoExtension {
            let env = self.inner.tok_env().map_err(|error| self.stuck(&error))?;
            let fits = !self.ended && env.tok_trie().eos_tokens().contains(&id);
            self.ended |= fits;
            return Ok(fits);
        }
        let taken = self.inner.try_consume_tokens(&[id]);
        Ok(taken.map_err(|error| self.stuck(&error))? == 1)
    }

    /// Takes back the last tokens, as many as were taken at most.
    pub fn rollback(&mut self, tokens: u32) -> Result<(), EngineError> {
        let Some(left) = self.taken.checked_sub(tokens) else {
            return Err(self.stuck(&format!("{tokens} tokens cannot be taken back")));
        };
        let outside = u32::from(self.ended).min(tokens);
        let back = self.inner.rollback((tokens - outside) as usize);
        back.map_err(|error| self.stuck(&error))?;
        self.ended &= outside == 0;
        self.taken = left;
        Ok(())
    }

    /// Whether the text is complete and nothing but an end token can follow.
    pub fn is_complete(&self) -> bool {
        self.inner.is_stopped() && !self.inner.is_error()
    }

    fn spend(&mut self, since: Instant) -> Result<(), EngineError> {
        self.spent += since.elapsed();
        if self.spent > TIME + TIME_PER_TOKEN * self.taken {
            return Err(self.stuck(&"its steps take too long; a grammar without ambiguity may do"));
        }
        Ok(())
    }

    fn stuck(&self, error: &impl std::fmt::Display) -> EngineError {
        problem(ConstraintProblem::Stuck {
            index: self.taken,
            reason: first_line(error),
        })
    }
}
