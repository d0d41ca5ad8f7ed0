//! A sequence of named steps with their times. It ends at the first failure.

#![expect(clippy::print_stdout, reason = "the steps are the command's output")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The outcome of a step that did not fail.
#[derive(Debug)]
pub(crate) enum Done {
    /// The step has checked what it is for.
    Passed,
    /// The step could not check anything, for this reason.
    Skipped(String),
}

impl Done {
    /// Prints why a command was skipped.
    pub(crate) fn print_reason(self) {
        if let Self::Skipped(reason) = self {
            println!("skipped: {reason}");
        }
    }
}

/// The steps so far.
#[derive(Debug)]
pub(crate) struct Steps {
    title: &'static str,
    started: Instant,
    passed: Vec<(String, Duration)>,
    skipped: Vec<String>,
}

impl Steps {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, started: Instant::now(), passed: Vec::new(), skipped: Vec::new() }
    }

    /// Runs a step. An error gets the step's name and time as context.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Done>) -> Result<()> {
        println!("--- {}: {name}", self.title);
        flush();
        let started = Instant::now();
        let result = step();
        let took = started.elapsed();
        let seconds = took.as_secs_f64();
        match result.with_context(|| format!("{}: {name} failed after {seconds:.1} s", self.title))? {
            Done::Passed => {
                self.passed.push((name.to_owned(), took));
                println!("    ok, {seconds:.1} s");
            }
            Done::Skipped(reason) => {
                self.skipped.push(name.to_owned());
                println!("    skipped: {reason}");
            }
        }
        flush();
        Ok(())
    }

    /// Runs a step that makes what later steps need.
    pub(crate) fn prepare<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut made = None;
        self.run(name, || {
            made = Some(step()?);
            Ok(Done::Passed)
        })?;
        made.context("the step made nothing")
    }

    /// Prints the counts, the skipped steps and the three longest.
    pub(crate) fn finish(mut self) {
        let (passed, skipped) = (self.passed.len(), self.skipped.len());
        let total = self.started.elapsed().as_secs_f64();
        print!("=== {}: {passed} passed, 0 failed, {skipped} skipped, {total:.0} s", self.title);
        if skipped > 0 {
            print!(" (skipped: {})", self.skipped.join(", "));
        }
        self.passed.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let time = |(name, took): &(String, Duration)| format!("{name} {:.0} s", took.as_secs_f64());
        let longest: Vec<_> = self.passed.iter().take(3).map(time).collect();
        println!("; longest: {}", longest.join(", "));
        flush();
    }
}

/// Writes out the step's name before the output of the commands that it runs.
fn flush() {
    let _ = std::io::stdout().flush();
}
