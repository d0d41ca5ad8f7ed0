use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use proptest::prelude::*;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::journal_file::MAX_JOURNAL_BYTES;
use super::part_file::SYNCING;
use super::{CopyError, PartFile, PartNames};
use crate::confined::ResolveMode;
use crate::destination::Destination;
use crate::error::StoreError;
use crate::file_stat::INSTALLED_MTIME;
use crate::install::{failpoint, normalize_metadata};
use crate::local_install::{install_hard_link, install_symlink};
use crate::source_file::{BLOCK, SourceFile};
use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::journal;
use provision_core::lockfile::Model;

const CONTENT: &[u8] = b"the quick brown fox jumps over the lazy dog";

struct Fixture {
    directory: tempfile::TempDir,
    destination: Destination,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let destination = Destination::create(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
        Self { directory, destination }
    }

    fn with_mode(mode: ResolveMode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap();
        let destination = Destination::open_with(path, mode).unwrap().unwrap();
        Self { directory, destination }
    }

    fn open(&self, model: &Model) -> PartFile {
        PartFile::open(&self.destination, model, &PartNames::Shared, || true).unwrap()
    }

    /// A part with all bytes of `CONTENT`, not verified.
    fn complete_part(&self) -> Arc<PartFile> {
        let part = Arc::new(self.open(&model(CONTENT)));
        write(&part, 0..43, CONTENT);
        part
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn part(&self, model: &Model, ending: &str) -> std::path::PathBuf {
        self.file(&format!("d/.x.{}.{ending}", model.sha256.short()))
    }
}

fn model(bytes: &[u8]) -> Model {
    Model {
        path: "d/x".parse().unwrap(),
        sources: vec!["http://h/x".parse().unwrap()],
        size: bytes.len() as u64,
        sha256: Sha256::of(bytes),
        groups: vec![],
        source: None,
    }
}

fn write(part: &PartFile, range: std::ops::Range<usize>, from: &[u8]) {
    let middle = usize::midpoint(range.start, range.end);
    part.write(range.start as u64, &from[range.start..middle]).unwrap();
    part.write(middle as u64, &from[middle..range.end]).unwrap();
    part.hash(middle as u64, &from[middle..range.end]).unwrap();
}

#[test]
fn ranges_written_in_any_order_become_the_file() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
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
fn fault_86_mode_and_mtime_are_fixed_whatever_the_umask() {
    let fixture = Fixture::new();
    let part = fixture.complete_part();
    part.verify().unwrap().install().unwrap();
    let file = fs::metadata(fixture.file("d/x")).unwrap();
    assert_eq!((file.permissions().mode() & 0o7777, file.mtime()), (0o644, INSTALLED_MTIME));
    assert_eq!(fs::metadata(fixture.file("d")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn wrong_bytes_fail_verification_and_reset_empties_the_part() {
    let fixture = Fixture::new();
    let part = Arc::new(fixture.open(&model(CONTENT)));
    write(&part, 0..43, &CONTENT.to_ascii_uppercase());
    assert!(matches!(part.clone().verify(), Err(StoreError::Mismatch { .. })));
    assert!(!fixture.file("d/x").exists());
    part.reset().unwrap();
    assert_eq!(part.held(), 0);
    write(&part, 0..43, CONTENT);
    part.verify().unwrap().install().unwrap();
}

#[test]
fn a_reopened_part_has_the_checkpointed_bytes_only() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    {
        let part = fixture.open(&model);
        write(&part, 0..10, CONTENT);
        write(&part, 20..30, CONTENT);
        assert_eq!(part.checkpoint().unwrap(), 20);
        write(&part, 30..35, CONTENT);
        assert_eq!(part.unjournaled(), 5);
    }
    assert_eq!(PartFile::journaled_bytes(&fixture.destination, &model).unwrap(), 20);
    assert_eq!(PartFile::resumable_bytes(&fixture.destination, &model, || true).unwrap(), 20);
    let part = Arc::new(fixture.open(&model));
    assert_eq!(part.missing(), [ByteRange::new(10, 20), ByteRange::new(30, 43)]);
    write(&part, 10..20, CONTENT);
    part.checkpoint().unwrap();
    write(&part, 30..43, CONTENT);
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn journaled_bytes_survive_reopening_and_become_durable() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    {
        let part = fixture.open(&model);
        write(&part, 0..10, CONTENT);
        part.journal_written().unwrap();
        write(&part, 10..20, CONTENT);
        part.checkpoint().unwrap();
        write(&part, 20..30, CONTENT);
        part.journal_written().unwrap();
    }
    let journal = || fs::read_to_string(fixture.part(&model, "journal")).unwrap();
    assert!(journal().contains("\nwritten 0 10 ") && journal().contains("\ndurable 0 20 "), "{}", journal());
    assert_eq!(fixture.open(&model).held(), 30);
    assert!(!journal().contains("written"), "{}", journal());
}

#[test]
fn fault_66_a_long_journal_is_rewritten_without_a_loss() {
    const SIZE: usize = 60_000;
    let fixture = Fixture::new();
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let model = model(&content);
    let journal = || fs::read_to_string(fixture.part(&model, "journal")).unwrap();
    {
        let part = fixture.open(&model);
        for at in 0..SIZE {
            part.write(at as u64, &content[at..=at]).unwrap();
            part.journal_written().unwrap();
            if at % 5_000 == 0 {
                part.checkpoint().unwrap();
                assert!(journal().len() as u64 <= MAX_JOURNAL_BYTES, "{} bytes at {at}", journal().len());
            }
        }
    }
    let held = |text: &str| -> u64 {
        let records = journal::parse(text.as_bytes(), &model.sha256, model.size);
        records.iter().map(|record| record.range.len()).sum()
    };
    assert_eq!(held(&journal()), model.size, "also the ranges journaled after the rewrite");
    let part = Arc::new(fixture.open(&model));
    assert_eq!(part.held(), model.size);
    part.verify().unwrap().install().unwrap();
}

#[test]
fn fault_75_a_planted_part_is_verified_and_dropped() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    {
        let part = fixture.open(&model);
        write(&part, 0..43, CONTENT);
        part.checkpoint().unwrap();
    }
    fs::write(fixture.part(&model, "part"), vec![0; 43]).unwrap();
    assert_eq!(fixture.open(&model).held(), 0, "wrong bytes with a matching journal");
    fs::remove_file(fixture.part(&model, "journal")).ok();
    fs::write(fixture.part(&model, "part"), CONTENT).unwrap();
    assert_eq!(fixture.open(&model).held(), 0, "right bytes without a journal");
    File::create(fixture.part(&model, "part")).unwrap().set_len(1 << 40).unwrap();
    let part = fixture.open(&model);
    assert_eq!(
        (part.held(), fs::metadata(fixture.part(&model, "part")).unwrap().len()),
        (0, 43),
        "sparse and too long"
    );
}

#[test]
fn fault_75_a_planted_link_is_replaced_and_its_target_stays() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    fs::create_dir(fixture.file("d")).unwrap();
    fs::write(fixture.file("victim"), b"precious").unwrap();
    for planted in ["symlink", "hard link"] {
        let name = fixture.part(&model, "part");
        fs::remove_file(&name).ok();
        if planted == "symlink" {
            symlink(fixture.file("victim"), name)
        } else {
            fs::hard_link(fixture.file("victim"), name)
        }
        .unwrap();
        let part = fixture.open(&model);
        write(&part, 0..43, CONTENT);
        assert_eq!(fs::read(fixture.file("victim")).unwrap(), b"precious", "{planted}");
    }
}

#[test]
fn fault_73_a_final_name_of_another_kind_is_refused() {
    for kind in ["symlink", "directory", "fifo"] {
        let fixture = Fixture::new();
        fs::create_dir(fixture.file("d")).unwrap();
        fs::write(fixture.file("victim"), b"precious").unwrap();
        match kind {
            "symlink" => symlink("../victim", fixture.file("d/x")).unwrap(),
            "directory" => fs::create_dir(fixture.file("d/x")).unwrap(),
            _ => rustix::fs::mknodat(
                rustix::fs::CWD,
                fixture.file("d/x"),
                FileType::Fifo,
                Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap(),
        }
        let part = fixture.complete_part();
        let error = part.verify().unwrap().install().unwrap_err();
        assert!(matches!(error, StoreError::NotAFile { .. }), "{kind}: {error}");
        assert_eq!(fs::read(fixture.file("victim")).unwrap(), b"precious");
    }
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
            let model = Model { path: path.parse().unwrap(), ..model(CONTENT) };
            let error =
                PartFile::open(&fixture.destination, &model, &PartNames::Shared, || true).unwrap_err();
            let StoreError::NotADirectory { path: at, what: "a symlink" } = &error else {
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
    let model = model(CONTENT);
    let owner = fixture.open(&model);
    let second = PartFile::open(&fixture.destination, &model, &PartNames::Shared, || true);
    assert!(matches!(second, Err(StoreError::PartBusy { .. })));
    drop(owner);
    fixture.open(&model);
}

#[test]
fn a_part_that_was_replaced_is_not_installed() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let part = fixture.complete_part();
    fs::remove_file(fixture.part(&model, "part")).unwrap();
    fs::write(fixture.part(&model, "part"), b"evil").unwrap();
    assert!(matches!(part.verify().unwrap().install(), Err(StoreError::PartReplaced { .. })));
    assert!(!fixture.file("d/x").exists());
}

/// Returns an action that puts another process's partial part under the name of a verified one.
fn rival(fixture: &Fixture, model: &Model) -> impl FnOnce() + 'static {
    let (rival, part) = (fixture.file("d/rival"), fixture.part(model, "part"));
    fs::write(&rival, &CONTENT[..20]).unwrap();
    move || fs::rename(rival, part).unwrap()
}

#[test]
fn fault_82_a_rival_part_renamed_by_mistake_is_renamed_back() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let part = fixture.complete_part();
    failpoint::set(rival(&fixture, &model));
    let error = part.verify().unwrap().install().unwrap_err();
    assert!(matches!(error, StoreError::PartReplaced { .. }), "{error}");
    assert!(!fixture.file("d/x").exists(), "unverified bytes are under the final name");
    assert_eq!(fs::read(fixture.part(&model, "part")).unwrap(), CONTENT[..20], "its owner can resume");
}

fn set_installed_time(path: &std::path::Path) {
    let installed =
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(INSTALLED_MTIME.unsigned_abs());
    File::options().write(true).open(path).unwrap().set_modified(installed).unwrap();
}

#[test]
fn fault_82_a_file_installed_after_the_rename_stays() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let part = fixture.complete_part();
    let (theirs, name) = (fixture.file("d/theirs"), fixture.file("d/x"));
    fs::write(&theirs, b"theirs").unwrap();
    set_installed_time(&theirs);
    failpoint::set(rival(&fixture, &model));
    failpoint::set(move || fs::rename(theirs, name).unwrap());
    let error = part.verify().unwrap().install().unwrap_err();
    assert!(matches!(error, StoreError::PartReplaced { .. }), "{error}");
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), b"theirs");
}

#[test]
fn fault_82_another_runs_installed_file_counts_as_installed() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let part = fixture.complete_part();
    let (other, name) = (fixture.file("d/other"), fixture.part(&model, "part"));
    fs::write(&other, CONTENT).unwrap();
    set_installed_time(&other);
    failpoint::set(move || fs::rename(other, name).unwrap());
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn fault_82_a_part_that_another_run_installed_is_not_emptied() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let part = Arc::new(fixture.open(&model));
    write(&part, 0..43, &CONTENT.to_ascii_uppercase());
    assert!(matches!(part.clone().verify(), Err(StoreError::Mismatch { .. })));
    fs::rename(fixture.part(&model, "part"), fixture.file("d/x")).unwrap();
    assert!(matches!(part.reset(), Err(StoreError::PartReplaced { .. })));
    assert_eq!(fs::metadata(fixture.file("d/x")).unwrap().len(), 43);
}

#[test]
fn fault_82_a_file_renamed_in_place_of_a_link_is_removed() {
    for kind in ["hard link", "symlink"] {
        let fixture = Fixture::new();
        let model = model(CONTENT);
        fs::create_dir(fixture.file("d")).unwrap();
        fs::write(fixture.file("source"), CONTENT).unwrap();
        let path = Utf8PathBuf::from_path_buf(fixture.file("source")).unwrap();
        let source = SourceFile::open(&path).unwrap().unwrap();
        let temporary = fixture.part(&model, "tmp");
        failpoint::set(move || {
            fs::remove_file(&temporary).unwrap();
            fs::write(&temporary, b"evil").unwrap();
        });
        let to = (&fixture.destination, &PartNames::Shared);
        let failed = if kind == "symlink" {
            install_symlink(to, &model, &source, || true).map(drop)
        } else {
            install_hard_link(to, &model, &source, || true).map(drop)
        };
        assert!(
            matches!(failed, Err(CopyError::Part(StoreError::PartReplaced { .. }))),
            "{kind}: {failed:?}"
        );
        assert_eq!(fs::read_dir(fixture.file("d")).unwrap().count(), 0, "{kind}");
    }
}

#[test]
fn a_hard_link_leads_to_the_verified_file_not_to_its_path() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    fs::write(fixture.file("source"), CONTENT).unwrap();
    let path = Utf8PathBuf::from_path_buf(fixture.file("source")).unwrap();
    let source = SourceFile::open(&path).unwrap().unwrap();
    fs::rename(&path, fixture.file("elsewhere")).unwrap();
    fs::write(&path, b"evil").unwrap();
    let linked = install_hard_link((&fixture.destination, &PartNames::Shared), &model, &source, || true);
    assert!(linked.unwrap().is_some(), "the link was made from the handle");
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn without_locks_an_orphan_is_adopted_by_copy() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    {
        let orphan =
            PartFile::open(&fixture.destination, &model, &PartNames::PerProcess("1-a".into()), || true)
                .unwrap();
        write(&orphan, 5..25, CONTENT);
        orphan.checkpoint().unwrap();
    }
    let part =
        PartFile::open(&fixture.destination, &model, &PartNames::PerProcess("2-b".into()), || true).unwrap();
    part.adopt_orphans(&model, || true).unwrap();
    assert_eq!(part.missing(), [ByteRange::new(0, 5), ByteRange::new(25, 43)]);
    write(&part, 0..5, CONTENT);
    write(&part, 25..43, CONTENT);
    Arc::new(part).verify().unwrap().install().unwrap();
}

/// A part of a killed run, where locks do nothing.
fn orphan(fixture: &Fixture, model: &Model, own: &str, hours_ago: u64) -> std::path::PathBuf {
    let part_names = PartNames::PerProcess(own.to_owned());
    let part = PartFile::open(&fixture.destination, model, &part_names, || true).unwrap();
    write(&part, 0..10, CONTENT);
    part.checkpoint().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the file system's clock is the system's")]
    let mtime = std::time::SystemTime::now() - std::time::Duration::from_hours(hours_ago);
    for ending in ["part", "journal"] {
        let file = File::options().write(true).open(fixture.part(model, &format!("{own}.{ending}"))).unwrap();
        file.set_modified(mtime).unwrap();
    }
    fixture.part(model, &format!("{own}.part"))
}

#[test]
fn fault_81_a_dead_owners_part_is_removed_after_adoption() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let PartNames::PerProcess(mine) = PartNames::per_process() else { unreachable!() };
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let own = std::process::id().to_string();
    let dead = mine.replace(&format!("-{own}-"), &format!("-{}-", child.id()));
    let elsewhere = format!("00000000-{}-{:08x}", child.id(), 7);
    let earlier = format!("{}-{:08x}", child.id(), 8);
    let old = orphan(&fixture, &model, &elsewhere.replace("-0000000", "-1000000"), 25);
    let kept = [
        orphan(&fixture, &model, &mine, 23),
        orphan(&fixture, &model, &elsewhere, 23),
        orphan(&fixture, &model, &earlier, 23),
        // Not a name that the program makes.
        orphan(&fixture, &model, "mine", 100),
    ];
    let dead = orphan(&fixture, &model, &dead, 0);
    // A living owner is installing it.
    let being_installed = orphan(&fixture, &model, &elsewhere.replace("-0000000", "-2000000"), 0);
    fs::remove_file(being_installed.with_extension("journal")).unwrap();
    normalize_metadata(
        &File::open(&being_installed).unwrap(),
        Utf8Path::from_path(&being_installed).unwrap(),
    )
    .unwrap();
    let part = PartFile::resume(&fixture.destination, &model, &PartNames::per_process(), || true).unwrap();
    assert_eq!(part.held(), 10);
    assert_eq!(part.unjournaled(), 0, "adopted bytes are journaled before the orphan is removed");
    for gone in [dead, old] {
        assert!(!gone.exists(), "{}", gone.display());
        assert!(!gone.with_extension("journal").exists(), "{}", gone.display());
    }
    assert!(being_installed.exists(), "a part was removed during its install");
    for kept in kept {
        assert!(kept.exists() && kept.with_extension("journal").exists(), "{}", kept.display());
    }
}

#[test]
fn fault_81_an_interrupted_adoption_keeps_the_copied_bytes() {
    let fixture = Fixture::new();
    let content: Vec<u8> = (0..3 * BLOCK as u32 + 7).map(|n| (n % 251) as u8).collect();
    let model = model(&content);
    let part_names = |own: &str| PartNames::PerProcess(own.to_owned());
    let other = PartFile::open(&fixture.destination, &model, &part_names("other"), || true).unwrap();
    write(&other, 0..content.len(), &content);
    other.checkpoint().unwrap();
    drop(other);
    let is_begun = || fs::metadata(fixture.part(&model, "mine.part")).is_ok_and(|part| part.len() > 0);
    let stopped = PartFile::resume(&fixture.destination, &model, &part_names("mine"), || !is_begun());
    assert!(matches!(stopped, Err(StoreError::Interrupted { .. })), "{stopped:?}");
    fs::remove_file(fixture.part(&model, "other.part")).unwrap();
    let part = PartFile::resume(&fixture.destination, &model, &part_names("mine"), || true).unwrap();
    assert_eq!(part.held(), BLOCK as u64);
}

#[test]
fn fault_81_an_unreadable_orphan_stays_and_ends_no_run() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let PartNames::PerProcess(mine) = PartNames::per_process() else { unreachable!() };
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let dead = mine.replace(&format!("-{}-", std::process::id()), &format!("-{}-", child.id()));
    let orphan = orphan(&fixture, &model, &dead, 0);
    // Its journal cannot be read as a file.
    fs::remove_file(orphan.with_extension("journal")).unwrap();
    fs::create_dir(orphan.with_extension("journal")).unwrap();
    let part = PartFile::resume(&fixture.destination, &model, &PartNames::per_process(), || true).unwrap();
    assert_eq!(part.held(), 0);
    assert!(orphan.exists(), "an orphan that was not adopted is gone");
}

#[test]
fn an_empty_file_is_verified_without_a_write() {
    let fixture = Fixture::new();
    let part = Arc::new(fixture.open(&model(b"")));
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), b"");
}

#[test]
fn a_file_name_of_maximum_length_has_a_part() {
    let fixture = Fixture::new();
    let mut model = model(CONTENT);
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
        let part = Arc::new(fixture.open(&model(&bytes)));
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
    let model = model(&bytes);
    for _ in 0..50 {
        let part = Arc::new(fixture.open(&model));
        // The last bytes come first: the following thread hashes all of them.
        let half = bytes.len() / 8;
        let _ = part.write(half as u64, &bytes[half..]).unwrap();
        let _ = part.write(0, &bytes[..half]).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| part.hash_ready().unwrap());
            while part.state().hasher.is_some() && part.state().hashed < part.size() {
                std::thread::yield_now();
            }
            part.clone().verify().unwrap();
        });
        part.remove().unwrap();
    }
}

#[test]
fn fault_82_a_verified_or_installed_part_refuses_writes() {
    let fixture = Fixture::new();
    let part = fixture.complete_part();
    let late = part.clone();
    let verified = part.verify().unwrap();
    assert!(matches!(late.write(0, b"evil"), Err(StoreError::Sealed { .. })), "between verify and install");
    let installed = verified.install().unwrap();
    // The part's own inode has the final name now.
    assert!(matches!(late.write(0, b"evil"), Err(StoreError::Sealed { .. })), "after the install");
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
    assert!(fixture.destination.is_in_place(&installed).unwrap());
}

#[test]
fn fault_82_verify_waits_for_a_write_in_progress() {
    let fixture = Fixture::new();
    let bytes = vec![7; 1 << 20];
    let model = model(&bytes);
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
fn fault_70_a_part_whose_sync_failed_is_given_up() {
    let fixture = Fixture::new();
    let model = model(CONTENT);
    let part = fixture.complete_part();
    // What `sync_data` does when the kernel says that it sync_error pages.
    part.state().sync_error = Some(Errno::IO);
    fs::remove_file(fixture.part(&model, "part")).unwrap();
    let is_the_sync = |error: &StoreError| matches!(error, StoreError::Io { doing: SYNCING, .. });
    assert!(is_the_sync(&part.checkpoint().unwrap_err()));
    part.journal_written().unwrap();
    assert!(!fixture.part(&model, "journal").exists(), "a journal without a part");
    assert!(is_the_sync(&part.reset().unwrap_err()));
    let error = part.verify().unwrap_err();
    assert!(is_the_sync(&error), "the sync error, not PartReplaced: {error}");
}

#[test]
fn fault_74_a_moved_directory_is_noticed_before_the_marker() {
    for mode in [ResolveMode::Openat2, ResolveMode::PerComponent] {
        for kind in ["moved", "symlink", "another directory", "another file", "a copy of the destination"] {
            let fixture = Fixture::with_mode(mode);
            let part = fixture.complete_part();
            let installed = part.verify().unwrap().install().unwrap();
            fixture.destination.verify_in_place([&installed]).unwrap();
            let (at, away) = (fixture.file("d"), fixture.file("away"));
            match kind {
                "moved" => fs::rename(&at, &away).unwrap(),
                "symlink" => {
                    fs::rename(&at, &away).unwrap();
                    symlink(&away, &at).unwrap();
                }
                "another directory" => {
                    fs::rename(&at, &away).unwrap();
                    fs::create_dir(&at).unwrap();
                }
                "another file" => {
                    fs::rename(&at, &away).unwrap();
                    fs::create_dir(&at).unwrap();
                    let planted = File::create(at.join("x")).unwrap();
                    (&planted).write_all(&CONTENT.to_ascii_uppercase()).unwrap();
                    normalize_metadata(&planted, "x".into()).unwrap();
                }
                _ => {
                    fs::rename(fixture.directory.path(), fixture.directory.path().with_extension("away"))
                        .unwrap();
                    fs::create_dir_all(&at).unwrap();
                }
            }
            let error = fixture.destination.verify_in_place([&installed]).unwrap_err();
            assert!(matches!(error, StoreError::Moved { .. }), "{mode:?}, {kind}: {error}");
            assert!(!fixture.destination.is_in_place(&installed).unwrap(), "{mode:?}, {kind}");
            fs::remove_dir_all(fixture.directory.path().with_extension("away")).ok();
        }
    }
}

#[test]
fn another_inode_counts_if_it_has_the_same_bytes() {
    let fixture = Fixture::new();
    let part = fixture.complete_part();
    let installed = part.verify().unwrap().install().unwrap();
    // As on a volume that renumbers its files: size, mtime and bytes are equal.
    fs::rename(fixture.file("d/x"), fixture.file("d/y")).unwrap();
    fs::copy(fixture.file("d/y"), fixture.file("d/x")).unwrap();
    normalize_metadata(&File::open(fixture.file("d/x")).unwrap(), "x".into()).unwrap();
    assert!(!fixture.destination.is_in_place(&installed).unwrap(), "without reading it");
    fixture.destination.verify_in_place([&installed]).unwrap();
}
