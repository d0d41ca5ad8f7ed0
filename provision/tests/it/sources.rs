//! Sources in order, and a hub that redirects to signed URLs (faults 16, 35, 36).

use crate::prelude::*;

#[test]
fn mirrors_are_taken_in_order_and_no_further_than_needed() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 3_000_000);
    for path in ["/1", "/2", "/3", "/4"] {
        fixture.origin.put(path, content.clone());
    }
    fixture.origin.inject("/1", Fault::status(404));
    fixture.origin.inject("/2", Fault::status(500));
    let sources = ["/1", "/2", "/3", "/4"].map(|path| fixture.origin.url(path));
    fixture.model("x", &content, &sources);
    let report = fixture.fetch_all();
    assert!(report.files[0].source.as_deref().unwrap().contains("/3?"));
    assert_eq!(fixture.origin.counters().path("/4").requests, 0);
    let order: Vec<String> = fixture.origin.requests().into_iter().map(|request| request.path).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(fixture.events.count(|event| matches!(event, Event::SourceEnded { .. })), 2);
}

#[test]
fn when_every_source_fails_the_error_lists_each() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 3_000_000);
    fixture.origin.inject("/2", Fault::LoginPage);
    fixture.origin.inject("/3", Fault::status(502));
    let sources = ["/1", "/2", "/3"].map(|path| fixture.origin.url(path));
    fixture.model("x", &content, &sources);
    let error = fixture.fetch_refused();
    let text = error.to_string();
    assert!(text.contains("404") && text.contains("HTML") && text.contains("502"), "{text}");
    assert!(!error.is_integrity() && !error.is_refusal());
    assert!(fixture.requests() <= 4 + 4 + 5 * 4);
}

#[test]
fn bytes_of_the_first_source_survive_a_switch_to_the_second() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 8_000_000);
    let mirror = start_origin("127.0.0.2");
    mirror.put("/x", content.clone());
    fixture.origin.put("/x", content.clone());
    fixture.origin.inject("/x", Fault::status(410).when(When::After(4)));
    let sources = [fixture.origin.url("/x"), mirror.url("/x")];
    fixture.model("x", &content, &sources);
    let report = fixture.fetch_all();
    assert!(mirror.counters().body_bytes_sent <= 7_500_000, "{}", mirror.counters().body_bytes_sent);
    assert_eq!(report.files[0].fetched, 8_000_000);
}

#[test]
fn wrong_bytes_of_the_first_source_do_not_condemn_the_second() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 6_000_000);
    let mirror = start_origin("127.0.0.2");
    mirror.put("/x", content.clone());
    // The first source serves four wrong claims and then nothing. The mixture is wrong, and the mirror is used.
    fixture.origin.put("/x", Content::generated(2, 6_000_000));
    fixture.origin.inject("/x", Fault::status(404).when(When::After(3)));
    let sources = [fixture.origin.url("/x"), mirror.url("/x")];
    fixture.model("x", &content, &sources);
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, 6_000_000);
    assert!(mirror.counters().body_bytes_sent < 12_000_000);
}

#[test]
fn a_mirror_with_wrong_bytes_keeps_those_of_the_first_source() {
    let (mut fixture, content) = Fixture::of("x", Content::generated(1, 8_000_000));
    fixture.origin.inject("/x", Fault::status(410).when(When::After(4)));
    fixture.origin.put("/mirror", Content::generated(2, 8_000_001));
    let sources = [fixture.origin.url("/x"), fixture.origin.url("/mirror")];
    fixture.model("x", &content, &sources).config.transfer.limits = Limits { connections: 1, per_host: 1 };
    fixture.fetch_refused_with(&["8000001 bytes"]);
    let held = fixture.held();
    assert!(held >= 3 << 20, "{held} bytes are held");
    fixture.origin.clear_faults("/x");
    assert_eq!(fixture.fetch_all().files[0].resumed, held);
}

struct Hub {
    fixture: Fixture,
    cdn: BlockingOrigin,
    content: Content,
}

/// A hub with one file of `size` bytes on a CDN that caps each connection.
fn hub(size: u64, rate: Option<u64>) -> Hub {
    let cdn = start_origin("127.0.0.2");
    let mut fixture = Fixture::new();
    let content = Content::generated(1, size);
    let url = fixture.origin.put_hub_on(&cdn, "o/r", "main", "x", content.clone());
    fixture.model("x", &content, &[url]);
    cdn.shape(Shape { rate_per_connection: rate, ..Shape::default() });
    Hub { fixture, cdn, content }
}

#[test]
fn a_file_is_resolved_once_however_many_connections_it_has() {
    let Hub { fixture, cdn, .. } = hub(32 << 20, Some(4 << 20));
    let report = fixture.fetch_all();
    assert!(report.files[0].connections >= 8);
    assert_eq!(fixture.requests(), 1);
    assert!(cdn.counters().requests > 8);
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Retry { .. })), 0);
}

#[test]
fn fault_35_signatures_that_expire_midway_are_renewed() {
    let Hub { fixture, cdn, content } = hub(32 << 20, Some(3 << 20));
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_all());
        for n in 1..4u64 {
            let midway = n * content.size() / 5;
            cdn.wait_for(PATIENCE, |counters| counters.body_bytes_sent > midway).unwrap();
            cdn.expire_signatures();
        }
        run.join().unwrap()
    });
    assert_eq!(report.files[0].fetched, content.size());
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
    assert!((2..=4).contains(&fixture.requests()), "{}", fixture.requests());
    let sent = cdn.counters().body_bytes_sent as f64 / content.size() as f64;
    assert!(sent < 1.35, "{sent}");
}

#[test]
fn fault_35_many_connections_renew_an_expired_signature_once() {
    let Hub { fixture, cdn, .. } = hub(32 << 20, Some(6 << 20));
    // The fifth to the twentieth request: all in flight when the first of them is refused.
    let signed = Control::signed_path("/o/r/resolve/main/x");
    cdn.inject(
        &signed,
        Fault::status(403)
            .when(When::custom(|request, n| n >= 4 && request.query_value("sig") == Some("SECRETSIG-0-0"))),
    );
    fixture.fetch_all();
    assert!(fixture.requests() <= 3, "{}", fixture.requests());
}

#[test]
fn fault_35_a_refusal_that_stays_ends_the_source() {
    let Hub { fixture, cdn, .. } = hub(16 << 20, None);
    let signed = Control::signed_path("/o/r/resolve/main/x");
    cdn.inject(&signed, Fault::status(403).when(When::After(3)));
    let error = fixture.fetch_refused();
    assert!(error.is_refusal(), "{error}");
    assert!(fixture.requests() <= 8, "{}", fixture.requests());
    assert!(cdn.counters().requests <= 24, "{}", cdn.counters().requests);
}

#[test]
fn fault_35_a_refusal_without_a_redirect_is_retried_once() {
    let fixture = Fixture::with(&[("x", 1, 6_000_000)]);
    fixture.origin.inject("/x", Fault::status(401).when(When::After(2)));
    let error = fixture.fetch_refused();
    assert!(error.is_refusal(), "{error}");
    assert!(fixture.requests() <= 14, "{}", fixture.requests());
}

#[test]
fn a_dead_cdn_is_left_for_the_one_that_the_hub_names_next() {
    let Hub { fixture, cdn, content } = hub(16 << 20, Some(2 << 20));
    let other = start_origin("127.0.0.3");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_all());
        cdn.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 4 << 20).unwrap();
        fixture.origin.put_hub_on(&other, "o/r", "main", "x", content.clone());
        cdn.stop();
        run.join().unwrap();
    });
    assert!(other.counters().body_bytes_sent < 14 << 20, "{}", other.counters().body_bytes_sent);
}

#[test]
fn a_hanging_url_renewal_is_awaited_once_for_all_connections() {
    let Hub { mut fixture, .. } = hub(16 << 20, None);
    fixture.origin.inject("/o/r/resolve/main/x", Fault::NoAnswer);
    fixture.config.transfer.retry.retries = 2;
    within(6, || fixture.fetch_refused_with(&["no data for"]));
    assert!(fixture.requests() <= 10, "{}", fixture.requests());
}
