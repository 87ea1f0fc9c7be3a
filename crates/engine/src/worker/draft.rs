//! Drafts: what a text repeats of itself is guessed, and verified in the step that would have computed one token.
//!
//! The last tokens are looked up in prompt and output, and what followed them there is computed as if it followed here,
//! all of it in one step of several rows. The sampler then chooses row by row as it always does; its noise is a function
//! of seed, output index and token, so a draft is right as long as each chosen token is the drafted one, and the first
//! that is not is the token that would have been chosen anyway. Where rows do not depend on the rows beside them, the
//! answer is bit for bit the same. (As in "Accelerating Large Language Model Decoding with Speculative Sampling", Chen et
//! al., 2023, with the text itself as the draft's author.)

use std::time::Duration;

/// Tokens that must repeat before what followed them is drafted: fewer repeat by chance.
const LEAST_MATCH: usize = 3;

/// Of a longer repetition no more is compared: it says as much.
const LONGEST_MATCH: usize = 16;

/// Rows of the steps that are measured and compared: one, and what kernels compute side by side.
const ROWS: [usize; 4] = [1, 2, 4, 8];

/// Most tokens of a draft. Fewer than a sequence may be cut by without losing its window.
pub(super) const LONGEST_DRAFT: usize = ROWS[ROWS.len() - 1] - 1;

/// A draft must be expected to yield this much more than single tokens do: measurements are not better than that.
const GAIN: f64 = 1.05;

/// Weight of a new measurement: some ten are remembered.
const FRESH: f64 = 0.125;

/// Steps after which a measurement is made anew: contexts grow, and other programs come and go.
const STALE: u64 = 512;

/// What is thought of drafts before the first was judged.
const UNJUDGED: f64 = 0.5;

/// Whether a row is the same bits whichever rows are beside it. Candle multiplies one row with other kernels than many.
pub(super) const EXACT: bool = cfg!(not(feature = "candle"));

/// What followed the longest earlier repetition of the last ids, the latest of several; at most `most` ids. Where the
/// repetition reaches up to its own end it goes on repeating.
pub(super) fn look_up(ids: &[u32], most: usize) -> Vec<u32> {
    let matched = |end: usize| {
        let pairs = ids[..end].iter().rev().zip(ids.iter().rev());
        let pairs = pairs.take(LONGEST_MATCH);
        pairs.take_while(|(earlier, last)| earlier == last).count()
    };
    let mut best = (LEAST_MATCH - 1, ids.len());
    for end in (LEAST_MATCH..ids.len()).rev() {
        let length = matched(end);
        if length > best.0 {
            best = (length, end);
        }
        if length == LONGEST_MATCH {
            break;
        }
    }
    let (_, end) = best;
    if end == ids.len() {
        return Vec::new();
    }
    // What is copied lies before what is written.
    let mut text = ids[end..].to_vec();
    let period = text.len();
    while text.len() < most {
        text.push(text[text.len() - period]);
    }
    text.truncate(most);
    text
}

/// How often drafted tokens of an answer are the chosen ones. Measured also where nothing was drafted: what would have
/// been is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acceptance(f64);

impl Default for Acceptance {
    fn default() -> Self {
        Self(UNJUDGED)
    }
}

impl Acceptance {
    pub(super) fn learn(&mut self, accepted: bool) {
        let value = if accepted { 1.0 } else { 0.0 };
        self.0 += (value - self.0) * FRESH;
    }

    /// Tokens that a step of so many rows is expected to yield: the first, the second if the first was drafted right, and
    /// so on.
    fn expected(self, rows: usize) -> f64 {
        (0..rows).map(|row| self.0.powi(row as i32)).sum()
    }
}

/// What steps of one sequence of a model take, by their rows.
#[derive(Debug, Default)]
pub(super) struct Pace {
    measured: [Option<Measured>; ROWS.len()],
    /// Steps so far.
    steps: u64,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    /// The step in which it was measured last.
    step: u64,
}

impl Pace {
    /// Takes account of a step of one sequence, of so many rows.
    pub(super) fn learn(&mut self, rows: usize, took: Duration) {
        self.steps += 1;
        let Some(at) = ROWS.iter().position(|&known| known == rows) else {
            return;
        };
        let seconds = took.as_secs_f64();
        let known = self.measured[at].filter(|known| self.is_fresh(*known));
        self.measured[at] = Some(Measured {
            seconds: known.map_or(seconds, |known| {
                known.seconds + (seconds - known.seconds) * FRESH
            }),
            step: self.steps,
        });
    }

    fn is_fresh(&self, measured: Measured) -> bool {
        self.steps - measured.step < STALE
    }

    /// Rows of the next step: as many as yield most tokens a second, one unless others yield more. `most` is one more than
    /// could be drafted.
    pub(super) fn rows(&self, acceptance: Acceptance, most: usize) -> usize {
        let mut best = (0.0, 1);
        // A size that was not measured is tried when the next smaller one was, as if it took no longer.
        let mut before = None;
        for (rows, measured) in ROWS.into_iter().zip(self.measured) {
            let measured = measured.filter(|measured| self.is_fresh(*measured));
            let seconds = measured.map(|measured| measured.seconds);
            let Some(assumed) = seconds.or(before).filter(|_| rows <= most) else {
                break;
            };
            let rate = acceptance.expected(rows) / assumed;
            if rows == 1 {
                best = (rate * GAIN, 1);
            } else if rate > best.0 {
                best = (rate, rows);
            }
            before = seconds;
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_longest_and_latest_repetition_is_drafted() {
        assert_eq!(look_up(&[1, 2, 3, 4, 5, 1, 2, 3], 2), [4, 5]);
        assert_eq!(
            look_up(&[1, 2, 3, 8, 1, 2, 3, 9, 7, 1, 2, 3], 2),
            [9, 7],
            "the latest of equals"
        );
        assert_eq!(
            look_up(&[5, 1, 2, 3, 8, 1, 2, 3, 9, 5, 1, 2, 3], 1),
            [8],
            "the longer one"
        );
        assert_eq!(look_up(&[1, 2, 9, 1, 2], 4), [0; 0], "two are too few");
        assert_eq!(look_up(&[], 4), [0; 0]);
        assert_eq!(look_up(&[7, 7, 7], 4), [0; 0]);
        assert_eq!(look_up(&[7, 7, 7, 7], 3), [7, 7, 7], "it goes on repeating");
        assert_eq!(look_up(&[1, 2, 1, 2, 1, 2], 3), [1, 2, 1]);
        assert_eq!(look_up(&[1, 2, 3, 4, 1, 2, 3], 0), [0; 0]);
    }

    proptest::proptest! {
        #[test]
        fn a_draft_is_what_followed_somewhere(
            ids in proptest::collection::vec(0u32..3, 0..40), most in 0usize..9,
        ) {
            let draft = look_up(&ids, most);
            proptest::prop_assert!(draft.len() == most || draft.is_empty());
            if let Some(first) = draft.first() {
                let tail = &ids[ids.len() - LEAST_MATCH..];
                let mut seen = ids.windows(LEAST_MATCH + 1);
                proptest::prop_assert!(seen.any(|seen| seen[..LEAST_MATCH] == *tail && seen[LEAST_MATCH] == *first));
            }
        }
    }

    fn accepts(share: f64) -> Acceptance {
        Acceptance(share)
    }

    /// A pace at which a row more costs that part of a step of one.
    fn pace(row: f64) -> Pace {
        let mut pace = Pace::default();
        for rows in ROWS {
            let seconds = 0.01 * (1.0 + row * (rows - 1) as f64);
            pace.learn(rows, Duration::from_secs_f64(seconds));
        }
        pace
    }

    #[test]
    fn drafts_are_as_long_as_they_pay() {
        assert_eq!(Pace::default().rows(accepts(0.9), 8), 1, "nothing is known");
        assert_eq!(pace(0.05).rows(accepts(0.95), 8), 8);
        assert_eq!(pace(0.05).rows(accepts(0.95), 5), 4, "no more is there");
        assert_eq!(pace(0.05).rows(accepts(0.95), 1), 1);
        assert_eq!(pace(0.3).rows(accepts(0.6), 8), 2);
        assert_eq!(pace(0.3).rows(accepts(0.2), 8), 1);
        assert_eq!(
            pace(1.0).rows(accepts(0.99), 8),
            1,
            "rows are not for free here"
        );
    }

    #[test]
    fn a_size_is_tried_once_and_again_when_it_is_stale() {
        let mut pace = Pace::default();
        let single = Duration::from_millis(10);
        pace.learn(1, single);
        assert_eq!(pace.rows(accepts(0.5), 8), 2, "a first try");
        pace.learn(2, 3 * single);
        assert_eq!(pace.rows(accepts(0.5), 8), 1, "it does not pay");
        for _ in 0..STALE {
            pace.learn(1, single);
        }
        assert_eq!(pace.rows(accepts(0.5), 8), 2, "it may pay by now");
    }

    #[test]
    fn acceptance_follows_what_happens() {
        let mut acceptance = Acceptance::default();
        (0..50).for_each(|_| acceptance.learn(true));
        assert!(acceptance.expected(4) > 3.9);
        (0..50).for_each(|_| acceptance.learn(false));
        assert!(acceptance.expected(4) < 1.1);
    }
}
