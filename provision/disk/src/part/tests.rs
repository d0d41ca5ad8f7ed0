use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use camino::Utf8Path;
use proptest::prelude::*;
use rustix::fs::{FileType, Mode};

use super::*;
use crate::confined::ResolveMode;
use crate::install::failpoint;
use crate::{BLOCK, SourceFile, install_hard_link, install_symlink};

const CONTENT: &[u8] = b"the quick brown fox jumps over the lazy dog";

struct Place {
    directory: tempfile::TempDir,
    destination: Destination,
}

impl Place {
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
fn pieces_in_any_order_become_the_file() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    for range in [30..43, 0..4, 10..30, 4..10] {
        write(&part, range, CONTENT);
    }
    let installed = part.verify().unwrap().install().unwrap();
    assert_eq!(installed.sha256, model.sha256);
    assert_eq!(fs::read(place.file("d/x")).unwrap(), CONTENT);
    let names: Vec<_> = fs::read_dir(place.file("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["x"], "part and journal are gone");
}

#[test]
fn fault_86_modes_and_times_are_fixed_whatever_the_umask() {
    let place = Place::new();
    let part = Arc::new(place.open(&model(CONTENT)));
    write(&part, 0..43, CONTENT);
    part.verify().unwrap().install().unwrap();
    let file = fs::metadata(place.file("d/x")).unwrap();
    assert_eq!((file.permissions().mode() & 0o7777, file.mtime()), (0o644, INSTALLED_MTIME_FOR_TEST));
    assert_eq!(fs::metadata(place.file("d")).unwrap().permissions().mode() & 0o7777, 0o755);
}

const INSTALLED_MTIME_FOR_TEST: i64 = super::super::INSTALLED_MTIME;

#[test]
fn wrong_bytes_cannot_be_verified_and_reset_forgets_them() {
    let place = Place::new();
    let part = Arc::new(place.open(&model(CONTENT)));
    write(&part, 0..43, &CONTENT.to_ascii_uppercase());
    assert!(matches!(part.clone().verify(), Err(StoreError::Mismatch { .. })));
    assert!(!place.file("d/x").exists());
    part.reset().unwrap();
    assert_eq!(part.held(), 0);
    write(&part, 0..43, CONTENT);
    part.verify().unwrap().install().unwrap();
}

#[test]
fn what_was_checkpointed_is_held_after_reopening_and_the_rest_is_not() {
    let place = Place::new();
    let model = model(CONTENT);
    {
        let part = place.open(&model);
        write(&part, 0..10, CONTENT);
        write(&part, 20..30, CONTENT);
        assert_eq!(part.checkpoint().unwrap(), 20);
        write(&part, 30..35, CONTENT);
        assert_eq!(part.unjournaled(), 5);
    }
    assert_eq!(PartFile::journaled_bytes(&place.destination, &model).unwrap(), 20);
    assert_eq!(PartFile::resumable_bytes(&place.destination, &model, || true).unwrap(), 20);
    let part = Arc::new(place.open(&model));
    assert_eq!(part.missing(), [ByteRange::new(10, 20), ByteRange::new(30, 43)]);
    write(&part, 10..20, CONTENT);
    part.checkpoint().unwrap();
    write(&part, 30..43, CONTENT);
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(place.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn what_was_only_noted_is_held_too_and_then_made_durable() {
    let place = Place::new();
    let model = model(CONTENT);
    {
        let part = place.open(&model);
        write(&part, 0..10, CONTENT);
        part.journal_written().unwrap();
        write(&part, 10..20, CONTENT);
        part.checkpoint().unwrap();
        write(&part, 20..30, CONTENT);
        part.journal_written().unwrap();
    }
    let journal = || fs::read_to_string(place.part(&model, "journal")).unwrap();
    assert!(journal().contains("\nwritten 0 10 ") && journal().contains("\ndurable 0 20 "), "{}", journal());
    assert_eq!(place.open(&model).held(), 30);
    assert!(!journal().contains("written"), "{}", journal());
}

#[test]
fn fault_66_a_journal_that_gets_long_is_written_anew_and_loses_nothing() {
    const SIZE: usize = 60_000;
    let place = Place::new();
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let model = model(&content);
    let journal = || fs::read_to_string(place.part(&model, "journal")).unwrap();
    {
        let part = place.open(&model);
        for at in 0..SIZE {
            part.write(at as u64, &content[at..=at]).unwrap();
            part.journal_written().unwrap();
            if at % 5_000 == 0 {
                part.checkpoint().unwrap();
                assert!(journal().len() as u64 <= JOURNAL_BYTES, "{} bytes at {at}", journal().len());
            }
        }
    }
    let held = |text: &str| -> u64 {
        let records = journal::parse(text.as_bytes(), &model.sha256, model.size);
        records.iter().map(|record| record.range.len()).sum()
    };
    assert_eq!(held(&journal()), model.size, "also what was journaled after it was written anew");
    let part = Arc::new(place.open(&model));
    assert_eq!(part.held(), model.size);
    part.verify().unwrap().install().unwrap();
}

#[test]
fn fault_75_a_planted_part_is_hashed_again_and_dropped() {
    let place = Place::new();
    let model = model(CONTENT);
    {
        let part = place.open(&model);
        write(&part, 0..43, CONTENT);
        part.checkpoint().unwrap();
    }
    fs::write(place.part(&model, "part"), vec![0; 43]).unwrap();
    assert_eq!(place.open(&model).held(), 0, "other bytes under a fitting journal");
    fs::remove_file(place.part(&model, "journal")).ok();
    fs::write(place.part(&model, "part"), CONTENT).unwrap();
    assert_eq!(place.open(&model).held(), 0, "right bytes without a journal");
    File::create(place.part(&model, "part")).unwrap().set_len(1 << 40).unwrap();
    let part = place.open(&model);
    assert_eq!(
        (part.held(), fs::metadata(place.part(&model, "part")).unwrap().len()),
        (0, 43),
        "sparse and too long"
    );
}

#[test]
fn fault_75_symlinks_and_hard_links_under_the_part_s_name_are_replaced_and_their_targets_untouched() {
    let place = Place::new();
    let model = model(CONTENT);
    fs::create_dir(place.file("d")).unwrap();
    fs::write(place.file("victim"), b"precious").unwrap();
    for planted in ["symlink", "hard link"] {
        let name = place.part(&model, "part");
        fs::remove_file(&name).ok();
        if planted == "symlink" {
            symlink(place.file("victim"), name)
        } else {
            fs::hard_link(place.file("victim"), name)
        }
        .unwrap();
        let part = place.open(&model);
        write(&part, 0..43, CONTENT);
        assert_eq!(fs::read(place.file("victim")).unwrap(), b"precious", "{planted}");
    }
}

#[test]
fn fault_73_anything_but_a_regular_file_under_the_final_name_is_refused_and_untouched() {
    for kind in ["symlink", "directory", "fifo"] {
        let place = Place::new();
        fs::create_dir(place.file("d")).unwrap();
        fs::write(place.file("victim"), b"precious").unwrap();
        match kind {
            "symlink" => symlink("../victim", place.file("d/x")).unwrap(),
            "directory" => fs::create_dir(place.file("d/x")).unwrap(),
            _ => rustix::fs::mknodat(
                rustix::fs::CWD,
                place.file("d/x"),
                FileType::Fifo,
                Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap(),
        }
        let part = Arc::new(place.open(&model(CONTENT)));
        write(&part, 0..43, CONTENT);
        let error = part.verify().unwrap().install().unwrap_err();
        assert!(matches!(error, StoreError::NotAFile { .. }), "{kind}: {error}");
        assert_eq!(fs::read(place.file("victim")).unwrap(), b"precious");
    }
}

#[test]
fn fault_74_a_directory_that_is_a_symlink_leads_nowhere() {
    for mode in [ResolveMode::Openat2, ResolveMode::PerComponent] {
        for path in ["d/x", "d/e/x", "c/d/x", "c/d/e/x"] {
            let place = Place::with_mode(mode);
            let outside = tempfile::tempdir().unwrap();
            fs::create_dir(outside.path().join("e")).unwrap();
            fs::create_dir(place.file("c")).unwrap();
            let link = &path[..=path.find('d').unwrap()];
            symlink(outside.path(), place.file(link)).unwrap();
            let model = Model { path: path.parse().unwrap(), ..model(CONTENT) };
            let error = PartFile::open(&place.destination, &model, &PartNames::Shared, || true).unwrap_err();
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
fn fault_81_a_part_has_one_owner_and_a_dead_owner_is_none() {
    let place = Place::new();
    let model = model(CONTENT);
    let owner = place.open(&model);
    let second = PartFile::open(&place.destination, &model, &PartNames::Shared, || true);
    assert!(matches!(second, Err(StoreError::PartBusy { .. })));
    drop(owner);
    place.open(&model);
}

#[test]
fn a_part_that_was_replaced_is_not_installed() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, CONTENT);
    fs::remove_file(place.part(&model, "part")).unwrap();
    fs::write(place.part(&model, "part"), b"evil").unwrap();
    assert!(matches!(part.verify().unwrap().install(), Err(StoreError::PartReplaced { .. })));
    assert!(!place.file("d/x").exists());
}

/// Another process's part, half written, under the name of one that is about to be installed.
fn rival(place: &Place, model: &Model) -> impl FnOnce() + 'static {
    let (rival, part) = (place.file("d/rival"), place.part(model, "part"));
    fs::write(&rival, &CONTENT[..20]).unwrap();
    move || fs::rename(rival, part).unwrap()
}

#[test]
fn fault_82_what_takes_a_part_s_name_between_the_last_look_and_the_rename_loses_the_final_name_again() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, CONTENT);
    failpoint::set(rival(&place, &model));
    let error = part.verify().unwrap().install().unwrap_err();
    assert!(matches!(error, StoreError::PartReplaced { .. }), "{error}");
    assert!(!place.file("d/x").exists(), "bytes that nobody has proven are under the final name");
    assert_eq!(fs::read(place.part(&model, "part")).unwrap(), CONTENT[..20], "its owner goes on with it");
}

fn set_installed_time(path: &std::path::Path) {
    let installed = std::time::SystemTime::UNIX_EPOCH
        + std::time::Duration::from_secs(INSTALLED_MTIME_FOR_TEST.unsigned_abs());
    File::options().write(true).open(path).unwrap().set_modified(installed).unwrap();
}

#[test]
fn fault_82_what_a_run_has_given_the_final_name_since_the_rename_stays_there() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, CONTENT);
    let (theirs, name) = (place.file("d/theirs"), place.file("d/x"));
    fs::write(&theirs, b"theirs").unwrap();
    set_installed_time(&theirs);
    failpoint::set(rival(&place, &model));
    failpoint::set(move || fs::rename(theirs, name).unwrap());
    let error = part.verify().unwrap().install().unwrap_err();
    assert!(matches!(error, StoreError::PartReplaced { .. }), "{error}");
    assert_eq!(fs::read(place.file("d/x")).unwrap(), b"theirs");
}

#[test]
fn fault_82_what_another_run_has_installed_meanwhile_keeps_the_name() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, CONTENT);
    let (other, name) = (place.file("d/other"), place.part(&model, "part"));
    fs::write(&other, CONTENT).unwrap();
    set_installed_time(&other);
    failpoint::set(move || fs::rename(other, name).unwrap());
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(place.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn fault_82_a_part_that_another_has_installed_is_not_emptied() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, &CONTENT.to_ascii_uppercase());
    assert!(matches!(part.clone().verify(), Err(StoreError::Mismatch { .. })));
    fs::rename(place.part(&model, "part"), place.file("d/x")).unwrap();
    assert!(matches!(part.reset(), Err(StoreError::PartReplaced { .. })));
    assert_eq!(fs::metadata(place.file("d/x")).unwrap().len(), 43);
}

#[test]
fn fault_82_what_takes_a_link_s_name_between_the_last_look_and_the_rename_loses_the_final_name_again() {
    for kind in ["hard link", "symlink"] {
        let place = Place::new();
        let model = model(CONTENT);
        fs::create_dir(place.file("d")).unwrap();
        fs::write(place.file("original"), CONTENT).unwrap();
        let path = Utf8PathBuf::from_path_buf(place.file("original")).unwrap();
        let original = SourceFile::open(&path).unwrap().unwrap();
        let temporary = place.part(&model, "tmp");
        failpoint::set(move || {
            fs::remove_file(&temporary).unwrap();
            fs::write(&temporary, b"evil").unwrap();
        });
        let to = (&place.destination, &PartNames::Shared);
        let failed = if kind == "symlink" {
            install_symlink(to, &model, &original, || true).map(drop)
        } else {
            install_hard_link(to, &model, &original, || true).map(drop)
        };
        assert!(
            matches!(failed, Err(CopyError::Part(StoreError::PartReplaced { .. }))),
            "{kind}: {failed:?}"
        );
        assert_eq!(fs::read_dir(place.file("d")).unwrap().count(), 0, "{kind}");
    }
}

#[test]
fn a_hard_link_is_to_the_file_that_was_proven_whatever_is_under_its_path_by_now() {
    let place = Place::new();
    let model = model(CONTENT);
    fs::write(place.file("original"), CONTENT).unwrap();
    let path = Utf8PathBuf::from_path_buf(place.file("original")).unwrap();
    let original = SourceFile::open(&path).unwrap().unwrap();
    fs::rename(&path, place.file("elsewhere")).unwrap();
    fs::write(&path, b"evil").unwrap();
    let linked = install_hard_link((&place.destination, &PartNames::Shared), &model, &original, || true);
    assert!(linked.unwrap().is_some(), "it was linked by its handle");
    assert_eq!(fs::read(place.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn where_locks_do_nothing_an_orphan_is_adopted_by_copy() {
    let place = Place::new();
    let model = model(CONTENT);
    {
        let orphan =
            PartFile::open(&place.destination, &model, &PartNames::PerProcess("1-a".into()), || true)
                .unwrap();
        write(&orphan, 5..25, CONTENT);
        orphan.checkpoint().unwrap();
    }
    let part =
        PartFile::open(&place.destination, &model, &PartNames::PerProcess("2-b".into()), || true).unwrap();
    part.adopt_orphans(&model, || true).unwrap();
    assert_eq!(part.missing(), [ByteRange::new(0, 5), ByteRange::new(25, 43)]);
    write(&part, 0..5, CONTENT);
    write(&part, 25..43, CONTENT);
    Arc::new(part).verify().unwrap().install().unwrap();
}

/// A part as a run leaves it that was killed where locks do nothing.
fn orphan(place: &Place, model: &Model, own: &str, hours_ago: u64) -> std::path::PathBuf {
    let part_names = PartNames::PerProcess(own.to_owned());
    let part = PartFile::open(&place.destination, model, &part_names, || true).unwrap();
    write(&part, 0..10, CONTENT);
    part.checkpoint().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the file system's clock is the system's")]
    let then = std::time::SystemTime::now() - std::time::Duration::from_hours(hours_ago);
    for ending in ["part", "journal"] {
        let file = File::options().write(true).open(place.part(model, &format!("{own}.{ending}"))).unwrap();
        file.set_modified(then).unwrap();
    }
    place.part(model, &format!("{own}.part"))
}

#[test]
fn fault_81_what_a_dead_owner_left_where_locks_do_nothing_goes_once_its_bytes_are_adopted() {
    let place = Place::new();
    let model = model(CONTENT);
    let PartNames::PerProcess(mine) = PartNames::per_process() else { unreachable!() };
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let own = std::process::id().to_string();
    let dead = mine.replace(&format!("-{own}-"), &format!("-{}-", child.id()));
    let elsewhere = format!("00000000-{}-{:08x}", child.id(), 7);
    let earlier = format!("{}-{:08x}", child.id(), 8);
    let old = orphan(&place, &model, &elsewhere.replace("-0000000", "-1000000"), 25);
    let kept = [
        orphan(&place, &model, &mine, 23),
        orphan(&place, &model, &elsewhere, 23),
        orphan(&place, &model, &earlier, 23),
        // Not called as the program calls its own.
        orphan(&place, &model, "mine", 100),
    ];
    let dead = orphan(&place, &model, &dead, 0);
    // A living owner is just giving it its final name.
    let being_installed = orphan(&place, &model, &elsewhere.replace("-0000000", "-2000000"), 0);
    fs::remove_file(being_installed.with_extension("journal")).unwrap();
    super::super::install::normalize_metadata(
        &File::open(&being_installed).unwrap(),
        Utf8Path::from_path(&being_installed).unwrap(),
    )
    .unwrap();
    let part = PartFile::resume(&place.destination, &model, &PartNames::per_process(), || true).unwrap();
    assert_eq!(part.held(), 10);
    assert_eq!(part.unjournaled(), 0, "adopted bytes are in the journal before what they came from goes");
    for gone in [dead, old] {
        assert!(!gone.exists(), "{}", gone.display());
        assert!(!gone.with_extension("journal").exists(), "{}", gone.display());
    }
    assert!(being_installed.exists(), "a part was taken from under an install");
    for kept in kept {
        assert!(kept.exists() && kept.with_extension("journal").exists(), "{}", kept.display());
    }
}

#[test]
fn fault_81_an_adoption_that_is_interrupted_keeps_what_it_has_copied() {
    let place = Place::new();
    let content: Vec<u8> = (0..3 * BLOCK as u32 + 7).map(|n| (n % 251) as u8).collect();
    let model = model(&content);
    let part_names = |own: &str| PartNames::PerProcess(own.to_owned());
    let other = PartFile::open(&place.destination, &model, &part_names("other"), || true).unwrap();
    write(&other, 0..content.len(), &content);
    other.checkpoint().unwrap();
    drop(other);
    let is_begun = || fs::metadata(place.part(&model, "mine.part")).is_ok_and(|part| part.len() > 0);
    let stopped = PartFile::resume(&place.destination, &model, &part_names("mine"), || !is_begun());
    assert!(matches!(stopped, Err(StoreError::Interrupted { .. })), "{stopped:?}");
    fs::remove_file(place.part(&model, "other.part")).unwrap();
    let part = PartFile::resume(&place.destination, &model, &part_names("mine"), || true).unwrap();
    assert_eq!(part.held(), BLOCK as u64);
}

#[test]
fn fault_81_an_orphan_that_cannot_be_read_is_left_and_ends_no_run() {
    let place = Place::new();
    let model = model(CONTENT);
    let PartNames::PerProcess(mine) = PartNames::per_process() else { unreachable!() };
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let dead = mine.replace(&format!("-{}-", std::process::id()), &format!("-{}-", child.id()));
    let orphan = orphan(&place, &model, &dead, 0);
    // Its journal cannot be read as a file.
    fs::remove_file(orphan.with_extension("journal")).unwrap();
    fs::create_dir(orphan.with_extension("journal")).unwrap();
    let part = PartFile::resume(&place.destination, &model, &PartNames::per_process(), || true).unwrap();
    assert_eq!(part.held(), 0);
    assert!(orphan.exists(), "what was not adopted was removed");
}

#[test]
fn an_empty_file_is_verified_without_a_write() {
    let place = Place::new();
    let part = Arc::new(place.open(&model(b"")));
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(place.file("d/x")).unwrap(), b"");
}

#[test]
fn a_name_as_long_as_names_can_be_still_has_a_part() {
    let place = Place::new();
    let mut model = model(CONTENT);
    model.path = format!("d/{}", "n".repeat(255)).parse().unwrap();
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, CONTENT);
    part.checkpoint().unwrap();
    part.verify().unwrap().install().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn threads_writing_at_once_leave_the_right_digest(seed in any::<u64>(), cuts in prop::collection::vec(1usize..9999, 1..40)) {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        let mut cuts = cuts;
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut ranges: Vec<_> = cuts.windows(2).map(|w| w[0]..w[1]).collect();
        random.shuffle(&mut ranges);
        let place = Place::new();
        let part = Arc::new(place.open(&model(&bytes)));
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
fn a_file_is_proven_whole_although_somebody_else_is_still_hashing_it() {
    let place = Place::new();
    let bytes: Vec<u8> = (0..6u32 << 20).map(|n| (n % 251) as u8).collect();
    let model = model(&bytes);
    for _ in 0..50 {
        let part = Arc::new(place.open(&model));
        // The last bytes first: all of them are left to whoever follows.
        let half = bytes.len() / 8;
        let _ = part.write(half as u64, &bytes[half..]).unwrap();
        let _ = part.write(0, &bytes[..half]).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| part.hash_ready().unwrap());
            while part.state().hasher.is_some() && part.state().hashed < part.size {
                std::thread::yield_now();
            }
            part.clone().verify().unwrap();
        });
        part.remove().unwrap();
    }
}

#[test]
fn fault_82_a_part_that_is_proven_or_installed_cannot_be_written_any_more() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, CONTENT);
    let late = part.clone();
    let verified = part.verify().unwrap();
    assert!(matches!(late.write(0, b"evil"), Err(StoreError::Sealed { .. })), "between proof and install");
    let installed = verified.install().unwrap();
    // It is the part's own inode that has the final name now.
    assert!(matches!(late.write(0, b"evil"), Err(StoreError::Sealed { .. })), "after the install");
    assert_eq!(fs::read(place.file("d/x")).unwrap(), CONTENT);
    assert!(place.destination.is_in_place(&installed).unwrap());
}

#[test]
fn fault_82_a_writer_that_is_in_the_middle_of_a_write_is_waited_for_before_the_proof() {
    let place = Place::new();
    let bytes = vec![7; 1 << 20];
    let model = model(&bytes);
    let part = Arc::new(place.open(&model));
    write(&part, 0..bytes.len(), &bytes);
    let writing = part.sealed.read().unwrap();
    std::thread::scope(|scope| {
        let proof = scope.spawn(|| part.clone().verify().unwrap());
        for _ in 0..1000 {
            std::thread::yield_now();
        }
        assert!(!part.state().sealed, "it was proven while somebody wrote");
        drop(writing);
        proof.join().unwrap();
    });
}

#[test]
fn fault_70_a_part_whose_sync_failed_is_not_proven_noted_or_synced_again() {
    let place = Place::new();
    let model = model(CONTENT);
    let part = Arc::new(place.open(&model));
    write(&part, 0..43, CONTENT);
    // What `sync_data` does when the kernel says that it sync_error pages.
    part.state().sync_error = Some(Errno::IO);
    fs::remove_file(place.part(&model, "part")).unwrap();
    let is_the_sync = |error: &StoreError| matches!(error, StoreError::Io { doing: SYNCING, .. });
    assert!(is_the_sync(&part.checkpoint().unwrap_err()));
    part.journal_written().unwrap();
    assert!(!place.part(&model, "journal").exists(), "a journal for nothing");
    assert!(is_the_sync(&part.reset().unwrap_err()));
    let error = part.verify().unwrap_err();
    assert!(is_the_sync(&error), "not that it was replaced: {error}");
}

#[test]
fn fault_74_a_directory_that_is_moved_away_is_noticed_before_a_marker_is_written() {
    for mode in [ResolveMode::Openat2, ResolveMode::PerComponent] {
        for kind in ["moved", "symlink", "another directory", "another file", "a copy of the destination"] {
            let place = Place::with_mode(mode);
            let part = Arc::new(place.open(&model(CONTENT)));
            write(&part, 0..43, CONTENT);
            let installed = part.verify().unwrap().install().unwrap();
            place.destination.verify_in_place([&installed]).unwrap();
            let (at, away) = (place.file("d"), place.file("away"));
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
                    super::super::install::normalize_metadata(&planted, "x".into()).unwrap();
                }
                _ => {
                    fs::rename(place.directory.path(), place.directory.path().with_extension("away"))
                        .unwrap();
                    fs::create_dir_all(&at).unwrap();
                }
            }
            let error = place.destination.verify_in_place([&installed]).unwrap_err();
            assert!(matches!(error, StoreError::Moved { .. }), "{mode:?}, {kind}: {error}");
            assert!(!place.destination.is_in_place(&installed).unwrap(), "{mode:?}, {kind}");
            fs::remove_dir_all(place.directory.path().with_extension("away")).ok();
        }
    }
}

#[test]
fn what_looks_like_another_file_counts_if_it_has_the_same_bytes() {
    let place = Place::new();
    let part = Arc::new(place.open(&model(CONTENT)));
    write(&part, 0..43, CONTENT);
    let installed = part.verify().unwrap().install().unwrap();
    // As on a volume that numbers its files anew: size, time and bytes are the same.
    fs::rename(place.file("d/x"), place.file("d/y")).unwrap();
    fs::copy(place.file("d/y"), place.file("d/x")).unwrap();
    super::super::install::normalize_metadata(&File::open(place.file("d/x")).unwrap(), "x".into()).unwrap();
    assert!(!place.destination.is_in_place(&installed).unwrap(), "not without reading it");
    place.destination.verify_in_place([&installed]).unwrap();
}
