//! Text that a stranger's file gives itself, fit for a screen.

use engine::EngineError;

use crate::error::NodeError;

/// Characters of such a text: the longest names that models of the catalogue have are half as long.
const MAX_CHARS: usize = 80;

/// Characters of a reason that quotes such a file.
const MAX_REASON_CHARS: usize = 160;

/// Marks in a row that stand above or below a letter: Vietnamese and Hebrew take two.
const MAX_MARKS: usize = 2;

/// Letters that Tibetan writes below one another, with their vowels, are marks too: the tallest of its words take four.
const MAX_STACKED: usize = 4;

/// What went wrong with a head that a stranger gave, without what the file could say by it: its texts are cut and cleaned, and where it
/// lies here is nobody's business. `model`: what it is called here.
pub(crate) fn told_by_a_stranger(model: &str, error: NodeError) -> NodeError {
    let NodeError::Engine(error) = error else {
        return error;
    };
    let quotes = matches!(
        error,
        EngineError::UnsupportedFeature { .. }
            | EngineError::UnsupportedTensor { .. }
            | EngineError::UnsupportedArchitecture { .. }
            | EngineError::Template { .. }
    );
    let why = if let EngineError::BadFile { problem, .. } = &error {
        problem.to_string()
    } else if matches!(error, EngineError::NoTemplate { .. }) {
        "it does not say how a chat is written".to_owned()
    } else if quotes {
        error.to_string()
    } else {
        return error.into();
    };
    NodeError::HeadUnreadable {
        model: model.to_owned(),
        why: cut(&why, MAX_REASON_CHARS).unwrap_or_default(),
    }
}

/// One short line without control characters, marks that turn the direction of writing, and marks that nobody sees. `None` where nothing
/// is left.
pub(super) fn line(text: &str) -> Option<String> {
    cut(text, MAX_CHARS)
}

fn cut(text: &str, max_chars: usize) -> Option<String> {
    let mut line = String::new();
    let (mut chars, mut marks, mut gap) = (0, 0, false);
    for mark in text.chars() {
        if mark.is_whitespace() || mark.is_control() {
            gap = true;
            continue;
        }
        if is_unseen(mark) {
            continue;
        }
        let in_a_row = most_in_a_row(mark);
        marks = if in_a_row.is_some() { marks + 1 } else { 0 };
        // What a first letter would carry has no letter here.
        let is_loose = marks > 0 && (line.is_empty() || gap);
        if is_loose || in_a_row.is_some_and(|most| marks > most) {
            continue;
        }
        let room = chars + usize::from(gap && chars > 0);
        if room >= max_chars {
            line.push('…');
            break;
        }
        if gap && chars > 0 {
            line.push(' ');
        }
        gap = false;
        line.push(mark);
        chars = room + 1;
    }
    (!line.is_empty()).then_some(line)
}

/// Marks that have no width, show nothing, or turn the direction of what follows: two texts that differ in them look alike.
fn is_unseen(mark: char) -> bool {
    matches!(mark,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}'
        | '\u{e000}'..='\u{f8ff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

/// How many marks like this one may stand on the letter before them; `None` for what is no such mark.
fn most_in_a_row(mark: char) -> Option<usize> {
    match mark {
        '\u{0300}'..='\u{036f}'
        | '\u{0483}'..='\u{0489}'
        | '\u{0591}'..='\u{05bd}'
        | '\u{05bf}'
        | '\u{05c1}'..='\u{05c2}'
        | '\u{05c4}'..='\u{05c5}'
        | '\u{05c7}'
        | '\u{0610}'..='\u{061a}'
        | '\u{064b}'..='\u{065f}'
        | '\u{0670}'
        | '\u{06d6}'..='\u{06dc}'
        | '\u{06df}'..='\u{06e4}'
        | '\u{06e7}'..='\u{06e8}'
        | '\u{06ea}'..='\u{06ed}'
        | '\u{0711}'
        | '\u{0730}'..='\u{074a}'
        | '\u{0898}'..='\u{089f}'
        | '\u{08ca}'..='\u{08e1}'
        | '\u{08e3}'..='\u{08ff}'
        | '\u{0e31}'
        | '\u{0e34}'..='\u{0e3a}'
        | '\u{0e47}'..='\u{0e4e}'
        | '\u{0eb1}'
        | '\u{0eb4}'..='\u{0ebc}'
        | '\u{0ec8}'..='\u{0ece}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{a66f}'..='\u{a672}'
        | '\u{a674}'..='\u{a67d}'
        | '\u{fe20}'..='\u{fe2f}' => Some(MAX_MARKS),
        '\u{0f18}'..='\u{0f19}'
        | '\u{0f35}'
        | '\u{0f37}'
        | '\u{0f39}'
        | '\u{0f71}'..='\u{0f84}'
        | '\u{0f86}'..='\u{0f87}'
        | '\u{0f8d}'..='\u{0fbc}' => Some(MAX_STACKED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use engine::FileProblem;

    use super::*;

    #[test]
    fn what_a_file_calls_itself_is_one_short_line_that_steers_nothing() {
        let said = |text: &str| line(text).unwrap_or_default();
        assert_eq!(said("Tiny Chat 1B"), "Tiny Chat 1B");
        assert_eq!(said("  two\r\n\tlines\u{2028}more "), "two lines more");
        assert_eq!(said("a\u{1b}[31mred\u{9b}0m\u{7}"), "a [31mred 0m");
        assert_eq!(said("Llama\u{202e}DAB\u{2066}\u{200f}"), "LlamaDAB");
        assert_eq!(said("Ll\u{200b}a\u{ad}ma\u{e0041}\u{fe0f}"), "Llama");
        assert_eq!(said("名前 ünï"), "名前 ünï");
        assert_eq!(
            said(&format!("Z{}!", "\u{0301}".repeat(50))),
            "Z\u{0301}\u{0301}!"
        );
        assert_eq!(
            said("<b>x</b> **y**"),
            "<b>x</b> **y**",
            "it is shown as text"
        );
        assert_eq!(line(" \u{200b}\n\u{0301}"), None);
        assert_eq!(line("\u{2800} \u{2800}"), None, "a blank of Braille");
        let long = said(&"ab ".repeat(100));
        assert!(
            long.chars().count() <= MAX_CHARS + 1 && long.ends_with('…'),
            "{long}"
        );
    }

    #[test]
    fn no_letter_carries_a_tower() {
        for (mark, most) in [
            ('\u{0f74}', MAX_STACKED),
            ('\u{0f7a}', MAX_STACKED),
            ('\u{0f92}', MAX_STACKED),
            ('\u{06d6}', MAX_MARKS),
            ('\u{06e4}', MAX_MARKS),
            ('\u{06ed}', MAX_MARKS),
            ('\u{0670}', MAX_MARKS),
            ('\u{08f0}', MAX_MARKS),
            ('\u{0ec8}', MAX_MARKS),
        ] {
            let tower: String = std::iter::repeat_n(mark, 40).collect();
            let said = line(&format!("Z{tower}!")).unwrap();
            assert_eq!(said.chars().count(), most + 2, "{mark:?}");
        }
        let word = "བསྒྲུབས";
        assert_eq!(line(word).as_deref(), Some(word));
    }

    #[test]
    fn why_a_strangers_head_cannot_be_read_steers_no_screen() {
        let evil = "x\u{202e}\n\u{1b}[2J".repeat(100);
        let told = |error: EngineError| {
            let error = told_by_a_stranger("model 12", error.into());
            assert_eq!(error.code(), "head_unreadable");
            let view = error.view();
            let is_clean = |mark: char| !mark.is_control() && mark != '\u{202e}';
            assert!(view.message.chars().all(is_clean), "{}", view.message);
            assert!(view.message.chars().count() < 300, "{}", view.message);
            view.message
        };
        for error in [
            EngineError::UnsupportedFeature {
                what: "llama.rope.scaling.type".to_owned(),
                value: evil.clone(),
            },
            EngineError::UnsupportedArchitecture {
                architecture: evil.clone(),
                model: evil.clone(),
            },
            EngineError::Template {
                detail: evil.clone(),
            },
        ] {
            told(error);
        }
        let file = PathBuf::from("/data/heads/12ab.gguf");
        let bad = EngineError::BadFile {
            file: file.clone(),
            problem: FileProblem::MissingKey {
                key: format!("general.{evil}"),
            },
        };
        for error in [bad, EngineError::NoTemplate { file }] {
            let said = told(error);
            assert!(!said.contains("heads"), "{said}");
        }
        let other = told_by_a_stranger("model 12", NodeError::ChatBusy);
        assert_eq!(other.code(), "chat_busy");
    }
}
