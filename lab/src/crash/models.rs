//! The model files of all jobs, in two versions with known bytes.
//!
//! Old and new versions have the same sizes, and every installed file has the same time: only the bytes differ. Every
//! second piece is equal.

use std::sync::LazyLock;

use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::piece_list::{Piece, PieceList};
use provision_testbed::{BlockingOrigin, Content, Recorded};

use crate::tools::lock_text;

/// Paths and sizes: several segments, several and an odd one, less than one.
const FILES: [(&str, u64); 3] =
    [("loras/deep/y.safetensors", 2_700_001), ("vae/x.safetensors", 3_400_000), ("z.safetensors", 40_000)];

/// The length of a piece, in bytes. A file of one piece has no list.
const PIECE: usize = 500_000;

/// The version that each job installs.
pub(super) static NEW: LazyLock<Version> =
    LazyLock::new(|| Version::new("new", |at, size| Content::generated(100 + at as u64, size).to_vec()));

/// The version that is installed before.
pub(super) static OLD: LazyLock<Version> = LazyLock::new(|| {
    Version::new("old", |at, size| {
        let mut bytes = Content::generated(200 + at as u64, size).to_vec();
        for (old, new) in bytes.chunks_mut(PIECE).zip(NEW.files[at].bytes.chunks(PIECE)).skip(1).step_by(2) {
            old.copy_from_slice(new);
        }
        bytes
    })
});

/// A model file.
#[derive(Debug)]
pub(super) struct ModelFile {
    pub(super) path: &'static str,
    pub(super) sha256: String,
    pub(super) bytes: Vec<u8>,
    /// Its piece list. A file of one piece has none.
    list: Option<Vec<u8>>,
}

/// One version of all files.
#[derive(Debug)]
pub(super) struct Version {
    name: &'static str,
    pub(super) files: Vec<ModelFile>,
}

impl ModelFile {
    fn new(path: &'static str, bytes: Vec<u8>) -> Self {
        let sha256 = Sha256::of(&bytes);
        let piece = |(at, piece): (usize, &[u8])| {
            let start = (at * PIECE) as u64;
            let range = ByteRange::new(start, start + piece.len() as u64);
            Piece { range, sha256: Sha256::of(piece) }
        };
        let pieces = bytes.chunks(PIECE).enumerate().map(piece).collect();
        let list = PieceList::new(bytes.len() as u64, sha256, pieces).ok().and_then(|list| list.write());
        Self { path, sha256: sha256.to_string(), bytes, list }
    }

    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes of the pieces that the other version does not have.
    pub(super) fn changed(&self) -> u64 {
        self.bytes.chunks(PIECE).step_by(2).map(|piece| piece.len() as u64).sum()
    }

    /// Its piece list, and the list's digest.
    pub(super) fn list(&self) -> Option<(&[u8], String)> {
        self.list.as_deref().map(|list| (list, Sha256::of(list).to_string()))
    }
}

impl Version {
    /// The files with the bytes that `bytes` returns for their position and size.
    fn new(name: &'static str, bytes: impl Fn(usize, u64) -> Vec<u8>) -> Self {
        let file = |(at, (path, size))| ModelFile::new(path, bytes(at, size));
        Self { name, files: FILES.into_iter().enumerate().map(file).collect() }
    }

    pub(super) fn find(&self, path: &str, sha256: &str) -> Option<&ModelFile> {
        self.files.iter().find(|file| file.path == path && file.sha256 == sha256)
    }

    pub(super) fn serve(&self, origin: &BlockingOrigin) {
        for file in &self.files {
            origin.put(&self.url_path(file), Content::bytes(file.bytes.clone()));
        }
    }

    fn url_path(&self, file: &ModelFile) -> String {
        format!("/{}/{}", self.name, file.path)
    }

    /// The number of bytes that `requests` ask for, each byte once.
    pub(super) fn requested_bytes(&self, requests: &[Recorded]) -> u64 {
        let of_file = |file: &ModelFile| {
            let path = self.url_path(file);
            let range = |request: &Recorded| {
                let last = request.range.as_deref().and_then(|range| range.rsplit_once('-')?.1.parse().ok());
                let end = last.map_or(file.size(), |last: u64| file.size().min(last + 1));
                (request.range_start().unwrap_or(0), end)
            };
            covered(requests.iter().filter(|request| request.path == path).map(range))
        };
        self.files.iter().map(of_file).sum()
    }

    /// The text of the lock that lists the files, or also pins their piece lists.
    pub(super) fn lock(&self, origin: &BlockingOrigin, has_lists: bool) -> String {
        let model = |file: &ModelFile| {
            let url = origin.url(&self.url_path(file));
            let pin = file.list().filter(|_| has_lists).map(|(_, pin)| format!("pieces = \"{pin}\"\n"));
            lock_text::model(file.path, &url, file.size(), &file.sha256) + &pin.unwrap_or_default()
        };
        lock_text::VERSION.to_owned() + &self.files.iter().map(model).collect::<String>()
    }

    /// The size of all files.
    pub(super) fn size(&self) -> u64 {
        self.files.iter().map(ModelFile::size).sum()
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
        let origin = BlockingOrigin::start(OriginConfig::default()).unwrap();
        NEW.serve(&origin);
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
        assert_eq!(NEW.requested_bytes(&origin.requests()), 40_000 + 300 + 400_000);
        assert_eq!(NEW.requested_bytes(&origin.requests_since(2)), 150 + 400_000);
        assert_eq!(NEW.requested_bytes(&origin.requests_since(5)), 0);
    }
}
