//! The plain job: fetch, install, marker, and a second run.

use provision_core::event::{Event, Outcome, Planned};
use provision_engine::fetch::Verify;
use provision_testbed::{Content, Shape};

use crate::world::World;

#[test]
fn files_of_every_size_arrive_and_a_second_run_does_nothing() {
    let mut world = World::new();
    for (n, size) in [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 20_000_003].into_iter().enumerate() {
        world.file(&format!("d{}/file{n}.bin", n % 3), &Content::generated(n as u64, size));
    }
    let report = world.fetch_all();
    assert!(report.files.iter().all(|file| matches!(file.result, Ok(Some(Outcome::Fetched)))));
    let requests = world.origin.counters().requests;
    let again = world.fetch_all();
    assert!(again.by_marker);
    assert_eq!(world.origin.counters().requests, requests, "the marker needs no request");
}

#[test]
fn many_connections_share_a_large_file_without_sending_twice() {
    let mut world = World::new();
    let content = Content::generated(1, 48 << 20);
    world.file("large.bin", &content);
    world.origin.shape(Shape { rate_per_connection: Some(4 << 20), ..Shape::default() });
    let report = world.fetch_all();
    let counters = world.origin.counters();
    assert!(report.files[0].connections >= 8, "{} connections", report.files[0].connections);
    assert!(report.files[0].connections <= 16);
    let sent = counters.body_bytes_sent as f64 / content.size() as f64;
    assert!(sent < 1.35, "{sent:.2} of the bytes were sent");
}

#[test]
fn five_hundred_small_files() {
    let mut world = World::new();
    for n in 0..500u64 {
        world.file(&format!("d{}/f{n}", n % 7), &Content::generated(n, 100 + n * 37));
    }
    world.fetch_all();
    assert_eq!(world.origin.counters().requests, 500);
}

#[test]
fn fault_59_one_digest_under_two_paths_is_fetched_once() {
    let mut world = World::new();
    let content = Content::generated(5, 3_000_000);
    world.file("a/x", &content).file("b/y", &content);
    let report = world.fetch_all();
    assert_eq!(world.origin.counters().path("/b/y").requests, 0);
    assert!(matches!(report.files[1].result, Ok(Some(Outcome::Copied))));
    assert_eq!(report.plan[1].plan, Planned::Copy);
}

#[test]
fn without_a_marker_a_valid_file_is_kept_and_others_replaced() {
    let mut world = World::new();
    let (right, wrong) = (Content::generated(1, 100_000), Content::generated(2, 100_000));
    world.file("right", &right).file("wrong", &wrong);
    std::fs::create_dir_all(world.destination()).unwrap();
    std::fs::write(world.path("right"), right.to_vec()).unwrap();
    std::fs::write(world.path("wrong"), wrong.flipped(50_000, 3).to_vec()).unwrap();
    world.fetch_all();
    assert_eq!(world.origin.counters().path("/right").requests, 0);
    assert_eq!(world.events.count(|event| matches!(event, Event::Checking { .. })), 2);
}

#[test]
fn fault_79_other_bytes_with_equal_size_and_mtime_fail_full() {
    let mut world = World::new();
    let content = Content::generated(1, 100_000);
    world.file("x", &content);
    world.fetch_all();
    let mtime = std::fs::metadata(world.path("x")).unwrap().modified().unwrap();
    std::fs::write(world.path("x"), content.flipped(7, 0).to_vec()).unwrap();
    std::fs::File::open(world.path("x")).unwrap().set_modified(mtime).unwrap();
    assert!(world.fetch().unwrap().by_marker, "the marker cannot see it");
    world.config.verify = Verify::Full;
    world.fetch_all();
}

#[test]
fn quick_trusts_a_size_but_writes_no_marker_entry_for_it() {
    let mut world = World::new();
    let content = Content::generated(1, 100_000);
    world.file("x", &content);
    std::fs::create_dir_all(world.destination()).unwrap();
    std::fs::write(world.path("x"), content.flipped(7, 0).to_vec()).unwrap();
    world.config.verify = Verify::Quick;
    assert!(world.fetch().unwrap().is_complete());
    assert_eq!(world.listing(), ["x"]);
    world.config.verify = Verify::Marker;
    world.fetch_all();
}

#[test]
fn leftovers_of_a_kill_after_the_rename_are_removed() {
    let mut world = World::new();
    let content = Content::generated(1, 100_000);
    world.file("d/x", &content);
    world.fetch_all();
    let journal = format!("d/.x.{}.journal", &content.sha256_hex()[..8]);
    std::fs::write(world.path(&journal), b"provision-journal 1").unwrap();
    std::fs::remove_file(world.path(".models-installed")).unwrap();
    world.fetch_all();
}
