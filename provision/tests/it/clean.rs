//! `clean`: what it lists, what it removes, and what it leaves.

use std::fmt::Write as _;
use std::fs;

use crate::prelude::*;
use crate::sets::{PATHS, Two};

impl Two {
    /// A lock of those files, with a marker.
    fn lock(&self, marker: &str, files: &[usize]) -> PathBuf {
        let mut text = format!("version = 1\nmarker = {marker:?}\n");
        for &at in files {
            let (path, content) = (PATHS[at], &self.contents[at]);
            let url = self.fixture.origin.url(&format!("/{path}"));
            let (size, sha256) = (content.size(), content.sha256_hex());
            let _ = write!(
                text,
                "[[model]]\npath = {path:?}\nurl = {url:?}\nsize = {size}\nsha256 = {sha256:?}\n"
            );
        }
        let path = self.fixture.beside(&format!("{}{}{}.lock", &marker[1..], files.len(), files[0]));
        fs::write(&path, text).unwrap();
        path
    }

    fn verb(&self, name: &str, lock: &Path, arguments: &[&str]) -> Ended {
        self.run(name, &[&["--lock", lock.to_str().unwrap()], arguments].concat())
    }

    fn good(&self, name: &str, lock: &Path, arguments: &[&str]) -> String {
        let ended = self.verb(name, lock, arguments).exits(0);
        ended.out + &ended.err
    }

    fn listing(&self) -> Vec<String> {
        let mut names = self.fixture.listing();
        names.sort();
        names
    }
}

#[test]
fn clean_lists_asks_and_removes_the_parts_of_a_killed_run() {
    let two = Two::new();
    let lock = two.lock(".m", &[0]);
    two.fixture.origin.inject("/vae/x", Fault::Stall(100_000));
    let mut fetch = program(&two.fixture);
    let fetch = fetch.arg("fetch").arg("--dest").arg(two.fixture.destination()).arg("--lock").arg(&lock);
    let running = start(fetch);
    let is_part = |name: &String| name.starts_with("vae/.x.") && name.strip_suffix(".part").is_some();
    wait_until(PATIENCE, "a part", || two.fixture.path("").exists() && two.listing().iter().any(is_part));
    two.verb("clean", &lock, &["--yes"]).exits(8);
    drop(running);
    fs::write(two.fixture.path("vae/own.part"), "the user's").unwrap();
    fs::write(two.fixture.path("vae/.own.part"), "the user's").unwrap();
    let before = two.listing();
    assert!(before.iter().any(is_part), "{before:?}");

    two.verb("clean", &lock, &[]).exits(2).err_has(&["--yes"]);
    let dry = two.good("clean", &lock, &["--dry-run"]);
    assert!(dry.contains("part") && dry.contains("the next fetch would resume it"), "{dry}");
    assert_eq!(two.listing(), before);
    // A part of a model in the lock is no leftover for `status`.
    assert!(!two.verb("status", &lock, &[]).out.contains("left over"));

    let cleaned = two.good("clean", &lock, &["--yes"]);
    assert!(cleaned.contains("removed 1 file"), "{cleaned}");
    let mut left = two.listing();
    left.retain(|name| name != ".provision.lock");
    assert_eq!(left, ["vae/.own.part", "vae/own.part"]);
    assert!(two.good("clean", &lock, &[]).contains("nothing to remove"));
}

#[test]
fn unlisted_files_go_on_request_if_a_run_installed_them() {
    let two = Two::new();
    let (both, one) = (two.lock(".m", &[0, 1]), two.lock(".m", &[0]));
    two.good("fetch", &both, &[]);
    fs::write(two.fixture.path("loras/mine"), "the user's").unwrap();
    // The marker of the smaller lock remembers what the larger one had installed.
    fs::remove_file(two.fixture.path("vae/x")).unwrap();
    two.good("fetch", &one, &[]);
    let status = two.good("status", &one, &[]);
    assert!(status.contains("left over") && status.contains("1 file"), "{status}");

    let hint = two.good("clean", &one, &["--yes"]);
    assert!(hint.contains("nothing to remove") && hint.contains("--unlisted"), "{hint}");
    assert!(two.good("clean", &both, &["--unlisted", "--yes"]).contains("nothing to remove"));
    two.verb("clean", &one, &["--unlisted", "--gone", ".m", "--yes"])
        .exits(0)
        .out_has(&["unlisted", "loras/y"]);
    assert_eq!(two.listing(), [".m", "loras/mine", "vae/x"]);
    assert!(two.good("fetch", &one, &["--offline"]).contains("1 file"));
    assert!(!two.good("status", &one, &[]).contains("left over"));
}

#[test]
fn a_file_that_changed_or_was_found_is_the_users() {
    let two = Two::new();
    let (both, one) = (two.lock(".m", &[0, 1]), two.lock(".m", &[0]));
    // A run finds it, and installs the other.
    fs::create_dir_all(two.fixture.path("loras")).unwrap();
    fs::write(two.fixture.path("loras/y"), two.contents[1].to_vec()).unwrap();
    two.good("fetch", &both, &[]);
    let found = two.good("clean", &one, &["--unlisted", "--yes"]);
    let installed = two.lock(".m", &[1]);
    fs::write(two.fixture.path("vae/x"), "other bytes").unwrap();
    let changed = two.good("clean", &installed, &["--unlisted", "--yes"]);
    assert!(found.contains("nothing to remove") && changed.contains("nothing to remove"), "{found}{changed}");
}

#[test]
fn another_locks_marker_stays_until_its_files_or_lock_are_gone() {
    let two = Two::new();
    let (a, b) = (two.lock(".a", &[0]), two.lock(".b", &[1]));
    two.good("fetch", &a, &[]);
    two.good("fetch", &b, &[]);
    let stays = two.good("clean", &a, &["--unlisted", "--yes"]);
    assert!(stays.contains(".b vouches for 1 file") && stays.contains("--gone .b"), "{stays}");
    assert!(stays.contains("nothing to remove"), "{stays}");
    let gone = two.good("clean", &a, &["--gone", ".b", "--unlisted", "--yes"]);
    assert!(gone.contains("marker") && gone.contains("loras/y"), "{gone}");
    assert_eq!(two.listing(), [".a", "vae/x"]);

    two.good("fetch", &b, &[]);
    fs::remove_file(two.fixture.path("loras/y")).unwrap();
    let dead = two.good("clean", &a, &["--yes"]);
    assert!(dead.contains("none of its files is left"), "{dead}");
    assert_eq!(two.listing(), [".a", "vae/x"]);
    two.good("fetch", &a, &["--offline"]);
}

#[test]
fn files_of_another_lock_with_the_same_marker_are_not_unlisted() {
    let two = Two::new();
    // Neither by the marker that the second run replaces, nor by the record of a run that did not complete its set.
    let (x, y) = (two.lock(".m", &[0]), two.lock(".m", &[1]));
    two.good("fetch", &y, &[]);
    two.good("fetch", &x, &[]);
    assert!(two.good("clean", &x, &["--unlisted", "--yes"]).contains("nothing to remove"));
    fs::remove_file(two.fixture.path("vae/x")).unwrap();
    fs::remove_file(two.fixture.path(".m")).unwrap();
    let both = two.lock(".both", &[0, 1]);
    two.verb("fetch", &both, &["--offline"]).exits(4);
    assert!(two.listing().iter().any(|name| name == ".provision.journal"), "{:?}", two.listing());
    two.good("fetch", &x, &[]);
    assert!(two.good("clean", &x, &["--unlisted", "--yes"]).contains("nothing to remove"));
    assert!(two.fixture.path("loras/y").exists());
}

#[test]
fn clean_removes_kept_locks_of_other_addresses() {
    let two = Two::new();
    let lock = two.lock(".m", &[0]);
    let text = fs::read_to_string(&lock).unwrap();
    let pin = Sha256::of(text.as_bytes()).to_string();
    for name in ["/one.lock", "/two.lock"] {
        two.fixture.origin.put(name, Content::bytes(text.clone()));
        let url = PathBuf::from(two.fixture.origin.url(name));
        two.good("fetch", &url, &["--lock-sha256", &pin]);
    }
    let kept = |listing: Vec<String>| listing.iter().filter(|name| name.starts_with(".provision.")).count();
    assert_eq!(kept(two.listing()), 2);
    let url = PathBuf::from(two.fixture.origin.url("/one.lock"));
    let cleaned = two.good("clean", &url, &["--lock-sha256", &pin, "--yes"]);
    assert!(cleaned.contains("kept text of a lock at another address"), "{cleaned}");
    assert_eq!(kept(two.listing()), 1);
    two.good("ensure", &url, &["--lock-sha256", &pin, "--offline"]);
}

#[test]
fn clean_without_a_lock_removes_no_installed_file() {
    let two = Two::new();
    two.good("fetch", &two.lock(".m", &[0]), &[]);
    let clean = |arguments: &[&str]| {
        let mut command = program(&two.fixture);
        run(command
            .current_dir(two.fixture.beside(""))
            .arg("clean")
            .args(["--dest", "models"])
            .args(arguments))
    };
    clean(&["--unlisted", "--yes"]).exits(2).err_has(&["--lock"]);
    clean(&["--yes"]).exits(0);
    assert_eq!(two.listing(), [".m", "vae/x"]);
}

#[test]
fn an_unreadable_directory_is_named_and_the_rest_is_cleaned() {
    if !needs_tool("setpriv", "--version") {
        return;
    }
    let two = Two::new();
    let lock = two.lock(".m", &[0]);
    two.good("fetch", &lock, &[]);
    fs::create_dir(two.fixture.path("closed")).unwrap();
    chmod(two.fixture.path("closed"), 0o000);
    // Root obeys permissions without these capabilities.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search", BINARY, "clean", "--dest"]);
    let cleaned = run(command.arg(two.fixture.destination()).arg("--lock").arg(&lock));
    chmod(two.fixture.path("closed"), 0o700);
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.err);
    cleaned.err_has(&["not searched", "closed"]).out_has(&["nothing to remove"]);
}

#[test]
fn status_with_exit_zero_lists_and_ends_with_0() {
    let two = Two::new();
    let lock = two.lock(".m", &[0]);
    two.verb("status", &lock, &[]).exits(9);
    assert!(two.good("status", &lock, &["--exit-zero"]).contains("missing"));
}
