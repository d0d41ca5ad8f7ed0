//! Signatures of an origin's URLs, as object stores have them.
//!
//! A signed URL is good until it expires, and then answers 403. It is good for GET only, and answers 400 to a request
//! that carries a second kind of authorization.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::answer::Answer;
use crate::request::Recorded;

/// The start of every signature, so that a test can search for a leak of any of them.
pub const SIGNATURE_PREFIX: &str = "SECRETSIG";

/// Issues an origin's signatures and checks them.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    /// Signatures of an earlier epoch have expired.
    epoch: AtomicU64,
    issued: AtomicU64,
}

impl Signatures {
    pub(crate) fn sign(&self, url: &str) -> String {
        let (epoch, number) = (self.epoch.load(Relaxed), self.issued.fetch_add(1, Relaxed));
        format!("{url}?sig={SIGNATURE_PREFIX}-{epoch}-{number}")
    }

    /// Expires every signature issued so far.
    pub(crate) fn expire(&self) {
        self.epoch.fetch_add(1, Relaxed);
    }

    /// The refusal of a request to a signed URL, if it deserves one.
    pub(crate) fn refusal(&self, request: &Recorded) -> Option<Answer> {
        let current = format!("{SIGNATURE_PREFIX}-{}-", self.epoch.load(Relaxed));
        let is_good = request.query_value("sig").is_some_and(|signature| signature.starts_with(&current));
        let (status, code, message) = if request.header("authorization").is_some() {
            (400, "InvalidArgument", "Only one auth mechanism allowed")
        } else if request.is_head() || !is_good {
            (403, "AccessDenied", "Request has expired")
        } else {
            return None;
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Some(Answer::text(status, "application/xml", body))
    }
}
