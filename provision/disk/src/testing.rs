//! The fixture of the disk's tests: a destination in a temporary directory, and a model with short known bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use camino::Utf8Path;
use rustix::fs::{CWD, FileType, Mode};

use crate::confined::ResolveMode;
use crate::destination::Destination;
use crate::part::{PartFile, PartNames};
use crate::source_file::SourceFile;
use provision_core::byte_range::ByteRange;
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::piece_list::{Piece, PieceList};

pub(crate) const CONTENT: &[u8] = b"the quick brown fox jumps over the lazy dog";

/// A destination that is removed with this value.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) destination: Destination,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_mode(ResolveMode::Openat2)
    }

    pub(crate) fn with_mode(mode: ResolveMode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap();
        let destination = Destination::open_with(path, mode).unwrap().unwrap();
        Self { directory, destination }
    }

    pub(crate) fn open(&self, model: &Model) -> PartFile {
        PartFile::open(&self.destination, model, &PartNames::Shared, || true).unwrap()
    }

    /// The part of a process with this name of its own.
    pub(crate) fn open_own(&self, model: &Model, own: &str) -> PartFile {
        PartFile::open(&self.destination, model, &PartNames::PerProcess(own.to_owned()), || true).unwrap()
    }

    /// A part with all bytes of [`CONTENT`], not verified.
    pub(crate) fn complete_part(&self) -> Arc<PartFile> {
        let part = Arc::new(self.open(&model("d/x", CONTENT)));
        write(&part, 0..CONTENT.len(), CONTENT);
        part
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The part of `d/x`, or another of its files.
    pub(crate) fn part(&self, model: &Model, ending: &str) -> PathBuf {
        self.file(&format!("d/.x.{}.{ending}", model.sha256.short()))
    }

    /// The file `name` with these bytes, outside of the models' directories.
    pub(crate) fn source_of(&self, name: &str, bytes: &[u8]) -> SourceFile {
        std::fs::write(self.file(name), bytes).unwrap();
        SourceFile::open(Utf8Path::from_path(&self.file(name)).unwrap()).unwrap().unwrap()
    }
}

/// Plants a `link`, `symlink`, `directory` or `fifo` at `name`. The first two lead to `victim`.
pub(crate) fn plant(kind: &str, name: &Path, victim: &Path) {
    match kind {
        "link" => std::fs::hard_link(victim, name).unwrap(),
        "symlink" => std::os::unix::fs::symlink(victim, name).unwrap(),
        "directory" => std::fs::create_dir(name).unwrap(),
        "fifo" => rustix::fs::mknodat(CWD, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
        _ => panic!("no kind {kind}"),
    }
}

/// The model of `bytes` at `path`.
pub(crate) fn model(path: &str, bytes: &[u8]) -> Model {
    Model {
        path: path.parse().unwrap(),
        sources: vec!["http://h/x".parse().unwrap()],
        size: bytes.len() as u64,
        sha256: Sha256::of(bytes),
        pieces: None,
        groups: vec![],
        source: None,
    }
}

/// The model of `bytes` at `d/x`, and its list with cuts at these places.
pub(crate) fn listed(bytes: &[u8], cuts: impl IntoIterator<Item = usize>) -> (Model, Arc<PieceList>) {
    let mut ends: Vec<usize> = cuts.into_iter().collect();
    ends.push(bytes.len());
    let mut start = 0;
    let piece = |end: usize| {
        let range = std::mem::replace(&mut start, end)..end;
        let sha256 = Sha256::of(&bytes[range.clone()]);
        Piece { range: ByteRange::new(range.start as u64, range.end as u64), sha256 }
    };
    let pieces = ends.into_iter().map(piece).collect();
    let model = model("d/x", bytes);
    let list = Arc::new(PieceList::new(model.size, model.sha256, pieces).unwrap());
    (Model { pieces: list.digest(), ..model }, list)
}

/// Writes and hashes a range of `from` in two pieces.
pub(crate) fn write(part: &PartFile, range: std::ops::Range<usize>, from: &[u8]) {
    let middle = usize::midpoint(range.start, range.end);
    part.write(range.start as u64, &from[range.start..middle]).unwrap();
    part.write(middle as u64, &from[middle..range.end]).unwrap();
    part.hash(middle as u64, &from[middle..range.end]).unwrap();
}
