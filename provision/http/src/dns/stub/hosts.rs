//! /etc/hosts: lines of `ADDRESS NAME...` (hosts(5)).

use std::net::IpAddr;

/// The lines of the file.
#[derive(Debug, Default)]
pub(super) struct Hosts(Vec<(IpAddr, Vec<String>)>);

impl Hosts {
    /// Parses the file. Malformed lines are ignored, as glibc does.
    pub(super) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            Some((address, words.map(str::to_owned).collect()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// All addresses of a name, in the order of the file; empty if it is not listed.
    pub(super) fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let host = host.trim_end_matches('.');
        let has_name = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(host));
        self.0.iter().filter(|(_, names)| has_name(names)).map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_match_all_lines_in_any_case() {
        let hosts = Hosts::parse(
            "# a comment\n\n127.0.0.1\tlocalhost\n::1 localhost ip6-localhost # another\n10.0.0.1 a.example Alias\n\
             not-an-address b.example\nfe80::1%eth0 c.example\n10.0.0.2\n",
        );
        let found = |host| hosts.addresses(host).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(found("A.Example."), ["10.0.0.1"]);
        assert_eq!(found("alias"), ["10.0.0.1"]);
        for absent in ["b.example", "c.example", "10.0.0.2", "a", ""] {
            assert!(found(absent).is_empty(), "{absent}");
        }
    }
}
