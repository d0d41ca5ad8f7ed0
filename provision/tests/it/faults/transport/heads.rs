//! Response heads that are malformed, come too slowly, or ask to wait (faults 31 and 32).

use super::{SIZE, alone, fixture};
use crate::prelude::*;

#[test]
fn fault_32_retry_after_is_honoured_and_capped() {
    // The cap is 300 ms here.
    for (value, at_least) in
        [("1", 300), ("315360000", 300), ("Fri, 01 Jan 2100 00:00:00 GMT", 300), ("soon", 0)]
    {
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
    within(12, || always.fetch_refused_with(&["no data for 1.5 s"]));
    assert!(always.requests() <= 16, "{}", always.requests());
    assert_eq!(always.sent(), 0);

    let once = fixture(slow, When::First(1));
    let report = once.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert!(report.files[0].retries <= 1, "{}", once.events.text());
}

#[test]
fn fault_31_an_oversized_head_ends_its_source() {
    let floods = [257, 5000, 50_000].map(|lines| Fault::HeaderFlood { lines });
    for fault in floods.into_iter().chain([Fault::EndlessHeader]) {
        let mut fixture = fixture(fault.clone(), When::Always);
        fixture.fetch_refused_with(&["the answer is not valid HTTP"]);
        let refused = fixture.requests();
        assert!(refused <= 4, "{fault:?}: {refused} requests");
        let report = fixture.mirror("x", &Content::generated(1, SIZE)).fetch_all();
        assert!(report.files[0].source.as_deref().unwrap().contains("/mirror?"), "{fault:?}");
        let asked = fixture.origin.counters().path("/x").requests - refused;
        assert!(asked <= 4, "{fault:?}: {asked} requests");
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
        assert!(fixture.requests() <= 12, "{}", fixture.requests());
    }
}
