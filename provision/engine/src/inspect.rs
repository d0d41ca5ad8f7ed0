//! Comparison of a directory with the lock, by hashing. It only reads, except for [`distrust`].

mod piecewise;

use std::sync::Arc;

use camino::Utf8Path;

use crate::marker::Marker;
use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_core::piece_list::{PieceList, VerifiedBy};
use provision_disk::{Destination, DiskError, FileId, Found, HashedRead, SourceFile, Stamp};

/// A symlink that leads to no file.
const SYMLINK: &str = "a symlink";

/// The state of a file on disk, compared with the lock.
#[derive(Debug)]
pub enum FileState {
    /// Its bytes are the lock's.
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
    /// It has the right length, and some of its pieces are wrong. The other ones are right by the list that the lock
    /// pins.
    WrongPieces {
        /// The wrong bytes: ascending ranges that do not touch.
        wrong: Vec<ByteRange>,
        /// Its inode; for a symlink, the inode of the linked file.
        identity: FileId,
    },
    /// Its list and the lock's digest disagree: one says that the file is right, and the other one that it is wrong.
    WrongList {
        /// Its digest.
        found: Sha256,
        /// The bytes that are wrong by the list.
        wrong: Vec<ByteRange>,
    },
    /// It is not a regular file; the text says what it is, such as "a symlink".
    NotAFile(&'static str),
    /// It cannot be read.
    Unreadable(DiskError),
}

/// The identity of a file that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashResult {
    /// Its size and mtime.
    pub stamp: Stamp,
    /// Its inode; for a symlink, the inode of the linked file.
    pub identity: FileId,
    /// The evidence that it is right.
    pub verified_by: VerifiedBy,
}

impl FileState {
    /// True if the file has the lock's bytes.
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right(_))
    }

    /// True if a fetch puts the right file in its place without further help.
    pub fn is_mended_by_fetch(&self) -> bool {
        match self {
            Self::Missing | Self::WrongSize { .. } | Self::WrongDigest { .. } | Self::WrongPieces { .. } => {
                true
            }
            Self::NotAFile(what) => *what == SYMLINK,
            Self::Right(_) | Self::WrongList { .. } | Self::Unreadable(_) => false,
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

/// The lookup of a model's piece list. It returns only a list that the lock pins and that is for the model's size and
/// digest.
pub type Lists<'a> = &'a (dyn Fn(&Model) -> Option<Arc<PieceList>> + Sync);

/// Hashes the files of `models` that have the right length, on `threads` threads. Returns the states in the same order.
/// A symlink counts as the file that it leads to. A file with a list is verified by its pieces; with `is_full`, its
/// whole digest is computed as well.
pub fn hash(
    destination: &Destination,
    models: &[&Model],
    threads: usize,
    lists: Lists<'_>,
    is_full: bool,
    observer: &dyn Observer,
) -> Vec<FileState> {
    let links: Vec<_> = models.iter().map(|model| destination.link_at(&model.path).ok().flatten()).collect();
    let target = |(model, link)| HashTarget { model, link: Option::as_deref(link) };
    let targets: Vec<_> = models.iter().copied().zip(&links).map(target).collect();
    let inspection = Inspection { destination, lists, is_full, threads, observer };
    inspection.states(&targets, &|| true, &|_, _| Ok(()))
}

/// Makes the next run hash the files of `models` that `states` shows as wrong. That holds for every marker that lists
/// them, in this directory or in another one that leads to the same files.
///
/// A marker compares the modification time, so a wrong file gets a new one. That needs no lock: the time is set on the
/// file that was hashed, whatever has its name by now. The target of a symlink belongs to a baked directory and stays
/// untouched. For it, and where the time cannot be set, the markers in the root that list the file are removed.
///
/// # Errors
/// A marker of this directory goes on vouching for a wrong file.
pub fn distrust(destination: &Destination, models: &[&Model], states: &[FileState]) -> Result<(), DiskError> {
    let mut vouched = Vec::new();
    for (model, state) in models.iter().zip(states) {
        let (FileState::WrongDigest { identity, .. } | FileState::WrongPieces { identity, .. }) = state
        else {
            continue;
        };
        let is_link = destination.find(&model.path)? == Found::Symlink;
        if is_link || !destination.touch(&model.path, *identity).unwrap_or(false) {
            vouched.push(&model.path);
        }
    }
    if vouched.is_empty() { Ok(()) } else { Marker::remove_those_of(destination, &vouched) }
}

/// The settings of a comparison.
#[derive(Clone, Copy)]
pub(crate) struct Inspection<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) lists: Lists<'a>,
    /// The digest of the whole file is computed also for files that have a list.
    pub(crate) is_full: bool,
    pub(crate) threads: usize,
    pub(crate) observer: &'a dyn Observer,
}

impl Inspection<'_> {
    /// Hashes the files of `targets` that have the right length, the largest first. Each of the threads hashes two
    /// files, or two runs of pieces, side by side. `go_on` is called before each block; false stops the file.
    /// `on_right` is called for each right file while the file is open; its error becomes the file's state.
    pub(crate) fn states(
        &self,
        targets: &[HashTarget<'_>],
        go_on: &(dyn Fn() -> bool + Sync),
        on_right: &(dyn Fn(&HashTarget<'_>, &SourceFile) -> Result<(), DiskError> + Sync),
    ) -> Vec<FileState> {
        piecewise::compare(self, targets, piecewise::Hooks { go_on, on_right })
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

/// Reads a file to its end. `hash` hashes each block.
pub(crate) fn read(
    destination: &Destination,
    target: &HashTarget<'_>,
    observer: &dyn Observer,
    hash: &mut dyn FnMut(&mut HashedRead<SourceFile>),
) -> FileState {
    let mut reading = match open(destination, target) {
        Ok(file) => HashedRead::new(file),
        Err(state) => return state,
    };
    observer.observe(&Event::Checking { path: target.model.path.clone(), size: target.model.size });
    loop {
        match reading.read(&mut || true) {
            Ok(true) => hash(&mut reading),
            Ok(false) => return compare(target, reading, |_, _| Ok(())),
            Err(error) => return FileState::Unreadable(error),
        }
    }
}

/// The state of a file that was read to its end.
pub(crate) fn compare(
    target: &HashTarget<'_>,
    reading: HashedRead<SourceFile>,
    on_right: impl Fn(&HashTarget<'_>, &SourceFile) -> Result<(), DiskError>,
) -> FileState {
    let model = target.model;
    match reading.finish() {
        (file, stamp, found) if found == model.sha256 => match on_right(target, &file) {
            Ok(()) => FileState::Right(HashResult {
                stamp,
                identity: file.identity(),
                verified_by: VerifiedBy::Digest,
            }),
            Err(error) => FileState::Unreadable(error),
        },
        // Its length has changed since it was opened.
        (_, stamp, _) if stamp.size != model.size => FileState::WrongSize { found: stamp.size },
        (file, _, found) => FileState::WrongDigest { found, identity: file.identity() },
    }
}
