//! Connections that break, stall, are refused, or are told to wait (faults 29 to 42).

mod clock;
mod heads;
mod names;
mod patience;
mod tls;

use std::collections::HashSet;

use provision_testbed::{OverLimit, ResetAt};

use crate::prelude::*;

const SIZE: u64 = 6_000_007;

fn fixture(fault: Fault, when: When) -> Fixture {
    let fixture = Fixture::with(&[("x", 1, SIZE)]);
    fixture.origin.inject("/x", fault.when(when));
    fixture
}

fn sent(fixture: &Fixture) -> f64 {
    fixture.sent() as f64 / SIZE as f64
}

fn alone(mut fixture: Fixture) -> Fixture {
    fixture.config.transfer.limits = Limits { connections: 1, per_host: 1 };
    fixture
}

#[test]
fn fault_29_a_reset_at_any_point_is_resumed_from_there() {
    for at in [ResetAt::FirstByte, ResetAt::Head, ResetAt::Body(300_000), ResetAt::LastByte] {
        let fixture = fixture(Fault::Reset(at), When::Every(3));
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{at:?}");
        // Bytes in flight at a reset are lost with the connection.
        assert!(sent(&fixture) < 1.8, "{at:?}: {}", sent(&fixture));
        assert!(fixture.requests() < 40, "{at:?}");
    }
}

#[test]
fn fault_29_repeated_resets_end_the_source() {
    for at in [ResetAt::FirstByte, ResetAt::Head] {
        let fixture = fixture(Fault::Reset(at), When::Always);
        fixture.fetch_refused_with(&["broke off"]);
        assert!(fixture.requests() <= 24, "{}", fixture.requests());
    }
}

#[test]
fn fault_30_silence_and_a_trickle_end_the_source() {
    for (fault, most) in [(Fault::Trickle { every: Duration::from_millis(100) }, 16), (Fault::NoAnswer, 20)] {
        let mut fixture = fixture(fault.clone(), When::Always);
        fixture.config.transfer.retry.retries = 2;
        within(8, || fixture.fetch_refused_with(&["no data for"]));
        assert!(fixture.requests() <= most, "{fault:?}: {}", fixture.requests());
    }
}

#[test]
fn fault_30_a_stalled_request_is_ended_and_its_rest_refetched() {
    for fault in [Fault::Stall(100_000), Fault::NoAnswer] {
        let fixture = fixture(fault, When::First(2));
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE);
        assert!(sent(&fixture) < 1.5, "{}", sent(&fixture));
    }
}

/// Every range that starts there, except the first request, which resolves the URL for all others.
fn from_three_million() -> When {
    When::custom(|request, number| number > 0 && request.range_start() >= Some(3_000_000))
}

#[test]
fn fault_30_an_offset_that_always_stalls_ends_the_source() {
    for fault in [Fault::Stall(0), Fault::NoAnswer] {
        let mut fixture = fixture(fault, from_three_million());
        fixture.config.transfer.retry.retries = 2;
        within(20, || fixture.fetch_refused_with(&["no data for"]));
        assert!(fixture.requests() <= 60, "{}", fixture.requests());
        assert!(fixture.held() >= 3_000_000, "{} are held", fixture.held());
        // The next run fetches only the rest.
        fixture.origin.clear_faults("/x");
        let before = fixture.sent();
        fixture.fetch_all();
        assert!(fixture.sent() - before < SIZE - 2_500_000);
    }
}

/// Another connection takes the claim over before the stall rule would end it, and gets no byte either.
fn assert_limited_takeovers(fault: Fault) {
    let mut fixture = fixture(fault, from_three_million());
    fixture.origin.shape(Shape::rate(2 << 20));
    fixture.config.transfer.stall = Duration::from_secs(3);
    fixture.config.transfer.retry.retries = 1;
    fixture.http.head_timeout = Duration::from_secs(3);
    let (stop, stopped) = watch::channel(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_until(stopped));
        let started = Instant::now();
        while !run.is_finished() && started.elapsed() < PATIENCE {
            let _ = fixture.origin.wait_for(Duration::from_millis(100), |_| false);
        }
        let _ = stop.send(true);
        let report = run.join().unwrap().unwrap();
        let error = report.files[0].result.as_ref().expect_err("it goes on for ever").to_string();
        assert!(error.contains("no data for"), "{error}");
    });
    assert!(fixture.requests() <= 60, "{}", fixture.requests());
    assert!(fixture.held() >= 2_000_000, "{} are held", fixture.held());
}

#[test]
fn fault_30_a_stalling_range_is_not_reassigned_forever() {
    assert_limited_takeovers(Fault::Stall(0));
}

#[test]
fn fault_30_an_unanswered_range_is_not_reassigned_forever() {
    assert_limited_takeovers(Fault::NoAnswer);
}

#[test]
fn an_answer_that_was_late_is_not_a_stall_afterwards() {
    let mut fixture = Fixture::with(&[("x", 1, 16 << 20)]);
    fixture.config.transfer.stall = Duration::from_millis(400);
    fixture.origin.shape(Shape { first_byte_delay: Duration::from_millis(700), ..Shape::rate(4 << 20) });
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].retries, 0, "{}", fixture.events.text());
}

#[test]
fn fault_33_transient_statuses_are_retried() {
    for code in [408, 425, 429, 500, 502, 503, 504] {
        let fixture = fixture(Fault::status(code), When::First(4));
        let report = fixture.fetch_all();
        assert!(report.files[0].retries >= 1);
        assert!(fixture.events.count(|event| matches!(event, Event::Retry { .. })) >= 1);
    }
}

#[test]
fn fault_33_a_burst_of_refusals_counts_as_one() {
    let fixture = Fixture::with(&[("x", 1, 40 << 20)]);
    fixture.origin.shape(Shape::rate(4 << 20));
    // Once sixteen connections are open, each of them is refused once.
    let refused = Mutex::new(HashSet::new());
    fixture.origin.inject(
        "/x",
        Fault::RetryAfter { status: 503, value: "0".to_owned() }.when(When::custom(
            move |request, number| {
                number >= 16
                    && refused.lock().unwrap().len() < 12
                    && refused.lock().unwrap().insert(request.connection)
            },
        )),
    );
    within(6, || fixture.fetch_all());
}

#[test]
fn fault_34_a_missing_file_is_requested_once() {
    for code in [400, 404, 410] {
        let mut fixture = fixture(Fault::status(code), When::Always);
        fixture.fetch_refused_with(&[&code.to_string(), "check the URL"]);
        assert!(fixture.requests() <= 4, "no retry");
        fixture.mirror("x", &Content::generated(1, SIZE)).fetch_all();
    }
}

#[test]
fn fault_39_a_connection_closed_between_requests_is_no_failure() {
    let closed = fixture(Fault::CloseAfter, When::Always);
    assert_eq!(closed.fetch_all().files[0].retries, 0);
    // Each connection serves one request; it is closed, or reset, when the second arrives.
    for race in [Fault::HangUp, Fault::Reset(ResetAt::FirstByte)] {
        let seen = Mutex::new(HashSet::new());
        let second = When::custom(move |request, _| !seen.lock().unwrap().insert(request.connection));
        let fixture = fixture(race, second);
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].retries, 0, "{}", fixture.events.text());
        assert!(sent(&fixture) < 1.1, "{}", sent(&fixture));
        assert!(fixture.requests() <= 40, "{}", fixture.requests());
    }
}

#[test]
fn fault_40_an_origin_with_one_or_two_connections_works() {
    for limit in [1, 2] {
        for over in [OverLimit::Refuse, OverLimit::Unavailable] {
            let fixture = Fixture::with(&[("x", 1, SIZE), ("y", 2, 1_000_000)]);
            fixture.origin.shape(Shape { rate_per_connection: Some(8 << 20), ..Shape::at_most(limit, over) });
            fixture.fetch_all();
            let counters = fixture.origin.counters();
            assert!(counters.peak_open <= limit as u64);
            assert!(counters.connections_refused < 100, "{limit} {over:?}: {counters:?}");
            assert!(counters.body_bytes_sent < (SIZE + 1_000_000) * 3 / 2, "{limit} {over:?}: {counters:?}");
        }
    }
}

#[test]
fn fault_42_one_failed_file_leaves_the_others_and_no_marker() {
    let mut fixture = Fixture::new();
    for n in 0..5u64 {
        fixture.file(&format!("d/{n}"), &Content::generated(n, 1_500_000));
    }
    fixture.origin.inject("/d/3", Fault::status(500));
    fixture.fetch_refused_with(&["500"]);
    assert_eq!(fixture.listing(), [".provision.journal", "d/0", "d/1", "d/2", "d/4"]);
    fixture.origin.clear_faults("/d/3");
    let before = fixture.sent();
    fixture.fetch_all();
    assert!(fixture.sent() - before <= 1_500_000 * 11 / 10, "only the one that failed");
}

#[test]
fn five_failures_in_a_row_end_a_source() {
    let fixture = alone(fixture(Fault::status(500), When::Always));
    let error = fixture.fetch_refused();
    assert_eq!(fixture.requests(), 5);
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Retry { limit: 5, .. })), 4);
    assert_eq!(error.attempts.len(), 1);
}

#[test]
fn five_failures_of_one_file_end_its_source_on_a_working_host() {
    let fixture = Fixture::with(&[("bad", 1, 4_000_000), ("good", 2, 40 << 20)]);
    fixture.origin.inject("/bad", Fault::status(500));
    fixture.origin.shape(Shape::rate(2 << 20));
    fixture.fetch_refused_with(&["/bad?… answered 500"]);
    let asked = fixture.origin.counters().path("/bad").requests;
    assert!(asked <= 5 * 4, "{asked} requests");
}

#[test]
fn a_host_that_keeps_refusing_is_asked_ever_less_often() {
    // A 503 may mean "one connection too many" while others receive, so it does not end the source; but it backs off.
    let mut fixture = Fixture::with(&[("bad", 1, 4_000_000), ("good", 2, 8 << 20)]);
    fixture.origin.inject("/bad", Fault::status(503));
    fixture.origin.shape(Shape::rate(1 << 20));
    fixture.config.transfer.retry.longest = Duration::from_millis(400);
    fixture.fetch_refused();
    let asked = fixture.origin.counters().path("/bad").requests;
    assert!(asked <= 40, "{asked} requests");
}

#[test]
fn simultaneous_failures_count_once() {
    // Once the URL is resolved, connections send requests in parallel: eight are refused, two rounds of them.
    let mut fixture = fixture(Fault::status(500), When::custom(|_, number| (4..12).contains(&number)));
    fixture.origin.shape(Shape::rate(2 << 20));
    fixture.config.transfer.retry.retries = 4;
    fixture.fetch_all();
}

#[test]
fn progress_resets_the_count_of_failures() {
    let mut small = alone(Fixture::new());
    small.file("x", &Content::generated(1, 2_000_000));
    small.origin.inject("/x", Fault::CutBody(100_000));
    let report = small.fetch_all();
    assert_eq!(small.requests(), 20);
    assert_eq!(small.sent(), 2_000_000);
    assert_eq!(report.files[0].fetched, 2_000_000);

    let fixture = alone(fixture(Fault::status(500), When::custom(|_, number| number % 5 != 4)));
    fixture.fetch_all();
}

#[test]
fn one_slow_connection_in_eight_does_not_delay_the_end() {
    let fixture = Fixture::with(&[("x", 1, 48 << 20)]);
    fixture.origin.shape(Shape { every_nth_slow: Some((8, 64 << 10)), ..Shape::rate(4 << 20) });
    let started = Instant::now();
    fixture.fetch_all();
    // 14 connections at 4 MiB/s would take 0.9 s; one slow connection's first claim alone would take 16.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn the_rate_holds() {
    let mut fixture = Fixture::with(&[("x", 1, 4_000_000), ("y", 2, 2_000_000)]);
    fixture.config.transfer.rate = Some(3_000_000);
    assert_rate(&fixture, 2.0);
}

#[test]
fn the_rate_holds_for_files_of_a_single_read_too() {
    let mut fixture = Fixture::new();
    for n in 0..60u64 {
        fixture.file(&n.to_string(), &Content::generated(n, 100_000));
    }
    fixture.config.transfer.rate = Some(3_000_000);
    assert_rate(&fixture, 2.0);
}

/// A run takes the `expected` seconds that its rate implies, within 15 %. The upper bound leaves more room: a machine
/// that is busy with other tests cannot make up for lost time.
fn assert_rate(fixture: &Fixture, expected: f64) {
    let started = Instant::now();
    fixture.fetch_all();
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds > expected * 0.85, "{seconds} s for {expected} s worth of bytes");
    assert!(seconds < expected * 1.15 + 1.0, "{seconds} s for {expected} s worth of bytes");
}

#[test]
fn a_low_rate_is_not_a_stall() {
    let mut fixture = Fixture::with(&[("x", 1, 400_000), ("y", 2, 400_000)]);
    fixture.config.transfer.rate = Some(300_000);
    fixture.config.transfer.stall = Duration::from_millis(300);
    let report = fixture.fetch_all();
    assert!(report.files.iter().all(|file| file.retries == 0), "{}", fixture.events.text());
}

#[test]
fn an_origin_that_answers_slowly_is_not_asked_repeatedly() {
    let mut fixture = Fixture::with(&[("x", 1, 12 << 20)]);
    fixture.config.transfer.stall = Duration::from_secs(5);
    fixture.http.head_timeout = Duration::from_secs(5);
    fixture.origin.shape(Shape { first_byte_delay: Duration::from_millis(800), ..Shape::default() });
    fixture.fetch_all();
    assert!(fixture.requests() <= 30, "{}", fixture.requests());
}

#[test]
fn a_mirror_on_another_origin_takes_over_when_the_first_dies() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 16 << 20);
    let first = start_origin("127.0.0.2");
    first.put("/x", content.clone());
    first.shape(Shape::rate(2 << 20));
    fixture.origin.put("/x", content.clone());
    let sources = [first.url("/x"), fixture.origin.url("/x")];
    fixture.model("x", &content, &sources).config.transfer.one_source = true;
    let sent = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_all());
        first.wait_for(Duration::from_secs(20), |counters| counters.body_bytes_sent > 4 << 20).unwrap();
        let control = first.control();
        first.stop();
        let sent = control.counters().body_bytes_sent;
        let report = run.join().unwrap();
        assert_eq!(report.files[0].fetched, 16 << 20);
        sent
    });
    let again = (sent + fixture.sent()).saturating_sub(16 << 20);
    assert!(again < 6 << 20, "{again} bytes were fetched twice");
}
