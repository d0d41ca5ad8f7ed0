//! The verified part: a type, not a flag (I5). [`PartFile::verify`] is the only code that creates one.

use std::sync::{Arc, PoisonError};

use super::part_file::PartFile;
use crate::error::StoreError;

/// A part whose bytes have the digest that the lock lists.
#[derive(Debug)]
pub struct Verified {
    part: Arc<PartFile>,
}

impl Verified {
    pub(crate) fn part(&self) -> &PartFile {
        &self.part
    }
}

impl PartFile {
    /// Verifies the whole file: every byte is written, and the digest is the one that the lock lists. Seals the part:
    /// no thread can write to it afterwards.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the digest differs; the bytes stay until [`PartFile::reset`] or
    /// [`PartFile::remove`]. The error of an earlier failed sync; the part is gone then.
    pub fn verify(self: Arc<Self>) -> Result<Verified, StoreError> {
        self.verify_while(|| true)
    }

    /// As [`Self::verify`]. Before each block that is still to be hashed, `keep_going` says whether to go on.
    ///
    /// # Errors
    /// [`StoreError::Interrupted`] if not; the part can still be written and verified.
    pub fn verify_while(
        self: Arc<Self>,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Verified, StoreError> {
        self.hash_ready_while(&mut keep_going)?;
        // Waits for writes in progress. Later writes fail.
        let mut sealed = self.sealed.write().unwrap_or_else(PoisonError::into_inner);
        // Waits for a checkpoint in progress. A later one would write a journal for an installed file.
        let syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sync_error()?;
        self.check_lease()?;
        let mut state = self.state_with_hasher();
        while state.hashed < state.contiguous() {
            // Another thread puts the hasher back after each block, so the last bytes may be missing from it.
            drop(state);
            self.hash_ready_while(&mut keep_going)?;
            state = self.state_with_hasher();
        }
        let (_, size, expected) = self.model();
        debug_assert_eq!(state.hashed, size, "verified before it was complete");
        let found = state.hasher.clone().unwrap_or_default().finish();
        if state.hashed != size || found != expected {
            return Err(StoreError::Mismatch { path: self.final_path(), expected, found });
        }
        state.sealed = true;
        *sealed = true;
        drop(state);
        drop((journal, syncing, sealed));
        Ok(Verified { part: self })
    }
}
