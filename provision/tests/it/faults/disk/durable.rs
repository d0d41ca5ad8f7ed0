//! Disks that fail where bytes are to become durable (faults 68 to 70 and 84), and what a marker may say after that.
//!
//! The program runs under strace, which answers single system calls with an error. A machine without strace cannot
//! tell; CI must have it.

use std::path::{Path, PathBuf};
use std::process::Command;

use provision_core::event::Outcome;
use provision_core::lockfile::Model;
use provision_disk::{Acquire, DestinationLock};
use provision_engine::cache::{Bounds, Cache};
use provision_testbed::{Content, Shape};
use rustix::process::{Pid, Signal, kill_process_group};

use super::machine::environment;
use crate::program::{Ended, Run, fetch, program, start};
use crate::requirement::needs_tool;
use crate::world::{PATIENCE, World};

const MARKER: &str = ".models-installed";
/// Less than one claim: no checkpoint is ever made of it, so that every sync is one of the install's.
const SMALL: u64 = 200_000;

/// A run of the program whose system calls fail.
pub(super) struct Stracing {
    command: Command,
    after: Vec<String>,
    log: PathBuf,
}

impl Stracing {
    /// `provision VERB` for the world's lock and destination; `calls` go to the log.
    pub(super) fn new(world: &World, verb: &str, calls: &str) -> Self {
        let log = world.beside(&format!("strace-{:08x}.log", fastrand::u32(..)));
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-s", "80", "-o"]).arg(&log).arg("-e").arg(format!("trace={calls}"));
        let plain = program(world);
        command.env_clear().envs(environment(&plain));
        let place = |path: &dyn AsRef<Path>| path.as_ref().to_str().unwrap().to_owned();
        let after = vec![
            plain.get_program().to_str().unwrap().to_owned(),
            verb.to_owned(),
            "--lock".to_owned(),
            place(&world.write_lock()),
            "--dest".to_owned(),
            place(&world.destination()),
        ];
        Self { command, after, log }
    }

    /// Has calls fail, in strace's words.
    pub(super) fn inject(&mut self, what: &str) -> &mut Self {
        self.command.args(["-e", &format!("inject={what}")]);
        self
    }

    /// Only calls about this path are looked at.
    fn about(&mut self, path: impl AsRef<Path>) -> &mut Self {
        self.command.arg("-P").arg(path.as_ref());
        self
    }

    pub(super) fn with(&mut self, arguments: &[&str]) -> &mut Self {
        self.after.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    pub(super) fn start(&mut self) -> Running {
        use std::os::unix::process::CommandExt as _;
        Running(start(self.command.args(&self.after).process_group(0)))
    }

    fn run(&mut self) -> (Option<i32>, String) {
        self.start().end()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn assert_injected(&self) {
        assert!(self.log().contains("(INJECTED)"), "nothing failed: {}", self.log());
    }
}

pub(super) struct Running(Run);

impl Running {
    /// Its exit code and what it said.
    pub(super) fn end(self) -> (Option<i32>, String) {
        let ended = self.0.end();
        (ended.code, ended.err)
    }

    /// The program's own; strace keeps what it gets to itself.
    fn signal(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.0), signal).unwrap();
    }
}

fn small() -> World {
    let mut world = World::new();
    world.file("d/x", &Content::generated(1, SMALL));
    world
}

fn model<'a>(models: &'a [Model], path: &str) -> &'a Model {
    models.iter().find(|model| model.path.as_str() == path).unwrap()
}

/// Where a file's part is, or its journal.
fn part(world: &World, path: &str, ending: &str) -> PathBuf {
    let lock = world.lock();
    let model = model(lock.models(), path);
    world.path(&format!(
        "{}/.{}.{}.{ending}",
        model.path.parent(),
        model.path.file_name(),
        model.sha256.short()
    ))
}

/// A slow origin, and what an interrupted run left of its one file.
fn interrupted() -> World {
    let mut world = World::new();
    world.file("d/x", &Content::generated(1, 8_000_000));
    world.origin.shape(Shape::rate(4_000_000));
    world.fetch_and_interrupt_at(3_000_000);
    world
}

#[test]
fn fault_70_a_part_that_a_resume_cannot_sync_is_not_believed_by_the_run_after_it() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let world = interrupted();
    assert!(world.held() > 0);
    let mut run = Stracing::new(&world, "fetch", "fdatasync");
    run.inject("fdatasync:error=EIO").about(part(&world, "d/x", "part"));
    let (code, said) = run.run();
    run.assert_injected();
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("syncing it") && said.contains("Input/output error"), "{said}");
    assert_eq!(world.listing(), Vec::<String>::new(), "part and journal are given up");
    world.origin.shape(Shape::default());
    assert_eq!(world.fetch_all().files[0].resumed, 0);
}

#[test]
fn fault_70_a_journal_whose_name_cannot_be_made_durable_keeps_what_it_claims() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let world = interrupted();
    let held = world.held();
    assert!(held > 0);
    let mut run = Stracing::new(&world, "fetch", "fsync");
    run.inject("fsync:error=EIO").about(world.path("d"));
    let (code, said) = run.run();
    run.assert_injected();
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("syncing the directory"), "{said}");
    world.origin.shape(Shape::default());
    assert!(world.fetch_all().files[0].resumed >= held);
}

#[test]
fn fault_70_a_sync_that_fails_is_said_so_also_when_every_byte_has_come() {
    if !needs_tool("strace", "-V") {
        return;
    }
    // The checkpoint is held up until the last byte has come and the proof waits for it.
    let mut world = World::new();
    world.file("d/x", &Content::generated(1, 6_000_000));
    world.origin.shape(Shape::rate(2_000_000));
    let mut run = Stracing::new(&world, "fetch", "fdatasync");
    run.with(&["--connections", "1"]);
    run.inject("fdatasync:error=EIO:delay_enter=4000000:when=1").about(part(&world, "d/x", "part"));
    let (code, said) = run.run();
    run.assert_injected();
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("syncing it") && said.contains("Input/output error"), "{said}");
    assert!(!said.contains("replaced"), "{said}");
    assert_eq!(world.listing(), Vec::<String>::new());
}

#[test]
fn fault_70_a_file_that_was_only_found_is_synced_before_a_marker_vouches_for_it() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let content = Content::generated(1, SMALL);
    let found = |world: &World| {
        std::fs::create_dir_all(world.path("d")).unwrap();
        std::fs::write(world.path("d/x"), content.to_vec()).unwrap();
    };
    let world = small();
    found(&world);
    let mut run = Stracing::new(&world, "fetch", "fsync,renameat");
    let (code, said) = run.run();
    assert_eq!(code, Some(0), "{said}");
    let log = run.log();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what} in {log}"));
    let marker = at(&format!("\"{MARKER}\""));
    assert!(at("/models/d/x>") < marker, "the file: {log}");
    assert!(at("/models/d>") < marker, "its directory: {log}");
    assert_eq!(world.origin.counters().requests, 0);

    let world = small();
    found(&world);
    let mut run = Stracing::new(&world, "fetch", "fsync");
    run.inject("fsync:error=EIO").about(world.path("d/x"));
    let (code, said) = run.run();
    run.assert_injected();
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("d/x") && said.contains("syncing it"), "{said}");
    assert_eq!(world.listing(), Vec::<String>::new(), "it was never durable, and loses its name");
    world.fetch_all();
}

#[test]
fn fault_67_the_end_of_a_symlink_is_durable_before_the_marker_and_not_used_where_it_cannot_be() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let baked = |world: &World| {
        std::fs::create_dir_all(world.beside("baked/d")).unwrap();
        std::fs::write(world.beside("baked/d/x"), Content::generated(1, SMALL).to_vec()).unwrap();
    };
    let ensure = |world: &World, calls: &str| {
        let mut run = Stracing::new(world, "ensure", calls);
        run.with(&["--baked-mode", "symlink", "--baked", world.beside("baked").to_str().unwrap()]);
        run
    };
    let world = small();
    baked(&world);
    let mut run = ensure(&world, "fsync,renameat,symlinkat");
    let (code, said) = run.run();
    assert_eq!(code, Some(0), "{said}");
    assert!(std::fs::symlink_metadata(world.path("d/x")).unwrap().is_symlink());
    let log = run.log();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what} in {log}"));
    let linked = at("symlinkat(");
    assert!(at("/baked/d/x>") < linked && at("/baked/d>") < linked, "{log}");
    // Found without a marker, it is a stranger's file again.
    std::fs::remove_file(world.path(MARKER)).unwrap();
    let mut run = ensure(&world, "fsync,renameat");
    assert_eq!(run.run().0, Some(0));
    assert!(run.log().find("/baked/d/x>").unwrap() < run.log().find(&format!("\"{MARKER}\"")).unwrap());

    let world = small();
    baked(&world);
    let mut run = ensure(&world, "fsync");
    run.inject("fsync:error=EIO").about(world.beside("baked/d/x"));
    let (code, said) = run.run();
    run.assert_injected();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("baked/d/x is not used"), "{said}");
    world.assert_installed();
    assert!(!std::fs::symlink_metadata(world.path("d/x")).unwrap().is_symlink(), "it was fetched");
}

#[test]
fn fault_70_one_file_s_failing_sync_does_not_cost_the_others_their_checkpoint_at_a_stop() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let mut world = World::new();
    world.file("a/x", &Content::generated(1, 20_000_000)).file("b/y", &Content::generated(2, 20_000_000));
    world.origin.shape(Shape::rate(1_000_000));
    let mut run = Stracing::new(&world, "fetch", "fdatasync");
    run.with(&["--connections", "4"]);
    run.inject("fdatasync:error=EIO").about(part(&world, "a/x", "part"));
    let child = run.start();
    let wanted = |path: &str| world.origin.counters().path(path).body_bytes > 300_000;
    world.origin.wait_for(PATIENCE, |_| wanted("/a/x") && wanted("/b/y")).unwrap();
    child.signal(Signal::TERM);
    let (code, said) = child.end();
    run.assert_injected();
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("a/x") && said.contains("syncing it"), "the loss is said: {said}");
    assert!(!part(&world, "a/x", "part").exists() && !part(&world, "a/x", "journal").exists());
    let journal = std::fs::read_to_string(part(&world, "b/y", "journal")).unwrap();
    assert!(journal.contains("\ndurable "), "{journal}");
}

#[test]
fn fault_70_a_name_that_cannot_be_made_durable_is_taken_back() {
    if !needs_tool("strace", "-V") {
        return;
    }
    for old in [false, true] {
        let world = small();
        std::fs::create_dir_all(world.path("d")).unwrap();
        if old {
            std::fs::write(world.path("d/x"), "an older version").unwrap();
        }
        let mut run = Stracing::new(&world, "fetch", "fsync");
        run.inject("fsync:error=EIO").about(world.path("d"));
        let (code, said) = run.run();
        run.assert_injected();
        assert_eq!(code, Some(7), "{said}");
        assert!(said.contains("d/x") && said.contains("Input/output error"), "{said}");
        assert_eq!(said.contains("the rename was undone"), !old, "{said}");
        assert_eq!(said.contains("it has replaced an older file"), old, "{said}");
        assert_eq!(world.path("d/x").exists(), old);
        world.assert_nothing_wrong();
        assert!(!world.path(MARKER).exists());
        world.fetch_all();
    }
}

#[test]
fn fault_70_a_marker_whose_name_cannot_be_made_durable_is_none() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let world = small();
    std::fs::create_dir_all(world.path("d")).unwrap();
    let mut run = Stracing::new(&world, "fetch", "fsync,renameat");
    // The first sync of the destination is the one before the marker, the second the one after it.
    run.inject("fsync:error=EIO:when=2").about(world.destination());
    let (code, said) = run.run();
    let log = run.log();
    let failed = log.find("(INJECTED)").unwrap_or_else(|| panic!("{log}"));
    assert!(log.find(&format!("\"{MARKER}\"")).unwrap() < failed, "{log}");
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("syncing the directory"), "{said}");
    assert!(!world.path(MARKER).exists());
    world.fetch_all();
}

#[test]
fn fault_84_a_volume_that_cannot_sync_is_refused_by_name() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let world = small();
    std::fs::create_dir_all(world.path("d")).unwrap();
    let mut run = Stracing::new(&world, "fetch", "fsync");
    run.inject("fsync:error=EINVAL").about(part(&world, "d/x", "part"));
    let (code, said) = run.run();
    run.assert_injected();
    assert_eq!(code, Some(7), "{said}");
    assert!(
        said.contains("refuses syncing it") && said.contains("choose a --dest on another volume"),
        "{said}"
    );
    assert!(!world.path("d/x").exists() && !world.path(MARKER).exists());
    world.fetch_all();
}

#[test]
fn fault_68_a_full_disk_says_how_much_more_the_file_needs_and_how_much_is_free() {
    if !needs_tool("strace", "-V") {
        return;
    }
    let world = small();
    let mut run = Stracing::new(&world, "fetch", "pwrite64");
    run.inject("pwrite64:error=ENOSPC").about(part(&world, "d/x", "part"));
    let (code, said) = run.run();
    run.assert_injected();
    assert_eq!(code, Some(7), "{said}");
    assert!(
        said.contains(&format!("it needs {SMALL} bytes more")) && said.contains("bytes are free"),
        "{said}"
    );
    world.fetch_all();
}

#[test]
fn fault_85_a_stop_that_is_asked_for_twice_at_once_is_one_stop() {
    let mut world = World::new();
    world.file("d/x", &Content::generated(1, 20_000_000));
    world.origin.shape(Shape::rate(1_000_000));
    let child = start(&mut fetch(&world, &[]));
    world.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 1_500_000).unwrap();
    for number in [Signal::TERM, Signal::HUP, Signal::TERM] {
        rustix::process::kill_process(Pid::from_child(&child), number).unwrap();
    }
    let Ended { code, err, .. } = child.end();
    assert!(matches!(code, Some(143 | 129)), "{code:?}: {err}");
    assert!(err.contains("rerun to resume") && !err.contains("stopped at once"), "{err}");
    assert!(world.held() > 0);
}

#[test]
fn fault_80_nothing_of_a_cache_is_removed_while_a_run_works_in_it() {
    let mut world = small();
    world.local.cache = Some(world.beside("cache").to_str().unwrap().into());
    let cache = Cache::open(world.local.cache.as_deref().unwrap()).unwrap();
    let object = {
        let lock = world.lock();
        let path = Cache::object(&lock.models()[0]).path;
        world.beside("cache").join(path.as_str())
    };
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    let wrong = vec![0; SMALL as usize];
    std::fs::write(&object, &wrong).unwrap();
    let Acquire::Acquired(guard) = DestinationLock::try_acquire(cache.place()).unwrap() else {
        panic!("nobody has it")
    };
    world.config.wait = std::time::Duration::ZERO;
    let report = world.fetch().unwrap();
    assert!(matches!(report.files[0].result, Ok(Some(Outcome::Fetched))));
    assert_eq!(std::fs::read(&object).unwrap(), wrong, "whoever has the lock may be replacing it");
    drop(guard);
    std::fs::remove_dir_all(world.destination()).unwrap();
    world.fetch_all();
    assert_ne!(std::fs::read(&object).unwrap(), wrong);
}

#[test]
fn fault_66_a_journal_that_a_kill_left_in_the_cache_can_be_pruned() {
    let world = small();
    let cache = Cache::open(world.beside("cache").to_str().unwrap().into()).unwrap();
    let sha256 = world.lock().models()[0].sha256;
    let directory = world.beside("cache").join("sha256").join(&sha256.to_string()[..2]);
    std::fs::create_dir_all(&directory).unwrap();
    let stray = directory.join(format!(".{sha256}.{}.journal", sha256.short()));
    std::fs::write(&stray, "left behind").unwrap();
    let removed = cache.prune(Bounds { bytes: Some(0), used_since: None }).unwrap();
    assert_eq!((removed.len(), removed[0].sha256, removed[0].is_partial), (1, sha256, true));
    assert!(!stray.exists());
}
