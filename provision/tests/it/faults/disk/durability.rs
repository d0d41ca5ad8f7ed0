//! Disks that fail to sync (faults 68 to 70 and 84), and the markers of the runs that follow.
//!
//! The program runs under strace, which makes single system calls fail. A machine without strace skips these tests;
//! CI must have it.

use std::os::unix::process::CommandExt as _;

use provision_core::byte_size::ByteSize;
use provision_core::lockfile::Model;
use provision_engine::cache::{Bounds, Cache};
use rustix::process::kill_process_group;

use crate::prelude::*;

const MARKER: &str = ".models-installed";
/// Less than one claim: it gets no checkpoint, so every sync belongs to the install.
const SMALL: u64 = 200_000;

/// A run of the program whose system calls fail.
pub(super) struct Stracing {
    command: Command,
    options: Vec<String>,
    log: PathBuf,
}

impl Stracing {
    /// `provision NAME` for the fixture's lock and destination; `calls` are logged.
    pub(super) fn new(fixture: &Fixture, name: &str, calls: &str) -> Self {
        let log = fixture.beside(&format!("strace-{:08x}.log", fastrand::u32(..)));
        let options = vec!["-e".to_owned(), format!("trace={calls}")];
        Self { command: verb(fixture, name, &[]), options, log }
    }

    /// Makes calls fail, in strace's syntax.
    pub(super) fn inject(&mut self, what: &str) -> &mut Self {
        self.options.extend(["-e".to_owned(), format!("inject={what}")]);
        self
    }

    /// Limits the failures to calls about this path.
    fn about(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.options.extend(["-P", path.as_ref().to_str().unwrap()].map(str::to_owned));
        self
    }

    pub(super) fn with(&mut self, arguments: &[&str]) -> &mut Self {
        self.command.args(arguments);
        self
    }

    /// In a process group of its own: strace keeps a signal that it receives to itself.
    pub(super) fn start(&self) -> Run {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        start(strace(&self.command, &self.log, &options).process_group(0))
    }

    fn run(&self) -> Ended {
        self.start().end()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn fails(&self, says: &[&str]) -> Ended {
        let ended = self.run().exits(7);
        self.assert_injected();
        ended.err_has(says);
        ended
    }

    fn assert_injected(&self) {
        assert!(self.log().contains("(INJECTED)"), "nothing failed: {}", self.log());
    }
}

fn small() -> Fixture {
    Fixture::with(&[("d/x", 1, SMALL)])
}

fn model<'a>(models: &'a [Model], path: &str) -> &'a Model {
    models.iter().find(|model| model.path.as_str() == path).unwrap()
}

/// The path of a file's part or journal.
fn part(fixture: &Fixture, path: &str, ending: &str) -> PathBuf {
    let lock = fixture.lock();
    let model = model(lock.models(), path);
    fixture.path(&format!(
        "{}/.{}.{}.{ending}",
        model.path.parent(),
        model.path.file_name(),
        model.sha256.short()
    ))
}

/// A slow origin, and the part that an interrupted run left of its only file.
fn interrupted() -> Fixture {
    let fixture = Fixture::with(&[("d/x", 1, 8_000_000)]);
    fixture.origin.shape(Shape::rate(4_000_000));
    fixture.fetch_and_interrupt_at(3_000_000);
    fixture
}

/// A fetch in which a call about `path` fails: exit code 7, and a message with `says`, which it returns.
fn fails(fixture: &Fixture, inject: &str, path: impl AsRef<Path>, says: &[&str]) -> Ended {
    let mut run = Stracing::new(fixture, "fetch", inject.split(':').next().unwrap());
    run.inject(inject).about(path);
    run.fails(says)
}

#[test]
fn fault_70_a_part_that_failed_to_sync_is_not_trusted_later() {
    let Some(fixture) = with_strace(interrupted()) else { return };
    assert!(fixture.held() > 0);
    let part = part(&fixture, "d/x", "part");
    fails(&fixture, "fdatasync:error=EIO", part, &["syncing it", "Input/output error"]);
    assert_eq!(fixture.listing(), Vec::<String>::new(), "part and journal are removed");
    fixture.origin.shape(Shape::default());
    assert_eq!(fixture.fetch_all().files[0].resumed, 0);
}

#[test]
fn fault_70_a_journal_with_a_failed_directory_sync_keeps_ranges() {
    let Some(fixture) = with_strace(interrupted()) else { return };
    let held = fixture.held();
    assert!(held > 0);
    fails(&fixture, "fsync:error=EIO", fixture.path("d"), &["syncing the directory"]);
    fixture.origin.shape(Shape::default());
    assert!(fixture.fetch_all().files[0].resumed >= held);
}

#[test]
fn fault_70_a_failed_sync_of_a_complete_part_is_reported() {
    // The checkpoint is delayed until the last byte has come and the verification waits for it.
    let Some(fixture) = with_strace(Fixture::with(&[("d/x", 1, 6_000_000)])) else { return };
    fixture.origin.shape(Shape::rate(2_000_000));
    let mut run = Stracing::new(&fixture, "fetch", "fdatasync");
    run.with(&["--connections", "1"]);
    run.inject("fdatasync:error=EIO:delay_enter=4000000:when=1").about(part(&fixture, "d/x", "part"));
    run.fails(&["syncing it", "Input/output error"]).err_lacks(&["replaced"]);
    assert_eq!(fixture.listing(), Vec::<String>::new());
}

#[test]
fn fault_70_a_found_file_is_synced_before_the_marker_lists_it() {
    let content = Content::generated(1, SMALL);
    let found = |fixture: &Fixture| write(fixture.path("d/x"), content.to_vec());
    let Some(fixture) = with_strace(small()) else { return };
    found(&fixture);
    let run = Stracing::new(&fixture, "fetch", "fsync,renameat");
    run.run().exits(0);
    let log = run.log();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what} in {log}"));
    let marker = at(&format!("\"{MARKER}\""));
    assert!(at("/models/d/x>") < marker, "the file: {log}");
    assert!(at("/models/d>") < marker, "its directory: {log}");
    assert_eq!(fixture.requests(), 0);

    let fixture = small();
    found(&fixture);
    fails(&fixture, "fsync:error=EIO", fixture.path("d/x"), &["d/x", "syncing it"]);
    assert_eq!(fixture.listing(), Vec::<String>::new(), "it was never durable, so it is removed");
    fixture.fetch_all();
}

#[test]
fn fault_67_a_symlink_target_is_durable_before_the_marker() {
    let baked = |fixture: &Fixture| write(fixture.beside("baked/d/x"), Content::generated(1, SMALL).to_vec());
    let ensure = |fixture: &Fixture, calls: &str| {
        let mut run = Stracing::new(fixture, "ensure", calls);
        run.with(&["--baked-mode", "symlink", "--baked", fixture.beside("baked").to_str().unwrap()]);
        run
    };
    let Some(fixture) = with_strace(small()) else { return };
    baked(&fixture);
    let run = ensure(&fixture, "fsync,renameat,symlinkat");
    run.run().exits(0);
    assert!(std::fs::symlink_metadata(fixture.path("d/x")).unwrap().is_symlink());
    let log = run.log();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what} in {log}"));
    let linked = at("symlinkat(");
    assert!(at("/baked/d/x>") < linked && at("/baked/d>") < linked, "{log}");
    // Without a marker the file is a foreign one again.
    std::fs::remove_file(fixture.path(MARKER)).unwrap();
    let run = ensure(&fixture, "fsync,renameat");
    run.run().exits(0);
    assert!(run.log().find("/baked/d/x>").unwrap() < run.log().find(&format!("\"{MARKER}\"")).unwrap());

    let fixture = small();
    baked(&fixture);
    let mut run = ensure(&fixture, "fsync");
    run.inject("fsync:error=EIO").about(fixture.beside("baked/d/x"));
    run.run().exits(0).err_has(&["baked/d/x is not used"]);
    run.assert_injected();
    fixture.assert_installed();
    assert!(!std::fs::symlink_metadata(fixture.path("d/x")).unwrap().is_symlink(), "it was fetched");
}

#[test]
fn fault_70_one_failed_sync_keeps_the_checkpoints_of_others() {
    let Some(fixture) = with_strace(Fixture::with(&[("a/x", 1, 20_000_000), ("b/y", 2, 20_000_000)])) else {
        return;
    };
    fixture.origin.shape(Shape::rate(1_000_000));
    let mut run = Stracing::new(&fixture, "fetch", "fdatasync");
    run.with(&["--connections", "4"]);
    run.inject("fdatasync:error=EIO").about(part(&fixture, "a/x", "part"));
    let child = run.start();
    let wanted = |path: &str| fixture.origin.counters().path(path).body_bytes > 300_000;
    fixture.origin.wait_for(PATIENCE, |_| wanted("/a/x") && wanted("/b/y")).unwrap();
    kill_process_group(Pid::from_child(&child), Signal::TERM).unwrap();
    child.end().exits(143).err_has(&["a/x", "syncing it"]);
    run.assert_injected();
    assert!(!part(&fixture, "a/x", "part").exists() && !part(&fixture, "a/x", "journal").exists());
    let journal = std::fs::read_to_string(part(&fixture, "b/y", "journal")).unwrap();
    assert!(journal.contains("\ndurable "), "{journal}");
}

#[test]
fn fault_70_a_rename_with_a_failed_directory_sync_is_undone() {
    for old in [false, true] {
        let Some(fixture) = with_strace(small()) else { return };
        std::fs::create_dir_all(fixture.path("d")).unwrap();
        if old {
            std::fs::write(fixture.path("d/x"), "an older version").unwrap();
        }
        let said = fails(&fixture, "fsync:error=EIO", fixture.path("d"), &["d/x", "Input/output error"]).err;
        assert_eq!(said.contains("the rename was undone"), !old, "{said}");
        assert_eq!(said.contains("it has replaced an older file"), old, "{said}");
        assert_eq!(fixture.path("d/x").exists(), old);
        fixture.assert_nothing_wrong();
        assert!(!fixture.path(MARKER).exists());
        fixture.fetch_all();
    }
}

#[test]
fn fault_70_a_marker_with_a_failed_directory_sync_is_removed() {
    let Some(fixture) = with_strace(small()) else { return };
    std::fs::create_dir_all(fixture.path("d")).unwrap();
    let mut run = Stracing::new(&fixture, "fetch", "fsync,renameat");
    // The first sync of the destination is the one before the marker, the second the one after it.
    run.inject("fsync:error=EIO:when=2").about(fixture.destination());
    run.fails(&["syncing the directory"]);
    let log = run.log();
    assert!(log.find(&format!("\"{MARKER}\"")).unwrap() < log.find("(INJECTED)").unwrap(), "{log}");
    assert!(!fixture.path(MARKER).exists());
    fixture.fetch_all();
}

#[test]
fn fault_84_a_volume_that_cannot_sync_is_refused_by_name() {
    let Some(fixture) = with_strace(small()) else { return };
    std::fs::create_dir_all(fixture.path("d")).unwrap();
    let says = ["refuses syncing it", "choose a --dest on another volume"];
    fails(&fixture, "fsync:error=EINVAL", part(&fixture, "d/x", "part"), &says);
    assert!(!fixture.path("d/x").exists() && !fixture.path(MARKER).exists());
    fixture.fetch_all();
}

#[test]
fn fault_68_a_full_disk_reports_needed_and_free_space() {
    let Some(fixture) = with_strace(small()) else { return };
    let needed = format!("it needs {} more", ByteSize(SMALL));
    fails(&fixture, "pwrite64:error=ENOSPC", part(&fixture, "d/x", "part"), &[&needed, "B are free"]);
    fixture.fetch_all();
}

#[test]
fn fault_85_two_stop_requests_at_once_are_one_stop() {
    let fixture = Fixture::with(&[("d/x", 1, 20_000_000)]);
    fixture.origin.shape(Shape::rate(1_000_000));
    let child = start(&mut fetch(&fixture, &[]));
    fixture.wait_for_bytes(1_500_000);
    for number in [Signal::TERM, Signal::HUP, Signal::TERM] {
        rustix::process::kill_process(Pid::from_child(&child), number).unwrap();
    }
    let Ended { code, err, .. } = child.end();
    assert!(matches!(code, Some(143 | 129)), "{code:?}: {err}");
    assert!(err.contains("rerun to resume") && !err.contains("stopped at once"), "{err}");
    assert!(fixture.held() > 0);
}

#[test]
fn fault_80_no_cache_object_is_removed_while_a_run_uses_it() {
    let mut fixture = small();
    fixture.local.cache = Some(fixture.beside("cache").to_str().unwrap().into());
    let cache = Cache::open(fixture.local.cache.as_deref().unwrap()).unwrap();
    let object = {
        let lock = fixture.lock();
        let path = Cache::object(&lock.models()[0]).path;
        fixture.beside("cache").join(path.as_str())
    };
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    let wrong = vec![0; SMALL as usize];
    std::fs::write(&object, &wrong).unwrap();
    let Acquire::Acquired(guard) = DestinationLock::try_acquire(cache.place()).unwrap() else {
        panic!("the lock should be free")
    };
    fixture.config.wait = Duration::ZERO;
    let report = fixture.fetch().unwrap();
    assert!(matches!(report.files[0].result, Ok(Some(Outcome::Fetched))));
    assert_eq!(std::fs::read(&object).unwrap(), wrong, "the lock holder may be replacing it");
    drop(guard);
    std::fs::remove_dir_all(fixture.destination()).unwrap();
    fixture.fetch_all();
    assert_ne!(std::fs::read(&object).unwrap(), wrong);
}

#[test]
fn fault_66_a_journal_left_in_the_cache_by_a_kill_is_pruned() {
    let fixture = small();
    let cache = Cache::open(fixture.beside("cache").to_str().unwrap().into()).unwrap();
    let sha256 = fixture.lock().models()[0].sha256;
    let directory = fixture.beside("cache").join("sha256").join(&sha256.to_string()[..2]);
    std::fs::create_dir_all(&directory).unwrap();
    let stray = directory.join(format!(".{sha256}.{}.journal", sha256.short()));
    std::fs::write(&stray, "left behind").unwrap();
    let removed = cache.prune(Bounds { bytes: Some(0), used_since: None }).unwrap();
    assert_eq!((removed.len(), removed[0].sha256, removed[0].is_partial), (1, sha256, true));
    assert!(!stray.exists());
}
