//! The state of a part's pieces: those with bytes to hash, the verified ones, the wrong ones.
//!
//! A piece that has bytes has a hasher, until it is verified. A thread takes the hasher out, hashes without the part's
//! mutex, and puts it back. A file without a list is one piece. Its digest decides only when the part is verified,
//! because the bytes of an unpinned file are complete before its digest is known.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::running_digest::RunningDigest;
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::Sha256;
use provision_core::piece_list::PieceList;

/// A piece with bytes that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyPiece {
    /// Its position in the list.
    pub piece: usize,
    /// The first byte that is not hashed, by position in the file.
    pub hashed: u64,
    /// The number of bytes from there that are in the file.
    pub ready: u64,
    /// True if no byte of the piece is missing.
    pub is_complete: bool,
    /// Bytes kept in memory from an earlier generation must not be hashed.
    pub generation: u64,
}

/// A complete piece with other bytes than its list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongPiece {
    /// Its position in the list.
    pub index: usize,
    /// Its bytes, by position in the file.
    pub range: ByteRange,
    /// The digest that the list has.
    pub expected: Sha256,
    /// The digest of its bytes.
    pub found: Sha256,
}

/// The state of a piece after a thread has hashed bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceEnd {
    /// Bytes are missing or not hashed, or the file has no list.
    Incomplete,
    /// Its bytes are those of the list.
    Verified,
    /// They are not. It stays in the part until [`PartFile::drop_wrong`](super::PartFile::drop_wrong).
    Wrong(WrongPiece),
}

/// The hashing of a piece that is neither verified nor wrong.
#[derive(Debug)]
struct Progress {
    /// `None` while a thread has it.
    hasher: Option<RunningDigest>,
    /// The first byte that is not hashed, by position in the file.
    at: u64,
    /// The number of bytes from there that are in the file and in the piece.
    ready: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pieces {
    list: Arc<PieceList>,
    size: u64,
    open: BTreeMap<usize, Progress>,
    /// The bytes of the verified pieces.
    verified: RangeSet,
    /// The number of pieces that are not verified.
    unverified: usize,
    /// The digests of the wrong pieces.
    wrong: BTreeMap<usize, Sha256>,
    /// The bytes that can be hashed.
    ready: u64,
    /// The number of hashers that threads have.
    taken: usize,
    /// Counts the times that bytes were dropped.
    generation: u64,
    /// The generation in which all bytes were dropped.
    first_generation: u64,
    /// The generations in which single pieces were dropped.
    dropped: BTreeMap<usize, u64>,
}

/// A hasher that a thread takes.
pub(super) struct Taken {
    pub(super) hasher: RunningDigest,
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) ready: u64,
    pub(super) generation: u64,
}

impl Pieces {
    /// The pieces of a part without bytes. `makes_list`: the digest of a file without a list makes one.
    pub(super) fn new(list: Arc<PieceList>, size: u64, generation: u64, makes_list: bool) -> Self {
        let mut open = BTreeMap::new();
        if list.is_whole() {
            let whole = if makes_list { RunningDigest::with_list(size) } else { RunningDigest::default() };
            open.insert(0, Progress { hasher: Some(whole), at: 0, ready: 0 });
        }
        Self {
            unverified: list.pieces().len(),
            list,
            size,
            open,
            verified: RangeSet::new(),
            wrong: BTreeMap::new(),
            ready: 0,
            taken: 0,
            generation,
            first_generation: generation,
            dropped: BTreeMap::new(),
        }
    }

    /// Goes on with the digest of a file's beginning. The file has no list.
    pub(super) fn resume(&mut self, hasher: RunningDigest, at: u64) {
        self.open.insert(0, Progress { hasher: Some(hasher), at, ready: 0 });
    }

    /// The list that the digest of a complete file has made.
    pub(super) fn take_list(&mut self) -> Option<PieceList> {
        let size = self.size;
        let whole = self.open.get_mut(&0).filter(|progress| progress.at == size);
        whole.and_then(|progress| progress.hasher.as_mut()).and_then(RunningDigest::take_list)
    }

    /// The length of a file whose length was unknown.
    pub(super) fn end_at(&mut self, size: u64) {
        self.size = size;
    }

    pub(super) fn range(&self, piece: usize) -> ByteRange {
        let range = self.list.pieces()[piece].range;
        ByteRange::new(range.start, range.end.min(self.size))
    }

    /// Registers written bytes. Returns the pieces that have some of them, and whether some can be hashed now.
    pub(super) fn wrote(&mut self, bytes: ByteRange, written: &RangeSet) -> (Range<usize>, bool) {
        let touched = self.list.touching(bytes);
        let mut is_next = false;
        for piece in touched.clone() {
            let first = bytes.start.max(self.range(piece).start);
            if let Some(progress) = self.refresh(piece, written) {
                is_next |= (progress.at..progress.at + progress.ready).contains(&first);
            }
        }
        (touched, is_next)
    }

    /// Counts the bytes of a piece that can be hashed.
    fn refresh(&mut self, piece: usize, written: &RangeSet) -> Option<&Progress> {
        let range = self.range(piece);
        if self.is_verified(piece) || self.wrong.contains_key(&piece) {
            return None;
        }
        let new = || Progress { hasher: Some(RunningDigest::default()), at: range.start, ready: 0 };
        let progress = self.open.entry(piece).or_insert_with(new);
        let ready = written.end_from(progress.at).min(range.end).saturating_sub(progress.at);
        self.ready = self.ready - progress.ready + ready;
        progress.ready = ready;
        Some(progress)
    }

    pub(super) fn is_verified(&self, piece: usize) -> bool {
        let range = self.range(piece);
        !range.is_empty() && self.verified.contains(range)
    }

    /// The number of bytes that can be hashed.
    pub(super) fn ready(&self) -> u64 {
        self.ready
    }

    /// Appends the pieces with bytes of `range` that have bytes to hash.
    pub(super) fn ready_of(&self, range: ByteRange, written: &RangeSet, ready: &mut Vec<ReadyPiece>) {
        for (&piece, progress) in self.open.range(self.list.touching(range)).filter(|(_, one)| one.ready > 0)
        {
            ready.push(ReadyPiece {
                piece,
                hashed: progress.at,
                ready: progress.ready,
                is_complete: written.contains(self.range(piece)),
                generation: self.generation_of(piece),
            });
        }
    }

    /// The first piece that has bytes to hash and that no thread hashes.
    pub(super) fn next_ready(&self) -> Option<usize> {
        let is_ready = |(_, progress): &(&usize, &Progress)| progress.ready > 0 && progress.hasher.is_some();
        self.open.iter().find(is_ready).map(|(piece, _)| *piece)
    }

    /// Takes a piece's hasher out, if it has bytes to hash and no thread has it.
    pub(super) fn take(&mut self, piece: usize) -> Option<Taken> {
        let (end, generation) = (self.range(piece).end, self.generation_of(piece));
        let progress = self.open.get_mut(&piece).filter(|progress| progress.ready > 0)?;
        let hasher = progress.hasher.take()?;
        self.taken += 1;
        Some(Taken { hasher, at: progress.at, end, ready: progress.ready, generation })
    }

    /// True if no thread has a hasher.
    pub(super) fn are_idle(&self) -> bool {
        self.taken == 0
    }

    /// The thread that has the piece's hasher has hashed the bytes before `at`. Returns the number of bytes from there.
    pub(super) fn advance(&mut self, piece: usize, at: u64, written: &RangeSet) -> u64 {
        if let Some(progress) = self.open.get_mut(&piece) {
            self.ready -= progress.ready;
            (progress.at, progress.ready) = (at, 0);
        }
        self.refresh(piece, written).map_or(0, |progress| progress.ready)
    }

    /// Puts a hasher back.
    pub(super) fn put_back(&mut self, piece: usize, hasher: RunningDigest) {
        if let Some(progress) = self.open.get_mut(&piece) {
            progress.hasher = Some(hasher);
        }
        self.taken -= 1;
    }

    /// The thread that has the hasher of a piece cannot read its bytes.
    pub(super) fn give_up(&mut self, piece: usize) {
        self.taken -= 1;
        self.ready -= self.open.remove(&piece).map_or(0, |progress| progress.ready);
    }

    /// The thread that has the hasher of a piece of a list has hashed all of it.
    pub(super) fn judge(&mut self, piece: usize, found: Sha256) -> PieceEnd {
        self.taken -= 1;
        self.open.remove(&piece);
        let expected = self.list.pieces()[piece].sha256;
        if found == expected {
            self.add_verified(piece);
            return PieceEnd::Verified;
        }
        self.wrong.insert(piece, found);
        PieceEnd::Wrong(self.wrong_piece(piece, found))
    }

    fn wrong_piece(&self, index: usize, found: Sha256) -> WrongPiece {
        WrongPiece { index, range: self.range(index), expected: self.list.pieces()[index].sha256, found }
    }

    /// The wrong pieces, ascending.
    pub(super) fn wrong(&self) -> Vec<WrongPiece> {
        self.wrong.iter().map(|(piece, found)| self.wrong_piece(*piece, *found)).collect()
    }

    /// Forgets pieces whose bytes are dropped.
    pub(super) fn drop_pieces(&mut self, pieces: impl Iterator<Item = usize>) {
        self.generation += 1;
        for piece in pieces {
            self.wrong.remove(&piece);
            self.dropped.insert(piece, self.generation);
        }
    }

    /// Takes a piece without bytes for a copy: nothing else hashes it. False if it has bytes.
    pub(super) fn take_empty(&mut self, piece: usize, written: &RangeSet) -> bool {
        let is_free = !self.open.contains_key(&piece) && !written.overlaps(self.range(piece));
        if is_free {
            self.open.insert(piece, Progress { hasher: None, at: self.range(piece).start, ready: 0 });
        }
        is_free
    }

    /// The copy of a piece has its digest.
    pub(super) fn add_verified(&mut self, piece: usize) {
        self.unverified -= 1;
        self.verified.insert(self.range(piece));
    }

    /// Ends a copy. Bytes that were written into the piece meanwhile are hashed from its start.
    pub(super) fn end_copy(&mut self, piece: usize, written: &RangeSet) {
        if let Some(progress) = self.open.remove(&piece) {
            self.ready -= progress.ready;
        }
        if written.overlaps(self.range(piece)) {
            self.refresh(piece, written);
        }
    }

    /// Forgets the hashing of all pieces that are not verified. Returns the bytes of the verified ones.
    pub(super) fn keep_verified(&mut self) -> RangeSet {
        self.open.clear();
        self.wrong.clear();
        self.ready = 0;
        self.verified.clone()
    }

    /// The ranges of the pieces that are not verified, joined.
    pub(super) fn lacking(&self) -> Vec<ByteRange> {
        self.verified.missing(self.size)
    }

    /// The positions of the pieces that are not verified.
    pub(super) fn lacking_pieces(&self) -> Vec<usize> {
        self.lacking().into_iter().flat_map(|range| self.list.touching(range)).collect()
    }

    /// True if each piece of a list is verified.
    pub(super) fn are_verified(&self) -> bool {
        self.unverified == 0
    }

    /// The digest of a file without a list, as far as it is hashed, and the number of hashed bytes. No thread has the
    /// hasher.
    pub(super) fn whole(&self) -> (Sha256, u64) {
        let progress = self.open.get(&0);
        let hasher = progress.and_then(|progress| progress.hasher.as_ref());
        let digest = hasher.map_or_else(|| RunningDigest::default().finish(), RunningDigest::finish);
        (digest, progress.map_or(0, |progress| progress.at))
    }

    /// The present generation: that of the bytes that are written now.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    fn generation_of(&self, piece: usize) -> u64 {
        self.dropped.get(&piece).copied().unwrap_or(self.first_generation)
    }
}
