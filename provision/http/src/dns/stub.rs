//! The stub resolver of a static binary: /etc/hosts, then the name servers of /etc/resolv.conf.
//!
//! It follows the rules of glibc's `files` and `dns` (hosts(5), resolv.conf(5)): search domains, servers in their
//! order, and TCP for a truncated answer. `hickory-proto` encodes the messages. hickory's resolver is not used: it asks
//! servers in parallel, takes one server's SERVFAIL for all, skips the search list for a dotted name, and adds half a
//! megabyte.
//!
//! Only `lookups` remembers answers, and only for a short time. A name that appears while a run retries must be found,
//! and a CDN's addresses change by the minute. No server is asked but the configured ones, so that an internal name
//! stays in its network. Without any, the server on this machine is asked, as glibc does.
//!
//! Not supported: /etc/nsswitch.conf (an image may name modules that it does not have), `RES_OPTIONS` and `LOCALDOMAIN`
//! (I4).

mod hosts;
mod name_server;
mod resolv_conf;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::lookup_error::LookupError;
use super::lookups::Lookups;
use hosts::Hosts;
use name_server::{Answer, NameServer};
use resolv_conf::ResolvConf;

/// The longest time for a lookup in the background, as a multiple of the time that its caller waits.
const LONGEST: u32 = 4;

/// Lookups for which a caller waits `limit` at most.
pub(crate) fn lookups(limit: Duration) -> Lookups {
    let names = Arc::new(Names::new(limit * LONGEST));
    Lookups::new(limit, move |host, running| {
        let names = names.clone();
        tokio::spawn(async move { running.end(names.lookup(&host).await) });
    })
}

/// The resolver. It reads its files at the first lookup, so a run without names reads none.
#[derive(Debug)]
struct Names {
    limit: Duration,
    configuration: OnceLock<Configuration>,
}

/// The content of both files.
#[derive(Debug)]
struct Configuration {
    hosts: Hosts,
    resolv: ResolvConf,
    servers: Vec<NameServer>,
}

impl Configuration {
    /// The system's files.
    fn of_system() -> Self {
        // A file that cannot be read counts as empty: an image may have only one of them, or none.
        let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let resolv = ResolvConf::parse(&read("/etc/resolv.conf"), &hostname);
        let servers = resolv.servers.iter().map(|ip| SocketAddr::new(*ip, 53)).collect::<Vec<_>>();
        Self::new(Hosts::parse(&read("/etc/hosts")), resolv, &servers)
    }

    fn new(hosts: Hosts, resolv: ResolvConf, servers: &[SocketAddr]) -> Self {
        let (timeout, tcp_only) = (resolv.timeout, resolv.tcp_only);
        let servers = servers.iter().map(|&address| NameServer { address, timeout, tcp_only }).collect();
        Self { hosts, resolv, servers }
    }
}

impl Names {
    /// A new resolver. A lookup takes `limit` at most, for any number of servers and domains.
    fn new(limit: Duration) -> Self {
        Self { limit, configuration: OnceLock::new() }
    }

    /// The addresses of `host`, in the order in which they are tried; never empty.
    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let configuration = self.configuration.get_or_init(Configuration::of_system);
        let mut addresses = configuration.hosts.addresses(host);
        if addresses.is_empty() && is_localhost(host) {
            // No server is asked for it (RFC 6761 section 6.3), and an empty root has no /etc/hosts.
            addresses = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        if addresses.is_empty() {
            let answer = tokio::time::timeout(self.limit, configuration.query(host));
            addresses = answer.await.unwrap_or(Err(LookupError::Unanswered))?;
        }
        addresses.sort_by_key(|address| !is_usable(*address));
        Ok(addresses)
    }
}

impl Configuration {
    /// The first addresses that the servers have for a name that `host` may stand for.
    async fn query(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let mut error = LookupError::Absent;
        for name in self.resolv.candidates(host) {
            match self.query_servers(&name).await {
                Answer::Addresses(addresses) => return Ok(addresses),
                Answer::Absent => {}
                // A failure in one search domain does not hide a name in the next.
                Answer::Failed => error = LookupError::Unanswered,
            }
        }
        Err(error)
    }

    /// Asks the servers one after the other: the first may know internal names that the second denies.
    async fn query_servers(&self, name: &str) -> Answer {
        for _ in 0..self.resolv.attempts {
            for server in &self.servers {
                match server.query(name).await {
                    Answer::Failed => {}
                    answer => return answer,
                }
            }
        }
        Answer::Failed
    }
}

/// True for `localhost` and the names below it.
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// True if this machine has a route to the address (RFC 6724, rule 1); most containers have none for IPv6. `connect` on
/// a datagram socket looks into the routing table and sends nothing.
fn is_usable(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 53))).is_ok()
}
