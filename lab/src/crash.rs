//! `cargo lab crash`: the real binary, disturbed at its file-changing system calls, and the files that it leaves.
//!
//! Four parts: the process is killed at a call (`kills`), a call fails (`errors`), the machine loses its power
//! (`power`: a file system in an image, cloned while the job runs), and eight processes share a destination
//! (`writers`). After each the invariants I1 to I3 are checked by the files' known bytes, and an undisturbed run has to
//! finish the job. That run may request no byte that was held. Requested bytes count once each: a connection that takes
//! over the rest of a claim requests it again.
//!
//! The first failure ends the command and prints how to repeat it. docs/crash.md lists what is covered and what is not.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

mod call;
mod concurrent;
mod disk_image;
mod injection;
mod invariants;
mod job;
mod journal;
mod models;
mod power;
mod runner;
mod sandbox;
mod tracer;
mod verdict;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use fastrand::Rng;
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::steps::{Done, Steps};
use crate::tools::{namespace, programs};
use call::Call;
use disk_image::{FILE_SYSTEMS, NO_MOUNTS};
use injection::{FAILURES, Injection, KILLS};
use job::Job;
use power::PowerCut;
use sandbox::CrashContext;
use verdict::MISSED;

/// Disturbs the real binary at its system calls, cuts its power, runs it concurrently, and checks the files
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag of the command line each")]
pub(crate) struct CrashArgs {
    /// Every call of every job, killed before and after it and failed in every way: two hours
    #[arg(long, conflicts_with_all = ["sample", "count"])]
    pub(crate) exhaustive: bool,
    /// A sample of each part, as CI runs it, in about three minutes
    #[arg(long)]
    pub(crate) sample: bool,
    /// Only this part (repeatable)
    #[arg(long, value_name = "PART", value_enum)]
    pub(crate) only: Vec<Part>,
    /// The seed of random choices; a run prints its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// The number of kills, errors, clones or rounds of each part, instead of its own
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,
    /// Leave out the part that mounts file systems; without this, a machine that cannot mount fails
    #[arg(long)]
    pub(crate) no_mounts: bool,
    /// Only check that the power cut finds a wrong order of writes
    #[arg(long, conflicts_with_all = ["only", "no_mounts"])]
    pub(crate) prove_red: bool,
    /// Only this injection, twenty times; a failure prints it
    #[arg(long, value_name = "JOB:N:ACTION")]
    pub(crate) strike: Option<Injection>,
    /// Build the program as `cargo test --workspace` does: after that command nothing is compiled
    #[arg(long, hide = true)]
    pub(crate) built: bool,
    /// Set by the command itself when it starts again with its own mount table
    #[arg(long, hide = true)]
    pub(crate) own_mounts: bool,
}

/// The parts, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// SIGKILL at a call
    Kills,
    /// A call that fails, or writes half
    Errors,
    /// Clones of the disk at every call
    Power,
    /// Eight processes at once, locks that do nothing, a process that sleeps
    Writers,
}

/// What was done, and how it ended.
type Outcome = (String, &'static str);

impl CrashArgs {
    fn includes(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn needs_mounts(&self) -> bool {
        self.prove_red || (self.includes(Part::Power) && !self.no_mounts && self.strike.is_none())
    }

    /// How much of a part is tried, and how much has to hit, so that a count in CI is real. Some hits nothing, since runs
    /// differ in their calls. A count from the command line has no least.
    fn extent(&self, part: Part) -> (usize, usize) {
        let [sample, full] = match part {
            Part::Kills => [(340, 300), (1500, 300)],
            Part::Errors => [(240, 200), (1500, 200)],
            // Clones on ext4. The other file systems come on top.
            Part::Power => [(28, 20), (270, 200)],
            // Rounds, of eight processes at least.
            Part::Writers => [(12, 96), (200, 1600)],
        };
        self.count.map_or(if self.sample { sample } else { full }, |count| (count, 0))
    }
}

/// The cargo command that builds the program. It runs even after a build, since an old program would hide a failure of
/// the new one. A build of the program alone has other features, and would be compiled beside the tests' build.
fn build(with_tests: bool) -> &'static [&'static str] {
    if with_tests {
        &["test", "--quiet", "--locked", "--workspace", "--no-run"]
    } else {
        &["build", "--quiet", "--locked", "--package", "provision", "--bin", "provision"]
    }
}

pub(crate) fn run(args: &CrashArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "crash", &[programs::CC])?;
    if args.needs_mounts() && !args.own_mounts {
        let options = ["--mount", "--propagation", "private"];
        return namespace::rerun(&sh, &options, "true", "--own-mounts", NO_MOUNTS);
    }
    let build = build(args.built);
    cmd!(sh, "cargo {build...}").run()?;
    let context = CrashContext::new(&sh)?;
    println!("seed {}; the program: {}", args.seed, context.program);
    if let Some(injection) = args.strike {
        print_counts(&runner::run(&context, vec![injection; 20])?);
        return Ok(());
    }
    if args.prove_red {
        return PowerCut::new(&sh, &context, Rng::new())?.check_itself(&FILE_SYSTEMS).map(drop);
    }
    let recorded = sandbox::record_all(&context)?;
    let mut steps = Steps::new("crash");
    for &part in Part::value_variants().iter().filter(|part| args.includes(**part)) {
        let name = format!("{part:?}").to_lowercase();
        let repeat = format!("to run it alone: cargo lab crash --only {name} --seed {}", args.seed);
        steps.run(&name, || run_part(&sh, &context, &recorded, (part, args))).context(repeat)?;
    }
    steps.finish();
    Ok(())
}

fn run_part(
    sh: &Shell,
    context: &CrashContext,
    recorded: &[(Job, Vec<Call>)],
    (part, args): (Part, &CrashArgs),
) -> Result<Done> {
    let (count, least) = args.extent(part);
    // With `None`, every call.
    let calls = (!args.exhaustive).then_some(count);
    let mut rng = Rng::with_seed(args.seed ^ ((part as u64) << 32));
    let outcomes = match part {
        Part::Kills => runner::run(context, runner::choose(recorded, &KILLS, calls, &mut rng))?,
        Part::Errors => runner::run(context, runner::choose(recorded, &FAILURES, calls, &mut rng))?,
        Part::Power if args.no_mounts => {
            return Ok(Done::Skipped("--no-mounts: power cuts were NOT checked".to_owned()));
        }
        Part::Power => PowerCut::new(sh, context, rng)?.run(recorded, calls, args.sample)?,
        Part::Writers => concurrent::run(context, recorded, count, rng)?,
    };
    let hits = print_counts(&outcomes);
    ensure!(hits >= least, "{hits} are too few: {least} are the least");
    Ok(Done::Passed)
}

/// Prints how often each outcome came about. Returns the number of those that hit something.
fn print_counts(outcomes: &[Outcome]) -> usize {
    let mut rows = BTreeMap::<_, BTreeMap<_, usize>>::new();
    for (row, outcome) in outcomes {
        *rows.entry(row).or_default().entry(outcome).or_default() += 1;
    }
    for (row, counts) in rows {
        let counts: Vec<_> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        println!("    {row}: {}", counts.join(", "));
    }
    let hits = outcomes.iter().filter(|(_, outcome)| *outcome != MISSED).count();
    println!("    {hits} in all: I1 to I3 held, and at the end everything was exact");
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_built_even_after_a_build() {
        for with_tests in [true, false] {
            assert!(["build", "test"].contains(&build(with_tests)[0]), "cargo looks whether it is fresh");
        }
        assert!(build(true).contains(&"--no-run"));
    }

    #[test]
    fn missed_calls_are_no_hits() {
        let outcomes = ["killed", "killed", MISSED].map(|outcome| ("kill".to_owned(), outcome));
        assert_eq!(print_counts(&outcomes), 2);
    }
}
