//! The limits of one input: memory, counted by the allocator, and processor time.
//!
//! libFuzzer's limits are too coarse. It checks the process's memory once a second, and its limit for a single
//! allocation needs a sanitizer. Its `-timeout` is wall time, in which a busy machine may not have run the input at
//! all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The memory that any input may take, in bytes.
const FLAT: usize = 1 << 20;
/// The further memory for each byte of the input. TOML's tree of a text of brackets takes the most.
const PER_BYTE: usize = 1024;
/// The processor time that any input may take.
const TIME: Duration = Duration::from_secs(1);
/// An allocation larger than this is refused at once, before it can take the machine down.
const LARGEST: usize = 512 << 20;

#[global_allocator]
static MEMORY: Memory = Memory { held: AtomicUsize::new(0), peak: AtomicUsize::new(0) };

/// The system's allocator with a count of the allocated bytes.
struct Memory {
    held: AtomicUsize,
    peak: AtomicUsize,
}

/// Runs `check` on `data`.
///
/// # Panics
/// If `check` panics, holds more memory at once than the input may take, or takes longer.
pub fn bounded(data: &[u8], check: impl FnOnce(&[u8])) {
    let before = MEMORY.held.load(Relaxed);
    MEMORY.peak.store(before, Relaxed);
    let started = processor_time();
    check(data);
    let (time, length) = (processor_time().saturating_sub(started), data.len());
    assert!(time <= TIME, "{length} bytes of input cost {time:?} of processor time, {TIME:?} allowed");
    let (cost, allowed) = (MEMORY.peak.load(Relaxed).saturating_sub(before), FLAT + PER_BYTE * length);
    assert!(cost <= allowed, "{length} bytes of input cost {cost} bytes of memory, {allowed} allowed");
}

/// The processor time that this thread has taken.
#[must_use]
pub fn processor_time() -> Duration {
    let spec = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spec.tv_sec.cast_unsigned(), spec.tv_nsec.cast_unsigned() as u32)
}

// SAFETY: every call goes to the system's allocator unchanged, or returns null, which the trait allows.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST {
            return std::ptr::null_mut();
        }
        let held = self.held.fetch_add(layout.size(), Relaxed) + layout.size();
        self.peak.fetch_max(held, Relaxed);
        // SAFETY: the caller's own promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.held.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's own promises.
        unsafe { System.dealloc(at, layout) }
    }
}
