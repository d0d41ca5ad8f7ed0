//! Faults that can be injected into answers: a [`Fault`], and the requests that it applies [`When`].
//!
//! Numbers are those of the project's fault catalogue. A fault of ranges changes only a 206, and a fault of files only
//! an answer with a file. A fault of the transport changes any answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::content::Content;
use crate::counters::lock;
use crate::request::Recorded;

/// The page that [`Fault::LoginPage`] sends.
pub const LOGIN_PAGE: &str = "<!doctype html>\n<html><head><title>Sign in</title></head>\
    <body><form action=\"/login\" method=\"post\"><input name=\"user\"></form></body></html>\n";

/// A fault in an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// 1, 2: 200 with the whole body to a range request.
    IgnoreRange {
        /// Declare `Accept-Ranges: bytes` nevertheless (2).
        accept_ranges: bool,
    },
    /// 3: 200 with the `Content-Range` that a 206 would have had.
    OkWithContentRange {
        /// Send the whole file; else only the range.
        whole: bool,
    },
    /// 94: 206 with the whole file, whatever range is asked for.
    WholeAsRange,
    /// 4: 206 without `Content-Range`.
    NoContentRange,
    /// 5: 206 for a range with another start, declared as such.
    OtherStart {
        /// The distance from the requested start; kept within the file.
        shift: i64,
    },
    /// 6: 206 with the first bytes of the range only, declared as such.
    ShorterRange {
        /// The most bytes sent.
        length: u64,
    },
    /// 7: a body longer than requested.
    LongerRange {
        /// The number of bytes too many.
        extra: u64,
        /// The length that the headers declare.
        claim: Claim,
    },
    /// 8: another total in `Content-Range`.
    WrongTotal(u64),
    /// 9: `*` for the total in `Content-Range`.
    UnknownTotal,
    /// 10: 206 with `multipart/byteranges`.
    Multipart,
    /// 11: another `Content-Length` than the range's. The body keeps a shorter one; a longer one ends in a FIN.
    WrongLength {
        /// Added to the honest length; the result is at least 0.
        delta: i64,
    },
    /// 12: FIN after so many body bytes.
    CutBody(u64),
    /// 13: chunked, with a `Content-Length` as well.
    LengthAndChunked {
        /// Added to the honest length.
        delta: i64,
    },
    /// 14: chunked; FIN after so many body bytes (or after the body), without the last chunk.
    ChunkedCut(u64),
    /// Honest but chunked, without `Content-Length`.
    Chunked,
    /// No `Content-Length`: the body ends with the connection.
    NoLength,
    /// 15 (with [`When::After`]), 16: this `ETag`, verbatim; `If-Range` is compared with it.
    Etag(String),
    /// 18: the `ETag` becomes a weak one.
    WeakEtag,
    /// 17: `If-Range` is never satisfied, so 200.
    IgnoreIfRange,
    /// 19 (`gzip`), 20 (`identity`), 91: a `Content-Encoding` header on unencoded bytes.
    ContentEncoding(String),
    /// 92: this `Content-Type`.
    ContentType(String),
    /// 21, 22: 416.
    RangeNotSatisfiable {
        /// The `Content-Range`, verbatim, such as `bytes */100`; `None` leaves it out.
        content_range: Option<String>,
    },
    /// 23: [`LOGIN_PAGE`] as 200.
    LoginPage,
    /// 24: an error text within the file's bytes.
    ErrorText {
        /// The offset in the file, for any requested range.
        at: u64,
        /// The text.
        text: String,
    },
    /// 25: one inverted bit.
    FlippedBit {
        /// The offset in the file, for any requested range.
        at: u64,
        /// 0 to 7, 0 the lowest.
        bit: u8,
    },
    /// 26: other bytes under the same `ETag`; of the same size, unless a test is about the size.
    OtherContent(Content),
    /// 28: an endless body without `Content-Length`: the right bytes, then noise. 200 or 206 as requested.
    Endless {
        /// Send chunks; else the end of the connection, which never comes, delimits the body.
        chunked: bool,
    },
    /// 29: RST. Bytes that the client has not read yet may be lost with it.
    Reset(ResetAt),
    /// 30: one body byte in this time.
    Trickle {
        /// The time between two bytes.
        every: Duration,
    },
    /// 30: nothing more after so many body bytes, until the client closes. Has no effect on a shorter body.
    Stall(u64),
    /// 30: no answer at all, until the client closes.
    NoAnswer,
    /// 31: many header lines of 100 bytes before an honest body.
    HeaderFlood {
        /// The number of lines.
        lines: usize,
    },
    /// 31: an endless header line.
    EndlessHeader,
    /// 31: an honest answer whose head is sent byte by byte.
    SlowHead {
        /// The time between two bytes.
        every: Duration,
    },
    /// 32: a refusal with `Retry-After`.
    RetryAfter {
        /// Usually 429 or 503.
        status: u16,
        /// The `Retry-After`, verbatim: seconds, a date, or garbage.
        value: String,
    },
    /// 33, 34, 35: any status. `Content-Length` is added.
    Status {
        /// The status.
        code: u16,
        /// Further headers, verbatim.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
    /// An honest answer with these headers in place of its own, verbatim. A redirect can so contradict the repository.
    Headers(Vec<(String, String)>),
    /// 43 to 49: a redirect.
    Redirect {
        /// Usually 301, 302, 303, 307 or 308.
        status: u16,
        /// The `Location`, verbatim, even with CR and LF; `None` leaves it out (49).
        location: Option<String>,
    },
    /// 39: an honest answer that promises to keep the connection open, then FIN.
    CloseAfter,
    /// 39: FIN in place of an answer, as if the connection was closed while the request was on its way.
    HangUp,
    /// These bytes in place of any answer, then FIN.
    Raw(Bytes),
    /// All of these, in order.
    All(Vec<Fault>),
}

/// The length that the headers of a longer body declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `Content-Range` and `Content-Length` declare the longer range, which ends with the file at the latest.
    Honest,
    /// Only `Content-Length` declares it; `Content-Range` is as requested.
    LengthOnly,
    /// Both are as requested; the bytes come nevertheless, then FIN.
    Nothing,
}

/// The place of a [`Fault::Reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetAt {
    /// Before the first byte of the answer.
    FirstByte,
    /// In the middle of the head.
    Head,
    /// After so many body bytes. Has no effect on a shorter body.
    Body(u64),
    /// Before the last byte of the body.
    LastByte,
}

/// The condition of [`When::Custom`], on a request and its number.
#[derive(Clone)]
pub struct Condition(Arc<Predicate>);

type Predicate = dyn Fn(&Recorded, usize) -> bool + Send + Sync;

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// The requests whose answers a fault breaks. Each injection counts the requests for its path from 0.
#[derive(Clone, Debug)]
pub enum When {
    /// All.
    Always,
    /// The first so many.
    First(usize),
    /// The one with this number.
    Nth(usize),
    /// All but the first so many.
    After(usize),
    /// Every `n`-th: those with the numbers `n - 1`, `2n - 1`, ….
    Every(usize),
    /// Those with a `Range`.
    Ranges,
    /// Those with a `Range` that starts after byte 0.
    RangesNotFromZero,
    /// Those that satisfy a condition.
    Custom(Condition),
}

impl When {
    /// [`When::Custom`].
    pub fn custom(matches: impl Fn(&Recorded, usize) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(Condition(Arc::new(matches)))
    }

    fn matches(&self, request: &Recorded, number: usize) -> bool {
        match self {
            Self::Always => true,
            Self::First(n) => number < *n,
            Self::Nth(n) => number == *n,
            Self::After(n) => number >= *n,
            Self::Every(n) => *n > 0 && (number + 1).is_multiple_of(*n),
            Self::Ranges => request.range.is_some(),
            Self::RangesNotFromZero => request.range.is_some() && request.range_start() != Some(0),
            Self::Custom(condition) => (condition.0)(request, number),
        }
    }
}

/// A fault and its condition. A bare [`Fault`] applies always.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The fault.
    pub fault: Fault,
    /// The requests whose answers it breaks.
    pub when: When,
}

impl From<Fault> for Injection {
    fn from(fault: Fault) -> Self {
        fault.when(When::Always)
    }
}

impl Fault {
    /// This fault for the requests that `when` selects.
    pub fn when(self, when: When) -> Injection {
        Injection { fault: self, when }
    }

    /// [`Fault::Status`] with a short body and no headers.
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: Bytes::from_static(b"fault\n") }
    }

    /// [`Fault::Redirect`] with 302.
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::Redirect { status: 302, location: Some(location.into()) }
    }
}

/// The injections of an origin, by path.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<HashMap<String, Vec<Rule>>>);

#[derive(Debug)]
struct Rule {
    injection: Arc<Injection>,
    /// The requests counted so far.
    seen: usize,
}

impl Rules {
    pub(crate) fn add(&self, path: &str, injection: Injection) {
        let rule = Rule { injection: Arc::new(injection), seen: 0 };
        lock(&self.0).entry(path.to_owned()).or_default().push(rule);
    }

    pub(crate) fn clear(&self, path: &str) {
        lock(&self.0).remove(path);
    }

    /// Counts the request with every rule for its path, and returns the first one that matches.
    pub(crate) fn choose(&self, request: &Recorded) -> Option<Arc<Injection>> {
        let mut candidates = Vec::new();
        let mut rules = lock(&self.0);
        for path in [request.path.as_str(), "*"] {
            for rule in rules.get_mut(path).into_iter().flatten() {
                candidates.push((Arc::clone(&rule.injection), rule.seen));
                rule.seen += 1;
            }
        }
        // A condition runs without the mutex: it may inject another fault.
        drop(rules);
        let chosen =
            candidates.into_iter().find(|(injection, number)| injection.when.matches(request, *number));
        chosen.map(|(injection, _)| injection)
    }
}
