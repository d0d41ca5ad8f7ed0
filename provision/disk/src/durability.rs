//! What must be so before a marker vouches for a file (I2).
//!
//! Everything was done through handles, and a handle goes along when its directory is moved: so before a marker is
//! written, each file that it will list is looked for once more, by its path, from the destination on, and the
//! destination by its own. Then the directories on the way are synced: they may have been made by others.
//!
//! A file is known by its inode. Some network volumes give a file another number once nobody has it open: what looks like
//! another file of the same size and time is read again then, and its bytes decide.
//!
//! A file that this run only found is as little durable as a stranger's can be: its bytes were proven by reading them,
//! which a page cache answers that was never written back.

use std::collections::{BTreeSet, HashMap};

use rustix::fs::{AtFlags, FileType};
use rustix::io::{Errno, retry_on_intr};

use crate::{Destination, Directory, FileId, Installed, SourceFile, Stamp, StoreError};
use provision_core::model_path::ModelPath;

impl Destination {
    /// Makes the bytes of a file durable that was found under its final name and has just been proven. Where that fails
    /// the file loses its name: nobody knows what is on the disk, and reading it again would say that all is well.
    pub fn sync_existing(&self, path: &ModelPath, found: &SourceFile) -> Result<(), StoreError> {
        let Err(error) = retry_on_intr(|| rustix::fs::fsync(&found.file)) else { return Ok(()) };
        let error = StoreError::of_volume("syncing it", found.path(), error);
        if matches!(error, StoreError::Unsuitable { .. } | StoreError::ReadOnly { .. }) {
            // The volume does not sync anything; that says nothing about this file.
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

    /// Whether `file` is where it is said to be, looked at anew.
    pub fn is_in_place(&self, file: &Installed) -> Result<bool, StoreError> {
        Ok(self.root_is_in_place()? && PathChecker::new(self).check(file)? == PathCheck::SameFile)
    }

    /// Makes sure that all of `files` are where they are said to be, and their names durable.
    ///
    /// # Errors
    /// [`StoreError::Moved`] where one is not.
    pub fn verify_in_place<'a>(
        &self,
        files: impl IntoIterator<Item = &'a Installed>,
    ) -> Result<(), StoreError> {
        if !self.root_is_in_place()? {
            return Err(StoreError::Moved { path: self.root().path().to_owned() });
        }
        let mut checker = PathChecker::new(self);
        for file in files {
            let is_there = match checker.check(file)? {
                PathCheck::SameFile => true,
                PathCheck::SameStat => checker.verify(file)?,
                PathCheck::Missing => false,
            };
            if !is_there {
                return Err(StoreError::Moved { path: self.root().path().join(file.path.as_str()) });
            }
        }
        checker.sync()
    }
}

/// What is at a file's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathCheck {
    /// The file.
    SameFile,
    /// A file of its size and mtime, which may be another.
    SameStat,
    /// Something else, or nothing.
    Missing,
}

/// A look at many files, by directory.
struct PathChecker<'a> {
    destination: &'a Destination,
    directories: HashMap<String, Option<Directory>>,
}

impl<'a> PathChecker<'a> {
    fn new(destination: &'a Destination) -> Self {
        Self { destination, directories: HashMap::new() }
    }

    /// The directory that the file at `path` should be in.
    fn directory(&mut self, path: &ModelPath) -> Result<Option<&Directory>, StoreError> {
        let parent = path.parent();
        if parent.is_empty() {
            return Ok(Some(self.destination.root()));
        }
        if !self.directories.contains_key(parent) {
            let opened = match self.destination.open_directory(parent, false) {
                // Something else has the name now.
                Err(StoreError::NotADirectory { .. }) => None,
                opened => opened?,
            };
            self.directories.insert(parent.to_owned(), opened);
        }
        Ok(self.directories.get(parent).and_then(Option::as_ref))
    }

    fn check(&mut self, file: &Installed) -> Result<PathCheck, StoreError> {
        let Some(directory) = self.directory(&file.path)? else { return Ok(PathCheck::Missing) };
        let name = file.path.file_name();
        let found = match &file.link {
            None => rustix::fs::statat(directory.handle(), name, AtFlags::SYMLINK_NOFOLLOW),
            Some(target) if directory.read_link(name)?.as_deref() == Some(target.as_str()) => {
                rustix::fs::stat(target.as_std_path())
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
            Err(error) => Err(StoreError::of("checker at it", &directory.path().join(name), error)),
        }
    }

    /// Whether what looks like the file has its bytes; if so, they are made durable.
    fn verify(&mut self, file: &Installed) -> Result<bool, StoreError> {
        let destination = self.destination;
        let Some(directory) = self.directory(&file.path)? else { return Ok(false) };
        let opened = match &file.link {
            None => SourceFile::in_directory(directory, file.path.file_name())?,
            Some(target) => SourceFile::open(target)?,
        };
        let Some(found) = opened else { return Ok(false) };
        match found.verify(file.sha256, || true) {
            Ok(()) if file.link.is_some() => found.make_durable().map(|()| true),
            Ok(()) => destination.sync_existing(&file.path, &found).map(|()| true),
            Err(StoreError::Mismatch { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the names on the way to every file durable, the deepest first.
    fn sync(&self) -> Result<(), StoreError> {
        let above =
            |path: &'_ str| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>();
        let mut on_the_way: BTreeSet<String> = self.directories.keys().flat_map(|path| above(path)).collect();
        on_the_way.retain(|path| !self.directories.contains_key(path));
        self.directories.values().flatten().try_for_each(Directory::sync)?;
        for path in on_the_way.iter().rev() {
            match self.destination.open_directory(path, false)? {
                Some(directory) => directory.sync()?,
                None => return Err(StoreError::Moved { path: self.destination.root().path().join(path) }),
            }
        }
        self.destination.root().sync()
    }
}
