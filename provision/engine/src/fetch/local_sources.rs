//! Local sources: files baked into the image, objects of the caches, of stores that are directories, and files of other
//! programs' stores, in this order.
//!
//! None of them is trusted. A candidate has the right length; `local_copier` verifies its bytes, by its piece list if
//! there is one. A wrong candidate is reported and skipped; the right pieces of one are kept.

use camino::{Utf8Path, Utf8PathBuf};

use super::other_programs::{FoundFile, Likeness, Reuse, Stores};
use super::store_directory::{StoreDirectory, without_path};
use super::warnings::warn_cache_unused;
use crate::cache::Cache;
use provision_core::byte_range::ByteRange;
use provision_core::byte_size::ByteSize;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_disk::{Destination, DiskError, FileId, SourceFile};

/// Directories on this machine that may hold a model's bytes.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// A directory with the layout of the destination.
    pub baked: Option<Baked>,
    /// The cache's directory.
    pub cache: Option<Utf8PathBuf>,
    /// The directory of a cache that is only read, such as the user's own. One that cannot be read is ignored.
    pub other_cache: Option<Utf8PathBuf>,
    /// Other programs' stores, which are only read.
    pub reuse: Reuse,
}

/// A directory with the models of a container image.
#[derive(Debug, Clone)]
pub struct Baked {
    /// The absolute path. Symlinks lead to it.
    pub directory: Utf8PathBuf,
    /// The way its files get to the destination.
    pub mode: BakedMode,
}

/// The way a baked file gets to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BakedMode {
    /// Its bytes are copied.
    #[default]
    Copy,
    /// A symlink leads to it: for image layers that are always mounted, and slow volumes.
    Symlink,
}

/// The opened directories of a [`Local`].
#[derive(Clone, Copy)]
pub(super) struct LocalSources<'a> {
    pub(super) baked: Option<&'a Baked>,
    pub(super) cache: Option<&'a Cache>,
    /// The cache lies on the destination's file system, so a cached file needs no further space.
    pub(super) cache_shares_disk: bool,
    pub(super) other_cache: Option<&'a OtherCache>,
    pub(super) store_directories: &'a [StoreDirectory],
    pub(super) stores: Option<&'a Stores<'a>>,
}

/// A cache that is only read.
pub(super) struct OtherCache {
    cache: Cache,
    shares_disk: bool,
}

impl OtherCache {
    /// Opens it; `None` if it cannot be read, or if it is the destination or the run's own cache. Without it, a run
    /// downloads.
    pub(super) fn open(
        local: &Local,
        destination: Option<&Destination>,
        own: Option<&Cache>,
    ) -> Option<Self> {
        let cache = Cache::open_existing(local.other_cache.as_deref()?).ok().flatten()?;
        let is = |place: &Destination| cache.place().is_same_as(place);
        if destination.is_some_and(is) || own.is_some_and(|own| is(own.place())) {
            return None;
        }
        let shares_disk = destination.is_some_and(|destination| cache.place().shares_disk_with(destination));
        Some(Self { cache, shares_disk })
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }
}

/// A local file that should have a model's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: Utf8PathBuf,
    pub(super) kind: CandidateKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CandidateKind {
    Baked(BakedMode),
    Cache,
    OtherCache,
    /// A file under its digest: the store's number, or `None` for a directory that the lock names.
    StoreDirectory(Option<usize>),
    Store {
        store: usize,
        likeness: Likeness,
        as_link: bool,
    },
}

impl Candidate {
    pub(super) fn is_link(&self) -> bool {
        match self.kind {
            CandidateKind::Baked(mode) => mode == BakedMode::Symlink,
            CandidateKind::Cache | CandidateKind::OtherCache | CandidateKind::StoreDirectory(_) => false,
            CandidateKind::Store { as_link, .. } => as_link,
        }
    }

    /// True if it becomes one file with another program's.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.kind, CandidateKind::Store { as_link: true, .. })
    }

    /// True for a file that has the model's size and nothing else: it may well be another model.
    pub(super) fn is_unlike(&self) -> bool {
        matches!(self.kind, CandidateKind::Store { likeness: Likeness::Size, .. })
    }

    pub(super) fn of_store(FoundFile { path, likeness, store, as_link }: FoundFile) -> Self {
        Self { path, kind: CandidateKind::Store { store, likeness, as_link } }
    }
}

/// Opens the cache. A run without one downloads everything, so a failure is a warning.
pub(super) fn open_cache(path: &Utf8Path, observer: &dyn Observer) -> Option<Cache> {
    let opened = Cache::open(path);
    if let Err(error) = &opened {
        warn_cache_unused(observer, path, &error.reason());
    }
    opened.ok()
}

impl LocalSources<'_> {
    /// The local files that should have the model's bytes, the best first. A file of another length is skipped, and so
    /// is an object that is the `wrong` file in the model's place.
    pub(super) fn candidates(
        &self,
        model: &Model,
        wrong: Option<FileId>,
        observer: &dyn Observer,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        if let (Some(baked), Some(path)) = (self.baked, self.baked_path(model)) {
            match SourceFile::open(&path) {
                Ok(None) => {}
                Ok(Some(source)) if source.stamp().size == model.size => {
                    candidates.push(Candidate { path, kind: CandidateKind::Baked(baked.mode) });
                }
                Ok(Some(source)) => {
                    warn_unused(observer, &path, &other_size(source.stamp().size, model));
                }
                Err(error) => warn_unused(observer, &path, &reason(&error)),
            }
        }
        let is_wrong = |file: &SourceFile| wrong == Some(file.identity());
        candidates.extend(self.cached(model, is_wrong));
        let other = self.other_cache.and_then(|other| other.cache.find(model).ok().flatten());
        let other = other.filter(|other| !is_wrong(other));
        candidates.extend(
            other.map(|source| Candidate { path: source.path().to_owned(), kind: CandidateKind::OtherCache }),
        );
        candidates.extend(self.stored(model, observer));
        if let (Some(stores), true) = (self.stores, candidates.is_empty()) {
            candidates.extend(stores.find(model).into_iter().map(Candidate::of_store));
        }
        candidates
    }

    /// True if installing the candidate needs no space at the destination.
    pub(super) fn is_free(&self, candidate: &Candidate) -> bool {
        match candidate.kind {
            CandidateKind::Baked(mode) => mode == BakedMode::Symlink,
            CandidateKind::Cache => self.cache_shares_disk,
            CandidateKind::OtherCache => self.other_cache.is_some_and(|other| other.shares_disk),
            CandidateKind::StoreDirectory(_) => false,
            CandidateKind::Store { as_link, .. } => as_link,
        }
    }

    /// The files in the directories of the stores and of the lock.
    fn stored(&self, model: &Model, observer: &dyn Observer) -> Vec<Candidate> {
        let of_stores = self.store_directories.iter().enumerate();
        let of_stores = of_stores.map(|(number, store)| (store.path_of(model), Some((number, store))));
        let of_lock = model.sources.iter().filter_map(|source| Some((source.file()?, None)));
        let mut found = Vec::new();
        for (path, store) in of_stores.chain(of_lock) {
            if store.is_some_and(|(_, store)| store.is_out()) {
                continue;
            }
            let why = match SourceFile::open(&path) {
                Ok(None) => continue,
                Ok(Some(source)) if source.stamp().size == model.size => {
                    let kind = CandidateKind::StoreDirectory(store.map(|(number, _)| number));
                    found.push(Candidate { path, kind });
                    continue;
                }
                // As over http: the store does not have this file.
                Ok(Some(_)) if store.is_some() => continue,
                Ok(Some(source)) => other_size(source.stamp().size, model),
                Err(error) => reason(&error),
            };
            match store {
                Some((_, store)) => store.leave_out(&path, &why, observer),
                None => warn_unused(observer, &path, &why),
            }
        }
        found
    }

    /// The cache's object with the model's bytes.
    pub(super) fn cached(&self, model: &Model, is_wrong: impl Fn(&SourceFile) -> bool) -> Option<Candidate> {
        let source = self.cache?.find(model).ok().flatten().filter(|source| !is_wrong(source))?;
        Some(Candidate { path: source.path().to_owned(), kind: CandidateKind::Cache })
    }

    /// The path of the model's file in the baked directory.
    pub(super) fn baked_path(&self, model: &Model) -> Option<Utf8PathBuf> {
        Some(self.baked?.directory.join(model.path.as_str()))
    }
}

/// Warns that a file is not used as a whole. Right pieces of one that differs from its list are still copied.
pub(super) fn warn_unused(observer: &dyn Observer, path: &Utf8PathBuf, reason: &str) {
    let reason = without_path(path, reason);
    observer.observe(&Event::Warning { message: format!("{path} is not used: {reason}") });
}

fn other_size(found: u64, model: &Model) -> String {
    format!("it has {}, the lock says {}", ByteSize(found).exact(), ByteSize(model.size).exact())
}

pub(super) fn reason(error: &DiskError) -> String {
    match error {
        DiskError::Mismatch { expected, found, .. } => {
            format!("it has SHA-256 {found}, the lock says {expected}")
        }
        DiskError::WrongPieces { ranges, .. } => {
            let wrong = ranges.iter().map(ByteRange::len).sum();
            format!("{} of it differ from the piece list", ByteSize(wrong).exact())
        }
        error => error.reason(),
    }
}
