//! Stores of other programs on this machine that may hold a model's bytes: the Hugging Face cache, ollama, a folder of
//! any layout.
//!
//! A store is only read: a run makes no file, no lock and no mark in it. It is searched at the first file that is
//! missing, so a set that is complete costs nothing. Its files are no more trusted than an origin.
//!
//! A file whose name states the digest comes first, then files with the model's name, then others of its size. The last
//! may be other models: fine-tunes of one model all have its size. So only a few of them are read, and each at most
//! once in a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::watch;

use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_disk::Destination;

mod walk;
use walk::{StoreFile, WantedFiles};

/// The most files that are read for one model although neither their digest nor their name is the model's.
const MOST_OTHERS: u64 = 4;
/// The bytes that may be read for that in any case: small files cost little.
const OTHER_BYTES: u64 = 64 << 20;

/// The stores of other programs that a run reads.
#[derive(Debug, Clone, Default)]
pub struct Reuse {
    /// The stores, the first one first.
    pub stores: Vec<Store>,
    /// The way of their files into the destination.
    pub mode: ReuseMode,
}

/// A directory in which another program keeps files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The directory.
    pub path: Utf8PathBuf,
    /// The other program's variable that names it. `None` if the user did: a store that is not there is then worth a
    /// warning.
    pub variable: Option<&'static str>,
}

/// The way of a store's file into the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReuseMode {
    /// Its blocks are shared where the file system can do that, and copied elsewhere.
    #[default]
    Copy,
    /// A hard link: the file is one with the other program's. A copy where none is possible.
    Link,
}

/// The resemblance of a store's file to a model of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Likeness {
    /// Its name states the model's digest.
    Digest,
    /// It has the model's name.
    Name,
    /// Nothing but the size.
    Size,
}

/// A file of a store that may have a model's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundFile {
    pub(super) path: Utf8PathBuf,
    pub(super) likeness: Likeness,
    /// The number of its store.
    pub(super) store: usize,
    /// A hard link to it is wanted and possible: it lies on the file system of the model's directory, and only this
    /// user can change it.
    pub(super) as_link: bool,
}

/// The stores of a run, searched once.
pub(super) struct Stores<'a> {
    reuse: &'a Reuse,
    models: &'a [&'a Model],
    /// `None` if it does not exist yet.
    destination: Option<Arc<Destination>>,
    observer: &'a dyn Observer,
    interrupted: &'a watch::Receiver<bool>,
    searched: OnceLock<Vec<Searched>>,
    /// The digests of files that were read.
    digests: Mutex<HashMap<Utf8PathBuf, Sha256>>,
}

/// The result of a search.
struct Searched {
    files: Vec<StoreFile>,
    /// The store, if its files may be linked.
    linked: Option<Destination>,
}

impl<'a> Stores<'a> {
    /// The stores of a run for `models`; `None` if there are none.
    pub(super) fn of(
        reuse: &'a Reuse,
        models: &'a [&'a Model],
        destination: Option<Arc<Destination>>,
        observer: &'a dyn Observer,
        interrupted: &'a watch::Receiver<bool>,
    ) -> Option<Self> {
        let (searched, digests) = (OnceLock::new(), Mutex::default());
        let stores = Self { reuse, models, destination, observer, interrupted, searched, digests };
        (!reuse.stores.is_empty()).then_some(stores)
    }

    /// The files that may have the model's bytes, the best first.
    pub(super) fn find(&self, model: &Model) -> Vec<FoundFile> {
        let mut found = Vec::new();
        for (store, Searched { files, linked }) in self.searched().iter().enumerate() {
            let fits = |file: &&StoreFile| {
                file.size == model.size && file.digest.is_none_or(|digest| digest == model.sha256)
            };
            let device = linked.as_ref().and_then(|linked| self.shared_device(model, linked));
            found.extend(files.iter().filter(fits).map(|file| FoundFile {
                path: file.path.clone(),
                likeness: likeness(file, model),
                store,
                as_link: device == Some(file.device) && provision_disk::is_linkable(file.owner),
            }));
        }
        found.sort_by_key(|file| (file.likeness, file.store));
        let mut others = MOST_OTHERS.max(OTHER_BYTES / model.size.max(1));
        found.retain(|file| {
            file.likeness != Likeness::Size || others.checked_sub(1).map(|left| others = left).is_some()
        });
        found
    }

    /// True if the file has been read, and has another digest.
    pub(super) fn is_other(&self, path: &Utf8Path, sha256: &Sha256) -> bool {
        self.digests().get(path).is_some_and(|known| known != sha256)
    }

    /// Keeps the digest of a file that was read.
    pub(super) fn note(&self, path: &Utf8Path, sha256: Sha256) {
        self.digests().insert(path.to_owned(), sha256);
    }

    /// A store as messages name it: `/data/hub (HF_HOME)`.
    pub(super) fn name(&self, store: usize) -> String {
        let Store { path, variable } = &self.reuse.stores[store];
        variable.map_or_else(|| path.to_string(), |variable| format!("{path} ({variable})"))
    }

    fn digests(&self) -> std::sync::MutexGuard<'_, HashMap<Utf8PathBuf, Sha256>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn searched(&self) -> &[Searched] {
        self.searched.get_or_init(|| {
            let wanted = self.wanted();
            self.reuse.stores.iter().map(|store| self.search(store, &wanted)).collect()
        })
    }

    fn wanted(&self) -> WantedFiles {
        use std::os::unix::fs::MetadataExt as _;
        let id = |model: &&Model| {
            let found = self.destination.as_ref()?.path_of(&model.path).symlink_metadata().ok()?;
            Some((found.dev(), found.ino()))
        };
        WantedFiles {
            digests: self.models.iter().map(|model| model.sha256).collect(),
            // An empty file is made faster than it is found.
            sizes: self.models.iter().map(|model| model.size).filter(|size| *size > 0).collect(),
            own: self.models.iter().filter_map(id).collect(),
        }
    }

    fn search(&self, store: &Store, wanted: &WantedFiles) -> Searched {
        let files = match walk::search(&store.path, wanted, || !*self.interrupted.borrow()) {
            Ok(search) => {
                if let Some((path, error)) = search.unread {
                    self.warn(store, &format!("{path} is not searched for files to reuse: {error}"));
                }
                if search.is_cut {
                    self.warn(
                        store,
                        &format!("{} is searched in part only: it has too many files", store.path),
                    );
                }
                search.files
            }
            Err(error) => {
                self.warn(store, &format!("{} is not searched for files to reuse: {error}", store.path));
                Vec::new()
            }
        };
        let is_linked = self.reuse.mode == ReuseMode::Link && !files.is_empty();
        let linked = is_linked.then(|| Destination::open(&store.path).ok().flatten()).flatten();
        Searched { files, linked }
    }

    fn warn(&self, store: &Store, message: &str) {
        if store.variable.is_none() {
            self.observer.observe(&Event::Warning { message: message.to_owned() });
        }
    }

    /// The device of `store`, if the model's file can have a hard link to a file of that device.
    fn shared_device(&self, model: &Model, store: &Destination) -> Option<u64> {
        use std::os::unix::fs::MetadataExt as _;
        let destination = self.destination.as_ref()?;
        let is_shared = destination.shares_disk_at(&model.path, store);
        is_shared.then(|| store.root().path().metadata().ok()).flatten().map(|found| found.dev())
    }
}

fn likeness(file: &StoreFile, model: &Model) -> Likeness {
    match file.digest {
        Some(_) => Likeness::Digest,
        None if file.path.file_name() == Some(model.path.file_name()) => Likeness::Name,
        None => Likeness::Size,
    }
}
