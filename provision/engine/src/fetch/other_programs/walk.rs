//! The search of a store: every directory below it once, by names and sizes. No file is opened.
//!
//! A name may state the digest of its file: the Hugging Face cache, this program's cache and Git LFS name files by the
//! 64 digits of their SHA-256, ollama by `sha256-` and the digits. Such a file is no candidate for another digest, and
//! costs no look at its size. Any other file is a candidate for the models of its size.
//!
//! Symlinks to files are followed, for reading only: the snapshots of the Hugging Face cache consist of them. Symlinks
//! to directories are not: they may form circles, and lead out of the store. Names that programs give to files in
//! progress are skipped.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8DirEntry, Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;

/// The most names that a search looks at.
const MOST_NAMES: usize = 200_000;
/// The deepest directory that a search enters, counted from the store.
const DEEPEST: usize = 32;
/// The ends of the names of files in progress.
const IN_PROGRESS: [&str; 8] =
    [".incomplete", ".part", ".partial", ".tmp", ".temp", ".download", ".crdownload", ".lock"];

/// The files that a run lacks or may lack.
#[derive(Debug, Default)]
pub(super) struct WantedFiles {
    pub(super) digests: HashSet<Sha256>,
    pub(super) sizes: HashSet<u64>,
    /// Device and inode of each file that has a final name of the run already: it is no source for itself.
    pub(super) own: HashSet<(u64, u64)>,
}

/// A file of a store that has the size of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreFile {
    pub(super) path: Utf8PathBuf,
    pub(super) size: u64,
    /// The digest that its name states.
    pub(super) digest: Option<Sha256>,
    /// The device that it lies on: a link, or a directory below the store, may lead to another one.
    pub(super) device: u64,
    /// Its owner.
    pub(super) owner: u32,
}

/// The result of a search.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// In the order of their paths.
    pub(super) files: Vec<StoreFile>,
    /// The first directory that could not be read, with the cause.
    pub(super) unread: Option<(Utf8PathBuf, io::Error)>,
    /// There are more names than a search looks at.
    pub(super) is_cut: bool,
}

/// Searches `store`, the upper directories first, as long as `go_on` says so.
///
/// # Errors
/// The store itself cannot be read.
pub(super) fn search(store: &Utf8Path, wanted: &WantedFiles, go_on: impl Fn() -> bool) -> io::Result<Search> {
    let mut search = Search::default();
    let mut seen = wanted.own.clone();
    let mut names = 0;
    let mut ahead = VecDeque::from([(store.to_owned(), 0)]);
    'all: while let Some((path, depth)) = ahead.pop_front() {
        let entries = match path.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                search.unread.get_or_insert((path, error));
                continue;
            }
        };
        let mut below = Vec::new();
        // A name that is not UTF-8 is skipped.
        for entry in entries.flatten() {
            names += 1;
            search.is_cut = names > MOST_NAMES;
            if search.is_cut || !go_on() {
                break 'all;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEEPEST => {
                    below.push((entry.into_path(), depth + 1));
                }
                Ok(kind) if kind.is_file() || kind.is_symlink() => {
                    search.files.extend(candidate(&entry, kind.is_symlink(), wanted, &mut seen));
                }
                // A FIFO, a socket, a device: opening it may wait or do something.
                _ => {}
            }
        }
        // In one order on every file system: a file with two names has the first one.
        below.sort();
        ahead.extend(below);
    }
    search.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(search)
}

/// The file, if a run may use it. `seen` has those that were found before, by device and inode.
fn candidate(
    entry: &Utf8DirEntry,
    is_link: bool,
    wanted: &WantedFiles,
    seen: &mut HashSet<(u64, u64)>,
) -> Option<StoreFile> {
    let name = entry.file_name();
    if name.starts_with('.') || IN_PROGRESS.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    let path = entry.path();
    let digest = match stated_digest(name) {
        // A snapshot's name leads to a name that is a digest.
        None if is_link => path.read_link_utf8().ok().and_then(|target| stated_digest(target.file_name()?)),
        stated => stated,
    };
    if digest.is_some_and(|digest| !wanted.digests.contains(&digest)) {
        return None;
    }
    let found =
        path.metadata().ok().filter(|found| found.is_file() && wanted.sizes.contains(&found.len()))?;
    let is_new = seen.insert((found.dev(), found.ino()));
    let (device, owner) = (found.dev(), found.uid());
    is_new.then(|| StoreFile { path: path.to_owned(), size: found.len(), digest, device, owner })
}

/// The digest that a file's name states.
fn stated_digest(name: &str) -> Option<Sha256> {
    name.strip_prefix("sha256-").unwrap_or(name).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{directory, write};

    fn wanted(files: &[&[u8]]) -> WantedFiles {
        WantedFiles {
            digests: files.iter().map(|bytes| Sha256::of(bytes)).collect(),
            sizes: files.iter().map(|bytes| bytes.len() as u64).collect(),
            own: HashSet::new(),
        }
    }

    fn found(root: &Utf8Path, wanted: &WantedFiles) -> Vec<String> {
        let search = search(root, wanted, || true).unwrap();
        let below = |file: StoreFile| file.path.strip_prefix(root).unwrap().to_string();
        search.files.into_iter().map(below).collect()
    }

    #[test]
    fn names_that_state_a_digest_are_candidates_for_it_alone() {
        let (_keep, root) = directory();
        let (right, other) = (Sha256::of(b"12345"), Sha256::of(b"54321"));
        write(&root, &format!("hub/models--a--b/blobs/{right}"), b"12345");
        write(&root, &format!("hub/models--a--b/blobs/{other}"), b"54321");
        write(&root, &format!("ollama/models/blobs/sha256-{right}"), b"12345");
        write(&root, &format!("ollama/models/blobs/sha256-{other}"), b"54321");
        let expected =
            [format!("hub/models--a--b/blobs/{right}"), format!("ollama/models/blobs/sha256-{right}")];
        assert_eq!(found(&root, &wanted(&[b"12345"])), expected);
    }

    #[test]
    fn a_link_has_the_digest_of_the_name_that_it_leads_to() {
        let (_keep, root) = directory();
        let (right, other) = (Sha256::of(b"12345"), Sha256::of(b"54321"));
        for digest in [right, other] {
            let blob = write(&root, &format!("blobs/{digest}"), b"12345");
            std::fs::create_dir_all(root.join("snapshots")).unwrap();
            std::os::unix::fs::symlink(&blob, root.join(format!("snapshots/{}", &digest.to_string()[..4])))
                .unwrap();
        }
        // Once, under the blob's own name.
        assert_eq!(found(&root, &wanted(&[b"12345"])), [format!("blobs/{right}")]);
    }

    #[test]
    fn files_of_another_size_and_files_in_progress_are_none() {
        let (_keep, root) = directory();
        for name in ["a", "b.incomplete", "c.part", ".d", "e.crdownload"] {
            write(&root, name, b"12345");
        }
        write(&root, "f", b"123");
        write(&root, "deep/er/g.safetensors", b"12345");
        assert_eq!(found(&root, &wanted(&[b"12345"])), ["a", "deep/er/g.safetensors"]);
    }

    #[test]
    fn circles_fifos_and_files_of_the_run_are_none() {
        let (_keep, root) = directory();
        let own = write(&root, "a/own", b"12345");
        write(&root, "a/other", b"12345");
        std::os::unix::fs::symlink("..", root.join("a/up")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("a/loop")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.join("a/fifo")).status().unwrap().success());
        std::os::unix::fs::symlink("fifo", root.join("a/to-fifo")).unwrap();
        let own = own.metadata().unwrap();
        let wanted = WantedFiles { own: HashSet::from([(own.dev(), own.ino())]), ..wanted(&[b"12345"]) };
        assert_eq!(found(&root, &wanted), ["a/other"]);
    }

    #[test]
    fn a_stopped_run_ends_the_search() {
        let (_keep, root) = directory();
        write(&root, "a", b"12345");
        assert!(search(&root, &wanted(&[b"12345"]), || false).unwrap().files.is_empty());
    }
}
