//! Makes the list of a file while its bytes pass, beside the digest of the whole.
//!
//! The bytes come in order, in buffers of any length; the list depends on the file's bytes only. Memory: the pieces so
//! far, and a safetensors header until it is complete.

use super::cuts::{Cuts, Reader};
use super::{MAX_PIECES, Piece, PieceList};
use crate::byte_range::ByteRange;
use crate::digest::{Hasher, Sha256};

/// Cuts a file whose bytes arrive in order into pieces, and hashes each.
#[derive(Debug, Clone)]
pub struct Lister {
    size: u64,
    /// Bytes taken.
    at: u64,
    /// The first byte of the piece that is hashed.
    start: u64,
    hasher: Hasher,
    pieces: Vec<Piece>,
    reader: Reader,
    cuts: Cuts,
}

impl Lister {
    /// A lister of a file that will have `size` bytes.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            at: 0,
            start: 0,
            hasher: Hasher::new(),
            pieces: Vec::new(),
            reader: Reader::new(),
            cuts: Cuts::default(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.take(bytes, &mut |piece, bytes| piece.update(bytes));
    }

    /// Takes the next bytes of the file. `whole`, the digest of all of it, takes the same bytes: with SHA instructions
    /// both together cost little more than one.
    pub fn update_beside(&mut self, whole: &mut Hasher, bytes: &[u8]) {
        self.take(bytes, &mut |piece, bytes| Hasher::update_two([piece, whole], [bytes, bytes]));
    }

    /// The list of the bytes taken, which are the file with the digest `file`. A file without another cut, or with a
    /// longer list than [`MAX_LIST`](super::MAX_LIST), is one piece ([`PieceList::is_whole`]).
    pub fn finish(mut self, file: Sha256) -> PieceList {
        self.close();
        PieceList::new(self.at, file, self.pieces).unwrap_or_else(|_| PieceList::of_whole(self.at, file))
    }

    fn take(&mut self, mut bytes: &[u8], hash: &mut dyn FnMut(&mut Hasher, &[u8])) {
        while !bytes.is_empty() {
            if self.at == self.cuts.end_of(self.start) {
                self.close();
            }
            let room = self.cuts.end_of(self.start) - self.at;
            let here = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (here, cuts) = self.reader.take(self.size, &bytes[..here]);
            let (now, rest) = bytes.split_at(here);
            hash(&mut self.hasher, now);
            self.at += here as u64;
            bytes = rest;
            // A cut may lie at this very byte: so a piece ends only before the next one.
            if let Some(cuts) = cuts {
                self.cuts = cuts;
            }
        }
    }

    /// Ends the piece, if it has bytes.
    fn close(&mut self) {
        let range = ByteRange::new(self.start, self.at);
        let sha256 = std::mem::take(&mut self.hasher).finish();
        // One more than the limit tells `finish` that there are too many.
        if !range.is_empty() && self.pieces.len() as u64 <= MAX_PIECES {
            self.pieces.push(Piece { range, sha256 });
        }
        self.start = self.at;
    }
}
