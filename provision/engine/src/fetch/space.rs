//! The space check: a plan that does not fit on the disk fails before the first byte.

use std::collections::BTreeMap;

use camino::Utf8Path;

use super::local_sources::LocalSources;
use super::plan::{Item, Plan};
use crate::cache::Cache;
use provision_core::lockfile::Model;
use provision_disk::{Destination, DiskError, OtherVolume, PartFile};

/// Bytes that a plan needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// From the network.
    pub(super) to_fetch: u64,
    /// On the destination's disk.
    pub(super) here: u64,
    /// On the cache's disk, if it is another one.
    pub(super) in_cache: u64,
    /// For journals on the destination's disk, while the run lasts.
    pub(super) journals_here: u64,
    /// For journals on the cache's disk.
    pub(super) journals_in_cache: u64,
    /// On volumes that links of the destination lead to, journals included, by their device numbers.
    elsewhere: BTreeMap<u64, (OtherVolume, u64)>,
}

impl Needs {
    /// The needs of a whole plan. Without a destination, everything is needed on one disk.
    pub(super) fn of(
        plan: &[Item],
        models: &[&Model],
        sources: &LocalSources<'_>,
        destination: Option<&Destination>,
    ) -> Self {
        let mut needs = Self::default();
        for (item, model) in plan.iter().zip(models) {
            needs.add(item, model, sources, destination);
        }
        needs
    }

    /// Adds the needs of one file.
    pub(super) fn add(
        &mut self,
        item: &Item,
        model: &Model,
        sources: &LocalSources<'_>,
        destination: Option<&Destination>,
    ) {
        let volume = destination.and_then(|destination| destination.other_volume(&model.path).ok().flatten());
        let Some(volume) = volume else { return self.add_here(item, model, sources) };
        let mut own = Self::default();
        let sources = LocalSources { cache_shares_disk: false, other_cache: None, ..*sources };
        own.add_here(item, model, &sources);
        self.to_fetch += own.to_fetch;
        self.in_cache += own.in_cache;
        self.journals_in_cache += own.journals_in_cache;
        let (_, needed) = self.elsewhere.entry(volume.device).or_insert((volume, 0));
        *needed += own.here + own.journals_here;
    }

    fn add_here(&mut self, item: &Item, model: &Model, sources: &LocalSources<'_>) {
        let rest = model.size - item.held(model.size);
        let journal = PartFile::max_journal_bytes(model.size, rest);
        match &item.plan {
            Plan::Fetch(_) | Plan::WouldFetch(_) => {
                self.to_fetch += rest - item.here.min(rest);
                self.here += rest;
                self.journals_here += journal;
            }
            Plan::FetchToCache(_) if sources.cache_shares_disk || sources.cache.is_none() => {
                self.to_fetch += rest - item.here.min(rest);
                self.here += rest;
                self.journals_here += journal;
            }
            Plan::FetchToCache(_) => {
                self.to_fetch += rest - item.here.min(rest);
                self.in_cache += rest;
                self.journals_in_cache += journal;
                self.here += model.size;
            }
            Plan::Local(candidates) => {
                // An interrupted copy has its room already.
                let rest = model.size.saturating_sub(item.copied);
                self.here +=
                    if candidates.first().is_some_and(|first| sources.is_free(first)) { 0 } else { rest };
            }
            Plan::CopyOf(_) => self.here += rest,
            Plan::Present(_) | Plan::Failed(_) => {}
        }
    }
}

/// Compares the needs with the free space of each disk.
pub(super) fn check_space(
    needs: &Needs,
    destination: &Destination,
    cache: Option<&Cache>,
) -> Result<(), DiskError> {
    let fits = |needed, free, path: &Utf8Path, option| {
        let path = path.to_owned();
        if needed <= free { Ok(()) } else { Err(DiskError::NotEnoughSpace { path, needed, free, option }) }
    };
    let check =
        |needed, place: &Destination, option| fits(needed, place.free_space()?, place.root().path(), option);
    for (volume, needed) in needs.elsewhere.values() {
        fits(*needed, volume.free, &volume.path, "volume for it")?;
    }
    check(needs.here + needs.journals_here, destination, "--dest")?;
    let in_cache = needs.in_cache + needs.journals_in_cache;
    cache.map_or(Ok(()), |cache| check(in_cache, cache.place(), "--cache"))
}
