//! What the person is told of an answer: how it goes on, and how it ended.

use protocol::{
    frame::Phase as WirePhase,
    job::client::{self, AnswerPhase, Outcome, Place, Progress},
};

use super::{super::attempts::error_of, Drive};
use crate::{
    ask::output::End,
    chat::{AnswerEvent, Phase},
    error::{ErrorView, NodeError},
};

impl Drive<'_> {
    pub(super) fn progress(&mut self, progress: Progress) {
        let Progress {
            attempt,
            place,
            phase,
            done,
            total,
            queue_pos,
        } = progress;
        tracing::debug!(
            attempt,
            ?phase,
            done,
            total,
            queue_pos,
            "an attempt goes on"
        );
        // Who is next in line has the first place.
        let done = match phase == AnswerPhase::InLine {
            true => u64::from(queue_pos) + 1,
            false => done,
        };
        let phase = match phase {
            AnswerPhase::Connecting | AnswerPhase::Resuming => Phase::Connecting,
            AnswerPhase::Waiting
            | AnswerPhase::InLine
            | AnswerPhase::At(WirePhase::Queued | WirePhase::Paused | WirePhase::Unpaid) => {
                Phase::Queued
            }
            AnswerPhase::At(WirePhase::Loading) => Phase::Loading,
            AnswerPhase::At(WirePhase::Prefill) => Phase::Prefill,
            // Tokens speak for themselves.
            AnswerPhase::At(WirePhase::Decode) => return,
        };
        let peer = match place {
            Place::Local => None,
            Place::Peer(peer) => Some(peer.to_string()),
        };
        self.events.push(AnswerEvent::Phase {
            phase,
            done,
            total,
            peer,
        });
    }

    pub(super) fn end(self, outcome: Outcome) -> End {
        if self.output_broken {
            let error = self.engine_error.map(|error| NodeError::from(error).view());
            return End::Interrupted(error);
        }
        match outcome.end {
            client::End::Length if outcome.capped => {
                let fix = "Allow more in the settings, and go on with the answer.";
                End::Interrupted(Some(ErrorView::new(
                    "cap_reached",
                    "The answer has cost what it may.",
                    Some(fix.to_owned()),
                )))
            }
            client::End::Stopped if self.loops => {
                let fix = "Ask again in other words, or choose another model. Going on with it takes up where it was.";
                End::Interrupted(Some(ErrorView::new(
                    "repeats_itself",
                    "The answer had begun to repeat itself, and was stopped.",
                    Some(fix.to_owned()),
                )))
            }
            client::End::Complete(_) => End::Complete,
            client::End::Length => End::Length,
            client::End::Stopped => End::Stopped,
            client::End::Interrupted(why) => {
                End::Interrupted(Some(error_of(why, self.engine_error)))
            }
            client::End::Failed(Some(why)) => End::Failed(error_of(why, self.engine_error)),
            client::End::Failed(None) => End::Failed(
                NodeError::NoPeer {
                    model: self.work.model_name,
                }
                .view(),
            ),
        }
    }
}
