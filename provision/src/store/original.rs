//! A file that is already on this machine and should have the bytes of a model: baked into the image, in the cache, or
//! elsewhere in the destination. It is believed as little as an origin: whatever is made of it is proven by digest.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{BLOCK, Destination, Installed, Stamp, StoreError};
use crate::digest::{Hasher, Sha256};

/// A regular file, open for reading.
#[derive(Debug)]
pub struct Original {
    pub(super) file: File,
    path: Utf8PathBuf,
    stamp: Stamp,
    /// The digest that this run has proven and made durable.
    proven: Option<Sha256>,
}

impl Original {
    /// Opens the file at `path`, symlinks followed (baked directories may be made of them); `None` where there is none.
    pub fn open(path: &Utf8Path) -> Result<Option<Self>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match rustix::fs::open(path.as_std_path(), flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(StoreError::of("opening it", path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(StoreError::at("looking at it", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::NotAFile { path: path.to_owned(), what: "something else" });
        }
        Ok(Some(Self { file, path: path.to_owned(), stamp: Stamp::of(&stat), proven: None }))
    }

    /// Opens a file that this run has just installed, and so proven; `None` where it has changed since.
    pub fn of_installed(place: &Destination, installed: &Installed) -> Result<Option<Self>, StoreError> {
        let Some(directory) = place.parent(&installed.path, false)? else { return Ok(None) };
        let path = directory.path().join(installed.path.file_name());
        let opened = directory.open_file(installed.path.file_name())?;
        Ok(opened.filter(|(_, stamp)| *stamp == installed.stamp).map(|(file, stamp)| Self {
            file,
            path,
            stamp,
            proven: Some(installed.sha256),
        }))
    }

    /// Where it lies.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Its size and mtime when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Proves that it has these bytes, by reading it where this run has not done so. `go_on` is asked before each block.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] where it has others.
    pub fn prove(&self, expected: Sha256, go_on: impl FnMut() -> bool) -> Result<(), StoreError> {
        let found = match self.proven {
            Some(found) => found,
            None => digest(&self.file, self.stamp, &self.path, go_on)?.1,
        };
        let path = self.path.clone();
        if found == expected { Ok(()) } else { Err(StoreError::Mismatch { path, expected, found }) }
    }
}

/// Reads and hashes an open file. `go_on` is asked before each block.
pub(super) fn digest(
    file: &File,
    stamp: Stamp,
    path: &Utf8Path,
    mut go_on: impl FnMut() -> bool,
) -> Result<(Stamp, Sha256), StoreError> {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
    let mut hasher = Hasher::new();
    let mut block = vec![0; BLOCK.min(stamp.size as usize + 1)];
    let mut at = 0;
    loop {
        if !go_on() {
            return Err(StoreError::Interrupted { path: path.to_owned() });
        }
        let n = match file.read_at(&mut block, at) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(StoreError::of("reading it", path, error)),
        };
        hasher.update(&block[..n]);
        at += n as u64;
    }
    Ok((Stamp { size: at, ..stamp }, hasher.finish()))
}
