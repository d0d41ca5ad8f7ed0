//! The result of a run, file by file.

use std::time::{Duration, Instant};

use crate::transfer::FileError;
use provision_core::event::{Outcome, Planned, PlannedFile, SourceBytes};
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::piece_list::VerifiedBy;

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// Each file, in the lock's order.
    pub files: Vec<FileReport>,
    /// Wall time.
    pub elapsed: Duration,
    /// The plan, as the observer received it.
    pub plan: Vec<PlannedFile>,
    /// Bytes free at the destination when the plan was made.
    pub free: u64,
    /// The marker covered every file.
    pub by_marker: bool,
    /// The run was stopped before it was done.
    pub interrupted: bool,
}

/// The result of one file.
#[derive(Debug)]
pub struct FileReport {
    /// Its path.
    pub path: ModelPath,
    /// Its length in bytes.
    pub size: u64,
    /// The way the file was installed; `None` if it is missing.
    pub result: Result<Option<Outcome>, FileError>,
    /// The source of its last bytes, without its query, or the file of another program's store that had them. `None` if
    /// no request was made.
    pub source: Option<String>,
    /// The bytes of each source, if several or a store gave some.
    pub sources: Vec<SourceBytes>,
    /// The store of that file, as messages name it.
    pub store: Option<String>,
    /// Bytes received in this run and kept.
    pub fetched: u64,
    /// Bytes held from earlier runs.
    pub resumed: u64,
    /// Bytes copied by piece from other files on this machine.
    pub reused: u64,
    /// Bytes of pieces that were wrong, and fetched again.
    pub dropped: u64,
    /// The evidence of this run for the installed bytes; `None` if only the marker vouches for them.
    pub verified_by: Option<VerifiedBy>,
    /// From its first request to its end.
    pub elapsed: Duration,
    /// The most connections that it had at once.
    pub connections: usize,
    /// Failures that were tried again.
    pub retries: u32,
}

impl Report {
    /// A report for a set that is present. `by_marker` means that only the marker was checked.
    pub fn all_present(models: &[&Model], started: Instant, by_marker: bool) -> Self {
        let present = |model: &&Model| PlannedFile {
            path: model.path.clone(),
            size: model.size,
            held: model.size,
            here: 0,
            plan: Planned::Present,
        };
        Self {
            files: models.iter().map(|model| FileReport::of(model, Ok(Some(Outcome::Present)))).collect(),
            elapsed: started.elapsed(),
            plan: models.iter().map(present).collect(),
            free: 0,
            by_marker,
            interrupted: false,
        }
    }

    /// True if every file is installed.
    pub fn is_complete(&self) -> bool {
        self.files.iter().all(|file| matches!(file.result, Ok(Some(_))))
    }
}

impl FileReport {
    pub(super) fn of(model: &Model, result: Result<Option<Outcome>, FileError>) -> Self {
        Self {
            path: model.path.clone(),
            size: model.size,
            result,
            source: None,
            sources: Vec::new(),
            store: None,
            fetched: 0,
            resumed: 0,
            reused: 0,
            dropped: 0,
            verified_by: None,
            elapsed: Duration::ZERO,
            connections: 0,
            retries: 0,
        }
    }
}
