//! The project's commands: `cargo xtask --help`. This file only dispatches.

mod bench;
mod certificates;
mod ci;
mod containers;
mod crash;
mod demo;
mod dist;
mod faces;
mod faults;
mod fetch_models;
mod flags;
mod fuzz;
mod image;
mod lock;
mod nginx;
mod programs;
mod project;
mod readme;
mod real_input;
mod simulate;
mod static_binary;
mod steps;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;
use provision::cli::exit::{Code, Failure};
use provision::cli::{cache, fetch, status, verify};

use flags::{Command, Xtask};
use steps::Done;

fn main() -> ExitCode {
    provision::cli::process::prepare();
    provision::cli::environment::forget_empty();
    let result = match Xtask::parse().command {
        Command::FetchModels(args) => fetch_models::run(&args),
        Command::Ensure(args) => fetch::ensure(&args, &project::lock()),
        Command::Verify(args) => verify::run(&args, &project::lock()),
        Command::Status(args) => status::run(&args, &project::lock()),
        Command::Cache(args) => cache::run(&args, &project::lock()),
        Command::Lock(args) => lock::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Ci(args) => ci::run(&args).map_err(|error| unexpected(&error)),
        Command::RealInput(args) => real_input::run(&args).map_err(|error| unexpected(&error)),
        Command::Readme(args) => readme::run(&args).map_err(|error| unexpected(&error)),
        Command::Faces => faces::run().map_err(|error| unexpected(&error)),
        Command::Dist(args) => dist::run(&args).map_err(|error| unexpected(&error)),
        Command::StaticBinary(args) => {
            static_binary::run(&args).map(Done::say).map_err(|error| unexpected(&error))
        }
        Command::Simulate(args) => simulate::run(&args).map_err(|error| unexpected(&error)),
        Command::Fuzz(args) => fuzz::run(&args).map(Done::say).map_err(|error| unexpected(&error)),
        Command::Crash(args) => crash::run(&args).map_err(|error| unexpected(&error)),
        Command::Bench(args) => bench::run(&args).map_err(|error| unexpected(&error)),
        Command::Faults(args) => faults::run(&args).map_err(|error| unexpected(&error)),
    };
    result.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

/// The checks' own failures: a chain of what was being done, outermost first.
fn unexpected(error: &anyhow::Error) -> Failure {
    Failure::new(Code::Unexpected, format!("{error:#}"))
}
