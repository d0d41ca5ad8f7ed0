//! Downloads for the transfer: each missing file gets a directory for its part, and a step that follows its install.
//!
//! Without a cache a part lies beside its target. With a cache it lies there, and the installed object is linked or
//! copied into the destination. A part that an earlier run left beside its target is completed there and then goes into
//! the cache.

use std::sync::Arc;

use tokio::sync::watch;

use super::run_state::{Missing, RunState};
use crate::cache::Cache;
use crate::piece_lists::PieceLists;
use crate::transfer::{AfterInstall, Download};
use provision_core::event::{Event, FileIndex, Observer};
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;
use provision_core::source_url::SourceUrl;
use provision_core::store_address::StoreAddress;
use provision_disk::{
    self, CopyError, Destination, DestinationLock, DiskError, Installed, LinkedFile, PartFile, PartNames,
    PartOptions, SourceFile,
};

/// Turns a plan's missing files into downloads.
pub(super) struct Collector<'a> {
    pub(super) destination: &'a Arc<Destination>,
    pub(super) part_names: &'a PartNames,
    /// The cache and its lock.
    pub(super) cache: Option<(&'a Cache, &'a DestinationLock)>,
    pub(super) observer: &'a Arc<dyn Observer>,
    pub(super) interrupted: &'a watch::Receiver<bool>,
    pub(super) lists: &'a PieceLists,
    /// The site's stores.
    pub(super) stores: &'a [StoreAddress],
    /// Bytes on disk do not count.
    pub(super) force: bool,
}

impl Collector<'_> {
    /// Downloads for the files that `run` lacks. Reads and verifies the parts in the cache. Stops early if interrupted.
    pub(super) fn collect(&self, run: &mut RunState<'_>, models: &[&Model]) -> Vec<Download> {
        let mut downloads = Vec::new();
        for Missing { index, part, to_cache } in run.take_missing() {
            let model = models[index];
            let part = part.or_else(|| self.unopened_part(model));
            match self.cache.filter(|_| to_cache && part.is_none()) {
                None => downloads.push(self.beside_target(index, model, part)),
                Some((cache, guard)) => match self.in_cache(index, model, cache, guard) {
                    Ok(one) => downloads.push(one),
                    Err(DiskError::Interrupted { .. }) => break,
                    Err(error) => {
                        let message =
                            format!("{} is downloaded without the cache: {}", model.path, error.reason());
                        self.observer.observe(&Event::Warning { message });
                        downloads.push(self.beside_target(index, model, None));
                    }
                },
            }
            if *self.interrupted.borrow() {
                break;
            }
        }
        downloads
    }

    /// The part of an earlier run beside the target. The plan did not open it: it had a local file to copy, which was
    /// wrong.
    fn unopened_part(&self, model: &Model) -> Option<Box<PartFile>> {
        let list = self.lists.of(model);
        if self.force
            || PartFile::claimed_bytes(self.destination, model, list.as_deref())
                .is_ok_and(|claimed| claimed == 0)
        {
            return None;
        }
        let go_on = || !*self.interrupted.borrow();
        // The transfer opens it again, and reports the failure.
        let options = PartOptions::with_list(self.part_names, list);
        let part = PartFile::resume(self.destination, model, options, go_on).ok()?;
        (part.held() > 0).then(|| Box::new(part))
    }

    fn beside_target(&self, index: FileIndex, model: &Model, part: Option<Box<PartFile>>) -> Download {
        let list = self.lists.of(model);
        let fill = |(cache, guard): (&Cache, &DestinationLock)| {
            self.fill(model, cache, (part_names(guard.is_exclusive()), list.clone()))
        };
        Download {
            index,
            model: asked(model.clone()),
            stores: self.stores_of(model),
            place: self.destination.clone(),
            part_names: self.part_names.clone(),
            part: part.map(|part| *part),
            then: self.cache.map(fill),
            pieces: list,
        }
    }

    fn in_cache(
        &self,
        index: FileIndex,
        model: &Model,
        cache: &Cache,
        guard: &DestinationLock,
    ) -> Result<Download, DiskError> {
        let (object, part_names) = (Cache::object(model), part_names(guard.is_exclusive()));
        if self.force {
            PartFile::discard(cache.place(), &object)?;
        }
        let list = self.lists.of(model);
        let claimed = PartFile::claimed_bytes(cache.place(), &object, list.as_deref())?;
        let has_part = claimed > 0 || part_names != PartNames::Shared;
        let part = if has_part {
            let go_on = || !*self.interrupted.borrow();
            let options = PartOptions::with_list(&part_names, list.clone());
            Some(PartFile::resume(cache.place(), &object, options, go_on)?).filter(|part| part.held() > 0)
        } else {
            // Without a byte of the list or a journal the part cannot be resumed, and it may fill the disk.
            PartFile::discard(cache.place(), &object)?;
            None
        };
        let place = cache.place().clone();
        Ok(Download {
            index,
            model: asked(object),
            stores: self.stores_of(model),
            place,
            part_names,
            part,
            then: Some(self.deliver(model, cache, list.clone())),
            pieces: list,
        })
    }

    /// The file's addresses at the stores, with the stores' numbers.
    fn stores_of(&self, model: &Model) -> Vec<(usize, SourceUrl)> {
        let Model { path, size, sha256, .. } = model;
        let stores = self.stores.iter().enumerate();
        stores.filter_map(|(number, store)| Some((number, store.url_of(path, *size, sha256)?))).collect()
    }

    /// Links or copies the object from the cache into the destination.
    fn deliver(&self, model: &Model, cache: &Cache, list: Option<Arc<PieceList>>) -> AfterInstall {
        let (cache, model) = (cache.clone(), model.clone());
        let (destination, part_names) = (self.destination.clone(), self.part_names.clone());
        let interrupted = self.interrupted.clone();
        AfterInstall(Box::new(move |installed| {
            let object = SourceFile::open_installed(cache.place(), &installed)?;
            let object = object.ok_or_else(|| DiskError::Missing {
                path: cache.place().root().path().join(installed.path.as_str()),
            })?;
            // The time of last use only matters to pruning.
            let _ = cache.touch(&model.sha256);
            let options = PartOptions::with_list(&part_names, list.clone());
            link_or_copy(&object, (&destination, options), &model, &interrupted)
        }))
    }

    /// Links or copies the file from the destination into the cache. A failure is a warning: the file itself is
    /// installed.
    fn fill(
        &self,
        model: &Model,
        cache: &Cache,
        (part_names, list): (PartNames, Option<Arc<PieceList>>),
    ) -> AfterInstall {
        let (cache, object) = (cache.clone(), Cache::object(model));
        let destination = self.destination.clone();
        let (interrupted, observer) = (self.interrupted.clone(), self.observer.clone());
        AfterInstall(Box::new(move |installed| {
            let filled = match SourceFile::open_installed(&destination, &installed) {
                Ok(Some(file)) => {
                    let options = PartOptions::with_list(&part_names, list.clone());
                    link_or_copy(&file, (cache.place(), options), &object, &interrupted).map(drop)
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            match filled {
                Ok(()) => {
                    let _ = cache.touch(&object.sha256);
                }
                Err(DiskError::Interrupted { .. }) => {}
                Err(error) => observer.observe(&Event::Warning {
                    message: format!("{} is not in the cache: {}", installed.path, error.reason()),
                }),
            }
            Ok(installed)
        }))
    }
}

/// The model without its directories of this machine, which have been looked at, unless it has no other source.
fn asked(mut model: Model) -> Model {
    if model.sources.iter().any(|source| source.file().is_none()) {
        model.sources.retain(|source| source.file().is_none());
    }
    model
}

/// Gives the file another name, or copies it if a hard link is not possible. The copy is verified by the same evidence
/// as the file.
fn link_or_copy(
    file: &SourceFile,
    (place, options): (&Destination, PartOptions<'_>),
    model: &Model,
    interrupted: &watch::Receiver<bool>,
) -> Result<Installed, DiskError> {
    let go_on = || !*interrupted.borrow();
    let to = (place, options.clone());
    let copied = match provision_disk::install_hard_link(to, model, (file, LinkedFile::OfCache), go_on) {
        Ok(Some(installed)) => Ok(installed),
        Ok(None) => {
            let copied = provision_disk::install_copy((place, options), model, file, |_| go_on());
            copied.map(|(installed, _)| installed)
        }
        Err(error) => Err(error),
    };
    copied.map_err(|error| match error {
        CopyError::Pieces { .. } => DiskError::CopyDiffers { path: place.path_of(&model.path) },
        error => error.into_disk_error(),
    })
}

/// The names of parts in locked directories: shared with later runs if no other run can work there.
pub(super) fn part_names(is_exclusive: bool) -> PartNames {
    if is_exclusive { PartNames::Shared } else { PartNames::per_process() }
}
