//! The plain job: fetch, install, marker, and a second run.

use std::collections::HashMap;

use provision_engine::fetch::Verify;

use crate::prelude::*;

#[test]
fn files_of_every_size_arrive_and_a_second_run_does_nothing() {
    let mut fixture = Fixture::new();
    for (n, size) in [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 20_000_003].into_iter().enumerate() {
        fixture.file(&format!("d{}/file{n}.bin", n % 3), &Content::generated(n as u64, size));
    }
    let report = fixture.fetch_all();
    assert!(report.files.iter().all(|file| matches!(file.result, Ok(Some(Outcome::Fetched)))));
    let requests = fixture.requests();
    let again = fixture.fetch_all();
    assert!(again.by_marker);
    assert_eq!(fixture.requests(), requests, "the marker needs no request");
}

#[test]
fn many_connections_share_a_large_file_without_sending_twice() {
    let (fixture, content) = Fixture::of("large.bin", Content::generated(1, 48 << 20));
    fixture.origin.shape(Shape { rate_per_connection: Some(4 << 20), ..Shape::default() });
    let report = fixture.fetch_all();
    let counters = fixture.origin.counters();
    assert!(report.files[0].connections >= 8, "{} connections", report.files[0].connections);
    assert!(report.files[0].connections <= 16);
    let sent = counters.body_bytes_sent as f64 / content.size() as f64;
    assert!(sent < 1.35, "{sent:.2} of the bytes were sent");
}

#[test]
fn five_hundred_small_files() {
    let mut fixture = Fixture::new();
    for n in 0..500u64 {
        fixture.file(&format!("d{}/f{n}", n % 7), &Content::generated(n, 100 + n * 37));
    }
    fixture.fetch_all();
    assert_eq!(fixture.requests(), 500);
}

#[test]
fn what_the_machine_says_is_not_read_for_each_file() {
    let Some(mut fixture) = with_strace(Fixture::new()) else { return };
    for n in 0..40 {
        fixture.file(&format!("d/f{n}"), &Content::generated(n, 1000));
    }
    let log = fixture.beside("strace.log");
    // `?`: not every machine type has these calls.
    let calls = ["-e", "trace=?open,openat,openat2,?readlink,readlinkat,statfs"];
    run(&mut strace(&fetch(&fixture, &[]), &log, &calls)).exits(0);
    let log = std::fs::read_to_string(log).unwrap();
    let is_machine = |path: &&str| ["/proc/", "/sys/", "/etc/"].iter().any(|place| path.starts_with(place));
    let mut reads = HashMap::<&str, usize>::new();
    for path in log.lines().filter_map(|line| line.split('"').nth(1)).filter(is_machine) {
        *reads.entry(path).or_default() += 1;
    }
    assert!(reads.contains_key("/proc/self/cgroup"), "the log lacks the reading of the number:\n{log}");
    reads.retain(|_, times| *times > 5);
    assert!(reads.is_empty(), "opened for each file: {reads:?}");
}

#[test]
fn fault_59_one_digest_under_two_paths_is_fetched_once() {
    let (mut fixture, content) = Fixture::of("a/x", Content::generated(5, 3_000_000));
    fixture.file("b/y", &content);
    let report = fixture.fetch_all();
    assert_eq!(fixture.origin.counters().path("/b/y").requests, 0);
    assert!(matches!(report.files[1].result, Ok(Some(Outcome::Copied))));
    assert_eq!(report.plan[1].plan, Planned::Copy);
}

#[test]
fn without_a_marker_a_valid_file_is_kept_and_others_replaced() {
    let mut fixture = Fixture::new();
    let (right, wrong) = (Content::generated(1, 100_000), Content::generated(2, 100_000));
    fixture.file("right", &right).file("wrong", &wrong);
    write(fixture.path("right"), right.to_vec());
    std::fs::write(fixture.path("wrong"), wrong.flipped(50_000, 3).to_vec()).unwrap();
    fixture.fetch_all();
    assert_eq!(fixture.origin.counters().path("/right").requests, 0);
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Checking { .. })), 2);
}

#[test]
fn quick_trusts_a_size_but_writes_no_marker_entry_for_it() {
    let (mut fixture, content) = Fixture::of("x", Content::generated(1, 100_000));
    write(fixture.path("x"), content.flipped(7, 0).to_vec());
    fixture.config.verify = Verify::Quick;
    assert!(fixture.fetch().unwrap().is_complete());
    assert_eq!(fixture.listing(), ["x"]);
    fixture.config.verify = Verify::Marker;
    fixture.fetch_all();
}

#[test]
fn leftovers_of_a_kill_after_the_rename_are_removed() {
    let (fixture, content) = Fixture::of("d/x", Content::generated(1, 100_000));
    fixture.fetch_all();
    let journal = format!("d/.x.{}.journal", &content.sha256_hex()[..8]);
    std::fs::write(fixture.path(&journal), b"provision-journal 1").unwrap();
    std::fs::remove_file(fixture.path(".models-installed")).unwrap();
    fixture.fetch_all();
}
