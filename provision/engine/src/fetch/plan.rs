//! The plan: what is on disk, and so what is to be done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::watch;

use super::local::{Candidate, Kind, LocalSources};
use super::{FetchConfig, Verify};
use crate::cache::Cache;
use crate::inspect::{self, Condition, Seen, Subject};
use crate::marker::Marker;
use crate::workers;
use provision_core::digest::Sha256;
use provision_core::event::{Event, FileIndex, Observer, Planned, PlannedFile};
use provision_core::lockfile::Model;
use provision_disk::{
    Destination, Directory, Found, Installed, PartFile, PartNames, SourceFile, Stamp, StoreError,
};

/// What is to be done for one file.
pub(super) enum Plan {
    Present(Installed),
    /// Files on this machine that should have its bytes, the best first.
    Local(Vec<Candidate>),
    /// With what is there of it, where it goes.
    Fetch(Option<Box<PartFile>>),
    /// It is collected in the cache, where a journal claims that many bytes.
    FetchToCache(u64),
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
    /// A symlink of ours is in its place, and does not lead to its bytes any more.
    pub(super) stale_link: Option<Utf8PathBuf>,
    /// Bytes that an interrupted copy has left beside the target, as its journal claims.
    pub(super) copied: u64,
}

impl Item {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, stale_link: None, copied: 0 }
    }

    pub(super) fn held(&self, size: u64) -> u64 {
        match &self.plan {
            Plan::Present(_) => size,
            Plan::Fetch(part) => part.as_ref().map_or(0, |part| part.held()),
            Plan::WouldFetch(held) | Plan::FetchToCache(held) => *held,
            Plan::Local(_) | Plan::CopyOf(_) | Plan::Failed(_) => 0,
        }
    }

    fn planned(&self, size: u64) -> Planned {
        match &self.plan {
            Plan::Present(_) => Planned::Present,
            Plan::Local(candidates) if candidates.first().is_some_and(Candidate::is_link) => Planned::Link,
            Plan::Local(_) | Plan::CopyOf(_) => Planned::Copy,
            _ if self.held(size) > 0 => Planned::Resume,
            _ => Planned::Fetch,
        }
    }
}

/// What a plan needs, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// From the network.
    pub(super) to_fetch: u64,
    /// On the destination's disk.
    pub(super) here: u64,
    /// On the cache's disk, where that is another one.
    pub(super) in_cache: u64,
    /// What journals take on the destination's disk while that goes on.
    pub(super) journals_here: u64,
    /// The same on the cache's.
    pub(super) journals_in_cache: u64,
}

/// Looks at what is on disk. Reads and hashes; makes and proves the parts that there are.
pub(super) struct Planner<'a> {
    pub(super) destination: &'a Destination,
    pub(super) marker: &'a Marker,
    pub(super) config: &'a FetchConfig,
    pub(super) naming: &'a PartNames,
    pub(super) sources: LocalSources<'a>,
    pub(super) observer: &'a dyn Observer,
    pub(super) interrupted: &'a watch::Receiver<bool>,
}

impl Planner<'_> {
    /// What is to be done for each of `models`, in the same order. Cut short where the run is told to stop.
    pub(super) fn plan(&self, models: &[&Model]) -> Vec<Item> {
        let looks = self.prove(models, models.iter().map(|model| self.look(model)).collect());
        let looked: Vec<_> =
            models.iter().zip(looks).map(|(model, look)| (*model, Mutex::new(Some(look)))).collect();
        let mut items = workers::each(
            &looked,
            |(model, _)| model.size,
            self.config.threads,
            |(model, look)| {
                let look = look.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.item(model, look)
            },
        );
        // A file whose size alone was looked at is no original for others.
        share_digests(&mut items, models, self.config.verify != Verify::Quick);
        items
    }

    /// Hashes what only its bytes can decide.
    fn prove(&self, models: &[&Model], mut looks: Vec<Look>) -> Vec<Look> {
        let unproven: Vec<usize> =
            (0..looks.len()).filter(|at| matches!(looks[*at], Look::Unproven { .. })).collect();
        let subject = |at: &usize| {
            let link = if let Look::Unproven { link } = &looks[*at] { link.as_deref() } else { None };
            Subject { model: models[*at], link }
        };
        let subjects: Vec<_> = unproven.iter().map(subject).collect();
        let conditions = inspect::conditions(
            self.destination,
            &subjects,
            self.config.threads,
            self.observer,
            self.go_on(),
            |subject, found| self.settle(subject, found),
        );
        for (at, condition) in unproven.into_iter().zip(conditions) {
            let Look::Unproven { link } = std::mem::replace(&mut looks[at], Look::wanted()) else { continue };
            looks[at] = self.decide(models[at], link, condition);
        }
        looks
    }

    /// Makes a file durable that was found and is right: a marker will vouch for it, and only its bytes in memory were
    /// seen.
    fn settle(&self, subject: &Subject<'_>, found: &SourceFile) -> Result<(), StoreError> {
        match subject.link {
            _ if self.config.dry_run => Ok(()),
            Some(_) => found.make_durable(),
            None => self.destination.sync_existing(&subject.model.path, found),
        }
    }

    fn decide(&self, model: &Model, link: Option<Utf8PathBuf>, condition: Condition) -> Look {
        match condition {
            Condition::Right(Seen { stamp, identity }) => {
                let found = Installed { identity: Some(identity), ..installed(model, stamp, link.clone()) };
                let tidied = if link.is_some() { Ok(()) } else { self.tidy(model) };
                Look::Decided(tidied.map_or_else(Plan::Failed, |()| Plan::Present(found)))
            }
            Condition::Unreadable(error) if link.is_none() => Look::Decided(Plan::Failed(error)),
            _ => Look::Wanted { stale_link: link },
        }
    }

    fn item(&self, model: &Model, look: Option<Look>) -> Item {
        match look {
            Some(Look::Decided(plan)) => Item::new(plan),
            Some(Look::Wanted { stale_link }) => Item { stale_link, ..self.wanted(model) },
            Some(Look::Unproven { .. }) | None => self.wanted(model),
        }
    }

    /// Where a file that is not there can come from.
    fn wanted(&self, model: &Model) -> Item {
        if !self.config.force {
            let candidates = self.sources.candidates(model, self.observer);
            if !candidates.is_empty() {
                let copied = PartFile::journaled_bytes(self.destination, model).unwrap_or(0);
                return Item { copied, ..Item::new(Plan::Local(candidates)) };
            }
        }
        Item::new(if self.config.dry_run {
            self.would_fetch(model).map_or_else(Plan::Failed, Plan::WouldFetch)
        } else {
            match self.part(model) {
                Ok(None) if self.sources.cache.is_some() => Plan::FetchToCache(self.claimed_in_cache(model)),
                part => part.map_or_else(Plan::Failed, Plan::Fetch),
            }
        })
    }

    fn would_fetch(&self, model: &Model) -> Result<u64, StoreError> {
        if self.config.force {
            return Ok(0);
        }
        match PartFile::resumable_bytes(self.destination, model, self.go_on())? {
            0 => Ok(self.claimed_in_cache(model)),
            held => Ok(held),
        }
    }

    /// What a journal in the cache claims: it is proven when the cache is ours.
    fn claimed_in_cache(&self, model: &Model) -> u64 {
        let Some(cache) = self.sources.cache.filter(|_| !self.config.force) else { return 0 };
        PartFile::journaled_bytes(cache.place(), &Cache::object(model)).unwrap_or(0)
    }

    fn go_on(&self) -> impl Fn() -> bool + '_ {
        || !*self.interrupted.borrow()
    }

    /// What is in the file's place.
    fn look(&self, model: &Model) -> Look {
        let wanted = Look::wanted();
        let stamp = match self.destination.find(&model.path) {
            Err(error) => return Look::Decided(Plan::Failed(error)),
            Ok(Found::Nothing) => return wanted,
            Ok(Found::Symlink) => return self.look_at_link(model),
            Ok(Found::Other(what)) => return self.in_the_way(model, what),
            Ok(Found::File(stamp)) => stamp,
        };
        if self.config.force {
            return wanted;
        }
        if let Some(installed) = self.by_marker(model) {
            return Look::Decided(Plan::Present(installed));
        }
        if self.config.verify == Verify::Quick && stamp.size == model.size {
            return Look::Decided(Plan::Present(installed(model, stamp, None)));
        }
        // Another length needs no proof.
        if stamp.size == model.size { Look::Unproven { link: None } } else { wanted }
    }

    /// A symlink is ours if the marker says so, or if it leads to where the baked file is.
    fn look_at_link(&self, model: &Model) -> Look {
        if let Some(installed) = self.by_marker(model).filter(|_| !self.config.force) {
            return Look::Decided(Plan::Present(installed));
        }
        let known = self.marker.link(&model.path).map(Utf8Path::to_owned);
        for target in known.into_iter().chain(self.sources.baked_path(model)) {
            let leads_there = |directory: Option<Arc<Directory>>| match directory {
                Some(directory) => directory.read_link(model.path.file_name()),
                None => Ok(None),
            };
            match self.destination.parent(&model.path, false).and_then(leads_there) {
                Ok(Some(found)) if found == target.as_str() => {}
                Ok(_) => continue,
                Err(error) => return Look::Decided(Plan::Failed(error)),
            }
            return if self.config.force {
                Look::Wanted { stale_link: Some(target) }
            } else {
                Look::Unproven { link: Some(target) }
            };
        }
        self.in_the_way(model, "a symlink")
    }

    fn in_the_way(&self, model: &Model, what: &'static str) -> Look {
        let path = self.destination.root().path().join(model.path.as_str());
        Look::Decided(Plan::Failed(StoreError::NotAFile { path, what }))
    }

    fn by_marker(&self, model: &Model) -> Option<Installed> {
        if self.config.verify == Verify::Marker { self.marker.vouched(self.destination, model) } else { None }
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
        if *self.naming != PartNames::Shared {
            let part = PartFile::resume(self.destination, model, self.naming, self.go_on())?;
            return Ok((part.held() > 0).then(|| Box::new(part)));
        }
        let claimed = PartFile::journaled_bytes(self.destination, model)?;
        if claimed == 0 {
            // A part that no journal vouches for is worth nothing, and may be what fills the disk.
            PartFile::discard(self.destination, model)?;
            return Ok(None);
        }
        self.observer.observe(&Event::Checking { path: model.path.clone(), size: claimed });
        PartFile::open(self.destination, model, self.naming, self.go_on()).map(|part| Some(Box::new(part)))
    }
}

/// What a look at a file's place says.
enum Look {
    /// There is nothing more to find out.
    Decided(Plan),
    /// Its bytes are wanted.
    Wanted { stale_link: Option<Utf8PathBuf> },
    /// It has the right length; its bytes decide. With `link`, they are where that symlink of ours leads.
    Unproven { link: Option<Utf8PathBuf> },
}

impl Look {
    fn wanted() -> Self {
        Self::Wanted { stale_link: None }
    }
}

fn installed(model: &Model, stamp: Stamp, link: Option<Utf8PathBuf>) -> Installed {
    Installed { path: model.path.clone(), stamp, sha256: model.sha256, identity: None, link }
}

/// Files with the same bytes are had once: the others are copied from the first.
fn share_digests(items: &mut [Item], models: &[&Model], present_are_proven: bool) {
    let mut first: HashMap<Sha256, FileIndex> = HashMap::new();
    let is_there = |item: &Item| match item.plan {
        Plan::Present(_) => present_are_proven,
        Plan::Local(_) => true,
        _ => false,
    };
    for (at, model) in models.iter().enumerate().filter(|(at, _)| is_there(&items[*at])) {
        first.entry(model.sha256).or_insert(at);
    }
    for (at, model) in models.iter().enumerate() {
        if !matches!(items[at].plan, Plan::Fetch(_) | Plan::FetchToCache(_) | Plan::WouldFetch(_)) {
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

/// Adds up what the plan needs.
pub(super) fn needs(plan: &[Item], models: &[&Model], sources: &LocalSources<'_>) -> Needs {
    let mut needs = Needs::default();
    for (item, model) in plan.iter().zip(models) {
        needs.add(item, model, sources);
    }
    needs
}

impl Needs {
    /// Adds what one file needs.
    pub(super) fn add(&mut self, item: &Item, model: &Model, sources: &LocalSources<'_>) {
        let rest = model.size - item.held(model.size);
        let journal = PartFile::max_journal_bytes(model.size, rest);
        match &item.plan {
            Plan::Fetch(_) | Plan::WouldFetch(_) => {
                self.to_fetch += rest;
                self.here += rest;
                self.journals_here += journal;
            }
            Plan::FetchToCache(_) if sources.cache_shares_disk || sources.cache.is_none() => {
                self.to_fetch += rest;
                self.here += rest;
                self.journals_here += journal;
            }
            Plan::FetchToCache(_) => {
                self.to_fetch += rest;
                self.in_cache += rest;
                self.journals_in_cache += journal;
                self.here += model.size;
            }
            Plan::Local(candidates) => {
                let is_free = |first: &Candidate| {
                    first.is_link() || first.kind == Kind::Cache && sources.cache_shares_disk
                };
                // An interrupted copy has its room already.
                let rest = model.size.saturating_sub(item.copied);
                self.here += if candidates.first().is_some_and(is_free) { 0 } else { rest };
            }
            Plan::CopyOf(_) => self.here += rest,
            Plan::Present(_) | Plan::Failed(_) => {}
        }
    }
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
