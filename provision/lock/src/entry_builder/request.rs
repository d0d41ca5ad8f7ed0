//! A request to add a source to the lock: the words of a person, or an item of a list.

use provision_core::digest::Sha256;

use crate::import::ImportedModel;
use crate::placement;
use crate::source::Source;

/// A request to add a source to the lock.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// The source; a glob names several files.
    pub source: Source,
    /// Further sources of the same bytes.
    pub mirrors: Vec<Source>,
    /// The source that `lock update` follows, if it is not `source`.
    pub follows: Option<String>,
    /// The value of `--path`, or the whole path from a list.
    pub explicit: Option<String>,
    /// The directory from a list.
    pub directory: Option<String>,
    /// The name from a list.
    pub name: Option<String>,
    /// The digest from the user or a list.
    pub sha256: Option<Sha256>,
    /// The length from the user or a list.
    pub size: Option<u64>,
    /// The groups.
    pub groups: Vec<String>,
    /// The folder if nothing else names one.
    pub folder: Option<String>,
    /// A mirror that fails is left out, and the entry is built without it.
    pub may_lose_mirrors: bool,
    /// A person typed `explicit`, so a missing suffix is asked about. A list's paths are whole.
    pub is_typed: bool,
}

impl AddRequest {
    /// A request with a source only.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            mirrors: Vec::new(),
            follows: None,
            explicit: None,
            directory: None,
            name: None,
            sha256: None,
            size: None,
            groups: Vec::new(),
            folder: None,
            may_lose_mirrors: false,
            is_typed: false,
        }
    }

    /// The same with the folder for files that nothing else places. A list's bare name is such a file, too.
    #[must_use]
    pub fn with_folder(mut self, folder: Option<String>) -> Self {
        if folder.is_some() && !self.is_typed {
            if let Some(name) = self.explicit.take_if(|path| !path.contains('/')) {
                self.name = Some(name);
            }
            self.folder = folder;
        }
        self
    }

    /// The directory in `explicit`; `None` if it is a file's path or absent.
    pub(super) fn directory(&self) -> Option<String> {
        placement::as_directory(self.explicit.as_deref()?)
    }

    /// True if the request names the file, so that no host does.
    pub(super) fn has_name(&self) -> bool {
        self.name.is_some() || self.is_for_one_file()
    }

    /// True if `explicit` is a file's path.
    pub(super) fn is_for_one_file(&self) -> bool {
        self.explicit.is_some() && self.directory().is_none()
    }
}

impl From<&ImportedModel> for AddRequest {
    fn from(model: &ImportedModel) -> Self {
        Self {
            source: model.source.clone(),
            mirrors: model.mirrors.clone(),
            follows: model.follows.clone(),
            explicit: model.explicit(),
            directory: model.directory.clone(),
            name: model.given_name().map(str::to_owned),
            sha256: model.sha256,
            size: model.size,
            groups: Vec::new(),
            folder: None,
            // Another list may have added them.
            may_lose_mirrors: true,
            is_typed: model.chosen.is_some(),
        }
    }
}
