//! Waiting for one's turn to change a lock.
//!
//! A change takes milliseconds, so nobody hears of a wait that is over in a second. One that lasts means that a writer was
//! stopped (Ctrl-Z), or that the volume hangs: then its name is said, and after a minute the wait is given up. Waiting
//! is asking again: the kernel wakes who waits in `flock`, but lets nobody wait for a while only.

use std::time::Duration;

/// How long it is until the next look.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a wait is nobody's business.
const QUIET: Duration = Duration::from_secs(1);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_mins(1);

/// What a writer does while it waits.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Lets so much time go by.
    pub pause: &'a dyn Fn(Duration),
    /// Is told once who is waited for, when that takes long.
    pub say: &'a dyn Fn(&str),
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Turn")
    }
}

impl<'a> Turn<'a> {
    /// Waits for real.
    pub fn saying(say: &'a dyn Fn(&str)) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a process that is not ours wakes nobody: it has to be asked again"
        )]
        Self { pause: &|time| std::thread::sleep(time), say }
    }

    /// A wait that begins now.
    pub(super) fn begin(self) -> Wait<'a> {
        Wait { turn: self, waited: Duration::ZERO, is_said: false }
    }
}

/// One wait.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    turn: Turn<'a>,
    waited: Duration,
    is_said: bool,
}

impl Wait<'_> {
    /// Waits a little for `holder`; false where it has been waited for long enough.
    pub(super) fn a_little(&mut self, holder: impl FnOnce() -> String) -> bool {
        if self.waited >= LONGEST {
            return false;
        }
        if self.waited >= QUIET && !std::mem::replace(&mut self.is_said, true) {
            (self.turn.say)(&holder());
        }
        (self.turn.pause)(PAUSE);
        self.waited += PAUSE;
        true
    }
}
