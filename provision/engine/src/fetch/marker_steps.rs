//! The marker's part in a run. A valid one ends the run. It is removed before a listed file changes. It tells verified
//! files from files of the right size. A partial record is kept if the set does not become complete.

use std::sync::Arc;

use camino::Utf8Path;

use super::job::FetchConfig;
use super::plan::{Item, Plan};
use crate::marker::Marker;
use crate::piece_lists::{ListPlaces, PieceLists};
use provision_core::event::{Event, Observer, Silent};
use provision_core::lockfile::{Lockfile, Model};
use provision_disk::{Destination, DiskError, Installed};

/// Step 1: true if the marker lists every one of `models`, and each file is unchanged. Then the only work is to keep
/// the piece lists that have come beside the lock since.
pub fn marker_covers(
    path: &Utf8Path,
    config: &FetchConfig,
    (lock, lists): (&Lockfile, &ListPlaces),
    models: &[&Model],
) -> bool {
    let Some(destination) = open(path, config) else { return false };
    let is_covered = Marker::load(&destination, lock.marker()).covers(&destination, models.iter().copied());
    if is_covered {
        let lists = PieceLists::on_disk(lists, Some(Arc::new(destination)), Arc::new(Silent));
        lists.keep(models.iter().copied());
    }
    is_covered
}

/// Step 1 without parsing the models: the number of files and the marker's name. The marker lists every model of the
/// lock that consists of `texts`, and their piece lists are kept. `None` means that only [`marker_covers`] can tell.
pub fn marker_covers_texts(path: &Utf8Path, config: &FetchConfig, texts: &[&str]) -> Option<(usize, String)> {
    let (name, digest) = Lockfile::peek(texts)?;
    let destination = open(path, config)?;
    let marker = Marker::load(&destination, &name);
    let files = marker.covers_text(&destination, &digest)?;
    Some((files, name))
}

fn open(path: &Utf8Path, config: &FetchConfig) -> Option<Destination> {
    Some(config.prepare(Destination::open(path).ok()??))
}

/// Removes the marker, durably, if it lists a file that the plan replaces.
pub(super) fn invalidate(
    marker: &Marker,
    destination: &Destination,
    name: &str,
    plan: &[Item],
    models: &[&Model],
) -> Result<(), DiskError> {
    let changes =
        |(item, model): (&Item, &&Model)| !matches!(item.plan, Plan::Present(_)) && marker.lists(&model.path);
    if plan.iter().zip(models).any(changes) { Marker::remove(destination, name) } else { Ok(()) }
}

/// True if the marker lists every file that the plan takes for present. A file that only has the right size is not
/// verified.
pub(super) fn presence_is_verified(
    marker: &Marker,
    destination: &Destination,
    plan: &[Item],
    models: &[&Model],
) -> bool {
    plan.iter().zip(models).all(|(item, model)| match &item.plan {
        Plan::Present(_) => marker.vouched(destination, model).is_some(),
        _ => true,
    })
}

/// Records the verified files of a set that is not complete, so that the next run need not read them again. The record
/// only saves time, so a failure is a warning.
pub(super) fn keep_partial(
    marker: &Marker,
    destination: &Destination,
    lock: &Lockfile,
    verified: &[Installed],
    observer: &dyn Observer,
) {
    if !verified.is_empty()
        && let Err(error) = marker.write_partial(destination, lock, verified)
    {
        let message = format!("the next run will hash every file again: {}", error.reason());
        observer.observe(&Event::Warning { message });
    }
}
