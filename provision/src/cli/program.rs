//! The command line of `provision` and its dispatch. It lies in the library: the man pages are made from it.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use super::arguments::{CacheArgs, CleanArgs, EnsureArgs, FetchCommand, StatusArgs, VerifyArgs};
use super::completion::{self, CompletionsArgs};
use super::exit::Failure;
use super::init::InitArgs;
use super::lock::LockArgs;
use super::pieces::PiecesArgs;
use super::store::StoreArgs;
use super::{
    cache, clean, environment, fetch, init, owner, pieces, process, status, store, suggestions, verify,
};

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
    #[command(flatten)]
    Common(Box<CommonCommand>),
    /// Write a lock, a Dockerfile, a workflow, a start script or a pod into your repository
    Init(InitArgs),
    /// Print a shell's completion script; models and groups of the lock complete, too
    Completions(CompletionsArgs),
}

/// The commands that `cargo xtask` has, too.
#[derive(Subcommand)]
pub enum CommonCommand {
    /// Complete the models at container start: check the marker, copy baked models, fetch the rest
    Ensure(Box<EnsureArgs>),
    /// Hash every model and list the wrong ones; exit 5 if there are any
    Verify(VerifyArgs),
    /// List what is installed, missing or partial, without network
    Status(StatusArgs),
    /// Remove what earlier runs left in the destination, after a list and a question
    Clean(CleanArgs),
    /// List or prune a cache
    Cache(CacheArgs),
    /// Fill a store that other machines fetch from, or ask which models it has
    Store(StoreArgs),
    /// Print a piece list, which says the digest of each part of a file
    Pieces(PiecesArgs),
    /// Show and edit a lock: add, import, update, check, list, pieces, remove, torrent
    Lock(LockArgs),
}

impl CommonCommand {
    /// Runs the command. `lock` is the default lock.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(&self, lock: &str) -> Result<(), Failure> {
        match self {
            Self::Ensure(args) => fetch::ensure(args, lock),
            Self::Verify(args) => verify::run(args, lock),
            Self::Status(args) => status::run(args, lock),
            Self::Clean(args) => clean::run(args, lock),
            Self::Cache(args) => cache::run(args, lock),
            Self::Store(args) => store::run(args, lock),
            Self::Pieces(args) => pieces::run(args),
            Self::Lock(args) => super::lock::run(args, lock),
        }
    }
}

/// The default lock.
const LOCK: &str = "models.lock";

/// The program's command line, with its documentation.
pub fn command() -> clap::Command {
    Program::command()
}

/// Runs the command that was typed. Call it first in the process.
pub fn main() -> ExitCode {
    process::prepare("provision");
    environment::prepare_options();
    if completion::answer(command, LOCK) {
        return ExitCode::SUCCESS;
    }
    if let Err(failure) = owner::become_owner() {
        return super::end(Err(failure));
    }
    let command = suggestions::parse::<Program>().command;
    super::run(|| match command {
        Command::Fetch(args) => fetch::run(&args.fetch, &args.layers, LOCK),
        Command::Common(command) => command.run(LOCK),
        Command::Init(args) => init::run(&args, LOCK),
        Command::Completions(args) => completion::run(&args),
    })
}
