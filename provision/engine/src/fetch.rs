//! A whole run: from a lock to installed, verified files and a marker.
//!
//! 1. [`marker_covers`]: if the marker lists every file and none has changed, the run ends without a lock or a socket.
//! 2. `Opened::open` takes the destination's lock. Another run may have done the work meanwhile, so the marker is read
//!    again.
//! 3. `Opened::plan` decides for each file: present, on this machine, resumable or missing. A file that the marker does
//!    not list is hashed. Piece lists of missing files are fetched, before their parts are opened.
//! 4. `Planned::check` compares the space that the plan needs with the free space, before the first byte.
//! 5. `Planned::fill_locally` removes the marker, durably, if a listed file changes. Then it installs the files that
//!    the baked directory, the cache and other programs' stores have.
//! 6. `FilledLocally::download` copies the pieces of missing files that other files of this machine have, and transfers
//!    the rest, into the cache if there is one, under the cache's lock. Then it copies files with equal bytes.
//! 7. `Downloaded::finish` keeps the piece lists of the installed files. It writes the marker, last, and only if every
//!    file of the run is right.
//!
//! Each step consumes the state before it, so no step can run twice or out of order. `provision ensure`, which starts a
//! container, is the same run with a baked directory.

mod downloads;
mod dry_run;
mod error;
mod job;
mod known_files;
mod local_copier;
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
use crate::transfer::Download;
use provision_core::lockfile::Model;

pub use error::FetchError;
pub use job::{FetchConfig, Job, Verify};
use local_sources::LocalSources;
pub use local_sources::{Baked, BakedMode, Local};
use marker_steps::{invalidate, presence_is_verified};
pub use marker_steps::{marker_covers, marker_covers_texts};
use opened::Opened;
pub use other_programs::{Reuse, ReuseMode, Store};
use plan::{Finding, Item};
use provision_disk::DestinationLock;
pub use provision_disk::{Folders, FollowLinks};
pub use report::{FileReport, Report};
use run_state::RunState;
use space::{Needs, check_space};
use warnings::{warn_of_headers, warn_of_pickles};

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
        Err(FetchError::Disk(why)) if why.forbids_writing() => {
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
        block_in_place(|| self.opened.estimate_reuse(&mut self.plan));
        let Opened { job, destination, cache, free, .. } = &self.opened;
        let needs = Needs::of(&self.plan, &job.models, &self.opened.sources(), Some(destination));
        plan::announce(&self.plan, &job.models, (needs.to_fetch, needs.here), *free, &*job.observer);
        check_space(&needs, destination, cache.as_ref())?;
        warn_of_pickles(&job.models, &*job.observer);
        self.opened.check_offline_force()?;
        Ok(self)
    }

    fn fill_locally(self) -> Result<FilledLocally<'j>, FetchError> {
        let Self { opened, plan } = self;
        let Opened { job, destination, marker, .. } = &opened;
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
        opened.check_offline(&files)?;
        Ok(FilledLocally { opened, files })
    }
}

impl<'j> FilledLocally<'j> {
    async fn download(mut self) -> Result<Downloaded<'j>, FetchError> {
        let cache_guard = self.opened.lock_cache(&mut self.files).await?;
        if !self.opened.is_over(&self.files) {
            let downloads = self.collect(cache_guard.as_ref()).await?;
            for result in self.opened.transfer(downloads).await {
                self.files.record_download(result);
            }
        }
        drop(cache_guard);
        let Self { opened, mut files } = self;
        if !opened.job.is_interrupted() {
            block_in_place(|| files.copy_duplicates(&opened.copier()));
        }
        Ok(Downloaded { opened, files })
    }

    /// The downloads of the missing files, whose parts have the pieces that are on this machine.
    async fn collect(&mut self, guard: Option<&DestinationLock>) -> Result<Vec<Download>, FetchError> {
        let job = self.opened.job;
        let cache = self.opened.cache.as_ref().zip(guard);
        // A local copy that failed, or a cache that is not used, changes the needs: they are checked again.
        let sources = LocalSources { cache: cache.map(|(cache, _)| cache), ..self.opened.sources() };
        let needs = self.files.needs(&sources, &self.opened.destination);
        check_space(&needs, &self.opened.destination, sources.cache)?;
        // Their local copies were wrong, or another run has removed them.
        let missing: Vec<_> = self.files.missing().into_iter().map(|(model, _)| model).collect();
        self.opened.lists.fetch(&missing).await;
        let collector = self.opened.collector(cache);
        let mut downloads = block_in_place(|| collector.collect(&mut self.files, &job.models));
        block_in_place(|| self.opened.reuse_pieces(&mut self.files, &mut downloads));
        self.opened.check_offline_downloads(&self.files, &downloads)?;
        Ok(downloads)
    }
}

impl Downloaded<'_> {
    fn finish(self) -> Result<Report, FetchError> {
        let Self { opened, files } = self;
        let job = opened.job;
        warn_of_headers(&opened.destination, &files.files, &*job.observer);
        let was_stopped = job.is_interrupted();
        // Before the marker: no later run looks for them if it covers the lock's text.
        let has_lists = opened.keep_lists(&files);
        if files.is_complete() {
            opened.write_marker(&files, has_lists)?;
            block_in_place(|| opened.prune_lists());
        } else {
            opened.keep_partial(files.verified());
        }
        Ok(files.into_report(opened.started, opened.free, was_stopped))
    }
}
