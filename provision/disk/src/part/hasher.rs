//! The hash that follows: who takes the next bytes of a part into it.
//!
//! A part's hasher is a token. Whoever finds it at home and has bytes to take leases it, hashes outside the lock, and
//! brings it back; then it looks for the next bytes once more, because who wrote them meanwhile found it away. So no
//! byte is ever left for nobody to hash. Two leases can be served at once, at little more than the price of one.

use std::os::unix::fs::FileExt as _;

use super::PartFile;
use crate::{BLOCK, StoreError};
use provision_core::digest::Hasher;

/// The hasher of a part, away from home. It comes home when this is dropped.
#[derive(Debug)]
pub struct HasherGuard<'a> {
    part: &'a PartFile,
    hasher: Hasher,
    at: u64,
    ready: u64,
    generation: u64,
}

impl PartFile {
    /// Takes the hasher, where it is at home and has bytes to take.
    pub fn take_hasher(&self) -> Option<HasherGuard<'_>> {
        let mut state = self.state();
        let ready = state.ready();
        if ready == 0 {
            return None;
        }
        let hasher = state.hasher.take()?;
        Some(HasherGuard { part: self, hasher, at: state.hashed, ready, generation: state.generation })
    }

    /// Hashes what is contiguous and not hashed yet, reading it back. Returns when it has caught up, or at once
    /// where somebody else is hashing.
    pub fn hash_ready(&self) -> Result<(), StoreError> {
        let mut block = Vec::new();
        while let Some(mut guard) = self.take_hasher() {
            while guard.ready() > 0 {
                guard.read_back(&mut block, BLOCK)?;
                guard.update(&block);
            }
        }
        Ok(())
    }
}

impl HasherGuard<'_> {
    /// The first byte that the hasher has not taken.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// How many bytes from there on are in the file.
    pub fn ready(&self) -> u64 {
        self.ready
    }

    /// Which of the part's beginnings this is: see [`Written::generation`](super::Written::generation).
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads the next bytes from the file, `len` at most.
    pub fn read_back(&self, block: &mut Vec<u8>, len: usize) -> Result<(), StoreError> {
        block.resize(len.min(usize::try_from(self.ready).unwrap_or(len)), 0);
        let read = self.part.file.read_exact_at(block, self.at);
        read.map_err(|error| self.part.error("reading it back", error))
    }

    /// Takes the next bytes, which are in the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.advance(bytes.len());
    }

    /// Takes the next bytes of two parts.
    pub fn update_two(guards: [&mut Self; 2], bytes: [&[u8]; 2]) {
        let [first, second] = guards;
        Hasher::update_two([&mut first.hasher, &mut second.hasher], bytes);
        first.advance(bytes[0].len());
        second.advance(bytes[1].len());
    }

    fn advance(&mut self, len: usize) {
        self.at += len as u64;
        let mut state = self.part.state();
        // Not what was ready when it was last looked: more may have been written since, and handed over in memory.
        debug_assert!(self.at <= state.contiguous(), "only what is in the file is hashed");
        state.hashed = self.at;
        self.ready = state.ready();
    }
}

impl Drop for HasherGuard<'_> {
    fn drop(&mut self) {
        self.part.state().hasher = Some(std::mem::take(&mut self.hasher));
        self.part.hasher_returned.notify_all();
    }
}
