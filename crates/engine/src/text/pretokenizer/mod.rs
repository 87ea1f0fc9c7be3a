//! Cutting text into words before pieces are merged inside each, as `tokenizer.ggml.pre` names it.
//!
//! The rules are the models' own (the `pre_tokenizer` of their `tokenizer.json`), written for a regular expression
//! engine whose time is linear in the text: a prompt of a megabyte from a stranger must not take a minute. Such an engine
//! has no look-ahead, which all rules use in one place alone, `\s+(?!\S)`: a run of white space leaves its last character
//! to the word after it. [`Stage::cut`] does that by hand.

mod rules;

use regex::Regex;

use super::TextProblem;

/// What white space leaves to the word behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// The rule has no such part.
    Keeps,
    /// Its last character, whatever it is.
    Last,
    /// Its last character unless that is a line end (an earlier part of the rule took those).
    LastUnlessLineEnd,
}

#[derive(Debug)]
struct Stage {
    regex: Regex,
    tail: Tail,
}

/// One model's rule.
#[derive(Debug)]
pub(super) struct Pretokenizer {
    stages: Vec<Stage>,
    /// A word that is a piece as a whole becomes that piece, merges or not.
    pub(super) whole_words: bool,
    /// Whether a prompt begins with the begin token where the file does not say.
    pub(super) adds_bos: bool,
}

impl Pretokenizer {
    pub(super) fn named(name: &str) -> Result<Self, TextProblem> {
        let unsupported = |value: String| TextProblem::Unsupported {
            what: "tokenizer.ggml.pre".to_owned(),
            value,
        };
        let rule =
            rules::named(name).ok_or_else(|| unsupported(name.chars().take(64).collect()))?;
        let compile =
            |&(rule, tail): &(&str, Tail)| Regex::new(rule).map(|regex| Stage { regex, tail });
        let stages: Result<Vec<Stage>, regex::Error> = rule.stages.iter().map(compile).collect();
        Ok(Self {
            // The rules are constants and a test compiles each; an error would be a rule missing here.
            stages: stages.map_err(|error| unsupported(error.to_string()))?,
            whole_words: rule.whole_words,
            adds_bos: rule.adds_bos,
        })
    }

    /// Cuts text into words. Joined together they are the text.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = vec![text];
        for stage in &self.stages {
            let mut cut = Vec::with_capacity(words.len());
            for word in words {
                stage.cut(word, &mut cut);
            }
            words = cut;
        }
        words
    }
}

impl Stage {
    /// Every match is a word, and so is everything between two.
    fn cut<'t>(&self, text: &'t str, words: &mut Vec<&'t str>) {
        let mut at = 0;
        while let Some(found) = self.regex.find_at(text, at) {
            let end = found.start() + self.kept(found.as_str(), &text[found.end()..]);
            if end == found.start() {
                break;
            }
            if found.start() > at {
                words.push(&text[at..found.start()]);
            }
            words.push(&text[found.start()..end]);
            at = end;
        }
        if at < text.len() {
            words.push(&text[at..]);
        }
    }

    /// Bytes of a match that belong to it.
    fn kept(&self, found: &str, after: &str) -> usize {
        let line_end = found.ends_with(['\r', '\n']);
        let leaves = match self.tail {
            Tail::Keeps => false,
            Tail::Last => true,
            Tail::LastUnlessLineEnd => !line_end,
        };
        let mut characters = found.char_indices();
        let last = characters.next_back();
        match last {
            Some((at, _))
                if leaves
                    && at > 0
                    && !after.is_empty()
                    && found.chars().all(char::is_whitespace) =>
            {
                at
            }
            _ => found.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str, text: &str) -> Vec<String> {
        let rule = Pretokenizer::named(name).unwrap();
        rule.split(text).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn white_space_leaves_one_to_the_next_word() {
        assert_eq!(split("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(split("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(split("llama-bpe", "a\n\nb"), ["a", "\n\n", "b"]);
        assert_eq!(
            split("llama-bpe", "a \n  b  "),
            ["a", " \n", " ", " b", "  "]
        );
    }

    #[test]
    fn digits_are_cut_as_each_model_wants_it() {
        assert_eq!(split("smollm", "in 1234"), ["in", " ", "1", "2", "3", "4"]);
        assert_eq!(split("llama-bpe", "in 1234"), ["in", " ", "123", "4"]);
        assert_eq!(split("qwen2", "12"), ["1", "2"]);
        assert_eq!(split("gpt-2", "in 1234"), ["in", " 1234"]);
    }

    #[test]
    fn case_ends_a_word_for_tekken() {
        assert_eq!(
            split("tekken", "helloWorld HELLOWorld"),
            ["hello", "World", " HELLOWorld"]
        );
    }

    #[test]
    fn nothing_is_lost() {
        let named = rules::RULES
            .iter()
            .map(|(names, _)| Pretokenizer::named(names[0]));
        let rules: Vec<Pretokenizer> = named.map(Result::unwrap).collect();
        let text = "\\PC{0,40}|[ \\n\\r\\ta1é中😀'’]{0,40}";
        proptest::proptest!(|(text in text)| {
            for rule in &rules {
                let words = rule.split(&text);
                proptest::prop_assert_eq!(words.concat(), text.clone());
                proptest::prop_assert!(text.is_empty() || words.iter().all(|word| !word.is_empty()));
            }
        });
    }
}
