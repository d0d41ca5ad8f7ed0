//! An answer's body: its bytes, its end, and what goes wrong with it.

use std::time::Duration;

use super::{Connection, DRAIN_TIMEOUT, Resolved};
use crate::error::{BodyPrefix, RequestError, ResponseError, TransportError};
use crate::response::BodyKind;
use provision_core::redact::Redactor;

/// An answer whose head has been checked, and its body.
#[derive(Debug)]
pub struct Answer<'a> {
    pub(super) connection: &'a mut Connection,
    /// What the body is.
    pub kind: BodyKind,
    /// A strong validator, if it came with one.
    pub etag: Option<String>,
    /// Where it came from.
    pub resolved: Resolved,
}

/// How a body whose bytes have all been taken ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// There: the connection can be used again.
    Clean,
    /// It goes on.
    More,
    /// Nothing ended it within a moment, or the connection broke off or is to be closed.
    Unknown,
}

impl Answer<'_> {
    /// Reads the next bytes of the body into `into`, which has room for one at least, and returns how many; 0 at its
    /// end. Where the caller stops waiting, nothing is lost.
    pub async fn read(&mut self, into: &mut [u8]) -> Result<usize, RequestError> {
        let read = self.connection.read(into).await;
        read.map_err(|kind| RequestError::transport(&self.resolved.url, kind))
    }

    /// Looks for the end of a body whose bytes have all been taken, so that its connection can be used again.
    pub async fn end(self) -> BodyEnd {
        match tokio::time::timeout(DRAIN_TIMEOUT, self.connection.read(&mut [0])).await {
            Ok(Ok(0)) if self.connection.live.as_ref().is_some_and(|live| live.line.exchange.is_over()) => {
                BodyEnd::Clean
            }
            Ok(Ok(1..)) => BodyEnd::More,
            _ => BodyEnd::Unknown,
        }
    }

    /// What must not be shown where the body repeats it.
    pub fn redactor(&self) -> Redactor {
        self.connection.origin.redactor(self.resolved.urls())
    }

    /// The failure of a body in which nothing moved for `wait`.
    pub fn stalled(&self, wait: Duration) -> RequestError {
        RequestError::stalled(&self.resolved.url, wait)
    }

    /// The failure of a body that goes on past the file's length.
    pub fn too_long(&self) -> RequestError {
        RequestError::Transport { host: self.resolved.url.authority(), kind: TransportError::TooLong }
    }

    /// The failure of a file that changed between two ranges.
    pub fn changed(&self) -> RequestError {
        RequestError::Response {
            url: self.resolved.url.clone(),
            error: ResponseError::Changed,
            prefix: BodyPrefix::default(),
        }
    }
}
