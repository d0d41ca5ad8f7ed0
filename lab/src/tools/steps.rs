//! Named steps with their times, one after another, until one fails.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// How a step ended that did not fail.
#[derive(Debug)]
pub(crate) enum Done {
    /// What it is for has been proved.
    Passed,
    /// It proved nothing, and why.
    Skipped(String),
}

impl Done {
    /// Says what a command of its own did not prove.
    pub(crate) fn say(self) {
        if let Self::Skipped(why) = self {
            println!("skipped: {why}");
        }
    }
}

/// What was run so far.
#[derive(Debug)]
pub(crate) struct Steps {
    title: &'static str,
    started: Instant,
    passed: usize,
    times: Vec<(String, Duration)>,
    skipped: Vec<String>,
}

impl Steps {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, started: Instant::now(), passed: 0, times: Vec::new(), skipped: Vec::new() }
    }

    /// Runs a step; its failure carries its name and time.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Done>) -> Result<()> {
        println!("--- {}: {name}", self.title);
        flush();
        let started = Instant::now();
        let result = step();
        let took = started.elapsed();
        let seconds = took.as_secs_f64();
        match result.with_context(|| format!("{}: {name} failed after {seconds:.1} s", self.title))? {
            Done::Passed => {
                self.passed += 1;
                self.times.push((name.to_owned(), took));
                println!("    ok, {seconds:.1} s");
            }
            Done::Skipped(why) => {
                self.skipped.push(name.to_owned());
                println!("    skipped: {why}");
            }
        }
        flush();
        Ok(())
    }

    /// Says what was proved, what was not, and what took longest.
    pub(crate) fn finish(mut self) {
        let total = self.started.elapsed().as_secs_f64();
        print!(
            "=== {}: {} passed, 0 failed, {} skipped, {total:.0} s",
            self.title,
            self.passed,
            self.skipped.len()
        );
        if !self.skipped.is_empty() {
            print!(" (skipped: {})", self.skipped.join(", "));
        }
        self.times.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let longest: Vec<_> = self
            .times
            .iter()
            .take(3)
            .map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64()))
            .collect();
        println!("; longest: {}", longest.join(", "));
        flush();
    }
}

/// The commands of a step write to the same place; without this their lines come before its name in a log.
fn flush() {
    let _ = std::io::stdout().flush();
}
