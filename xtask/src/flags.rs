//! The command line as plain data.

use clap::{Args, Parser, Subcommand};
use provision::cli::arguments::{CacheArgs, EnsureArgs, FetchCommand, StatusArgs, VerifyArgs};

use crate::bench::BenchArgs;
use crate::ci::CiArgs;
use crate::crash::CrashArgs;
use crate::dist::DistArgs;
use crate::faults::FaultsArgs;
use crate::fuzz::FuzzArgs;
use crate::image::ImageArgs;
use crate::lock::LockArgs;
use crate::readme::ReadmeArgs;
use crate::real_input::RealInputArgs;
use crate::simulate::SimulateArgs;
use crate::static_binary::StaticBinaryArgs;

/// The project's commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Xtask {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fetch the models of models.lock, prove them, install them
    FetchModels(Box<FetchModels>),
    /// What a container calls at its start: marker, baked copies, then a fetch of what is missing
    Ensure(Box<EnsureArgs>),
    /// Hash every model and list what is wrong; exit 5 if anything is
    Verify(VerifyArgs),
    /// Say what is installed, missing or partial; no network
    Status(StatusArgs),
    /// Say what a cache holds, or keep it in bounds
    Cache(CacheArgs),
    /// Show and edit models.lock
    Lock(LockArgs),
    /// Build the container image with the docker on this machine
    Image(ImageArgs),
    /// Every check but the tests, stopping at the first that fails
    Ci(CiArgs),
    /// Fetch a real model from a real web server, and everything that can go wrong with that
    RealInput(RealInputArgs),
    /// Build the static binary for images, check it, print its path, size and SHA-256
    Dist(DistArgs),
    /// Prove the static binary in roots without a C library
    StaticBinary(StaticBinaryArgs),
    /// Hold the testbed's imitations of known hosts against the hosts' own clients and a real registry
    Faces,
    /// Run the README's commands as written
    Readme(ReadmeArgs),
    /// Run the schedule against simulated hosts, and say which term limits it
    Simulate(SimulateArgs),
    /// Fuzz what reads text from outside: the lock, headers, the journal, the marker
    Fuzz(FuzzArgs),
    /// Strike the real binary at its system calls, cut its power, and check what is left
    Crash(CrashArgs),
    /// Measure this program beside aria2c, curl and others: time, processor time, peak memory
    Bench(BenchArgs),
    /// The fault catalogue: what proves each case, and what other tools make of it
    Faults(FaultsArgs),
}

/// Options of `fetch-models`.
#[derive(Args)]
pub(crate) struct FetchModels {
    /// The whole job against an origin in this process: no network, no token
    #[arg(long, conflicts_with_all = ["models", "groups", "lock", "lock_sha256", "dest", "offline", "dry_run", "cache", "layers"])]
    pub(crate) demo: bool,
    /// What the real job takes.
    #[command(flatten)]
    pub(crate) command: FetchCommand,
}
