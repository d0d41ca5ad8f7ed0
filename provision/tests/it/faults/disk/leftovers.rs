//! Planted, broken and leftover files: parts (fault 75), journals (76), markers (77), installed files (78, 79), and
//! temporary files of a killed run (66).

use std::os::unix::fs::{MetadataExt as _, symlink};

use crate::prelude::*;
use crate::resume::{MARKER, SIZE, fixture, halfway, only, plant_part};

/// A run of the program that must succeed; returns how many bytes it resumed and fetched.
fn run_well(fixture: &Fixture, arguments: &[&str]) -> (Ended, u64, u64) {
    let path = fixture.beside("report.json");
    let ended = run(fetch(fixture, arguments).arg("--report").arg(&path)).exits(0);
    fixture.assert_installed();
    let report = read_report(path);
    let total = |name: &str| report["totals"][name].as_u64().unwrap();
    (ended, total("resumed"), total("fetched"))
}

#[test]
fn fault_75_a_planted_or_sparse_part_is_dropped() {
    for (length, has_journal) in [(0, false), (5, false), (SIZE, false), (SIZE + 1000, false), (SIZE, true)] {
        let (fixture, _) = fixture();
        std::fs::create_dir_all(fixture.destination()).unwrap();
        plant_part(&fixture, &Content::generated(9, SIZE), 1_000_000);
        let (part, journal) = (only(&fixture, ".part"), only(&fixture, ".journal"));
        if !has_journal {
            std::fs::remove_file(journal).unwrap();
        }
        std::fs::File::create(&part).unwrap().set_len(length).unwrap();
        assert_eq!(std::fs::metadata(&part).unwrap().blocks(), 0, "it is sparse");
        let file = fixture.fetch_all().files.remove(0);
        assert_eq!((file.resumed, file.fetched), (0, SIZE), "{length}, journal: {has_journal}");
    }
}

#[test]
fn fault_75_changed_part_bytes_under_a_valid_journal_are_caught() {
    let fixture = halfway();
    let part = only(&fixture, ".part");
    let mut bytes = std::fs::read(&part).unwrap();
    let held = fixture.held();
    bytes[1000] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    assert!(fixture.held() < held, "the piece is not trusted");
    let report = fixture.fetch_all();
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
    assert!(report.files[0].resumed < held);
}

#[test]
fn fault_75_a_part_that_is_a_link_is_not_written_through() {
    let (fixture, content) = fixture();
    plant_part(&fixture, &content, 1000);
    let part = only(&fixture, ".part");
    let victim = fixture.beside("victim");
    std::fs::write(&victim, b"precious").unwrap();
    std::fs::remove_file(&part).unwrap();
    symlink(&victim, &part).unwrap();
    fixture.fetch_all();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");

    // The same with a hard link.
    let (fixture, content) = crate::resume::fixture();
    plant_part(&fixture, &content, 1000);
    let part = only(&fixture, ".part");
    std::fs::remove_file(&part).unwrap();
    let victim = fixture.beside("victim");
    std::fs::write(&victim, b"precious").unwrap();
    std::fs::hard_link(&victim, &part).unwrap();
    fixture.fetch_all();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
}

/// A change to a journal's bytes.
type Break = fn(Vec<u8>) -> Vec<u8>;

#[test]
fn fault_76_only_verified_ranges_of_a_broken_journal_count() {
    let breaks: [(&str, Break); 6] = [
        ("cut in its last record", |bytes| bytes[..bytes.len() - 5].to_vec()),
        ("zeroed", |bytes| vec![0; bytes.len()]),
        ("cut", |mut bytes| {
            bytes.truncate(bytes.len() * 2 / 3);
            bytes
        }),
        ("flipped", |mut bytes| {
            for at in (90..bytes.len()).step_by(61) {
                bytes[at] ^= 4;
            }
            bytes
        }),
        ("empty", |_| Vec::new()),
        ("noise", |bytes| Content::generated(3, bytes.len() as u64).to_vec()),
    ];
    for (what, make) in breaks {
        let fixture = halfway();
        let journal = only(&fixture, ".journal");
        let whole = fixture.held();
        std::fs::write(&journal, make(std::fs::read(&journal).unwrap())).unwrap();
        let held = fixture.held();
        assert!(held <= whole && (held > 0 || what != "cut in its last record"), "{what}");
        let file = fixture.fetch_all().files.remove(0);
        assert_eq!((file.resumed, file.fetched), (held, SIZE - held), "{what}");
    }
}

#[test]
fn fault_66_temporary_files_of_a_killed_run_are_removed() {
    let leave = |fixture: &Fixture, journal: &Path| {
        std::fs::write(journal.with_extension("tmp"), b"half a jour").unwrap();
        std::fs::write(fixture.path("..models-installed.0badcafe.tmp"), b"half a mark").unwrap();
    };
    let fixture = halfway();
    leave(&fixture, &only(&fixture, ".journal"));
    // `fetch_all` checks that no other file is left in the end.
    assert!(fixture.fetch_all().files[0].resumed > 0);

    let fixture = halfway();
    let journal = only(&fixture, ".journal");
    leave(&fixture, &journal);
    std::fs::remove_file(journal).unwrap();
    fixture.fetch_all();
}

#[test]
fn fault_76_a_journal_that_lists_everything_is_verified() {
    let (fixture, content) = fixture();
    plant_part(&fixture, &content, SIZE);
    // A valid journal, over a part whose second half is zeros.
    let part = only(&fixture, ".part");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[SIZE as usize / 2..].fill(0);
    std::fs::write(&part, bytes).unwrap();
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE, "the only piece is not trusted");
}

#[test]
fn fault_77_an_invalid_marker_is_ignored() {
    let (fixture, _) = fixture();
    fixture.fetch_all();
    let good = std::fs::read(fixture.path(MARKER)).unwrap();
    let requests = fixture.requests();
    let version_2 = String::from_utf8(good.clone()).unwrap().replace("\"version\":1", "\"version\":2");
    let other_lock = b"{\"version\":1,\"lock\":\"x\",\"files\":[]}";
    let cut = &good[..good.len() / 2];
    // The search for the markers that list a file would not find it.
    let formatted = [b" ", &good[..]].concat();
    let broken = [&b""[..], b"\0\0\0\0", b"garbage", b"{}", b"{\"version\":1}", other_lock, cut];
    for bad in broken.into_iter().chain([version_2.as_bytes(), &formatted]) {
        std::fs::write(fixture.path(MARKER), bad).unwrap();
        let report = fixture.fetch_all();
        assert!(!report.by_marker, "{:?}", String::from_utf8_lossy(bad));
        assert!(fixture.fetch().unwrap().by_marker, "the marker was not written again");
    }
    // A symlink, even to a valid marker.
    let elsewhere = fixture.beside("marker");
    std::fs::write(&elsewhere, &good).unwrap();
    std::fs::remove_file(fixture.path(MARKER)).unwrap();
    symlink(&elsewhere, fixture.path(MARKER)).unwrap();
    let report = fixture.fetch_all();
    assert!(!report.by_marker);
    assert!(
        std::fs::symlink_metadata(fixture.path(MARKER)).unwrap().is_file(),
        "replaced, not written through"
    );
    assert_eq!(std::fs::read(&elsewhere).unwrap(), good);
    assert_eq!(fixture.requests(), requests, "the file was there all the time");
}

#[test]
fn fault_77_a_marker_that_is_a_directory_is_an_error() {
    let (fixture, _) = fixture();
    std::fs::create_dir_all(fixture.path(MARKER)).unwrap();
    run(&mut fetch(&fixture, &[])).exits(7).err_has(&[MARKER]);
}

#[test]
fn fault_77_a_marker_of_another_lock_covers_only_equal_entries() {
    let (mut fixture, _) = fixture();
    fixture.fetch_all();
    let new = Content::generated(2, SIZE);
    fixture.file("x", &new).file("y", &Content::generated(3, 1000));
    let report = fixture.fetch_all();
    assert!(!report.by_marker);
    assert_eq!(report.files[0].fetched, SIZE);
}

#[test]
fn fault_78_a_missing_or_changed_file_is_seen_despite_a_marker() {
    let mut fixture = Fixture::new();
    let contents = [1, 2, 3, 4, 5].map(|seed| Content::generated(seed, 1_500_000));
    for (name, content) in ["missing", "newer", "shorter", "wrong", "untouched"].iter().zip(&contents) {
        fixture.file(name, content);
    }
    fixture.fetch_all();
    std::fs::remove_file(fixture.path("missing")).unwrap();
    std::fs::OpenOptions::new().write(true).open(fixture.path("shorter")).unwrap().set_len(1000).unwrap();
    std::fs::write(fixture.path("newer"), contents[1].to_vec()).unwrap();
    std::fs::write(fixture.path("wrong"), Content::generated(9, 1_500_000).to_vec()).unwrap();
    let before = fixture.origin.counters();
    let report = fixture.fetch_all();
    assert!(!report.by_marker);
    let after = fixture.origin.counters();
    let fetched = ["missing", "newer", "shorter", "wrong", "untouched"].map(|name| {
        let path = format!("/{name}");
        after.path(&path).requests > before.path(&path).requests
    });
    // The bytes of the second are right, so it is hashed and kept.
    assert_eq!(fetched, [true, false, true, true, false]);
    assert!(fixture.fetch().unwrap().by_marker);
}

#[test]
fn fault_79_equal_size_and_mtime_pass_the_marker_but_not_verify() {
    let (fixture, content) = fixture();
    run_well(&fixture, &[]);
    let path = fixture.path("x");
    let mtime = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, content.flipped(SIZE / 2, 0).to_vec()).unwrap();
    std::fs::File::open(&path).unwrap().set_modified(mtime).unwrap();
    run(&mut fetch(&fixture, &[])).exits(0).err_has(&["nothing to do"]);

    run_verb(&fixture, "verify", &[]).exits(5).out_has(&["x: has SHA-256"]);

    let (_, _, fetched) = run_well(&fixture, &["--verify", "full"]);
    assert_eq!(fetched, SIZE);
    run_verb(&fixture, "verify", &[]).exits(0);
    // Level `full` hashes the valid file and fetches nothing.
    let (_, _, fetched) = run_well(&fixture, &["--verify", "full"]);
    assert_eq!(fetched, 0);
}
