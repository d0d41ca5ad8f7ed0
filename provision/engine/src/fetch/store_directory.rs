//! A store that is a directory of this machine, during a run: its files are copied, and a wrong one excludes it from
//! the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use camino::Utf8PathBuf;

use crate::transfer::{Attempt, SourceError};
use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;
use provision_core::source_url::SourceUrl;
use provision_core::store_address::StoreAddress;
use provision_disk::{DiskError, SourceFile};

/// A store that is a directory: it has each file under its digest.
pub(super) struct StoreDirectory {
    directory: Utf8PathBuf,
    /// It had wrong bytes, or could not be read. Said once; the run goes on without it.
    is_out: AtomicBool,
    /// The digests of the models for which it had other bytes, and of these: of the file, or of a piece.
    wrong: Mutex<Vec<(Sha256, WrongBytes)>>,
}

/// The piece that has other bytes, if its list tells, the digest that it should have, and that of its bytes.
type WrongBytes = (Option<ByteRange>, Sha256, Sha256);

impl StoreDirectory {
    /// The store at an address; `None` if that is no directory.
    pub(super) fn of(address: &StoreAddress) -> Option<Self> {
        let StoreAddress::Directory(directory) = address else { return None };
        Some(Self { directory: directory.clone(), is_out: AtomicBool::new(false), wrong: Mutex::default() })
    }

    /// Its file for a model.
    pub(super) fn path_of(&self, model: &Model) -> Utf8PathBuf {
        self.path_of_digest(&model.sha256)
    }

    /// Its file with this digest.
    pub(super) fn path_of_digest(&self, sha256: &Sha256) -> Utf8PathBuf {
        self.directory.join(sha256.to_string())
    }

    /// True once the store was left out.
    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    /// Its `file` in a model's place is wrong, by the digest or by the list.
    pub(super) fn has_wrong(
        &self,
        model: &Model,
        list: Option<&PieceList>,
        file: &SourceFile,
        error: &DiskError,
    ) {
        let bytes = match error {
            DiskError::Mismatch { expected, found, .. } => Some((None, *expected, *found)),
            DiskError::WrongPieces { ranges, .. } => list.and_then(|list| wrong_piece(list, ranges, file)),
            _ => None,
        };
        if let Some(bytes) = bytes {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push((model.sha256, bytes));
        }
    }

    /// The failure of this source for a model for which it had other bytes.
    pub(super) fn failure(&self, model: &Model) -> Option<Attempt> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, (piece, expected, found)) = *wrong.iter().find(|(sha256, _)| *sha256 == model.sha256)?;
        let source = SourceUrl::of_file(&self.path_of(model))?;
        let error = match piece {
            Some(range) => SourceError::WrongPiece { range, expected, found, sniffed: None, agreed: false },
            None => SourceError::WrongDigest { expected, found, sniffed: None },
        };
        Some(Attempt { source, error })
    }

    /// Leaves the store out for the rest of the run.
    pub(super) fn leave_out(&self, path: &Utf8PathBuf, reason: &str, observer: &dyn Observer) {
        if !self.is_out.swap(true, Ordering::Relaxed) {
            let (directory, reason) = (&self.directory, without_path(path, reason));
            let message = format!("the store file://{directory} is not used any more: {path}: {reason}");
            observer.observe(&Event::Warning { message });
        }
    }
}

/// The first wrong piece of a file.
fn wrong_piece(list: &PieceList, wrong: &[ByteRange], file: &SourceFile) -> Option<WrongBytes> {
    let piece = &list.pieces()[list.touching(*wrong.first()?).next()?];
    let mut bytes = vec![0; piece.range.len() as usize];
    let filled = file.fill(piece.range.start, &mut bytes).ok()?;
    Some((Some(piece.range), piece.sha256, Sha256::of(&bytes[..filled])))
}

/// A reason without the path at its beginning.
pub(super) fn without_path<'r>(path: &Utf8PathBuf, reason: &'r str) -> &'r str {
    reason.strip_prefix(path.as_str()).map_or(reason, |rest| rest.trim_start_matches([':', ' ']))
}
