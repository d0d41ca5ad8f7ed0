//! A short document, whole: a lock that lies at an address.
//!
//! It is asked for like a file, with the same redirects, credentials and checks, but nothing is known of its length: `body` has
//! the limits. Whether it is the right one is its digest's to say, and the caller's to ask.

use http::StatusCode;
use http::header::HeaderMap;

use crate::client::{Connection, RequestHeaders, Resolved, is_redirect};
use crate::error::{RequestError, ResponseError};
use crate::redirect::{MAX_HOPS, RedirectError};
use crate::response::encoding;
use provision_core::source_url::SourceUrl;

impl Connection {
    /// The document at `source`, of `most` bytes at most.
    ///
    /// # Errors
    /// Everything that is not the whole of it; [`remedy`](RequestError::remedy) says what to do.
    pub async fn document(&mut self, source: &SourceUrl, most: u64) -> Result<Vec<u8>, RequestError> {
        let mut at = Resolved::first(self.origin.effective(source));
        for _ in 0..=MAX_HOPS {
            let (head, peer) = self.send(&at, RequestHeaders { range: None, accept: "*/*" }).await?;
            if is_redirect(head.status) {
                at = self.next(&head, &at, peer)?;
                self.drain().await;
                continue;
            }
            if let Some(error) = self.failure(&head, &at, false) {
                return Err(error);
            }
            look(head.status, &head.headers).map_err(|what| RequestError::response(&at.url, what))?;
            return self.body(&at.url, &head.headers, most).await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }
}

/// Whether the head is one of a document that is to be read.
fn look(status: StatusCode, headers: &HeaderMap) -> Result<(), ResponseError> {
    if status != StatusCode::OK {
        return Err(ResponseError::Status { status: status.as_u16() });
    }
    match encoding(headers) {
        Some(encoding) => Err(ResponseError::Encoded { encoding }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    fn ask(status: u16, head: &[(&str, &str)]) -> Result<(), ResponseError> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        look(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn a_document_is_a_200_as_it_is() {
        assert_eq!(ask(200, &[("content-length", "100"), ("content-encoding", "identity")]), Ok(()));
        assert_eq!(ask(206, &[]), Err(ResponseError::Status { status: 206 }));
        assert!(matches!(ask(200, &[("content-encoding", "gzip")]), Err(ResponseError::Encoded { .. })));
    }

    #[test]
    fn fault_53_an_encoding_that_nobody_knows_is_not_repeated() {
        let said = |value| match ask(200, &[("content-encoding", value)]) {
            Err(what) => what.to_string(),
            Ok(()) => String::new(),
        };
        assert!(said("GZIP, br").contains("gzip, br"));
        assert!(
            !said("canary").contains("canary") && said("canary").contains("unknown"),
            "{}",
            said("canary")
        );
    }
}
