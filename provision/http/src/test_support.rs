//! What several tests of the client need.

use http::header::{HeaderMap, HeaderName};

/// The headers of an answer.
pub(crate) fn headers(head: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
    };
    head.iter().map(header).collect()
}
