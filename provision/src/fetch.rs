//! A whole lock: plan, transfer, install, marker.
//!
//! 1. The marker. If it vouches for every file, that is all ([`marker_covers`]: no lock, no socket).
//! 2. The destination's lock; another run may have done the work meanwhile, so the marker is looked at again.
//! 3. The plan: per file present, resumable or missing. What no marker vouches for is hashed, not believed.
//! 4. The space that the plan needs, against the space there is, before the first byte.
//! 5. If anything changes: the marker goes, durably. Then the transfer, then copies of files with the same bytes.
//! 6. The marker, last, and only if every file of the run is right.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::sync::watch;

use crate::digest::Sha256;
use crate::event::{Event, FileIndex, Observer, Outcome, Planned, PlannedFile};
use crate::inspect::{self, Condition};
use crate::lockfile::{Lockfile, Model};
use crate::marker::Marker;
use crate::model_path::ModelPath;
use crate::origin::Origin;
use crate::store::{
    self, Acquire, Destination, DestinationLock, Found, Installed, Naming, PartFile, StoreError,
};
use crate::transfer::{self, Fetched, FileError, Transfer, TransferConfig, Wanted};

/// What counts as present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// What the marker vouches for by size and mtime; anything else is hashed.
    #[default]
    Marker,
    /// Every file of the right size.
    Quick,
    /// Every file of the right digest, marker or not.
    Full,
}

/// How a run is to go.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// Connections, retries, bandwidth.
    pub transfer: TransferConfig,
    /// What counts as present.
    pub verify: Verify,
    /// Fetch whatever is there.
    pub force: bool,
    /// Stop after the plan, having changed nothing.
    pub dry_run: bool,
    /// Fail rather than open a socket.
    pub offline: bool,
    /// The longest wait for another run in the same destination.
    pub wait: Duration,
    /// Threads that hash what is on disk.
    pub threads: usize,
}

/// What to fetch, and where to.
pub struct Job<'a> {
    /// The lock.
    pub lock: &'a Lockfile,
    /// Those of its models that the run is about.
    pub models: Vec<&'a Model>,
    /// The directory that their paths are below.
    pub destination: Utf8PathBuf,
    /// How.
    pub config: FetchConfig,
    /// Where connections come from; made when the first is needed.
    pub origin: Arc<Origin>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// Turns true when the run is to stop.
    pub interrupted: watch::Receiver<bool>,
}

/// What a run did.
#[derive(Debug)]
pub struct Report {
    /// Each file, in the lock's order.
    pub files: Vec<FileReport>,
    /// Wall time.
    pub elapsed: Duration,
    /// The plan, as it was told.
    pub plan: Vec<PlannedFile>,
    /// Bytes free at the destination when the plan was made.
    pub free: u64,
    /// The marker vouched for everything.
    pub by_marker: bool,
    /// The run was told to stop before it was done.
    pub interrupted: bool,
}

/// What became of one file.
#[derive(Debug)]
pub struct FileReport {
    /// Its path.
    pub path: ModelPath,
    /// Its length in bytes.
    pub size: u64,
    /// How it came to be right; `None` if it is not there.
    pub result: Result<Option<Outcome>, FileError>,
    /// The source of its last bytes, without its query, if any was asked.
    pub source: Option<String>,
    /// Bytes received in this run and kept.
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

/// A run that could not start or not go on. What is wrong with single files is in their reports.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another run holds the destination.
    #[error(
        "another run is working in this directory: {holder}; it was waited for {} s. Wait for it to end, stop it, or \
         raise --wait",
        waited.as_secs()
    )]
    Busy {
        /// The lock's path and what is known of its holder.
        holder: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Something is missing and the network is not to be touched.
    #[error(
        "--offline, and {count} of the files are not there: {names}; run without --offline to fetch them"
    )]
    Offline {
        /// How many.
        count: usize,
        /// The first few.
        names: String,
    },
    /// The run was told to stop while it waited or planned.
    #[error("interrupted; run again to go on")]
    Interrupted,
}

/// Whether a marker vouches for every one of `models`: then there is nothing to do.
pub fn marker_covers(path: &camino::Utf8Path, lock: &Lockfile, models: &[&Model]) -> bool {
    let Ok(Some(destination)) = Destination::open(path) else { return false };
    Marker::load(&destination, lock.marker()).covers(&destination, models.iter().copied())
}

/// Does the job.
///
/// # Errors
/// Where no file could be worked on. Failures of single files are in the report: the others are done all the same.
pub async fn run(job: Job<'_>) -> Result<Report, FetchError> {
    let started = Instant::now();
    let Job { lock, models, destination: path, config, origin, observer, mut interrupted } = job;
    if config.dry_run {
        return dry_run(lock, &models, &path, &config, &*observer, started);
    }
    let destination = Arc::new(Destination::create(&path)?);
    let guard = acquire(&destination, config.wait, &*observer, &mut interrupted).await?;
    let marker = Marker::load(&destination, lock.marker());
    let trusts_marker = config.verify == Verify::Marker && !config.force;
    if trusts_marker && marker.covers(&destination, models.iter().copied()) {
        observer.observe(&Event::MarkerValid { name: lock.marker().to_owned(), files: models.len() });
        return Ok(Report::all_present(&models, started, true));
    }
    let naming = naming(&guard);
    let plan =
        tokio::task::block_in_place(|| plan(&destination, &marker, &models, &config, &naming, &*observer));
    let free = destination.free_space()?;
    let (to_fetch, needed) = announce(&plan, &models, free, &*observer);
    if needed > free {
        return Err(StoreError::NotEnoughSpace { path, needed, free }.into());
    }
    warn_of_pickles(&models, &*observer);
    if config.offline && to_fetch > 0 {
        return Err(offline(&plan, &models));
    }
    if *interrupted.borrow() {
        return Err(FetchError::Interrupted);
    }
    if plan.iter().any(|item| !matches!(item.plan, Plan::Present(_)))
        && destination.root().find(lock.marker())? != Found::Nothing
    {
        Marker::remove(&destination, lock.marker())?;
    }

    let vouched = |(item, model): (&Item, &&Model)| match &item.plan {
        Plan::Present(file) => marker.vouches_for(model, Found::File(file.stamp)),
        _ => true,
    };
    let by_size_only = config.verify == Verify::Quick && !plan.iter().zip(&models).all(vouched);
    let mut work = Work::new(&models, plan, by_size_only);
    let wanted = work.wanted(&models);
    let transfer = Transfer {
        origin,
        destination: destination.clone(),
        naming: naming.clone(),
        config: config.transfer.clone(),
        observer: observer.clone(),
        interrupted: interrupted.clone(),
    };
    let fetched = if wanted.is_empty() { Vec::new() } else { transfer::run(transfer, wanted).await };
    for fetched in fetched {
        work.fetched(fetched);
    }
    if !*interrupted.borrow() {
        tokio::task::block_in_place(|| work.copy(&models, &destination, &naming, &*observer));
    }
    let stopped = *interrupted.borrow() && work.files.iter().any(|file| matches!(file.result, Ok(None)));
    if work.is_complete() {
        marker.write(&destination, lock, &work.installed)?;
        observer.observe(&Event::MarkerWritten { name: lock.marker().to_owned() });
    }
    drop(guard);
    Ok(Report {
        files: work.files,
        elapsed: started.elapsed(),
        plan: work.plan,
        free,
        by_marker: false,
        interrupted: stopped,
    })
}

impl Report {
    /// Every file was there; `by_marker` where nothing but the marker was asked.
    pub fn all_present(models: &[&Model], started: Instant, by_marker: bool) -> Self {
        let present = |model: &&Model| PlannedFile {
            path: model.path.clone(),
            size: model.size,
            held: model.size,
            plan: Planned::Present,
        };
        Self {
            files: models.iter().map(|model| FileReport::of(model, Ok(Some(Outcome::Present)))).collect(),
            elapsed: started.elapsed(),
            plan: models.iter().map(present).collect(),
            free: 0,
            by_marker,
            interrupted: false,
        }
    }

    /// Whether every file is right.
    pub fn is_complete(&self) -> bool {
        self.files.iter().all(|file| matches!(file.result, Ok(Some(_))))
    }
}

impl FileReport {
    fn of(model: &Model, result: Result<Option<Outcome>, FileError>) -> Self {
        Self {
            path: model.path.clone(),
            size: model.size,
            result,
            source: None,
            fetched: 0,
            resumed: 0,
            elapsed: Duration::ZERO,
            connections: 0,
            retries: 0,
        }
    }
}

fn naming(guard: &DestinationLock) -> Naming {
    if guard.is_exclusive() {
        Naming::Shared
    } else {
        Naming::Private(format!("{}-{:08x}", std::process::id(), fastrand::u32(..)))
    }
}

/// Waits for the destination's lock.
async fn acquire(
    destination: &Destination,
    wait: Duration,
    observer: &dyn Observer,
    interrupted: &mut watch::Receiver<bool>,
) -> Result<DestinationLock, FetchError> {
    /// How often the lock is asked for. Its holder works for seconds or minutes.
    const ASK: Duration = Duration::from_millis(100);
    let started = Instant::now();
    let mut told = false;
    loop {
        let holder = match DestinationLock::try_acquire(destination)? {
            Acquire::Acquired(lock) => {
                if told {
                    observer.observe(&Event::Acquired);
                }
                return Ok(lock);
            }
            Acquire::Held(holder) => holder,
        };
        if started.elapsed() >= wait {
            return Err(FetchError::Busy { holder, waited: started.elapsed() });
        }
        if !told {
            observer.observe(&Event::Waiting { holder });
            told = true;
        }
        tokio::select! {
            () = tokio::time::sleep(ASK.min(wait.saturating_sub(started.elapsed()))) => {}
            _ = interrupted.wait_for(|stop| *stop) => return Err(FetchError::Interrupted),
        }
    }
}

/// What is to be done for one file.
enum Plan {
    Present(Installed),
    /// With what is there of it.
    Fetch(Option<Box<PartFile>>),
    /// As `Fetch`, in a plan that is only shown: how many bytes are there.
    WouldFetch(u64),
    /// The same bytes as another file of the run.
    CopyOf(FileIndex),
    /// The disk says no.
    Failed(StoreError),
}

struct Item {
    plan: Plan,
}

impl Item {
    fn held(&self, size: u64) -> u64 {
        match &self.plan {
            Plan::Present(_) => size,
            Plan::Fetch(part) => part.as_ref().map_or(0, |part| part.held()),
            Plan::WouldFetch(held) => *held,
            Plan::CopyOf(_) | Plan::Failed(_) => 0,
        }
    }

    fn planned(&self, size: u64) -> Planned {
        match &self.plan {
            Plan::Present(_) => Planned::Present,
            Plan::CopyOf(_) => Planned::Copy,
            _ if self.held(size) > 0 => Planned::Resume,
            _ => Planned::Fetch,
        }
    }
}

fn plan(
    destination: &Destination,
    marker: &Marker,
    models: &[&Model],
    config: &FetchConfig,
    naming: &Naming,
    observer: &dyn Observer,
) -> Vec<Item> {
    let plans = inspect::each(models, config.threads, |model| {
        if let Some(present) = present(destination, marker, model, config, observer) {
            return present;
        }
        if config.dry_run {
            let held = if config.force { Ok(0) } else { PartFile::peek(destination, model, |_| {}) };
            return held.map_or_else(Plan::Failed, Plan::WouldFetch);
        }
        open_part(destination, model, config.force, naming).map_or_else(Plan::Failed, Plan::Fetch)
    });
    let mut items: Vec<Item> = plans.into_iter().map(|plan| Item { plan }).collect();
    share_digests(&mut items, models);
    items
}

/// The file as it is, if it counts as present, or why there can be none.
fn present(
    destination: &Destination,
    marker: &Marker,
    model: &Model,
    config: &FetchConfig,
    observer: &dyn Observer,
) -> Option<Plan> {
    let found = match destination.find(&model.path) {
        Ok(found) => found,
        Err(error) => return Some(Plan::Failed(error)),
    };
    let stamp = match found {
        Found::Nothing => return None,
        Found::Other(what) => {
            let path = destination.root().path().join(model.path.as_str());
            return Some(Plan::Failed(StoreError::NotAFile { path, what }));
        }
        Found::File(stamp) => stamp,
    };
    let installed =
        |stamp| Plan::Present(Installed { path: model.path.clone(), stamp, sha256: model.sha256 });
    if config.force {
        return None;
    }
    match config.verify {
        Verify::Marker if marker.vouches_for(model, found) => Some(installed(stamp)),
        Verify::Quick => (stamp.size == model.size).then(|| installed(stamp)),
        Verify::Marker | Verify::Full => match inspect::hash(destination, &[model], 1, observer).pop() {
            Some(Condition::Right(stamp)) => {
                // A run that was killed between the rename and the end of its clean-up leaves its journal.
                let tidied = if config.dry_run { Ok(()) } else { PartFile::discard(destination, model) };
                Some(tidied.map_or_else(Plan::Failed, |()| installed(stamp)))
            }
            Some(Condition::Unreadable(error)) => Some(Plan::Failed(error)),
            _ => None,
        },
    }
}

/// The part of an earlier run, if there is one.
fn open_part(
    destination: &Destination,
    model: &Model,
    force: bool,
    naming: &Naming,
) -> Result<Option<Box<PartFile>>, StoreError> {
    if force {
        PartFile::discard(destination, model)?;
        return Ok(None);
    }
    if PartFile::claimed(destination, model)? == 0 {
        return Ok(None);
    }
    PartFile::open(destination, model, naming, |_| {}).map(|part| Some(Box::new(part)))
}

/// Files with the same bytes are fetched once: the others are copied from the first.
fn share_digests(items: &mut [Item], models: &[&Model]) {
    let mut first: HashMap<Sha256, FileIndex> = HashMap::new();
    let is_better = |item: &Item| matches!(item.plan, Plan::Present(_));
    for (at, model) in models.iter().enumerate().filter(|(at, _)| is_better(&items[*at])) {
        first.entry(model.sha256).or_insert(at);
    }
    for (at, model) in models.iter().enumerate() {
        if !matches!(items[at].plan, Plan::Fetch(_) | Plan::WouldFetch(_)) {
            continue;
        }
        match first.get(&model.sha256) {
            Some(other) if models[*other].size == model.size => items[at].plan = Plan::CopyOf(*other),
            _ => {
                first.insert(model.sha256, at);
            }
        }
    }
}

fn announce(plan: &[Item], models: &[&Model], free: u64, observer: &dyn Observer) -> (u64, u64) {
    let (mut to_fetch, mut needed) = (0, 0);
    for (item, model) in plan.iter().zip(models) {
        let rest = model.size - item.held(model.size);
        match item.plan {
            Plan::Fetch(_) | Plan::WouldFetch(_) => (to_fetch, needed) = (to_fetch + rest, needed + rest),
            Plan::CopyOf(_) => needed += rest,
            Plan::Present(_) | Plan::Failed(_) => {}
        }
    }
    observer.observe(&Event::Planned { files: planned(plan, models), to_fetch, needed, free });
    (to_fetch, needed)
}

fn planned(plan: &[Item], models: &[&Model]) -> Vec<PlannedFile> {
    let one = |(item, model): (&Item, &&Model)| PlannedFile {
        path: model.path.clone(),
        size: model.size,
        held: item.held(model.size),
        plan: item.planned(model.size),
    };
    plan.iter().zip(models).map(one).collect()
}

fn warn_of_pickles(models: &[&Model], observer: &dyn Observer) {
    for model in models.iter().filter(|model| model.is_pickle()) {
        let message = format!(
            "{}: files of this kind are usually pickles, and loading a pickle runs the code in it; use safetensors if you can",
            model.path
        );
        observer.observe(&Event::Warning { message });
    }
}

fn offline(plan: &[Item], models: &[&Model]) -> FetchError {
    let missing: Vec<&str> = plan
        .iter()
        .zip(models)
        .filter(|(item, _)| matches!(item.plan, Plan::Fetch(_) | Plan::WouldFetch(_) | Plan::Failed(_)))
        .map(|(_, model)| model.path.as_str())
        .collect();
    let mut names = missing.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    if missing.len() > 8 {
        names.push_str(", …");
    }
    FetchError::Offline { count: missing.len(), names }
}

fn dry_run(
    lock: &Lockfile,
    models: &[&Model],
    path: &camino::Utf8Path,
    config: &FetchConfig,
    observer: &dyn Observer,
    started: Instant,
) -> Result<Report, FetchError> {
    let Some(destination) = Destination::open(path)? else {
        let items: Vec<Item> = models.iter().map(|_| Item { plan: Plan::WouldFetch(0) }).collect();
        let free = store::free_space_near(path)?;
        return Ok(shown(items, models, free, observer, started));
    };
    let marker = Marker::load(&destination, lock.marker());
    let items = plan(&destination, &marker, models, config, &Naming::Shared, observer);
    let free = destination.free_space()?;
    Ok(shown(items, models, free, observer, started))
}

fn shown(
    mut items: Vec<Item>,
    models: &[&Model],
    free: u64,
    observer: &dyn Observer,
    started: Instant,
) -> Report {
    share_digests(&mut items, models);
    announce(&items, models, free, observer);
    let plan = planned(&items, models);
    let report = |(item, model): (Item, &&Model)| {
        let result = match item.plan {
            Plan::Present(_) => Ok(Some(Outcome::Present)),
            Plan::Failed(error) => Err(FileError::of_store(error)),
            _ => Ok(None),
        };
        FileReport::of(model, result)
    };
    let files = items.into_iter().zip(models).map(report).collect();
    Report { files, elapsed: started.elapsed(), plan, free, by_marker: false, interrupted: false }
}

/// The run's files as they come to be right.
struct Work {
    items: Vec<Item>,
    plan: Vec<PlannedFile>,
    files: Vec<FileReport>,
    installed: Vec<Installed>,
    /// Sizes only were looked at: a marker must not vouch for what nobody proved.
    unproven: bool,
}

impl Work {
    fn new(models: &[&Model], items: Vec<Item>, unproven: bool) -> Self {
        let plan = planned(&items, models);
        let files = models.iter().map(|model| FileReport::of(model, Ok(None))).collect();
        Self { items, plan, files, installed: Vec::new(), unproven }
    }

    /// Takes what is to be fetched out of the plan.
    fn wanted(&mut self, models: &[&Model]) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (index, (item, model)) in self.items.iter_mut().zip(models).enumerate() {
            match std::mem::replace(&mut item.plan, Plan::WouldFetch(0)) {
                Plan::Present(installed) => {
                    self.files[index].result = Ok(Some(Outcome::Present));
                    self.installed.push(installed);
                }
                Plan::Fetch(part) => {
                    wanted.push(Wanted { index, model: (*model).clone(), part: part.map(|part| *part) });
                }
                Plan::Failed(error) => self.files[index].result = Err(FileError::of_store(error)),
                copy @ Plan::CopyOf(_) => item.plan = copy,
                Plan::WouldFetch(_) => {}
            }
        }
        wanted
    }

    fn fetched(&mut self, fetched: Fetched) {
        let file = &mut self.files[fetched.index];
        file.source = Some(fetched.source.to_string());
        (file.fetched, file.resumed, file.elapsed) = (fetched.fetched, fetched.resumed, fetched.elapsed);
        (file.connections, file.retries) = (fetched.connections, fetched.retries);
        file.result = match fetched.result {
            Ok(Some(installed)) => {
                self.installed.push(installed);
                Ok(Some(Outcome::Fetched))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
    }

    /// Makes the files whose bytes another file has.
    fn copy(
        &mut self,
        models: &[&Model],
        destination: &Destination,
        naming: &Naming,
        observer: &dyn Observer,
    ) {
        for at in 0..self.items.len() {
            let Plan::CopyOf(other) = self.items[at].plan else { continue };
            let started = Instant::now();
            let from = models[other];
            if !matches!(self.files[other].result, Ok(Some(_))) {
                self.files[at].result = Err(FileError::of_original(&from.path));
                continue;
            }
            match copy(destination, from, models[at], naming) {
                Ok(installed) => {
                    self.installed.push(installed);
                    self.files[at].result = Ok(Some(Outcome::Copied));
                    let elapsed = started.elapsed();
                    observer.observe(&Event::Finished {
                        file: at,
                        outcome: Outcome::Copied,
                        fetched: 0,
                        elapsed,
                    });
                }
                Err(error) => {
                    let error = FileError::of_store(error);
                    observer.observe(&Event::Failed { file: at, reason: error.reason() });
                    self.files[at].result = Err(error);
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        !self.unproven && self.files.iter().all(|file| matches!(file.result, Ok(Some(_))))
    }
}

fn copy(
    destination: &Destination,
    from: &Model,
    to: &Model,
    naming: &Naming,
) -> Result<Installed, StoreError> {
    let part = Arc::new(PartFile::open(destination, to, naming, |_| {})?);
    let missing = || StoreError::Missing { path: destination.root().path().join(from.path.as_str()) };
    let directory = destination.parent(&from.path, false)?.ok_or_else(missing)?;
    let (file, _) = directory.open_file(from.path.file_name())?.ok_or_else(missing)?;
    part.copy_from(&file)?;
    part.verify()?.install()
}
