//! The piece lists beside a lock: `models.pieces/HEX`, each under the SHA-256 of its bytes.
//!
//! A list is durable before the lock names it, so a kill leaves a list that no lock names, and never a lock without its list. Lists that no
//! lock names are found again ([`unnamed`]) and can be removed. All locks of a directory share its lists, so all are asked. A list that was
//! just written may be about to be named, so only old ones are found.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;
use provision_core::lockfile::{MAX_BYTES, Model};
use provision_core::piece_list::{DIRECTORY, PieceList, PieceListError};

use crate::small_file::{self, DRAFT, or_here};

/// The mode of a list: an image's build and its programs may have different users.
const MODE: u32 = 0o644;
/// The ends of the names of locks.
const LOCKS: [&str; 2] = ["lock", "toml"];

/// A list that does not agree with its entry. Each message goes on behind the list's or the model's name.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// There is no such file.
    #[error("it is not beside the lock")]
    Missing,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file has other bytes than its name says.
    #[error("the file has SHA-256 {found}, so it is not the lock's list")]
    OtherBytes {
        /// The digest of the file.
        found: Sha256,
    },
    /// The lock names bytes that are no list.
    #[error(transparent)]
    Format(PieceListError),
    /// The list is of another file.
    #[error("it is the list of {size} bytes with SHA-256 {file}")]
    OtherFile {
        /// The length of that file, in bytes.
        size: u64,
        /// Its digest.
        file: Sha256,
    },
}

/// The directory of the lists of the lock at `lock`: beside the file itself, if that is a symlink.
pub fn directory_of(lock: &Utf8Path) -> Utf8PathBuf {
    file_of(lock).with_file_name(DIRECTORY)
}

/// The file that a symlink leads to. What cannot be followed stays.
fn file_of(lock: &Utf8Path) -> Utf8PathBuf {
    let followed = lock.is_symlink().then(|| lock.canonicalize_utf8().ok()).flatten();
    followed.unwrap_or_else(|| lock.to_owned())
}

/// Writes a list with this digest. Returns false if it is there already.
///
/// # Errors
/// A system call failed.
pub fn write(directory: &Utf8Path, digest: &Sha256, list: &[u8]) -> io::Result<bool> {
    small_file::put(&directory.join(digest.to_string()), list, Some(MODE))
}

/// The list of `model` in the first of `directories` that has it. A model without a list has none.
///
/// # Errors
/// There is none, or it is not the list of the model's file.
pub fn find(directories: &[Utf8PathBuf], model: &Model) -> Result<PieceList, ListError> {
    let pin = model.pieces.ok_or(ListError::Missing)?;
    let most = PieceList::max_bytes(model.size);
    let mut error = ListError::Missing;
    for directory in directories {
        let bytes = match read(&directory.join(pin.to_string()), most) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            Err(why) => {
                error = ListError::Unreadable(why);
                continue;
            }
        };
        let found = Sha256::of(&bytes);
        if found == pin {
            let list = PieceList::parse(&bytes).map_err(ListError::Format)?;
            let (size, file) = (list.size(), list.file());
            let is_its = (size, file) == (model.size, model.sha256);
            return if is_its { Ok(list) } else { Err(ListError::OtherFile { size, file }) };
        }
        error = ListError::OtherBytes { found };
    }
    Err(error)
}

/// The files beside `lock` that are lists which no lock of its directory names, and drafts of such lists. Only names of 64 hex digits count,
/// and only files last written before `before`.
///
/// # Errors
/// A directory or a lock cannot be read: then it is unknown what it names.
pub fn unnamed(lock: &Utf8Path, before: SystemTime) -> io::Result<Vec<Utf8PathBuf>> {
    let directory = directory_of(lock);
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut lists = Vec::new();
    for entry in entries {
        let entry = entry?;
        let metadata = entry.path().symlink_metadata()?;
        if let Some(digest) = listed(entry.file_name())
            && metadata.is_file()
            && metadata.modified()? < before
        {
            lists.push((digest.to_owned(), entry.path().to_owned()));
        }
    }
    if !lists.is_empty() {
        let named = digests_of_locks(lock)?;
        lists.retain(|(digest, path)| path.file_name() != Some(digest) || !named.contains(digest));
    }
    lists.sort();
    Ok(lists.into_iter().map(|(_, path)| path).collect())
}

/// The digest in the name of a list or of its draft.
fn listed(name: &str) -> Option<&str> {
    let draft = name.strip_prefix('.').and_then(|name| name.strip_suffix(DRAFT));
    let digest = match draft {
        Some(draft) => draft.split_once('.')?.0,
        None => name,
    };
    is_digest(digest).then_some(digest)
}

fn is_digest(text: &str) -> bool {
    text.parse::<Sha256>().is_ok()
}

/// The digests in the texts of `lock` and of the other locks beside it.
fn digests_of_locks(lock: &Utf8Path) -> io::Result<HashSet<String>> {
    let mut digests = HashSet::new();
    let mut take = |path: &Utf8Path| -> io::Result<()> {
        let text = read(path, MAX_BYTES)?;
        let words = text.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| word.len() == 64);
        digests.extend(words.map(|word| String::from_utf8_lossy(word).into_owned()));
        Ok(())
    };
    take(lock)?;
    for entry in or_here(file_of(lock).parent()).read_dir_utf8()? {
        let entry = entry?;
        let is_lock = entry.path().extension().is_some_and(|end| LOCKS.contains(&end));
        if is_lock && entry.path().is_file() {
            take(entry.path())?;
        }
    }
    Ok(digests)
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
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        (directory, path)
    }

    #[test]
    fn a_list_is_written_once_and_everybody_may_read_it() {
        let (_keep, root) = directory();
        let lists = directory_of(&root.join("models.lock"));
        let digest = Sha256::of(b"list");
        assert!(write(&lists, &digest, b"list").unwrap());
        let path = lists.join(digest.to_string());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert!(!write(&lists, &digest, b"list").unwrap());
        fs::write(&path, b"lisp").unwrap();
        assert!(write(&lists, &digest, b"list").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"list");
        assert_eq!(lists.read_dir().unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn only_old_lists_that_no_lock_beside_them_names_are_found() {
        let (_keep, root) = directory();
        let lock = root.join("models.lock");
        let lists = directory_of(&lock);
        let [ours, theirs, nobodys] = [b"ours", b"both", b"none"].map(|list| {
            let digest = Sha256::of(list);
            write(&lists, &digest, list).unwrap();
            digest.to_string()
        });
        let draft = format!(".{ours}.17{DRAFT}");
        for other in ["notes.txt", &nobodys[1..], &nobodys.to_uppercase(), ".x.tmp", &draft] {
            fs::write(lists.join(other), "").unwrap();
        }
        fs::create_dir(lists.join(Sha256::of(b"directory").to_string())).unwrap();
        fs::write(&lock, format!("pieces = \"{ours}\"\n")).unwrap();
        fs::write(root.join("other.lock"), format!("pieces = '{theirs}'\n")).unwrap();
        fs::write(root.join("no-lock.txt"), &nobodys).unwrap();
        let written = lists.join(&nobodys).metadata().unwrap().modified().unwrap();
        assert_eq!(unnamed(&lock, written - Duration::from_mins(1)).unwrap(), Vec::<Utf8PathBuf>::new());
        let mut expected = vec![lists.join(&draft), lists.join(&nobodys)];
        let mut found = unnamed(&lock, written + Duration::from_mins(1)).unwrap();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        fs::remove_file(&lock).unwrap();
        assert!(unnamed(&lock, written + Duration::from_mins(1)).is_err(), "unknown what the lock names");
        assert_eq!(unnamed(&root.join("none/models.lock"), written).unwrap(), Vec::<Utf8PathBuf>::new());
    }
}
