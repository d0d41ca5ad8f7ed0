//! The destination directory and the directories below it, opened once.
//!
//! Every operation goes through a handle, so a name that is replaced during a run leads nowhere else. A handle does
//! not show whether the directory is still at its path: `durability` checks that before a marker is written.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::confined::{self, ResolveMode};
use crate::destination_lock::lease::LockLease;
use crate::directory::{Directory, Found, create_directory};
use crate::error::StoreError;
use crate::file_stat::{ChangeTime, FileId, Stamp};
use provision_core::model_path::ModelPath;

/// The directory that the paths of `models.lock` are relative to. Its own path may be or contain a symlink; no path
/// below it may.
#[derive(Debug)]
pub struct Destination {
    root: Arc<Directory>,
    mode: ResolveMode,
    /// The opened directories, by their path below the root.
    opened: Mutex<HashMap<String, Arc<Directory>>>,
    /// The lease on the destination's lock, where another machine can take it over.
    lease: Mutex<Option<Arc<LockLease>>>,
}

impl Destination {
    /// Opens the directory. Creates it and its parents if they are missing.
    pub fn create(path: &Utf8Path) -> Result<Self, StoreError> {
        create_all(path)?;
        Self::open(path)?.ok_or_else(|| StoreError::of("opening the destination", path, Errno::NOENT))
    }

    /// Opens the directory. `None` if it does not exist.
    pub fn open(path: &Utf8Path) -> Result<Option<Self>, StoreError> {
        Self::open_with(path, ResolveMode::Openat2)
    }

    /// Opens the directory with the given [`ResolveMode`] for paths below it.
    pub(crate) fn open_with(path: &Utf8Path, mode: ResolveMode) -> Result<Option<Self>, StoreError> {
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

    /// Sets the lease that parts check before a write.
    pub(crate) fn set_lease(&self, lease: Option<Arc<LockLease>>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    pub(crate) fn lease(&self) -> Option<Arc<LockLease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory of the file at `path`. If it is missing, `create` decides between creating it and `None`.
    pub fn parent(&self, path: &ModelPath, create: bool) -> Result<Option<Arc<Directory>>, StoreError> {
        self.directory(path.parent(), create)
    }

    /// The directory at `path`, as for [`Destination::parent`].
    pub(crate) fn directory(&self, path: &str, create: bool) -> Result<Option<Arc<Directory>>, StoreError> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = opened.get(path) {
            return Ok(Some(directory.clone()));
        }
        let Some(directory) = self.open_directory(path, create)? else { return Ok(None) };
        let directory = Arc::new(directory);
        opened.insert(path.to_owned(), directory.clone());
        Ok(Some(directory))
    }

    /// Opens the directory at `path` anew.
    pub(crate) fn open_directory(&self, path: &str, create: bool) -> Result<Option<Directory>, StoreError> {
        match confined::open_directory(self.mode, self.root.handle(), path) {
            Ok(handle) => return Ok(Some(Directory::new(handle, self.root.path().join(path)))),
            Err(Errno::NOENT) if !create => return Ok(None),
            // One component at a time: creates what is missing, and can name an obstacle.
            Err(_) => {}
        }
        let mut at: Option<Directory> = None;
        for name in path.split('/') {
            match at.as_ref().unwrap_or(&self.root).subdirectory(name, create)? {
                Some(sub) => at = Some(sub),
                None => return Ok(None),
            }
        }
        Ok(at)
    }

    /// True if the destination's own path still leads to this directory.
    pub(crate) fn root_is_in_place(&self) -> Result<bool, StoreError> {
        let at = |doing| StoreError::at::<Errno>(doing, self.root.path());
        let held = rustix::fs::fstat(self.root.handle()).map_err(at("reading its metadata"))?;
        match rustix::fs::stat(self.root.path().as_std_path()) {
            Ok(named) => Ok(FileId::of(&named) == FileId::of(&held)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(at("reading its metadata")(error)),
        }
    }

    /// The kind of file at `path`.
    pub fn find(&self, path: &ModelPath) -> Result<Found, StoreError> {
        match self.parent(path, false)? {
            Some(directory) => directory.find(path.file_name()),
            None => Ok(Found::Nothing),
        }
    }

    /// The target of the symlink at `path`, as written. `None` if there is no symlink, or if its target is not UTF-8.
    pub fn link_at(&self, path: &ModelPath) -> Result<Option<Utf8PathBuf>, StoreError> {
        match self.parent(path, false)? {
            Some(directory) => Ok(directory.read_link(path.file_name())?.map(Utf8PathBuf::from)),
            None => Ok(None),
        }
    }

    /// The stamp and change time of `target`, if `path` is a symlink to exactly `target` and that is a regular file.
    pub fn find_linked(
        &self,
        path: &ModelPath,
        target: &Utf8Path,
    ) -> Result<Option<(Stamp, ChangeTime)>, StoreError> {
        let Some(directory) = self.parent(path, false)? else { return Ok(None) };
        if directory.read_link(path.file_name())?.as_deref() != Some(target.as_str()) {
            return Ok(None);
        }
        match rustix::fs::statat(directory.handle(), target.as_str(), AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some((Stamp::of(&stat), (stat.st_ctime, stat.st_ctime_nsec as u32))))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(StoreError::of("reading its metadata", target, error)),
        }
    }

    /// The bytes that this user can still write here.
    pub fn free_space(&self) -> Result<u64, StoreError> {
        self.root.free_space()
    }

    /// True if both are the same directory.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let id = |at: &Self| rustix::fs::fstat(at.root.handle()).map(|stat| FileId::of(&stat)).ok();
        id(self).is_some() && id(self) == id(other)
    }

    /// True if a file can have a hard link in each: both are on one mount of one file system (link(2), EXDEV).
    /// Compares only the file system if the kernel does not number its mounts.
    pub fn shares_disk_with(&self, other: &Self) -> bool {
        let mount = |at: &Self| {
            let device = rustix::fs::fstat(at.root.handle()).map(|stat| stat.st_dev).ok()?;
            let flags = rustix::fs::StatxFlags::MNT_ID;
            let statx = rustix::fs::statx(at.root.handle(), "", AtFlags::EMPTY_PATH, flags);
            let number =
                statx.ok().filter(|statx| statx.stx_mask & flags.bits() != 0).map(|statx| statx.stx_mnt_id);
            Some((device, number))
        };
        mount(self).is_some() && mount(self) == mount(other)
    }
}

/// The bytes that this user can still write at `path`, or at its nearest existing ancestor.
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

/// Creates `path` and the directories above it, durably.
fn create_all(path: &Utf8Path) -> Result<(), StoreError> {
    if path.as_str().is_empty() || path.as_std_path().is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_str().is_empty());
    if let Some(parent) = parent {
        create_all(parent)?;
    }
    create_directory(CWD, path.as_str(), path)?;
    let above = parent.unwrap_or(Utf8Path::new("."));
    File::open(above).and_then(|dir| dir.sync_all()).map_err(StoreError::at("syncing the directory", above))
}
