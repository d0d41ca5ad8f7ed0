//! Reads an installed set into memory, for the program that starts next.
//!
//! The smallest files come first: if not all of them fit, most do, and a file that is larger than the memory does not
//! push out the others. Files are read whole or not at all, and nothing is verified: that would cost more than reading
//! does.
//!
//! Several threads read. `posix_fadvise(POSIX_FADV_WILLNEED)` for a whole file was measured, too: it returns at once,
//! and 0.1 % of a file of 2 GB were in memory then.

mod memory;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use tokio::sync::watch;

use provision_core::lockfile::Model;
use provision_disk::{Destination, DiskError, SourceFile};

/// The bytes that a thread reads before it takes the next ones. A large file is thus read by all threads.
const PIECE: u64 = 64 << 20;
/// The bytes of one call; a stop is noticed after each.
const BLOCK: usize = 1 << 20;
/// Threads. A network volume gives each stream a part of its rate only.
const THREADS: usize = 4;

/// The end of a warming.
#[derive(Debug, Default)]
pub struct Warmed {
    /// Files that were read.
    pub files: usize,
    /// The bytes that were read.
    pub bytes: u64,
    /// Files that do not fit, with the sum of their bytes.
    pub left_out: (usize, u64),
    /// The bytes that may be read: three quarters of the free memory. The rest is for the program that starts next.
    pub budget: u64,
    /// The files that could not be read, with the cause.
    pub failed: Vec<DiskError>,
    /// The time that it took.
    pub elapsed: Duration,
    /// It was stopped before its end.
    pub interrupted: bool,
}

/// The bytes that this machine can hold beside its running programs. `None` if it does not say.
pub fn free_memory() -> Option<u64> {
    memory::free(Utf8Path::new("/"))
}

/// A part of a file.
struct Piece<'a> {
    model: &'a Model,
    start: u64,
    end: u64,
}

/// Reads the files of `models` into memory, of which `free` bytes are free.
pub fn warm(
    destination: &Destination,
    models: &[&Model],
    free: u64,
    interrupted: &watch::Receiver<bool>,
) -> Warmed {
    let started = Instant::now();
    let mut warmed = Warmed { budget: free / 4 * 3, ..Warmed::default() };
    let pieces = chosen(models, &mut warmed);
    let (next, read) = (AtomicUsize::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let go_on = || !*interrupted.borrow();
    let work = || {
        let mut block = vec![0; BLOCK];
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| go_on()) {
            if let Err(error) = read_piece(destination, piece, &mut block, &read, go_on) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push((&piece.model.path, error));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(pieces.len()) {
            // The others do the work of a thread that the system refuses.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by(|a, b| a.0.cmp(b.0));
    // A file fails once, however many pieces it has.
    failed.dedup_by(|a, b| a.0 == b.0);
    warmed.files -= failed.len();
    warmed.failed = failed.into_iter().map(|(_, error)| error).collect();
    warmed.bytes = read.into_inner();
    warmed.interrupted = !go_on();
    warmed.elapsed = started.elapsed();
    warmed
}

/// The pieces of the files that fit, the smallest file first.
fn chosen<'a>(models: &[&'a Model], warmed: &mut Warmed) -> Vec<Piece<'a>> {
    let mut by_size = models.to_vec();
    by_size.sort_by_key(|model| model.size);
    let mut pieces = Vec::new();
    let mut left = warmed.budget;
    for model in by_size {
        let Some(rest) = left.checked_sub(model.size) else {
            warmed.left_out = (warmed.left_out.0 + 1, warmed.left_out.1.saturating_add(model.size));
            continue;
        };
        left = rest;
        warmed.files += 1;
        let starts = (0..model.size).step_by(PIECE as usize);
        pieces.extend(starts.map(|start| Piece { model, start, end: model.size.min(start + PIECE) }));
    }
    pieces
}

fn read_piece(
    destination: &Destination,
    piece: &Piece<'_>,
    block: &mut [u8],
    read: &AtomicU64,
    go_on: impl Fn() -> bool,
) -> Result<(), DiskError> {
    let path = &piece.model.path;
    let missing = || DiskError::Missing { path: destination.path_of(path) };
    let file = SourceFile::open_below_or_linked(destination, path)?.ok_or_else(missing)?;
    let mut at = piece.start;
    while at < piece.end && go_on() {
        let most = block.len().min((piece.end - at) as usize);
        match file.read_at(at, &mut block[..most])? as u64 {
            0 => break,
            n => {
                at += n;
                read.fetch_add(n, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{directory, installed};
    use provision_core::lockfile::Lockfile;

    fn set(sizes: &[usize]) -> (tempfile::TempDir, Destination, Lockfile) {
        let (directory, root) = directory();
        let file = |(n, size): (usize, &usize)| (format!("d/{n}"), vec![n as u8; *size]);
        let lock = installed(&root, &sizes.iter().enumerate().map(file).collect::<Vec<_>>());
        (directory, Destination::open(&root).unwrap().unwrap(), lock)
    }

    fn warm_all(destination: &Destination, lock: &Lockfile, free: u64) -> Warmed {
        let models: Vec<&Model> = lock.models().iter().collect();
        warm(destination, &models, free, &watch::channel(false).1)
    }

    #[test]
    fn every_byte_of_the_files_that_fit_is_read() {
        let (_keep, destination, lock) = set(&[3_000_000, 70, 2_500_000]);
        let warmed = warm_all(&destination, &lock, 1 << 30);
        assert_eq!((warmed.files, warmed.bytes, warmed.left_out), (3, 5_500_070, (0, 0)));
    }

    #[test]
    fn the_largest_files_are_left_out_if_memory_is_short() {
        let (_keep, destination, lock) = set(&[3_000_000, 70, 2_500_000, 2_000_000]);
        let warmed = warm_all(&destination, &lock, 6_100_000);
        assert_eq!(warmed.budget, 4_575_000);
        assert_eq!((warmed.files, warmed.bytes, warmed.left_out), (3, 4_500_070, (1, 3_000_000)));
        let warmed = warm_all(&destination, &lock, 0);
        assert_eq!((warmed.files, warmed.bytes, warmed.left_out.0), (0, 0, 4));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_the_others_are_read() {
        let (keep, destination, lock) = set(&[300, 70, 200]);
        std::fs::remove_file(keep.path().join("d/1")).unwrap();
        std::os::unix::fs::symlink("0", keep.path().join("d/1")).unwrap();
        std::fs::remove_file(keep.path().join("d/2")).unwrap();
        let warmed = warm_all(&destination, &lock, 1 << 30);
        assert_eq!((warmed.files, warmed.failed.len()), (2, 1));
        assert!(warmed.failed[0].reason().contains("d/2"), "{:?}", warmed.failed);
    }

    #[test]
    fn a_stop_ends_it() {
        let (_keep, destination, lock) = set(&[300]);
        let models: Vec<&Model> = lock.models().iter().collect();
        let warmed = warm(&destination, &models, 1 << 30, &watch::channel(true).1);
        assert_eq!((warmed.bytes, warmed.interrupted), (0, true));
    }

    #[test]
    fn this_machine_says_what_is_free() {
        assert!(free_memory().is_some_and(|free| free > 0));
    }
}
