//! The honest answer to a request, as data.
//!
//! An [`Answer`] is a script for the wire. It is pure, so faults change it before anything is sent. Its headers go out
//! verbatim: `Content-Length` is a header like any other and may lie. Ranges follow RFC 9110, section 14: one range is
//! served; several or malformed ones, and a range on HEAD, are ignored.

use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use crate::content::Content;
use crate::request::Recorded;

/// The `Last-Modified` of every file.
pub(crate) const LAST_MODIFIED: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// A file on an origin.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) content: Content,
    pub(crate) etag: String,
}

impl Resource {
    pub(crate) fn new(content: Content) -> Self {
        Self { etag: content.etag(), content }
    }
}

/// The headers of a request that choose the bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestedRange {
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
}

impl RequestedRange {
    pub(crate) fn of(request: &Recorded) -> Self {
        Self {
            range: request.range.clone().filter(|_| !request.is_head()),
            if_range: request.header("if-range").map(str::to_owned),
        }
    }
}

/// A range of a content.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) content: Content,
    pub(crate) range: Range<u64>,
}

impl Part {
    pub(crate) fn whole(content: Content) -> Self {
        let range = 0..content.size();
        Self { content, range }
    }

    pub(crate) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// A deliberate end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Fin,
    Reset,
    /// Nothing more, but the connection stays open until the client closes it.
    Stall,
}

/// The fate of the connection after the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Close {
    #[default]
    No,
    /// With `Connection: close`.
    Announced,
    /// Without that header.
    Silent,
}

/// A broken head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// The first bytes only (at most half of them), then this ending.
    Cut { after: usize, ending: Ending },
    /// A header line that never ends.
    Endless,
    /// The whole head, one byte in this time.
    Slow { every: Duration },
    /// These bytes in place of the whole answer, then FIN.
    Raw(bytes::Bytes),
}

/// The framing of the body, whatever the headers declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    #[default]
    Plain,
    Chunked {
        last_chunk: bool,
    },
}

/// A script for the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<Part>,
    /// The range of a file that the body is, if it is one.
    pub(crate) file: Option<Part>,
    pub(crate) framing: Framing,
    pub(crate) head_fault: Option<HeadFault>,
    /// The ending after so many body bytes. Has no effect on a shorter body.
    pub(crate) stop: Option<(u64, Ending)>,
    /// One body byte in this time.
    pub(crate) trickle: Option<Duration>,
    pub(crate) close: Close,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }.with("Content-Length", "0")
    }

    /// An answer with a short body.
    pub(crate) fn text(status: u16, content_type: &str, body: impl Into<bytes::Bytes>) -> Self {
        let mut answer = Self::empty(status).with("Content-Type", content_type);
        answer.put(Part::whole(Content::bytes(body)));
        // Not a file: faults of files leave it alone.
        answer.file = None;
        answer
    }

    /// An answer with a JSON body.
    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", value.to_string())
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(crate) fn set_all(&mut self, headers: &[(String, String)]) {
        for (name, value) in headers {
            self.set(name, value);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// Makes a range of a file the body, with an honest length.
    pub(crate) fn put(&mut self, part: Part) {
        self.set("Content-Length", part.length().to_string());
        self.body = vec![part.clone()];
        self.file = Some(part);
    }

    /// As [`Answer::put`], with an honest `Content-Range`.
    pub(crate) fn put_range(&mut self, part: Part) {
        self.set("Content-Range", content_range(&part.range, part.content.size()));
        self.put(part);
    }

    pub(crate) fn body_length(&self) -> u64 {
        self.body.iter().map(Part::length).fold(0, u64::saturating_add)
    }

    /// The head as it goes over the wire.
    pub(crate) fn head(&self) -> Vec<u8> {
        // Clients must ignore the reason.
        let reason = match self.status {
            206 => "Partial Content",
            200..300 => "OK",
            300..400 => "Redirect",
            400..500 => "Client Error",
            _ => "Server Error",
        };
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if self.close == Close::Announced {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// `bytes 0-9/100`.
pub(crate) fn content_range(range: &Range<u64>, total: impl std::fmt::Display) -> String {
    format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1))
}

/// The honest answer for a file.
pub(crate) fn honest(asked: &RequestedRange, resource: &Resource) -> Answer {
    let size = resource.content.size();
    let is_unchanged = asked.if_range.as_deref().is_none_or(|tag| {
        // RFC 9110, 13.1.5: a strong comparison; a weak tag never matches.
        tag == LAST_MODIFIED || (tag == resource.etag && !tag.starts_with("W/"))
    });
    let range = asked.range.as_deref().filter(|_| is_unchanged).and_then(|text| parse_range(text, size));
    if range.as_ref().is_some_and(Range::is_empty) {
        let content_range = format!("bytes */{size}");
        return Answer::empty(416).with("Content-Range", content_range).with("Accept-Ranges", "bytes");
    }
    let mut answer = Answer::empty(if range.is_some() { 206 } else { 200 })
        .with("Content-Type", "application/octet-stream")
        .with("Accept-Ranges", "bytes")
        .with("ETag", &resource.etag)
        .with("Last-Modified", LAST_MODIFIED);
    let content = resource.content.clone();
    match range {
        Some(range) => answer.put_range(Part { content, range }),
        None => answer.put(Part::whole(content)),
    }
    answer
}

/// The bytes that a `Range` header selects: an empty range if the file has none of them (416); `None` if the header has
/// to be ignored.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    if first.is_empty() {
        return Some(size.saturating_sub(number(last)?)..size);
    }
    let start = number(first)?;
    let end = if last.is_empty() { u64::MAX } else { number(last)? };
    (start <= end).then(|| start..end.saturating_add(1).min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(range: &str, if_range: Option<&str>) -> Answer {
        let resource = Resource { content: Content::generated(1, 100), etag: "\"a\"".to_owned() };
        honest(
            &RequestedRange { range: Some(range.to_owned()), if_range: if_range.map(str::to_owned) },
            &resource,
        )
    }

    #[test]
    fn ranges_follow_rfc_9110() {
        for (text, expected) in [
            ("bytes=0-0", Some(0..1)),
            ("bytes=10-19", Some(10..20)),
            ("bytes=90-1000", Some(90..100)),
            ("bytes=99-", Some(99..100)),
            ("bytes=-5", Some(95..100)),
            ("bytes=-500", Some(0..100)),
            ("bytes=9-8", None),
            ("bytes=0-1,5-6", None),
            ("bytes=+1-2", None),
            ("bytes=-", None),
            ("lines=0-1", None),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
        for (text, size) in [("bytes=-0", 100), ("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=0-", 0)]
        {
            assert!(parse_range(text, size).unwrap().is_empty(), "{text}");
        }
    }

    #[test]
    fn if_range_must_match_the_strong_etag() {
        assert_eq!(ask("bytes=1-2", None).status, 206);
        assert_eq!(ask("bytes=1-2", Some("\"a\"")).status, 206);
        assert_eq!(ask("bytes=1-2", Some(LAST_MODIFIED)).status, 206);
        assert_eq!(ask("bytes=1-2", Some("\"b\"")).status, 200);
        assert_eq!(ask("bytes=1-2", Some("W/\"a\"")).status, 200);
    }

    #[test]
    fn heads_declare_the_range_and_length() {
        let head = String::from_utf8(ask("bytes=10-19", None).head()).unwrap();
        assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Range: bytes 10-19/100\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        let head = String::from_utf8(ask("bytes=100-", None).head()).unwrap();
        assert!(head.contains("\r\nContent-Range: bytes */100\r\n"), "{head}");
    }
}
