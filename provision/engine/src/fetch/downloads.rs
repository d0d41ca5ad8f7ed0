//! What is missing, as the transfer wants it: where each file's bytes are collected, and what is done with it then.
//!
//! Without a cache a part lies beside its target. With one, it lies in the cache, and the installed object is then given
//! its name in the destination; a part that an earlier run left beside its target is finished there, and goes into the
//! cache afterwards.

use std::sync::Arc;

use tokio::sync::watch;

use super::naming;
use super::run_state::{Missing, Work};
use crate::cache::Cache;
use crate::transfer::{Then, Wanted};
use provision_core::event::{Event, FileIndex, Observer};
use provision_core::lockfile::Model;
use provision_disk::{
    self, CopyError, Destination, DestinationLock, Installed, PartFile, PartNames, SourceFile, StoreError,
};

/// Makes a plan's missing files what the transfer wants.
pub(super) struct Collector<'a> {
    pub(super) destination: &'a Arc<Destination>,
    pub(super) naming: &'a PartNames,
    /// The cache and the right to work in it.
    pub(super) cache: Option<(&'a Cache, &'a DestinationLock)>,
    pub(super) observer: &'a Arc<dyn Observer>,
    pub(super) interrupted: &'a watch::Receiver<bool>,
    /// What is there does not count.
    pub(super) force: bool,
}

impl Collector<'_> {
    /// What `work` lacks. Reads and proves the parts that there are in the cache.
    pub(super) fn collect(&self, work: &mut Work<'_>, models: &[&Model]) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for Missing { index, part, to_cache } in work.take_missing() {
            let model = models[index];
            match self.cache.filter(|_| to_cache) {
                None => wanted.push(self.beside_target(index, model, part)),
                Some((cache, guard)) => match self.in_cache(index, model, cache, guard) {
                    Ok(one) => wanted.push(one),
                    Err(StoreError::Interrupted { .. }) => break,
                    Err(error) => {
                        let message = format!("{} is fetched past the cache: {}", model.path, error.reason());
                        self.observer.observe(&Event::Warning { message });
                        wanted.push(self.beside_target(index, model, None));
                    }
                },
            }
            if *self.interrupted.borrow() {
                break;
            }
        }
        wanted
    }

    fn beside_target(&self, index: FileIndex, model: &Model, part: Option<Box<PartFile>>) -> Wanted {
        Wanted {
            index,
            model: model.clone(),
            place: self.destination.clone(),
            naming: self.naming.clone(),
            part: part.map(|part| *part),
            then: self.cache.map(|(cache, guard)| self.fill(model, cache, naming(guard))),
        }
    }

    fn in_cache(
        &self,
        index: FileIndex,
        model: &Model,
        cache: &Cache,
        guard: &DestinationLock,
    ) -> Result<Wanted, StoreError> {
        let (object, naming) = (Cache::object(model), naming(guard));
        if self.force {
            PartFile::discard(cache.place(), &object)?;
        }
        let has_part = PartFile::journaled_bytes(cache.place(), &object)? > 0 || naming != PartNames::Shared;
        let part = if has_part {
            let go_on = || !*self.interrupted.borrow();
            Some(PartFile::resume(cache.place(), &object, &naming, go_on)?).filter(|part| part.held() > 0)
        } else {
            // A part that no journal vouches for is worth nothing, and may be what fills the disk.
            PartFile::discard(cache.place(), &object)?;
            None
        };
        let place = cache.place().clone();
        Ok(Wanted { index, model: object, place, naming, part, then: Some(self.deliver(model, cache)) })
    }

    /// From the cache to the destination.
    fn deliver(&self, model: &Model, cache: &Cache) -> Then {
        let (cache, model) = (cache.clone(), model.clone());
        let (destination, naming) = (self.destination.clone(), self.naming.clone());
        let interrupted = self.interrupted.clone();
        Then(Box::new(move |installed| {
            let object = SourceFile::open_installed(cache.place(), &installed)?;
            let object = object.ok_or_else(|| StoreError::Missing {
                path: cache.place().root().path().join(installed.path.as_str()),
            })?;
            // What was used when only matters to pruning.
            let _ = cache.touch(&model.sha256);
            give(&object, (&destination, &naming), &model, &interrupted)
        }))
    }

    /// From the destination to the cache, which is a courtesy: it fails nothing.
    fn fill(&self, model: &Model, cache: &Cache, naming: PartNames) -> Then {
        let (cache, object) = (cache.clone(), Cache::object(model));
        let destination = self.destination.clone();
        let (interrupted, observer) = (self.interrupted.clone(), self.observer.clone());
        Then(Box::new(move |installed| {
            let filled = match SourceFile::open_installed(&destination, &installed) {
                Ok(Some(file)) => give(&file, (cache.place(), &naming), &object, &interrupted).map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            match filled {
                Ok(()) => {
                    let _ = cache.touch(&object.sha256);
                }
                Err(StoreError::Interrupted { .. }) => {}
                Err(error) => observer.observe(&Event::Warning {
                    message: format!("{} is not in the cache: {}", installed.path, error.reason()),
                }),
            }
            Ok(installed)
        }))
    }
}

/// One more name for the file, or a copy of it where the file systems want that.
fn give(
    file: &SourceFile,
    (place, naming): (&Destination, &PartNames),
    model: &Model,
    interrupted: &watch::Receiver<bool>,
) -> Result<Installed, StoreError> {
    let go_on = || !*interrupted.borrow();
    let copied = match provision_disk::install_hard_link((place, naming), model, file, go_on) {
        Ok(Some(installed)) => Ok(installed),
        Ok(None) => {
            provision_disk::install_copy((place, naming), model, file, |_| go_on()).map(|(copy, _)| copy)
        }
        Err(error) => Err(error),
    };
    copied.map_err(|error| match error {
        CopyError::Source(error) | CopyError::Part(error) => error,
    })
}
