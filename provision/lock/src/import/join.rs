//! Several lists as one: files that two of them name, and digests for files that another names.
//!
//! One path has one file. Two digests for it are an error, since one of the lists is wrong and nobody here knows which. A
//! second source is a mirror only where a digest says that the bytes are the same; otherwise the first one counts, and the
//! other is listed.

use std::collections::HashMap;

use super::{ImportError, List, Place, Sum, Unused, Wanted, Why};

/// What lists ask for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The files, in the order of the lists.
    pub wanted: Vec<Wanted>,
    /// What nothing came of.
    pub unused: Vec<Unused>,
}

/// Joins lists.
///
/// # Errors
/// Where two of them give one path different digests.
pub fn join(lists: Vec<List>) -> Result<Imported, ImportError> {
    let mut joined = Imported { wanted: Vec::new(), unused: Vec::new() };
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut sums = Vec::new();
    for list in lists {
        joined.unused.extend(list.unused);
        sums.extend(list.sums);
        for wanted in list.wanted {
            // Where it goes may not be known yet; then what it is tells it from others.
            let key = wanted
                .destination()
                .map_or_else(|_| format!("{} {}", wanted.source, wanted.name), |path| path.collision_key());
            if let Some(at) = known.get(&key) {
                merge(&mut joined, *at, wanted)?;
            } else {
                known.insert(key, joined.wanted.len());
                joined.wanted.push(wanted);
            }
        }
    }
    // A digest's own list is where it stands, for the case that a second one disagrees.
    let mut given: HashMap<usize, Place> = HashMap::new();
    for sum in sums {
        apply(&mut joined, &mut given, sum)?;
    }
    Ok(joined)
}

fn merge(joined: &mut Imported, at: usize, again: Wanted) -> Result<(), ImportError> {
    let first = &mut joined.wanted[at];
    let same_bytes = match (first.sha256, again.sha256) {
        (Some(a), Some(b)) if a != b => {
            return Err(ImportError::Conflict {
                path: path_of(first),
                first: first.place.clone(),
                second: again.place,
            });
        }
        (Some(_), Some(_)) => true,
        _ => first.source == again.source,
    };
    if !same_bytes {
        let why = Why::SamePath { first: first.place.clone() };
        joined.unused.push(Unused { what: again.source.to_string(), why, place: again.place });
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
    for (at, wanted) in joined.wanted.iter().enumerate() {
        let path = path_of(wanted);
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
            let candidates: Vec<String> = several.iter().map(|at| path_of(&joined.wanted[*at])).collect();
            let why = if candidates.is_empty() { Why::NoModel } else { Why::Ambiguous { candidates } };
            joined.unused.push(Unused { what: sum.name, why, place: sum.place });
            return Ok(());
        }
    };
    let wanted = &mut joined.wanted[at];
    if wanted.sha256.is_some_and(|sha256| sha256 != sum.sha256) {
        let first = given.get(&at).unwrap_or(&wanted.place).clone();
        return Err(ImportError::Conflict { path: path_of(wanted), first, second: sum.place });
    }
    if wanted.sha256.is_none() {
        wanted.sha256 = Some(sum.sha256);
        given.insert(at, sum.place);
    }
    Ok(())
}

/// Where it goes, or its name where that is not known.
fn path_of(wanted: &Wanted) -> String {
    wanted.destination().map_or_else(|_| wanted.name.clone(), |path| path.to_string())
}

/// Whether `path` is `end` below some directory.
fn ends_with(path: &str, end: &str) -> bool {
    !end.is_empty() && path.strip_suffix(end).is_some_and(|directory| directory.ends_with('/'))
}
