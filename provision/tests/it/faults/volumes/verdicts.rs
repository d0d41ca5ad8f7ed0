//! The verdicts of `verify` and `status` (faults 124 and 125).

use std::os::unix::fs::symlink;
use std::path::Path;

use provision_testbed::{Content, Shape};

use crate::fixture::Fixture;
use crate::program::{Ended, fetch, program, run};
use crate::resume::{self, MARKER, SIZE, halfway};

/// A command that reads the fixture's destination, or that starts from it.
fn verb(fixture: &Fixture, name: &str, more: &[&str]) -> Ended {
    let mut command = program(fixture);
    command.arg(name).arg("--lock").arg(fixture.write_lock()).arg("--dest").arg(fixture.destination());
    run(command.args(more))
}

/// Changes a byte and keeps size and mtime, as a failing disk does.
fn rot(path: &Path) {
    let mtime = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::File::open(path).unwrap().set_modified(mtime).unwrap();
}

#[test]
fn fault_125_what_verify_found_wrong_is_mended_by_the_next_start() {
    for command in ["fetch", "ensure"] {
        let mut fixture = Fixture::new();
        let (content, other) = (Content::generated(1, SIZE), Content::generated(2, 1000));
        fixture.file("d/x", &content).file("y", &other);
        assert_eq!(run(&mut fetch(&fixture, &[])).code, Some(0));
        rot(&fixture.path("d/x"));
        let ended = verb(&fixture, "verify", &[]);
        assert_eq!(ended.code, Some(5), "{}", ended.err);
        assert!(ended.err.ends_with("; the next fetch replaces what is wrong\n"), "{}", ended.err);
        let status = verb(&fixture, "status", &[]);
        assert_eq!(status.code, Some(9), "{}", status.out);
        assert!(status.out.contains("unverified d/x"), "{}", status.out);
        let requests = fixture.origin.counters().path("/y").requests;
        let ended = verb(&fixture, command, &[]);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        fixture.assert_installed();
        assert_eq!(fixture.origin.counters().path("/y").requests, requests, "the right file stays");
        assert_eq!(verb(&fixture, "verify", &[]).code, Some(0));
    }
}

#[test]
fn fault_125_no_marker_of_any_lock_vouches_for_a_file_that_is_wrong() {
    // Another lock's marker, a destination below this one, and a marker of the program's own format elsewhere.
    let mut fixture = Fixture::new();
    let content = Content::generated(1, SIZE);
    fixture.file("d/x", &content);
    assert_eq!(run(&mut fetch(&fixture, &[])).code, Some(0));
    let text = fixture.lock_text();
    let (other, below) = (fixture.beside("other.toml"), fixture.beside("below.toml"));
    std::fs::write(&other, text.replace("version = 1", "version = 1\nmarker = \".other\"")).unwrap();
    std::fs::write(&below, text.replace("\"d/x\"", "\"x\"")).unwrap();
    let start = |name: &str, lock: &Path, dest: &Path| {
        let mut command = program(&fixture);
        run(command.arg(name).arg("--lock").arg(lock).arg("--dest").arg(dest))
    };
    let (root, sub) = (fixture.path(""), fixture.path("d"));
    for (lock, dest) in [(&other, &root), (&below, &sub)] {
        assert_eq!(start("ensure", lock, dest).code, Some(0));
        rot(&fixture.path("d/x"));
        assert_eq!(verb(&fixture, "verify", &[]).code, Some(5));
        let ended = start("ensure", lock, dest);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        assert!(std::fs::read(fixture.path("d/x")).unwrap() == content.to_vec(), "{}", ended.err);
    }
}

#[test]
fn fault_125_a_linked_file_that_verify_found_wrong_is_mended() {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, SIZE);
    fixture.file("d/x", &content);
    let baked = fixture.beside("baked");
    std::fs::create_dir_all(baked.join("d")).unwrap();
    std::fs::write(baked.join("d/x"), content.to_vec()).unwrap();
    let options = ["--baked", baked.to_str().unwrap(), "--baked-mode", "symlink"];
    let ended = verb(&fixture, "ensure", &options);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    // The change time tells a marker that the target has changed, unless the change is an image layer's or the disk's.
    // Here the marker is made to list the new one.
    rot(&baked.join("d/x"));
    let changed = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(path).unwrap();
        format!("[{},{}]", found.ctime(), found.ctime_nsec())
    };
    let marker = std::fs::read_to_string(fixture.path(MARKER)).unwrap();
    let at = marker.find("\"changed\":").unwrap() + "\"changed\":".len();
    let end = at + marker[at..].find(']').unwrap() + 1;
    let marker = format!("{}{}{}", &marker[..at], changed(&baked.join("d/x")), &marker[end..]);
    std::fs::write(fixture.path(MARKER), marker).unwrap();
    let ended = verb(&fixture, "ensure", &options);
    assert!(ended.err.contains("nothing to do"), "the marker vouches for it: {}", ended.err);

    let before = std::fs::metadata(baked.join("d/x")).unwrap().modified().unwrap();
    assert_eq!(verb(&fixture, "verify", &[]).code, Some(5));
    assert_eq!(
        std::fs::metadata(baked.join("d/x")).unwrap().modified().unwrap(),
        before,
        "not ours to touch"
    );
    let ended = verb(&fixture, "ensure", &options);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(std::fs::read(fixture.path("d/x")).unwrap() == content.to_vec(), "{}", ended.err);
}

#[test]
fn fault_124_status_of_an_incomplete_set_exits_with_9() {
    let fixture = halfway();
    let ended = verb(&fixture, "status", &[]);
    assert_eq!(ended.code, Some(9), "{}", ended.err);
    assert!(ended.out.contains("partial    x"), "{}", ended.out);
    assert!(
        ended.out.contains("0 of 1 file installed, 0 B of 8 MB"),
        "a part is not installed: {}",
        ended.out
    );
    assert!(ended.err.contains("1 of 1 file not installed; fetch to complete the set"), "{}", ended.err);

    // Nothing is there at all, not even the destination.
    let (fixture, content) = resume::fixture();
    assert_eq!(verb(&fixture, "status", &[]).code, Some(9));
    // Files of the right size and another program's files are not known to be right.
    std::fs::create_dir(fixture.destination()).unwrap();
    std::fs::write(fixture.path("x"), content.to_vec()).unwrap();
    let ended = verb(&fixture, "status", &[]);
    assert!(ended.code == Some(9) && ended.out.contains("unverified x"), "{}", ended.out);
    let advice = "1 of 1 file unverified, none missing or wrong in size; run verify";
    assert!(ended.err.contains(advice), "{}", ended.err);
    std::fs::write(fixture.path("x"), b"short").unwrap();
    assert_eq!(verb(&fixture, "status", &[]).code, Some(9));
    std::fs::remove_file(fixture.path("x")).unwrap();
    symlink("/dev/null", fixture.path("x")).unwrap();
    assert_eq!(verb(&fixture, "status", &[]).code, Some(9));
    std::fs::remove_file(fixture.path("x")).unwrap();

    fixture.origin.shape(Shape::default());
    assert_eq!(run(&mut fetch(&fixture, &[])).code, Some(0));
    let ended = verb(&fixture, "status", &[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
}

#[test]
fn verify_advises_only_what_a_fetch_can_do() {
    let (fixture, content) = resume::fixture();
    let advice = |says: &str, code: i32| {
        let ended = verb(&fixture, "verify", &[]);
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.trim_end().ends_with(says), "{}", ended.err);
        ended.out
    };
    advice("; the next fetch replaces what is wrong", 5);
    std::fs::create_dir_all(fixture.path("x")).unwrap();
    let out = advice("; a fetch cannot replace what is in the way or cannot be read", 5);
    assert!(out.contains("x: is a directory, not a file: move it away"), "{out}");
    // A directory of models that is a symlink, which is not followed.
    let mut fixture = Fixture::new();
    fixture.file("d/x", &content).file("y", &Content::generated(2, 1000));
    std::fs::create_dir_all(fixture.beside("volume")).unwrap();
    std::fs::create_dir_all(fixture.destination()).unwrap();
    std::fs::write(fixture.beside("volume/x"), content.to_vec()).unwrap();
    symlink(fixture.beside("volume"), fixture.path("d")).unwrap();
    let ended = verb(&fixture, "verify", &["--no-follow"]);
    let says = "; the next fetch replaces what is wrong, but not what is in the way or cannot be read";
    assert!(ended.code == Some(5) && ended.err.trim_end().ends_with(says), "{}", ended.err);
    assert!(
        ended.out.contains("models/d is a symlink") && ended.out.contains("move it away"),
        "{}",
        ended.out
    );
}
