//! Transport errors: the kinds of failure below HTTP, each with a message that says what to do.
//!
//! This file is the ground for `wire/`: it imports no other file of the crate. [`TransportError::of_io`] is the one
//! place that turns an error of a socket, or of TLS over one, into a kind.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use provision_core::byte_size::ByteSize;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The failure of a connection, or of the HTTP framing on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The host name does not resolve.
    #[error("the name does not resolve (no network, or a misspelt host)")]
    Dns,
    /// No name server answered, so the name may or may not exist.
    #[error("no name server answered; check the network and the name servers in /etc/resolv.conf")]
    NoNameServer,
    /// The host refused the connection.
    #[error("the connection was refused")]
    ConnectRefused,
    /// No connection within the time limit, or no route.
    #[error("no connection could be made")]
    Connect,
    /// The process, or the machine, has no file descriptor left. Holds the process's limit, if that is the one reached.
    #[error(
        "no file descriptor left for a connection{}; raise `ulimit -n` or lower --connections",
        .0.map_or_else(String::new, |limit| format!(" (the limit is {limit})"))
    )]
    NoDescriptors(Option<u64>),
    /// The host's certificate is not valid for it, or no trusted authority signed it.
    #[error(
        "its certificate cannot be verified; if it is signed by an authority of your own, set SSL_CERT_FILE to that \
         authority's certificate"
    )]
    Certificate,
    /// Any other failure of TLS.
    #[error("TLS failed")]
    Tls,
    /// The connection was reset or closed before the answer ended.
    #[error("the connection broke off")]
    Broken,
    /// The connection was closed in the middle of a body.
    #[error("the body was cut short after {} of {}", ByteSize(*received).exact(), ByteSize(*expected).exact())]
    CutShort {
        /// Bytes received.
        received: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// No data, or nearly none, for the given time.
    #[error("no data for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// Data kept coming, but the document was not complete within the given time.
    #[error("the document was not complete after {} s", .0.as_secs_f64())]
    Slow(Duration),
    /// The answer's head is not HTTP.
    #[error("the answer is not valid HTTP")]
    NotHttp,
    /// The answer's head is not HTTP because of a header.
    #[error("the answer is not valid HTTP: {0}")]
    Header(HeaderProblem),
    /// The proxy refused the connection.
    #[error("the proxy refused the connection; check its address and password")]
    Proxy,
    /// The body is longer than the lock allows.
    #[error("the body is longer than the file's size in the lock")]
    TooLong,
}

/// The header for which a head is refused. No text of the host is repeated: it could contain a secret of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// More headers than are read.
    #[error("it has more than 256 headers")]
    TooMany,
    /// A longer head than is read.
    #[error("its headers are longer than 64 KiB")]
    TooLong,
    /// A line that is no header.
    #[error("it has a header without a colon")]
    NoColon,
    /// A header that decides about the body or the next request.
    #[error("its header {0} is malformed or contradicts another one")]
    Malformed(&'static str),
    /// Any other header.
    #[error("one of its headers has control characters")]
    Unreadable,
}

/// The proxy of a failed request, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyName {
    /// Host and port.
    pub address: String,
    /// The variable that names it.
    pub variable: &'static str,
}

/// The reason for which no connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The host has private addresses only, and this redirect may lead to public ones only (fault 47).
    NotPublic,
    /// Any other failure.
    Failed(TransportError),
}

impl From<HeaderProblem> for TransportError {
    fn from(problem: HeaderProblem) -> Self {
        Self::Header(problem)
    }
}

impl From<TransportError> for ConnectError {
    fn from(error: TransportError) -> Self {
        Self::Failed(error)
    }
}

impl TransportError {
    /// The kind of an error of a socket, or of TLS over one; `None` for an error that belongs to no kind.
    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
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
            // The limit of the whole machine.
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

/// The rustls error inside an error of a socket.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut cause: &(dyn StdError + 'static) = error;
    loop {
        if let Some(tls) = cause.downcast_ref() {
            return Some(tls);
        }
        // `io::Error::source` skips the error that it wraps and returns that error's source.
        cause = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => cause.source()?,
        };
    }
}
