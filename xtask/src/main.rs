//! The project's commands: `cargo xtask --help`. This file only dispatches.

mod demo;
mod fetch_models;
mod flags;
mod project;

use std::process::ExitCode;

use clap::Parser as _;
use provision::cli::exit::Failure;
use provision::cli::{status, verify};

use flags::{Command, Xtask};

fn main() -> ExitCode {
    let result = match Xtask::parse().command {
        Command::FetchModels(args) => fetch_models::run(&args),
        Command::Verify(args) => verify::run(&args, &project::lock()),
        Command::Status(args) => status::run(&args, &project::lock()),
    };
    result.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
