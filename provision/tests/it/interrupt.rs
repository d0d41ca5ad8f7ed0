//! Runs that are stopped, and the runs that follow (fault 85).

use provision_engine::fetch::FetchError;

use crate::prelude::*;

const SET: u64 = 72_000_000;

fn set() -> Fixture {
    let mut fixture = Fixture::new();
    for (path, seed, size) in [("a/large", 1, 48_000_000), ("b/middle", 2, 20_000_000), ("c", 3, 4_000_000)] {
        fixture.file(path, &Content::generated(seed, size));
    }
    fixture.origin.shape(Shape::rate(1_000_000));
    fixture
}

#[test]
fn fault_85_a_stopped_run_keeps_its_bytes_for_the_next_run() {
    let fixture = set();
    let mut lost = 0;
    let mut sent = 0;
    for part in 1..=3u64 {
        let report = fixture.fetch_and_interrupt_at(sent + SET / 10);
        assert!(report.interrupted, "part {part}");
        assert!(report.files.iter().any(|file| matches!(file.result, Ok(None))));
        fixture.assert_nothing_wrong();
        assert!(!fixture.path(".models-installed").exists());
        let counters = fixture.origin.wait_for(PATIENCE, |counters| counters.connections_open == 0).unwrap();
        sent = counters.body_bytes_sent;
        let held = fixture.held();
        let now_lost = sent - held - lost;
        assert!(now_lost <= SET / 50, "part {part}: {now_lost} of {sent} bytes are to be fetched again");
        lost = sent - held;
        let fetched: u64 = report.files.iter().map(|file| file.fetched + file.resumed).sum();
        assert!(fetched >= held, "{fetched} were reported, {held} are held");
    }
    let held = fixture.held();
    fixture.origin.shape(Shape::default());
    let report = fixture.fetch_all();
    let fetched: u64 = report.files.iter().map(|file| file.fetched).sum();
    assert_eq!(fetched, SET - held, "nothing that was held is fetched again");
    assert!(report.files.iter().any(|file| file.resumed > 0));
    assert!(!report.interrupted);
}

#[test]
fn fault_85_a_stop_ends_every_kind_of_wait_at_once() {
    for fault in [Fault::NoAnswer, Fault::Stall(0), Fault::Stall(500_000), Fault::status(503)] {
        let mut fixture = Fixture::with(&[("x", 1, 8_000_000)]);
        fixture.origin.inject("/x", fault.clone());
        fixture.config.transfer.stall = Duration::from_secs(30);
        fixture.config.transfer.retry.base = Duration::from_secs(20);
        fixture.config.transfer.retry.longest = Duration::from_secs(20);
        fixture.http.head_timeout = Duration::from_secs(30);
        let (stop, stopped) = watch::channel(false);
        std::thread::scope(|scope| {
            let run = scope.spawn(|| fixture.fetch_until(stopped));
            fixture.origin.wait_for(PATIENCE, |counters| counters.requests >= 1).unwrap();
            let told = Instant::now();
            stop.send(true).unwrap();
            let report = run.join().unwrap().unwrap();
            assert!(told.elapsed() < Duration::from_secs(3), "{fault:?}: {:?}", told.elapsed());
            assert!(report.interrupted, "{fault:?}");
        });
    }
}

#[test]
fn fault_85_a_run_stopped_before_its_start_opens_no_socket() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    let (_stop, stopped) = watch::channel(true);
    assert!(matches!(fixture.fetch_until(stopped), Err(FetchError::Interrupted)));
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
    fixture.fetch_all();
}

#[test]
fn a_caller_that_drops_its_stop_handle_does_not_stop_the_run() {
    let fixture = Fixture::with(&[("x", 1, 3_000_000)]);
    let (stop, stopped) = watch::channel(false);
    drop(stop);
    assert!(fixture.fetch_until(stopped).unwrap().is_complete());
}

#[test]
fn fault_85_a_stopped_stream_without_ranges_is_resumed() {
    let mut fixture = Fixture::new();
    let size = 12_000_000;
    fixture.file("x", &Content::generated(1, size));
    fixture.origin.inject("/x", Fault::IgnoreRange { accept_ranges: false });
    fixture.origin.shape(Shape::rate(6_000_000));
    let report = fixture.fetch_and_interrupt_at(6_000_000);
    assert!(report.interrupted);
    let held = fixture.held();
    assert!(held > 1_000_000, "{held}");
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].resumed, held);
    assert_eq!(report.files[0].fetched, size - held, "what is held is passed over");
}
