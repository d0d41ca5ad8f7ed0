//! HTTP/1.1 for downloads (RFC 9112): one request, the head of its answer, and its body into the caller's buffer.
//!
//! The body is read straight into that buffer: no copy on the way, and no connection holds more memory than its caller
//! gave it and its read-ahead buffer. `httparse` parses the heads.
//!
//! The peer is hostile until checked. Heads, lines and trailers have limits, two different lengths are an error, and a
//! connection is used again only if its last message ended exactly at its end.

mod body;
mod head;
mod read_ahead;
mod request;

use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::io::{AsyncWriteExt as _, ReadBuf};

use crate::transport::{HeaderProblem, TransportError};
use body::Framing;
pub(crate) use head::{Head, MAX_FIELDS};
pub(crate) use read_ahead::Socket;
use read_ahead::{ReadAhead, broken};
pub(crate) use request::{Request, RequestHeaders, RequestTarget, Secrets, USER_AGENT};

/// The longest head in bytes, with the informational answers before it (fault 31).
const MAX_HEAD: usize = 64 << 10;

/// A stream, and the state of the conversation on it.
pub(crate) struct Exchange {
    io: Box<dyn Socket>,
    ahead: ReadAhead,
    state: State,
    /// The peer keeps the connection open after the current answer.
    persistent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The last answer is complete; the next request can be sent.
    Idle,
    /// A request is being sent, or the head of its answer is incomplete.
    AwaitingHead,
    /// A body is being read.
    Body(Framing),
    /// An answer was malformed or cut short, so the connection cannot be used again.
    Failed,
}

impl Exchange {
    pub(crate) fn new(io: Box<dyn Socket>) -> Self {
        Self { io, ahead: ReadAhead::new(), state: State::Idle, persistent: true }
    }

    /// True if another request can be sent: the last answer is complete, and the peer has neither closed the connection
    /// nor sent anything after it.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.is_over() && self.ahead.is_empty() && {
            let mut byte = [0; 1];
            let mut read = ReadBuf::new(&mut byte);
            let mut context = Context::from_waker(Waker::noop());
            Pin::new(&mut *self.io).poll_read(&mut context, &mut read).is_pending()
        }
    }

    /// True if the last answer is complete and the connection stays open.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Idle && self.persistent
    }

    /// The stream under the exchange, after a proxy's answer to CONNECT (RFC 9110 section 9.3.6). `None` if bytes have
    /// followed the answer, because in TLS the client speaks first.
    pub(crate) fn into_tunnel(self) -> Option<Box<dyn Socket>> {
        self.ahead.is_empty().then_some(self.io)
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Head, TransportError> {
        self.state = State::AwaitingHead;
        self.io.write_all(request).await.map_err(|error| broken(&error))?;
        self.io.flush().await.map_err(|error| broken(&error))?;
        let mut skipped = 0;
        loop {
            if let Some((head, len)) = head::parse(self.ahead.bytes())? {
                self.ahead.take(len);
                if head.is_informational() {
                    skipped += len;
                    continue;
                }
                self.persistent = head.persistent;
                self.state = State::Body(head.framing).or_idle();
                return Ok(head);
            }
            let limit = MAX_HEAD.saturating_sub(skipped);
            if self.ahead.bytes().len() >= limit {
                return Err(TransportError::Header(HeaderProblem::TooLong));
            }
            if self.ahead.fill(&mut *self.io, limit).await? == 0 {
                return Err(TransportError::Broken);
            }
        }
    }

    /// Reads the next bytes of the body into `into`, which must not be empty; 0 at its end. A dropped future loses no
    /// byte.
    pub(crate) async fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let State::Body(framing) = &mut self.state else {
            return if self.state == State::Idle { Ok(0) } else { Err(TransportError::Broken) };
        };
        let read = framing.read(&mut self.ahead, &mut *self.io, into).await;
        self.state = match &read {
            Ok(_) => State::Body(*framing).or_idle(),
            Err(_) => State::Failed,
        };
        read
    }
}

impl State {
    /// `Idle` instead of a body whose end has been read.
    fn or_idle(self) -> Self {
        match self {
            Self::Body(framing) if framing.is_over() => Self::Idle,
            state => state,
        }
    }
}

#[cfg(test)]
mod tests;
