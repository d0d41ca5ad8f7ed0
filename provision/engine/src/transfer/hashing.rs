//! Hashing while fetching: two files at a time, out of the memory that they were received into.
//!
//! A hash is one chain, and one chain leaves most of a processor's SHA unit idle: two of them side by side cost little
//! more than one (see `digest::lanes`). So what is written is not hashed at once. It waits, still in memory, until
//! another file has something too, or until so much waits that the cache would lose it. Then a thread takes both.
//!
//! What waits is bounded. What finds no room is read back from the page cache when its turn comes, and whatever is left
//! when a file is complete is hashed before it is proven: waiting costs time at most, never a byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffers::Buffer;
use provision_disk::{HasherGuard, PartFile, Written};

/// The most that is kept in memory for its turn, in bytes.
const KEPT: usize = 4 << 20;

/// A file with so many bytes waiting does not wait for another.
const PATIENCE: u64 = 2 << 20;

/// How much is read back at once.
const BLOCK: usize = 256 << 10;

/// What waits to be hashed.
pub(super) struct Hashing {
    /// The most threads that hash at once.
    threads: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files with bytes to take, each once, and how many bytes.
    waiting: Vec<(Arc<PartFile>, u64)>,
    kept: Vec<Kept>,
    kept_bytes: usize,
    working: usize,
}

/// Bytes that are in a file, and still in memory.
struct Kept {
    part: Arc<PartFile>,
    generation: u64,
    at: u64,
    bytes: Buffer,
}

/// A file whose hasher this thread has, and what it takes next.
struct Lane<'a> {
    part: &'a Arc<PartFile>,
    lease: HasherGuard<'a>,
    bytes: Bytes,
    /// How many of `bytes` have been taken.
    taken: usize,
}

/// Where bytes were found.
enum Bytes {
    Kept(Buffer),
    Read(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Kept(buffer) => buffer,
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
    fn waits(&mut self, part: Arc<PartFile>, ready: u64) {
        match self.waiting.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &part)) {
            Some((_, before)) => *before = ready,
            None => self.waiting.push((part, ready)),
        }
    }

    fn is_worth_it(&self) -> bool {
        self.waiting.len() > 1 || self.waiting.iter().any(|(_, ready)| *ready >= PATIENCE)
    }

    /// What is kept of the bytes that a lease takes next, and how many of them come before.
    fn kept(&mut self, part: &Arc<PartFile>, lease: &HasherGuard<'_>) -> Option<(Buffer, usize)> {
        let next = |kept: &Kept| {
            let range = kept.at..kept.at + kept.bytes.len() as u64;
            Arc::ptr_eq(&kept.part, part)
                && kept.generation == lease.generation()
                && range.contains(&lease.at())
        };
        let at = self.kept.iter().position(next)?;
        let kept = self.kept.swap_remove(at);
        self.kept_bytes -= kept.bytes.len();
        Some((kept.bytes, (lease.at() - kept.at) as usize))
    }

    fn forget(&mut self, unwanted: impl Fn(&Kept) -> bool) {
        self.kept.retain(|kept| !unwanted(kept));
        self.kept_bytes = self.kept.iter().map(|kept| kept.bytes.len()).sum();
    }
}

impl Hashing {
    pub(super) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), state: Mutex::default() }
    }

    /// Takes note that bytes have been written to `part`: all of `bytes` at `at`, where they are still in memory. True
    /// where a thread should [`Hashing::work`].
    pub(super) fn offer(
        &self,
        part: &Arc<PartFile>,
        at: u64,
        bytes: Option<Buffer>,
        written: Written,
    ) -> bool {
        let Written { hashed, ready, generation } = written;
        if ready == 0 {
            return false;
        }
        let mut state = self.state();
        state.waits(part.clone(), ready);
        // Bytes that others have to come before would keep memory for nothing.
        let soon = (hashed..hashed + ready).contains(&at);
        if let Some(bytes) = bytes.filter(|bytes| soon && state.kept_bytes + bytes.len() <= KEPT) {
            state.kept_bytes += bytes.len();
            state.kept.push(Kept { part: part.clone(), generation, at, bytes });
        }
        let begin = state.working < self.threads && state.is_worth_it();
        state.working += usize::from(begin);
        begin
    }

    /// Hashes while it is worth it. Blocks. What goes wrong comes up again when the file is proven.
    pub(super) fn work(&self) {
        while let Some((first, second)) = self.next() {
            let second = second.as_ref();
            let lanes = (self.lane(&first), second.and_then(|second| self.lane(second)));
            // Whoever has a hasher looks again itself: only what was hashed here is looked at once more.
            let hashed = [lanes.0.is_some(), lanes.1.is_some()];
            match lanes {
                (Some(first), Some(second)) => self.hash_two(first, second),
                (Some(only), None) | (None, Some(only)) => hash_one(only),
                (None, None) => {}
            }
            for part in [Some(&first), second]
                .into_iter()
                .zip(hashed)
                .filter_map(|(part, hashed)| part.filter(|_| hashed))
            {
                let ready = part.ready();
                if ready > 0 {
                    self.state().waits(part.clone(), ready);
                }
            }
        }
    }

    /// Hashes all that waits of a file of which every byte is written, and keeps nothing more of it. Blocks.
    pub(super) fn finish(&self, part: &Arc<PartFile>) {
        self.state().waiting.retain(|(other, _)| !Arc::ptr_eq(other, part));
        while let Some(lane) = self.lane(part) {
            hash_one(lane);
        }
        self.forget(part);
    }

    /// Keeps nothing more of a file: its bytes are not wanted now.
    pub(super) fn forget(&self, part: &Arc<PartFile>) {
        let mut state = self.state();
        state.waiting.retain(|(other, _)| !Arc::ptr_eq(other, part));
        state.forget(|kept| Arc::ptr_eq(&kept.part, part));
    }

    /// Keeps nothing more of any file: the run ends, and whatever is not hashed is read again by the next.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.forget(|_| true);
    }

    /// One or two files that are worth a look; `None` where this thread is to stop.
    fn next(&self) -> Option<(Arc<PartFile>, Option<Arc<PartFile>>)> {
        let mut state = self.state();
        if !state.is_worth_it() {
            state.working -= 1;
            return None;
        }
        // Those that have waited for most: together they take the longest way side by side.
        state.waiting.sort_by_key(|(_, ready)| *ready);
        let first = state.waiting.pop()?.0;
        let second = state.waiting.pop().map(|(part, _)| part);
        Some((first, second))
    }

    /// The hasher of a file and its next bytes, unless it has none or another thread has it.
    fn lane<'a>(&self, part: &'a Arc<PartFile>) -> Option<Lane<'a>> {
        let lease = part.take_hasher()?;
        let (bytes, taken) = self.bytes(part, &lease)?;
        Some(Lane { part, lease, bytes, taken })
    }

    /// The next bytes that a lease takes, from memory or else from the file; `None` where there are none, or the file
    /// cannot be read, which comes up again when it is proven.
    fn bytes(&self, part: &Arc<PartFile>, lease: &HasherGuard<'_>) -> Option<(Bytes, usize)> {
        if let Some((kept, taken)) = self.state().kept(part, lease) {
            return Some((Bytes::Kept(kept), taken));
        }
        let mut block = Vec::new();
        lease.read_back(&mut block, BLOCK).ok().filter(|()| !block.is_empty())?;
        Some((Bytes::Read(block), 0))
    }

    /// Hashes two files side by side for as long as both have bytes.
    fn hash_two<'l>(&self, mut a: Lane<'l>, mut b: Lane<'l>) {
        loop {
            let len = a.rest().len().min(b.rest().len());
            HasherGuard::update_two(
                [&mut a.lease, &mut b.lease],
                [&a.bytes[a.taken..a.taken + len], &b.bytes[b.taken..b.taken + len]],
            );
            a.taken += len;
            b.taken += len;
            for lane in [&mut a, &mut b] {
                if lane.rest().is_empty() {
                    let next = self.bytes(lane.part, &lane.lease);
                    (lane.bytes, lane.taken) = next.unwrap_or((Bytes::Read(Vec::new()), 0));
                }
            }
            if a.rest().is_empty() || b.rest().is_empty() {
                break;
            }
        }
        self.keep(a);
        self.keep(b);
    }

    /// Puts back what was not taken.
    fn keep(&self, lane: Lane<'_>) {
        let Lane { part, lease, bytes, taken } = lane;
        if let Bytes::Kept(bytes) = bytes
            && taken < bytes.len()
        {
            let mut state = self.state();
            state.kept_bytes += bytes.len();
            let (generation, at) = (lease.generation(), lease.at() - taken as u64);
            state.kept.push(Kept { part: part.clone(), generation, at, bytes });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes what a lane has at hand.
fn hash_one(mut lane: Lane<'_>) {
    lane.lease.update(&lane.bytes[lane.taken..]);
}

#[cfg(test)]
mod tests;
