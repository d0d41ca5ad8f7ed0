//! Hashing during the download: two pieces at a time, from the receive buffers, on all cores.
//!
//! A hash is one chain of instructions and leaves most of a processor's SHA unit idle. Two hashes side by side cost
//! little more than one (see `digest::lanes`). So written bytes are not hashed at once. They wait in memory until
//! another piece has bytes, too, or until so many wait that the processor's cache would lose them. Then a thread hashes
//! both pieces. A file without a piece list is one piece; the pieces of a list are hashed in any order.
//!
//! The memory for waiting bytes is bounded. Bytes without room are read back from the page cache later. Bytes that
//! still wait when a file is complete are hashed before it is verified. So waiting costs time only: no byte is skipped.
//!
//! A wrong piece is reported to the coordinator at once, which asks the part for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::buffers::Buffer;
use super::target::Target;
use provision_core::byte_range::ByteRange;
use provision_core::schedule::FileId;
use provision_disk::{DiskError, HasherGuard, PartFile, PieceEnd, ReadyPiece, Verified, Written};

/// The most bytes that wait in memory: for few cores, for each core, and in all.
const LEAST_KEPT: usize = 4 << 20;
const KEPT_PER_THREAD: usize = 1 << 20;
const MOST_KEPT: usize = 12 << 20;

/// A piece with this many waiting bytes is hashed alone.
const ENOUGH: u64 = 2 << 20;

/// The block size for bytes that are read back.
const BLOCK: usize = 256 << 10;

/// The pieces and bytes that wait to be hashed.
pub(super) struct Hashing {
    /// The most threads that hash at the same time.
    threads: usize,
    max_kept: usize,
    state: Mutex<State>,
    kept_bytes: Arc<AtomicUsize>,
    /// The run stops: a file may have minutes of bytes to hash, and the next run reads them again.
    is_stopped: AtomicBool,
    /// Receives each file with a wrong piece.
    wrong: UnboundedSender<FileId>,
}

#[derive(Default)]
struct State {
    /// Pieces with all bytes in the part, the oldest first.
    complete: VecDeque<Waiting>,
    /// Pieces with bytes to hash that lack others, each once.
    partial: Vec<Waiting>,
    kept: Vec<Kept>,
    working: usize,
}

/// A piece with bytes to hash.
struct Waiting {
    of: Piece,
    ready: u64,
}

/// A piece of a file.
#[derive(Clone)]
struct Piece {
    target: Arc<Target>,
    part: Arc<PartFile>,
    at: usize,
}

impl Piece {
    fn is(&self, other: &Self) -> bool {
        self.at == other.at && Arc::ptr_eq(&self.part, &other.part)
    }

    fn range(&self) -> ByteRange {
        self.part.pieces().pieces()[self.at].range
    }
}

/// Bytes of a piece that are written to its file, and still in memory.
struct Kept {
    of: Piece,
    generation: u64,
    bytes: Slice,
    /// Their place in the file.
    range: ByteRange,
}

/// A part of a receive buffer, which may have bytes of several pieces.
#[derive(Clone)]
struct Slice {
    buffer: Arc<Counted>,
    start: usize,
    end: usize,
}

/// A buffer that counts as kept.
struct Counted {
    buffer: Buffer,
    kept_bytes: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.kept_bytes.fetch_sub(self.buffer.len(), Ordering::Relaxed);
    }
}

/// A piece whose hasher this thread holds, and the next bytes to hash.
struct Lane<'a> {
    of: &'a Piece,
    guard: HasherGuard<'a>,
    bytes: Bytes,
    /// The number of `bytes` that are hashed already.
    taken: usize,
}

/// Bytes to hash, from memory or read back.
enum Bytes {
    Kept(Slice),
    Read(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Kept(slice) => &slice.buffer.buffer[slice.start..slice.end],
            Self::Read(block) => block,
        }
    }
}

impl Lane<'_> {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

impl State {
    fn waits(&mut self, of: Piece, ready: &ReadyPiece) {
        let before = self.partial.iter().position(|other| other.of.is(&of));
        match before {
            Some(at) if !ready.is_complete => self.partial[at].ready = ready.ready,
            _ => {
                before.map(|at| self.partial.swap_remove(at));
                let waiting = Waiting { of, ready: ready.ready };
                if ready.is_complete && ready.hashed > waiting.of.range().start {
                    // It has begun: the rest of it goes first, so that few bytes are kept.
                    self.complete.push_front(waiting);
                } else if ready.is_complete {
                    self.complete.push_back(waiting);
                } else {
                    self.partial.push(waiting);
                }
            }
        }
    }

    fn is_worth_it(&self) -> bool {
        let all = || self.complete.iter().chain(&self.partial);
        self.complete.len() + self.partial.len() > 1 || all().any(|waiting| waiting.ready >= ENOUGH)
    }

    /// The next piece to hash: the oldest complete one, or else the one with the most bytes. That one can be hashed
    /// side by side with another for longest.
    fn pop(&mut self) -> Option<Piece> {
        if let Some(waiting) = self.complete.pop_front() {
            return Some(waiting.of);
        }
        let (at, _) = self.partial.iter().enumerate().max_by_key(|(_, waiting)| waiting.ready)?;
        Some(self.partial.swap_remove(at).of)
    }

    /// The kept bytes that are next for a hasher, and the number of them that it has had.
    fn kept(&mut self, of: &Piece, guard: &HasherGuard<'_>) -> Option<(Slice, usize)> {
        let (next, least) = (ByteRange::new(guard.at(), guard.at() + 1), guard.generation());
        let is_next = |kept: &Kept| {
            kept.range.start <= next.start
                && next.end <= kept.range.end
                && kept.generation >= least
                && kept.of.is(of)
        };
        let at = self.kept.iter().position(is_next)?;
        let kept = self.kept.swap_remove(at);
        Some((kept.bytes, (next.start - kept.range.start) as usize))
    }
}

impl Hashing {
    pub(super) fn new(threads: usize, wrong: UnboundedSender<FileId>) -> Self {
        let threads = threads.max(1);
        Self {
            threads,
            max_kept: (threads * KEPT_PER_THREAD).clamp(LEAST_KEPT, MOST_KEPT),
            state: Mutex::default(),
            kept_bytes: Arc::default(),
            is_stopped: AtomicBool::new(false),
            wrong,
        }
    }

    /// Registers bytes that were written to `part` at `at`; `bytes` has them if they are still in memory. True if the
    /// caller should start a thread that calls [`Hashing::work`].
    pub(super) fn offer(
        &self,
        target: &Arc<Target>,
        part: &Arc<PartFile>,
        at: u64,
        (len, bytes): (usize, Option<Buffer>),
        written: &Written,
    ) -> bool {
        if !written.is_next {
            return false;
        }
        let here = ByteRange::new(at, at + len as u64);
        let mut ready = Vec::new();
        part.ready_of(here, &mut ready);
        let has_room = self.kept_bytes.load(Ordering::Relaxed) + len <= self.max_kept;
        let buffer = bytes.filter(|_| has_room).map(|buffer| {
            self.kept_bytes.fetch_add(len, Ordering::Relaxed);
            Arc::new(Counted { buffer, kept_bytes: self.kept_bytes.clone() })
        });
        let mut state = self.state();
        for one in ready {
            let of = Piece { target: target.clone(), part: part.clone(), at: one.piece };
            let piece = of.range();
            let range = ByteRange::new(at.max(piece.start), here.end.min(piece.end));
            // Bytes behind a gap cannot be hashed soon, so they are not kept.
            let is_soon = (one.hashed..one.hashed + one.ready).contains(&range.start);
            if let Some(buffer) = buffer.clone().filter(|_| is_soon) {
                let (start, end) = ((range.start - at) as usize, (range.end - at) as usize);
                let bytes = Slice { buffer, start, end };
                state.kept.push(Kept { of: of.clone(), generation: written.generation, bytes, range });
            }
            state.waits(of, &one);
        }
        let begin = state.working < self.threads && state.is_worth_it();
        state.working += usize::from(begin);
        begin
    }

    /// Hashes as long as enough bytes wait. Blocks. A read failure is not reported here: verification meets it again.
    pub(super) fn work(&self) {
        while let Some((first, second)) = self.next() {
            let pieces = [Some(&first), second.as_ref()];
            let hashed = self.hash(pieces);
            // Another thread that holds a hasher checks for new bytes itself. Only the pieces hashed here are checked
            // again.
            let mut ready = Vec::new();
            for piece in pieces.into_iter().zip(hashed).filter_map(|(piece, hashed)| piece.filter(|_| hashed))
            {
                // Locked before the question: a part that is forgotten has no such bytes.
                let mut state = self.state();
                piece.part.ready_of(piece.range(), &mut ready);
                let again = ready.drain(..).find(|ready| ready.piece == piece.at);
                if let Some(ready) = again.filter(|_| !piece.target.has_failed.load(Ordering::Relaxed)) {
                    state.waits(piece.clone(), &ready);
                }
            }
        }
    }

    /// Ends the work of all threads, each after its block.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Verifies a completely written file, unless the run stops, and forgets its bytes. Blocks.
    pub(super) fn verify(&self, target: &Arc<Target>, part: &Arc<PartFile>) -> Result<Verified, DiskError> {
        self.finish(target, part);
        let verified = part.clone().verify_while(|| !self.is_stopped());
        // Now that no thread has a hasher of the part, none puts bytes back.
        self.forget(part);
        verified
    }

    /// Hashes all waiting bytes of the file. Other threads go on with those of its pieces that wait.
    fn finish(&self, target: &Arc<Target>, part: &Arc<PartFile>) {
        let mut ready = Vec::new();
        part.ready_of(ByteRange::new(0, part.size()), &mut ready);
        let piece = |ready: ReadyPiece| Piece { target: target.clone(), part: part.clone(), at: ready.piece };
        // The others begin with the first ones.
        let mut pieces = ready.into_iter().map(piece).rev();
        while let Some(first) = pieces.next() {
            let second = pieces.next();
            while !self.is_stopped() && self.hash([Some(&first), second.as_ref()]).contains(&true) {}
        }
    }

    /// Empties a part, and forgets its bytes. Blocks.
    pub(super) fn reset(&self, part: &Arc<PartFile>) -> Result<(), DiskError> {
        // The part waits for its hashers.
        let reset = part.reset();
        self.forget(part);
        reset
    }

    /// Forgets the bytes of a file that has failed, also those that threads with its hashers would put back.
    pub(super) fn end_file(&self, target: &Target, part: &Arc<PartFile>) {
        target.has_failed.store(true, Ordering::Relaxed);
        self.forget(part);
    }

    /// Drops the waiting bytes of a file.
    fn forget(&self, part: &Arc<PartFile>) {
        let mut state = self.state();
        state.complete.retain(|waiting| !Arc::ptr_eq(&waiting.of.part, part));
        state.partial.retain(|waiting| !Arc::ptr_eq(&waiting.of.part, part));
        state.kept.retain(|kept| !Arc::ptr_eq(&kept.of.part, part));
    }

    /// Drops the waiting bytes of all files. The run ends, and the next run reads them again.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.complete.clear();
        state.partial.clear();
        state.kept.clear();
    }

    /// One or two pieces to hash; `None` if this thread has to stop.
    fn next(&self) -> Option<(Piece, Option<Piece>)> {
        let mut state = self.state();
        if self.is_stopped() || !state.is_worth_it() {
            state.working -= 1;
            return None;
        }
        let first = state.pop()?;
        let second = state.pop();
        Some((first, second))
    }

    /// Hashes bytes of one or two pieces. Returns for each whether it had some, and no other thread its hasher.
    fn hash(&self, [first, second]: [Option<&Piece>; 2]) -> [bool; 2] {
        let lanes = (first.and_then(|piece| self.lane(piece)), second.and_then(|piece| self.lane(piece)));
        let hashed = [lanes.0.is_some(), lanes.1.is_some()];
        match lanes {
            (Some(first), Some(second)) => self.hash_two(first, second),
            (Some(only), None) | (None, Some(only)) => self.hash_one(only),
            (None, None) => {}
        }
        hashed
    }

    /// The hasher of a piece and its next bytes; `None` if there are none, or another thread holds the hasher.
    fn lane<'a>(&self, of: &'a Piece) -> Option<Lane<'a>> {
        let guard = of.part.take_hasher(of.at)?;
        let (bytes, taken) = self.bytes(of, &guard)?;
        Some(Lane { of, guard, bytes, taken })
    }

    /// The next bytes of a hasher, from memory or else from the file; `None` if there are none, or the file cannot be
    /// read. Verification meets that failure again.
    fn bytes(&self, of: &Piece, guard: &HasherGuard<'_>) -> Option<(Bytes, usize)> {
        if guard.ready() == 0 {
            return None;
        }
        if let Some((kept, taken)) = self.state().kept(of, guard) {
            return Some((Bytes::Kept(kept), taken));
        }
        let mut block = Vec::new();
        guard.read_back(&mut block, BLOCK).ok().filter(|()| !block.is_empty())?;
        Some((Bytes::Read(block), 0))
    }

    /// Hashes the bytes of one lane.
    fn hash_one(&self, mut lane: Lane<'_>) {
        lane.guard.update(&lane.bytes[lane.taken..]);
        lane.taken = lane.bytes.len();
        self.end(lane);
    }

    /// Hashes two pieces side by side as long as both have bytes.
    fn hash_two<'l>(&self, mut a: Lane<'l>, mut b: Lane<'l>) {
        loop {
            let len = a.rest().len().min(b.rest().len());
            HasherGuard::update_two(
                [&mut a.guard, &mut b.guard],
                [&a.bytes[a.taken..a.taken + len], &b.bytes[b.taken..b.taken + len]],
            );
            a.taken += len;
            b.taken += len;
            for lane in [&mut a, &mut b] {
                if lane.rest().is_empty() {
                    let next = self.bytes(lane.of, &lane.guard);
                    (lane.bytes, lane.taken) = next.unwrap_or((Bytes::Read(Vec::new()), 0));
                }
            }
            if a.rest().is_empty() || b.rest().is_empty() || self.is_stopped() {
                break;
            }
        }
        self.end(a);
        self.end(b);
    }

    /// Puts back the hasher, and the bytes that were not hashed. Reports a wrong piece to the coordinator.
    fn end(&self, lane: Lane<'_>) {
        let Lane { of, guard, bytes, taken } = lane;
        if let Bytes::Kept(bytes) = bytes
            && taken < bytes.end - bytes.start
        {
            let (generation, start) = (guard.generation(), guard.at() - taken as u64);
            let range = ByteRange::new(start, start + (bytes.end - bytes.start) as u64);
            let mut state = self.state();
            if !of.target.has_failed.load(Ordering::Relaxed) {
                state.kept.push(Kept { of: of.clone(), generation, bytes, range });
            }
        }
        let end = guard.finish();
        match end {
            PieceEnd::Incomplete => return,
            PieceEnd::Verified => of.target.provenance().forget(of.range()),
            // The coordinator has ended only if the run has.
            PieceEnd::Wrong(_) => drop(self.wrong.send(of.target.id)),
        }
        self.state().kept.retain(|kept| !kept.of.is(of));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
