//! `cargo xtask bench`: this program against aria2c, on the same set from the same server, one after the other.
//!
//! The set has the shape of the four Qwen files, by default at 1/20 of their size. Both programs verify SHA-256. Their
//! rounds alternate, so that a machine that gets slower gets slower for both; the first round of each warms up, is
//! checked by `sha256sum`, and does not count. Everything lies in memory: what is measured is the program, not a disk.

#![expect(clippy::print_stdout, reason = "the result is what it is run for")]

mod capped;
mod contender;
mod loopback;
mod measure;
mod memory;
mod result;
mod set;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use xshell::Shell;

use crate::programs::{self, ARIA2, NGINX, TIME};
use crate::project;
use contender::Contender;
use measure::Measurement;
use set::Set;

/// Measures this program against aria2c: time, processor time, peak memory
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// Only this scenario
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<Scenario>,

    /// How often each program runs, after one round that does not count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// The files are this many times smaller than the real ones
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) scale: u64,

    /// One round of each and no warm-up; fails when aria2c is faster on loopback
    #[arg(long, conflicts_with = "rounds")]
    pub(crate) quick: bool,

    /// Where the set and the destinations are: a directory in memory
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) dir: Utf8PathBuf,
}

impl Default for BenchArgs {
    fn default() -> Self {
        Self { scenario: None, rounds: 5, scale: 20, quick: false, dir: "/dev/shm".into() }
    }
}

/// What the origin is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// nginx without a limit: what the program itself costs
    Loopback,
    /// 4 MB/s for each connection, as a CDN does: what the schedule is worth
    Capped,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Capped => "capped",
        }
    }
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "the benchmark", &[NGINX, ARIA2, TIME])?;
    let set = Set::qwen(args.scale);
    memory::require(&sh, &args.dir, 2 * set.total())?;
    let scratch = tempfile::Builder::new().prefix("provision-bench-").tempdir_in(&args.dir)?;
    let scratch = Stage {
        folder: Utf8Path::from_path(scratch.path()).context("the path of --dir is not UTF-8")?,
        sh: &sh,
        set: &set,
        rounds: if args.quick { 1 } else { args.rounds },
        warm_up: !args.quick,
    };
    for &scenario in Scenario::value_variants() {
        if args.scenario.is_some_and(|only| only != scenario) {
            continue;
        }
        let outcome = match scenario {
            Scenario::Loopback => loopback::run(&scratch)?,
            Scenario::Capped => capped::run(&scratch)?,
        };
        println!("\n{outcome}");
        let path = outcome.save(&sh)?;
        println!("{path} written");
        if args.quick && scenario == Scenario::Loopback {
            ensure!(
                outcome.ratio() <= 1.0,
                "slower than aria2c on loopback: {:.2} of its time",
                outcome.ratio()
            );
        }
    }
    Ok(())
}

/// Where rounds take place.
struct Stage<'a> {
    /// In memory; everything below goes at the end.
    folder: &'a Utf8Path,
    sh: &'a Shell,
    set: &'a Set,
    rounds: u32,
    warm_up: bool,
}

impl Stage<'_> {
    /// Lets the contenders fetch the set from `base` in turn; the measurements are in their order.
    fn compete(&self, base: &str) -> Result<[Vec<Measurement>; 2]> {
        let contenders = [Contender::ours(self.folder)?, Contender::aria2(self.folder)];
        let destination = self.folder.join("dest");
        let mut measurements = [Vec::new(), Vec::new()];
        let first = u32::from(!self.warm_up);
        for round in first..=self.rounds {
            for (contender, measurements) in contenders.iter().zip(&mut measurements) {
                let arguments = contender.prepare(self.set, base, &destination)?;
                let measurement = measure::run(self.sh, self.folder, contender.program(), &arguments)?;
                if round == first {
                    self.set.check(self.sh, &destination)?;
                } else {
                    self.set.check_sizes(&destination)?;
                }
                self.sh.remove_path(&destination)?;
                let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
                println!("{name}: {:<8} {measurement}", contender.name());
                if round > 0 {
                    measurements.push(measurement);
                }
            }
        }
        Ok(measurements)
    }
}
