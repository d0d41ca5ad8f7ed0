//! Files of this machine whose piece lists are known: installed ones, objects of the caches, files of the stores that
//! are directories, and baked ones.
//!
//! A list describes the file with its digest. A file is taken for that one by the digest that a marker, the lock or its
//! own name states, and otherwise by its length, where a file that is wanted or baked has it. No file is read to find
//! out: each piece is verified when it is copied.

use std::collections::{HashMap, HashSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::local_sources::{LocalSources, OtherCache};
use super::store_directory::StoreDirectory;
use crate::cache::Cache;
use crate::marker::Marker;
use provision_core::digest::Sha256;
use provision_core::event::FileIndex;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::piece_list::PieceList;
use provision_disk::{Destination, SourceFile};

/// A file on this machine. The first ones come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FileLocation {
    /// Below the destination.
    Installed(ModelPath),
    /// An object of the run's own cache, or of the other one.
    Cached { is_other: bool, sha256: Sha256, size: u64 },
    /// In a store that is a directory, or in the baked directory.
    At(Utf8PathBuf),
}

/// A place, and whether its file is known by more than its length.
#[derive(Debug, Clone)]
pub(super) struct KnownFile {
    pub(super) place: FileLocation,
    /// The file of the run whose name it has.
    pub(super) name_of: Option<FileIndex>,
    pub(super) is_named: bool,
}

/// The files of this machine that may have known lists.
pub(super) struct KnownFiles<'a> {
    destination: Option<&'a Destination>,
    sources: LocalSources<'a>,
    /// The run's files that are wanted, by path.
    wanted: HashMap<&'a ModelPath, (FileIndex, Sha256)>,
    digests: HashSet<Sha256>,
    by_digest: HashMap<(Sha256, u64), Vec<FileLocation>>,
    by_size: HashMap<u64, Vec<FileLocation>>,
}

impl<'a> KnownFiles<'a> {
    /// The files of the lock's `models`, and of the destination's markers. `wanted` are the run's files that lack
    /// bytes.
    pub(super) fn of(
        destination: Option<&'a Destination>,
        sources: LocalSources<'a>,
        marker: &Marker,
        models: &'a [Model],
        wanted: impl Iterator<Item = (FileIndex, &'a Model)>,
    ) -> Self {
        let wanted: HashMap<_, _> =
            wanted.map(|(index, model)| (&model.path, (index, model.sha256))).collect();
        let digests = wanted.values().map(|(_, sha256)| *sha256).collect();
        let (by_digest, by_size) = (HashMap::new(), HashMap::new());
        let mut known = Self { destination, sources, wanted, digests, by_digest, by_size };
        let others = destination.and_then(|destination| Marker::all(destination).ok()).unwrap_or_default();
        for marker in std::iter::once(marker).chain(others.iter().map(|(_, marker)| marker)) {
            for (path, size, sha256) in marker.files() {
                known.add((sha256, size), FileLocation::Installed(path.clone()));
            }
        }
        for model in models {
            known.add_model(model);
        }
        known
    }

    fn add(&mut self, file: (Sha256, u64), place: FileLocation) {
        let places = self.by_digest.entry(file).or_default();
        if !places.contains(&place) {
            places.push(place);
        }
    }

    fn add_model(&mut self, model: &Model) {
        let installed = FileLocation::Installed(model.path.clone());
        if !self.wanted.contains_key(&model.path) {
            self.add((model.sha256, model.size), installed);
        } else if let Some(size) = self.size_of(&installed) {
            // An earlier version whose marker is gone, such as after a kill.
            self.by_size.entry(size).or_default().push(installed);
        }
        if let Some(baked) = self.sources.baked_path(model).map(FileLocation::At)
            && let Some(size) = self.size_of(&baked)
        {
            self.by_size.entry(size).or_default().push(baked);
        }
    }

    fn size_of(&self, place: &FileLocation) -> Option<u64> {
        Some(self.open(place)?.stamp().size)
    }

    /// Opens the file, to read it. A file that cannot be read has nothing to give.
    pub(super) fn open(&self, place: &FileLocation) -> Option<SourceFile> {
        let opened = match place {
            FileLocation::Installed(path) => SourceFile::open_below_or_linked(self.destination?, path),
            FileLocation::Cached { is_other, sha256, size } => {
                let other = || self.sources.other_cache.map(OtherCache::cache);
                let cache = if *is_other { other() } else { self.sources.cache };
                cache?.find_object(sha256, *size)
            }
            FileLocation::At(path) => SourceFile::open(path),
        };
        opened.ok().flatten()
    }

    /// The wanted file in whose place the file of `list` lies, by a marker and its length.
    pub(super) fn replaced_by(&self, list: &PieceList) -> Option<FileIndex> {
        let is_there = |known: &KnownFile| known.is_named && self.size_of(&known.place) == Some(list.size());
        self.named(list).find(|known| known.name_of.is_some() && is_there(known))?.name_of
    }

    fn named(&self, list: &PieceList) -> impl Iterator<Item = KnownFile> {
        let places = self.by_digest.get(&(list.file(), list.size())).into_iter().flatten();
        places.filter_map(|place| self.known(place.clone(), true, list))
    }

    /// `None` for a wanted file in its own place: it is damaged, and its list says nothing about which bytes are right.
    fn known(&self, place: FileLocation, is_named: bool, list: &PieceList) -> Option<KnownFile> {
        let path = if let FileLocation::Installed(path) = &place { Some(path) } else { None };
        let wanted = path.and_then(|path| self.wanted.get(path));
        let is_own = wanted.is_some_and(|(_, sha256)| *sha256 == list.file());
        (!is_own).then(|| KnownFile { name_of: wanted.map(|(index, _)| *index), place, is_named })
    }

    /// The files that should have the pieces of `list`.
    pub(super) fn files_of(&self, list: &PieceList) -> Vec<KnownFile> {
        let (sha256, size) = (list.file(), list.size());
        let cached = [(self.sources.cache, false), (self.sources.other_cache.map(OtherCache::cache), true)];
        let cached = cached.into_iter().filter_map(|(cache, is_other): (Option<&Cache>, bool)| {
            cache.map(|_| FileLocation::Cached { is_other, sha256, size })
        });
        let stored =
            self.sources.store_directories.iter().filter(|store_directory| !store_directory.is_out());
        let stored = stored.map(|store_directory: &StoreDirectory| {
            FileLocation::At(store_directory.path_of_digest(&sha256))
        });
        let of_size = self.by_size.get(&size).into_iter().flatten().cloned();
        // Those of a wanted file have been tried, and are damaged.
        let by_name = cached.chain(stored).filter(|_| !self.digests.contains(&sha256));
        let by_name = by_name.map(|place| (place, true));
        let others = by_name.chain(of_size.map(|place| (place, false)));
        let others = others.filter_map(|(place, is_named)| self.known(place, is_named, list));
        self.named(list).chain(others).filter(|known| self.size_of(&known.place) == Some(size)).collect()
    }

    /// The path of a place, for messages.
    pub(super) fn path_of(&self, place: &FileLocation) -> Utf8PathBuf {
        let below = |destination: &Destination, path: &ModelPath| destination.path_of(path);
        match place {
            FileLocation::Installed(path) => self.destination.map(|destination| below(destination, path)),
            FileLocation::Cached { .. } => self.open(place).map(|file| file.path().to_owned()),
            FileLocation::At(path) => Some(path.clone()),
        }
        .unwrap_or_else(|| Utf8Path::new("").to_owned())
    }
}
