//! Whether an answer has begun to repeat itself.
//!
//! A model that is small, or served badly on purpose, can fall into writing the same words for ever. Where nothing is paid that costs
//! time, which the person sees pass; else every one of those tokens costs money.

use std::collections::VecDeque;

/// The longest passage whose repetition is noticed: a sentence or two.
const MAX_PERIOD: usize = 32;

/// Tokens in a row that have to repeat what came before: a row of a table, a refrain or a list of zeros that somebody asked for is
/// shorter, and who wants more of it can go on with the answer.
const REPEATED: u32 = 256;

/// Watches the tokens of one answer.
#[derive(Debug)]
pub(super) struct Looping {
    last: VecDeque<u32>,
    /// For each period from 1 on, how many tokens in a row were equal to the one a period before.
    runs: [u32; MAX_PERIOD],
}

impl Default for Looping {
    fn default() -> Self {
        Self {
            last: VecDeque::with_capacity(MAX_PERIOD),
            runs: [0; MAX_PERIOD],
        }
    }
}

impl Looping {
    /// Takes in what was written. True: it goes round in circles.
    pub(super) fn takes(&mut self, ids: &[u32]) -> bool {
        let mut loops = false;
        for id in ids {
            for (run, before) in self.runs.iter_mut().zip(self.last.iter().rev()) {
                *run = match before == id {
                    true => run.saturating_add(1),
                    false => 0,
                };
                loops |= *run >= REPEATED;
            }
            if self.last.len() == MAX_PERIOD {
                self.last.pop_front();
            }
            self.last.push_back(*id);
        }
        loops
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// After how many tokens it is noticed.
    fn noticed(ids: impl Iterator<Item = u32>) -> Option<usize> {
        let mut looping = Looping::default();
        ids.take(10_000)
            .position(|id| looping.takes(&[id]))
            .map(|at| at + 1)
    }

    #[test]
    fn a_word_or_a_sentence_for_ever_is_noticed_and_the_answer_before_it_is_not() {
        assert_eq!(noticed(std::iter::repeat(7)), Some(1 + REPEATED as usize));
        let sentence = (0..MAX_PERIOD as u32).cycle();
        let expected = MAX_PERIOD + REPEATED as usize;
        assert_eq!(noticed(sentence.clone()), Some(expected));
        let answer = 1_000..1_500;
        assert_eq!(noticed(answer.chain(sentence)), Some(500 + expected));
    }

    #[test]
    fn what_goes_on_is_let_be() {
        assert_eq!(noticed(0..10_000), None, "new words");
        // A table: each row begins alike, and has a number of its own.
        let table = (0..).flat_map(|row| [1, 2, 3, 100 + row]);
        assert_eq!(noticed(table), None);
        let refrain = (0..).flat_map(|verse| std::iter::repeat_n(5, 200).chain([1_000 + verse]));
        assert_eq!(noticed(refrain), None);
    }

    proptest! {
        #[test]
        fn frames_may_be_cut_anywhere(period in 1..=MAX_PERIOD, cut in 1..64usize) {
            let ids: Vec<u32> = (0..period as u32).cycle().take(1_000).collect();
            let mut looping = Looping::default();
            let at = ids.chunks(cut).position(|frame| looping.takes(frame));
            let tokens = (at.unwrap() + 1) * cut;
            prop_assert!((REPEATED as usize..=REPEATED as usize + period + cut).contains(&tokens));
        }
    }
}
