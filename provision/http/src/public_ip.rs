//! Public addresses: the ones to which a public host may redirect, and a list from someone else may lead.
//!
//! A redirect from outside must not reach services that trust this machine: its metadata service, its loopback, its
//! neighbours (fault 47). The client checks the address that it connects to, not the name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// True for an address of the public internet (IANA special-purpose registries, RFC 6890).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// True for a name that no public host has. It has no dot, or lies below a domain for private networks (RFC 6761, RFC
/// 6762, RFC 8375, and ICANN's `internal`). A proxy resolves names itself, so this is all that is known of such a host.
pub(crate) fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let domains = [".localhost", ".local", ".internal", ".home.arpa", ".lan"];
    !host.contains('.') || domains.iter().any(|domain| host.ends_with(domain))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 192 && b == 0 && c == 0))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, .., high, low] = segments;
    let embedded =
        |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (first, second) {
        // 6to4 and NAT64 addresses lead to the IPv4 address inside.
        (0x2002, _) => embedded(segments[1], segments[2]),
        (0x64, 0xff9b) => embedded(high, low),
        _ => (0x2000..0x4000).contains(&first) && (first, second) != (0x2001, 0xdb8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_47_private_addresses_are_recognised_in_any_form() {
        let private = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 198.18.0.1 \
             224.0.0.1 255.255.255.255 ::1 :: fe80::1 fc00::1 fd12::1 ff02::1 ::ffff:127.0.0.1 \
             ::ffff:169.254.169.254 2002:7f00:1:: 64:ff9b::a00:1";
        for private in private.split(' ') {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for local in
            ["localhost", "LOCALHOST.", "nas", "a.localhost", "metadata.google.internal", "printer.local"]
        {
            assert!(is_local_name(local), "{local}");
        }
        assert!(!is_local_name("localhost.example") && !is_local_name("huggingface.co"));
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
