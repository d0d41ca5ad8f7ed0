//! /etc/resolv.conf (resolv.conf(5)), with the limits and defaults of glibc.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The most name servers that glibc uses (`MAXNS`).
const MAX_SERVERS: usize = 3;

/// The configuration of the resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// The name servers in the order in which they are asked; never empty.
    pub(super) servers: Vec<IpAddr>,
    /// The search domains.
    pub(super) search: Vec<String>,
    /// A name with at least this many dots is tried as it is before the search domains.
    pub(super) ndots: usize,
    /// The time limit for a server's answer.
    pub(super) timeout: Duration,
    /// The number of queries to each server.
    pub(super) attempts: u32,
    /// Queries go over TCP only (`use-vc`).
    pub(super) tcp_only: bool,
}

impl ResolvConf {
    /// Parses the file. Malformed lines are ignored, as glibc does. Without a `search` or `domain` line, the search
    /// domain is the domain of `hostname`.
    pub(super) fn parse(text: &str, hostname: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: hostname.split_once('.').map(|(_, domain)| domain.to_owned()).into_iter().collect(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp_only: false,
        };
        for line in text.lines().filter(|line| !line.starts_with([';', '#'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers.extend(address);
                }
                // The last `search` or `domain` line counts.
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf.servers.truncate(MAX_SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        conf
    }

    /// Applies one word of an `options` line.
    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(n)) => self.ndots = n.min(15) as usize,
            ("timeout", Ok(n)) => self.timeout = Duration::from_secs(n.clamp(1, 30).into()),
            ("attempts", Ok(n)) => self.attempts = n.clamp(1, 5),
            ("use-vc", _) => self.tcp_only = true,
            _ => {}
        }
    }

    /// The full names that `host` may stand for, in the order in which they are tried.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if host.ends_with('.') {
            return vec![host.to_owned()];
        }
        let whole = format!("{host}.");
        let mut names: Vec<String> = self
            .search
            .iter()
            .map(|domain| domain.trim_matches('.'))
            .filter(|domain| !domain.is_empty())
            .map(|domain| format!("{host}.{domain}."))
            .collect();
        let whole_first = host.matches('.').count() >= self.ndots;
        names.insert(if whole_first { 0 } else { names.len() }, whole);
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        ResolvConf::parse(text, "host").servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_name_server_the_local_one_is_asked() {
        for text in [
            "",
            "search a.example\n",
            "nameserver\n",
            "nameserver not-an-address\n",
            "# nameserver 10.0.0.1\n",
        ] {
            assert_eq!(servers(text), ["127.0.0.1"], "{text:?}");
        }
    }

    #[test]
    fn the_first_three_name_servers_are_used_in_their_order() {
        let text = "nameserver 10.0.0.1\nnameserver\tfd00::1 # why\n;nameserver 10.0.0.9\n\
                    nameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        assert_eq!(servers(text), ["10.0.0.1", "fd00::1", "10.0.0.2"]);
    }

    #[test]
    fn options_have_the_defaults_and_limits_of_glibc() {
        let conf = ResolvConf::parse("", "host");
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts, conf.tcp_only), (1, 5, 2, false));
        let conf = ResolvConf::parse("options ndots:5 timeout:2 rotate\noptions attempts:3 use-vc\n", "host");
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts, conf.tcp_only), (5, 2, 3, true));
        let conf = ResolvConf::parse("options ndots:99 timeout:0 attempts:0 ndots:x\n", "host");
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (15, 1, 1));
    }

    #[test]
    fn the_number_of_dots_decides_whether_search_domains_come_first() {
        let conf = ResolvConf::parse("domain x.example\nsearch a.example b.example.\n", "host");
        assert_eq!(conf.candidates("models"), ["models.a.example.", "models.b.example.", "models."]);
        assert_eq!(conf.candidates("cdn.c"), ["cdn.c.", "cdn.c.a.example.", "cdn.c.b.example."]);
        assert_eq!(conf.candidates("models."), ["models."]);
        let conf = ResolvConf::parse("search a.example\noptions ndots:2\n", "host");
        assert_eq!(conf.candidates("cdn.c"), ["cdn.c.a.example.", "cdn.c."]);
        assert_eq!(conf.candidates("www.cdn.c"), ["www.cdn.c.", "www.cdn.c.a.example."]);
    }

    #[test]
    fn the_domain_of_the_hostname_is_the_default_search_domain() {
        assert_eq!(ResolvConf::parse("", "h.lan.example").search, ["lan.example"]);
        assert_eq!(ResolvConf::parse("", "h").search, [""; 0]);
        assert_eq!(ResolvConf::parse("domain a.example\n", "h.lan.example").search, ["a.example"]);
        assert_eq!(ResolvConf::parse("search .\n", "h.lan.example").candidates("x"), ["x."]);
    }
}
