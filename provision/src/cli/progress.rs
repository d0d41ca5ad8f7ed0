//! Who is told, in the shell: bars for a person at a terminal, lines for a log, JSON for a program.
//!
//! Everything goes to standard error but JSON, which is what its reader asked for and goes to standard output. All
//! of them count in one place (`tally`) and use the same words (`lines`). The library calls [`Observer::observe`]
//! up to thousands of times a second from many threads, nearly always with [`Event::Received`]: that adds to atomics
//! and returns; what is drawn is drawn by a thread of its own (`ticker`).
//!
//! Names come from a lock that somebody wrote, and reasons may quote what a server sent: everything that is shown
//! passes `text::clean`, so that neither can send escape sequences to a terminal or forge a line of a log.
//!
//! The environment is not read here: whether standard error is a terminal and whether colour is wanted is the
//! caller's to say.
//!
//! [`Event::Received`]: provision_core::event::Event::Received

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use provision_core::event::Observer;

mod bars;
mod json;
mod lines;
mod plain;
mod tally;
#[cfg(test)]
mod testing;
mod text;
mod ticker;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// Bars where standard error is a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// Bars that are redrawn; plain lines where standard error is no terminal.
    Bars,
    /// Lines that are never redrawn, for logs.
    Plain,
    /// One JSON object per event on standard output; plain lines on standard error.
    Json,
    /// Warnings and failures only.
    None,
}

/// How much is said. JSON is always complete; this is about what people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Warnings and failures.
    Quiet,
    /// What a person who waits wants to know.
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

/// What [`observer`] needs to know.
#[derive(Clone)]
pub struct Settings {
    /// How progress is shown.
    pub mode: Mode,
    /// How much is said.
    pub verbosity: Verbosity,
    /// Colour on standard error. The caller has looked at `NO_COLOR` and whether there is a terminal.
    pub colour: bool,
    /// Whether standard error is a terminal.
    pub terminal: bool,
    /// Where time comes from; JSON's `at` is what it says.
    pub clock: Clock,
}

/// An observer that draws.
pub trait Progress: Observer {
    /// Writes what is still held back, takes bars off the screen and ends the drawing thread. Returns when that is
    /// done, without waiting for the next redraw. To be called once the run is over and before anything else is
    /// printed; again is no harm, and dropping does the same.
    fn finish(&self);
}

/// The observer for a run.
pub fn observer(settings: &Settings) -> Arc<dyn Progress> {
    let Settings { mode, verbosity, colour, terminal, ref clock } = *settings;
    let paint = text::Paint { colour };
    let plain = |verbosity| {
        plain::Plain::new(lines::Lines::words(verbosity, paint), Box::new(io::stderr()), Arc::clone(clock))
    };
    match mode {
        Mode::None => Arc::new(plain(Verbosity::Quiet)),
        Mode::Json => Arc::new(json::Json::new(Box::new(io::stdout()), plain(verbosity), Arc::clone(clock))),
        // Warnings and failures need no bars.
        Mode::Auto | Mode::Bars if terminal && verbosity > Verbosity::Quiet => {
            match bars::Bars::on_stderr(lines::Lines::marks(verbosity, paint), Arc::clone(clock)) {
                Some(bars) => Arc::new(bars),
                // A terminal that cannot move its cursor (`TERM=dumb`).
                None => Arc::new(plain(verbosity)),
            }
        }
        Mode::Auto | Mode::Bars | Mode::Plain => Arc::new(plain(verbosity)),
    }
}

/// Locks, also after a panic elsewhere: progress that is a little wrong is better than a second panic.
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
                let settings = Settings { mode, verbosity, colour: true, terminal: true, clock: clock() };
                let progress = observer(&settings);
                progress.finish();
                progress.finish();
                // What the library takes.
                let _: Arc<dyn Observer> = progress;
            }
        }
    }
}
