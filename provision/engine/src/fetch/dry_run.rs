//! A plan that is only shown: nothing is made, moved or removed.

use std::time::Instant;

use camino::Utf8Path;
use tokio::sync::watch;

use super::local::{Local, LocalSources};
use super::plan::{Item, Plan, Planner, planned};
use super::report::{FileReport, Report};
use super::{FetchConfig, FetchError, announce};
use crate::cache::Cache;
use crate::marker::Marker;
use crate::transfer::FileError;
use provision_core::event::{Observer, Outcome};
use provision_core::lockfile::{Lockfile, Model};
use provision_disk::{self, Destination, PartNames};

/// A plan that is only shown.
pub(super) struct Shown<'a> {
    pub(super) lock: &'a Lockfile,
    pub(super) models: &'a [&'a Model],
    pub(super) path: &'a Utf8Path,
    pub(super) local: &'a Local,
    pub(super) config: &'a FetchConfig,
}

impl Shown<'_> {
    pub(super) fn show(
        &self,
        observer: &dyn Observer,
        interrupted: &watch::Receiver<bool>,
        started: Instant,
    ) -> Result<Report, FetchError> {
        let destination = Destination::open(self.path)?;
        let cache = self.local.cache.as_deref().map(Cache::open_existing).transpose()?.flatten();
        let shares_disk = |cache: &Cache| {
            destination.as_ref().is_some_and(|destination| cache.place().shares_disk_with(destination))
        };
        let sources = LocalSources {
            baked: self.local.baked.as_ref(),
            cache: cache.as_ref(),
            cache_shares_disk: cache.as_ref().is_some_and(shares_disk),
        };
        // Where there is no destination yet, its parent's disk will be the one.
        let free = destination
            .as_ref()
            .map_or_else(|| provision_disk::free_space_near(self.path), Destination::free_space)?;
        let items = match &destination {
            Some(destination) => {
                let planner = Planner {
                    destination,
                    marker: &Marker::load_or_proven(destination, self.lock.marker()),
                    config: self.config,
                    naming: &PartNames::Shared,
                    sources,
                    observer,
                    interrupted,
                };
                planner.plan(self.models)
            }
            None => self.models.iter().map(|model| self.nothing_there(model, &sources, observer)).collect(),
        };
        if *interrupted.borrow() {
            return Err(FetchError::Interrupted);
        }
        announce(&items, self.models, &sources, free, observer);
        let plan = planned(&items, self.models);
        let report = |(item, model): (Item, &&Model)| {
            let result = match item.plan {
                Plan::Present(_) => Ok(Some(Outcome::Present)),
                Plan::Failed(error) => Err(FileError::of_store(error)),
                _ => Ok(None),
            };
            FileReport::of(model, result)
        };
        let files = items.into_iter().zip(self.models).map(report).collect();
        Ok(Report { files, elapsed: started.elapsed(), plan, free, by_marker: false, interrupted: false })
    }

    fn nothing_there(&self, model: &Model, sources: &LocalSources<'_>, observer: &dyn Observer) -> Item {
        let candidates = if self.config.force { Vec::new() } else { sources.candidates(model, observer) };
        let plan = if candidates.is_empty() { Plan::WouldFetch(0) } else { Plan::Local(candidates) };
        Item::new(plan)
    }
}
