//! A file that is already on this machine and should have the bytes of a model: baked into the image, in the cache, or
//! elsewhere in the destination. It is believed as little as an origin: whatever is made of it is proven by digest.

use std::borrow::Borrow;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::{BLOCK, Destination, Directory, FileId, Installed, Stamp, StoreError};
use provision_core::digest::{Hasher, Sha256};
use provision_core::model_path::ModelPath;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct SourceFile {
    pub(super) file: File,
    path: Utf8PathBuf,
    stamp: Stamp,
    identity: FileId,
    /// The digest that this run has proven and made durable.
    proven: Option<Sha256>,
}

impl SourceFile {
    /// Opens the file at `path`, symlinks followed (baked directories may be made of them); `None` where there is none.
    pub fn open(path: &Utf8Path) -> Result<Option<Self>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match retry_on_intr(|| rustix::fs::open(path.as_std_path(), flags, Mode::empty())) {
            Ok(file) => file.into(),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(StoreError::of("opening it", path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(StoreError::at("reading its metadata", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::NotAFile { path: path.to_owned(), what: "something else" });
        }
        let (stamp, identity) = (Stamp::of(&stat), FileId::of(&stat));
        Ok(Some(Self { file, path: path.to_owned(), stamp, identity, proven: None }))
    }

    /// Opens the file at `path` below `place`, no symlink followed; `None` where there is none.
    pub fn open_below(place: &Destination, path: &ModelPath) -> Result<Option<Self>, StoreError> {
        let Some(directory) = place.parent(path, false)? else { return Ok(None) };
        Self::in_directory(&directory, path.file_name())
    }

    /// Opens the file called `name`, no symlink followed; `None` where there is none.
    pub(super) fn in_directory(directory: &Directory, name: &str) -> Result<Option<Self>, StoreError> {
        let Some((file, stamp)) = directory.open_file(name)? else { return Ok(None) };
        let path = directory.path().join(name);
        let stat = rustix::fs::fstat(&file).map_err(StoreError::at("reading its metadata", &path))?;
        Ok(Some(Self { file, path, stamp, identity: FileId::of(&stat), proven: None }))
    }

    /// Opens a file that this run has just installed, and so proven; `None` where it has changed since.
    pub fn open_installed(place: &Destination, installed: &Installed) -> Result<Option<Self>, StoreError> {
        let opened = Self::open_below(place, &installed.path)?;
        let is_same = |original: &Self| installed.identity.is_none_or(|known| known == original.identity);
        let unchanged = opened.filter(|original| original.stamp == installed.stamp && is_same(original));
        Ok(unchanged.map(|original| Self { proven: Some(installed.sha256), ..original }))
    }

    /// Where it lies.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Its size and mtime when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Which file it is.
    pub fn identity(&self) -> FileId {
        self.identity
    }

    /// Makes it durable, and its name: for a file that somebody else has made, at the end of a symlink of ours. A file
    /// system that is mounted read-only may refuse, and need not be asked: nothing on it is on its way.
    pub fn make_durable(&self) -> Result<(), StoreError> {
        let is_fixed = || {
            let flags = rustix::fs::fstatvfs(&self.file).map(|stat| stat.f_flag);
            flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
        };
        let refused = |error: Errno| match error {
            Errno::ROFS => Ok(()),
            Errno::INVAL | Errno::OPNOTSUPP if is_fixed() => Ok(()),
            error => Err(StoreError::of_volume("syncing it", &self.path, error)),
        };
        retry_on_intr(|| rustix::fs::fsync(&self.file)).or_else(refused)?;
        // The directory that the file itself is in: names above it may be symlinks.
        let real =
            self.path.canonicalize_utf8().map_err(StoreError::at("reading its metadata", &self.path))?;
        let directory = real.parent().unwrap_or(Utf8Path::new("/"));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry_on_intr(|| rustix::fs::open(directory.as_std_path(), flags, Mode::empty())) {
            Ok(directory) => retry_on_intr(|| rustix::fs::fsync(&directory)).or_else(refused),
            // One that may be passed through and not read.
            Err(Errno::ACCESS) => retry_on_intr(|| rustix::fs::syncfs(&self.file)).or_else(refused),
            Err(error) => Err(StoreError::of("opening the directory", directory, error)),
        }
    }

    /// Proves that it has these bytes, by reading it where this run has not done so. `keep_going` is asked before each block.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] where it has others.
    pub fn verify(&self, expected: Sha256, mut keep_going: impl FnMut() -> bool) -> Result<(), StoreError> {
        let found = if let Some(found) = self.proven {
            found
        } else {
            let mut reading = HashedRead::new(self);
            while reading.read(&mut keep_going)? {
                reading.hash();
            }
            reading.finish().2
        };
        let path = self.path.clone();
        if found == expected { Ok(()) } else { Err(StoreError::Mismatch { path, expected, found }) }
    }
}

/// A file that is being read and hashed, block by block.
#[derive(Debug)]
pub struct HashedRead<O> {
    original: O,
    hasher: Hasher,
    at: u64,
    block: Vec<u8>,
    /// How much of `block` was read and is not hashed.
    filled: usize,
}

impl<O: Borrow<SourceFile>> HashedRead<O> {
    /// At its first byte.
    pub fn new(original: O) -> Self {
        let it = original.borrow();
        let _ = rustix::fs::fadvise(&it.file, 0, None, rustix::fs::Advice::Sequential);
        let block = vec![0; BLOCK.min(it.stamp.size as usize + 1)];
        Self { original, hasher: Hasher::new(), at: 0, block, filled: 0 }
    }

    /// Reads the next block, unless `keep_going` says no; false at the file's end.
    pub fn read(&mut self, keep_going: &mut impl FnMut() -> bool) -> Result<bool, StoreError> {
        let SourceFile { file, path, .. } = self.original.borrow();
        if !keep_going() {
            return Err(StoreError::Interrupted { path: path.clone() });
        }
        self.filled = loop {
            match file.read_at(&mut self.block, self.at) {
                Ok(n) => break n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::of("reading it", path, error)),
            }
        };
        self.at += self.filled as u64;
        Ok(self.filled > 0)
    }

    /// Hashes what was read.
    pub fn hash(&mut self) {
        self.hasher.update(&self.block[..self.filled]);
    }

    /// Hashes what was read of two files, side by side.
    pub fn hash_two([a, b]: [&mut Self; 2]) {
        let bytes = [&a.block[..a.filled], &b.block[..b.filled]];
        Hasher::update_two([&mut a.hasher, &mut b.hasher], bytes);
    }

    /// The file, what it is like (its length as it was read), and its digest.
    pub fn finish(self) -> (O, Stamp, Sha256) {
        let stamp = Stamp { size: self.at, ..self.original.borrow().stamp };
        (self.original, stamp, self.hasher.finish())
    }
}
