//! Kills and signals: the bytes that a run keeps at any moment, and the run that follows (faults 66, 85, 86, 106, 111).

use std::process::Command;

use provision_testbed::{Content, Fault, Shape};
use rustix::process::Signal;

use super::machine::{after, environment};
use crate::fixture::Fixture;
use crate::program::{PATIENCE, copy_program, fetch, run, signal, start};
use crate::skip::{needs_root, needs_tool};

/// The size of the set.
const SET: u64 = 24_000_000;
/// The most that a kill may lose: two per cent of a hundred megabytes.
const LOST: u64 = 2_000_000;
/// The most that eight connections buffer: for each, one buffer being filled and one being written.
const IN_MEMORY: u64 = 8 * 2 * (64 << 10);

/// A set in three files, with this rate in bytes per second for each connection.
fn set(rate: u64) -> Fixture {
    let mut fixture = Fixture::in_memory();
    for (name, seed, size) in
        [("a/large", 1, 16_000_000), ("b/middle", 2, 6_000_000), ("c/small", 3, 2_000_000)]
    {
        fixture.file(name, &Content::generated(seed, size));
    }
    fixture.origin.shape(Shape::rate(rate));
    fixture
}

#[test]
fn fault_66_fifty_random_kills_leave_no_wrong_byte_and_resume() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut runs, mut kills, mut worst) = (0, 0, 0);
    while kills < 50 {
        let fixture = set(16_000_000);
        // Each fixture is killed many times, so that resumed runs are killed too.
        let mut held = 0;
        while kills < 50 && held < SET {
            runs += 1;
            assert!(runs <= 200, "seed {seed}: {kills} kills in {runs} runs");
            let before = fixture.origin.counters();
            let moment = before.body_bytes_sent + random.u64(0..1_500_000);
            let child = start(&mut fetch(&fixture, &["--connections", "8", "--progress", "json"]));
            // Near its end a run may need fewer bytes than that: its connections close then.
            let reached = fixture.origin.wait_for(PATIENCE, |now| {
                let over =
                    now.connections_accepted > before.connections_accepted && now.connections_open == 0;
                now.body_bytes_sent >= moment || over
            });
            reached.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            signal(&child, Signal::KILL);
            let killed = child.end().code.is_none();
            fixture.assert_nothing_wrong();
            if !killed || fixture.path(".models-installed").exists() {
                break;
            }
            kills += 1;
            fixture.origin.wait_for(PATIENCE, |counters| counters.connections_open == 0).unwrap();
            held = fixture.held();
            // Measured on the disk, since bytes that the origin has sent may still be in the sockets.
            let lost = fixture.on_disk().saturating_sub(held) + IN_MEMORY;
            worst = worst.max(lost);
            assert!(lost <= LOST, "seed {seed}: {lost} bytes are lost by one kill, {held} are held");
        }
        fixture.origin.shape(Shape::default());
        let ended = run(&mut fetch(&fixture, &["--connections", "8"]));
        assert_eq!(ended.code, Some(0), "seed {seed}: {}", ended.err);
        fixture.assert_installed();
    }
    println!("{kills} kills in {runs} runs; the worst lost {worst} bytes");
}

/// Bytes that are installed, or that a journal lists as durable.
fn durable(fixture: &Fixture) -> u64 {
    let of_record = |line: &str| {
        let mut fields = line.strip_prefix("durable ")?.split(' ').map(|field| field.parse::<u64>().ok());
        let (start, end) = (fields.next()??, fields.next()??);
        Some(end - start)
    };
    let of_file = |name: &String| match std::path::Path::new(name).extension() {
        Some(ending) if ending == "journal" => {
            std::fs::read_to_string(fixture.path(name)).unwrap().lines().filter_map(of_record).sum()
        }
        Some(_) => 0,
        None => std::fs::metadata(fixture.path(name)).unwrap().len(),
    };
    fixture.listing().iter().filter(|name| name.contains('/')).map(of_file).sum()
}

#[test]
fn fault_85_a_signal_keeps_received_bytes_for_the_next_run() {
    for (number, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let fixture = set(2_000_000);
        let report = fixture.beside("report.json");
        let arguments = ["--connections", "8", "--report", report.to_str().unwrap()];
        let child = start(&mut fetch(&fixture, &arguments));
        let sent =
            fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 6_000_000).unwrap();
        signal(&child, number);
        let ended = child.end();
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains("rerun to resume"), "{}", ended.err);
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert_eq!(report["complete"], false);
        let unfinished = |file: &serde_json::Value| file["outcome"] == "unfinished";
        assert!(report["files"].as_array().unwrap().iter().any(unfinished), "{report}");
        fixture.assert_nothing_wrong();
        let held = fixture.held();
        let unheld = fixture.on_disk().saturating_sub(held);
        assert!(held > 2_000_000 && unheld < 256 << 10, "{unheld} bytes are on disk and {held} of them held");
        assert_eq!(durable(&fixture), held, "what is held would outlive a power cut too");
        let before = fixture.origin.counters().body_bytes_sent;
        assert!(before - sent.body_bytes_sent < 8_000_000, "it went on after the signal");
        fixture.origin.shape(Shape::default());
        let path = fixture.beside("next.json");
        let next = run(&mut fetch(&fixture, &["--report", path.to_str().unwrap()]));
        assert_eq!(next.code, Some(0), "{}", next.err);
        fixture.assert_installed();
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(report["totals"]["fetched"], SET - held, "what was held is not fetched again");
    }
}

#[test]
fn fault_85_two_signals_lose_no_more_than_a_kill() {
    let fixture = set(2_000_000);
    let child = start(&mut fetch(&fixture, &["--connections", "8"]));
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 6_000_000).unwrap();
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    let ended = child.end();
    assert!(matches!(ended.code, Some(130 | 143)), "{:?} {}", ended.code, ended.err);
    fixture.assert_nothing_wrong();
    let held = fixture.held();
    assert!(held > 0 && fixture.on_disk().saturating_sub(held) <= LOST, "{held} bytes are held");
    fixture.origin.shape(Shape::default());
    assert_eq!(run(&mut fetch(&fixture, &[])).code, Some(0));
    fixture.assert_installed();
}

/// `command` as the user `nobody`: root may open a file of any mode.
fn as_nobody(fixture: &Fixture, before: &str, command: &Command) -> Command {
    let program = fixture.beside("provision");
    if !program.exists() {
        copy_program(&program);
        let (nobody, home) = (Some(65534), program.parent().unwrap());
        std::os::unix::fs::chown(home, nobody, nobody).unwrap();
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    nobody.args(command.get_args()).envs(environment(command));
    after(before, &nobody)
}

#[test]
fn fault_86_a_run_stopped_under_an_odd_umask_is_resumed() {
    if !needs_root() || !needs_tool("setpriv", "--version") {
        return;
    }
    for (umask, number) in [("0777", Signal::TERM), ("0777", Signal::KILL), ("0277", Signal::TERM)] {
        let mut fixture = Fixture::new();
        fixture.file("deep/x", &Content::generated(1, 8_000_000));
        fixture.origin.shape(Shape::rate(2_000_000));
        let umask = format!("umask {umask}");
        let child = start(&mut as_nobody(&fixture, &umask, &fetch(&fixture, &[])));
        fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 3_000_000).unwrap();
        signal(&child, number);
        child.end();
        let held = fixture.held();
        assert!(held > 0);
        fixture.origin.shape(Shape::default());
        let ended = run(&mut as_nobody(&fixture, &umask, &fetch(&fixture, &[])));
        assert_eq!(ended.code, Some(0), "{umask}, {number:?}: {}", ended.err);
        fixture.assert_installed();
        assert!(ended.err.contains("were there from an earlier run"), "{}", ended.err);
    }
}

#[test]
fn fault_106_ignored_signals_stay_ignored_except_a_request_to_end() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 4_000_000);
    fixture.file("x", &content);
    fixture.origin.shape(Shape::rate(2_000_000));
    // As `nohup` and a shell's `&` start a program.
    let start = |more: &[&str]| start(&mut after("trap '' HUP INT", &fetch(&fixture, more)));
    let going_on = start(&[]);
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 0).unwrap();
    for ignored in [Signal::HUP, Signal::INT, Signal::HUP] {
        signal(&going_on, ignored);
    }
    let ended = going_on.end();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(!ended.err.contains("stopping"), "{}", ended.err);
    assert_eq!(std::fs::read(fixture.path("x")).unwrap(), content.to_vec());

    let sent = fixture.origin.counters().body_bytes_sent;
    let stopped = start(&["--force"]);
    fixture.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > sent).unwrap();
    signal(&stopped, Signal::TERM);
    assert_eq!(stopped.end().code, Some(143));
}

#[test]
fn fault_111_a_crash_leaves_no_core_file() {
    let mut fixture = Fixture::new();
    fixture.file("x", &Content::generated(1, 1000));
    fixture.origin.inject("/x", Fault::NoAnswer);
    let at = fixture.beside("crashed");
    std::fs::create_dir(&at).unwrap();
    let run = start(after("ulimit -c unlimited", &fetch(&fixture, &[])).current_dir(&at));
    fixture.origin.wait_for(PATIENCE, |counters| counters.requests > 0).unwrap();
    // 1 stops a file and a core handler, 0 only a file (core(5)).
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", run.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("1"), "{core}");
    signal(&run, Signal::ABORT);
    assert_eq!(run.end().code, None);
    assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
}
