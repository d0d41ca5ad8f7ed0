//! The project's commands: `cargo xtask --help`. This file only dispatches.

mod ci;
mod demo;
mod dist;
mod fetch_models;
mod flags;
mod image;
mod project;

use std::process::ExitCode;

use clap::Parser as _;
use provision::cli::exit::{Code, Failure};
use provision::cli::{cache, fetch, lock, status, verify};

use flags::{Command, Xtask};

fn main() -> ExitCode {
    provision::cli::process::prepare();
    provision::cli::environment::forget_empty();
    let result = match Xtask::parse().command {
        Command::FetchModels(args) => fetch_models::run(&args),
        Command::Ensure(args) => fetch::ensure(&args, &project::lock()),
        Command::Verify(args) => verify::run(&args, &project::lock()),
        Command::Status(args) => status::run(&args, &project::lock()),
        Command::Cache(args) => cache::run(&args, &project::lock()),
        Command::Lock(args) => lock::run(&args, &project::lock()),
        Command::Image(args) => image::run(&args),
        Command::Dist(args) => dist::run(&args).map_err(|error| unexpected(&error)),
        Command::Ci(args) => ci::run(&args).map_err(|error| unexpected(&error)),
    };
    result.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

/// The failure of a command that checks or builds: the chain of causes, outermost first.
fn unexpected(error: &anyhow::Error) -> Failure {
    Failure::new(Code::Unexpected, format!("{error:#}"))
}
