//! The piece lists beside a lock: `models.pieces/HEX`, each under the SHA-256 of its bytes.
//!
//! A list is durable before the lock names it, so a kill leaves a list that no lock names, and never a lock without its
//! list. Lists that no lock names are found again ([`unnamed`]) and can be removed. All locks of a directory share its
//! lists, so all are asked. A list that was just written may be about to be named, so only old ones are found.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;
use provision_core::lockfile::{Lockfile, MAX_BYTES};
use provision_core::piece_list::{DIRECTORY, MAGIC, MAX_LIST};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::atomic_write::{self, DRAFT, or_here};

/// The mode of a list: an image's build and its programs may have different users.
const MODE: u32 = 0o644;
/// The ends of the names of locks.
const LOCKS: [&str; 2] = ["lock", "toml"];

/// A lock or a directory that cannot be read, so the lists that it names are unknown.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {error}; correct that{}", if *.is_lock { ", or remove it" } else { "" })]
pub struct UnreadableError {
    /// The lock or the directory.
    path: Utf8PathBuf,
    is_lock: bool,
    /// The system's error.
    #[source]
    error: io::Error,
}

/// The directory of the lists of the lock at `lock`: beside the file itself, if that is a symlink.
pub fn directory_of(lock: &Utf8Path) -> Utf8PathBuf {
    file_of(lock).with_file_name(DIRECTORY)
}

/// The file that a symlink leads to; a path that cannot be followed as it is.
fn file_of(lock: &Utf8Path) -> Utf8PathBuf {
    let followed = lock.is_symlink().then(|| lock.canonicalize_utf8().ok()).flatten();
    followed.unwrap_or_else(|| lock.to_owned())
}

/// Writes a list with this digest. Returns false if it is there already: unless its lock names it, it counts as new
/// again.
///
/// # Errors
/// A system call failed.
pub fn write(directory: &Utf8Path, digest: &Sha256, list: &[u8], is_named: bool) -> io::Result<bool> {
    let path = directory.join(digest.to_string());
    let is_new = atomic_write::put(&path, list, Some(MODE))?;
    if !is_new && !is_named {
        // Only its owner may. Another user's list is as old as it was.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times =
            Timestamps { last_access: Timespec { tv_nsec: UTIME_OMIT, ..now }, last_modification: now };
        let _ = rustix::fs::utimensat(CWD, path.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW);
    }
    Ok(is_new)
}

/// The files beside `lock` that are lists which no lock of its directory names, and drafts of such lists. Only names of
/// 64 hex digits count, only files that begin as a list does, and only those last written before `before`. A symlink in
/// place of their directory leads to lists that locks elsewhere may name: then there are none.
///
/// # Errors
/// A directory or a lock cannot be read, so the lists that it names are unknown.
pub fn unnamed(lock: &Utf8Path, before: SystemTime) -> Result<Vec<Utf8PathBuf>, UnreadableError> {
    let directory = directory_of(lock);
    let unreadable = |error| UnreadableError { path: directory.clone(), is_lock: false, error };
    let mut lists = Vec::new();
    match directory.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            for name in names(&directory).map_err(unreadable)?.iter().filter_map(|name| name.to_str()) {
                lists.extend(listed(name).map(|digest| (digest, directory.join(name))));
            }
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unreadable(error)),
        _ => {}
    }
    if lists.is_empty() {
        return Ok(Vec::new());
    }
    let named = digests_of_locks(lock)?;
    // Ages are compared last: a list that is about to be named got its new age before its lock was read.
    lists.retain(|(digest, path)| path.file_name() != Some(&digest.to_string()) || !named.contains(digest));
    lists.retain(|(_, path)| is_old_list(path, before).unwrap_or(false));
    lists.sort();
    Ok(lists.into_iter().map(|(_, path)| path).collect())
}

/// The digest in the name of a list or of its draft.
fn listed(name: &str) -> Option<Sha256> {
    let draft = name.strip_prefix('.').and_then(|name| name.strip_suffix(DRAFT));
    match draft {
        Some(draft) => draft.split_once('.')?.0.parse().ok(),
        None => name.parse().ok(),
    }
}

/// True for a file that was last written before `before` and begins as a list does; of a draft, these bytes may be
/// missing.
fn is_old_list(path: &Utf8Path, before: SystemTime) -> io::Result<bool> {
    let found = path.symlink_metadata()?;
    if !found.is_file() || found.len() > MAX_LIST || found.modified()? >= before {
        return Ok(false);
    }
    let start = read(path, MAGIC.len() as u64 - 1)?;
    let is_draft = path.file_name().is_some_and(|name| name.starts_with('.'));
    Ok(if is_draft { MAGIC.starts_with(&start) } else { start == MAGIC })
}

/// The digests that `lock` and the other locks beside it name. Other digests in their texts count as well: a lock that
/// this program cannot read, or a comment, may name a list.
fn digests_of_locks(lock: &Utf8Path) -> Result<HashSet<Sha256>, UnreadableError> {
    let unreadable = |path: &Utf8Path, error| UnreadableError { path: path.to_owned(), is_lock: true, error };
    let mut digests = HashSet::new();
    let mut take = |path: &Utf8Path| {
        let text = read(path, MAX_BYTES).map_err(|error| unreadable(path, error))?;
        let text = String::from_utf8_lossy(&text);
        let words = text.split(|c: char| !c.is_ascii_hexdigit());
        digests.extend(words.filter_map(|word| word.parse::<Sha256>().ok()));
        // Its digests may be written with escapes.
        if let Ok(lock) = Lockfile::parse(path.as_str(), &text) {
            digests.extend(lock.models().iter().filter_map(|model| model.pieces));
        }
        Ok(())
    };
    take(lock)?;
    let file = file_of(lock);
    let directory = or_here(file.parent());
    let names = names(directory)
        .map_err(|error| UnreadableError { is_lock: false, ..unreadable(directory, error) })?;
    for name in names {
        if Path::new(&name).extension().is_some_and(|end| LOCKS.iter().any(|lock| end == *lock)) {
            let path = directory.join(&*name.to_string_lossy());
            if name.to_str().is_none() {
                return Err(unreadable(&path, io::Error::other("its name is not UTF-8")));
            }
            take(&path)?;
        }
    }
    Ok(digests)
}

/// The names in a directory. Some may not be UTF-8.
fn names(directory: &Utf8Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// The first bytes of a file: at most one more than `most`.
fn read(path: &Utf8Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Opening a pipe would wait for its writer.
    if fs::metadata(path)?.is_file() {
        File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::atomic_write::tests::directory;

    #[test]
    fn a_list_is_written_once_and_everybody_may_read_it() {
        let (_keep, root) = directory();
        let lists = directory_of(&root.join("models.lock"));
        let digest = Sha256::of(b"list");
        assert!(write(&lists, &digest, b"list", true).unwrap());
        let path = lists.join(digest.to_string());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert!(!write(&lists, &digest, b"list", true).unwrap());
        fs::write(&path, b"lisp").unwrap();
        assert!(write(&lists, &digest, b"list", true).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"list");
        assert_eq!(lists.read_dir().unwrap().count(), 1, "no draft is left");
    }

    /// A text that begins as a list does.
    fn text(end: &str) -> Vec<u8> {
        [MAGIC, end.as_bytes()].concat()
    }

    /// A lock of one model with this list, as TOML writes it.
    fn lock_with(pieces: &str) -> String {
        let (url, sha256) = ("https://h.example/x", Sha256::of(b"x"));
        format!(
            "version = 1\n[[model]]\npath = \"x\"\nurl = \"{url}\"\nsize = 1\nsha256 = \"{sha256}\"\npieces = {pieces}\n"
        )
    }

    /// A time for which every file is old.
    fn later() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33)
    }

    /// The names of the files that `unnamed` finds later.
    fn found(lock: &Utf8Path) -> Vec<String> {
        let found = unnamed(lock, later()).unwrap();
        found.iter().filter_map(|path| path.file_name()).map(str::to_owned).collect()
    }

    #[test]
    fn only_old_lists_that_no_lock_beside_them_names_are_found() {
        let (_keep, root) = directory();
        let lock = root.join("models.lock");
        let lists = directory_of(&lock);
        let [ours, theirs, escaped, nobodys] = ["ours", "both", "escaped", "none"].map(|end| {
            let digest = Sha256::of(&text(end));
            write(&lists, &digest, &text(end), true).unwrap();
            digest.to_string()
        });
        let draft = format!(".{ours}.17{DRAFT}");
        for other in ["notes.txt", &nobodys[1..], &nobodys.to_uppercase(), ".x.tmp", &draft] {
            fs::write(lists.join(other), "").unwrap();
        }
        fs::create_dir(lists.join(Sha256::of(b"directory").to_string())).unwrap();
        fs::write(&lock, format!("pieces = \"{ours}\"\n")).unwrap();
        fs::write(root.join("other.lock"), format!("pieces = '{theirs}'\n")).unwrap();
        let escapes = format!("\"\\u{:04x}{}\"", escaped.as_bytes()[0], &escaped[1..]);
        fs::write(root.join("escaped.toml"), lock_with(&escapes)).unwrap();
        fs::write(root.join("no-lock.txt"), &nobodys).unwrap();
        fs::write(root.as_std_path().join(OsStr::from_bytes(b"caf\xe9.txt")), "").unwrap();
        let written = lists.join(&nobodys).metadata().unwrap().modified().unwrap();
        assert_eq!(unnamed(&lock, written - Duration::from_mins(1)).unwrap(), Vec::<Utf8PathBuf>::new());
        let mut expected = vec![draft, nobodys];
        expected.sort();
        let mut found = found(&lock);
        found.sort();
        assert_eq!(found, expected);
        fs::remove_file(&lock).unwrap();
        assert!(unnamed(&lock, written + Duration::from_mins(1)).is_err(), "unknown what the lock names");
        assert_eq!(unnamed(&root.join("none/models.lock"), written).unwrap(), Vec::<Utf8PathBuf>::new());
    }

    #[test]
    fn what_is_no_list_is_not_found_whatever_its_name() {
        let (_keep, root) = directory();
        let lock = root.join("models.lock");
        fs::write(&lock, "version = 1\n").unwrap();
        let lists = directory_of(&lock);
        let name = |end: &str| Sha256::of(end.as_bytes()).to_string();
        for (end, bytes) in [("model", &b"another program's object"[..]), ("empty", b""), ("list", MAGIC)] {
            write(&lists, &Sha256::of(end.as_bytes()), bytes, true).unwrap();
        }
        fs::write(lists.join(format!(".{}.1{DRAFT}", name("draft"))), "another program's").unwrap();
        let long = lists.join(name("long"));
        fs::write(&long, MAGIC).unwrap();
        File::options().write(true).open(&long).unwrap().set_len(MAX_LIST + 1).unwrap();
        assert_eq!(found(&lock), [name("list")]);
    }

    #[test]
    fn lists_of_a_linked_directory_stay_and_a_lock_that_leads_nowhere_names_unknown_ones() {
        let (_keep, root) = directory();
        let lock = root.join("models.lock");
        fs::write(&lock, "version = 1\n").unwrap();
        write(&root.join("elsewhere"), &Sha256::of(MAGIC), MAGIC, true).unwrap();
        std::os::unix::fs::symlink("elsewhere", directory_of(&lock)).unwrap();
        assert!(found(&lock).is_empty(), "locks elsewhere may name them");
        fs::remove_file(directory_of(&lock)).unwrap();
        write(&directory_of(&lock), &Sha256::of(MAGIC), MAGIC, true).unwrap();
        assert_eq!(found(&lock).len(), 1);
        std::os::unix::fs::symlink("unmounted/models.lock", root.join("other.lock")).unwrap();
        let error = unnamed(&lock, later()).unwrap_err().to_string();
        assert!(error.contains("other.lock cannot be read") && error.contains("remove it"), "{error}");
        fs::remove_file(root.join("other.lock")).unwrap();
        fs::write(root.as_std_path().join(OsStr::from_bytes(b"caf\xe9.lock")), "").unwrap();
        let error = unnamed(&lock, later()).unwrap_err().to_string();
        assert!(error.contains(".lock cannot be read: its name is not UTF-8"), "{error}");
    }

    #[test]
    fn a_list_that_is_there_is_new_again_for_the_lock_that_will_name_it() {
        let (_keep, root) = directory();
        let (lock, digest) = (root.join("models.lock"), Sha256::of(MAGIC));
        fs::write(&lock, "version = 1\n").unwrap();
        let lists = directory_of(&lock);
        write(&lists, &digest, MAGIC, false).unwrap();
        let path = lists.join(digest.to_string());
        let hour = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        File::options().write(true).open(&path).unwrap().set_modified(hour).unwrap();
        assert!(!write(&lists, &digest, MAGIC, true).unwrap());
        assert_eq!(path.metadata().unwrap().modified().unwrap(), hour);
        assert!(!write(&lists, &digest, MAGIC, false).unwrap());
        assert!(path.metadata().unwrap().modified().unwrap() > hour);
        assert!(unnamed(&lock, hour + Duration::from_mins(1)).unwrap().is_empty());
    }
}
