//! The command line as plain data. Each option has an environment variable `PROVISION_…`.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::human;
use super::progress::{Mode, Verbosity};
use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::lockfile::Selection;
use provision_core::schedule::Limits;
use provision_engine::fetch::{Baked, BakedMode, FetchConfig, Verify};
use provision_engine::transfer::TransferConfig;

/// Where locks are.
#[derive(Args, Debug, Clone, Default)]
pub struct Locks {
    /// The lockfile, a path or an https address; `-` reads standard input. Repeatable: what any of them lists is wanted
    /// [default: models.lock, for cargo xtask at the workspace root]
    // Not shown with its value in the environment: an address may be signed.
    #[arg(
        long,
        value_name = "PATH|URL",
        env = "PROVISION_LOCK",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub lock: Vec<String>,
    /// The SHA-256 that the lock at an address has to have; once for each address, in their order
    #[arg(long, value_name = "HEX", env = "PROVISION_LOCK_SHA256", value_delimiter = ',')]
    pub lock_sha256: Vec<Sha256>,
}

/// Where the locks are and where the models are.
#[derive(Args, Debug, Clone)]
pub struct Place {
    /// The locks.
    #[command(flatten)]
    pub locks: Locks,
    /// The directory that the paths in the lock are below
    #[arg(long, value_name = "DIR", env = "PROVISION_DEST", default_value = "models")]
    pub dest: Utf8PathBuf,
}

/// Which of the lock's models.
#[derive(Args, Debug, Clone, Default)]
pub struct Choice {
    /// Only these models: a path, a file stem, or a glob over paths
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,
    /// Only models of this group (repeatable)
    #[arg(long = "only", value_name = "GROUP", env = "PROVISION_ONLY", value_delimiter = ',')]
    pub groups: Vec<String>,
}

impl Choice {
    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.models.is_empty() && self.groups.is_empty()
    }
}

impl From<Choice> for Selection {
    fn from(choice: Choice) -> Self {
        Self { patterns: choice.models, groups: choice.groups }
    }
}

/// How much is said.
#[derive(Args, Debug, Clone, Copy)]
pub struct Output {
    /// Say more: connections, checks, two lines for each file
    #[arg(short, long, env = "PROVISION_VERBOSE", value_parser = FalseyValueParser::new(), conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say less: warnings and failures only
    #[arg(short, long, env = "PROVISION_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,
}

impl Output {
    /// As one value.
    pub fn verbosity(self) -> Verbosity {
        match (self.verbose, self.quiet) {
            (_, true) => Verbosity::Quiet,
            (true, false) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }
}

/// What counts as present.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// What the marker vouches for by size and mtime; the rest by digest
    Marker,
    /// Every file of the right size
    Quick,
    /// Every file of the right digest
    Full,
}

/// How long a fetch waits for another run.
const WAIT: Duration = Duration::from_mins(10);
/// How long a container's start does: the other one may be fetching everything, and then there is nothing left to do.
const WAIT_AT_START: Duration = Duration::from_hours(6);

/// Options of a fetch.
#[derive(Args, Debug, Clone)]
pub struct FetchArgs {
    /// Which models.
    #[command(flatten)]
    pub choice: Choice,
    /// From where to where.
    #[command(flatten)]
    pub place: Place,
    /// Ceiling for the connections of the whole run
    #[arg(long, value_name = "N", env = "PROVISION_CONNECTIONS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// Ceiling for the connections towards one host
    #[arg(long, value_name = "N", env = "PROVISION_CONNECTIONS_PER_HOST", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections_per_host: u16,
    /// Total bandwidth in bytes/s, such as 50M (K, M, G are decimal) [default: no limit]
    #[arg(long, value_name = "RATE", env = "PROVISION_LIMIT_RATE", value_parser = human::parse_rate)]
    pub limit_rate: Option<u64>,
    /// Failures in a row, without a byte gained, that end a source
    #[arg(long, value_name = "N", env = "PROVISION_RETRIES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub retries: u32,
    /// What counts as present
    #[arg(long, value_name = "WHAT", env = "PROVISION_VERIFY", value_enum, default_value_t = VerifyMode::Marker, hide_possible_values = false)]
    pub verify: VerifyMode,
    /// Fetch again whatever is there
    #[arg(long, env = "PROVISION_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,
    /// Print the plan and stop: per file present, resume or fetch, bytes to go, free space
    #[arg(long, env = "PROVISION_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,
    /// Never touch the network; fail if something is missing
    #[arg(long, env = "PROVISION_OFFLINE", value_parser = FalseyValueParser::new())]
    pub offline: bool,
    /// A store of files by digest, shared by projects and builds: looked into first, filled by what is fetched
    #[arg(long, value_name = "DIR", env = "PROVISION_CACHE")]
    pub cache: Option<Utf8PathBuf>,
    /// The longest wait for another run in the same destination, such as 30m [default: 10m, for
    /// ensure 6h]
    #[arg(long, value_name = "TIME", env = "PROVISION_WAIT", value_parser = human::parse_duration)]
    pub wait: Option<Duration>,
    /// How progress is shown; auto: bars on a terminal, plain lines elsewhere
    #[arg(long, value_name = "HOW", env = "PROVISION_PROGRESS", value_enum, default_value_t = Mode::Auto)]
    pub progress: Mode,
    /// Write the run's report as JSON: per file source, bytes, seconds, connections, retries; totals
    #[arg(long, value_name = "PATH", env = "PROVISION_REPORT")]
    pub report: Option<Utf8PathBuf>,
    /// How much is said.
    #[command(flatten)]
    pub output: Output,
}

impl FetchArgs {
    /// What the library is told.
    pub fn config(&self) -> FetchConfig {
        FetchConfig {
            transfer: TransferConfig {
                limits: Limits {
                    connections: self.connections.into(),
                    per_host: self.connections_per_host.into(),
                },
                retry: RetryPolicy { retries: self.retries, ..RetryPolicy::default() },
                rate: self.limit_rate,
                ..TransferConfig::default()
            },
            verify: match self.verify {
                VerifyMode::Marker => Verify::Marker,
                VerifyMode::Quick => Verify::Quick,
                VerifyMode::Full => Verify::Full,
            },
            force: self.force,
            dry_run: self.dry_run,
            offline: self.offline,
            wait: self.wait.unwrap_or(WAIT),
            threads: threads(),
        }
    }
}

/// What is done with a complete set, for a build.
#[derive(Args, Debug, Clone, Default)]
pub struct LayersArg {
    /// When all is right, move each top directory of the models to a tree of its own below DIR, for image layers
    #[arg(long, value_name = "DIR", env = "PROVISION_LAYERS")]
    pub layers: Option<Utf8PathBuf>,
}

/// Options of `provision fetch`.
#[derive(Args, Debug, Clone)]
pub struct FetchCommand {
    /// What and how.
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// What then.
    #[command(flatten)]
    pub layers: LayersArg,
}

/// How a baked file gets to the destination.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum BakedModeArg {
    /// It is copied (sharing its blocks where the file system can)
    Copy,
    /// It stays where it is, and a symlink leads to it
    Symlink,
}

/// Options of `ensure`.
#[derive(Args, Debug, Clone)]
pub struct EnsureArgs {
    /// A directory of models that came with the image, laid out like the destination; what is right in it is not
    /// fetched
    #[arg(long, value_name = "DIR", env = "PROVISION_BAKED")]
    pub baked: Option<Utf8PathBuf>,
    /// How baked files get to the destination
    #[arg(long, value_name = "HOW", env = "PROVISION_BAKED_MODE", value_enum, default_value_t = BakedModeArg::Copy)]
    pub baked_mode: BakedModeArg,
    /// Everything that a fetch takes.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

impl EnsureArgs {
    /// The fetch's options, with what is different at a container's start.
    pub fn fetch(&self) -> FetchArgs {
        FetchArgs { wait: self.fetch.wait.or(Some(WAIT_AT_START)), ..self.fetch.clone() }
    }

    /// The baked directory, as an absolute path: symlinks in the destination lead to it from elsewhere.
    pub fn baked(&self) -> std::io::Result<Option<Baked>> {
        let Some(directory) = &self.baked else { return Ok(None) };
        let mode = match self.baked_mode {
            BakedModeArg::Copy => BakedMode::Copy,
            BakedModeArg::Symlink => BakedMode::Symlink,
        };
        Ok(Some(Baked { directory: camino::absolute_utf8(directory)?, mode }))
    }
}

/// Options of `cache`.
#[derive(Args, Debug, Clone)]
pub struct CacheArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What to do with a cache.
#[derive(Subcommand, Debug, Clone)]
pub enum CacheCommand {
    /// What is in it: digest, size, when it was used last, and its names in the lock at hand
    List(CachePlace),
    /// Remove what exceeds the bounds, what was used longest ago first
    Prune {
        /// Where it is.
        #[command(flatten)]
        place: CachePlace,
        /// What may stay.
        #[command(flatten)]
        bounds: CacheBounds,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// What may stay in a cache.
#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = true)]
pub struct CacheBounds {
    /// Bytes that may stay, such as 100G (K, M, G are decimal)
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    pub max_size: Option<u64>,
    /// Remove what was not used for this long, such as 30d
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration)]
    pub unused_for: Option<Duration>,
    /// Remove everything
    #[arg(long)]
    pub all: bool,
}

/// Where a cache is.
#[derive(Args, Debug, Clone)]
pub struct CachePlace {
    /// The cache's directory
    #[arg(long, value_name = "DIR", env = "PROVISION_CACHE")]
    pub cache: Utf8PathBuf,
    /// Locks that know the files' names.
    #[command(flatten)]
    pub locks: Locks,
}

/// Options of `verify`.
#[derive(Args, Debug, Clone)]
pub struct VerifyArgs {
    /// Which models.
    #[command(flatten)]
    pub choice: Choice,
    /// Where they are.
    #[command(flatten)]
    pub place: Place,
    /// How much is said.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `status`.
#[derive(Args, Debug, Clone)]
pub struct StatusArgs {
    /// Which models.
    #[command(flatten)]
    pub choice: Choice,
    /// Where they are.
    #[command(flatten)]
    pub place: Place,
}

/// How many threads hash.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
