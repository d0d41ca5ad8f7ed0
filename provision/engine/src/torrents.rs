//! The pieces of installed files, for their torrents. Each file is read once: the same bytes give its SHA-256, which
//! has to be the lock's, and the SHA-1 of its pieces, so no torrent describes other bytes than the lock.
//!
//! The pieces of a whole set go on over the end of a file. Those inside a file are hashed with it. The few that two or
//! more files share are read once more at the end, from files that have not changed meanwhile.

use crate::inspect::{self, FileState, HashResult, HashTarget};
use crate::work_queue;
use provision_core::event::Silent;
use provision_core::lockfile::Model;
use provision_core::torrent::{Piece, PieceHasher, piece_length};
use provision_disk::{Destination, DiskError, SourceFile};

/// The pieces of models' files.
#[derive(Debug)]
pub struct PieceHashes {
    /// The state of each model's file, in the order of the models.
    pub states: Vec<FileState>,
    /// The pieces of each file; empty if the file is not right.
    pub files: Vec<Vec<Piece>>,
    /// The pieces of all files in a row, if they were wanted and every file is right.
    pub set: Option<Result<Vec<Piece>, DiskError>>,
}

/// Reads the files of `models` on `threads` threads, the largest first. A symlink counts as the file that it leads to.
pub fn hash_pieces(
    destination: &Destination,
    models: &[&Model],
    wants_set: bool,
    threads: usize,
) -> PieceHashes {
    let links: Vec<_> = models.iter().map(|model| destination.link_at(&model.path).ok().flatten()).collect();
    let set = Set::of(models);
    let files: Vec<_> = models.iter().zip(&links).zip(&set.starts).collect();
    let targets: Vec<_> = files
        .into_iter()
        .map(|((model, link), start)| {
            let target = HashTarget { model, link: link.as_deref() };
            (target, wants_set.then(|| PieceHasher::new(set.length, *start)))
        })
        .collect();
    let read = work_queue::each(
        &targets,
        |(target, _)| target.model.size,
        threads,
        |(target, of_set)| read(destination, target, of_set.clone()),
    );
    let is_complete = wants_set && read.iter().all(|read| read.state.is_right());
    let shared = is_complete.then(|| set.pieces(destination, &targets, &read, threads));
    let (states, files) = read.into_iter().map(|read| (read.state, read.pieces)).unzip();
    PieceHashes { states, files, set: shared }
}

/// A file that was read.
struct Read {
    state: FileState,
    pieces: Vec<Piece>,
    /// The pieces of the set that lie inside the file.
    of_set: Vec<Piece>,
}

fn read(destination: &Destination, target: &HashTarget<'_>, of_set: Option<PieceHasher>) -> Read {
    let own = PieceHasher::new(piece_length(target.model.size), 0);
    let mut hashers: Vec<PieceHasher> = [own].into_iter().chain(of_set).collect();
    let state = inspect::read(destination, target, &Silent, &mut |reading| {
        reading.hash();
        for hasher in &mut hashers {
            hasher.update(reading.block());
        }
    });
    if !state.is_right() {
        return Read { state, pieces: Vec::new(), of_set: Vec::new() };
    }
    let mut hashers = hashers.into_iter();
    Read {
        state,
        pieces: hashers.next().map(PieceHasher::finish).unwrap_or_default(),
        of_set: hashers.next().map(PieceHasher::complete).unwrap_or_default(),
    }
}

/// The files of a set in a row.
struct Set {
    /// The first byte of each file.
    starts: Vec<u64>,
    /// The bytes of all files.
    total: u64,
    /// The length of a piece.
    length: u64,
}

impl Set {
    fn of(models: &[&Model]) -> Self {
        let mut total = 0;
        let starts = models.iter().map(|model| {
            total += model.size;
            total - model.size
        });
        let starts = starts.collect();
        Self { starts, total, length: piece_length(total) }
    }

    /// The pieces of the set: those that were hashed with their files, and the others, which are read now.
    fn pieces(
        &self,
        destination: &Destination,
        targets: &[(HashTarget<'_>, Option<PieceHasher>)],
        read: &[Read],
        threads: usize,
    ) -> Result<Vec<Piece>, DiskError> {
        let mut pieces = vec![None; self.total.div_ceil(self.length) as usize];
        for (start, read) in self.starts.iter().zip(read) {
            let first = start.div_ceil(self.length) as usize;
            for (at, piece) in read.of_set.iter().enumerate() {
                pieces[first + at] = Some(*piece);
            }
        }
        let shared: Vec<usize> = (0..pieces.len()).filter(|at| pieces[*at].is_none()).collect();
        let hashed = work_queue::each(
            &shared,
            |_| self.length,
            threads,
            |at| self.shared_piece(destination, targets, read, *at as u64 * self.length),
        );
        for (at, piece) in shared.into_iter().zip(hashed) {
            pieces[at] = Some(piece?);
        }
        Ok(pieces.into_iter().flatten().collect())
    }

    /// Reads the piece that begins at `from`.
    fn shared_piece(
        &self,
        destination: &Destination,
        targets: &[(HashTarget<'_>, Option<PieceHasher>)],
        read: &[Read],
        from: u64,
    ) -> Result<Piece, DiskError> {
        let to = (from + self.length).min(self.total);
        let mut hasher = PieceHasher::new(self.length, 0);
        // The first file that ends behind `from`.
        let first = self.starts.partition_point(|start| *start <= from).saturating_sub(1);
        for (((target, _), read), start) in targets.iter().zip(read).zip(&self.starts).skip(first) {
            let end = start + target.model.size;
            if *start >= to {
                break;
            }
            let FileState::Right(known) = &read.state else { continue };
            let range = from.max(*start) - start..to.min(end) - start;
            read_again(destination, target, known, range, &mut hasher)?;
        }
        Ok(hasher.finish().first().copied().unwrap_or_default())
    }
}

/// Reads a range of a file that was verified.
fn read_again(
    destination: &Destination,
    target: &HashTarget<'_>,
    known: &HashResult,
    range: std::ops::Range<u64>,
    hasher: &mut PieceHasher,
) -> Result<(), DiskError> {
    let changed = || DiskError::Moved { path: destination.path_of(&target.model.path) };
    let is_same = |file: &SourceFile| file.stamp() == known.stamp && file.identity() == known.identity;
    let file = match inspect::open(destination, target) {
        Ok(file) if is_same(&file) => file,
        Err(FileState::Unreadable(error)) => return Err(error),
        _ => return Err(changed()),
    };
    let mut block = vec![0; (range.end - range.start) as usize];
    if file.fill(range.start, &mut block)? < block.len() {
        return Err(changed());
    }
    hasher.update(&block);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{directory, installed};
    use camino::Utf8Path;
    use provision_core::lockfile::Lockfile;

    /// Files of these sizes below a directory, their lock, and all their bytes in a row.
    fn set(root: &Utf8Path, sizes: &[usize]) -> (Lockfile, Vec<u8>) {
        let file = |(at, size): (usize, &usize)| {
            let bytes = (0..*size).map(|byte| (byte * 7 + byte / 251 + at) as u8);
            (format!("d{at:02}/x.bin"), bytes.collect::<Vec<u8>>())
        };
        let files: Vec<_> = sizes.iter().enumerate().map(file).collect();
        (installed(root, &files), files.into_iter().flat_map(|(_, bytes)| bytes).collect())
    }

    fn hashed(root: &Utf8Path, lock: &Lockfile) -> PieceHashes {
        let destination = Destination::open(root).unwrap().unwrap();
        let models: Vec<_> = lock.models().iter().collect();
        hash_pieces(&destination, &models, true, 2)
    }

    fn expected(bytes: &[u8]) -> Vec<Piece> {
        let mut hasher = PieceHasher::new(piece_length(bytes.len() as u64), 0);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn a_set_has_the_pieces_of_all_its_bytes_in_a_row() {
        let piece = 256 << 10;
        for sizes in [
            &[3 * piece + 5, 2 * piece, 7, 0, piece - 12, piece, 1][..],
            &[1, 2, 3, 0],
            &[piece, piece],
            &[0, piece + 1],
            &[0],
        ] {
            let (_keep, root) = directory();
            let (lock, all) = set(&root, sizes);
            let hashes = hashed(&root, &lock);
            assert_eq!(hashes.set.unwrap().unwrap(), expected(&all), "{sizes:?}");
            let mut from = 0;
            for (pieces, size) in hashes.files.iter().zip(sizes) {
                assert_eq!(*pieces, expected(&all[from..from + size]), "{sizes:?}");
                from += size;
            }
        }
    }

    #[test]
    fn a_wrong_file_has_no_pieces_and_its_set_none() {
        let (_keep, root) = directory();
        let (lock, _) = set(&root, &[5, 6, 7]);
        std::fs::write(root.join("d01/x.bin"), b"other!").unwrap();
        std::fs::remove_file(root.join("d02/x.bin")).unwrap();
        let hashes = hashed(&root, &lock);
        assert!(hashes.set.is_none());
        assert!(matches!(
            hashes.states[..],
            [FileState::Right(_), FileState::WrongDigest { .. }, FileState::Missing]
        ));
        assert_eq!(hashes.files.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
    }
}
