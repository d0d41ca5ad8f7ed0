//! Text of lock files for the checks. It is formatted here, so that the code under test does not judge itself.

use std::fmt::Write as _;

use crate::tools::wheel::{Asset, MODEL};

/// The directory that the paths of [`Lock::new`] begin with.
pub(crate) const FOLDER: &str = "minilm";

/// The content of a `models.lock`.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    /// The marker's name; the default name where it is `None`.
    pub(crate) marker: Option<String>,
    pub(crate) entries: Vec<Entry>,
}

/// One `[[model]]`.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) url: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// In [`Lock::new`]: `weights` for [`MODEL`], `text` for the other files.
    pub(crate) group: &'static str,
}

impl Lock {
    /// An entry for each of `files`, at the URL `base/PATH`.
    pub(crate) fn new(files: &[Asset], base: &str) -> Self {
        let entry = |file: &Asset| Entry {
            path: format!("{FOLDER}/{}", file.path),
            url: format!("{base}/{}", file.path),
            size: file.size,
            sha256: file.sha256.clone(),
            group: if file.path == MODEL { "weights" } else { "text" },
        };
        Self { marker: None, entries: files.iter().map(entry).collect() }
    }

    /// The lock file's text.
    pub(crate) fn text(&self) -> String {
        let marker = self.marker.iter().map(|marker| format!("marker = \"{marker}\"\n"));
        let head = marker.fold("version = 1\n".to_owned(), |head, line| head + &line);
        self.entries.iter().fold(head, |mut text, Entry { path, url, size, sha256, group }| {
            let _ = write!(text, "\n[[model]]\npath = \"{path}\"\nurl = \"{url}\"\nsize = {size}\n");
            let _ = write!(text, "sha256 = \"{sha256}\"\ngroups = [\"{group}\"]\n");
            text
        })
    }

    /// Input for `sha256sum --check`.
    pub(crate) fn sums(&self) -> String {
        let line = |entry: &Entry| format!("{}  {}", entry.sha256, entry.path);
        self.entries.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
