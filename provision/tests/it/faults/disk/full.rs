//! No space: blocks, inodes, quotas, the file size limit (faults 68, 69, 72), and short reads and writes (fault 71).
//!
//! Each failure is fatal to its file only. The exit code is 7, and the message has the path and the remedy. No wrong
//! byte gets a final name and no marker is written; the next run resumes once there is space.

use provision_testbed::{Content, Shape};

use super::machine::{Volume, after, shim, strace};
use crate::program::{Ended, fetch, run, start};
use crate::requirement::needs_tool;
use crate::world::{PATIENCE, World};

const SIZE: u64 = 12_000_000;
const MARKER: &str = ".models-installed";

/// One file of twelve megabytes, at two megabytes a second for each connection.
fn slow(mut world: World) -> World {
    world.file("d/x", &Content::generated(1, SIZE));
    world.origin.shape(Shape::rate(2_000_000));
    world
}

/// The name of that file's part.
fn part_of(world: &World, ending: &str) -> String {
    format!("d/.x.{}.{ending}", world.lock().models()[0].sha256.short())
}

fn assert_full(world: &World, ended: &Ended, names: &str) {
    assert_resumable(world, ended, &[names, "no room left while", "bytes are free"]);
}

fn assert_resumable(world: &World, ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    for said in says.iter().chain(&["run again (it resumes)"]) {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
    assert_nothing_final(world);
}

fn assert_nothing_final(world: &World) {
    assert!(!world.path("d/x").exists(), "something got the final name");
    assert!(!world.path(MARKER).exists(), "a marker was written");
}

/// A run that must succeed; returns how many bytes it resumed and fetched.
fn finish(world: &World) -> (u64, u64) {
    world.origin.shape(Shape::default());
    let report = world.beside("report.json");
    let ended = run(&mut fetch(world, &["--report", report.to_str().unwrap()]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    world.assert_installed();
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let total = |name: &str| report["totals"][name].as_u64().unwrap();
    (total("resumed"), total("fetched"))
}

#[test]
fn fault_68_a_disk_that_fills_up_keeps_bytes_for_the_next_run() {
    let Some(volume) = Volume::tmpfs("size=20m") else { return };
    let world = slow(volume.world());
    let child = start(&mut fetch(&world, &["--connections", "4"]));
    world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 4_000_000).unwrap();
    let filler = volume.fill();
    let ended = child.end();
    assert_full(&world, &ended, &part_of(&world, "part"));
    let held = world.held();
    assert!(held > 1_000_000 && held < SIZE, "{held} of {SIZE} bytes are held");

    // Missing space is reported before the first byte, in numbers: the missing bytes, and a 256th of them for the
    // journal.
    filler.leave(1 << 20);
    let requests = world.origin.counters().requests;
    let ended = run(&mut fetch(&world, &[]));
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    let needed =
        format!("{}: {} bytes are needed and ", world.destination(), SIZE - held + (SIZE - held) / 256);
    assert!(ended.err.contains(&needed) && ended.err.contains("are free; free "), "{}", ended.err);
    assert_eq!(world.origin.counters().requests, requests);
    assert_eq!(world.held(), held, "a run that found no room took something away");

    filler.remove();
    assert_eq!(finish(&world), (held, SIZE - held));
}

#[test]
fn fault_68_no_room_for_the_journal_loses_no_journaled_byte() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let world = slow(World::new());
    let journal = part_of(&world, "journal");
    let path = world.path(&journal);
    let log = world.beside("strace.log");
    let full = ["-P", path.to_str().unwrap(), "-e", "trace=write", "-e", "inject=write:error=ENOSPC:when=1+"];

    // The first record of the journal.
    let ended = run(&mut strace(&fetch(&world, &[]), &log, &full));
    assert_full(&world, &ended, &journal);
    assert_eq!(world.held(), 0);

    // Records of a journal that an earlier run began.
    assert!(world.fetch_and_interrupt_at(world.origin.counters().body_bytes_sent + 4_000_000).interrupted);
    let held = world.held();
    assert!(held > 0);
    let ended = run(&mut strace(&fetch(&world, &[]), &log, &full));
    assert_full(&world, &ended, &journal);
    assert_eq!(world.held(), held);
    assert_eq!(finish(&world), (held, SIZE - held));
}

#[test]
fn fault_68_no_room_for_the_marker_leaves_files_without_it() {
    // The lock file takes one of 256 pages, the models all others; the marker is one too many. The models are too small
    // for journals, which would take a page meanwhile.
    let Some(mut volume) = Volume::tmpfs("size=1m") else { return };
    let mut world = volume.world();
    let names: Vec<String> = (10..27).map(|n| format!("d/x{n}")).collect();
    for (seed, name) in names.iter().enumerate() {
        world.file(name, &Content::generated(seed as u64, 15 * 4096));
    }
    let ended = run(&mut fetch(&world, &[]));
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    assert!(ended.err.contains(MARKER) && ended.err.contains("no room left while"), "{}", ended.err);
    world.assert_nothing_wrong();
    assert_eq!(world.listing(), names, "every file is whole, and nothing says that the set is");
    volume.remount("size=2m");
    assert_eq!(finish(&world), (0, 0), "nothing is fetched again");
}

#[test]
fn fault_68_no_room_for_a_directory_entry_is_an_error() {
    if !needs_tool("strace", "-V") {
        return;
    }
    for call in ["mkdirat", "renameat"] {
        let mut world = World::new();
        world.file("d/x", &Content::generated(1, 100_000));
        let (trace, full) = (format!("trace={call}"), format!("inject={call}:error=ENOSPC:when=1+"));
        let log = world.beside("strace.log");
        let ended = run(&mut strace(&fetch(&world, &[]), &log, &["-e", &trace, "-e", &full]));
        assert_full(&world, &ended, world.destination().as_str());
        finish(&world);
    }
}

#[test]
fn fault_69_a_spent_quota_is_no_space_and_the_next_run_resumes() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let world = slow(World::new());
    let part = part_of(&world, "part");
    let path = world.path(&part);
    let quota =
        ["-P", path.to_str().unwrap(), "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=EDQUOT:when=30+"];
    let ended = run(&mut strace(&fetch(&world, &["--connections", "4"]), &world.beside("log"), &quota));
    assert_resumable(&world, &ended, &[&part, "quota"]);
    let held = world.held();
    assert_eq!(finish(&world), (held, SIZE - held));
}

#[test]
fn fault_69_the_file_size_limit_fails_the_file_not_the_process() {
    let world = slow(World::new());
    // Not a multiple of the write size: the write at the limit is cut short before the next one fails.
    let blocks = 4_000_000 / 512 + 1;
    let ended = run(&mut after(&format!("ulimit -f {blocks}"), &fetch(&world, &["--connections", "2"])));
    assert_resumable(&world, &ended, &[&part_of(&world, "part"), "File too large"]);
    let held = world.held();
    assert!(held > 0 && held <= blocks * 512, "{held}");
    assert_eq!(finish(&world), (held, SIZE - held));
}

#[test]
fn fault_71_short_or_interrupted_reads_and_writes_are_completed() {
    let mut world = World::new();
    world.file("d/x", &Content::generated(1, 3_000_000)).file("y", &Content::generated(2, 10_000));
    let Some(shim) = shim(&world, "short", include_str!("short_and_interrupted.c")) else { return };
    let disturbed = |world: &World, arguments: &[&str]| {
        let log = world.beside("shim.log");
        let ended = run(fetch(world, arguments).env("LD_PRELOAD", &shim).env("SHIM_LOG", &log));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let calls: u64 = std::fs::read_to_string(log).unwrap().trim().parse().unwrap();
        assert!(calls > 20, "the shim saw {calls} calls only");
    };
    disturbed(&world, &[]);
    world.assert_installed();
    let fetched = world.origin.counters().body_bytes_sent;
    // Reads, too: hashing an installed file, and resuming a part.
    disturbed(&world, &["--verify", "full"]);
    assert_eq!(world.origin.counters().body_bytes_sent, fetched);
    world.file("z", &Content::generated(3, SIZE));
    world.origin.shape(Shape::rate(4_000_000));
    assert!(world.fetch_and_interrupt_at(fetched + SIZE / 2).interrupted);
    world.origin.shape(Shape::default());
    let held = world.held() - 3_010_000;
    let report = world.beside("report.json");
    disturbed(&world, &["--report", report.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["totals"]["resumed"].as_u64(), Some(held));
    world.assert_installed();
}

#[test]
fn fault_72_running_out_of_inodes_is_no_space_and_resumable() {
    let Some(mut volume) = Volume::tmpfs("size=20m,nr_inodes=2") else { return };
    let mut world = volume.world();
    world.file("d/e/x", &Content::generated(1, 3_000_000)).file("y", &Content::generated(2, 1000));
    world.origin.shape(Shape::rate(4_000_000));
    let mut refused = 0;
    // The volume's root, the destination, its lock, two directories, two parts, a journal: each is one too many once.
    for inodes in 2..10 {
        volume.remount(&format!("nr_inodes={inodes}"));
        let ended = run(&mut fetch(&world, &[]));
        world.assert_nothing_wrong();
        if ended.code == Some(0) {
            break;
        }
        refused += 1;
        assert_eq!(ended.code, Some(7), "{inodes} inodes: {}", ended.err);
        let destination = world.destination();
        assert!(ended.err.contains(destination.as_str()), "{inodes} inodes: {}", ended.err);
        assert!(ended.err.contains("no room left while"), "{inodes} inodes: {}", ended.err);
        assert!(!world.path(MARKER).exists());
    }
    assert!(refused >= 4, "{refused}");
    world.assert_installed();
}
