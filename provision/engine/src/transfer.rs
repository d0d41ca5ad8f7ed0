//! The transfer: it joins the schedule, the HTTP client and the parts, and downloads all files of a run together.
//!
//! One coordinator makes every decision. It takes claims from the schedule, starts a task with a connection for each,
//! and receives the result. `policy`, which has no I/O, turns a failure into the next step: retry, next source, start
//! over or give up. A task works on its claim only: it reserves bytes under the schedule's mutex, writes them, and
//! reports the count.
//!
//! A file has claims until every byte is written. Then one job verifies and installs it. Before the coordinator changes
//! the source, starts over or gives up, it revokes the file's claims and *waits for them*: a late write must never
//! reach a file that has started over.
//!
//! A file with a piece list is verified piece by piece (`hashing`). A wrong piece is blamed on its sender
//! (`provenance`), and only its range is fetched again, while the claims of other ranges go on.
//!
//! An interrupted run loses no written byte: claims end, the parts are synced and journaled, and only then [`run`]
//! returns.

mod buffers;
mod claim;
mod claim_handle;
mod coordinator;
mod file_error;
mod hashing;
mod limiter;
mod policy;
mod provenance;
mod silent_hosts;
mod target;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::lock_wait::stop_requested;
use crate::piece_lists::PieceLists;
use provision_core::backoff::RetryPolicy;
use provision_core::byte_range::ByteRange;
use provision_core::event::{Event, FileIndex, Observer, SourceBytes};
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;
use provision_core::schedule::{HostId, Limits, Schedule};
use provision_core::source_url::SourceUrl;
use provision_disk::{Destination, DiskError, Installed, PartFile, PartNames, processors};
use provision_http::HttpClient;

use buffers::Buffers;
use coordinator::{Coordinator, Phase, Stores, TransferState};
pub use file_error::{Attempt, FileError, SourceError};
use hashing::Hashing;
use limiter::Limiter;
use policy::FilePolicy;
pub use provision_http::sniff::SniffedContent;
use silent_hosts::SilentHosts;
use target::Target;

/// The interval between two ticks of the schedule.
const TICK: Duration = Duration::from_millis(20);
/// The longest time before the journal records written bytes.
pub(crate) const JOURNAL_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time before written bytes are durable.
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
/// The default of [`TransferConfig::stall`].
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of a transfer.
#[derive(Debug, Clone)]
pub struct TransferConfig {
    /// The limits on connections.
    pub limits: Limits,
    /// The retry policy.
    pub retry: RetryPolicy,
    /// A connection that receives less than `slowest` bytes/s for this long has failed.
    pub stall: Duration,
    /// See `stall`; in bytes per second.
    pub slowest: u64,
    /// Bytes per second for the whole run.
    pub rate: Option<u64>,
    /// No request is made: only complete parts are verified and installed.
    pub offline: bool,
    /// A file has one source at a time.
    pub one_source: bool,
    /// The lock's addresses join the stores that together are slower than this for ten seconds, in bytes per second.
    pub origin_below: Option<u64>,
    /// The lock's addresses are never asked.
    pub store_only: bool,
    /// Keep the lists that parts make of files without one.
    pub lists: Option<Arc<PieceLists>>,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            retry: RetryPolicy::default(),
            stall: STALL_TIMEOUT,
            slowest: 1024,
            rate: None,
            offline: false,
            one_source: false,
            origin_below: None,
            store_only: false,
            lists: None,
        }
    }
}

/// A file to download.
#[derive(Debug)]
pub struct Download {
    /// Its position in the run, for events.
    pub index: FileIndex,
    /// Its path, size, digest and sources.
    pub model: Model,
    /// The sources at stores by digest, each with its store's number in [`Transfer::stores`]. They come before the
    /// model's own.
    pub stores: Vec<(usize, SourceUrl)>,
    /// The directory that holds the part, and that the model's path is relative to.
    pub place: Arc<Destination>,
    /// The rule for its part's name.
    pub part_names: PartNames,
    /// Its part from an earlier run; otherwise the first byte creates one.
    pub part: Option<PartFile>,
    /// Its piece list.
    pub pieces: Option<Arc<PieceList>>,
    /// The step after its install.
    pub then: Option<AfterInstall>,
}

impl Download {
    /// Every source, in the order of preference.
    fn sources(&self) -> impl Iterator<Item = &SourceUrl> {
        self.stores.iter().map(|(_, url)| url).chain(&self.model.sources)
    }
}

/// A step after the install of a file. It receives the installed file and returns the file of the run. Blocks.
pub struct AfterInstall(pub Box<dyn Fn(Installed) -> Result<Installed, DiskError> + Send + Sync>);

impl std::fmt::Debug for AfterInstall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AfterInstall")
    }
}

/// The result of a download.
#[derive(Debug)]
pub struct DownloadResult {
    /// Its position in the run.
    pub index: FileIndex,
    /// Installed, failed, or `None` if the run was stopped before.
    pub result: Result<Option<Installed>, FileError>,
    /// The source of its last bytes, as it was asked.
    pub source: SourceUrl,
    /// The bytes of each source, if several or a store gave some.
    pub sources: Vec<SourceBytes>,
    /// Bytes received and written in this run.
    pub fetched: u64,
    /// Bytes held from earlier runs.
    pub resumed: u64,
    /// Bytes of pieces that were wrong, and fetched again.
    pub dropped: u64,
    /// From its first request to its end.
    pub elapsed: Duration,
    /// The most connections that it had at once.
    pub connections: usize,
    /// Failures that were tried again.
    pub retries: u32,
}

/// The inputs that all downloads share.
pub struct Transfer {
    /// The client that makes the connections.
    pub origin: Arc<HttpClient>,
    /// Settings.
    pub config: TransferConfig,
    /// The stores by digest, as messages name them.
    pub stores: Vec<String>,
    /// Receives the events.
    pub observer: Arc<dyn Observer>,
    /// Turns true when the run has to stop.
    pub interrupted: watch::Receiver<bool>,
}

/// State that the coordinator and the claims' tasks share.
struct Shared {
    schedule: Mutex<Schedule>,
    hosts: Mutex<HashMap<String, HostId>>,
    observer: Arc<dyn Observer>,
    limiter: Limiter,
    started: Instant,
    buffers: Arc<Buffers>,
    hashing: Hashing,
    /// The time without progress after which a connection has failed.
    stall: Duration,
    /// The most bytes of a file that are written before the journal records them.
    journal_bytes: u64,
    /// Bytes written since the last checkpoint, over all files.
    dirty: AtomicU64,
    /// Bytes that stores gave, over all files.
    from_stores: AtomicU64,
}

impl Shared {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schedule's number for a host; a new host gets a new number.
    fn host(&self, url: &SourceUrl) -> HostId {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        *hosts.entry(url.authority()).or_insert_with(|| self.schedule().add_host())
    }

    /// The schedule's number for a host and port that has one.
    fn known_host(&self, host: &str) -> Option<HostId> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()
    }

    /// A host has answered.
    fn heard(&self, url: &SourceUrl) {
        let (host, now) = (self.host(url), self.now());
        self.schedule().heard(host, now);
    }
}

/// Downloads every file and returns the results in the same order.
///
/// # Panics
/// A task of the transfer panicked: the panic is passed on.
pub async fn run(transfer: Transfer, downloads: Vec<Download>) -> Vec<DownloadResult> {
    let Transfer { origin, config, stores, observer, mut interrupted } = transfer;
    let total: u64 = downloads.iter().map(|download| download.model.size).sum();
    let (wrong, mut wrong_pieces) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        schedule: Mutex::new(Schedule::new(config.limits)),
        hosts: Mutex::default(),
        observer,
        limiter: Limiter::new(config.rate),
        started: Instant::now(),
        buffers: Buffers::new(total),
        hashing: Hashing::new(processors(), wrong),
        stall: config.stall,
        journal_bytes: (total / 1600).clamp(64 << 10, 32 << 20),
        dirty: AtomicU64::new(0),
        from_stores: AtomicU64::new(0),
    });
    let files: Vec<_> =
        downloads.into_iter().map(|download| admit(&shared, &origin, &config, download)).collect();
    let mut coordinator = Coordinator {
        shared,
        origin,
        config,
        unfinished: files.iter().filter(|file| !matches!(file.phase, Phase::Done(_))).count(),
        files,
        live: BTreeSet::new(),
        in_flight: HashMap::new(),
        idle: HashMap::new(),
        tasks: JoinSet::new(),
        journaling: false,
        journaled: Duration::ZERO,
        checkpointing: false,
        checkpointed: Duration::ZERO,
        stopping: false,
        silent_hosts: SilentHosts::default(),
        stores: Stores::new(stores),
    };
    coordinator.finish_complete();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !coordinator.is_done() {
        coordinator.launch();
        tokio::select! {
            Some(ended) = coordinator.tasks.join_next() => coordinator.ended(ended),
            Some(file) = wrong_pieces.recv() => drop(coordinator.drop_wrong_pieces(file)),
            _ = tick.tick() => coordinator.tick(),
            () = stop_requested(&mut interrupted), if !coordinator.stopping => coordinator.stop(),
        }
    }
    coordinator.close().await
}

fn admit(
    shared: &Shared,
    origin: &HttpClient,
    config: &TransferConfig,
    mut download: Download,
) -> TransferState {
    let is_nowhere = config.store_only && download.stores.is_empty();
    if config.store_only && !is_nowhere {
        download.model.sources.clear();
    }
    let part = download.part.as_ref();
    let whole = ByteRange::new(0, download.model.size);
    let (resumed, gaps) = part.map_or((0, vec![whole]), |part| (part.held(), part.missing()));
    let sources: Vec<_> = download.sources().map(|source| origin.effective(source)).collect();
    let host = shared.host(&sources[0]);
    let id = shared.schedule().add_file(host, gaps);
    let mut phase = Phase::Transferring;
    if is_nowhere && !shared.schedule().is_complete(id) {
        shared.schedule().close(id);
        let error = FileError { store_only: true, ..FileError::of_sources(Vec::new()) };
        shared.observer.observe(&Event::Failed { file: download.index, reason: error.reason() });
        phase = Phase::Done(Err(error));
    }
    let policy = FilePolicy::new(sources, config.retry.clone(), resumed > 0, config.offline)
        .with_stores(download.stores.len(), config.store_only)
        .one_at_a_time(config.one_source);
    let target = Arc::new(Target::new(download, id).with_lists(config.lists.clone()));
    TransferState {
        target,
        policy,
        phase,
        resumed,
        began: None,
        elapsed: Duration::ZERO,
        shown: 0,
        connections: 0,
        retries: 0,
        silent_host: None,
        suspects: Vec::new(),
        is_dropping: false,
        wrong_pieces: Vec::new(),
        dropped: 0,
        not_before: Duration::ZERO,
    }
}
