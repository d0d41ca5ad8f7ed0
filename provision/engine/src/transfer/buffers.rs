//! Memory for bytes on their way, used again and again.
//!
//! Each connection has two buffers: one is filled while the other is written. All of them share one budget, so what a
//! run holds depends neither on how large its files are nor on how slow its disk is (invariant I7), and no byte waits
//! for the kernel to clear a fresh page for it. Few connections have long buffers, because they are fast: each
//! buffer costs two threads a wake-up and its file a lock. Many have short ones.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What all buffers of a run may take together, in bytes.
const BUDGET: usize = 16 << 20;

/// The shortest worth a write of its own, and the longest: a longer one is out of the cache before it is hashed.
const SHORTEST: usize = 32 << 10;
const LONGEST: usize = 1 << 20;

/// Where they are taken from.
#[derive(Debug)]
pub(super) struct Buffers {
    /// Bytes of the set.
    total: u64,
    /// The most connections that there have been at once.
    connections: AtomicUsize,
    /// How long a buffer is that is taken now.
    len: AtomicUsize,
    free: Mutex<Vec<Box<[u8]>>>,
}

/// Some of its bytes are filled. Returns to where it was taken from when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// For a run that fetches `total` bytes.
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

    /// There are so many connections now. Where they are more than ever before, buffers are shorter from now on: one
    /// that comes back and is too long is given up.
    pub(super) fn share_among(&self, connections: usize) {
        if self.connections.fetch_max(connections, Ordering::Relaxed) < connections {
            self.len.store(len(self.total, connections), Ordering::Relaxed);
            self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// An empty one.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; self.len.load(Ordering::Relaxed)].into_boxed_slice());
        Buffer { bytes, filled: 0, home: self.clone() }
    }
}

/// What a kill loses is in buffers: it stays small beside the set.
fn len(total: u64, connections: usize) -> usize {
    let share = usize::try_from(total / 200).unwrap_or(usize::MAX) / connections;
    // A power of two, rounded down, so that the budget holds.
    let most = (BUDGET / 2 / connections + 1).next_power_of_two() / 2;
    let most = most.clamp(SHORTEST, LONGEST);
    share.checked_next_power_of_two().unwrap_or(most).clamp(SHORTEST, most)
}

impl Buffer {
    /// What is not filled.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// So many bytes more have been filled.
    pub(super) fn fill(&mut self, len: usize) {
        debug_assert!(self.filled + len <= self.bytes.len(), "no more than there was room for");
        self.filled += len;
    }

    /// Takes the last filled bytes back, so that `len` are left.
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
    fn what_connections_hold_does_not_depend_on_the_size_of_the_set() {
        for connections in [1, 4, 16, 64, 256] {
            let lens = [1 << 30, 20 << 30, 1 << 50].map(|total| len(total, connections));
            assert!(lens.iter().all(|len| 2 * len * connections <= BUDGET), "{connections}: {lens:?}");
            assert_eq!(lens[1], lens[2], "{connections}");
        }
        assert_eq!(len(1000, 64), SHORTEST);
    }

    #[test]
    fn a_buffer_is_used_again_and_empty_then() {
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
    fn more_connections_have_shorter_buffers_and_fewer_do_not_get_longer_ones() {
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
