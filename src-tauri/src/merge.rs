//! From `node`'s stream of an answer to the page's channel.
//!
//! A model may write hundreds of tokens in a second, and every message to the page costs a trip through the web view. So
//! text is held for [`HOLD`] and sent in one piece; anything else is sent at once, after the text that came before it.

use std::time::Duration;

use tauri::ipc::Channel;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::view::AnswerEvent;

/// Long enough to join several tokens of a fast model, too short for a reader to see the text come in pieces.
const HOLD: Duration = Duration::from_millis(40);

/// Sends an answer's events to the page until the answer is finished. A page that is gone (reloaded, closed) does not end
/// the answer: it goes on and is stored.
pub(crate) async fn forward(
    mut events: mpsc::Receiver<node::AnswerEvent>,
    page: &Channel<AnswerEvent>,
) {
    let mut held = Held::default();
    let mut due = Instant::now();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = sleep_until(due), if held.is_some() => {
                tell(page, held.take());
                continue;
            }
        };
        let Some(event) = event else {
            tell(page, held.take());
            return;
        };
        if !held.is_some() {
            due = Instant::now() + HOLD;
        }
        for event in held.push(event.into()) {
            tell(page, Some(event));
        }
    }
}

fn tell(page: &Channel<AnswerEvent>, event: Option<AnswerEvent>) {
    if let Some(event) = event
        && let Err(error) = page.send(event)
    {
        tracing::debug!("the page no longer hears its answer: {error}");
    }
}

/// Text that waits to be sent: all of it reasoning, or none of it.
#[derive(Debug, Default)]
struct Held {
    text: Option<(String, bool, u32)>,
}

impl Held {
    fn is_some(&self) -> bool {
        self.text.is_some()
    }

    /// The text held so far, as one event.
    fn take(&mut self) -> Option<AnswerEvent> {
        let (append, reasoning, tokens) = self.text.take()?;
        Some(AnswerEvent::Text {
            append,
            reasoning,
            tokens,
        })
    }

    /// Takes the next event and gives those that must be sent now, in their order.
    fn push(&mut self, event: AnswerEvent) -> impl Iterator<Item = AnswerEvent> + use<> {
        let mut now = [None, None];
        if let AnswerEvent::Text {
            append,
            reasoning,
            tokens,
        } = event
        {
            match &mut self.text {
                Some((text, same, so_far)) if *same == reasoning => {
                    text.push_str(&append);
                    *so_far = tokens;
                }
                Some(_) | None => {
                    now[0] = self.take();
                    self.text = Some((append, reasoning, tokens));
                }
            }
        } else {
            now = [self.take(), Some(event)];
        }
        now.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_joined_and_never_passes_another_event() {
        let mut held = Held::default();
        let mut sent = Vec::new();
        for event in [
            text("Let me ", true, 1),
            text("think.", true, 2),
            text("The ", false, 3),
            text("capital", false, 4),
            AnswerEvent::Placed {
                peer: Some("a".to_owned()),
                index: 4,
                why: None,
            },
            text(" is Paris.", false, 6),
            AnswerEvent::Titled {
                title: "Capital".to_owned(),
            },
        ] {
            sent.extend(held.push(event));
        }
        sent.extend(held.take());
        let sent: Vec<String> = sent
            .iter()
            .map(|event| serde_json::to_string(event).unwrap())
            .collect();
        assert_eq!(
            sent,
            [
                r#"{"kind":"text","append":"Let me think.","reasoning":true,"tokens":2}"#,
                r#"{"kind":"text","append":"The capital","reasoning":false,"tokens":4}"#,
                r#"{"kind":"placed","peer":"a","index":4,"why":null}"#,
                r#"{"kind":"text","append":" is Paris.","reasoning":false,"tokens":6}"#,
                r#"{"kind":"titled","title":"Capital"}"#,
            ]
        );
    }

    fn text(append: &str, reasoning: bool, tokens: u32) -> AnswerEvent {
        AnswerEvent::Text {
            append: append.to_owned(),
            reasoning,
            tokens,
        }
    }
}
