//! The read-ahead buffer: bytes of the stream that a parser has seen and no caller has taken.
//!
//! Heads and the lines between chunks need it. A body's bytes pass through it only if they arrived with such a line.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::transport::TransportError;

/// A byte stream: TCP, or TLS over another stream.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// The size of the buffer in bytes; only a long head makes it grow.
pub(super) const READ_AHEAD: usize = 16 << 10;

/// Bytes that were read and not taken yet.
pub(super) struct ReadAhead {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadAhead {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; READ_AHEAD], start: 0, end: 0 }
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Removes the first `len` bytes.
    pub(super) fn take(&mut self, len: usize) {
        self.start += len;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves as many bytes as fit to `into`, and returns their number.
    pub(super) fn move_to(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.end - self.start);
        into[..len].copy_from_slice(&self.bytes()[..len]);
        self.take(len);
        len
    }

    /// Reads more bytes behind those that are there. The buffer grows up to `limit` bytes; a longer line or head is an
    /// error. A dropped future loses no byte.
    pub(super) async fn fill(&mut self, io: &mut dyn Socket, limit: usize) -> Result<usize, TransportError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            if self.end >= limit {
                return Err(TransportError::NotHttp);
            }
            self.buffer.resize((self.end * 2).min(limit), 0);
        }
        let read = io.read(&mut self.buffer[self.end..]).await.map_err(|error| broken(&error))?;
        self.end += read;
        Ok(read)
    }
}

/// The kind of an error on an established connection.
pub(super) fn broken(error: &io::Error) -> TransportError {
    TransportError::of_io(error).unwrap_or(TransportError::Broken)
}
