//! The pool: requests of documents over reqwest, with kept connections.
//!
//! reqwest sends the request and reads the answer. All decisions about a request are shared with the bodies of model
//! files:
//! - Names: the pool looks a host up and finds an address that answers before reqwest connects. reqwest tries addresses
//!   of one family one after the other, so a silent first address would cost seconds (fault 36). Its resolver knows the
//!   found ones only.
//! - Private addresses: requests for public addresses have a client, and so connections, of their own (fault 47). A
//!   proxy chooses the host's address itself.
//! - Certificates: reqwest uses our TLS configuration.
//! - Failures: the kind comes from the types in the error's chain, never from a text.
//! - Odd heads: reqwest refuses them without a name. The wire client sends the request again, and either reads the head
//!   or names the header (fault 93).
//! - Proxies: reqwest asks our table. It has only a text for a refused CONNECT or SOCKS request, and speaks less of
//!   both than the wire client: no IPv6 literal over TLS, no SOCKS 4 user, no 2xx but 200. Where it fails, the wire
//!   client makes the connection, and either has a kind for the failure or carries the request.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

use crate::credential_service::ServiceRequest;
use crate::transport::{ConnectError, TransportError};
use crate::wire::connect::{Connector, KEEPALIVE, MAX_IDLE, OpenConnection};
use crate::wire::http1::{MAX_FIELDS, RequestHeaders, Secrets, USER_AGENT};
use crate::wire::proxy::{Proxy, ProxyKind};
use crate::wire::{DRAIN_TIMEOUT, LONGEST_DRAIN};
use provision_core::source_url::SourceUrl;

/// The idle connections that are kept for a host.
const IDLE_PER_HOST: usize = 4;

/// The clients.
pub(crate) struct Pool {
    connector: Arc<Connector>,
    any: Client,
    public: Client,
    /// Past the proxies.
    direct: Client,
}

/// A client of reqwest, and the addresses to which it may connect.
struct Client {
    requests: reqwest::Client,
    addresses: Arc<Addresses>,
}

/// An answer: its head, and its body still to be read. Dropping it closes the connection.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The other end of the TCP stream: the host, or a proxy.
    pub(crate) peer: Option<IpAddr>,
    body: Body,
}

/// A request that reqwest did not carry.
enum Failed {
    Known(ConnectError),
    /// reqwest does not say more. The wire client may carry it, within this time.
    Odd(ConnectError, Duration),
}

/// A body, by the client that reads it.
enum Body {
    Pooled(reqwest::Response),
    Own(Box<OpenConnection>),
}

impl Answer {
    fn pooled(mut response: reqwest::Response) -> Self {
        Self {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            peer: response.remote_addr().map(|peer| peer.ip()),
            body: Body::Pooled(response),
        }
    }

    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, TransportError> {
        match &mut self.body {
            Body::Pooled(response) => {
                response.chunk().await.map_err(|error| kind(&error).unwrap_or(TransportError::Broken))
            }
            Body::Own(open) => {
                let mut block = vec![0; 64 << 10];
                let read = open.exchange.read(&mut block).await?;
                block.truncate(read);
                Ok((read > 0).then(|| block.into()))
            }
        }
    }

    /// Reads the rest of a short body, so that its connection is kept.
    pub(crate) async fn drain(mut self) {
        self.prefix(LONGEST_DRAIN).await;
    }

    /// The beginning of the body, about `limit` bytes, as far as it comes within [`DRAIN_TIMEOUT`]. A short body is
    /// read to its end, so that its connection is kept.
    pub(crate) async fn prefix(&mut self, limit: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let reading = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while let Ok(Some(chunk)) = self.chunk().await {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > limit {
                    break;
                }
            }
        });
        let _ = reading.await;
        bytes
    }
}

impl Pool {
    /// Builds the clients. It does not touch the network.
    pub(crate) fn new(connector: Arc<Connector>) -> reqwest::Result<Self> {
        let [any, public] = [Client::new(&connector, true)?, Client::new(&connector, true)?];
        Ok(Self { any, public, direct: Client::new(&connector, false)?, connector })
    }

    /// Sends a request to a service, and returns the answer's head. The caller limits the time.
    pub(crate) async fn ask(
        &self,
        request: &ServiceRequest,
        public_only: bool,
    ) -> Result<Answer, ConnectError> {
        let url = &request.url;
        let proxy = self.connector.proxies.proxy(url).filter(|_| !request.direct);
        let client = match &proxy {
            None if request.direct => &self.direct,
            None if public_only => &self.public,
            _ => &self.any,
        };
        client.find_addresses(&self.connector, url, proxy.as_ref(), public_only).await?;
        let method = Method::from_bytes(request.method.as_bytes()).unwrap_or_default();
        let mut asking = client.requests.request(method, url.as_url().clone());
        asking = asking.headers(fields(
            RequestHeaders { range: None, accept: "*/*" },
            &Secrets { authorization: None, cookie: None },
        ));
        for (name, value) in &request.headers {
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| TransportError::NotHttp)?;
            value.set_sensitive(true);
            asking = asking.header(*name, value);
        }
        if let Some(form) = &request.form {
            asking = asking.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            asking = asking.body(form.reveal().to_owned());
        }
        let failed = |error: reqwest::Error| {
            let other = if error.is_connect() { TransportError::Connect } else { TransportError::Broken };
            kind(&error).unwrap_or(other)
        };
        Ok(Answer::pooled(asking.send().await.map_err(failed)?))
    }

    /// Looks up the names for a request, unless its addresses are known.
    pub(crate) async fn prepare(&self, url: &SourceUrl, public_only: bool) -> Result<(), ConnectError> {
        let proxy = self.connector.proxies.proxy(url);
        let client = if public_only && proxy.is_none() { &self.public } else { &self.any };
        let (host, port) = proxy.map_or_else(|| (url.host(), url.port()), |proxy| (proxy.host, proxy.port));
        if client.addresses.has(&host, port) { Ok(()) } else { self.connector.prepare(url).await }
    }

    /// Sends a GET to `url`, and returns the answer's head. With `public_only`, it connects to public addresses
    /// only; a proxy chooses the host's address itself. The caller limits the time.
    pub(crate) async fn get(
        &self,
        url: &SourceUrl,
        headers: RequestHeaders,
        secrets: &Secrets,
        public_only: bool,
    ) -> Result<Answer, ConnectError> {
        match self.attempt(Method::GET, url, fields(headers, secrets), None, public_only).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Known(error)) => Err(error),
            Err(Failed::Odd(_, limit)) => self.get_alone(url, headers, secrets, public_only, limit).await,
        }
    }

    /// Sends a request with these fields and this body, as [`Pool::get`] does. The wire client, which sends no bodies,
    /// does not help.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &SourceUrl,
        fields: HeaderMap,
        body: Option<reqwest::Body>,
        public_only: bool,
    ) -> Result<Answer, ConnectError> {
        let sent = self.attempt(method, url, fields, body, public_only).await;
        sent.map_err(|(Failed::Known(error) | Failed::Odd(error, _))| error)
    }

    async fn attempt(
        &self,
        method: Method,
        url: &SourceUrl,
        fields: HeaderMap,
        body: Option<reqwest::Body>,
        public_only: bool,
    ) -> Result<Answer, Failed> {
        let proxy = self.connector.proxies.proxy(url);
        // Without a proxy, so that this client knows no address of a proxy or of a name that a proxy resolves.
        let client = if public_only && proxy.is_none() { &self.public } else { &self.any };
        let began = Instant::now();
        let finding = client.find_addresses(&self.connector, url, proxy.as_ref(), public_only);
        let found = tokio::time::timeout(self.connector.timeout, finding).await;
        found.unwrap_or(Err(TransportError::Connect.into())).map_err(Failed::Known)?;
        let mut request = client.requests.request(method, url.as_url().clone()).headers(fields);
        if let Some(body) = body {
            request = request.body(body);
        }
        let error = match request.send().await {
            Ok(response) => return Ok(Answer::pooled(response)),
            Err(error) => error,
        };
        if !error.is_connect() {
            return Err(match kind(&error).unwrap_or(TransportError::Broken) {
                kind @ TransportError::NotHttp => Failed::Odd(kind.into(), self.connector.timeout),
                kind => Failed::Known(kind.into()),
            });
        }
        let host = proxy.as_ref().map_or_else(|| url.host(), |proxy| proxy.host.clone());
        client.addresses.forget(&host);
        self.connector.names.forget(&host);
        let left = self.connector.timeout.saturating_sub(began.elapsed());
        Err(match kind(&error) {
            Some(kind) => Failed::Known(kind.into()),
            None if proxy.is_none() || left.is_zero() => Failed::Known(TransportError::Connect.into()),
            None => Failed::Odd(TransportError::Proxy.into(), left),
        })
    }

    /// The same over a connection of the wire client, which is made within `limit`.
    async fn get_alone(
        &self,
        url: &SourceUrl,
        headers: RequestHeaders,
        secrets: &Secrets,
        public_only: bool,
        limit: Duration,
    ) -> Result<Answer, ConnectError> {
        let connected = tokio::time::timeout(limit, self.connector.connect(url, public_only)).await;
        let mut open = connected.unwrap_or(Err(TransportError::Connect.into()))?;
        let head = open.get(url, headers, secrets).await?;
        let (peer, body) = (Some(open.peer.ip()), Body::Own(Box::new(open)));
        Ok(Answer { status: head.status, headers: head.headers, peer, body })
    }
}

/// The fields of a request.
fn fields(headers: RequestHeaders, secrets: &Secrets) -> HeaderMap {
    let range = headers.range.and_then(|range| HeaderValue::try_from(range.to_header()).ok());
    let fields = [
        (header::USER_AGENT, Some(HeaderValue::from_static(USER_AGENT))),
        (header::ACCEPT, Some(HeaderValue::from_static(headers.accept))),
        (header::ACCEPT_ENCODING, Some(HeaderValue::from_static("identity"))),
        (header::RANGE, range),
        (header::AUTHORIZATION, secrets.authorization.clone()),
        (header::COOKIE, secrets.cookie.clone()),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

impl Client {
    fn new(connector: &Arc<Connector>, is_proxied: bool) -> reqwest::Result<Self> {
        let addresses = Arc::new(Addresses::default());
        let proxies = connector.clone();
        let proxy = reqwest::Proxy::custom(move |url| {
            let url = SourceUrl::from_url(url.clone()).ok().filter(|_| is_proxied)?;
            Some(proxies.proxies.proxy(&url)?.to_url())
        });
        let requests = reqwest::Client::builder()
            .tls_backend_preconfigured((*connector.tls).clone())
            .http1_only()
            .http1_max_headers(MAX_FIELDS)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .proxy(proxy)
            .dns_resolver(addresses.clone())
            .connect_timeout(connector.timeout)
            .pool_idle_timeout(MAX_IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .build()?;
        Ok(Self { requests, addresses })
    }

    /// Finds the addresses for a connection to `url`: those of the host, or of its proxy.
    async fn find_addresses(
        &self,
        connector: &Connector,
        url: &SourceUrl,
        proxy: Option<&Proxy>,
        public_only: bool,
    ) -> Result<(), ConnectError> {
        let Some(proxy) = proxy else {
            return self.addresses.find(connector, &url.host(), url.port(), public_only).await;
        };
        if proxy.kind == ProxyKind::Socks5Local {
            let addresses = connector.permitted(&url.host(), public_only).await?;
            self.addresses.keep(&url.host(), url.port(), addresses);
        }
        self.addresses.find(connector, &proxy.host, proxy.port, false).await
    }
}

/// The found addresses of hosts: the resolver of a client. Any other name does not resolve, so no lookup goes past the
/// pool.
#[derive(Default)]
struct Addresses(Mutex<HashMap<String, Found>>);

struct Found {
    port: u16,
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Addresses {
    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the addresses of `host`, unless they were found as recently as its idle connections are kept.
    async fn find(
        &self,
        connector: &Connector,
        host: &str,
        port: u16,
        public_only: bool,
    ) -> Result<(), ConnectError> {
        // The client decides about `public_only`: all entries of the one for public addresses are public.
        if self.has(host, port) {
            return Ok(());
        }
        self.keep(host, port, connector.reachable(host, port, public_only).await?);
        Ok(())
    }

    fn has(&self, host: &str, port: u16) -> bool {
        let is_usable = |found: &Found| found.port == port && found.at.elapsed() < MAX_IDLE;
        self.hosts().get(host).is_some_and(is_usable)
    }

    fn keep(&self, host: &str, port: u16, addresses: Vec<IpAddr>) {
        self.hosts().insert(host.to_owned(), Found { port, addresses, at: Instant::now() });
    }

    fn forget(&self, host: &str) {
        self.hosts().remove(host);
    }
}

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.hosts().get(name.as_str()).map(|found| found.addresses.clone());
        Box::pin(async move {
            let addresses = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

/// The kind of an error, by the types in its chain; `None` if none of them tells.
fn kind(error: &reqwest::Error) -> Option<TransportError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(kind) = error.downcast_ref().and_then(TransportError::of_io) {
            return Some(kind);
        }
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse() => return Some(TransportError::NotHttp),
            Some(error) if error.is_incomplete_message() => return Some(TransportError::Broken),
            // A host that speaks first. hyper has a kind for it, but no question about that kind.
            Some(error) if error.source().is_none() && !is_closing(error) => {
                return Some(TransportError::NotHttp);
            }
            _ => cause = error.source(),
        }
    }
    None
}

/// True for the kinds of an error without a cause that are about this side, or about a connection that ends.
fn is_closing(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_user() || error.is_shutdown() || error.is_timeout()
}
