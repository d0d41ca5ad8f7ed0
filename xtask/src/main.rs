//! The project's commands: `cargo xtask --help`. This file only dispatches.

mod ci;
mod demo;
mod dist;
mod flags;
mod image;
mod project;

use std::process::ExitCode;

use provision::cli::exit::{Code, Failure};
use provision::cli::{end, fetch, run, suggestions};

use flags::{Command, Xtask};

fn main() -> ExitCode {
    project::forget_cargo_run();
    provision::cli::process::prepare("cargo xtask");
    provision::cli::environment::prepare_options();
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
