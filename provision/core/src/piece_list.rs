//! Piece lists: the digest of each piece of a file, so that a part of it can be verified on its own.
//!
//! The lock pins a list by the SHA-256 of its bytes. All numbers are little-endian:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 16 | `provision-pieces` |
//! | 16 | 4 | the format's version, 1 |
//! | 20 | 4 | the number of pieces |
//! | 24 | 8 | the file's length in bytes |
//! | 32 | 32 | the file's SHA-256 |
//! | 64 + 44 i | 8 | the first byte of piece i |
//! | 72 + 44 i | 4 | its length in bytes, 1 to 4 MiB |
//! | 76 + 44 i | 32 | its SHA-256 |
//!
//! The pieces ascend, touch, and cover the file. A file has one list: its cuts follow from its bytes (`cuts`), and a
//! [`Lister`] finds them while the bytes pass. A file of one piece has none: its digest says as much.

mod cuts;
mod lister;
#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::Serialize;

pub use self::lister::Lister;
use crate::byte_range::ByteRange;
use crate::digest::Sha256;

/// The longest piece of a list, in bytes.
pub const MAX_PIECE: u64 = 4 << 20;
/// Tensors of this length or longer, in bytes, have pieces of their own.
pub const LEAST_TENSOR: u64 = 64 << 10;
/// The longest list, in bytes: the fixed pieces of a file of 1.6 TB.
pub const MAX_LIST: u64 = 16 << 20;
/// The directory of the lists, beside the lock.
pub const DIRECTORY: &str = "models.pieces";

/// The first bytes of every list.
pub const MAGIC: &[u8; 16] = b"provision-pieces";
/// The version of the format.
pub const VERSION: u32 = 1;
/// The bytes before the first piece.
const HEAD: usize = 64;
/// The bytes of a piece.
const ENTRY: usize = 44;
/// The most pieces of a list.
const MAX_PIECES: u64 = (MAX_LIST - HEAD as u64) / ENTRY as u64;

/// A range of a file with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its place in the file.
    pub range: ByteRange,
    /// The digest of its bytes.
    pub sha256: Sha256,
}

/// The pieces of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceList {
    size: u64,
    file: Sha256,
    pieces: Vec<Piece>,
}

/// The evidence that a file has the lock's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifiedBy {
    /// The SHA-256 of the whole file.
    Digest,
    /// The digest of each piece of the list that the lock pins.
    Pieces,
}

/// Bytes that are not a piece list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceListError {
    /// It does not begin as a list does.
    #[error("it does not begin with \"provision-pieces\"")]
    Magic,
    /// It ends within its head.
    #[error("it has {found} bytes, and the head of a list alone has 64")]
    Short {
        /// Its length, in bytes.
        found: u64,
    },
    /// A format of later programs.
    #[error("it has version {found}, which a newer program may read")]
    Version {
        /// The version.
        found: u32,
    },
    /// It has no piece, more pieces than a file of its length can have, or another length than its pieces need.
    #[error("it lists {count} pieces in {found} bytes, for a file of {size} bytes")]
    Count {
        /// The number of pieces.
        count: u64,
        /// The length of the list, in bytes.
        found: u64,
        /// The length of the file, in bytes.
        size: u64,
    },
    /// A piece is empty or too long, or does not begin where the one before it ends.
    #[error(
        "its piece {at} has {length} bytes from byte {start}, where 1 to 4194304 from byte {expected} are right"
    )]
    Piece {
        /// Its position in the list.
        at: usize,
        /// Its first byte.
        start: u64,
        /// Its length in bytes.
        length: u64,
        /// The end of the piece before it.
        expected: u64,
    },
    /// The pieces end before or after the file.
    #[error("its pieces end at byte {end}, and the file at byte {size}")]
    End {
        /// The end of the last piece.
        end: u64,
        /// The length of the file, in bytes.
        size: u64,
    },
}

/// The pieces that tell a damaged file from another one. They lie evenly in it, so a right 32nd part of it is found.
const SAMPLES: usize = 32;

/// Splits the positions of pieces into samples and the others.
pub fn samples(pieces: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
    let every = pieces.len().div_ceil(SAMPLES).max(1);
    let (samples, rest): (Vec<_>, Vec<_>) =
        pieces.into_iter().enumerate().partition(|(at, _)| at % every == 0);
    let pieces = |of: Vec<(usize, usize)>| of.into_iter().map(|(_, piece)| piece).collect();
    (pieces(samples), pieces(rest))
}

/// The most pieces that a file of `size` bytes has: two cuts for each long tensor, and the cuts at the longest length.
fn max_pieces(size: u64) -> u64 {
    MAX_PIECES.min(2 * (size / LEAST_TENSOR) + size / MAX_PIECE + 2)
}

/// The bytes of a list of `count` pieces.
fn bytes_of(count: u64) -> u64 {
    (ENTRY as u64).saturating_mul(count).saturating_add(HEAD as u64)
}

impl PieceList {
    /// The longest list of a file of `size` bytes, in bytes.
    pub fn max_bytes(size: u64) -> u64 {
        bytes_of(max_pieces(size))
    }

    /// The whole file as one piece, for a file that has no list. An empty file has one empty piece, which is verified
    /// like any other.
    pub fn of_whole(size: u64, sha256: Sha256) -> Self {
        let whole = Piece { range: ByteRange::new(0, size), sha256 };
        Self { size, file: sha256, pieces: vec![whole] }
    }

    /// The list of these pieces, which ascend, touch, and cover the file.
    ///
    /// # Errors
    /// They do not, or they are none or too many.
    pub fn new(size: u64, file: Sha256, pieces: Vec<Piece>) -> Result<Self, PieceListError> {
        let count = pieces.len() as u64;
        if count == 0 || count > max_pieces(size) {
            return Err(PieceListError::Count { count, found: bytes_of(count), size });
        }
        let mut expected = 0;
        for (at, piece) in pieces.iter().enumerate() {
            let (start, length) = (piece.range.start, piece.range.len());
            if start != expected || length == 0 || length > MAX_PIECE {
                return Err(PieceListError::Piece { at, start, length, expected });
            }
            expected = piece.range.end;
        }
        if expected == size {
            Ok(Self { size, file, pieces })
        } else {
            Err(PieceListError::End { end: expected, size })
        }
    }

    /// Reads a list. Takes memory for the pieces that are there, not for those that are claimed.
    ///
    /// # Errors
    /// The bytes are no list, or one whose pieces do not cover its file.
    pub fn parse(bytes: &[u8]) -> Result<Self, PieceListError> {
        if !bytes.starts_with(MAGIC) {
            return Err(PieceListError::Magic);
        }
        let found = bytes.len() as u64;
        let Some((head, entries)) = bytes.split_at_checked(HEAD) else {
            return Err(PieceListError::Short { found });
        };
        let (version, count) = (u32_at(head, 16), u64::from(u32_at(head, 20)));
        let (size, file) = (u64_at(head, 24), sha256_at(head, 32));
        if version != VERSION {
            return Err(PieceListError::Version { found: version });
        }
        if found != bytes_of(count) || count > max_pieces(size) {
            return Err(PieceListError::Count { count, found, size });
        }
        let piece = |entry: &[u8]| {
            let (start, length) = (u64_at(entry, 0), u64::from(u32_at(entry, 8)));
            Piece { range: ByteRange::new(start, start.saturating_add(length)), sha256: sha256_at(entry, 12) }
        };
        Self::new(size, file, entries.chunks_exact(ENTRY).map(piece).collect())
    }

    /// Its bytes, the same for the same pieces; `None` for the whole file as one piece, which needs no list.
    pub fn write(&self) -> Option<Vec<u8>> {
        if self.is_whole() {
            return None;
        }
        let mut bytes = Vec::with_capacity(HEAD + ENTRY * self.pieces.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.pieces.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(self.file.as_bytes());
        for piece in &self.pieces {
            bytes.extend_from_slice(&piece.range.start.to_le_bytes());
            bytes.extend_from_slice(&(piece.range.len() as u32).to_le_bytes());
            bytes.extend_from_slice(piece.sha256.as_bytes());
        }
        Some(bytes)
    }

    /// The digest of its bytes, by which a lock pins it; `None` as for [`write`](Self::write).
    pub fn digest(&self) -> Option<Sha256> {
        self.write().map(|bytes| Sha256::of(&bytes))
    }

    /// The length of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of the whole file, as the list's author says.
    pub fn file(&self) -> Sha256 {
        self.file
    }

    /// The pieces, ascending.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The positions of the pieces that have bytes of `range`.
    pub fn touching(&self, range: ByteRange) -> Range<usize> {
        let first = self.pieces.partition_point(|piece| piece.range.end <= range.start);
        let end = self.pieces.partition_point(|piece| piece.range.start < range.end);
        first..end.max(first)
    }

    /// Returns true if it is the whole file as one piece: it says no more than the file's digest.
    pub fn is_whole(&self) -> bool {
        matches!(&self.pieces[..], [only] if only.sha256 == self.file)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn sha256_at(bytes: &[u8], at: usize) -> Sha256 {
    Sha256::from_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}
