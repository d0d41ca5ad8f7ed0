//! The run's files, from the plan to what became of them.

use super::local::{Bringer, Brought, Candidate, LocalSources};
use super::plan::{Item, Needs, Plan, planned};
use super::report::FileReport;
use crate::transfer::{Fetched, FileError};
use crate::workers;
use provision_core::event::{Event, FileIndex, Observer, Outcome, PlannedFile};
use provision_core::lockfile::Model;
use provision_disk::{Installed, PartFile};

/// The run's files as they come to be right.
pub(super) struct Work<'a> {
    models: &'a [&'a Model],
    observer: &'a dyn Observer,
    items: Vec<Item>,
    pub(super) plan: Vec<PlannedFile>,
    pub(super) files: Vec<FileReport>,
    pub(super) installed: Vec<Installed>,
    /// Sizes only were looked at: a marker must not vouch for what nobody proved.
    unproven: bool,
}

/// A file that has to be fetched.
pub(super) struct Missing {
    pub(super) index: FileIndex,
    pub(super) part: Option<Box<PartFile>>,
    /// It is to be collected in the cache.
    pub(super) to_cache: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        models: &'a [&'a Model],
        items: Vec<Item>,
        unproven: bool,
        observer: &'a dyn Observer,
    ) -> Self {
        let plan = planned(&items, models);
        let files = models.iter().map(|model| FileReport::of(model, Ok(None))).collect();
        let mut work = Self { models, observer, items, plan, files, installed: Vec::new(), unproven };
        for index in 0..work.items.len() {
            match std::mem::replace(&mut work.items[index].plan, Plan::WouldFetch(0)) {
                Plan::Present(installed) => work.settle(index, installed, Outcome::Present),
                Plan::Failed(error) => work.fail(index, FileError::of_store(error)),
                plan => work.items[index].plan = plan,
            }
        }
        work
    }

    fn settle(&mut self, index: FileIndex, installed: Installed, outcome: Outcome) {
        self.files[index].result = Ok(Some(outcome));
        self.installed.push(installed);
    }

    fn fail(&mut self, index: FileIndex, error: FileError) {
        self.observer.observe(&Event::Failed { file: index, reason: error.reason() });
        self.files[index].result = Err(error);
    }

    /// Brings what is on this machine, several files at once. What could not be had is to be fetched afterwards.
    pub(super) fn bring(&mut self, bringer: &Bringer<'_>, threads: usize, to_cache: bool) {
        let local = self.items.iter_mut().enumerate().filter_map(|(index, item)| match &mut item.plan {
            Plan::Local(candidates) => Some((index, std::mem::take(candidates))),
            _ => None,
        });
        let local: Vec<(FileIndex, Vec<Candidate>)> = local.collect();
        let models = self.models;
        let results = workers::each(
            &local,
            |(index, _)| models[*index].size,
            threads,
            |(index, candidates)| bringer.bring(*index, models[*index], candidates),
        );
        for ((index, _), result) in local.into_iter().zip(results) {
            self.items[index].plan = if to_cache { Plan::FetchToCache(0) } else { Plan::Fetch(None) };
            self.brought(index, result);
        }
    }

    fn brought(&mut self, index: FileIndex, result: Brought) {
        match result {
            Brought::Installed(installed, outcome) => self.settle(index, installed, outcome),
            Brought::Failed(error) => self.fail(index, FileError::of_store(error)),
            Brought::Nowhere | Brought::Interrupted => {}
        }
    }

    /// Looks again for what the cache may have got since the plan was made.
    pub(super) fn look_in_cache(&mut self, sources: &LocalSources<'_>) {
        for (index, item) in self.items.iter_mut().enumerate() {
            if matches!(item.plan, Plan::FetchToCache(_))
                && matches!(self.files[index].result, Ok(None))
                && let Some(candidate) = sources.cached(self.models[index])
            {
                item.plan = Plan::Local(vec![candidate]);
            }
        }
    }

    fn is_missing(&self, index: FileIndex) -> bool {
        matches!(self.files[index].result, Ok(None))
            && matches!(self.items[index].plan, Plan::Fetch(_) | Plan::FetchToCache(_))
    }

    /// The models that are still to be fetched, with the bytes that they lack.
    pub(super) fn missing(&self) -> Vec<(&'a Model, u64)> {
        let rest = |index: usize| {
            (self.models[index], self.models[index].size - self.items[index].held(self.models[index].size))
        };
        (0..self.items.len()).filter(|index| self.is_missing(*index)).map(rest).collect()
    }

    /// What that needs.
    pub(super) fn needs(&self, sources: &LocalSources<'_>) -> Needs {
        let mut needs = Needs::default();
        for index in (0..self.items.len()).filter(|index| self.is_missing(*index)) {
            needs.add(&self.items[index], self.models[index], sources);
        }
        needs
    }

    /// What is right and was proven to be.
    pub(super) fn proven(&self) -> &[Installed] {
        if self.unproven { &[] } else { &self.installed }
    }

    /// Takes what is still to be fetched out of the plan.
    pub(super) fn take_missing(&mut self) -> Vec<Missing> {
        let missing: Vec<_> = (0..self.items.len()).filter(|index| self.is_missing(*index)).collect();
        let mut take =
            |index: FileIndex| match std::mem::replace(&mut self.items[index].plan, Plan::WouldFetch(0)) {
                Plan::Fetch(part) => Missing { index, part, to_cache: false },
                _ => Missing { index, part: None, to_cache: true },
            };
        missing.into_iter().map(&mut take).collect()
    }

    pub(super) fn fetched(&mut self, fetched: Fetched) {
        let file = &mut self.files[fetched.index];
        file.source = Some(fetched.source.to_string());
        (file.fetched, file.resumed, file.elapsed) = (fetched.fetched, fetched.resumed, fetched.elapsed);
        (file.connections, file.retries) = (fetched.connections, fetched.retries);
        match fetched.result {
            Ok(Some(installed)) => self.settle(fetched.index, installed, Outcome::Fetched),
            Ok(None) => {}
            Err(error) => file.result = Err(error),
        }
    }

    /// Makes the files whose bytes another file has.
    pub(super) fn copy(&mut self, bringer: &Bringer<'_>) {
        for index in 0..self.items.len() {
            let Plan::CopyOf(other) = self.items[index].plan else { continue };
            match &self.files[other].result {
                Ok(Some(_)) => {
                    let result = bringer.copy(index, self.models[index], self.models[other]);
                    self.brought(index, result);
                }
                // Not finished, because the run was told to stop.
                Ok(None) => {}
                Err(_) => self.fail(index, FileError::of_original(&self.models[other].path)),
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.unproven && self.files.iter().all(|file| matches!(file.result, Ok(Some(_))))
    }
}
