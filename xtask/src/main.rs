//! `cargo xtask`: the project's commands. This file has their command line and only dispatches.

mod ci;
mod demo;
mod dist;
mod image;
mod project;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use provision::cli::arguments::FetchCommand;
use provision::cli::exit::{Code, Failure};
use provision::cli::program::CommonCommand;
use provision::cli::{end, environment, fetch, process, run, suggestions};

/// The project's commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Subcommand)]
enum Command {
    /// Fetch the models of models.lock, verify and install them
    FetchModels(Box<FetchModels>),
    #[command(flatten)]
    Common(Box<CommonCommand>),
    /// Build a container image with the local docker
    Image(image::ImageArgs),
    /// Build the static binary for images, check it, print its path, size and SHA-256
    Dist(dist::DistArgs),
    /// Run every check except the tests, and stop at the first that fails
    Ci(ci::CiArgs),
}

/// Options of `fetch-models`.
#[derive(Args)]
struct FetchModels {
    /// Fetch a generated set from an origin in this process: no network, no token
    #[arg(long, conflicts_with_all = ["models", "groups", "lock", "lock_sha256", "dest", "offline", "dry_run", "cache", "layers"])]
    demo: bool,
    #[command(flatten)]
    command: FetchCommand,
}

fn main() -> ExitCode {
    project::forget_cargo_run();
    process::prepare("cargo xtask");
    environment::prepare_options();
    match suggestions::parse::<Xtask>().command {
        Command::FetchModels(args) if args.demo => run(|| demo::run(&args.command.fetch).map_err(failure)),
        Command::FetchModels(args) => {
            run(|| fetch::run(&args.command.fetch, &args.command.layers, &project::lock()))
        }
        Command::Common(command) => run(|| command.run(&project::lock())),
        Command::Image(args) => end(image::run(&args).map_err(failure)),
        Command::Dist(args) => end(dist::run(&args).map_err(failure)),
        Command::Ci(args) => end(ci::run(&args).map_err(failure)),
    }
}

/// A [`Failure`] keeps its exit code. Any other error gets code 1, and its causes in one line, the outermost first.
fn failure(error: anyhow::Error) -> Failure {
    error.downcast().unwrap_or_else(|error| Failure::new(Code::Unexpected, format!("{error:#}")))
}
