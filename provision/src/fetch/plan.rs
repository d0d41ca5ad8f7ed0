//! The plan: what is on disk, and so what is to be done.

use std::collections::HashMap;

use tokio::sync::watch;

use super::{FetchConfig, Verify};
use crate::digest::Sha256;
use crate::event::{Event, FileIndex, Observer, Planned, PlannedFile};
use crate::inspect::{self, Condition};
use crate::lockfile::Model;
use crate::marker::Marker;
use crate::store::{Destination, Found, Installed, Naming, PartFile, StoreError};

/// What is to be done for one file.
pub(super) enum Plan {
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

/// One file of the plan.
pub(super) struct Item {
    pub(super) plan: Plan,
}

impl Item {
    pub(super) fn held(&self, size: u64) -> u64 {
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

/// Looks at what is on disk. Reads and hashes; makes and proves the parts that there are.
pub(super) struct Planner<'a> {
    pub(super) destination: &'a Destination,
    pub(super) marker: &'a Marker,
    pub(super) config: &'a FetchConfig,
    pub(super) naming: &'a Naming,
    pub(super) observer: &'a dyn Observer,
    pub(super) interrupted: &'a watch::Receiver<bool>,
}

impl Planner<'_> {
    /// What is to be done for each of `models`, in the same order. Cut short where the run is told to stop.
    pub(super) fn plan(&self, models: &[&Model]) -> Vec<Item> {
        let plans = inspect::each(models, self.config.threads, |model| self.one(model));
        let mut items: Vec<Item> = plans.into_iter().map(|plan| Item { plan }).collect();
        // A file whose size alone was looked at is no original for others.
        share_digests(&mut items, models, self.config.verify != Verify::Quick);
        items
    }

    fn one(&self, model: &Model) -> Plan {
        if let Some(present) = self.present(model) {
            return present;
        }
        if self.config.dry_run {
            let held =
                if self.config.force { Ok(0) } else { PartFile::peek(self.destination, model, self.go_on()) };
            return held.map_or_else(Plan::Failed, Plan::WouldFetch);
        }
        self.part(model).map_or_else(Plan::Failed, Plan::Fetch)
    }

    fn go_on(&self) -> impl Fn() -> bool + '_ {
        || !*self.interrupted.borrow()
    }

    /// The file as it is, if it counts as present, or why there can be none.
    fn present(&self, model: &Model) -> Option<Plan> {
        let found = match self.destination.find(&model.path) {
            Ok(found) => found,
            Err(error) => return Some(Plan::Failed(error)),
        };
        let stamp = match found {
            Found::Nothing => return None,
            Found::Other(what) => {
                let path = self.destination.root().path().join(model.path.as_str());
                return Some(Plan::Failed(StoreError::NotAFile { path, what }));
            }
            Found::File(stamp) => stamp,
        };
        let installed =
            |stamp| Plan::Present(Installed { path: model.path.clone(), stamp, sha256: model.sha256 });
        if self.config.force {
            return None;
        }
        match self.config.verify {
            Verify::Marker if self.marker.vouches_for(model, found) => Some(installed(stamp)),
            Verify::Quick => (stamp.size == model.size).then(|| installed(stamp)),
            Verify::Marker | Verify::Full => {
                match inspect::one(self.destination, model, self.observer, self.go_on()) {
                    Condition::Right(stamp) => {
                        Some(self.tidy(model).map_or_else(Plan::Failed, |()| installed(stamp)))
                    }
                    Condition::Unreadable(error) => Some(Plan::Failed(error)),
                    _ => None,
                }
            }
        }
    }

    /// A run that was killed between the rename and the end of its clean-up leaves its journal.
    fn tidy(&self, model: &Model) -> Result<(), StoreError> {
        if self.config.dry_run { Ok(()) } else { PartFile::discard(self.destination, model) }
    }

    /// The part of an earlier run, if there is one.
    fn part(&self, model: &Model) -> Result<Option<Box<PartFile>>, StoreError> {
        if self.config.force {
            PartFile::discard(self.destination, model)?;
            return Ok(None);
        }
        if *self.naming != Naming::Shared {
            let part = PartFile::open(self.destination, model, self.naming, self.go_on())?;
            part.adopt_orphans(model)?;
            return Ok((part.held() > 0).then(|| Box::new(part)));
        }
        let claimed = PartFile::claimed(self.destination, model)?;
        if claimed == 0 {
            // A part that no journal vouches for is worth nothing, and may be what fills the disk.
            PartFile::discard(self.destination, model)?;
            return Ok(None);
        }
        self.observer.observe(&Event::Checking { path: model.path.clone(), size: claimed });
        PartFile::open(self.destination, model, self.naming, self.go_on()).map(|part| Some(Box::new(part)))
    }
}

/// Files with the same bytes are fetched once: the others are copied from the first.
fn share_digests(items: &mut [Item], models: &[&Model], present_are_proven: bool) {
    let mut first: HashMap<Sha256, FileIndex> = HashMap::new();
    let is_better = |item: &Item| present_are_proven && matches!(item.plan, Plan::Present(_));
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

/// Tells the plan, and returns how many bytes are to be fetched and how many it needs on disk.
pub(super) fn announce(plan: &[Item], models: &[&Model], free: u64, observer: &dyn Observer) -> (u64, u64) {
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

/// The plan as events and reports show it.
pub(super) fn planned(plan: &[Item], models: &[&Model]) -> Vec<PlannedFile> {
    let one = |(item, model): (&Item, &&Model)| PlannedFile {
        path: model.path.clone(),
        size: model.size,
        held: item.held(model.size),
        plan: item.planned(model.size),
    };
    plan.iter().zip(models).map(one).collect()
}
