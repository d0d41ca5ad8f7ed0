//! Requests: one connection at a time, our own redirects, credentials for their own hosts only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, NoProxy, Proxy, StatusCode, redirect};
use url::Url;

use super::address::is_public;
use super::answer::{Asked, Shape, judge, strong_etag};
use super::credentials::Credentials;
use super::error::{RequestError, TransportError, Unusable};
use super::redirect::{MAX_HOPS, RedirectError, follow};
use super::resolver::{Names, Resolver};
use super::tls::{Roots, RootsError, client_config};
use crate::backoff;
use crate::source_url::SourceUrl;

/// What every request of a run shares.
#[derive(Debug, Clone)]
pub struct OriginConfig {
    /// Which secret goes to which host.
    pub credentials: Credentials,
    /// Proxies, as the environment names them.
    pub proxies: Proxies,
    /// Certificate authorities.
    pub roots: Roots,
    /// Hosts that stand in for others: requests to `https://HOST/…` go below this address instead (`HF_ENDPOINT`).
    pub endpoints: Vec<(String, SourceUrl)>,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for an answer's head.
    pub head_timeout: Duration,
    /// Whether a public host may redirect into a private network.
    pub private_redirects: bool,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            credentials: Credentials::none(),
            proxies: Proxies::default(),
            roots: Roots::Bundled,
            endpoints: Vec::new(),
            connect_timeout: Duration::from_secs(15),
            head_timeout: Duration::from_secs(30),
            private_redirects: false,
        }
    }
}

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

/// An origin that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The certificates.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A proxy variable; its value may hold a password and is not repeated.
    #[error("the proxy for {scheme} is not an address that can be used; it looks like http://host:port")]
    Proxy {
        /// The scheme that it is for.
        scheme: &'static str,
    },
    /// The HTTP library.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Makes connections that share one configuration.
pub struct Origin {
    config: OriginConfig,
    tls: rustls::ClientConfig,
    proxies: Vec<Proxy>,
    names: Arc<Names>,
}

// The library's own proxies show their passwords in debug output.
impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("config", &self.config).finish_non_exhaustive()
    }
}

/// One TCP stream at a time, kept open from request to request.
pub struct Connection {
    origin: Arc<Origin>,
    /// Connects to any address.
    any: Client,
    /// Connects to public addresses only; made when a redirect first needs it.
    public: Option<Client>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Where a source led: shared by a file's connections until it expires.
#[derive(Debug, Clone)]
pub struct Resolved {
    url: SourceUrl,
    /// No hop left the source's own scheme, host and port.
    same_origin: bool,
    /// The source is on a public address, so this must be too.
    public_only: bool,
}

impl Resolved {
    /// Where the bytes are, for messages and for counting connections by host.
    pub fn url(&self) -> &SourceUrl {
        &self.url
    }
}

/// An answer whose head has been checked, and its body.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    /// What the body is.
    pub shape: Shape,
    /// A strong validator, if it came with one.
    pub etag: Option<String>,
    /// Where it came from.
    pub resolved: Resolved,
}

impl Origin {
    /// Checks the configuration; no network is touched.
    pub fn new(config: OriginConfig) -> Result<Arc<Self>, OriginError> {
        let tls = client_config(&config.roots)?;
        let except = || config.proxies.except.as_deref().and_then(NoProxy::from_string);
        let mut proxies = Vec::new();
        if let Some(url) = &config.proxies.http {
            let proxy = Proxy::http(url).map_err(|_| OriginError::Proxy { scheme: "http" })?;
            proxies.push(proxy.no_proxy(except()));
        }
        if let Some(url) = &config.proxies.https {
            let proxy = Proxy::https(url).map_err(|_| OriginError::Proxy { scheme: "https" })?;
            proxies.push(proxy.no_proxy(except()));
        }
        // A little less than the connection has: what the name servers did not do is not said of the host.
        let names = Arc::new(Names::new(config.connect_timeout.mul_f64(0.8)));
        let origin = Arc::new(Self { config, tls, proxies, names });
        origin.client(false).map_err(OriginError::Client)?;
        Ok(origin)
    }

    /// A new connection; it connects with its first request.
    ///
    /// # Panics
    /// Never: the same configuration made a client when the origin was set up.
    pub fn connection(self: &Arc<Self>) -> Connection {
        let any = self.client(false).expect("this configuration has made a client before");
        Connection { origin: self.clone(), any, public: None }
    }

    fn client(&self, public_only: bool) -> Result<Client, reqwest::Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        // With anything else, CDNs have compressed and dropped the range.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .user_agent(concat!("provision/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .http1_only()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .referer(false)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.config.connect_timeout)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(20))
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .no_proxy();
        for proxy in &self.proxies {
            builder = builder.proxy(proxy.clone());
        }
        // Behind a proxy it is the proxy's address that is looked up.
        let public_only = public_only && self.proxies.is_empty();
        builder.dns_resolver(Resolver { names: self.names.clone(), public_only }).build()
    }

    /// The address to ask instead of the lock's, where its host is replaced.
    fn effective(&self, source: &SourceUrl) -> SourceUrl {
        let replaced =
            self.config.endpoints.iter().find(|(host, _)| source.is_https() && *host == source.host());
        let Some((_, endpoint)) = replaced else { return source.clone() };
        let mut url: Url = endpoint.as_url().clone();
        url.set_path(&format!(
            "{}{}",
            endpoint.as_url().path().trim_end_matches('/'),
            source.as_url().path()
        ));
        url.set_query(source.as_url().query());
        SourceUrl::from_url(url).unwrap_or_else(|_| source.clone())
    }
}

impl Connection {
    /// Asks for `asked` of the file at `source`, or where `resolved` says that it was found earlier. Follows
    /// redirects, checks the head, and leaves the body unread.
    ///
    /// # Errors
    /// Everything that is not a usable answer; its [`remedy`](RequestError::remedy) says what to do.
    pub async fn get(
        &mut self,
        source: &SourceUrl,
        resolved: Option<&Resolved>,
        asked: Asked,
    ) -> Result<Answer, RequestError> {
        let first = self.origin.effective(source);
        let mut at =
            resolved.cloned().unwrap_or(Resolved { url: first, same_origin: true, public_only: false });
        for _ in 0..=MAX_HOPS {
            let response = self.send(&at, asked).await?;
            if !is_redirect(response.status()) {
                return self.check(response, at, asked, resolved.is_some());
            }
            let location = response.headers().get(header::LOCATION).map(HeaderValue::as_bytes);
            let next =
                follow(&at.url, location).and_then(|next| self.permit(&at, next, response.remote_addr()));
            at = next.map_err(|error| RequestError::Redirect { url: at.url.clone(), error })?;
            drain(response).await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }

    /// Whether a redirect that was answered from `peer` may lead to `next`.
    fn permit(
        &self,
        from: &Resolved,
        next: SourceUrl,
        peer: Option<SocketAddr>,
    ) -> Result<Resolved, RedirectError> {
        let peer_is_public = peer.is_some_and(|peer| is_public(peer.ip()));
        let public_only = !self.origin.config.private_redirects && (from.public_only || peer_is_public);
        if public_only && next.ip().is_some_and(|address| !is_public(address)) {
            return Err(RedirectError::Private { host: next.host() });
        }
        let same_origin = from.same_origin && next.is_same_origin(&from.url);
        Ok(Resolved { url: next, same_origin, public_only })
    }

    async fn send(&mut self, to: &Resolved, asked: Asked) -> Result<reqwest::Response, RequestError> {
        let origin = self.origin.clone();
        let failed = |error: &reqwest::Error| RequestError::transport(&to.url, error);
        let client = match (&mut self.public, to.public_only) {
            (_, false) => &self.any,
            (Some(client), true) => client,
            (public @ None, true) => public.insert(origin.client(true).map_err(|error| failed(&error))?),
        };
        let mut request = client.get(to.url.as_url().clone());
        if let Some(range) = asked.range {
            request = request.header(header::RANGE, range.to_header());
        }
        // What is sent to this machine in the clear would go to the proxy in the clear.
        let proxied = !to.url.is_https() && origin.config.proxies.http.is_some();
        if to.same_origin
            && !proxied
            && let Some(secret) = origin.config.credentials.authorization(&to.url)
            && let Ok(mut value) = HeaderValue::from_str(secret.reveal())
        {
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let wait = origin.config.head_timeout;
        match tokio::time::timeout(wait, request.send()).await {
            Ok(sent) => sent.map_err(|error| failed(&error)),
            Err(_) => Err(RequestError::stalled(&to.url, wait)),
        }
    }

    fn check(
        &self,
        response: reqwest::Response,
        at: Resolved,
        asked: Asked,
        resolved_earlier: bool,
    ) -> Result<Answer, RequestError> {
        let headers = response.headers();
        let url = || at.url.clone();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(printable);
        let status = response.status();
        match status.as_u16() {
            401 | 403 | 407 => {
                let code = text("x-error-code");
                let advice = match status.as_u16() {
                    407 => "the proxy wants a login: check the user and password in the proxy variable"
                        .to_owned(),
                    _ => self.origin.config.credentials.advice(&at.url, code.as_deref()),
                };
                let message = text("x-error-message");
                let status = status.as_u16();
                Err(RequestError::Refused { url: url(), status, code, message, advice, resolved_earlier })
            }
            416 => Err(self.unusable(status, headers, &at, asked)),
            408 | 425 | 429 | 500..=599 => {
                // The Hub says in RateLimit what others say in Retry-After.
                let wait = text("retry-after")
                    .and_then(|value| backoff::retry_after(&value, wall_clock()))
                    .or_else(|| text("ratelimit").and_then(|value| backoff::rate_limit(&value)));
                let message = text("x-error-message");
                Err(RequestError::Busy { url: url(), status: status.as_u16(), message, wait })
            }
            400..=499 => {
                let (code, message) = (text("x-error-code"), text("x-error-message"));
                Err(RequestError::Missing { url: url(), status: status.as_u16(), code, message })
            }
            _ => match judge(status, headers, asked) {
                Ok(shape) => Ok(Answer { shape, etag: strong_etag(headers), resolved: at, response }),
                Err(what) => Err(RequestError::Unusable { url: url(), what }),
            },
        }
    }

    #[expect(clippy::unused_self, reason = "beside its sibling `check`")]
    fn unusable(&self, status: StatusCode, headers: &HeaderMap, at: &Resolved, asked: Asked) -> RequestError {
        let what =
            judge(status, headers, asked).err().unwrap_or(Unusable::Status { status: status.as_u16() });
        RequestError::Unusable { url: at.url.clone(), what }
    }
}

impl Answer {
    /// The next bytes of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RequestError> {
        self.response.chunk().await.map_err(|error| RequestError::transport(&self.resolved.url, &error))
    }

    /// Reads the end of a body whose bytes have all been taken, so that its connection can be used again. False
    /// where something follows, or nothing ends it within a moment.
    pub async fn end(mut self) -> bool {
        let moment = Duration::from_millis(200);
        matches!(tokio::time::timeout(moment, self.response.chunk()).await, Ok(Ok(None)))
    }

    /// The failure of a body in which nothing moved for `wait`.
    pub fn stalled(&self, wait: Duration) -> RequestError {
        RequestError::stalled(&self.resolved.url, wait)
    }

    /// The failure of a body that broke off.
    pub fn broken(&self) -> RequestError {
        RequestError::Transport { host: self.resolved.url.authority(), kind: TransportError::Broken }
    }

    /// The failure of a body that goes on past the file's length.
    pub fn too_long(&self) -> RequestError {
        RequestError::Transport { host: self.resolved.url.authority(), kind: TransportError::TooLong }
    }

    /// The failure of a file that changed between two ranges.
    pub fn changed(&self) -> RequestError {
        RequestError::Unusable { url: self.resolved.url.clone(), what: Unusable::Changed }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Reads the short body of a redirect, so that a relative one is followed over the same connection.
async fn drain(mut response: reqwest::Response) {
    if response.content_length().is_some_and(|length| length <= 16 << 10) {
        let read = async { while matches!(response.chunk().await, Ok(Some(_))) {} };
        let _ = tokio::time::timeout(Duration::from_millis(200), read).await;
    }
}

/// A server's words, made safe to print: no control characters, not longer than a line or two.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "Retry-After may be a date of the wall clock; nothing else is timed by it"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "93.184.215.14:443";

    fn connection(private_redirects: bool) -> Connection {
        Origin::new(OriginConfig { private_redirects, ..OriginConfig::default() }).unwrap().connection()
    }

    fn at(url: &str, public_only: bool) -> Resolved {
        Resolved { url: url.parse().unwrap(), same_origin: true, public_only }
    }

    /// Whether a redirect answered from `peer` is followed to `to`, and if so, whether only to public addresses.
    fn permitted(
        connection: &Connection,
        from: &Resolved,
        to: &str,
        peer: &str,
    ) -> Result<bool, RedirectError> {
        let next = connection.permit(from, to.parse().unwrap(), Some(peer.parse().unwrap()));
        next.map(|next| next.public_only)
    }

    #[test]
    fn fault_47_a_public_origin_leads_to_no_private_address() {
        let connection = connection(false);
        let from = at("https://public.example/x", false);
        for to in [
            "https://127.0.0.1/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://2130706433/",
        ] {
            let refused = permitted(&connection, &from, to, PUBLIC);
            assert!(matches!(refused, Err(RedirectError::Private { .. })), "{to}: {refused:?}");
        }
        assert_eq!(permitted(&connection, &from, "https://1.1.1.1/", PUBLIC), Ok(true));
        // A name is judged by the address that it resolves to, when it is connected to.
        assert_eq!(permitted(&connection, &from, "https://name.example/", PUBLIC), Ok(true));
        // The second hop is no better than the first.
        let second = at("https://name.example/", true);
        assert!(permitted(&connection, &second, "https://10.0.0.1/", PUBLIC).is_err());
    }

    #[test]
    fn fault_47_a_lock_whose_own_address_is_private_may_stay_there_and_so_may_who_is_allowed() {
        let from = at("http://10.0.0.5/x", false);
        assert_eq!(permitted(&connection(false), &from, "http://10.0.0.6/", "10.0.0.5:80"), Ok(false));
        let from = at("https://public.example/x", false);
        assert_eq!(permitted(&connection(true), &from, "https://10.0.0.1/", PUBLIC), Ok(false));
    }

    #[tokio::test]
    async fn fault_47_a_name_that_resolves_to_a_private_address_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://localhost:{}/x", listener.local_addr().unwrap().port());
        let source = "http://public.example/x".parse().unwrap();
        let asked = Asked { range: None, size: 1 };
        let error = connection(false).get(&source, Some(&at(&url, true)), asked).await.unwrap_err();
        assert!(
            matches!(error, RequestError::Redirect { error: RedirectError::Private { .. }, .. }),
            "{error:?}"
        );
        assert_eq!(error.remedy(), super::super::Remedy::Stop);
        assert!(listener.accept().is_err(), "it was not connected to");
    }

    #[tokio::test]
    async fn fault_47_a_resolved_address_keeps_its_restriction() {
        let resolved = at("http://127.0.0.1:9/x", true);
        let next = connection(false).permit(&resolved, "http://10.0.0.1/".parse().unwrap(), None);
        assert!(matches!(next, Err(RedirectError::Private { .. })));
    }
}
