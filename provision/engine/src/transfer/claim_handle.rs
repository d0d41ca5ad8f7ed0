//! Signals and counters between the coordinator and the task of a claim.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

/// Signals and counters between the coordinator and the task of a claim.
#[derive(Default)]
pub(super) struct Handle {
    /// Received bytes of the claim.
    pub(super) received: AtomicU64,
    /// Received bytes of the body, inside the claim or not.
    pub(super) moved: AtomicU64,
    pub(super) state: AtomicU8,
    pub(super) notify: Notify,
}

/// Flags of `state`. `WAITING`: the task waits for the limiter or the disk.
pub(super) const WAITING: u8 = 1;
pub(super) const STALLED: u8 = 2;
const STOPPED: u8 = 4;

impl Handle {
    /// The claim has changed: the task checks it now.
    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }

    /// The connection has stalled: the task ends with that failure.
    pub(super) fn stall(&self) {
        self.state.fetch_or(STALLED, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// The run stops: the task writes the bytes that it has received, and ends.
    pub(super) fn stop(&self) {
        self.state.fetch_or(STOPPED, Ordering::Relaxed);
        self.notify.notify_one();
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.state.load(Ordering::Relaxed) & STALLED != 0
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Relaxed) & STOPPED != 0
    }

    /// Waits for a turn of the limiter. The wait does not count as a stall.
    pub(super) async fn wait_until(&self, at: Instant) {
        /// Clears the flag when the wait ends or is dropped.
        struct Waiting<'a>(&'a Handle);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.state.fetch_and(!WAITING, Ordering::Relaxed);
            }
        }
        if at > Instant::now() {
            self.state.fetch_or(WAITING, Ordering::Relaxed);
            let _waiting = Waiting(self);
            tokio::time::sleep_until(at.into()).await;
        }
    }

    /// True while the task waits for the limiter or the disk, so the connection has not stalled.
    pub(super) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Relaxed) & WAITING != 0
    }
}
