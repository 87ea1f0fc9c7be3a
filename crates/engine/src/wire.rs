//! Frames between the handle and its worker: a little-endian `u32` length, then that many bytes of JSON.
//!
//! The length is checked against [`MAX_FRAME`] before anything is allocated, and the body grows as bytes arrive, so a
//! side that announces much and sends little costs little. JSON because frames are few (tens per second) and a captured
//! pipe can be read by a person.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::handle::{Isolation, TextPiece};
use crate::request::Class;
use crate::{
    Benchmark, ChatPrompt, EmbedRequest, Embeddings, EngineError, GenerateEvent, GenerateRequest,
    KnownPrefix, LoadProgress, ModelInfo, PrefixRequest, ScoreRequest, Sharing, TextInfo,
    TokenScore,
};

/// Largest body of a frame in bytes: a million token ids in JSON are at most 8 MB, a long chat less.
pub const MAX_FRAME: u32 = 16 << 20;

/// How much of a body is allocated ahead of the bytes that fill it.
const GROWTH: usize = 64 << 10;

/// A call, from the handle to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToWorker {
    /// Chosen by the handle, never reused. Every answer carries it.
    pub call: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What the handle may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Ask {
    /// The first frame, exactly once: the worker confines itself by it and answers [`Say::Ready`].
    Configure {
        /// Folders and files it may read from now on.
        readable: Vec<PathBuf>,
        /// Hard limit of its own memory in bytes.
        memory_cap: Option<u64>,
        /// How the device is shared.
        #[serde(default)]
        sharing: Sharing,
        /// [`BUILD`](crate::BUILD) of the app. Empty from one that does not tell.
        #[serde(default)]
        build: String,
    },
    /// Share the device otherwise from now on; not answered.
    Share(Sharing),
    /// Read the header of a file; answered by [`Say::Text`].
    OpenText {
        /// A GGUF file or the head of one.
        file: PathBuf,
    },
    /// Turn messages into ids; answered by [`Say::Ids`].
    Render {
        /// Whose template and tokenizer.
        file: PathBuf,
        /// The chat.
        prompt: ChatPrompt,
    },
    /// Open an incremental detokenizer that goes by this call's number; answered by [`Say::Piece`].
    StreamOpen {
        /// Whose tokenizer.
        file: PathBuf,
        /// Texts that end it.
        stop: Vec<String>,
        /// Ids it has seen before, whose text is not told again.
        seen: Vec<u32>,
    },
    /// More ids for a detokenizer; answered by [`Say::Piece`].
    StreamPush {
        /// The number of its opening call.
        stream: u64,
        /// The next ids.
        ids: Vec<u32>,
        /// No more will come: tell what was held back.
        last: bool,
    },
    /// Forget a detokenizer; not answered.
    StreamClose {
        /// The number of its opening call.
        stream: u64,
    },
    /// Load a model; answered by [`Say::Loading`]s and one [`Say::Loaded`].
    Load {
        /// Which file.
        file: PathBuf,
        /// Context in tokens; `None` leaves it to the worker.
        context: Option<u32>,
        /// Bytes free on this machine now.
        available: u64,
        /// Whose work needs it.
        class: Class,
    },
    /// Compute an answer; answered by [`Say::Event`]s.
    Generate {
        /// What to compute.
        request: GenerateRequest,
        /// Bytes free on this machine now, should the model have to be loaded first.
        available: u64,
    },
    /// Judge an answer; answered by [`Say::Scores`].
    Score {
        /// What to judge.
        request: ScoreRequest,
        /// Bytes free on this machine now, should the model have to be loaded first.
        available: u64,
    },
    /// Turn texts into vectors; answered by [`Say::Embeddings`].
    Embed {
        /// The texts.
        request: EmbedRequest,
        /// Bytes free on this machine now, should the model have to be loaded first.
        available: u64,
    },
    /// Measure a model when nothing else is to be computed; answered by [`Say::Benchmark`].
    Benchmark {
        /// Which file; loaded when it is not yet.
        file: PathBuf,
        /// Bytes free on this machine now.
        available: u64,
    },
    /// What a model was measured at before, for planning; not answered.
    Know {
        /// Which file.
        file: PathBuf,
        /// Holds for its build and device alone.
        benchmark: Benchmark,
    },
    /// What is known of a beginning; answered by [`Say::Prefix`] between two steps. Nothing is loaded for it.
    Prefix(PrefixRequest),
    /// End a call that computes or waits. The last event of a generate call is its answer; the others fail with
    /// [`EngineError::Cancelled`].
    Cancel {
        /// Its number.
        of: u64,
    },
    /// Let a generate call stand still. Its cache stays.
    Pause {
        /// Its number.
        of: u64,
    },
    /// Let it go on.
    Resume {
        /// Its number.
        of: u64,
    },
}

impl Ask {
    /// Whose work it is, where it is work for a model.
    pub fn class(&self) -> Option<Class> {
        match self {
            Ask::Load { class, .. } => Some(*class),
            Ask::Generate { request, .. } => Some(request.class),
            Ask::Score { request, .. } => Some(request.class),
            Ask::Embed { request, .. } => Some(request.class),
            Ask::Configure { .. }
            | Ask::Share(_)
            | Ask::OpenText { .. }
            | Ask::Render { .. }
            | Ask::StreamOpen { .. }
            | Ask::StreamPush { .. }
            | Ask::StreamClose { .. }
            | Ask::Benchmark { .. }
            | Ask::Know { .. }
            | Ask::Prefix(_)
            | Ask::Cancel { .. }
            | Ask::Pause { .. }
            | Ask::Resume { .. } => None,
        }
    }
}

/// An answer, from the worker to the handle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FromWorker {
    /// The call it answers; 0 for what nobody asked.
    pub call: u64,
    /// What is said.
    pub say: Say,
}

/// What the worker may say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Say {
    /// It runs and has confined itself.
    Ready {
        /// Threads it computes with.
        threads: u32,
        /// What it found it can no longer do.
        isolation: Isolation,
        /// The instruction set it computes with.
        #[serde(default)]
        kernels: String,
        /// [`BUILD`](crate::BUILD) of the worker. Empty from one that does not tell.
        #[serde(default)]
        build: String,
    },
    /// A header.
    Text(TextInfo),
    /// Token ids.
    Ids(Vec<u32>),
    /// Text of a detokenizer.
    Piece(TextPiece),
    /// A load goes on.
    Loading(LoadProgress),
    /// A load is done.
    Loaded(ModelInfo),
    /// An answer goes on or ends.
    Event(GenerateEvent),
    /// One per token of an output.
    Scores(Vec<TokenScore>),
    /// Vectors of texts.
    Embeddings(Embeddings),
    /// A model's speed.
    Benchmark(Benchmark),
    /// What is known of a beginning.
    Prefix(Option<KnownPrefix>),
    /// What it is doing, at most a few times a second.
    Stats(WorkerStats),
    /// The call failed; call 0 when the worker itself did and ends.
    Failed(EngineError),
}

/// The worker about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// The loaded model's file, name and context.
    pub model: Option<(PathBuf, String, u32)>,
    /// Sequences of the owner's: running, paused or waiting.
    pub own: u32,
    /// Sequences of the network's: running, paused or waiting.
    pub network: u32,
    /// New tokens per second over all sequences, in the last window that had any.
    pub tokens_per_second: Option<f64>,
    /// Resident memory in bytes, where the system tells.
    pub rss_bytes: Option<u64>,
    /// Pages that sequences hold, of all models together; known prefixes that nobody reads are not counted.
    pub pages_in_use: u64,
    /// Tokens of context that the network's sequences may hold together with the loaded model: what its pages hold of long
    /// sequences, less what the owner's were promised.
    #[serde(default)]
    pub network_tokens: Option<u64>,
    /// What came of drafts since it started.
    pub drafts: Drafts,
}

/// Tokens that were guessed from a text's repetitions and verified beside the token before them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drafts {
    /// Tokens that were drafted and computed.
    pub verified: u64,
    /// Those of them that the model chose: each saved a step.
    pub accepted: u64,
}

/// A frame that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The pipe failed or ended inside a frame.
    #[error("the pipe failed: {0}")]
    Pipe(#[from] io::Error),
    /// A length over [`MAX_FRAME`].
    #[error("a frame of {length} bytes (at most {MAX_FRAME})")]
    TooLong {
        /// The announced length.
        length: u64,
    },
    /// A body that is no message of this protocol. Told by its place alone: the parser's words may quote a value, and a
    /// value may be somebody's text.
    #[error("a frame that is no message ({kind} error at byte {at})")]
    NoMessage {
        /// Which kind of error: of the notation, of the data, or a body that ends too early.
        kind: &'static str,
        /// Where.
        at: usize,
    },
}

impl From<serde_json::Error> for WireError {
    fn from(error: serde_json::Error) -> Self {
        Self::NoMessage {
            kind: match error.classify() {
                Category::Io => "writing",
                Category::Syntax => "notation",
                Category::Data => "data",
                Category::Eof => "length",
            },
            at: error.column(),
        }
    }
}

/// Encodes one message with its length.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut frame = vec![0u8; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let short = u32::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_FRAME);
    let short = short.ok_or(WireError::TooLong {
        length: length as u64,
    })?;
    frame[..4].copy_from_slice(&short.to_le_bytes());
    Ok(frame)
}

/// Writes one message and flushes.
pub fn write<T: Serialize>(pipe: &mut impl Write, message: &T) -> Result<(), WireError> {
    pipe.write_all(&encode(message)?)?;
    pipe.flush()?;
    Ok(())
}

/// Reads one message; `None` when the pipe ends between two.
pub fn read<T: DeserializeOwned>(pipe: &mut impl Read) -> Result<Option<T>, WireError> {
    let mut prefix = [0u8; 4];
    let mut got = 0;
    while got < prefix.len() {
        match pipe.read(&mut prefix[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = checked_length(prefix)?;
    let mut body = Vec::with_capacity(length.min(GROWTH));
    pipe.by_ref().take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Reads one message from an asynchronous pipe; `None` when it ends between two. Not cancel-safe.
pub async fn read_async<T: DeserializeOwned>(
    pipe: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, WireError> {
    let mut prefix = [0u8; 4];
    let mut got = 0;
    while got < prefix.len() {
        match pipe.read(&mut prefix[got..]).await? {
            0 if got == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => got += n,
        }
    }
    let length = checked_length(prefix)?;
    let mut body = Vec::with_capacity(length.min(GROWTH));
    pipe.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

fn checked_length(prefix: [u8; 4]) -> Result<usize, WireError> {
    let length = u32::from_le_bytes(prefix);
    if length > MAX_FRAME {
        return Err(WireError::TooLong {
            length: u64::from(length),
        });
    }
    Ok(length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_pipe() {
        let message = ToWorker {
            call: 7,
            ask: Ask::StreamPush {
                stream: 3,
                ids: vec![1, 2, u32::MAX],
                last: true,
            },
        };
        let mut pipe = Vec::new();
        write(&mut pipe, &message).unwrap();
        write(&mut pipe, &message).unwrap();
        let mut reading = pipe.as_slice();
        assert_eq!(
            read::<ToWorker>(&mut reading).unwrap().as_ref(),
            Some(&message)
        );
        assert_eq!(read::<ToWorker>(&mut reading).unwrap(), Some(message));
        assert_eq!(read::<ToWorker>(&mut reading).unwrap(), None);
    }

    #[test]
    fn a_long_frame_is_refused_before_its_body() {
        let mut pipe = &u32::MAX.to_le_bytes()[..];
        assert!(matches!(
            read::<ToWorker>(&mut pipe),
            Err(WireError::TooLong { .. })
        ));
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_told_without_its_content() {
        let bodies = [
            r#"{"call":"my secret","ask":1}"#,
            r#"{"call":1,"ask":{"Cancel":{"of":"my secret"}}}"#,
            r#"{"call":1,"ask":{"my secret":0}}"#,
            r#"{"call":1,my secret}"#,
            r#"{"call":1,"ask":"my secret"#,
        ];
        for body in bodies {
            let mut frame = (body.len() as u32).to_le_bytes().to_vec();
            frame.extend(body.bytes());
            let error = read::<ToWorker>(&mut frame.as_slice()).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(
                matches!(error, WireError::NoMessage { at: 1.., .. }),
                "{told}"
            );
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_cut_frame_is_an_error_and_not_an_end() {
        let frame = encode(&ToWorker {
            call: 1,
            ask: Ask::Cancel { of: 9 },
        })
        .unwrap();
        for cut in 1..frame.len() {
            assert!(matches!(
                read::<ToWorker>(&mut &frame[..cut]),
                Err(WireError::Pipe(_))
            ));
        }
    }
}
