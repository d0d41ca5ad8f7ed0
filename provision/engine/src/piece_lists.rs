//! The piece lists of a lock's models: the places that have them, and the check that a list is the pinned one.
//!
//! A list is named by its digest and believed only by it. It is looked for beside the locks (`models.pieces/HEX`),
//! among the copies that the destination keeps (`kept`), and in the stores that are directories, in this order. A run
//! then asks the other stores and the addresses of its locks (`downloader`), for the files that it has to fetch.
//!
//! No file fails for its list. A list that is missing, is not the lock's, or describes another file than the model is a
//! warning, one for each cause. The file is then verified as a whole. Lists are read when they are needed: none is held
//! for a file that waits.

mod downloader;
pub(crate) mod kept;
pub mod make;
mod warnings;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::watch;

use provision_core::digest::Sha256;
use provision_core::event::Observer;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::piece_list::{MAGIC, MAX_LIST, PieceList, PieceListError};
use provision_core::source_url::SourceUrl;
use provision_core::store_address::StoreAddress;
use provision_disk::{Destination, DiskError, PartNames, PartOptions, SourceFile};
use provision_http::HttpClient;

use downloader::ListDownloader;
use kept::Kept;
use warnings::{Cause, Warnings};

/// The places of the lists of a run's locks.
#[derive(Debug, Clone, Default)]
pub struct ListPlaces {
    /// The directories of lists beside the locks that are files, then those of baked files.
    pub directories: Vec<Utf8PathBuf>,
    /// The locks that are at addresses: a list is below the same address, at `models.pieces/HEX`, without the address's
    /// query.
    pub locks: Vec<SourceUrl>,
    /// A file without a list gets one from the bytes that pass, which is kept for its next version.
    pub makes: bool,
}

/// The lists of a lock's models.
pub struct PieceLists {
    /// Those of this run's [`ListPlaces`].
    directories: Vec<Utf8PathBuf>,
    kept: Option<Kept>,
    /// The stores that are directories.
    store_directories: Vec<Utf8PathBuf>,
    makes: bool,
    /// The network, if it may be asked.
    downloader: Option<ListDownloader>,
    /// A list that this machine lacks is nowhere else.
    is_all: bool,
    /// Lists that were fetched and could not be kept, at most [`MAX_LIST`] bytes of them.
    unkept: Mutex<Vec<(Sha256, Arc<PieceList>)>>,
    warnings: Mutex<Warnings>,
    observer: Arc<dyn Observer>,
}

/// A list that is not its model's. Each message goes on behind the list's or the model's name.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// There is no such file.
    #[error("it is not beside the lock")]
    Missing,
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(DiskError),
    /// It has another digest than the lock's.
    #[error("the file has SHA-256 {0}, so it is not the lock's list")]
    OtherBytes(Sha256),
    /// The lock names bytes that are no list.
    #[error(transparent)]
    Format(PieceListError),
    /// It describes a file of this length and digest.
    #[error("it is the list of {0} bytes with SHA-256 {1}")]
    OtherFile(u64, Sha256),
}

impl ListError {
    /// The bytes are the lock's: another place would have the same.
    fn is_of_the_lock(&self) -> bool {
        matches!(self, Self::Format(_) | Self::OtherFile(..))
    }
}

impl PieceLists {
    /// The lists of this machine. One that it lacks is worth a warning, unless it is at an address.
    pub fn on_disk(
        places: &ListPlaces,
        destination: Option<Arc<Destination>>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            directories: places.directories.clone(),
            kept: destination.map(Kept),
            store_directories: Vec::new(),
            makes: places.makes,
            downloader: None,
            is_all: places.locks.is_empty(),
            unkept: Mutex::default(),
            warnings: Mutex::default(),
            observer,
        }
    }

    /// With the site's stores, of which those that are directories are on this machine.
    #[must_use]
    pub fn with_stores(mut self, stores: &[StoreAddress]) -> Self {
        for store in stores {
            match store {
                StoreAddress::Directory(path) => self.store_directories.push(path.clone()),
                _ => self.is_all = false,
            }
        }
        self
    }

    /// With the network: the other stores, and the addresses of the locks.
    #[must_use]
    pub fn with_network(
        mut self,
        origin: &Arc<HttpClient>,
        (stores, places): (&[StoreAddress], &ListPlaces),
        interrupted: &watch::Receiver<bool>,
    ) -> Self {
        self.is_all = false;
        self.downloader =
            Some(ListDownloader::new(origin.clone(), stores, &places.locks, interrupted.clone()));
        self
    }

    /// The list of a model, from this machine. `None` without one, and for a list that is not the model's. Blocks.
    pub fn of(&self, model: &Model) -> Option<Arc<PieceList>> {
        let pin = model.pieces?;
        let found = self.unkept(&pin).or_else(|| self.on_this_machine(model, &pin));
        if found.is_some() {
            self.found(model);
        } else if self.is_all {
            self.note(Cause::Missing, model, || format!("models.pieces/{pin} is not beside the lock"));
        }
        found
    }

    fn on_this_machine(&self, model: &Model, pin: &Sha256) -> Option<Arc<PieceList>> {
        // A kept list that is wrong is replaced, and is no mistake of the user's.
        let kept = || {
            let bytes = self.kept.as_ref()?.read(pin, PieceList::max_bytes(model.size))?;
            checked(model, pin, &bytes).ok()
        };
        let found = self.in_directories(&self.directories, model, pin).or_else(kept);
        found.or_else(|| self.in_directories(&self.store_directories, model, pin)).map(Arc::new)
    }

    fn in_directories(&self, directories: &[Utf8PathBuf], model: &Model, pin: &Sha256) -> Option<PieceList> {
        let of_directory = |directory: &Utf8PathBuf| {
            let note = |error| self.note_error(model, pin, directory.join(pin.to_string()).as_str(), &error);
            find(directory, model).map_err(note).ok()
        };
        directories.iter().find_map(of_directory)
    }

    /// Every list of this machine, of whatever lock, with the digest that is its name. The kept ones come first, then
    /// those of each directory, ascending, as long as `go_on` says so. Blocks.
    pub fn known(&self, go_on: impl Fn() -> bool + Copy) -> impl Iterator<Item = PieceList> {
        let of_directory = move |directory: &Utf8PathBuf| {
            let directory = directory.clone();
            let names = names(&directory).into_iter().take_while(move |_| go_on());
            names.filter_map(move |name| named(&name, &read_list(&directory.join(name.to_string())).ok()??))
        };
        let kept = self.kept.iter().flat_map(Kept::lists).take_while(move |_| go_on());
        kept.chain(self.directories.iter().chain(&self.store_directories).flat_map(of_directory))
    }

    /// True if a list that this machine lacks may be elsewhere.
    pub(crate) fn may_be_elsewhere(&self) -> bool {
        !self.is_all
    }

    /// The warning for the file that `place` has instead of the model's list.
    fn note_error(&self, model: &Model, pin: &Sha256, place: &str, error: &ListError) {
        let (cause, why) = match error {
            ListError::Missing => return,
            ListError::Unreadable(error) => (Cause::Unreadable, error.to_string()),
            ListError::OtherBytes(found) => {
                (Cause::Wrong, format!("{place} has SHA-256 {found}, the lock says {pin}"))
            }
            ListError::Format(error) => (Cause::Format, format!("{place}: {error}")),
            ListError::OtherFile(size, file) => {
                let Model { size: length, sha256, .. } = model;
                let says = format!("{size} bytes with SHA-256 {file}, the lock says {length} with {sha256}");
                (Cause::OtherFile, format!("{place} describes {says}"))
            }
        };
        self.note(cause, model, || why);
    }

    /// Keeps the lists of installed models for their next version. A destination that cannot be written keeps none.
    /// Blocks.
    pub fn keep<'m>(&self, installed: impl Iterator<Item = &'m Model>) {
        let Some(kept) = &self.kept else { return };
        for model in installed.filter(|model| !self.keeps(model)) {
            if let (Some(pin), Some(list)) = (&model.pieces, self.of(model).and_then(|list| list.write()))
                && !kept.keep(pin, &list)
            {
                return;
            }
        }
    }

    /// True if the model's list is kept, or it has none. Blocks.
    pub(crate) fn keeps(&self, model: &Model) -> bool {
        let is_kept =
            |pin| self.kept.as_ref().is_some_and(|kept| kept.has(pin, PieceList::max_bytes(model.size)));
        model.pieces.as_ref().is_none_or(is_kept)
    }

    /// The options of a model's part: with its list, or making one if that is wanted. Blocks.
    pub(crate) fn part_options<'n>(&self, model: &Model, names: &'n PartNames) -> PartOptions<'n> {
        let pieces = self.of(model);
        PartOptions { makes_list: self.makes && pieces.is_none(), ..PartOptions::with_list(names, pieces) }
    }

    /// True if a file without a list gets one.
    pub(crate) fn makes(&self) -> bool {
        self.makes
    }

    /// Keeps the list that a part made of its bytes. Blocks.
    pub(crate) fn keep_made(&self, list: &PieceList) {
        if let Some(bytes) = list.write()
            && let Some(kept) = &self.kept
        {
            kept.keep(&Sha256::of(&bytes), &bytes);
        }
    }

    /// Removes the kept lists of files with none of the digests `needed`. No other run may be working in the
    /// destination. Blocks.
    ///
    /// # Errors
    /// Those of `needed`, which is called only if there may be a kept list; and a list cannot be removed.
    pub(crate) fn prune(
        &self,
        needed: impl FnOnce() -> Result<HashSet<Sha256>, DiskError>,
    ) -> Result<(), DiskError> {
        self.kept.as_ref().map_or(Ok(()), |kept| kept.prune(needed))
    }

    fn unkept(&self, pin: &Sha256) -> Option<Arc<PieceList>> {
        let unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        unkept.iter().find(|(name, _)| name == pin).map(|(_, list)| list.clone())
    }

    fn note(&self, cause: Cause, model: &Model, why: impl FnOnce() -> String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.note(cause, &model.path, why);
    }

    /// The model's list is at a later place than one that was noted.
    fn found(&self, model: &Model) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).found(&model.path);
    }

    /// The files of which the lock pins the list of another file, or no list. To be asked before [`Self::warn`].
    pub fn mistaken(&self) -> BTreeSet<ModelPath> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).mistaken()
    }

    /// Sends the warnings about lists since the last call: each cause once in a run.
    pub fn warn(&self) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).say(&*self.observer);
    }
}

impl std::fmt::Debug for PieceLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceLists").field("directories", &self.directories).finish_non_exhaustive()
    }
}

/// The list of `model` in a directory of lists. A model without a list has none.
///
/// # Errors
/// There is none, or it is not the list of the model's file.
pub fn find(directory: &Utf8Path, model: &Model) -> Result<PieceList, ListError> {
    let pin = model.pieces.ok_or(ListError::Missing)?;
    let read = read(&directory.join(pin.to_string()), PieceList::max_bytes(model.size));
    checked(model, &pin, &read.map_err(ListError::Unreadable)?.ok_or(ListError::Missing)?)
}

fn checked(model: &Model, pin: &Sha256, bytes: &[u8]) -> Result<PieceList, ListError> {
    let found = Sha256::of(bytes);
    if found != *pin {
        return Err(ListError::OtherBytes(found));
    }
    let list = PieceList::parse(bytes).map_err(ListError::Format)?;
    if (list.size(), list.file()) != (model.size, model.sha256) {
        return Err(ListError::OtherFile(list.size(), list.file()));
    }
    Ok(list)
}

/// The list in `bytes`, if they have the digest that is their name.
fn named(name: &Sha256, bytes: &[u8]) -> Option<PieceList> {
    (Sha256::of(bytes) == *name).then(|| PieceList::parse(bytes).ok()).flatten()
}

/// A file of at most `most` bytes; of a longer one, one byte more. `None` if there is none.
fn read(path: &Utf8Path, most: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let Some(file) = SourceFile::open(path)? else { return Ok(None) };
    read_start(&file, most + 1).map(Some)
}

/// A file that may be a list, by its length and its first bytes. A store has models under such names as well, and they
/// are not read.
fn read_list(path: &Utf8Path) -> Result<Option<Vec<u8>>, DiskError> {
    let Some(file) = SourceFile::open(path)?.filter(|file| file.stamp().size <= MAX_LIST) else {
        return Ok(None);
    };
    let is_list = read_start(&file, MAGIC.len() as u64)? == MAGIC;
    if is_list { read_start(&file, MAX_LIST).map(Some) } else { Ok(None) }
}

/// The first `most` bytes of a file, or all if it has fewer.
fn read_start(file: &SourceFile, most: u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0; file.stamp().size.min(most) as usize];
    let filled = file.fill(0, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// The digests that are names in a directory, ascending; none if it cannot be listed.
fn names(directory: &Utf8Path) -> Vec<Sha256> {
    let listed = Destination::open(directory).ok().flatten().and_then(|opened| opened.root().names().ok());
    let mut names = listed.unwrap_or_default();
    names.sort();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
