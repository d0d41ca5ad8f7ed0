//! The command line as plain data.

use clap::{Args, Parser, Subcommand};
use provision::cli::arguments::{CacheArgs, EnsureArgs, FetchCommand, StatusArgs, VerifyArgs};

use crate::ci::CiArgs;
use crate::dist::DistArgs;
use crate::image::ImageArgs;
use provision::cli::lock::LockArgs;

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
    /// Build the static binary for images, check it, print its path, size and SHA-256
    Dist(DistArgs),
    /// Every check but the tests, stopping at the first that fails
    Ci(CiArgs),
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
