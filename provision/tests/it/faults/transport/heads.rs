//! Response heads that are malformed, come too slowly, or ask to wait (faults 31 and 32).

use std::time::{Duration, Instant};

use provision_core::event::Event;
use provision_testbed::{Content, Fault, When};

use super::{SIZE, alone, fixture};

#[test]
fn fault_31_an_endless_head_ends_the_source() {
    for fault in [Fault::HeaderFlood { lines: 5000 }, Fault::EndlessHeader] {
        let mut fixture = fixture(fault, When::Always);
        let error = fixture.fetch_refused().to_string();
        assert!(error.contains("the answer is not valid HTTP"), "{error}");
        assert!(fixture.origin.counters().requests <= 4);
        let content = Content::generated(1, SIZE);
        fixture.origin.put("/mirror", content.clone());
        let sources = [fixture.origin.url("/x"), fixture.origin.url("/mirror")];
        fixture.model("x", &content, &sources).fetch_all();
    }
}

#[test]
fn fault_32_retry_after_is_honoured_and_capped() {
    // The cap is 300 ms here.
    for (value, at_least) in [
        ("1", 300),
        ("315360000", 300),
        ("99999999999999999999999999", 300),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("0", 0),
        ("soon", 0),
    ] {
        for status in [429, 503] {
            let fault = Fault::RetryAfter { status, value: value.to_owned() };
            let fixture = alone(fixture(fault, When::First(1)));
            let started = Instant::now();
            fixture.fetch_all();
            let elapsed = started.elapsed();
            assert!(elapsed >= Duration::from_millis(at_least), "{value}: {elapsed:?}");
            assert!(elapsed < Duration::from_secs(3), "{value}: {elapsed:?}");
        }
    }
}

#[test]
fn fault_31_a_head_sent_byte_by_byte_hits_the_head_timeout() {
    let slow = Fault::SlowHead { every: Duration::from_millis(100) };
    let mut always = fixture(slow.clone(), When::Always);
    always.config.transfer.retry.retries = 2;
    let started = Instant::now();
    let error = always.fetch_refused().to_string();
    assert!(error.contains("no data for 1.5 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert!(always.origin.counters().requests <= 16, "{}", always.origin.counters().requests);
    assert_eq!(always.origin.counters().body_bytes_sent, 0);

    let once = fixture(slow, When::First(1));
    let report = once.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert!(report.files[0].retries <= 1, "{}", once.events.text());
}

#[test]
fn fault_31_a_mirror_takes_over_after_a_few_oversized_heads() {
    for fault in
        [Fault::HeaderFlood { lines: 257 }, Fault::HeaderFlood { lines: 50_000 }, Fault::EndlessHeader]
    {
        let mut fixture = fixture(fault, When::Always);
        let content = Content::generated(1, SIZE);
        fixture.origin.put("/mirror", content.clone());
        let sources = [fixture.origin.url("/x"), fixture.origin.url("/mirror")];
        let report = fixture.model("x", &content, &sources).fetch_all();
        assert!(report.files[0].source.as_deref().unwrap().contains("/mirror?"));
        assert!(fixture.origin.counters().path("/x").requests <= 4);
        assert_eq!(fixture.events.count(|event| matches!(event, Event::Retry { .. })), 0);
    }
}

#[test]
fn fault_32_the_rate_limit_header_is_honoured_and_capped() {
    for (value, at_least) in [
        ("\"resolvers\";r=0;t=1", 300),
        ("\"api\";r=7;t=9, \"resolvers\";r=0;t=315360000", 300),
        ("\"resolvers\";r=4;t=55", 0),
        ("later", 0),
    ] {
        let headers = vec![("RateLimit".to_owned(), value.to_owned())];
        let fault = Fault::Status { code: 429, headers, body: "later\n".into() };
        let fixture = alone(fixture(fault, When::First(1)));
        let started = Instant::now();
        let report = fixture.fetch_all();
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(at_least), "{value}: {elapsed:?}");
        assert!(elapsed < Duration::from_secs(3), "{value}: {elapsed:?}");
        assert_eq!(report.files[0].retries, 1, "{value}");
        assert!(fixture.origin.counters().requests <= 12, "{}", fixture.origin.counters().requests);
    }
}
