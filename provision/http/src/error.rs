//! Request errors, and the one decision about each of them.
//!
//! [`RequestError::remedy`] decides whether a failed request is sent again, and how. `engine` applies the decision; no
//! other code looks at a status or a kind for this. The numbers in comments are the fault catalogue's.

use std::time::Duration;

use crate::redirect::RedirectError;
use crate::refusal::{is_no_repository, is_unknown_login};
use crate::response::ResponseError;
use crate::s3_config::CredentialsError;
use crate::transport::{ConnectError, ProxyName, TransportError};
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The transport failed.
    #[error("{host}{}: {kind}", through(proxy.as_deref()))]
    Transport {
        /// The host, with its port.
        host: String,
        /// The proxy, if the failure may be the proxy's.
        proxy: Option<Box<ProxyName>>,
        /// The kind of failure.
        kind: TransportError,
    },
    /// A redirect that the client does not follow.
    #[error("{url}: {error}")]
    Redirect {
        /// The URL that redirects.
        url: SourceUrl,
        /// The reason.
        error: RedirectError,
    },
    /// A list's URL that is not asked.
    #[error("{url}: {error}")]
    Untrusted {
        /// The URL.
        url: SourceUrl,
        /// The reason.
        error: UntrustedSource,
    },
    /// The keys for a bucket are configured, but cannot be had.
    #[error("{url}: {error}")]
    Credentials {
        /// The URL, which is not asked.
        url: SourceUrl,
        /// The reason.
        error: Box<CredentialsError>,
    },
    /// 401, 403 or 407, a challenge for browsers, or a redirect to a login page.
    #[error("{url} answered {status}{}; {advice}", details(code.as_deref(), message.as_deref()))]
    Refused {
        /// The URL.
        url: SourceUrl,
        /// The status.
        status: u16,
        /// The Hub's `X-Error-Code`.
        code: Option<String>,
        /// The host's reason: the Hub's `X-Error-Message`, or the body's.
        message: Option<String>,
        /// The way out.
        advice: String,
        /// The request carried a credential.
        with_login: bool,
        /// The URL is the cached end of a redirect chain, so its signature may have expired.
        resolved_earlier: bool,
    },
    /// 408, 425, 429 or 5xx, or a 403 that is a rate limit.
    #[error("{url} answered {status}{}", details(None, message.as_deref()))]
    Busy {
        /// The URL.
        url: SourceUrl,
        /// The status.
        status: u16,
        /// The Hub's `X-Error-Message`.
        message: Option<String>,
        /// The wait that the host asks for.
        wait: Option<Duration>,
    },
    /// Any other 4xx.
    #[error("{url} answered {status}{}; {advice}", details(code.as_deref(), message.as_deref()))]
    Missing {
        /// The URL.
        url: SourceUrl,
        /// The status.
        status: u16,
        /// The Hub's `X-Error-Code`.
        code: Option<String>,
        /// The host's reason: the Hub's `X-Error-Message`, or the body's.
        message: Option<String>,
        /// The way out.
        advice: String,
    },
    /// An answer that does not match the request.
    #[error("{url}: {error}")]
    Response {
        /// The URL.
        url: SourceUrl,
        /// The mismatch.
        error: ResponseError,
        /// The body's first bytes, if they are the first bytes of another file.
        prefix: BodyPrefix,
    },
}

/// The reason for which a list's URL is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UntrustedSource {
    /// Its host is this machine, or one with a private address.
    #[error(
        "the list leads to a private or loopback address, of which nothing is asked; if the host is yours, give \
         --allow-private, or the URL to `lock add`"
    )]
    Private,
    /// It is a file of this machine, for which no request is made.
    #[error("this machine has no such file, or other bytes in it; check the directory, or add a mirror")]
    File,
    /// It is not encrypted.
    #[error(
        "the list leads to plain http, which is not asked: others can read and change its answers; correct the URL to \
         https, or give --allow-http"
    )]
    PlainHttp,
}

/// The first bytes of a body, or none, for `sniff`. They are not safe to show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BodyPrefix {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Removes the secrets of the request from the text of the bytes.
    pub redactor: Redactor,
}

impl std::fmt::Debug for BodyPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyPrefix({} bytes)", self.bytes.len())
    }
}

fn through(proxy: Option<&ProxyName>) -> String {
    proxy.map_or_else(String::new, |ProxyName { address, variable }| {
        format!(" through the proxy {address} ({variable})")
    })
}

/// The host's error code and message, in brackets.
fn details(code: Option<&str>, message: Option<&str>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!(" ({code}: {message})"),
        (Some(text), None) | (None, Some(text)) => format!(" ({text})"),
        (None, None) => String::new(),
    }
}

/// The next step after a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Send the request again, after the wait that the origin asked for or the policy's delay.
    Retry {
        /// The wait that the origin asked for.
        wait: Option<Duration>,
        /// 429 or 503: the host is overloaded, so every request to it waits.
        throttled: bool,
    },
    /// Follow the redirects again from the source's own URL, without a delay.
    Resolve,
    /// Send the request once more; after that, read the whole file in one stream.
    RetryThenPlain,
    /// Read the whole file in one stream, without ranges.
    Plain,
    /// Go to the next source.
    NextSource,
    /// Give the file up.
    Stop,
}

impl RequestError {
    /// The next step.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Transport { kind: TransportError::Certificate | TransportError::Proxy, .. }
            | Self::Redirect { .. }
            | Self::Untrusted { error: UntrustedSource::Private | UntrustedSource::PlainHttp, .. }
            | Self::Refused { status: 407, .. } => Remedy::Stop,
            Self::Transport {
                kind: TransportError::NotHttp | TransportError::Header(_) | TransportError::TooLong,
                ..
            }
            | Self::Missing { .. }
            | Self::Untrusted { error: UntrustedSource::File, .. }
            | Self::Credentials { .. } => Remedy::NextSource,
            Self::Transport { .. } => Remedy::Retry { wait: None, throttled: false },
            // A challenge because of load, which may pass. It stays a refusal if it does not.
            Self::Refused { status: 429 | 503, .. } => Remedy::Retry { wait: None, throttled: true },
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

    /// The URL that answered; `None` if there was no answer.
    pub fn url(&self) -> Option<&SourceUrl> {
        match self {
            Self::Transport { .. } => None,
            Self::Redirect { url, .. }
            | Self::Untrusted { url, .. }
            | Self::Credentials { url, .. }
            | Self::Refused { url, .. }
            | Self::Busy { url, .. }
            | Self::Missing { url, .. }
            | Self::Response { url, .. } => Some(url),
        }
    }

    /// True if no connection was made or it broke at once: a sign that the host allows fewer connections.
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

    /// No data came from `url` for `waited`.
    pub fn stalled(url: &SourceUrl, waited: Duration) -> Self {
        Self::transport(url, TransportError::Stalled(waited))
    }

    /// The connection to `url` was closed after `received` of `expected` bytes of a body.
    pub fn cut_short(url: &SourceUrl, received: u64, expected: u64) -> Self {
        Self::transport(url, TransportError::CutShort { received, expected })
    }

    /// True if the connection was reset or closed early.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Transport { kind: TransportError::Broken, .. })
    }

    /// True if this process, not the host, can open no more connections.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self, Self::Transport { kind: TransportError::NoDescriptors(_), .. })
    }

    /// The host, with its port, that gave no answer: its name does not resolve, or it refuses, or it is silent. That
    /// says something about all files there. A connection that broke off does not.
    pub fn silent_host(&self) -> Option<&str> {
        use TransportError::{Connect, ConnectRefused, Dns, NoNameServer, Stalled, Tls};
        let Self::Transport { host, kind, .. } = self else { return None };
        matches!(kind, Dns | NoNameServer | ConnectRefused | Connect | Stalled(_) | Tls).then_some(host)
    }

    /// The host, with its port, to which the transport failed.
    pub fn failed_host(&self) -> Option<&str> {
        match self {
            Self::Transport { host, .. } => Some(host),
            _ => None,
        }
    }

    /// True if the transport failed, so there is no usable answer.
    pub fn is_transport(&self) -> bool {
        matches!(self, Self::Transport { .. })
    }

    /// True if the source, or the proxy, demands a credential or a permission.
    pub fn is_refusal(&self) -> bool {
        // A proxy without a valid login answers 407 to a plain request, and refuses a CONNECT.
        matches!(
            self,
            Self::Refused { .. }
                | Self::Credentials { .. }
                | Self::Transport { kind: TransportError::Proxy, .. }
        )
    }

    /// True if the host says that the file does not exist. The Hub gives the same answer for a private repository, so
    /// its answer counts only for a request with a valid login.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Missing { status, code, .. } => matches!(status, 404 | 410) || code.is_some(),
            Self::Refused { code, message, with_login: true, .. } => {
                is_no_repository(code.as_deref()) && !is_unknown_login(message.as_deref())
            }
            _ => false,
        }
    }

    /// An answer of `url` that does not match the request; its body is not looked at.
    pub(crate) fn response(url: &SourceUrl, error: ResponseError) -> Self {
        Self::Response { url: url.clone(), error, prefix: BodyPrefix::default() }
    }

    /// The transport to `url` failed.
    pub(crate) fn transport(url: &SourceUrl, kind: TransportError) -> Self {
        Self::Transport { host: url.authority(), proxy: None, kind }
    }

    /// No answer from `url`; `proxy` is the proxy of the request.
    pub(crate) fn unanswered(url: &SourceUrl, proxy: Option<ProxyName>, error: ConnectError) -> Self {
        match error {
            ConnectError::NotPublic => {
                let error = RedirectError::Private { host: url.host() };
                Self::Redirect { url: url.clone(), error }
            }
            ConnectError::Failed(kind) => {
                Self::Transport { host: url.authority(), proxy: proxy.map(Box::new), kind }
            }
        }
    }
}
