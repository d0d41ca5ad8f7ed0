//! `cargo lab faults`: the fault catalogue's table in docs/reliability.md, made of the catalogue and of the tests
//! themselves, and the same catalogue on the tools that people would take instead (`--peer`).
//!
//! The catalogue is data (`provision/tests/it/faults/cases.toml`). A test says by its name which cases it proves; what
//! it proves is what `cargo test` says of it. So the table cannot claim more than was run, and `--check` is what CI
//! fails by: a case without a test, a test without a case, a test that did not pass, or a page that says otherwise.
//!
//! Code map: `catalogue` reads the cases, `listing` what cargo printed, `names` the numbers in a test's name; `coverage`
//! brings them together and complains; `table` draws, `page` puts it between its markers; `peers` runs other tools. All
//! but `peers` are pure.

#![expect(clippy::print_stdout, reason = "the result is what it is run for")]

mod catalogue;
mod coverage;
mod listing;
mod names;
mod page;
mod peers;
mod table;

use anyhow::{Result, bail};
use camino::Utf8PathBuf;
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use catalogue::Case;
use listing::TestResult;
use peers::Peer;

/// The fault catalogue: what proves each case, and what other tools make of it
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FaultsArgs {
    /// Read what `cargo test` printed (both streams) instead of running the tests
    #[arg(long, value_name = "FILE")]
    pub(crate) results: Option<Utf8PathBuf>,

    /// Write nothing; fail where a case has no test, a test did not pass, or docs/reliability.md says otherwise
    #[arg(long)]
    pub(crate) check: bool,

    /// Instead: run the origin cases (1-35, 43-51) against this tool and ours (repeatable)
    #[arg(long, value_enum, value_name = "TOOL", conflicts_with_all = ["results", "check"])]
    pub(crate) peer: Vec<Peer>,

    /// With --peer: only these cases (repeatable)
    #[arg(long, value_name = "N", requires = "peer")]
    pub(crate) case: Vec<u8>,

    /// With --peer: put the table into docs/reliability.md
    #[arg(long, requires = "peer", conflicts_with = "case")]
    pub(crate) write: bool,

    /// With --peer: every trial has this many seconds
    #[arg(long, value_name = "SECONDS", requires = "peer", default_value_t = 90)]
    pub(crate) limit: u64,

    /// This process is in the namespace already.
    #[arg(long, hide = true)]
    pub(crate) in_namespace: bool,
}

/// The page, below the workspace's root.
const PAGE: &str = "docs/reliability.md";

pub(crate) fn run(args: &FaultsArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    let cases = catalogue::read(&sh)?;
    if !args.peer.is_empty() {
        return peers::run(&sh, args, &cases);
    }
    let tests = match &args.results {
        Some(file) => listing::parse(&sh.read_file(file)?),
        None => run_tests(&sh)?,
    };
    if args.check { check(&sh, &cases, &tests) } else { write(&sh, &cases, &tests) }
}

fn check(sh: &Shell, cases: &[Case], tests: &[TestResult]) -> Result<()> {
    let joined = coverage::join(cases, tests);
    let mut complaints: Vec<_> = joined.complaints.iter().map(ToString::to_string).collect();
    let found = page::section(&sh.read_file(PAGE)?, page::TABLE)?.to_owned();
    if found != table::render(&joined.rows) {
        complaints.push(format!("{PAGE} is not what the tests give now: cargo lab faults, then commit it"));
    }
    println!("{}", joined.summary());
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("the fault catalogue is not proved:\n  {}", complaints.join("\n  "))
}

fn write(sh: &Shell, cases: &[Case], tests: &[TestResult]) -> Result<()> {
    let joined = coverage::join(cases, tests);
    let text = page::replace(&sh.read_file(PAGE)?, page::TABLE, &table::render(&joined.rows))?;
    sh.write_file(PAGE, text)?;
    for complaint in &joined.complaints {
        println!("{complaint}");
    }
    println!("{}\n{PAGE} written", joined.summary());
    Ok(())
}

/// Runs the tests of the catalogue. What fails is in their results, not an error here.
fn run_tests(sh: &Shell) -> Result<Vec<TestResult>> {
    println!("running the tests of the fault catalogue (their output is read, not shown)");
    // Both streams in one, by the shell: the headings are on the one and the results on the other.
    let command = "cargo test --locked --no-fail-fast -p provision --tests -- fault --show-output 2>&1";
    let text = cmd!(sh, "sh -c {command}").quiet().ignore_status().read()?;
    let tests = listing::parse(&text);
    if tests.is_empty() {
        bail!("no test was run:\n{text}");
    }
    Ok(tests)
}
