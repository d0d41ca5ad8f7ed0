//! Several runs in one directory: with working locks, with locks that do nothing, with dead or suspended lock holders
//! (faults 80, 81, 82).

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{WaitOptions, waitpid};

use super::machine::noop_flock;
use crate::prelude::*;

const MARKER: &str = ".models-installed";

/// Three files, slow enough that runs overlap.
fn set() -> Fixture {
    let mut fixture = Fixture::in_memory();
    for (name, seed, size) in [("a/large", 1, 6_000_000), ("a/middle", 2, 2_000_000), ("small", 3, 1000)] {
        fixture.file(name, &Content::generated(seed, size));
    }
    fixture.origin.shape(Shape::rate(2_000_000));
    fixture
}

fn with(shim: Option<&Path>, mut command: Command) -> Command {
    if let Some(shim) = shim {
        command.env("LD_PRELOAD", shim);
    }
    command
}

fn ended_well(children: Vec<Run>) {
    for child in children {
        child.end().exits(0);
    }
}

/// A run that is suspended midway by SIGSTOP; returns once it has stopped.
fn suspended(fixture: &Fixture, shim: Option<&Path>) -> Run {
    let before = fixture.sent();
    let child = start(&mut with(shim, fetch(fixture, &["--connections", "4"])));
    fixture.wait_for_bytes(before + 2_000_000);
    signal(&child, Signal::STOP);
    let stopped = waitpid(Some(Pid::from_child(&child)), WaitOptions::UNTRACED).unwrap();
    assert!(stopped.is_some_and(|(_, status)| status.stopped()), "it ended before it could be stopped");
    child
}

/// A file's inode and its ctime.
fn identity(path: &Path) -> (u64, i64, i64) {
    let found = std::fs::symlink_metadata(path).unwrap();
    (found.ino(), found.ctime(), found.ctime_nsec())
}

#[test]
fn fault_80_eight_writers_without_working_locks_all_succeed() {
    let fixture = set();
    let Some(shim) = noop_flock(&fixture) else { return };
    let writer = || start(&mut with(Some(&shim), fetch(&fixture, &["--connections", "2"])));
    let children: Vec<Run> = (0..8).map(|_| writer()).collect();
    ended_well(children);
    // Complete and valid, one marker, and no part, journal or temporary file of any of the eight.
    fixture.assert_installed();
    assert!(fixture.sent() > 8_008_000, "only one of them fetched: the locks worked");
    run(&mut with(Some(&shim), fetch(&fixture, &[]))).exits(0).err_has(&["nothing to do"]);
}

#[test]
fn fault_80_eight_writers_with_working_locks_fetch_once() {
    let fixture = set();
    let children: Vec<Run> = (0..8).map(|_| start(&mut fetch(&fixture, &[]))).collect();
    ended_well(children);
    fixture.assert_installed();
    let sent = fixture.sent();
    assert!(sent < 8_001_000 * 5 / 4, "{sent} bytes were sent for 8,001,000");
}

#[test]
fn fault_81_a_killed_run_blocks_no_other_and_is_resumed() {
    for noop in [false, true] {
        let fixture = set();
        let shim = if noop { noop_flock(&fixture) } else { None };
        if noop && shim.is_none() {
            return;
        }
        let child = start(&mut with(shim.as_deref(), fetch(&fixture, &["--connections", "4"])));
        fixture.wait_for_bytes(3_000_000);
        signal(&child, Signal::KILL);
        child.end();
        assert!(fixture.path(".provision.lock").exists(), "the killed run left its lock file");
        fixture.origin.shape(Shape::default());
        let report = fixture.beside("report.json");
        let started = Instant::now();
        let next = fetch(&fixture, &["--wait", "20s", "--report", report.to_str().unwrap()]);
        let ended = run(&mut with(shim.as_deref(), next)).exits(0);
        assert!(
            !ended.err.contains("waiting") && started.elapsed() < Duration::from_secs(10),
            "{}",
            ended.err
        );
        let report = read_report(report);
        let resumed = report["totals"]["resumed"].as_u64().unwrap();
        assert!(resumed > 500_000, "only {resumed} bytes of the killed run were used, noop: {noop}");
        // Nothing else is left, under any name.
        fixture.assert_installed();
    }
}

#[test]
fn fault_82_a_suspended_writer_keeps_its_lock_and_is_named() {
    let fixture = set();
    let sleeper = suspended(&fixture, None);
    run(&mut fetch(&fixture, &["--wait", "200ms"]))
        .exits(8)
        .err_has(&[&format!("held by process {}", sleeper.id())]);
    signal(&sleeper, Signal::CONT);
    ended_well(vec![sleeper]);
    fixture.assert_installed();
}

/// Removes locks, parts and journals, as a user does who believes that no run is active.
fn remove_run_files(fixture: &Fixture) {
    for name in fixture.listing() {
        let ending = name.rsplit('.').next();
        if matches!(ending, Some("part" | "journal")) || name == ".provision.lock" {
            std::fs::remove_file(fixture.path(&name)).unwrap();
        }
    }
}

#[test]
fn fault_82_a_resumed_writer_cannot_install_the_part_of_another() {
    let fixture = set();
    let first = suspended(&fixture, None);
    remove_run_files(&fixture);
    let second = suspended(&fixture, None);
    signal(&first, Signal::CONT);
    first.end().exits(7).err_has(&["replaced while"]);
    // The second run's part is half empty, and has the name of the first run's part.
    fixture.assert_nothing_wrong();
    signal(&second, Signal::CONT);
    ended_well(vec![second]);
    fixture.assert_installed();
}

#[test]
fn fault_82_a_resumed_writer_cannot_change_installed_files() {
    let fixture = set();
    let sleeper = suspended(&fixture, None);
    remove_run_files(&fixture);
    fixture.origin.shape(Shape::default());
    run(&mut fetch(&fixture, &[])).exits(0);
    fixture.assert_installed();
    let paths = ["a/large", "a/middle", "small"].map(|path| fixture.path(path));
    let before = paths.each_ref().map(|path| identity(path));

    signal(&sleeper, Signal::CONT);
    let ended = sleeper.end();
    // Its part has no name any more: the run reports that, or finds the files installed.
    assert!(matches!(ended.code, Some(0 | 7)), "{:?} {}", ended.code, ended.err);
    fixture.assert_nothing_wrong();
    let after = paths.each_ref().map(|path| identity(path));
    assert_eq!(before[0], after[0], "the file that the suspended writer had open was changed: {}", ended.err);
    run(&mut fetch(&fixture, &["--verify", "full"])).exits(0);
    fixture.assert_installed();
}

#[test]
fn fault_82_without_locks_a_resumed_writer_installs_equal_bytes() {
    let fixture = set();
    let Some(shim) = noop_flock(&fixture) else { return };
    let sleeper = suspended(&fixture, Some(&shim));
    run(&mut with(Some(&shim), fetch(&fixture, &[]))).exits(0);
    fixture.assert_nothing_wrong();
    assert!(fixture.path(MARKER).exists());
    // A process that has the installed file open goes on reading the same bytes.
    let mut open = std::fs::File::open(fixture.path("a/large")).unwrap();
    let before = open.metadata().unwrap();

    signal(&sleeper, Signal::CONT);
    ended_well(vec![sleeper]);
    fixture.assert_installed();
    let after = open.metadata().unwrap();
    assert_eq!((before.len(), before.mtime()), (after.len(), after.mtime()));
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(Sha256::of(&bytes).to_string(), Content::generated(1, 6_000_000).sha256_hex());
}
