//! The state of each file in a run, from its plan to its result.

use std::collections::HashMap;
use std::time::Instant;

use super::local_copier::{CopyOutcome, LocalCopier, WrongCopy};
use super::local_sources::{Candidate, LocalSources};
use super::plan::{Item, Plan, planned};
use super::report::{FileReport, Report};
use super::reused_pieces::Reused;
use super::space::Needs;
use crate::transfer::{DownloadResult, FileError};
use crate::work_queue;
use provision_core::byte_range::ByteRange;
use provision_core::event::{Event, FileIndex, Observer, Outcome, PlannedFile};
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_disk::{Destination, Installed, PartFile, SourceFile};

/// The state of each file in a run.
pub(super) struct RunState<'a> {
    models: &'a [&'a Model],
    observer: &'a dyn Observer,
    items: Vec<Item>,
    pub(super) plan: Vec<PlannedFile>,
    pub(super) files: Vec<FileReport>,
    pub(super) installed: Vec<Installed>,
    /// Some files were checked by size only. A marker must not list them.
    unverified: bool,
}

/// A file to download.
pub(super) struct Missing {
    pub(super) index: FileIndex,
    pub(super) part: Option<Box<PartFile>>,
    /// Its part lies in the cache.
    pub(super) to_cache: bool,
}

impl<'a> RunState<'a> {
    pub(super) fn new(
        models: &'a [&'a Model],
        items: Vec<Item>,
        unverified: bool,
        observer: &'a dyn Observer,
    ) -> Self {
        let plan = planned(&items, models);
        let files = models.iter().map(|model| FileReport::of(model, Ok(None))).collect();
        let mut run = Self { models, observer, items, plan, files, installed: Vec::new(), unverified };
        for index in 0..run.items.len() {
            match std::mem::replace(&mut run.items[index].plan, Plan::WouldFetch(0)) {
                Plan::Present(installed) => run.record_installed(index, installed, Outcome::Present),
                Plan::Failed(error) => run.record_failure(index, FileError::of_disk(error)),
                plan => run.items[index].plan = plan,
            }
        }
        run
    }

    fn record_installed(&mut self, index: FileIndex, installed: Installed, outcome: Outcome) {
        (self.files[index].result, self.files[index].verified_by) =
            (Ok(Some(outcome)), installed.verified_by);
        self.installed.push(installed);
    }

    fn record_failure(&mut self, index: FileIndex, error: FileError) {
        self.observer.observe(&Event::Failed { file: index, reason: error.reason() });
        self.files[index].result = Err(error);
    }

    /// Installs the files that this machine has, several at once. A file that no candidate has becomes a download.
    pub(super) fn fill_locally(&mut self, copier: &LocalCopier<'_>, threads: usize, to_cache: bool) {
        let local = self.items.iter_mut().enumerate().filter_map(|(index, item)| match &mut item.plan {
            Plan::Local(candidates) => Some((index, std::mem::take(candidates))),
            _ => None,
        });
        let local: Vec<(FileIndex, Vec<Candidate>)> = local.collect();
        let models = self.models;
        let long = work_queue::long(local.iter().map(|(index, _)| models[*index].size));
        let copier = LocalCopier { at_once: threads.min(long), ..*copier };
        let results = work_queue::each(
            &local,
            |(index, _)| models[*index].size,
            threads,
            |(index, candidates)| copier.copy_in(*index, models[*index], candidates),
        );
        for ((index, _), result) in local.into_iter().zip(results) {
            self.items[index].plan = if to_cache { Plan::FetchToCache(0) } else { Plan::Fetch(None) };
            self.record_copy(index, result);
        }
    }

    fn record_copy(&mut self, index: FileIndex, result: CopyOutcome) {
        match result {
            CopyOutcome::Installed(installed, outcome) => self.record_installed(index, installed, outcome),
            CopyOutcome::Reused(installed, path, store) => {
                self.files[index].source = Some(path.into_string());
                self.files[index].store = Some(store);
                self.record_installed(index, installed, Outcome::Reused);
            }
            CopyOutcome::Failed(error) => self.record_failure(index, FileError::of_disk(error)),
            CopyOutcome::Nowhere(part, copied) => {
                self.files[index].reused = copied;
                if part.is_some() {
                    self.items[index].plan = Plan::Fetch(part);
                }
            }
            CopyOutcome::Interrupted => {}
        }
    }

    /// The paths of the files that may become one file with another program's.
    pub(super) fn shared(&self) -> Vec<&'a ModelPath> {
        let is_shared = |item: &Item| match &item.plan {
            Plan::Local(candidates) => candidates.iter().any(Candidate::is_shared),
            _ => false,
        };
        let models = self.models.iter().zip(&self.items);
        models.filter(|(_, item)| is_shared(item)).map(|(model, _)| &model.path).collect()
    }

    /// Looks up the missing files in the cache again: another run may have added them since the plan was made.
    pub(super) fn recheck_cache(&mut self, sources: &LocalSources<'_>, wrong: &[WrongCopy]) {
        for (index, item) in self.items.iter_mut().enumerate() {
            let is_wrong = |file: &SourceFile| {
                let known = wrong.iter().map(|wrong| wrong.file.identity());
                known
                    .chain(item.wrong.as_ref().map(|wrong| wrong.identity))
                    .any(|known| known == file.identity())
            };
            if matches!(item.plan, Plan::FetchToCache(_))
                && matches!(self.files[index].result, Ok(None))
                && let Some(candidate) = sources.cached(self.models[index], is_wrong)
            {
                item.plan = Plan::Local(vec![candidate]);
            }
        }
    }

    fn is_missing(&self, index: FileIndex) -> bool {
        matches!(self.files[index].result, Ok(None))
            && matches!(self.items[index].plan, Plan::Fetch(_) | Plan::FetchToCache(_))
    }

    /// The models that are still missing, with their number of missing bytes.
    pub(super) fn missing(&self) -> Vec<(&'a Model, u64)> {
        let rest = |index: usize| {
            (self.models[index], self.models[index].size - self.items[index].held(self.models[index].size))
        };
        (0..self.items.len()).filter(|index| self.is_missing(*index)).map(rest).collect()
    }

    /// The space and bytes that the missing files need.
    pub(super) fn needs(&self, sources: &LocalSources<'_>, destination: &Destination) -> Needs {
        let mut needs = Needs::default();
        for index in (0..self.items.len()).filter(|index| self.is_missing(*index)) {
            needs.add(&self.items[index], self.models[index], sources, Some(destination));
        }
        needs
    }

    /// The installed files, unless some were checked by size only.
    pub(super) fn verified(&self) -> &[Installed] {
        if self.unverified { &[] } else { &self.installed }
    }

    /// Takes the missing files out of the plan, with their parts.
    pub(super) fn take_missing(&mut self) -> Vec<Missing> {
        let missing: Vec<_> = (0..self.items.len()).filter(|index| self.is_missing(*index)).collect();
        let mut take =
            |index: FileIndex| match std::mem::replace(&mut self.items[index].plan, Plan::WouldFetch(0)) {
                Plan::Fetch(part) => Missing { index, part, to_cache: false },
                _ => Missing { index, part: None, to_cache: true },
            };
        missing.into_iter().map(&mut take).collect()
    }

    /// The wrong ranges of the files in place that the plan has read.
    pub(super) fn take_wrong(&mut self) -> HashMap<FileIndex, Vec<ByteRange>> {
        let wrong = |(index, item): (usize, &mut Item)| Some((index, item.wrong.take()?.ranges?));
        self.items.iter_mut().enumerate().filter_map(wrong).collect()
    }

    /// Records the bytes that other files of this machine had. A file whose disk failed is given up.
    pub(super) fn record_reused(&mut self, reused: Vec<(FileIndex, Reused)>) {
        for (index, Reused { bytes, error }) in reused {
            self.files[index].reused += bytes;
            if let Some(error) = error {
                self.record_failure(index, FileError::of_disk(error));
            }
        }
    }

    pub(super) fn record_download(&mut self, download: DownloadResult) {
        let file = &mut self.files[download.index];
        file.source = Some(download.source.to_string());
        file.sources = download.sources;
        (file.fetched, file.elapsed) = (download.fetched, download.elapsed);
        // The transfer finds them in the part.
        file.resumed = download.resumed.saturating_sub(file.reused);
        (file.connections, file.retries) = (download.connections, download.retries);
        file.dropped = download.dropped;
        match download.result {
            Ok(Some(installed)) => self.record_installed(download.index, installed, Outcome::Fetched),
            Ok(None) => {}
            Err(error) => file.result = Err(error),
        }
    }

    /// The report of the run.
    pub(super) fn into_report(self, started: Instant, free: u64, was_stopped: bool) -> Report {
        let is_unfinished = self.files.iter().any(|file| matches!(file.result, Ok(None)));
        Report {
            files: self.files,
            elapsed: started.elapsed(),
            plan: self.plan,
            free,
            by_marker: false,
            interrupted: was_stopped && is_unfinished,
        }
    }

    /// Copies the files whose bytes another file of the run has.
    pub(super) fn copy_duplicates(&mut self, copier: &LocalCopier<'_>) {
        for index in 0..self.items.len() {
            let Plan::CopyOf(other) = self.items[index].plan else { continue };
            match &self.files[other].result {
                Ok(Some(_)) => {
                    let result = copier.copy_duplicate(index, self.models[index], self.models[other]);
                    self.record_copy(index, result);
                }
                // Not finished: the run was stopped.
                Ok(None) => {}
                Err(_) => self.record_failure(index, FileError::of_original(&self.models[other].path)),
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.unverified && self.files.iter().all(|file| matches!(file.result, Ok(Some(_))))
    }
}
