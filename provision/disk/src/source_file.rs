//! A file on this machine that should have a model's bytes: baked into the image, in the cache, or elsewhere in the
//! destination. Like an origin, it is not trusted: its bytes are verified before a model is made from them.

use std::borrow::Borrow;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::destination::Destination;
use crate::directory::Directory;
use crate::error::DiskError;
use crate::file_stat::{FileId, Installed, Stamp};
use crate::threads::share;
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::{Hasher, Sha256};
use provision_core::model_path::ModelPath;
use provision_core::piece_list::{Lister, PieceList, VerifiedBy, samples};

/// The block size for reading or copying a whole file, in bytes.
pub(crate) const BLOCK: usize = 1 << 20;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct SourceFile {
    pub(crate) file: File,
    path: Utf8PathBuf,
    stamp: Stamp,
    identity: FileId,
    /// The digest that this run has verified, and the evidence. The file is durable then.
    verified: Option<(Sha256, VerifiedBy)>,
}

/// The meaning of a piece whose bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A failure of the disk.
    Fails,
    /// A wrong piece.
    IsWrong,
}

impl SourceFile {
    /// Opens the file at `path`. Follows symlinks: baked directories may consist of them. `None` if there is no file.
    pub fn open(path: &Utf8Path) -> Result<Option<Self>, DiskError> {
        Self::open_at(CWD, path.as_str(), path)
    }

    /// Opens the file that the symlink `name` in `directory` leads to. `None` if there is none.
    pub(crate) fn open_linked_in(directory: &Directory, name: &str) -> Result<Option<Self>, DiskError> {
        Self::open_at(directory.handle(), name, &directory.path().join(name))
    }

    /// Opens the file that the symlink at `path` below `destination` leads to. `None` if there is none.
    pub fn open_linked(destination: &Destination, path: &ModelPath) -> Result<Option<Self>, DiskError> {
        let Some(directory) = destination.parent(path, false)? else { return Ok(None) };
        Self::open_linked_in(&directory, path.file_name())
    }

    /// Opens `name`, whose path is `path`. Follows symlinks.
    fn open_at(at: impl AsFd, name: &str, path: &Utf8Path) -> Result<Option<Self>, DiskError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match retry_on_intr(|| rustix::fs::openat(&at, name, flags, Mode::empty())) {
            Ok(file) => file.into(),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(DiskError::of("opening it", path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(DiskError::at("reading its metadata", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DiskError::NotAFile { path: path.to_owned(), what: "something else" });
        }
        let (stamp, identity) = (Stamp::of(&stat), FileId::of(&stat));
        Ok(Some(Self { file, path: path.to_owned(), stamp, identity, verified: None }))
    }

    /// Opens the file at `path` below `destination`. Follows no symlink. `None` if there is no file.
    pub fn open_below(destination: &Destination, path: &ModelPath) -> Result<Option<Self>, DiskError> {
        let Some(directory) = destination.parent(path, false)? else { return Ok(None) };
        Self::in_directory(&directory, path.file_name())
    }

    /// Opens the file at `path` below `destination`, or the one that a symlink there leads to. `None` if there is none.
    pub fn open_below_or_linked(
        destination: &Destination,
        path: &ModelPath,
    ) -> Result<Option<Self>, DiskError> {
        let Some(directory) = destination.parent(path, false)? else { return Ok(None) };
        match directory.read_link(path.file_name())? {
            Some(_) => Self::open_linked_in(&directory, path.file_name()),
            None => Self::in_directory(&directory, path.file_name()),
        }
    }

    /// Opens `name` in `directory`. Follows no symlink. `None` if there is no file.
    pub(crate) fn in_directory(directory: &Directory, name: &str) -> Result<Option<Self>, DiskError> {
        let Some((file, stamp)) = directory.open_file(name)? else { return Ok(None) };
        let path = directory.path().join(name);
        let stat = rustix::fs::fstat(&file).map_err(DiskError::at("reading its metadata", &path))?;
        Ok(Some(Self { file, path, stamp, identity: FileId::of(&stat), verified: None }))
    }

    /// Opens a file that this run has installed, with the evidence for its bytes. `None` if it has changed since.
    pub fn open_installed(
        destination: &Destination,
        installed: &Installed,
    ) -> Result<Option<Self>, DiskError> {
        let opened = Self::open_below(destination, &installed.path)?;
        let is_same = |file: &Self| installed.identity.is_none_or(|known| known == file.identity);
        let unchanged = opened.filter(|file| file.stamp == installed.stamp && is_same(file));
        let verified = installed.verified_by.map(|by| (installed.sha256, by));
        Ok(unchanged.map(|file| Self { verified, ..file }))
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Its size and mtime when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Its device and inode.
    pub fn identity(&self) -> FileId {
        self.identity
    }

    /// Its size now.
    pub fn current_size(&self) -> Result<u64, DiskError> {
        let stat =
            rustix::fs::fstat(&self.file).map_err(DiskError::at("reading its metadata", &self.path))?;
        Ok(Stamp::of(&stat).size)
    }

    /// Makes the file and its name durable, for the target of a symlink, which other programs have written. A file
    /// system that is mounted read-only may refuse: it has nothing left to write.
    pub fn make_durable(&self) -> Result<(), DiskError> {
        let is_read_only = || {
            let flags = rustix::fs::fstatvfs(&self.file).map(|stat| stat.f_flag);
            flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY))
        };
        let check_refusal = |error: Errno| match error {
            Errno::ROFS => Ok(()),
            Errno::INVAL | Errno::OPNOTSUPP if is_read_only() => Ok(()),
            error => Err(DiskError::of_volume("syncing it", &self.path, error)),
        };
        retry_on_intr(|| rustix::fs::fsync(&self.file)).or_else(check_refusal)?;
        // The directory that has the file itself: names above it may be symlinks.
        let real = self.path.canonicalize_utf8().map_err(DiskError::at("resolving its path", &self.path))?;
        let directory = real.parent().unwrap_or(Utf8Path::new("/"));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry_on_intr(|| rustix::fs::open(directory.as_std_path(), flags, Mode::empty())) {
            Ok(directory) => retry_on_intr(|| rustix::fs::fsync(&directory)).or_else(check_refusal),
            // A directory that may be searched but not read.
            Err(Errno::ACCESS) => retry_on_intr(|| rustix::fs::syncfs(&self.file)).or_else(check_refusal),
            Err(error) => Err(DiskError::of("opening the directory", directory, error)),
        }
    }

    /// Reads the bytes at `at` into `block`. Returns their number; 0 is the file's end.
    pub fn read_at(&self, at: u64, block: &mut [u8]) -> Result<usize, DiskError> {
        loop {
            match self.file.read_at(block, at) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::of("reading it", &self.path, error)),
            }
        }
    }

    /// Reads the bytes at `at` into `block`, until it is full or the file ends. Returns their number.
    pub fn fill(&self, at: u64, block: &mut [u8]) -> Result<usize, DiskError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.read_at(at + filled as u64, &mut block[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        Ok(filled)
    }

    /// Verifies its digest by reading it. Before each block, `keep_going` says whether to go on.
    ///
    /// # Errors
    /// [`DiskError::Mismatch`] if the digest differs.
    pub fn verify(&self, expected: Sha256, mut keep_going: impl FnMut() -> bool) -> Result<(), DiskError> {
        let mut read = HashedRead::new(self);
        while read.read(&mut keep_going)? {
            read.hash();
        }
        let (_, _, found) = read.finish();
        let path = self.path.clone();
        if found == expected { Ok(()) } else { Err(DiskError::Mismatch { path, expected, found }) }
    }

    /// Verifies that it is the file of `list`: by its digest if that is its only piece, else by its pieces, on several
    /// threads. Reads nothing if this run has verified it already.
    ///
    /// # Errors
    /// [`DiskError::Mismatch`] if the digest differs, [`DiskError::WrongPieces`] if pieces do.
    pub(crate) fn verify_pieces(
        &self,
        list: &PieceList,
        threads: usize,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Result<VerifiedBy, DiskError> {
        if let Some((sha256, by)) = self.verified
            && sha256 == list.file()
        {
            return Ok(by);
        }
        if list.is_whole() {
            return self.verify(list.file(), keep_going).map(|()| VerifiedBy::Digest);
        }
        let wrong = self.wrong_pieces(list, threads, &mut || Ok(keep_going()))?;
        if wrong.is_empty() {
            return Ok(VerifiedBy::Pieces);
        }
        Err(DiskError::WrongPieces { path: self.path.clone(), ranges: wrong })
    }

    /// The ranges in which it differs from `list`, joined. A file of which no sample is right is another one, and not
    /// read to its end.
    fn wrong_pieces(
        &self,
        list: &PieceList,
        threads: usize,
        keep_going: &mut dyn FnMut() -> Result<bool, DiskError>,
    ) -> Result<Vec<ByteRange>, DiskError> {
        let (samples, rest) = samples((0..list.pieces().len()).collect());
        let sampled = samples.iter().map(|piece| list.pieces()[*piece].range.len()).sum::<u64>();
        let how = (threads, Unreadable::Fails);
        let mut wrong = self.wrong_of(&samples, list, how, keep_going)?;
        if wrong.len() == sampled || self.current_size()? != list.size() {
            return Ok(vec![ByteRange::new(0, list.size())]);
        }
        self.wrong_of(&rest, list, how, keep_going)?.iter().for_each(|range| wrong.insert(range));
        Ok(wrong.iter().collect())
    }

    /// The bytes of those of the `pieces` of `list` that are wrong.
    pub(crate) fn wrong_of(
        &self,
        pieces: &[usize],
        list: &PieceList,
        (threads, unreadable): (usize, Unreadable),
        keep_going: &mut dyn FnMut() -> Result<bool, DiskError>,
    ) -> Result<RangeSet, DiskError> {
        let (pairs, wrong) = (Mutex::new(pieces.chunks(2)), Mutex::new(RangeSet::new()));
        let threads = threads.min(pieces.len().div_ceil(2));
        share(threads, keep_going, |keep_going| {
            self.compare((list, unreadable), &pairs, &wrong, keep_going)
        })?;
        Ok(wrong.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hashes pieces side by side, as long as there are `pairs` of them, and adds the wrong ones.
    fn compare(
        &self,
        (list, unreadable): (&PieceList, Unreadable),
        pairs: &Mutex<std::slice::Chunks<'_, usize>>,
        wrong: &Mutex<RangeSet>,
        keep_going: &mut dyn FnMut() -> Result<bool, DiskError>,
    ) -> Result<(), DiskError> {
        let mut blocks = [Vec::new(), Vec::new()];
        let next = || pairs.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(pair) = next() {
            let none = ByteRange::new(0, 0);
            let mut left = [0, 1].map(|at| pair.get(at).map_or(none, |piece| list.pieces()[*piece].range));
            let [mut a, mut b] = [Hasher::new(), Hasher::new()];
            while left.iter().any(|left| !left.is_empty()) {
                if !keep_going()? {
                    return Err(DiskError::Interrupted { path: self.path.clone() });
                }
                for (left, block) in left.iter_mut().zip(&mut blocks) {
                    block.resize(left.len().min(BLOCK as u64) as usize, 0);
                    let read = self.file.read_exact_at(block, left.start);
                    if read.is_err() && unreadable == Unreadable::IsWrong {
                        // A part of its bytes has another digest.
                        (*left, *block) = (none, Vec::new());
                        continue;
                    }
                    read.map_err(DiskError::at("reading it", &self.path))?;
                    *left = ByteRange::new(left.start + block.len() as u64, left.end);
                }
                Hasher::update_two([&mut a, &mut b], [&blocks[0], &blocks[1]]);
            }
            for (piece, hasher) in pair.iter().zip([a, b]) {
                let piece = &list.pieces()[*piece];
                if hasher.finish() != piece.sha256 {
                    wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(piece.range);
                }
            }
        }
        Ok(())
    }
}

/// Reads and hashes a file block by block.
#[derive(Debug)]
pub struct HashedRead<S> {
    source: S,
    hasher: Hasher,
    at: u64,
    block: Vec<u8>,
    /// The length of the block that was read and is not hashed.
    filled: usize,
}

impl<S: Borrow<SourceFile>> HashedRead<S> {
    /// Starts at the file's first byte.
    pub fn new(source: S) -> Self {
        let file = source.borrow();
        let _ = rustix::fs::fadvise(&file.file, 0, None, rustix::fs::Advice::Sequential);
        let block = vec![0; BLOCK.min(file.stamp.size as usize + 1)];
        Self { source, hasher: Hasher::new(), at: 0, block, filled: 0 }
    }

    /// Reads the next block, unless `keep_going` says no. Returns false at the file's end.
    pub fn read(&mut self, keep_going: &mut impl FnMut() -> bool) -> Result<bool, DiskError> {
        let source = self.source.borrow();
        if !keep_going() {
            return Err(DiskError::Interrupted { path: source.path.clone() });
        }
        self.filled = source.read_at(self.at, &mut self.block)?;
        self.at += self.filled as u64;
        Ok(self.filled > 0)
    }

    /// The block that was read.
    pub fn block(&self) -> &[u8] {
        &self.block[..self.filled]
    }

    /// Hashes the block that was read.
    pub fn hash(&mut self) {
        self.hasher.update(&self.block[..self.filled]);
    }

    /// Hashes the block that was read, and gives it to `lister` side by side.
    pub fn hash_beside(&mut self, lister: &mut Lister) {
        lister.update_beside(&mut self.hasher, &self.block[..self.filled]);
    }

    /// Returns the file, its stamp with the length that was read, and its digest.
    pub fn finish(self) -> (S, Stamp, Sha256) {
        let stamp = Stamp { size: self.at, ..self.source.borrow().stamp };
        (self.source, stamp, self.hasher.finish())
    }
}
