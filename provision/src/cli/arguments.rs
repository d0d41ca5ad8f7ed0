//! The command line as plain data. Each option has an environment variable `PROVISION_…`.

mod sources;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::comfyui::Installation;
use super::environment;
use super::exit::{Code, Failure};
use super::progress::{Mode, Verbosity};
use super::units;
use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::lockfile::Selection;
use provision_core::model_path::KEPT_LISTS;
use provision_core::schedule::Limits;
use provision_core::store_address::StoreAddress;
use provision_disk::{Destination, DiskError, FollowLinks, processors};
use provision_engine::fetch::{Baked, BakedMode, FetchConfig, Verify};
use provision_engine::transfer::TransferConfig;
use sources::GIVE_UP_AT_START;
pub use sources::{MachineArgs, Patience, ReuseModeArg, SourcesArgs};

/// The locks of a run.
#[derive(Args, Debug, Clone, Default)]
pub struct Locks {
    /// The lockfile, a path or an https address; `-` reads standard input. Repeatable: several locks are one set
    /// [default: models.lock, for cargo xtask at the workspace root]
    // Help does not show the variable's value: an address may be signed.
    #[arg(
        long,
        value_name = "PATH|URL",
        env = "PROVISION_LOCK",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub lock: Vec<String>,
    /// The SHA-256 of the lock at an address; once for each address, in their order
    #[arg(long, value_name = "HEX", env = "PROVISION_LOCK_SHA256", value_delimiter = ',')]
    pub lock_sha256: Vec<Sha256>,
}

/// The destination.
#[derive(Args, Debug, Clone, Default)]
pub struct DestinationArg {
    /// The directory that the paths in the lock are below [default: models, or that of --comfyui]
    #[arg(long, value_name = "DIR", env = "PROVISION_DEST")]
    dest: Option<Utf8PathBuf>,
    /// The directory of `ComfyUI`.
    #[arg(
        long,
        value_name = "DIR",
        env = "PROVISION_COMFYUI",
        help = "ComfyUI's directory: the destination is its models, and files lie where ComfyUI finds them, also by its \
                extra_model_paths.yaml"
    )]
    comfyui: Option<Utf8PathBuf>,
    #[arg(skip)]
    installation: Installation,
}

impl DestinationArg {
    /// This directory, whatever the options say.
    pub fn at(path: Utf8PathBuf) -> Self {
        Self { dest: Some(path), ..Self::default() }
    }

    /// The directory.
    pub fn path(&self) -> Utf8PathBuf {
        let models = || self.comfyui.as_ref().map_or("models".into(), |comfyui| comfyui.join("models"));
        self.dest.clone().unwrap_or_else(models)
    }

    /// True if it is that of an installation of `ComfyUI`.
    pub fn is_of_comfyui(&self) -> bool {
        self.comfyui.is_some()
    }

    /// The directories of `ComfyUI`, once they are [read](Self::with_installation).
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Reads the directories of `ComfyUI`, if it was given.
    ///
    /// # Errors
    /// As [`Installation::read`]. `--dest` is another directory than its models: files would lie where it does not
    /// look.
    pub fn with_installation(&self) -> Result<Self, Failure> {
        let Some(comfyui) = &self.comfyui else { return Ok(self.clone()) };
        let installation = Installation::read(comfyui)?;
        let models = comfyui.join("models");
        let real = |path: &Utf8Path| path.canonicalize_utf8().or_else(|_| camino::absolute_utf8(path));
        if let Some(dest) = &self.dest
            && real(dest).ok() != real(&models).ok()
        {
            let why = format!(
                "--dest {dest} (or PROVISION_DEST) is not {models}, where --comfyui (or PROVISION_COMFYUI) looks; leave one of \
                 them out, or set its variable to nothing"
            );
            return Err(Failure::new(Code::Usage, why));
        }
        Ok(Self { installation, ..self.clone() })
    }
}

/// The locks and the destination.
#[derive(Args, Debug, Clone)]
pub struct LocksAndDestination {
    /// The locks.
    #[command(flatten)]
    pub locks: Locks,
    /// The destination.
    #[command(flatten)]
    pub at: DestinationArg,
    /// Follow no symlink to a directory below it; otherwise those of this user and of root are followed
    #[arg(long, env = "PROVISION_NO_FOLLOW", value_parser = FalseyValueParser::new())]
    pub no_follow: bool,
}

impl LocksAndDestination {
    /// The rule for symlinks below the destination.
    pub fn links(&self) -> FollowLinks {
        if self.no_follow { FollowLinks::Never } else { FollowLinks::Own }
    }

    /// The directory.
    pub fn dest(&self) -> Utf8PathBuf {
        self.at.path()
    }

    /// With the directories of `ComfyUI`, as [`DestinationArg::with_installation`] reads them.
    ///
    /// # Errors
    /// As there.
    pub fn with_installation(&self) -> Result<Self, Failure> {
        Ok(Self { at: self.at.with_installation()?, ..self.clone() })
    }

    /// Opens the destination; `None` if it does not exist.
    pub fn open(&self) -> Result<Option<Destination>, DiskError> {
        let opened = Destination::open(&self.dest())?;
        let folders = self.at.installation().folders.clone();
        Ok(opened.map(|destination| destination.with_links(self.links()).with_folders(folders)))
    }
}

/// A choice of the lock's models.
#[derive(Args, Debug, Clone, Default)]
pub struct Choice {
    /// Only these models: a path, a file stem, or a glob over paths
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,
    /// Only models of this group (repeatable)
    #[arg(
        long = "group",
        alias = "only",
        value_name = "GROUP",
        env = "PROVISION_GROUP",
        value_delimiter = ','
    )]
    pub groups: Vec<String>,
}

impl Choice {
    /// Returns true if it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        self.models.is_empty() && self.groups.is_empty()
    }
}

impl From<Choice> for Selection {
    fn from(choice: Choice) -> Self {
        Self { patterns: choice.models, groups: choice.groups }
    }
}

/// Verbosity.
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

/// The check that makes a file count as present.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Files that the marker lists, by size and mtime; all others by digest
    Marker,
    /// Every file of the right size
    Quick,
    /// Every file of the right digest
    Full,
}

/// The default wait of a fetch for another run.
const WAIT: Duration = Duration::from_mins(10);
/// The default wait of a container start: the other run may be fetching everything, and then nothing is left to do.
const WAIT_AT_START: Duration = Duration::from_hours(6);

/// Options of a fetch.
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
#[derive(Args, Debug, Clone)]
pub struct FetchArgs {
    /// The models.
    #[command(flatten)]
    pub choice: Choice,
    /// Locks and destination.
    #[command(flatten)]
    pub place: LocksAndDestination,
    /// Ceiling for the connections of the whole run
    #[arg(long, value_name = "N", env = "PROVISION_CONNECTIONS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// Ceiling for the connections towards one host
    #[arg(long, value_name = "N", env = "PROVISION_CONNECTIONS_PER_HOST", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections_per_host: u16,
    /// Total bandwidth in bytes/s, such as 50M (K, M, G are decimal) [default: no limit]
    #[arg(long, value_name = "RATE", env = "PROVISION_LIMIT_RATE", value_parser = units::parse_rate)]
    pub limit_rate: Option<u64>,
    /// The sources beside each other.
    #[command(flatten)]
    pub sources: SourcesArgs,
    /// The patience with hosts.
    #[command(flatten)]
    pub patience: Patience,
    /// The check that makes a file count as present
    #[arg(long, value_name = "WHAT", env = "PROVISION_VERIFY", value_enum, default_value_t = VerifyMode::Marker, hide_possible_values = false)]
    pub verify: VerifyMode,
    /// Fetch again, whatever is installed
    #[arg(long, env = "PROVISION_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,
    /// Print the plan and stop: per file present, resume or fetch, bytes to go, free space
    #[arg(long, env = "PROVISION_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,
    /// Never touch the network; fail if something is missing
    #[arg(long, env = "PROVISION_OFFLINE", value_parser = FalseyValueParser::new())]
    pub offline: bool,
    /// A directory of files by digest, shared by projects and builds: read first, filled by each download
    #[arg(long, value_name = "DIR", env = "PROVISION_CACHE")]
    pub cache: Option<Utf8PathBuf>,
    /// The stores of this site.
    // Help does not show the variable's value: an address may be signed.
    #[arg(
        long = "store",
        value_name = "ADDRESS",
        env = "PROVISION_STORE",
        value_delimiter = ',',
        hide_env_values = true,
        help = "A store of this site that has files by their SHA-256, asked before the lock's own addresses: \
                https://HOST/PATH/{sha256}, oci://HOST/NAME, s3://BUCKET/PREFIX or file:///DIR (repeatable)"
    )]
    pub stores: Vec<String>,
    /// The directory of the torrents that `lock torrent` has written, for {infohash} in the address of a store
    #[arg(long, value_name = "DIR", env = "PROVISION_TORRENTS")]
    pub torrents: Option<Utf8PathBuf>,
    /// Keep a piece list of each downloaded file that has none, so that its next version reuses its pieces
    #[arg(long, env = "PROVISION_PIECES", value_parser = FalseyValueParser::new())]
    pub pieces: bool,
    /// The use of this machine's disks and memory.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// The longest wait for another run in the same destination, such as 30m [default: 10m, for
    /// ensure 6h]
    #[arg(long, value_name = "TIME", env = "PROVISION_WAIT", value_parser = units::parse_duration)]
    pub wait: Option<Duration>,
    /// Progress display; auto: bars on a terminal, plain lines elsewhere
    #[arg(long, value_name = "HOW", env = "PROVISION_PROGRESS", value_enum, default_value_t = Mode::Auto)]
    pub progress: Mode,
    /// Write the run's report as JSON: per file source, bytes, seconds, connections, retries; totals
    #[arg(long, value_name = "PATH", env = "PROVISION_REPORT")]
    pub report: Option<Utf8PathBuf>,
    /// Verbosity.
    #[command(flatten)]
    pub output: Output,
}

impl FetchArgs {
    /// With the directories of `ComfyUI`, as [`DestinationArg::with_installation`] reads them.
    ///
    /// # Errors
    /// As there.
    pub fn with_installation(&self) -> Result<Self, Failure> {
        Ok(Self { place: self.place.with_installation()?, ..self.clone() })
    }

    /// The stores of this site.
    ///
    /// # Errors
    /// A text that is no address of a store, or a variable in one that is not set. The message does not repeat the
    /// text.
    pub fn stores(&self) -> Result<Vec<StoreAddress>, Failure> {
        // A comma at the end of a list names nothing.
        let named = self.stores.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let parse = |text| {
            StoreAddress::parse(text, &environment::named)
                .map_err(|error| Failure::new(Code::Usage, format!("--store (or PROVISION_STORE): {error}")))
        };
        named.map(parse).collect()
    }

    /// The retry policy.
    pub fn retry(&self) -> RetryPolicy {
        self.patience.in_fetch()
    }

    /// The configuration for the engine.
    pub fn config(&self) -> FetchConfig {
        FetchConfig {
            transfer: TransferConfig {
                limits: Limits {
                    connections: self.connections.into(),
                    per_host: self.connections_per_host.into(),
                },
                retry: self.retry(),
                rate: self.limit_rate,
                one_source: self.sources.one_source,
                origin_below: self.sources.origin_below,
                store_only: self.sources.store_only,
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
            links: self.place.links(),
            folders: self.place.at.installation().folders.clone(),
            wait: self.wait.unwrap_or(WAIT),
            threads: processors(),
        }
    }
}

/// The use of a complete set, for a build.
#[derive(Args, Debug, Clone, Default)]
pub struct LayersArg {
    /// Once the set is complete, move each top directory of the models to a tree of its own below DIR, for image layers
    #[arg(long, value_name = "DIR", env = "PROVISION_LAYERS")]
    pub layers: Option<Utf8PathBuf>,
    /// The layers that the image has, in any order: the run ends before any download if the models have others
    #[arg(
        long,
        value_name = "NAME",
        env = "PROVISION_EXPECT_LAYERS",
        value_delimiter = ',',
        requires = "layers"
    )]
    pub expect_layers: Vec<String>,
}

/// Options of `provision fetch`.
#[derive(Args, Debug, Clone)]
pub struct FetchCommand {
    /// The fetch itself.
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// The step after it.
    #[command(flatten)]
    pub layers: LayersArg,
}

/// The way of a baked file into the destination.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum BakedModeArg {
    /// Copy it (sharing blocks where the file system can)
    Copy,
    /// Leave it in place and make a symlink to it
    Symlink,
}

/// Options of `ensure`.
#[derive(Args, Debug, Clone)]
pub struct EnsureArgs {
    /// A directory of models in the image, laid out like the destination; valid files in it are not fetched
    #[arg(long, value_name = "DIR", env = "PROVISION_BAKED")]
    pub baked: Option<Utf8PathBuf>,
    /// The way of baked files into the destination
    #[arg(long, value_name = "HOW", env = "PROVISION_BAKED_MODE", value_enum, default_value_t = BakedModeArg::Copy)]
    pub baked_mode: BakedModeArg,
    /// The piece lists of the baked files: a lock that has other versions of them takes the equal pieces from there
    #[arg(
        long,
        value_name = "DIR",
        env = "PROVISION_BAKED_PIECES",
        default_value = "/opt/provision/models.pieces"
    )]
    pub baked_pieces: Utf8PathBuf,
    /// All options of a fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

impl EnsureArgs {
    /// The fetch's options, with the defaults of a container start.
    pub fn fetch(&self) -> FetchArgs {
        let Patience { retries, .. } = self.fetch.patience;
        let give_up_after = Some(self.fetch.patience.policy(GIVE_UP_AT_START).give_up_after);
        let patience = Patience { retries, give_up_after };
        FetchArgs { wait: self.fetch.wait.or(Some(WAIT_AT_START)), patience, ..self.fetch.clone() }
    }

    /// The directories of the baked files' piece lists: beside the image's lock, and those that a fetch kept with the
    /// files.
    pub fn baked_lists(&self) -> Vec<Utf8PathBuf> {
        let kept = self.baked.iter().map(|baked| baked.join(KEPT_LISTS));
        kept.flat_map(|kept| [self.baked_pieces.clone(), kept]).collect()
    }

    /// The baked directory as an absolute path, since symlinks in the destination lead to it.
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
    /// The action.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// An action on a cache.
#[derive(Subcommand, Debug, Clone)]
pub enum CacheCommand {
    /// List its files: digest, size, last use, and their names in the given lock
    List(CachePlace),
    /// Remove files beyond the bounds, least recently used first
    Prune {
        /// The cache.
        #[command(flatten)]
        place: CachePlace,
        /// The bounds.
        #[command(flatten)]
        bounds: CacheBounds,
        /// Only say what would be removed
        #[arg(long, env = "PROVISION_DRY_RUN", value_parser = FalseyValueParser::new())]
        dry_run: bool,
    },
}

/// The bounds of a cache.
#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = true)]
pub struct CacheBounds {
    /// Bytes to keep, such as 100G (K, M, G are decimal)
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub max_size: Option<u64>,
    /// Remove files unused for this long, such as 30d
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub unused_for: Option<Duration>,
    /// Remove everything
    #[arg(long)]
    pub all: bool,
}

/// The location of a cache.
#[derive(Args, Debug, Clone)]
pub struct CachePlace {
    /// The cache's directory [default: `$XDG_CACHE_HOME/provision`, else `~/.cache/provision`]
    #[arg(long, value_name = "DIR", env = "PROVISION_CACHE")]
    pub cache: Option<Utf8PathBuf>,
    /// Locks that give the files their names.
    #[command(flatten)]
    pub locks: Locks,
}

/// Options of `verify`.
#[derive(Args, Debug, Clone)]
pub struct VerifyArgs {
    /// Compute the SHA-256 of the whole file also for files that have a piece list
    #[arg(long)]
    pub full: bool,
    /// Print the result as JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// The models.
    #[command(flatten)]
    pub choice: Choice,
    /// Locks and destination.
    #[command(flatten)]
    pub place: LocksAndDestination,
    /// Verbosity.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `status`.
#[derive(Args, Debug, Clone)]
pub struct StatusArgs {
    /// The models.
    #[command(flatten)]
    pub choice: Choice,
    /// Locks and destination.
    #[command(flatten)]
    pub place: LocksAndDestination,
    /// Exit with 0 although a file is not installed
    #[arg(long, env = "PROVISION_EXIT_ZERO", value_parser = FalseyValueParser::new())]
    pub exit_zero: bool,
}

/// Options of `clean`.
#[derive(Args, Debug, Clone)]
pub struct CleanArgs {
    /// Locks and destination.
    #[command(flatten)]
    pub place: LocksAndDestination,
    /// Remove also files that a run has installed and that no lock lists any more
    #[arg(long)]
    pub unlisted: bool,
    /// The lock of this marker is gone: remove the marker, too (repeatable)
    #[arg(long, value_name = "MARKER")]
    pub gone: Vec<String>,
    /// Only list what would be removed
    #[arg(long, env = "PROVISION_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,
    /// Remove without asking
    #[arg(short, long)]
    pub yes: bool,
}
