//! Joins lists: the sources of each path, and digests for files of other lists.
//!
//! A path has one file. Two digests for one path are a contradiction, because one of the lists is wrong and this code
//! cannot tell which: the path is left out, and all others are used. Several sources of a path may have equal bytes;
//! only their hosts can tell, and the caller asks them.

use std::collections::HashMap;

use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;
use provision_core::terminal_text::TerminalText;

use super::{ImportedModel, List, ListPosition, Sum, Unused, UnusedReason};
use crate::source::Source;

/// The joined contents of lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// The files, in the order of the lists. The sources of one path follow each other, the first one first.
    pub models: Vec<ImportedModel>,
    /// The paths with two digests. None of their files is among `models`.
    pub conflicts: Vec<Conflict>,
    /// Items that were not used.
    pub unused: Vec<Unused>,
}

/// A path for which lists give two digests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: {} and {} list different digests ({} and {})",
    TerminalText(path), first.place, second.place, first.sha256, second.sha256
)]
pub struct Conflict {
    /// The path.
    pub path: String,
    /// The first statement.
    pub first: Box<Statement>,
    /// The first one that contradicts it.
    pub second: Box<Statement>,
}

/// A list's statement about a file's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The digest.
    pub sha256: Sha256,
    /// The position in the list.
    pub place: ListPosition,
    /// The source of the file; `None` in a list of digests only.
    pub source: Option<Source>,
}

impl Conflict {
    /// The source that can have another path, if the statements are about two files.
    pub fn other_source(&self) -> Option<&Source> {
        self.second.source.as_ref().filter(|source| self.first.source.as_ref() != Some(source))
    }
}

/// The identity of a file among those of the lists.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    /// The destination.
    Path(ModelPath),
    /// If the destination is not known yet: the source, with its whole URL, and the name.
    Source(Source, String),
}

/// A file, with the statements of the lists about it.
struct File {
    /// The destination, or the name if that is not known.
    path: String,
    /// One for each source.
    models: Vec<ImportedModel>,
    stated: Option<Statement>,
    conflict: Option<Conflict>,
}

/// Joins lists.
pub fn join(lists: Vec<List>) -> Imported {
    let mut joined = Imported::default();
    let mut files: Vec<File> = Vec::new();
    let mut known = HashMap::new();
    let mut sums = Vec::new();
    for list in lists {
        joined.unused.extend(list.unused);
        sums.extend(list.sums);
        for model in list.models {
            let (key, path) = match model.destination() {
                Ok(path) if !model.is_nameless() => (Key::Path(path.clone()), path.to_string()),
                _ => (Key::Source(model.source.clone(), model.name.clone()), model.name.clone()),
            };
            let at = *known.entry(key).or_insert(files.len());
            if at == files.len() {
                files.push(File { path, models: Vec::new(), stated: None, conflict: None });
            }
            files[at].add(model);
        }
    }
    for sum in sums {
        match named(&mut files, &sum) {
            Ok(file) => file.apply(sum),
            Err(why) => joined.unused.push(Unused { what: sum.name, why, place: sum.place }),
        }
    }
    for file in files {
        match file.conflict {
            Some(conflict) => joined.conflicts.push(conflict),
            None => joined.models.extend(file.models),
        }
    }
    joined
}

impl File {
    fn add(&mut self, model: ImportedModel) {
        if let Some(sha256) = model.sha256 {
            let (place, source) = (model.place.clone(), Some(model.source.clone()));
            self.state(Statement { sha256, place, source });
        }
        let Some(known) = self.models.iter_mut().find(|known| known.source == model.source) else {
            self.models.push(model);
            return;
        };
        known.sha256 = known.sha256.or(model.sha256);
        known.size = known.size.or(model.size);
        for mirror in model.mirrors {
            if mirror != known.source && !known.mirrors.contains(&mirror) {
                known.mirrors.push(mirror);
            }
        }
    }

    fn apply(&mut self, Sum { sha256, place, .. }: Sum) {
        for model in &mut self.models {
            model.sha256.get_or_insert(sha256);
        }
        self.state(Statement { sha256, place, source: None });
    }

    fn state(&mut self, second: Statement) {
        let first = self.stated.get_or_insert_with(|| second.clone());
        if first.sha256 != second.sha256 && self.conflict.is_none() {
            let (path, first) = (self.path.clone(), Box::new(first.clone()));
            self.conflict = Some(Conflict { path, first, second: Box::new(second) });
        }
    }
}

/// The file of a digest: by its path, or by the end of it if that is unique.
fn named<'f>(files: &'f mut [File], sum: &Sum) -> Result<&'f mut File, UnusedReason> {
    let name = sum.name.strip_prefix("./").unwrap_or(&sum.name);
    let mut candidates = Vec::new();
    for (at, File { path, .. }) in files.iter().enumerate() {
        if path == name {
            candidates = vec![at];
            break;
        }
        if ends_with(path, name) || ends_with(name, path) {
            candidates.push(at);
        }
    }
    match candidates[..] {
        [at] => Ok(&mut files[at]),
        [] => Err(UnusedReason::NoModel),
        _ => {
            let candidates = candidates.into_iter().map(|at| files[at].path.clone()).collect();
            Err(UnusedReason::Ambiguous { candidates })
        }
    }
}

/// Returns true if `path` is `end` below some directory.
fn ends_with(path: &str, end: &str) -> bool {
    !end.is_empty() && path.strip_suffix(end).is_some_and(|directory| directory.ends_with('/'))
}
