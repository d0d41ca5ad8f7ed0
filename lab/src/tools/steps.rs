//! A sequence of named steps with their times. It ends at the first failure.

#![expect(clippy::print_stdout, reason = "the steps are the command's output")]

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

/// The outcome of a step that did not fail.
#[derive(Debug)]
pub(crate) enum Done {
    /// The step has checked what it is for.
    Passed,
    /// The step could not check anything, for this reason.
    Skipped(String),
}

impl From<()> for Done {
    fn from((): ()) -> Self {
        Self::Passed
    }
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
    passed: usize,
    skipped: Vec<String>,
}

impl Steps {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, started: Instant::now(), passed: 0, skipped: Vec::new() }
    }

    /// Runs a step. An error gets the step's name and time as context.
    pub(crate) fn run<D: Into<Done>>(&mut self, name: &str, step: impl FnOnce() -> Result<D>) -> Result<()> {
        println!("--- {}: {name}", self.title);
        flush();
        let started = Instant::now();
        let result = step();
        let seconds = started.elapsed().as_secs_f64();
        match result.with_context(|| format!("{}: {name} failed after {seconds:.1} s", self.title))?.into() {
            Done::Passed => {
                self.passed += 1;
                println!("    ok, {seconds:.1} s");
            }
            Done::Skipped(reason) => {
                self.skipped.push(name.to_owned());
                println!("    skipped: {reason}");
            }
        }
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

    /// Prints the counts and the skipped steps.
    pub(crate) fn finish(self) {
        let Self { title, started, passed, skipped } = self;
        let total = started.elapsed().as_secs_f64();
        let names = if skipped.is_empty() { "none".to_owned() } else { skipped.join(", ") };
        println!("=== {title}: {passed} passed, 0 failed, {total:.0} s (skipped: {names})");
    }
}

/// A step's result, with the servers' log after its error.
pub(crate) fn with_log(result: Result<()>, log: impl FnOnce() -> String) -> Result<()> {
    result.map_err(|error| anyhow!("{error:#}\n{}", log()))
}

/// Writes out the step's name before the output of the commands that it runs.
fn flush() {
    let _ = std::io::stdout().flush();
}

/// A program's output, indented below the name of its step.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n")
}
