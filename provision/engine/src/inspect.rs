//! What is on disk, held against the lock: reads, never writes.

use camino::Utf8Path;

use crate::marker::Marker;
use crate::workers::{self, Queue};
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_disk::{Destination, FileId, Found, HashedRead, SourceFile, Stamp, StoreError};

/// What a file is like.
#[derive(Debug)]
pub enum Condition {
    /// Its bytes are those that the lock names.
    Right(Seen),
    /// There is none.
    Missing,
    /// It has another length, in bytes; it was not read.
    WrongSize {
        /// Its length.
        found: u64,
    },
    /// It has the right length and another digest.
    WrongDigest {
        /// Its digest.
        found: Sha256,
    },
    /// It is something else ("a symlink").
    NotAFile(&'static str),
    /// It cannot be read.
    Unreadable(StoreError),
}

/// A file as it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its size and mtime.
    pub stamp: Stamp,
    /// Which file it was; the one at the end, where it was a symlink.
    pub identity: FileId,
}

impl Condition {
    /// Whether the file is right.
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right(_))
    }
}

/// A file that is to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it should be.
    pub model: &'a Model,
    /// Where it should lead, if it is known as a symlink.
    pub link: Option<&'a Utf8Path>,
}

/// Hashes every one of `models` that has its length, on `threads` threads. The conditions come in the same order.
/// Symlinks count where the marker knows them.
pub fn hash(
    destination: &Destination,
    marker: &Marker,
    models: &[&Model],
    threads: usize,
    observer: &dyn Observer,
) -> Vec<Condition> {
    let subject = |model: &&'_ Model| marker.link(&model.path);
    let links: Vec<_> = models.iter().map(subject).collect();
    let subjects: Vec<_> = models.iter().zip(links).map(|(model, link)| Subject { model, link }).collect();
    conditions(destination, &subjects, threads, observer, || true, |_, _| Ok(()))
}

/// Looks at each of `subjects`, and hashes those that have their length: on `threads` threads, two files side by side in
/// each, the largest first. `go_on` is asked before each block, and `settle` is told of each file that is right while it
/// is open.
pub(crate) fn conditions(
    destination: &Destination,
    subjects: &[Subject<'_>],
    threads: usize,
    observer: &dyn Observer,
    go_on: impl Fn() -> bool + Sync,
    settle: impl Fn(&Subject<'_>, &SourceFile) -> Result<(), StoreError> + Sync,
) -> Vec<Condition> {
    workers::each_in_pairs(
        subjects,
        |subject| subject.model.size,
        threads,
        |queue| hash_in_pairs(destination, queue, observer, &go_on, &settle),
    )
}

/// A file of the queue that is being hashed.
struct Lane {
    at: usize,
    reading: HashedRead<SourceFile>,
}

/// Takes files off the queue until it is empty, and keeps two of them going.
fn hash_in_pairs(
    destination: &Destination,
    queue: &Queue<'_, Subject<'_>, Condition>,
    observer: &dyn Observer,
    go_on: &impl Fn() -> bool,
    settle: &impl Fn(&Subject<'_>, &SourceFile) -> Result<(), StoreError>,
) {
    let next = || {
        while let Some((at, subject)) = queue.take() {
            match open(destination, subject) {
                Ok(original) => {
                    let (path, size) = (subject.model.path.clone(), subject.model.size);
                    observer.observe(&Event::Checking { path, size });
                    return Some(Lane { at, reading: HashedRead::new(original) });
                }
                Err(condition) => queue.done(at, condition),
            }
        }
        None
    };
    // Reads the lane's next block, or that of the file after it.
    let advance = |mut lane: Option<Lane>| {
        while let Some(mut open) = lane.take() {
            match open.reading.read(&mut || go_on()) {
                Ok(true) => return Some(open),
                Ok(false) => queue.done(open.at, judge(queue.item(open.at), open.reading, settle)),
                Err(error) => queue.done(open.at, Condition::Unreadable(error)),
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

/// The file that is to be hashed, or what can be said without.
fn open(destination: &Destination, subject: &Subject<'_>) -> Result<SourceFile, Condition> {
    let Subject { model, link } = subject;
    let unreadable = Condition::Unreadable;
    if let Some(target) = link
        && let Some((stamp, _)) = destination.find_linked(&model.path, target).map_err(unreadable)?
    {
        if stamp.size != model.size {
            return Err(Condition::WrongSize { found: stamp.size });
        }
        return SourceFile::open(target).map_err(unreadable)?.ok_or(Condition::Missing);
    }
    match destination.find(&model.path).map_err(unreadable)? {
        Found::Nothing => Err(Condition::Missing),
        Found::Symlink => Err(Condition::NotAFile("a symlink")),
        Found::Other(what) => Err(Condition::NotAFile(what)),
        Found::File(stamp) if stamp.size != model.size => Err(Condition::WrongSize { found: stamp.size }),
        Found::File(_) => {
            SourceFile::open_below(destination, &model.path).map_err(unreadable)?.ok_or(Condition::Missing)
        }
    }
}

fn judge(
    subject: &Subject<'_>,
    reading: HashedRead<SourceFile>,
    settle: impl Fn(&Subject<'_>, &SourceFile) -> Result<(), StoreError>,
) -> Condition {
    let model = subject.model;
    match reading.finish() {
        (file, stamp, found) if found == model.sha256 => match settle(subject, &file) {
            Ok(()) => Condition::Right(Seen { stamp, identity: file.identity() }),
            Err(error) => Condition::Unreadable(error),
        },
        // It has grown or shrunk since it was looked at.
        (_, stamp, _) if stamp.size != model.size => Condition::WrongSize { found: stamp.size },
        (_, _, found) => Condition::WrongDigest { found },
    }
}
