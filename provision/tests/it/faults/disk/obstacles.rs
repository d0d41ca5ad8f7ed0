//! Obstacles under final names, and other runs in the same directory (faults 73, 81, 86).

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use provision_engine::fetch::FetchError;
use rustix::fs::{FileType, Mode};

use super::machine::after;
use crate::prelude::*;

#[test]
fn fault_73_a_symlink_created_during_the_fetch_is_not_followed() {
    let fixture = Fixture::with(&[("x", 1, 8_000_000)]);
    fixture.origin.shape(Shape::rate(2_000_000));
    let victim = fixture.beside("victim");
    std::fs::write(&victim, b"precious").unwrap();
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch());
        fixture.wait_for_bytes(1_000_000);
        symlink(&victim, fixture.path("x")).unwrap();
        run.join().unwrap().unwrap()
    });
    let error = report.files[0].result.as_ref().unwrap_err().to_string();
    assert!(error.contains("symlink"), "{error}");
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn fault_73_an_obstacle_is_named_and_left_alone() {
    for kind in ["directory", "FIFO", "socket", "device"] {
        let fixture = Fixture::with(&[("x", 1, 100_000), ("y", 2, 1000)]);
        std::fs::create_dir_all(fixture.destination()).unwrap();
        let (path, victim) = (fixture.path("x"), fixture.beside("victim"));
        std::fs::write(&victim, b"precious").unwrap();
        let make = |kind, device| {
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::from_raw_mode(0o666), device).unwrap();
        };
        match kind {
            "directory" => std::fs::create_dir(&path).unwrap(),
            "FIFO" => make(FileType::Fifo, 0),
            "socket" => make(FileType::Socket, 0),
            // The null device: bytes written to it are lost silently.
            _ if needs_root() => make(FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
            _ => continue,
        }
        let before = std::fs::symlink_metadata(&path).unwrap();
        for arguments in [&[][..], &["--force"], &["--verify", "full"]] {
            let ended = run(&mut fetch(&fixture, arguments)).row(kind).exits(7);
            let says = format!("models/x is a {kind}, not a regular file");
            assert!(ended.err.contains(&says) && ended.err.contains("move it away"), "{kind}: {}", ended.err);
            let after = std::fs::symlink_metadata(&path).unwrap();
            let identity = |found: &std::fs::Metadata| (found.ino(), found.rdev(), found.ctime_nsec());
            assert_eq!(identity(&before), identity(&after), "{kind} was touched");
            assert!(!fixture.path(".models-installed").exists());
        }
        assert_eq!(fixture.origin.counters().path("/x").requests, 0, "known before the first byte");
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert!(fixture.path("y").exists(), "the other file is installed");
    }
}

#[test]
fn fault_81_the_lock_of_a_dead_process_blocks_no_run() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    write(fixture.path(".provision.lock"), "held by process 999999");
    let started = Instant::now();
    fixture.fetch_all();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Waiting { .. })), 0);
}

#[test]
fn a_destination_that_stays_busy_is_an_error_after_the_wait() {
    let mut fixture = Fixture::with(&[("x", 1, 1000)]);
    fixture.config.wait = Duration::from_millis(300);
    let destination = Destination::create(&fixture.destination()).unwrap();
    let Acquire::Acquired(lock) = DestinationLock::try_acquire(&destination).unwrap() else {
        panic!("the lock should be free")
    };
    let started = Instant::now();
    let error = fixture.fetch().unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(".provision.lock") && text.contains("held by process"), "{text}");
    assert_eq!(fixture.origin.counters().connections_accepted, 0);
    drop(lock);
    fixture.fetch_all();
}

#[test]
fn fault_86_an_odd_umask_leaves_a_run_its_own_rights() {
    for (umask, directory, file) in
        [("0777", 0o700, 0o600), ("0077", 0o700, 0o600), ("0027", 0o750, 0o640), ("0000", 0o777, 0o666)]
    {
        let fixture = Fixture::with(&[("deep/er/x", 1, 2_000_000)]);
        run(&mut after(&format!("umask {umask}"), &fetch(&fixture, &[]))).row(umask).exits(0);
        for (name, expected) in [
            ("", directory),
            ("deep", directory),
            ("deep/er", directory),
            ("deep/er/x", file),
            (".models-installed", file),
        ] {
            assert_eq!(
                mode(&fixture, name),
                expected,
                "umask {umask}: {name:?} has {:o}",
                mode(&fixture, name)
            );
        }
    }
}

fn mode(fixture: &Fixture, name: &str) -> u32 {
    std::fs::metadata(fixture.path(name)).unwrap().permissions().mode() & 0o7777
}

#[test]
fn fault_122_directory_and_umask_decide_group_and_mode() {
    for resumed in [false, true] {
        let Some(fixture) = with_root(Fixture::with(&[("deep/er/x", 1, 2_000_000)])) else { return };
        std::fs::create_dir(fixture.destination()).unwrap();
        std::os::unix::fs::chown(fixture.destination(), None, Some(65534)).unwrap();
        chmod(fixture.path(""), 0o2775);
        if resumed {
            fixture.origin.shape(Shape::rate(500_000));
            let child = start(&mut after("umask 002", &fetch(&fixture, &[])));
            fixture.wait_for_bytes(1_000_000);
            signal(&child, Signal::KILL);
            child.end();
            fixture.origin.shape(Shape::default());
        }
        run(&mut after("umask 002", &fetch(&fixture, &[]))).exits(0);
        for (name, expected) in
            [("deep", 0o2775), ("deep/er", 0o2775), ("deep/er/x", 0o664), (".models-installed", 0o664)]
        {
            assert_eq!(mode(&fixture, name), expected, "{name:?} has {:o}", mode(&fixture, name));
            assert_eq!(std::fs::metadata(fixture.path(name)).unwrap().gid(), 65534, "{name:?}");
        }
    }
}

#[test]
fn fault_122_layers_have_one_mode_whatever_the_umask() {
    let fixture = Fixture::with(&[("deep/er/x", 1, 2_000_000)]);
    let layers = fixture.beside("layers");
    let fetch = fetch(&fixture, &["--layers", layers.to_str().unwrap()]);
    run(&mut after("umask 077", &fetch)).exits(0);
    let tree = layers.join("deep");
    let file = tree.join(fixture.path("deep/er/x").strip_prefix("/").unwrap());
    for at in file.ancestors().take_while(|at| at.starts_with(&tree)) {
        let found = std::fs::metadata(at).unwrap();
        let expected = if found.is_dir() { 0o755 } else { 0o644 };
        assert_eq!(found.permissions().mode() & 0o7777, expected, "{}", at.display());
    }
}
