//! The words, while they are shown and asked back.

use ::wallet::{Phrase, Typed};

use super::WalletProblem;

/// How many words are asked back: enough that nobody guesses them, few enough that somebody types them.
pub const ASKED_WORDS: usize = 3;

/// Words in memory from their showing to their check, and which of them are asked.
#[derive(Debug)]
pub(super) struct Backup {
    phrase: Phrase,
    /// Places from 1, rising; `None` after a wrong answer.
    asked: Option<[usize; ASKED_WORDS]>,
}

impl Backup {
    pub(super) fn of(phrase: Phrase) -> Result<Self, WalletProblem> {
        let mut backup = Self {
            phrase,
            asked: None,
        };
        backup.ask_anew()?;
        Ok(backup)
    }

    pub(super) fn ask_anew(&mut self) -> Result<(), WalletProblem> {
        let mut places: Vec<usize> = (1..=self.phrase.len()).collect();
        // A draw without putting back: the end of a Fisher-Yates shuffle.
        for end in (places.len() - ASKED_WORDS..places.len()).rev() {
            places.swap(end, below(end + 1)?);
        }
        let mut asked = [0; ASKED_WORDS];
        asked.copy_from_slice(&places[places.len() - ASKED_WORDS..]);
        asked.sort_unstable();
        self.asked = Some(asked);
        Ok(())
    }

    pub(super) fn asked(&self) -> [usize; ASKED_WORDS] {
        self.asked.unwrap_or_default()
    }

    /// Whether these are the words that were asked for, in their order. Wrong ones end the question.
    pub(super) fn check(&mut self, words: &[Typed]) -> Result<bool, WalletProblem> {
        let asked = self.asked.ok_or(WalletProblem::NotAsked)?;
        let right = words.len() == ASKED_WORDS
            && asked.iter().zip(words).all(|(place, typed)| {
                self.phrase
                    .words()
                    .nth(place - 1)
                    .is_some_and(|word| typed.expose().trim().eq_ignore_ascii_case(word))
            });
        if !right {
            self.asked = None;
        }
        Ok(right)
    }
}

/// A random number below `bound`, which is at most 24: each is as likely as any other.
fn below(bound: usize) -> Result<usize, WalletProblem> {
    // The largest multiple of the bound that a byte holds: beyond it some numbers would come more often.
    let even = 256 - 256 % bound;
    loop {
        let mut byte = [0];
        getrandom::fill(&mut byte)
            .map_err(|error| ::wallet::WalletError::Random(error.to_string()))?;
        let drawn = usize::from(byte[0]);
        if drawn < even {
            return Ok(drawn % bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_may_be_asked_and_none_twice() {
        let mut backup = Backup::of(Phrase::generate().unwrap()).unwrap();
        let mut seen = BTreeSet::new();
        // A place is missed by 500 draws of three of 24 once in 10^29.
        for _ in 0..500 {
            backup.ask_anew().unwrap();
            let asked = backup.asked();
            assert!(asked.windows(2).all(|pair| pair[0] < pair[1]), "{asked:?}");
            seen.extend(asked);
        }
        assert_eq!(seen, (1..=24).collect());
    }

    #[test]
    fn the_right_words_in_their_order_and_no_others() {
        let phrase = Phrase::generate().unwrap();
        let words: Vec<&str> = phrase.words().collect();
        let mut backup = Backup::of(phrase).unwrap();
        let typed = |places: [usize; 3]| places.map(|place| Typed::from(words[place - 1]));
        let asked = backup.asked();
        assert!(backup.check(&typed(asked)).unwrap());
        let shouted =
            typed(asked).map(|word| Typed::new(format!(" {}\n", word.expose().to_uppercase())));
        assert!(backup.check(&shouted).unwrap());
        assert!(!backup.check(&typed(asked)[..2]).unwrap());
        // A wrong answer ends the question: no word is tried out.
        assert!(matches!(
            backup.check(&typed(asked)),
            Err(WalletProblem::NotAsked)
        ));
        backup.ask_anew().unwrap();
        assert!(backup.check(&typed(backup.asked())).unwrap());
    }
}
