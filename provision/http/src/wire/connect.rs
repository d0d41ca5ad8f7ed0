//! A connection to a host: its addresses, TCP to the first that answers, the proxy between, TLS over it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::dns::{Hosts, LookupError, Names};
use crate::error::TransportError;
use crate::public_ip::is_public;
use crate::wire::http1::{Exchange, Form, Socket};
use crate::wire::proxy::{Proxy, ProxyKind, ProxyTable};
use provision_core::source_url::SourceUrl;

/// How long one address has before the next is tried beside it (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// An idle peer that is gone is noticed after this.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) proxies: ProxyTable,
    /// Asked before `names`.
    pub(crate) hosts: Hosts,
    pub(crate) names: Names,
    /// The longest for all of it.
    pub(crate) timeout: Duration,
}

/// A connection to a host, ready for a request.
pub(crate) struct Line {
    pub(crate) exchange: Exchange,
    /// How addresses are written on it.
    pub(crate) form: Form,
    /// Who is at the other end of the TCP stream: the host, or a proxy.
    pub(crate) peer: SocketAddr,
    /// A proxy is between, and reads what is not encrypted.
    pub(crate) proxied: bool,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// The host has none but private addresses, where only public ones are allowed (fault 47).
    NotPublic,
    /// Anything else.
    Failed(TransportError),
}

impl From<TransportError> for ConnectError {
    fn from(error: TransportError) -> Self {
        Self::Failed(error)
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
    /// Connects to the host of `url`. With `public_only`, to no address of a private network; what a proxy connects to
    /// is its own decision.
    pub(crate) async fn connect(&self, url: &SourceUrl, public_only: bool) -> Result<Line, ConnectError> {
        let connecting = self.connect_without_limit(url, public_only);
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(TransportError::Connect.into()),
        }
    }

    async fn connect_without_limit(&self, url: &SourceUrl, public_only: bool) -> Result<Line, ConnectError> {
        let (host, port) = (url.host(), url.port());
        let Some(proxy) = self.proxies.proxy(url) else {
            let (tcp, peer) = self.tcp(&host, port, public_only).await?;
            let io = if url.is_https() { self.tls(&host, tcp).await? } else { tcp };
            return Ok(Line { exchange: Exchange::new(io), form: Form::Origin, peer, proxied: false });
        };
        let (tcp, peer) = self.tcp(&proxy.host, proxy.port, false).await?;
        let io = if proxy.kind == ProxyKind::Https { self.tls(&proxy.host, tcp).await? } else { tcp };
        if proxy.reads_requests() && !url.is_https() {
            return Ok(Line {
                exchange: Exchange::new(io),
                form: Form::Absolute(proxy.login()),
                peer,
                proxied: true,
            });
        }
        let io = self.through(&proxy, io, &host, port).await?;
        let io = if url.is_https() { self.tls(&host, io).await? } else { io };
        Ok(Line { exchange: Exchange::new(io), form: Form::Origin, peer, proxied: true })
    }

    async fn through(
        &self,
        proxy: &Proxy,
        io: Box<dyn Socket>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Socket>, ConnectError> {
        if proxy.reads_requests() {
            return Ok(proxy.tunnel(io, host, port).await?);
        }
        let local = proxy.kind == ProxyKind::Socks5Local;
        let address = if local { self.addresses(host).await?.first().copied() } else { None };
        Ok(proxy.socks(io, host, address, port).await?)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        match self.hosts.lookup(host) {
            Some(addresses) if addresses.is_empty() => Err(LookupError::Absent),
            Some(addresses) => Ok(addresses),
            None => self.names.lookup(host).await,
        }
    }

    async fn tcp(
        &self,
        host: &str,
        port: u16,
        public_only: bool,
    ) -> Result<(Box<dyn Socket>, SocketAddr), ConnectError> {
        let mut addresses = self.addresses(host).await?;
        if public_only {
            addresses.retain(|address| is_public(*address));
            if addresses.is_empty() {
                return Err(ConnectError::NotPublic);
            }
        }
        let (stream, peer) = first_to_answer(addresses, port).await?;
        // Nothing here is worth failing for: these only make a good connection better.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE);
        let _ = rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEPALIVE);
        Ok((Box::new(stream), peer))
    }

    async fn tls(&self, host: &str, io: Box<dyn Socket>) -> Result<Box<dyn Socket>, TransportError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TransportError::Tls)?;
        let connector = TlsConnector::from(self.tls.clone());
        let connected = connector.connect(name, io).await;
        Ok(Box::new(
            connected.map_err(|error| TransportError::of_io(&error).unwrap_or(TransportError::Connect))?,
        ))
    }
}

/// A stream to the first address that answers. One after the other, but none waits for one that is silent, and the
/// families alternate: in many networks one of them leads nowhere (fault 36; RFC 8305).
async fn first_to_answer(
    addresses: Vec<IpAddr>,
    port: u16,
) -> Result<(TcpStream, SocketAddr), TransportError> {
    let mut left = alternating(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = TransportError::Connect;
    loop {
        // The first, the next after one that failed, and the next beside one that is silent.
        if let Some(address) = left.next() {
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
                    // A host that refuses is there; that another address of it has no route says less.
                    if failure != TransportError::ConnectRefused {
                        failure = kind;
                    }
                }
                Err(_) => {}
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if left.len() > 0 => {}
        }
    }
}

/// The same addresses, in their order but for the families, which take turns.
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
    fn families_take_turns_and_the_first_stays_first() {
        let found = alternating(ips(&["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"]));
        assert_eq!(found, ips(&["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]));
        assert_eq!(alternating(ips(&["1.1.1.1"])), ips(&["1.1.1.1"]));
    }

    #[tokio::test]
    async fn a_name_that_the_caller_answers_is_not_asked_of_the_system() {
        let hosts = [("known.invalid", ips(&["127.0.0.9", "::1"])), ("gone.invalid", Vec::new())];
        let connector = Connector {
            tls: Arc::new(crate::tls::client_config(&crate::Roots::Bundled).unwrap()),
            proxies: ProxyTable::new(&crate::Proxies::default()).unwrap(),
            hosts: hosts.into_iter().collect(),
            names: Names::new(Duration::from_secs(5)),
            timeout: Duration::from_secs(5),
        };
        assert_eq!(connector.addresses("known.invalid").await, Ok(ips(&["127.0.0.9", "::1"])));
        assert_eq!(connector.addresses("gone.invalid").await, Err(LookupError::Absent));
        assert_eq!(connector.addresses("127.0.0.7").await, Ok(ips(&["127.0.0.7"])));
    }

    #[tokio::test]
    async fn fault_36_an_address_that_refuses_does_not_hide_the_next() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, peer) = first_to_answer(ips(&["127.0.0.9", "127.0.0.1"]), port).await.unwrap();
        assert_eq!(peer.ip(), ips(&["127.0.0.1"])[0]);
        let refused = first_to_answer(ips(&["127.0.0.9", "127.0.0.8"]), port).await;
        assert_eq!(refused.err(), Some(TransportError::ConnectRefused));
    }

    /// 240.0.0.0/4 has no route or no answer; which of the two differs from machine to machine.
    #[tokio::test]
    async fn fault_36_a_black_hole_costs_a_moment() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, peer) = first_to_answer(ips(&["100::1", "240.0.0.1", "127.0.0.1"]), port).await.unwrap();
        assert_eq!(peer.ip(), ips(&["127.0.0.1"])[0]);
    }
}
