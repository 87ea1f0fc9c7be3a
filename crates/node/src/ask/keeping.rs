//! What an answer leaves on the disk while it grows, in order: neither the text on the screen nor the next token waits for a disk that is
//! slow.

use memory::{Autosave, Memory, MessageId, Span};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::error::{ErrorView, NodeError};

/// Pieces that may wait for the disk: several seconds of the fastest answers. Then the answer waits as well, and no crash costs more.
const AHEAD: usize = 2_048;

/// One thing to be written down.
#[derive(Debug)]
enum Piece {
    /// More of the text, and the output tokens it was made of.
    Text(String, Vec<u32>),
    /// Where the tokens are computed, up to now.
    Spans(Vec<Span>),
}

/// The way to the task that writes one answer down. Dropping it lets the task write what it has, and end.
#[derive(Debug)]
pub(super) struct Keeping {
    pieces: mpsc::Sender<Piece>,
    task: JoinHandle<Option<ErrorView>>,
}

impl Keeping {
    pub(super) fn start(memory: Memory, answer: MessageId) -> Self {
        let (pieces, inbox) = mpsc::channel(AHEAD);
        Self {
            pieces,
            task: tokio::spawn(write_down(memory, answer, inbox)),
        }
    }

    pub(super) async fn text(&self, text: &str, ids: &[u32]) {
        self.write(Piece::Text(text.to_owned(), ids.to_vec())).await;
    }

    pub(super) async fn spans(&self, spans: Vec<Span>) {
        self.write(Piece::Spans(spans)).await;
    }

    async fn write(&self, piece: Piece) {
        // It ends before this only by a panic, which `end` tells of.
        let _ = self.pieces.send(piece).await;
    }

    /// Waits until all is with the memory. Why something of it is not on the disk yet, if so.
    pub(super) async fn end(self) -> Option<ErrorView> {
        drop(self.pieces);
        match self.task.await {
            Ok(unsaved) => unsaved,
            Err(_) => Some(NodeError::Stopping.view()),
        }
    }
}

async fn write_down(
    memory: Memory,
    answer: MessageId,
    mut pieces: mpsc::Receiver<Piece>,
) -> Option<ErrorView> {
    let mut unsaved = None;
    while let Some(piece) = pieces.recv().await {
        let error = match piece {
            // They are stored again with the end.
            Piece::Spans(spans) => memory.set_spans(answer, spans).await.err(),
            Piece::Text(text, ids) => match memory.append(answer, &text, &ids).await {
                // The memory holds the text and tries again; only a flush says why.
                Ok(Autosave::Behind) if unsaved.is_none() => memory.flush().await.err(),
                Ok(Autosave::OnTime | Autosave::Behind) => None,
                Err(error) => Some(error),
            },
        };
        if let (None, Some(error)) = (&unsaved, error) {
            unsaved = Some(NodeError::from(error).view());
        }
    }
    unsaved
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
        let keeping = Keeping::start(memory.clone(), id);
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
        let keeping = Keeping::start(memory.clone(), id);
        memory.close().await.unwrap();
        keeping.text("lost", &[1]).await;
        assert!(keeping.end().await.is_some());
    }
}
