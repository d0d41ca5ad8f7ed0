//! Connections that break, stall, refuse, or are asked to wait (faults 29 to 42).

mod clock;
mod heads;
mod names;
mod tls;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use provision_core::event::Event;
use provision_core::schedule::Limits;
use provision_testbed::{Content, Fault, OverLimit, ResetAt, Shape, When};
use tokio::sync::watch;

use crate::world::{PATIENCE, World, start_origin};

const SIZE: u64 = 6_000_007;

fn world(fault: Fault, when: When) -> World {
    let mut world = World::new();
    world.file("x", &Content::generated(1, SIZE));
    world.origin.inject("/x", fault.when(when));
    world
}

fn sent(world: &World) -> f64 {
    world.origin.counters().body_bytes_sent as f64 / SIZE as f64
}

fn alone(mut world: World) -> World {
    world.config.transfer.limits = Limits { connections: 1, per_host: 1 };
    world
}

#[test]
fn fault_29_a_reset_anywhere_is_tried_again_from_where_it_struck() {
    for at in [ResetAt::FirstByte, ResetAt::Head, ResetAt::Body(300_000), ResetAt::LastByte] {
        let world = world(Fault::Reset(at), When::Every(3));
        let report = world.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{at:?}");
        // What is in flight when a reset strikes is lost with it.
        assert!(sent(&world) < 1.8, "{at:?}: {}", sent(&world));
        assert!(world.origin.counters().requests < 40, "{at:?}");
    }
}

#[test]
fn fault_29_resets_without_end_end_the_source() {
    for at in [ResetAt::FirstByte, ResetAt::Head] {
        let world = world(Fault::Reset(at), When::Always);
        let error = world.fetch_refused().to_string();
        assert!(error.contains("broke off"), "{error}");
        assert!(world.origin.counters().requests <= 24, "{}", world.origin.counters().requests);
    }
}

#[test]
fn fault_30_a_trickle_counts_as_a_failure() {
    let mut world = world(Fault::Trickle { every: Duration::from_millis(100) }, When::Always);
    world.config.transfer.retry.retries = 2;
    let started = Instant::now();
    let error = world.fetch_refused().to_string();
    assert!(error.contains("no data for"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(world.origin.counters().requests <= 16, "{}", world.origin.counters().requests);
}

#[test]
fn fault_30_a_stall_is_ended_and_the_rest_fetched_again() {
    for fault in [Fault::Stall(100_000), Fault::NoAnswer] {
        let world = world(fault, When::First(2));
        let report = world.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE);
        assert!(sent(&world) < 1.5, "{}", sent(&world));
    }
}

#[test]
fn fault_30_no_answer_ever_ends_the_source_in_a_few_stalls() {
    let mut world = world(Fault::NoAnswer, When::Always);
    world.config.transfer.retry.retries = 2;
    let started = Instant::now();
    let error = world.fetch_refused().to_string();
    assert!(error.contains("no data for"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(world.origin.counters().requests <= 20, "{}", world.origin.counters().requests);
}

/// Every range that starts there, but for the very first request, which finds out for all where the source leads.
fn beyond_three_million() -> When {
    When::custom(|request, number| number > 0 && request.range_start() >= Some(3_000_000))
}

#[test]
fn fault_30_a_place_that_always_stalls_ends_the_source_and_keeps_the_rest() {
    for fault in [Fault::Stall(0), Fault::NoAnswer] {
        let mut world = world(fault, beyond_three_million());
        world.config.transfer.retry.retries = 2;
        let started = Instant::now();
        let error = world.fetch_refused().to_string();
        assert!(error.contains("no data for"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert!(world.origin.counters().requests <= 60, "{}", world.origin.counters().requests);
        assert!(world.held() >= 3_000_000, "{} are held", world.held());
        // The next run has only the rest to fetch.
        world.origin.clear_faults("/x");
        let before = world.origin.counters().body_bytes_sent;
        world.fetch_all();
        assert!(world.origin.counters().body_bytes_sent - before < SIZE - 2_500_000);
    }
}

/// Before the stall rule would end such a claim, another connection takes it over, and gets no byte either.
fn handed_on(fault: Fault) {
    let mut world = world(fault, beyond_three_million());
    world.origin.shape(Shape::rate(2 << 20));
    world.config.transfer.stall = Duration::from_secs(3);
    world.config.transfer.retry.retries = 1;
    world.http.head_timeout = Duration::from_secs(3);
    let (stop, stopped) = watch::channel(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| world.fetch_until(stopped));
        let started = Instant::now();
        while !run.is_finished() && started.elapsed() < PATIENCE {
            let _ = world.origin.wait_for(Duration::from_millis(100), |_| false);
        }
        let _ = stop.send(true);
        let report = run.join().unwrap().unwrap();
        let error = report.files[0].result.as_ref().expect_err("it goes on for ever").to_string();
        assert!(error.contains("no data for"), "{error}");
    });
    assert!(world.origin.counters().requests <= 60, "{}", world.origin.counters().requests);
    assert!(world.held() >= 2_000_000, "{} are held", world.held());
}

#[test]
fn fault_30_a_place_that_always_stalls_is_not_handed_on_for_ever() {
    handed_on(Fault::Stall(0));
}

#[test]
fn fault_30_a_place_that_is_never_answered_is_not_handed_on_for_ever() {
    handed_on(Fault::NoAnswer);
}

#[test]
fn an_answer_that_was_late_is_not_a_stall_afterwards() {
    let mut world = World::new();
    world.file("x", &Content::generated(1, 16 << 20));
    world.config.transfer.stall = Duration::from_millis(400);
    world.origin.shape(Shape { first_byte_delay: Duration::from_millis(700), ..Shape::rate(4 << 20) });
    let report = world.fetch_all();
    assert_eq!(report.files[0].retries, 0, "{}", world.events.text());
}

#[test]
fn fault_33_statuses_of_a_bad_moment_are_tried_again() {
    for code in [408, 425, 429, 500, 502, 503, 504] {
        let world = world(Fault::status(code), When::First(4));
        let report = world.fetch_all();
        assert!(report.files[0].retries >= 1);
        assert!(world.events.count(|event| matches!(event, Event::Retry { .. })) >= 1);
    }
}

#[test]
fn fault_33_a_burst_of_refusals_is_one_refusal() {
    let mut world = World::new();
    world.file("x", &Content::generated(1, 40 << 20));
    world.origin.shape(Shape::rate(4 << 20));
    // Once sixteen connections are there, each of them is refused once.
    let refused = Mutex::new(HashSet::new());
    world.origin.inject(
        "/x",
        Fault::RetryAfter { status: 503, value: "0".to_owned() }.when(When::custom(
            move |request, number| {
                number >= 16
                    && refused.lock().unwrap().len() < 12
                    && refused.lock().unwrap().insert(request.connection)
            },
        )),
    );
    let started = Instant::now();
    world.fetch_all();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn fault_34_what_is_not_there_is_asked_for_once() {
    for code in [400, 404, 410] {
        let mut world = world(Fault::status(code), When::Always);
        let error = world.fetch_refused().to_string();
        assert!(error.contains(&code.to_string()) && error.contains("check the URL"), "{error}");
        assert!(world.origin.counters().requests <= 4, "no retry");
        let content = Content::generated(1, SIZE);
        world.origin.put("/mirror", content.clone());
        let sources = [world.origin.url("/x"), world.origin.url("/mirror")];
        world.model("x", &content, &sources).fetch_all();
    }
}

#[test]
fn fault_39_a_connection_closed_between_requests_is_nobodys_failure() {
    let closed = world(Fault::CloseAfter, When::Always);
    assert_eq!(closed.fetch_all().files[0].retries, 0);
    // Each connection serves one request and is closed, or reset, as the second arrives.
    for race in [Fault::HangUp, Fault::Reset(ResetAt::FirstByte)] {
        let seen = Mutex::new(HashSet::new());
        let second = When::custom(move |request, _| !seen.lock().unwrap().insert(request.connection));
        let world = world(race, second);
        let report = world.fetch_all();
        assert_eq!(report.files[0].retries, 0, "{}", world.events.text());
        assert!(sent(&world) < 1.1, "{}", sent(&world));
        assert!(world.origin.counters().requests <= 40, "{}", world.origin.counters().requests);
    }
}

#[test]
fn fault_40_an_origin_that_allows_one_or_two_connections_is_enough() {
    for limit in [1, 2] {
        for over in [OverLimit::Refuse, OverLimit::Unavailable] {
            let mut world = World::new();
            world.file("x", &Content::generated(1, SIZE)).file("y", &Content::generated(2, 1_000_000));
            world.origin.shape(Shape { rate_per_connection: Some(8 << 20), ..Shape::at_most(limit, over) });
            world.fetch_all();
            let counters = world.origin.counters();
            assert!(counters.peak_open <= limit as u64);
            assert!(counters.connections_refused < 100, "{limit} {over:?}: {counters:?}");
            assert!(counters.body_bytes_sent < (SIZE + 1_000_000) * 3 / 2, "{limit} {over:?}: {counters:?}");
        }
    }
}

#[test]
fn fault_42_one_file_fails_the_others_are_installed_and_there_is_no_marker() {
    let mut world = World::new();
    for n in 0..5u64 {
        world.file(&format!("d/{n}"), &Content::generated(n, 1_500_000));
    }
    world.origin.inject("/d/3", Fault::status(500));
    let error = world.fetch_refused().to_string();
    assert!(error.contains("500"), "{error}");
    assert_eq!(world.listing(), [".provision.journal", "d/0", "d/1", "d/2", "d/4"]);
    world.origin.clear_faults("/d/3");
    let before = world.origin.counters().body_bytes_sent;
    world.fetch_all();
    assert!(
        world.origin.counters().body_bytes_sent - before <= 1_500_000 * 11 / 10,
        "only the one that failed"
    );
}

#[test]
fn five_failures_in_a_row_end_a_source() {
    let world = alone(world(Fault::status(500), When::Always));
    let error = world.fetch_refused();
    assert_eq!(world.origin.counters().requests, 5);
    assert_eq!(world.events.count(|event| matches!(event, Event::Retry { limit: 5, .. })), 4);
    assert_eq!(error.attempts.len(), 1);
}

#[test]
fn five_failures_of_one_file_end_its_source_although_the_host_sends_others() {
    let mut world = World::new();
    world.file("bad", &Content::generated(1, 4_000_000)).file("good", &Content::generated(2, 40 << 20));
    world.origin.inject("/bad", Fault::status(500));
    world.origin.shape(Shape::rate(2 << 20));
    let error = world.fetch_refused().to_string();
    assert!(error.contains("/bad?… answered 500"), "{error}");
    let asked = world.origin.counters().path("/bad").requests;
    assert!(asked <= 5 * 4, "{asked} requests");
}

#[test]
fn a_host_that_refuses_one_file_for_long_is_asked_ever_less_often() {
    // A 503 may mean "one connection too many" while others receive, so it does not end the source; but it backs off.
    let mut world = World::new();
    world.file("bad", &Content::generated(1, 4_000_000)).file("good", &Content::generated(2, 8 << 20));
    world.origin.inject("/bad", Fault::status(503));
    world.origin.shape(Shape::rate(1 << 20));
    world.config.transfer.retry.longest = Duration::from_millis(400);
    world.fetch_refused();
    let asked = world.origin.counters().path("/bad").requests;
    assert!(asked <= 40, "{asked} requests");
}

#[test]
fn failures_that_strike_together_count_once() {
    // Once the address is known, connections ask side by side: eight are refused, two rounds of them.
    let mut world = world(Fault::status(500), When::custom(|_, number| (4..12).contains(&number)));
    world.origin.shape(Shape::rate(2 << 20));
    world.config.transfer.retry.retries = 4;
    world.fetch_all();
}

#[test]
fn progress_resets_the_count_of_failures() {
    let mut small = alone(World::new());
    small.file("x", &Content::generated(1, 20_000));
    small.origin.inject("/x", Fault::CutBody(1000));
    let report = small.fetch_all();
    assert_eq!(small.origin.counters().requests, 20);
    assert_eq!(small.origin.counters().body_bytes_sent, 20_000);
    assert_eq!(report.files[0].fetched, 20_000);

    let world = alone(world(Fault::status(500), When::custom(|_, number| number % 5 != 4)));
    world.fetch_all();
}

#[test]
fn every_eighth_connection_slow_does_not_hold_up_the_end() {
    let mut world = World::new();
    world.file("x", &Content::generated(1, 48 << 20));
    world.origin.shape(Shape { every_nth_slow: Some((8, 64 << 10)), ..Shape::rate(4 << 20) });
    let started = Instant::now();
    world.fetch_all();
    // 14 connections at 4 MiB/s would take 0.9 s; one slow connection's first claim alone would take 16.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn the_rate_holds() {
    let mut world = World::new();
    world.file("x", &Content::generated(1, 4_000_000)).file("y", &Content::generated(2, 2_000_000));
    world.config.transfer.rate = Some(3_000_000);
    assert_rate(&world, 2.0);
}

#[test]
fn the_rate_holds_for_files_of_a_single_read_too() {
    let mut world = World::new();
    for n in 0..60u64 {
        world.file(&n.to_string(), &Content::generated(n, 100_000));
    }
    world.config.transfer.rate = Some(3_000_000);
    assert_rate(&world, 2.0);
}

/// A run takes the `expected` seconds that its rate asks for, give or take 15 %. A machine that is busy with other
/// tests makes up for no lost time, so the upper bound leaves room.
fn assert_rate(world: &World, expected: f64) {
    let started = Instant::now();
    world.fetch_all();
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds > expected * 0.85, "{seconds} s for {expected} s worth of bytes");
    assert!(seconds < expected * 1.15 + 1.0, "{seconds} s for {expected} s worth of bytes");
}

#[test]
fn a_low_rate_is_not_a_stall() {
    let mut world = World::new();
    world.file("x", &Content::generated(1, 400_000)).file("y", &Content::generated(2, 400_000));
    world.config.transfer.rate = Some(300_000);
    world.config.transfer.stall = Duration::from_millis(300);
    let report = world.fetch_all();
    assert!(report.files.iter().all(|file| file.retries == 0), "{}", world.events.text());
}

#[test]
fn an_origin_that_is_slow_to_answer_is_not_asked_again_and_again() {
    let mut world = World::new();
    world.file("x", &Content::generated(1, 12 << 20));
    world.config.transfer.stall = Duration::from_secs(5);
    world.http.head_timeout = Duration::from_secs(5);
    world.origin.shape(Shape { first_byte_delay: Duration::from_millis(800), ..Shape::default() });
    world.fetch_all();
    assert!(world.origin.counters().requests <= 30, "{}", world.origin.counters().requests);
}

#[test]
fn a_mirror_on_another_origin_takes_over_when_the_first_dies() {
    let mut world = World::new();
    let content = Content::generated(1, 16 << 20);
    let first = start_origin("127.0.0.2");
    first.put("/x", content.clone());
    first.shape(Shape::rate(2 << 20));
    world.origin.put("/x", content.clone());
    let sources = [first.url("/x"), world.origin.url("/x")];
    world.model("x", &content, &sources);
    let sent = std::thread::scope(|scope| {
        let run = scope.spawn(|| world.fetch_all());
        first.wait_for(Duration::from_secs(20), |counters| counters.body_bytes_sent > 4 << 20).unwrap();
        let control = first.control();
        first.stop();
        let sent = control.counters().body_bytes_sent;
        let report = run.join().unwrap();
        assert_eq!(report.files[0].fetched, 16 << 20);
        sent
    });
    let again = (sent + world.origin.counters().body_bytes_sent).saturating_sub(16 << 20);
    assert!(again < 6 << 20, "{again} bytes were fetched twice");
}
