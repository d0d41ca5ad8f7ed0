//! The command line around the library crates: arguments, environment, progress, messages, exit codes.
//!
//! Both binaries (`provision` and `cargo xtask`) use it, so an option means the same in CI, in a Dockerfile and at
//! container start. [`environment`] alone reads environment variables; [`progress`] alone draws.

pub mod arguments;
pub mod cache;
pub mod clean;
pub mod comfyui;
pub mod completion;
pub mod environment;
pub mod exit;
pub mod fetch;
mod infohashes;
pub mod init;
pub mod layers;
pub mod lock;
pub mod locks;
mod output;
pub mod owner;
pub mod pieces;
pub mod process;
pub mod program;
pub mod progress;
pub mod report;
mod signals;
pub mod status;
pub mod store;
pub mod suggestions;
pub mod units;
pub mod verify;
mod warm;

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use exit::Failure;
use output::{ERR, OUT};
use progress::{Mode, Progress, Settings, Verbosity, Work};

/// Runs a command of the program, and returns its exit code as [`end`] does. A signal stops it at any time. A process
/// that the command starts inherits the blocked signals, unless it unblocks them (`environment::program`).
pub fn run(command: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    signals::listen();
    end(command())
}

/// Reports a failure, and returns the exit code once all output is written.
pub fn end(result: Result<(), Failure>) -> ExitCode {
    let code = result.map_or_else(Failure::report, |()| ExitCode::SUCCESS);
    output::flush();
    code
}

/// The progress of a command, as standard error and the environment want it.
fn draw(mode: Mode, verbosity: Verbosity, work: Work) -> Arc<dyn Progress> {
    progress::observer(&Settings {
        mode,
        verbosity,
        colour: environment::wants_colour(),
        terminal: std::io::stderr().is_terminal(),
        clock: progress::clock(),
        work,
    })
}

/// Writes a message to standard error. A closed stream is no failure.
pub fn say(text: impl Display) {
    ERR.line(text, &OUT);
}

/// Asks on the terminal, and returns the answer. `None` without a terminal.
pub(crate) fn ask(question: impl Display) -> std::io::Result<Option<String>> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    say(question);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(Some(answer.trim().to_owned()))
}

/// Writes a result line to standard output.
pub(crate) fn print_line(text: impl Display) {
    OUT.line(text, &ERR);
}
