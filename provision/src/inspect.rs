//! What is on disk, held against the lock: reads, never writes.
//!
//! Files are hashed on all cores, the largest first, so that the last one to end is a small one.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::digest::Sha256;
use crate::event::{Event, Observer};
use crate::lockfile::Model;
use crate::store::{Destination, Found, Stamp, StoreError};

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
pub fn hash(
    destination: &Destination,
    models: &[&Model],
    threads: usize,
    observer: &dyn Observer,
) -> Vec<Condition> {
    each(models, threads, |model| one(destination, model, observer, || true))
}

/// Calls `work` for each model, the largest first, on `threads` threads, and returns the results in order.
pub(crate) fn each<T: Send>(models: &[&Model], threads: usize, work: impl Fn(&Model) -> T + Sync) -> Vec<T> {
    let mut order: Vec<usize> = (0..models.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(models[*at].size));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(models.len()));
    let worker = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(models[*at]);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((*at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(models.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
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
