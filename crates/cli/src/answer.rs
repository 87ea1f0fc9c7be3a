//! One answer as it comes: text to standard output, everything around it to standard error.

use node::{AnswerEvent, ErrorView, Message, MessageState, MoveReason, Phase};

use crate::{
    failure::{self, Failure},
    output::Output,
};

/// What has been shown of one answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    json: bool,
    text: bool,
    reasoning: bool,
    /// The last character shown ended a line.
    line_ended: bool,
    /// Who computes it now, once that is known; a known place without a peer is this computer.
    peer: Option<Option<String>>,
    finished: Option<Message>,
}

impl Answer {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            ..Self::default()
        }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &AnswerEvent, output: &mut Output) -> Result<(), Failure> {
        if let AnswerEvent::Finished { message, .. } = event {
            self.finished = Some(message.clone());
        }
        if self.json {
            return output.json(event);
        }
        match event {
            AnswerEvent::Started { .. }
            | AnswerEvent::Titled { .. }
            | AnswerEvent::Finished { .. } => Ok(()),
            AnswerEvent::Phase {
                phase,
                done,
                total,
                peer,
            } => {
                if !self.text {
                    output.progress(&waiting(*phase, *done, *total, peer.as_deref()));
                }
                Ok(())
            }
            AnswerEvent::Text {
                append,
                reasoning: true,
                ..
            } => {
                self.reasoning = true;
                output.reasoning(append)
            }
            AnswerEvent::Text {
                append,
                reasoning: false,
                ..
            } => {
                if self.reasoning && !self.text {
                    // Between the reasoning and the answer, for a person.
                    output.reasoning("\n\n")?;
                }
                self.text = true;
                self.line_ended = append.ends_with('\n');
                output.answer(append)
            }
            AnswerEvent::Placed { peer, index, why } => {
                let before = self.peer.replace(peer.clone());
                let Some(before) = before.filter(|before| before != peer) else {
                    return Ok(());
                };
                if output.answer_is_watched {
                    output.answer("\n")?;
                }
                output.news(&format!(
                    "({} {} after {index} tokens; {} goes on from there)",
                    place(before.as_deref()),
                    why.map_or("was lost", left),
                    place(peer.as_deref())
                ));
                Ok(())
            }
        }
    }

    /// Whether something of it stands on the screen.
    pub(crate) fn has_text(&self) -> bool {
        self.text || self.reasoning
    }

    /// How it ended, once it has.
    pub(crate) fn state(&self) -> Option<MessageState> {
        self.finished.as_ref().map(|message| message.state)
    }

    /// The id of the finished message.
    pub(crate) fn id(&self) -> Option<String> {
        self.finished.as_ref().map(|message| message.id.clone())
    }

    /// Ends the text's line, tells what the answer was, and judges it.
    pub(crate) fn end(self, output: &mut Output) -> Result<(), Failure> {
        if self.text && !self.line_ended && !self.json {
            output.answer("\n")?;
        }
        let Some(message) = self.finished else {
            return Err(Failure::new(
                "answer_lost",
                "The answer ended without saying how.",
                "ask again; if it happens again, run `decentralgpt doctor`.",
            ));
        };
        if !self.json {
            output.news(&footer(&message));
        }
        match message.state {
            MessageState::Complete | MessageState::Streaming => Ok(()),
            MessageState::Length => {
                output.news("The answer reached its limit of tokens: --max-out N allows more.");
                Ok(())
            }
            MessageState::Stopped => Err(Failure::Interrupted),
            MessageState::Interrupted => Err(broken(
                output,
                message.error,
                ErrorView::new(
                    "interrupted",
                    "The answer broke off, and nobody could go on with it.",
                    Some(
                        "ask again, perhaps with another --peer or with --place local.".to_owned(),
                    ),
                ),
            )),
            MessageState::Failed => Err(broken(
                output,
                message.error,
                ErrorView::new("failed", "There is no answer.", None),
            )),
        }
    }
}

fn broken(output: &mut Output, error: Option<ErrorView>, or: ErrorView) -> Failure {
    failure::say(output, &error.unwrap_or(or));
    Failure::Told
}

/// What became of the place that wrote until now.
fn left(why: MoveReason) -> &'static str {
    match why {
        MoveReason::Gone => "was lost",
        MoveReason::Silent => "fell silent",
        MoveReason::OwnWork => "is needed by its owner",
        MoveReason::Off => "was switched off",
        MoveReason::Failed => "could not go on",
        MoveReason::Dishonest => "sent something false",
        MoveReason::Network => "was cut off when this computer slept or changed its network",
    }
}

/// `This computer`, or a peer's short name.
pub(crate) fn place(peer: Option<&str>) -> String {
    peer.map_or_else(
        || "this computer".to_owned(),
        |peer| format!("peer {}", short(peer)),
    )
}

/// A PeerId so short that two of them can be told apart on a screen.
pub(crate) fn short(peer: &str) -> String {
    let marks: Vec<char> = peer.chars().collect();
    match marks.len() {
        0..=14 => peer.to_owned(),
        length => marks[..6]
            .iter()
            .chain(['…'].iter())
            .chain(marks[length - 6..].iter())
            .collect(),
    }
}

fn waiting(phase: Phase, done: u64, total: u64, peer: Option<&str>) -> String {
    let share = (done * 100)
        .checked_div(total)
        .map(|percent| format!(" {}%", percent.min(100)))
        .unwrap_or_default();
    let place = place(peer);
    match phase {
        Phase::Connecting => format!("{place}: connecting"),
        Phase::Queued => match done {
            0 => format!("{place}: waiting until it has time"),
            1 => format!("{place}: next in line"),
            number => format!("{place}: {} in line", ordinal(number)),
        },
        Phase::Loading => format!("{place}: loading the model{share}"),
        Phase::Prefill => format!("{place}: reading the question{share}"),
    }
}

/// `2nd`, `3rd`, `11th`.
fn ordinal(number: u64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        (_, _) => "th",
    };
    format!("{number}{ending}")
}

/// Model, places, tokens and speed.
fn footer(message: &Message) -> String {
    let mut parts = Vec::new();
    parts.extend(message.model.as_ref().map(|model| match message.unlisted {
        true => format!("{model} (not in your catalogue)"),
        false => model.clone(),
    }));
    let mut places: Vec<String> = message
        .spans
        .iter()
        .map(|span| place(span.peer.as_deref()))
        .collect();
    places.dedup();
    if !places.is_empty() {
        parts.push(places.join(", then "));
    }
    parts.extend(
        message
            .output_tokens
            .map(|tokens| format!("{tokens} tokens")),
    );
    parts.extend(
        message
            .tokens_per_second
            .map(|speed| format!("{speed:.1} tokens/s")),
    );
    let receipts = message
        .spans
        .iter()
        .filter(|span| span.receipt.is_some())
        .count();
    if receipts > 0 {
        parts.push(if receipts == 1 {
            "receipt signed".to_owned()
        } else {
            format!("{receipts} receipts signed")
        });
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_short_name() {
        assert_eq!(
            short("12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"),
            "12D3Ko…LvKXtf"
        );
        assert_eq!(short("älter"), "älter");
    }

    #[test]
    fn a_place_in_line_is_a_number_that_people_say() {
        let at = |done| waiting(Phase::Queued, done, 0, Some("p"));
        assert_eq!(at(0), "peer p: waiting until it has time");
        assert_eq!(at(1), "peer p: next in line");
        assert_eq!(at(2), "peer p: 2nd in line");
        for (number, said) in [
            (3, "3rd"),
            (4, "4th"),
            (11, "11th"),
            (12, "12th"),
            (21, "21st"),
        ] {
            assert_eq!(ordinal(number), said);
        }
    }

    #[test]
    fn a_wait_without_a_known_end_shows_no_share() {
        assert_eq!(
            waiting(Phase::Loading, 0, 0, None),
            "this computer: loading the model"
        );
        assert_eq!(
            waiting(Phase::Prefill, 7, 5, None),
            "this computer: reading the question 100%"
        );
    }
}
