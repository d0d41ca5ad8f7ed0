//! A part's bytes, digest and owner.

mod install;
mod journal;
mod orphans;
mod pieces;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use proptest::prelude::*;

use super::{PartFile, PartNames};
use crate::confined::ResolveMode;
use crate::error::DiskError;
use crate::source_file::BLOCK;
use crate::testing::{CONTENT, Fixture, model, write};
use provision_core::lockfile::Model;

#[test]
fn fault_108_a_stop_ends_the_final_hash_and_loses_nothing() {
    let fixture = Fixture::new();
    let bytes = vec![7; 3 * BLOCK];
    let part = Arc::new(fixture.open(&model("d/x", &bytes)));
    let _ = part.write(0, &bytes).unwrap();
    let mut blocks = 0;
    let stopped = part.clone().verify_while(|| {
        blocks += 1;
        blocks < 3
    });
    assert!(matches!(stopped, Err(DiskError::Interrupted { .. })), "{stopped:?}");
    assert_eq!(part.ready(), BLOCK as u64, "two of three blocks are hashed");
    part.verify().unwrap().install().unwrap();
}

#[test]
fn ranges_written_in_any_order_become_the_file() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let part = Arc::new(fixture.open(&model));
    for range in [30..43, 0..4, 10..30, 4..10] {
        write(&part, range, CONTENT);
    }
    let installed = part.verify().unwrap().install().unwrap();
    assert_eq!(installed.sha256, model.sha256);
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
    let names: Vec<_> = fs::read_dir(fixture.file("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["x"], "part and journal are gone");
}

#[test]
fn wrong_bytes_fail_verification_and_reset_empties_the_part() {
    let fixture = Fixture::new();
    let part = Arc::new(fixture.open(&model("d/x", CONTENT)));
    write(&part, 0..43, &CONTENT.to_ascii_uppercase());
    assert!(matches!(part.clone().verify(), Err(DiskError::Mismatch { .. })));
    assert!(!fixture.file("d/x").exists());
    part.reset().unwrap();
    assert_eq!(part.held(), 0);
    write(&part, 0..43, CONTENT);
    part.verify().unwrap().install().unwrap();
}

#[test]
fn fault_74_a_directory_that_is_a_symlink_is_refused() {
    for mode in [ResolveMode::Openat2, ResolveMode::PerComponent] {
        for path in ["d/x", "d/e/x", "c/d/x", "c/d/e/x"] {
            let fixture = Fixture::with_mode(mode);
            let outside = tempfile::tempdir().unwrap();
            fs::create_dir(outside.path().join("e")).unwrap();
            fs::create_dir(fixture.file("c")).unwrap();
            let link = &path[..=path.find('d').unwrap()];
            symlink(outside.path(), fixture.file(link)).unwrap();
            let model = Model { path: path.parse().unwrap(), ..model("d/x", CONTENT) };
            let error =
                PartFile::open(&fixture.destination, &model, &PartNames::Shared, || true).unwrap_err();
            let DiskError::NotADirectory { path: at, what: "a symlink" } = &error else {
                panic!("{mode:?} {path}: {error}")
            };
            assert!(at.ends_with(link), "it names the symlink: {error}");
            let left: Vec<_> = fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap()).collect();
            assert_eq!(left.len(), 1, "{mode:?} {path}: {left:?}");
            assert_eq!(fs::read_dir(outside.path().join("e")).unwrap().count(), 0);
        }
    }
}

#[test]
fn fault_81_a_part_has_one_living_owner() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let owner = fixture.open(&model);
    let second = PartFile::open(&fixture.destination, &model, &PartNames::Shared, || true);
    assert!(matches!(second, Err(DiskError::PartBusy { .. })));
    drop(owner);
    fixture.open(&model);
}

#[test]
fn an_empty_file_is_verified_without_a_write() {
    let fixture = Fixture::new();
    let part = Arc::new(fixture.open(&model("d/x", b"")));
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), b"");
}

#[test]
fn a_file_name_of_maximum_length_has_a_part() {
    let fixture = Fixture::new();
    let mut model = model("d/x", CONTENT);
    model.path = format!("d/{}", "n".repeat(255)).parse().unwrap();
    let part = Arc::new(fixture.open(&model));
    write(&part, 0..43, CONTENT);
    part.checkpoint().unwrap();
    part.verify().unwrap().install().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn parallel_writes_lead_to_the_right_digest(seed in any::<u64>(), cuts in prop::collection::vec(1usize..9999, 1..40)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        let mut cuts = cuts;
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut ranges: Vec<_> = cuts.windows(2).map(|w| w[0]..w[1]).collect();
        random.shuffle(&mut ranges);
        let fixture = Fixture::new();
        let part = Arc::new(fixture.open(&model("d/x", &bytes)));
        std::thread::scope(|scope| {
            for share in ranges.chunks(ranges.len().div_ceil(4)) {
                scope.spawn(|| share.iter().for_each(|range| write(&part, range.clone(), &bytes)));
            }
        });
        part.checkpoint().unwrap();
        prop_assert!(part.verify().is_ok());
    }
}

#[test]
fn verify_waits_for_a_thread_that_has_the_hasher() {
    let fixture = Fixture::new();
    let bytes: Vec<u8> = (0..6u32 << 20).map(|n| (n % 251) as u8).collect();
    let model = model("d/x", &bytes);
    for _ in 0..50 {
        let part = Arc::new(fixture.open(&model));
        // The last bytes come first: the following thread hashes all of them.
        let half = bytes.len() / 8;
        let _ = part.write(half as u64, &bytes[half..]).unwrap();
        let _ = part.write(0, &bytes[..half]).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| part.hash_ready().unwrap());
            while part.state().pieces.are_idle() && part.ready() > 0 {
                std::thread::yield_now();
            }
            part.clone().verify().unwrap();
        });
        part.remove().unwrap();
    }
}

#[test]
fn fault_82_verify_waits_for_a_write_in_progress() {
    let fixture = Fixture::new();
    let bytes = vec![7; 1 << 20];
    let model = model("d/x", &bytes);
    let part = Arc::new(fixture.open(&model));
    write(&part, 0..bytes.len(), &bytes);
    let writing = part.sealed.read().unwrap();
    std::thread::scope(|scope| {
        let verifying = scope.spawn(|| part.clone().verify().unwrap());
        for _ in 0..1000 {
            std::thread::yield_now();
        }
        assert!(!part.state().sealed, "verified during a write");
        drop(writing);
        verifying.join().unwrap();
    });
}

#[test]
fn fault_88_a_part_that_a_process_works_on_is_not_discarded() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let part = fixture.open(&model);
    write(&part, 0..10, CONTENT);
    part.checkpoint().unwrap();
    let refused = PartFile::discard(&fixture.destination, &model);
    assert!(matches!(refused, Err(DiskError::PartBusy { .. })), "{refused:?}");
    assert!(fixture.part(&model, "part").exists() && fixture.part(&model, "journal").exists());
    drop(part);
    PartFile::discard(&fixture.destination, &model).unwrap();
    assert!(!fixture.part(&model, "part").exists() && !fixture.part(&model, "journal").exists());
}
