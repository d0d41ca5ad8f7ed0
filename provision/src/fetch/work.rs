//! The run's files, from the plan to what became of them.

use std::sync::Arc;
use std::time::Instant;

use super::plan::{Item, Plan, planned};
use super::report::FileReport;
use crate::event::{Event, Observer, Outcome, PlannedFile};
use crate::lockfile::Model;
use crate::store::{Destination, Installed, Naming, PartFile, StoreError};
use crate::transfer::{Fetched, FileError, Wanted};

/// The run's files as they come to be right.
pub(super) struct Work {
    items: Vec<Item>,
    pub(super) plan: Vec<PlannedFile>,
    pub(super) files: Vec<FileReport>,
    pub(super) installed: Vec<Installed>,
    /// Sizes only were looked at: a marker must not vouch for what nobody proved.
    unproven: bool,
}

impl Work {
    pub(super) fn new(models: &[&Model], items: Vec<Item>, unproven: bool) -> Self {
        let plan = planned(&items, models);
        let files = models.iter().map(|model| FileReport::of(model, Ok(None))).collect();
        Self { items, plan, files, installed: Vec::new(), unproven }
    }

    /// Takes what is to be fetched out of the plan.
    pub(super) fn wanted(&mut self, models: &[&Model], observer: &dyn Observer) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (index, (item, model)) in self.items.iter_mut().zip(models).enumerate() {
            match std::mem::replace(&mut item.plan, Plan::WouldFetch(0)) {
                Plan::Present(installed) => {
                    self.files[index].result = Ok(Some(Outcome::Present));
                    self.installed.push(installed);
                }
                Plan::Fetch(part) => {
                    wanted.push(Wanted { index, model: (*model).clone(), part: part.map(|part| *part) });
                }
                Plan::Failed(error) => {
                    let error = FileError::of_store(error);
                    observer.observe(&Event::Failed { file: index, reason: error.reason() });
                    self.files[index].result = Err(error);
                }
                copy @ Plan::CopyOf(_) => item.plan = copy,
                Plan::WouldFetch(_) => {}
            }
        }
        wanted
    }

    pub(super) fn fetched(&mut self, fetched: Fetched) {
        let file = &mut self.files[fetched.index];
        file.source = Some(fetched.source.to_string());
        (file.fetched, file.resumed, file.elapsed) = (fetched.fetched, fetched.resumed, fetched.elapsed);
        (file.connections, file.retries) = (fetched.connections, fetched.retries);
        file.result = match fetched.result {
            Ok(Some(installed)) => {
                self.installed.push(installed);
                Ok(Some(Outcome::Fetched))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
    }

    /// Makes the files whose bytes another file has.
    pub(super) fn copy(
        &mut self,
        models: &[&Model],
        destination: &Destination,
        naming: &Naming,
        observer: &dyn Observer,
    ) {
        for at in 0..self.items.len() {
            let Plan::CopyOf(other) = self.items[at].plan else { continue };
            let started = Instant::now();
            let from = models[other];
            if !matches!(self.files[other].result, Ok(Some(_))) {
                let error = FileError::of_original(&from.path);
                observer.observe(&Event::Failed { file: at, reason: error.reason() });
                self.files[at].result = Err(error);
                continue;
            }
            match copy(destination, from, models[at], naming) {
                Ok(installed) => {
                    self.installed.push(installed);
                    self.files[at].result = Ok(Some(Outcome::Copied));
                    let elapsed = started.elapsed();
                    observer.observe(&Event::Finished {
                        file: at,
                        outcome: Outcome::Copied,
                        fetched: 0,
                        elapsed,
                    });
                }
                Err(error) => {
                    let error = FileError::of_store(error);
                    observer.observe(&Event::Failed { file: at, reason: error.reason() });
                    self.files[at].result = Err(error);
                }
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.unproven && self.files.iter().all(|file| matches!(file.result, Ok(Some(_))))
    }
}

fn copy(
    destination: &Destination,
    from: &Model,
    to: &Model,
    naming: &Naming,
) -> Result<Installed, StoreError> {
    let part = Arc::new(PartFile::open(destination, to, naming, || true)?);
    let missing = || StoreError::Missing { path: destination.root().path().join(from.path.as_str()) };
    let directory = destination.parent(&from.path, false)?.ok_or_else(missing)?;
    let (file, _) = directory.open_file(from.path.file_name())?.ok_or_else(missing)?;
    part.copy_from(&file)?;
    part.verify()?.install()
}
