//! A whole lock: plan, what this machine has, transfer, install, marker.
//!
//! 1. The marker. If it vouches for every file, that is all ([`marker_covers`]: no lock, no socket).
//! 2. The destination's lock; another run may have done the work meanwhile, so the marker is looked at again.
//! 3. The plan: per file present, on this machine, resumable or missing. What no marker vouches for is hashed, not
//!    believed.
//! 4. The space that the plan needs, against the space there is, before the first byte.
//! 5. If anything changes: the marker goes, durably. Then what the baked directory and the cache have.
//! 6. The transfer of what is still missing; with a cache it is collected there, under the cache's lock. Then copies of
//!    files with the same bytes.
//! 7. The marker, last, and only if every file of the run is right.
//!
//! A container's start (`provision ensure`) is this with a baked directory.

mod downloads;
mod dry_run;
mod local;
mod plan;
mod report;
mod run_state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::watch;

use crate::cache::Cache;
use crate::marker::Marker;
use crate::transfer::{self, Transfer, TransferConfig};
use provision_core::event::{Event, Observer, Outcome};
use provision_core::lockfile::{Lockfile, Model};
use provision_core::safetensors;
use provision_disk::{Acquire, Destination, DestinationLock, Installed, LockAttempt, PartNames, StoreError};
use provision_http::HttpClient;

use downloads::Collector;
use dry_run::Shown;
pub use local::{Baked, BakedMode, Local};
use local::{Bringer, LocalSources};
use plan::{Item, Needs, Plan, Planner, needs, planned};
pub use report::{FileReport, Report};
use run_state::Work;

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
    /// Where bytes may be on this machine.
    pub local: Local,
    /// How.
    pub config: FetchConfig,
    /// Where connections come from; made when the first is needed.
    pub origin: Arc<HttpClient>,
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
        "--offline, and not everything is there; {count} missing: {names}. Run without --offline to fetch them"
    )]
    Offline {
        /// How many.
        count: usize,
        /// The first few.
        names: String,
    },
    /// One directory is to be both.
    #[error(
        "{path} is the destination and the cache, and it cannot be both; give --cache a directory of its own"
    )]
    CacheIsDestination {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// The run was told to stop while it waited or planned.
    #[error("interrupted; run again to go on")]
    Interrupted,
}

/// Whether a marker vouches for every one of `models`: then there is nothing to do.
pub fn marker_covers(path: &Utf8Path, lock: &Lockfile, models: &[&Model]) -> bool {
    let Ok(Some(destination)) = Destination::open(path) else { return false };
    Marker::load(&destination, lock.marker()).covers(&destination, models.iter().copied())
}

/// Whether a marker vouches for every model of the lock that these texts are together, for how many that is, and its name.
/// Cheaper than [`marker_covers`], since the models need not be parsed; `None` where only that can tell.
pub fn marker_covers_texts(path: &Utf8Path, texts: &[&str]) -> Option<(usize, String)> {
    let (name, digest) = Lockfile::peek(texts)?;
    let destination = Destination::open(path).ok()??;
    let marker = Marker::load(&destination, &name);
    let files = marker.covers_text(&destination, &digest)?;
    Some((files, name))
}

/// Does the job.
///
/// # Errors
/// Where no file could be worked on. Failures of single files are in the report: the others are done all the same.
pub async fn run(job: Job<'_>) -> Result<Report, FetchError> {
    let started = Instant::now();
    let Job { lock, models, destination: path, local, config, origin, observer, mut interrupted } = job;
    if config.dry_run {
        let run = Shown { lock, models: &models, path: &path, local: &local, config: &config };
        return tokio::task::block_in_place(|| run.show(&*observer, &interrupted, started));
    }
    let destination = Arc::new(Destination::create(&path)?);
    let guard = acquire(&destination, config.wait, &*observer, &mut interrupted).await?;
    let trusts_marker = config.verify == Verify::Marker && !config.force;
    let marker = Marker::load(&destination, lock.marker());
    if trusts_marker && marker.covers(&destination, models.iter().copied()) {
        observer.observe(&Event::MarkerValid { name: lock.marker().to_owned(), files: models.len() });
        return Ok(Report::all_present(&models, started, true));
    }
    let marker = Marker::load_or_proven(&destination, lock.marker());
    let free = destination.free_space()?;
    observer.observe(&Event::Opened { destination: path.to_string(), free });
    let cache = local.cache.as_deref().and_then(|path| open_cache(path, &*observer));
    if cache.as_ref().is_some_and(|cache| cache.place().is_same_as(&destination)) {
        return Err(FetchError::CacheIsDestination { path });
    }
    let sources = LocalSources {
        baked: local.baked.as_ref(),
        cache: cache.as_ref(),
        cache_shares_disk: cache.as_ref().is_some_and(|cache| cache.place().shares_disk_with(&destination)),
    };
    let naming = naming(&guard);
    let planner = Planner {
        destination: &destination,
        marker: &marker,
        config: &config,
        naming: &naming,
        sources,
        observer: &*observer,
        interrupted: &interrupted,
    };
    let plan = tokio::task::block_in_place(|| planner.plan(&models));
    if *interrupted.borrow() {
        return Err(FetchError::Interrupted);
    }
    let needs = announce(&plan, &models, &sources, free, &*observer);
    check_space(&needs, &destination, cache.as_ref())?;
    warn_of_pickles(&models, &*observer);
    if config.offline && config.force {
        // Nothing that is here counts, and nothing else can be had: what is here stays.
        let rest = models.iter().map(|model| (*model, model.size)).collect();
        refuse_to_fetch(rest)?;
    }
    prepare(&destination, lock.marker(), &marker, &plan, &models)?;

    let proven = |(item, model): (&Item, &&Model)| match &item.plan {
        Plan::Present(_) => marker.vouched(&destination, model).is_some(),
        _ => true,
    };
    let by_size_only = config.verify == Verify::Quick && !plan.iter().zip(&models).all(proven);
    let mut work = Work::new(&models, plan, by_size_only, &*observer);
    let bringer = Bringer {
        destination: &destination,
        naming: &naming,
        cache: cache.as_ref(),
        observer: &*observer,
        interrupted: &interrupted,
    };
    let bring = |work: &mut Work<'_>| {
        tokio::task::block_in_place(|| work.bring(&bringer, config.threads.clamp(2, 4), cache.is_some()));
    };
    bring(&mut work);
    let is_over = |work: &Work<'_>| work.missing().is_empty() || *interrupted.borrow();
    if !is_over(&work) && config.offline {
        keep_proven(&marker, &destination, lock, &work.installed, &*observer);
        refuse_to_fetch(work.missing())?;
    }
    let mut cache_guard = None;
    if let Some(cache) = cache.as_ref().filter(|_| !is_over(&work)) {
        cache_guard = match acquire(cache.place(), config.wait, &*observer, &mut interrupted.clone()).await {
            Ok(guard) => Some(guard),
            Err(FetchError::Interrupted) => return Err(FetchError::Interrupted),
            Err(error) => {
                do_without_cache(&*observer, cache.place().root().path(), &error);
                None
            }
        };
        if !config.force {
            // Whoever had the cache may have filled it with what was missing.
            work.look_in_cache(&sources);
            bring(&mut work);
        }
    }
    if !is_over(&work) {
        // What was not used after all is to be fetched, and takes room that was not counted.
        let sources = LocalSources { cache: cache.as_ref().filter(|_| cache_guard.is_some()), ..sources };
        check_space(&work.needs(&sources), &destination, sources.cache)?;
        let collector = Collector {
            destination: &destination,
            naming: &naming,
            cache: cache.as_ref().zip(cache_guard.as_ref()),
            observer: &observer,
            interrupted: &interrupted,
            force: config.force,
        };
        let wanted = tokio::task::block_in_place(|| collector.collect(&mut work, &models));
        let transfer = Transfer {
            origin,
            config: TransferConfig { offline: config.offline, ..config.transfer.clone() },
            observer: observer.clone(),
            interrupted: interrupted.clone(),
        };
        let fetched = if wanted.is_empty() { Vec::new() } else { transfer::run(transfer, wanted).await };
        for fetched in fetched {
            work.fetched(fetched);
        }
    }
    drop(cache_guard);
    if !*interrupted.borrow() {
        tokio::task::block_in_place(|| work.copy(&bringer));
    }
    warn_of_headers(&destination, &work.files, &*observer);
    let stopped = *interrupted.borrow() && work.files.iter().any(|file| matches!(file.result, Ok(None)));
    if work.is_complete() {
        if guard.is_exclusive() {
            destination.root().remove_temporaries(lock.marker())?;
        }
        if let Err(error) = marker.write(&destination, lock, &work.installed) {
            keep_proven(&marker, &destination, lock, work.proven(), &*observer);
            return Err(error.into());
        }
        observer.observe(&Event::MarkerWritten { name: lock.marker().to_owned() });
    } else {
        keep_proven(&marker, &destination, lock, work.proven(), &*observer);
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

/// Tells the plan, and returns what it needs.
fn announce(
    plan: &[Item],
    models: &[&Model],
    sources: &LocalSources<'_>,
    free: u64,
    observer: &dyn Observer,
) -> Needs {
    let needs = needs(plan, models, sources);
    let (to_fetch, needed) = (needs.to_fetch, needs.here);
    observer.observe(&Event::Planned { files: planned(plan, models), to_fetch, needed, free });
    needs
}

fn check_space(needs: &Needs, destination: &Destination, cache: Option<&Cache>) -> Result<(), StoreError> {
    let check = |needed, place: &Destination, option| {
        let (free, path) = (place.free_space()?, place.root().path().to_owned());
        if needed <= free { Ok(()) } else { Err(StoreError::NotEnoughSpace { path, needed, free, option }) }
    };
    check(needs.here + needs.journals_here, destination, "--dest")?;
    let in_cache = needs.in_cache + needs.journals_in_cache;
    cache.map_or(Ok(()), |cache| check(in_cache, cache.place(), "--cache"))
}

/// A cache saves time: without it everything is fetched.
fn do_without_cache(observer: &dyn Observer, path: &Utf8Path, why: &dyn std::fmt::Display) {
    observer.observe(&Event::Warning { message: format!("the cache {path} is not used: {why}") });
}

fn open_cache(path: &Utf8Path, observer: &dyn Observer) -> Option<Cache> {
    let opened = Cache::open(path);
    if let Err(error) = &opened {
        do_without_cache(observer, path, &error.reason());
    }
    opened.ok()
}

/// What is right need not be read again by the next run, though the set is not complete. A courtesy: it fails nothing.
fn keep_proven(
    marker: &Marker,
    destination: &Destination,
    lock: &Lockfile,
    proven: &[Installed],
    observer: &dyn Observer,
) {
    if !proven.is_empty()
        && let Err(error) = marker.write_proven(destination, lock, proven)
    {
        let message = format!("the next run will check every file again: {}", error.reason());
        observer.observe(&Event::Warning { message });
    }
}

/// Before anything changes: a marker that lists what is about to be replaced goes, durably; and installs are told which
/// symlinks they may replace.
fn prepare(
    destination: &Destination,
    name: &str,
    marker: &Marker,
    plan: &[Item],
    models: &[&Model],
) -> Result<(), StoreError> {
    let changes =
        |(item, model): (&Item, &&Model)| !matches!(item.plan, Plan::Present(_)) && marker.lists(&model.path);
    if plan.iter().zip(models).any(changes) {
        Marker::remove(destination, name)?;
    }
    plan.iter().zip(models).try_for_each(|(item, model)| {
        if let Some(target) = &item.stale_link
            && let Some(directory) = destination.parent(&model.path, false)?
        {
            directory.allow_replacing(model.path.file_name(), target);
        }
        Ok(())
    })
}

/// What is missing cannot be had without the network, unless every byte of it is there and only the proof is missing.
fn refuse_to_fetch(missing: Vec<(&Model, u64)>) -> Result<(), FetchError> {
    let missing: Vec<&str> =
        missing.into_iter().filter(|(_, rest)| *rest > 0).map(|(model, _)| model.path.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut names = missing.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    if missing.len() > 8 {
        names.push_str(", …");
    }
    Err(FetchError::Offline { count: missing.len(), names })
}

fn naming(guard: &DestinationLock) -> PartNames {
    if guard.is_exclusive() { PartNames::Shared } else { PartNames::per_process() }
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
    let mut application = LockAttempt::default();
    loop {
        let holder = match application.try_acquire(destination)? {
            Acquire::Acquired(lock) => {
                if told {
                    observer.observe(&Event::Acquired);
                }
                return Ok(lock);
            }
            Acquire::Held(holder) => holder,
        };
        // Whether somebody on another machine lives is known in a few seconds, however short the wait: else nobody who does
        // not wait would ever get a dead one's lock.
        if started.elapsed() >= wait && !application.is_watching() {
            return Err(FetchError::Busy { holder, waited: started.elapsed() });
        }
        if !told {
            observer.observe(&Event::Waiting { holder });
            told = true;
        }
        let left = if application.is_watching() { ASK } else { wait.saturating_sub(started.elapsed()) };
        tokio::select! {
            () = tokio::time::sleep(ASK.min(left)) => {}
            () = transfer::told_to_stop(interrupted) => return Err(FetchError::Interrupted),
        }
    }
}

/// One warning for all of them: a set may have hundreds, and what is said a hundred times is not read.
fn warn_of_pickles(models: &[&Model], observer: &dyn Observer) {
    const NAMED: usize = 3;
    let pickles: Vec<&str> =
        models.iter().filter(|model| model.is_pickle()).map(|model| model.path.as_str()).collect();
    if pickles.is_empty() {
        return;
    }
    let names = pickles[..pickles.len().min(NAMED)].join(", ");
    let more = pickles.len() - pickles.len().min(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!(
        "{names}{rest}: files of this kind are usually pickles, and loading a pickle runs the code in it; use safetensors if you can"
    );
    observer.observe(&Event::Warning { message });
}

/// What is new and right by the lock, and is yet no file that a loader would take: the lock may be of wrong bytes.
fn warn_of_headers(destination: &Destination, files: &[FileReport], observer: &dyn Observer) {
    let is_new = |file: &&FileReport| matches!(file.result, Ok(Some(outcome)) if outcome != Outcome::Present);
    for FileReport { path, .. } in files.iter().filter(is_new) {
        let named_so = path.extension().as_deref() == Some("safetensors");
        // What cannot be opened, such as a link to a baked file, is not ours to judge.
        if named_so
            && let Ok(Some(directory)) = destination.parent(path, false)
            && let Ok(Some((file, stamp))) = directory.open_file(path.file_name())
            && let Err(error) = safetensors::check(file, stamp.size)
        {
            let message = format!(
                "{path}: it has the SHA-256 that the lock names and is installed, but no loader will take it: {error}"
            );
            observer.observe(&Event::Warning { message });
        }
    }
}
