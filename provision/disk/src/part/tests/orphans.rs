//! Parts that other processes left, on volumes where locks do nothing.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use camino::Utf8Path;

use crate::error::DiskError;
use crate::install::set_mtime;
use crate::part::{PartFile, PartNames, PartOptions};
use crate::source_file::BLOCK;
use crate::testing::{CONTENT, Fixture, listed, model, write};
use provision_core::byte_range::ByteRange;
use provision_core::lockfile::Model;

#[test]
fn without_locks_an_orphan_is_adopted_by_copy() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    {
        let orphan = fixture.open_own(&model, "1-a");
        write(&orphan, 5..25, CONTENT);
        orphan.checkpoint().unwrap();
    }
    let part = fixture.open_own(&model, "2-b");
    part.adopt_orphans(&model, || true).unwrap();
    assert_eq!(part.missing(), [ByteRange::new(0, 5), ByteRange::new(25, 43)]);
    write(&part, 0..5, CONTENT);
    write(&part, 25..43, CONTENT);
    Arc::new(part).verify().unwrap().install().unwrap();
}

/// A part of a killed run, where locks do nothing.
fn orphan(fixture: &Fixture, model: &Model, own: &str, hours_ago: u64) -> PathBuf {
    let part = fixture.open_own(model, own);
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

/// The names of this process and of a dead one, and the dead one's number.
fn owners() -> (String, String, u32) {
    let PartNames::PerProcess(mine) = PartNames::per_process() else { unreachable!() };
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let dead = mine.replace(&format!("-{}-", std::process::id()), &format!("-{}-", child.id()));
    (mine, dead, child.id())
}

#[test]
fn fault_81_a_dead_owners_part_is_removed_after_adoption() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let (mine, dead, process) = owners();
    let elsewhere = format!("00000000-{process}-{:08x}", 7);
    let earlier = format!("{process}-{:08x}", 8);
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
    set_mtime(
        &File::open(&being_installed).unwrap(),
        Utf8Path::from_path(&being_installed).unwrap(),
        &model.sha256,
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
    let model = model("d/x", &content);
    let other = fixture.open_own(&model, "other");
    write(&other, 0..content.len(), &content);
    other.checkpoint().unwrap();
    drop(other);
    let is_begun = || fs::metadata(fixture.part(&model, "mine.part")).is_ok_and(|part| part.len() > 0);
    let mine = PartNames::PerProcess("mine".to_owned());
    let stopped = PartFile::resume(&fixture.destination, &model, &mine, || !is_begun());
    assert!(matches!(stopped, Err(DiskError::Interrupted { .. })), "{stopped:?}");
    fs::remove_file(fixture.part(&model, "other.part")).unwrap();
    let part = PartFile::resume(&fixture.destination, &model, &mine, || true).unwrap();
    assert_eq!(part.held(), BLOCK as u64);
}

#[test]
fn fault_81_an_unreadable_orphan_stays_and_ends_no_run() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let (_, dead, _) = owners();
    let orphan = orphan(&fixture, &model, &dead, 0);
    // Its journal cannot be read as a file.
    fs::remove_file(orphan.with_extension("journal")).unwrap();
    fs::create_dir(orphan.with_extension("journal")).unwrap();
    let part = PartFile::resume(&fixture.destination, &model, &PartNames::per_process(), || true).unwrap();
    assert_eq!(part.held(), 0);
    assert!(orphan.exists(), "an orphan that was not adopted is gone");
}

#[test]
fn an_orphan_whose_pieces_cannot_be_read_stays() {
    let fixture = Fixture::new();
    let content = vec![7; 300_000];
    let (model, list) = listed(&content, [100_000, 200_000]);
    let (mine, dead, _) = owners();
    let options = |names| PartOptions { threads: 1, ..PartOptions::with_list(names, Some(list.clone())) };
    let (mine, theirs) = (PartNames::PerProcess(mine), PartNames::PerProcess(dead.clone()));
    let other = PartFile::open(&fixture.destination, &model, options(&theirs), || true).unwrap();
    let _ = other.write(0, &content).unwrap();
    other.checkpoint().unwrap();
    drop(other);
    let orphan = fixture.part(&model, &format!("{dead}.part"));
    let cut = || {
        File::options().write(true).open(&orphan).unwrap().set_len(0).unwrap();
        true
    };
    let part = PartFile::resume(&fixture.destination, &model, options(&mine), cut).unwrap();
    assert_eq!(part.held(), 0);
    assert!(orphan.exists(), "an orphan that was not adopted is gone");
}
