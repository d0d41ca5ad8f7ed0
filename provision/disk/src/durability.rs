//! Durability before a marker (I2): each file that it lists is at its path, and its name and bytes are durable.
//!
//! All work goes through handles, and a handle stays valid when its directory is moved. So before a marker is written,
//! each file is looked up again by its path from the destination, and the destination by its own path. Then the
//! directories on the way are synced: other programs may have created them.
//!
//! A file is identified by its inode. Some network volumes give a closed file a new inode number: a file with another
//! number but the same size and mtime is read again, and its digest decides.
//!
//! A file that this run found in place may not be durable: verifying reads the page cache, which may not be written
//! back. It is synced before it counts as installed.

use std::collections::{BTreeSet, HashMap};

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_NOW};
use rustix::io::{Errno, retry_on_intr};

use crate::destination::Destination;
use crate::directory::Directory;
use crate::error::DiskError;
use crate::file_stat::{FileId, Installed, Stamp};
use crate::source_file::SourceFile;
use provision_core::model_path::ModelPath;

impl Destination {
    /// Syncs a file that was found under its final name and has just been verified. Removes it if the sync fails: the
    /// bytes on the disk are unknown then, and the page cache would verify again.
    pub fn sync_existing(&self, path: &ModelPath, found: &SourceFile) -> Result<(), DiskError> {
        let Err(error) = retry_on_intr(|| rustix::fs::fsync(&found.file)) else { return Ok(()) };
        let error = DiskError::of_volume("syncing it", found.path(), error);
        if matches!(error, DiskError::Unsuitable { .. } | DiskError::ReadOnly { .. }) {
            // The volume syncs no file at all: this one is not at fault.
            return Err(error);
        }
        if let Some(directory) = self.parent(path, false)?
            && directory.identity(path.file_name())? == Some(found.identity())
        {
            directory.remove(path.file_name())?;
            let _ = directory.sync();
        }
        Err(error)
    }

    /// Sets the modification time of the file at `path` to now, if it still is the file `wrong`. No marker vouches for
    /// it then. Returns false for a file with a second name, which stays as it is: it may be another program's, too.
    ///
    /// # Errors
    /// The file belongs to another user, or the file system is read-only.
    pub fn touch(&self, path: &ModelPath, wrong: FileId) -> Result<bool, DiskError> {
        let Some(found) = SourceFile::open_below(self, path)?.filter(|found| found.identity() == wrong)
        else {
            return Ok(true);
        };
        let stat =
            rustix::fs::fstat(&found.file).map_err(DiskError::at("reading its metadata", found.path()))?;
        if stat.st_nlink > 1 {
            return Ok(false);
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        retry_on_intr(|| rustix::fs::futimens(&found.file, &times))
            .map_err(DiskError::at("setting its modification time", found.path()))?;
        // A power cut would bring the old time back.
        retry_on_intr(|| rustix::fs::fsync(&found.file))
            .map(|()| true)
            .map_err(|error| DiskError::of_volume("syncing it", found.path(), error))
    }

    /// True if `file` is at its path, looked up anew.
    pub fn is_in_place(&self, file: &Installed) -> Result<bool, DiskError> {
        Ok(self.root_is_in_place()? && PathChecker::new(self).check(file)? == PathCheck::SameFile)
    }

    /// Verifies that all `files` are at their paths, and makes their names durable.
    ///
    /// # Errors
    /// [`DiskError::Moved`] if one is not.
    pub fn verify_in_place<'a>(
        &self,
        files: impl IntoIterator<Item = &'a Installed>,
    ) -> Result<(), DiskError> {
        if !self.root_is_in_place()? {
            return Err(DiskError::Moved { path: self.root().path().to_owned() });
        }
        let mut checker = PathChecker::new(self);
        for file in files {
            let is_there = match checker.check(file)? {
                PathCheck::SameFile => true,
                PathCheck::SameStat => checker.verify(file)?,
                PathCheck::Missing => false,
            };
            if !is_there {
                return Err(DiskError::Moved { path: self.path_of(&file.path) });
            }
        }
        checker.sync()
    }
}

/// The result of looking up a file by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathCheck {
    /// The same inode.
    SameFile,
    /// Another inode with the same size and mtime.
    SameStat,
    /// No file, or a different one.
    Missing,
}

/// Looks up files by path. Opens each directory once.
struct PathChecker<'a> {
    destination: &'a Destination,
    directories: HashMap<String, Option<Directory>>,
}

impl<'a> PathChecker<'a> {
    fn new(destination: &'a Destination) -> Self {
        Self { destination, directories: HashMap::new() }
    }

    /// The directory of the file at `path`. `None` if it is missing.
    fn directory(&mut self, path: &ModelPath) -> Result<Option<&Directory>, DiskError> {
        let parent = self.destination.directory_of(path)?;
        if parent.is_empty() {
            return Ok(Some(self.destination.root()));
        }
        if !self.directories.contains_key(&*parent) {
            let opened = match self.destination.open_directory(&parent, false) {
                // Another kind of file has the name now, or a link that was not there before.
                Err(DiskError::NotADirectory { .. } | DiskError::LinkAppeared { .. }) => None,
                opened => opened?,
            };
            self.directories.insert(parent.clone().into_owned(), opened);
        }
        Ok(self.directories.get(&*parent).and_then(Option::as_ref))
    }

    fn check(&mut self, file: &Installed) -> Result<PathCheck, DiskError> {
        let Some(directory) = self.directory(&file.path)? else { return Ok(PathCheck::Missing) };
        let name = file.path.file_name();
        let found = match &file.link {
            None => rustix::fs::statat(directory.handle(), name, AtFlags::SYMLINK_NOFOLLOW),
            Some(target) if directory.read_link(name)?.as_deref() == Some(target.as_str()) => {
                rustix::fs::statat(directory.handle(), target.as_str(), AtFlags::empty())
            }
            Some(_) => return Ok(PathCheck::Missing),
        };
        match found {
            Ok(stat) => {
                let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                if !is_file || Stamp::of(&stat) != file.stamp {
                    return Ok(PathCheck::Missing);
                }
                let is_same = file.identity.is_none_or(|known| known == FileId::of(&stat));
                Ok(if is_same { PathCheck::SameFile } else { PathCheck::SameStat })
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(PathCheck::Missing),
            Err(error) => Err(DiskError::of("reading its metadata", &directory.path().join(name), error)),
        }
    }

    /// Reads the file at the path. If it has the right digest, makes it durable and returns true.
    fn verify(&mut self, file: &Installed) -> Result<bool, DiskError> {
        let destination = self.destination;
        let Some(directory) = self.directory(&file.path)? else { return Ok(false) };
        let opened = match &file.link {
            None => SourceFile::in_directory(directory, file.path.file_name())?,
            Some(_) => SourceFile::open_linked_in(directory, file.path.file_name())?,
        };
        let Some(found) = opened else { return Ok(false) };
        match found.verify(file.sha256, || true) {
            Ok(()) if file.link.is_some() => found.make_durable().map(|()| true),
            Ok(()) => destination.sync_existing(&file.path, &found).map(|()| true),
            Err(DiskError::Mismatch { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Syncs all directories on the way to the files, the deepest first.
    fn sync(&self) -> Result<(), DiskError> {
        let folders = self.destination.folders();
        let mut on_the_way: BTreeSet<&str> =
            self.directories.keys().flat_map(|path| folders.on_the_way(path)).collect();
        on_the_way.retain(|path| !self.directories.contains_key(*path));
        self.directories.values().flatten().try_for_each(Directory::sync)?;
        for path in on_the_way.iter().rev() {
            match self.destination.open_directory(path, false)? {
                Some(directory) => directory.sync()?,
                None => return Err(DiskError::Moved { path: self.destination.root().path().join(path) }),
            }
        }
        self.destination.root().sync()
    }
}
