//! Container start: baked files are copied or linked, missing ones are fetched.

use std::os::unix::fs::MetadataExt as _;

use camino::Utf8PathBuf;
use provision_engine::fetch::{Baked, BakedMode, FetchError};

use crate::fixture::installed_mtime;
use crate::prelude::*;

/// A fixture with three files, and a baked directory.
fn fixture(mode: BakedMode) -> Fixture {
    let mut fixture = Fixture::new();
    for (n, path) in ["loras/a", "vae/b", "vae/c"].into_iter().enumerate() {
        fixture.file(path, &content(n));
    }
    let directory = Utf8PathBuf::from_path_buf(fixture.beside("baked")).unwrap();
    fixture.local.baked = Some(Baked { directory, mode });
    fixture
}

fn content(n: usize) -> Content {
    Content::generated(n as u64 + 1, 3_000_000 + n as u64)
}

pub(crate) fn bake(fixture: &Fixture, path: &str, bytes: &[u8]) {
    write(fixture.beside("baked").join(path), bytes);
}

fn bake_all(fixture: &Fixture) {
    for (n, path) in ["loras/a", "vae/b", "vae/c"].into_iter().enumerate() {
        bake(fixture, path, &content(n).to_vec());
    }
}

#[test]
fn baked_files_are_copied_without_a_request() {
    let fixture = fixture(BakedMode::Copy);
    bake_all(&fixture);
    let report = fixture.fetch_all();
    assert_eq!(outcomes(&report), [Outcome::Baked; 3]);
    assert_eq!(fixture.requests(), 0);
    for (n, path) in ["loras/a", "vae/b", "vae/c"].into_iter().enumerate() {
        let (copy, baked) = (metadata(&fixture.path(path)), metadata(&fixture.beside("baked").join(path)));
        assert_eq!((copy.mtime(), copy.mode() & 0o7777), (installed_mtime(&content(n)), 0o644));
        assert_ne!(copy.ino(), baked.ino());
    }
    assert!(fixture.fetch_all().by_marker);
}

fn metadata(path: &Path) -> std::fs::Metadata {
    std::fs::symlink_metadata(path).unwrap()
}

#[test]
fn files_that_are_not_baked_are_fetched_and_others_kept() {
    let fixture = fixture(BakedMode::Copy);
    bake(&fixture, "vae/b", &content(1).to_vec());
    write(fixture.path("vae/c"), content(2).to_vec());
    let report = fixture.fetch_all();
    assert_eq!(outcomes(&report), [Outcome::Fetched, Outcome::Baked, Outcome::Present]);
    assert!(fixture.origin.requests().iter().all(|request| request.path == "/loras/a"));
}

#[test]
fn a_baked_file_with_wrong_bytes_is_reported_and_not_used() {
    for mode in [BakedMode::Copy, BakedMode::Symlink] {
        let fixture = fixture(mode);
        bake_all(&fixture);
        let mut wrong = content(1).to_vec();
        wrong[2_000_000] ^= 1;
        bake(&fixture, "vae/b", &wrong);
        bake(&fixture, "vae/c", b"short");
        let report = fixture.fetch().unwrap();
        let baked = if mode == BakedMode::Copy { Outcome::Baked } else { Outcome::Linked };
        assert_eq!(outcomes(&report), [baked, Outcome::Fetched, Outcome::Fetched]);
        let warnings = fixture.warnings();
        assert!(warnings.iter().any(|w| w.contains("baked/vae/b is not used") && w.contains("SHA-256")));
        assert!(warnings.iter().any(|w| w.contains("baked/vae/c is not used") && w.contains("5 bytes")));
        assert_eq!(std::fs::read(fixture.path("vae/b")).unwrap(), content(1).to_vec());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_not_used() {
    let fixture = fixture(BakedMode::Copy);
    std::fs::create_dir_all(fixture.beside("baked/vae/b")).unwrap();
    fixture.fetch_all();
    assert!(fixture.warnings()[0].contains("vae/b is not used"), "{:?}", fixture.warnings());
}

#[test]
fn symlinks_lead_to_the_baked_files_and_the_marker_knows_them() {
    let fixture = fixture(BakedMode::Symlink);
    bake_all(&fixture);
    let report = fixture.fetch().unwrap();
    assert_eq!(outcomes(&report), [Outcome::Linked; 3]);
    assert_eq!(std::fs::read_link(fixture.path("vae/b")).unwrap(), fixture.beside("baked/vae/b"));
    assert!(fixture.fetch().unwrap().by_marker);

    // The marker does not cover a baked file that changed; it is fetched in the symlink's place.
    bake(&fixture, "vae/b", b"changed");
    let report = fixture.fetch().unwrap();
    assert_eq!(outcomes(&report), [Outcome::Present, Outcome::Fetched, Outcome::Present]);
    assert!(metadata(&fixture.path("vae/b")).is_file());
    assert!(fixture.fetch().unwrap().by_marker);
    assert_eq!(fixture.requests(), fixture.origin.requests().len() as u64);
}

#[test]
fn without_a_marker_a_symlink_to_a_baked_file_is_hashed_again() {
    let fixture = fixture(BakedMode::Symlink);
    bake_all(&fixture);
    fixture.fetch().unwrap();
    std::fs::remove_file(fixture.path(".models-installed")).unwrap();
    assert_eq!(outcomes(&fixture.fetch().unwrap()), [Outcome::Present; 3]);
    assert!(fixture.fetch().unwrap().by_marker);
    assert_eq!(fixture.requests(), 0);
}

#[test]
fn a_symlink_whose_layer_has_gone_is_replaced() {
    let mut fixture = fixture(BakedMode::Symlink);
    bake_all(&fixture);
    fixture.fetch().unwrap();
    std::fs::remove_dir_all(fixture.beside("baked")).unwrap();
    fixture.local.baked = None;
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 3]);
}

#[test]
fn offline_copies_baked_files_and_lists_the_missing_ones() {
    let mut fixture = fixture(BakedMode::Copy);
    bake(&fixture, "vae/b", &content(1).to_vec());
    fixture.config.offline = true;
    let error = fixture.fetch().unwrap_err();
    assert!(matches!(&error, FetchError::Offline { count: 2, .. }), "{error}");
    assert!(error.to_string().contains("loras/a, vae/c"), "{error}");
    assert_eq!(std::fs::read(fixture.path("vae/b")).unwrap(), content(1).to_vec());
    assert_eq!(fixture.requests(), 0);
}

/// A run that was stopped after the first bytes of a large baked file.
fn interrupted_copy() -> Fixture {
    let (mut fixture, content) = Fixture::of("vae/big", Content::generated(9, 40_000_000));
    let directory = Utf8PathBuf::from_path_buf(fixture.beside("baked")).unwrap();
    fixture.local.baked = Some(Baked { directory, mode: BakedMode::Copy });
    bake(&fixture, "vae/big", &content.to_vec());
    // The first progress event of a copy follows its first bytes.
    let report = fixture.fetch_and_interrupt_when(|event| matches!(event, Event::Brought { .. }));
    assert!(report.interrupted);
    assert!(fixture.held() > 0);
    fixture
}

#[test]
fn an_interrupted_copy_is_resumed() {
    let fixture = interrupted_copy();
    fixture.assert_nothing_wrong();
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Baked]);
    assert_eq!(fixture.requests(), 0);
}

#[test]
fn a_part_of_an_earlier_download_is_filled_from_baked_bytes() {
    let fixture = fixture(BakedMode::Copy);
    bake_all(&fixture);
    let baked = fixture.beside("baked");
    std::fs::rename(&baked, fixture.beside("elsewhere")).unwrap();
    fixture.fetch_and_interrupt_at(2_000_000);
    std::fs::rename(fixture.beside("elsewhere"), &baked).unwrap();
    let before = fixture.requests();
    fixture.fetch_all();
    assert_eq!(fixture.requests(), before);
}

#[test]
fn force_fetches_although_it_is_baked() {
    let mut fixture = fixture(BakedMode::Copy);
    bake_all(&fixture);
    fixture.config.force = true;
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 3]);
}

#[test]
fn a_dry_run_counts_baked_files_and_copies_nothing() {
    let mut fixture = fixture(BakedMode::Copy);
    bake(&fixture, "vae/b", &content(1).to_vec());
    fixture.config.dry_run = true;
    let report = fixture.fetch().unwrap();
    let plan: Vec<_> = report.plan.iter().map(|file| format!("{:?}", file.plan)).collect();
    assert_eq!(plan, ["Fetch", "Copy", "Fetch"]);
    assert!(!fixture.destination().exists());
}

/// Bytes that the last plan needed on the destination's disk.
fn needed(fixture: &Fixture) -> u64 {
    let needed = |event: &Event| if let Event::Planned { needed, .. } = event { Some(*needed) } else { None };
    *fixture.events.filter_map(needed).last().unwrap()
}

/// The number of files that were hashed.
fn checked(fixture: &Fixture) -> usize {
    fixture.events.count(|event| matches!(event, Event::Checking { .. }))
}

#[test]
fn bytes_of_an_interrupted_copy_are_not_counted_twice() {
    let fixture = interrupted_copy();
    let held = fixture.held();
    fixture.fetch_all();
    assert_eq!(needed(&fixture), 40_000_000 - held);
}

#[test]
fn a_symlink_whose_target_was_replaced_is_not_trusted() {
    let fixture = fixture(BakedMode::Symlink);
    bake_all(&fixture);
    fixture.fetch().unwrap();
    let path = fixture.beside("baked/vae/b");
    let times = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut other = content(1).to_vec();
    other[7] ^= 1;
    // As in another image's layer: another file, of the same size and time.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, other).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    let report = fixture.fetch().unwrap();
    assert!(!report.by_marker);
    assert_eq!(outcomes(&report), [Outcome::Present, Outcome::Fetched, Outcome::Present]);
    assert_eq!(std::fs::read(fixture.path("vae/b")).unwrap(), content(1).to_vec());
}

#[test]
fn a_marker_that_lists_no_missing_file_stays() {
    let mut fixture = fixture(BakedMode::Copy);
    fixture.fetch_all();
    fixture.file("vae/new", &content(5));
    fixture.config.offline = true;
    let before = checked(&fixture);
    for _ in 0..2 {
        assert!(matches!(fixture.fetch(), Err(FetchError::Offline { count: 1, .. })));
        assert!(fixture.path(".models-installed").exists());
    }
    assert_eq!(checked(&fixture), before, "a file that the marker lists was hashed");
}

#[test]
fn files_verified_by_an_incomplete_run_are_not_hashed_again() {
    let mut fixture = fixture(BakedMode::Copy);
    bake_all(&fixture);
    std::fs::remove_file(fixture.beside("baked/vae/b")).unwrap();
    fixture.config.offline = true;
    assert!(fixture.fetch().is_err());
    assert!(!fixture.path(".models-installed").exists());
    let before = checked(&fixture);
    assert!(fixture.fetch().is_err());
    assert_eq!(checked(&fixture), before);
    // A changed file loses its digest.
    std::fs::write(fixture.path("vae/c"), b"changed").unwrap();
    fixture.config.offline = false;
    fixture.fetch_all();
    assert!(fixture.fetch_all().by_marker);
}

#[test]
fn force_replaces_a_working_symlink_only_by_a_file() {
    let mut fixture = fixture(BakedMode::Symlink);
    bake_all(&fixture);
    fixture.fetch().unwrap();
    fixture.config.force = true;
    fixture.config.transfer.retry.retries = 1;
    for path in ["/loras/a", "/vae/b", "/vae/c"] {
        fixture.origin.remove(path);
    }
    assert!(!fixture.fetch().unwrap().is_complete());
    assert_eq!(std::fs::read(fixture.path("vae/b")).unwrap(), content(1).to_vec());
    for (n, path) in ["/loras/a", "/vae/b", "/vae/c"].into_iter().enumerate() {
        fixture.origin.put(path, content(n));
    }
    assert_eq!(outcomes(&fixture.fetch_all()), [Outcome::Fetched; 3]);
}

#[test]
fn a_link_leaves_no_part_of_an_interrupted_copy() {
    let mut fixture = interrupted_copy();
    fixture.local.baked.as_mut().unwrap().mode = BakedMode::Symlink;
    fixture.fetch().unwrap();
    assert_eq!(fixture.listing(), [".models-installed", "vae/big"]);
}
