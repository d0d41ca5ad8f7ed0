//! The command line as plain data.

use clap::{Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::crash::CrashArgs;
use crate::cross::CrossArgs;
use crate::faults::FaultsArgs;
use crate::fuzz::FuzzArgs;
use crate::packages::PackagesArgs;
use crate::readme::ReadmeArgs;
use crate::real::RealArgs;
use crate::simulate::SimulateArgs;
use crate::static_binary::StaticArgs;
use crate::stores::StoresArgs;

/// Checks and measurements of the built program
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab")]
pub(crate) struct Lab {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measure time, processor time and peak memory beside aria2c, curl and others
    Bench(BenchArgs),
    /// Kill the real binary at its system calls, fail the calls, cut the power, and check the files that are left
    Crash(CrashArgs),
    /// Run the unit tests and the binary of aarch64 under an emulator
    Cross(CrossArgs),
    /// Check the fault catalogue: a passing test for each case, and the results of other tools
    Faults(FaultsArgs),
    /// Fuzz the parsers of untrusted text: the lock, headers, the journal, the marker
    Fuzz(FuzzArgs),
    /// Check the Dockerfile and its images with a Docker engine
    Containers,
    /// Download a real model from nginx, with kills, resumes and failures
    Real(RealArgs),
    /// Compare the testbed's emulated hosts with the hosts' own clients and a real registry
    Hosts,
    /// Check that no files of a crate import each other in a circle
    Imports,
    /// Install the wheel, the Debian package and the crates where nothing of the project is, and run them
    Packages(PackagesArgs),
    /// Run the static binary in roots without a C library
    Static(StaticArgs),
    /// Run the README's commands as written
    Readme(ReadmeArgs),
    /// Push to real registries, S3 servers and nginx, break them, and fetch from them
    Stores(StoresArgs),
    /// Run the schedule against simulated hosts and print the term that limits it
    Simulate(SimulateArgs),
}
