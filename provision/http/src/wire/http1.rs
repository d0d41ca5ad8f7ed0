//! HTTP/1.1 as far as a download needs it (RFC 9112): a request, an answer's head, a body into the caller's memory.
//!
//! The program's own, because this is where its speed and its memory are decided: a body is read straight into the
//! buffer that is hashed and written, so that nothing is copied on the way and no connection holds more than its
//! caller gave it. A client library hands out slices of read buffers of its own, hundreds of kilobytes each, and
//! every slice keeps the whole buffer. The grammar of a head is `httparse`'s.
//!
//! The peer is hostile until checked: heads, lines and trailers have limits, two lengths that differ are no length,
//! and a connection is used again only where its last message ended exactly where it had to.

mod body;
mod head;
mod request;

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::error::TransportError;
use body::Framing;
pub(crate) use head::Head;
pub(crate) use request::{Form, Request};

/// What bytes come from and go to: TCP, or TLS over something.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// What is read ahead of a body at once, in bytes.
const READ_AHEAD: usize = 16 << 10;

/// The longest head, informational answers before it included, in bytes (fault 31).
const MAX_HEAD: usize = 64 << 10;

/// One TCP stream, and how far its conversation is.
pub(crate) struct Exchange {
    io: Box<dyn Socket>,
    ahead: Ahead,
    state: State,
    /// The peer keeps the connection open after this answer.
    persistent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is on its way: the next request can be sent.
    Idle,
    /// A request was begun, and its answer's head is not here.
    ExpectedBody,
    /// The rest of a body.
    Body(Framing),
    /// An answer did not end as it had to.
    Lost,
}

/// What was read and nobody has taken.
struct Ahead {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Ahead {
    fn new() -> Self {
        Self { bytes: vec![0; READ_AHEAD], start: 0, end: 0 }
    }

    fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn take(&mut self, len: usize) {
        self.start += len;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Copies what there is, as far as `into` has room.
    fn copy_to(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.end - self.start);
        into[..len].copy_from_slice(&self.waiting()[..len]);
        self.take(len);
        len
    }

    /// Reads more behind what there is, and makes room for it up to `limit` bytes. Where the caller stops waiting,
    /// nothing is lost.
    async fn fill(&mut self, io: &mut dyn Socket, limit: usize) -> Result<usize, TransportError> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            if self.end >= limit {
                return Err(TransportError::NotHttp);
            }
            self.bytes.resize((self.end * 2).min(limit), 0);
        }
        let read = io.read(&mut self.bytes[self.end..]).await.map_err(|error| broken(&error))?;
        self.end += read;
        Ok(read)
    }
}

/// How a stream that stood has failed.
fn broken(error: &io::Error) -> TransportError {
    TransportError::of_io(error).unwrap_or(TransportError::Broken)
}

impl Exchange {
    pub(crate) fn new(io: Box<dyn Socket>) -> Self {
        Self { io, ahead: Ahead::new(), state: State::Idle, persistent: true }
    }

    /// Whether another request can be sent: the last answer is over, and the peer has neither closed the connection
    /// nor said something that nobody asked for.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.is_over() && self.ahead.is_empty() && {
            let mut byte = [0; 1];
            let mut read = ReadBuf::new(&mut byte);
            let mut context = Context::from_waker(Waker::noop());
            Pin::new(&mut *self.io).poll_read(&mut context, &mut read).is_pending()
        }
    }

    /// Whether the last answer has ended, and the connection stays open.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Idle && self.persistent
    }

    /// What is under it, once a proxy has answered that what follows is the host's own (RFC 9110 section 9.3.6).
    /// `None` where something has followed already: the host does not speak first.
    pub(crate) fn into_tunnel(self) -> Option<Box<dyn Socket>> {
        self.ahead.is_empty().then_some(self.io)
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Head, TransportError> {
        self.state = State::ExpectedBody;
        self.io.write_all(request).await.map_err(|error| broken(&error))?;
        self.io.flush().await.map_err(|error| broken(&error))?;
        let mut passed_over = 0;
        loop {
            if let Some((head, len)) = head::parse(self.ahead.waiting())? {
                self.ahead.take(len);
                if head.is_informational() {
                    passed_over += len;
                    continue;
                }
                self.persistent = head.persistent;
                self.state = State::Body(head.framing).settled();
                return Ok(head);
            }
            let limit = MAX_HEAD.saturating_sub(passed_over);
            if self.ahead.waiting().len() >= limit {
                return Err(TransportError::NotHttp);
            }
            if self.ahead.fill(&mut *self.io, limit).await? == 0 {
                return Err(TransportError::Broken);
            }
        }
    }

    /// Reads the next bytes of the body into `into`, which has room for one at least; 0 at its end. Where the caller
    /// stops waiting, nothing is lost.
    pub(crate) async fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let State::Body(framing) = &mut self.state else {
            return if self.state == State::Idle { Ok(0) } else { Err(TransportError::Broken) };
        };
        let read = framing.read(&mut self.ahead, &mut *self.io, into).await;
        self.state = match &read {
            Ok(_) => State::Body(*framing).settled(),
            Err(_) => State::Lost,
        };
        read
    }
}

impl State {
    /// A body whose end has been read is over.
    fn settled(self) -> Self {
        match self {
            Self::Body(framing) if framing.is_over() => Self::Idle,
            state => state,
        }
    }
}

#[cfg(test)]
mod tests;
