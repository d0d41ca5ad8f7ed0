//! Requests: one connection at a time, our own redirects, credentials for their own hosts only.

mod reading;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{self, HeaderValue};
use tokio::time::Instant;
use url::Url;

use crate::auth::bearer::{Challenge, Tokens};
use crate::auth::credentials::{Credentials, Secret};
use crate::dns::{Hosts, Names};
use crate::error::{BodyPrefix, RequestError, ResponseError, TransportError};
use crate::hub_headers;
use crate::public_ip::is_public;
use crate::redirect::{MAX_HOPS, RedirectError, follow};
use crate::response::{ExpectedBody, judge, strong_etag};
use crate::tls::{Roots, RootsError, client_config};
use crate::wire::connect::{Connector, Line};
use crate::wire::http1::{Head, Request};
use crate::wire::proxy::{Proxies, ProxyError, ProxyTable};
use provision_core::backoff;
use provision_core::byte_range::ByteRange;
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;
pub use reading::{Answer, BodyEnd};

/// How long a connection may lie idle and still be used: many servers close theirs after this, or a little later.
const IDLE: Duration = Duration::from_secs(20);

/// How long the rest of a short body, or the end of one whose bytes are all there, is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// What every request of a run shares.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Which secret goes to which host.
    pub credentials: Credentials,
    /// Proxies, as the environment names them.
    pub proxies: Proxies,
    /// Certificate authorities.
    pub roots: Roots,
    /// Hosts that stand in for others: requests to `https://HOST/…` go below this address instead (`HF_ENDPOINT`).
    pub endpoints: Vec<(String, SourceUrl)>,
    /// Asked for a name's addresses before the system's resolver: for callers of the library, such as tests.
    pub hosts: Hosts,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for an answer's head.
    pub head_timeout: Duration,
    /// The longest wait for the whole of a short document: a lock, a listing, a token.
    pub document_timeout: Duration,
    /// Whether a public host may redirect into a private network.
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

/// An origin that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificates.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A proxy variable.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Makes connections that share one configuration.
pub struct HttpClient {
    pub(super) config: ClientConfig,
    connector: Connector,
    /// What registries' token services gave.
    tokens: Tokens,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("config", &self.config).finish_non_exhaustive()
    }
}

/// One TCP stream at a time, kept open from request to request.
pub struct Connection {
    pub(super) origin: Arc<HttpClient>,
    live: Option<Live>,
}

/// An open connection to a host.
struct Live {
    line: Line,
    to: Route,
    /// When it was last used.
    used: Instant,
}

/// What must be the same for a connection to serve another request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    encrypted: bool,
    authority: String,
    public_only: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Where a source led: shared by a file's connections until it expires.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub(super) url: SourceUrl,
    /// No hop left the source's own scheme, host and port.
    pub(super) same_origin: bool,
    /// The source is on a public address, so this must be too.
    pub(super) public_only: bool,
    /// The addresses that led here, from the source's own: they were told to whoever is asked now, for all that is known.
    past: Vec<SourceUrl>,
}

/// What a request asks for, beside its address.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestHeaders {
    /// `Range`.
    pub(super) range: Option<ByteRange>,
    /// `Accept`.
    pub(super) accept: &'static str,
}

impl Resolved {
    /// Where a source's own address leads: to itself, until it redirects.
    pub(super) fn first(url: SourceUrl) -> Self {
        Self { url, same_origin: true, public_only: false, past: Vec::new() }
    }

    /// Whether no hop left the source's own scheme, host and port.
    pub(super) fn is_same_origin(&self) -> bool {
        self.same_origin
    }

    /// Every address on the way, and the last.
    pub fn urls(&self) -> impl Iterator<Item = &SourceUrl> {
        self.past.iter().chain([&self.url])
    }

    /// Where the bytes are, for messages and for counting connections by host.
    pub fn url(&self) -> &SourceUrl {
        &self.url
    }
}

impl HttpClient {
    /// Checks the configuration; no network is touched.
    pub fn new(config: ClientConfig) -> Result<Arc<Self>, ClientError> {
        let connector = Connector {
            tls: Arc::new(client_config(&config.roots)?),
            proxies: ProxyTable::new(&config.proxies)?,
            hosts: config.hosts.clone(),
            // A little less than the connection has: what the name servers did not do is not said of the host.
            names: Names::new(config.connect_timeout.mul_f64(0.8)),
            timeout: config.connect_timeout,
        };
        Ok(Arc::new(Self { config, connector, tokens: Tokens::default() }))
    }

    /// A new connection; it connects with its first request.
    pub fn connection(self: &Arc<Self>) -> Connection {
        Connection { origin: self.clone(), live: None }
    }

    /// What the hosts at these addresses were told, so that it is not shown where they repeat it.
    pub fn redactor<'u>(&self, addresses: impl Iterator<Item = &'u SourceUrl>) -> Redactor {
        let mut told = Redactor::default();
        self.config.credentials.tell(&mut told);
        self.config.proxies.tell(&mut told);
        self.tokens.tell(&mut told);
        told.add_queries(addresses);
        told
    }

    /// The address to ask instead of the lock's, where its host is replaced.
    pub(super) fn effective(&self, source: &SourceUrl) -> SourceUrl {
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
    /// A new connection of the same origin's.
    #[must_use]
    pub fn another(&self) -> Self {
        self.origin.connection()
    }

    /// Asks for `asked` of the file at `source`, or where `resolved` says that it was found earlier. Follows
    /// redirects, checks the head, and leaves the body unread.
    ///
    /// # Errors
    /// Everything that is not a usable answer; its [`remedy`](RequestError::remedy) says what to do.
    pub async fn get(
        &mut self,
        source: &SourceUrl,
        resolved: Option<&Resolved>,
        asked: ExpectedBody,
    ) -> Result<Answer<'_>, RequestError> {
        let first = self.origin.effective(source);
        let mut at = resolved.cloned().unwrap_or_else(|| Resolved::first(first));
        let wish = RequestHeaders { range: asked.range, accept: accept(source) };
        for _ in 0..=MAX_HOPS {
            let (head, peer) = self.send(&at, wish).await?;
            if !is_redirect(head.status) {
                return self.check(&head, at, asked, resolved.is_some()).await;
            }
            hub_headers::check(&head.headers, asked).map_err(|mut what| {
                if let ResponseError::FileChanged(replaced) = &mut what {
                    let told = self.origin.redactor(at.urls());
                    replaced.commit = replaced.commit.take().and_then(|commit| told.harmless(commit));
                }
                RequestError::response(&at.url, what)
            })?;
            at = self.next(&head, &at, peer)?;
            self.drain().await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }

    /// Where a redirect that was answered from `peer` leads.
    pub(super) fn next(&self, head: &Head, at: &Resolved, peer: IpAddr) -> Result<Resolved, RequestError> {
        let location = head.headers.get(header::LOCATION).map(HeaderValue::as_bytes);
        let next = follow(&at.url, location).and_then(|next| self.permit(at, next, peer));
        let error = match next {
            Ok(next) => return Ok(next),
            Err(RedirectError::Location(why)) => {
                RedirectError::Location(self.origin.redactor(at.urls()).conceal(&why).into_owned())
            }
            Err(error) => error,
        };
        Err(RequestError::Redirect { url: at.url.clone(), error })
    }

    /// Whether a redirect that was answered from `peer` may lead to `next`.
    pub(super) fn permit(
        &self,
        from: &Resolved,
        next: SourceUrl,
        peer: IpAddr,
    ) -> Result<Resolved, RedirectError> {
        let told = self.origin.redactor(from.urls());
        if told.is_in_name(&next.host()) {
            // Whoever is asked for that name would be told it.
            return Err(RedirectError::Location("the host's name has a secret in it".to_owned()));
        }
        let public_only = !self.origin.config.private_redirects && (from.public_only || is_public(peer));
        if public_only && next.ip().is_some_and(|address| !is_public(address)) {
            return Err(RedirectError::Private { host: next.host() });
        }
        let same_origin = from.same_origin && next.is_same_origin(&from.url);
        let next = next.with_path_shown(|path| told.conceal(path));
        let past = from.urls().cloned().collect();
        Ok(Resolved { url: next, same_origin, public_only, past })
    }

    /// Sends the request, over the connection that stands if it leads there, and waits for the answer's head. A
    /// registry's demand for a token is met on the way.
    pub(super) async fn send(
        &mut self,
        to: &Resolved,
        wish: RequestHeaders,
    ) -> Result<(Head, IpAddr), RequestError> {
        let token = if to.same_origin { self.origin.tokens.of(&to.url) } else { None };
        let (head, peer) = self.send_with(to, wish, token.as_ref()).await?;
        let challenge = to.same_origin.then(|| Challenge::of(head.status, &head.headers, &to.url)).flatten();
        let Some(challenge) = challenge else { return Ok((head, peer)) };
        // Another connection may have been given one meanwhile.
        let current = self.origin.tokens.of(&to.url).filter(|current| token.as_ref() != Some(current));
        let token = if let Some(token) = current {
            token
        } else {
            self.drain().await;
            let service = self.permit(to, challenge.service.clone(), peer);
            let service = service.map_err(|error| RequestError::Redirect { url: to.url.clone(), error })?;
            // What was asked of the registry says nothing about whom its service may have credentials of.
            let service = Resolved { same_origin: challenge.may_have_credentials, ..service };
            let token = Box::pin(self.obtain_token(&service)).await?;
            self.origin.tokens.keep(&to.url, token.clone());
            token
        };
        self.send_with(to, wish, Some(&token)).await
    }

    pub(super) async fn send_with(
        &mut self,
        to: &Resolved,
        wish: RequestHeaders,
        token: Option<&Secret>,
    ) -> Result<(Head, IpAddr), RequestError> {
        let wait = self.origin.config.head_timeout;
        match tokio::time::timeout(wait, self.send_without_limit(to, wish, token)).await {
            Ok(sent) => sent,
            Err(_) => Err(RequestError::stalled(&to.url, wait)),
        }
    }

    async fn send_without_limit(
        &mut self,
        to: &Resolved,
        wish: RequestHeaders,
        token: Option<&Secret>,
    ) -> Result<(Head, IpAddr), RequestError> {
        let origin = self.origin.clone();
        let live = self.live(to).await?;
        // What is sent to this machine in the clear would go to a proxy in the clear.
        let is_read_on_the_way = live.line.proxied && !to.url.is_https();
        let secret = (to.same_origin && !is_read_on_the_way)
            .then(|| token.or_else(|| origin.config.credentials.authorization(&to.url)))
            .flatten();
        let authorization = secret.and_then(|secret| HeaderValue::from_str(secret.reveal()).ok());
        let request = Request {
            url: to.url.as_url(),
            form: &live.line.form,
            accept: wish.accept,
            range: wish.range.map(ByteRange::to_header),
            authorization: authorization.as_ref(),
        };
        let head = live.line.exchange.ask(&request.to_bytes()).await;
        let head = head.map_err(|kind| RequestError::transport(&to.url, kind))?;
        Ok((head, live.line.peer.ip()))
    }

    /// A connection that leads to `to` and waits for a request.
    async fn live(&mut self, to: &Resolved) -> Result<&mut Live, RequestError> {
        let route = Route {
            encrypted: to.url.is_https(),
            authority: to.url.authority(),
            public_only: to.public_only,
        };
        let kept = self.live.take().filter(|live| live.to == route && live.used.elapsed() < IDLE);
        let kept = kept.and_then(|mut live| live.line.exchange.is_ready().then_some(live));
        let live = if let Some(live) = kept {
            live
        } else {
            let connected = self.origin.connector.connect(&to.url, to.public_only).await;
            let line = connected.map_err(|error| RequestError::unconnected(&to.url, error))?;
            Live { line, to: route, used: Instant::now() }
        };
        let live = self.live.insert(live);
        live.used = Instant::now();
        Ok(live)
    }

    /// The next bytes of the body that is on its way; 0 at its end.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        match &mut self.live {
            Some(live) => live.line.exchange.read(into).await,
            None => Err(TransportError::Broken),
        }
    }

    /// Reads the short body of a redirect, so that a relative one is followed over the same connection.
    pub(super) async fn drain(&mut self) {
        let mut rest = vec![0; 16 << 10];
        let mut read = 0;
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while read < rest.len() {
                match self.read(&mut rest[read..]).await {
                    Ok(more) if more > 0 => read += more,
                    _ => break,
                }
            }
        });
        let _ = drained.await;
    }

    /// Gives the connection up, where the rest of a body is not worth reading.
    pub(super) fn hang_up(&mut self) {
        self.live = None;
    }

    /// How a body that is not used begins, as far as it comes within a moment.
    async fn beginning(&mut self, told: Redactor) -> BodyPrefix {
        let mut bytes = vec![0; 4 << 10];
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
        BodyPrefix { bytes, redactor: told }
    }

    async fn check(
        &mut self,
        head: &Head,
        at: Resolved,
        asked: ExpectedBody,
        resolved_earlier: bool,
    ) -> Result<Answer<'_>, RequestError> {
        if let Some(error) = self.failure(head, &at, resolved_earlier) {
            return Err(error);
        }
        let (status, headers) = (head.status, &head.headers);
        match judge(status, headers, asked) {
            Ok(shape) => {
                Ok(Answer { kind: shape, etag: strong_etag(headers), resolved: at, connection: self })
            }
            Err(what) => {
                let is_from_the_start =
                    status == StatusCode::OK || asked.range.is_none_or(|range| range.start == 0);
                let is_another_file = matches!(what, ResponseError::Html | ResponseError::WrongSize { .. });
                let is_body_of_it = status.is_success() && is_from_the_start && is_another_file;
                let began = if is_body_of_it {
                    self.beginning(self.origin.redactor(at.urls())).await
                } else {
                    BodyPrefix::default()
                };
                Err(RequestError::Response { url: at.url, error: what, prefix: began })
            }
        }
    }

    /// The failure that a status says, whatever was asked for; `None` for an answer that has to be looked at.
    pub(super) fn failure(&self, head: &Head, at: &Resolved, resolved_earlier: bool) -> Option<RequestError> {
        let headers = &head.headers;
        let url = || at.url.clone();
        let credentials = &self.origin.config.credentials;
        let told = || self.origin.redactor(at.urls());
        // For what is done; what is shown goes another way.
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let said = |name: &str| text(name).map(|value| printable(&told().conceal(value)));
        let message = || said("x-error-message");
        let status = head.status.as_u16();
        match status {
            // GitHub's way of saying "too many" to whoever has no more left.
            403 if text("x-ratelimit-remaining") == Some("0") || text("retry-after").is_some() => {
                let wait = text("retry-after")
                    .and_then(|value| backoff::retry_after(value, wall_clock()))
                    .or_else(|| text("x-ratelimit-reset").and_then(reset));
                Some(RequestError::Busy { url: url(), status, message: message(), wait })
            }
            401 | 403 | 407 => {
                let code = said("x-error-code");
                let with_login = at.same_origin && credentials.authorization(&at.url).is_some();
                let advice = match status {
                    407 => "the proxy wants a login: check the user and password in the proxy variable"
                        .to_owned(),
                    // It names a page of the host's, whose address may have come from the host.
                    _ => told().conceal(&credentials.advice(&at.url, code.as_deref())).into_owned(),
                };
                let message = message();
                Some(RequestError::Refused {
                    url: url(),
                    status,
                    code,
                    message,
                    advice,
                    with_login,
                    resolved_earlier,
                })
            }
            416 => None,
            408 | 425 | 429 | 500..=599 => {
                // The Hub says in RateLimit what others say in Retry-After.
                let wait = text("retry-after")
                    .and_then(|value| backoff::retry_after(value, wall_clock()))
                    .or_else(|| text("ratelimit").and_then(backoff::rate_limit));
                Some(RequestError::Busy { url: url(), status, message: message(), wait })
            }
            400..=499 => {
                let code = said("x-error-code");
                // A private repository's is "not found" to strangers.
                let wants_token = is_github_asset(&at.url) && credentials.authorization(&at.url).is_none();
                let hint = wants_token.then(|| "a private repository's asset wants GITHUB_TOKEN".to_owned());
                Some(RequestError::Missing { url: url(), status, code, message: message().or(hint) })
            }
            _ => None,
        }
    }
}

/// What is accepted of the file at `source`: anything, but where GitHub's API has an asset's bytes and its description at one
/// address, the bytes. Only there does a token open a private repository's assets.
pub(super) fn accept(source: &SourceUrl) -> &'static str {
    if is_github_asset(source) { "application/octet-stream" } else { "*/*" }
}

/// Whether it is an asset's address at GitHub's API, or at an enterprise server's.
fn is_github_asset(url: &SourceUrl) -> bool {
    let asset = url.as_url().path().split_once("/releases/assets/");
    asset
        .filter(|(front, _)| front.contains("/repos/"))
        .is_some_and(|(_, id)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}

/// How long until the second since 1970 that `X-RateLimit-Reset` names.
fn reset(value: &str) -> Option<Duration> {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(value.trim().parse().ok()?))?;
    Some(at.duration_since(wall_clock()).unwrap_or(Duration::ZERO))
}

pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// A server's words, made safe to print: no control characters, not longer than a line or two.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "Retry-After may be a date of the wall clock; nothing else is timed by it"
)]
pub(super) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
