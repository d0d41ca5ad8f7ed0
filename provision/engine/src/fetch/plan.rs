//! The plan: the state of each file on disk, and the action that follows from it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use camino::Utf8PathBuf;
use tokio::sync::watch;

use super::job::{FetchConfig, Verify};
use super::local_sources::{Candidate, LocalSources};
use crate::cache::Cache;
use crate::inspect::{FileState, HashResult, HashTarget, Inspection};
use crate::marker::Marker;
use crate::piece_lists::PieceLists;
use crate::work_queue;
use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::event::{Event, FileIndex, Observer, Planned, PlannedFile};
use provision_core::lockfile::Model;
use provision_disk::{
    Destination, DiskError, FileId, Found, Installed, PartFile, PartNames, SourceFile, Stamp,
};

/// The action for one file.
pub(super) enum Plan {
    /// None: it is installed and valid.
    Present(Installed),
    /// Copy or link it from one of these local files, the best first.
    Local(Vec<Candidate>),
    /// Download it beside its target; an earlier run may have left a part there.
    Fetch(Option<Box<PartFile>>),
    /// Download it into the cache, where a journal lists that many bytes.
    FetchToCache(u64),
    /// Download it, in a dry run; that many bytes are held.
    WouldFetch(u64),
    /// Copy it from another file of the run that has the same bytes.
    CopyOf(FileIndex),
    /// None: the disk failed.
    Failed(DiskError),
}

/// One file of the plan.
pub(super) struct Item {
    pub(super) plan: Plan,
    /// A symlink is in its place that does not lead to its bytes. Its target.
    pub(super) stale_link: Option<Utf8PathBuf>,
    /// Bytes that an interrupted copy left beside the target, by its journal.
    pub(super) copied: u64,
    /// Bytes of the rest that other files of this machine should have, by their piece lists.
    pub(super) here: u64,
    /// The file in its place, if that has been read and is wrong.
    pub(super) wrong: Option<WrongFile>,
}

/// A wrong file in a model's place.
pub(super) struct WrongFile {
    /// Its inode, which may be that of the cache's object, too.
    pub(super) identity: FileId,
    /// Its wrong ranges, if it was hashed by its list.
    pub(super) ranges: Option<Vec<ByteRange>>,
}

impl Item {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, stale_link: None, copied: 0, here: 0, wrong: None }
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

/// Makes the plan. Hashes files without a marker entry, and opens and verifies the parts of earlier runs.
pub(super) struct Planner<'a> {
    pub(super) destination: &'a Destination,
    pub(super) marker: &'a Marker,
    pub(super) lists: &'a PieceLists,
    pub(super) config: &'a FetchConfig,
    pub(super) part_names: &'a PartNames,
    pub(super) sources: LocalSources<'a>,
    pub(super) observer: &'a dyn Observer,
    pub(super) interrupted: &'a watch::Receiver<bool>,
}

impl Planner<'_> {
    /// The state of the file of each of `models`, in the same order, and the local files that may replace a missing
    /// one. Incomplete if the run is stopped.
    pub(super) fn examine(&self, models: &[&Model]) -> Vec<Finding> {
        let findings = self.verify(models, models.iter().map(|model| self.check(model)).collect());
        self.each(models, findings, Self::search)
    }

    /// The action for each of `models`, in the same order. Incomplete if the run is stopped.
    pub(super) fn plan(&self, models: &[&Model], findings: Vec<Finding>) -> Vec<Item> {
        let mut items = self.each(models, findings, Self::item);
        // A file that was checked by size only must not be copied to others.
        share_digests(&mut items, models, self.config.verify != Verify::Quick);
        items
    }

    /// Calls `work` for each model and its finding, the largest first. Returns the results in the models' order.
    fn each<R: Send>(
        &self,
        models: &[&Model],
        findings: Vec<Finding>,
        work: impl Fn(&Self, &Model, Finding) -> R + Sync,
    ) -> Vec<R> {
        let found: Vec<_> =
            models.iter().zip(findings).map(|(model, finding)| (*model, Mutex::new(Some(finding)))).collect();
        work_queue::each(
            &found,
            |(model, _)| model.size,
            self.config.threads,
            |(model, finding)| {
                let finding = finding.lock().unwrap_or_else(PoisonError::into_inner).take();
                work(self, model, finding.unwrap_or_else(Finding::needed))
            },
        )
    }

    /// Hashes the files whose size is right and that the marker does not list.
    fn verify(&self, models: &[&Model], mut findings: Vec<Finding>) -> Vec<Finding> {
        let unverified: Vec<usize> =
            (0..findings.len()).filter(|at| matches!(findings[*at], Finding::Unverified { .. })).collect();
        let target = |at: &usize| {
            let link = if let Finding::Unverified { link } = &findings[*at] { link.as_deref() } else { None };
            HashTarget { model: models[*at], link }
        };
        let targets: Vec<_> = unverified.iter().map(target).collect();
        let inspection = Inspection {
            destination: self.destination,
            lists: &|model| self.lists.of(model),
            is_full: false,
            threads: self.config.threads,
            observer: self.observer,
        };
        let states = inspection.states(&targets, &self.go_on(), &|target, found| self.sync(target, found));
        for (at, state) in unverified.into_iter().zip(states) {
            let Finding::Unverified { link } = std::mem::replace(&mut findings[at], Finding::needed()) else {
                continue;
            };
            findings[at] = self.decide(models[at], link, state);
        }
        findings
    }

    /// Syncs a file that is right: the marker will list it, and hashing may have read bytes that are only in memory.
    fn sync(&self, target: &HashTarget<'_>, found: &SourceFile) -> Result<(), DiskError> {
        match target.link {
            _ if self.config.dry_run => Ok(()),
            Some(_) => found.make_durable(),
            None => self.destination.sync_existing(&target.model.path, found),
        }
    }

    fn decide(&self, model: &Model, link: Option<Utf8PathBuf>, state: FileState) -> Finding {
        match state {
            FileState::Right(HashResult { stamp, identity, verified_by }) => {
                let found = Installed {
                    identity: Some(identity),
                    verified_by: Some(verified_by),
                    ..installed(model, stamp, link.clone())
                };
                let discarded = if link.is_some() { Ok(()) } else { self.discard_journal(model) };
                Finding::Decided(discarded.map_or_else(Plan::Failed, |()| Plan::Present(found)))
            }
            // The target of a link may be right as well: only a link that leads to no file or to wrong bytes is
            // replaced.
            FileState::Unreadable(error) => Finding::Decided(Plan::Failed(error)),
            FileState::WrongPieces { wrong, identity } => {
                let wrong = Some(WrongFile { identity, ranges: Some(wrong) });
                Finding::Needed { stale_link: link, candidates: Vec::new(), wrong }
            }
            FileState::WrongDigest { identity, .. } => {
                let wrong = Some(WrongFile { identity, ranges: None });
                Finding::Needed { stale_link: link, candidates: Vec::new(), wrong }
            }
            _ => Finding::Needed { stale_link: link, candidates: Vec::new(), wrong: None },
        }
    }

    /// Looks for a missing file on this machine.
    fn search(&self, model: &Model, finding: Finding) -> Finding {
        let (stale_link, wrong) = match finding {
            Finding::Decided(plan) => return Finding::Decided(plan),
            Finding::Needed { stale_link, wrong, .. } => (stale_link, wrong),
            Finding::Unverified { .. } => (None, None),
        };
        let candidates = if self.config.force {
            Vec::new()
        } else {
            self.sources.candidates(model, wrong.as_ref().map(|wrong| wrong.identity), self.observer)
        };
        Finding::Needed { stale_link, candidates, wrong }
    }

    fn item(&self, model: &Model, finding: Finding) -> Item {
        match finding {
            Finding::Decided(plan) => Item::new(plan),
            Finding::Needed { stale_link, candidates, wrong } if !candidates.is_empty() => {
                let copied =
                    PartFile::claimed_bytes(self.destination, model, self.lists.of(model).as_deref())
                        .unwrap_or(0);
                Item { stale_link, copied, wrong, ..Item::new(Plan::Local(candidates)) }
            }
            Finding::Needed { stale_link, wrong, .. } => {
                Item { stale_link, wrong, ..Item::new(self.fetch(model)) }
            }
            Finding::Unverified { .. } => Item::new(self.fetch(model)),
        }
    }

    /// The action for a file that is not on this machine.
    fn fetch(&self, model: &Model) -> Plan {
        if self.config.dry_run {
            return self.would_fetch(model).map_or_else(Plan::Failed, Plan::WouldFetch);
        }
        match self.part(model) {
            Ok(None) if self.sources.cache.is_some() => Plan::FetchToCache(self.claimed_in_cache(model)),
            part => part.map_or_else(Plan::Failed, Plan::Fetch),
        }
    }

    fn would_fetch(&self, model: &Model) -> Result<u64, DiskError> {
        if self.config.force {
            return Ok(0);
        }
        let list = self.lists.of(model);
        let held = |place: &Destination, model: &Model| {
            PartFile::resumable_bytes(place, model, list.as_deref(), self.go_on())
        };
        match (held(self.destination, model)?, self.sources.cache) {
            (0, Some(cache)) => Ok(held(cache.place(), &Cache::object(model)).unwrap_or(0)),
            (held, _) => Ok(held),
        }
    }

    /// The bytes that a part in the cache may have. They are verified once this run holds the cache's lock.
    fn claimed_in_cache(&self, model: &Model) -> u64 {
        let Some(cache) = self.sources.cache.filter(|_| !self.config.force) else { return 0 };
        PartFile::claimed_bytes(cache.place(), &Cache::object(model), self.lists.of(model).as_deref())
            .unwrap_or(0)
    }

    fn go_on(&self) -> impl Fn() -> bool + '_ {
        || !*self.interrupted.borrow()
    }

    /// Checks a file's place, without reading the file.
    fn check(&self, model: &Model) -> Finding {
        let needed = Finding::needed();
        let stamp = match self.destination.find(&model.path) {
            Err(error) => return Finding::Decided(Plan::Failed(error)),
            Ok(Found::Nothing) => return needed,
            Ok(Found::Symlink) => return self.check_link(model),
            Ok(Found::Other(what)) => return self.not_a_file(model, what),
            Ok(Found::File(stamp)) => stamp,
        };
        if self.config.force {
            return needed;
        }
        if let Some(installed) = self.installed_by_marker(model) {
            return Finding::Decided(Plan::Present(installed));
        }
        if self.config.verify == Verify::Quick && stamp.size == model.size {
            return Finding::Decided(Plan::Present(installed(model, stamp, None)));
        }
        // A file of another length is wrong without hashing.
        if stamp.size == model.size { Finding::Unverified { link: None } } else { needed }
    }

    /// Accepts a symlink if it leads to the model's bytes, in a baked directory or elsewhere. Another one is replaced
    /// by the file; its target stays as it is.
    fn check_link(&self, model: &Model) -> Finding {
        let target = match self.destination.link_at(&model.path) {
            Ok(Some(target)) => target,
            // A marker could not name it.
            Ok(None) => return self.not_a_file(model, "a symlink"),
            Err(error) => return Finding::Decided(Plan::Failed(error)),
        };
        if self.config.force {
            return Finding::Needed { stale_link: Some(target), candidates: Vec::new(), wrong: None };
        }
        match self.installed_by_marker(model) {
            Some(installed) => Finding::Decided(Plan::Present(installed)),
            None => Finding::Unverified { link: Some(target) },
        }
    }

    fn not_a_file(&self, model: &Model, what: &'static str) -> Finding {
        let path = self.destination.path_of(&model.path);
        Finding::Decided(Plan::Failed(DiskError::NotAFile { path, what }))
    }

    fn installed_by_marker(&self, model: &Model) -> Option<Installed> {
        if self.config.verify == Verify::Marker { self.marker.vouched(self.destination, model) } else { None }
    }

    /// Removes the journal of a run that was killed between the rename and the end of its clean-up.
    fn discard_journal(&self, model: &Model) -> Result<(), DiskError> {
        if self.config.dry_run {
            return Ok(());
        }
        match PartFile::discard(self.destination, model) {
            // The file is right: another run's part of it is that run's.
            Err(DiskError::PartBusy { .. }) => Ok(()),
            discarded => discarded,
        }
    }

    /// Opens the part of an earlier run, if there is one.
    fn part(&self, model: &Model) -> Result<Option<Box<PartFile>>, DiskError> {
        if self.config.force {
            PartFile::discard(self.destination, model)?;
            return Ok(None);
        }
        if *self.part_names != PartNames::Shared {
            let options = self.lists.part_options(model, self.part_names);
            let part = PartFile::resume(self.destination, model, options, self.go_on())?;
            return Ok((part.held() > 0).then(|| Box::new(part)));
        }
        let options = self.lists.part_options(model, self.part_names);
        let claimed = PartFile::claimed_bytes(self.destination, model, options.pieces.as_deref())?;
        if claimed == 0 {
            // Without a byte of the list or a journal the part cannot be resumed, and it may fill the disk.
            PartFile::discard(self.destination, model)?;
            return Ok(None);
        }
        self.observer.observe(&Event::Checking { path: model.path.clone(), size: claimed });
        PartFile::open(self.destination, model, options, self.go_on()).map(|part| Some(Box::new(part)))
    }
}

/// The state of a file's place.
pub(super) enum Finding {
    /// The action is known.
    Decided(Plan),
    /// The file is missing or wrong. These local files may have its bytes.
    Needed { stale_link: Option<Utf8PathBuf>, candidates: Vec<Candidate>, wrong: Option<WrongFile> },
    /// It has the right length and has to be hashed. `link` is the target if it is a known symlink.
    Unverified { link: Option<Utf8PathBuf> },
}

impl Finding {
    fn needed() -> Self {
        Self::Needed { stale_link: None, candidates: Vec::new(), wrong: None }
    }

    /// True for a file that no place on this machine has.
    pub(super) fn is_to_fetch(&self) -> bool {
        matches!(self, Self::Needed { candidates, .. } if candidates.is_empty())
    }
}

fn installed(model: &Model, stamp: Stamp, link: Option<Utf8PathBuf>) -> Installed {
    Installed {
        path: model.path.clone(),
        stamp,
        sha256: model.sha256,
        identity: None,
        verified_by: None,
        link,
    }
}

/// Files with the same bytes are downloaded once; the others become copies of the first.
fn share_digests(items: &mut [Item], models: &[&Model], present_are_verified: bool) {
    let mut first: HashMap<Sha256, FileIndex> = HashMap::new();
    let is_there = |item: &Item| match item.plan {
        Plan::Present(_) => present_are_verified,
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

/// The positions of the files that the plan downloads.
pub(super) fn to_fetch(plan: &[Item]) -> impl Iterator<Item = FileIndex> {
    let is_to_fetch =
        |item: &Item| matches!(item.plan, Plan::Fetch(_) | Plan::FetchToCache(_) | Plan::WouldFetch(_));
    plan.iter().enumerate().filter(move |(_, item)| is_to_fetch(item)).map(|(index, _)| index)
}

/// Sends the plan to the observer. `to_fetch` counts bytes from the network, `needed` bytes on the destination's disk.
pub(super) fn announce(
    plan: &[Item],
    models: &[&Model],
    (to_fetch, needed): (u64, u64),
    free: u64,
    observer: &dyn Observer,
) {
    observer.observe(&Event::Planned { files: planned(plan, models), to_fetch, needed, free });
}

/// Allows installs to replace the symlinks that do not lead to the models' bytes.
pub(super) fn allow_replacing_links(
    plan: &[Item],
    models: &[&Model],
    destination: &Destination,
) -> Result<(), DiskError> {
    plan.iter().zip(models).try_for_each(|(item, model)| {
        if let Some(target) = &item.stale_link
            && let Some(directory) = destination.parent(&model.path, false)?
        {
            directory.allow_replacing(model.path.file_name(), target);
        }
        Ok(())
    })
}

/// The plan as events and reports show it.
pub(super) fn planned(plan: &[Item], models: &[&Model]) -> Vec<PlannedFile> {
    let one = |(item, model): (&Item, &&Model)| PlannedFile {
        path: model.path.clone(),
        size: model.size,
        held: item.held(model.size),
        here: item.here,
        plan: item.planned(model.size),
    };
    plan.iter().zip(models).map(one).collect()
}
