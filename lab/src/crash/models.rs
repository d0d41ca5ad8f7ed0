//! The model files of all jobs, in two versions with known bytes.
//!
//! Old and new versions have the same sizes, and every installed file has the same time: only the bytes differ. Every
//! second piece is equal.

use std::sync::Arc;

use provision_core::digest::Sha256;
use provision_testbed::{BlockingOrigin, Content, Recorded};

use crate::tools::lock_text;

/// Paths and sizes: several segments, several and an odd one, less than one.
const FILES: [(&str, u64); 3] =
    [("loras/deep/y.safetensors", 2_700_001), ("vae/x.safetensors", 3_400_000), ("z.safetensors", 40_000)];

/// The length of a piece, in bytes. A file of one piece has no list.
const PIECE: usize = 500_000;

/// A model file.
#[derive(Debug, Clone)]
pub(super) struct ModelFile {
    pub(super) path: &'static str,
    pub(super) sha256: String,
    pub(super) bytes: Arc<Vec<u8>>,
    /// Its piece list and the list's digest. A file of one piece has none.
    pub(super) list: Option<(Vec<u8>, Sha256)>,
    content: Content,
}

/// One version of all files.
#[derive(Debug, Clone)]
pub(super) struct Version {
    name: &'static str,
    pub(super) files: Vec<ModelFile>,
}

/// Both versions.
#[derive(Debug, Clone)]
pub(super) struct ModelSet {
    pub(super) new: Version,
    pub(super) old: Version,
}

impl ModelSet {
    pub(super) fn new() -> Self {
        let new = Version::new("new", |at, size| Content::generated(100 + at, size).to_vec());
        let old = |at: u64, size| {
            let other = Content::generated(200 + at, size).to_vec();
            let pieces = other.chunks(PIECE).zip(new.files[at as usize].bytes.chunks(PIECE));
            pieces
                .enumerate()
                .flat_map(|(at, (old, new))| if at % 2 == 0 { old } else { new })
                .copied()
                .collect()
        };
        Self { old: Version::new("old", old), new }
    }

    pub(super) fn find(&self, path: &str, sha256: &str) -> Option<&ModelFile> {
        let mut all = self.new.files.iter().chain(&self.old.files);
        all.find(|file| file.path == path && file.sha256 == sha256)
    }
}

impl ModelFile {
    /// The bytes of the pieces that the other version does not have.
    pub(super) fn changed(&self) -> u64 {
        self.bytes.chunks(PIECE).step_by(2).map(|piece| piece.len() as u64).sum()
    }
}

/// The piece list of a file with these bytes, written by docs/lockfile.md. `None` for a file of one piece.
fn list_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let pieces = bytes.chunks(PIECE);
    let count = pieces.len();
    let entry = |(at, piece): (usize, &[u8])| {
        let (start, length) = ((at * PIECE) as u64, piece.len() as u32);
        [&start.to_le_bytes()[..], &length.to_le_bytes(), Sha256::of(piece).as_bytes()].concat()
    };
    let entries: Vec<u8> = pieces.enumerate().flat_map(entry).collect();
    let (version, count_bytes, size) =
        (1_u32.to_le_bytes(), (count as u32).to_le_bytes(), (bytes.len() as u64).to_le_bytes());
    let file = Sha256::of(bytes);
    let parts = [b"provision-pieces", &version[..], &count_bytes, &size, file.as_bytes(), &entries];
    (count > 1).then(|| parts.concat())
}

impl Version {
    /// The files with the bytes that `bytes` returns for their position and size.
    fn new(name: &'static str, bytes: impl Fn(u64, u64) -> Vec<u8>) -> Self {
        let file = |(at, (path, size))| {
            let bytes = bytes(at, size);
            let list = list_of(&bytes).map(|list| (list.clone(), Sha256::of(&list)));
            let content = Content::bytes(bytes.clone());
            ModelFile { path, sha256: content.sha256_hex(), bytes: Arc::new(bytes), list, content }
        };
        Self { name, files: (0..).zip(FILES).map(file).collect() }
    }

    pub(super) fn serve(&self, origin: &BlockingOrigin) {
        for file in &self.files {
            origin.put(&self.url_path(file), file.content.clone());
        }
    }

    fn url_path(&self, file: &ModelFile) -> String {
        format!("/{}/{}", self.name, file.path)
    }

    /// The number of bytes that `requests` ask for, each byte once.
    pub(super) fn requested_bytes(&self, requests: &[Recorded]) -> u64 {
        let of_file = |file: &ModelFile| {
            let (path, size) = (self.url_path(file), file.bytes.len() as u64);
            let range = |request: &Recorded| {
                let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
                let (first, last) = range.and_then(|range| range.split_once('-')).unwrap_or_default();
                let end = last.parse::<u64>().map_or(size, |last| last + 1);
                (first.parse().unwrap_or(0), end.min(size))
            };
            covered(requests.iter().filter(|request| request.path == path).map(range))
        };
        self.files.iter().map(of_file).sum()
    }

    /// The text of the lock that lists the files, or also pins their piece lists.
    pub(super) fn lock(&self, origin: &BlockingOrigin, has_lists: bool) -> String {
        let model = |file: &ModelFile| {
            let url = origin.url(&self.url_path(file));
            let pin =
                file.list.as_ref().filter(|_| has_lists).map(|(_, pin)| format!("pieces = \"{pin}\"\n"));
            lock_text::model(file.path, &url, file.bytes.len() as u64, &file.sha256)
                + &pin.unwrap_or_default()
        };
        lock_text::VERSION.to_owned() + &self.files.iter().map(model).collect::<String>()
    }

    /// The size of all files.
    pub(super) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }
}

/// The number of bytes in at least one of these ranges.
pub(super) fn covered(ranges: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_unstable();
    let add = |(sum, reached): (u64, u64), (start, end): (u64, u64)| {
        (sum + end.saturating_sub(start.max(reached)), reached.max(end))
    };
    ranges.into_iter().fold((0, 0), add).0
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use provision_testbed::OriginConfig;

    use super::*;

    #[test]
    fn requested_bytes_count_once_across_requests() {
        let models = ModelSet::new();
        let origin = BlockingOrigin::start(OriginConfig::default()).unwrap();
        models.new.serve(&origin);
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
        assert_eq!(models.new.requested_bytes(&origin.requests()), 40_000 + 300 + 400_000);
        assert_eq!(models.new.requested_bytes(&origin.requests_since(2)), 150 + 400_000);
        assert_eq!(models.new.requested_bytes(&origin.requests_since(5)), 0);
    }
}
