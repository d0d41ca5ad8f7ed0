//! What can go wrong between a request and its last byte, and what each of it is worth.
//!
//! One function, [`RequestError::remedy`], decides whether a failure is tried again, and how. The numbers are the
//! fault catalogue's.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::RedirectError;
use crate::hub_headers::FileChanged;
use crate::wire::connect::ConnectError;
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The Hub's `X-Error-Code` for a repository that is not there, or not for whoever asks.
pub(super) const NO_REPOSITORY: &str = "RepoNotFound";

/// A request that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The transport failed.
    #[error("{host}: {kind}")]
    Transport {
        /// The host that was talked to.
        host: String,
        /// How.
        kind: TransportError,
    },
    /// A redirect that is not followed.
    #[error("{url}: {error}")]
    Redirect {
        /// Where the redirect was found.
        url: SourceUrl,
        /// Why it is not followed.
        error: RedirectError,
    },
    /// 401, 403 or 407.
    #[error("{url} answered {status}{}; {advice}", said(code.as_deref(), message.as_deref()))]
    Refused {
        /// The address.
        url: SourceUrl,
        /// The status.
        status: u16,
        /// The Hub's `X-Error-Code`.
        code: Option<String>,
        /// The Hub's `X-Error-Message`.
        message: Option<String>,
        /// The way out.
        advice: String,
        /// A login was sent with the request.
        with_login: bool,
        /// The address had been resolved earlier: its signature may only have expired.
        resolved_earlier: bool,
    },
    /// 408, 429 or 5xx.
    #[error("{url} answered {status}{}", said(None, message.as_deref()))]
    Busy {
        /// The address.
        url: SourceUrl,
        /// The status.
        status: u16,
        /// What it said about it.
        message: Option<String>,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// Another 4xx.
    #[error("{url} answered {status}{}; check the address in the lock", said(code.as_deref(), message.as_deref()))]
    Missing {
        /// The address.
        url: SourceUrl,
        /// The status.
        status: u16,
        /// The Hub's `X-Error-Code`.
        code: Option<String>,
        /// The Hub's `X-Error-Message`.
        message: Option<String>,
    },
    /// An answer that is not what was asked for.
    #[error("{url}: {error}")]
    Response {
        /// The address.
        url: SourceUrl,
        /// What is wrong with it.
        error: ResponseError,
        /// How its body begins, where that is the beginning of a file of another kind or length.
        prefix: BodyPrefix,
    },
}

/// The first bytes of a body, or none. For whoever can tell what they are; not to be shown as they stand.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BodyPrefix {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What must not be shown of them.
    pub redactor: Redactor,
}

impl std::fmt::Debug for BodyPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyPrefix({} bytes)", self.bytes.len())
    }
}

fn said(code: Option<&str>, message: Option<&str>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!(" ({code}: {message})"),
        (Some(text), None) | (None, Some(text)) => format!(" ({text})"),
        (None, None) => String::new(),
    }
}

/// How a transport fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The name does not resolve.
    #[error("the name does not resolve (no network, or a misspelt host)")]
    Dns,
    /// Nobody said whether it does.
    #[error("no name server answered; check the network and the name servers in /etc/resolv.conf")]
    NoNameServer,
    /// The connection was refused.
    #[error("the connection was refused")]
    ConnectRefused,
    /// No connection within the time allowed, or no route.
    #[error("no connection could be made")]
    Connect,
    /// This process may open no more files or connections, of which it may have so many.
    #[error(
        "no file descriptor left for a connection{}; raise `ulimit -n` or lower --connections",
        .0.map_or_else(String::new, |limit| format!(" (the limit is {limit})"))
    )]
    NoDescriptors(Option<u64>),
    /// The certificate does not prove the host.
    #[error(
        "its certificate cannot be verified; if it is signed by an authority of your own, set SSL_CERT_FILE to that \
         authority's certificate"
    )]
    Certificate,
    /// TLS failed otherwise.
    #[error("TLS failed")]
    Tls,
    /// The connection was reset or closed before the answer ended.
    #[error("the connection broke off")]
    Broken,
    /// A body ended before its end.
    #[error("the body was cut short: it broke off after {came} of {of} bytes")]
    CutShort {
        /// How many bytes of it came.
        came: u64,
        /// How many there were to be.
        of: u64,
    },
    /// No byte, or nearly none, for too long.
    #[error("nothing came for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// Something came all the time, but not the whole in time.
    #[error("the whole of it did not come within {} s", .0.as_secs_f64())]
    Slow(Duration),
    /// The answer's head is no HTTP, or has no end.
    #[error("what came is not a usable HTTP answer")]
    NotHttp,
    /// The proxy refused or failed.
    #[error("the proxy refused the connection; check the proxy variables and their password")]
    Proxy,
    /// The body is longer than the lock allows.
    #[error("the body goes on past the file's length in the lock")]
    TooLong,
}

/// How an answer is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The origin cannot do ranges, or not properly.
    #[error("{0}")]
    NoRanges(&'static str),
    /// A 206 that starts elsewhere.
    #[error("asked for bytes from {asked}, it answered with bytes from {found}")]
    WrongStart {
        /// What was asked for.
        asked: u64,
        /// What came.
        found: u64,
    },
    /// The file there has another length.
    #[error(
        "the file there has {} bytes, the lock says {expected}: it is another file, or the lock is out of date",
        found.map_or("more".to_owned(), |found| found.to_string())
    )]
    WrongSize {
        /// Its length, where it is known.
        found: Option<u64>,
        /// The lock's.
        expected: u64,
    },
    /// `Content-Length` is not the range's.
    #[error("its Content-Length is not the length of the range")]
    WrongLength,
    /// A body that is compressed although that was declined.
    #[error("it sends the body as {encoding}, although no encoding was accepted")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// A web page.
    #[error("a web page (HTML) came instead of the model: a login or error page, or a link to a page")]
    Html,
    /// A status that means none of the above.
    #[error("it answered {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The host says, before a byte comes, that another file is there now.
    #[error("{0}")]
    FileChanged(Box<FileChanged>),
    /// A document that is larger than any that is wanted.
    #[error("what is there is larger than {} MiB", most >> 20)]
    Oversized {
        /// How many bytes were allowed.
        most: u64,
    },
    /// A registry's token service that gives none.
    #[error("the registry's token service answered without a token")]
    NoToken,
    /// The validator changed between two ranges.
    #[error("the file there changed while it was being fetched")]
    Changed,
}

/// What a failure is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Ask again, after the policy's delay or what the origin asked for. `throttled`: the whole host wants quiet.
    Retry {
        /// What the origin asked for.
        wait: Option<Duration>,
        /// 429 or 503.
        throttled: bool,
    },
    /// Resolve the source's address again, now.
    Resolve,
    /// Ask again once; then one plain stream.
    RetryThenPlain,
    /// Take one plain stream.
    Plain,
    /// Take the next source.
    NextSource,
    /// Stop this file.
    Stop,
}

impl RequestError {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Transport { kind: TransportError::Certificate | TransportError::Proxy, .. }
            | Self::Redirect { .. }
            | Self::Refused { status: 407, .. } => Remedy::Stop,
            Self::Transport { kind: TransportError::NotHttp | TransportError::TooLong, .. }
            | Self::Missing { .. } => Remedy::NextSource,
            Self::Transport { .. } => Remedy::Retry { wait: None, throttled: false },
            Self::Refused { resolved_earlier: true, .. } => Remedy::Resolve,
            Self::Refused { .. } => Remedy::NextSource,
            Self::Busy { status, wait, .. } => {
                Remedy::Retry { wait: *wait, throttled: matches!(status, 429 | 503) }
            }
            Self::Response { error, .. } => match error {
                ResponseError::NoRanges(_) => Remedy::Plain,
                ResponseError::WrongStart { .. } => Remedy::RetryThenPlain,
                ResponseError::WrongLength | ResponseError::Changed => {
                    Remedy::Retry { wait: None, throttled: false }
                }
                ResponseError::WrongSize { .. }
                | ResponseError::FileChanged(_)
                | ResponseError::Oversized { .. }
                | ResponseError::Encoded { .. }
                | ResponseError::Html
                | ResponseError::NoToken
                | ResponseError::Status { .. } => Remedy::NextSource,
            },
        }
    }

    /// The address that it is about, where there was an answer.
    pub fn url(&self) -> Option<&SourceUrl> {
        match self {
            Self::Transport { .. } => None,
            Self::Redirect { url, .. }
            | Self::Refused { url, .. }
            | Self::Busy { url, .. }
            | Self::Missing { url, .. }
            | Self::Response { url, .. } => Some(url),
        }
    }

    /// Whether the host would not take the connection at all: a sign that it allows fewer.
    pub fn is_connection_refused(&self) -> bool {
        matches!(
            self,
            Self::Transport {
                kind: TransportError::ConnectRefused
                    | TransportError::Connect
                    | TransportError::NoDescriptors(_)
                    | TransportError::Broken,
                ..
            }
        )
    }

    /// Nothing came from `url` for `waited`.
    pub fn stalled(url: &SourceUrl, waited: Duration) -> Self {
        Self::Transport { host: url.authority(), kind: TransportError::Stalled(waited) }
    }

    /// The body that came from `url` ended after `came` bytes, of which there were to be `of`.
    pub fn cut_short(url: &SourceUrl, came: u64, of: u64) -> Self {
        Self::transport(url, TransportError::CutShort { came, of })
    }

    /// Whether the connection broke off.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Transport { kind: TransportError::Broken, .. })
    }

    /// Whether it is this process that can have no more connections.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self, Self::Transport { kind: TransportError::NoDescriptors(_), .. })
    }

    /// Whether no answer came at all.
    pub fn is_transport(&self) -> bool {
        matches!(self, Self::Transport { .. })
    }

    /// Whether this source, or the proxy before it, wants a token or a permission.
    pub fn is_refusal(&self) -> bool {
        // A proxy that wants a login says so to a request (407) or to the demand for a tunnel: that is one thing.
        matches!(self, Self::Refused { .. } | Self::Transport { kind: TransportError::Proxy, .. })
    }

    /// Whether the host says that there is nothing at this address. The Hub hides private repositories from strangers by the same
    /// words, so there it is said only to whoever came with a login that it knows.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Missing { status, code, .. } => matches!(status, 404 | 410 | 451) || code.is_some(),
            Self::Refused { code, message, with_login: true, .. } => {
                let is_bad_login =
                    message.as_ref().is_some_and(|said| said.starts_with("Invalid credentials"));
                code.as_deref() == Some(NO_REPOSITORY) && !is_bad_login
            }
            _ => false,
        }
    }

    /// An answer of `url` that cannot be used, whatever its body is.
    pub(super) fn response(url: &SourceUrl, error: ResponseError) -> Self {
        Self::Response { url: url.clone(), error, prefix: BodyPrefix::default() }
    }

    /// The transport failed towards `url`.
    pub(super) fn transport(url: &SourceUrl, kind: TransportError) -> Self {
        Self::Transport { host: url.authority(), kind }
    }

    /// No connection to `url`.
    pub(super) fn unconnected(url: &SourceUrl, error: ConnectError) -> Self {
        match error {
            ConnectError::NotPublic => {
                let error = RedirectError::Private { host: url.host() };
                Self::Redirect { url: url.clone(), error }
            }
            ConnectError::Failed(kind) => Self::transport(url, kind),
        }
    }
}

impl TransportError {
    /// What an error of a socket, or of TLS over one, says; `None` where it says nothing.
    pub(super) fn of_io(error: &io::Error) -> Option<Self> {
        if let Some(tls) = tls_error(error) {
            return Some(match tls {
                rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                    Self::Certificate
                }
                _ => Self::Tls,
            });
        }
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE) => return Some(Self::NoDescriptors(getrlimit(Resource::Nofile).current)),
            // All processes together have too many.
            Some(Errno::NFILE) => return Some(Self::NoDescriptors(None)),
            _ => {}
        }
        Some(match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Broken,
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Self::Connect
            }
            _ => return None,
        })
    }
}

/// The TLS library's own error in one of a socket.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut cause: &(dyn StdError + 'static) = error;
    loop {
        if let Some(tls) = cause.downcast_ref() {
            return Some(tls);
        }
        // An io::Error hides what it wraps from `source`, which skips to the wrapped error's own source.
        cause = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => cause.source()?,
        };
    }
}
