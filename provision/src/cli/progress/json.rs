//! One JSON object per line on standard output: the event as it is, and `at`, the seconds since the start.
//!
//! [`Event::Received`] comes far more often than anyone wants to read it: per file it is written at most every
//! [`BETWEEN`], with the bytes of those that were held back. No byte is lost, and none is late for what it belongs
//! to: before any other event of a file its remainder is written, and all remainders at the end.
//!
//! JSON escapes the control characters that ASCII has; the others that could reach a terminal are escaped here.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, TryLockError};
use std::time::Duration;

use serde::Serialize;

use super::plain::Plain;
use super::{Clock, Progress, lock};
use provision_core::event::{Event, FileIndex, Observer};
use provision_core::terminal_text::is_unsafe;

/// Between two `received` of a file.
const BETWEEN: Duration = Duration::from_millis(100);

/// The observer.
pub(super) struct Json {
    plain: Plain,
    clock: Clock,
    out: Mutex<Out>,
    held_back: OnceLock<Box<[HeldBack]>>,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// Nobody reads any more.
    is_closed: bool,
}

/// What was received of a file and not yet written.
#[derive(Default)]
struct HeldBack {
    bytes: AtomicU64,
    /// When the next line may come, in milliseconds.
    due: AtomicU64,
}

#[derive(Serialize)]
struct Line<'a> {
    at: f64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Json {
    /// Writes objects to `to`, and leaves what people read to `plain`.
    pub(super) fn new(to: Box<dyn Write + Send>, plain: Plain, clock: Clock) -> Self {
        let out = Mutex::new(Out { to, is_closed: false });
        Self { plain, clock, out, held_back: OnceLock::new() }
    }

    fn received(&self, file: FileIndex, bytes: u64) {
        let Some(held_back) = self.held_back.get().and_then(|files| files.get(file)) else {
            return self.write(&mut lock(&self.out), &Event::Received { file, bytes });
        };
        held_back.bytes.fetch_add(bytes, Relaxed);
        let now = (self.clock)().as_millis() as u64;
        let due = held_back.due.load(Relaxed);
        if now < due {
            return;
        }
        // Where another thread writes, the bytes wait for the next chance: a slow reader must not slow a transfer.
        let mut out = match self.out.try_lock() {
            Ok(out) => out,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if held_back.due.compare_exchange(due, now + BETWEEN.as_millis() as u64, Relaxed, Relaxed).is_ok() {
            self.flush(&mut out, file);
        }
    }

    /// Writes what is held back of a file. Under the lock, so that nothing of it comes after a later event.
    fn flush(&self, out: &mut Out, file: FileIndex) {
        let Some(held_back) = self.held_back.get().and_then(|files| files.get(file)) else { return };
        let bytes = held_back.bytes.swap(0, Relaxed);
        if bytes > 0 {
            self.write(out, &Event::Received { file, bytes });
        }
    }

    fn write(&self, out: &mut Out, event: &Event) {
        if out.is_closed {
            return;
        }
        let at = (self.clock)().as_millis() as f64 / 1000.0;
        let Ok(mut line) = serde_json::to_string(&Line { at, event }) else { return };
        if line.contains(is_unsafe) {
            line = escaped(&line);
        }
        line.push('\n');
        let written = out.to.write_all(line.as_bytes()).and_then(|()| out.to.flush());
        out.is_closed = written.is_err();
    }
}

impl Observer for Json {
    fn observe(&self, event: &Event) {
        self.plain.observe(event);
        if let Event::Received { file, bytes } = event {
            return self.received(*file, *bytes);
        }
        if let Event::Planned { files, .. } = event {
            let _ = self.held_back.set(files.iter().map(|_| HeldBack::default()).collect());
        }
        let mut out = lock(&self.out);
        if let Some(file) = file_of(event) {
            self.flush(&mut out, file);
        }
        self.write(&mut out, event);
    }
}

impl Progress for Json {
    fn finish(&self) {
        let mut out = lock(&self.out);
        for file in 0..self.held_back.get().map_or(0, |files| files.len()) {
            self.flush(&mut out, file);
        }
        drop(out);
        self.plain.finish();
    }
}

impl Drop for Json {
    fn drop(&mut self) {
        self.finish();
    }
}

fn file_of(event: &Event) -> Option<FileIndex> {
    match event {
        Event::Started { file, .. }
        | Event::Copying { file, .. }
        | Event::Brought { file, .. }
        | Event::Received { file, .. }
        | Event::Dropped { file, .. }
        | Event::Connections { file, .. }
        | Event::Retry { file, .. }
        | Event::SourceEnded { file, .. }
        | Event::Finished { file, .. }
        | Event::Failed { file, .. } => Some(*file),
        Event::Waiting { .. }
        | Event::Acquired
        | Event::Opened { .. }
        | Event::Checking { .. }
        | Event::Planned { .. }
        | Event::Warning { .. }
        | Event::MarkerWritten { .. }
        | Event::MarkerValid { .. } => None,
    }
}

/// Harmful characters as `\u….`. They can only stand inside strings, where that means the same.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) {
            // All of them are in the basic plane: one code unit.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests;
