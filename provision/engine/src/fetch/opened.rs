//! The first state of a run: the destination is open and locked, and the marker is read. All later steps work in it,
//! with what it makes for them: the planner, the copier, the collector, the transfer, and the checks of `--offline`.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::block_in_place;

use super::downloads::{Collector, part_names};
use super::error::{FetchError, refuse_offline};
use super::job::{Job, Verify};
use super::local_copier::{LocalCopier, WrongCopy};
use super::local_sources::{LocalSources, OtherCache, open_cache};
use super::marker_steps::keep_partial;
use super::other_programs::Stores;
use super::plan::{self, Item, Planner};
use super::report::{FileReport, Report};
use super::reused_pieces::{Damaged, PieceReuse};
use super::run_state::RunState;
use super::store_directory::StoreDirectory;
use super::warnings::{warn_cache_unused, warn_without_marker};
use crate::cache::Cache;
use crate::lock_wait::{self, LockWait, Locks};
use crate::marker::Marker;
use crate::piece_lists::PieceLists;
use crate::transfer::{self, Attempt, Download, DownloadResult, Transfer, TransferConfig};
use provision_core::event::{Event, FileIndex, Outcome};
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_disk::{Destination, DestinationLock, Installed, PartFile, PartNames};

/// The destination is open and locked.
pub(super) struct Opened<'j> {
    pub(super) job: &'j Job<'j>,
    pub(super) started: Instant,
    pub(super) destination: Arc<Destination>,
    pub(super) locks: Locks,
    pub(super) part_names: PartNames,
    pub(super) marker: Marker,
    pub(super) lists: Arc<PieceLists>,
    pub(super) cache: Option<Cache>,
    cache_shares_disk: bool,
    other_cache: Option<OtherCache>,
    store_directories: Vec<StoreDirectory>,
    stores: Option<Stores<'j>>,
    /// Local copies that were wrong.
    wrong_copies: Mutex<Vec<WrongCopy>>,
    /// Bytes free at the destination.
    pub(super) free: u64,
}

impl<'j> Opened<'j> {
    /// Step 2. Breaks with a report if the marker covers every file now.
    pub(super) async fn open(
        job: &'j Job<'j>,
        started: Instant,
    ) -> Result<ControlFlow<Report, Self>, FetchError> {
        let Job { lock, models, config, observer, .. } = job;
        let destination = config.prepare(Destination::create(&job.destination)?);
        let destination = Arc::new(destination);
        let paths: Vec<_> = models.iter().map(|model| &model.path).collect();
        destination.create_folders(paths.iter().copied());
        let locks = acquire(&destination, Some(&paths), job).await?;
        // The links of files that this run leaves as they are: their entries stay in the marker.
        let marker = Marker::load_or_partial(&destination, lock.marker());
        let others = lock.models().iter().map(|model| &model.path).chain(marker.all_paths());
        destination.note_links(others)?;
        destination.freeze_links();
        destination.verify_distinct(paths)?;
        let lists = job.piece_lists(Some(destination.clone()));
        let trusts_marker = config.verify == Verify::Marker && !config.force && !marker.is_partial();
        if trusts_marker && marker.covers(&destination, models.iter().copied()) {
            block_in_place(|| lists.keep(models.iter().copied()));
            observer.observe(&Event::MarkerValid { name: lock.marker().to_owned(), files: models.len() });
            return Ok(ControlFlow::Break(Report::all_present(models, started, true)));
        }
        let free = destination.free_space()?;
        observer.observe(&Event::Opened { destination: job.destination.to_string(), free });
        let cache = job.local.cache.as_deref().and_then(|path| open_cache(path, &**observer));
        if cache.as_ref().is_some_and(|cache| cache.place().is_same_as(&destination)) {
            return Err(FetchError::CacheIsDestination { path: job.destination.clone() });
        }
        let cache_shares_disk =
            cache.as_ref().is_some_and(|cache| cache.place().shares_disk_with(&destination));
        let other_cache = OtherCache::open(&job.local, Some(&destination), cache.as_ref());
        let part_names = part_names(locks.is_exclusive());
        let stores = job.stores(Some(destination.clone()));
        let opened = Self {
            job,
            started,
            destination,
            locks,
            part_names,
            marker,
            lists,
            cache,
            cache_shares_disk,
            other_cache,
            store_directories: job.store_directories(),
            stores,
            wrong_copies: Mutex::default(),
            free,
        };
        Ok(ControlFlow::Continue(opened))
    }

    /// The failures of the stores that are directories, for a model that they had with other bytes.
    fn failed_store_directories(&self, model: &Model) -> Vec<Attempt> {
        self.store_directories.iter().filter_map(|store_directory| store_directory.failure(model)).collect()
    }

    pub(super) fn sources(&self) -> LocalSources<'_> {
        LocalSources {
            baked: self.job.local.baked.as_ref(),
            cache: self.cache.as_ref(),
            cache_shares_disk: self.cache_shares_disk,
            other_cache: self.other_cache.as_ref(),
            store_directories: &self.store_directories,
            stores: self.stores.as_ref(),
        }
    }

    pub(super) fn planner(&self) -> Planner<'_> {
        Planner {
            destination: &self.destination,
            marker: &self.marker,
            lists: &self.lists,
            config: &self.job.config,
            part_names: &self.part_names,
            sources: self.sources(),
            observer: &*self.job.observer,
            interrupted: &self.job.interrupted,
        }
    }

    pub(super) fn copier(&self) -> LocalCopier<'_> {
        LocalCopier {
            destination: &self.destination,
            part_names: &self.part_names,
            cache: self.cache.as_ref(),
            other_cache: self.other_cache.as_ref().map(OtherCache::cache),
            store_directories: &self.store_directories,
            stores: self.stores.as_ref(),
            lists: &self.lists,
            wrong: &self.wrong_copies,
            at_once: 1,
            observer: &*self.job.observer,
            interrupted: &self.job.interrupted,
        }
    }

    /// The local copies that were wrong, since the last call.
    fn take_wrong_copies(&self) -> Vec<WrongCopy> {
        std::mem::take(&mut *self.wrong_copies())
    }

    fn wrong_copies(&self) -> MutexGuard<'_, Vec<WrongCopy>> {
        self.wrong_copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collector of the run's downloads. `cache` is the cache with its lock, if the run uses it.
    pub(super) fn collector<'a>(&'a self, cache: Option<(&'a Cache, &'a DestinationLock)>) -> Collector<'a> {
        Collector {
            destination: &self.destination,
            part_names: &self.part_names,
            cache,
            observer: &self.job.observer,
            interrupted: &self.job.interrupted,
            lists: &self.lists,
            stores: &self.job.stores,
            force: self.job.config.force,
        }
    }

    /// Transfers `downloads`. A failure names the failed stores that are directories first.
    pub(super) async fn transfer(&self, downloads: Vec<Download>) -> Vec<DownloadResult> {
        if downloads.is_empty() {
            return Vec::new();
        }
        let job = self.job;
        let transfer = Transfer {
            origin: job.origin.clone(),
            config: TransferConfig {
                offline: job.config.offline,
                lists: self.lists.makes().then(|| self.lists.clone()),
                ..job.config.transfer.clone()
            },
            stores: job.stores.iter().map(ToString::to_string).collect(),
            observer: job.observer.clone(),
            interrupted: job.interrupted.clone(),
        };
        let mut results = transfer::run(transfer, downloads).await;
        for result in &mut results {
            if let Err(error) = &mut result.result {
                let failed = self.failed_store_directories(job.models[result.index]);
                error.attempts.splice(0..0, failed);
            }
        }
        results
    }

    /// Estimates the bytes of missing files that other files of this machine have.
    pub(super) fn estimate_reuse(&self, plan: &mut [Item]) {
        let wanted: Vec<FileIndex> = plan::to_fetch(plan).collect();
        let models = &self.job.models;
        if !self.job.config.force && wanted.iter().any(|index| models[*index].pieces.is_some()) {
            self.piece_reuse(wanted.into_iter()).estimate(plan);
        }
    }

    /// Copies the pieces of `downloads` that other files of this machine have.
    pub(super) fn reuse_pieces(&self, files: &mut RunState<'_>, downloads: &mut Vec<Download>) {
        let damaged = Damaged { copies: self.take_wrong_copies(), wrong: files.take_wrong() };
        if self.job.config.force || downloads.iter().all(|download| download.pieces.is_none()) {
            return;
        }
        let reuse = self.piece_reuse(downloads.iter().map(|download| download.index));
        files.record_reused(reuse.fill(downloads, damaged));
        downloads.retain(|download| files.files[download.index].result.is_ok());
    }

    /// The reuse of pieces for the files of the run that lack some: `wanted` are their numbers.
    fn piece_reuse(&self, wanted: impl Iterator<Item = FileIndex>) -> PieceReuse<'_> {
        let files = (Some(&*self.destination), &self.marker);
        PieceReuse::of(self.job, files, (self.sources(), &self.lists), wanted)
    }

    /// Refuses an offline run with `force`: one discards the files that are here, the other forbids new ones.
    pub(super) fn check_offline_force(&self) -> Result<(), FetchError> {
        let Job { config, models, .. } = self.job;
        if !config.offline || !config.force {
            return Ok(());
        }
        let missing: Vec<_> = models.iter().map(|model| (*model, model.size)).collect();
        refuse_offline(&missing)
    }

    /// Refuses an offline run whose parts lack bytes.
    pub(super) fn check_offline_downloads(
        &self,
        files: &RunState<'_>,
        downloads: &[Download],
    ) -> Result<(), FetchError> {
        if !self.job.config.offline || self.job.is_interrupted() {
            return Ok(());
        }
        let rest = |it: &Download| it.model.size - it.part.as_ref().map_or(0, PartFile::held);
        let missing: Vec<_> = downloads.iter().map(|it| (self.job.models[it.index], rest(it))).collect();
        refuse_offline(&missing).inspect_err(|_| self.keep_partial(&files.installed))
    }

    /// Refuses an offline run that lacks files which this machine cannot have by their pieces.
    pub(super) fn check_offline(&self, files: &RunState<'_>) -> Result<(), FetchError> {
        if !self.job.config.offline || self.is_over(files) {
            return Ok(());
        }
        let missing = files.missing();
        // The pieces of a file with a list may all be here.
        let has_no_list = |model: &Model| block_in_place(|| self.lists.of(model)).is_none();
        if missing.iter().any(|(model, rest)| *rest > 0 && has_no_list(model)) {
            self.keep_partial(&files.installed);
            self.lists.warn();
            refuse_offline(&missing)?;
        }
        Ok(())
    }

    /// Writes the marker of a complete set.
    pub(super) fn write_marker(&self, files: &RunState<'_>, has_lists: bool) -> Result<(), FetchError> {
        let Self { job, destination, .. } = self;
        let name = job.lock.marker();
        if self.locks.main.is_exclusive() {
            destination.root().remove_temporaries(name)?;
        }
        let is_present = |file: &FileReport| matches!(file.result, Ok(Some(Outcome::Present)));
        match self.marker.write(destination, job.lock, &files.installed, has_lists) {
            Ok(()) => job.observer.observe(&Event::MarkerWritten { name: name.to_owned() }),
            // Another user's marker in a sticky directory. The refusal is the marker's only if every file is in place.
            Err(why)
                if why.forbids_writing()
                    && files.files.iter().all(is_present)
                    && destination.verify_in_place(&files.installed).is_ok() =>
            {
                warn_without_marker(&why, &*job.observer);
            }
            Err(error) => {
                self.keep_partial(files.verified());
                return Err(error.into());
            }
        }
        Ok(())
    }

    pub(super) fn keep_partial(&self, verified: &[Installed]) {
        keep_partial(&self.marker, &self.destination, self.job.lock, verified, &*self.job.observer);
    }

    /// Keeps the piece lists of the files that are installed. True if every model of the lock has its list there.
    pub(super) fn keep_lists(&self, files: &RunState<'_>) -> bool {
        let is_there =
            |(model, file): (&&'j Model, &FileReport)| matches!(file.result, Ok(Some(_))).then_some(*model);
        let is_kept = block_in_place(|| {
            self.lists.keep(self.job.models.iter().zip(&files.files).filter_map(is_there));
            self.job.lock.models().iter().all(|model| self.lists.keeps(model))
        });
        self.lists.warn();
        is_kept
    }

    /// Removes the kept lists of files that no marker knows.
    pub(super) fn prune_lists(&self) {
        if !self.locks.main.is_exclusive() {
            return;
        }
        let known = || {
            let markers = Marker::all(&self.destination)?;
            Ok(markers.iter().flat_map(|(_, marker)| marker.digests()).map(|(_, sha256)| sha256).collect())
        };
        // A list that stays only takes space.
        let _ = self.lists.prune(known);
    }

    /// True if nothing is left to download, or the run has to stop.
    pub(super) fn is_over(&self, files: &RunState<'_>) -> bool {
        files.missing().is_empty() || self.job.is_interrupted()
    }

    /// Takes the cache's lock if files are missing. The run before may have filled the cache, so it is looked up again.
    pub(super) async fn lock_cache(
        &self,
        files: &mut RunState<'_>,
    ) -> Result<Option<DestinationLock>, FetchError> {
        let Some(cache) = self.cache.as_ref().filter(|_| !self.is_over(files)) else { return Ok(None) };
        let guard = match acquire(cache.place(), None, self.job).await {
            Ok(locks) => Some(locks.main),
            Err(FetchError::Interrupted) => return Err(FetchError::Interrupted),
            Err(error) => {
                warn_cache_unused(&*self.job.observer, cache.place().root().path(), &error);
                None
            }
        };
        if !self.job.config.force {
            files.recheck_cache(&self.sources(), &self.wrong_copies());
            self.fill(files);
        }
        Ok(guard)
    }

    pub(super) fn fill(&self, files: &mut RunState<'_>) {
        let threads = self.job.config.threads.clamp(2, 4);
        block_in_place(|| files.fill_locally(&self.copier(), threads, self.cache.is_some()));
    }
}

/// Waits for the lock of the destination or the cache, as long as the job allows.
async fn acquire(
    destination: &Destination,
    paths: Option<&[&ModelPath]>,
    job: &Job<'_>,
) -> Result<Locks, FetchError> {
    let mut interrupted = job.interrupted.clone();
    match lock_wait::lock(destination, paths, job.config.wait, &*job.observer, &mut interrupted).await? {
        LockWait::Acquired(locks) => Ok(locks),
        LockWait::TimedOut { holder, waited } => Err(FetchError::Busy { holder, waited }),
        LockWait::Stopped => Err(FetchError::Interrupted),
    }
}
