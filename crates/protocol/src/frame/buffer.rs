//! Cuts a byte stream into frames without trusting the lengths it carries.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{Cap, Frame, FrameError};

/// Bytes of the longest length prefix: 28 bits, far above every cap.
const MAX_PREFIX: usize = 4;

/// An incremental decoder: push what arrived, take frames until there is none, push more.
///
/// It holds what was pushed and not yet taken, and nothing is reserved for bytes that a prefix merely promises:
/// a peer that announces a megabyte and sends a byte costs a byte. After an error the buffer gives the same
/// error for ever, since a stream that lost its framing cannot find it again.
#[derive(Debug, Default)]
pub struct FrameBuf {
    bytes: BytesMut,
    failed: Option<FrameError>,
}

impl FrameBuf {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes that arrived. Take all frames before pushing again: the buffer then never holds more than
    /// one frame's cap, its prefix and one chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.failed.is_none() {
            self.bytes.extend_from_slice(chunk);
        }
    }

    /// The bytes of the next whole frame, without its length. `None`: more bytes are needed.
    pub fn next_bytes(&mut self, cap: Cap) -> Result<Option<Bytes>, FrameError> {
        self.next_within(cap.bytes())
    }

    /// The next whole frame that this version knows, decoded; later kinds that may be skipped are skipped.
    /// `None`: more bytes are needed.
    pub fn next_frame(&mut self, cap: Cap) -> Result<Option<Frame>, FrameError> {
        while let Some(bytes) = self.next_bytes(cap)? {
            match Frame::from_bytes(&bytes, cap) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(None)
    }

    /// As [`FrameBuf::next_bytes`], for messages that are delimited alike and have a cap of their own.
    pub fn next_within(&mut self, cap: usize) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (len, prefix) = match prefix(&self.bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error)),
        };
        if len > cap {
            return Err(self.fail(FrameError::TooLong { len, cap }));
        }
        if self.bytes.len() < prefix + len {
            return Ok(None);
        }
        self.bytes.advance(prefix);
        Ok(Some(self.bytes.split_to(len).freeze()))
    }

    /// True when the stream may end here: between two frames.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.bytes = BytesMut::new();
        self.failed = Some(error);
        error
    }
}

/// The length that the buffer begins with and the bytes its prefix takes; `None` while the prefix is incomplete.
fn prefix(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut len = 0usize;
    for (index, &byte) in bytes.iter().take(MAX_PREFIX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            // A last byte of zero adds nothing: the same length has a shorter form.
            return if index > 0 && byte == 0 {
                Err(FrameError::Length)
            } else {
                Ok(Some((len, index + 1)))
            };
        }
    }
    if bytes.len() >= MAX_PREFIX {
        Err(FrameError::Length)
    } else {
        Ok(None)
    }
}
