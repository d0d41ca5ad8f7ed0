//! `cargo lab`: checks and measurements of the built program. This file has their command line and only dispatches.

mod bench;
mod containers;
mod crash;
mod cross;
mod faults;
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

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use tools::steps::Done;

/// Checks and measurements of the built program
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab")]
struct Lab {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Subcommand)]
enum Command {
    /// Measure time, processor time and peak memory beside aria2c, curl and others
    Bench(bench::BenchArgs),
    /// Kill the real binary at its system calls, fail the calls, cut the power, and check the files that are left
    Crash(crash::CrashArgs),
    /// Run the unit tests and the binary of aarch64 under an emulator
    Cross(cross::CrossArgs),
    /// Check the fault catalogue: a passing test for each case, and the results of other tools
    Faults(faults::FaultsArgs),
    /// Fuzz the parsers of untrusted text: the lock, headers, the journal, the marker
    Fuzz(fuzz::FuzzArgs),
    /// Check the Dockerfile and its images with a Docker engine
    Containers,
    /// Download a real model from nginx, with kills, resumes and failures
    Real,
    /// Compare the testbed's emulated hosts with the hosts' own clients and a real registry
    Hosts,
    /// Check that no files of a crate import each other in a circle, and the sizes of `lab` and `xtask`
    Imports,
    /// Install the wheel, the Debian package and the crates where nothing of the project is, and run them
    Packages(packages::PackagesArgs),
    /// Run the static binary in roots without a C library
    Static(static_binary::StaticArgs),
    /// Run the README's commands as written
    Readme,
    /// Push to real registries, S3 servers and nginx, break them, and fetch from them
    Stores(stores::StoresArgs),
    /// Run the schedule against simulated hosts and print the term that limits it
    Simulate(simulate::SimulateArgs),
}

/// The exit code of a command that could not check anything on this machine. Test drivers read 77 as "skipped"
/// (automake, "Scripts-based Testsuites").
const SKIPPED: u8 = 77;

#[expect(clippy::print_stderr, reason = "the error of a command")]
fn main() -> ExitCode {
    project::forget_cargo_run();
    let passed = |()| Done::Passed;
    let result = match Lab::parse().command {
        Command::Bench(args) => bench::run(&args).map(passed),
        Command::Crash(args) => crash::run(&args).map(passed),
        Command::Cross(args) => cross::run(&args).map(passed),
        Command::Faults(args) => faults::run(&args).map(passed),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Containers => containers::run().map(passed),
        Command::Real => real::run().map(passed),
        Command::Hosts => hosts::run().map(passed),
        Command::Packages(args) => packages::run(&args).map(passed),
        Command::Imports => imports::run().map(passed),
        Command::Static(args) => static_binary::run(&args),
        Command::Readme => readme::run().map(passed),
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
