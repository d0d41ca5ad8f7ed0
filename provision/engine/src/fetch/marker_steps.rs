//! The marker's part in a run: it is removed before a listed file changes, it tells verified files from files of the right
//! size, and a partial record is kept if the set does not become complete.

use super::plan::{Item, Plan};
use crate::marker::Marker;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::{Lockfile, Model};
use provision_disk::{Destination, Installed, StoreError};

/// Removes the marker, durably, if it lists a file that the plan replaces.
pub(super) fn invalidate(
    marker: &Marker,
    destination: &Destination,
    name: &str,
    plan: &[Item],
    models: &[&Model],
) -> Result<(), StoreError> {
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
