//! Copies and links of local files: each model gets the first candidate of [`LocalSources`](super::local_sources) with
//! its bytes, which are verified while they are copied, or before they are linked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use camino::Utf8PathBuf;
use tokio::sync::watch;

use super::local_sources::{BakedMode, Candidate, CandidateKind, reason, warn_unused};
use super::other_programs::{FoundFile, Likeness, Stores};
use super::store_directory::StoreDirectory;
use crate::cache::Cache;
use crate::piece_lists::PieceLists;
use provision_core::byte_range::ByteRange;
use provision_core::event::{Event, FileIndex, Observer, Outcome};
use provision_core::lockfile::Model;
use provision_core::piece_list::{PieceList, VerifiedBy};
use provision_disk::{
    self, CopyError, Destination, DiskError, Installed, LinkedFile, PartFile, PartNames, PartOptions,
    SourceFile,
};

/// A local copy that is wrong. Some of its pieces may be right.
#[derive(Debug)]
pub(super) struct WrongCopy {
    /// The file that it should have been.
    pub(super) index: FileIndex,
    pub(super) file: SourceFile,
    /// Its wrong ranges, if it was compared by pieces.
    pub(super) wrong: Option<Vec<ByteRange>>,
}

/// The end of an attempt to install a model from local files.
pub(super) enum CopyOutcome {
    Installed(Installed, Outcome),
    /// From this file of the store with this name.
    Reused(Installed, Utf8PathBuf, String),
    /// No candidate had all bytes. The part has the right pieces of copied ones, which are that many bytes.
    Nowhere(Option<Box<PartFile>>, u64),
    /// The run was stopped.
    Interrupted,
    Failed(DiskError),
}

/// Installs models from local files.
pub(super) struct LocalCopier<'a> {
    pub(super) destination: &'a Destination,
    pub(super) part_names: &'a PartNames,
    pub(super) cache: Option<&'a Cache>,
    pub(super) other_cache: Option<&'a Cache>,
    pub(super) store_directories: &'a [StoreDirectory],
    pub(super) stores: Option<&'a Stores<'a>>,
    pub(super) lists: &'a PieceLists,
    /// Gets the wrong copies of which no piece was taken.
    pub(super) wrong: &'a Mutex<Vec<WrongCopy>>,
    /// The number of files that are copied at once.
    pub(super) at_once: usize,
    pub(super) observer: &'a dyn Observer,
    pub(super) interrupted: &'a watch::Receiver<bool>,
}

impl LocalCopier<'_> {
    /// Tries the candidates in order, then the stores, which the plan searches only for a file without a candidate.
    pub(super) fn copy_in(&self, index: FileIndex, model: &Model, candidates: &[Candidate]) -> CopyOutcome {
        let unsearched = || {
            let is_of_store = |candidate: &Candidate| matches!(candidate.kind, CandidateKind::Store { .. });
            let stores = self.stores.filter(|_| !candidates.iter().any(is_of_store));
            stores.map(|stores| stores.find(model)).unwrap_or_default()
        };
        // Copied in any case: the markers of other locks are still there, and none may vouch for a linked file.
        let copied = |found| Candidate::of_store(FoundFile { as_link: false, ..found });
        let last = std::iter::once(()).flat_map(|()| unsearched()).map(copied);
        let mut target = Target { index, model, list: None, part: None, copied: 0 };
        for candidate in candidates.iter().cloned().chain(last) {
            if *self.interrupted.borrow() {
                return CopyOutcome::Interrupted;
            }
            let Some(source) = self.open(model, &candidate) else { continue };
            let from = candidate.path.to_string();
            self.observer.observe(&Event::Copying { file: index, from, as_link: candidate.is_link() });
            let started = Instant::now();
            match self.install(&mut target, &candidate, &source) {
                Ok((installed, outcome)) => {
                    drop(target.part);
                    self.finished(index, model, outcome, started);
                    return self.outcome(model, candidate, installed, outcome);
                }
                Err(CopyError::Part(DiskError::Interrupted { .. })) => return CopyOutcome::Interrupted,
                Err(CopyError::Part(error)) => return CopyOutcome::Failed(error),
                Err(error) => self.refuse(&mut target, &candidate, source, error),
            }
        }
        CopyOutcome::Nowhere(target.part, target.copied)
    }

    /// Opens a candidate that is not known to be wrong.
    fn open(&self, model: &Model, candidate: &Candidate) -> Option<SourceFile> {
        if self.store_directory_of(candidate).is_some_and(StoreDirectory::is_out)
            || self
                .store_of(candidate)
                .is_some_and(|(stores, _)| stores.is_other(&candidate.path, &model.sha256))
        {
            return None;
        }
        let opened = match self.cache_of(candidate) {
            Some(cache) => cache.find(model),
            None => SourceFile::open(&candidate.path),
        };
        opened.unwrap_or_else(|error| {
            warn_unused(self.observer, &candidate.path, &reason(&error));
            None
        })
    }

    /// The outcome for a candidate that is installed.
    fn outcome(
        &self,
        model: &Model,
        candidate: Candidate,
        installed: Installed,
        outcome: Outcome,
    ) -> CopyOutcome {
        if let Some(cache) = self.cache_of(&candidate) {
            // The time of last use only matters to pruning.
            let _ = cache.touch(&model.sha256);
        }
        if let CandidateKind::StoreDirectory(_) = candidate.kind {
            let name = format!("file://{}", candidate.path.parent().unwrap_or(&candidate.path));
            return CopyOutcome::Reused(installed, candidate.path, name);
        }
        let Some((stores, store)) = self.store_of(&candidate) else {
            return CopyOutcome::Installed(installed, outcome);
        };
        if installed.verified_by == Some(VerifiedBy::Digest) {
            stores.note(&candidate.path, model.sha256);
        }
        CopyOutcome::Reused(installed, candidate.path, stores.name(store))
    }

    /// Reports a candidate that cannot be read or is wrong, and keeps its right pieces.
    fn refuse(&self, target: &mut Target<'_>, candidate: &Candidate, file: SourceFile, error: CopyError) {
        let (index, model) = (target.index, target.model);
        let is_compared = matches!(error, CopyError::Pieces { .. });
        let error = match error {
            CopyError::Pieces { part, path, missing, copied } => {
                target.copied += copied;
                if part.held() > 0 {
                    target.part = Some(part);
                } else {
                    // A download into a cache would leave it beside the file.
                    let _ = part.remove();
                }
                DiskError::WrongPieces { path, ranges: missing }
            }
            error => error.into_disk_error(),
        };
        let path = &candidate.path;
        let store_directory = self.store_directory_of(candidate);
        let is_wrong = matches!(error, DiskError::Mismatch { .. } | DiskError::WrongPieces { .. });
        if is_wrong {
            if let (DiskError::Mismatch { found, .. }, Some((stores, _))) = (&error, self.store_of(candidate))
            {
                stores.note(path, *found);
            }
            if candidate.is_unlike() {
                return;
            }
            if let Some(store_directory) = store_directory {
                store_directory.has_wrong(model, target.list.as_deref(), &file, &error);
            }
        }
        match store_directory {
            Some(store_directory) => store_directory.leave_out(path, &reason(&error), self.observer),
            None => warn_unused(self.observer, path, &reason(&error)),
        }
        let is_used = is_compared && target.part.is_some();
        if is_wrong && model.pieces.is_some() && !is_used {
            let wrong = if let DiskError::WrongPieces { ranges, .. } = error { Some(ranges) } else { None };
            let mut copies = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            copies.push(WrongCopy { index, file, wrong });
        } else if is_wrong
            && model.pieces.is_none()
            && let Some(cache) = self.cache_of(candidate)
        {
            let _ = cache.discard(&file, &model.sha256);
        }
    }

    /// The store that is a directory and has the candidate.
    fn store_directory_of(&self, candidate: &Candidate) -> Option<&StoreDirectory> {
        let CandidateKind::StoreDirectory(number) = candidate.kind else { return None };
        self.store_directories.get(number?)
    }

    /// The other program's store that has the candidate, with its number.
    fn store_of(&self, candidate: &Candidate) -> Option<(&Stores<'_>, usize)> {
        let CandidateKind::Store { store, .. } = candidate.kind else { return None };
        Some((self.stores?, store))
    }

    /// The cache that has the candidate.
    fn cache_of(&self, candidate: &Candidate) -> Option<&Cache> {
        match candidate.kind {
            CandidateKind::Baked(_) | CandidateKind::StoreDirectory(_) | CandidateKind::Store { .. } => None,
            CandidateKind::Cache => self.cache,
            CandidateKind::OtherCache => self.other_cache,
        }
    }

    /// Removes the part of an interrupted copy or download, which a link does not use. If file locks do not work here,
    /// the part may belong to another run and stays.
    fn discard_part(&self, model: &Model, outcome: Outcome) {
        if matches!(outcome, Outcome::Linked | Outcome::Cached | Outcome::Reused)
            && *self.part_names == PartNames::Shared
        {
            // A part that stays only takes space; the next run that copies or downloads the file finds it.
            let _ = PartFile::discard(self.destination, model);
        }
    }

    /// Says that a file of this machine is installed.
    fn finished(&self, file: FileIndex, model: &Model, outcome: Outcome, started: Instant) {
        self.discard_part(model, outcome);
        let (fetched, elapsed, sources) = (0, started.elapsed(), Vec::new());
        self.observer.observe(&Event::Finished { file, outcome, fetched, elapsed, sources });
    }

    /// Copies a model from another file of the run that has the same bytes.
    pub(super) fn copy_duplicate(&self, index: FileIndex, model: &Model, from: &Model) -> CopyOutcome {
        let path = self.destination.path_of(&from.path);
        let source = match SourceFile::open_below_or_linked(self.destination, &from.path) {
            Ok(Some(source)) => source,
            Ok(None) => return CopyOutcome::Failed(DiskError::Missing { path }),
            Err(error) => return CopyOutcome::Failed(error),
        };
        self.observer.observe(&Event::Copying { file: index, from: path.to_string(), as_link: false });
        let started = Instant::now();
        match self.copy_from(&mut Target { index, model, list: None, part: None, copied: 0 }, &source) {
            Ok(installed) => {
                self.finished(index, model, Outcome::Copied, started);
                CopyOutcome::Installed(installed, Outcome::Copied)
            }
            Err(CopyError::Part(DiskError::Interrupted { .. })) => CopyOutcome::Interrupted,
            Err(error) => {
                let mistake = self.mistaken_list((model, from), &source, &error);
                CopyOutcome::Failed(mistake.unwrap_or_else(|| error.into_disk_error()))
            }
        }
    }

    /// The list to blame if `source`, the file of `from`, is wrong for `model`, although both have one digest. That is
    /// the model's list if the file has the digest, and the file's if it verified other bytes.
    fn mistaken_list(
        &self,
        (model, from): (&Model, &Model),
        source: &SourceFile,
        error: &CopyError,
    ) -> Option<DiskError> {
        if !matches!(error, CopyError::Pieces { .. } | CopyError::Source(DiskError::Mismatch { .. })) {
            return None;
        }
        let verify = |list| {
            let options = PartOptions::with_list(self.part_names, list);
            provision_disk::verify_source(source, from, options, || !*self.interrupted.borrow())
        };
        let (mistaken, found) = match verify(None) {
            Ok(_) => (model, model.sha256),
            Err(CopyError::Source(DiskError::Mismatch { found, .. })) => (from, found),
            Err(_) => return None,
        };
        let list = self.lists.of(mistaken)?;
        if found != model.sha256 && verify(Some(list)).is_err() {
            return None;
        }
        let (path, expected) = (source.path().to_owned(), model.sha256);
        Some(DiskError::MistakenList { path, model: mistaken.path.clone(), expected, found })
    }

    fn install(
        &self,
        target: &mut Target<'_>,
        candidate: &Candidate,
        source: &SourceFile,
    ) -> Result<(Installed, Outcome), CopyError> {
        let (model, options) = (target.model, self.options(target));
        let go_on = || !*self.interrupted.borrow();
        let link = |owner| {
            let to = (self.destination, options.clone());
            provision_disk::install_hard_link(to, model, (source, owner), go_on)
        };
        let (installed, outcome) = match candidate.kind {
            CandidateKind::Baked(BakedMode::Symlink) => {
                let to = (self.destination, options);
                let installed = provision_disk::install_symlink(to, model, source, go_on)?;
                (Some(installed), Outcome::Linked)
            }
            CandidateKind::Baked(BakedMode::Copy) => (None, Outcome::Baked),
            CandidateKind::StoreDirectory(_) => (None, Outcome::Reused),
            CandidateKind::Cache | CandidateKind::OtherCache => (link(LinkedFile::OfCache)?, Outcome::Cached),
            CandidateKind::Store { likeness, as_link, .. } => {
                let linked = if as_link { link(LinkedFile::OfStore)? } else { None };
                if linked.is_none() && likeness != Likeness::Digest {
                    // Verified before it is copied: wrong bytes would be written in vain.
                    provision_disk::verify_source(source, model, options, go_on)?;
                }
                (linked, Outcome::Reused)
            }
        };
        let installed = installed.map_or_else(|| self.copy_from(target, source), Ok)?;
        Ok((installed, outcome))
    }

    /// The options of the file's part, with its list.
    fn options(&self, target: &mut Target<'_>) -> PartOptions<'_> {
        target.list = target.list.take().or_else(|| self.lists.of(target.model));
        PartOptions::with_list(self.part_names, target.list.clone()).among(self.at_once)
    }

    fn copy_from(&self, target: &mut Target<'_>, source: &SourceFile) -> Result<Installed, CopyError> {
        /// Bytes between two events. A copy within memory would flood the observer otherwise.
        const EVENT_BYTES: u64 = 8 << 20;
        let (file, mut unreported) = (target.index, 0);
        let step = |bytes| {
            unreported += bytes;
            if unreported >= EVENT_BYTES {
                self.observer.observe(&Event::Brought { file, bytes: std::mem::take(&mut unreported) });
            }
            !*self.interrupted.borrow()
        };
        let copied = if let Some(part) = target.part.take() {
            provision_disk::install_pieces(*part, source, step)
        } else {
            let to = (self.destination, self.options(target));
            provision_disk::install_copy(to, target.model, source, step)
        };
        copied.map(|(installed, _)| installed)
    }
}

/// A file that local copies are tried for.
struct Target<'a> {
    index: FileIndex,
    model: &'a Model,
    list: Option<Arc<PieceList>>,
    /// The right pieces of wrong copies, and their bytes.
    part: Option<Box<PartFile>>,
    copied: u64,
}
