//! A dry run: it makes and reports the plan, and changes nothing on disk. So does a run that may not write to its
//! destination: it is done if the set is complete.

use std::sync::Arc;
use std::time::Instant;

use super::error::{FetchError, NAMED};
use super::job::{FetchConfig, Job};
use super::local_sources::{LocalSources, OtherCache};
use super::plan::{Item, Plan, Planner, announce, planned, to_fetch};
use super::report::{FileReport, Report};
use super::reused_pieces::PieceReuse;
use super::space::Needs;
use super::warnings::warn_without_marker;
use crate::cache::Cache;
use crate::marker::Marker;
use crate::piece_lists::PieceLists;
use crate::transfer::FileError;
use provision_core::event::{Event, FileIndex, Outcome};
use provision_core::lockfile::Model;
use provision_core::shortened_list::shortened_list;
use provision_disk::{self, Destination, DiskError, PartNames};

/// Plans the job and reports the plan. Blocks.
pub(super) fn report(job: &Job<'_>, started: Instant) -> Result<Report, FetchError> {
    let destination = open(job)?.map(Arc::new);
    let cache = job.local.cache.as_deref().map(Cache::open_existing).transpose()?.flatten();
    let shares_disk = |cache: &Cache| {
        destination.as_ref().is_some_and(|destination| cache.place().shares_disk_with(destination))
    };
    let other_cache = OtherCache::open(&job.local, destination.as_deref(), cache.as_ref());
    let stores = job.stores(destination.clone());
    let lists = job.piece_lists(destination.clone());
    let sources = LocalSources {
        baked: job.local.baked.as_ref(),
        cache: cache.as_ref(),
        cache_shares_disk: cache.as_ref().is_some_and(shares_disk),
        other_cache: other_cache.as_ref(),
        store_directories: &job.store_directories(),
        stores: stores.as_ref(),
    };
    // A destination that does not exist yet will lie on its parent's disk.
    let free = destination
        .as_deref()
        .map_or_else(|| provision_disk::free_space_near(&job.destination), Destination::free_space)?;
    let marker = destination.as_deref().map(|place| Marker::load_or_partial(place, job.lock.marker()));
    let marker = marker.unwrap_or_default();
    let mut items = match &destination {
        Some(destination) => {
            let planner = Planner {
                destination,
                marker: &marker,
                lists: &lists,
                config: &job.config,
                part_names: &PartNames::Shared,
                sources,
                observer: &*job.observer,
                interrupted: &job.interrupted,
            };
            planner.plan(&job.models, planner.examine(&job.models))
        }
        None => job.models.iter().map(|model| absent(job, model, &sources)).collect(),
    };
    if job.is_interrupted() {
        return Err(FetchError::Interrupted);
    }
    let wanted: Vec<FileIndex> = to_fetch(&items).collect();
    if !job.config.force && wanted.iter().any(|index| job.models[*index].pieces.is_some()) {
        let files = (destination.as_deref(), &marker);
        PieceReuse::of(job, files, (sources, &lists), wanted.into_iter()).estimate(&mut items);
    }
    let needs = Needs::of(&items, &job.models, &sources, destination.as_deref());
    announce(&items, &job.models, (needs.to_fetch, needs.here), free, &*job.observer);
    lists.warn();
    warn_of_unasked(job, &lists, &items);
    let plan = planned(&items, &job.models);
    let report = |(item, model): (Item, &&Model)| {
        let result = match item.plan {
            Plan::Present(_) => Ok(Some(Outcome::Present)),
            Plan::Failed(error) => Err(FileError::of_disk(error)),
            _ => Ok(None),
        };
        FileReport::of(model, result)
    };
    let files = items.into_iter().zip(&job.models).map(report).collect();
    Ok(Report { files, elapsed: started.elapsed(), plan, free, by_marker: false, interrupted: false })
}

/// The report of a run that may not write to its destination, for the reason `why`. Blocks.
///
/// # Errors
/// [`FetchError::Unwritable`] if a file is missing or wrong.
pub(super) fn without_writing(job: &Job<'_>, started: Instant, why: DiskError) -> Result<Report, FetchError> {
    let Some(destination) = open(job)?.map(Arc::new) else { return Err(why.into()) };
    let planner = Planner {
        destination: &destination,
        marker: &Marker::load_or_partial(&destination, job.lock.marker()),
        lists: &job.piece_lists(Some(destination.clone())),
        config: &FetchConfig { dry_run: true, ..job.config.clone() },
        part_names: &PartNames::Shared,
        sources: LocalSources {
            baked: job.local.baked.as_ref(),
            cache: None,
            cache_shares_disk: false,
            other_cache: None,
            store_directories: &[],
            stores: None,
        },
        observer: &*job.observer,
        interrupted: &job.interrupted,
    };
    let items = planner.plan(&job.models, planner.examine(&job.models));
    if job.is_interrupted() {
        return Err(FetchError::Interrupted);
    }
    let is_missing = |item: &Item| !matches!(item.plan, Plan::Present(_));
    let missing: Vec<&str> = items
        .iter()
        .zip(&job.models)
        .filter(|(item, _)| is_missing(item))
        .map(|(_, model)| model.path.as_str())
        .collect();
    if !missing.is_empty() {
        let (count, total, names) = (missing.len(), job.models.len(), shortened_list(&missing, NAMED));
        return Err(FetchError::Unwritable { count, total, names, source: why });
    }
    warn_without_marker(&why, &*job.observer);
    Ok(Report::all_present(&job.models, started, false))
}

/// Says that more may be here than the plan says: a run fetches lists that this machine lacks, and a dry run asks no
/// host.
fn warn_of_unasked(job: &Job<'_>, lists: &PieceLists, items: &[Item]) {
    let is_unknown = |model: &Model| model.pieces.is_some() && lists.of(model).is_none();
    let unknown = to_fetch(items).filter(|index| is_unknown(job.models[*index])).count();
    if !job.config.force && lists.may_be_elsewhere() && unknown > 0 {
        let files = if unknown == 1 { "1 file" } else { &format!("{unknown} files") };
        let message = format!(
            "the piece lists of {files} to fetch are not on this machine, and a dry run asks no host for them: more bytes may be \
             here than the plan says"
        );
        job.observer.observe(&Event::Warning { message });
    }
}

fn open(job: &Job<'_>) -> Result<Option<Destination>, DiskError> {
    let opened = Destination::open(&job.destination)?;
    Ok(opened.map(|destination| job.config.prepare(destination)))
}

/// The plan for a model if the destination does not exist.
fn absent(job: &Job<'_>, model: &Model, sources: &LocalSources<'_>) -> Item {
    let candidates =
        if job.config.force { Vec::new() } else { sources.candidates(model, None, &*job.observer) };
    let plan = if candidates.is_empty() { Plan::WouldFetch(0) } else { Plan::Local(candidates) };
    Item::new(plan)
}
