//! Fixtures for the tests of all modes: short events, a clock set by hand, a writer that is read.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Clock, Sink, lock};
use provision_core::event::{Event, FileIndex, Observer, Outcome, Planned, PlannedFile};

pub(super) const SOURCE: &str = "https://h.example/m";

pub(super) fn planned(files: &[(&str, u64, u64, Planned)]) -> Event {
    let file = |&(path, size, held, plan): &(&str, u64, u64, Planned)| PlannedFile {
        path: path.parse().unwrap(),
        size,
        held,
        here: 0,
        plan,
    };
    let to_fetch = files
        .iter()
        .filter(|(.., plan)| matches!(plan, Planned::Fetch | Planned::Resume))
        .map(|(_, size, held, _)| size - held)
        .sum();
    let files = files.iter().map(file).collect();
    Event::Planned { files, to_fetch, needed: to_fetch, free: 120_000_000_000 }
}

pub(super) fn started(file: FileIndex) -> Event {
    Event::Started { file, source: SOURCE.to_owned() }
}

pub(super) fn received(file: FileIndex, bytes: u64) -> Event {
    Event::Received { file, bytes }
}

pub(super) fn finished(file: FileIndex, fetched: u64, milliseconds: u64) -> Event {
    let elapsed = Duration::from_millis(milliseconds);
    Event::Finished { file, outcome: Outcome::Fetched, fetched, elapsed, sources: Vec::new() }
}

pub(super) fn failed(file: FileIndex, reason: &str) -> Event {
    Event::Failed { file, reason: reason.to_owned() }
}

pub(super) fn warning(message: &str) -> Event {
    Event::Warning { message: message.to_owned() }
}

pub(super) const GB: u64 = 1_000_000_000;
pub(super) const MB: u64 = 1_000_000;

/// The plan of the tests: four files, 31.8 GB.
pub(super) fn qwen() -> Event {
    planned(&[
        ("diffusion_models/qwen_image_fp8_e4m3fn.safetensors", 20_430 * MB, 0, Planned::Fetch),
        ("loras/Qwen-Image-Lightning-4steps-V1.0.safetensors", 1_698 * MB, 1_698 * MB, Planned::Present),
        ("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_418 * MB, 8_002 * MB, Planned::Resume),
        ("vae/qwen_image_vae.safetensors", 254 * MB, 0, Planned::Fetch),
    ])
}

/// A clock that moves only on request.
#[derive(Clone, Default)]
pub(super) struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    pub(super) fn clock(&self) -> Clock {
        let milliseconds = Arc::clone(&self.0);
        Arc::new(move || Duration::from_millis(milliseconds.load(Relaxed)))
    }

    pub(super) fn forward(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Relaxed);
    }
}

/// A writer that keeps its input.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(super) fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }

    /// The text written since the last call.
    pub(super) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *lock(&self.0))).unwrap()
    }
}

impl Sink for Written {
    fn put(&mut self, lines: &str, _: bool) -> io::Result<()> {
        lock(&self.0).extend_from_slice(lines.as_bytes());
        Ok(())
    }

    fn is_behind(&self) -> bool {
        false
    }
}

/// A reader that reads only on request: until then there is room for what must be written.
#[derive(Clone, Default)]
pub(super) struct Unread {
    pub(super) written: Written,
    pub(super) reads: Arc<AtomicBool>,
}

impl Sink for Unread {
    fn put(&mut self, lines: &str, must: bool) -> io::Result<()> {
        if must || self.reads.load(Relaxed) {
            return self.written.put(lines, must);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn is_behind(&self) -> bool {
        !self.reads.load(Relaxed)
    }
}

/// A pipe whose reader is gone.
pub(super) struct Closed;

impl Sink for Closed {
    fn put(&mut self, _: &str, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn is_behind(&self) -> bool {
        false
    }
}

/// One event of each kind with text, whose text would control a terminal.
pub(super) fn hostile() -> Vec<Event> {
    let evil = || "\u{1b}[2J\u{1b}]0;owned\u{7}x\r\nwarning: forged\u{9b}31m\u{202e}".to_owned();
    vec![
        Event::Waiting { holder: evil() },
        planned(&[("a", 5, 0, Planned::Fetch), ("b", 5, 0, Planned::Fetch)]),
        Event::Started { file: 0, source: evil() },
        Event::Reusing { file: 0, from: evil(), files: 1 },
        received(0, 5),
        Event::Dropped { file: 0, bytes: 5, reason: evil() },
        Event::Retry {
            file: 0,
            files: 1,
            left: Duration::ZERO,
            source: evil(),
            reason: evil(),
            failures: 1,
            limit: 5,
            wait: Duration::from_secs(1),
        },
        Event::SourceEnded {
            file: 0,
            files: 1,
            for_now: false,
            is_miss: false,
            source: evil(),
            reason: evil(),
            next: Some(evil()),
        },
        failed(0, &evil()),
        warning(&evil()),
        Event::MarkerWritten { name: evil() },
        Event::MarkerValid { name: evil(), files: 1 },
    ]
}

pub(super) fn observe_all(observer: &impl Observer, events: &[Event]) {
    for event in events {
        observer.observe(event);
    }
}
