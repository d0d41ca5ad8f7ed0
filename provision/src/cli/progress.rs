//! Progress of a run: bars on a terminal, lines in a log, JSON for a program.
//!
//! JSON goes to standard output, since it is the result that its reader asked for; everything else goes to standard
//! error. All modes count in one place (`counters`) and use the same words (`messages`). The engine calls
//! [`Observer::observe`] up to thousands of times a second from many threads, nearly always with [`Event::Received`].
//! That adds to atomics and returns; a separate thread draws (`ticker`), and others write (`output`). No call waits for
//! a reader (fault 107).
//!
//! Names come from a lock, and reasons may quote a server. All shown text passes `text::clean`, so neither can send
//! escape sequences to a terminal or forge a line of a log.
//!
//! The caller says if standard error is a terminal and if colour is wanted: the environment is not read here.
//!
//! [`Event::Received`]: provision_core::event::Event::Received

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
pub(super) use text::with_short_addresses;

use super::output::{ERR, OUT, Offer};
use super::units;
use provision_core::event::Observer;

mod bars;
mod counters;
mod json;
mod messages;
mod plain;
#[cfg(test)]
mod testing;
mod text;
mod ticker;

/// The display of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// Bars where standard error is a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// Bars that are redrawn; plain lines if standard error is no terminal.
    Bars,
    /// Lines that are never redrawn, for logs.
    Plain,
    /// One JSON object per event on standard output; plain lines on standard error.
    Json,
    /// Warnings and failures only.
    None,
}

/// Verbosity for people. JSON is always complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Warnings and failures.
    Quiet,
    /// The progress that a waiting person needs.
    #[default]
    Normal,
    /// Also connections, checks of files, and two lines for each of many files.
    Verbose,
}

/// The time since the program's start.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A [`Clock`] that starts now.
pub fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || start.elapsed())
}

/// The work that is shown; it chooses the words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Work {
    /// Files are installed.
    #[default]
    Install,
    /// They are only read for their digests, into this directory.
    Read(String),
    /// They are sent to a store.
    Push,
}

/// Settings of [`observer`].
#[derive(Clone)]
pub struct Settings {
    /// The display.
    pub mode: Mode,
    /// The verbosity.
    pub verbosity: Verbosity,
    /// Colour on standard error. The caller has checked `NO_COLOR` and the terminal.
    pub colour: bool,
    /// True if standard error is a terminal.
    pub terminal: bool,
    /// The source of time, also of JSON's `at`.
    pub clock: Clock,
    /// The work that is shown.
    pub work: Work,
}

/// An observer that draws.
pub trait Progress: Observer {
    /// Writes held-back output, removes the bars and ends the drawing thread, without waiting for the next redraw. Call
    /// it after the run and before any other output. Further calls and dropping are harmless.
    fn finish(&self);
}

/// The observer for a run.
pub fn observer(settings: &Settings) -> Arc<dyn Progress> {
    let Settings { mode, verbosity, colour, terminal, ref clock, ref work } = *settings;
    let paint = text::Paint { colour };
    let plain = |verbosity| {
        let lines = messages::Lines::words(verbosity, paint).of(work.clone());
        plain::Plain::new(lines, Box::new(Offer(&ERR)), Arc::clone(clock))
    };
    match mode {
        Mode::None => Arc::new(plain(Verbosity::Quiet)),
        Mode::Json => Arc::new(json::Json::new(Box::new(Offer(&OUT)), plain(verbosity), Arc::clone(clock))),
        // Warnings and failures need no bars.
        Mode::Auto | Mode::Bars if terminal && verbosity > Verbosity::Quiet => {
            let lines = messages::Lines::marks(verbosity, paint).of(work.clone());
            match bars::Bars::on_stderr(lines, Arc::clone(clock)) {
                Some(bars) => Arc::new(bars),
                // A terminal without cursor movement (`TERM=dumb`).
                None => Arc::new(plain(verbosity)),
            }
        }
        Mode::Auto | Mode::Bars | Mode::Plain => Arc::new(plain(verbosity)),
    }
}

/// A place for lines. Writing to it never waits.
trait Sink: Send {
    /// Writes whole lines; with `must`, also where there is no room.
    ///
    /// # Errors
    /// `WouldBlock` without room: the lines are lost. Another error if there is no reader.
    fn put(&mut self, lines: &str, must: bool) -> io::Result<()>;

    /// True while many earlier lines are not written: the reader is slow, or does not read.
    fn is_behind(&self) -> bool;
}

impl Sink for Offer {
    fn put(&mut self, lines: &str, must: bool) -> io::Result<()> {
        Self::put(self, lines, must)
    }

    fn is_behind(&self) -> bool {
        Self::is_behind(self)
    }
}

/// The line for lines that were lost.
fn lost(count: usize) -> String {
    format!("{} lost, because this output was not read", units::count(count, "line"))
}

/// Locks, also after a panic elsewhere: slightly wrong progress is better than a second panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn modes_are_spelled_in_lower_case() {
        let names: Vec<_> = Mode::value_variants()
            .iter()
            .filter_map(|mode| Some(mode.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(names, ["auto", "bars", "plain", "json", "none"]);
    }

    #[test]
    fn every_mode_can_be_made_and_finished_without_an_event() {
        for &mode in Mode::value_variants() {
            for verbosity in [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose] {
                let settings = Settings {
                    mode,
                    verbosity,
                    colour: true,
                    terminal: true,
                    clock: clock(),
                    work: Work::Install,
                };
                let progress = observer(&settings);
                progress.finish();
                progress.finish();
                // As the engine takes it.
                let _: Arc<dyn Observer> = progress;
            }
        }
    }
}
