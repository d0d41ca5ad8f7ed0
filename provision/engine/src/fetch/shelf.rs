//! A store that is a directory of this machine, during a run: what it has is copied, and wrong bytes leave it out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use camino::Utf8PathBuf;

use crate::transfer::{Attempt, SourceError};
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_core::source_url::SourceUrl;
use provision_core::store_address::StoreAddress;

/// A store that is a directory: it has each file under its digest.
pub(super) struct Shelf {
    directory: Utf8PathBuf,
    /// It had wrong bytes, or could not be read. Said once; the run goes on without it.
    is_out: AtomicBool,
    /// The digests of the models for which it had other bytes, and of these.
    wrong: Mutex<Vec<(Sha256, Sha256)>>,
}

impl Shelf {
    /// The store at an address; `None` if that is no directory.
    pub(super) fn of(address: &StoreAddress) -> Option<Self> {
        let StoreAddress::Directory(directory) = address else { return None };
        Some(Self { directory: directory.clone(), is_out: AtomicBool::new(false), wrong: Mutex::default() })
    }

    /// Its file for a model.
    pub(super) fn path_of(&self, model: &Model) -> Utf8PathBuf {
        self.path_of_digest(&model.sha256)
    }

    /// Its file with this digest.
    pub(super) fn path_of_digest(&self, sha256: &Sha256) -> Utf8PathBuf {
        self.directory.join(sha256.to_string())
    }

    /// True once the store was left out.
    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }

    /// It has bytes with the digest `found` in a model's place.
    pub(super) fn has_wrong(&self, model: &Model, found: Sha256) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push((model.sha256, found));
    }

    /// The failure of this source for a model for which it had other bytes.
    pub(super) fn failure(&self, model: &Model) -> Option<Attempt> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let (expected, found) = *wrong.iter().find(|(expected, _)| *expected == model.sha256)?;
        let source = SourceUrl::of_file(&self.path_of(model))?;
        Some(Attempt { source, error: SourceError::WrongDigest { expected, found, sniffed: None } })
    }

    /// Leaves the store out for the rest of the run.
    pub(super) fn leave_out(&self, path: &Utf8PathBuf, reason: &str, observer: &dyn Observer) {
        if !self.is_out.swap(true, Ordering::Relaxed) {
            let (directory, reason) = (&self.directory, without_path(path, reason));
            let message = format!("the store file://{directory} is not used any more: {path}: {reason}");
            observer.observe(&Event::Warning { message });
        }
    }
}

/// A reason without the path at its beginning.
pub(super) fn without_path<'r>(path: &Utf8PathBuf, reason: &'r str) -> &'r str {
    reason.strip_prefix(path.as_str()).map_or(reason, |rest| rest.trim_start_matches([':', ' ']))
}
