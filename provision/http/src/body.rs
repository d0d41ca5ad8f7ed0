//! Bodies of model files: a request for a range or a whole file, its validated answer, and the body's bytes.
//!
//! [`Connection::get`] follows the redirects and validates the head before a byte of the body is used. [`Answer`] then
//! reads the body straight into the caller's buffer. The connection can be used again only if [`Answer::end`] finds the
//! body's end.

use std::time::Duration;

use http::{StatusCode, header};

use crate::bucket::Corrected;
use crate::connection::Connection;
use crate::error::{BodyPrefix, RequestError};
use crate::host_rules::accept;
use crate::hub_headers;
use crate::redirect::{MAX_HOPS, RedirectError};
use crate::request_rules::{Resolved, explains, is_redirect};
use crate::response::{BodyKind, ExpectedBody, ResponseError, strong_etag, validate};
use crate::transport::TransportError;
use crate::wire::http1::{Head, RequestHeaders};
use crate::wire::{DRAIN_TIMEOUT, LONGEST_REASON};
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The bytes of a rejected body that are kept for `sniff`.
const PREFIX_LENGTH: usize = 4 << 10;

/// An answer with a valid head, and its body.
#[derive(Debug)]
pub struct Answer<'a> {
    connection: &'a mut Connection,
    /// The body that the answer brings.
    pub kind: BodyKind,
    /// The strong validator, if there is one.
    pub etag: Option<String>,
    /// The end of the redirect chain.
    pub resolved: Resolved,
    /// The body's end is told from a connection that was cut: by a length, or by a last chunk.
    pub has_marked_end: bool,
}

/// The state of a body after the last byte that the caller wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// The body has ended, and the connection can be used again.
    Clean,
    /// The body has more bytes.
    More,
    /// The end did not come within 200 ms, or the connection is or will be closed.
    Unknown,
}

impl Connection {
    /// Requests a body of the file at `source`, or at `resolved`, where an earlier request found it. Follows redirects,
    /// validates the head, and leaves the body unread.
    ///
    /// # Errors
    /// Every failure up to a valid head; [`remedy`](RequestError::remedy) is the next step.
    pub async fn get(
        &mut self,
        source: &SourceUrl,
        resolved: Option<&Resolved>,
        expected: ExpectedBody,
    ) -> Result<Answer<'_>, RequestError> {
        let mut at = resolved.cloned().map_or_else(|| self.client.first(source), Ok)?;
        let headers = RequestHeaders { range: expected.range, accept: accept(source) };
        let mut corrected = Corrected::default();
        for _ in 0..=MAX_HOPS {
            let (head, peer) = self.send(&at, headers).await?;
            let body = if explains(head.status, &at.url) {
                self.read_prefix(LONGEST_REASON).await
            } else {
                Vec::new()
            };
            if self.client.corrects(&at.url, (head.status, &head.headers), &body, &mut corrected) {
                at = self.client.first(source)?;
                continue;
            }
            // A bucket in another region redirects to no address.
            let leads_on = at.url.object().is_none() || head.headers.contains_key(header::LOCATION);
            if !is_redirect(head.status) || !leads_on {
                return self.answer(&head, at, expected, resolved.is_some(), &body).await;
            }
            hub_headers::check(&head.headers, expected).map_err(|mut error| {
                if let ResponseError::FileChanged(changed) = &mut error {
                    let redactor = self.client.redactor_of(&at);
                    changed.commit = changed.commit.take().and_then(|commit| redactor.clean_digest(commit));
                }
                RequestError::response(&at.url, error)
            })?;
            let is_public = self.client.counts_as_public(&at.url, Some(peer));
            at = self.client.next(head.status, &head.headers, &at, is_public)?;
            self.drain().await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }

    /// Validates the head that ends a redirect chain.
    async fn answer(
        &mut self,
        head: &Head,
        at: Resolved,
        expected: ExpectedBody,
        resolved_earlier: bool,
        body: &[u8],
    ) -> Result<Answer<'_>, RequestError> {
        if let Some(error) = self.client.failure(head.status, &head.headers, &at, resolved_earlier, body) {
            return Err(error);
        }
        let (status, headers) = (head.status, &head.headers);
        match validate(status, headers, expected) {
            Ok(kind) => {
                let marks = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
                let has_marked_end = marks.iter().any(|mark| headers.contains_key(mark));
                let etag = strong_etag(headers);
                Ok(Answer { kind, etag, resolved: at, has_marked_end, connection: self })
            }
            Err(error) => {
                let starts_at_zero =
                    status == StatusCode::OK || expected.range.is_none_or(|range| range.start == 0);
                let is_other_file = matches!(error, ResponseError::Html | ResponseError::WrongSize { .. });
                let prefix = if status.is_success() && starts_at_zero && is_other_file {
                    let bytes = self.read_prefix(PREFIX_LENGTH).await;
                    BodyPrefix { bytes, redactor: self.client.redactor_of(&at) }
                } else {
                    BodyPrefix::default()
                };
                Err(RequestError::Response { url: at.url, error, prefix })
            }
        }
    }
}

impl Answer<'_> {
    /// Reads the next bytes of the body into `into`, which must not be empty, and returns their number; 0 at the end. A
    /// dropped future loses no byte.
    pub async fn read(&mut self, into: &mut [u8]) -> Result<usize, RequestError> {
        let read = self.connection.read(into).await;
        read.map_err(|kind| RequestError::transport(&self.resolved.url, kind))
    }

    /// Reads the end of a body whose bytes have all been taken, so that its connection can be used again.
    pub async fn end(self) -> BodyEnd {
        match tokio::time::timeout(DRAIN_TIMEOUT, self.connection.read(&mut [0])).await {
            Ok(Ok(0)) if self.connection.is_over() => BodyEnd::Clean,
            Ok(Ok(1..)) => BodyEnd::More,
            _ => BodyEnd::Unknown,
        }
    }

    /// The redactor for text from the body.
    pub fn redactor(&self) -> Redactor {
        self.connection.client.redactor_of(&self.resolved)
    }

    /// The failure of a body without data for `wait`.
    pub fn stalled(&self, wait: Duration) -> RequestError {
        RequestError::stalled(&self.resolved.url, wait)
    }

    /// The failure of a body that is longer than the file.
    pub fn too_long(&self) -> RequestError {
        RequestError::transport(&self.resolved.url, TransportError::TooLong)
    }

    /// The failure of a file that changed between two ranges.
    pub fn changed(&self) -> RequestError {
        RequestError::response(&self.resolved.url, ResponseError::Changed)
    }
}
