//! What is on this machine already: files baked into the image, and objects of the cache.
//!
//! None of them is believed. A candidate has the right length; it is proven while it is copied, or before it is linked,
//! and one that proves wrong is reported and passed over.

use std::time::Instant;

use camino::Utf8PathBuf;
use tokio::sync::watch;

use crate::cache::Cache;
use provision_core::event::{Event, FileIndex, Observer, Outcome};
use provision_core::lockfile::Model;
use provision_disk::{self, CopyError, Destination, Installed, PartFile, PartNames, SourceFile, StoreError};

/// Where bytes may be on this machine.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// A directory that is laid out like the destination.
    pub baked: Option<Baked>,
    /// The cache's directory.
    pub cache: Option<Utf8PathBuf>,
}

/// A directory with models that came with the image.
#[derive(Debug, Clone)]
pub struct Baked {
    /// The directory; an absolute path, which symlinks will have.
    pub directory: Utf8PathBuf,
    /// How its files get to the destination.
    pub mode: BakedMode,
}

/// How a baked file gets to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BakedMode {
    /// Its bytes are copied.
    #[default]
    Copy,
    /// A symlink leads to it: for layers that are always there, and volumes that are slow.
    Symlink,
}

/// [`Local`], opened.
#[derive(Clone, Copy)]
pub(super) struct LocalSources<'a> {
    pub(super) baked: Option<&'a Baked>,
    pub(super) cache: Option<&'a Cache>,
    /// The cache lies on the destination's file system: what is in it takes no room there.
    pub(super) cache_shares_disk: bool,
}

/// A file that should have a model's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    path: Utf8PathBuf,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Baked(BakedMode),
    Cache,
}

impl Candidate {
    pub(super) fn is_link(&self) -> bool {
        self.kind == Kind::Baked(BakedMode::Symlink)
    }
}

impl LocalSources<'_> {
    /// The files that should have the model's bytes, the best first. Those of another length are none.
    pub(super) fn candidates(&self, model: &Model, observer: &dyn Observer) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        if let (Some(baked), Some(path)) = (self.baked, self.baked_path(model)) {
            match SourceFile::open(&path) {
                Ok(None) => {}
                Ok(Some(original)) if original.stamp().size == model.size => {
                    candidates.push(Candidate { path, kind: Kind::Baked(baked.mode) });
                }
                Ok(Some(original)) => {
                    let found = original.stamp().size;
                    refuse(observer, &path, &format!("it has {found} bytes, the lock says {}", model.size));
                }
                Err(error) => refuse(observer, &path, &reason(&error)),
            }
        }
        candidates.extend(self.cached(model));
        candidates
    }

    /// The cache's object with the model's bytes.
    pub(super) fn cached(&self, model: &Model) -> Option<Candidate> {
        let original = self.cache?.find(model).ok().flatten()?;
        Some(Candidate { path: original.path().to_owned(), kind: Kind::Cache })
    }

    /// Where the model's baked file is, if there is one.
    pub(super) fn baked_path(&self, model: &Model) -> Option<Utf8PathBuf> {
        Some(self.baked?.directory.join(model.path.as_str()))
    }
}

/// How an attempt to get a model's bytes from this machine ended.
pub(super) enum Brought {
    Installed(Installed, Outcome),
    /// No candidate had them.
    Nowhere,
    /// The run was told to stop.
    Interrupted,
    Failed(StoreError),
}

/// Installs models from candidates.
pub(super) struct Bringer<'a> {
    pub(super) destination: &'a Destination,
    pub(super) naming: &'a PartNames,
    pub(super) cache: Option<&'a Cache>,
    pub(super) observer: &'a dyn Observer,
    pub(super) interrupted: &'a watch::Receiver<bool>,
}

impl Bringer<'_> {
    /// Tries one candidate after the other.
    pub(super) fn bring(&self, index: FileIndex, model: &Model, candidates: &[Candidate]) -> Brought {
        for candidate in candidates {
            if *self.interrupted.borrow() {
                return Brought::Interrupted;
            }
            let opened = match (candidate.kind, self.cache) {
                (Kind::Cache, Some(cache)) => cache.find(model),
                _ => SourceFile::open(&candidate.path),
            };
            let original = match opened {
                Ok(Some(original)) => original,
                Ok(None) => continue,
                Err(error) => {
                    refuse(self.observer, &candidate.path, &reason(&error));
                    continue;
                }
            };
            let from = candidate.path.to_string();
            self.observer.observe(&Event::Copying { file: index, from, as_link: candidate.is_link() });
            let started = Instant::now();
            match self.install(index, model, candidate, &original) {
                Ok((installed, outcome)) => {
                    self.tidy(model, outcome);
                    if candidate.kind == Kind::Cache
                        && let Some(cache) = self.cache
                    {
                        // What was used when only matters to pruning.
                        let _ = cache.touch(&model.sha256);
                    }
                    let elapsed = started.elapsed();
                    self.observer.observe(&Event::Finished { file: index, outcome, fetched: 0, elapsed });
                    return Brought::Installed(installed, outcome);
                }
                Err(CopyError::Part(StoreError::Interrupted { .. })) => return Brought::Interrupted,
                Err(CopyError::Part(error)) => return Brought::Failed(error),
                Err(CopyError::Source(error)) => {
                    if let (Kind::Cache, StoreError::Mismatch { .. }, Some(cache)) =
                        (candidate.kind, &error, self.cache)
                    {
                        let _ = cache.discard(&original, &model.sha256);
                    }
                    refuse(self.observer, &candidate.path, &reason(&error));
                }
            }
        }
        Brought::Nowhere
    }

    /// A link leaves the part of an interrupted copy or fetch where it was. Where locks do nothing it may be somebody's.
    fn tidy(&self, model: &Model, outcome: Outcome) {
        if matches!(outcome, Outcome::Linked | Outcome::Cached) && *self.naming == PartNames::Shared {
            // In the way of nothing but room: the next run that copies or fetches the file finds it.
            let _ = PartFile::discard(self.destination, model);
        }
    }

    /// Copies a model from another file of the run.
    pub(super) fn copy(&self, index: FileIndex, model: &Model, from: &Model) -> Brought {
        let path = self.destination.root().path().join(from.path.as_str());
        let original = match self.open_copied(from) {
            Ok(Some(original)) => original,
            Ok(None) => return Brought::Failed(StoreError::Missing { path }),
            Err(error) => return Brought::Failed(error),
        };
        self.observer.observe(&Event::Copying { file: index, from: path.to_string(), as_link: false });
        let started = Instant::now();
        match self.copy_from(index, model, &original) {
            Ok(installed) => {
                let (outcome, elapsed) = (Outcome::Copied, started.elapsed());
                self.observer.observe(&Event::Finished { file: index, outcome, fetched: 0, elapsed });
                Brought::Installed(installed, outcome)
            }
            Err(CopyError::Part(StoreError::Interrupted { .. })) => Brought::Interrupted,
            Err(CopyError::Part(error) | CopyError::Source(error)) => Brought::Failed(error),
        }
    }

    /// The file of another model of the run; where that is a symlink into the baked directory, the file at its end.
    fn open_copied(&self, from: &Model) -> Result<Option<SourceFile>, StoreError> {
        let Some(directory) = self.destination.parent(&from.path, false)? else { return Ok(None) };
        match directory.read_link(from.path.file_name())? {
            Some(target) => SourceFile::open(target.as_ref()),
            None => SourceFile::open_below(self.destination, &from.path),
        }
    }

    fn install(
        &self,
        index: FileIndex,
        model: &Model,
        candidate: &Candidate,
        original: &SourceFile,
    ) -> Result<(Installed, Outcome), CopyError> {
        let go_on = || !*self.interrupted.borrow();
        let (installed, outcome) = match candidate.kind {
            Kind::Baked(BakedMode::Symlink) => {
                return Ok((
                    provision_disk::install_symlink((self.destination, self.naming), model, original, go_on)?,
                    Outcome::Linked,
                ));
            }
            Kind::Baked(BakedMode::Copy) => (None, Outcome::Baked),
            Kind::Cache => (
                provision_disk::install_hard_link((self.destination, self.naming), model, original, go_on)?,
                Outcome::Cached,
            ),
        };
        match installed {
            Some(installed) => Ok((installed, outcome)),
            None => Ok((self.copy_from(index, model, original)?, outcome)),
        }
    }

    fn copy_from(
        &self,
        index: FileIndex,
        model: &Model,
        original: &SourceFile,
    ) -> Result<Installed, CopyError> {
        /// Bytes between two events: a copy within memory would flood whoever listens.
        const OFTEN: u64 = 8 << 20;
        let mut untold = 0;
        let step = |bytes| {
            untold += bytes;
            if untold >= OFTEN {
                self.observer.observe(&Event::Brought { file: index, bytes: std::mem::take(&mut untold) });
            }
            !*self.interrupted.borrow()
        };
        provision_disk::install_copy((self.destination, self.naming), model, original, step)
            .map(|(installed, _)| installed)
    }
}

fn refuse(observer: &dyn Observer, path: &Utf8PathBuf, reason: &str) {
    // A reason begins with the file's path where it comes from the store.
    let reason =
        reason.strip_prefix(path.as_str()).map_or(reason, |rest| rest.trim_start_matches([':', ' ']));
    observer.observe(&Event::Warning { message: format!("{path} is not used: {reason}") });
}

fn reason(error: &StoreError) -> String {
    match error {
        StoreError::Mismatch { expected, found, .. } => {
            format!("it has SHA-256 {found}, the lock says {expected}")
        }
        error => error.reason(),
    }
}
