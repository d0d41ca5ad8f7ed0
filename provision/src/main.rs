//! `provision`: the runtime binary. It parses arguments, calls the command, and maps errors to exit codes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use provision::cli::arguments::{EnsureArgs, FetchCommand, StatusArgs, VerifyArgs};
use provision::cli::{fetch, status, verify};

/// Puts model files where a container needs them: fast, verified, and never half there
#[derive(Parser)]
#[command(name = "provision", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch the models of a lock, verify and install them
    Fetch(Box<FetchCommand>),
    /// Container start: check the marker, copy baked models, fetch the missing ones
    Ensure(Box<EnsureArgs>),
    /// Hash every model and list what is wrong
    Verify(VerifyArgs),
    /// Say what is installed, missing or partial; no network
    Status(StatusArgs),
}

/// The default lock.
const LOCK: &str = "models.lock";

fn main() -> ExitCode {
    provision::cli::process::prepare();
    provision::cli::environment::forget_empty();
    let result = match Program::parse().command {
        Command::Fetch(args) => fetch::run(&args.fetch, &args.layers, LOCK),
        Command::Ensure(args) => fetch::ensure(&args, LOCK),
        Command::Verify(args) => verify::run(&args, LOCK),
        Command::Status(args) => status::run(&args, LOCK),
    };
    result.map_or_else(provision::cli::exit::Failure::report, |()| ExitCode::SUCCESS)
}
