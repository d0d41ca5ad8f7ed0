//! `cargo lab`: checks and measurements of the built program. This file only dispatches.

mod bench;
mod containers;
mod crash;
mod cross;
mod faults;
mod flags;
mod fuzz;
mod hosts;
mod imports;
mod packages;
mod project;
mod readme;
mod real;
mod simulate;
mod static_binary;
mod stores;
mod tools;
mod torrents;

use std::process::ExitCode;

use clap::Parser as _;

use flags::{Command, Lab};
use tools::steps::Done;

/// The exit code of a command that could not check anything on this machine. Test drivers read 77 as "skipped"
/// (automake, "Scripts-based Testsuites").
const SKIPPED: u8 = 77;

#[expect(clippy::print_stderr, reason = "the error of a command")]
fn main() -> ExitCode {
    if let Err(error) = project::forget_cargo_run() {
        eprintln!("error: starting again without cargo's variables: {error}");
        return ExitCode::FAILURE;
    }
    let passed = |()| Done::Passed;
    let result = match Lab::parse().command {
        Command::Bench(args) => bench::run(&args).map(passed),
        Command::Crash(args) => crash::run(&args).map(passed),
        Command::Cross(args) => cross::run(&args).map(passed),
        Command::Faults(args) => faults::run(&args).map(passed),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Containers => containers::run().map(passed),
        Command::Real(args) => real::run(&args).map(passed),
        Command::Hosts => hosts::run().map(passed),
        Command::Packages(args) => packages::run(&args).map(passed),
        Command::Imports => imports::run().map(passed),
        Command::Static(args) => static_binary::run(&args),
        Command::Readme(args) => readme::run(&args).map(passed),
        Command::Simulate(args) => simulate::run(&args).map(passed),
        Command::Stores(args) => stores::run(&args).map(passed),
    };
    match result {
        Ok(Done::Passed) => ExitCode::SUCCESS,
        Ok(done) => {
            done.print_reason();
            ExitCode::from(SKIPPED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
