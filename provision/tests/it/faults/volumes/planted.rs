//! Parts, journals and locks that are not the run's own: another user's, with a second name, or no file at all (fault
//! 119).

use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown, symlink};

use crate::prelude::*;
use crate::resume::{MARKER, SIZE, fixture, halfway, only, plant_part};

/// The user `nobody`.
const NOBODY: u32 = 65534;

/// Something other than a file of the run's own, at a path.
type Plant = fn(at: &Path, victim: &Path);

const PLANTS: [(&str, Plant); 5] = [
    ("a symlink", |at, victim| symlink(victim, at).unwrap()),
    ("a dangling symlink", |at, victim| symlink(victim.with_extension("none"), at).unwrap()),
    ("a second name", |at, victim| std::fs::hard_link(victim, at).unwrap()),
    ("a FIFO", |at, _| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        )
        .unwrap();
    }),
    ("another user's file", |at, _| {
        std::fs::write(at, b"held by nobody\n").unwrap();
        chmod(at, 0o666);
        chown(at, Some(NOBODY), None).unwrap();
    }),
];

/// Fetches over what was planted: the set becomes complete, and the victim stays.
fn fetch_over(fixture: &Fixture, victim: &Path, what: &str) {
    run(&mut fetch(fixture, &["--wait", "0"])).row(what).exits(0);
    fixture.assert_installed();
    assert!(!fixture.listing().contains(&".provision.lock".to_owned()), "{what}");
    assert_eq!(std::fs::read(victim).unwrap(), b"precious", "{what}");
    assert!(!victim.with_extension("none").exists(), "{what}");
    let own = rustix::process::geteuid().as_raw();
    for name in ["x", MARKER] {
        let found = std::fs::symlink_metadata(fixture.path(name)).unwrap();
        assert_eq!((found.uid(), found.nlink(), found.is_file()), (own, 1, true), "{what}: {name}");
    }
}

/// The victim, and a fixture with one part, one journal and one lock file of a run that was stopped.
fn stopped() -> (Fixture, PathBuf) {
    let fixture = halfway();
    let victim = fixture.beside("victim");
    std::fs::write(&victim, b"precious").unwrap();
    (fixture, victim)
}

/// Plants each kind of file in the place of `target`: a fetch neither writes to it nor installs it.
fn plant_in_place_of(target: impl Fn(&Fixture) -> PathBuf) {
    if !needs_root() {
        return;
    }
    for (what, plant) in PLANTS {
        let (fixture, victim) = stopped();
        let target = target(&fixture);
        if target.exists() {
            std::fs::remove_file(&target).unwrap();
        }
        plant(&target, &victim);
        fetch_over(&fixture, &victim, what);
    }
}

#[test]
fn fault_119_a_planted_lock_is_neither_written_nor_kept() {
    plant_in_place_of(|fixture| fixture.path(".provision.lock"));
}

#[test]
fn fault_119_a_planted_journal_is_neither_written_nor_kept() {
    plant_in_place_of(|fixture| only(fixture, ".journal"));
}

#[test]
fn fault_119_a_planted_part_is_neither_written_nor_installed() {
    plant_in_place_of(|fixture| only(fixture, ".part"));
}

#[test]
fn fault_119_another_users_complete_part_is_not_installed() {
    let Some((fixture, content)) = with_root(fixture()) else { return };
    plant_part(&fixture, &content, SIZE);
    let part = only(&fixture, ".part");
    chown(&part, Some(NOBODY), None).unwrap();
    chmod(&part, 0o666);
    let mut planter = std::fs::OpenOptions::new().write(true).open(&part).unwrap();
    let planted = planter.metadata().unwrap().ino();
    run(&mut fetch(&fixture, &[])).exits(0);
    assert_ne!(std::fs::metadata(fixture.path("x")).unwrap().ino(), planted);
    // Its owner can write to it for ever.
    planter.rewind().unwrap();
    planter.write_all(&Content::generated(9, 1000).to_vec()).unwrap();
    fixture.assert_installed();
}
