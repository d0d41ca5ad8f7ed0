//! A whole lock: plan, transfer, install, marker.
//!
//! 1. The marker. If it vouches for every file, that is all ([`marker_covers`]: no lock, no socket).
//! 2. The destination's lock; another run may have done the work meanwhile, so the marker is looked at again.
//! 3. The plan: per file present, resumable or missing. What no marker vouches for is hashed, not believed.
//! 4. The space that the plan needs, against the space there is, before the first byte.
//! 5. If anything changes: the marker goes, durably. Then the transfer, then copies of files with the same bytes.
//! 6. The marker, last, and only if every file of the run is right.

mod plan;
mod report;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::sync::watch;

use crate::event::{Event, Observer, Outcome};
use crate::lockfile::{Lockfile, Model};
use crate::marker::Marker;
use crate::origin::Origin;
use crate::store::{self, Acquire, Destination, DestinationLock, Found, Naming, StoreError};
use crate::transfer::{self, FileError, Transfer, TransferConfig};

use plan::{Item, Plan, Planner, announce, planned};
pub use report::{FileReport, Report};
use work::Work;

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
        let told = (&*observer, &interrupted);
        return tokio::task::block_in_place(|| dry_run(lock, &models, &path, &config, told, started));
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
    let planner = Planner {
        destination: &destination,
        marker: &marker,
        config: &config,
        naming: &naming,
        observer: &*observer,
        interrupted: &interrupted,
    };
    let plan = tokio::task::block_in_place(|| planner.plan(&models));
    if *interrupted.borrow() {
        return Err(FetchError::Interrupted);
    }
    let free = destination.free_space()?;
    let (to_fetch, needed) = announce(&plan, &models, free, &*observer);
    if needed > free {
        return Err(StoreError::NotEnoughSpace { path, needed, free }.into());
    }
    warn_of_pickles(&models, &*observer);
    if config.offline && to_fetch > 0 {
        return Err(offline(&plan, &models));
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
    let wanted = work.wanted(&models, &*observer);
    let transfer = Transfer {
        origin,
        destination: destination.clone(),
        naming: naming.clone(),
        config: TransferConfig { offline: config.offline, ..config.transfer.clone() },
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
        if guard.is_exclusive() {
            destination.root().remove_temporaries(lock.marker())?;
        }
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
            () = transfer::told_to_stop(interrupted) => return Err(FetchError::Interrupted),
        }
    }
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

fn dry_run(
    lock: &Lockfile,
    models: &[&Model],
    path: &camino::Utf8Path,
    config: &FetchConfig,
    (observer, interrupted): (&dyn Observer, &watch::Receiver<bool>),
    started: Instant,
) -> Result<Report, FetchError> {
    let Some(destination) = Destination::open(path)? else {
        let items: Vec<Item> = models.iter().map(|_| Item { plan: Plan::WouldFetch(0) }).collect();
        let free = store::free_space_near(path)?;
        return Ok(shown(items, models, free, observer, started));
    };
    let marker = Marker::load(&destination, lock.marker());
    let naming = Naming::Shared;
    let planner = Planner {
        destination: &destination,
        marker: &marker,
        config,
        naming: &naming,
        observer,
        interrupted,
    };
    let items = planner.plan(models);
    if *interrupted.borrow() {
        return Err(FetchError::Interrupted);
    }
    let free = destination.free_space()?;
    Ok(shown(items, models, free, observer, started))
}

/// What is missing, for a run that must not fetch it.
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

/// The report of a plan that is only shown.
fn shown(
    items: Vec<Item>,
    models: &[&Model],
    free: u64,
    observer: &dyn Observer,
    started: Instant,
) -> Report {
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
