//! `Location`, joined to a base hop after hop: every result is a URL that the client may request.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use provision_core::source_url::SourceUrl;
use provision_fuzz::{bounded, text};
use provision_http::fuzzing::{MAX_HOPS, follow, is_public};

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input is a base, and a `Location` on each line after it.
fn check(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    let base = lines.next().map(text).unwrap_or_default();
    // Most inputs are no URL: then the hops begin at a fixed one.
    let mut at: SourceUrl = match base.parse() {
        Ok(url) => url,
        Err(_) if base.len().is_multiple_of(2) => {
            "https://huggingface.co/a/resolve/main/b?sig=1".parse().unwrap()
        }
        Err(_) => "http://127.0.0.2:8080/a/b".parse().unwrap(),
    };
    check_url(&at);
    for location in lines.take(MAX_HOPS) {
        let next = match follow(&at, location) {
            Ok(next) => next,
            Err(error) => {
                assert!(!error.to_string().contains("sig="), "an error shows a query: {error}");
                return;
            }
        };
        check_url(&next);
        assert!(next.is_https() || !at.is_https(), "https led to http");
        assert!(!location.trim_ascii().iter().any(u8::is_ascii_control), "control characters were accepted");
        at = next;
    }
}

fn check_url(url: &SourceUrl) {
    let raw = url.as_url();
    assert!(matches!(raw.scheme(), "http" | "https"), "{}", raw.scheme());
    assert!(raw.username().is_empty() && raw.password().is_none(), "user information");
    assert!(raw.fragment().is_none());
    assert!(!url.host().is_empty(), "no host");
    let sent = format!("{}{}", raw.path(), raw.query().unwrap_or_default());
    assert!(sent.starts_with('/'));
    // The parts of a request's first line and `Host`.
    for part in [sent.as_str(), url.host().as_str(), url.authority().as_str()] {
        assert!(!part.chars().any(|c| c.is_control() || c.is_whitespace()), "{part:?}");
    }
    assert!(!url.host().contains(['/', '@', '?', '#', '\\', '%']), "{}", url.host());
    let shown = url.to_string();
    assert_eq!(shown, format!("{url:?}"));
    assert_eq!(shown.find('?').map(|at| &shown[at..]), raw.query().map(|_| "?…"), "the URL shows its query");
    assert!(url.is_same_origin(url));
    // The text that is sent parses to the same URL.
    assert_eq!(raw.as_str().parse::<SourceUrl>().as_ref(), Ok(url));
    match url.ip() {
        Some(IpAddr::V4(v4)) => {
            assert_eq!(is_public(v4.into()), is_public(v4.to_ipv6_mapped().into()), "{v4}");
            assert!(!(is_public(v4.into()) && url.is_loopback()), "{v4}");
        }
        Some(v6) => assert!(!(is_public(v6) && url.is_loopback()), "{v6}"),
        None => {}
    }
}
