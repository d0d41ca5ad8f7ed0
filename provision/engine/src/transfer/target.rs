//! A file that claims write to: its part, where its source led, and what the answers have said of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Then, Wanted};
use provision_core::event::FileIndex;
use provision_core::lockfile::Model;
use provision_core::redact::Redactor;
use provision_disk::{Destination, Installed, PartFile, PartNames, StoreError};
use provision_http::{HttpClient, Resolved};

/// A file that claims write to.
pub(super) struct Target {
    pub(super) index: FileIndex,
    pub(super) model: Model,
    place: Arc<Destination>,
    naming: PartNames,
    pub(super) part: PartCell,
    then: Option<Then>,
    /// Where the source led. Under the lock of `resolving`, so that a file is resolved once and not by every
    /// connection that it has.
    pub(super) resolved: Mutex<Option<Resolved>>,
    pub(super) resolving: tokio::sync::Mutex<()>,
    /// How often resolving has failed: whoever waited for it meanwhile does not try the same again at once.
    pub(super) unresolved: AtomicU64,
    /// Bytes have come from where the source led last.
    pub(super) answered: AtomicBool,
    etag: Mutex<Option<String>>,
    /// Bytes written in this run and still held.
    pub(super) gained: AtomicU64,
}

/// The part, opened by the first claim and closed when the file is done.
#[derive(Default)]
pub(super) struct PartCell(Mutex<Option<Arc<PartFile>>>);

impl PartCell {
    /// The part, if it is open.
    pub(super) fn get(&self) -> Option<Arc<PartFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes it once its last user is done.
    pub(super) fn take(&self) -> Option<Arc<PartFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Target {
    pub(super) fn new(wanted: Wanted) -> Self {
        let Wanted { index, model, place, naming, part, then } = wanted;
        Self {
            index,
            model,
            place,
            naming,
            part: PartCell(Mutex::new(part.map(Arc::new))),
            then,
            resolved: Mutex::new(None),
            resolving: tokio::sync::Mutex::new(()),
            unresolved: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            etag: Mutex::new(None),
            gained: AtomicU64::new(0),
        }
    }

    /// What is still to be done with a file that has been installed. Blocks.
    pub(super) fn deliver(&self, installed: Installed) -> Result<Installed, StoreError> {
        // Its bytes are all there: a source cannot help with what goes wrong from here on.
        let differs = |error| match error {
            StoreError::Mismatch { path, .. } => StoreError::CopyDiffers { path },
            error => error,
        };
        match &self.then {
            Some(Then(then)) => then(installed).map_err(differs),
            None => Ok(installed),
        }
    }

    /// The part, opened now if it was not. Blocks.
    pub(super) fn open(&self) -> Result<Arc<PartFile>, StoreError> {
        let mut part = self.part.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = &*part {
            return Ok(part.clone());
        }
        let opened = Arc::new(PartFile::open(&self.place, &self.model, &self.naming, || true)?);
        if opened.held() > 0 {
            // The plan knew of none of these bytes, so connections are about to write them: not twice.
            opened.reset()?;
        }
        *part = Some(opened.clone());
        Ok(opened)
    }

    /// Another source, or the same one from the start: what its answers said does not hold any more.
    pub(super) fn forget_answers(&self) {
        self.forget_place();
        *self.etag.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether bytes have come from where the source led last.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Where the source led does not hold any more.
    pub(super) fn forget_place(&self) {
        self.answered.store(false, Ordering::Relaxed);
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What must not be shown where the bytes that have come repeat it.
    pub(super) fn told(&self, origin: &HttpClient) -> Redactor {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        origin.redactor(self.model.sources.iter().chain(resolved.iter().flat_map(Resolved::urls)))
    }

    /// Whether an answer's validator is the one seen before. The first is remembered.
    pub(super) fn is_same_version(&self, etag: Option<&String>) -> bool {
        let mut seen = self.etag.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*seen, etag) {
            (Some(seen), Some(etag)) => seen == etag,
            (None, Some(etag)) => {
                *seen = Some(etag.clone());
                true
            }
            (_, None) => true,
        }
    }
}
