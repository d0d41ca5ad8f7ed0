//! Receive buffers, pooled and reused.
//!
//! Each connection has two buffers: one is filled while the other is written. All buffers share one budget, so a run's
//! memory depends neither on its file sizes nor on the disk's speed (invariant I7). Reuse also saves the kernel from
//! clearing fresh pages. A few connections get long buffers, because each buffer costs two thread wake-ups and a lock
//! of its file. Many connections get short ones.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The budget for all buffers of a run, in bytes.
const BUDGET: usize = 16 << 20;

/// The shortest buffer that is worth a write, and the longest that is still in the processor's cache when it is hashed.
const SHORTEST: usize = 32 << 10;
const LONGEST: usize = 1 << 20;

/// The pool of a run's buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    /// Total bytes of the run.
    total: u64,
    /// The highest number of connections so far.
    connections: AtomicUsize,
    /// The length of a new buffer.
    len: AtomicUsize,
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer that is filled from its start. It returns to its pool when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A pool for a run that downloads `total` bytes.
    pub(super) fn new(total: u64) -> Arc<Self> {
        let buffers = Self {
            total,
            connections: AtomicUsize::new(0),
            len: AtomicUsize::new(SHORTEST),
            free: Mutex::default(),
        };
        buffers.share_among(1);
        Arc::new(buffers)
    }

    /// Shares the budget among `connections`. More connections than before make new buffers shorter; a longer buffer
    /// that returns is freed.
    pub(super) fn share_among(&self, connections: usize) {
        if self.connections.fetch_max(connections, Ordering::Relaxed) < connections {
            self.len.store(len(self.total, connections), Ordering::Relaxed);
            self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Takes an empty buffer.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; self.len.load(Ordering::Relaxed)].into_boxed_slice());
        Buffer { bytes, filled: 0, home: self.clone() }
    }
}

/// The buffer length. It also depends on the run's total: a kill loses the bytes in buffers, and that loss has to stay
/// small in comparison.
fn len(total: u64, connections: usize) -> usize {
    let share = usize::try_from(total / 200).unwrap_or(usize::MAX) / connections;
    // A power of two, rounded down, so that the budget holds.
    let most = (BUDGET / 2 / connections + 1).next_power_of_two() / 2;
    let most = most.clamp(SHORTEST, LONGEST);
    share.checked_next_power_of_two().unwrap_or(most).clamp(SHORTEST, most)
}

impl Buffer {
    /// The unfilled rest.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Marks `len` more bytes as filled.
    pub(super) fn fill(&mut self, len: usize) {
        debug_assert!(self.filled + len <= self.bytes.len(), "more bytes than the buffer has room for");
        self.filled += len;
    }

    /// Drops the last filled bytes, so that `len` are left.
    pub(super) fn truncate(&mut self, len: usize) {
        self.filled = self.filled.min(len);
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() != self.home.len.load(Ordering::Relaxed) {
            return;
        }
        self.home.free.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_buffers_does_not_depend_on_the_total() {
        for connections in [1, 4, 16, 64, 256] {
            let lens = [1 << 30, 20 << 30, 1 << 50].map(|total| len(total, connections));
            assert!(lens.iter().all(|len| 2 * len * connections <= BUDGET), "{connections}: {lens:?}");
            assert_eq!(lens[1], lens[2], "{connections}");
        }
        assert_eq!(len(1000, 64), SHORTEST);
    }

    #[test]
    fn a_buffer_is_reused_and_then_empty() {
        let buffers = Buffers::new(1 << 30);
        let mut buffer = buffers.take();
        buffer.room()[0] = 7;
        buffer.fill(1);
        assert_eq!(*buffer, [7]);
        let address = buffer.as_ptr();
        drop(buffer);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn more_connections_get_shorter_buffers_for_good() {
        let buffers = Buffers::new(1 << 40);
        buffers.share_among(4);
        let mut long = buffers.take();
        assert_eq!(long.room().len(), LONGEST);
        buffers.share_among(64);
        drop(long);
        assert_eq!(buffers.take().room().len(), BUDGET / 128);
        buffers.share_among(2);
        assert_eq!(buffers.take().room().len(), BUDGET / 128);
    }
}
