//! Comparison of a directory with the lock, by hashing. It only reads, except for [`distrust`].

use camino::Utf8Path;

use crate::marker::Marker;
use crate::workers::{self, Queue};
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_disk::{Destination, FileId, Found, HashedRead, SourceFile, Stamp, StoreError};

/// A symlink that leads to no file.
const SYMLINK: &str = "a symlink";

/// The state of a file on disk, compared with the lock.
#[derive(Debug)]
pub enum FileState {
    /// Its bytes have the lock's digest.
    Right(HashResult),
    /// There is no such file.
    Missing,
    /// It has another length; it was not read.
    WrongSize {
        /// Its length in bytes.
        found: u64,
    },
    /// It has the right length and another digest.
    WrongDigest {
        /// Its digest.
        found: Sha256,
        /// Its inode; for a symlink, the inode of the linked file.
        identity: FileId,
    },
    /// It is not a regular file; the text says what it is, such as "a symlink".
    NotAFile(&'static str),
    /// It cannot be read.
    Unreadable(StoreError),
}

/// The identity of a file that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashResult {
    /// Its size and mtime.
    pub stamp: Stamp,
    /// Its inode; for a symlink, the inode of the linked file.
    pub identity: FileId,
}

impl FileState {
    /// True if the file has the lock's bytes.
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right(_))
    }

    /// True if a fetch puts the right file in its place without further help.
    pub fn is_mended_by_fetch(&self) -> bool {
        match self {
            Self::Missing | Self::WrongSize { .. } | Self::WrongDigest { .. } => true,
            Self::NotAFile(what) => *what == SYMLINK,
            Self::Right(_) | Self::Unreadable(_) => false,
        }
    }
}

/// A file to hash.
#[derive(Debug, Clone, Copy)]
pub struct HashTarget<'a> {
    /// The model that it should be.
    pub model: &'a Model,
    /// The expected target, if the file is a known symlink.
    pub link: Option<&'a Utf8Path>,
}

/// Hashes the files of `models` that have the right length, on `threads` threads. Returns the states in the same order.
/// A symlink counts as the file that it leads to.
pub fn hash(
    destination: &Destination,
    models: &[&Model],
    threads: usize,
    observer: &dyn Observer,
) -> Vec<FileState> {
    let links: Vec<_> = models.iter().map(|model| destination.link_at(&model.path).ok().flatten()).collect();
    let target = |(model, link)| HashTarget { model, link: Option::as_deref(link) };
    let targets: Vec<_> = models.iter().copied().zip(&links).map(target).collect();
    states(destination, &targets, threads, observer, || true, |_, _| Ok(()))
}

/// Makes the next run hash the files of `models` that `states` shows as wrong: whatever marker lists them, in this directory
/// or in another one that leads to the same files.
///
/// A marker compares the modification time, so a wrong file gets a new one. That needs no lock: the time is set on the file
/// that was hashed, whatever has its name by now. The target of a symlink belongs to a baked directory and stays untouched. For
/// it, and where the time cannot be set, the markers in the root that list the file are removed.
///
/// # Errors
/// A marker of this directory goes on vouching for a wrong file.
pub fn distrust(
    destination: &Destination,
    models: &[&Model],
    states: &[FileState],
) -> Result<(), StoreError> {
    let mut vouched = Vec::new();
    for (model, state) in models.iter().zip(states) {
        let FileState::WrongDigest { identity, .. } = state else { continue };
        let is_link = destination.find(&model.path)? == Found::Symlink;
        if is_link || !destination.touch(&model.path, *identity).unwrap_or(false) {
            vouched.push(&model.path);
        }
    }
    if vouched.is_empty() { Ok(()) } else { Marker::remove_those_of(destination, &vouched) }
}

/// Hashes the files of `targets` that have the right length, the largest first. Each of the `threads` threads hashes
/// two files side by side. `go_on` is called before each block; false stops the file. `on_right` is called for each
/// right file while the file is open; its error becomes the file's state.
pub(crate) fn states(
    destination: &Destination,
    targets: &[HashTarget<'_>],
    threads: usize,
    observer: &dyn Observer,
    go_on: impl Fn() -> bool + Sync,
    on_right: impl Fn(&HashTarget<'_>, &SourceFile) -> Result<(), StoreError> + Sync,
) -> Vec<FileState> {
    workers::each_in_pairs(
        targets,
        |target| target.model.size,
        threads,
        |queue| hash_in_pairs(destination, queue, observer, &go_on, &on_right),
    )
}

/// A file of the queue that is being hashed.
struct Lane {
    at: usize,
    reading: HashedRead<SourceFile>,
}

/// Takes files off the queue until it is empty, and hashes two at a time.
fn hash_in_pairs(
    destination: &Destination,
    queue: &Queue<'_, HashTarget<'_>, FileState>,
    observer: &dyn Observer,
    go_on: &impl Fn() -> bool,
    on_right: &impl Fn(&HashTarget<'_>, &SourceFile) -> Result<(), StoreError>,
) {
    let next = || {
        while let Some((at, target)) = queue.take() {
            match open(destination, target) {
                Ok(original) => {
                    let (path, size) = (target.model.path.clone(), target.model.size);
                    observer.observe(&Event::Checking { path, size });
                    return Some(Lane { at, reading: HashedRead::new(original) });
                }
                Err(state) => queue.done(at, state),
            }
        }
        None
    };
    // Reads the lane's next block, or the first block of the next file.
    let advance = |mut lane: Option<Lane>| {
        while let Some(mut open) = lane.take() {
            match open.reading.read(&mut || go_on()) {
                Ok(true) => return Some(open),
                Ok(false) => queue.done(open.at, compare(queue.item(open.at), open.reading, on_right)),
                Err(error) => queue.done(open.at, FileState::Unreadable(error)),
            }
            lane = next();
        }
        None
    };
    let (mut a, mut b) = (next(), next());
    loop {
        (a, b) = (advance(a), advance(b));
        match (&mut a, &mut b) {
            (Some(a), Some(b)) => HashedRead::hash_two([&mut a.reading, &mut b.reading]),
            (Some(one), None) | (None, Some(one)) => one.reading.hash(),
            (None, None) => return,
        }
    }
}

/// Opens the file to hash, or returns its state if that is known without hashing.
pub(crate) fn open(destination: &Destination, target: &HashTarget<'_>) -> Result<SourceFile, FileState> {
    let HashTarget { model, link } = target;
    let unreadable = FileState::Unreadable;
    if let Some(target) = link
        && let Some((stamp, _)) = destination.find_linked(&model.path, target).map_err(unreadable)?
    {
        if stamp.size != model.size {
            return Err(FileState::WrongSize { found: stamp.size });
        }
        return SourceFile::open_linked(destination, &model.path)
            .map_err(unreadable)?
            .ok_or(FileState::Missing);
    }
    match destination.find(&model.path).map_err(unreadable)? {
        Found::Nothing => Err(FileState::Missing),
        Found::Symlink => Err(FileState::NotAFile(SYMLINK)),
        Found::Other(what) => Err(FileState::NotAFile(what)),
        Found::File(stamp) if stamp.size != model.size => Err(FileState::WrongSize { found: stamp.size }),
        Found::File(_) => {
            SourceFile::open_below(destination, &model.path).map_err(unreadable)?.ok_or(FileState::Missing)
        }
    }
}

/// The state of a file that was read to its end.
pub(crate) fn compare(
    target: &HashTarget<'_>,
    reading: HashedRead<SourceFile>,
    on_right: impl Fn(&HashTarget<'_>, &SourceFile) -> Result<(), StoreError>,
) -> FileState {
    let model = target.model;
    match reading.finish() {
        (file, stamp, found) if found == model.sha256 => match on_right(target, &file) {
            Ok(()) => FileState::Right(HashResult { stamp, identity: file.identity() }),
            Err(error) => FileState::Unreadable(error),
        },
        // Its length has changed since it was opened.
        (_, stamp, _) if stamp.size != model.size => FileState::WrongSize { found: stamp.size },
        (file, _, found) => FileState::WrongDigest { found, identity: file.identity() },
    }
}
