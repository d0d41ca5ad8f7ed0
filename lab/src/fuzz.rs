//! `cargo lab fuzz`: runs `cargo fuzz` on the targets of `lab/fuzz/`, several at a time.
//!
//! The targets are built once, by clippy, without a sanitizer. The parsers have no `unsafe` code, the targets count
//! memory in their own allocator, and cargo-fuzz turns on overflow checks. So the pinned toolchain suffices.
//! Inputs that reach new code collect in `target/fuzz/TARGET`, inputs that fail in `lab/fuzz/artifacts/TARGET`.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

use anyhow::{Result, bail, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::parallel;
use crate::tools::steps::Done;

/// Fuzzes the parsers of outside text
#[derive(Debug, Clone, Args)]
pub(crate) struct FuzzArgs {
    /// Run each target for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Run only this target (repeatable)
    #[arg(long, value_name = "TARGET")]
    only: Vec<String>,

    /// Fail when the process of a target takes more memory than this, in MB
    #[arg(long, value_name = "MB", default_value_t = 512)]
    memory: u64,

    /// Run this many targets at the same time; the default is the number of cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// Minimize the corpus: add inputs that reach new code to lab/fuzz/corpus, remove generated ones that do not
    #[arg(long, conflicts_with = "prove_red")]
    save: bool,

    /// Instead: fail unless the bugs of the target `planted` are found
    #[arg(long, conflicts_with = "only")]
    prove_red: bool,
}

/// The options with which every target is built.
const BUILD: [&str; 6] =
    ["--fuzz-dir", "lab/fuzz", "--sanitizer", "none", "--target-dir", "target/fuzz/build"];
/// The target with bugs on purpose.
const PLANTED: &str = "planted";
/// The longest time for one input, in seconds.
const TIMEOUT: u32 = 1;
/// On a busy machine the clock runs on while the target does not. An input that passes in one of so many replays was not
/// slow, and a search that was stopped by one starts over as often.
const TRIES: usize = 3;

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
    sh.set_var("CARGO_NET_OFFLINE", "true");
    cmd!(sh, "cargo fuzz build {BUILD...}").quiet().run()?;
    if args.prove_red {
        verify_red(&sh, args)?;
        return Ok(Done::Passed);
    }
    let listed = cmd!(sh, "cargo fuzz list --fuzz-dir lab/fuzz").quiet().read()?;
    let mut targets: Vec<_> = listed.lines().filter(|target| *target != PLANTED).collect();
    for only in &args.only {
        ensure!(targets.contains(&only.as_str()), "there is no target {only}; there are {targets:?}");
    }
    targets.retain(|target| args.only.is_empty() || args.only.iter().any(|only| only == target));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cores, usize::from);
    let results = parallel::map(&targets, jobs, |target| search(args, target));
    let failures: Vec<_> =
        results.into_iter().filter_map(|result| Some(format!("{:#}", result.err()?))).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(Done::Passed)
}

/// A shell at the workspace's root, with the tools of CI on its search path.
fn shell() -> Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    sh.set_var("PATH", format!("{}/target/ci-tools/bin:{}", project::root(), sh.var("PATH")?));
    // clippy-driver is the compiler with more lints: the targets need no second build to be linted.
    sh.set_var("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    sh.set_var("CLIPPY_ARGS", "-Dwarnings");
    Ok(sh)
}

/// One run of a target: whether every input passed, and the log.
struct Run {
    passed: bool,
    log: String,
}

/// Runs a target on directories of inputs or on single inputs.
fn fuzz(args: &FuzzArgs, target: &str, inputs: &[&str], option: &str) -> Result<Run> {
    let sh = shell()?;
    sh.set_var("CARGO_NET_OFFLINE", "true");
    let limits = [format!("-timeout={TIMEOUT}"), format!("-rss_limit_mb={}", args.memory)];
    let run = cmd!(sh, "cargo fuzz run {BUILD...} {target} {inputs...} -- {limits...} {option}");
    let output = run.quiet().ignore_status().output()?;
    // The log shows inputs as they are, so it may not be UTF-8.
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    sh.write_file(format!("target/fuzz/{target}.log"), &log)?;
    Ok(Run { passed: output.status.success(), log })
}

/// Searches from the saved corpus on until the time is over. An input that fails is an error.
fn search(args: &FuzzArgs, target: &str) -> Result<()> {
    let sh = shell()?;
    let (found, saved) = (format!("target/fuzz/{target}"), format!("lab/fuzz/corpus/{target}"));
    sh.create_dir(&found)?;
    for _ in 0..=TRIES {
        let Run { passed, log } =
            fuzz(args, target, &[&found, &saved], &format!("-max_total_time={}", args.seconds))?;
        if passed {
            let done = log.lines().rfind(|line| line.starts_with("Done ")).unwrap_or_default();
            println!("    {target:<14} {done}");
            return if args.save { save(&sh, args, target, [&saved, &found]) } else { Ok(()) };
        }
        let written = log.lines().find_map(|line| line.split_once("Test unit written to "));
        let input = written.map_or("", |(_, path)| path);
        let is_slow = log.contains("ERROR: libFuzzer: timeout");
        if !(is_slow && passes_alone(args, target, input)?) {
            let signs = ["panicked at", "ERROR: libFuzzer"];
            let reason = log.lines().skip_while(|line| !signs.iter().any(|sign| line.contains(sign)));
            let reason: Vec<_> = reason.take(6).collect();
            bail!(
                "{target}: an input failed\n{}\nrepeat: cargo fuzz run {} {target} {input}\nlog: target/fuzz/{target}.log",
                reason.join("\n"),
                BUILD.join(" ")
            );
        }
    }
    bail!("{target}: inputs timed out, and passed when run alone: this machine is too busy")
}

fn passes_alone(args: &FuzzArgs, target: &str, input: &str) -> Result<bool> {
    for _ in 0..TRIES {
        if fuzz(args, target, &[input], "-runs=1")?.passed {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Merges new inputs into the saved corpus. `cargo fuzz cmin` would rename the hand-written inputs to digests, so
/// libFuzzer merges, which keeps every input of the first directory.
fn save(sh: &Shell, args: &FuzzArgs, target: &str, [saved, found]: [&str; 2]) -> Result<()> {
    for path in sh.read_dir(saved)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            sh.copy_file(&path, found)?;
            sh.remove_path(&path)?;
        }
    }
    let Run { passed, log } = fuzz(args, target, &[saved, found], "-merge=1")?;
    ensure!(passed, "{target}: the corpus was not merged\n{log}");
    println!("    {target:<14} {} inputs in {saved}", sh.read_dir(saved)?.len());
    Ok(())
}

/// Fails unless a search finds the bug behind four branches, and an input that hangs and one that takes too much memory
/// are reported.
fn verify_red(sh: &Shell, args: &FuzzArgs) -> Result<()> {
    sh.remove_path("target/fuzz/planted")?;
    sh.create_dir("target/fuzz/planted/search")?;
    for (input, sign) in [
        ("search", "the planted bug was found"),
        ("hang", "ERROR: libFuzzer: timeout"),
        ("memory", "bytes of memory"),
    ] {
        let path = format!("target/fuzz/planted/{input}");
        if input != "search" {
            sh.write_file(&path, input)?;
        }
        let run = fuzz(args, PLANTED, &[&path], &format!("-max_total_time={}", args.seconds))?;
        ensure!(!run.passed && run.log.contains(sign), "{input}: the planted bug was not found\n{}", run.log);
        println!("    {input}: the planted bug was found");
    }
    Ok(())
}
