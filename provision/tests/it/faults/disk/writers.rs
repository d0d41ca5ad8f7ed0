//! Several runs in one directory: with working locks, with locks that do nothing, with dead or suspended lock holders
//! (faults 80, 81, 82).

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use provision_core::digest::Sha256;
use provision_testbed::{Content, Shape};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use super::machine::flock_that_lies;
use crate::program::{Run, fetch, run, signal, start};
use crate::world::{PATIENCE, World};

const MARKER: &str = ".models-installed";

/// Three files, slow enough that runs overlap.
fn set() -> World {
    let mut world = World::in_memory();
    for (name, seed, size) in [("a/large", 1, 6_000_000), ("a/middle", 2, 2_000_000), ("small", 3, 1000)] {
        world.file(name, &Content::generated(seed, size));
    }
    world.origin.shape(Shape::rate(2_000_000));
    world
}

fn with(shim: Option<&Path>, mut command: Command) -> Command {
    if let Some(shim) = shim {
        command.env("LD_PRELOAD", shim);
    }
    command
}

fn ended_well(children: Vec<Run>) {
    for child in children {
        let ended = child.end();
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
}

/// A run that is suspended midway by SIGSTOP; returns once it has stopped.
fn asleep(world: &World, shim: Option<&Path>) -> Run {
    let before = world.origin.counters().body_bytes_sent;
    let child = start(&mut with(shim, fetch(world, &["--connections", "4"])));
    world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > before + 2_000_000).unwrap();
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
    let world = set();
    let Some(shim) = flock_that_lies(&world) else { return };
    let writer = || start(&mut with(Some(&shim), fetch(&world, &["--connections", "2"])));
    let children: Vec<Run> = (0..8).map(|_| writer()).collect();
    ended_well(children);
    // Complete and valid, one marker, and no part, journal or temporary file of any of the eight.
    world.assert_installed();
    assert!(
        world.origin.counters().body_bytes_sent > 8_008_000,
        "only one of them fetched: nothing was tried"
    );
    let ended = run(&mut with(Some(&shim), fetch(&world, &[])));
    assert!(ended.code == Some(0) && ended.err.contains("nothing to do"), "{}", ended.err);
}

#[test]
fn fault_80_eight_writers_with_working_locks_fetch_once() {
    let world = set();
    let children: Vec<Run> = (0..8).map(|_| start(&mut fetch(&world, &[]))).collect();
    ended_well(children);
    world.assert_installed();
    let sent = world.origin.counters().body_bytes_sent;
    assert!(sent < 8_001_000 * 5 / 4, "{sent} bytes were sent for 8,001,000");
}

#[test]
fn fault_81_a_killed_run_blocks_no_other_and_is_resumed() {
    for lies in [false, true] {
        let world = set();
        let shim = if lies { flock_that_lies(&world) } else { None };
        if lies && shim.is_none() {
            return;
        }
        let child = start(&mut with(shim.as_deref(), fetch(&world, &["--connections", "4"])));
        world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 3_000_000).unwrap();
        signal(&child, Signal::KILL);
        child.end();
        assert!(world.path(".provision.lock").exists(), "a dead owner's lock is there");
        world.origin.shape(Shape::default());
        let report = world.beside("report.json");
        let started = Instant::now();
        let next = fetch(&world, &["--wait", "20s", "--report", report.to_str().unwrap()]);
        let ended = run(&mut with(shim.as_deref(), next));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(
            !ended.err.contains("waiting") && started.elapsed() < Duration::from_secs(10),
            "{}",
            ended.err
        );
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let resumed = report["totals"]["resumed"].as_u64().unwrap();
        assert!(resumed > 500_000, "only {resumed} bytes of the dead owner's were used, lies: {lies}");
        // Nothing else is left, under any name.
        world.assert_installed();
    }
}

#[test]
fn fault_82_a_suspended_writer_keeps_its_lock_and_is_named() {
    let world = set();
    let sleeper = asleep(&world, None);
    let ended = run(&mut fetch(&world, &["--wait", "200ms"]));
    assert_eq!(ended.code, Some(8), "{}", ended.err);
    assert!(ended.err.contains(&format!("held by process {}", sleeper.id())), "{}", ended.err);
    signal(&sleeper, Signal::CONT);
    ended_well(vec![sleeper]);
    world.assert_installed();
}

/// Removes locks, parts and journals, as a user does who believes that no run is active.
fn tidy_up(world: &World) {
    for name in world.listing() {
        let ending = name.rsplit('.').next();
        if matches!(ending, Some("part" | "journal")) || name == ".provision.lock" {
            std::fs::remove_file(world.path(&name)).unwrap();
        }
    }
}

#[test]
fn fault_82_a_resumed_writer_cannot_install_the_part_of_another() {
    let world = set();
    let first = asleep(&world, None);
    tidy_up(&world);
    let second = asleep(&world, None);
    signal(&first, Signal::CONT);
    let ended = first.end();
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    assert!(ended.err.contains("replaced while"), "{}", ended.err);
    // The second run's part is half empty, and has the name of the first run's part.
    world.assert_nothing_wrong();
    signal(&second, Signal::CONT);
    ended_well(vec![second]);
    world.assert_installed();
}

#[test]
fn fault_82_a_resumed_writer_cannot_change_installed_files() {
    let world = set();
    let sleeper = asleep(&world, None);
    tidy_up(&world);
    world.origin.shape(Shape::default());
    let ended = run(&mut fetch(&world, &[]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    world.assert_installed();
    let paths = ["a/large", "a/middle", "small"].map(|path| world.path(path));
    let before = paths.each_ref().map(|path| identity(path));

    signal(&sleeper, Signal::CONT);
    let ended = sleeper.end();
    // Its part has no name any more: the run reports that, or finds the files installed.
    assert!(matches!(ended.code, Some(0 | 7)), "{:?} {}", ended.code, ended.err);
    world.assert_nothing_wrong();
    let after = paths.each_ref().map(|path| identity(path));
    assert_eq!(before[0], after[0], "the file that the sleeper was writing was touched: {}", ended.err);
    let ended = run(&mut fetch(&world, &["--verify", "full"]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    world.assert_installed();
}

#[test]
fn fault_82_without_locks_a_resumed_writer_installs_equal_bytes() {
    let world = set();
    let Some(shim) = flock_that_lies(&world) else { return };
    let sleeper = asleep(&world, Some(&shim));
    let ended = run(&mut with(Some(&shim), fetch(&world, &[])));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    world.assert_nothing_wrong();
    assert!(world.path(MARKER).exists());
    // A process that has the installed file open goes on reading the same bytes.
    let mut open = std::fs::File::open(world.path("a/large")).unwrap();
    let before = open.metadata().unwrap();

    signal(&sleeper, Signal::CONT);
    ended_well(vec![sleeper]);
    world.assert_installed();
    let after = open.metadata().unwrap();
    assert_eq!((before.len(), before.mtime()), (after.len(), after.mtime()));
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(Sha256::of(&bytes).to_string(), Content::generated(1, 6_000_000).sha256_hex());
}
