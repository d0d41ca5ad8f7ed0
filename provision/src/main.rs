//! `provision`: the program, also of images. It parses arguments, calls the command, and maps errors to exit codes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use provision::cli::arguments::{CacheArgs, CleanArgs, EnsureArgs, FetchCommand, StatusArgs, VerifyArgs};
use provision::cli::init::InitArgs;
use provision::cli::lock::LockArgs;
use provision::cli::{cache, clean, fetch, init, lock, status, suggestions, verify};

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
    /// Complete the models at container start: check the marker, copy baked models, fetch the rest
    Ensure(Box<EnsureArgs>),
    /// Hash every model and list the wrong ones; exit 5 if there are any
    Verify(VerifyArgs),
    /// List what is installed, missing or partial, without network
    Status(StatusArgs),
    /// Show and edit a lock: add, import, update, check, list, remove
    Lock(LockArgs),
    /// Remove what earlier runs left in the destination, after a list and a question
    Clean(CleanArgs),
    /// List or prune a cache
    Cache(CacheArgs),
    /// Write a lock, a Dockerfile, a workflow, a start script or a pod into your repository
    Init(InitArgs),
}

/// The default lock.
const LOCK: &str = "models.lock";

fn main() -> ExitCode {
    provision::cli::process::prepare("provision");
    provision::cli::environment::prepare_options();
    if let Err(failure) = provision::cli::owner::become_owner() {
        return provision::cli::end(Err(failure));
    }
    let command = suggestions::parse::<Program>().command;
    provision::cli::run(|| match command {
        Command::Fetch(args) => fetch::run(&args.fetch, &args.layers, LOCK),
        Command::Ensure(args) => fetch::ensure(&args, LOCK),
        Command::Verify(args) => verify::run(&args, LOCK),
        Command::Status(args) => status::run(&args, LOCK),
        Command::Lock(args) => lock::run(&args, LOCK),
        Command::Clean(args) => clean::run(&args, LOCK),
        Command::Cache(args) => cache::run(&args, LOCK),
        Command::Init(args) => init::run(&args, LOCK),
    })
}
