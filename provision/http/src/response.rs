//! Response validation: the head of an answer, checked against the request. Pure: no socket, no clock.
//!
//! The origin is hostile until checked. A range is a 206 that starts at the requested byte and whose total is the
//! lock's size; no other 2xx is taken for the range. [`ResponseError`] lists the mismatches, and
//! [`RequestError::remedy`](crate::RequestError::remedy) the next step after each. Fault numbers are the catalogue's.

use provision_core::byte_size::ByteSize;
use std::fmt;

use http::StatusCode;
use http::header::{self, HeaderMap};

use provision_core::byte_range::{ByteRange, ContentRange};
use provision_core::digest::Sha256;

/// The body that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedBody {
    /// The range; `None` for the whole file without a `Range` header.
    pub range: Option<ByteRange>,
    /// The file's size in bytes, from the lock.
    pub size: u64,
    /// The file's digest, from the lock; `None` if it is not known.
    pub sha256: Option<Sha256>,
}

/// The body that a valid answer brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// A part of the file. It starts at the requested byte and may end before the requested end.
    Part {
        /// The bytes to take from the body, never past the requested end.
        range: ByteRange,
        /// The body ends where the range does, so the connection can be used again.
        exact: bool,
        /// The body ends after the requested range.
        exceeds: bool,
    },
    /// The whole file from its first byte.
    Whole,
}

/// A mismatch between an answer and its request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The origin does not support ranges, or not correctly.
    #[error("{0}")]
    NoRanges(&'static str),
    /// A 206 that starts at another byte.
    #[error("its answer starts at byte {found}, although bytes from {requested} were requested")]
    WrongStart {
        /// The requested first byte.
        requested: u64,
        /// The first byte of the answer.
        found: u64,
    },
    /// The host's file has another size.
    #[error(
        "the file there has {}, the lock says {}: it is another file, or the lock is out of date",
        found.map_or("more bytes".to_owned(), |found| ByteSize(found).exact().to_string()),
        ByteSize(*expected).exact()
    )]
    WrongSize {
        /// The host's size, if it is known.
        found: Option<u64>,
        /// The lock's size.
        expected: u64,
    },
    /// The `Content-Length` is not the length of the range.
    #[error("its Content-Length is not the length of the range")]
    WrongLength,
    /// A compressed body, although the request accepts `identity` only.
    #[error("it sends the body as {encoding}, although the request accepts no encoding")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// A web page.
    #[error("a web page (HTML) came instead of the model: a login or error page, or a link to a page")]
    Html,
    /// A status without a meaning for a download.
    #[error("it answered {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The redirect announces another file than the lock's.
    #[error("{0}")]
    FileChanged(Box<FileChanged>),
    /// A document that is larger than the limit.
    #[error("the document there is larger than {}", limit(*.most))]
    Oversized {
        /// The limit in bytes.
        most: u64,
    },
    /// The answer of a registry's token service has no token.
    #[error("the registry's token service answered without a token")]
    NoToken,
    /// The validator changed between two ranges.
    #[error("the file there changed while it was being fetched")]
    Changed,
}

/// The host's file is not the lock's: the host says so in the headers of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChanged {
    /// The lock's file.
    pub expected: ContentId,
    /// The host's file.
    pub found: ContentId,
    /// The commit that the URL leads to now.
    pub commit: Option<String>,
}

/// An identity of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentId {
    /// The digest.
    Sha256(Sha256),
    /// The size in bytes.
    Size(u64),
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "SHA-256 {digest}"),
            Self::Size(bytes) => ByteSize(*bytes).exact().fmt(f),
        }
    }
}

impl fmt::Display for FileChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, found, commit } = self;
        write!(f, "the file at this URL has changed: the lock says {expected}, the host says {found}")?;
        if let Some(commit) = commit {
            write!(f, " at commit {commit}")?;
        }
        f.write_str(
            "; to take the new file, run the command `lock update`; to keep the old one, pin the URL in the lock to the \
             commit that has it",
        )
    }
}

/// Checks the head of a 2xx or 416 answer against the request.
///
/// # Errors
/// The first mismatch; the body must not be used.
pub(crate) fn validate(
    status: StatusCode,
    headers: &HeaderMap,
    expected: ExpectedBody,
) -> Result<BodyKind, ResponseError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let content_type = text(header::CONTENT_TYPE).unwrap_or("").to_ascii_lowercase();
    let length = text(header::CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let content_range = text(header::CONTENT_RANGE).and_then(ContentRange::parse);
    // Servers label exact bytes as encoded, or as pages; then the digest decides (faults 91 and 92).
    let has_right_size = match content_range {
        Some(ContentRange::Part { total, .. }) => total == Some(expected.size),
        _ => length == Some(expected.size) && !chunked,
    };
    if let Some(encoding) = encoding(headers).filter(|_| !has_right_size) {
        return Err(ResponseError::Encoded { encoding });
    }
    match status {
        StatusCode::PARTIAL_CONTENT => {
            if content_type.starts_with("multipart/") {
                return Err(ResponseError::NoRanges(
                    "its 206 is multipart, although one range was requested",
                ));
            }
            let Some(ContentRange::Part { range, total }) = content_range else {
                return Err(ResponseError::NoRanges("its 206 has no usable Content-Range"));
            };
            let whole = ByteRange::new(0, expected.size);
            let Some(requested) = expected.range else {
                // Some hosts send the whole file as a range, whatever is asked (fault 94).
                if range == whole
                    && total == Some(expected.size)
                    && length.is_none_or(|length| chunked || length == range.len())
                {
                    return Ok(BodyKind::Whole);
                }
                return Err(ResponseError::NoRanges("it answers 206, although no range was requested"));
            };
            if let Some(total) = total.filter(|total| *total != expected.size) {
                return Err(ResponseError::WrongSize { found: Some(total), expected: expected.size });
            }
            if range.start != requested.start {
                return Err(ResponseError::WrongStart { requested: requested.start, found: range.start });
            }
            if range.end > expected.size {
                return Err(ResponseError::WrongSize { found: None, expected: expected.size });
            }
            if length.is_some_and(|length| !chunked && length != range.len()) {
                return Err(ResponseError::WrongLength);
            }
            let taken = ByteRange::new(range.start, range.end.min(requested.end));
            // Both framings together are the mark of response smuggling: the client takes the range and closes the
            // connection.
            let exact = taken == range && !chunked;
            Ok(BodyKind::Part { range: taken, exact, exceeds: range.end > requested.end })
        }
        StatusCode::OK => {
            if content_type.starts_with("text/html") && !has_right_size {
                return Err(ResponseError::Html);
            }
            if expected.range.is_some() && headers.contains_key(header::CONTENT_RANGE) {
                return Err(ResponseError::NoRanges("it answers 200 with a Content-Range"));
            }
            match length.filter(|length| !chunked && *length != expected.size) {
                Some(found) => Err(ResponseError::WrongSize { found: Some(found), expected: expected.size }),
                None => Ok(BodyKind::Whole),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => match content_range {
            Some(ContentRange::Unsatisfied { total }) if total != expected.size => {
                Err(ResponseError::WrongSize { found: Some(total), expected: expected.size })
            }
            _ => Err(ResponseError::NoRanges("it answers 416, although the range lies within the file")),
        },
        status => Err(ResponseError::Status { status: status.as_u16() }),
    }
}

/// The body's encoding, if it has one, as text that is safe to show. An unknown name is not repeated: the host could
/// put a secret of the request there.
pub(crate) fn encoding(headers: &HeaderMap) -> Option<String> {
    const KNOWN: [&str; 8] =
        ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "aws-chunked"];
    let value = headers.get(header::CONTENT_ENCODING)?.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    if value.is_empty() || value == "identity" {
        return None;
    }
    let is_known = value.split(',').all(|word| KNOWN.contains(&word.trim()));
    Some(if is_known && value.len() <= 40 { value } else { "something unknown".to_owned() })
}

/// The strong validator, if there is one. A weak validator does not identify bytes (RFC 9110 section 8.8.1).
pub(crate) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?.trim();
    (etag.starts_with('"') && etag.len() > 2 && etag.len() < 512).then(|| etag.to_owned())
}

/// A limit in words: most are whole numbers of MiB.
fn limit(most: u64) -> String {
    if most.is_multiple_of(1 << 20) { format!("{} MiB", most >> 20) } else { format!("{most} bytes") }
}

#[cfg(test)]
mod tests {
    use super::ResponseError as E;
    use super::*;
    use crate::test_support::headers;

    const SIZE: u64 = 100;

    /// The verdict about an answer with these header lines. The reason of `NoRanges` is left out.
    fn answer(status: u16, range: Option<(u64, u64)>, head: &str) -> Result<BodyKind, ResponseError> {
        let head: Vec<_> = head.lines().map(|line| line.split_once(": ").unwrap()).collect();
        let range = range.map(|(start, end)| ByteRange::new(start, end));
        let expected = ExpectedBody { range, size: SIZE, sha256: None };
        let kind = validate(StatusCode::from_u16(status).unwrap(), &headers(&head), expected);
        kind.map_err(|error| if matches!(error, E::NoRanges(_)) { E::NoRanges("") } else { error })
    }

    #[test]
    fn faults_1_to_11_13_19_20_22_23_94_an_answer_is_validated() {
        let part = |end, exact| Ok(BodyKind::Part { range: ByteRange::new(10, end), exact, exceeds: false });
        let exceeding = BodyKind::Part { range: ByteRange::new(10, 20), exact: false, exceeds: true };
        let wrong_size = |found| Err(E::WrongSize { found, expected: SIZE });
        let no_ranges = || Err(E::NoRanges(""));
        let (ten, whole, all) = (Some((10, 20)), Ok(BodyKind::Whole), "content-range: bytes 0-99/100");
        for (status, range, head, expected) in [
            (206, ten, "content-range: bytes 10-19/100\ncontent-length: 10", part(20, true)),
            // 1 to 3: a 200 is never taken for the range.
            (200, ten, "content-length: 100", whole.clone()),
            (200, ten, "content-length: 100\naccept-ranges: bytes", whole.clone()),
            (200, ten, "content-range: bytes 10-19/100\ncontent-length: 10", no_ranges()),
            // 4, 5, 8 to 10: the range.
            (206, ten, "", no_ranges()),
            (206, ten, "content-range: bytes ten", no_ranges()),
            (206, ten, "content-range: bytes 11-20/100", Err(E::WrongStart { requested: 10, found: 11 })),
            (206, ten, "content-range: bytes 10-19/99", wrong_size(Some(99))),
            (206, ten, "content-range: bytes 10-19/*", part(20, true)),
            (206, ten, "content-range: bytes 10-199/*", wrong_size(None)),
            (206, ten, "content-type: multipart/byteranges; boundary=x", no_ranges()),
            // 6, 7, 11, 13: the length.
            (206, ten, "content-range: bytes 10-14/100\ncontent-length: 5", part(15, true)),
            (206, ten, "content-range: bytes 10-29/100\ncontent-length: 20", Ok(exceeding)),
            (206, ten, "content-range: bytes 10-19/100\ncontent-length: 9", Err(E::WrongLength)),
            (
                206,
                ten,
                "content-range: bytes 10-19/100\ncontent-length: 9\ntransfer-encoding: chunked",
                part(20, false),
            ),
            // 19, 20: an encoded body.
            (
                206,
                ten,
                "content-range: bytes 10-19/*\ncontent-encoding: gzip",
                Err(E::Encoded { encoding: "gzip".to_owned() }),
            ),
            (206, ten, "content-range: bytes 10-19/*\ncontent-encoding: identity", part(20, true)),
            // 22, 23: other statuses, and pages.
            (416, ten, "", no_ranges()),
            (416, ten, "content-range: bytes */7", wrong_size(Some(7))),
            (200, None, "content-type: text/html; charset=utf-8", Err(E::Html)),
            (200, None, "content-length: 99", wrong_size(Some(99))),
            (204, None, "", Err(E::Status { status: 204 })),
            (206, None, "content-range: bytes 0-9/100", no_ranges()),
            // 94: the whole file as a range answers a request without one.
            (206, None, &format!("{all}\ncontent-length: 100"), whole.clone()),
            (206, None, &format!("{all}\ntransfer-encoding: chunked"), whole),
            (206, None, &format!("{all}\ncontent-length: 99"), no_ranges()),
            (206, None, "content-range: bytes 0-98/100", no_ranges()),
            (206, None, "content-range: bytes 1-99/100", no_ranges()),
            (206, None, "content-range: bytes 0-99/*", no_ranges()),
        ] {
            assert_eq!(answer(status, range, head), expected, "{status} to {range:?}, {head}");
        }
    }

    #[test]
    fn fault_18_a_weak_validator_is_ignored() {
        let etag = |value: &str| strong_etag(&HeaderMap::from_iter([(header::ETAG, value.parse().unwrap())]));
        assert_eq!(etag("\"x\"").as_deref(), Some("\"x\""));
        for weak in ["W/\"x\"", "x", "", "\"\""] {
            assert_eq!(etag(weak), None, "{weak}");
        }
    }
}
