//! A job stream as the rest of the program sees it: frames in, frames out.
//!
//! A [`JobStream`] splits into a [`FrameReader`] and a [`FrameWriter`], which belong into two tasks: a program that first writes
//! everything and then reads hangs as soon as both sides' windows are full. The writer never makes its caller wait: frames go into
//! a queue with a soft and a hard end, and a task of the network's own runtime writes them out. [`Flow`] says when to stop
//! computing and when to go on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use protocol::{
    PeerId,
    frame::{self, Cap, Frame, FrameBuf, FrameError},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{address::Transport, limits::JobSlot, swarm::Note};

/// Bytes taken from the stream at a time: one frame of tokens at its cap.
const READ_CHUNK: usize = 16 << 10;

/// Frames in a writer's queue from which on it is blocked: at a frame per 40 ms, ten seconds of an answer.
const SOFT_FRAMES: usize = 256;
/// Bytes in a writer's queue from which on it is blocked: what one stream of Yamux holds on its way, once more.
const SOFT_BYTES: usize = 256 << 10;
/// A blocked writer flows again when its queue is down to this part of either end, so that it does not flicker.
const DRAINED_PART: usize = 4;
/// Twice the soft end: room for heartbeats and the last frames of a job that already stopped because of it.
const HARD_FRAMES: usize = 2 * SOFT_FRAMES;
const HARD_BYTES: usize = 2 * SOFT_BYTES;

/// How long the frames of a writer that was dropped or finished are still written. A peer that does not read loses them.
const FINISH: Duration = Duration::from_secs(5);

/// Whether a writer's queue has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// There is room.
    Flowing,
    /// The peer reads more slowly than frames come: stop computing until it flows again.
    Blocked,
    /// The stream is gone; nothing that is queued will arrive.
    Closed,
}

/// Why no frame came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer finished the stream between two frames, or the stream or its connection broke.
    #[error("the stream is closed")]
    Closed,
    /// The peer broke the framing. The stream is closed, and the peer is a step nearer to a ban.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] FrameError),
    /// The first frame did not arrive at the slowest pace that is waited for.
    #[error("the first frame took longer than {after_ms} ms")]
    TooSlow {
        /// How long it was waited for.
        after_ms: u64,
    },
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The stream is gone.
    #[error("the stream is closed")]
    Closed,
    /// The queue is at its hard end although it reported [`Flow::Blocked`] at the soft one.
    #[error("{frames} frames and {bytes} bytes are queued, and the peer does not read")]
    Full {
        /// Frames queued.
        frames: usize,
        /// Bytes queued.
        bytes: usize,
    },
}

/// One open stream of `/decentralgpt/infer/1`.
#[derive(Debug)]
pub struct JobStream {
    /// Who is at the other end, as its handshake proved.
    pub peer: PeerId,
    /// The multiaddr of the other end of the connection that carries the stream.
    pub remote_addr: String,
    /// What carries the connection.
    pub transport: Transport,
    /// Which of the peer's connections it is: equal for streams that end together.
    pub connection: String,
    pub(crate) stream: Stream,
    pub(crate) shared: Shared,
    /// The place that an inbound stream takes, free again when both halves are gone.
    pub(crate) slot: Option<JobSlot>,
}

/// What the halves of a stream need of the network.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) peer: libp2p::PeerId,
    pub(crate) closed: CancellationToken,
    pub(crate) runtime: Handle,
    pub(crate) notes: mpsc::Sender<Note>,
}

impl JobStream {
    /// The two directions, each to be driven by a task of its own.
    #[must_use]
    pub fn split(self) -> (FrameReader, FrameWriter) {
        let Self {
            stream,
            shared,
            slot,
            ..
        } = self;
        let slot = slot.map(Arc::new);
        let (read, write) = stream.split();
        let (queue, frames) = mpsc::channel(HARD_FRAMES);
        let room = Arc::new(Room::default());
        let end = End::default();
        let reader = FrameReader {
            read,
            frames: FrameBuf::new(),
            chunk: vec![0; READ_CHUNK].into_boxed_slice(),
            ended: None,
            shared: shared.clone(),
            _slot: slot.clone(),
        };
        let pump = Pump {
            write,
            frames,
            room: Arc::clone(&room),
            end: end.clone(),
            closed: shared.closed,
            _slot: slot,
        };
        shared.runtime.spawn(pump.run());
        (reader, FrameWriter { queue, room, end })
    }
}

/// The direction from the peer to here.
#[derive(Debug)]
pub struct FrameReader {
    read: futures::io::ReadHalf<Stream>,
    frames: FrameBuf,
    chunk: Box<[u8]>,
    ended: Option<ReadError>,
    shared: Shared,
    _slot: Option<Arc<JobSlot>>,
}

impl FrameReader {
    /// The next frame that this version knows. Cancel safe: a call that is dropped loses no byte.
    ///
    /// # Errors
    /// Every error is final and repeats. [`ReadError::Closed`] comes at once when the connection goes.
    pub async fn next(&mut self, cap: Cap) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.buffered(|frames| frames.next_frame(cap))? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// The bytes of a client's first frame, which are also what its job id is the hash of. The peer has ten seconds, and one
    /// more per 16 KiB that it announced. Not cancel safe in its deadline: call it once.
    ///
    /// # Errors
    /// As [`FrameReader::next`], and [`ReadError::TooSlow`].
    pub async fn open(&mut self) -> Result<Bytes, ReadError> {
        let begun = Instant::now();
        loop {
            if let Some(open) = self.buffered(|frames| frames.next_bytes(Cap::Open))? {
                return Ok(open);
            }
            let after_ms = frame::open_frame_ms(self.frames.arriving(Cap::Open).unwrap_or(0));
            let deadline = begun + Duration::from_millis(after_ms);
            match tokio::time::timeout_at(deadline, self.fill()).await {
                Ok(filled) => filled?,
                Err(_) => return Err(self.end(ReadError::TooSlow { after_ms })),
            }
        }
    }

    fn buffered<T>(
        &mut self,
        take: impl FnOnce(&mut FrameBuf) -> Result<Option<T>, FrameError>,
    ) -> Result<Option<T>, ReadError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        take(&mut self.frames).map_err(|error| {
            // When the loop is busy this one goes uncounted; the stream ends all the same.
            let _ = self.shared.notes.try_send(Note::Violation {
                peer: self.shared.peer,
            });
            self.end(ReadError::Violation(error))
        })
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        let read = tokio::select! {
            biased;
            read = self.read.read(&mut self.chunk) => read.unwrap_or(0),
            () = self.shared.closed.cancelled() => 0,
        };
        if read == 0 {
            return Err(self.end(ReadError::Closed));
        }
        self.frames.push(&self.chunk[..read]);
        Ok(())
    }

    fn end(&mut self, why: ReadError) -> ReadError {
        self.ended.get_or_insert(why).clone()
    }
}

/// The direction from here to the peer. Dropping it, like [`FrameWriter::finish`], still writes what is queued.
#[derive(Debug)]
pub struct FrameWriter {
    queue: mpsc::Sender<Bytes>,
    room: Arc<Room>,
    end: End,
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        self.end.finish.cancel();
    }
}

impl FrameWriter {
    /// Queues a frame. Never waits. [`Flow::Blocked`] means that it was queued and that the queue is now full enough to stop
    /// computing; [`FrameWriter::flow`] says when it has drained.
    ///
    /// # Errors
    /// [`WriteError::Closed`]; [`WriteError::Full`] for a caller that went on and on while blocked.
    pub fn send(&self, frame: &Frame) -> Result<Flow, WriteError> {
        self.send_bytes(frame.to_delimited())
    }

    /// As [`FrameWriter::send`], of bytes that carry their length already: an `Open` is encoded once, since its hash names the job.
    ///
    /// # Errors
    /// As [`FrameWriter::send`].
    pub fn send_bytes(&self, delimited: Bytes) -> Result<Flow, WriteError> {
        let flow = self.room.enter(delimited.len())?;
        self.queue
            .try_send(delimited)
            .map_err(|_| WriteError::Closed)?;
        Ok(flow)
    }

    /// The state of the queue, as it changes.
    #[must_use]
    pub fn flow(&self) -> watch::Receiver<Flow> {
        self.room.flow.subscribe()
    }

    /// Ends this direction after what is queued, for which the peer has five seconds.
    pub fn finish(self) {}

    /// Throws away what is queued. The stream is reset when its reader is dropped too.
    pub fn abort(self) {
        self.end.abort.cancel();
    }
}

/// What waits in a writer's queue.
#[derive(Debug)]
struct Room {
    used: Mutex<Used>,
    flow: watch::Sender<Flow>,
}

#[derive(Debug, Default)]
struct Used {
    frames: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            used: Mutex::default(),
            flow: watch::Sender::new(Flow::Flowing),
        }
    }
}

impl Room {
    fn enter(&self, len: usize) -> Result<Flow, WriteError> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let flow = *self.flow.borrow();
        match flow {
            Flow::Closed => return Err(WriteError::Closed),
            // One frame is taken whatever its size: an Open may have a megabyte.
            Flow::Flowing => {}
            Flow::Blocked => {
                if used.frames + 1 > HARD_FRAMES
                    || (used.bytes + len > HARD_BYTES && used.bytes >= SOFT_BYTES)
                {
                    return Err(WriteError::Full {
                        frames: used.frames,
                        bytes: used.bytes,
                    });
                }
            }
        }
        used.frames += 1;
        used.bytes += len;
        if flow == Flow::Flowing && (used.frames >= SOFT_FRAMES || used.bytes >= SOFT_BYTES) {
            self.flow.send_replace(Flow::Blocked);
            return Ok(Flow::Blocked);
        }
        Ok(flow)
    }

    fn leave(&self, len: usize) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.frames -= 1;
        used.bytes -= len;
        let drained =
            used.frames <= SOFT_FRAMES / DRAINED_PART && used.bytes <= SOFT_BYTES / DRAINED_PART;
        if drained && *self.flow.borrow() == Flow::Blocked {
            self.flow.send_replace(Flow::Flowing);
        }
    }

    fn close(&self) {
        let _used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.flow.send_replace(Flow::Closed);
    }
}

/// The task that empties a writer's queue into the stream.
struct Pump {
    write: futures::io::WriteHalf<Stream>,
    frames: mpsc::Receiver<Bytes>,
    room: Arc<Room>,
    end: End,
    closed: CancellationToken,
    _slot: Option<Arc<JobSlot>>,
}

/// How a writer tells its pump that nobody holds it any more.
#[derive(Clone, Debug, Default)]
struct End {
    finish: CancellationToken,
    abort: CancellationToken,
}

impl Pump {
    async fn run(mut self) {
        let (end, closed) = (self.end.clone(), self.closed.clone());
        tokio::select! {
            () = end.abort.cancelled() => {}
            () = closed.cancelled() => {}
            () = Self::left_alone(&end.finish) => {}
            () = self.write_all() => {}
        }
        self.room.close();
    }

    async fn write_all(&mut self) {
        while let Some(frame) = self.frames.recv().await {
            let mut written = self.write.write_all(&frame).await;
            if written.is_ok() && self.frames.is_empty() {
                written = self.write.flush().await;
            }
            self.room.leave(frame.len());
            if written.is_err() {
                return;
            }
        }
        // A peer that is gone does not take the end either.
        let _ = self.write.close().await;
    }

    async fn left_alone(finish: &CancellationToken) {
        finish.cancelled().await;
        tokio::time::sleep(FINISH).await;
    }
}
