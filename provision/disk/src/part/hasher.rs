//! The running digest of a part: threads hash the contiguous prefix while the rest arrives.
//!
//! A part has one hasher behind a mutex. A thread takes it out, hashes without the mutex, puts it back, and checks for
//! bytes written meanwhile: their writer found the hasher taken. So every written byte is hashed by some thread. Two
//! parts can be hashed side by side, at little more than the price of one.

use super::part_file::PartFile;
use crate::error::StoreError;
use crate::source_file::BLOCK;
use provision_core::digest::Hasher;

/// The hasher of a part while a thread has it. Dropping the guard puts it back: the hasher is idle again.
#[derive(Debug)]
pub struct HasherGuard<'a> {
    part: &'a PartFile,
    hasher: Hasher,
    at: u64,
    ready: u64,
    generation: u64,
}

impl PartFile {
    /// Takes the hasher out, if it is idle and has bytes to hash.
    pub fn take_hasher(&self) -> Option<HasherGuard<'_>> {
        let mut state = self.state();
        let ready = state.ready();
        if ready == 0 {
            return None;
        }
        let hasher = state.hasher.take()?;
        Some(HasherGuard { part: self, hasher, at: state.hashed, ready, generation: state.generation })
    }

    /// Reads the contiguous bytes back and hashes them. Returns once the hasher has caught up, or at once if another
    /// thread has it.
    pub fn hash_ready(&self) -> Result<(), StoreError> {
        self.hash_ready_while(&mut || true)
    }

    /// As [`Self::hash_ready`]. Before each block, `keep_going` says whether to go on.
    pub(super) fn hash_ready_while(&self, keep_going: &mut impl FnMut() -> bool) -> Result<(), StoreError> {
        let mut block = Vec::new();
        while let Some(mut guard) = self.take_hasher() {
            while guard.ready() > 0 {
                if !keep_going() {
                    return Err(StoreError::Interrupted { path: self.path() });
                }
                guard.read_back(&mut block, BLOCK)?;
                guard.update(&block);
            }
        }
        Ok(())
    }

    /// Hashes `bytes`, which were just written at `at`, and the contiguous bytes after them.
    pub fn hash(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash_next(at, bytes);
        self.hash_ready()
    }

    /// Hashes `bytes`, which were just written at `at`, if they are the next ones.
    pub(super) fn hash_next(&self, at: u64, bytes: &[u8]) {
        if let Some(mut guard) = self.take_hasher().filter(|guard| guard.at() == at) {
            guard.update(bytes);
        }
    }
}

impl HasherGuard<'_> {
    /// The first byte that is not hashed.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The number of bytes from there that are in the file.
    pub fn ready(&self) -> u64 {
        self.ready
    }

    /// The part's generation: see [`Written::generation`](super::Written::generation).
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads the next bytes from the file, `len` at most.
    pub fn read_back(&self, block: &mut Vec<u8>, len: usize) -> Result<(), StoreError> {
        block.resize(len.min(usize::try_from(self.ready).unwrap_or(len)), 0);
        self.part.read_back(block, self.at)
    }

    /// Hashes the next bytes, which are in the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.advance(bytes.len());
    }

    /// Hashes the next bytes of two parts side by side.
    pub fn update_two(guards: [&mut Self; 2], bytes: [&[u8]; 2]) {
        let [first, second] = guards;
        Hasher::update_two([&mut first.hasher, &mut second.hasher], bytes);
        first.advance(bytes[0].len());
        second.advance(bytes[1].len());
    }

    fn advance(&mut self, len: usize) {
        self.at += len as u64;
        let mut state = self.part.state();
        // `self.ready` may be outdated: a writer may have added bytes since and handed them over in memory.
        debug_assert!(self.at <= state.contiguous(), "only bytes in the file are hashed");
        state.hashed = self.at;
        self.ready = state.ready();
    }
}

impl Drop for HasherGuard<'_> {
    fn drop(&mut self) {
        self.part.put_hasher_back(std::mem::take(&mut self.hasher));
    }
}
