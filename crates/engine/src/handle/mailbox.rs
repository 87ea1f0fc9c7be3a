//! Where a running answer's events wait for their reader, and where its reader's wishes wait for the actor.
//!
//! Events that were not fetched are merged (tokens into tokens, progress replaces progress), so the mailbox holds at most
//! a few events, and never more bytes than the answer itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{EngineError, GenerateEvent};

/// What the reader wants of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    Pause,
    Cancel,
}

#[derive(Debug)]
struct State {
    events: VecDeque<Result<GenerateEvent, EngineError>>,
    ended: bool,
    wish: Wish,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    arrived: Notify,
    /// Wakes the actor when a wish changed.
    sweep: Arc<Notify>,
}

impl Mailbox {
    pub(super) fn new(sweep: Arc<Notify>) -> Self {
        Self {
            state: Mutex::new(State {
                events: VecDeque::new(),
                ended: false,
                wish: Wish::Run,
            }),
            arrived: Notify::new(),
            sweep,
        }
    }

    pub(super) async fn next(&self) -> Option<Result<GenerateEvent, EngineError>> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.lock();
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if state.ended {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Adds an event. The first `Finished` or error is the last one taken.
    pub(super) fn put(&self, event: Result<GenerateEvent, EngineError>) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        state.ended = matches!(event, Err(_) | Ok(GenerateEvent::Finished { .. }));
        let unmerged = match (state.events.back_mut(), event) {
            (Some(Ok(waiting)), Ok(event)) => merge(waiting, event).map(Ok),
            (_, event) => Some(event),
        };
        state.events.extend(unmerged);
        drop(state);
        self.arrived.notify_one();
    }

    /// The wish is a state and not a message: setting it cannot fail, and only the last one counts. Cancel is final.
    pub(super) fn wish(&self, wish: Wish) {
        let mut state = self.lock();
        if state.wish != Wish::Cancel {
            state.wish = wish;
        }
        drop(state);
        self.sweep.notify_one();
    }

    pub(super) fn wanted(&self) -> Wish {
        self.lock().wish
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two writes, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Merges `event` into the one that waits before it, or gives it back.
fn merge(waiting: &mut GenerateEvent, event: GenerateEvent) -> Option<GenerateEvent> {
    match (waiting, event) {
        (
            GenerateEvent::Tokens {
                ids,
                text,
                logprobs,
                ..
            },
            GenerateEvent::Tokens {
                ids: more,
                text: tail,
                logprobs: likely,
                ..
            },
        ) => {
            ids.extend(more);
            text.push_str(&tail);
            logprobs.extend(likely);
            None
        }
        (waiting @ GenerateEvent::Prefill { .. }, event @ GenerateEvent::Prefill { .. }) => {
            *waiting = event;
            None
        }
        (_, event) => Some(event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Finish, GenerateStats};

    fn tokens(first_index: u32, text: &str) -> GenerateEvent {
        GenerateEvent::Tokens {
            first_index,
            ids: vec![first_index],
            text: text.into(),
            logprobs: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_waits_is_merged_and_the_end_is_the_end() {
        let mailbox = Mailbox::new(Arc::new(Notify::new()));
        mailbox.put(Ok(GenerateEvent::Prefill { done: 1, total: 2 }));
        mailbox.put(Ok(GenerateEvent::Prefill { done: 2, total: 2 }));
        mailbox.put(Ok(tokens(0, "a")));
        mailbox.put(Ok(tokens(1, "b")));
        let end = GenerateEvent::Finished {
            finish: Finish::Stop,
            stats: GenerateStats::default(),
        };
        mailbox.put(Ok(end.clone()));
        mailbox.put(Err(EngineError::Cancelled));
        let Some(Ok(GenerateEvent::Prefill { done: 2, .. })) = mailbox.next().await else {
            panic!("progress is the latest");
        };
        let merged = GenerateEvent::Tokens {
            first_index: 0,
            ids: vec![0, 1],
            text: "ab".into(),
            logprobs: Vec::new(),
        };
        assert_eq!(mailbox.next().await, Some(Ok(merged)));
        assert_eq!(mailbox.next().await, Some(Ok(end)));
        assert_eq!(mailbox.next().await, None);
    }

    #[test]
    fn a_cancelled_answer_stays_cancelled() {
        let mailbox = Mailbox::new(Arc::new(Notify::new()));
        mailbox.wish(Wish::Cancel);
        mailbox.wish(Wish::Run);
        assert_eq!(mailbox.wanted(), Wish::Cancel);
    }
}
