//! The running digests of a part: threads hash the contiguous bytes of its pieces while the rest arrives.
//!
//! Each piece has one hasher behind the part's mutex. A thread takes it out, hashes without the mutex, puts it back,
//! and checks for bytes written meanwhile: their writer found the hasher taken. So every written byte is hashed by some
//! thread. Two pieces, of one part or of two, can be hashed side by side, at little more than the price of one.

use super::part_file::PartFile;
use super::piece_state::{PieceEnd, ReadyPiece, WrongPiece};
use super::running_digest::RunningDigest;
use crate::error::DiskError;
use provision_core::byte_range::ByteRange;

/// The hasher of a piece while a thread has it. Dropping the guard puts it back, as [`HasherGuard::finish`] does.
#[derive(Debug)]
pub struct HasherGuard<'a> {
    part: &'a PartFile,
    piece: usize,
    /// `None` once it is back.
    hasher: Option<RunningDigest>,
    at: u64,
    end: u64,
    ready: u64,
    generation: u64,
}

impl PartFile {
    /// Takes the hasher of a piece out, if it is idle and has bytes to hash.
    pub fn take_hasher(&self, piece: usize) -> Option<HasherGuard<'_>> {
        let taken = self.state().pieces.take(piece);
        taken.map(|taken| HasherGuard {
            part: self,
            piece,
            hasher: Some(taken.hasher),
            at: taken.at,
            end: taken.end,
            ready: taken.ready,
            generation: taken.generation,
        })
    }

    /// Takes the first hasher out that is idle and has bytes to hash.
    pub fn take_ready(&self) -> Option<HasherGuard<'_>> {
        loop {
            let piece = self.state().pieces.next_ready()?;
            if let Some(guard) = self.take_hasher(piece) {
                return Some(guard);
            }
        }
    }

    /// The number of bytes in the file that can be hashed, those of hashers that threads have included.
    pub fn ready(&self) -> u64 {
        self.state().pieces.ready()
    }

    /// Appends the pieces that have bytes of `range`, and bytes to hash. Threads may have their hashers.
    pub fn ready_of(&self, range: ByteRange, ready: &mut Vec<ReadyPiece>) {
        let state = self.state();
        state.pieces.ready_of(range, &state.written, ready);
    }

    /// The complete pieces with other bytes than the list says, ascending.
    pub fn wrong(&self) -> Vec<WrongPiece> {
        self.state().pieces.wrong()
    }

    /// The positions of the pieces that are not verified, ascending. A file without a list is one piece.
    pub fn lacking_pieces(&self) -> Vec<usize> {
        self.state().pieces.lacking_pieces()
    }

    /// Hashes `bytes`, which were just written at `at`, and the bytes after them.
    pub fn hash(&self, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.hash_next(at, bytes);
        self.hash_ready()
    }

    /// Hashes `bytes`, which were just written at `at`, where they are the next ones of their pieces.
    pub(super) fn hash_next(&self, at: u64, bytes: &[u8]) {
        for piece in self.pieces().touching(ByteRange::new(at, at + bytes.len() as u64)) {
            let first = at.max(self.pieces().pieces()[piece].range.start);
            if let Some(mut guard) = self.take_hasher(piece).filter(|guard| guard.at() == first) {
                let bytes = &bytes[(first - at) as usize..];
                guard.update(&bytes[..bytes.len().min((guard.end() - first) as usize)]);
            }
        }
    }
}

impl HasherGuard<'_> {
    /// The position of its piece in the list.
    pub fn piece(&self) -> usize {
        self.piece
    }

    /// The first byte that is not hashed, by position in the file.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The end of its piece, by position in the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The number of bytes from [`Self::at`] that are in the file and in the piece.
    pub fn ready(&self) -> u64 {
        self.ready
    }

    /// The piece's generation. Bytes that were written in an earlier one
    /// ([`Written::generation`](super::Written::generation)) must not be hashed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads the next bytes from the file, `len` at most.
    pub fn read_back(&self, block: &mut Vec<u8>, len: usize) -> Result<(), DiskError> {
        block.resize(len.min(usize::try_from(self.ready).unwrap_or(len)), 0);
        self.part.read_back(block, self.at)
    }

    /// Hashes the next bytes, which are in the file and in the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.advance(bytes.len());
    }

    /// Hashes the next bytes of two pieces side by side.
    pub fn update_two(guards: [&mut Self; 2], bytes: [&[u8]; 2]) {
        let [first, second] = guards;
        if let (Some(a), Some(b)) = (&mut first.hasher, &mut second.hasher) {
            RunningDigest::update_two([a, b], bytes);
        }
        first.advance(bytes[0].len());
        second.advance(bytes[1].len());
    }

    fn advance(&mut self, len: usize) {
        self.at += len as u64;
        let mut state = self.part.state();
        let state = &mut *state;
        // `self.ready` may be outdated: a writer may have added bytes since and handed them over in memory.
        debug_assert!(
            self.at <= self.end && state.written.contains(ByteRange::new(self.at - len as u64, self.at)),
            "only bytes in the file are hashed"
        );
        self.ready = state.pieces.advance(self.piece, self.at, &state.written);
    }

    /// Puts the hasher back. If it has all bytes of a piece of a list, their digest decides about the piece.
    pub fn finish(mut self) -> PieceEnd {
        self.put_back()
    }

    /// Hashes no more of the piece, until bytes are written into it.
    pub(super) fn give_up(mut self) {
        if self.hasher.take().is_some() {
            self.part.hasher_returns(|pieces| pieces.give_up(self.piece));
        }
    }

    fn put_back(&mut self) -> PieceEnd {
        let Some(hasher) = self.hasher.take() else { return PieceEnd::Incomplete };
        if self.part.has_list() && self.at == self.end {
            let found = hasher.finish();
            self.part.hasher_returns(|pieces| pieces.judge(self.piece, found))
        } else {
            self.part.hasher_returns(|pieces| pieces.put_back(self.piece, hasher));
            PieceEnd::Incomplete
        }
    }
}

impl Drop for HasherGuard<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}
