//! Answers of a given form: a JSON schema, a grammar or a regular expression, turned into the set of tokens that may come
//! next ([`Mask`](crate::sampler::Mask)).
//!
//! The set is a pure function of the constraint, the vocabulary and the output so far. It allows every spelling in tokens
//! of a text that fits, never a control token, and the end tokens exactly where the text is complete. Compiling and
//! stepping are llguidance's; what a constraint may cost and name is bounded here, because constraints come from
//! strangers. A temperature that a grammar names has no effect: the request's holds.

mod matcher;
mod pieces;
mod source;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv};
use llguidance::{ParserFactory, TokenParser};

pub use matcher::Matcher;

use crate::text::Vocabulary;
use crate::{Constraint, ConstraintProblem, EngineError};

/// What one constraint may cost. Fuel and items are steps of llguidance, some ten thousand of which take a millisecond.
/// What a token may cost is no more than computing one takes with a small model, since others wait for it.
const LIMITS: ParserLimits = ParserLimits {
    // Building the automaton of all terminals: large published schemas need half of it.
    initial_lexer_fuel: 1_000_000,
    // For one token: some 5 ms.
    step_lexer_fuel: 70_000,
    // For one token: a millisecond or two; ambiguous grammars several times that.
    step_max_items: 20_000,
    // Alternatives that are open at once.
    max_items_in_row: 1_000,
    // A state takes one or two kilobytes: at most 100 MB.
    max_lexer_states: 50_000,
    // Symbols: a few megabytes.
    max_grammar_size: 200_000,
    precompute_large_lexemes: true,
    // An error is told to whoever asked: it is about their constraint, not the parser's insides.
    verbose_errors: false,
};

/// Time for compiling one constraint. Large schemas take some tens of milliseconds, and the first of a model waits for its
/// vocabulary.
const COMPILE_TIME: Duration = Duration::from_secs(10);

/// Compilations at once. An overdue one cannot be ended: it counts until its fuel is used up.
const MAX_COMPILING: usize = 4;

/// Stack for compiling: rules that refer to each other in a chain are followed by recursion.
const COMPILE_STACK: usize = 64 << 20;

/// Bytes of the stacks of all compilations at once. The system counts a stack when its thread starts, and fills it as it
/// is used.
#[cfg(feature = "worker")]
pub(crate) const COMPILING_BYTES: u64 = (MAX_COMPILING * COMPILE_STACK) as u64;

/// What compiles, prepared when it is first used.
type Factory = LazyLock<
    Result<ParserFactory, EngineError>,
    Box<dyn FnOnce() -> Result<ParserFactory, EngineError> + Send>,
>;

/// Compiles constraints over the vocabulary of one model.
pub struct Grammars {
    factory: Arc<Factory>,
    /// Compilations that run.
    compiling: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// Takes over a vocabulary, which the first compilation will prepare. Fails when it has no end token, or is longer than
    /// can be indexed.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, EngineError> {
        let pieces = pieces::of(vocabulary)?;
        let prepare = move || {
            let env: TokEnv = Arc::new(ApproximateTokEnv::new(pieces.trie()));
            let slices = SlicedBiasComputer::json_slices();
            let factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
            let mut factory = factory.map_err(|error| refused(&error))?;
            *factory.limits_mut() = LIMITS;
            factory.quiet();
            Ok(factory)
        };
        Ok(Self {
            factory: Arc::new(LazyLock::new(Box::new(prepare))),
            compiling: Arc::default(),
        })
    }

    /// Begins to compile a constraint, on a thread of its own.
    pub fn compile(&self, constraint: &Constraint) -> Result<Compiling, EngineError> {
        let grammar = source::read(constraint)?;
        let place = Place::take(&self.compiling)?;
        let factory = self.factory.clone();
        let (sender, receiver) = sync_channel(1);
        let compile = move || {
            let result = parser(&factory, grammar);
            drop(place);
            // Nobody may be waiting any more.
            sender.send(result).ok();
        };
        let builder = thread::Builder::new().name("grammar".to_owned());
        let started = builder.stack_size(COMPILE_STACK).spawn(compile);
        started.map_err(|error| EngineError::Compute {
            detail: error.to_string(),
        })?;
        Ok(Compiling {
            receiver,
            until: Instant::now() + COMPILE_TIME,
        })
    }
}

/// A constraint that is being compiled.
#[derive(Debug)]
pub struct Compiling {
    receiver: Receiver<Result<Matcher, EngineError>>,
    until: Instant,
}

impl Compiling {
    /// The result, when it is there or overdue.
    pub fn try_take(&self) -> Option<Result<Matcher, EngineError>> {
        match self.receiver.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Disconnected) => Some(Err(died())),
            Err(TryRecvError::Empty) => (Instant::now() >= self.until).then(|| Err(overdue())),
        }
    }

    /// Waits for the result, ten seconds at most.
    pub fn wait(self) -> Result<Matcher, EngineError> {
        let left = self.until.saturating_duration_since(Instant::now());
        match self.receiver.recv_timeout(left) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(overdue()),
            Err(RecvTimeoutError::Disconnected) => Err(died()),
        }
    }
}

/// One of the places for compilations; given back also when the compiler panics.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(compiling: &Arc<AtomicUsize>) -> Result<Self, EngineError> {
        let place = Self(compiling.clone());
        if compiling.fetch_add(1, Ordering::AcqRel) >= MAX_COMPILING {
            return Err(problem(ConstraintProblem::Busy));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn parser(factory: &Factory, grammar: TopLevelGrammar) -> Result<Matcher, EngineError> {
    let factory = LazyLock::force(factory).as_ref().map_err(Clone::clone)?;
    let parser = factory
        .create_parser(grammar)
        .map_err(|error| refused(&error))?;
    check(&parser)?;
    let mut matcher = Matcher::new(parser);
    // One whose first token is impossible is told now, not when the prompt has been read.
    matcher.mask()?;
    Ok(matcher)
}

/// Refuses what would make the allowed set more than a function of the text.
fn check(parser: &TokenParser) -> Result<(), EngineError> {
    let spec = parser.parser.grammar().lexer_spec();
    let uses = [
        (spec.special_token_rx.is_some(), "names tokens"),
        (spec.has_stop, "has a terminal with stop"),
        (spec.has_max_tokens, "has max_tokens"),
    ];
    match uses.into_iter().find(|(used, _)| *used) {
        Some((_, what)) => Err(problem(ConstraintProblem::Refused {
            reason: format!("it {what}, which is not supported here"),
        })),
        None => Ok(()),
    }
}

fn problem(problem: ConstraintProblem) -> EngineError {
    EngineError::BadConstraint { problem }
}

fn overdue() -> EngineError {
    problem(ConstraintProblem::TooSlow {
        seconds: COMPILE_TIME.as_secs() as u32,
    })
}

fn died() -> EngineError {
    problem(ConstraintProblem::Refused {
        reason: "its compilation failed".to_owned(),
    })
}

/// The compiler's first line, cut to a sentence's length: it may quote the constraint.
fn refused(error: &impl std::fmt::Display) -> EngineError {
    problem(ConstraintProblem::Refused {
        reason: first_line(error),
    })
}

fn first_line(error: &impl std::fmt::Display) -> String {
    const LONGEST: usize = 300;
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    // What llguidance calls it when not even an end token is allowed.
    if line == StopReason::NoExtensionBias.to_string() {
        return "nothing fits it".to_owned();
    }
    line.chars().take(LONGEST).collect()
}
