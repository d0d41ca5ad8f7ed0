//! Proxies: the choice of a proxy for a URL, and the stream through it (HTTP, HTTPS, SOCKS 4 and 5).
//!
//! A proxy variable that cannot be used is an error. Without that, the requests would go past the proxy.

use std::net::IpAddr;

use http::Uri;
use http::header::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::AsyncWriteExt as _;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::{Socks4Stream, Socks5Stream};
use url::Url;

use crate::auth::credentials::base64;
use crate::transport::{ProxyName, TransportError};
use crate::wire::http1::{Exchange, Socket};
use provision_core::redact::{Redactor, decoded};
use provision_core::source_url::SourceUrl;

/// The proxies of a run, by the scheme of the requested URL. `Debug` shows no password in them.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<ProxyVariable>,
    /// For `https` URLs.
    pub https: Option<ProxyVariable>,
    /// Hosts that need no proxy, in the form of `NO_PROXY`.
    pub except: Option<String>,
}

/// A variable that names a proxy.
#[derive(Clone)]
pub struct ProxyVariable {
    /// Its name, for messages.
    pub name: &'static str,
    /// The proxy's URL. It may hold a password.
    pub value: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = |proxy: &Option<ProxyVariable>| proxy.as_ref().map(|variable| variable.name);
        write!(f, "Proxies {{ http: {:?}, https: {:?} }}", set(&self.http), set(&self.https))
    }
}

impl Proxies {
    /// Adds the passwords to a redactor, as they are written and as they are sent.
    pub(crate) fn add_to(&self, redactor: &mut Redactor) {
        for ProxyVariable { value: text, .. } in self.http.iter().chain(&self.https) {
            let text = if text.contains("://") { text.clone() } else { format!("http://{text}") };
            let Ok(url) = text.parse::<Url>() else { continue };
            let user = decoded(url.username());
            let Some(password) = url.password() else { continue };
            let (written, password) = (password, decoded(password));
            redactor.add_token(&base64(format!("{user}:{password}").as_bytes()));
            redactor.add_password(written);
            redactor.add_password(&password);
        }
    }
}

/// A proxy variable that cannot be used. Its value may hold a password, so the message does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is not a usable URL of a proxy; the form is http://host:port")]
pub struct ProxyError {
    /// The variable's name.
    pub variable: &'static str,
}

/// The parsed proxies, and the variables that name them.
pub(crate) struct ProxyTable {
    matcher: Matcher,
    http: Option<Setting>,
    https: Option<Setting>,
}

/// A parsed variable.
#[derive(Clone)]
struct Setting {
    variable: &'static str,
    /// With the login.
    url: Url,
}

/// A proxy for a request.
#[derive(Clone)]
pub(crate) struct Proxy {
    setting: Setting,
    pub(crate) kind: ProxyKind,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The `Proxy-Authorization` value.
    login: Option<HeaderValue>,
    /// User and password, for SOCKS.
    user: Option<(String, String)>,
}

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS 4; the proxy resolves the name.
    Socks4,
    /// SOCKS 5; the proxy resolves the name.
    Socks5,
    /// SOCKS 5; the client resolves the name.
    Socks5Local,
}

impl ProxyKind {
    /// The protocol and its default port.
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
    /// Parses the variables.
    pub(crate) fn new(proxies: &Proxies) -> Result<Self, ProxyError> {
        // The matcher ignores a value that it cannot use; the run would then go past the proxy.
        let checked = |variable: &Option<ProxyVariable>| {
            let Some(ProxyVariable { name, value }) = variable else { return Ok(None) };
            // A widespread name of SOCKS 5.
            let value =
                value.strip_prefix("socks://").map_or(value.clone(), |rest| format!("socks5h://{rest}"));
            let alone = Matcher::builder().all(value.clone()).build();
            let url = value.parse().ok().map(|url| Setting { variable: name, url });
            let usable = url.filter(|setting| proxy(&alone, "http://probe.invalid/", setting).is_some());
            usable.map(Some).ok_or(ProxyError { variable: name })
        };
        let (http, https) = (checked(&proxies.http)?, checked(&proxies.https)?);
        let except = proxies.except.clone().unwrap_or_default();
        let text = |setting: &Option<Setting>| setting.as_ref().map_or("", |set| set.url.as_str()).to_owned();
        // `*` excepts every host; the matcher applies it to names only.
        let matcher = if except.split(',').any(|host| host.trim() == "*") {
            Matcher::builder().build()
        } else {
            Matcher::builder().http(text(&http)).https(text(&https)).no(except).build()
        };
        Ok(Self { matcher, http, https })
    }

    /// The proxy for `url`; `None` for a direct connection.
    pub(crate) fn proxy(&self, url: &SourceUrl) -> Option<Proxy> {
        let (scheme, setting) = if url.is_https() { ("https", &self.https) } else { ("http", &self.http) };
        proxy(&self.matcher, &format!("{scheme}://{}/", url.authority()), setting.as_ref()?)
    }
}

fn proxy(matcher: &Matcher, url: &str, setting: &Setting) -> Option<Proxy> {
    let found = matcher.intercept(&url.parse::<Uri>().ok()?)?;
    let uri = found.uri();
    let (kind, port) = ProxyKind::of(uri.scheme_str()?)?;
    Some(Proxy {
        setting: setting.clone(),
        kind,
        host: uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: uri.port_u16().unwrap_or(port),
        login: found.basic_auth().cloned(),
        user: found.raw_auth().map(|(user, password)| (user.to_owned(), password.to_owned())),
    })
}

impl Proxy {
    /// The proxy for messages.
    pub(crate) fn name(&self) -> ProxyName {
        ProxyName {
            address: format!("{}:{}", bracketed(&self.host), self.port),
            variable: self.setting.variable,
        }
    }

    /// The proxy as a URL with its login, for reqwest. There, `socks4` means that the client resolves the name.
    pub(crate) fn to_url(&self) -> Url {
        let mut url = self.setting.url.clone();
        if self.kind == ProxyKind::Socks4 {
            // Both schemes are of the same class, so the change is always possible.
            let _ = url.set_scheme("socks4a");
        }
        url
    }

    /// The `Proxy-Authorization` value for each request that the proxy reads.
    pub(crate) fn login(&self) -> Option<HeaderValue> {
        self.login.clone()
    }

    /// True if the proxy reads requests to `http` hosts; a SOCKS proxy forwards bytes only.
    pub(crate) fn reads_requests(&self) -> bool {
        matches!(self.kind, ProxyKind::Http | ProxyKind::Https)
    }

    /// A stream to `host` through an HTTP proxy at `io`, by CONNECT (RFC 9110 section 9.3.6).
    pub(crate) async fn tunnel(
        &self,
        io: Box<dyn Socket>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Socket>, TransportError> {
        let host = bracketed(host);
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
        if let Some(login) = &self.login {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(login.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let mut exchange = Exchange::new(io);
        let head = exchange.send(&request).await?;
        match head.status.as_u16() {
            200..=299 => exchange.into_tunnel().ok_or(TransportError::NotHttp),
            // The proxy is busy or cannot reach the host at the moment.
            408 | 429 | 500..=599 => Err(TransportError::Connect),
            _ => Err(TransportError::Proxy),
        }
    }

    /// A stream to `host` through a SOCKS proxy at `io`, or to `address` if the client resolved the name.
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

/// A host as a URL has it: an IPv6 address in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
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
        let some =
            |name, text: &str| (!text.is_empty()).then(|| ProxyVariable { name, value: text.to_owned() });
        let proxies = Proxies {
            http: some("http_proxy", http),
            https: some("HTTPS_PROXY", http),
            except: Some(except.to_owned()),
        };
        ProxyTable::new(&proxies).unwrap_or_else(|error| panic!("{error}"))
    }

    fn found(table: &ProxyTable, url: &str) -> Option<(ProxyKind, String, u16)> {
        table.proxy(&url.parse().unwrap()).map(|proxy| (proxy.kind, proxy.host, proxy.port))
    }

    #[test]
    fn fault_54_known_proxy_schemes_are_accepted_and_no_other() {
        for (text, kind, port) in [
            ("http://p.example", ProxyKind::Http, 80),
            ("https://p.example:8443", ProxyKind::Https, 8443),
            ("socks5://p.example", ProxyKind::Socks5Local, 1080),
            ("socks5h://p.example:9", ProxyKind::Socks5, 9),
            ("socks4a://p.example", ProxyKind::Socks4, 1080),
            ("socks://p.example", ProxyKind::Socks5, 1080),
        ] {
            let found = found(&table(text, ""), "https://h.example/x");
            assert_eq!(found, Some((kind, "p.example".to_owned(), port)), "{text}");
        }
        for text in ["ftp://user:hunter2@p.example", "http://", "http://a b/", "://"] {
            let http = Some(ProxyVariable { name: "http_proxy", value: text.to_owned() });
            let proxies = Proxies { http, ..Proxies::default() };
            let error = ProxyTable::new(&proxies).err().unwrap_or_else(|| panic!("{text:?} was accepted"));
            let error = error.to_string();
            assert!(error.contains("http_proxy") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn fault_54_excepted_hosts_are_reached_directly() {
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

    /// The bytes that the proxy receives when it answers `answer`, and the result.
    async fn tunnelled(answer: &str) -> (String, Result<(), TransportError>) {
        let table = table("http://user:word@p.example", "");
        let proxy = table.proxy(&"https://h.example/x".parse().unwrap()).unwrap();
        let (near, mut far): (DuplexStream, DuplexStream) = duplex(4096);
        far.write_all(answer.as_bytes()).await.unwrap();
        let result = proxy.tunnel(Box::new(near), "::1", 443).await.map(drop);
        let mut received = String::new();
        far.read_to_string(&mut received).await.unwrap();
        (received, result)
    }

    #[tokio::test]
    async fn fault_54_connect_sends_the_login_and_reports_a_refusal() {
        let (received, result) = tunnelled("HTTP/1.1 200 Connection established\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(received.starts_with("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"), "{received}");
        // Base64 of `user:word`.
        assert!(received.contains("\r\nProxy-Authorization: Basic dXNlcjp3b3Jk\r\n"), "{received}");
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
    async fn a_socks_proxy_gets_the_name_and_carries_the_bytes() {
        let table = table("socks5h://user:word@p.example", "");
        let proxy = table.proxy(&"http://h.example/x".parse().unwrap()).unwrap();
        let (near, mut far): (DuplexStream, DuplexStream) = duplex(4096);
        // Method 2 (RFC 1929), login accepted, connection established (RFC 1928).
        far.write_all(&[5, 2, 1, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
        let mut io = proxy.socks(Box::new(near), "h.example", None, 80).await.unwrap();
        io.write_all(b"hello").await.unwrap();
        drop(io);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        let received = String::from_utf8_lossy(&received).into_owned();
        assert!(
            received.contains("user") && received.contains("word") && received.contains("h.example"),
            "{received:?}"
        );
        assert!(received.ends_with("hello"), "{received:?}");
        let (near, mut far): (DuplexStream, DuplexStream) = duplex(4096);
        far.write_all(&[5, 2, 1, 1]).await.unwrap();
        let refused = proxy.socks(Box::new(near), "h.example", None, 80).await.err();
        assert_eq!(refused, Some(TransportError::Proxy));
    }
}
