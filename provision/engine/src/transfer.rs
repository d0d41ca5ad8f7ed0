//! Runs the connections: schedule × origin × store.
//!
//! One coordinator owns every decision. It asks the schedule for claims, launches each as a task with a connection
//! of its own, and hears how it ended; what follows from that (again, another source, start over, give up) is in
//! `policy`, which has no I/O. A task touches nothing but its claim: it reserves bytes under the schedule's lock,
//! writes them, and tells how many.
//!
//! A file's life: claims until every byte is written, then one job that proves and installs it. Before anything that
//! changes what is wanted (another source, starting over, giving up) its claims are revoked and *waited for*: a
//! write in flight must never land in a file that has moved on.
//!
//! Dropping nothing: when the run is interrupted, claims end, what was written is made durable and journalled, and
//! only then does [`run`] return.

mod buffers;
mod claim;
mod coordinator;
mod handle;
mod hashing;
mod limiter;
mod policy;
mod target;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use provision_core::backoff::RetryPolicy;
use provision_core::byte_range::ByteRange;
use provision_core::event::{FileIndex, Observer};
use provision_core::lockfile::Model;
use provision_core::schedule::{HostId, Limits, Schedule};
use provision_core::source_url::SourceUrl;
use provision_disk::{Destination, Installed, PartFile, PartNames, StoreError};
use provision_http::HttpClient;

use buffers::Buffers;
use coordinator::{Coordinator, FileState, Phase};
use hashing::Hashing;
use limiter::Limiter;
use policy::FilePolicy;
pub use policy::{Attempt, FileError, SourceError};
pub use provision_http::sniff::SniffedContent;
use target::Target;

/// How often time passes for the schedule.
const TICK: Duration = Duration::from_millis(20);
/// How a run is to behave.
#[derive(Debug, Clone)]
pub struct TransferConfig {
    /// Ceilings.
    pub limits: Limits,
    /// When to try again, and when not.
    pub retry: RetryPolicy,
    /// A connection on which less than `slowest` bytes/s came for this long has failed.
    pub stall: Duration,
    /// See `stall`; in bytes per second.
    pub slowest: u64,
    /// Bytes per second for the whole run.
    pub rate: Option<u64>,
    /// Nothing is fetched: only parts that are complete are proven and installed.
    pub offline: bool,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            retry: RetryPolicy::default(),
            stall: Duration::from_secs(30),
            slowest: 1024,
            rate: None,
            offline: false,
        }
    }
}

/// A file to fetch.
#[derive(Debug)]
pub struct Wanted {
    /// Its position in the run, for events.
    pub index: FileIndex,
    /// Its bytes and sources.
    pub model: Model,
    /// Where its bytes are collected, and what `model` is the path in.
    pub place: Arc<Destination>,
    /// What its part is called.
    pub naming: PartNames,
    /// Its part, if one was there; else it is made with the first byte.
    pub part: Option<PartFile>,
    /// What is still to be done when it is installed there.
    pub then: Option<Then>,
}

/// Called with a file that has just been installed; returns the one that the run is about. Blocks.
pub struct Then(pub Box<dyn Fn(Installed) -> Result<Installed, StoreError> + Send + Sync>);

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Then")
    }
}

/// What became of a file.
#[derive(Debug)]
pub struct Fetched {
    /// Its position in the run.
    pub index: FileIndex,
    /// Installed, given up, or not finished because the run was interrupted.
    pub result: Result<Option<Installed>, FileError>,
    /// The source that its last bytes came from.
    pub source: SourceUrl,
    /// Bytes received and written in this run.
    pub fetched: u64,
    /// Bytes held from earlier runs.
    pub resumed: u64,
    /// From its first request to its end.
    pub elapsed: Duration,
    /// The most connections that it had at once.
    pub connections: usize,
    /// Failures that were tried again.
    pub retries: u32,
}

/// What a run works with.
pub struct Transfer {
    /// Where connections come from.
    pub origin: Arc<HttpClient>,
    /// How to behave.
    pub config: TransferConfig,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// Turns true when the run is to stop.
    pub interrupted: watch::Receiver<bool>,
}

/// What the coordinator and its claims share.
struct Shared {
    schedule: Mutex<Schedule>,
    hosts: Mutex<HashMap<String, HostId>>,
    observer: Arc<dyn Observer>,
    limiter: Limiter,
    started: Instant,
    buffers: Arc<Buffers>,
    hashing: Hashing,
    /// How long nothing moves before that is a failure.
    stall: Duration,
    /// How many bytes of a file may go without a word in the journal.
    note: u64,
    /// Written since the last checkpoint, over all files.
    dirty: AtomicU64,
}

impl Shared {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a host, which is new where it was not seen before.
    fn host(&self, url: &SourceUrl) -> HostId {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        *hosts.entry(url.authority()).or_insert_with(|| self.schedule().add_host())
    }
}

/// Fetches every file in `wanted` and returns what became of each, in the same order.
///
/// # Panics
/// Where a task of its own panicked: the panic is passed on.
pub async fn run(transfer: Transfer, wanted: Vec<Wanted>) -> Vec<Fetched> {
    let Transfer { origin, config, observer, mut interrupted } = transfer;
    let total: u64 = wanted.iter().map(|wanted| wanted.model.size).sum();
    let shared = Arc::new(Shared {
        schedule: Mutex::new(Schedule::new(config.limits)),
        hosts: Mutex::default(),
        observer,
        limiter: Limiter::new(config.rate),
        started: Instant::now(),
        buffers: Buffers::new(total),
        // Each takes two files.
        hashing: Hashing::new(
            std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        ),
        stall: config.stall,
        note: (total / 1600).clamp(64 << 10, 32 << 20),
        dirty: AtomicU64::new(0),
    });
    let files: Vec<_> = wanted.into_iter().map(|wanted| admit(&shared, &config, wanted)).collect();
    let mut coordinator = Coordinator {
        shared,
        origin,
        config,
        unfinished: files.len(),
        files,
        live: BTreeSet::new(),
        flights: HashMap::new(),
        idle: HashMap::new(),
        tasks: JoinSet::new(),
        noting: false,
        noted: Duration::ZERO,
        checkpointing: false,
        checkpointed: Duration::ZERO,
        stopping: false,
    };
    coordinator.finish_complete();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !coordinator.is_done() {
        coordinator.launch();
        tokio::select! {
            Some(ended) = coordinator.tasks.join_next() => coordinator.ended(ended),
            _ = tick.tick() => coordinator.tick(),
            () = told_to_stop(&mut interrupted), if !coordinator.stopping => coordinator.stop(),
        }
    }
    coordinator.close().await
}

/// Ends when the run is told to stop; never where nobody can tell it any more.
pub(crate) async fn told_to_stop(interrupted: &mut watch::Receiver<bool>) {
    if interrupted.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn admit(shared: &Shared, config: &TransferConfig, wanted: Wanted) -> FileState {
    let (model, part) = (&wanted.model, wanted.part.as_ref());
    let whole = ByteRange::new(0, model.size);
    let (resumed, gaps) = part.map_or((0, vec![whole]), |part| (part.held(), part.missing()));
    let host = shared.host(&model.sources[0]);
    shared.schedule().add_file(host, gaps);
    let policy = FilePolicy::new(model.sources.clone(), config.retry.clone(), resumed > 0, config.offline);
    let target = Arc::new(Target::new(wanted));
    FileState {
        target,
        policy,
        phase: Phase::Transferring,
        resumed,
        began: None,
        elapsed: Duration::ZERO,
        shown: 0,
        connections: 0,
        retries: 0,
    }
}
