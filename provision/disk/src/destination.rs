//! The destination directory and the directories below it, by handle.
//!
//! A handle is what everything is done through, so that a name that is swapped while a run works leads nobody astray.
//! What it cannot tell is whether the directory is still where its path says: that is asked before a marker is
//! written (`settled`).

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use camino::Utf8Path;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::confined::{self, ResolveMode};
use crate::directory::make_directory;
use crate::lock::lease::LockLease;
use crate::{ChangeTime, Directory, FileId, Found, Stamp, StoreError};
use provision_core::model_path::ModelPath;

/// The directory that a lock's paths are below. Its own path may be, or lead through, a symlink; nothing below may.
#[derive(Debug)]
pub struct Destination {
    root: Arc<Directory>,
    mode: ResolveMode,
    /// Directories that were opened, by path below the root.
    opened: Mutex<HashMap<String, Arc<Directory>>>,
    /// For how long it is this process's, where another machine may take it.
    lease: Mutex<Option<Arc<LockLease>>>,
}

impl Destination {
    /// Opens the directory, making it and those above it where they are missing.
    pub fn create(path: &Utf8Path) -> Result<Self, StoreError> {
        make_all(path)?;
        Self::open(path)?.ok_or_else(|| StoreError::of("opening the destination", path, Errno::NOENT))
    }

    /// Opens the directory; `None` where there is none.
    pub fn open(path: &Utf8Path) -> Result<Option<Self>, StoreError> {
        Self::open_with(path, ResolveMode::Openat2)
    }

    /// As [`Destination::open`]; says who walks the paths below it.
    pub(super) fn open_with(path: &Utf8Path, mode: ResolveMode) -> Result<Option<Self>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry_on_intr(|| rustix::fs::open(path.as_std_path(), flags, Mode::empty())) {
            Ok(handle) => {
                let root = Directory::new(handle.into(), path.to_owned());
                Ok(Some(Self {
                    root: Arc::new(root),
                    mode,
                    opened: Mutex::default(),
                    lease: Mutex::default(),
                }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(StoreError::NotADirectory { path: path.to_owned(), what: "a file" }),
            Err(error) => Err(StoreError::of("opening the destination", path, error)),
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Arc<Directory> {
        &self.root
    }

    /// Says by which lock this process works here.
    pub(super) fn set_lease(&self, lease: Option<Arc<LockLease>>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    pub(super) fn lease(&self) -> Option<Arc<LockLease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory that `path`'s file lies in; `None` where it is missing and not to be made.
    pub fn parent(&self, path: &ModelPath, make: bool) -> Result<Option<Arc<Directory>>, StoreError> {
        self.directory(path.parent(), make)
    }

    /// The directory at `path`, names joined by `/`; `None` where it is missing and not to be made.
    pub(super) fn directory(&self, path: &str, make: bool) -> Result<Option<Arc<Directory>>, StoreError> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = opened.get(path) {
            return Ok(Some(directory.clone()));
        }
        let Some(directory) = self.open_directory(path, make)? else { return Ok(None) };
        let directory = Arc::new(directory);
        opened.insert(path.to_owned(), directory.clone());
        Ok(Some(directory))
    }

    /// Opens the directory at `path`, whatever was opened there before.
    pub(super) fn open_directory(&self, path: &str, make: bool) -> Result<Option<Directory>, StoreError> {
        match confined::open_directory(self.mode, self.root.handle(), path) {
            Ok(handle) => return Ok(Some(Directory::new(handle, self.root.path().join(path)))),
            Err(Errno::NOENT) if !make => return Ok(None),
            // Name by name: what is missing is made, and what is in the way can be named.
            Err(_) => {}
        }
        let mut at: Option<Directory> = None;
        for name in path.split('/') {
            match at.as_ref().unwrap_or(&self.root).subdirectory(name, make)? {
                Some(sub) => at = Some(sub),
                None => return Ok(None),
            }
        }
        Ok(at)
    }

    /// Whether the destination's own path still leads to it.
    pub(super) fn root_is_in_place(&self) -> Result<bool, StoreError> {
        let at = |doing| StoreError::at::<Errno>(doing, self.root.path());
        let held = rustix::fs::fstat(self.root.handle()).map_err(at("reading its metadata"))?;
        match rustix::fs::stat(self.root.path().as_std_path()) {
            Ok(named) => Ok(FileId::of(&named) == FileId::of(&held)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(at("reading its metadata")(error)),
        }
    }

    /// What is at `path`.
    pub fn find(&self, path: &ModelPath) -> Result<Found, StoreError> {
        match self.parent(path, false)? {
            Some(directory) => directory.find(path.file_name()),
            None => Ok(Found::Nothing),
        }
    }

    /// What the file at the end of the symlink at `path` is like, where there is a symlink to exactly `target` and a
    /// regular file at its end.
    pub fn find_linked(
        &self,
        path: &ModelPath,
        target: &Utf8Path,
    ) -> Result<Option<(Stamp, ChangeTime)>, StoreError> {
        let Some(directory) = self.parent(path, false)? else { return Ok(None) };
        if directory.read_link(path.file_name())?.as_deref() != Some(target.as_str()) {
            return Ok(None);
        }
        match rustix::fs::stat(target.as_std_path()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some((Stamp::of(&stat), (stat.st_ctime, stat.st_ctime_nsec as u32))))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(StoreError::of("reading its metadata", target, error)),
        }
    }

    /// Bytes that this user may still write here.
    pub fn free_space(&self) -> Result<u64, StoreError> {
        self.root.free_space()
    }

    /// Whether both are one directory.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let identity =
            |place: &Self| rustix::fs::fstat(place.root.handle()).map(|stat| FileId::of(&stat)).ok();
        identity(self).is_some() && identity(self) == identity(other)
    }

    /// Whether one file may have a name in each: one file system, and one mount of it (link(2), EXDEV). Where the kernel
    /// does not number its mounts, only the file system is compared.
    pub fn shares_disk_with(&self, other: &Self) -> bool {
        let mount = |place: &Self| {
            let device = rustix::fs::fstat(place.root.handle()).map(|stat| stat.st_dev).ok()?;
            let flags = rustix::fs::StatxFlags::MNT_ID;
            let statx = rustix::fs::statx(place.root.handle(), "", AtFlags::EMPTY_PATH, flags);
            let number =
                statx.ok().filter(|statx| statx.stx_mask & flags.bits() != 0).map(|statx| statx.stx_mnt_id);
            Some((device, number))
        };
        mount(self).is_some() && mount(self) == mount(other)
    }
}

/// Bytes that this user may still write at `path`, or where its nearest existing ancestor is.
pub fn free_space_near(path: &Utf8Path) -> Result<u64, StoreError> {
    let mut at = path;
    loop {
        if let Some(destination) = Destination::open(at)? {
            return destination.free_space();
        }
        at = match at.parent() {
            Some(parent) if !parent.as_str().is_empty() => parent,
            Some(_) => Utf8Path::new("."),
            None => return Ok(0),
        };
    }
}

/// Makes `path` and the directories above it, durably.
pub(super) fn make_all(path: &Utf8Path) -> Result<(), StoreError> {
    if path.as_str().is_empty() || path.as_std_path().is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_str().is_empty());
    if let Some(parent) = parent {
        make_all(parent)?;
    }
    make_directory(CWD, path.as_str(), path)?;
    let above = parent.unwrap_or(Utf8Path::new("."));
    File::open(above).and_then(|dir| dir.sync_all()).map_err(StoreError::at("syncing the directory", above))
}
