//! The options for opening a part: the scheme of its name, and the piece list that verifies its bytes.

use std::sync::Arc;

use super::names::PartNames;
use crate::threads::processors;
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;

/// The options of [`PartFile::open`](super::PartFile::open). Made from the names alone, the part has no list.
#[derive(Debug, Clone)]
pub struct PartOptions<'a> {
    /// The naming scheme.
    pub names: &'a PartNames,
    /// The list of the file's pieces. Used only if it is the one that the lock pins.
    pub pieces: Option<Arc<PieceList>>,
    /// The most threads that hash pieces, or copy them: 16 at most. A file without a list is hashed by one.
    pub threads: usize,
    /// Makes the list of a file without one while its bytes are hashed: see
    /// [`PartFile::take_list`](super::PartFile::take_list).
    pub makes_list: bool,
}

impl<'a> PartOptions<'a> {
    /// With the list of the file, if there is one. Hashes its pieces on all processors.
    pub fn with_list(names: &'a PartNames, pieces: Option<Arc<PieceList>>) -> Self {
        Self { pieces, threads: processors(), ..names.into() }
    }

    /// Of as many `files` at once, each gets its share of the threads.
    #[must_use]
    pub fn among(self, files: usize) -> Self {
        Self { threads: (self.threads / files.max(1)).max(1), ..self }
    }
}

impl<'a> From<&'a PartNames> for PartOptions<'a> {
    fn from(names: &'a PartNames) -> Self {
        Self { names, pieces: None, threads: 1, makes_list: false }
    }
}

impl PartOptions<'_> {
    /// The pieces by which the bytes of `model` are verified: those of the list, if the lock pins it (I5).
    pub(crate) fn list_of(&self, model: &Model) -> Arc<PieceList> {
        let is_pinned = |list: &&Arc<PieceList>| {
            list.size() == model.size
                && list.file() == model.sha256
                && model.pieces.is_some()
                && model.pieces == list.digest()
        };
        let whole = || Arc::new(PieceList::of_whole(model.size, model.sha256));
        self.pieces.as_ref().filter(is_pinned).map_or_else(whole, Arc::clone)
    }
}
