//! Several addresses of one file at the same time.

use crate::prelude::*;

const SIZE: u64 = 48 << 20;

/// A file at the fixture's origin and at a mirror, each with this many bytes a second for a connection.
fn mirrored(first: u64, second: u64) -> (Fixture, BlockingOrigin, Content) {
    let mut fixture = Fixture::in_memory();
    let content = Content::generated(1, SIZE);
    let mirror = start_origin("127.0.0.2");
    fixture.origin.put("/x", content.clone());
    mirror.put("/x", content.clone());
    for (origin, rate) in [(&*fixture.origin, first), (&*mirror, second)] {
        origin.shape(Shape::rate(rate));
    }
    let sources = [fixture.origin.url("/x"), mirror.url("/x")];
    fixture.model("x", &content, &sources);
    (fixture, mirror, content)
}

#[test]
fn both_addresses_of_the_lock_give_bytes() {
    let (fixture, _mirror, _) = mirrored(3 << 20, 3 << 20);
    let report = fixture.fetch_all();
    let given: Vec<u64> = report.files[0].sources.iter().map(|source| source.fetched).collect();
    assert_eq!((given.len(), given.iter().sum()), (2, SIZE), "{given:?}");
    assert!(given.iter().all(|bytes| *bytes > SIZE / 4), "{given:?}");
}

#[test]
fn fault_127_a_slow_mirror_does_not_delay_a_file() {
    for (first, second) in [(4 << 20, 16 << 10), (16 << 10, 4 << 20)] {
        let (fixture, _mirror, _) = mirrored(first, second);
        let report = fixture.fetch_all();
        // 0.8 s alone.
        assert!(report.elapsed < Duration::from_secs(4), "{:?}", report.elapsed);
    }
}

#[test]
fn one_source_asks_one_source() {
    let (mut fixture, mirror, _) = mirrored(4 << 20, 4 << 20);
    fixture.config.transfer.one_source = true;
    let report = fixture.fetch_all();
    assert_eq!(mirror.counters().requests, 0);
    assert!(report.files[0].sources.is_empty(), "one source is told by `source`");
}

#[test]
fn fault_128_wrong_bytes_beside_right_ones_are_read_again() {
    let (fixture, mirror, _) = mirrored(3 << 20, 3 << 20);
    mirror.put("/x", Content::generated(2, SIZE));
    let report = fixture.fetch_all();
    assert!(report.files[0].source.as_deref().unwrap().contains("127.0.0.1"));
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 1);
}

#[test]
fn a_mirror_that_misses_the_file_costs_one_request() {
    let (fixture, mirror, _) = mirrored(3 << 20, 3 << 20);
    mirror.inject("/x", Fault::status(404));
    fixture.fetch_all();
    assert_eq!(mirror.counters().requests, 1);
}

#[test]
fn a_mirror_without_ranges_is_left_alone() {
    let (fixture, mirror, _) = mirrored(3 << 20, 3 << 20);
    mirror.inject("/x", Fault::IgnoreRange { accept_ranges: false });
    fixture.fetch_all();
    assert!(mirror.counters().requests <= 2, "{}", mirror.counters().requests);
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
}

#[test]
fn fault_129_a_mirror_that_dies_loses_its_work_to_the_other() {
    let (fixture, mirror, _) = mirrored(3 << 20, 3 << 20);
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_all());
        mirror.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 2 << 20).unwrap();
        mirror.stop();
        run.join().unwrap()
    });
    assert!(report.elapsed < Duration::from_secs(6), "{:?}", report.elapsed);
}
