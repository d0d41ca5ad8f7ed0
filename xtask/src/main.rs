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
use provision::cli::{cache, clean, end, fetch, lock, pieces, run, status, store, suggestions, verify};

use flags::{Command, Xtask};

fn main() -> ExitCode {
    if let Err(error) = project::forget_cargo_run() {
        let why = format!("starting again without cargo's variables: {error}");
        return Failure::new(Code::Unexpected, why).report();
    }
    provision::cli::process::prepare("cargo xtask");
    provision::cli::environment::prepare_options();
    match suggestions::parse::<Xtask>().command {
        Command::FetchModels(args) => run(|| fetch_models::run(&args).map_err(failure)),
        Command::Ensure(args) => run(|| fetch::ensure(&args, &project::lock())),
        Command::Verify(args) => run(|| verify::run(&args, &project::lock())),
        Command::Status(args) => run(|| status::run(&args, &project::lock())),
        Command::Clean(args) => run(|| clean::run(&args, &project::lock())),
        Command::Cache(args) => run(|| cache::run(&args, &project::lock())),
        Command::Store(args) => run(|| store::run(&args, &project::lock())),
        Command::Pieces(args) => run(|| pieces::run(&args)),
        Command::Lock(args) => run(|| lock::run(&args, &project::lock())),
        Command::Image(args) => end(image::run(&args).map_err(failure)),
        Command::Dist(args) => end(dist::run(&args).map_err(failure)),
        Command::Ci(args) => end(ci::run(&args).map_err(failure)),
    }
}

/// A [`Failure`] keeps its exit code. Any other error gets code 1, and its causes in one line, the outermost first.
fn failure(error: anyhow::Error) -> Failure {
    error.downcast().unwrap_or_else(|error| Failure::new(Code::Unexpected, format!("{error:#}")))
}
