//! A run that cannot start or continue. Failures of single files are in the report instead.

use std::time::Duration;

use camino::Utf8PathBuf;

use provision_core::lockfile::Model;
use provision_core::shortened_list::shortened_list;
use provision_disk::DiskError;

/// The files that an error names.
pub(super) const NAMED: usize = 8;

/// A run that cannot start or continue. Failures of single files are in their [reports](super::FileReport).
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another run holds the destination's lock.
    #[error(
        "timed out after {} s waiting for the lock held by another run: {holder}. Wait for that run to end, stop it, \
         or raise --wait",
        waited.as_secs()
    )]
    Busy {
        /// The lock's path and the known facts about its holder.
        holder: String,
        /// The time that this run waited.
        waited: Duration,
    },
    /// Files are missing, and the run may not write to the destination.
    #[error("{count} of {total} files are missing or wrong: {names}; {}", source.reason())]
    Unwritable {
        /// Number of files that are missing or wrong.
        count: usize,
        /// Number of files of the run.
        total: usize,
        /// The first few paths.
        names: String,
        /// The refused write.
        source: DiskError,
    },
    /// Files are missing, and the run may not use the network.
    #[error(
        "--offline is set and {count} files are missing: {names}. Run without --offline to download them"
    )]
    Offline {
        /// Number of missing files.
        count: usize,
        /// The first few paths.
        names: String,
    },
    /// The destination and the cache are one directory.
    #[error("{path} is both the destination and the cache; give --cache a directory of its own")]
    CacheIsDestination {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// The run was stopped while it waited for a lock or planned.
    #[error("interrupted; rerun to resume")]
    Interrupted,
}

/// Refuses an offline run that lacks bytes. `missing` has each model with its number of missing bytes. A model with all
/// its bytes in the part only has to be verified, which needs no network.
pub(super) fn refuse_offline(missing: &[(&Model, u64)]) -> Result<(), FetchError> {
    let missing: Vec<&str> =
        missing.iter().filter(|(_, rest)| *rest > 0).map(|(model, _)| model.path.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(FetchError::Offline { count: missing.len(), names: shortened_list(&missing, NAMED) })
}
