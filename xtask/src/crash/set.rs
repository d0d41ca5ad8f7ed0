//! The files that the jobs are about, with their bytes known beforehand.
//!
//! Old and new versions have the same sizes, and every installed file has the same time: nothing but the bytes tells them
//! apart.

use std::fmt::Write as _;
use std::sync::Arc;

use provision_testbed::{BlockingOrigin, Content};

/// Paths and sizes: of several segments, of several and an odd one, of less than one.
const FILES: [(&str, u64); 3] =
    [("loras/deep/y.safetensors", 2_700_001), ("vae/x.safetensors", 3_400_000), ("z.safetensors", 40_000)];

/// A model file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) sha256: String,
    pub(super) bytes: Arc<Vec<u8>>,
    content: Content,
}

/// One version of all files.
#[derive(Debug, Clone)]
pub(super) struct Version {
    name: &'static str,
    pub(super) files: Vec<File>,
}

/// Both versions.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) new: Version,
    pub(super) old: Version,
}

impl Set {
    pub(super) fn new() -> Self {
        Self { new: Version::new("new", 100), old: Version::new("old", 200) }
    }

    /// The file with this path and digest.
    pub(super) fn find(&self, path: &str, sha256: &str) -> Option<&File> {
        let mut all = self.new.files.iter().chain(&self.old.files);
        all.find(|file| file.path == path && file.sha256 == sha256)
    }
}

impl Version {
    fn new(name: &'static str, seed: u64) -> Self {
        let file = |(number, (path, size)): (usize, (&'static str, u64))| {
            let content = Content::generated(seed + number as u64, size);
            File { path, sha256: content.sha256_hex(), bytes: Arc::new(content.to_vec()), content }
        };
        Self { name, files: FILES.into_iter().enumerate().map(file).collect() }
    }

    /// Serves it.
    pub(super) fn serve(&self, origin: &BlockingOrigin) {
        for file in &self.files {
            origin.put(&format!("/{}/{}", self.name, file.path), file.content.clone());
        }
    }

    /// The lock that names it.
    pub(super) fn lock(&self, origin: &BlockingOrigin) -> String {
        let mut text = "version = 1\n".to_owned();
        for file in &self.files {
            let File { path, sha256, bytes, .. } = file;
            let url = origin.url(&format!("/{}/{path}", self.name));
            let _ = writeln!(text, "\n[[model]]\npath = \"{path}\"\nurl = \"{url}\"");
            let _ = writeln!(text, "size = {}\nsha256 = \"{sha256}\"", bytes.len());
        }
        text
    }

    /// All bytes.
    pub(super) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }
}
