//! Events as lines of text, shared by plain output and bars.
//!
//! A line never contains a line break, whatever its parts hold.

use std::sync::Mutex;
use std::time::Duration;

use super::counters::Counters;
use super::text::{Paint, clean, with_short_addresses};
use super::{Verbosity, Work, lock};
use crate::cli::units;
use provision_core::event::{Event, FileIndex, Outcome, Planned, PlannedFile};

/// The form of a file's first and last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Words, in ASCII except for names and reasons. Many files are not listed one by one.
    Words,
    /// `✓` and `✗`; the bar itself shows the beginning.
    Marks,
}

/// Makes lines.
pub(super) struct Lines {
    verbosity: Verbosity,
    pub(super) paint: Paint,
    style: Style,
    work: Work,
    /// The reason of the last file that failed.
    last_reason: Mutex<String>,
}

impl Lines {
    /// For logs.
    pub(super) fn words(verbosity: Verbosity, paint: Paint) -> Self {
        Self { verbosity, paint, style: Style::Words, work: Work::Install, last_reason: Mutex::default() }
    }

    /// For above the bars.
    pub(super) fn marks(verbosity: Verbosity, paint: Paint) -> Self {
        Self { verbosity, paint, style: Style::Marks, work: Work::Install, last_reason: Mutex::default() }
    }

    /// The same for other work than an install.
    pub(super) fn of(self, work: Work) -> Self {
        Self { work, ..self }
    }

    /// The verb for a transfer: now, and done.
    fn verbs(&self) -> (&'static str, &'static str) {
        match self.work {
            Work::Install => ("fetching", "fetched"),
            Work::Read(_) => ("reading", "read"),
            Work::Push => ("pushing", "pushed"),
        }
    }

    fn is_reading(&self) -> bool {
        matches!(self.work, Work::Read(_))
    }

    /// Returns true if more than warnings and failures is wanted.
    pub(super) fn is_talkative(&self) -> bool {
        self.verbosity > Verbosity::Quiet
    }

    /// Returns true if files are shown in sums only.
    pub(super) fn are_grouped(&self, counters: &Counters) -> bool {
        self.style == Style::Words && self.verbosity < Verbosity::Verbose && counters.has_many_files()
    }

    /// The line of an event, if it has one. The counters have counted the event already.
    pub(super) fn line(&self, event: &Event, counters: &Counters) -> Option<String> {
        match event {
            Event::Received { .. } | Event::Brought { .. } => return None,
            Event::Warning { message } => {
                return Some(format!("{} {}", self.paint.yellow("warning:"), clean(message)));
            }
            Event::Failed { file, reason } => {
                return Some(self.failed(counters.name(*file), &clean(reason)));
            }
            _ if !self.is_talkative() => return None,
            _ => {}
        }
        let verbose = self.verbosity == Verbosity::Verbose;
        match event {
            Event::Waiting { holder } => {
                Some(format!("waiting for another run, which holds {}", clean(holder)))
            }
            Event::Acquired => Some("acquired the lock, continuing".to_owned()),
            Event::Opened { destination, free } if self.style == Style::Words => {
                Some(format!("models in {}, {} free", clean(destination), units::bytes(*free)))
            }
            Event::Copying { file, from, as_link } => self.copying(*file, from, *as_link, counters),
            Event::Reusing { file, from, files } => self.reusing(*file, from, *files, counters),
            Event::Planned { files, to_fetch, free, .. } => Some(match (&self.work, &files[..]) {
                (Work::Push, _) => push_plan(files, *to_fetch),
                (Work::Read(place), [file]) => read_plan(file, *to_fetch, &clean(place), *free),
                _ => plan(files, *to_fetch, *free),
            }),
            Event::Started { file, source } => self.started(*file, source, counters),
            Event::Finished { file, outcome, fetched, elapsed, .. } => {
                self.finished(*file, *outcome, *fetched, *elapsed, counters)
            }
            Event::Retry { file, files, reason, failures, limit, wait, left, .. } => {
                let (which, reason) = (some_files(*file, *files, counters), clean(reason));
                let next =
                    if wait.is_zero() { "now".to_owned() } else { format!("in {}", units::duration(*wait)) };
                let end = match left.saturating_sub(*wait) {
                    Duration::ZERO if failures < limit => format!("failure {failures} of {limit}"),
                    Duration::ZERO => format!("failure {failures}"),
                    left => format!("failure {failures}, {} left", units::duration(round(left))),
                };
                let line =
                    format!("{} {which}: {reason}; next try {next} ({end})", self.paint.yellow("retry:"));
                Some(with_short_addresses(&line))
            }
            // A store with few of the files would fill the screen; the last line has the bytes of each source.
            Event::SourceEnded { is_miss: true, .. } if !verbose => None,
            Event::SourceEnded { file, files, for_now, source, reason, next, .. } => {
                let (which, reason, source) =
                    (some_files(*file, *files, counters), clean(reason), clean(source));
                let place =
                    if reason.contains(host(&source)) { String::new() } else { format!("{source}: ") };
                let end = if *for_now { "" } else { "given up; " };
                let next = match next {
                    Some(next) => format!("going on with {}", clean(next)),
                    None => "there is no other source".to_owned(),
                };
                let line = format!("{} {which}: {place}{reason}; {end}{next}", self.paint.yellow("source:"));
                Some(with_short_addresses(&line))
            }
            Event::Dropped { file, bytes, reason } if *bytes > 0 => Some(format!(
                "{} {}: {} again: {}",
                self.paint.yellow(self.verbs().0),
                counters.name(*file),
                units::bytes(*bytes),
                clean(reason),
            )),
            Event::Checking { path, size } if verbose => {
                Some(format!("checking {}, {}", clean(path.as_str()), units::bytes(*size)))
            }
            Event::Connections { file, count } if verbose && self.style == Style::Words => {
                Some(format!("{}: {}", counters.name(*file), units::count(*count, "connection")))
            }
            Event::MarkerWritten { name } if verbose => Some(format!("marker {} written", clean(name))),
            // The only line of the whole run.
            Event::MarkerValid { name, files } => Some(format!(
                "nothing to do: marker {} is valid for {}",
                clean(name),
                units::count(*files, "file")
            )),
            _ => None,
        }
    }

    fn copying(&self, index: FileIndex, from: &str, as_link: bool, counters: &Counters) -> Option<String> {
        let file = counters.file(index)?;
        if self.style == Style::Marks || self.are_grouped(counters) {
            return None;
        }
        let (size, from) = (units::bytes(file.size), clean(from));
        Some(if as_link {
            format!("linking {} to {from}, {size} to check", file.name)
        } else {
            format!("copying {}, {size}, from {from}", file.name)
        })
    }

    fn reusing(&self, index: FileIndex, from: &str, files: usize, counters: &Counters) -> Option<String> {
        let file = counters.file(index)?;
        if self.style == Style::Marks || self.are_grouped(counters) {
            return None;
        }
        let others = match files {
            0 | 1 => String::new(),
            files => format!(" and {}", units::count(files - 1, "other file")),
        };
        Some(format!("taking pieces of {} from {}{others}", file.name, clean(from)))
    }

    fn started(&self, index: FileIndex, source: &str, counters: &Counters) -> Option<String> {
        let file = counters.file(index)?;
        let verbose = self.verbosity == Verbosity::Verbose;
        // The message about the previous source has named this one.
        let is_news = self.style == Style::Words && file.starts() < 2 && !self.are_grouped(counters);
        if !verbose && !is_news {
            return None;
        }
        let name = &file.name;
        let source = clean(source);
        Some(match file.position() {
            0 => {
                let way = if self.work == Work::Push { "to" } else { "from" };
                format!("{} {name}, {}, {way} {source}", self.verbs().0, units::bytes(file.size))
            }
            position if file.is_reused() => {
                let (rest, whole) = units::part_of(file.size - position, file.size);
                format!("fetching {rest} of {whole} of {name} from {source}")
            }
            position => {
                let (part, whole) = units::part_of(position, file.size);
                format!("resuming {name} at {part} of {whole} from {source}")
            }
        })
    }

    fn finished(
        &self,
        index: FileIndex,
        outcome: Outcome,
        fetched: u64,
        elapsed: Duration,
        counters: &Counters,
    ) -> Option<String> {
        let file = counters.file(index)?;
        if self.are_grouped(counters) || outcome == Outcome::Present && self.verbosity < Verbosity::Verbose {
            return None;
        }
        let (size, took) = (units::bytes(file.size), units::duration(elapsed));
        let (verb, what) = match outcome {
            Outcome::Present => ("present", size),
            Outcome::Linked => ("linked", size),
            Outcome::Copied | Outcome::Baked | Outcome::Cached | Outcome::Reused => {
                let verb = match outcome {
                    Outcome::Cached => "from the cache:",
                    Outcome::Reused => "reused",
                    _ => "copied",
                };
                (verb, format!("{size} in {took}"))
            }
            Outcome::Fetched | Outcome::Pushed => {
                let seconds = elapsed.as_secs_f64();
                let rate = match fetched {
                    1.. if seconds > 0.0 => format!(" ({})", units::rate(fetched as f64 / seconds)),
                    _ => String::new(),
                };
                let of_it = if fetched == file.size {
                    String::new()
                } else {
                    format!(", of which {} {}", units::bytes(fetched), self.verbs().1)
                };
                let of_it = if fetched > file.size { of_it.replace("of which ", "") } else { of_it };
                (self.verbs().1, format!("{size}{of_it} in {took}{rate}"))
            }
        };
        Some(match self.style {
            Style::Words => format!("{} {}: {what}", self.paint.green(verb), file.name),
            Style::Marks if matches!(outcome, Outcome::Fetched | Outcome::Pushed) && !self.is_reading() => {
                format!("{} {}  {what}", self.paint.green("✓"), file.name)
            }
            Style::Marks => {
                let verb = verb.trim_end_matches(':');
                format!("{} {}  {verb}, {what}", self.paint.green("✓"), file.name)
            }
        })
    }

    /// A reason is said once, if file after file fails for it.
    fn failed(&self, name: &str, reason: &str) -> String {
        let last = std::mem::replace(&mut *lock(&self.last_reason), reason.to_owned());
        let is_same = last == reason;
        let reason = if is_same { "for the same reason".to_owned() } else { with_short_addresses(reason) };
        match self.style {
            Style::Words => format!("{} {name}: {reason}", self.paint.red("failed")),
            Style::Marks => format!("{} {name}  {reason}", self.paint.red("✗")),
        }
    }
}

/// The file, or the number of files that share its failure.
fn some_files(file: FileIndex, files: usize, counters: &Counters) -> String {
    if files > 1 { units::count(files, "file") } else { counters.name(file).to_owned() }
}

/// The host of an address.
fn host(address: &str) -> &str {
    let (_, rest) = address.split_once("://").unwrap_or(("", address));
    rest.split(['/', ':']).next().unwrap_or(rest)
}

/// Whole seconds, since the time depends on waits that are random.
fn round(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs_f64().ceil() as u64)
}

/// `loras/x: its host publishes no digest, so 2.1 GB are read once and kept in /cache for the next fetch; 120 GB free`.
fn read_plan(file: &PlannedFile, to_fetch: u64, place: &str, free: u64) -> String {
    let (path, size, free) = (&file.path, units::bytes(file.size), units::bytes(free));
    let what = if to_fetch == file.size {
        format!("{size} are read once")
    } else {
        format!("the last {} of {size} are read", units::bytes(to_fetch))
    };
    format!(
        "{path}: its host publishes no digest, so {what} and kept in {place} for the next fetch; {free} free"
    )
}

/// `4 files, 31.8 GB: 1 already there, 3 to push; 22.1 GB to go`.
fn push_plan(files: &[PlannedFile], to_push: u64) -> String {
    let size = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
    let there = files.iter().filter(|file| file.plan == Planned::Present).count();
    let (count, size) = (units::count(files.len(), "file"), units::bytes(size));
    let to_go = match files.len() - there {
        0 => "nothing to push".to_owned(),
        left => format!("{left} to push; {} to go", units::bytes(to_push)),
    };
    format!("{count}, {size}: {there} already there, {to_go}")
}

/// `4 files, 31.8 GB: 1 present, 1 to resume, 2 to fetch; 22.1 GB to go, 120 GB free`.
fn plan(files: &[PlannedFile], to_fetch: u64, free: u64) -> String {
    let size = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
    let parts: Vec<_> = [
        (Planned::Present, "present"),
        (Planned::Resume, "to resume"),
        (Planned::Fetch, "to fetch"),
        (Planned::Copy, "to copy"),
        (Planned::Link, "to link"),
    ]
    .into_iter()
    .map(|(plan, words)| (files.iter().filter(|file| file.plan == plan).count(), words))
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| format!("{count} {words}"))
    .collect();
    let go = if to_fetch == 0 {
        "nothing to fetch".to_owned()
    } else {
        format!("{} to go, {} free", units::bytes(to_fetch), units::bytes(free))
    };
    let (count, size) = (units::count(files.len(), "file"), units::bytes(size));
    if parts.is_empty() {
        format!("{count}; {go}")
    } else {
        format!("{count}, {size}: {}; {go}", parts.join(", "))
    }
}
