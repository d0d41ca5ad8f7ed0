//! Proxies: which of them a request goes through, and the way through it.

use std::net::IpAddr;

use http::Uri;
use http::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::AsyncWriteExt as _;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::{Socks4Stream, Socks5Stream};
use url::Url;

use crate::auth::credentials::base64;
use crate::error::TransportError;
use crate::wire::http1::{Exchange, Socket};
use provision_core::redact::{Redactor, decoded};
use provision_core::source_url::SourceUrl;

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

impl Proxies {
    /// What a proxy is told, and must not be quoted with.
    pub(crate) fn tell(&self, told: &mut Redactor) {
        for text in self.http.iter().chain(&self.https) {
            let text = if text.contains("://") { text.clone() } else { format!("http://{text}") };
            let Ok(url) = text.parse::<Url>() else { continue };
            let user = decoded(url.username());
            let Some(password) = url.password() else { continue };
            let (written, password) = (password, decoded(password));
            told.add_token(&base64(format!("{user}:{password}").as_bytes()));
            told.add_password(written);
            told.add_password(&password);
        }
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
pub(crate) struct ProxyTable(Matcher);

/// The proxy that a request goes through.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) kind: ProxyKind,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `Proxy-Authorization`.
    login: Option<HeaderValue>,
    /// User and password, for SOCKS.
    user: Option<(String, String)>,
}

/// How a proxy is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyKind {
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
    pub(crate) fn new(proxies: &Proxies) -> Result<Self, ProxyError> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        // The matcher passes over what it cannot use, and a run past a proxy is not what was asked for.
        for (scheme, value) in [("http", &proxies.http), ("https", &proxies.https)] {
            let alone = Matcher::builder().http(text(value)).https(text(value)).build();
            if value.is_some() && proxy(&alone, &format!("{scheme}://probe.invalid/")).is_none() {
                return Err(ProxyError { scheme });
            }
        }
        // `*` excepts every host; the matcher takes it for names alone.
        if text(&proxies.except).split(',').any(|host| host.trim() == "*") {
            return Ok(Self(Matcher::builder().build()));
        }
        let (http, https) = (text(&proxies.http), text(&proxies.https));
        Ok(Self(Matcher::builder().http(http).https(https).no(text(&proxies.except)).build()))
    }

    /// The proxy for `url`; `None` where it is asked directly.
    pub(crate) fn proxy(&self, url: &SourceUrl) -> Option<Proxy> {
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
    pub(crate) fn login(&self) -> Option<HeaderValue> {
        self.login.clone()
    }

    /// Whether requests to `http` hosts are read by it, rather than passed on unread.
    pub(crate) fn reads_requests(&self) -> bool {
        matches!(self.kind, ProxyKind::Http | ProxyKind::Https)
    }

    /// Has an HTTP proxy connect `io` to `host` (RFC 9110 section 9.3.6).
    pub(crate) async fn tunnel(
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
    pub(crate) async fn socks(
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::*;

    fn table(http: &str, except: &str) -> ProxyTable {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let proxies = Proxies { http: some(http), https: some(http), except: some(except) };
        ProxyTable::new(&proxies).unwrap_or_else(|error| panic!("{error}"))
    }

    fn found(table: &ProxyTable, url: &str) -> Option<(ProxyKind, String, u16)> {
        table.proxy(&url.parse().unwrap()).map(|proxy| (proxy.kind, proxy.host, proxy.port))
    }

    #[test]
    fn fault_54_every_kind_of_proxy_is_understood_and_nothing_else() {
        for (text, kind, port) in [
            ("http://p.example", ProxyKind::Http, 80),
            ("https://p.example:8443", ProxyKind::Https, 8443),
            ("socks5://p.example", ProxyKind::Socks5Local, 1080),
            ("socks5h://p.example:9", ProxyKind::Socks5, 9),
            ("socks4a://p.example", ProxyKind::Socks4, 1080),
        ] {
            let found = found(&table(text, ""), "https://h.example/x");
            assert_eq!(found, Some((kind, "p.example".to_owned(), port)), "{text}");
        }
        for text in ["ftp://user:hunter2@p.example", "http://", "http://a b/", "://"] {
            let proxies = Proxies { http: Some(text.to_owned()), ..Proxies::default() };
            let error = ProxyTable::new(&proxies).err().unwrap_or_else(|| panic!("{text:?} was taken"));
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn fault_54_hosts_that_are_excepted_are_asked_directly() {
        let inside = table("http://p.example:3128", "localhost,.inside.example,10.0.0.0/8");
        for direct in ["http://localhost:8080/", "https://a.inside.example/", "http://10.1.2.3/"] {
            assert_eq!(found(&inside, direct), None, "{direct}");
        }
        assert!(found(&inside, "https://inside.example.org/").is_some());
        let everywhere = table("http://p.example:3128", "a.example, *");
        assert!(
            found(&everywhere, "http://10.1.2.3/").is_none() && found(&everywhere, "https://b/").is_none()
        );
        assert!(found(&inside, "http://11.1.2.3/").is_some());
    }

    /// What the proxy was told, when it answers `answer`, and what came of it.
    async fn tunnelled(answer: &str) -> (String, Result<(), TransportError>) {
        let table = table("http://user:word@p.example", "");
        let proxy = table.proxy(&"https://h.example/x".parse().unwrap()).unwrap();
        let (near, mut far): (DuplexStream, DuplexStream) = duplex(4096);
        far.write_all(answer.as_bytes()).await.unwrap();
        let result = proxy.tunnel(Box::new(near), "::1", 443).await.map(drop);
        let mut told = String::new();
        far.read_to_string(&mut told).await.unwrap();
        (told, result)
    }

    #[tokio::test]
    async fn fault_54_a_tunnel_is_asked_for_with_the_login_and_a_refusal_is_one() {
        let (told, result) = tunnelled("HTTP/1.1 200 Connection established\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(told.starts_with("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"), "{told}");
        // Base64 of `user:word`.
        assert!(told.contains("\r\nProxy-Authorization: Basic dXNlcjp3b3Jk\r\n"), "{told}");
        for (answer, error) in [
            ("HTTP/1.1 407 x\r\n\r\n", TransportError::Proxy),
            ("HTTP/1.1 403 x\r\n\r\n", TransportError::Proxy),
            ("HTTP/1.1 502 x\r\n\r\n", TransportError::Connect),
            ("HTTP/1.1 200 x\r\n\r\nsurprise", TransportError::NotHttp),
            ("hello\r\n\r\n", TransportError::NotHttp),
        ] {
            assert_eq!(tunnelled(answer).await.1, Err(error), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_socks_proxy_is_given_the_name_and_carries_the_bytes() {
        let table = table("socks5h://user:word@p.example", "");
        let proxy = table.proxy(&"http://h.example/x".parse().unwrap()).unwrap();
        let (near, mut far): (DuplexStream, DuplexStream) = duplex(4096);
        // Method 2 (RFC 1929) is wanted, the login is right, the connection stands (RFC 1928).
        far.write_all(&[5, 2, 1, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
        let mut io = proxy.socks(Box::new(near), "h.example", None, 80).await.unwrap();
        io.write_all(b"hello").await.unwrap();
        drop(io);
        let mut told = Vec::new();
        far.read_to_end(&mut told).await.unwrap();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains("user") && told.contains("word") && told.contains("h.example"), "{told:?}");
        assert!(told.ends_with("hello"), "{told:?}");
        let (near, mut far): (DuplexStream, DuplexStream) = duplex(4096);
        far.write_all(&[5, 2, 1, 1]).await.unwrap();
        let refused = proxy.socks(Box::new(near), "h.example", None, 80).await.err();
        assert_eq!(refused, Some(TransportError::Proxy));
    }
}
