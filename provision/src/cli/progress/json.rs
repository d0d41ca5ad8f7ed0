//! One JSON object a line on standard output: the event, and `at`, the seconds since the start.
//!
//! [`Event::Received`] is frequent, so it is written at most every [`BETWEEN`] for a file, with the sum of the bytes
//! held back. No byte is lost: the remainder of a file is written before any other event of it, and all remainders at
//! the end.
//!
//! While many earlier lines are still to be written, `received` waits, and `connections` and `checking` are left out.
//! Events whose number is bounded by the plan are always written; of the others, those without room are counted.
//!
//! serde escapes the ASCII control characters, `output` the others that are unsafe in a terminal.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, TryLockError};
use std::time::Duration;

use serde::Serialize;

use super::plain::Plain;
use super::{Clock, Progress, Sink, lock, lost};
use crate::cli::output::escaped;
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
    to: Box<dyn Sink>,
    /// The events for which there was no room since the last one that was written.
    lost: usize,
    /// The reader has closed the pipe.
    is_closed: bool,
}

/// Received bytes of a file that are not written yet.
#[derive(Default)]
struct HeldBack {
    bytes: AtomicU64,
    /// The earliest time of the next line, in milliseconds.
    due: AtomicU64,
}

#[derive(Serialize)]
struct Line<'a> {
    at: f64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Json {
    /// Writes objects to `to`, and leaves output for people to `plain`.
    pub(super) fn new(to: Box<dyn Sink>, plain: Plain, clock: Clock) -> Self {
        let out = Mutex::new(Out { to, lost: 0, is_closed: false });
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
        // If another thread is writing, the bytes wait: a slow reader must not slow a transfer.
        let mut out = match self.out.try_lock() {
            Ok(out) => out,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if out.to.is_behind() {
            return;
        }
        if held_back.due.compare_exchange(due, now + BETWEEN.as_millis() as u64, Relaxed, Relaxed).is_ok() {
            self.flush(&mut out, file);
        }
    }

    /// Writes the held-back bytes of a file, under the lock, so that they precede later events.
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
        if matches!(event, Event::Connections { .. } | Event::Checking { .. }) && out.to.is_behind() {
            return;
        }
        let at = (self.clock)().as_millis() as f64 / 1000.0;
        let text = |event| {
            let line = serde_json::to_string(&Line { at, event }).unwrap_or_default();
            if line.contains(is_unsafe) { escaped(&line) } else { line }
        };
        let mut lines = text(event) + "\n";
        if out.lost > 0 {
            lines.insert_str(0, &(text(&Event::Warning { message: lost(out.lost) }) + "\n"));
        }
        let is_unbounded = matches!(
            event,
            Event::Brought { .. }
                | Event::Retry { .. }
                | Event::SourceEnded { .. }
                | Event::Dropped { .. }
                | Event::Warning { .. }
        );
        match out.to.put(&lines, !is_unbounded) {
            Ok(()) => out.lost = 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => out.lost += 1,
            Err(_) => out.is_closed = true,
        }
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
        | Event::Reusing { file, .. }
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

#[cfg(test)]
mod tests;
