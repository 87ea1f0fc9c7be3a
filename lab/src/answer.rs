//! One question asked by the real program: when its events came, what it kept, and whether that is right.
//!
//! A thread per asking program reads its events and notes when each came. What it kept is read from its own databases once it has
//! ended: the ids of its answer, and the receipts that both sides signed over them.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use decentralgpt_tests::{Folder, Running, SYSTEM, Said};
use ledger::Ledger;
use memory::{Memory, MessageId};
use protocol::{JobId, chain, receipt::SignedReceipt};
use serde_json::Value;

use crate::{error::LabError, reference::Reference};

/// What an asking program writes down of its own: whom it asked when, and what became of it.
const LOG: &str = "node::ask=debug";

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Who may answer.
    pub peers: &'a [String],
    /// What is asked.
    pub prompt: &'a str,
    /// Tokens of the answer.
    pub tokens: u32,
}

/// What has come of an answer so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Who computes it now, once that was told.
    pub provider: Option<String>,
    /// Output tokens so far, as the program counts them.
    pub tokens: u64,
    /// Where it went on elsewhere.
    pub moves: Vec<Move>,
    /// The longest time between two pieces of text.
    pub longest_gap: Duration,
    /// When the last piece of text came.
    pub last_text: Option<Instant>,
    /// Everything shown.
    pub text: String,
    /// The finished message.
    pub finished: Option<Value>,
    moving: Option<(String, u64, Instant)>,
    /// Whom the program turned to since the last text.
    asked: Vec<(String, Instant)>,
}

/// An answer that went on elsewhere.
#[derive(Debug, Clone)]
pub struct Move {
    /// Who had it before.
    pub from: String,
    /// The first token that the next one gave.
    pub index: u64,
    /// The last text of the one before.
    pub lost: Instant,
    /// From the last text of the one to the first text of the other.
    pub gap: Duration,
    /// Whom the program turned to in that time, and when: whoever goes on is among them.
    pub asked: Vec<(String, Instant)>,
}

impl Progress {
    /// Whether it was told that the answer goes on elsewhere, and nothing has come of it yet.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// One event, as the program wrote it, which came at this time.
    ///
    /// # Errors
    /// [`LabError::Wrong`] when the program says something that it must not.
    pub fn hear(&mut self, line: &str, at: Instant) -> Result<(), LabError> {
        let event: Value = serde_json::from_str(line)
            .map_err(|_| LabError::Wrong(format!("a line that is no event: {line}")))?;
        match event["kind"].as_str().unwrap_or_default() {
            "phase" => {
                let peer = event["peer"].as_str().map(str::to_owned);
                self.asked.extend(peer.map(|peer| (peer, at)));
            }
            "placed" => {
                let peer = event["peer"].as_str().unwrap_or("this computer").to_owned();
                let index = event["index"].as_u64().unwrap_or(0);
                if index != self.tokens {
                    return Err(LabError::Wrong(format!(
                        "the answer goes on at token {index}, with {} there",
                        self.tokens
                    )));
                }
                if let (Some(from), Some(lost)) = (self.provider.replace(peer), self.last_text) {
                    self.moving = Some((from, index, lost));
                }
            }
            "text" => {
                let tokens = event["tokens"].as_u64().unwrap_or(0);
                if tokens < self.tokens {
                    return Err(LabError::Wrong(format!(
                        "the count of tokens went from {} back to {tokens}",
                        self.tokens
                    )));
                }
                if let Some(last) = self.last_text {
                    self.longest_gap = self.longest_gap.max(at - last);
                }
                let asked = std::mem::take(&mut self.asked);
                if let Some((from, index, lost)) = self.moving.take() {
                    self.moves.push(Move {
                        from,
                        index,
                        lost,
                        gap: at - lost,
                        asked,
                    });
                }
                self.tokens = tokens;
                self.last_text = Some(at);
                self.text
                    .push_str(event["append"].as_str().unwrap_or_default());
            }
            "finished" => self.finished = Some(event["message"].clone()),
            _ => {}
        }
        Ok(())
    }
}

/// A program that asks, and the thread that listens to it.
#[derive(Debug)]
pub struct Asker {
    /// Its process number.
    pub id: u32,
    progress: Arc<Mutex<Progress>>,
    listener: JoinHandle<(Result<(), LabError>, Said)>,
    folder: Folder,
}

impl Asker {
    /// Starts it in a folder, which has no weights, so that every token is a peer's.
    #[must_use]
    pub fn start(folder: Folder, question: &Question<'_>) -> Self {
        let mut command = folder.decentralgpt();
        command.args(["chat", "--json", "--temperature", "0", "--system", SYSTEM]);
        for peer in question.peers {
            command.args(["--peer", peer]);
        }
        command
            .args(["--max-out", &question.tokens.to_string()])
            .arg(question.prompt)
            .env("DECENTRALGPT_LOG", LOG);
        let mut running = Running::start(&mut command);
        let id = running.id();
        let progress = Arc::new(Mutex::new(Progress::default()));
        let heard = Arc::clone(&progress);
        let listener = std::thread::spawn(move || {
            let mut all = Ok(());
            while let Some(line) = running.line() {
                let told = lock(&heard).hear(&line, Instant::now());
                if all.is_ok() {
                    all = told;
                }
            }
            (all, running.wait())
        });
        Self {
            id,
            progress,
            listener,
            folder,
        }
    }

    /// What has come so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.listener.is_finished()
    }

    /// Waits for its end, and reads what it kept.
    ///
    /// # Errors
    /// [`LabError::Wrong`] when it failed or said what it must not, [`LabError::Kept`].
    pub fn answer(self) -> Result<Answer, LabError> {
        let (heard, said) = self
            .listener
            .join()
            .map_err(|_| LabError::Wrong("an asking program hangs".to_owned()))?;
        heard?;
        let progress = lock(&self.progress).clone();
        let Some(message) = progress.finished.clone() else {
            return Err(LabError::Wrong(format!(
                "an asking program ended without saying how: {}",
                said.err.trim()
            )));
        };
        let whole = matches!(message["state"].as_str(), Some("complete" | "length"));
        if !whole {
            return Err(LabError::Wrong(format!(
                "an answer ended as {} after {} tokens and {} moves: {}",
                message["state"],
                progress.tokens,
                progress.moves.len(),
                said.err.trim()
            )));
        }
        let (ids, spans) = decentralgpt_tests::wire::block_on(kept(self.folder.path(), &message))?;
        Ok(Answer {
            progress,
            message,
            ids,
            spans,
            log: said.err,
        })
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// What its events said.
    pub progress: Progress,
    /// The message as its program stored it.
    pub message: Value,
    /// The ids that were stored.
    pub ids: Vec<u32>,
    /// Who gave which of them.
    pub spans: Vec<Span>,
    /// What its program wrote on standard error.
    pub log: String,
}

/// The tokens of one provider.
#[derive(Debug)]
pub struct Span {
    /// Index of the first.
    pub from: usize,
    /// Who.
    pub peer: Option<String>,
    /// What both signed for it, where the provider lived to sign.
    pub receipt: Option<SignedReceipt>,
}

/// Tokens that are not as they should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Other ids than an undisturbed provider gives at the same index.
    pub wrong: usize,
    /// Not there.
    pub missing: usize,
    /// Beyond the end.
    pub doubled: usize,
}

impl Faults {
    /// None at all.
    #[must_use]
    pub fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Those of several answers together.
    pub fn add(&mut self, other: Self) {
        self.wrong += other.wrong;
        self.missing += other.missing;
        self.doubled += other.doubled;
    }

    /// Compares ids with what they should be.
    #[must_use]
    pub fn of(ids: &[u32], expected: &[u32]) -> Self {
        Self {
            wrong: ids
                .iter()
                .zip(expected)
                .filter(|(id, own)| id != own)
                .count(),
            missing: expected.len().saturating_sub(ids.len()),
            doubled: ids.len().saturating_sub(expected.len()),
        }
    }
}

impl Answer {
    /// Compares the ids with an undisturbed answer, and everything else that tells of them with the ids: the text shown, the text
    /// stored, the count, and the chain of hashes in each receipt.
    ///
    /// # Errors
    /// [`LabError::Wrong`] when the program contradicts itself.
    pub fn check(&self, expected: &Reference) -> Result<Faults, LabError> {
        let wrong = |what: String| Err(LabError::Wrong(what));
        if self.progress.tokens != self.ids.len() as u64 {
            return wrong(format!(
                "{} tokens were told and {} are stored",
                self.progress.tokens,
                self.ids.len()
            ));
        }
        if self.message["content"].as_str().unwrap_or_default().trim() != self.progress.text.trim()
        {
            return wrong("what was shown is not what is stored".to_owned());
        }
        let faults = Faults::of(&self.ids, &expected.ids);
        if faults.none() && self.progress.text.trim() != expected.text.trim() {
            return wrong("the ids are right, and the text shown is not theirs".to_owned());
        }
        for (at, span) in self.spans.iter().enumerate() {
            let until = self
                .spans
                .get(at + 1)
                .map_or(self.ids.len(), |next| next.from);
            let (Some(signed), Some(ids)) = (&span.receipt, self.ids.get(span.from..until)) else {
                continue;
            };
            if signed.provider_check().is_err() {
                return wrong("a receipt whose signature does not hold".to_owned());
            }
            let receipt = &signed.receipt;
            if chain::extend(&chain::start(&receipt.job), ids) != receipt.h {
                return wrong(format!(
                    "the receipt for tokens {} to {until} is over other tokens",
                    span.from
                ));
            }
        }
        Ok(faults)
    }

    /// Each move, with how long its rescue took: from the last text of the one provider to the first of the other, less the time
    /// that the other says it needed to read the prompt.
    #[must_use]
    pub fn rescues(&self) -> Vec<(Move, Duration)> {
        let mut rescues = Vec::new();
        for moved in &self.progress.moves {
            let reading = self
                .spans
                .iter()
                .find(|span| span.from as u64 == moved.index)
                .and_then(|span| span.receipt.as_ref())
                .map_or(Duration::ZERO, |signed| {
                    Duration::from_millis(signed.receipt.first_token_ms)
                });
            rescues.push((moved.clone(), moved.gap.saturating_sub(reading)));
        }
        rescues
    }

    /// A number that the program stored with the answer.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        self.message[name].as_f64()
    }
}

/// Reads the ids and the receipts of a message out of a folder whose program has ended.
async fn kept(folder: &Path, message: &Value) -> Result<(Vec<u32>, Vec<Span>), LabError> {
    let whose = folder
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let memory = Memory::open(folder.join("memory.db"))
        .await
        .map_err(LabError::kept(&whose))?;
    let id: MessageId = message["id"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .map_err(LabError::kept(&whose))?;
    let ids = memory.token_ids(id).await.map_err(LabError::kept(&whose))?;
    memory.close().await.map_err(LabError::kept(&whose))?;
    let ledger = Ledger::open(folder.join("ledger.db"), 0)
        .await
        .map_err(LabError::kept(&whose))?;
    let mut spans = Vec::new();
    for span in message["spans"].as_array().into_iter().flatten() {
        let receipt = match span["receipt"].as_str() {
            Some(job) => receipt(&ledger, job, &whose).await?,
            None => None,
        };
        spans.push(Span {
            from: usize::try_from(span["fromIndex"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX),
            peer: span["peer"].as_str().map(str::to_owned),
            receipt,
        });
    }
    ledger.close().await.map_err(LabError::kept(&whose))?;
    Ok((ids, spans))
}

async fn receipt(
    ledger: &Ledger,
    job: &str,
    whose: &str,
) -> Result<Option<SignedReceipt>, LabError> {
    let job: JobId = job.parse().map_err(LabError::kept(whose))?;
    let stored = ledger
        .receipts_of(*job.as_bytes())
        .await
        .map_err(LabError::kept(whose))?;
    let Some(stored) = stored.into_iter().next() else {
        return Ok(None);
    };
    let signed = SignedReceipt::from_parts(
        Bytes::from(stored.signed),
        Bytes::copy_from_slice(&stored.provider_signature),
        stored
            .client_signature
            .map(|signature| Bytes::copy_from_slice(&signature)),
    )
    .map_err(LabError::kept(whose))?;
    Ok(Some(signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_or_missing_token_is_counted() {
        let right = [1, 2, 3, 4];
        assert!(Faults::of(&right, &right).none());
        let doubled = Faults::of(&[1, 2, 2, 3, 4], &right);
        assert_eq!((doubled.doubled, doubled.missing), (1, 0));
        assert_eq!(doubled.wrong, 2);
        let missing = Faults::of(&[1, 3, 4], &right);
        assert_eq!((missing.doubled, missing.missing), (0, 1));
        assert!(Faults::of(&[1, 2, 9, 4], &right).wrong == 1);
    }

    #[test]
    fn a_move_is_timed_from_the_last_text_to_the_next() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::default();
        for (line, seconds) in [
            (r#"{"kind":"phase","phase":"prefill","peer":"a"}"#, 0),
            (r#"{"kind":"placed","peer":"a","index":0}"#, 0),
            (
                r#"{"kind":"text","append":"x","reasoning":false,"tokens":5}"#,
                1,
            ),
            (r#"{"kind":"phase","phase":"connecting","peer":"b"}"#, 2),
            (r#"{"kind":"placed","peer":"b","index":5}"#, 3),
            (
                r#"{"kind":"text","append":"y","reasoning":false,"tokens":6}"#,
                4,
            ),
        ] {
            progress.hear(line, at(seconds)).unwrap();
        }
        let [moved] = progress.moves.as_slice() else {
            panic!("{:?}", progress.moves)
        };
        assert_eq!((moved.from.as_str(), moved.index), ("a", 5));
        assert_eq!(moved.gap, Duration::from_secs(3));
        assert_eq!(moved.asked, [("b".to_owned(), at(2))]);
        let gap = progress.hear(r#"{"kind":"placed","peer":"c","index":7}"#, at(5));
        assert!(gap.is_err(), "an answer that goes on behind a gap is wrong");
    }
}
