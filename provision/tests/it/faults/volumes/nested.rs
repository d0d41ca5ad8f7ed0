//! Two runs at once whose destinations lie in each other (fault 88).

use std::path::Path;
use std::process::Command;

use provision_testbed::{Content, Shape};
use rustix::process::Signal;

use crate::fixture::{Fixture, PATIENCE};
use crate::program::{program, run, signal, start};

/// The size of the large file in both destinations.
const SIZE: u64 = 6_000_000;

/// A fixture whose lock has files in `d` and beside it, and a lock for the destination `d` that shares the large one.
fn fixture() -> (Fixture, std::path::PathBuf) {
    let mut fixture = Fixture::in_memory();
    fixture.file("d/large", &Content::generated(1, SIZE)).file("small", &Content::generated(2, 1000));
    fixture.origin.shape(Shape::rate(2_000_000));
    let below = fixture.beside("below.toml");
    let entry = fixture.lock_text().split_inclusive("[[model]]").take(2).collect::<String>();
    let entry = entry.trim_end_matches("[[model]]").replace("\"d/large\"", "\"large\"");
    std::fs::write(&below, entry).unwrap();
    (fixture, below)
}

fn fetch(fixture: &Fixture, lock: &Path, dest: &Path, more: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg("fetch").arg("--lock").arg(lock).arg("--dest").arg(dest).args(more);
    command
}

/// Two runs, of which the second starts while the first one's large file is on its way; both succeed.
fn at_once(fixture: &Fixture, first: (&Path, &Path), second: (&Path, &Path)) {
    let before = fixture.origin.counters().body_bytes_sent;
    let running = start(&mut fetch(fixture, first.0, first.1, &["--connections", "4"]));
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > before + SIZE / 3).unwrap();
    let hurried = run(&mut fetch(fixture, second.0, second.1, &["--wait", "0"]));
    assert_eq!(hurried.code, Some(8), "{}", hurried.err);
    assert!(hurried.err.contains(&format!("held by process {}", running.id())), "{}", hurried.err);
    let waiting = start(&mut fetch(fixture, second.0, second.1, &[]));
    for ended in [running.end(), waiting.end()] {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    fixture.assert_nothing_wrong();
    let left = fixture.listing().into_iter().find(|name| name.ends_with(".part") || name.ends_with(".lock"));
    assert_eq!(left, None);
    let sent = fixture.origin.counters().body_bytes_sent - before;
    assert!(
        sent < SIZE * 5 / 4,
        "{sent} bytes were sent for {SIZE}: what one run wrote was lost to the other"
    );
}

#[test]
fn fault_88_a_run_waits_for_one_in_a_directory_above_or_below() {
    for above_first in [true, false] {
        let (fixture, below) = fixture();
        let (lock, root, sub) = (fixture.write_lock(), fixture.path(""), fixture.path("d"));
        let (first, second) = ((lock.as_path(), root.as_path()), (below.as_path(), sub.as_path()));
        if above_first {
            at_once(&fixture, first, second);
        } else {
            at_once(&fixture, second, first);
        }
    }
}

#[test]
fn fault_88_many_runs_above_and_below_all_succeed() {
    let (fixture, below) = fixture();
    let (lock, root, sub) = (fixture.write_lock(), fixture.path(""), fixture.path("d"));
    let runs: Vec<_> = (0..8)
        .map(|n| {
            let (lock, dest) = if n % 2 == 0 { (&lock, &root) } else { (&below, &sub) };
            start(&mut fetch(&fixture, lock, dest, &["--connections", "2"]))
        })
        .collect();
    for ended in runs.into_iter().map(crate::program::Run::end) {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    fixture.assert_nothing_wrong();
    let sent = fixture.origin.counters().body_bytes_sent;
    assert!(sent < SIZE * 5 / 4, "{sent} bytes were sent for {SIZE}");
}

#[test]
fn fault_88_directories_that_share_no_file_do_not_wait() {
    let (fixture, below) = fixture();
    // A killed run's lock holds no other run up, and directories side by side have nothing in common.
    let killed = start(&mut fetch(&fixture, &below, &fixture.path("d"), &[]));
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > SIZE / 3).unwrap();
    signal(&killed, Signal::KILL);
    killed.end();
    assert!(fixture.path("d/.provision.lock").exists());
    let running = start(&mut fetch(&fixture, &below, &fixture.path("e"), &[]));
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > SIZE).unwrap();
    let ended = run(&mut fetch(&fixture, &fixture.write_lock(), &fixture.path(""), &["--wait", "0"]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(running.end().code, Some(0));
    fixture.assert_nothing_wrong();
}
