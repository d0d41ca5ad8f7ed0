//! `--warm`: a complete set is read once, after the marker.

use crate::prelude::*;

fn fixture() -> Fixture {
    Fixture::with(&[("loras/a", 1, 3_000_001), ("vae/b", 2, 70_002)])
}

/// Removes the file's pages from memory. Returns how many bytes of it are there afterwards.
fn evict(path: &Path) -> u64 {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fsync(&file).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    resident(path)
}

/// The bytes of a file that are in memory, as fincore(1) counts them.
fn resident(path: &Path) -> u64 {
    let counted = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--raw", "--output", "RES"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(counted.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn the_set_is_read_after_the_marker_and_at_each_start() {
    let fixture = fixture();
    for first in [true, false] {
        let ended = run(&mut fetch(&fixture, &["--warm"])).exits(0);
        assert_eq!(ended.err.matches("warm: 2 files, 3.07 MB read into memory").count(), 1, "{}", ended.err);
        assert_eq!(ended.err.contains("nothing to do: marker"), !first, "{}", ended.err);
        fixture.assert_installed();
    }
    assert!(run(&mut fetch(&fixture, &["--warm", "--quiet"])).err.is_empty());
}

#[test]
fn every_page_of_the_set_is_in_memory_afterwards() {
    if !needs_tool("fincore", "--version") {
        return;
    }
    let fixture = fixture();
    run(&mut fetch(&fixture, &[]));
    let path = fixture.path("loras/a");
    if !needs("a file system that drops pages", evict(&path) == 0) {
        return;
    }
    run(&mut fetch(&fixture, &[]));
    assert_eq!(resident(&path), 0, "a start without --warm reads no model");
    run(&mut fetch(&fixture, &["--warm"]));
    assert_eq!(resident(&path), 3_000_001_u64.next_multiple_of(4096));
}

#[test]
fn nothing_is_read_for_a_dry_run_or_an_incomplete_set() {
    let mut fixture = fixture();
    run(&mut fetch(&fixture, &[]));
    run(&mut fetch(&fixture, &["--warm", "--dry-run"])).err_lacks(&["warm:"]);
    fixture.file("d/gone", &Content::generated(3, 1000));
    run(&mut fetch(&fixture, &["--warm", "--offline"])).exits(4).err_lacks(&["warm:"]);
}

#[test]
fn the_chosen_models_alone_are_read() {
    let fixture = fixture();
    run(&mut fetch(&fixture, &["--warm", "vae/b"])).err_has(&["warm: 1 file, 70"]);
}

#[test]
fn a_stop_ends_it_soon_with_the_signals_code() {
    let fixture = Fixture::new();
    // Holes: much to read, and nothing to write.
    let size = (provision_engine::warm::free_memory().unwrap() / 2).min(4 << 30);
    std::fs::create_dir(fixture.destination()).unwrap();
    std::fs::File::create(fixture.path("x")).unwrap().set_len(size).unwrap();
    let lock = fixture.beside("models.lock");
    let digest = "0".repeat(64);
    let url = fixture.origin.url("/none");
    let text = format!(
        "version = 1\n[[model]]\npath = \"x\"\nurl = {url:?}\nsize = {size}\nsha256 = \"{digest}\"\n"
    );
    std::fs::write(&lock, text).unwrap();
    let mut command = program(&fixture);
    command.args(["fetch", "--warm", "--verify", "quick", "--lock"]).arg(&lock);
    let run = start(command.arg("--dest").arg(fixture.destination()));
    let has_begun = || {
        // It runs in turns with this test, which thus sees it before its end on any machine.
        signal(&run, Signal::STOP);
        let counts = std::fs::read_to_string(format!("/proc/{}/io", run.id())).unwrap_or_default();
        let read = counts.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok());
        let has_begun = read.is_some_and(|read| read > 50_000_000);
        if !has_begun {
            signal(&run, Signal::CONT);
        }
        has_begun
    };
    wait_until(PATIENCE, "a read of 50 MB", has_begun);
    let stopped = Instant::now();
    signal(&run, Signal::TERM);
    signal(&run, Signal::CONT);
    let ended = run.end();
    // The search for secrets would read it.
    std::fs::remove_file(fixture.path("x")).unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
    assert_eq!(ended.code, Some(143), "{}", ended.err);
    ended.err_has(&["interrupted while the models were read into memory"]);
}
