//! The project's commands: `cargo xtask --help`. This file only dispatches.

mod ci;
mod demo;
mod dist;
mod fetch_models;
mod flags;
mod image;
mod project;

use std::process::ExitCode;

use provision::cli::exit::{Code, Failure};
use provision::cli::{cache, fetch, lock, status, suggestions, verify};

use flags::{Command, Xtask};

fn main() -> ExitCode {
    provision::cli::process::prepare("cargo xtask");
    provision::cli::environment::prepare_options();
    let result = match suggestions::parse::<Xtask>().command {
        Command::FetchModels(args) => fetch_models::run(&args).map_err(failure),
        Command::Ensure(args) => fetch::ensure(&args, &project::lock()),
        Command::Verify(args) => verify::run(&args, &project::lock()),
        Command::Status(args) => status::run(&args, &project::lock()),
        Command::Cache(args) => cache::run(&args, &project::lock()),
        Command::Lock(args) => lock::run(&args, &project::lock()),
        Command::Image(args) => image::run(&args).map_err(failure),
        Command::Dist(args) => dist::run(&args).map_err(failure),
        Command::Ci(args) => ci::run(&args).map_err(failure),
    };
    result.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

/// A [`Failure`] keeps its exit code. Any other error gets code 1, and its causes in one line, the outermost first.
fn failure(error: anyhow::Error) -> Failure {
    error.downcast().unwrap_or_else(|error| Failure::new(Code::Unexpected, format!("{error:#}")))
}
