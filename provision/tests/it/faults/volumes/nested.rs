//! Two runs at once whose destinations lie in each other (fault 88), or of which one lays out layers (fault 89).

use crate::prelude::*;

/// The size of the large file in both destinations.
const SIZE: u64 = 6_000_000;

/// A fixture whose lock has files in `d` and beside it, and a lock for the destination `d` that shares the large one.
fn fixture() -> (Fixture, PathBuf) {
    let mut fixture = Fixture::in_memory();
    fixture.file("d/large", &Content::generated(1, SIZE)).file("small", &Content::generated(2, 1000));
    fixture.origin.shape(Shape::rate(2_000_000));
    let below = fixture.beside("below.toml");
    let entry = fixture.lock_text().split_inclusive("[[model]]").take(2).collect::<String>();
    let entry = entry.trim_end_matches("[[model]]").replace("\"d/large\"", "\"large\"");
    std::fs::write(&below, entry).unwrap();
    (fixture, below)
}

fn fetch(fixture: &Fixture, lock: &Path, dest: &Path, more: &[&str]) -> Command {
    let mut command = program(fixture);
    command.arg("fetch").arg("--lock").arg(lock).arg("--dest").arg(dest).args(more);
    command
}

/// Two runs, of which the second starts while the first one's large file is on its way; both succeed.
fn at_once(fixture: &Fixture, first: (&Path, &Path), second: (&Path, &Path)) {
    let before = fixture.sent();
    let running = start(&mut fetch(fixture, first.0, first.1, &["--connections", "4"]));
    fixture.wait_for_bytes(before + SIZE / 3);
    run(&mut fetch(fixture, second.0, second.1, &["--wait", "0"]))
        .exits(8)
        .err_has(&[&format!("held by process {}", running.id())]);
    let waiting = start(&mut fetch(fixture, second.0, second.1, &[]));
    for ended in [running.end(), waiting.end()] {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    fixture.assert_nothing_wrong();
    let is_left = |name: &String| matches!(name.rsplit('.').next(), Some("part" | "journal" | "lock"));
    let left = fixture.listing().into_iter().find(is_left);
    assert_eq!(left, None);
    let sent = fixture.sent() - before;
    assert!(
        sent < SIZE * 5 / 4,
        "{sent} bytes were sent for {SIZE}: what one run wrote was lost to the other"
    );
}

#[test]
fn fault_88_a_run_waits_for_one_in_a_directory_above_or_below() {
    for above_first in [true, false] {
        let (fixture, below) = fixture();
        let (lock, root, sub) = (fixture.write_lock(), fixture.path(""), fixture.path("d"));
        let (first, second) = ((lock.as_path(), root.as_path()), (below.as_path(), sub.as_path()));
        if above_first {
            at_once(&fixture, first, second);
        } else {
            at_once(&fixture, second, first);
        }
    }
}

#[test]
fn fault_88_many_runs_above_and_below_all_succeed() {
    let (fixture, below) = fixture();
    let (lock, root, sub) = (fixture.write_lock(), fixture.path(""), fixture.path("d"));
    let runs: Vec<_> = (0..8)
        .map(|n| {
            let (lock, dest) = if n % 2 == 0 { (&lock, &root) } else { (&below, &sub) };
            start(&mut fetch(&fixture, lock, dest, &["--connections", "2"]))
        })
        .collect();
    for ended in runs.into_iter().map(Run::end) {
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    fixture.assert_nothing_wrong();
    let sent = fixture.sent();
    assert!(sent < SIZE * 5 / 4, "{sent} bytes were sent for {SIZE}");
}

#[test]
fn fault_88_directories_that_share_no_file_do_not_wait() {
    let (fixture, below) = fixture();
    // A killed run's lock holds no other run up, and directories side by side have nothing in common.
    let killed = start(&mut fetch(&fixture, &below, &fixture.path("d"), &[]));
    fixture.wait_for_bytes(SIZE / 3);
    signal(&killed, Signal::KILL);
    killed.end();
    assert!(fixture.path("d/.provision.lock").exists());
    let running = start(&mut fetch(&fixture, &below, &fixture.path("e"), &[]));
    fixture.wait_for_bytes(SIZE);
    run(&mut fetch(&fixture, &fixture.write_lock(), &fixture.path(""), &["--wait", "0"])).exits(0);
    running.end().exits(0);
    fixture.assert_nothing_wrong();
}

#[test]
fn fault_88_a_complete_set_waits_for_no_run_above() {
    let (fixture, below) = fixture();
    fixture.origin.shape(Shape::default());
    let again = || run(&mut fetch(&fixture, &below, &fixture.path("d"), &["--wait", "0"]));
    assert_eq!(again().code, Some(0));
    let above = std::fs::File::create(fixture.path(".provision.lock")).unwrap();
    rustix::fs::flock(&above, rustix::fs::FlockOperation::LockExclusive).unwrap();
    again().exits(0).err_has(&["nothing to do"]);
    std::fs::remove_file(fixture.path("d/.models-installed")).unwrap();
    assert_eq!(again().code, Some(8), "the lock above counts");
}

#[test]
fn fault_89_layers_wait_for_a_run_that_works_in_the_destination() {
    let mut fixture = Fixture::in_memory();
    let old = [1, 2].map(|seed| Content::generated(seed, SIZE));
    fixture.file("a/x", &old[0]).file("b/y", &old[1]);
    let lock = fixture.write_lock();
    run(&mut fetch(&fixture, &lock, &fixture.path(""), &[])).exits(0);
    // Another lock, with another version of one file.
    let text = std::fs::read_to_string(&lock).unwrap();
    let new = Content::generated(3, SIZE);
    fixture.origin.put("/new", new.clone());
    let newer = fixture.beside("newer.toml");
    let text = text
        .replace("version = 1", "version = 1\nmarker = \".newer\"")
        .replace("/a/x?", "/new?")
        .replace(&old[0].sha256_hex(), &new.sha256_hex());
    std::fs::write(&newer, text).unwrap();
    fixture.origin.shape(Shape::rate(1_000_000));
    let before = fixture.sent();
    let other = start(&mut fetch(&fixture, &newer, &fixture.path(""), &[]));
    fixture.wait_for_bytes(before + SIZE / 6);
    let layers = fixture.beside("layers");
    let hurried = ["--layers", layers.to_str().unwrap(), "--wait", "0"];
    let ended = run(&mut fetch(&fixture, &lock, &fixture.path(""), &hurried));
    fixture.origin.shape(Shape::default());
    assert_eq!(ended.code, Some(8), "{}", ended.err);
    assert!(!layers.join("a").exists() && !layers.join("b").exists(), "nothing moved");
    run(&mut fetch(&fixture, &lock, &fixture.path(""), &hurried[..2])).exits(0);
    let other = other.end();
    assert_eq!(other.code, Some(0), "the other run lost its files: {}", other.err);
    for (at, path) in ["a/x", "b/y"].iter().enumerate() {
        let tree = layers.join(path.split_once('/').unwrap().0);
        let laid = tree.join(fixture.path(path).strip_prefix("/").unwrap());
        assert!(std::fs::read(laid).unwrap() == old[at].to_vec(), "{path} is not of the set");
    }
    let left = fixture.listing().into_iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>();
    assert!(left.is_empty(), "{left:?}");
}
