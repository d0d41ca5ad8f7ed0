//! Kills and signals: what a run keeps when it is ended at any moment, and what the next one makes of it (faults 66, 85,
//! 86).

use std::process::Command;

use provision_testbed::{Content, Shape};
use rustix::process::Signal;

use super::machine::{after, environment};
use crate::program::{PATIENCE, fetch, run, signal, start};
use crate::requirement::{needs_root, needs_tool};
use crate::world::World;

/// How large the set is that is ended.
const SET: u64 = 24_000_000;
/// What a kill may cost: two per cent of a hundred megabytes.
const LOST: u64 = 2_000_000;
/// What eight connections have in memory at most: one buffer being filled, one being written, each.
const IN_MEMORY: u64 = 8 * 2 * (64 << 10);

/// A set in three files, at so many bytes a second for each connection.
fn set(rate: u64) -> World {
    let mut world = World::in_memory();
    for (name, seed, size) in
        [("a/large", 1, 16_000_000), ("b/middle", 2, 6_000_000), ("c/small", 3, 2_000_000)]
    {
        world.file(name, &Content::generated(seed, size));
    }
    world.origin.shape(Shape::rate(rate));
    world
}

#[test]
fn fault_66_kill_9_at_fifty_random_moments_never_leaves_a_wrong_byte_and_always_resumes() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut runs, mut kills, mut worst) = (0, 0, 0);
    while kills < 50 {
        let world = set(16_000_000);
        // Each world is killed many times on its way, so that resumed runs are killed too.
        let mut held = 0;
        while kills < 50 && held < SET {
            runs += 1;
            assert!(runs <= 200, "seed {seed}: {kills} kills in {runs} runs");
            let before = world.origin.counters();
            let moment = before.body_bytes_sent + random.u64(0..1_500_000);
            let child = start(&mut fetch(&world, &["--connections", "8", "--progress", "json"]));
            // Near its end a run may need fewer bytes than that: its connections close then.
            let reached = world.origin.wait_for(PATIENCE, |now| {
                let over =
                    now.connections_accepted > before.connections_accepted && now.connections_open == 0;
                now.body_bytes_sent >= moment || over
            });
            reached.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            signal(&child, Signal::KILL);
            let killed = child.end().code.is_none();
            world.assert_nothing_wrong();
            if !killed || world.path(".models-installed").exists() {
                break;
            }
            kills += 1;
            world.origin.wait_for(PATIENCE, |counters| counters.connections_open == 0).unwrap();
            held = world.held();
            // Measured on the disk: what the origin has sent may still have been in the sockets.
            let lost = world.on_disk().saturating_sub(held) + IN_MEMORY;
            worst = worst.max(lost);
            assert!(lost <= LOST, "seed {seed}: {lost} bytes are lost by one kill, {held} are held");
        }
        world.origin.shape(Shape::default());
        let ended = run(&mut fetch(&world, &["--connections", "8"]));
        assert_eq!(ended.code, Some(0), "seed {seed}: {}", ended.err);
        world.assert_installed();
    }
    println!("{kills} kills in {runs} runs; the worst lost {worst} bytes");
}

/// Bytes that are installed, or that a journal says are durable.
fn durable(world: &World) -> u64 {
    let of_record = |line: &str| {
        let mut fields = line.strip_prefix("durable ")?.split(' ').map(|field| field.parse::<u64>().ok());
        let (start, end) = (fields.next()??, fields.next()??);
        Some(end - start)
    };
    let of_file = |name: &String| match std::path::Path::new(name).extension() {
        Some(ending) if ending == "journal" => {
            std::fs::read_to_string(world.path(name)).unwrap().lines().filter_map(of_record).sum()
        }
        Some(_) => 0,
        None => std::fs::metadata(world.path(name)).unwrap().len(),
    };
    world.listing().iter().filter(|name| name.contains('/')).map(of_file).sum()
}

#[test]
fn fault_85_a_signal_keeps_what_has_arrived_and_the_next_run_goes_on() {
    for (number, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let world = set(2_000_000);
        let report = world.beside("report.json");
        let arguments = ["--connections", "8", "--report", report.to_str().unwrap()];
        let child = start(&mut fetch(&world, &arguments));
        let sent = world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 6_000_000).unwrap();
        signal(&child, number);
        let ended = child.end();
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains("rerun to resume"), "{}", ended.err);
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert_eq!(report["complete"], false);
        let unfinished = |file: &serde_json::Value| file["outcome"] == "unfinished";
        assert!(report["files"].as_array().unwrap().iter().any(unfinished), "{report}");
        world.assert_nothing_wrong();
        let held = world.held();
        let unheld = world.on_disk().saturating_sub(held);
        assert!(held > 2_000_000 && unheld < 256 << 10, "{unheld} bytes are on disk and {held} of them held");
        assert_eq!(durable(&world), held, "what is held would outlive a power cut too");
        let before = world.origin.counters().body_bytes_sent;
        assert!(before - sent.body_bytes_sent < 8_000_000, "it went on after the signal");
        world.origin.shape(Shape::default());
        let path = world.beside("next.json");
        let next = run(&mut fetch(&world, &["--report", path.to_str().unwrap()]));
        assert_eq!(next.code, Some(0), "{}", next.err);
        world.assert_installed();
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(report["totals"]["fetched"], SET - held, "what was held is not fetched again");
    }
}

#[test]
fn fault_85_two_signals_at_once_cost_no_more_than_a_kill() {
    let world = set(2_000_000);
    let child = start(&mut fetch(&world, &["--connections", "8"]));
    world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 6_000_000).unwrap();
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    let ended = child.end();
    assert!(matches!(ended.code, Some(130 | 143)), "{:?} {}", ended.code, ended.err);
    world.assert_nothing_wrong();
    let held = world.held();
    assert!(held > 0 && world.on_disk().saturating_sub(held) <= LOST, "{held} bytes are held");
    world.origin.shape(Shape::default());
    assert_eq!(run(&mut fetch(&world, &[])).code, Some(0));
    world.assert_installed();
}

/// Somebody without rights: root may open what has no mode at all.
fn as_nobody(world: &World, before: &str, command: &Command) -> Command {
    let program = world.beside("provision");
    if !program.exists() {
        std::fs::copy(command.get_program(), &program).unwrap();
        let (nobody, home) = (Some(65534), program.parent().unwrap());
        std::os::unix::fs::chown(home, nobody, nobody).unwrap();
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    nobody.args(command.get_args()).envs(environment(command));
    after(before, &nobody)
}

#[test]
fn fault_86_a_run_that_was_stopped_under_an_odd_umask_is_gone_on_with() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    for (umask, number) in [("0777", Signal::TERM), ("0777", Signal::KILL), ("0277", Signal::TERM)] {
        let mut world = World::new();
        world.file("deep/x", &Content::generated(1, 8_000_000));
        world.origin.shape(Shape::rate(2_000_000));
        let umask = format!("umask {umask}");
        let child = start(&mut as_nobody(&world, &umask, &fetch(&world, &[])));
        world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 3_000_000).unwrap();
        signal(&child, number);
        child.end();
        let held = world.held();
        assert!(held > 0);
        world.origin.shape(Shape::default());
        let ended = run(&mut as_nobody(&world, &umask, &fetch(&world, &[])));
        assert_eq!(ended.code, Some(0), "{umask}, {number:?}: {}", ended.err);
        world.assert_installed();
        assert!(ended.err.contains("were there from an earlier run"), "{}", ended.err);
    }
}
