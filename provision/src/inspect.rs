//! What is on disk, held against the lock: reads, never writes.

use camino::Utf8Path;

use crate::digest::Sha256;
use crate::event::{Event, Observer};
use crate::lockfile::Model;
use crate::marker::Marker;
use crate::store::{Destination, Found, Original, Stamp, StoreError};
use crate::workers;

/// What a file is like.
#[derive(Debug)]
pub enum Condition {
    /// Its bytes are those that the lock names.
    Right(Stamp),
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

impl Condition {
    /// Whether the file is right.
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right(_))
    }
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
    workers::each(
        models,
        |model| model.size,
        threads,
        |model| match marker.link(&model.path) {
            Some(target) => linked(destination, model, target, observer, || true),
            None => one(destination, model, observer, || true),
        },
    )
}

/// Looks at one file, and hashes it if it has its length. `go_on` is asked before each block.
pub(crate) fn one(
    destination: &Destination,
    model: &Model,
    observer: &dyn Observer,
    go_on: impl FnMut() -> bool,
) -> Condition {
    match destination.find(&model.path) {
        Err(error) => Condition::Unreadable(error),
        Ok(Found::Nothing) => Condition::Missing,
        Ok(Found::Symlink) => Condition::NotAFile("a symlink"),
        Ok(Found::Other(what)) => Condition::NotAFile(what),
        Ok(Found::File(stamp)) if stamp.size != model.size => Condition::WrongSize { found: stamp.size },
        Ok(Found::File(_)) => {
            observer.observe(&Event::Checking { path: model.path.clone(), size: model.size });
            match destination.digest(&model.path, go_on) {
                Err(error) => Condition::Unreadable(error),
                Ok(None) => Condition::Missing,
                Ok(Some((stamp, found))) if found == model.sha256 => Condition::Right(stamp),
                Ok(Some((stamp, _))) if stamp.size != model.size => {
                    Condition::WrongSize { found: stamp.size }
                }
                Ok(Some((_, found))) => Condition::WrongDigest { found },
            }
        }
    }
}

/// As [`one`], for a model that should be a symlink to `target`.
pub(crate) fn linked(
    destination: &Destination,
    model: &Model,
    target: &Utf8Path,
    observer: &dyn Observer,
    go_on: impl FnMut() -> bool,
) -> Condition {
    match destination.find_linked(&model.path, target) {
        Err(error) => Condition::Unreadable(error),
        // Not a symlink, or not that one.
        Ok(None) => one(destination, model, observer, go_on),
        Ok(Some(stamp)) if stamp.size != model.size => Condition::WrongSize { found: stamp.size },
        Ok(Some(_)) => {
            observer.observe(&Event::Checking { path: model.path.clone(), size: model.size });
            let original = match Original::open(target) {
                Err(error) => return Condition::Unreadable(error),
                Ok(None) => return Condition::Missing,
                Ok(Some(original)) => original,
            };
            match original.prove(model.sha256, go_on) {
                Ok(()) => Condition::Right(original.stamp()),
                Err(StoreError::Mismatch { found, .. }) => Condition::WrongDigest { found },
                Err(error) => Condition::Unreadable(error),
            }
        }
    }
}
