//! The place that collects unpinned files: a destination, or a cache with a limit. It is locked, and it makes room.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8Path;
use tokio::sync::watch;

use super::error::UnpinnedError;
use super::file::UnpinnedFile;
use crate::cache::{Cache, Entry};
use crate::lock_wait::{self, LockWait, Locks};
use provision_core::byte_size::ByteSize;
use provision_core::digest::Sha256;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_disk::{Destination, DestinationLock, DiskError, Folders, FollowLinks};

/// A destination or a cache that collects unpinned files. It is locked until this value and its downloads are dropped.
pub struct UnpinnedParts {
    pub(super) place: StorageDirectory,
    locks: Locks,
    pub(super) observer: Arc<dyn Observer>,
    /// The objects that were stored. They stay: the command has paid for them.
    stored: Mutex<HashSet<Sha256>>,
}

/// The limit for the content of a cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimit {
    /// The most bytes.
    pub bytes: u64,
    /// The objects that were used longest ago make room. Otherwise a file without room is refused.
    pub evicts: bool,
}

/// The directory that collects unpinned files.
pub(super) enum StorageDirectory {
    /// Parts beside their targets.
    Destination(Box<Destination>),
    /// Objects.
    Cache(Cache, Option<CacheLimit>),
}

impl StorageDirectory {
    pub(super) fn destination(&self) -> &Destination {
        match self {
            Self::Destination(destination) => destination,
            Self::Cache(cache, _) => cache.place(),
        }
    }

    /// The file of a part in this place.
    pub(super) fn model(&self, model: Model) -> Model {
        match self {
            Self::Destination(_) => model,
            Self::Cache(..) => Cache::object(&model),
        }
    }

    /// The option that chooses another place.
    pub(super) fn option(&self) -> &'static str {
        match self {
            Self::Destination(_) => "--dest",
            Self::Cache(..) => "--cache",
        }
    }
}

impl UnpinnedParts {
    /// Creates the destination at `path`, which has these folders, if it is missing, and locks it. Waits only to find
    /// out if a holder on another machine is alive.
    ///
    /// # Errors
    /// [`UnpinnedError::Busy`] if another run has the lock.
    pub async fn open(
        path: &Utf8Path,
        folders: Arc<Folders>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, UnpinnedError> {
        let destination = Destination::create(path)?.with_folders(folders);
        Self::lock(StorageDirectory::Destination(Box::new(destination)), observer).await
    }

    /// The same for a cache.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_cache(
        path: &Utf8Path,
        limit: Option<CacheLimit>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, UnpinnedError> {
        Self::lock(StorageDirectory::Cache(Cache::open(path)?, limit), observer).await
    }

    async fn lock(place: StorageDirectory, observer: Arc<dyn Observer>) -> Result<Self, UnpinnedError> {
        let (_stop, mut never) = watch::channel(false);
        let destination = place.destination();
        let wait = lock_wait::lock(destination, Some(&[]), Duration::ZERO, &*observer, &mut never).await?;
        let locks = acquired(wait, place.option())?;
        Ok(Self { place, locks, observer, stored: Mutex::default() })
    }

    /// The most bytes of a file of unknown length: nine tenths of the free space, within the limit of the cache. So a
    /// stream without an end leaves room on the disk.
    pub(super) fn most_unsized(
        &self,
        destination: &Destination,
        file: &UnpinnedFile,
    ) -> Result<u64, UnpinnedError> {
        let (_, free) = destination.room_for(&self.place.model(file.placeholder(0)).path)?;
        let limit = match &self.place {
            StorageDirectory::Cache(_, Some(limit)) => limit.bytes,
            StorageDirectory::Cache(_, None) | StorageDirectory::Destination(_) => u64::MAX,
        };
        let most = (free / 10 * 9).min(limit);
        if most == 0 {
            let (path, option) = (destination.root().path().to_owned(), self.place.option());
            return Err(DiskError::NotEnoughSpace { path, needed: 1, free, option }.into());
        }
        Ok(most)
    }

    /// The directory for a file. A destination follows the links that a fetch follows, and their directories are locked
    /// for the file. Links are noted once for a destination, so each file has its own.
    pub(super) async fn destination_of(
        &self,
        path: &ModelPath,
    ) -> Result<(Arc<Destination>, Vec<DestinationLock>), UnpinnedError> {
        let main = match &self.place {
            StorageDirectory::Cache(cache, _) => return Ok((cache.place().clone(), Vec::new())),
            StorageDirectory::Destination(main) => main,
        };
        let destination = Destination::create(main.root().path())?.with_links(FollowLinks::Own);
        let destination = destination.with_folders(main.folders().clone());
        destination.create_folders([path]);
        destination.add_lease_of(main);
        let (_stop, mut never) = watch::channel(false);
        let (main, observer) = (&self.locks.main, &*self.observer);
        let wait = lock_wait::lock_linked(&destination, main, path, Duration::ZERO, observer, &mut never);
        let locks = acquired(wait.await?, self.place.option())?;
        destination.freeze_links();
        Ok((Arc::new(destination), locks))
    }

    /// The objects that make room for this one.
    pub(super) fn excess(&self, object: &Model) -> Result<Vec<Entry>, UnpinnedError> {
        let StorageDirectory::Cache(cache, Some(limit)) = &self.place else { return Ok(Vec::new()) };
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = cache.excess_beside(object, limit.bytes, &stored)?;
        excess.filter(|excess| limit.evicts || excess.is_empty()).ok_or_else(|| {
            let path = cache.place().root().path().to_owned();
            UnpinnedError::CacheFull { path, most: limit.bytes, size: object.size }
        })
    }

    /// Removes the objects that make room for this one.
    pub(super) fn make_room(&self, object: &Model) -> Result<(), UnpinnedError> {
        let StorageDirectory::Cache(cache, Some(limit)) = &self.place else { return Ok(()) };
        let excess = self.excess(object)?;
        cache.remove(&excess)?;
        let bytes: u64 = excess.iter().map(|entry| entry.bytes).sum();
        if bytes > 0 {
            let (path, bytes, most) = (cache.place().root().path(), ByteSize(bytes), ByteSize(limit.bytes));
            let message =
                format!("removed {bytes} that were used longest ago from {path}, which keeps {most} at most");
            self.observer.observe(&Event::Warning { message });
        }
        Ok(())
    }

    /// Ends the storage of an object. Its bytes are safe, so other objects that cannot be removed are no failure.
    pub(super) fn note_stored(&self, object: &Model) {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).insert(object.sha256);
        if let Err(error) = self.make_room(object) {
            let message =
                format!("nothing made room for {}: {error}", self.place.destination().root().path());
            self.observer.observe(&Event::Warning { message });
        }
    }
}

fn acquired<T>(wait: LockWait<T>, option: &'static str) -> Result<T, UnpinnedError> {
    match wait {
        LockWait::Acquired(locks) => Ok(locks),
        LockWait::TimedOut { holder, .. } => Err(UnpinnedError::Busy { holder, option }),
        LockWait::Stopped => unreachable!("this wait is never stopped"),
    }
}
