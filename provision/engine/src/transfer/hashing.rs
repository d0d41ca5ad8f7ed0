//! Hashing during the download: two files at a time, from the receive buffers.
//!
//! A hash is one chain of instructions and leaves most of a processor's SHA unit idle. Two hashes side by side cost
//! little more than one (see `digest::lanes`). So written bytes are not hashed at once. They wait in memory until
//! another file has bytes, too, or until so many wait that the processor's cache would lose them. Then a thread hashes
//! both files.
//!
//! The memory for waiting bytes is bounded. Bytes without room are read back from the page cache later. Bytes that
//! still wait when a file is complete are hashed before it is verified. So waiting costs time only: no byte is skipped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffers::Buffer;
use provision_disk::{HasherGuard, PartFile, Written};

/// The most bytes that wait in memory.
const MAX_KEPT: usize = 4 << 20;

/// A file with this many waiting bytes is hashed alone.
const ENOUGH: u64 = 2 << 20;

/// The block size for bytes that are read back.
const BLOCK: usize = 256 << 10;

/// The files and bytes that wait to be hashed.
pub(super) struct Hashing {
    /// The most threads that hash at the same time.
    threads: usize,
    state: Mutex<State>,
    /// The run stops: a file may have minutes of bytes to hash, and the next run reads them again.
    is_stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Files with waiting bytes, each once, and the number of bytes.
    waiting: Vec<(Arc<PartFile>, u64)>,
    kept: Vec<Kept>,
    kept_bytes: usize,
    working: usize,
}

/// Bytes that are written to a file, and still in memory.
struct Kept {
    part: Arc<PartFile>,
    generation: u64,
    at: u64,
    bytes: Buffer,
}

/// A file whose hasher this thread holds, and the next bytes to hash.
struct Lane<'a> {
    part: &'a Arc<PartFile>,
    guard: HasherGuard<'a>,
    bytes: Bytes,
    /// The number of `bytes` that are hashed already.
    taken: usize,
}

/// Bytes to hash, from memory or read back.
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
        self.waiting.len() > 1 || self.waiting.iter().any(|(_, ready)| *ready >= ENOUGH)
    }

    /// The kept buffer with the next bytes of a hasher, and their offset in it.
    fn kept(&mut self, part: &Arc<PartFile>, guard: &HasherGuard<'_>) -> Option<(Buffer, usize)> {
        let next = |kept: &Kept| {
            let range = kept.at..kept.at + kept.bytes.len() as u64;
            Arc::ptr_eq(&kept.part, part)
                && kept.generation >= guard.generation()
                && range.contains(&guard.at())
        };
        let at = self.kept.iter().position(next)?;
        let kept = self.kept.swap_remove(at);
        self.kept_bytes -= kept.bytes.len();
        Some((kept.bytes, (guard.at() - kept.at) as usize))
    }

    fn forget(&mut self, unwanted: impl Fn(&Kept) -> bool) {
        self.kept.retain(|kept| !unwanted(kept));
        self.kept_bytes = self.kept.iter().map(|kept| kept.bytes.len()).sum();
    }
}

impl Hashing {
    pub(super) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), state: Mutex::default(), is_stopped: AtomicBool::new(false) }
    }

    /// Registers bytes that were written to `part` at `at`; `bytes` has them if they are still in memory. True if the
    /// caller should start a thread that calls [`Hashing::work`].
    pub(super) fn offer(
        &self,
        part: &Arc<PartFile>,
        at: u64,
        bytes: Option<Buffer>,
        written: Written,
    ) -> bool {
        let Written { is_next, ready, generation, .. } = written;
        if ready == 0 {
            return false;
        }
        let mut state = self.state();
        state.waits(part.clone(), ready);
        // Bytes behind a gap cannot be hashed soon, so they are not kept.
        if let Some(bytes) = bytes.filter(|bytes| is_next && state.kept_bytes + bytes.len() <= MAX_KEPT) {
            state.kept_bytes += bytes.len();
            state.kept.push(Kept { part: part.clone(), generation, at, bytes });
        }
        let begin = state.working < self.threads && state.is_worth_it();
        state.working += usize::from(begin);
        begin
    }

    /// Hashes as long as enough bytes wait. Blocks. A read failure is not reported here: verification meets it again.
    pub(super) fn work(&self) {
        while let Some((first, second)) = self.next() {
            let second = second.as_ref();
            let lanes = (self.lane(&first), second.and_then(|second| self.lane(second)));
            // Another thread that holds a hasher checks for new bytes itself. Only the files hashed here are checked
            // again.
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

    /// Ends the work of all threads, each after its block.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Hashes all waiting bytes of a completely written file, unless the run stops, and forgets the file. Blocks.
    pub(super) fn finish(&self, part: &Arc<PartFile>) {
        self.state().waiting.retain(|(other, _)| !Arc::ptr_eq(other, part));
        while !self.is_stopped()
            && let Some(lane) = self.lane(part)
        {
            hash_one(lane);
        }
        self.forget(part);
    }

    /// Drops the waiting bytes of a file.
    pub(super) fn forget(&self, part: &Arc<PartFile>) {
        let mut state = self.state();
        state.waiting.retain(|(other, _)| !Arc::ptr_eq(other, part));
        state.forget(|kept| Arc::ptr_eq(&kept.part, part));
    }

    /// Drops the waiting bytes of all files. The run ends, and the next run reads them again.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.forget(|_| true);
    }

    /// One or two files to hash; `None` if this thread has to stop.
    fn next(&self) -> Option<(Arc<PartFile>, Option<Arc<PartFile>>)> {
        let mut state = self.state();
        if self.is_stopped() || !state.is_worth_it() {
            state.working -= 1;
            return None;
        }
        // The files with the most waiting bytes can be hashed side by side for longest.
        state.waiting.sort_by_key(|(_, ready)| *ready);
        let first = state.waiting.pop()?.0;
        let second = state.waiting.pop().map(|(part, _)| part);
        Some((first, second))
    }

    /// The hasher of a file and its next bytes; `None` if there are none, or another thread holds the hasher.
    fn lane<'a>(&self, part: &'a Arc<PartFile>) -> Option<Lane<'a>> {
        let guard = part.take_ready()?;
        let (bytes, taken) = self.bytes(part, &guard)?;
        Some(Lane { part, guard, bytes, taken })
    }

    /// The next bytes of a hasher, from memory or else from the file; `None` if there are none, or the file cannot be
    /// read. Verification meets that failure again.
    fn bytes(&self, part: &Arc<PartFile>, guard: &HasherGuard<'_>) -> Option<(Bytes, usize)> {
        if let Some((kept, taken)) = self.state().kept(part, guard) {
            return Some((Bytes::Kept(kept), taken));
        }
        let mut block = Vec::new();
        guard.read_back(&mut block, BLOCK).ok().filter(|()| !block.is_empty())?;
        Some((Bytes::Read(block), 0))
    }

    /// Hashes two files side by side as long as both have bytes.
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
                    let next = self.bytes(lane.part, &lane.guard);
                    (lane.bytes, lane.taken) = next.unwrap_or((Bytes::Read(Vec::new()), 0));
                }
            }
            if a.rest().is_empty() || b.rest().is_empty() || self.is_stopped() {
                break;
            }
        }
        self.keep(a);
        self.keep(b);
    }

    /// Puts back the bytes that were not hashed.
    fn keep(&self, lane: Lane<'_>) {
        let Lane { part, guard, bytes, taken } = lane;
        if let Bytes::Kept(bytes) = bytes
            && taken < bytes.len()
        {
            let mut state = self.state();
            state.kept_bytes += bytes.len();
            let (generation, at) = (guard.generation(), guard.at() - taken as u64);
            state.kept.push(Kept { part: part.clone(), generation, at, bytes });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes the bytes of one lane.
fn hash_one(mut lane: Lane<'_>) {
    lane.guard.update(&lane.bytes[lane.taken..]);
}

#[cfg(test)]
mod tests;
