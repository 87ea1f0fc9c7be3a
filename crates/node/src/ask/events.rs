//! The events of one answer on their way to a shell.
//!
//! The answer never waits for its listener: what the channel does not take at once is gathered here, text into one
//! piece and progress into the newest, so that what waits is bounded by the answer itself.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::chat::AnswerEvent;

/// A window reads every 40 ms, a terminal at once: half a minute of tokens for one that hangs.
const QUEUE: usize = 512;

/// The sending half.
#[derive(Debug)]
pub(crate) struct Events {
    sender: mpsc::Sender<AnswerEvent>,
    waiting: VecDeque<AnswerEvent>,
}

impl Events {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<AnswerEvent>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (
            Self {
                sender,
                waiting: VecDeque::new(),
            },
            receiver,
        )
    }

    /// Sends, or gathers. Never waits.
    pub(crate) fn push(&mut self, event: AnswerEvent) {
        self.gather(event);
        self.drain_now();
    }

    /// Sends what waits as far as there is room.
    pub(crate) fn drain_now(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return;
                }
                // Nobody listens: the answer goes on for the memory.
                Err(mpsc::error::TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }

    /// Sends everything, waiting for the listener.
    pub(crate) async fn drain(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            if self.sender.send(event).await.is_err() {
                self.waiting.clear();
            }
        }
    }

    fn gather(&mut self, event: AnswerEvent) {
        match (self.waiting.back_mut(), event) {
            (
                Some(AnswerEvent::Text {
                    append,
                    reasoning,
                    tokens,
                }),
                AnswerEvent::Text {
                    append: more,
                    reasoning: same,
                    tokens: now,
                },
            ) if *reasoning == same => {
                append.push_str(&more);
                *tokens = now;
            }
            (Some(last @ AnswerEvent::Phase { .. }), event @ AnswerEvent::Phase { .. }) => {
                *last = event
            }
            (_, event) => self.waiting.push_back(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(append: &str, tokens: u32) -> AnswerEvent {
        AnswerEvent::Text {
            append: append.to_owned(),
            reasoning: false,
            tokens,
        }
    }

    #[tokio::test]
    async fn a_listener_that_hangs_gets_the_whole_text_later() {
        let (mut events, mut receiver) = Events::channel();
        let count = 3 * QUEUE as u32;
        for n in 1..=count {
            events.push(text("x", n));
        }
        assert_eq!(events.waiting.len(), 1);
        let reader = tokio::spawn(async move {
            let mut all = String::new();
            let mut last = 0;
            while let Some(event) = receiver.recv().await {
                if let AnswerEvent::Text { append, tokens, .. } = event {
                    all.push_str(&append);
                    last = tokens;
                }
            }
            (all.len(), last)
        });
        events.drain().await;
        drop(events);
        assert_eq!(reader.await.unwrap(), (count as usize, count));
    }
}
