//! A whole run: from a lock to installed, verified files and a marker.
//!
//! 1. [`marker_covers`]: if the marker lists every file and none has changed, the run ends without a lock or a socket.
//! 2. `Opened::open` takes the destination's lock. Another run may have done the work meanwhile, so the marker is read
//!    again.
//! 3. `Opened::plan` decides for each file: present, on this machine, resumable or missing. A file that the marker does
//!    not list is hashed. Piece lists of missing files are fetched, before their parts are opened.
//! 4. `Planned::check` compares the space that the plan needs with the free space, before the first byte.
//! 5. `Planned::fill_locally` removes the marker, durably, if a listed file changes. Then it installs what the baked
//!    directory, the cache and other programs' stores have.
//! 6. `FilledLocally::download` copies the pieces of missing files that other files of this machine have, and transfers
//!    the rest, into the cache if there is one, under the cache's lock. Then it copies files with equal bytes.
//! 7. `Downloaded::finish` keeps the piece lists of what is installed. It writes the marker, last, and only if every
//!    file of the run is right.
//!
//! Each step consumes the state before it, so no step can run twice or out of order. `provision ensure`, which starts a
//! container, is the same run with a baked directory.

mod downloads;
mod dry_run;
mod error;
mod job;
mod known_files;
mod local_sources;
mod marker_steps;
mod opened;
mod other_programs;
mod plan;
mod report;
mod reused_pieces;
mod run_state;
mod space;
mod store_directory;
mod warnings;

use std::ops::ControlFlow;
use std::time::Instant;

use tokio::task::block_in_place;

use crate::marker::Marker;
use crate::transfer::{self, Download, Transfer, TransferConfig};
use provision_core::event::{Event, FileIndex};
use provision_core::lockfile::Model;

use downloads::Collector;
pub use error::FetchError;
use error::refuse_offline;
pub use job::{FetchConfig, Job, Verify};
use local_sources::LocalSources;
pub use local_sources::{Baked, BakedMode, Local};
use marker_steps::{invalidate, presence_is_verified};
pub use marker_steps::{marker_covers, marker_covers_texts};
use opened::Opened;
pub use other_programs::{Reuse, ReuseMode, Store};
use plan::{Finding, Item};
use provision_disk::PartFile;
pub use provision_disk::{Folders, FollowLinks};
pub use report::{FileReport, Report};
use reused_pieces::Damaged;
use run_state::RunState;
use space::{Needs, check_space};
use warnings::{warn_of_headers, warn_of_pickles, warn_without_marker};

/// Runs the job.
///
/// # Errors
/// The run cannot start or continue. Failures of single files are in the report, and do not stop the other files.
pub async fn run(job: Job<'_>) -> Result<Report, FetchError> {
    let started = Instant::now();
    if job.config.dry_run {
        return block_in_place(|| dry_run::report(&job, started));
    }
    let opened = match Opened::open(&job, started).await {
        Ok(ControlFlow::Continue(opened)) => opened,
        Ok(ControlFlow::Break(report)) => return Ok(report),
        Err(FetchError::Store(why)) if why.forbids_writing() => {
            return block_in_place(|| dry_run::without_writing(&job, started, why));
        }
        Err(error) => return Err(error),
    };
    opened.plan().await?.check()?.fill_locally()?.download().await?.finish()
}

/// Each file has a plan; nothing has changed yet.
struct Planned<'j> {
    opened: Opened<'j>,
    plan: Vec<Item>,
}

/// The files that this machine had are installed.
struct FilledLocally<'j> {
    opened: Opened<'j>,
    files: RunState<'j>,
}

/// Each file is installed, has failed, or is not done because the run was stopped.
struct Downloaded<'j> {
    opened: Opened<'j>,
    files: RunState<'j>,
}

impl<'j> Opened<'j> {
    async fn plan(self) -> Result<Planned<'j>, FetchError> {
        let models = &self.job.models;
        let findings = block_in_place(|| self.planner().examine(models));
        let is_to_fetch = |(model, finding): (&&'j Model, &Finding)| finding.is_to_fetch().then_some(*model);
        let to_fetch: Vec<_> = models.iter().zip(&findings).filter_map(is_to_fetch).collect();
        self.lists.fetch(&to_fetch).await;
        let plan = block_in_place(|| self.planner().plan(models, findings));
        if self.job.is_interrupted() {
            return Err(FetchError::Interrupted);
        }
        Ok(Planned { opened: self, plan })
    }
}

impl<'j> Planned<'j> {
    fn check(mut self) -> Result<Self, FetchError> {
        block_in_place(|| self.find_pieces());
        let Opened { job, destination, cache, free, .. } = &self.opened;
        let needs = Needs::of(&self.plan, &job.models, &self.opened.sources(), Some(destination));
        plan::announce(&self.plan, &job.models, (needs.to_fetch, needs.here), *free, &*job.observer);
        check_space(&needs, destination, cache.as_ref())?;
        warn_of_pickles(&job.models, &*job.observer);
        if job.config.offline && job.config.force {
            // `force` discards the files that are here, and `offline` forbids new ones: leave them as they are.
            let missing: Vec<_> = job.models.iter().map(|model| (*model, model.size)).collect();
            refuse_offline(&missing)?;
        }
        Ok(self)
    }

    /// Finds out how much of the missing files other files of this machine have.
    fn find_pieces(&mut self) {
        let wanted: Vec<FileIndex> = plan::to_fetch(&self.plan).collect();
        let models = &self.opened.job.models;
        if !self.opened.job.config.force && wanted.iter().any(|index| models[*index].pieces.is_some()) {
            self.opened.piece_reuse(wanted.into_iter()).estimate(&mut self.plan);
        }
    }

    fn fill_locally(self) -> Result<FilledLocally<'j>, FetchError> {
        let Self { opened, plan } = self;
        let job = opened.job;
        let Opened { destination, marker, .. } = &opened;
        invalidate(marker, destination, job.lock.marker(), &plan, &job.models)?;
        plan::allow_replacing_links(&plan, &job.models, destination)?;
        let by_size_only = job.config.verify == Verify::Quick
            && !presence_is_verified(marker, destination, &plan, &job.models);
        let mut files = RunState::new(&job.models, plan, by_size_only, &*job.observer);
        let shared = files.shared();
        if !shared.is_empty() {
            // Such a file keeps the mtime that its owner gave it. Another lock's marker must not take it for the file
            // that was there.
            Marker::remove_those_of(destination, &shared)?;
        }
        opened.fill(&mut files);
        let filled = FilledLocally { opened, files };
        // The pieces of a file with a list may all be here.
        let missing = filled.files.missing();
        let has_no_list = |model: &Model| block_in_place(|| filled.opened.lists.of(model)).is_none();
        let is_nowhere = || missing.iter().any(|(model, rest)| *rest > 0 && has_no_list(model));
        if job.config.offline && !filled.opened.is_over(&filled.files) && is_nowhere() {
            filled.opened.keep_partial(&filled.files.installed);
            filled.opened.lists.warn();
            refuse_offline(&missing)?;
        }
        Ok(filled)
    }
}

impl<'j> FilledLocally<'j> {
    async fn download(mut self) -> Result<Downloaded<'j>, FetchError> {
        let cache_guard = self.opened.lock_cache(&mut self.files).await?;
        if !self.opened.is_over(&self.files) {
            let job = self.opened.job;
            let cache = self.opened.cache.as_ref().filter(|_| cache_guard.is_some());
            // A local copy that failed, or a cache that is not used, changes the needs: they are checked again.
            let sources = LocalSources { cache, ..self.opened.sources() };
            check_space(
                &self.files.needs(&sources, &self.opened.destination),
                &self.opened.destination,
                cache,
            )?;
            // Their local copies were wrong, or another run has removed them.
            let missing: Vec<_> = self.files.missing().into_iter().map(|(model, _)| model).collect();
            self.opened.lists.fetch(&missing).await;
            let collector = Collector {
                destination: &self.opened.destination,
                part_names: &self.opened.part_names,
                cache: cache.zip(cache_guard.as_ref()),
                observer: &job.observer,
                interrupted: &job.interrupted,
                lists: &self.opened.lists,
                stores: &job.stores,
                force: job.config.force,
            };
            let mut downloads = block_in_place(|| collector.collect(&mut self.files, &job.models));
            block_in_place(|| self.reuse_pieces(&mut downloads));
            if job.config.offline && !job.is_interrupted() {
                let rest = |it: &Download| it.model.size - it.part.as_ref().map_or(0, PartFile::held);
                let missing: Vec<_> = downloads.iter().map(|it| (job.models[it.index], rest(it))).collect();
                refuse_offline(&missing).inspect_err(|_| self.opened.keep_partial(&self.files.installed))?;
            }
            let transfer = Transfer {
                origin: job.origin.clone(),
                config: TransferConfig {
                    offline: job.config.offline,
                    lists: self.opened.lists.makes().then(|| self.opened.lists.clone()),
                    ..job.config.transfer.clone()
                },
                stores: job.stores.iter().map(ToString::to_string).collect(),
                observer: job.observer.clone(),
                interrupted: job.interrupted.clone(),
            };
            if !downloads.is_empty() {
                for mut result in transfer::run(transfer, downloads).await {
                    if let Err(error) = &mut result.result {
                        let failed = self.opened.failed_store_directories(job.models[result.index]);
                        error.attempts.splice(0..0, failed);
                    }
                    self.files.record_download(result);
                }
            }
        }
        drop(cache_guard);
        let Self { opened, mut files } = self;
        if !opened.job.is_interrupted() {
            block_in_place(|| files.copy_duplicates(&opened.copier()));
        }
        Ok(Downloaded { opened, files })
    }
}

impl FilledLocally<'_> {
    /// Copies the pieces of `downloads` that other files of this machine have.
    fn reuse_pieces(&mut self, downloads: &mut Vec<Download>) {
        let Self { opened, files } = self;
        let damaged = Damaged { copies: opened.take_wrong_copies(), wrong: files.take_wrong() };
        if opened.job.config.force || downloads.iter().all(|download| download.pieces.is_none()) {
            return;
        }
        let reuse = opened.piece_reuse(downloads.iter().map(|download| download.index));
        files.record_reused(reuse.fill(downloads, damaged));
        downloads.retain(|download| files.files[download.index].result.is_ok());
    }
}

impl Downloaded<'_> {
    fn finish(self) -> Result<Report, FetchError> {
        let Self { opened, files } = self;
        let Opened { job, destination, locks, marker, .. } = &opened;
        warn_of_headers(destination, &files.files, &*job.observer);
        let is_unfinished = files.files.iter().any(|file| matches!(file.result, Ok(None)));
        let interrupted = job.is_interrupted() && is_unfinished;
        // Before the marker: no later run looks for them if it covers the lock's text.
        let has_lists = opened.keep_lists(&files);
        if files.is_complete() {
            if locks.main.is_exclusive() {
                destination.root().remove_temporaries(job.lock.marker())?;
            }
            match marker.write(destination, job.lock, &files.installed, has_lists) {
                Ok(()) => job.observer.observe(&Event::MarkerWritten { name: job.lock.marker().to_owned() }),
                // Another user's marker in a sticky directory. The refusal is the marker's only if every file is in
                // place.
                Err(why)
                    if why.forbids_writing()
                        && files.files.iter().all(|file| {
                            matches!(file.result, Ok(Some(provision_core::event::Outcome::Present)))
                        })
                        && destination.verify_in_place(&files.installed).is_ok() =>
                {
                    warn_without_marker(&why, &*job.observer);
                }
                Err(error) => {
                    opened.keep_partial(files.verified());
                    return Err(error.into());
                }
            }
            block_in_place(|| opened.prune_lists());
        } else {
            opened.keep_partial(files.verified());
        }
        Ok(Report {
            files: files.files,
            elapsed: opened.started.elapsed(),
            plan: files.plan,
            free: opened.free,
            by_marker: false,
            interrupted,
        })
    }
}
