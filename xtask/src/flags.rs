//! The command line as plain data.

use clap::{Args, Parser, Subcommand};
use provision::cli::arguments::FetchCommand;
use provision::cli::program::CommonCommand;

use crate::ci::CiArgs;
use crate::dist::DistArgs;
use crate::image::ImageArgs;

/// The project's commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Xtask {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fetch the models of models.lock, verify and install them
    FetchModels(Box<FetchModels>),
    #[command(flatten)]
    Common(Box<CommonCommand>),
    /// Build a container image with the local docker
    Image(ImageArgs),
    /// Build the static binary for images, check it, print its path, size and SHA-256
    Dist(DistArgs),
    /// Run every check except the tests, and stop at the first that fails
    Ci(CiArgs),
}

/// Options of `fetch-models`.
#[derive(Args)]
pub(crate) struct FetchModels {
    /// Fetch a generated set from an origin in this process: no network, no token
    #[arg(long, conflicts_with_all = ["models", "groups", "lock", "lock_sha256", "dest", "offline", "dry_run", "cache", "layers"])]
    pub(crate) demo: bool,
    #[command(flatten)]
    pub(crate) command: FetchCommand,
}
