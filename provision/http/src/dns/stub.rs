//! A resolver that loads nothing: /etc/hosts, then the name servers of /etc/resolv.conf, with the rules of glibc's
//! `files` and `dns` (hosts(5), resolv.conf(5)): search domains, servers in their order, TCP where an answer is
//! truncated. The messages are hickory's. Its resolver is not used: it asks servers at the same time, takes one server's
//! SERVFAIL for all, leaves a dotted name out of the search list, and brings half a megabyte.
//!
//! Nothing is kept between lookups: a name that appears while a run retries has to be found, and a CDN's names lead
//! elsewhere by the minute. There is no other name server than those configured, so that no name leaves the network
//! that it belongs to: without any, the one on this machine is asked, as glibc does.
//!
//! Not here: /etc/nsswitch.conf (an image may name what it has not), `RES_OPTIONS` and `LOCALDOMAIN` (I4).

mod hosts;
mod name_server;
mod resolv_conf;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use super::LookupError;
use hosts::Hosts;
use name_server::{Answer, NameServer};
use resolv_conf::ResolvConf;

/// What the files say, read with the first lookup: a run that asks for no name reads neither.
#[derive(Debug)]
pub(crate) struct Names {
    limit: Duration,
    configuration: OnceLock<Configuration>,
}

#[derive(Debug)]
struct Configuration {
    hosts: Hosts,
    resolv: ResolvConf,
    servers: Vec<NameServer>,
}

impl Configuration {
    fn of_system() -> Self {
        // What cannot be read is as good as absent: there may be one of the two files, or none.
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
    /// A lookup ends after `limit` at the latest, however many servers and domains there are to try.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, configuration: OnceLock::new() }
    }

    /// The addresses of `host`, in the order in which to try them; never none.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let configuration = self.configuration.get_or_init(Configuration::of_system);
        let mut addresses = configuration.hosts.addresses(host);
        if addresses.is_empty() && is_localhost(host) {
            // Never asked of a server (RFC 6761 section 6.3), and an empty root has no /etc/hosts.
            addresses = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        if addresses.is_empty() {
            let asked = tokio::time::timeout(self.limit, configuration.ask(host));
            addresses = asked.await.unwrap_or(Err(LookupError::Unanswered))?;
        }
        addresses.sort_by_key(|address| !is_usable(*address));
        Ok(addresses)
    }
}

impl Configuration {
    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let mut error = LookupError::Absent;
        for name in self.resolv.candidates(host) {
            match self.ask_servers(&name).await {
                Answer::Addresses(addresses) => return Ok(addresses),
                Answer::Absent => {}
                // One search domain whose servers fail does not hide the others.
                Answer::None => error = LookupError::Unanswered,
            }
        }
        Err(error)
    }

    /// One after the other: the first may know names of its own network that the second denies.
    async fn ask_servers(&self, name: &str) -> Answer {
        for _ in 0..self.resolv.attempts {
            for server in &self.servers {
                match server.ask(name).await {
                    Answer::None => {}
                    answer => return answer,
                }
            }
        }
        Answer::None
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether this machine has a route to it (RFC 6724, rule 1): most containers have none for IPv6. A datagram socket's
/// `connect` asks the routing table and sends nothing.
fn is_usable(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 53))).is_ok()
}
