//! Ids to text as they come: never half a character, never the beginning of what may turn out to be a stop string.

use std::sync::Arc;

use super::TextModel;
use super::bpe::byte_of;
use super::spm::{SPACE, byte_piece};
use super::vocabulary::{Algorithm, PieceKind, Vocabulary};
use crate::TextPiece;

/// The state of one answer's text.
#[derive(Debug)]
pub struct Detokenizer {
    model: Arc<TextModel>,
    stop: Vec<String>,
    /// Bytes that are no whole character yet; at most three after each push.
    bytes: Vec<u8>,
    /// Text that could be the beginning of a stop string; shorter than the longest of them.
    held: String,
    /// Nothing was shown yet, so that a space which only the tokenizer put there is still to be taken off.
    at_start: bool,
    stopped: bool,
}

impl Detokenizer {
    pub(super) fn new(model: Arc<TextModel>, stop: Vec<String>) -> Self {
        Self {
            at_start: model.tokenizer().adds_space(),
            model,
            stop: stop.into_iter().filter(|stop| !stop.is_empty()).collect(),
            bytes: Vec::new(),
            held: String::new(),
            stopped: false,
        }
    }

    /// Takes the next ids. After a stop string nothing more comes out.
    pub fn push(&mut self, ids: &[u32]) -> TextPiece {
        if self.stopped {
            return TextPiece {
                text: String::new(),
                stopped: true,
            };
        }
        for &id in ids {
            push_bytes(self.model.tokenizer().vocabulary(), id, &mut self.bytes);
            self.decode(false);
            if self.at_start && !self.held.is_empty() {
                self.at_start = false;
                if self.held.starts_with(' ') {
                    self.held.remove(0);
                }
            }
            // The one that was complete first counts, so that the borders of tokens do not matter.
            let found = self.stop.iter().filter_map(|stop| {
                let start = self.held.find(stop.as_str())?;
                Some((start + stop.len(), start))
            });
            if let Some((_, start)) = found.min() {
                self.held.truncate(start);
                self.stopped = true;
                break;
            }
        }
        if self.stopped {
            return self.finish();
        }
        let keep = self.possible_stop();
        let text = self.held.drain(..self.held.len() - keep).collect();
        TextPiece {
            text,
            stopped: false,
        }
    }

    /// The rest: no more ids will come. Half a character becomes a replacement sign.
    pub fn finish(&mut self) -> TextPiece {
        if !self.stopped {
            self.decode(true);
        }
        self.bytes.clear();
        let stopped = std::mem::replace(&mut self.stopped, true);
        TextPiece {
            text: std::mem::take(&mut self.held),
            stopped,
        }
    }

    /// Moves whole characters from the bytes to the text.
    fn decode(&mut self, all: bool) {
        let mut rest = self.bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.held.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(good));
                    rest = bad;
                    match error.error_len() {
                        // Never a character, whatever follows.
                        Some(length) => {
                            self.held.push(char::REPLACEMENT_CHARACTER);
                            rest = &rest[length..];
                        }
                        None if all => {
                            self.held.push(char::REPLACEMENT_CHARACTER);
                            rest = &[];
                            break;
                        }
                        None => break,
                    }
                }
            }
        }
        self.bytes = rest.to_vec();
    }

    /// Bytes at the end of the held text that a stop string may begin with.
    fn possible_stop(&self) -> usize {
        let held = self.held.as_str();
        let begins = |stop: &String| {
            let ends = stop.char_indices().map(|(at, _)| at).skip(1);
            ends.filter(|&length| held.ends_with(&stop[..length]))
                .max()
                .unwrap_or(0)
        };
        self.stop.iter().map(begins).max().unwrap_or(0)
    }
}

/// The bytes that an id stands for; control pieces stand for none.
pub(crate) fn push_bytes(vocabulary: &Vocabulary, id: u32, bytes: &mut Vec<u8>) {
    let Some((piece, kind)) = vocabulary.piece(id) else {
        return;
    };
    match (kind, vocabulary.algorithm) {
        (PieceKind::Control | PieceKind::Unused, _) => {}
        (PieceKind::Unknown, _) => bytes.extend(char::REPLACEMENT_CHARACTER.to_string().bytes()),
        (PieceKind::UserDefined, Algorithm::Bpe) => bytes.extend(piece.bytes()),
        (PieceKind::Byte, _) => bytes.extend(byte_piece(piece)),
        (
            PieceKind::Normal | PieceKind::UserDefined,
            Algorithm::Spm | Algorithm::SpelledBpe | Algorithm::WordPiece | Algorithm::Unigram,
        ) => bytes.extend(piece.replace(SPACE, " ").bytes()),
        (PieceKind::Normal, Algorithm::Bpe) => {
            for character in piece.chars() {
                match byte_of(character) {
                    Some(byte) => bytes.push(byte),
                    None => bytes.extend(character.to_string().bytes()),
                }
            }
        }
    }
}
