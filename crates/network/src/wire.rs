//! A job stream as the rest of the program sees it: frames in, frames out.
//!
//! A [`JobStream`] splits into a [`FrameReader`] and a [`FrameWriter`]. Behind both is one task of the network's own runtime that
//! moves bytes in both directions, so that nobody can write everything first and read afterwards, which hangs as soon as both
//! sides' windows are full. The writer never makes its caller wait: frames go into a queue with a soft and a hard end. [`Flow`]
//! says when to stop computing and when to go on. The reader is fed two chunks ahead; then the peer has to wait.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
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
use tokio_util::sync::{CancellationToken, DropGuard, PollSender};

use crate::{address::Transport, limits::JobSlot, swarm::Note};

/// Bytes taken from the stream at a time: one frame of tokens at its cap.
const READ_CHUNK: usize = 16 << 10;

/// Chunks read and not yet taken: what came while the last one was looked at.
const READ_AHEAD: usize = 2;

/// Frames in a writer's queue from which on it is blocked.
const SOFT_FRAMES: usize = protocol::job::MAX_OUTBOUND_FRAMES;
/// Bytes in a writer's queue from which on it is blocked.
const SOFT_BYTES: usize = protocol::job::MAX_OUTBOUND_BYTES;
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
    /// What carries the connection; through a relay, what carries it to the relay.
    pub transport: Transport,
    /// Whether a relay carries it, and may cut it after its limit.
    pub relayed: bool,
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
        let (queue, frames) = mpsc::channel(HARD_FRAMES);
        let (chunks, chunks_out) = mpsc::channel(READ_AHEAD);
        let (room, end) = (Arc::new(Room::default()), End::default());
        let pump = Pump {
            stream,
            frames,
            writing: None,
            dirty: false,
            write_over: false,
            chunks: Some(PollSender::new(chunks)),
            buffer: vec![0; READ_CHUNK].into_boxed_slice(),
            room: Arc::clone(&room),
            end: end.clone(),
            closed: shared.closed,
            _slot: slot,
        };
        shared.runtime.spawn(pump.run());
        let reader = FrameReader {
            chunks: chunks_out,
            frames: FrameBuf::new(),
            ended: None,
            peer: shared.peer,
            notes: shared.notes,
            _gone: end.reader.clone().drop_guard(),
        };
        (reader, FrameWriter { queue, room, end })
    }
}

/// The direction from the peer to here.
#[derive(Debug)]
pub struct FrameReader {
    chunks: mpsc::Receiver<Bytes>,
    frames: FrameBuf,
    ended: Option<ReadError>,
    peer: libp2p::PeerId,
    notes: mpsc::Sender<Note>,
    _gone: DropGuard,
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
    /// more per 16 KiB that have come: what it merely announces buys no time. Not cancel safe in its deadline: call it once.
    ///
    /// # Errors
    /// As [`FrameReader::next`], and [`ReadError::TooSlow`].
    pub async fn open(&mut self) -> Result<Bytes, ReadError> {
        let begun = Instant::now();
        loop {
            if let Some(open) = self.buffered(|frames| frames.next_bytes(Cap::Open))? {
                return Ok(open);
            }
            let after_ms = frame::open_frame_ms(self.frames.len());
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
            let _ = self.notes.try_send(Note::Violation { peer: self.peer });
            self.end(ReadError::Violation(error))
        })
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        match self.chunks.recv().await {
            Some(chunk) => {
                self.frames.push(&chunk);
                Ok(())
            }
            None => Err(self.end(ReadError::Closed)),
        }
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
        self.end.writer.cancel();
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

/// The task that moves bytes in both directions.
///
/// One task polls both, because a stream of Yamux remembers one waker for whatever it sends, and reading sends, too: window updates,
/// and with `V1Lazy` the protocol's name. With a task for each direction the reading one can take the wake-up that the writing one
/// waits for.
struct Pump {
    stream: Stream,
    frames: mpsc::Receiver<Bytes>,
    /// The frame being written, and how much of it is.
    writing: Option<(Bytes, usize)>,
    /// Something was written and not flushed.
    dirty: bool,
    /// Nothing is written any more: closed, thrown away, or given up.
    write_over: bool,
    /// `None`: nothing is read any more.
    chunks: Option<PollSender<Bytes>>,
    buffer: Box<[u8]>,
    room: Arc<Room>,
    end: End,
    closed: CancellationToken,
    _slot: Option<JobSlot>,
}

/// How the halves tell their pump that nobody holds them any more.
#[derive(Clone, Debug, Default)]
struct End {
    writer: CancellationToken,
    reader: CancellationToken,
    abort: CancellationToken,
}

impl Pump {
    async fn run(mut self) {
        let (end, closed) = (self.end.clone(), self.closed.clone());
        let mut give_up = pin!(async {
            tokio::select! {
                () = end.abort.cancelled() => {}
                () = async { end.writer.cancelled().await; tokio::time::sleep(FINISH).await } => {}
            }
        });
        let mut reader_gone = pin!(end.reader.cancelled());
        loop {
            tokio::select! {
                // What has arrived is read before the end of the connection is.
                biased;
                () = poll_fn(|cx| self.poll_both(cx)) => break,
                () = closed.cancelled() => break,
                () = &mut reader_gone, if self.chunks.is_some() => self.chunks = None,
                () = &mut give_up, if !self.write_over => {
                    self.write_over = true;
                    self.room.close();
                }
            }
        }
        self.room.close();
    }

    /// Ready when both directions are over or the stream broke.
    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (written, read) = (self.poll_write(cx), self.poll_read(cx));
            let broken =
                matches!(written, Poll::Ready(Err(_))) || matches!(read, Poll::Ready(Err(_)));
            if broken || (self.write_over && self.chunks.is_none()) {
                return Poll::Ready(());
            }
            if written.is_pending() && read.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// One step of writing: a part of a frame, the next frame, a flush, or the end.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_over {
            return Poll::Pending;
        }
        if let Some((frame, at)) = &mut self.writing {
            *at += ready!(Pin::new(&mut self.stream).poll_write(cx, &frame[*at..]))?;
            if *at == frame.len() {
                self.room.leave(frame.len());
                (self.writing, self.dirty) = (None, true);
            }
            return Poll::Ready(Ok(()));
        }
        match self.frames.poll_recv(cx) {
            Poll::Ready(Some(frame)) => {
                self.writing = Some((frame, 0));
                Poll::Ready(Ok(()))
            }
            Poll::Ready(None) => {
                ready!(Pin::new(&mut self.stream).poll_close(cx))?;
                self.write_over = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.dirty => {
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                self.dirty = false;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// One step of reading, if the reader has room for it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(chunks) = &mut self.chunks else {
            return Poll::Pending;
        };
        if ready!(chunks.poll_reserve(cx)).is_err() {
            self.chunks = None;
            return Poll::Ready(Ok(()));
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut self.buffer))?;
        if read == 0
            || chunks
                .send_item(Bytes::copy_from_slice(&self.buffer[..read]))
                .is_err()
        {
            self.chunks = None;
        }
        Poll::Ready(Ok(()))
    }
}
