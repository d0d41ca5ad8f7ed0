//! Dictionaries: lists and locks with addresses, in which the names of a workflow are looked up.
//!
//! A name is looked up as a whole path below its loader's folder, then by its last component, and only in the loader's
//! folder. It is used if the dictionaries have one file for it; several files are listed and none is taken, because a
//! wrong model is found out late. The file goes where the workflow names it, below the dictionary's folder.

use std::collections::HashMap;

use provision_core::lockfile::Lockfile;
use provision_core::source_url::SourceUrl;

use super::list::last;
use super::picture::ReadSeek;
use super::{
    Candidate, Contents, ImportError, ImportedModel, List, ListPosition, Unused, UnusedReason, contents,
    loader_folders, of_contents,
};
use crate::source::Source;

/// Files by their names.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    models: HashMap<String, Vec<Known>>,
}

/// A file of a dictionary.
#[derive(Debug, Clone)]
struct Known {
    /// The path below `models`, if the dictionary gives one.
    path: Option<String>,
    model: ImportedModel,
}

impl Known {
    /// The first directory of the path.
    fn folder(&self) -> Option<&str> {
        self.path.as_deref()?.split_once('/').map(|(folder, _)| folder)
    }

    fn is_in(&self, folder: Option<&str>) -> bool {
        let folders = folder.zip(self.folder());
        folders.is_none_or(|(wanted, found)| loader_folders::today(wanted) == loader_folders::today(found))
    }

    fn is_at(&self, name: &str) -> bool {
        self.path.as_deref().and_then(|path| path.split_once('/')).is_some_and(|(_, below)| below == name)
    }

    /// True if both are the same bytes: by their digests, or else by their source. The file of a URL may have changed
    /// between two dictionaries.
    fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.model, &other.model);
        a.sha256.zip(b.sha256).map_or_else(|| a.source.is_same(&b.source), |(a, b)| a == b)
    }
}

impl Dictionary {
    /// Adds a lock, or a list in any format, also inside a picture. Messages call it `name`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn add(&mut self, name: &str, file: &mut dyn ReadSeek) -> Result<(), ImportError> {
        let models = match contents(name, file)? {
            Contents::Text(text) if text.lines().any(|line| line.trim() == "[[model]]") => {
                of_lock(name, &text)?
            }
            contents => of_contents(name, contents, None)?.models,
        };
        for model in models {
            let path = model.destination().ok().map(|path| path.to_string());
            let file = last(path.as_deref().unwrap_or(&model.name)).to_owned();
            self.models.entry(file).or_default().push(Known { path, model });
        }
        Ok(())
    }

    /// Gives the names of `list` that have no address the files of the dictionaries.
    pub fn look_up(&self, list: &mut List) {
        for unused in std::mem::take(&mut list.unused) {
            let UnusedReason::Named { folder } = unused.why else {
                list.unused.push(unused);
                continue;
            };
            match &self.find(&unused.what, folder)[..] {
                [] => list.unused.push(unused),
                [one] if one.is_in(folder) => list.models.push(one.named(unused, folder)),
                several => {
                    let candidates = several.iter().map(|known| Candidate {
                        source: known.model.source.clone(),
                        place: known.model.place.clone(),
                        path: known.path_for(&unused.what, folder).unwrap_or_else(|| unused.what.clone()),
                    });
                    let why = UnusedReason::Unsure { candidates: candidates.collect() };
                    list.unused.push(Unused { why, ..unused });
                }
            }
        }
    }

    /// The different files that `name` may be. If none is in the folder, those of other folders.
    fn find(&self, name: &str, folder: Option<&str>) -> Vec<Known> {
        let named = self.models.get(last(name)).map_or(&[][..], Vec::as_slice);
        let in_folder = |known: &&Known| known.is_in(folder);
        let at_path = |known: &&Known| known.is_in(folder) && known.is_at(name);
        let found = distinct(named.iter().filter(at_path));
        let found = if found.is_empty() { distinct(named.iter().filter(in_folder)) } else { found };
        if found.is_empty() { distinct(named.iter()) } else { found }
    }
}

impl Known {
    /// The path of this file under the workflow's name.
    fn path_for(&self, name: &str, folder: Option<&str>) -> Option<String> {
        let folder = self.folder().filter(|_| self.is_in(folder)).or(folder)?;
        Some(format!("{folder}/{name}"))
    }

    /// The file for the workflow's name.
    fn named(&self, unused: Unused, folder: Option<&str>) -> ImportedModel {
        let path = self.path_for(&unused.what, folder);
        ImportedModel { name: last(&unused.what).to_owned(), path, place: unused.place, ..self.model.clone() }
    }
}

/// The most files of one name that are told apart.
const MAX_FILES: usize = 64;

/// The files without repetitions: the same bytes from another source are a mirror.
fn distinct<'a>(all: impl Iterator<Item = &'a Known>) -> Vec<Known> {
    let mut distinct: Vec<Known> = Vec::new();
    for known in all {
        let Some(first) = distinct.iter_mut().find(|first| first.is_same(known)) else {
            if distinct.len() == MAX_FILES {
                break;
            }
            distinct.push(known.clone());
            continue;
        };
        let (first, model) = (&mut first.model, &known.model);
        first.sha256 = first.sha256.or(model.sha256);
        first.size = first.size.or(model.size);
        for source in std::iter::once(&model.source).chain(&model.mirrors) {
            if !first.source.is_same(source) && !first.mirrors.contains(source) {
                first.mirrors.push(source.clone());
            }
        }
    }
    distinct
}

/// The files of a lock.
fn of_lock(name: &str, text: &str) -> Result<Vec<ImportedModel>, ImportError> {
    let lock = Lockfile::parse(name, text).map_err(|error| ImportError::Lock(error.to_string()))?;
    let models = lock.models().iter().filter_map(|model| {
        // A directory of another machine is none of this one, and another's endpoint gets no signature by keys of this
        // one.
        let is_anyones = |url: &&SourceUrl| {
            url.file().is_none() && url.object().is_none_or(|object| object.endpoint.is_none())
        };
        let sources = model.sources.iter().filter(is_anyones);
        let mut sources = sources.map(Source::of_url);
        let (source, place) = (sources.next()?, ListPosition::entry(name, model.path.as_str()));
        Some(ImportedModel {
            mirrors: sources.collect(),
            follows: model.source.clone(),
            path: Some(model.path.to_string()),
            size: Some(model.size),
            sha256: Some(model.sha256),
            ..ImportedModel::new(Some(model.path.file_name().to_owned()), source, place)
        })
    });
    Ok(models.collect())
}

#[cfg(test)]
mod tests;
