//! Kills and signals: the bytes that a run keeps at any moment, and the run that follows (faults 66, 85, 86, 106, 111).

use super::machine::after;
use crate::prelude::*;

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
        run(&mut fetch(&fixture, &["--connections", "8"])).row(format!("seed {seed}")).exits(0);
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
    let of_file = |name: &String| match Path::new(name).extension() {
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
        fixture.wait_for_bytes(6_000_000);
        let sent = fixture.sent();
        signal(&child, number);
        child.end().exits(code).err_has(&["rerun to resume"]);
        let report = read_report(report);
        assert_eq!(report["complete"], false);
        let unfinished = |file: &serde_json::Value| file["outcome"] == "unfinished";
        assert!(report["files"].as_array().unwrap().iter().any(unfinished), "{report}");
        fixture.assert_nothing_wrong();
        let held = fixture.held();
        let unheld = fixture.on_disk().saturating_sub(held);
        assert!(held > 2_000_000 && unheld < 256 << 10, "{unheld} bytes are on disk and {held} of them held");
        assert_eq!(durable(&fixture), held, "what is held would outlive a power cut too");
        let before = fixture.sent();
        assert!(before - sent < 8_000_000, "it went on after the signal");
        fixture.origin.shape(Shape::default());
        let report = report_of(&fixture, &[]);
        fixture.assert_installed();
        assert_eq!(report["totals"]["fetched"], SET - held, "what was held is not fetched again");
    }
}

#[test]
fn fault_85_two_signals_lose_no_more_than_a_kill() {
    let fixture = set(2_000_000);
    let child = start(&mut fetch(&fixture, &["--connections", "8"]));
    fixture.wait_for_bytes(6_000_000);
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    let ended = child.end();
    assert!(matches!(ended.code, Some(130 | 143)), "{:?} {}", ended.code, ended.err);
    fixture.assert_nothing_wrong();
    let held = fixture.held();
    assert!(held > 0 && fixture.on_disk().saturating_sub(held) <= LOST, "{held} bytes are held");
    fixture.origin.shape(Shape::default());
    run(&mut fetch(&fixture, &[])).exits(0);
    fixture.assert_installed();
}

#[test]
fn fault_86_a_run_stopped_under_an_odd_umask_is_resumed() {
    for (umask, number) in [("0777", Signal::TERM), ("0777", Signal::KILL), ("0277", Signal::TERM)] {
        let Some(fixture) = with_nobody(Fixture::with(&[("deep/x", 1, 8_000_000)])) else { return };
        fixture.origin.shape(Shape::rate(2_000_000));
        let umask = format!("umask {umask}");
        let nobody = as_nobody(&fixture, &fetch(&fixture, &[]));
        std::os::unix::fs::chown(fixture.beside(""), Some(65534), Some(65534)).unwrap();
        let child = start(&mut after(&umask, &nobody));
        fixture.wait_for_bytes(3_000_000);
        signal(&child, number);
        child.end();
        let held = fixture.held();
        assert!(held > 0);
        fixture.origin.shape(Shape::default());
        let ended = run(&mut after(&umask, &nobody)).row(format!("{umask}, {number:?}")).exits(0);
        fixture.assert_installed();
        ended.err_has(&["were there from an earlier run"]);
    }
}

#[test]
fn fault_106_ignored_signals_stay_ignored_except_sigterm() {
    let (fixture, content) = Fixture::of("x", Content::generated(1, 4_000_000));
    fixture.origin.shape(Shape::rate(2_000_000));
    // As `nohup` and a shell's `&` start a program.
    let start = |more: &[&str]| start(&mut after("trap '' HUP INT", &fetch(&fixture, more)));
    let going_on = start(&[]);
    fixture.wait_for_bytes(0);
    for ignored in [Signal::HUP, Signal::INT, Signal::HUP] {
        signal(&going_on, ignored);
    }
    going_on.end().exits(0).err_lacks(&["stopping"]);
    assert_eq!(std::fs::read(fixture.path("x")).unwrap(), content.to_vec());

    let sent = fixture.sent();
    let stopped = start(&["--force"]);
    fixture.wait_for_bytes(sent);
    signal(&stopped, Signal::TERM);
    stopped.end().exits(143);
}

#[test]
fn fault_111_a_crash_leaves_no_core_file() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
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
