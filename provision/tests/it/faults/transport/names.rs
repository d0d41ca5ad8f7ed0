//! Names that fail to resolve, always or at times, and addresses that do not answer (fault 36).

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use provision_http::Hosts;

use super::SIZE;
use crate::prelude::*;

#[test]
fn fault_36_an_unresolvable_name_leads_to_the_mirror() {
    for address in ["http://nowhere.invalid:9/x", "http://[100::1]:9/x", "http://127.0.0.1:1/x"] {
        let mut fixture = Fixture::new();
        let content = Content::generated(1, 100_000);
        fixture.origin.put("/x", content.clone());
        let mirror = fixture.origin.url("/x");
        fixture.model("x", &content, &[address.to_owned(), mirror]);
        fixture.http.connect_timeout = Duration::from_millis(300);
        fixture.config.transfer.retry.retries = 2;
        let report = fixture.fetch_all();
        assert!(report.files[0].source.as_deref().unwrap().starts_with("http://127.0.0.1"));
        assert_eq!(fixture.events.count(|event| matches!(event, Event::SourceEnded { .. })), 1, "{address}");
        assert_eq!(fixture.events.count(|event| matches!(event, Event::Retry { .. })), 0, "{address}");
    }
}

#[test]
fn fault_36_the_message_says_that_the_name_does_not_resolve() {
    let mut fixture = Fixture::new();
    fixture.model("x", &Content::generated(1, 10), &["http://nowhere.invalid:9/x".to_owned()]);
    fixture.config.transfer.retry.retries = 1;
    fixture.fetch_refused_with(&["nowhere.invalid", "does not resolve"]);
}

/// A fixture whose file is at a name that fails to resolve at the lookups with these numbers.
fn flapping(fails: impl Fn(usize) -> bool + Send + Sync + 'static) -> Fixture {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, SIZE);
    fixture.origin.put("/x", content.clone());
    let url = fixture.origin.url_at("flaps.example", "/x");
    fixture.model("x", &content, &[url]);
    let lookups = AtomicUsize::new(0);
    fixture.http.hosts = Hosts::answered_by(move |host| {
        assert_eq!(host, "flaps.example");
        let address = IpAddr::from([127, 0, 0, 1]);
        Some(if fails(lookups.fetch_add(1, Ordering::Relaxed)) { Vec::new() } else { vec![address] })
    });
    fixture
}

#[test]
fn fault_36_a_name_that_first_fails_to_resolve_is_retried() {
    let fixture = flapping(|n| n < 2);
    let report = fixture.fetch_all();
    assert!((1..=2).contains(&report.files[0].retries), "{}", fixture.events.text());
    assert!(fixture.events.text().contains("does not resolve"), "{}", fixture.events.text());
    assert_eq!(report.files[0].fetched, SIZE);
}

#[test]
fn fault_36_intermittent_name_failures_lose_no_bytes() {
    let fixture = flapping(|n| n % 3 == 2);
    // Each request needs a connection, and each connection a lookup.
    fixture.origin.inject("/x", Fault::CloseAfter);
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    let sent = fixture.sent();
    assert!(sent < SIZE * 11 / 10, "{sent}");
}

#[test]
fn fault_36_a_name_that_never_resolves_ends_the_source() {
    let fixture = flapping(|_| true);
    fixture.fetch_refused_with(&["flaps.example", "does not resolve"]);
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
}

/// Makes `address` ignore every connection attempt: a listener never accepts, and its queue is full. Lasts as long as
/// the returned values. Must be called within a runtime.
fn black_hole(address: SocketAddr) -> std::io::Result<(tokio::net::TcpListener, Vec<TcpStream>)> {
    let socket =
        if address.is_ipv6() { tokio::net::TcpSocket::new_v6() } else { tokio::net::TcpSocket::new_v4() }?;
    socket.bind(address)?;
    let listener = socket.listen(1)?;
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue has no end");
    }
    Ok((listener, queue))
}

#[test]
fn fault_36_a_silent_address_costs_a_moment_and_no_failure() {
    for hole in ["::1", "127.0.0.9"] {
        let mut fixture = Fixture::new();
        let content = Content::generated(1, SIZE);
        fixture.origin.put("/x", content.clone());
        let url = fixture.origin.url_at("two-ways.example", "/x");
        fixture.model("x", &content, &[url]);
        let hole: IpAddr = hole.parse().unwrap();
        fixture.http.hosts =
            [("two-ways.example", vec![hole, IpAddr::from([127, 0, 0, 1])])].into_iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let at = SocketAddr::new(hole, fixture.origin.addr().port());
        let swallows = {
            let _within = runtime.enter();
            black_hole(at)
        };
        if hole.is_ipv6() && !needs("IPv6 on the loopback", swallows.is_ok()) {
            continue;
        }
        let _swallows = swallows.unwrap();
        let started = Instant::now();
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].retries, 0, "{hole}: {}", fixture.events.text());
        assert!(started.elapsed() < fixture.http.connect_timeout, "{hole}: {:?}", started.elapsed());
    }
}
