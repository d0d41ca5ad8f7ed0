//! The verdicts of `verify` and `status` (faults 124 and 125).

use std::os::unix::fs::symlink;

use crate::prelude::*;
use crate::resume::{self, MARKER, SIZE, halfway};

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
fn fault_125_what_verify_found_wrong_is_mended_next() {
    for command in ["fetch", "ensure"] {
        let mut fixture = Fixture::new();
        let (content, other) = (Content::generated(1, SIZE), Content::generated(2, 1000));
        fixture.file("d/x", &content).file("y", &other);
        run(&mut fetch(&fixture, &[])).exits(0);
        rot(&fixture.path("d/x"));
        let ended = run_verb(&fixture, "verify", &[]).exits(5);
        assert!(ended.err.ends_with("; the next fetch replaces what is wrong\n"), "{}", ended.err);
        run_verb(&fixture, "status", &[]).exits(9).out_has(&["unverified d/x"]);
        let requests = fixture.origin.counters().path("/y").requests;
        run_verb(&fixture, command, &[]).exits(0);
        fixture.assert_installed();
        assert_eq!(fixture.origin.counters().path("/y").requests, requests, "the right file stays");
        run_verb(&fixture, "verify", &[]).exits(0);
    }
}

#[test]
fn fault_125_no_marker_vouches_for_a_wrong_file() {
    // Another lock's marker, a destination below this one, and a marker of the program's own format elsewhere.
    let (fixture, content) = Fixture::of("d/x", Content::generated(1, SIZE));
    run(&mut fetch(&fixture, &[])).exits(0);
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
        run_verb(&fixture, "verify", &[]).exits(5);
        let ended = start("ensure", lock, dest).exits(0);
        assert!(std::fs::read(fixture.path("d/x")).unwrap() == content.to_vec(), "{}", ended.err);
    }
}

#[test]
fn fault_125_a_linked_file_that_verify_found_wrong_is_mended() {
    let (fixture, content) = Fixture::of("d/x", Content::generated(1, SIZE));
    let baked = fixture.beside("baked");
    std::fs::create_dir_all(baked.join("d")).unwrap();
    std::fs::write(baked.join("d/x"), content.to_vec()).unwrap();
    let options = ["--baked", baked.to_str().unwrap(), "--baked-mode", "symlink"];
    run_verb(&fixture, "ensure", &options).exits(0);
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
    let ended = run_verb(&fixture, "ensure", &options);
    assert!(ended.err.contains("nothing to do"), "the marker vouches for it: {}", ended.err);

    let before = std::fs::metadata(baked.join("d/x")).unwrap().modified().unwrap();
    run_verb(&fixture, "verify", &[]).exits(5);
    assert_eq!(
        std::fs::metadata(baked.join("d/x")).unwrap().modified().unwrap(),
        before,
        "not ours to touch"
    );
    let ended = run_verb(&fixture, "ensure", &options).exits(0);
    assert!(std::fs::read(fixture.path("d/x")).unwrap() == content.to_vec(), "{}", ended.err);
}

#[test]
fn fault_124_status_of_an_incomplete_set_exits_with_9() {
    let fixture = halfway();
    let ended = run_verb(&fixture, "status", &[]).exits(9);
    ended.out_has(&["partial    x"]);
    assert!(
        ended.out.contains("0 of 1 file installed, 0 B of 8 MB"),
        "a part is not installed: {}",
        ended.out
    );
    ended.err_has(&["1 of 1 file not installed; fetch to complete the set"]);

    // Nothing is there at all, not even the destination.
    let (fixture, content) = resume::fixture();
    run_verb(&fixture, "status", &[]).exits(9);
    // Files of the right size and another program's files are not known to be right.
    write(fixture.path("x"), content.to_vec());
    let ended = run_verb(&fixture, "status", &[]).exits(9);
    ended.out_has(&["unverified x"]);
    let advice = "1 of 1 file unverified, none missing or wrong in size; run verify";
    ended.err_has(&[advice]);
    std::fs::write(fixture.path("x"), b"short").unwrap();
    run_verb(&fixture, "status", &[]).exits(9);
    std::fs::remove_file(fixture.path("x")).unwrap();
    symlink("/dev/null", fixture.path("x")).unwrap();
    run_verb(&fixture, "status", &[]).exits(9);
    std::fs::remove_file(fixture.path("x")).unwrap();

    fixture.origin.shape(Shape::default());
    run(&mut fetch(&fixture, &[])).exits(0);
    let ended = run_verb(&fixture, "status", &[]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
}

#[test]
fn verify_advises_only_what_a_fetch_can_do() {
    let (fixture, content) = resume::fixture();
    let advice = |says: &str, code: i32| {
        let ended = run_verb(&fixture, "verify", &[]).exits(code);
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
    let ended = run_verb(&fixture, "verify", &["--no-follow"]);
    let says = "; the next fetch replaces what is wrong, but not what is in the way or cannot be read";
    assert!(ended.code == Some(5) && ended.err.trim_end().ends_with(says), "{}", ended.err);
    ended.out_has(&["models/d is a symlink", "move it away"]);
}
