//! How a command ends when it does not end well: one sentence, one next step, one exit code.

use std::{io, process::ExitCode};

use node::ErrorView;

use crate::output::Output;

/// Why a command stops before its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something did not work.
    Said(ErrorView),
    /// A failure that was told already, where it happened.
    Told,
    /// Ctrl-C.
    Interrupted,
    /// Whoever read our output has gone: `decentralgpt models list | head -1`.
    OutputClosed,
}

/// What to try when an error brings no advice of its own.
const NEXT: &str = "run `decentralgpt doctor` to see what is wrong with this computer.";

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Said(ErrorView::new(code, message, Some(fix.into())))
    }

    /// A write to standard output that did not work.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::new(
                "output_failed",
                format!("Standard output cannot be written: {error}."),
                "Check where it goes, and that the disk is not full.",
            )
        }
    }

    /// Tells it on standard error, or for programs on standard output, and gives the exit code that is documented in the help.
    pub(crate) fn tell(&self, output: &mut Output, json: bool) -> ExitCode {
        match self {
            Self::Said(error) => {
                say(output, error);
                if json {
                    let _ = output.json(&serde_json::json!({ "kind": "error", "error": error }));
                }
                ExitCode::FAILURE
            }
            Self::Told => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(130),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<ErrorView> for Failure {
    fn from(error: ErrorView) -> Self {
        Self::Said(error)
    }
}

/// An error on standard error: the sentence, below it the next step, and the command that does it where there is one.
pub(crate) fn say(output: &mut Output, error: &ErrorView) {
    say_as(output, "error", error);
}

/// The same, called something milder than an error.
pub(crate) fn say_as(output: &mut Output, word: &str, error: &ErrorView) {
    output.trouble(&format!("{word}: {}", sentence(&error.message)));
    output.trouble(&format!(" next: {}", error.fix.as_deref().unwrap_or(NEXT)));
    if let Some(command) = &error.command {
        output.trouble(&format!("   by: {command}"));
    }
}

/// With a capital and a full stop, whoever wrote it.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut marks = text.chars();
    let mut sentence: String = marks
        .next()
        .map(|first| first.to_uppercase().chain(marks).collect())
        .unwrap_or_default();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_looks_like_one() {
        assert_eq!(
            sentence("no reachable peer offers it"),
            "No reachable peer offers it."
        );
        assert_eq!(sentence("Really?"), "Really?");
        assert_eq!(sentence("élan"), "Élan.");
    }
}
