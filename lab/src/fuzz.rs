//! `cargo lab fuzz`: runs `cargo fuzz` on the targets of `lab/fuzz/`, several at a time.
//!
//! The targets are built once, by clippy, without a sanitizer. The parsers have no `unsafe` code, the targets limit
//! memory and processor time themselves, and cargo-fuzz turns on overflow checks. So the pinned toolchain suffices.
//! Inputs that reach new code collect in `target/fuzz/TARGET`, inputs that fail in `lab/fuzz/artifacts/TARGET`.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use anyhow::{Result, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::steps::Done;
use crate::tools::{parallel, programs};

/// Fuzzes the parsers of outside text
#[derive(Debug, Clone, Args)]
pub(crate) struct FuzzArgs {
    /// Run each target for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Instead: fail unless the bugs of the target `planted` are found
    #[arg(long)]
    prove_red: bool,
}

/// The options with which every target is built.
const BUILD: [&str; 6] =
    ["--fuzz-dir", "lab/fuzz", "--sanitizer", "none", "--target-dir", "target/fuzz/build"];
/// libFuzzer's limits: wall seconds for an input that hangs, megabytes for the process.
const LIMITS: [&str; 2] = ["-timeout=20", "-rss_limit_mb=512"];
/// The target with bugs on purpose, and the sign of each bug. Only the first input is found by a search.
const PLANTED: &str = "planted";
const SIGNS: [(&str, &str); 4] = [
    ("search", "the planted bug was found"),
    ("hang", "ERROR: libFuzzer: timeout"),
    ("slow", "of processor time"),
    ("memory", "bytes of memory"),
];

pub(crate) fn run(args: &FuzzArgs) -> Result<Done> {
    let sh = shell()?;
    for (probe, remedy) in [
        ("cargo fuzz --version", "cargo-fuzz is missing: cargo install cargo-fuzz --locked"),
        ("c++ --version", "a C++ compiler, which libFuzzer needs, is missing: apt-get install g++"),
    ] {
        if cmd!(sh, "sh -c {probe}").quiet().ignore_stdout().ignore_stderr().run().is_err() {
            return Ok(Done::Skipped(remedy.to_owned()));
        }
    }
    // cargo-fuzz has no `--locked`. This fails where the lock file does not fit the manifest, and the rest is offline.
    cmd!(sh, "cargo fetch --quiet --locked --manifest-path lab/fuzz/Cargo.toml").quiet().run()?;
    cmd!(sh, "cargo fuzz build {BUILD...}").env("CARGO_NET_OFFLINE", "true").quiet().run()?;
    let listed = cmd!(sh, "cargo fuzz list --fuzz-dir lab/fuzz").quiet().read()?;
    let targets: Vec<_> = listed.lines().filter(|target| *target != PLANTED).collect();
    let cores = parallel::processors();
    let results = if args.prove_red {
        parallel::map(&SIGNS, cores, |(input, sign)| find_planted(args, input, sign))
    } else {
        parallel::map(&targets, cores, |target| search(args, target))
    };
    let failures: Vec<_> = results.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(Done::Passed)
}

/// A shell at the workspace's root, with the tools of CI on its search path.
fn shell() -> Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    // clippy-driver is the compiler with more lints: the targets need no second build to be linted.
    sh.set_var("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    sh.set_var("CLIPPY_ARGS", "-Dwarnings");
    Ok(sh)
}

/// Runs a target on directories of inputs, of which the first gets those that reach new code, or on one input. Returns
/// whether every input passed, and the log.
fn fuzz(args: &FuzzArgs, target: &str, inputs: &[&str]) -> Result<(bool, String)> {
    let (sh, time) = (shell()?, format!("-max_total_time={}", args.seconds));
    let run = cmd!(sh, "cargo fuzz run {BUILD...} {target} {inputs...} -- {LIMITS...} {time}");
    let output = run.env("CARGO_NET_OFFLINE", "true").quiet().ignore_status().output()?;
    // The log shows inputs as they are, so it may not be UTF-8.
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Searches from the saved corpus on until the time is over. An input that fails is an error.
fn search(args: &FuzzArgs, target: &str) -> Result<()> {
    let (found, saved) = (format!("target/fuzz/{target}"), format!("lab/fuzz/corpus/{target}"));
    shell()?.create_dir(&found)?;
    let (passed, log) = fuzz(args, target, &[&found, &saved])?;
    // The log ends with the error, the input and the command that repeats it.
    ensure!(passed, "{target}: an input failed\n{log}");
    let done = log.lines().rfind(|line| line.starts_with("Done ")).unwrap_or_default();
    println!("    {target:<14} {done}");
    Ok(())
}

/// Fails unless a planted bug is reported.
fn find_planted(args: &FuzzArgs, input: &str, sign: &str) -> Result<()> {
    let sh = shell()?;
    let path = format!("target/fuzz/planted/{input}");
    sh.remove_path(&path)?;
    if input == "search" {
        sh.create_dir(&path)?;
    } else {
        sh.write_file(&path, input)?;
    }
    let (passed, log) = fuzz(args, PLANTED, &[&path])?;
    ensure!(!passed && log.contains(sign), "{input}: the planted bug was not found\n{log}");
    println!("    {input}: the planted bug was found");
    Ok(())
}
