//! The two streams. Standard output carries what was asked for and nothing else; standard error tells the rest.
//!
//! Models, peers and files write some of the text that is shown here. None of it may steer the terminal: control characters
//! are taken out on the way, whoever wrote them.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Standard output and standard error, and which of them a person watches.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) answer_is_watched: bool,
    pub(crate) news_is_watched: bool,
    colour: bool,
    /// A line of progress stands on standard error without its end.
    progress: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let news_is_watched = io::stderr().is_terminal();
        Self {
            answer_is_watched: io::stdout().is_terminal(),
            news_is_watched,
            // https://no-color.org
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            progress: false,
        }
    }

    /// Part of the answer, at once.
    pub(crate) fn answer(&mut self, text: &str) -> Result<(), Failure> {
        self.clear_progress();
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(harmless(text).as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(Failure::output)
    }

    /// The model's reasoning: shown to a person, and no part of an answer in a pipe.
    pub(crate) fn reasoning(&mut self, text: &str) -> Result<(), Failure> {
        if !self.answer_is_watched {
            return Ok(());
        }
        let text = harmless(text);
        let shown = if self.colour {
            format!("\x1b[2m{text}\x1b[0m")
        } else {
            text
        };
        self.clear_progress();
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(shown.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(Failure::output)
    }

    /// A line of what was asked for.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.clear_progress();
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", harmless(text))
            .and_then(|()| stdout.flush())
            .map_err(Failure::output)
    }

    /// A value as one line of JSON. JSON escapes control characters by itself.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::output(error.into()))?;
        self.clear_progress();
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .map_err(Failure::output)
    }

    /// A line of news on standard error. Nobody there to read it is no failure.
    pub(crate) fn news(&mut self, text: &str) {
        self.clear_progress();
        let text = harmless(text);
        let mut stderr = io::stderr().lock();
        let _ = if self.news_is_watched && self.colour {
            writeln!(stderr, "\x1b[2m{text}\x1b[0m")
        } else {
            writeln!(stderr, "{text}")
        };
    }

    /// A line on standard error that must not be overlooked.
    pub(crate) fn trouble(&mut self, text: &str) {
        self.clear_progress();
        let _ = writeln!(io::stderr().lock(), "{}", harmless(text));
    }

    /// A line that the next one replaces, for a person; a log gets nothing of it.
    pub(crate) fn progress(&mut self, text: &str) {
        if !self.news_is_watched {
            return;
        }
        let _ = write!(io::stderr().lock(), "\r\x1b[K{}", harmless(text));
        self.progress = true;
    }

    pub(crate) fn clear_progress(&mut self) {
        if self.progress {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
            self.progress = false;
        }
    }
}

/// Text without anything that a terminal would obey: no control characters but line ends and tabs, and no marks that turn
/// the direction of writing, which can make a line read as another one.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .filter(|mark| match mark {
            '\n' | '\t' => true,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
            other => !other.is_control(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_steer_the_terminal() {
        assert_eq!(
            harmless("a\x1b]0;owned\x07b\u{9b}31m\r\u{202e}c"),
            "a]0;ownedb31mc"
        );
        assert_eq!(harmless("line\n\té 你好 🙂"), "line\n\té 你好 🙂");
    }
}
