//! A parsed list: the files that it names, digests for files of other lists, and the items that were not used.

use std::collections::HashSet;

use provision_core::digest::{DigestError, Sha256};
use provision_core::model_path::ModelPath;

use super::format::Format;
use super::position::ListPosition;
use super::unused::{LineProblem, Unused, UnusedReason};
use crate::placement::{self, Hints, PlacementError};
use crate::source::Source;

/// A file that a list names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedModel {
    /// The file's name from the list, or else from the source; empty if neither has one.
    pub name: String,
    /// The source.
    pub source: Source,
    /// Further sources of the same bytes.
    pub mirrors: Vec<Source>,
    /// The source that `lock update` follows, if a lock says so.
    pub follows: Option<String>,
    /// The whole path, if the list gives one.
    pub path: Option<String>,
    /// The value of `--path-of` for it, which replaces the list's own place.
    pub chosen: Option<String>,
    /// The directory, if the list gives one.
    pub directory: Option<String>,
    /// The length in bytes.
    pub size: Option<u64>,
    /// The SHA-256 of the file.
    pub sha256: Option<Sha256>,
    /// The position in the list.
    pub place: ListPosition,
}

impl ImportedModel {
    /// A source under its own name, or under the list's.
    pub(super) fn new(name: Option<String>, source: Source, place: ListPosition) -> Self {
        Self {
            name: name.or_else(|| source.file_name()).unwrap_or_default(),
            source,
            mirrors: Vec::new(),
            follows: None,
            path: None,
            chosen: None,
            directory: None,
            size: None,
            sha256: None,
            place,
        }
    }

    /// The chosen path, or the list's whole path relative to `models`.
    pub fn explicit(&self) -> Option<String> {
        self.chosen.clone().or_else(|| self.path.as_deref().map(placement::within))
    }

    /// The name, if it is more than the last part of a URL that has no model's name: the host may know a better one.
    pub fn given_name(&self) -> Option<&str> {
        let is_given = self.source.has_model_name() || self.source.file_name().as_ref() != Some(&self.name);
        Some(self.name.as_str()).filter(|name| is_given && !name.is_empty())
    }

    /// True if only the host knows the name of a plain URL's file, and so its path.
    pub fn is_nameless(&self) -> bool {
        let is_placed = self.explicit().is_some_and(|path| placement::as_directory(&path).is_none());
        matches!(self.source, Source::Url(_)) && self.given_name().is_none() && !is_placed
    }

    /// The destination path, from the list and the source.
    pub fn destination(&self) -> Result<ModelPath, PlacementError> {
        self.destination_with(None)
    }

    /// The same, with the model type that a host declares.
    pub fn destination_with(&self, civitai_type: Option<&str>) -> Result<ModelPath, PlacementError> {
        let path = self.explicit();
        let at_source = self.source.path();
        placement::destination(&Hints {
            explicit: path.as_deref(),
            directory: self.directory.as_deref(),
            name: Some(self.name.as_str()).filter(|name| !name.is_empty()),
            civitai_type,
            at_source: at_source.as_deref(),
            otherwise: None,
        })
    }
}

/// A digest and the file that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The file's name or path.
    pub name: String,
    /// The SHA-256.
    pub sha256: Sha256,
    /// The position in the list.
    pub place: ListPosition,
}

/// A parsed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The format.
    pub format: Format,
    /// The files that the list names.
    pub models: Vec<ImportedModel>,
    /// Digests for files of other lists.
    pub sums: Vec<Sum>,
    /// Items that were not used.
    pub unused: Vec<Unused>,
    /// Links of a workflow's notes that are model files and no models of the list yet.
    pub links: Vec<ImportedModel>,
}

impl List {
    /// Takes the links of notes as models. The names that they give an address to are no longer unused.
    pub fn take_links(&mut self) {
        let links = std::mem::take(&mut self.links);
        let names: HashSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
        self.unused.retain(|unused| {
            let is_name = matches!(unused.why, UnusedReason::Named { .. } | UnusedReason::NoAddress);
            !(is_name && names.contains(last(&unused.what)))
        });
        self.models.extend(links);
    }

    pub(super) fn new(format: Format) -> Self {
        Self { format, models: Vec::new(), sums: Vec::new(), unused: Vec::new(), links: Vec::new() }
    }

    pub(super) fn leave_out(&mut self, what: impl Into<String>, why: UnusedReason, place: &ListPosition) {
        self.unused.push(Unused { what: what.into(), why, place: place.clone() });
    }

    /// Records a line that was not understood. Its text is not repeated: it may contain a secret.
    pub(super) fn leave_out_line(&mut self, problem: LineProblem, place: &ListPosition) {
        self.leave_out("not understood", UnusedReason::Line(problem), place);
    }

    /// Parses a hash whose list has other useful contents; a problem is recorded as unused.
    pub(super) fn hash(
        &mut self,
        name: &str,
        kind: Option<&str>,
        hash: &str,
        place: &ListPosition,
    ) -> Option<Sha256> {
        let kind = kind.unwrap_or("sha256");
        if !kind.eq_ignore_ascii_case("sha256") && !kind.eq_ignore_ascii_case("sha-256") {
            self.leave_out(name, UnusedReason::HashKind { kind: kind.to_owned() }, place);
            return None;
        }
        match digest(hash) {
            Ok(sha256) => Some(sha256),
            Err(error) => {
                self.leave_out(name, UnusedReason::Digest(error), place);
                None
            }
        }
    }
}

/// The last component of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Parses a digest in either case, because other tools write both.
pub(super) fn digest(text: &str) -> Result<Sha256, DigestError> {
    text.trim().to_ascii_lowercase().parse()
}
