//! `cargo lab faults`: holds the fault catalogue against its tests, writes its tables in docs/reliability.md, and runs
//! the cases about origins with other download tools (`--peer`).
//!
//! A test's name says which cases it covers. CI fails (`--check`) on a case without a test, a test without a case, a
//! test that did not pass, and on a page that differs from the catalogue and the tests.

#![expect(clippy::print_stdout, reason = "the result of the command")]

mod catalogue;
mod coverage;
mod listing;
mod names;
mod other_tools;
mod page;
mod table;

use anyhow::{Result, bail};
use camino::Utf8PathBuf;
use clap::Args;
use xshell::Shell;

use crate::project;

/// The fault catalogue: the tests of each case, and what other tools do with it
#[derive(Debug, Clone, Args)]
pub(crate) struct FaultsArgs {
    /// Read the output of `cargo test` (both streams, with CI set) instead of running the tests
    #[arg(long, value_name = "FILE")]
    results: Option<Utf8PathBuf>,

    /// Write nothing; also fail where docs/reliability.md differs from the catalogue and its tests
    #[arg(long)]
    check: bool,

    /// Instead: run the cases about origins with aria2c, curl or wget, and with ours (repeatable)
    #[arg(long, value_name = "TOOL", conflicts_with_all = ["results", "check"])]
    peer: Vec<String>,

    /// With --peer: only these cases (repeatable)
    #[arg(long, value_name = "N", requires = "peer")]
    case: Vec<u8>,

    /// With --peer: write the table into docs/reliability.md
    #[arg(long, requires = "peer", conflicts_with = "case")]
    write: bool,

    /// This process is in the network namespace already.
    #[arg(long, hide = true)]
    in_namespace: bool,
}

/// The page, below the workspace's root.
const PAGE: &str = "docs/reliability.md";

pub(crate) fn run(args: &FaultsArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    let cases = catalogue::read(&sh)?;
    if !args.peer.is_empty() {
        return other_tools::run(&sh, args, &cases);
    }
    let tests = listing::list(&sh)?;
    let (rows, mut complaints) = coverage::join(&cases, &tests);
    let text = sh.read_file(PAGE)?;
    let updated = page::replace(&text, page::TABLE, &table::render(&rows))?;
    if args.check && updated != text {
        complaints.push(format!("{PAGE} is out of date: run cargo lab faults and commit it"));
    }
    if let Some(results) = &args.results {
        complaints.extend(listing::objections(&sh.read_file(results)?, &tests));
    }
    println!("{}", coverage::summary(&rows));
    if !complaints.is_empty() {
        bail!("the fault catalogue is not verified:\n  {}", complaints.join("\n  "));
    }
    if args.results.is_none() {
        listing::run(&sh)?;
    }
    if !args.check {
        sh.write_file(PAGE, updated)?;
        println!("{PAGE} written");
    }
    Ok(())
}
