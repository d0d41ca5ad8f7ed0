use std::cell::{Cell, RefCell};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::Duration;

use provision_core::digest::Sha256;

use super::*;
use crate::edit::EditError;
use crate::entry::Entry;

/// The errors of these tests' edits.
#[derive(Debug)]
enum Failed {
    File(FileError),
    Edit(EditError),
}

impl From<FileError> for Failed {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<EditError> for Failed {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.directory.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

fn entry(path: &str) -> Entry {
    Entry {
        path: path.parse().unwrap(),
        url: "https://h.example/x".parse().unwrap(),
        mirrors: vec![],
        size: 1,
        sha256: Sha256::of(path.as_bytes()),
        pieces: None,
        groups: vec![],
        source: None,
    }
}

/// A writer that never has to wait.
const QUIET: LockWait<'static> = LockWait { pause: &|_| panic!("the lock is free"), announce: &|_| () };

fn add(path: &Utf8Path, model: &str) -> Result<Edited<()>, Failed> {
    add_in(path, QUIET, model)
}

fn add_in(path: &Utf8Path, wait: LockWait<'_>, model: &str) -> Result<Edited<()>, Failed> {
    edit(path, wait, |document| Ok(document.put(&entry(model)).map(drop)?))
}

#[test]
fn a_lock_is_written_only_if_its_text_changes() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    assert!(!edit::<_, Failed>(&lock, QUIET, |_| Ok(())).unwrap().changed);
    assert_eq!(fixture.names(), [""; 0], "a lock without entries is not created");
    assert!(add(&lock, "a").unwrap().changed);
    let before = std::fs::metadata(&lock).unwrap();
    assert!(!add(&lock, "a").unwrap().changed);
    let after = std::fs::metadata(&lock).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    assert!(add(&lock, "b").unwrap().changed);
    assert_eq!(read(&lock).unwrap().lock().models().len(), 2);
    assert_eq!(fixture.names(), ["models.lock"], "no draft is left");
}

#[test]
fn concurrent_writers_lose_no_entry() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let lock = &lock;
            scope.spawn(move || {
                for n in 0..6 {
                    add_in(lock, LockWait::announcing(&|_| ()), &format!("d{n}/w{writer}")).unwrap();
                }
            });
        }
    });
    assert_eq!(read(&lock).unwrap().lock().models().len(), 48);
    assert_eq!(fixture.names(), ["models.lock"]);
}

#[test]
fn a_long_wait_announces_the_holder_once_and_times_out() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    let first = Draft::open(&lock, QUIET).unwrap();
    let (waited, said) = (Cell::new(Duration::ZERO), RefCell::new(Vec::new()));
    let wait = LockWait {
        pause: &|time| waited.set(waited.get() + time),
        announce: &|holder| said.borrow_mut().push((waited.get(), holder.to_owned())),
    };
    let error = add_in(&lock, wait, "a").unwrap_err();
    let Failed::File(FileError::Busy { holder, .. }) = &error else { panic!("{error:?}") };
    assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
    assert_eq!(said.into_inner(), [(Duration::from_secs(1), holder.clone())]);
    assert_eq!(waited.get(), LONGEST);
    assert!(!lock.exists());
    drop(first);
    assert!(add(&lock, "a").unwrap().changed);
}

#[test]
fn a_waiting_writer_reads_the_first_ones_text() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    add(&lock, "a").unwrap();
    let first = RefCell::new(Some(Draft::open(&lock, QUIET).unwrap()));
    let looks = Cell::new(0);
    let wait = LockWait {
        pause: &|_| {
            looks.set(looks.get() + 1);
            if looks.get() == 3 {
                let mut document = read(&lock).unwrap();
                document.put(&entry("b")).unwrap();
                let before = read_text(&lock).unwrap();
                first.take().unwrap().commit(document.text(), before).unwrap();
            }
        },
        announce: &|_| panic!("a short wait is silent"),
    };
    add_in(&lock, wait, "c").unwrap();
    assert_eq!((looks.get(), read(&lock).unwrap().lock().models().len()), (3, 3));
    assert_eq!(fixture.names(), ["models.lock"]);
}

#[test]
fn an_old_drafts_mode_and_text_are_not_used() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    let draft = fixture.path(".models.lock.tmp");
    std::fs::write(&draft, "half").unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o400)).unwrap();
    std::fs::write(fixture.path("usual"), "").unwrap();
    add(&lock, "a").unwrap();
    let mode = |path: &Utf8Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&lock), mode(&fixture.path("usual")));
}

#[test]
fn an_editors_save_in_between_is_kept() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    add(&lock, "a").unwrap();
    let mut saved = false;
    edit::<_, Failed>(&lock, QUIET, |document| {
        if !std::mem::replace(&mut saved, true) {
            let text = document.text().replace("version = 1", "# by hand\nversion = 1");
            std::fs::write(&lock, text).unwrap();
        }
        Ok(document.put(&entry("b")).map(drop)?)
    })
    .unwrap();
    let document = read(&lock).unwrap();
    assert!(document.text().starts_with("# by hand\n"));
    assert_eq!(document.lock().models().len(), 2);
    let restless = edit::<_, Failed>(&lock, QUIET, |document| {
        std::fs::write(&lock, format!("{}#\n", document.text())).unwrap();
        Ok(document.put(&entry("c")).map(drop)?)
    });
    assert!(matches!(restless, Err(Failed::File(FileError::KeepsChanging { .. }))), "{restless:?}");
}

#[test]
fn a_killed_writers_draft_blocks_no_writer() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    std::fs::write(fixture.path(".models.lock.tmp"), "half a lock".repeat(1000)).unwrap();
    add(&lock, "a").unwrap();
    assert_eq!(read(&lock).unwrap().lock().models().len(), 1);
    assert_eq!(fixture.names(), ["models.lock"]);
}

#[test]
fn fault_119_a_planted_draft_is_neither_written_nor_renamed_to_the_lock() {
    for plant in ["link", "symlink", "fifo"] {
        let fixture = Fixture::new();
        let (draft, victim) = (fixture.path(".models.lock.tmp"), fixture.path("victim"));
        std::fs::write(&victim, b"").unwrap();
        match plant {
            "link" => std::fs::hard_link(&victim, &draft).unwrap(),
            "symlink" => symlink(&victim, &draft).unwrap(),
            _ => {
                let (kind, mode) = (rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600));
                rustix::fs::mknodat(rustix::fs::CWD, draft.as_std_path(), kind, mode, 0).unwrap();
            }
        }
        add(&fixture.path("models.lock"), "vae/x").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"", "{plant}");
        let lock = std::fs::symlink_metadata(fixture.path("models.lock")).unwrap();
        assert!(lock.is_file() && lock.nlink() == 1, "{plant}");
        assert_eq!(fixture.names(), ["models.lock", "victim"], "{plant}");
    }
}

#[test]
fn a_private_draft_works_where_flock_does_not() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    let drafts = [Draft::private(&lock).unwrap(), Draft::private(&lock).unwrap()];
    assert_eq!(fixture.names().len(), 2);
    let [first, second] = drafts;
    assert!(first.commit("version = 1\n", None).unwrap());
    assert!(!second.commit("version = 1\n# late\n", None).unwrap(), "the lock is not what it was");
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "version = 1\n");
    assert_eq!(fixture.names(), ["models.lock"]);
}

#[test]
fn mode_and_symlink_are_kept() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("real")).unwrap();
    let (target, link) = (fixture.path("real/x.lock"), fixture.path("models.lock"));
    std::fs::write(&target, "version = 1\n").unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o440)).unwrap();
    symlink("real/x.lock", &link).unwrap();
    add(&link, "a").unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o440);
    assert_eq!(read(&target).unwrap().lock().models().len(), 1);
    std::fs::remove_file(&target).unwrap();
    assert!(matches!(add(&link, "a"), Err(Failed::File(FileError::Dangling { .. }))));
}

#[test]
fn an_invalid_lock_or_failed_edit_is_not_written() {
    let fixture = Fixture::new();
    let lock = fixture.path("models.lock");
    let broken = "version = 1\n[[model]]\npath = \"../x\"\n";
    std::fs::write(&lock, broken).unwrap();
    let error = add(&lock, "a").unwrap_err();
    assert!(
        matches!(&error, Failed::File(FileError::Lock(error)) if error.to_string().contains("models.lock:2")),
        "{error:?}"
    );
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), broken);
    std::fs::write(&lock, "version = 1\n").unwrap();
    assert!(matches!(add(&lock, ".models-installed"), Err(Failed::Edit(EditError::Invalid(_)))));
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "version = 1\n");
    std::fs::write(&lock, [0xff]).unwrap();
    assert!(matches!(add(&lock, "a"), Err(Failed::File(FileError::Lock(_)))));
    assert_eq!(fixture.names(), ["models.lock"]);
    let missing = add(&fixture.path("no/models.lock"), "a").unwrap_err();
    assert!(matches!(&missing, Failed::File(error) if error.to_string().contains("--lock")), "{missing:?}");
    assert!(read(&fixture.path("none")).unwrap_err().to_string().contains("--lock"));
}

#[test]
fn disagreement_of_access_and_open_is_an_error() {
    let mut made = 0;
    let make = || {
        made += 1;
        Err(Errno::ACCESS)
    };
    let opened = open_by(make, || Err(Errno::NOENT), || true);
    assert_eq!(opened.unwrap_err(), Errno::ACCESS);
    assert_eq!(made, ATTEMPTS);
    // The draft is renamed over the lock at the wrong moment, once.
    let mut calls = 0;
    let make = || {
        calls += 1;
        if calls == 1 { Err(Errno::ACCESS) } else { File::open("/dev/null").map_err(|_| Errno::IO) }
    };
    assert!(open_by(make, || Err(Errno::NOENT), || true).unwrap().1);
}
