//! Other programs' stores: what they have is not downloaded, and they stay as they are.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};

use provision_engine::fetch::{Baked, BakedMode, Reuse, ReuseMode, Store};

use crate::prelude::*;

fn content(n: u64) -> Content {
    Content::generated(n, 1_500_000 + n)
}

/// Other bytes of the same length.
fn other(n: u64) -> Vec<u8> {
    let mut bytes = content(n).to_vec();
    bytes[700_000] ^= 1;
    bytes
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.file("loras/a.bin", &content(1)).file("vae/b.bin", &content(2));
    std::fs::create_dir(fixture.beside("store")).unwrap();
    fixture
}

fn reusing(mode: ReuseMode) -> Fixture {
    let mut fixture = fixture();
    let path = fixture.beside("store").to_str().unwrap().into();
    fixture.local.reuse = Reuse { stores: vec![Store { path, variable: None }], mode };
    fixture
}

fn write(store: &Path, path: &str, bytes: &[u8]) -> PathBuf {
    let path = store.join(path);
    crate::fixture::write(&path, bytes);
    let old = std::fs::File::options().write(true).open(&path).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    path
}

fn put(fixture: &Fixture, path: &str, bytes: &[u8]) -> PathBuf {
    write(&fixture.beside("store"), path, bytes)
}

/// As the Hub's client lays out its cache.
fn put_blob(fixture: &Fixture, hub: &str, n: u64, snapshot: &str, bytes: &[u8]) -> PathBuf {
    let digest = content(n).sha256_hex();
    let repository = format!("{hub}/models--org--repo-{n}");
    let blob = put(fixture, &format!("{repository}/blobs/{digest}"), bytes);
    let name = fixture.beside("store").join(format!("{repository}/snapshots/0123abcd/{snapshot}"));
    std::fs::create_dir_all(name.parent().unwrap()).unwrap();
    symlink(format!("../../blobs/{digest}"), name).unwrap();
    blob
}

/// What a run must leave as it is, of every file below a directory.
#[derive(Debug, PartialEq)]
struct Kept {
    mode: u32,
    owner: u32,
    modified: (i64, i64),
    inode: u64,
    names: u64,
    size: u64,
}

fn listing(root: &Path) -> BTreeMap<PathBuf, Kept> {
    let mut all = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let found = path.symlink_metadata().unwrap();
        if found.is_dir() {
            ahead.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        }
        let kept = Kept {
            mode: found.mode(),
            owner: found.uid(),
            modified: (found.mtime(), found.mtime_nsec()),
            inode: found.ino(),
            names: found.nlink(),
            size: found.len(),
        };
        all.insert(path, kept);
    }
    all
}

fn assert_done(fixture: &Fixture, ended: &Ended, requests: u64) {
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    fixture.assert_installed();
    assert_eq!(fixture.requests(), requests, "{}", ended.err);
}

#[test]
fn ensure_reads_the_hubs_cache_that_the_environment_names() {
    for variable in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        let fixture = fixture();
        put_blob(&fixture, "hub", 1, "a.bin", &content(1).to_vec());
        put_blob(&fixture, "hub", 2, "deep/b.bin", &content(2).to_vec());
        let hub = fixture.beside("store/hub");
        let before = listing(&fixture.beside("store"));
        let value = if variable == "HF_HOME" { hub.parent().unwrap().to_owned() } else { hub.clone() };
        let ended = run(verb(&fixture, "ensure", &["--offline"]).env(variable, value));
        assert_done(&fixture, &ended, 0);
        let says = format!("2 reused from {} ({variable})", hub.display());
        assert_eq!(ended.err.matches(&says).count(), 1, "{}", ended.err);
        assert_eq!(listing(&fixture.beside("store")), before);
    }
}

#[test]
fn only_ensure_does_so_and_an_absent_cache_is_no_news() {
    let fixture = fixture();
    put_blob(&fixture, "hub", 1, "a.bin", &content(1).to_vec());
    run(fetch(&fixture, &["--offline"]).env("HF_HOME", fixture.beside("store"))).exits(4);
    run(verb(&fixture, "ensure", &[]).env("HF_HOME", fixture.beside("nowhere")))
        .exits(0)
        .err_lacks(&["nowhere", "reused"]);
}

#[test]
fn every_layout_is_known_by_its_names() {
    let digest = |n| content(n).sha256_hex();
    for path in [
        format!("models/blobs/sha256-{}", digest(2)),
        format!("sha256/{}/{}", &digest(2)[..2], digest(2)),
        format!("hub/models--o--r/blobs/{}", digest(2)),
        "checkpoints/old/b.bin".to_owned(),
        "some.other.name".to_owned(),
    ] {
        let fixture = fixture();
        put(&fixture, "x/a.bin", &content(1).to_vec());
        put(&fixture, &path, &content(2).to_vec());
        let before = listing(&fixture.beside("store"));
        let store = fixture.beside("store");
        let ended = run(&mut fetch(&fixture, &["--offline", "--reuse", store.to_str().unwrap()]));
        assert_done(&fixture, &ended, 0);
        assert!(ended.err.contains(&format!("2 reused from {}", store.display())), "{path}: {}", ended.err);
        assert_eq!(listing(&store), before, "{path}");
    }
}

#[test]
fn wrong_bytes_are_said_once_and_downloaded() {
    for mode in [ReuseMode::Copy, ReuseMode::Link] {
        let fixture = reusing(mode);
        put_blob(&fixture, "hub", 1, "a.bin", &other(1));
        put(&fixture, "vae/b.bin", &other(2));
        put(&fixture, "vae/c.bin", &other(2));
        let before = listing(&fixture.beside("store"));
        assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
        let warnings = fixture.warnings();
        assert_eq!(warnings.iter().filter(|text| text.contains("is not used: it has SHA-256")).count(), 2);
        // A file of that size under another name is another model.
        assert!(!warnings.iter().any(|text| text.contains("c.bin")), "{warnings:?}");
        assert_eq!(listing(&fixture.beside("store")), before);
    }
}

#[test]
fn a_folder_with_anything_in_it_is_searched() {
    let fixture = reusing(ReuseMode::Copy);
    let store = fixture.beside("store");
    put(&fixture, "deep/a.bin", &content(1).to_vec());
    put(&fixture, "b.bin.incomplete", &content(2).to_vec());
    symlink("..", store.join("deep/up")).unwrap();
    symlink("self", store.join("self")).unwrap();
    symlink(&store, store.join("deep/again")).unwrap();
    symlink("/dev/zero", store.join("b.bin")).unwrap();
    assert!(Command::new("mkfifo").arg(store.join("fifo")).status().unwrap().success());
    let before = listing(&store);
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Reused, Outcome::Fetched]);
    assert_eq!(listing(&store), before);
    let report = fixture.fetch_all();
    assert!(report.by_marker);
}

#[test]
fn a_store_around_the_destination_offers_no_file_to_itself() {
    let mut fixture = fixture();
    let above = fixture.destination().parent().unwrap().to_owned();
    let stores = [above, fixture.destination()].map(|path| Store { path, variable: None });
    fixture.local.reuse = Reuse { stores: stores.to_vec(), mode: ReuseMode::Link };
    write(fixture.destination().as_std_path(), "vae/b.bin", &other(2));
    put(&fixture, "a.bin", &content(1).to_vec());
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Reused, Outcome::Fetched]);
    assert!(!fixture.warnings().iter().any(|text| text.contains(" not ")), "{:?}", fixture.warnings());
}

#[test]
fn a_wrong_baked_file_is_no_end_of_the_search() {
    let mut fixture = reusing(ReuseMode::Link);
    let directory = fixture.beside("baked");
    let path = put(&fixture, "a.bin", &content(1).to_vec());
    write(&directory, "loras/a.bin", &other(1));
    write(&directory, "vae/b.bin", &content(2).to_vec());
    let directory = directory.to_str().unwrap().into();
    fixture.local.baked = Some(Baked { directory, mode: BakedMode::Copy });
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Reused, Outcome::Baked]);
    assert_eq!(path.metadata().unwrap().nlink(), 1, "copied: markers of other locks may list the path");
}

#[test]
fn a_hard_link_leaves_the_stores_file_as_it_is() {
    let fixture = reusing(ReuseMode::Link);
    let path = put_blob(&fixture, "hub", 1, "a.bin", &content(1).to_vec());
    let second = put(&fixture, "b.bin", &content(2).to_vec());
    chmod(&path, 0o440);
    let mut before = listing(&fixture.beside("store"));
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Reused; 2]);
    assert_eq!(fixture.requests(), 0);
    for path in [&path, &second] {
        before.get_mut(path).unwrap().names = 2;
    }
    assert_eq!(listing(&fixture.beside("store")), before);
    let (linked, own) = (fixture.path("loras/a.bin"), path.metadata().unwrap());
    assert_eq!(linked.metadata().unwrap().ino(), own.ino());
    assert!(fixture.fetch_all().by_marker);
    // Its owner writes to it and sets the time back. `verify` finds that, and leaves the file to its owner.
    put(&fixture, "b.bin", &other(2));
    let written = listing(&fixture.beside("store"));
    assert!(fixture.fetch().unwrap().by_marker);
    run_verb(&fixture, "verify", &[]).exits(5);
    assert_eq!(listing(&fixture.beside("store")), written);
    // The next run replaces its own name only.
    let report = fixture.fetch_all();
    assert_eq!(outcomes(&report), [Outcome::Present, Outcome::Fetched]);
    assert_eq!(std::fs::read(&second).unwrap(), other(2));
    // Its owner writes to the other one: the next run finds that by the time.
    chmod(&path, 0o644);
    std::fs::write(&path, other(1)).unwrap();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched, Outcome::Present]);
    // Its owner removes it: nothing changes here.
    std::fs::remove_file(&path).unwrap();
    assert!(fixture.fetch_all().by_marker);
}

#[test]
fn no_other_locks_marker_vouches_for_a_linked_file() {
    let fixture = fixture();
    let store = fixture.beside("store");
    let lock = |name: &str, n: u64| {
        let bytes = if n == 0 { content(1).to_vec() } else { other(1) };
        let digest = Sha256::of(&bytes);
        put(&fixture, &format!("{name}/x"), &bytes);
        let text = format!(
            "version = 1\nmarker = \".{name}\"\n[[model]]\npath = \"d/x\"\nurl = \"{}\"\nsize = {}\nsha256 = \"{digest}\"\n",
            fixture.origin.url("/none"),
            bytes.len()
        );
        let path = fixture.beside(&format!("{name}.lock"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let (first, second) = (lock("first", 0), lock("second", 1));
    let run_with = |lock: &Path| {
        let mut command = program(&fixture);
        command.arg("fetch").arg("--lock").arg(lock).arg("--dest").arg(fixture.destination());
        command.args(["--offline", "--reuse-mode", "link", "--reuse"]).arg(&store);
        let ended = run(&mut command).exits(0);
        ended.err
    };
    for lock in [&first, &second, &first] {
        let said = run_with(lock);
        assert!(said.contains("1 reused"), "{said}");
    }
    assert_eq!(std::fs::read(fixture.path("d/x")).unwrap(), content(1).to_vec());
}

#[test]
fn where_no_link_is_possible_the_file_is_copied() {
    // Another file system.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = write(memory.path(), "a.bin", &content(1).to_vec());
    let mut fixture = reusing(ReuseMode::Link);
    fixture.watch_also(memory.path());
    let store = Store { path: memory.path().to_str().unwrap().into(), variable: None };
    fixture.local.reuse.stores.push(store);
    // A file of another user, who could change it later.
    let foreign = put(&fixture, "b.bin", &content(2).to_vec());
    if needs_root() {
        std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
    }
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Reused; 2]);
    assert_eq!(path.metadata().unwrap().nlink(), 1);
    assert_eq!(foreign.metadata().unwrap().nlink(), if needs_root() { 1 } else { 2 });
}

#[test]
fn what_cannot_be_read_is_said_and_downloaded() {
    let Some(fixture) = with_nobody(fixture()) else { return };
    put(&fixture, "secret/a.bin", &content(1).to_vec());
    let private = put(&fixture, "b.bin", &content(2).to_vec());
    chmod(fixture.beside("store/secret"), 0o700);
    chmod(private, 0o600);
    std::fs::create_dir(fixture.destination()).unwrap();
    for path in [fixture.destination().into(), fixture.beside("")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let store = fixture.beside("store");
    let command = fetch(&fixture, &["--reuse", store.to_str().unwrap(), "--reuse", "/nowhere"]);
    let ended = run(&mut as_nobody(&fixture, &command)).exits(0);
    for said in ["store/secret is not searched", "store/b.bin is not used", "/nowhere is not searched"] {
        assert_eq!(ended.err.matches(said).count(), 1, "{said}: {}", ended.err);
    }
}

#[test]
fn a_dry_run_shows_what_would_be_reused() {
    let fixture = fixture();
    put(&fixture, "a.bin", &content(1).to_vec());
    let store = fixture.beside("store");
    let before = listing(&store);
    for (mode, word) in [("copy", "copy "), ("link", "link ")] {
        std::fs::create_dir_all(fixture.destination()).unwrap();
        let options = ["--dry-run", "--reuse", store.to_str().unwrap(), "--reuse-mode", mode];
        let ended = run(&mut fetch(&fixture, &options)).exits(0);
        let says = |word: &str, path: &str| {
            ended.out.lines().any(|line| line.starts_with(word) && line.contains(path))
        };
        assert!(says(word, "loras/a") && says("fetch ", "vae/b"), "{}", ended.out);
    }
    assert_eq!(listing(&store), before);
    assert_eq!(fixture.requests(), 0);
}

#[test]
fn a_part_survives_a_file_that_is_only_of_its_size() {
    let mut fixture = reusing(ReuseMode::Copy);
    let reuse = std::mem::take(&mut fixture.local.reuse);
    // However late the stop comes, no file is complete.
    fixture.origin.inject("*", Fault::Stall(500_000));
    fixture.fetch_and_interrupt_when(|event| matches!(event, Event::Received { .. }));
    fixture.origin.clear_faults("*");
    fixture.local.reuse = reuse;
    for n in [1, 2] {
        put(&fixture, &format!("x{n}"), &other(n));
    }
    let report = fixture.fetch_all();
    assert!(report.files.iter().map(|file| file.resumed).sum::<u64>() > 0);
}

#[test]
fn force_and_a_complete_set_search_no_store() {
    let mut fixture = reusing(ReuseMode::Copy);
    put(&fixture, "a.bin", &content(1).to_vec());
    fixture.config.force = true;
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 2]);
    fixture.config.force = false;
    // A search would warn of it.
    fixture.local.reuse.stores.push(Store { path: "/nowhere".into(), variable: None });
    assert!(fixture.fetch_all().by_marker);
    std::fs::remove_file(fixture.path(".models-installed")).unwrap();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Present; 2]);
    assert!(!fixture.warnings().iter().any(|text| text.contains(" not ")), "{:?}", fixture.warnings());
}

#[test]
fn layers_and_links_exclude_each_other() {
    let fixture = fixture();
    let layers = fixture.beside("layers");
    run(&mut fetch(&fixture, &["--layers", layers.to_str().unwrap(), "--reuse-mode", "link"])).exits(2);
}

#[test]
fn layers_leave_a_file_that_an_earlier_run_linked() {
    let fixture = fixture();
    put(&fixture, "a.bin", &content(1).to_vec());
    let (store, layers) = (fixture.beside("store"), fixture.beside("layers"));
    let linked = ["--reuse", store.to_str().unwrap(), "--reuse-mode", "link"];
    run(&mut fetch(&fixture, &linked)).exits(0);
    chmod(store.join("a.bin"), 0o600);
    let before = listing(&store);
    run(&mut fetch(&fixture, &["--layers", layers.to_str().unwrap()]))
        .exits(7)
        .err_has(&["loras/a.bin is one file with another program's"]);
    assert_eq!(listing(&store), before);
    // As the message says.
    std::fs::remove_file(fixture.path("loras/a.bin")).unwrap();
    run(&mut fetch(&fixture, &["--layers", layers.to_str().unwrap()])).exits(0);
    assert_eq!(std::fs::metadata(store.join("a.bin")).unwrap().nlink(), 1);
}

#[test]
fn the_report_names_the_file_that_was_reused() {
    let fixture = fixture();
    let path = put(&fixture, "a.bin", &content(1).to_vec());
    let report = report_of(&fixture, &["--reuse", fixture.beside("store").to_str().unwrap()]);
    assert_eq!(report["files"][0]["outcome"], "reused");
    assert_eq!(report["files"][0]["source"], path.to_str().unwrap());
    assert_eq!(report["files"][1]["outcome"], "fetched");
}
