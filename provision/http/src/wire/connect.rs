//! Connections: the addresses of a host, TCP to the first that answers, the proxy, and TLS.
//!
//! The rule against private addresses is applied here to the addresses that a name resolves to, just before TCP
//! connects. A check by name, or at an earlier lookup, could be passed by a name whose address changes in between.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::dns::{Hosts, LookupError, Lookups};
use crate::public_ip::is_public;
use crate::transport::{ConnectError, TransportError};
use crate::wire::http1::{Exchange, Head, Request, RequestHeaders, RequestTarget, Secrets, Socket};
use crate::wire::proxy::{Proxy, ProxyKind, ProxyTable};
use provision_core::source_url::SourceUrl;

/// The time after which the next address is tried beside a silent one (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The interval of TCP keepalive probes, which find a peer that is gone.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);

/// The longest idle time of a connection that is used again; many servers close theirs at this time or later.
pub(crate) const MAX_IDLE: Duration = Duration::from_secs(20);

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) proxies: ProxyTable,
    /// The caller's own names, looked up before `names`.
    pub(crate) hosts: Hosts,
    pub(crate) names: Lookups,
    /// The time limit from the first address to the end of the TLS handshake.
    pub(crate) timeout: Duration,
}

/// An open connection to a host.
pub(crate) struct OpenConnection {
    pub(crate) exchange: Exchange,
    /// The form of the request target on this connection.
    target: RequestTarget,
    /// The other end of the TCP stream: the host, or a proxy.
    pub(crate) peer: SocketAddr,
    /// A proxy is in between, and reads everything that is not encrypted.
    pub(crate) is_proxied: bool,
    /// The time of the last request; the caller sets it.
    pub(crate) last_used: Instant,
    destination: Destination,
}

/// The destination of a connection. Another request may use the connection only if its destination is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    is_encrypted: bool,
    authority: String,
    public_only: bool,
}

impl Destination {
    fn new(url: &SourceUrl, public_only: bool) -> Self {
        Self { is_encrypted: url.is_https(), authority: url.authority(), public_only }
    }
}

impl OpenConnection {
    /// True if the connection can take a request for `url`: same destination, not idle for too long, and not closed.
    pub(crate) fn can_serve(&mut self, url: &SourceUrl, public_only: bool) -> bool {
        self.destination == Destination::new(url, public_only)
            && self.last_used.elapsed() < MAX_IDLE
            && self.exchange.is_ready()
    }

    /// Sends a GET of `url`, for which the connection was made, and reads the head of its answer.
    pub(crate) async fn get(
        &mut self,
        url: &SourceUrl,
        headers: RequestHeaders,
        secrets: &Secrets,
    ) -> Result<Head, TransportError> {
        let request = Request { url: url.as_url(), target: &self.target, headers, secrets };
        self.exchange.send(&request.to_bytes()).await
    }
}

impl From<LookupError> for ConnectError {
    fn from(error: LookupError) -> Self {
        Self::Failed(match error {
            LookupError::Absent => TransportError::Dns,
            LookupError::Unanswered => TransportError::NoNameServer,
        })
    }
}

impl Connector {
    /// Looks up the names that a connection for `url` needs. Call it before the time of the connection starts: the
    /// lookup of a name has a limit of its own. The caller's own names have no limit, and may change with each lookup.
    pub(crate) async fn prepare(&self, url: &SourceUrl) -> Result<(), ConnectError> {
        if !self.hosts.is_empty() {
            return Ok(());
        }
        let proxy = self.proxies.proxy(url);
        let is_direct = proxy.as_ref().is_none_or(|proxy| proxy.kind == ProxyKind::Socks5Local);
        if let Some(proxy) = proxy {
            self.addresses(&proxy.host).await?;
        }
        if is_direct {
            self.addresses(&url.host()).await?;
        }
        Ok(())
    }

    /// Connects to the host of `url`. With `public_only`, it connects to public addresses only; a proxy that
    /// resolves the host chooses its address itself.
    pub(crate) async fn connect(
        &self,
        url: &SourceUrl,
        public_only: bool,
    ) -> Result<OpenConnection, ConnectError> {
        let connecting = self.connect_without_limit(url, public_only);
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(TransportError::Connect.into()),
        }
    }

    async fn connect_without_limit(
        &self,
        url: &SourceUrl,
        public_only: bool,
    ) -> Result<OpenConnection, ConnectError> {
        let opened = |io, target, peer, is_proxied| OpenConnection {
            exchange: Exchange::new(io),
            target,
            peer,
            is_proxied,
            last_used: Instant::now(),
            destination: Destination::new(url, public_only),
        };
        let (host, port) = (url.host(), url.port());
        let Some(proxy) = self.proxies.proxy(url) else {
            let (tcp, peer) = self.tcp(&host, port, public_only).await?;
            let io = if url.is_https() { self.tls(&host, tcp).await? } else { tcp };
            return Ok(opened(io, RequestTarget::Origin, peer, false));
        };
        let (tcp, peer) = self.tcp(&proxy.host, proxy.port, false).await?;
        let io = if proxy.kind == ProxyKind::Https { self.tls(&proxy.host, tcp).await? } else { tcp };
        if proxy.reads_requests() && !url.is_https() {
            return Ok(opened(io, RequestTarget::Absolute(proxy.login()), peer, true));
        }
        let io = self.through(&proxy, io, &host, port, public_only).await?;
        let io = if url.is_https() { self.tls(&host, io).await? } else { io };
        Ok(opened(io, RequestTarget::Origin, peer, true))
    }

    /// A stream to the host through the proxy.
    async fn through(
        &self,
        proxy: &Proxy,
        io: Box<dyn Socket>,
        host: &str,
        port: u16,
        public_only: bool,
    ) -> Result<Box<dyn Socket>, ConnectError> {
        if proxy.reads_requests() {
            return Ok(proxy.tunnel(io, host, port).await?);
        }
        let address = if proxy.kind == ProxyKind::Socks5Local {
            self.permitted(host, public_only).await?.first().copied()
        } else {
            None
        };
        Ok(proxy.socks(io, host, address, port).await?)
    }

    /// The addresses of `host`, in the order in which they are tried; never empty.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        match self.hosts.lookup(host) {
            Some(addresses) if addresses.is_empty() => Err(LookupError::Absent),
            Some(addresses) => Ok(addresses),
            None => self.names.lookup(host).await,
        }
    }

    /// The addresses of `host` to which a request may connect; never empty.
    pub(crate) async fn permitted(&self, host: &str, public_only: bool) -> Result<Vec<IpAddr>, ConnectError> {
        let mut addresses = self.addresses(host).await?;
        if public_only {
            addresses.retain(|address| is_public(*address));
            if addresses.is_empty() {
                return Err(ConnectError::NotPublic);
            }
        }
        Ok(addresses)
    }

    /// An address of `host` to which a request may connect, and which answers. A single address is not tried.
    pub(crate) async fn reachable(
        &self,
        host: &str,
        port: u16,
        public_only: bool,
    ) -> Result<Vec<IpAddr>, ConnectError> {
        let addresses = self.permitted(host, public_only).await?;
        if addresses.len() == 1 {
            return Ok(addresses);
        }
        let (_, peer) = self.first_to_answer(host, addresses, port).await?;
        Ok(vec![peer.ip()])
    }

    /// A stream to the first of these addresses of `host` that answers. If none does, or not in time, the next try
    /// looks the name up again.
    async fn first_to_answer(
        &self,
        host: &str,
        addresses: Vec<IpAddr>,
        port: u16,
    ) -> Result<(TcpStream, SocketAddr), TransportError> {
        // Also when the caller's time limit drops this future.
        let unless_connected = Forgetting { names: &self.names, host };
        let connected = first_to_answer(addresses, port).await?;
        std::mem::forget(unless_connected);
        Ok(connected)
    }

    /// A TCP stream to the host, or to a proxy.
    async fn tcp(
        &self,
        host: &str,
        port: u16,
        public_only: bool,
    ) -> Result<(Box<dyn Socket>, SocketAddr), ConnectError> {
        let addresses = self.permitted(host, public_only).await?;
        let (stream, peer) = self.first_to_answer(host, addresses, port).await?;
        // Errors are ignored: the connection works without these options.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE);
        let _ = rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEPALIVE);
        Ok((Box::new(stream), peer))
    }

    /// TLS over a stream.
    async fn tls(&self, host: &str, io: Box<dyn Socket>) -> Result<Box<dyn Socket>, TransportError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TransportError::Tls)?;
        let connector = TlsConnector::from(self.tls.clone());
        let connected = connector.connect(name, io).await;
        Ok(Box::new(
            connected.map_err(|error| TransportError::of_io(&error).unwrap_or(TransportError::Connect))?,
        ))
    }
}

/// Forgets the addresses of a name when it is dropped.
struct Forgetting<'a> {
    names: &'a Lookups,
    host: &'a str,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.names.forget(self.host);
    }
}

/// A stream to the first address that answers (RFC 8305). The addresses are tried in order; a silent one delays the
/// next by [`NEXT_ADDRESS`] only. The families alternate, because in many networks one of them has no route (fault 36).
async fn first_to_answer(
    addresses: Vec<IpAddr>,
    port: u16,
) -> Result<(TcpStream, SocketAddr), TransportError> {
    let mut remaining = alternating(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = TransportError::Connect;
    loop {
        // The first address, the next one after a failure, or the next one beside a silent attempt.
        if let Some(address) = remaining.next() {
            let address = SocketAddr::new(address, port);
            attempts.spawn(async move { TcpStream::connect(address).await.map(|stream| (stream, address)) });
        }
        if attempts.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => {
                    let kind = TransportError::of_io(&error).unwrap_or(TransportError::Connect);
                    // A refusal says more than a missing route: the host exists.
                    if failure != TransportError::ConnectRefused {
                        failure = kind;
                    }
                }
                Err(_) => {}
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if remaining.len() > 0 => {}
        }
    }
}

/// The addresses in an order in which the families alternate; within a family the order stays.
fn alternating(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &[&str]) -> Vec<IpAddr> {
        text.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn address_families_alternate_and_the_first_stays_first() {
        let found = alternating(ips(&["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"]));
        assert_eq!(found, ips(&["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]));
        assert_eq!(alternating(ips(&["1.1.1.1"])), ips(&["1.1.1.1"]));
    }

    #[tokio::test]
    async fn a_name_that_the_caller_resolves_skips_the_system_resolver() {
        let hosts = [("known.invalid", ips(&["127.0.0.9", "::1"])), ("gone.invalid", Vec::new())];
        let connector = Connector {
            tls: Arc::new(crate::tls::client_config(&crate::tls::Roots::Bundled).unwrap()),
            proxies: ProxyTable::new(&crate::wire::proxy::Proxies::default()).unwrap(),
            hosts: hosts.into_iter().collect(),
            names: crate::dns::lookups(Duration::from_secs(5)),
            timeout: Duration::from_secs(5),
        };
        assert_eq!(connector.addresses("known.invalid").await, Ok(ips(&["127.0.0.9", "::1"])));
        assert_eq!(connector.addresses("gone.invalid").await, Err(LookupError::Absent));
        assert_eq!(connector.addresses("127.0.0.7").await, Ok(ips(&["127.0.0.7"])));
    }

    #[tokio::test]
    async fn fault_109_addresses_that_do_not_connect_are_forgotten() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // The name moves from a closed port to an open one.
        let moves = std::sync::Mutex::new(ips(&["127.0.0.1", "127.0.0.9"]));
        let connector = Connector {
            tls: Arc::new(crate::tls::client_config(&crate::tls::Roots::Bundled).unwrap()),
            proxies: ProxyTable::new(&crate::wire::proxy::Proxies::default()).unwrap(),
            hosts: Hosts::default(),
            names: Lookups::new(Duration::from_secs(5), move |_, running| {
                running.end(Ok(vec![moves.lock().unwrap().pop().unwrap()]));
            }),
            timeout: Duration::from_secs(5),
        };
        let url: SourceUrl = format!("http://moves.example:{port}/x").parse().unwrap();
        assert!(connector.connect(&url, false).await.is_err());
        assert_eq!(connector.connect(&url, false).await.unwrap().peer.port(), port);
        assert!(connector.connect(&url, false).await.is_ok(), "it is remembered");
    }

    #[tokio::test]
    async fn fault_36_a_refused_address_does_not_hide_the_next() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, peer) = first_to_answer(ips(&["127.0.0.9", "127.0.0.1"]), port).await.unwrap();
        assert_eq!(peer.ip(), ips(&["127.0.0.1"])[0]);
        let refused = first_to_answer(ips(&["127.0.0.9", "127.0.0.8"]), port).await;
        assert_eq!(refused.err(), Some(TransportError::ConnectRefused));
    }

    /// 240.0.0.0/4 has no route or no answer, depending on the machine.
    #[tokio::test]
    async fn fault_36_a_silent_address_does_not_delay_the_next() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, peer) = first_to_answer(ips(&["100::1", "240.0.0.1", "127.0.0.1"]), port).await.unwrap();
        assert_eq!(peer.ip(), ips(&["127.0.0.1"])[0]);
    }
}
