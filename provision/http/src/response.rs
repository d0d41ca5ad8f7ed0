//! What an answer's head says, held against what was asked. Pure: no socket, no clock.
//!
//! The origin is hostile until checked. A range answer must be a 206 with the start that was asked for and the
//! lock's total; any other 2xx is not "the range". What may be wrong and what follows from it is in
//! [`ResponseError`](crate::Unusable); the numbers are the fault catalogue's.

use http::StatusCode;
use http::header::{self, HeaderMap};

use crate::error::ResponseError;
use provision_core::byte_range::{ByteRange, ContentRange};
use provision_core::digest::Sha256;

/// What was asked of the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedBody {
    /// The bytes; `None` for the whole file without a `Range` header.
    pub range: Option<ByteRange>,
    /// The file's length, as the lock says.
    pub size: u64,
    /// The digest of all its bytes, as the lock says; `None` where nothing is known of it.
    pub sha256: Option<Sha256>,
}

/// What the body is going to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// These bytes of the file; they start where they were asked for and may end earlier. `exact` where the body is
    /// framed to end with them, so that the connection can be used again.
    Part {
        /// The bytes to take from the body, never past what was asked.
        range: ByteRange,
        /// The body ends where the range does.
        exact: bool,
    },
    /// The whole file from its first byte.
    Whole,
}

/// Judges a 2xx or 416 answer.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    asked: ExpectedBody,
) -> Result<BodyKind, ResponseError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let content_type = text(header::CONTENT_TYPE).unwrap_or("").to_ascii_lowercase();
    if let Some(encoding) = encoding(headers) {
        return Err(ResponseError::Encoded { encoding });
    }
    let length = text(header::CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    match status {
        StatusCode::PARTIAL_CONTENT => {
            if content_type.starts_with("multipart/") {
                return Err(ResponseError::NoRanges("it answers one range in several parts"));
            }
            let content_range = text(header::CONTENT_RANGE).and_then(ContentRange::parse);
            let Some(ContentRange::Part { range, total }) = content_range else {
                return Err(ResponseError::NoRanges("it answers 206 without saying which bytes"));
            };
            let Some(wanted) = asked.range else {
                return Err(ResponseError::NoRanges("it answers 206 although no range was asked for"));
            };
            if let Some(total) = total.filter(|total| *total != asked.size) {
                return Err(ResponseError::WrongSize { found: Some(total), expected: asked.size });
            }
            if range.start != wanted.start {
                return Err(ResponseError::WrongStart { asked: wanted.start, found: range.start });
            }
            if range.end > asked.size {
                return Err(ResponseError::WrongSize { found: None, expected: asked.size });
            }
            if length.is_some_and(|length| !chunked && length != range.len()) {
                return Err(ResponseError::WrongLength);
            }
            let taken = ByteRange::new(range.start, range.end.min(wanted.end));
            // Length and chunked together is how answers are smuggled: take what fits, trust nothing after it.
            let exact = taken == range && !chunked;
            Ok(BodyKind::Part { range: taken, exact })
        }
        StatusCode::OK => {
            if content_type.starts_with("text/html") {
                return Err(ResponseError::Html);
            }
            if asked.range.is_some() && headers.contains_key(header::CONTENT_RANGE) {
                return Err(ResponseError::NoRanges("it answers 200 with a Content-Range"));
            }
            match length.filter(|length| !chunked && *length != asked.size) {
                Some(found) => Err(ResponseError::WrongSize { found: Some(found), expected: asked.size }),
                None => Ok(BodyKind::Whole),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            match text(header::CONTENT_RANGE).and_then(ContentRange::parse) {
                Some(ContentRange::Unsatisfied { total }) if total != asked.size => {
                    Err(ResponseError::WrongSize { found: Some(total), expected: asked.size })
                }
                _ => Err(ResponseError::NoRanges("it answers 416 to a range that lies within the file")),
            }
        }
        status => Err(ResponseError::Status { status: status.as_u16() }),
    }
}

/// How the body is encoded, if it is, in a name that can be shown: the header's value is the host's to choose.
pub(super) fn encoding(headers: &HeaderMap) -> Option<String> {
    const KNOWN: [&str; 8] =
        ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "aws-chunked"];
    let value = headers.get(header::CONTENT_ENCODING)?.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    if value.is_empty() || value == "identity" {
        return None;
    }
    let is_known = value.split(',').all(|word| KNOWN.contains(&word.trim()));
    Some(if is_known && value.len() <= 40 { value } else { "something unknown".to_owned() })
}

/// A strong validator, or none: a weak one says nothing about bytes (RFC 9110 section 8.8.1).
pub(super) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?.trim();
    (etag.starts_with('"') && etag.len() > 2 && etag.len() < 512).then(|| etag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 100;

    fn answer(
        status: u16,
        range: Option<(u64, u64)>,
        head: &[(&str, &str)],
    ) -> Result<BodyKind, ResponseError> {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            headers.append(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let range = range.map(|(start, end)| ByteRange::new(start, end));
        judge(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            ExpectedBody { range, size: SIZE, sha256: None },
        )
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with results")]
    fn part(start: u64, end: u64, exact: bool) -> Result<BodyKind, ResponseError> {
        Ok(BodyKind::Part { range: ByteRange::new(start, end), exact })
    }

    #[test]
    fn the_range_that_was_asked_for_is_taken() {
        assert_eq!(
            answer(206, Some((10, 20)), &[("content-range", "bytes 10-19/100"), ("content-length", "10")]),
            part(10, 20, true)
        );
    }

    #[test]
    fn faults_1_to_3_a_200_is_never_the_range() {
        for (n, head) in
            [&[("content-length", "100")][..], &[("content-length", "100"), ("accept-ranges", "bytes")]]
                .into_iter()
                .enumerate()
        {
            assert_eq!(answer(200, Some((10, 20)), head), Ok(BodyKind::Whole), "fault {}", n + 1);
        }
        let both =
            answer(200, Some((10, 20)), &[("content-range", "bytes 10-19/100"), ("content-length", "10")]);
        assert!(matches!(both, Err(ResponseError::NoRanges(_))));
    }

    #[test]
    fn faults_4_5_8_9_10_what_a_206_must_say() {
        let ask = |head: &[(&str, &str)]| answer(206, Some((10, 20)), head);
        assert!(matches!(ask(&[]), Err(ResponseError::NoRanges(_))));
        assert!(matches!(ask(&[("content-range", "bytes ten")]), Err(ResponseError::NoRanges(_))));
        assert_eq!(
            ask(&[("content-range", "bytes 11-20/100")]),
            Err(ResponseError::WrongStart { asked: 10, found: 11 })
        );
        assert_eq!(
            ask(&[("content-range", "bytes 10-19/99")]),
            Err(ResponseError::WrongSize { found: Some(99), expected: SIZE })
        );
        assert_eq!(ask(&[("content-range", "bytes 10-19/*")]), part(10, 20, true));
        assert!(matches!(ask(&[("content-range", "bytes 10-199/*")]), Err(ResponseError::WrongSize { .. })));
        assert!(matches!(
            ask(&[("content-type", "multipart/byteranges; boundary=x")]),
            Err(ResponseError::NoRanges(_))
        ));
    }

    #[test]
    fn faults_6_7_11_13_lengths() {
        let ask = |head: &[(&str, &str)]| answer(206, Some((10, 20)), head);
        assert_eq!(ask(&[("content-range", "bytes 10-14/100"), ("content-length", "5")]), part(10, 15, true));
        assert_eq!(
            ask(&[("content-range", "bytes 10-29/100"), ("content-length", "20")]),
            part(10, 20, false)
        );
        assert_eq!(
            ask(&[("content-range", "bytes 10-19/100"), ("content-length", "9")]),
            Err(ResponseError::WrongLength)
        );
        let both = ask(&[
            ("content-range", "bytes 10-19/100"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(both, part(10, 20, false));
    }

    #[test]
    fn faults_19_20_encodings() {
        let ask = |encoding| {
            answer(206, Some((0, 10)), &[("content-range", "bytes 0-9/100"), ("content-encoding", encoding)])
        };
        assert!(matches!(ask("gzip"), Err(ResponseError::Encoded { .. })));
        assert_eq!(ask("identity"), part(0, 10, true));
    }

    #[test]
    fn faults_22_23_and_other_statuses() {
        assert!(matches!(answer(416, Some((0, 10)), &[]), Err(ResponseError::NoRanges(_))));
        assert!(matches!(
            answer(416, Some((0, 10)), &[("content-range", "bytes */7")]),
            Err(ResponseError::WrongSize { .. })
        ));
        assert_eq!(
            answer(200, None, &[("content-type", "text/html; charset=utf-8")]),
            Err(ResponseError::Html)
        );
        assert_eq!(
            answer(200, None, &[("content-length", "99")]),
            Err(ResponseError::WrongSize { found: Some(99), expected: 100 })
        );
        assert_eq!(answer(204, None, &[]), Err(ResponseError::Status { status: 204 }));
        assert!(matches!(
            answer(206, None, &[("content-range", "bytes 0-9/100")]),
            Err(ResponseError::NoRanges(_))
        ));
    }

    #[test]
    fn fault_18_a_weak_validator_is_none() {
        let etag = |value: &str| strong_etag(&HeaderMap::from_iter([(header::ETAG, value.parse().unwrap())]));
        assert_eq!(etag("\"x\"").as_deref(), Some("\"x\""));
        for weak in ["W/\"x\"", "x", "", "\"\""] {
            assert_eq!(etag(weak), None, "{weak}");
        }
    }
}
