//! The HTTP client: the configuration of a run, its connections, redirects and credentials.
//!
//! An [`HttpClient`] holds what all requests of a run share. A [`Connection`] is at most one open connection, which it keeps
//! from request to request. This file sends one request and judges its redirect; `api` and `body` build on it.
//!
//! A credential goes to its own host only, and past no redirect to another host, port or scheme. Once a public address has
//! answered, no redirect leads to a private one. Both rules are checked here, for every request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{self, HeaderValue};
use tokio::time::Instant;
use url::Url;

use crate::auth::bearer::Tokens;
use crate::auth::credentials::{Credentials, Secret};
use crate::dns::{Hosts, Names};
use crate::error::RequestError;
use crate::host_rules;
use crate::public_ip::is_public;
use crate::redirect::{RedirectError, follow};
use crate::tls::{Roots, RootsError, client_config};
use crate::transport::TransportError;
use crate::wire::connect::{Connector, OpenConnection};
use crate::wire::http1::{Head, Request};
use crate::wire::proxy::{Proxies, ProxyError, ProxyTable};
use provision_core::byte_range::ByteRange;
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;
use provision_core::terminal_text;

/// The time limit for the rest of a short body, and for the end of a body whose bytes have all come.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest rest of a body that is read to keep its connection, in bytes.
const LONGEST_DRAIN: usize = 16 << 10;

/// The configuration that all requests of a run share.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The credentials, each for its host.
    pub credentials: Credentials,
    /// The proxies, as the environment variables name them.
    pub proxies: Proxies,
    /// The trusted certificate authorities.
    pub roots: Roots,
    /// Replaced hosts: requests to `https://HOST/…` go below this URL instead (`HF_ENDPOINT`).
    pub endpoints: Vec<(String, SourceUrl)>,
    /// Names that the caller resolves itself, before the system's resolver.
    pub hosts: Hosts,
    /// The time limit for a connection.
    pub connect_timeout: Duration,
    /// The time limit for an answer's head.
    pub head_timeout: Duration,
    /// The time limit for a whole document: a lock, a listing, a token.
    pub document_timeout: Duration,
    /// Lets a public host redirect to a private address. For embedders and tests.
    pub private_redirects: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            credentials: Credentials::none(),
            proxies: Proxies::default(),
            roots: Roots::Bundled,
            endpoints: Vec::new(),
            hosts: Hosts::default(),
            connect_timeout: Duration::from_secs(15),
            head_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_mins(2),
            private_redirects: false,
        }
    }
}

/// A configuration from which no client can be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificates.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A proxy variable.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// The shared half of a run's requests: configuration, connector and registry tokens.
pub struct HttpClient {
    pub(crate) config: ClientConfig,
    connector: Connector,
    pub(crate) tokens: Tokens,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("config", &self.config).finish_non_exhaustive()
    }
}

/// At most one open connection, kept from request to request.
pub struct Connection {
    pub(crate) client: Arc<HttpClient>,
    open: Option<OpenConnection>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("client", &self.client).finish_non_exhaustive()
    }
}

/// The end of a redirect chain. A file's connections share it until it expires.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub(crate) url: SourceUrl,
    /// No hop left the scheme, host and port of the source, so its credential may be sent.
    pub(crate) same_origin: bool,
    /// A public address has answered, so the connection must go to a public one.
    pub(crate) public_only: bool,
    /// The URLs before this one, from the source's own. The host may have received their queries in a redirect.
    past: Vec<SourceUrl>,
}

/// The headers in which requests differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestHeaders {
    /// `Range`.
    pub(crate) range: Option<ByteRange>,
    /// `Accept`.
    pub(crate) accept: &'static str,
}

impl Resolved {
    /// A chain that begins and, so far, ends at `url`.
    pub(crate) fn first(url: SourceUrl) -> Self {
        Self { url, same_origin: true, public_only: false, past: Vec::new() }
    }

    /// Every URL of the chain, the last included.
    pub fn urls(&self) -> impl Iterator<Item = &SourceUrl> {
        self.past.iter().chain([&self.url])
    }

    /// The last URL, for messages and for counting connections by host.
    pub fn url(&self) -> &SourceUrl {
        &self.url
    }
}

impl HttpClient {
    /// Builds a client. It does not touch the network.
    pub fn new(config: ClientConfig) -> Result<Arc<Self>, ClientError> {
        let connector = Connector {
            tls: Arc::new(client_config(&config.roots)?),
            proxies: ProxyTable::new(&config.proxies)?,
            hosts: config.hosts.clone(),
            // Less than the connection's limit, so that silent name servers are reported as such and not as a silent host.
            names: Names::new(config.connect_timeout.mul_f64(0.8)),
            timeout: config.connect_timeout,
        };
        Ok(Arc::new(Self { config, connector, tokens: Tokens::default() }))
    }

    /// A new connection; it connects with its first request.
    pub fn connection(self: &Arc<Self>) -> Connection {
        Connection { client: self.clone(), open: None }
    }

    /// The redactor for text from the hosts of `urls`: every secret that the client may have sent them.
    pub fn redactor<'u>(&self, urls: impl Iterator<Item = &'u SourceUrl>) -> Redactor {
        let mut redactor = Redactor::default();
        self.config.credentials.add_to(&mut redactor);
        self.config.proxies.add_to(&mut redactor);
        self.tokens.add_to(&mut redactor);
        redactor.add_queries(urls);
        redactor
    }

    /// The URL to request for `source`: below its host's endpoint, if the host is replaced.
    pub(crate) fn effective(&self, source: &SourceUrl) -> SourceUrl {
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
    /// A new connection of the same client.
    #[must_use]
    pub fn another(&self) -> Self {
        self.client.connection()
    }

    /// Sends a request to `to` within the head's time limit, and returns the answer's head and the peer's address. `token` is
    /// a registry's; without one, the host's own credential is sent.
    pub(crate) async fn send_with(
        &mut self,
        to: &Resolved,
        headers: RequestHeaders,
        token: Option<&Secret>,
    ) -> Result<(Head, IpAddr), RequestError> {
        let wait = self.client.config.head_timeout;
        match tokio::time::timeout(wait, self.send_without_limit(to, headers, token)).await {
            Ok(sent) => sent,
            Err(_) => Err(RequestError::stalled(&to.url, wait)),
        }
    }

    async fn send_without_limit(
        &mut self,
        to: &Resolved,
        headers: RequestHeaders,
        token: Option<&Secret>,
    ) -> Result<(Head, IpAddr), RequestError> {
        let client = self.client.clone();
        let open = self.open(to).await?;
        // A plain http request through a proxy would show the secret to the proxy, also one to a loopback URL.
        let is_exposed = open.is_proxied && !to.url.is_https();
        let secret = (to.same_origin && !is_exposed)
            .then(|| token.or_else(|| client.config.credentials.authorization(&to.url)))
            .flatten();
        let authorization = secret.and_then(|secret| HeaderValue::from_str(secret.reveal()).ok());
        let request = Request {
            url: to.url.as_url(),
            target: &open.target,
            accept: headers.accept,
            range: headers.range.map(ByteRange::to_header),
            authorization: authorization.as_ref(),
        };
        let head = open.exchange.send(&request.to_bytes()).await;
        let head = head.map_err(|kind| RequestError::transport(&to.url, kind))?;
        Ok((head, open.peer.ip()))
    }

    /// The open connection, if it can take a request for `to`; otherwise a new one.
    async fn open(&mut self, to: &Resolved) -> Result<&mut OpenConnection, RequestError> {
        let kept = self.open.take();
        let kept = kept.and_then(|mut open| open.can_serve(&to.url, to.public_only).then_some(open));
        let open = if let Some(open) = kept {
            open
        } else {
            let connected = self.client.connector.connect(&to.url, to.public_only).await;
            connected.map_err(|error| RequestError::unconnected(&to.url, error))?
        };
        let open = self.open.insert(open);
        open.last_used = Instant::now();
        Ok(open)
    }

    /// Reads the next bytes of the current body; 0 at its end.
    pub(crate) async fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        match &mut self.open {
            Some(open) => open.exchange.read(into).await,
            None => Err(TransportError::Broken),
        }
    }

    /// True if the current body has ended and the connection stays open.
    pub(crate) fn is_over(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.exchange.is_over())
    }

    /// The next bytes of the current body, at most `limit`, as far as they come within [`DRAIN_TIMEOUT`].
    pub(crate) async fn read_prefix(&mut self, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; limit];
        let mut read = 0;
        let reading = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while read < bytes.len() {
                match self.read(&mut bytes[read..]).await {
                    Ok(more) if more > 0 => read += more,
                    _ => break,
                }
            }
        });
        let _ = reading.await;
        bytes.truncate(read);
        bytes
    }

    /// Reads the short body of a redirect, so that a redirect to the same host uses the same connection.
    pub(crate) async fn drain(&mut self) {
        self.read_prefix(LONGEST_DRAIN).await;
    }

    /// Closes the connection, because the rest of its body is not worth reading.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// The next hop of the redirect chain `at`, from the redirect in `head`, which `peer` sent.
    pub(crate) fn next(&self, head: &Head, at: &Resolved, peer: IpAddr) -> Result<Resolved, RequestError> {
        let location = head.headers.get(header::LOCATION).map(HeaderValue::as_bytes);
        let next = follow(&at.url, location).and_then(|next| self.permit(at, next, peer));
        let error = match next {
            Ok(next) => return Ok(next),
            Err(RedirectError::Location(why)) => {
                RedirectError::Location(self.client.redactor(at.urls()).redact(&why).into_owned())
            }
            Err(error) => error,
        };
        Err(RequestError::Redirect { url: at.url.clone(), error })
    }

    /// The hop to `next`, if the rules allow it after an answer from `peer`.
    pub(crate) fn permit(
        &self,
        from: &Resolved,
        next: SourceUrl,
        peer: IpAddr,
    ) -> Result<Resolved, RedirectError> {
        let redactor = self.client.redactor(from.urls());
        if redactor.contains_secret(&next.host()) {
            // A lookup of that name would send the secret to the name servers.
            return Err(RedirectError::Location(
                "the host name contains a secret of this request".to_owned(),
            ));
        }
        let public_only = !self.client.config.private_redirects && (from.public_only || is_public(peer));
        if public_only && next.ip().is_some_and(|address| !is_public(address)) {
            return Err(RedirectError::Private { host: next.host() });
        }
        let same_origin = from.same_origin && next.is_same_origin(&from.url);
        let next = next.with_path_shown(|path| redactor.redact(path));
        let past = from.urls().cloned().collect();
        Ok(Resolved { url: next, same_origin, public_only, past })
    }

    /// The failure that a status means for any request; `None` for a status whose head has to be validated.
    pub(crate) fn failure(&self, head: &Head, at: &Resolved, resolved_earlier: bool) -> Option<RequestError> {
        let headers = &head.headers;
        let url = || at.url.clone();
        let credentials = &self.client.config.credentials;
        let redactor = || self.client.redactor(at.urls());
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(one_line(&redactor().redact(value)))
        };
        let (code, message) = (|| text(host_rules::ERROR_CODE), || text(host_rules::ERROR_MESSAGE));
        let status = head.status.as_u16();
        match status {
            403 if host_rules::is_rate_limit(status, headers) => {
                let wait = host_rules::rate_limit_wait(headers, wall_clock());
                Some(RequestError::Busy { url: url(), status, message: message(), wait })
            }
            401 | 403 | 407 => {
                let code = code();
                let has_login = credentials.authorization(&at.url).is_some();
                let advice = if status == 407 {
                    "the proxy wants a login: check the user and password in the proxy variable".to_owned()
                } else {
                    let unread = credentials.unread();
                    let advice = host_rules::advice(&at.url, code.as_deref(), has_login, unread);
                    // The advice quotes the URL, which may have come from the host.
                    redactor().redact(&advice).into_owned()
                };
                Some(RequestError::Refused {
                    url: url(),
                    status,
                    code,
                    message: message(),
                    advice,
                    with_login: at.same_origin && has_login,
                    resolved_earlier,
                })
            }
            416 => None,
            408 | 425 | 429 | 500..=599 => {
                let wait = host_rules::busy_wait(headers, wall_clock());
                Some(RequestError::Busy { url: url(), status, message: message(), wait })
            }
            400..=499 => {
                // GitHub answers 404 for the assets of a private repository to a request without a token.
                let needs_token =
                    host_rules::is_github_asset(&at.url) && credentials.authorization(&at.url).is_none();
                let hint =
                    needs_token.then(|| "an asset of a private repository needs GITHUB_TOKEN".to_owned());
                Some(RequestError::Missing { url: url(), status, code: code(), message: message().or(hint) })
            }
            _ => None,
        }
    }
}

/// True for a status that redirects.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// A server's text without unsafe characters, cut to a line or two.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().filter(|c| !terminal_text::is_unsafe(*c)).take(200).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "Retry-After may be a date of the wall clock; nothing else is timed by it"
)]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
