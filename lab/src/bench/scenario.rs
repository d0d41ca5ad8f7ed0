//! The scenarios by name, and what each of them runs.

use std::fmt;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::file_set::FileSet;
use super::origin::OriginKind::{Capped, Nginx, NginxTls, Stragglers};
use super::races::Medium::{Disk, Memory};
use super::report::Outcome;
use super::rounds::Bench;
use super::{growth, local, memory, races, resume};

/// A question that the benchmark answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// nginx without a limit, memory to memory: the cost of the program itself
    Loopback,
    /// The same over https
    Tls,
    /// The same onto a disk
    Disk,
    /// 4 MB/s for each connection, as from a CDN: the worth of the schedule
    Capped,
    /// The same with 50 ms before each response, and every eighth connection ten times slower
    Stragglers,
    /// 5,000 files of 20 to 200 KB
    Small,
    /// One file of 2 GB onto a disk
    Single,
    /// Killed at half: the share that is fetched again
    Resume,
    /// Everything is there: 4 and 10,000 files, by the marker alone
    Noop,
    /// Four files of 400 MB, hashed in place
    Verify,
    /// Peak memory for 1 GB and for 20 GB
    Memory,
    /// 1 to 10,000 files of equal total size, and 1 to 256 connections
    Growth,
}

impl Scenario {
    pub(super) fn run(self, bench: &Bench<'_>) -> Result<Outcome> {
        let mut outcome = Outcome { scenario: self.to_string(), ..Outcome::default() };
        let to = &mut outcome;
        let measured = match self {
            Self::Loopback => races::run(bench, Nginx, &bench.qwen(), Memory, to),
            Self::Tls => races::run(bench, NginxTls, &bench.qwen(), Memory, to),
            Self::Disk => races::run(bench, Nginx, &bench.qwen(), Disk, to),
            Self::Capped => races::run(bench, Capped, &bench.qwen(), Memory, to),
            Self::Stragglers => races::run(bench, Stragglers, &bench.qwen(), Memory, to),
            Self::Small => races::run(bench, Nginx, &FileSet::small(bench.scale), Memory, to),
            Self::Single => races::run(bench, Nginx, &FileSet::single(bench.scale), Disk, to),
            Self::Resume => resume::run(bench, to),
            Self::Noop => local::noop(bench, to),
            Self::Verify => local::verify(bench, to),
            Self::Memory => memory::run(bench, to),
            Self::Growth => growth::run(bench, to),
        };
        measured.with_context(|| format!("bench: {self}"))?;
        outcome.summarize();
        Ok(outcome)
    }
}

impl fmt::Display for Scenario {
    /// The name that is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", PossibleValue::get_name))
    }
}
