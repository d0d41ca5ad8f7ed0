//! Container start: baked files are copied or linked, missing ones are fetched.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use camino::Utf8PathBuf;
use provision_core::event::{Event, Outcome};
use provision_engine::fetch::{Baked, BakedMode, FetchError, Report};
use provision_testbed::Content;

use crate::world::World;

/// A fixture with three files, and a baked directory.
fn world(mode: BakedMode) -> World {
    let mut world = World::new();
    for (n, path) in ["loras/a", "vae/b", "vae/c"].into_iter().enumerate() {
        world.file(path, &content(n));
    }
    let directory = Utf8PathBuf::from_path_buf(world.beside("baked")).unwrap();
    world.local.baked = Some(Baked { directory, mode });
    world
}

fn content(n: usize) -> Content {
    Content::generated(n as u64 + 1, 3_000_000 + n as u64)
}

fn bake(world: &World, path: &str, bytes: &[u8]) {
    let path = world.beside("baked").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn bake_all(world: &World) {
    for (n, path) in ["loras/a", "vae/b", "vae/c"].into_iter().enumerate() {
        bake(world, path, &content(n).to_vec());
    }
}

fn outcomes(report: &Report) -> Vec<Outcome> {
    report.files.iter().map(|file| file.result.as_ref().unwrap().unwrap()).collect()
}

fn requests(world: &World) -> u64 {
    world.origin.counters().requests
}

fn warnings(world: &World) -> Vec<String> {
    world.events.filter_map(|event| match event {
        Event::Warning { message } => Some(message.clone()),
        _ => None,
    })
}

#[test]
fn baked_files_are_copied_without_a_request() {
    let world = world(BakedMode::Copy);
    bake_all(&world);
    let report = world.fetch_all();
    assert_eq!(outcomes(&report), [Outcome::Baked; 3]);
    assert_eq!(requests(&world), 0);
    for path in ["loras/a", "vae/b", "vae/c"] {
        let (copy, baked) = (metadata(&world.path(path)), metadata(&world.beside("baked").join(path)));
        assert_eq!((copy.mtime(), copy.mode() & 0o7777), (946_684_800, 0o644));
        assert_ne!(copy.ino(), baked.ino());
    }
    assert!(world.fetch_all().by_marker);
}

fn metadata(path: &Path) -> std::fs::Metadata {
    std::fs::symlink_metadata(path).unwrap()
}

#[test]
fn files_that_are_not_baked_are_fetched_and_others_kept() {
    let world = world(BakedMode::Copy);
    bake(&world, "vae/b", &content(1).to_vec());
    std::fs::create_dir_all(world.path("vae")).unwrap();
    std::fs::write(world.path("vae/c"), content(2).to_vec()).unwrap();
    let report = world.fetch_all();
    assert_eq!(outcomes(&report), [Outcome::Fetched, Outcome::Baked, Outcome::Present]);
    assert!(world.origin.requests().iter().all(|request| request.path == "/loras/a"));
}

#[test]
fn a_baked_file_with_wrong_bytes_is_reported_and_not_used() {
    for mode in [BakedMode::Copy, BakedMode::Symlink] {
        let world = world(mode);
        bake_all(&world);
        let mut wrong = content(1).to_vec();
        wrong[2_000_000] ^= 1;
        bake(&world, "vae/b", &wrong);
        bake(&world, "vae/c", b"short");
        let report = world.fetch().unwrap();
        let baked = if mode == BakedMode::Copy { Outcome::Baked } else { Outcome::Linked };
        assert_eq!(outcomes(&report), [baked, Outcome::Fetched, Outcome::Fetched]);
        let warnings = warnings(&world);
        assert!(warnings.iter().any(|w| w.contains("baked/vae/b is not used") && w.contains("SHA-256")));
        assert!(warnings.iter().any(|w| w.contains("baked/vae/c is not used") && w.contains("5 bytes")));
        assert_eq!(std::fs::read(world.path("vae/b")).unwrap(), content(1).to_vec());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_not_used() {
    let world = world(BakedMode::Copy);
    std::fs::create_dir_all(world.beside("baked/vae/b")).unwrap();
    world.fetch_all();
    assert!(warnings(&world)[0].contains("vae/b is not used"), "{:?}", warnings(&world));
}

#[test]
fn symlinks_lead_to_the_baked_files_and_the_marker_knows_them() {
    let world = world(BakedMode::Symlink);
    bake_all(&world);
    let report = world.fetch().unwrap();
    assert_eq!(outcomes(&report), [Outcome::Linked; 3]);
    assert_eq!(std::fs::read_link(world.path("vae/b")).unwrap(), world.beside("baked/vae/b"));
    assert!(world.fetch().unwrap().by_marker);

    // The marker does not cover a baked file that changed; it is fetched in the symlink's place.
    bake(&world, "vae/b", b"changed");
    let report = world.fetch().unwrap();
    assert_eq!(outcomes(&report), [Outcome::Present, Outcome::Fetched, Outcome::Present]);
    assert!(metadata(&world.path("vae/b")).is_file());
    assert!(world.fetch().unwrap().by_marker);
    assert_eq!(requests(&world), world.origin.requests().len() as u64);
}

#[test]
fn without_a_marker_a_symlink_to_a_baked_file_is_hashed_again() {
    let world = world(BakedMode::Symlink);
    bake_all(&world);
    world.fetch().unwrap();
    std::fs::remove_file(world.path(".models-installed")).unwrap();
    assert_eq!(outcomes(&world.fetch().unwrap()), [Outcome::Present; 3]);
    assert!(world.fetch().unwrap().by_marker);
    assert_eq!(requests(&world), 0);
}

#[test]
fn a_symlink_whose_layer_has_gone_is_replaced() {
    let mut world = world(BakedMode::Symlink);
    bake_all(&world);
    world.fetch().unwrap();
    std::fs::remove_dir_all(world.beside("baked")).unwrap();
    world.local.baked = None;
    assert_eq!(outcomes(&world.fetch_all()), [Outcome::Fetched; 3]);
}

#[test]
fn a_foreign_symlink_is_left_alone() {
    let world = world(BakedMode::Symlink);
    bake_all(&world);
    std::fs::create_dir_all(world.path("vae")).unwrap();
    std::fs::write(world.beside("theirs"), b"theirs").unwrap();
    std::os::unix::fs::symlink(world.beside("theirs"), world.path("vae/b")).unwrap();
    let report = world.fetch().unwrap();
    let error = report.files[1].result.as_ref().unwrap_err().reason();
    assert!(error.contains("a symlink"), "{error}");
    assert_eq!(std::fs::read(world.beside("theirs")).unwrap(), b"theirs");
    assert_eq!(std::fs::read_link(world.path("vae/b")).unwrap(), world.beside("theirs"));
}

#[test]
fn offline_copies_baked_files_and_lists_the_missing_ones() {
    let mut world = world(BakedMode::Copy);
    bake(&world, "vae/b", &content(1).to_vec());
    world.config.offline = true;
    let error = world.fetch().unwrap_err();
    assert!(matches!(&error, FetchError::Offline { count: 2, .. }), "{error}");
    assert!(error.to_string().contains("loras/a, vae/c"), "{error}");
    assert_eq!(std::fs::read(world.path("vae/b")).unwrap(), content(1).to_vec());
    assert_eq!(requests(&world), 0);
}

#[test]
fn an_interrupted_copy_is_resumed() {
    let mut world = World::new();
    let content = Content::generated(9, 40_000_000);
    world.file("vae/big", &content);
    let directory = Utf8PathBuf::from_path_buf(world.beside("baked")).unwrap();
    world.local.baked = Some(Baked { directory, mode: BakedMode::Copy });
    bake(&world, "vae/big", &content.to_vec());
    // The first progress event of a copy follows its first bytes.
    let report = world.fetch_and_interrupt_when(|event| matches!(event, Event::Brought { .. }));
    assert!(report.interrupted);
    assert!(world.held() > 0);
    world.assert_nothing_wrong();
    assert_eq!(outcomes(&world.fetch_all()), [Outcome::Baked]);
    assert_eq!(requests(&world), 0);
}

#[test]
fn a_part_of_an_earlier_download_is_filled_from_baked_bytes() {
    let world = world(BakedMode::Copy);
    bake_all(&world);
    let baked = world.beside("baked");
    std::fs::rename(&baked, world.beside("elsewhere")).unwrap();
    world.fetch_and_interrupt_at(2_000_000);
    std::fs::rename(world.beside("elsewhere"), &baked).unwrap();
    let before = requests(&world);
    world.fetch_all();
    assert_eq!(requests(&world), before);
}

#[test]
fn force_fetches_although_it_is_baked() {
    let mut world = world(BakedMode::Copy);
    bake_all(&world);
    world.config.force = true;
    assert_eq!(outcomes(&world.fetch_all()), [Outcome::Fetched; 3]);
}

#[test]
fn a_dry_run_counts_baked_files_and_copies_nothing() {
    let mut world = world(BakedMode::Copy);
    bake(&world, "vae/b", &content(1).to_vec());
    world.config.dry_run = true;
    let report = world.fetch().unwrap();
    let plan: Vec<_> = report.plan.iter().map(|file| format!("{:?}", file.plan)).collect();
    assert_eq!(plan, ["Fetch", "Copy", "Fetch"]);
    assert!(!world.destination().exists());
}

/// Bytes that the last plan needed on the destination's disk.
fn needed(world: &World) -> u64 {
    let needed = |event: &Event| if let Event::Planned { needed, .. } = event { Some(*needed) } else { None };
    *world.events.filter_map(needed).last().unwrap()
}

/// The number of files that were hashed.
fn checked(world: &World) -> usize {
    world.events.count(|event| matches!(event, Event::Checking { .. }))
}

#[test]
fn bytes_of_an_interrupted_copy_are_not_counted_twice() {
    let mut world = World::new();
    let content = Content::generated(9, 40_000_000);
    world.file("vae/big", &content);
    let directory = Utf8PathBuf::from_path_buf(world.beside("baked")).unwrap();
    world.local.baked = Some(Baked { directory, mode: BakedMode::Copy });
    bake(&world, "vae/big", &content.to_vec());
    world.fetch_and_interrupt_when(|event| matches!(event, Event::Brought { .. }));
    let held = world.held();
    world.fetch_all();
    assert_eq!(needed(&world), 40_000_000 - held);
}

#[test]
fn a_symlink_whose_target_was_replaced_is_not_trusted() {
    let world = world(BakedMode::Symlink);
    bake_all(&world);
    world.fetch().unwrap();
    let path = world.beside("baked/vae/b");
    let times = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut other = content(1).to_vec();
    other[7] ^= 1;
    // As in another image's layer: another file, of the same size and time.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, other).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    let report = world.fetch().unwrap();
    assert!(!report.by_marker);
    assert_eq!(outcomes(&report), [Outcome::Present, Outcome::Fetched, Outcome::Present]);
    assert_eq!(std::fs::read(world.path("vae/b")).unwrap(), content(1).to_vec());
}

#[test]
fn a_marker_that_lists_no_missing_file_stays() {
    let mut world = world(BakedMode::Copy);
    world.fetch_all();
    world.file("vae/new", &content(5));
    world.config.offline = true;
    let before = checked(&world);
    for _ in 0..2 {
        assert!(matches!(world.fetch(), Err(FetchError::Offline { count: 1, .. })));
        assert!(world.path(".models-installed").exists());
    }
    assert_eq!(checked(&world), before, "what the marker vouches for was read");
}

#[test]
fn files_verified_by_an_incomplete_run_are_not_hashed_again() {
    let mut world = world(BakedMode::Copy);
    bake_all(&world);
    std::fs::remove_file(world.beside("baked/vae/b")).unwrap();
    world.config.offline = true;
    assert!(world.fetch().is_err());
    assert!(!world.path(".models-installed").exists());
    let before = checked(&world);
    assert!(world.fetch().is_err());
    assert_eq!(checked(&world), before);
    // A changed file loses its digest.
    std::fs::write(world.path("vae/c"), b"changed").unwrap();
    world.config.offline = false;
    world.fetch_all();
    assert!(world.fetch_all().by_marker);
}

#[test]
fn force_replaces_a_working_symlink_only_by_a_file() {
    let mut world = world(BakedMode::Symlink);
    bake_all(&world);
    world.fetch().unwrap();
    world.config.force = true;
    world.config.transfer.retry.retries = 1;
    for path in ["/loras/a", "/vae/b", "/vae/c"] {
        world.origin.remove(path);
    }
    assert!(!world.fetch().unwrap().is_complete());
    assert_eq!(std::fs::read(world.path("vae/b")).unwrap(), content(1).to_vec());
    for (n, path) in ["/loras/a", "/vae/b", "/vae/c"].into_iter().enumerate() {
        world.origin.put(path, content(n));
    }
    assert_eq!(outcomes(&world.fetch_all()), [Outcome::Fetched; 3]);
}

#[test]
fn a_link_leaves_no_part_of_an_interrupted_copy() {
    let mut world = World::new();
    let content = Content::generated(9, 40_000_000);
    world.file("vae/big", &content);
    let directory = Utf8PathBuf::from_path_buf(world.beside("baked")).unwrap();
    world.local.baked = Some(Baked { directory: directory.clone(), mode: BakedMode::Copy });
    bake(&world, "vae/big", &content.to_vec());
    world.fetch_and_interrupt_when(|event| matches!(event, Event::Brought { .. }));
    world.local.baked = Some(Baked { directory, mode: BakedMode::Symlink });
    world.fetch().unwrap();
    assert_eq!(world.listing(), [".models-installed", "vae/big"]);
}
