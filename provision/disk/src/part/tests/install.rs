//! The final name: its metadata, rivals at each step of the rename, and files that move away afterwards.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::sync::Arc;

use camino::Utf8Path;

use crate::confined::ResolveMode;
use crate::error::DiskError;
use crate::file_stat::{EARLIEST_MTIME, installed_mtime};
use crate::install::{failpoint, set_mtime};
use crate::local_install::{LinkedFile, install_hard_link, install_symlink};
use crate::part::{CopyError, PartNames};
use crate::source_file::{BLOCK, SourceFile};
use crate::testing::{CONTENT, Fixture, model, plant, write};
use provision_core::lockfile::Model;

#[test]
fn fault_87_the_mtime_of_an_installed_file_is_its_digests() {
    let fixture = Fixture::new();
    let part = fixture.complete_part();
    part.verify().unwrap().install().unwrap();
    let file = fs::metadata(fixture.file("d/x")).unwrap();
    assert_eq!(file.mtime(), installed_mtime(&model("d/x", CONTENT).sha256));
}

#[test]
fn fault_73_a_final_name_of_another_kind_is_refused() {
    for kind in ["symlink", "directory", "fifo"] {
        let fixture = Fixture::new();
        fs::create_dir(fixture.file("d")).unwrap();
        fs::write(fixture.file("victim"), b"precious").unwrap();
        plant(kind, &fixture.file("d/x"), &fixture.file("victim"));
        let part = fixture.complete_part();
        let error = part.verify().unwrap().install().unwrap_err();
        assert!(matches!(error, DiskError::NotAFile { .. }), "{kind}: {error}");
        assert_eq!(fs::read(fixture.file("victim")).unwrap(), b"precious");
    }
}

#[test]
fn a_part_that_was_replaced_is_not_installed() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let part = fixture.complete_part();
    fs::remove_file(fixture.part(&model, "part")).unwrap();
    fs::write(fixture.part(&model, "part"), b"evil").unwrap();
    assert!(matches!(part.verify().unwrap().install(), Err(DiskError::PartReplaced { .. })));
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
    let model = model("d/x", CONTENT);
    let part = fixture.complete_part();
    failpoint::set(rival(&fixture, &model));
    let error = part.verify().unwrap().install().unwrap_err();
    assert!(matches!(error, DiskError::PartReplaced { .. }), "{error}");
    assert!(!fixture.file("d/x").exists(), "unverified bytes are under the final name");
    assert_eq!(fs::read(fixture.part(&model, "part")).unwrap(), CONTENT[..20], "its owner can resume");
}

fn set_installed_time(path: &std::path::Path) {
    let installed =
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(EARLIEST_MTIME.unsigned_abs());
    File::options().write(true).open(path).unwrap().set_modified(installed).unwrap();
}

#[test]
fn fault_82_a_file_installed_after_the_rename_stays() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let part = fixture.complete_part();
    let (theirs, name) = (fixture.file("d/theirs"), fixture.file("d/x"));
    fs::write(&theirs, b"theirs").unwrap();
    set_installed_time(&theirs);
    failpoint::set(rival(&fixture, &model));
    failpoint::set(move || fs::rename(theirs, name).unwrap());
    let error = part.verify().unwrap().install().unwrap_err();
    assert!(matches!(error, DiskError::PartReplaced { .. }), "{error}");
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), b"theirs");
}

#[test]
fn fault_82_another_runs_installed_file_counts_as_installed() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let part = fixture.complete_part();
    let (other, name) = (fixture.file("d/other"), fixture.part(&model, "part"));
    fs::write(&other, CONTENT).unwrap();
    set_mtime(&File::open(&other).unwrap(), "other".into(), &model.sha256).unwrap();
    failpoint::set(move || fs::rename(other, name).unwrap());
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn fault_82_a_part_that_another_run_installed_is_not_emptied() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let part = Arc::new(fixture.open(&model));
    write(&part, 0..43, &CONTENT.to_ascii_uppercase());
    assert!(matches!(part.clone().verify(), Err(DiskError::Mismatch { .. })));
    fs::rename(fixture.part(&model, "part"), fixture.file("d/x")).unwrap();
    assert!(matches!(part.reset(), Err(DiskError::PartReplaced { .. })));
    assert_eq!(fs::metadata(fixture.file("d/x")).unwrap().len(), 43);
}

#[test]
fn fault_82_a_file_renamed_in_place_of_a_link_is_removed() {
    for kind in ["hard link", "symlink"] {
        let fixture = Fixture::new();
        let model = model("d/x", CONTENT);
        fs::create_dir(fixture.file("d")).unwrap();
        let source = fixture.source_of("source", CONTENT);
        let temporary = fixture.part(&model, "tmp");
        failpoint::set(move || {
            fs::remove_file(&temporary).unwrap();
            fs::write(&temporary, b"evil").unwrap();
        });
        let to = (&fixture.destination, &PartNames::Shared);
        let failed = if kind == "symlink" {
            install_symlink(to, &model, &source, || true).map(drop)
        } else {
            install_hard_link(to, &model, (&source, LinkedFile::OfCache), || true).map(drop)
        };
        assert!(matches!(failed, Err(CopyError::Part(DiskError::PartReplaced { .. }))), "{kind}: {failed:?}");
        assert_eq!(fs::read_dir(fixture.file("d")).unwrap().count(), 0, "{kind}");
    }
}

#[test]
fn a_hard_link_leads_to_the_verified_file_not_to_its_path() {
    let fixture = Fixture::new();
    let model = model("d/x", CONTENT);
    let source = fixture.source_of("source", CONTENT);
    fs::rename(fixture.file("source"), fixture.file("elsewhere")).unwrap();
    fs::write(fixture.file("source"), b"evil").unwrap();
    let to = (&fixture.destination, &PartNames::Shared);
    let linked = install_hard_link(to, &model, (&source, LinkedFile::OfCache), || true);
    assert!(linked.unwrap().is_some(), "the link was made from the handle");
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
}

#[test]
fn a_file_that_changes_while_it_is_proven_is_not_linked() {
    for owner in [LinkedFile::OfCache, LinkedFile::OfStore] {
        let fixture = Fixture::new();
        let content = vec![7; 3 * BLOCK];
        let model = model("d/x", &content);
        let path = fixture.file("source");
        fs::write(&path, &content).unwrap();
        set_installed_time(&path);
        let source = SourceFile::open(Utf8Path::from_path(&path).unwrap()).unwrap().unwrap();
        let mut blocks = 0;
        let linked =
            install_hard_link((&fixture.destination, &PartNames::Shared), &model, (&source, owner), || {
                blocks += 1;
                if blocks == 2 {
                    File::options().write(true).open(&path).unwrap().write_all_at(b"!", 0).unwrap();
                }
                true
            });
        assert_eq!(linked.unwrap(), None, "{owner:?}");
        assert!(!fixture.file("d/x").exists(), "{owner:?}: wrong bytes are under the final name");
        let mtime = fs::metadata(&path).unwrap().mtime();
        assert!(!(EARLIEST_MTIME..=installed_mtime(&model.sha256)).contains(&mtime), "{owner:?}: {mtime}");
    }
}

#[test]
fn fault_82_a_verified_or_installed_part_refuses_writes() {
    let fixture = Fixture::new();
    let part = fixture.complete_part();
    let late = part.clone();
    let verified = part.verify().unwrap();
    assert!(matches!(late.write(0, b"evil"), Err(DiskError::Sealed { .. })), "between verify and install");
    let installed = verified.install().unwrap();
    // The part's own inode has the final name now.
    assert!(matches!(late.write(0, b"evil"), Err(DiskError::Sealed { .. })), "after the install");
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), CONTENT);
    assert!(fixture.destination.is_in_place(&installed).unwrap());
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
                    set_mtime(&planted, "x".into(), &model("d/x", CONTENT).sha256).unwrap();
                }
                _ => {
                    fs::rename(fixture.directory.path(), fixture.directory.path().with_extension("away"))
                        .unwrap();
                    fs::create_dir_all(&at).unwrap();
                }
            }
            let error = fixture.destination.verify_in_place([&installed]).unwrap_err();
            assert!(matches!(error, DiskError::Moved { .. }), "{mode:?}, {kind}: {error}");
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
    set_mtime(&File::open(fixture.file("d/x")).unwrap(), "x".into(), &model("d/x", CONTENT).sha256).unwrap();
    assert!(!fixture.destination.is_in_place(&installed).unwrap(), "without reading it");
    fixture.destination.verify_in_place([&installed]).unwrap();
}
