//! `provision lock list`.

use std::io::IsTerminal as _;

use crate::cli::arguments::{Choice, Locks};
use crate::cli::exit::Failure;
use crate::cli::output::escaped;
use crate::cli::{locks, print_line};
use clap::Args;
use provision_lock::listing::{json, rows, table};

/// Options of `lock list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    /// The models.
    #[command(flatten)]
    choice: Choice,
    /// The locks.
    #[command(flatten)]
    locks: Locks,
}

/// The terminal's width, if there is a terminal.
fn columns() -> Option<usize> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

pub(crate) fn run(args: &ListArgs, default: &str) -> Result<(), Failure> {
    let lock = super::read(&args.locks, default)?;
    let rows = rows(&locks::select(&lock, &args.choice.clone().into())?);
    let text = if args.json { escaped(&format!("{:#}", json(&rows))) } else { table(&rows, columns()) };
    print_line(text.trim_end());
    Ok(())
}
