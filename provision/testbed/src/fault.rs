//! Injection: a [`Fault`], and [`When`] it happens.
//!
//! Numbers are those of the project's fault catalogue. Faults about ranges leave an answer alone that is not a 206,
//! faults about the file one that holds no file; faults of the transport change any answer.

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

/// One way for an answer to go wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// 1, 2: the whole body with 200 to a range request.
    IgnoreRange {
        /// Whether `Accept-Ranges: bytes` promises otherwise (2).
        accept_ranges: bool,
    },
    /// 3: 200 with the `Content-Range` that a 206 would have had.
    OkWithContentRange {
        /// Whether the body is the whole file; else it is the range.
        whole: bool,
    },
    /// 4: 206 without `Content-Range`.
    NoContentRange,
    /// 5: 206 for a range that starts elsewhere, said openly.
    OtherStart {
        /// How far from the start asked for; kept within the file.
        shift: i64,
    },
    /// 6: 206 with the first bytes of the range only, said openly.
    ShorterRange {
        /// At most so many bytes.
        length: u64,
    },
    /// 7: a body longer than asked.
    LongerRange {
        /// How many bytes too many.
        extra: u64,
        /// What the headers say about it.
        claim: Claim,
    },
    /// 8: another total in `Content-Range`.
    WrongTotal(u64),
    /// 9: `*` for the total in `Content-Range`.
    UnknownTotal,
    /// 10: 206 with `multipart/byteranges`.
    Multipart,
    /// 11: `Content-Length` differs from the range. A shorter one is kept to; a longer one ends in a FIN.
    WrongLength {
        /// Added to the honest length; the result is at least 0.
        delta: i64,
    },
    /// 12: FIN after so many body bytes.
    CutBody(u64),
    /// 13: chunked, and a `Content-Length` too.
    LengthAndChunked {
        /// Added to the honest length.
        delta: i64,
    },
    /// 14: chunked; FIN after so many body bytes, without the last chunk. A shorter body is sent wholly.
    ChunkedCut(u64),
    /// Honest but chunked, without `Content-Length`.
    Chunked,
    /// No `Content-Length`: the body ends with the connection.
    NoLength,
    /// 15 (with [`When::After`]), 16: this `ETag`, verbatim; `If-Range` is judged by it.
    Etag(String),
    /// 18: the `ETag` becomes a weak one.
    WeakEtag,
    /// 17: `If-Range` is never satisfied, so 200.
    IgnoreIfRange,
    /// 19 (`gzip`), 20 (`identity`): a `Content-Encoding` over the unencoded bytes.
    ContentEncoding(String),
    /// 21, 22: 416 with this `Content-Range`, or none.
    RangeNotSatisfiable {
        /// Verbatim, such as `bytes */100`.
        content_range: Option<String>,
    },
    /// 23: [`LOGIN_PAGE`] as 200.
    LoginPage,
    /// 24: text in place of the file's bytes.
    ErrorText {
        /// The offset in the file, whichever range is asked for.
        at: u64,
        /// What stands there.
        text: String,
    },
    /// 25: one inverted bit.
    FlippedBit {
        /// The offset in the file, whichever range is asked for.
        at: u64,
        /// 0 to 7, 0 the lowest.
        bit: u8,
    },
    /// 26: other bytes under the same `ETag`; as many, unless a test is about the size.
    OtherContent(Content),
    /// 28: a body without end and without `Content-Length`: the right bytes, then noise. 200 or 206 as asked.
    Endless {
        /// Chunked; else delimited by the end that never comes.
        chunked: bool,
    },
    /// 29: RST. What the client has not yet taken from its end of the network may be lost with it.
    Reset(ResetAt),
    /// 30: one body byte in this time.
    Trickle {
        /// The time between two bytes.
        every: Duration,
    },
    /// 30: after so many body bytes nothing more, until the client closes. No effect on a shorter body.
    Stall(u64),
    /// 30: no answer at all, until the client closes.
    NoAnswer,
    /// 31: so many header lines of 100 bytes before an honest body.
    HeaderFlood {
        /// The number of lines.
        lines: usize,
    },
    /// 31: a header line without end.
    EndlessHeader,
    /// 31: an honest answer whose head comes one byte in this time.
    SlowHead {
        /// The time between two bytes.
        every: Duration,
    },
    /// 32: a refusal with `Retry-After`.
    RetryAfter {
        /// Usually 429 or 503.
        status: u16,
        /// Verbatim: seconds, a date, or garbage.
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
    /// An honest answer but for these headers, verbatim: a redirect that says something else of the file than the
    /// repository does.
    Headers(Vec<(String, String)>),
    /// 43 to 49: a redirect.
    Redirect {
        /// Usually 301, 302, 303, 307 or 308.
        status: u16,
        /// Verbatim, whatever it is (CR and LF too); `None` leaves the header out (49).
        location: Option<String>,
    },
    /// 39: an honest answer that seems to keep the connection alive, then FIN.
    CloseAfter,
    /// 39: FIN instead of an answer, as when a kept-alive connection is closed while a request is on its way.
    HangUp,
    /// These bytes instead of any answer, then FIN.
    Raw(Bytes),
    /// All of these, in order.
    All(Vec<Fault>),
}

/// What the headers say when a body is longer than asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `Content-Range` and `Content-Length` tell of the longer range, which ends with the file at the latest.
    Honest,
    /// `Content-Length` tells, `Content-Range` is as asked.
    LengthOnly,
    /// Both are as asked; the bytes come nevertheless, then FIN.
    Nothing,
}

/// Where [`Fault::Reset`] strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetAt {
    /// Before the first byte of the answer.
    FirstByte,
    /// In the middle of the head.
    Head,
    /// After so many body bytes. No effect on a shorter body.
    Body(u64),
    /// Before the last byte of the body.
    LastByte,
}

/// The condition of [`When::Custom`]: a request and its number.
pub type Condition = Arc<dyn Fn(&Recorded, usize) -> bool + Send + Sync>;

/// Which requests go wrong. Requests are counted by path from when the injection was set.
#[derive(Clone)]
pub enum When {
    /// All.
    Always,
    /// The first so many.
    First(usize),
    /// The one with this number, from 0.
    Nth(usize),
    /// All but the first so many.
    After(usize),
    /// Every `n`-th: those with the numbers `n - 1`, `2n - 1`, ….
    Every(usize),
    /// Those with a `Range`.
    Ranges,
    /// Those with a `Range` that starts after byte 0.
    RangesNotFromZero,
    /// Those that this says yes to, given the request and its number from 0.
    Custom(Condition),
}

impl When {
    /// [`When::Custom`].
    pub fn custom(matches: impl Fn(&Recorded, usize) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(matches))
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
            Self::Custom(matches) => matches(request, number),
        }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("Always"),
            Self::First(n) => write!(f, "First({n})"),
            Self::Nth(n) => write!(f, "Nth({n})"),
            Self::After(n) => write!(f, "After({n})"),
            Self::Every(n) => write!(f, "Every({n})"),
            Self::Ranges => f.write_str("Ranges"),
            Self::RangesNotFromZero => f.write_str("RangesNotFromZero"),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

/// A fault and when it happens. A bare [`Fault`] happens always.
#[derive(Clone, Debug)]
pub struct Injection {
    /// How answers go wrong.
    pub fault: Fault,
    /// Which ones.
    pub when: When,
}

impl Injection {
    /// A fault and when it happens.
    pub fn new(fault: Fault, when: When) -> Self {
        Self { fault, when }
    }
}

impl From<Fault> for Injection {
    fn from(fault: Fault) -> Self {
        Self::new(fault, When::Always)
    }
}

impl Fault {
    /// This fault for the requests that `when` chooses.
    pub fn when(self, when: When) -> Injection {
        Injection::new(self, when)
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

/// The path that stands for all paths.
pub(crate) const ANY_PATH: &str = "*";

/// The injections of an origin, by path.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<HashMap<String, Vec<Rule>>>);

#[derive(Debug)]
struct Rule {
    what: Arc<Injection>,
    seen: usize,
}

impl Rules {
    pub(crate) fn add(&self, path: &str, what: Injection) {
        let rule = Rule { what: Arc::new(what), seen: 0 };
        lock(&self.0).entry(path.to_owned()).or_default().push(rule);
    }

    pub(crate) fn clear(&self, path: &str) {
        lock(&self.0).remove(path);
    }

    /// Counts the request with every rule for its path and returns the first that matches.
    pub(crate) fn choose(&self, request: &Recorded) -> Option<Arc<Injection>> {
        let mut candidates = Vec::new();
        let mut rules = lock(&self.0);
        for path in [request.path.as_str(), ANY_PATH] {
            for rule in rules.get_mut(path).into_iter().flatten() {
                candidates.push((Arc::clone(&rule.what), rule.seen));
                rule.seen += 1;
            }
        }
        // A custom condition may well set another injection.
        drop(rules);
        candidates
            .into_iter()
            .find(|(what, number)| what.when.matches(request, *number))
            .map(|(what, _)| what)
    }
}
