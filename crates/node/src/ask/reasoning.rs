//! Splits a model's reasoning from its answer while the text comes.
//!
//! Models of the reasoning kind write `<think>…</think>` before they answer. Some templates open the mark themselves, so
//! that the output begins inside it. A mark may arrive in pieces: what could still become one is held back.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Text, and whether it belongs to the reasoning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) reasoning: bool,
}

/// Splits a stream of text.
#[derive(Debug)]
pub(crate) struct Splitter {
    inside: bool,
    /// Only an answer that begins with the mark has reasoning: later ones are text about marks.
    at_start: bool,
    /// A mark was just passed: the line breaks behind it are part of it.
    behind_mark: bool,
    held: String,
}

impl Splitter {
    /// `inside`: the prompt already ended with the opening mark.
    pub(crate) fn new(inside: bool) -> Self {
        Self {
            inside,
            at_start: !inside,
            behind_mark: inside,
            held: String::new(),
        }
    }

    /// More text in, what became certain out.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        if self.at_start {
            let begun = self.held.trim_start();
            if begun.len() < OPEN.len() && OPEN.starts_with(begun) {
                return parts;
            }
            self.at_start = false;
            if let Some(rest) = begun.strip_prefix(OPEN) {
                self.held = rest.to_owned();
                self.inside = true;
                self.behind_mark = true;
            }
        }
        if self.inside {
            if let Some(at) = self.held.find(CLOSE) {
                let after = self.held.split_off(at + CLOSE.len());
                self.held.truncate(at);
                let thought = std::mem::replace(&mut self.held, after);
                self.give(&mut parts, thought, true);
                self.inside = false;
                self.behind_mark = true;
            } else {
                let held = self
                    .held
                    .split_off(self.held.len() - possible_close(&self.held));
                let thought = std::mem::replace(&mut self.held, held);
                self.give(&mut parts, thought, true);
                return parts;
            }
        }
        let answer = std::mem::take(&mut self.held);
        self.give(&mut parts, answer, false);
        parts
    }

    /// What was held back, at the end.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = std::mem::take(&mut self.held);
        self.give(&mut parts, rest, self.inside);
        parts
    }

    /// Whether text that comes now is reasoning.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside
    }

    fn give(&mut self, parts: &mut Vec<Part>, mut text: String, reasoning: bool) {
        if self.behind_mark {
            text = text.trim_start_matches('\n').to_owned();
        }
        if !text.is_empty() {
            self.behind_mark = false;
            parts.push(Part { text, reasoning });
        }
    }
}

/// Splits a whole stored text: (reasoning, answer).
pub(crate) fn split(content: &str) -> (Option<String>, String) {
    let mut splitter = Splitter::new(false);
    let mut reasoning = String::new();
    let mut answer = String::new();
    let mut thought = false;
    let mut parts = splitter.push(content);
    thought |= splitter.is_inside();
    parts.extend(splitter.finish());
    for part in parts {
        if part.reasoning {
            thought = true;
            reasoning.push_str(&part.text);
        } else {
            answer.push_str(&part.text);
        }
    }
    thought |= content.trim_start().starts_with(OPEN);
    let reasoning = reasoning.trim();
    (
        thought
            .then(|| reasoning.to_owned())
            .filter(|text| !text.is_empty()),
        answer,
    )
}

/// The mark that opens reasoning, for text whose prompt opened it already.
pub(crate) fn opening() -> &'static str {
    OPEN
}

/// Whether a rendered prompt ends inside an opened mark.
pub(crate) fn ends_inside(prompt_tail: &str) -> bool {
    prompt_tail.trim_end().ends_with(OPEN)
}

/// Length of the longest end of `text` that could be the beginning of the closing mark.
fn possible_close(text: &str) -> usize {
    (1..CLOSE.len())
        .rev()
        .find(|&len| text.ends_with(&CLOSE[..len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(inside: bool, pieces: &[&str]) -> (String, String) {
        let mut splitter = Splitter::new(inside);
        let mut parts: Vec<Part> = pieces
            .iter()
            .flat_map(|piece| splitter.push(piece))
            .collect();
        parts.extend(splitter.finish());
        let gather = |wanted| {
            parts
                .iter()
                .filter(|part| part.reasoning == wanted)
                .map(|part| part.text.as_str())
                .collect::<String>()
        };
        (gather(true), gather(false))
    }

    #[test]
    fn marks_in_pieces() {
        let expected = ("why\n".to_owned(), "Because.".to_owned());
        assert_eq!(
            run(
                false,
                &["<thi", "nk>\nwh", "y\n</th", "ink>\n\nBec", "ause."]
            ),
            expected
        );
        assert_eq!(run(true, &["why\n<", "/think>", "\nBecause."]), expected);
        assert_eq!(run(true, &["why\n</think>Because."]), expected);
    }

    #[test]
    fn text_without_reasoning() {
        assert_eq!(
            run(false, &["1 < 2", " and <think> is a mark"]).1,
            "1 < 2 and <think> is a mark"
        );
        assert_eq!(run(false, &["<th", "e>"]).1, "<the>");
        assert_eq!(
            run(true, &["still thinking </thi"]).0,
            "still thinking </thi"
        );
        assert_eq!(split("Hello"), (None, "Hello".to_owned()));
        assert_eq!(
            split("<think>\n\n</think>\n\nHello"),
            (None, "Hello".to_owned())
        );
        assert_eq!(
            split("<think>a</think>b"),
            (Some("a".to_owned()), "b".to_owned())
        );
        assert_eq!(split("<think>a"), (Some("a".to_owned()), String::new()));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "(<think>)?\n?[a-z<>/ ]{0,20}(</think>)?\n?[a-z<>/ ]{0,20}", cuts in proptest::collection::vec(1usize..5, 0..20)) {
            let mut pieces = Vec::new();
            let mut rest = text.as_str();
            for cut in cuts {
                if cut >= rest.len() { break; }
                let (front, back) = rest.split_at(cut);
                pieces.push(front);
                rest = back;
            }
            pieces.push(rest);
            prop_assert_eq!(run(false, &pieces), run(false, &[&text]));
        }
    }
}
