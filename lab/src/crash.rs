//! `cargo lab crash`: the real binary, struck at its file-changing system calls, and what it leaves behind.
//!
//! Four parts: the process killed at a call (`kills`), a call that fails (`errors`), the machine losing its power
//! (`power`: a file system in an image, cloned while the job runs), and eight processes on one destination (`writers`).
//! After every strike the invariants I1 to I3 are checked by looking at the files, with the bytes known beforehand, and
//! a run without trouble has to finish the job. It may ask for no byte that was held: counted is what its requests ask for,
//! each byte once, since connections that take over what others have left of a claim ask for it again.
//!
//! The first thing that is wrong ends the command, with what repeats it. docs/crash.md says what is struck and what is
//! not.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

mod concurrent;
mod context;
mod disk_image;
mod errors;
mod injection;
mod invariants;
mod job;
mod journal;
mod kills;
mod models;
mod power;
mod process;
mod sandbox;
mod summary;
mod tracer;

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::programs;
use crate::tools::steps::{Done, Steps};
use context::CrashContext;
use injection::Injection;

/// Strikes the real binary at its system calls, cuts its power, sets it against itself, and checks what is left
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag of the command line each")]
pub(crate) struct CrashArgs {
    /// Every call of every job, killed before and after it and failed in every way: two hours
    #[arg(long, conflicts_with = "sample")]
    pub(crate) exhaustive: bool,
    /// What CI runs: some of everything, in about three minutes
    #[arg(long)]
    pub(crate) sample: bool,
    /// Only this part (repeatable)
    #[arg(long, value_name = "PART", value_enum)]
    pub(crate) only: Vec<Part>,
    /// For what is chosen at random; a run prints its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many kills, errors, snapshots or rounds, each, instead of the part's own number
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,
    /// Leave out what mounts file systems; without this a machine that cannot mount fails
    #[arg(long)]
    pub(crate) no_mounts: bool,
    /// Go on after something wrong, and list it all at the end
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Only the proof that the power cut finds a wrong order of writes
    #[arg(long, conflicts_with_all = ["only", "no_mounts"])]
    pub(crate) prove_red: bool,
    /// Only this strike, twenty times: what a failure prints
    #[arg(long, value_name = "JOB:N:ACTION")]
    pub(crate) strike: Option<Injection>,
    /// The program as `cargo test --workspace` builds it: for whoever has just run that, nothing is compiled
    #[arg(long, hide = true)]
    pub(crate) built: bool,
    /// This process has a mount table of its own: how it starts itself
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
    /// Eight processes at once, locks that lie, a writer that sleeps
    Writers,
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Sample,
    Full,
    Exhaustive,
}

impl CrashArgs {
    /// Whether file systems will be mounted.
    fn mounts(&self) -> bool {
        let has_power = self.only.is_empty() || self.only.contains(&Part::Power);
        self.prove_red || (has_power && !self.no_mounts && self.strike.is_none())
    }

    fn extent(&self) -> Extent {
        match (self.exhaustive, self.sample) {
            (true, _) => Extent::Exhaustive,
            (_, true) => Extent::Sample,
            _ => Extent::Full,
        }
    }

    /// How many of a part's strikes are tried: what was asked for, or the part's own number.
    fn count(&self, part: Part) -> usize {
        self.count.unwrap_or(part.numbers(self.extent()).tried)
    }

    /// How many there have to be in the end; no number where a person has given one.
    fn least(&self, part: Part) -> usize {
        if self.count.is_some() { 0 } else { part.numbers(self.extent()).least }
    }

    /// Too few would prove too little: a count in CI has to be real.
    fn enough(&self, part: Part, done: usize) -> Result<()> {
        let (least, what) = (self.least(part), part.strikes());
        ensure!(done >= least, "{done} {what} are too few: {least} are the least that is to be proved");
        Ok(())
    }
}

/// How much a part does.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    /// Runs differ in their calls: some of these strike nothing.
    tried: usize,
    least: usize,
}

impl Part {
    fn numbers(self, extent: Extent) -> Numbers {
        let (tried, least) = match (self, extent) {
            (Self::Kills, Extent::Sample) => (340, 300),
            (Self::Kills, _) => (1500, 300),
            (Self::Errors, Extent::Sample) => (240, 200),
            (Self::Errors, _) => (1500, 200),
            // On ext4; what the others have comes on top.
            (Self::Power, Extent::Sample) => (28, 20),
            (Self::Power, _) => (270, 200),
            (Self::Writers, Extent::Sample) => (12, 12),
            (Self::Writers, _) => (200, 200),
        };
        Numbers { tried, least }
    }

    fn strikes(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::Errors => "errors",
            Self::Power => "clones of the disk",
            Self::Writers => "rounds",
        }
    }
}

/// Starts this command again with a mount table of its own: however it ends, its mounts end with it. Returns only where
/// that cannot be.
fn with_own_mounts() -> anyhow::Error {
    let why = "file systems cannot be mounted here, so nothing says what a power cut leaves; --no-mounts leaves that out";
    let separate = ["--mount", "--propagation", "private", "--"];
    let tried = std::process::Command::new("unshare").args(separate).arg("true").status();
    if !tried.is_ok_and(|status| status.success()) {
        return anyhow::Error::msg(why);
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let mut command = std::process::Command::new("unshare");
    command.args(separate).arg(program);
    command.args(std::env::args_os().skip(1)).arg("--own-mounts");
    anyhow::Error::new(command.exec()).context(why)
}

/// What makes the program. Whatever the caller says has been built may have been edited since: a strike at an old program would prove
/// nothing of the new one. The tests' build is no work where it is fresh; one for the program alone has other features in its
/// dependencies, and so would be compiled beside it.
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
    if args.mounts() && !args.own_mounts {
        return Err(with_own_mounts());
    }
    let build = build(args.built);
    cmd!(sh, "cargo {build...}").run()?;
    let context = CrashContext::new(&sh, args.keep_going)?;
    println!("seed {}; the program: {}", args.seed, context.program);
    if let Some(strike) = &args.strike {
        return strike.again(&context, args.seed);
    }
    if args.prove_red {
        return power::prove_red(&sh, &context, args);
    }
    let mut steps = Steps::new("crash");
    for &part in Part::value_variants() {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let name = part.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let repeat = format!("to run it alone: cargo lab crash --only {name} --seed {}", args.seed);
        steps
            .run(&name, || match part {
                Part::Kills => kills::run(&context, args).map(|()| Done::Passed),
                Part::Errors => errors::run(&context, args).map(|()| Done::Passed),
                Part::Power => power::run(&sh, &context, args),
                Part::Writers => concurrent::run(&context, args).map(|()| Done::Passed),
            })
            .context(repeat)?;
    }
    steps.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(extent: Extent, count: Option<usize>) -> CrashArgs {
        CrashArgs {
            exhaustive: extent == Extent::Exhaustive,
            sample: extent == Extent::Sample,
            only: Vec::new(),
            seed: 1,
            count,
            no_mounts: false,
            built: false,
            keep_going: false,
            prove_red: false,
            strike: None,
            own_mounts: false,
        }
    }

    #[test]
    fn a_program_that_is_said_to_be_built_is_built_all_the_same() {
        for with_tests in [true, false] {
            assert!(["build", "test"].contains(&build(with_tests)[0]), "cargo looks whether it is fresh");
        }
        assert!(build(true).contains(&"--no-run"));
    }

    #[test]
    fn too_few_strikes_fail_the_command_and_say_so() {
        for (extent, part, least) in [
            (Extent::Sample, Part::Kills, 300),
            (Extent::Full, Part::Kills, 300),
            (Extent::Sample, Part::Power, 20),
            (Extent::Full, Part::Power, 200),
            (Extent::Exhaustive, Part::Power, 200),
            (Extent::Full, Part::Writers, 200),
        ] {
            let args = args(extent, None);
            let error = args.enough(part, least - 1).unwrap_err().to_string();
            assert!(error.contains(&format!("{least} are the least")), "{extent:?} {part:?}: {error}");
            assert!(error.starts_with(&format!("{} {}", least - 1, part.strikes())), "{error}");
            args.enough(part, least).unwrap();
        }
        args(Extent::Sample, Some(3)).enough(Part::Kills, 2).unwrap();
    }

    #[test]
    fn more_is_tried_than_has_to_be_proved() {
        for &part in Part::value_variants() {
            for extent in [Extent::Sample, Extent::Full, Extent::Exhaustive] {
                let Numbers { tried, least } = part.numbers(extent);
                assert!(tried >= least, "{part:?} {extent:?}");
                assert_eq!(args(extent, None).count(part), tried);
                assert_eq!(args(extent, Some(7)).count(part), 7);
            }
        }
    }
}
