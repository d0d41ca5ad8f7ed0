//! What the coordinator and a claim say to each other while it runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

/// What the coordinator and a claim say to each other while it runs.
#[derive(Default)]
pub(super) struct Handle {
    /// Bytes of the claim that have arrived.
    pub(super) received: AtomicU64,
    /// Bytes of the body that have arrived, wanted or not.
    pub(super) moved: AtomicU64,
    pub(super) state: AtomicU8,
    pub(super) notify: Notify,
}

/// Flags of `state`.
pub(super) const WAITING: u8 = 1;
pub(super) const STALLED: u8 = 2;
const STOPPED: u8 = 4;

impl Handle {
    /// The claim has changed: look again, now.
    pub(super) fn look(&self) {
        self.notify.notify_one();
    }

    /// Nothing moves: give up.
    pub(super) fn stall(&self) {
        self.state.fetch_or(STALLED, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// The run is to end: write what has come, and give up.
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

    /// Waits for a turn: it is the limiter that nothing moves for.
    pub(super) async fn wait_until(&self, at: Instant) {
        /// Ends the wait however it ends.
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

    /// Whether it is the limiter that nothing moves for.
    pub(super) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Relaxed) & WAITING != 0
    }
}
