//! Warnings of a run: facts that the user should know and that fail nothing.

use camino::Utf8Path;

use super::report::FileReport;
use provision_core::event::{Event, Observer, Outcome};
use provision_core::lockfile::Model;
use provision_core::safetensors;
use provision_core::shortened_list::shortened_list;
use provision_disk::{Destination, DiskError};

/// The run goes on without its cache, which only saves time.
pub(super) fn warn_cache_unused(observer: &dyn Observer, path: &Utf8Path, why: &dyn std::fmt::Display) {
    observer.observe(&Event::Warning { message: format!("the cache {path} is not used: {why}") });
}

/// The set is complete, and this user may not write the marker.
pub(super) fn warn_without_marker(why: &DiskError, observer: &dyn Observer) {
    let message =
        format!("no marker could be written, so each run checks every file again: {}", why.reason());
    observer.observe(&Event::Warning { message });
}

/// One warning for all pickles of the run: users do not read a warning that repeats for hundreds of files.
pub(super) fn warn_of_pickles(models: &[&Model], observer: &dyn Observer) {
    const NAMED: usize = 3;
    let pickles: Vec<&str> =
        models.iter().filter(|model| model.is_pickle()).map(|model| model.path.as_str()).collect();
    if pickles.is_empty() {
        return;
    }
    let names = shortened_list(pickles, NAMED);
    let message = format!(
        "{names}: files of this kind are usually pickles, and loading a pickle runs the code in it; use safetensors if you can"
    );
    observer.observe(&Event::Warning { message });
}

/// Warns of a newly installed file that has the lock's digest but is no valid safetensors file: the lock itself may
/// list wrong bytes.
pub(super) fn warn_of_headers(destination: &Destination, files: &[FileReport], observer: &dyn Observer) {
    let is_new = |file: &&FileReport| matches!(file.result, Ok(Some(outcome)) if outcome != Outcome::Present);
    for FileReport { path, .. } in files.iter().filter(is_new) {
        let is_safetensors = path.extension().as_deref() == Some("safetensors");
        // A file that this run cannot open, such as a link to a baked file, is not checked.
        if is_safetensors
            && let Ok(Some(directory)) = destination.parent(path, false)
            && let Ok(Some((file, stamp))) = directory.open_file(path.file_name())
            && let Err(error) = safetensors::check(file, stamp.size)
        {
            let message = format!(
                "{path}: it has the SHA-256 that the lock names and is installed, but no loader will take it: {error}"
            );
            observer.observe(&Event::Warning { message });
        }
    }
}
