//! The wait for the write lock of a lock file.
//!
//! A change takes milliseconds, so a wait below a second is silent. A longer one means that a writer is stopped
//! (Ctrl-Z) or that the volume hangs: the wait then announces the holder, and gives up after a minute. The wait polls,
//! because a blocking `flock` has no timeout.

use std::time::Duration;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// The part of a wait that is not announced.
const QUIET: Duration = Duration::from_secs(1);
/// The timeout of the wait.
pub const LONGEST: Duration = Duration::from_mins(1);

/// The actions of a waiting writer.
#[derive(Clone, Copy)]
pub struct LockWait<'a> {
    /// Sleeps for a duration.
    pub pause: &'a dyn Fn(Duration),
    /// Receives the lock holder, once, when the wait takes long.
    pub announce: &'a dyn Fn(&str),
}

impl std::fmt::Debug for LockWait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockWait")
    }
}

impl<'a> LockWait<'a> {
    /// A wait that sleeps in real time.
    pub fn announcing(announce: &'a dyn Fn(&str)) -> Self {
        #[expect(clippy::disallowed_methods, reason = "another process cannot wake this one, so it polls")]
        Self { pause: &|time| std::thread::sleep(time), announce }
    }

    /// Starts a wait.
    pub(super) fn begin(self) -> Wait<'a> {
        Wait { callbacks: self, waited: Duration::ZERO, is_announced: false }
    }
}

/// A wait in progress.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    callbacks: LockWait<'a>,
    waited: Duration,
    is_announced: bool,
}

impl Wait<'_> {
    /// Pauses once for `holder`; returns false after the timeout.
    pub(super) fn pause(&mut self, holder: impl FnOnce() -> String) -> bool {
        if self.waited >= LONGEST {
            return false;
        }
        if self.waited >= QUIET && !std::mem::replace(&mut self.is_announced, true) {
            (self.callbacks.announce)(&holder());
        }
        (self.callbacks.pause)(PAUSE);
        self.waited += PAUSE;
        true
    }
}
