//! A part that is not open in this process: the bytes that a run could resume from, and the part's removal.

use super::journal_file::MAX_JOURNAL_BYTES;
use super::names::{FileNames, PartNames};
use super::part_file::PartFile;
use super::resume::{claimed_pieces, lock_existing, verify_journal};
use crate::destination::Destination;
use crate::directory::Found;
use crate::error::DiskError;
use crate::source_file::{SourceFile, Unreadable};
use crate::threads::processors;
use provision_core::journal;
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;

impl PartFile {
    /// The number of bytes that a run with this list could resume from, verified by reading. Changes nothing, for a dry
    /// run. Zero if there is no part.
    pub fn resumable_bytes(
        destination: &Destination,
        model: &Model,
        list: Option<&PieceList>,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<u64, DiskError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(0) };
        let names = FileNames::new(model, &PartNames::Shared);
        let part = match SourceFile::in_directory(&directory, &names.part) {
            Ok(Some(part)) => part,
            // A run replaces anything but a file.
            Ok(None) | Err(DiskError::NotAFile { .. }) => return Ok(0),
            Err(error) => return Err(error),
        };
        if let Some(list) = list {
            let claimed = claimed_pieces(&part.file, list)
                .map_err(DiskError::at("reading its extents", part.path()))?;
            let pieces: Vec<usize> = claimed.iter().flat_map(|range| list.touching(range)).collect();
            let threads = (processors(), Unreadable::IsWrong);
            let wrong = part.wrong_of(&pieces, list, threads, &mut || Ok(keep_going()))?;
            return Ok(claimed.len() - wrong.len());
        }
        match verify_journal(&part.file, &directory, &names, model, keep_going) {
            Err(DiskError::NotAFile { .. }) => Ok(0),
            verified => Ok(verified?.written.len()),
        }
    }

    /// The number of bytes of `model` that its part may have, unverified. With a list, these are the bytes of the
    /// pieces on the disk; without one, those that the journal lists.
    pub fn claimed_bytes(
        destination: &Destination,
        model: &Model,
        list: Option<&PieceList>,
    ) -> Result<u64, DiskError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(0) };
        let names = FileNames::new(model, &PartNames::Shared);
        if let Some(list) = list {
            return match directory.open_file(&names.part) {
                Ok(Some((file, _))) => claimed_pieces(&file, list)
                    .map(|claimed| claimed.len())
                    .map_err(DiskError::at("reading its extents", &directory.path().join(&names.part))),
                Ok(None) | Err(DiskError::NotAFile { .. }) => Ok(0),
                Err(error) => Err(error),
            };
        }
        if !matches!(directory.find(&names.part)?, Found::File(_)) {
            return Ok(0);
        }
        let bytes = match directory.read_small(&names.journal, journal::MAX_BYTES) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(DiskError::NotAFile { .. }) => return Ok(0),
            Err(error) => return Err(error),
        };
        Ok(journal::parse(&bytes, &model.sha256, model.size).iter().map(|record| record.range.len()).sum())
    }

    /// An upper limit for the journal's size while `rest` bytes are downloaded. The journal gets a line for each
    /// connection at each interval; a file that is downloaded by one request gets none.
    pub fn max_journal_bytes(size: u64, rest: u64) -> u64 {
        if size > provision_core::schedule::MIN_CLAIM { (rest / 256).min(MAX_JOURNAL_BYTES) } else { 0 }
    }

    /// Removes the part of `model` with its journal, if there is one and no process works on it.
    ///
    /// # Errors
    /// [`DiskError::PartBusy`] if a process does, such as a run whose destination lies above or below this one.
    pub fn discard(destination: &Destination, model: &Model) -> Result<(), DiskError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(()) };
        let names = FileNames::new(model, &PartNames::Shared);
        let _lock = lock_existing(&directory, &names.part)?;
        directory.remove(&names.temporary)?;
        directory.remove(&names.journal)?;
        directory.remove(&names.part)?;
        Ok(())
    }
}
