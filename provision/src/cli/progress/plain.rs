//! Lines that are never redrawn, for `docker logs`, CI and files.
//!
//! While bytes arrive, a line with the sums appears every ten seconds, unless many are still to be written. A slow or
//! closed standard error does not affect the run: lines without room are counted, and other errors are ignored.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::counters::Counters;
use super::messages::Lines;
use super::ticker::Ticker;
use super::{Clock, Progress, Sink, lock, lost};
use crate::cli::units;
use provision_core::event::{Event, Observer};

/// The time between two lines with the sums.
const INTERVAL: Duration = Duration::from_secs(10);
/// The interval at which the time is checked. It counts from the plan.
const LOOK: Duration = Duration::from_secs(1);
/// The longest estimate that is shown.
const FAR: f64 = 100.0 * 3600.0;

/// The observer.
pub(super) struct Plain {
    log: Arc<Log>,
    ticker: Ticker,
}

struct Log {
    lines: Lines,
    counters: Counters,
    clock: Clock,
    out: Mutex<Out>,
    last: Mutex<Last>,
}

struct Out {
    to: Box<dyn Sink>,
    /// The lines for which there was no room since the last one that was written.
    lost: usize,
}

/// The start of the current interval.
#[derive(Default)]
struct Last {
    at: Duration,
    received: u64,
    ended: usize,
    checked: usize,
}

impl Plain {
    /// Writes to `out`.
    pub(super) fn new(lines: Lines, out: Box<dyn Sink>, clock: Clock) -> Self {
        let talks = lines.is_talkative();
        let mut plain = Self::without_ticker(lines, out, clock);
        if talks {
            let log = Arc::clone(&plain.log);
            plain.ticker = Ticker::start(LOOK, move || log.tick());
        }
        plain
    }

    fn without_ticker(lines: Lines, to: Box<dyn Sink>, clock: Clock) -> Self {
        let last = Last { at: clock(), ..Last::default() };
        let out = Mutex::new(Out { to, lost: 0 });
        let log = Log { lines, counters: Counters::default(), clock, out, last: Mutex::new(last) };
        Self { log: Arc::new(log), ticker: Ticker::none() }
    }
}

impl Observer for Plain {
    fn observe(&self, event: &Event) {
        self.log.counters.observe(event);
        let line = self.log.lines.line(event, &self.log.counters);
        if let Some(line) = line {
            self.log.write(line);
        }
        if let Event::Planned { .. } = event {
            lock(&self.log.last).at = (self.log.clock)();
        }
    }
}

impl Progress for Plain {
    fn finish(&self) {
        self.ticker.stop();
    }
}

impl Log {
    fn write(&self, mut line: String) {
        line.push('\n');
        let mut out = lock(&self.out);
        if out.lost > 0 {
            line.insert_str(0, &format!("warning: {}\n", lost(out.lost)));
        }
        // In one write, since other processes write to the same log.
        match out.to.put(&line, false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => out.lost += 1,
            _ => out.lost = 0,
        }
    }

    fn tick(&self) {
        if !self.lines.is_talkative() || lock(&self.out).to.is_behind() {
            return;
        }
        let now = (self.clock)();
        let mut last = lock(&self.last);
        let elapsed = now.saturating_sub(last.at);
        if elapsed < INTERVAL {
            return;
        }
        let totals = self.counters.totals();
        let checking = self.counters.checking();
        let checked = checking.as_ref().map_or(0, |checked| checked.files);
        let ended = totals.done + totals.failed;
        let before =
            std::mem::replace(&mut *last, Last { at: now, received: totals.received, ended, checked });
        drop(last);
        if let Some(checking) = checking {
            if checked != before.checked {
                let (files, bytes) = (units::count(checking.files, "file"), units::bytes(checking.bytes));
                self.write(format!("checking files on disk: {files}, {bytes} so far, now {}", checking.last));
            }
            return;
        }
        let grouped = self.lines.are_grouped(&self.counters);
        if totals.received != before.received || grouped && ended != before.ended {
            self.write(self.sums(elapsed, totals.received - before.received, grouped));
        }
    }

    /// `12.3 of 31.8 GB (38 %), 412 MB/s, 47 s left, 64 connections`.
    fn sums(&self, elapsed: Duration, received: u64, grouped: bool) -> String {
        let totals = self.counters.totals();
        let (part, whole) = units::part_of(totals.position, totals.size);
        let speed = received as f64 / elapsed.as_secs_f64();
        let mut parts = vec![
            format!("{part} of {whole} ({} %)", units::percent(totals.position, totals.size)),
            units::rate(speed),
        ];
        let left = totals.left as f64 / speed;
        if totals.left > 0 && left < FAR {
            // Whole seconds: it is an estimate.
            parts.push(format!("{} left", units::duration(Duration::from_secs(left.ceil() as u64))));
        }
        if totals.connections > 0 {
            parts.push(units::count(totals.connections, "connection"));
        }
        if grouped {
            parts.push(format!("{} of {}", totals.done, units::count(totals.files, "file")));
            if totals.failed > 0 {
                parts.push(format!("{} failed", totals.failed));
            }
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests;
