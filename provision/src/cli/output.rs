//! Standard output and standard error. A thread of its own writes each, so that no other thread waits for a reader.
//!
//! A reader may stop: a terminal after Ctrl-S, a pager, a log driver that hangs (fault 107). Text waits in memory then.
//! - The transfer never waits. Progress for which there is no room is left out ([`Offer`]).
//! - A command that prints its result waits like every other program: for a pager without limit, for standard error
//!   [`PATIENCE`].
//! - After a stop, all waits end within [`LAST_WAIT`].
//!
//! Every line passes one filter, so that no name and no word of a host controls the terminal or turns the direction of
//! text (fault 112). The displays of progress colour lines and move the cursor; they filter each part themselves.

use std::fmt::{Display, Write as _};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use provision_core::terminal_text::is_unsafe;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A command waits while more bytes than this are unwritten.
const ROOM: usize = 64 << 10;
/// Progress is left out while more bytes than this are unwritten.
const MOST: usize = 4 << 20;
/// The longest single write: up to this length, writes of several processes to one pipe do not mix.
const PIECE: usize = rustix::pipe::PIPE_BUF;
/// The time for which the writer collects text, so that a burst of lines is few writes. A wait for the writer ends it.
const COLLECT: Duration = Duration::from_millis(5);
/// The longest wait for a reader of standard error that takes nothing: a container must start although its log hangs.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest wait for a reader after a stop.
const LAST_WAIT: Duration = Duration::from_millis(600);
/// The longest wait of one stream for lines of the other, which come first.
const ORDER: Duration = Duration::from_secs(1);

/// Standard output.
pub(crate) static OUT: Stream = Stream::new(rustix::stdio::stdout, None);
/// Standard error.
pub(crate) static ERR: Stream = Stream::new(rustix::stdio::stderr, Some(PATIENCE));

/// True after a stop.
static HURRY: AtomicBool = AtomicBool::new(false);

/// An output of the process.
pub(crate) struct Stream {
    descriptor: fn() -> BorrowedFd<'static>,
    /// The longest wait for a reader that takes nothing.
    patience: Option<Duration>,
    state: Mutex<State>,
    /// Text came, or was written.
    changed: Condvar,
}

struct State {
    waiting: Vec<u8>,
    /// The length of `waiting` and of the text that is being written.
    unwritten: usize,
    /// All bytes that were ever written.
    written: u64,
    has_writer: bool,
    /// The number of threads that wait for the writer.
    awaiting: usize,
    /// The reader is gone.
    is_closed: bool,
    /// `written` when a wait was given up, and its limit: until it grows, no other wait is as long.
    hung: Option<(u64, Duration)>,
}

impl Stream {
    const fn new(descriptor: fn() -> BorrowedFd<'static>, patience: Option<Duration>) -> Self {
        let state = State {
            waiting: Vec::new(),
            unwritten: 0,
            written: 0,
            has_writer: false,
            awaiting: 0,
            is_closed: false,
            hung: None,
        };
        Self { descriptor, patience, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Writes a result or a message; waits for room. `other` comes first: both may be one terminal.
    pub(super) fn line(&'static self, text: impl Display, other: &'static Self) {
        drop(other.wait(other.lock(), 0, Some(ORDER)));
        let state = self.wait(self.lock(), ROOM, self.patience);
        if state.unwritten <= MOST {
            self.push(state, &(harmless(&text.to_string()) + "\n"));
        }
    }

    /// Adds text, and starts the writer at the first.
    fn push(&'static self, mut state: MutexGuard<'_, State>, text: &str) {
        if state.is_closed {
            return;
        }
        if !state.has_writer {
            let writer = std::thread::Builder::new().name("output".to_owned()).spawn(|| self.serve());
            state.has_writer = writer.is_ok();
        }
        if !state.has_writer {
            // There is no thread left, so this one writes.
            drop(state);
            let _ = pieces(text.as_bytes()).try_for_each(|piece| self.write(piece));
            return;
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(text.as_bytes());
        state.unwritten += text.len();
        // A call for each line would cost more than the writes.
        if before == 0 || before < PIECE && state.waiting.len() >= PIECE {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until at most `most` bytes are unwritten, or the reader takes nothing for `limit`.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        most: usize,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        /// The time between two looks at [`HURRY`].
        const LOOK: Duration = Duration::from_millis(50);
        let (mut since, mut written, mut hurried) = (Instant::now(), state.written, false);
        state.awaiting += 1;
        self.changed.notify_all();
        while state.unwritten > most && !state.is_closed {
            let hurry = HURRY.load(Ordering::Relaxed);
            if hurry != hurried || (state.written != written && !hurry) {
                (since, written, hurried) = (Instant::now(), state.written, hurry);
            }
            let limit = if hurry { Some(LAST_WAIT) } else { limit };
            if let Some(limit) = limit {
                let is_known = state.hung.is_some_and(|(at, waited)| at == state.written && waited >= limit);
                let is_over = since.elapsed() >= limit;
                if is_over {
                    state.hung = Some((state.written, limit));
                }
                if is_known || is_over {
                    break;
                }
            }
            let woken = self.changed.wait_timeout(state, LOOK);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.awaiting -= 1;
        state
    }

    /// The writer: writes the text that comes, for ever.
    fn serve(&self) {
        loop {
            let state = self.changed.wait_while(self.lock(), |state| state.waiting.is_empty());
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let may_collect = |state: &mut State| state.awaiting == 0 && state.waiting.len() < PIECE;
            let state = self.changed.wait_timeout_while(state, COLLECT, may_collect);
            let text = std::mem::take(&mut state.unwrap_or_else(PoisonError::into_inner).0.waiting);
            for piece in pieces(&text) {
                let result = self.write(piece);
                let mut state = self.lock();
                state.unwritten -= piece.len();
                state.written += piece.len() as u64;
                state.is_closed |= result == Err(Errno::PIPE);
                if state.awaiting > 0 {
                    self.changed.notify_all();
                }
            }
        }
    }

    fn write(&self, mut bytes: &[u8]) -> rustix::io::Result<()> {
        let descriptor = (self.descriptor)();
        while !bytes.is_empty() {
            match rustix::io::write(descriptor, bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::INTR) => {}
                // Another process that has the same terminal or pipe has set it so.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text in pieces of at most [`PIECE`] bytes, at the ends of lines where there are any.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = match text.get(..PIECE) {
            Some(most) => most.iter().rposition(|byte| *byte == b'\n').map_or(PIECE, |at| at + 1),
            None => text.len(),
        };
        let (piece, rest) = text.split_at(length);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A stream as the displays of progress use it: it never waits, and does not filter.
pub(crate) struct Offer(pub(crate) &'static Stream);

impl Offer {
    /// Writes text. With `must`, also where there is no room: the number of such texts is bounded by the plan.
    ///
    /// # Errors
    /// `WouldBlock` without room, `BrokenPipe` if the reader is gone.
    pub(crate) fn put(&self, text: &str, must: bool) -> io::Result<()> {
        let state = self.0.lock();
        if state.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !must && state.unwritten + text.len() > MOST {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.push(state, text);
        Ok(())
    }

    /// True while earlier text is not written.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.lock().unwritten > 0
    }

    /// True while the reader is slow, or does not read.
    pub(crate) fn is_behind(&self) -> bool {
        self.0.lock().unwritten > ROOM
    }
}

/// Ends all waits for readers within [`LAST_WAIT`], now and later: the process has to stop.
pub(crate) fn hurry() {
    HURRY.store(true, Ordering::Relaxed);
}

/// Waits until everything is written. Call it before the process ends.
pub(crate) fn flush() {
    for stream in [&OUT, &ERR] {
        drop(stream.wait(stream.lock(), 0, stream.patience));
    }
}

/// The text with `·` in place of each character that would control the terminal; line ends stay.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) && c != '\n' { '·' } else { c }).collect()
}

/// JSON with `\u….` in place of unsafe characters. They occur only inside strings, where both forms mean the same.
pub(crate) fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) && c != '\n' {
            // All of them are one UTF-16 code unit.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_the_ends_of_lines() {
        let line = "x".repeat(PIECE - 10) + "\n";
        let text = [line.as_str(), "short\n", &line, &"y".repeat(PIECE + 1), "\nend"].concat();
        let found: Vec<_> = pieces(text.as_bytes()).map(<[u8]>::len).collect();
        assert_eq!(found, [line.len() + 6, line.len(), PIECE, 5]);
        assert_eq!(pieces(text.as_bytes()).collect::<Vec<_>>().concat(), text.as_bytes());
        assert_eq!(pieces(b"").count(), 0);
    }

    #[test]
    fn fault_112_lines_keep_their_ends_and_nothing_harmful() {
        assert_eq!(harmless("a\u{1b}[2J\u{202e}\t\r\nb"), "a·[2J···\nb");
        assert_eq!(escaped("{\"a\":\n\"\u{202e}\"}"), "{\"a\":\n\"\\u202e\"}");
    }
}
