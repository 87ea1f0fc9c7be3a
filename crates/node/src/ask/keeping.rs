//! What an answer leaves on the disk while it grows: neither the text on the screen nor the next token waits for a disk that is slow for a
//! moment.
//!
//! A task of its own writes. What comes while it does is gathered and written together; where the disk takes longer than [`BEHIND`], the
//! answer waits for it, so that what is shown and not kept stays little.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use memory::{Memory, MessageId, Span};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;

use crate::error::{ErrorView, NodeError};

/// What waits to be written is at most this old. A busy disk takes some seconds for what it promises to keep; one that takes longer is ill,
/// and what a crash would cost then is not to grow.
const BEHIND: Duration = Duration::from_secs(5);

/// What waits to be written.
#[derive(Debug, Default)]
struct Waiting {
    /// Where the tokens are computed, up to now, where that is news.
    spans: Option<Vec<Span>>,
    text: String,
    /// The output tokens that the text was made of.
    ids: Vec<u32>,
    /// When the oldest of it came.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    over: AtomicBool,
    /// Something waits, or it is over.
    came: Notify,
    /// What waited is being written.
    taken: Notify,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Waiting {
        let waiting = std::mem::take(&mut *self.waiting());
        self.taken.notify_waiters();
        waiting
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// The way to the task that writes one answer down. Dropping it lets the task write what waits, and end.
#[derive(Debug)]
pub(super) struct Keeping {
    shared: Arc<Shared>,
    /// `None` once its end is waited for.
    task: Option<JoinHandle<Option<ErrorView>>>,
}

impl Keeping {
    /// `writers` counts the task, so that the memory is not closed before it.
    pub(super) fn start(memory: Memory, answer: MessageId, writers: &TaskTracker) -> Self {
        let shared = Arc::<Shared>::default();
        let task = writers.spawn(write_down(memory, answer, Arc::clone(&shared)));
        Self {
            shared,
            task: Some(task),
        }
    }

    pub(super) async fn text(&self, text: &str, ids: &[u32]) {
        self.put(|waiting| {
            waiting.text.push_str(text);
            waiting.ids.extend_from_slice(ids);
        })
        .await;
    }

    pub(super) async fn spans(&self, spans: Vec<Span>) {
        self.put(|waiting| waiting.spans = Some(spans)).await;
    }

    async fn put(&self, add: impl FnOnce(&mut Waiting)) {
        {
            let mut waiting = self.shared.waiting();
            add(&mut waiting);
            waiting.since.get_or_insert_with(Instant::now);
        }
        self.shared.came.notify_one();
        loop {
            let taken = self.shared.taken.notified();
            let since = self.shared.waiting().since;
            let writes = self.task.as_ref().is_some_and(|task| !task.is_finished());
            if !writes || since.is_none_or(|since| since.elapsed() < BEHIND) {
                return;
            }
            taken.await;
        }
    }

    /// Waits until all is with the memory, which holds what the disk does not take yet. Why something of the text is lost, if so.
    pub(super) async fn end(mut self) -> Option<ErrorView> {
        let task = self.task.take()?;
        drop(self);
        task.await.unwrap_or_else(|_| {
            let message = "A part of this answer was not kept.";
            Some(ErrorView::new("not_kept", message, None))
        })
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.shared.came.notify_one();
    }
}

async fn write_down(memory: Memory, answer: MessageId, shared: Arc<Shared>) -> Option<ErrorView> {
    let mut lost = None;
    loop {
        // Asked first: what was put before the end is there to be taken then.
        let over = shared.is_over();
        let waiting = shared.take();
        if waiting.since.is_none() {
            if over {
                return lost;
            }
            shared.came.notified().await;
            continue;
        }
        let Waiting {
            spans, text, ids, ..
        } = waiting;
        if let Some(spans) = spans
            && let Err(error) = memory.set_spans(answer, spans).await
        {
            tracing::debug!(%error, "where an answer is computed is stored with its end");
        }
        if text.is_empty() && ids.is_empty() {
            continue;
        }
        // On a full disk the memory holds it and tries again, and its end says so if it must.
        if let Err(error) = memory.append(answer, &text, &ids).await {
            lost.get_or_insert_with(|| NodeError::from(error).view());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use memory::{ChatSettings, NewMessage};

    use super::*;

    async fn answer(memory: &Memory) -> MessageId {
        let chat = memory
            .create_chat("", ChatSettings::default())
            .await
            .unwrap();
        let asked = NewMessage::user(None, "asked");
        let asked = memory.insert(chat.id, asked).await.unwrap();
        let answer = NewMessage::answer(asked.id, None);
        memory.insert(chat.id, answer).await.unwrap().id
    }

    fn span() -> Span {
        Span {
            from_index: 0,
            peer: Some("somebody".to_owned()),
            receipt: None,
            why: None,
            paid: None,
            cached: None,
        }
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_the_disk_and_all_of_it_is_there_at_the_end() {
        let memory = Memory::temporary().await.unwrap();
        let id = answer(&memory).await;
        let keeping = Keeping::start(memory.clone(), id, &TaskTracker::new());
        // This test's one thread writes nothing as long as it is here.
        assert!(keeping.spans(vec![span()]).now_or_never().is_some());
        for word in 0..50u32 {
            let text = format!("{word} ");
            assert!(keeping.text(&text, &[word]).now_or_never().is_some());
        }
        assert_eq!(keeping.end().await, None);
        let stored = memory.message(id).await.unwrap();
        let all: String = (0..50).map(|word| format!("{word} ")).collect();
        assert_eq!((stored.content, stored.spans), (all, vec![span()]));
        let ids: Vec<u32> = (0..50).collect();
        assert_eq!(memory.token_ids(id).await.unwrap(), ids);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_told_at_the_end() {
        let memory = Memory::temporary().await.unwrap();
        let id = answer(&memory).await;
        let keeping = Keeping::start(memory.clone(), id, &TaskTracker::new());
        memory.close().await.unwrap();
        keeping.text("lost", &[1]).await;
        assert!(keeping.end().await.is_some());
    }

    #[tokio::test]
    async fn a_disk_that_does_not_take_it_holds_the_answer_up_in_time() {
        let shared = Arc::<Shared>::default();
        let keeping = Keeping {
            shared: Arc::clone(&shared),
            task: Some(tokio::spawn(std::future::pending())),
        };
        assert!(keeping.text("a", &[1]).now_or_never().is_some());
        shared.waiting().since = Instant::now().checked_sub(BEHIND);
        let waits = keeping.text("b", &[2]);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending());
        let taken = shared.take();
        assert_eq!(
            (taken.text.as_str(), taken.ids.as_slice()),
            ("ab", &[1, 2][..])
        );
        assert!(futures::poll!(&mut waits).is_ready());
    }
}
