//! What to send for a request: an honest answer, as data.
//!
//! An [`Answer`] is a script for the wire. It is pure, so faults change it before anything is sent, and headers go out
//! as they stand in it: `Content-Length` is a header like any other and may lie. Ranges follow RFC 9110, section 14:
//! one range is served, several or malformed ones are ignored, a range on HEAD is ignored.

use std::ops::Range;
use std::time::Duration;

use crate::content::Content;

/// The `Last-Modified` of everything.
pub(crate) const LAST_MODIFIED: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// A file that can be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) content: Content,
    pub(crate) etag: String,
}

/// The parts of a request that choose the bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
}

/// Which bytes of which content an answer holds.
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

/// How a message comes to its end on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Fin,
    Reset,
    /// Nothing more, but the connection stays open until the client closes it.
    Stall,
}

/// What happens to the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    No,
    /// With `Connection: close`.
    Announced,
    /// Without a word.
    Silent,
}

/// What goes wrong in the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// Only so many of its bytes (at most half of them), then this.
    Cut { after: usize, ending: Ending },
    /// A header line that never ends.
    Endless,
    /// All of it, one byte in this time.
    Slow { every: Duration },
    /// These bytes instead of the whole answer, then FIN.
    Raw(bytes::Bytes),
}

/// The framing of the body, beyond what the headers claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Plain,
    Chunked { last_chunk: bool },
}

/// A script for the wire.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<Part>,
    /// The piece of the file that the body is, when it is one.
    pub(crate) file: Option<Part>,
    pub(crate) framing: Framing,
    pub(crate) head_fault: Option<HeadFault>,
    /// After so many body bytes, this. Has no effect on a shorter body.
    pub(crate) stop: Option<(u64, Ending)>,
    /// One byte in this time.
    pub(crate) trickle: Option<Duration>,
    pub(crate) close: Close,
}

impl Answer {
    /// An empty body.
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: vec![("Content-Length".to_owned(), "0".to_owned())],
            body: Vec::new(),
            file: None,
            framing: Framing::Plain,
            head_fault: None,
            stop: None,
            trickle: None,
            close: Close::No,
        }
    }

    /// A short body.
    pub(crate) fn text(status: u16, content_type: &str, body: impl Into<bytes::Bytes>) -> Self {
        let part = Part::whole(Content::bytes(body));
        let mut answer = Self::empty(status).with("Content-Type", content_type).with_length(part.length());
        answer.body.push(part);
        answer
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    fn with_length(self, length: u64) -> Self {
        self.with("Content-Length", length.to_string())
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// Puts in another piece of the file, with an honest length.
    pub(crate) fn put(&mut self, part: Part) {
        self.set("Content-Length", part.length().to_string());
        self.body = vec![part.clone()];
        self.file = Some(part);
    }

    pub(crate) fn body_length(&self) -> u64 {
        self.body.iter().map(Part::length).fold(0, u64::saturating_add)
    }

    /// The head as it goes over the wire.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
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
pub(crate) fn honest(asked: &Asked, resource: &Resource) -> Answer {
    let size = resource.content.size();
    let unchanged = asked.if_range.as_deref().is_none_or(|tag| {
        // RFC 9110, 13.1.5: a strong comparison; a weak tag never matches.
        tag == LAST_MODIFIED || (tag == resource.etag && !tag.starts_with("W/"))
    });
    let range = asked.range.as_deref().filter(|_| unchanged);
    let (status, range) = match range.map_or(Ranged::Ignored, |text| parse_range(text, size)) {
        Ranged::Ignored => (200, 0..size),
        Ranged::Satisfiable(range) => (206, range),
        Ranged::Unsatisfiable => {
            return Answer::empty(416)
                .with("Content-Range", format!("bytes */{size}"))
                .with("Accept-Ranges", "bytes");
        }
    };
    let mut answer = Answer::empty(status)
        .with("Content-Type", "application/octet-stream")
        .with("Accept-Ranges", "bytes")
        .with("ETag", resource.etag.clone())
        .with("Last-Modified", LAST_MODIFIED);
    if status == 206 {
        answer.set("Content-Range", content_range(&range, size));
    }
    answer.put(Part { content: resource.content.clone(), range });
    answer
}

#[derive(Debug, PartialEq, Eq)]
enum Ranged {
    Ignored,
    Satisfiable(Range<u64>),
    Unsatisfiable,
}

fn parse_range(text: &str, size: u64) -> Ranged {
    let parsed = || {
        let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        if first.is_empty() {
            return Some(size.saturating_sub(number(last)?)..size);
        }
        let start = number(first)?;
        let end = if last.is_empty() { u64::MAX } else { number(last)? };
        (start <= end).then(|| start..end.saturating_add(1).min(size))
    };
    match parsed() {
        None => Ranged::Ignored,
        Some(range) if range.start < range.end => Ranged::Satisfiable(range),
        Some(_) => Ranged::Unsatisfiable,
    }
}

/// The usual words for a status; a client must not care.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(range: &str, if_range: Option<&str>) -> Answer {
        let resource = Resource { content: Content::generated(1, 100), etag: "\"a\"".to_owned() };
        honest(&Asked { range: Some(range.to_owned()), if_range: if_range.map(str::to_owned) }, &resource)
    }

    #[test]
    fn ranges_as_rfc_9110_has_them() {
        use Ranged::{Ignored, Satisfiable, Unsatisfiable};
        for (text, expected) in [
            ("bytes=0-0", Satisfiable(0..1)),
            ("bytes=10-19", Satisfiable(10..20)),
            ("bytes=90-1000", Satisfiable(90..100)),
            ("bytes=99-", Satisfiable(99..100)),
            ("bytes=-5", Satisfiable(95..100)),
            ("bytes=-500", Satisfiable(0..100)),
            ("bytes=-0", Unsatisfiable),
            ("bytes=100-", Unsatisfiable),
            ("bytes=100-200", Unsatisfiable),
            ("bytes=9-8", Ignored),
            ("bytes=0-1,5-6", Ignored),
            ("bytes=+1-2", Ignored),
            ("bytes=-", Ignored),
            ("lines=0-1", Ignored),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Unsatisfiable);
    }

    #[test]
    fn if_range_guards_the_range() {
        assert_eq!(ask("bytes=1-2", None).status, 206);
        assert_eq!(ask("bytes=1-2", Some("\"a\"")).status, 206);
        assert_eq!(ask("bytes=1-2", Some(LAST_MODIFIED)).status, 206);
        assert_eq!(ask("bytes=1-2", Some("\"b\"")).status, 200);
        assert_eq!(ask("bytes=1-2", Some("W/\"a\"")).status, 200);
    }

    #[test]
    fn heads_say_what_is_sent() {
        let head = String::from_utf8(ask("bytes=10-19", None).head()).unwrap();
        assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Range: bytes 10-19/100\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        let head = String::from_utf8(ask("bytes=100-", None).head()).unwrap();
        assert!(head.contains("\r\nContent-Range: bytes */100\r\n"), "{head}");
    }
}
