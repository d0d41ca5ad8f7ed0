//! The verified part: a type, not a flag (I5). [`PartFile::verify`] is the only code that creates one: by the digest of
//! the whole file, or by that of each piece of the list that the lock pins.

use std::sync::{Arc, PoisonError};

use super::part_file::PartFile;
use super::part_file::State;
use crate::error::DiskError;
use provision_core::piece_list::VerifiedBy;

/// A part whose bytes have the digest that the lock lists, or the digests of the list that the lock pins.
#[derive(Debug)]
pub struct Verified {
    part: Arc<PartFile>,
    verified_by: VerifiedBy,
}

impl Verified {
    pub(crate) fn part(&self) -> &PartFile {
        &self.part
    }

    pub(crate) fn verified_by(&self) -> VerifiedBy {
        self.verified_by
    }
}

impl PartFile {
    /// Verifies the whole file: every byte is written, and the digest is the one that the lock lists. With a list, each
    /// piece has its digest; the file's own is not computed. Seals the part: no thread can write to it afterwards.
    ///
    /// # Errors
    /// [`DiskError::Mismatch`] if the digest differs; the bytes stay until [`PartFile::reset`] or
    /// [`PartFile::remove`]. [`DiskError::WrongPieces`] if pieces differ; they stay until [`PartFile::drop_wrong`].
    /// The error of an earlier failed sync; the part is gone then.
    pub fn verify(self: Arc<Self>) -> Result<Verified, DiskError> {
        self.verify_while(|| true)
    }

    /// As [`Self::verify`]. Before each block that is still to be hashed, `keep_going` says whether to go on.
    ///
    /// # Errors
    /// [`DiskError::Interrupted`] if not; the part can still be written and verified.
    pub fn verify_while(
        self: Arc<Self>,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Verified, DiskError> {
        self.hash_ready_while(&mut keep_going)?;
        // Waits for writes in progress. Later writes fail.
        let mut sealed = self.sealed.write().unwrap_or_else(PoisonError::into_inner);
        // Waits for a checkpoint in progress. A later one would write a journal for an installed file.
        let syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sync_error()?;
        self.check_lease()?;
        let mut state = self.state_when_idle();
        while state.pieces.ready() > 0 {
            // Another thread puts a hasher back after each block, so the last bytes may be missing from it.
            drop(state);
            self.hash_ready_while(&mut keep_going)?;
            state = self.state_when_idle();
        }
        let verified_by = self.judge(&state)?;
        state.sealed = true;
        *sealed = true;
        drop(state);
        drop((journal, syncing, sealed));
        Ok(Verified { part: self, verified_by })
    }

    /// Decides about a part whose bytes are hashed.
    fn judge(&self, state: &State) -> Result<VerifiedBy, DiskError> {
        let path = || self.final_path();
        if self.has_list() {
            if state.pieces.are_verified() {
                return Ok(VerifiedBy::Pieces);
            }
            return Err(DiskError::WrongPieces { path: path(), ranges: state.pieces.lacking() });
        }
        let (_, size, expected) = self.model();
        let (found, hashed) = state.pieces.whole();
        debug_assert_eq!(hashed, size, "verified before it was complete");
        if hashed == size && found == expected {
            return Ok(VerifiedBy::Digest);
        }
        Err(DiskError::Mismatch { path: path(), expected, found })
    }
}
