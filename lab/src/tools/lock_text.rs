//! Text of lock files for the checks. It is formatted here, so that the code under test does not judge itself.

use std::iter;

use provision_testbed::Content;

use crate::tools::wheel::{Asset, MODEL};

/// The directory that the paths of [`Lock::new`] begin with.
pub(crate) const FOLDER: &str = "minilm";

/// The first line of a lock file.
pub(crate) const VERSION: &str = "version = 1\n";

/// The text of a `[[model]]`. Further keys may follow.
pub(crate) fn model(path: &str, url: &str, size: u64, sha256: &str) -> String {
    format!("\n[[model]]\npath = \"{path}\"\nurl = \"{url}\"\nsize = {size}\nsha256 = \"{sha256}\"\n")
}

/// The text of a lock of these files, each at the URL that `url` makes of its path.
pub(crate) fn of_contents(files: &[(&str, Content)], url: impl Fn(&str) -> String) -> String {
    let entry =
        |(path, content): &(&str, Content)| model(path, &url(path), content.size(), &content.sha256_hex());
    VERSION.to_owned() + &files.iter().map(entry).collect::<String>()
}

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
        let model = |Entry { path, url, size, sha256, group }: &Entry| {
            model(path, url, *size, sha256) + &format!("groups = [\"{group}\"]\n")
        };
        iter::once(VERSION.to_owned()).chain(marker).chain(self.entries.iter().map(model)).collect()
    }

    /// Input for `sha256sum --check`.
    pub(crate) fn sums(&self) -> String {
        let line = |entry: &Entry| format!("{}  {}", entry.sha256, entry.path);
        self.entries.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
