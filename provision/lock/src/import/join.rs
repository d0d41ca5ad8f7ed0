//! Joins lists: files that several lists name, and digests for files of other lists.
//!
//! A path has one file. Two digests for one path are an error, because one of the lists is wrong and this code cannot tell
//! which. A second source becomes a mirror if the digests show equal bytes. Without digests, only the hosts can tell, and the
//! caller asks them.

use std::collections::HashMap;

use super::{ImportError, ImportedModel, List, Place, Sum, Unused, UnusedReason};
use crate::source::Source;

/// The identity of a file among those of the lists.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    /// The destination, as file systems compare it.
    Path(String),
    /// If the destination is not known yet: the source, with its whole URL, and the name.
    Source(Source, String),
}

/// The joined contents of lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The files, in the order of the lists.
    pub models: Vec<ImportedModel>,
    /// Further sources of those paths, without a digest that shows equal bytes.
    pub same_paths: Vec<SamePath>,
    /// Items that were not used.
    pub unused: Vec<Unused>,
}

/// A source of a path that another source has, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamePath {
    /// The file.
    pub model: ImportedModel,
    /// The position of the first source.
    pub first: Place,
}

impl SamePath {
    /// The item as one that was not used.
    pub fn unused(self) -> Unused {
        let why = UnusedReason::SamePath { first: self.first };
        Unused { what: self.model.source.to_string(), why, place: self.model.place }
    }
}

/// Joins lists.
///
/// # Errors
/// Returns an error if two lists give different digests for one path.
pub fn join(lists: Vec<List>) -> Result<Imported, ImportError> {
    let mut joined = Imported { models: Vec::new(), same_paths: Vec::new(), unused: Vec::new() };
    let mut known: HashMap<Key, usize> = HashMap::new();
    let mut sums = Vec::new();
    for list in lists {
        joined.unused.extend(list.unused);
        sums.extend(list.sums);
        for model in list.models {
            let key = match model.destination() {
                Ok(path) => Key::Path(path.collision_key()),
                Err(_) => Key::Source(model.source.clone(), model.name.clone()),
            };
            if let Some(at) = known.get(&key) {
                merge(&mut joined, *at, model)?;
            } else {
                known.insert(key, joined.models.len());
                joined.models.push(model);
            }
        }
    }
    // The position of each digest's list, for the error if a second digest disagrees.
    let mut given: HashMap<usize, Place> = HashMap::new();
    for sum in sums {
        apply(&mut joined, &mut given, sum)?;
    }
    Ok(joined)
}

fn merge(joined: &mut Imported, at: usize, again: ImportedModel) -> Result<(), ImportError> {
    let first = &mut joined.models[at];
    let same_bytes = match (first.sha256, again.sha256) {
        (Some(a), Some(b)) if a != b => {
            return Err(ImportError::Conflict {
                path: path_of(first),
                first: first.place.clone(),
                second: again.place,
                digests: Box::new([a, b]),
            });
        }
        (Some(_), Some(_)) => true,
        _ => first.source == again.source,
    };
    if !same_bytes {
        let first = first.place.clone();
        joined.same_paths.push(SamePath { model: again, first });
        return Ok(());
    }
    first.sha256 = first.sha256.or(again.sha256);
    first.size = first.size.or(again.size);
    for source in std::iter::once(again.source).chain(again.mirrors) {
        if source != first.source && !first.mirrors.contains(&source) {
            first.mirrors.push(source);
        }
    }
    Ok(())
}

fn apply(joined: &mut Imported, given: &mut HashMap<usize, Place>, sum: Sum) -> Result<(), ImportError> {
    let mut whole = None;
    let mut candidates = Vec::new();
    for (at, model) in joined.models.iter().enumerate() {
        let path = path_of(model);
        let name = sum.name.strip_prefix("./").unwrap_or(&sum.name);
        if path == name {
            whole = Some(at);
        } else if ends_with(&path, name) || ends_with(name, &path) {
            candidates.push(at);
        }
    }
    let at = match (whole, &candidates[..]) {
        (Some(at), _) | (None, &[at]) => at,
        (None, several) => {
            let candidates: Vec<String> = several.iter().map(|at| path_of(&joined.models[*at])).collect();
            let why = if candidates.is_empty() {
                UnusedReason::NoModel
            } else {
                UnusedReason::Ambiguous { candidates }
            };
            joined.unused.push(Unused { what: sum.name, why, place: sum.place });
            return Ok(());
        }
    };
    let model = &mut joined.models[at];
    if let Some(sha256) = model.sha256.filter(|sha256| *sha256 != sum.sha256) {
        let first = given.get(&at).unwrap_or(&model.place).clone();
        let digests = Box::new([sha256, sum.sha256]);
        return Err(ImportError::Conflict { path: path_of(model), first, second: sum.place, digests });
    }
    if model.sha256.is_none() {
        model.sha256 = Some(sum.sha256);
        given.insert(at, sum.place);
    }
    Ok(())
}

/// The destination path, or the name if the path is not known.
fn path_of(model: &ImportedModel) -> String {
    model.destination().map_or_else(|_| model.name.clone(), |path| path.to_string())
}

/// Returns true if `path` is `end` below some directory.
fn ends_with(path: &str, end: &str) -> bool {
    !end.is_empty() && path.strip_suffix(end).is_some_and(|directory| directory.ends_with('/'))
}
