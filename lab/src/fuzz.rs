//! `cargo lab fuzz`: what reads text from outside, against inputs that nobody thought of, for a while each.
//!
//! The targets and what they assert are in `lab/fuzz/`, a workspace of its own. One build serves all of them, without a
//! sanitizer: what is fuzzed has no `unsafe` code for an address sanitizer to judge, memory is counted by the
//! targets' own allocator, and integers overflow loudly, since cargo-fuzz builds with debug assertions. So the pinned
//! toolchain builds it. What the engine finds to be new lies in `target/fuzz/corpus`;
//! `--save` puts the shortest of it into `lab/fuzz/corpus`, where every run begins.

mod build;
mod corpus;
mod engine;
mod prove;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use xshell::Shell;

use crate::tools::steps::Done;
use engine::{Engine, Ran};

/// Fuzzes what reads text from outside
#[derive(Debug, Clone, Args)]
pub(crate) struct FuzzArgs {
    /// How long each target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,

    /// Only this target (repeatable)
    #[arg(long, value_name = "TARGET", value_enum)]
    pub(crate) only: Vec<Target>,

    /// How much memory a target's process may take, in MB
    #[arg(long, value_name = "MB", default_value_t = 512)]
    pub(crate) memory: u64,

    /// How many targets run at the same time; as many as there are cores, if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,

    /// Put what was found to be new into lab/fuzz/corpus, and leave out what adds nothing
    #[arg(long, conflicts_with = "prove_red")]
    pub(crate) save: bool,

    /// Instead: a target with bugs planted in it must be found to have them
    #[arg(long, conflicts_with = "only")]
    pub(crate) prove_red: bool,
}

impl Default for FuzzArgs {
    fn default() -> Self {
        Self { seconds: 60, only: Vec::new(), memory: 512, jobs: None, save: false, prove_red: false }
    }
}

/// What is fuzzed: a program of `lab/fuzz/`, and its corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Target {
    /// models.lock
    Lockfile,
    /// A model's path
    ModelPath,
    /// Content-Range, and the judgement of an answer's head
    ContentRange,
    /// `Retry-After` and `RateLimit`
    RetryAfter,
    /// Location, joined to a base
    Location,
    /// A part file's journal
    Journal,
    /// The marker
    Marker,
}

impl Target {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The longest input that is tried, in bytes. Locks are long; a header is not.
    fn longest(self) -> usize {
        match self {
            Self::Lockfile | Self::Marker => 4096,
            Self::Journal => 1024,
            Self::ModelPath | Self::ContentRange | Self::RetryAfter | Self::Location => 512,
        }
    }
}

pub(crate) fn run(args: &FuzzArgs) -> Result<Done> {
    let sh = Shell::new()?;
    if let Some(why) = build::missing(&sh) {
        // There, `.ci/run` should have installed it.
        ensure!(sh.var("CI").unwrap_or_default().is_empty(), "{why}");
        return Ok(Done::Skipped(why));
    }
    let engine = Engine::new(build::build(&sh)?, args.memory);
    if args.prove_red {
        prove::red(&engine, Duration::from_secs(args.seconds))?;
        return Ok(Done::Passed);
    }
    let targets: VecDeque<Target> = if args.only.is_empty() {
        Target::value_variants().to_vec().into()
    } else {
        args.only.clone().into()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cores, usize::from).min(targets.len());
    let queue = Mutex::new(targets);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(target) = take(&queue) {
                    if let Err(error) = one(&engine, target, args) {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(Done::Passed)
}

fn take(queue: &Mutex<VecDeque<Target>>) -> Option<Target> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

#[expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]
fn one(engine: &Engine, target: Target, args: &FuzzArgs) -> Result<()> {
    let ran = engine.search(target, Duration::from_secs(args.seconds))?;
    let Ran { inputs, new, peak_megabytes, seconds } = ran;
    let name = target.name();
    println!(
        "    {name:<14} {inputs:>9} inputs in {seconds:>3.0} s, {new:>4} of them new, {peak_megabytes} MB at most"
    );
    if args.save {
        println!("    {name:<14} {}", corpus::save(engine, target)?);
    }
    Ok(())
}
