//! Leftovers of a destination: files of earlier runs that no lock needs.
//!
//! - Parts, journals and temporary files of runs that have ended. A run may resume from a part, if its lock lists the
//!   model.
//! - Kept texts of locks at addresses that the caller does not name.
//! - Markers whose files are all gone or changed. A marker of another lock that still vouches for a file stays, unless
//!   the caller says that its lock is gone: two projects may share a volume.
//! - Unlisted files: a run has installed them, they are unchanged, and neither the locks nor a marker that stays lists
//!   them. Those behind a symlink or in a folder elsewhere stay: the markers of other destinations that use them are
//!   not here.
//! - Kept piece lists (`.provision.pieces`) of files that no lock and no marker that stays knows.
//!
//! The search changes nothing. The removal takes the list of an earlier search, and removes the files that a search
//! under the destination's lock finds again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use camino::Utf8PathBuf;

use crate::lock_wait::{self, Locks};
use crate::marker::Marker;
use crate::piece_lists::kept;
use provision_core::digest::Sha256;
use provision_core::lockfile::{Lockfile, Model};
use provision_core::model_path::{KEPT_LISTS, ModelPath};
use provision_disk::{Acquire, Destination, DiskError, PartLeftover, SearchedDirectories, part_leftovers};

/// The parts of the name of a kept lock: `.provision.0123456789abcdef.lock`.
const KEPT_START: &str = ".provision.";
const KEPT_END: &str = ".lock";
const KEPT_DIGITS: usize = 16;

/// The locks of a destination, and the extent of the search.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The locks, each on its own.
    pub locks: &'a [Lockfile],
    /// The file names of the kept texts of these locks.
    pub kept: &'a [String],
    /// Markers whose locks are gone.
    pub gone: &'a [String],
    /// Finds unlisted files too.
    pub unlisted: bool,
    /// Searches every directory below the destination, and not only those of models in locks and markers.
    pub everywhere: bool,
    /// The time, in seconds since 1970.
    pub now: i64,
}

impl<'a> Scope<'a> {
    /// The least extent: parts in the directories of known models, and the files in the root.
    pub fn new(locks: &'a [Lockfile], now: i64) -> Self {
        Self { locks, kept: &[], gone: &[], unlisted: false, everywhere: false, now }
    }
}

/// The kind of a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part, or a file that belongs to one.
    Part {
        /// A run with these locks resumes from it.
        is_resumable: bool,
    },
    /// The kept text of a lock at an address.
    Lock,
    /// A kept piece list.
    List,
    /// A marker.
    Marker {
        /// The number of files that it still vouches for.
        files: usize,
    },
    /// An installed file that no lock lists.
    Unlisted,
}

/// One leftover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its path below the destination, or in a folder elsewhere.
    pub path: Utf8PathBuf,
    /// Its kind.
    pub kind: Kind,
    /// Bytes: on the disk for a part, else the length.
    pub bytes: u64,
    files: Files,
}

/// The names to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Files {
    Part(PartLeftover),
    InRoot(String),
    List(String),
    Installed(ModelPath),
}

/// A marker of another lock, which stays.
#[derive(Debug)]
pub struct OtherMarker {
    /// Its name.
    pub name: String,
    /// The number of files that it vouches for.
    pub files: usize,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// The leftovers: parts, locks, markers, files.
    pub found: Vec<Leftover>,
    /// Markers of other locks.
    pub others: Vec<OtherMarker>,
    /// Number and bytes of the unlisted files, also if the search does not ask for them.
    pub unlisted: (usize, u64),
    /// The unlisted files that lie outside of the destination, which stay.
    pub elsewhere: Vec<Utf8PathBuf>,
    /// A failure for each directory that could not be searched.
    pub unread: Vec<DiskError>,
}

/// Searches a destination.
///
/// # Errors
/// The destination cannot be listed.
pub fn find(destination: &Destination, scope: &Scope<'_>) -> Result<Leftovers, DiskError> {
    let root = destination.root();
    let markers = Marker::all(destination)?;
    let models = || scope.locks.iter().flat_map(Lockfile::models);
    let listed: HashSet<&ModelPath> = models().map(|model| &model.path).collect();

    let mut leftovers = Leftovers::default();
    find_parts(destination, scope, &markers, &mut leftovers);

    for name in root.names()?.into_iter().filter(|name| is_kept_lock(name) && !scope.kept.contains(name)) {
        let bytes = root.length(&name)?;
        let path = name.as_str().into();
        leftovers.found.push(Leftover { path, kind: Kind::Lock, bytes, files: Files::InRoot(name) });
    }

    let mut known: Vec<(&ModelPath, Sha256)> = models().map(|model| (&model.path, model.sha256)).collect();
    // The files of a marker that stays, other than those that a lock of the scope has dropped.
    let mut vouched = HashSet::new();
    for (name, marker) in &markers {
        let is_of_scope = scope.locks.iter().any(|lock| marker.is_of(name, lock));
        let is_dead = !is_of_scope && marker.is_dead(destination);
        if is_dead || (!is_of_scope && scope.gone.contains(name)) {
            let files = if is_dead { 0 } else { marker.paths().count() };
            let (path, files_of) = (name.as_str().into(), Files::InRoot(name.clone()));
            let bytes = root.length(name)?;
            leftovers.found.push(Leftover { path, kind: Kind::Marker { files }, bytes, files: files_of });
            continue;
        }
        known.extend(marker.digests());
        if !is_of_scope {
            vouched.extend(marker.paths());
            leftovers.others.push(OtherMarker { name: name.clone(), files: marker.paths().count() });
        }
    }

    let mut unlisted = BTreeMap::new();
    for (_, marker) in &markers {
        unlisted.extend(marker.installed(destination));
    }
    unlisted.retain(|path, _| !listed.contains(path) && !vouched.contains(path));
    unlisted.retain(|path, _| {
        let stays = destination.is_elsewhere(path).unwrap_or(true);
        leftovers.elsewhere.extend(stays.then(|| destination.path_of(path)));
        !stays
    });
    let stays = |path: &ModelPath| !scope.unlisted || !unlisted.contains_key(path);
    let needed = known.into_iter().filter(|(path, _)| stays(path)).map(|(_, sha256)| sha256).collect();
    for (name, bytes) in kept::unneeded(destination, &needed)? {
        let path = Utf8PathBuf::from(KEPT_LISTS).join(&name);
        leftovers.found.push(Leftover { path, kind: Kind::List, bytes, files: Files::List(name) });
    }
    leftovers.unlisted = (unlisted.len(), unlisted.values().sum());
    if scope.unlisted {
        leftovers.found.extend(unlisted.into_iter().map(|(path, bytes)| Leftover {
            path: path_below(destination, path),
            kind: Kind::Unlisted,
            bytes,
            files: Files::Installed(path.clone()),
        }));
    }
    Ok(leftovers)
}

fn find_parts(
    destination: &Destination,
    scope: &Scope<'_>,
    markers: &[(String, Marker)],
    leftovers: &mut Leftovers,
) {
    let models: Vec<&Model> = scope.locks.iter().flat_map(Lockfile::models).collect();
    let paths = || {
        models.iter().map(|model| &model.path).chain(markers.iter().flat_map(|(_, marker)| marker.paths()))
    };
    let directory =
        |place: String| place.rsplit_once('/').map_or(String::new(), |(above, _)| above.to_owned());
    let places = paths().flat_map(|path| destination.places(path));
    let directories: BTreeSet<String> = places.map(directory).chain([String::new()]).collect();
    let names: HashSet<&str> = paths().map(ModelPath::file_name).collect();
    let locks = || scope.locks.iter().map(Lockfile::marker);
    let is_ours = |name: &str| {
        let is_marker =
            || locks().chain(markers.iter().map(|(name, _)| name.as_str())).any(|marker| marker == name);
        names.contains(name) || name.starts_with(".provision.") || is_marker()
    };
    let searched = if scope.everywhere {
        SearchedDirectories::All(&directories)
    } else {
        SearchedDirectories::Only(&directories)
    };
    let found = part_leftovers(destination, searched, scope.now, &is_ours);
    leftovers.unread = found.unread;
    leftovers.found.extend(found.parts.into_iter().map(|part| Leftover {
        path: part.path(),
        kind: Kind::Part { is_resumable: models.iter().any(|model| part.is_of(destination, model)) },
        bytes: part.bytes,
        files: Files::Part(part),
    }));
}

/// The path of the file at `path` below the destination, or its absolute path in a folder elsewhere.
fn path_below(destination: &Destination, path: &ModelPath) -> Utf8PathBuf {
    match destination.directory_of(path) {
        Ok(directory) => Utf8PathBuf::from(directory.into_owned()).join(path.file_name()),
        Err(_) => path.as_str().into(),
    }
}

/// The name of the file that keeps the text of a lock at an address, by the digest of that address. No model path can
/// have it.
pub fn kept_lock_name(address: &Sha256) -> String {
    format!("{KEPT_START}{}{KEPT_END}", &address.to_string()[..KEPT_DIGITS])
}

fn is_kept_lock(name: &str) -> bool {
    let digest = name.strip_prefix(KEPT_START).and_then(|rest| rest.strip_suffix(KEPT_END));
    digest.is_some_and(|digest| digest.len() == KEPT_DIGITS && digest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Takes the locks of the destination and of the directories that its links lead to, without waiting.
///
/// # Errors
/// A lock file cannot be read or written.
pub fn lock(destination: &Destination, scope: &Scope<'_>) -> Result<Acquire<Locks>, DiskError> {
    let markers = Marker::all(destination)?;
    let models = scope.locks.iter().flat_map(Lockfile::models).map(|model| &model.path);
    let paths: Vec<_> = models.chain(markers.iter().flat_map(|(_, marker)| marker.all_paths())).collect();
    let locks = lock_wait::try_lock(destination, &paths)?;
    destination.freeze_links();
    Ok(locks)
}

/// Removes those of `wanted` that a search finds again, and returns them. The caller holds the locks of [`lock`].
///
/// Markers go first, durably: none may vouch for a file that is removed (I2).
///
/// # Errors
/// A file cannot be removed. Those before it are gone.
pub fn remove(
    destination: &Destination,
    scope: &Scope<'_>,
    wanted: &[Leftover],
) -> Result<Vec<Leftover>, DiskError> {
    let mut found = find(destination, scope)?.found;
    found.retain(|leftover| {
        wanted.iter().any(|wanted| wanted.path == leftover.path && wanted.kind == leftover.kind)
    });
    found.sort_by_key(|leftover| !matches!(leftover.kind, Kind::Marker { .. }));
    let root = destination.root();
    let mut removed = Vec::new();
    for leftover in found {
        let is_removed = match &leftover.files {
            Files::Part(part) => part.remove(destination)?,
            Files::InRoot(name) => root.remove(name)?,
            Files::List(name) => kept::remove(destination, name)?,
            Files::Installed(path) => match destination.parent(path, false)? {
                Some(directory) => directory.remove(path.file_name())?,
                None => false,
            },
        };
        if matches!(leftover.kind, Kind::Marker { .. }) {
            root.sync()?;
        }
        if is_removed {
            removed.push(leftover);
        }
    }
    Ok(removed)
}
