//! The files that the jobs are about, with their bytes known beforehand.
//!
//! Old and new versions have the same sizes, and every installed file has the same time: nothing but the bytes tells them
//! apart.

use std::fmt::Write as _;
use std::sync::Arc;

use provision_testbed::{BlockingOrigin, Content, Recorded};

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
pub(super) struct ModelSet {
    pub(super) new: Version,
    pub(super) old: Version,
}

impl ModelSet {
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
            origin.put(&self.path_of(file), file.content.clone());
        }
    }

    /// Where the origin has one of its files.
    fn path_of(&self, file: &File) -> String {
        format!("/{}/{}", self.name, file.path)
    }

    /// How many bytes of its files were asked for; what was asked for twice counts once.
    pub(super) fn asked_for(&self, requests: &[Recorded]) -> u64 {
        let of = |file: &File| {
            let (path, size) = (self.path_of(file), file.bytes.len() as u64);
            let of_it = requests.iter().filter(|request| request.path == path);
            let mut ranges: Vec<(u64, u64)> = of_it
                .map(|request| {
                    let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
                    let (first, last) = range.and_then(|range| range.split_once('-')).unwrap_or_default();
                    let end = last.parse::<u64>().map_or(size, |last| last + 1);
                    (first.parse().unwrap_or(0), end.min(size))
                })
                .collect();
            ranges.sort_unstable();
            let count = |(sum, reached): (u64, u64), (start, end): (u64, u64)| {
                (sum + end.saturating_sub(start.max(reached)), reached.max(end))
            };
            ranges.into_iter().fold((0, 0), count).0
        };
        self.files.iter().map(of).sum()
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use provision_testbed::OriginConfig;

    use super::*;

    #[test]
    fn what_is_asked_for_twice_counts_once_and_a_whole_file_as_all_of_it() {
        let set = ModelSet::new();
        let origin = BlockingOrigin::start(OriginConfig::default()).unwrap();
        set.new.serve(&origin);
        let ask = |path: &str, range: &str| {
            let mut line = TcpStream::connect(origin.addr()).unwrap();
            write!(line, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{range}\r\n").unwrap();
            line.read_to_end(&mut Vec::new()).unwrap();
        };
        ask("/new/z.safetensors", "");
        ask("/new/vae/x.safetensors", "Range: bytes=100-299\r\n");
        ask("/new/vae/x.safetensors", "Range: bytes=250-399\r\n");
        ask("/new/vae/x.safetensors", "Range: bytes=3000000-\r\n");
        ask("/elsewhere", "");
        assert_eq!(set.new.asked_for(&origin.requests()), 40_000 + 300 + 400_000);
        assert_eq!(set.new.asked_for(&origin.requests_since(2)), 150 + 400_000);
        assert_eq!(set.new.asked_for(&origin.requests_since(5)), 0);
    }
}
