//! Short documents: requests for a lock, a listing or a registry's token, with the whole answer in memory.
//!
//! A document has the redirects, credentials and checks of a model file, but its size is not known. So it has three limits:
//! its length, the time without data, and the time for all of it. The last one stops a host that sends a byte now and then:
//! no single wait is too long, and the end never comes. After a failure the connection is closed, because the rest of
//! the body may still arrive.
//!
//! [`Connection::send`] is here because it may need a document itself: a registry answers 401, and the request is sent again
//! with the token from its token service.

use std::net::IpAddr;

use http::StatusCode;
use http::header::{self, HeaderMap};
use tokio::time::Instant;

use crate::auth::bearer::{self, Challenge};
use crate::auth::credentials::Secret;
use crate::connection::{Connection, RequestHeaders};
use crate::error::RequestError;
use crate::judge::{Resolved, is_redirect};
use crate::redirect::{MAX_HOPS, RedirectError};
use crate::response::{ResponseError, encoding};
use crate::transport::TransportError;
use crate::wire::http1::Head;
use provision_core::source_url::SourceUrl;

/// The longest answer of a token service, in bytes.
const MAX_TOKEN: u64 = 1 << 20;

impl Connection {
    /// The document at `source`, at most `most` bytes.
    ///
    /// # Errors
    /// Every failure up to the document's end; [`remedy`](RequestError::remedy) is the next step.
    pub async fn document(&mut self, source: &SourceUrl, most: u64) -> Result<Vec<u8>, RequestError> {
        let mut at = Resolved::first(self.client.effective(source));
        for _ in 0..=MAX_HOPS {
            let (head, peer) = self.send(&at, RequestHeaders { range: None, accept: "*/*" }).await?;
            if is_redirect(head.status) {
                at = self.client.next(&head.headers, &at, peer)?;
                self.drain().await;
                continue;
            }
            if let Some(error) = self.client.failure(head.status, &head.headers, &at, false) {
                return Err(error);
            }
            check(head.status, &head.headers).map_err(|error| RequestError::response(&at.url, error))?;
            return self.read_document(&at.url, &head.headers, most).await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }

    /// Sends a request and returns the answer's head and the peer's address. A registry's challenge is answered with a token,
    /// from the cache or from the registry's token service.
    pub(crate) async fn send(
        &mut self,
        to: &Resolved,
        headers: RequestHeaders,
    ) -> Result<(Head, IpAddr), RequestError> {
        let token = if to.same_origin { self.client.tokens.of(&to.url) } else { None };
        let (head, peer) = self.send_with(to, headers, token.as_ref()).await?;
        let challenge = to.same_origin.then(|| Challenge::of(head.status, &head.headers, &to.url)).flatten();
        let Some(challenge) = challenge else { return Ok((head, peer)) };
        // Another connection may have obtained a token in the meantime.
        let current = self.client.tokens.of(&to.url).filter(|current| token.as_ref() != Some(current));
        let token = if let Some(token) = current {
            token
        } else {
            self.drain().await;
            let service = self.client.permit(to, challenge.service.clone(), peer);
            let mut service =
                service.map_err(|error| RequestError::Redirect { url: to.url.clone(), error })?;
            // The challenge decides about a login for the service, not the redirect chain that led to the registry.
            service.same_origin = challenge.may_have_credentials;
            let token = Box::pin(self.obtain_token(&service)).await?;
            self.client.tokens.keep(&to.url, token.clone());
            token
        };
        self.send_with(to, headers, Some(&token)).await
    }

    /// A token from a token service. Redirects are not followed: the challenge was checked for this URL only.
    async fn obtain_token(&mut self, service: &Resolved) -> Result<Secret, RequestError> {
        let headers = RequestHeaders { range: None, accept: "application/json" };
        let (head, _) = self.send_with(service, headers, None).await?;
        if let Some(error) = self.client.failure(head.status, &head.headers, service, false) {
            return Err(error);
        }
        let unusable = |error| RequestError::response(&service.url, error);
        if head.status != StatusCode::OK {
            return Err(unusable(ResponseError::Status { status: head.status.as_u16() }));
        }
        let body = self.read_document(&service.url, &head.headers, MAX_TOKEN).await?;
        bearer::token(&body).ok_or_else(|| unusable(ResponseError::NoToken))
    }

    /// Reads the whole body of an answer from `url`, at most `most` bytes.
    ///
    /// # Errors
    /// [`ResponseError::Oversized`] as soon as the head or the body shows that it is longer, and every other failure.
    pub(crate) async fn read_document(
        &mut self,
        url: &SourceUrl,
        headers: &HeaderMap,
        most: u64,
    ) -> Result<Vec<u8>, RequestError> {
        let body = self.read_within_limits(url, length(headers), most).await;
        if body.is_err() {
            self.close();
        }
        body
    }

    async fn read_within_limits(
        &mut self,
        url: &SourceUrl,
        length: Option<u64>,
        most: u64,
    ) -> Result<Vec<u8>, RequestError> {
        let oversized = || RequestError::response(url, ResponseError::Oversized { most });
        if length.is_some_and(|length| length > most) {
            return Err(oversized());
        }
        let (stall, longest) = (self.client.config.head_timeout, self.client.config.document_timeout);
        let end = Instant::now() + longest;
        let mut bytes = Vec::new();
        let mut block = vec![0; 64 << 10];
        loop {
            let until = (Instant::now() + stall).min(end);
            match tokio::time::timeout_at(until, self.read(&mut block)).await {
                Err(_) if until == end => {
                    return Err(RequestError::transport(url, TransportError::Slow(longest)));
                }
                Err(_) => return Err(RequestError::stalled(url, stall)),
                Ok(Ok(0)) => break,
                Ok(Ok(read)) => bytes.extend_from_slice(&block[..read]),
                // Reported below as a body that was cut short, with both lengths.
                Ok(Err(TransportError::Broken)) if length.is_some() => break,
                Ok(Err(kind)) => return Err(RequestError::transport(url, kind)),
            }
            if bytes.len() as u64 > most {
                return Err(oversized());
            }
        }
        let received = bytes.len() as u64;
        match length.filter(|length| *length != received) {
            Some(expected) => Err(RequestError::cut_short(url, received, expected)),
            None => Ok(bytes),
        }
    }
}

/// Checks the head of a document: a 200 without an encoding.
fn check(status: StatusCode, headers: &HeaderMap) -> Result<(), ResponseError> {
    if status != StatusCode::OK {
        return Err(ResponseError::Status { status: status.as_u16() });
    }
    match encoding(headers) {
        Some(encoding) => Err(ResponseError::Encoded { encoding }),
        None => Ok(()),
    }
}

/// The body's length; `None` without a `Content-Length`, or with a transfer coding (RFC 9112 section 6.3).
fn length(headers: &HeaderMap) -> Option<u64> {
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok();
    length.filter(|_| !is_coded)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    fn answer(status: u16, head: &[(&str, &str)]) -> Result<(), ResponseError> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        check(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn a_document_is_a_200_without_an_encoding() {
        assert_eq!(answer(200, &[("content-length", "100"), ("content-encoding", "identity")]), Ok(()));
        assert_eq!(answer(206, &[]), Err(ResponseError::Status { status: 206 }));
        assert!(matches!(answer(200, &[("content-encoding", "gzip")]), Err(ResponseError::Encoded { .. })));
    }

    #[test]
    fn fault_53_an_unknown_encoding_is_not_repeated() {
        let message = |value| match answer(200, &[("content-encoding", value)]) {
            Err(error) => error.to_string(),
            Ok(()) => String::new(),
        };
        assert!(message("GZIP, br").contains("gzip, br"));
        assert!(
            !message("canary").contains("canary") && message("canary").contains("unknown"),
            "{}",
            message("canary")
        );
    }

    #[test]
    fn content_length_is_ignored_with_a_transfer_coding() {
        let header_length = |head: &[(HeaderName, &str)]| {
            length(&head.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect())
        };
        let content_length = |value| (header::CONTENT_LENGTH, value);
        assert_eq!(header_length(&[content_length("100")]), Some(100));
        assert_eq!(header_length(&[]), None);
        assert_eq!(header_length(&[content_length("many")]), None);
        assert_eq!(header_length(&[content_length("1000"), (header::TRANSFER_ENCODING, "chunked")]), None);
    }
}
