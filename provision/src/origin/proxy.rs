//! Proxies: which of them a request goes through, and the way through it.

use std::net::IpAddr;

use http::Uri;
use http::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::AsyncWriteExt as _;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::{Socks4Stream, Socks5Stream};

use super::error::TransportError;
use super::http1::{Exchange, Socket};
use crate::source_url::SourceUrl;

/// Proxies by the scheme of what is asked for. A password in them is used and never shown.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http` addresses.
    pub http: Option<String>,
    /// For `https` addresses.
    pub https: Option<String>,
    /// Hosts that are asked directly, in the form of `NO_PROXY`.
    pub except: Option<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = |proxy: &Option<String>| proxy.is_some();
        write!(f, "Proxies {{ http: {}, https: {} }}", set(&self.http), set(&self.https))
    }
}

/// A proxy variable that cannot be used; its value may hold a password and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proxy for {scheme} is not an address that can be used; it looks like http://host:port")]
pub struct ProxyError {
    /// The scheme that it is for.
    pub scheme: &'static str,
}

/// The configured proxies, understood.
pub(super) struct ProxyTable(Matcher);

/// The proxy that a request goes through.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) kind: ProxyKind,
    pub(super) host: String,
    pub(super) port: u16,
    /// `Proxy-Authorization`.
    login: Option<HeaderValue>,
    /// User and password, for SOCKS.
    user: Option<(String, String)>,
}

/// How a proxy is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyKind {
    Http,
    /// HTTP over TLS.
    Https,
    /// With version 4; the proxy looks the name up.
    Socks4,
    /// With version 5; the proxy looks the name up.
    Socks5,
    /// With version 5; the name is looked up here.
    Socks5Local,
}

impl ProxyKind {
    fn of(scheme: &str) -> Option<(Self, u16)> {
        Some(match scheme {
            "http" => (Self::Http, 80),
            "https" => (Self::Https, 443),
            "socks4a" | "socks4" => (Self::Socks4, 1080),
            "socks5h" => (Self::Socks5, 1080),
            "socks5" => (Self::Socks5Local, 1080),
            _ => return None,
        })
    }
}

impl ProxyTable {
    pub(super) fn new(proxies: &Proxies) -> Result<Self, ProxyError> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        // The matcher passes over what it cannot use, and a run past a proxy is not what was asked for.
        for (scheme, value) in [("http", &proxies.http), ("https", &proxies.https)] {
            let alone = Matcher::builder().http(text(value)).https(text(value)).build();
            if value.is_some() && proxy(&alone, &format!("{scheme}://probe.invalid/")).is_none() {
                return Err(ProxyError { scheme });
            }
        }
        let (http, https) = (text(&proxies.http), text(&proxies.https));
        Ok(Self(Matcher::builder().http(http).https(https).no(text(&proxies.except)).build()))
    }

    /// The proxy for `url`; `None` where it is asked directly.
    pub(super) fn proxy(&self, url: &SourceUrl) -> Option<Proxy> {
        let scheme = if url.is_https() { "https" } else { "http" };
        proxy(&self.0, &format!("{scheme}://{}/", url.authority()))
    }
}

fn proxy(matcher: &Matcher, url: &str) -> Option<Proxy> {
    let found = matcher.intercept(&url.parse::<Uri>().ok()?)?;
    let uri = found.uri();
    let (kind, port) = ProxyKind::of(uri.scheme_str()?)?;
    Some(Proxy {
        kind,
        host: uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: uri.port_u16().unwrap_or(port),
        login: found.basic_auth().cloned(),
        user: found.raw_auth().map(|(user, password)| (user.to_owned(), password.to_owned())),
    })
}

impl Proxy {
    /// What it wants to be told with each request that it reads.
    pub(super) fn login(&self) -> Option<HeaderValue> {
        self.login.clone()
    }

    /// Whether requests to `http` hosts are read by it, rather than passed on unread.
    pub(super) fn reads_requests(&self) -> bool {
        matches!(self.kind, ProxyKind::Http | ProxyKind::Https)
    }

    /// Has an HTTP proxy connect `io` to `host` (RFC 9110 section 9.3.6).
    pub(super) async fn tunnel(
        &self,
        io: Box<dyn Socket>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Socket>, TransportError> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
        if let Some(login) = &self.login {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(login.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let mut exchange = Exchange::new(io);
        let head = exchange.ask(&request).await?;
        match head.status.as_u16() {
            200..=299 => exchange.into_tunnel().ok_or(TransportError::NotHttp),
            // It is busy, or does not reach the host just now.
            408 | 429 | 500..=599 => Err(TransportError::Connect),
            _ => Err(TransportError::Proxy),
        }
    }

    /// Has a SOCKS proxy connect `io` to `host`, or to `address` where the name was looked up here.
    pub(super) async fn socks(
        &self,
        io: Box<dyn Socket>,
        host: &str,
        address: Option<IpAddr>,
        port: u16,
    ) -> Result<Box<dyn Socket>, TransportError> {
        let target = match address.or_else(|| host.parse().ok()) {
            Some(address) => TargetAddr::Ip((address, port).into()),
            None => TargetAddr::Domain(host.to_owned().into(), port),
        };
        let mut io: Box<dyn Socket> = match (self.kind, &self.user) {
            (ProxyKind::Socks4, None) => {
                Box::new(Socks4Stream::connect_with_socket(io, target).await.map_err(socks_error)?)
            }
            (ProxyKind::Socks4, Some((user, _))) => {
                let connected = Socks4Stream::connect_with_userid_and_socket(io, target, user).await;
                Box::new(connected.map_err(socks_error)?)
            }
            (_, None) => Box::new(Socks5Stream::connect_with_socket(io, target).await.map_err(socks_error)?),
            (_, Some((user, password))) => {
                let connected =
                    Socks5Stream::connect_with_password_and_socket(io, target, user, password).await;
                Box::new(connected.map_err(socks_error)?)
            }
        };
        io.flush().await.map_err(|error| TransportError::of_io(&error).unwrap_or(TransportError::Connect))?;
        Ok(io)
    }
}

fn socks_error(error: tokio_socks::Error) -> TransportError {
    use tokio_socks::Error;
    match error {
        Error::Io(error) => TransportError::of_io(&error).unwrap_or(TransportError::Connect),
        Error::PasswordAuthFailure(_)
        | Error::NoAcceptableAuthMethods
        | Error::ConnectionNotAllowedByRuleset => TransportError::Proxy,
        Error::ConnectionRefused => TransportError::ConnectRefused,
        _ => TransportError::Connect,
    }
}
