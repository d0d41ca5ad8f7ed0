//! The cache: files by their digest, shared by projects and builds.
//!
//! | name | content |
//! |---|---|
//! | `sha256/a7/a70580f0…` | an object: a file that had this digest when it was installed |
//! | `sha256/a7/.a70580f0….part` and `.journal` | an object that is being downloaded |
//! | `.provision.lock` | held while objects are downloaded or removed |
//!
//! A run with a cache downloads into it. Then it gives the object a name in the destination: by a hard link or a
//! reflink if both are on one file system, else by a copy. So a Docker build or a CI job can resume after its layer or
//! workspace was deleted. Each run verifies an object again before it uses it: other users may write here, and a hard
//! link is the same file as the destination's.
//!
//! An object's access time is the time of its last use.

use std::collections::HashSet;
use std::sync::Arc;

use camino::Utf8Path;

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_disk::{Acquire, Destination, DestinationLock, Directory, DiskError, Found, SourceFile};

/// A cache directory, held open.
#[derive(Debug, Clone)]
pub struct Cache {
    place: Arc<Destination>,
}

/// A file of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The digest of the object's bytes.
    pub sha256: Sha256,
    /// Bytes on the disk.
    pub bytes: u64,
    /// The time of its last use, or of the last write to a part, in seconds since 1970.
    pub used: i64,
    /// It is a part: some of its bytes are missing.
    pub is_partial: bool,
    /// Other hard links to the file. While they exist, removing it frees no space.
    pub links: u64,
    /// Its names.
    names: Vec<String>,
}

/// Limits for the content of a cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// Total bytes; the least recently used objects go first.
    pub bytes: Option<u64>,
    /// Objects last used before this time go; in seconds since 1970.
    pub used_since: Option<i64>,
}

impl Cache {
    /// Opens the cache at `path`, and creates it if it does not exist.
    pub fn open(path: &Utf8Path) -> Result<Self, DiskError> {
        Destination::create(path).map(|place| Self { place: Arc::new(place) })
    }

    /// Opens the cache at `path`; `None` if it does not exist.
    pub fn open_existing(path: &Utf8Path) -> Result<Option<Self>, DiskError> {
        Ok(Destination::open(path)?.map(|place| Self { place: Arc::new(place) }))
    }

    /// Its directory. Objects are downloaded into it as models are into a destination.
    pub fn place(&self) -> &Arc<Destination> {
        &self.place
    }

    /// `model` with the path of its object in a cache.
    pub fn object(model: &Model) -> Model {
        Model { path: path_of(&model.sha256), ..model.clone() }
    }

    /// The object with a model's bytes, not verified; `None` if no object has its length.
    pub fn find(&self, model: &Model) -> Result<Option<SourceFile>, DiskError> {
        self.find_object(&model.sha256, model.size)
    }

    /// The object with this digest, not verified; `None` if no object has this length in bytes.
    pub fn find_object(&self, sha256: &Sha256, size: u64) -> Result<Option<SourceFile>, DiskError> {
        let path = path_of(sha256);
        match self.place.find(&path)? {
            Found::File(stamp) if stamp.size == size => SourceFile::open_below(&self.place, &path),
            _ => Ok(None),
        }
    }

    /// Records the use of an object.
    pub fn touch(&self, sha256: &Sha256) -> Result<(), DiskError> {
        let path = path_of(sha256);
        match self.place.parent(&path, false)? {
            Some(directory) => directory.touch(path.file_name()),
            None => Ok(()),
        }
    }

    /// Removes an object with wrong bytes, unless a run holds the lock: that run may have replaced the object, or will.
    /// Open readers keep the removed file.
    pub fn discard(&self, wrong: &SourceFile, sha256: &Sha256) -> Result<(), DiskError> {
        let path = path_of(sha256);
        let Acquire::Acquired(_lock) = DestinationLock::try_acquire(&self.place)? else { return Ok(()) };
        match (SourceFile::open_below(&self.place, &path)?, self.place.parent(&path, false)?) {
            (Some(found), Some(directory)) if found.identity() == wrong.identity() => {
                directory.remove(path.file_name()).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// All entries, the least recently used first.
    pub fn entries(&self) -> Result<Vec<Entry>, DiskError> {
        let mut entries = Vec::new();
        for first in 0..=u8::MAX {
            let any = Sha256::from_bytes(std::array::from_fn(|at| if at == 0 { first } else { 0 }));
            if let Some(directory) = self.place.parent(&path_of(&any), false)? {
                read(&directory, &mut entries)?;
            }
        }
        entries.sort_by_key(|entry| (entry.used, entry.sha256));
        Ok(entries)
    }

    /// The entries that exceed `bounds`.
    pub fn excess(&self, bounds: Bounds) -> Result<Vec<Entry>, DiskError> {
        Ok(Self::excess_of(self.entries()?, bounds))
    }

    fn excess_of(entries: Vec<Entry>, bounds: Bounds) -> Vec<Entry> {
        let mut left: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut exceeds = |entry: &Entry| {
            let is_old = bounds.used_since.is_some_and(|since| entry.used < since);
            // An empty part has 0 bytes, and still exceeds a limit of 0.
            let is_too_much = bounds.bytes.is_some_and(|most| left > most || most == 0);
            if is_old || is_too_much {
                left -= entry.bytes;
            }
            is_old || is_too_much
        };
        entries.into_iter().filter(|entry| exceeds(entry)).collect()
    }

    /// Removes the entries that exceed `bounds`, and returns them. The caller holds the cache's lock.
    pub fn prune(&self, bounds: Bounds) -> Result<Vec<Entry>, DiskError> {
        let excess = self.excess(bounds)?;
        self.remove(&excess)?;
        Ok(excess)
    }

    /// The entries, the least recently used first, without which `object` fits beside the others within `most` bytes.
    /// `None` if it does not fit beside those to `keep`. The object's own part stays.
    pub fn excess_beside(
        &self,
        object: &Model,
        most: u64,
        keep: &HashSet<Sha256>,
    ) -> Result<Option<Vec<Entry>>, DiskError> {
        let mut others = self.entries()?;
        others.retain(|entry| entry.sha256 != object.sha256);
        let (kept, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|entry| keep.contains(&entry.sha256));
        let kept = kept.iter().map(|entry| entry.bytes).sum();
        let left = most.checked_sub(object.size).and_then(|left| left.checked_sub(kept));
        Ok(left.map(|bytes| Self::excess_of(others, Bounds { bytes: Some(bytes), ..Bounds::default() })))
    }

    /// Removes these entries. The caller holds the cache's lock.
    pub fn remove(&self, entries: &[Entry]) -> Result<(), DiskError> {
        for entry in entries {
            if let Some(directory) = self.place.parent(&path_of(&entry.sha256), false)? {
                entry.names.iter().try_for_each(|name| directory.remove(name).map(drop))?;
            }
        }
        Ok(())
    }
}

/// The path of an object below the cache's directory.
fn path_of(sha256: &Sha256) -> ModelPath {
    let digest = sha256.to_string();
    let path = format!("sha256/{}/{digest}", &digest[..2]);
    path.parse().unwrap_or_else(|_| unreachable!("hex digits are portable"))
}

fn read(directory: &Directory, entries: &mut Vec<Entry>) -> Result<(), DiskError> {
    let mut names = directory.names()?;
    names.sort();
    for name in &names {
        let stem = name.strip_suffix(".part");
        // A run that was killed while it renamed an object leaves a journal without a part.
        let stray = name.strip_suffix(".journal").filter(|stem| !names.contains(&format!("{stem}.part")));
        let digest = stem.or(stray).map_or(name.as_str(), |stem| stem.trim_start_matches('.'));
        let is_object = digest.len() == 64;
        let is_partial = stem.or(stray).is_some();
        let Some(Ok(sha256)) = digest.get(..64).map(str::parse) else { continue };
        if !is_object && !is_partial {
            continue;
        }
        let Some(usage) = directory.usage(name)? else { continue };
        let journal = stem.map(|stem| format!("{stem}.journal")).filter(|journal| names.contains(journal));
        entries.push(Entry {
            sha256,
            bytes: usage.bytes,
            used: if is_partial { usage.written } else { usage.used },
            is_partial,
            links: usage.names.saturating_sub(1),
            names: std::iter::once(name.clone()).chain(journal).collect(),
        });
    }
    Ok(())
}
