//! A short document, whole: a lock that lies at an address.
//!
//! It is asked for like a file, with the same redirects, credentials and checks, but nothing is known of its length: so it
//! has a limit, and a time within which it has to be there. Whether it is the right one is its digest's to say, and the
//! caller's to ask.

use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderMap};
use tokio::time::Instant;

use super::client::{Connection, Resolved, Wish, is_redirect};
use super::error::{RequestError, TransportError, Unusable};
use super::redirect::{MAX_HOPS, RedirectError};
use crate::source_url::SourceUrl;

/// The longest that a whole body takes: a host that sends a byte now and then does not keep anybody waiting for ever.
const LONGEST: Duration = Duration::from_mins(2);

impl Connection {
    /// The document at `source`, of `most` bytes at most.
    ///
    /// # Errors
    /// Everything that is not the whole of it; [`remedy`](RequestError::remedy) says what to do.
    pub async fn document(&mut self, source: &SourceUrl, most: u64) -> Result<Vec<u8>, RequestError> {
        let mut at = Resolved::first(self.origin.effective(source));
        for _ in 0..=MAX_HOPS {
            let (head, peer) = self.send(&at, Wish { range: None, accept: "*/*" }).await?;
            if is_redirect(head.status) {
                at = self.next(&head, &at, peer)?;
                self.drain().await;
                continue;
            }
            if let Some(error) = self.failure(&head, &at, false) {
                return Err(error);
            }
            let length = look(head.status, &head.headers, most);
            let length = length.map_err(|what| RequestError::unusable(&at.url, what))?;
            return self.whole(&at.url, length, most).await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }

    async fn whole(
        &mut self,
        url: &SourceUrl,
        length: Option<u64>,
        most: u64,
    ) -> Result<Vec<u8>, RequestError> {
        let patience = self.origin.config.head_timeout;
        let end = Instant::now() + LONGEST;
        let mut bytes = Vec::new();
        let mut room = vec![0; 16 << 10];
        loop {
            let until = (Instant::now() + patience).min(end);
            match tokio::time::timeout_at(until, self.read(&mut room)).await {
                Err(_) => return Err(RequestError::stalled(url, patience)),
                Ok(Ok(0)) => break,
                Ok(Ok(read)) => bytes.extend_from_slice(&room[..read]),
                Ok(Err(TransportError::Broken)) if length.is_some() => break,
                Ok(Err(kind)) => return Err(RequestError::transport(url, kind)),
            }
            if bytes.len() as u64 > most {
                return Err(RequestError::unusable(url, Unusable::Oversized { most }));
            }
        }
        let came = bytes.len() as u64;
        match length.filter(|length| *length != came) {
            Some(of) => Err(RequestError::cut_short(url, came, of)),
            None => Ok(bytes),
        }
    }
}

/// What the head says of the body's length, where it is one to be read.
fn look(status: StatusCode, headers: &HeaderMap, most: u64) -> Result<Option<u64>, Unusable> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if status != StatusCode::OK {
        return Err(Unusable::Status { status: status.as_u16() });
    }
    if let Some(encoding) =
        text(header::CONTENT_ENCODING).filter(|e| !e.is_empty() && !e.eq_ignore_ascii_case("identity"))
    {
        return Err(Unusable::Encoded { encoding: encoding.to_owned() });
    }
    // With a transfer coding the length is none (RFC 9112 section 6.3).
    let is_framed_otherwise = headers.contains_key(header::TRANSFER_ENCODING);
    let length = text(header::CONTENT_LENGTH).and_then(|value| value.parse().ok());
    match length.filter(|_| !is_framed_otherwise) {
        Some(length) if length > most => Err(Unusable::Oversized { most }),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    fn ask(status: u16, head: &[(&str, &str)]) -> Result<Option<u64>, Unusable> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        look(StatusCode::from_u16(status).unwrap(), &headers, 100)
    }

    #[test]
    fn a_document_is_a_200_within_its_limit() {
        assert_eq!(ask(200, &[("content-length", "100")]), Ok(Some(100)));
        assert_eq!(ask(200, &[]), Ok(None));
        assert_eq!(ask(200, &[("content-length", "1000"), ("transfer-encoding", "chunked")]), Ok(None));
        assert_eq!(ask(200, &[("content-length", "101")]), Err(Unusable::Oversized { most: 100 }));
        assert_eq!(ask(206, &[]), Err(Unusable::Status { status: 206 }));
        assert!(matches!(ask(200, &[("content-encoding", "gzip")]), Err(Unusable::Encoded { .. })));
    }
}
