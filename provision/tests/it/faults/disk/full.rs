//! No space: blocks, inodes, quotas, the file size limit (faults 68, 69, 72), and short reads and writes (fault 71).
//!
//! Each failure is fatal to its file only. The exit code is 7, and the message has the path and the remedy. No wrong
//! byte gets a final name and no marker is written; the next run resumes once there is space.

use provision_core::byte_size::ByteSize;
use provision_disk::DiskError;

use super::machine::{Volume, after, shim};
use crate::prelude::*;

const SIZE: u64 = 12_000_000;
const MARKER: &str = ".models-installed";

/// One file of twelve megabytes, at two megabytes a second for each connection.
fn slow(mut fixture: Fixture) -> Fixture {
    fixture.file("d/x", &Content::generated(1, SIZE));
    fixture.origin.shape(Shape::rate(2_000_000));
    fixture
}

/// The name of that file's part.
fn part_of(fixture: &Fixture, ending: &str) -> String {
    format!("d/.x.{}.{ending}", fixture.lock().models()[0].sha256.short())
}

fn assert_full(fixture: &Fixture, ended: &Ended, names: &str) {
    assert_resumable(fixture, ended, &[names, "no room left while", "B are free"]);
}

fn assert_resumable(fixture: &Fixture, ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(7), "{}", ended.err);
    for said in says.iter().chain(&["run again (it resumes)"]) {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
    assert_nothing_final(fixture);
}

fn assert_nothing_final(fixture: &Fixture) {
    assert!(!fixture.path("d/x").exists(), "something got the final name");
    assert!(!fixture.path(MARKER).exists(), "a marker was written");
}

/// A run that must succeed; returns how many bytes it resumed and fetched.
fn finish(fixture: &Fixture) -> (u64, u64) {
    fixture.origin.shape(Shape::default());
    let report = report_of(fixture, &[]);
    fixture.assert_installed();
    let total = |name: &str| report["totals"][name].as_u64().unwrap();
    (total("resumed"), total("fetched"))
}

#[test]
fn fault_68_a_disk_that_fills_up_keeps_bytes_for_the_next_run() {
    let Some(volume) = Volume::tmpfs("size=20m") else { return };
    let fixture = slow(volume.fixture());
    let child = start(&mut fetch(&fixture, &["--connections", "4"]));
    fixture.wait_for_bytes(4_000_000);
    let filler = volume.fill();
    let ended = child.end();
    assert_full(&fixture, &ended, &part_of(&fixture, "part"));
    let held = fixture.held();
    assert!(held > 1_000_000 && held < SIZE, "{held} of {SIZE} bytes are held");

    // Missing space is reported before the first byte, in numbers: the missing bytes, and a 256th of them for the
    // journal.
    filler.leave(1 << 20);
    let requests = fixture.requests();
    let ended = run(&mut fetch(&fixture, &[])).exits(7);
    let needed =
        format!("{}: {} are needed and ", fixture.destination(), ByteSize(SIZE - held + (SIZE - held) / 256));
    ended.err_has(&[&needed, "are free; free "]);
    assert_eq!(fixture.requests(), requests);
    assert_eq!(fixture.held(), held, "a run without space removed bytes");

    filler.remove();
    assert_eq!(finish(&fixture), (held, SIZE - held));
}

#[test]
fn fault_68_no_room_for_the_journal_loses_no_journaled_byte() {
    let Some(fixture) = with_strace(slow(Fixture::new())) else { return };
    let journal = part_of(&fixture, "journal");
    let path = fixture.path(&journal);
    let log = fixture.beside("strace.log");
    let name = journal.strip_prefix("d/").unwrap();
    let no_entry = ["-P", name, "-e", "trace=openat", "-e", "inject=openat:error=ENOSPC:when=1+"];
    let full = ["-P", path.to_str().unwrap(), "-e", "trace=write", "-e", "inject=write:error=ENOSPC:when=1+"];

    // The journal's name, then its first record.
    for inject in [&no_entry, &full] {
        let ended = run(&mut strace(&fetch(&fixture, &[]), &log, inject));
        assert_full(&fixture, &ended, &journal);
        ended.err_has(&["while writing the journal (it needs "]);
        assert_eq!(fixture.held(), 0);
    }

    // Records of a journal that an earlier run began.
    assert!(fixture.fetch_and_interrupt_at(fixture.sent() + 4_000_000).interrupted);
    let held = fixture.held();
    assert!(held > 0);
    let ended = run(&mut strace(&fetch(&fixture, &[]), &log, &full));
    assert_full(&fixture, &ended, &journal);
    assert_eq!(fixture.held(), held);
    assert_eq!(finish(&fixture), (held, SIZE - held));
}

#[test]
fn fault_68_no_room_for_the_marker_leaves_files_without_it() {
    // The lock file takes one of 256 pages, the models all others; the marker is one too many. The models are too small
    // for journals, which would take a page meanwhile.
    let Some(mut volume) = Volume::tmpfs("size=1m") else { return };
    let mut fixture = volume.fixture();
    let names: Vec<String> = (10..27).map(|n| format!("d/x{n}")).collect();
    for (seed, name) in names.iter().enumerate() {
        fixture.file(name, &Content::generated(seed as u64, 15 * 4096));
    }
    run(&mut fetch(&fixture, &[])).exits(7).err_has(&[MARKER, "no room left while"]);
    fixture.assert_nothing_wrong();
    assert_eq!(fixture.listing(), names, "every file is complete, and there is no marker");
    volume.remount("size=2m");
    assert_eq!(finish(&fixture), (0, 0), "nothing is fetched again");
}

#[test]
fn fault_68_no_room_for_a_directory_entry_is_an_error() {
    for call in ["mkdirat", "renameat"] {
        let Some(fixture) = with_strace(Fixture::with(&[("d/x", 1, 100_000)])) else { return };
        let (trace, full) = (format!("trace={call}"), format!("inject={call}:error=ENOSPC:when=1+"));
        let log = fixture.beside("strace.log");
        let ended = run(&mut strace(&fetch(&fixture, &[]), &log, &["-e", &trace, "-e", &full]));
        assert_full(&fixture, &ended, fixture.destination().as_str());
        finish(&fixture);
    }
}

#[test]
fn fault_69_a_spent_quota_is_no_space_and_the_next_run_resumes() {
    let Some(fixture) = with_strace(slow(Fixture::new())) else { return };
    let part = part_of(&fixture, "part");
    let path = fixture.path(&part);
    let quota =
        ["-P", path.to_str().unwrap(), "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=EDQUOT:when=30+"];
    let ended = run(&mut strace(&fetch(&fixture, &["--connections", "4"]), &fixture.beside("log"), &quota));
    assert_resumable(&fixture, &ended, &[&part, "quota"]);
    let held = fixture.held();
    assert_eq!(finish(&fixture), (held, SIZE - held));
}

#[test]
fn fault_69_the_file_size_limit_fails_the_file_not_the_process() {
    let fixture = slow(Fixture::new());
    // Not a multiple of the write size: the write at the limit is cut short before the next one fails.
    let blocks = 4_000_000 / 512 + 1;
    let ended = run(&mut after(&format!("ulimit -f {blocks}"), &fetch(&fixture, &["--connections", "2"])));
    assert_resumable(&fixture, &ended, &[&part_of(&fixture, "part"), "File too large"]);
    let held = fixture.held();
    assert!(held > 0 && held <= blocks * 512, "{held}");
    assert_eq!(finish(&fixture), (held, SIZE - held));
}

#[test]
fn fault_71_short_or_interrupted_reads_and_writes_are_completed() {
    let mut fixture = Fixture::with(&[("d/x", 1, 3_000_000), ("y", 2, 10_000)]);
    let Some(shim) = shim(&fixture, "short", include_str!("short_and_interrupted.c")) else { return };
    let disturbed = |fixture: &Fixture, arguments: &[&str]| {
        let log = fixture.beside("shim.log");
        run(fetch(fixture, arguments).env("LD_PRELOAD", &shim).env("SHIM_LOG", &log)).exits(0);
        let calls: u64 = std::fs::read_to_string(log).unwrap().trim().parse().unwrap();
        assert!(calls > 20, "the shim saw {calls} calls only");
    };
    disturbed(&fixture, &[]);
    fixture.assert_installed();
    let fetched = fixture.sent();
    // Reads, too: hashing an installed file, and resuming a part.
    disturbed(&fixture, &["--verify", "full"]);
    assert_eq!(fixture.sent(), fetched);
    fixture.file("z", &Content::generated(3, SIZE));
    fixture.origin.shape(Shape::rate(4_000_000));
    assert!(fixture.fetch_and_interrupt_at(fetched + SIZE / 2).interrupted);
    fixture.origin.shape(Shape::default());
    let held = fixture.held() - 3_010_000;
    let report = fixture.beside("report.json");
    disturbed(&fixture, &["--report", report.to_str().unwrap()]);
    let report = read_report(report);
    assert_eq!(report["totals"]["resumed"].as_u64(), Some(held));
    fixture.assert_installed();
}

#[test]
fn fault_72_running_out_of_inodes_is_no_space_and_resumable() {
    let Some(mut volume) = Volume::tmpfs("size=20m,nr_inodes=2") else { return };
    let mut fixture = volume.fixture();
    fixture.file("d/e/x", &Content::generated(1, 3_000_000)).file("y", &Content::generated(2, 1000));
    fixture.origin.shape(Shape::rate(4_000_000));
    let mut refused = 0;
    // The volume's root, the destination, its lock, two directories, two parts, a journal: each is one too many once.
    for inodes in 2..10 {
        volume.remount(&format!("nr_inodes={inodes}"));
        let ended = run(&mut fetch(&fixture, &[]));
        fixture.assert_nothing_wrong();
        if ended.code == Some(0) {
            break;
        }
        refused += 1;
        assert_eq!(ended.code, Some(7), "{inodes} inodes: {}", ended.err);
        let destination = fixture.destination();
        assert!(ended.err.contains(destination.as_str()), "{inodes} inodes: {}", ended.err);
        assert!(ended.err.contains("no room left while"), "{inodes} inodes: {}", ended.err);
        assert!(!fixture.path(MARKER).exists());
    }
    assert!(refused >= 4, "{refused}");
    fixture.assert_installed();
}

#[test]
fn a_full_disk_during_a_copy_keeps_the_old_file_and_pieces() {
    let Some(volume) = Volume::tmpfs("size=100m") else { return };
    let (old, new) = (Content::generated(1, 8 * MAX_PIECE), Content::generated(2, 1000));
    let mut fixture = volume.fixture();
    fixture.config.threads = 1;
    fixture.file_with_list("m", &old);
    fixture.fetch_all();
    let new = Content::bytes([old.to_vec(), new.to_vec()].concat());
    fixture.file_with_list("m", &new);
    let full = Arc::new(Mutex::new(None));
    let (volume, filled) = (Arc::new(volume), full.clone());
    let filling = volume.clone();
    fixture.events.set_hook(move |event| {
        if matches!(event, Event::Reusing { .. }) {
            let mut filled = filled.lock().unwrap();
            filled.get_or_insert_with(|| filling.fill()).leave(3 * MAX_PIECE + 5);
        }
    });
    let sent = fixture.sent();
    let report = fixture.fetch().unwrap();
    let error = report.files[0].result.as_ref().unwrap_err();
    let Some(DiskError::Full { path, .. }) = &error.disk else { panic!("{error:?}") };
    assert_eq!(path.extension(), Some("part"), "{path}");
    assert!(error.reason().contains("run again (it resumes)"), "{}", error.reason());
    assert!(std::fs::read(fixture.path("m")).unwrap() == old.to_vec(), "the old file stays");
    fixture.events.set_hook(|_| ());
    full.lock().unwrap().take().unwrap().remove();
    let report = fixture.fetch_all();
    let copied = report.files[0].resumed;
    assert!(copied >= 2 * MAX_PIECE, "{copied} bytes were kept");
    assert_eq!(copied + report.files[0].reused, 8 * MAX_PIECE);
    assert_eq!(fixture.sent() - sent, 1000);
}
