//! The command line as plain data.

use clap::{Args, Parser, Subcommand};
use provision::cli::arguments::{CacheArgs, CleanArgs, EnsureArgs, FetchCommand, StatusArgs, VerifyArgs};
use provision::cli::lock::LockArgs;
use provision::cli::pieces::PiecesArgs;
use provision::cli::store::StoreArgs;

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
    /// Complete the models at container start: check the marker, copy baked models, fetch the rest
    Ensure(Box<EnsureArgs>),
    /// Hash every model and list the wrong ones; exit 5 if there are any
    Verify(VerifyArgs),
    /// List what is installed, missing or partial, without network
    Status(StatusArgs),
    /// Remove what earlier runs left in the destination, after a list and a question
    Clean(CleanArgs),
    /// List or prune a cache
    Cache(CacheArgs),
    /// Fill a store that other machines fetch from, or ask which models it has
    Store(StoreArgs),
    /// Print a piece list, which says the digest of each part of a file
    Pieces(PiecesArgs),
    /// Show and edit models.lock
    Lock(LockArgs),
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
