//! The body of a short document, whole: a lock, a listing, a token.
//!
//! Nothing is known of it but what the host says, so it has three limits: its length, how long no byte comes, and how long
//! all of it takes. The last one is against a host that sends a byte now and then: each is in time, and the end never
//! comes. After a failure the connection is given up, since nobody knows what is still on its way.

use http::header::{self, HeaderMap};
use tokio::time::Instant;

use crate::client::Connection;
use crate::error::{RequestError, ResponseError, TransportError};
use provision_core::source_url::SourceUrl;

impl Connection {
    /// The body that is on its way from `url`, of `most` bytes at most.
    ///
    /// # Errors
    /// [`ResponseError::Oversized`] where it is longer, as soon as that is said or seen; and whatever else is not the whole.
    pub(super) async fn body(
        &mut self,
        url: &SourceUrl,
        headers: &HeaderMap,
        most: u64,
    ) -> Result<Vec<u8>, RequestError> {
        let body = self.body_in_time(url, length(headers), most).await;
        if body.is_err() {
            self.hang_up();
        }
        body
    }

    async fn body_in_time(
        &mut self,
        url: &SourceUrl,
        length: Option<u64>,
        most: u64,
    ) -> Result<Vec<u8>, RequestError> {
        let oversized = || RequestError::response(url, ResponseError::Oversized { most });
        if length.is_some_and(|length| length > most) {
            return Err(oversized());
        }
        let (stall, longest) = (self.origin.config.head_timeout, self.origin.config.document_timeout);
        let end = Instant::now() + longest;
        let mut bytes = Vec::new();
        let mut room = vec![0; 64 << 10];
        loop {
            let until = (Instant::now() + stall).min(end);
            match tokio::time::timeout_at(until, self.read(&mut room)).await {
                Err(_) if until == end => {
                    return Err(RequestError::transport(url, TransportError::Slow(longest)));
                }
                Err(_) => return Err(RequestError::stalled(url, stall)),
                Ok(Ok(0)) => break,
                Ok(Ok(read)) => bytes.extend_from_slice(&room[..read]),
                Ok(Err(TransportError::Broken)) if length.is_some() => break,
                Ok(Err(kind)) => return Err(RequestError::transport(url, kind)),
            }
            if bytes.len() as u64 > most {
                return Err(oversized());
            }
        }
        let came = bytes.len() as u64;
        match length.filter(|length| *length != came) {
            Some(of) => Err(RequestError::cut_short(url, came, of)),
            None => Ok(bytes),
        }
    }
}

/// What the head says of the body's length. With a transfer coding it is none (RFC 9112 section 6.3).
fn length(headers: &HeaderMap) -> Option<u64> {
    let is_framed_otherwise = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok();
    length.filter(|_| !is_framed_otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_where_nothing_else_frames_the_body() {
        let said = |head: &[(header::HeaderName, &str)]| {
            length(&head.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect())
        };
        let content_length = |value| (header::CONTENT_LENGTH, value);
        assert_eq!(said(&[content_length("100")]), Some(100));
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[content_length("many")]), None);
        assert_eq!(said(&[content_length("1000"), (header::TRANSFER_ENCODING, "chunked")]), None);
    }
}
