//! The display of the questions to hosts: how many are answered. A person who waits a minute sees that something
//! happens, and a log gets a line every ten seconds.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use crate::cli::output::{ERR, Offer};
use crate::cli::{say, units};

/// The time before the first line, and between two, on a terminal, which has one line that is drawn again.
const ON_TERMINAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(100));
/// The same in a log.
const IN_LOG: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));

/// A display. Dropped, it leaves nothing on a terminal.
pub(super) struct AnswerProgress {
    files: usize,
    answered: usize,
    is_terminal: bool,
    next: Instant,
    is_drawn: bool,
}

impl AnswerProgress {
    /// A display for so many files.
    pub(super) fn new(files: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let (first, _) = if is_terminal { ON_TERMINAL } else { IN_LOG };
        Self { files, answered: 0, is_terminal, next: Instant::now() + first, is_drawn: false }
    }

    /// Counts an answer.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
        let now = Instant::now();
        if now < self.next || self.answered == self.files {
            return;
        }
        let (_, interval) = if self.is_terminal { ON_TERMINAL } else { IN_LOG };
        self.next = now + interval;
        let line = format!("asked {} of {}", self.answered, units::count(self.files, "file"));
        if self.is_terminal {
            // The cursor returns to the start, so that a message about a wait replaces the line. Without room it is
            // left out.
            let _ = Offer(&ERR).put(&format!("\r\u{1b}[2K{line}\r"), false);
            self.is_drawn = true;
        } else {
            say(line);
        }
    }
}

impl Drop for AnswerProgress {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = Offer(&ERR).put("\r\u{1b}[2K", true);
        }
    }
}
