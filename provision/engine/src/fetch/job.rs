//! The input of a run: the lock, its models, the directories and the settings.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::sync::watch;

use super::local_sources::Local;
use super::other_programs::Stores;
use super::store_directory::StoreDirectory;
use crate::piece_lists::{ListPlaces, PieceLists};
use crate::transfer::TransferConfig;
use provision_core::event::Observer;
use provision_core::lockfile::{Lockfile, Model};
use provision_core::store_address::StoreAddress;
use provision_disk::{Destination, Folders, FollowLinks};
use provision_http::HttpClient;

/// The check that a file on disk must pass to count as present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// The marker lists it with its size and mtime; a file without a valid entry is hashed.
    #[default]
    Marker,
    /// It has the right size.
    Quick,
    /// It has the right digest; the marker does not count.
    Full,
}

/// Settings of a run.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// Connections, retries, bandwidth.
    pub transfer: TransferConfig,
    /// The check that a file on disk must pass to count as present.
    pub verify: Verify,
    /// Download every file, even one that is present.
    pub force: bool,
    /// Stop after the plan and change nothing.
    pub dry_run: bool,
    /// Fail rather than open a socket.
    pub offline: bool,
    /// The symlinks to directories below the destination that are followed.
    pub links: FollowLinks,
    /// The folders of the destination that have more directories than their own.
    pub folders: Arc<Folders>,
    /// The longest wait for another run in the same destination.
    pub wait: Duration,
    /// Threads that hash the files on disk.
    pub threads: usize,
}

impl FetchConfig {
    /// A destination with these links and folders.
    pub(super) fn prepare(&self, destination: Destination) -> Destination {
        destination.with_links(self.links).with_folders(self.folders.clone())
    }
}

/// The input of a run.
pub struct Job<'a> {
    /// The lock.
    pub lock: &'a Lockfile,
    /// The lock's models that this run installs.
    pub models: Vec<&'a Model>,
    /// The directory that the models' paths are relative to.
    pub destination: Utf8PathBuf,
    /// Directories on this machine that may hold the bytes already.
    pub local: Local,
    /// The site's stores, which have files by their digest. They come before the lock's own sources.
    pub stores: Vec<StoreAddress>,
    /// The places of the locks' piece lists.
    pub lists: ListPlaces,
    /// Settings.
    pub config: FetchConfig,
    /// The client that downloads; it opens no connection before the first request.
    pub origin: Arc<HttpClient>,
    /// Receives the run's events.
    pub observer: Arc<dyn Observer>,
    /// Turns true when the run has to stop.
    pub interrupted: watch::Receiver<bool>,
}

impl Job<'_> {
    pub(super) fn is_interrupted(&self) -> bool {
        *self.interrupted.borrow()
    }

    /// The piece lists of the models; `destination` is this job's, if it exists. A run that changes nothing asks for
    /// none.
    pub(super) fn piece_lists(&self, destination: Option<Arc<Destination>>) -> Arc<PieceLists> {
        let lists = PieceLists::on_disk(&self.lists, destination, self.observer.clone());
        let lists = lists.with_stores(&self.stores);
        let asks = !self.config.offline && !self.config.dry_run;
        let network = |lists: PieceLists| {
            lists.with_network(&self.origin, (&self.stores, &self.lists), &self.interrupted)
        };
        Arc::new(if asks { network(lists) } else { lists })
    }

    /// The stores that are directories.
    pub(super) fn store_directories(&self) -> Vec<StoreDirectory> {
        self.stores.iter().filter_map(StoreDirectory::of).collect()
    }

    /// Other programs' stores; `destination` is this job's, if it exists.
    pub(super) fn stores(&self, destination: Option<Arc<Destination>>) -> Option<Stores<'_>> {
        let Self { local, models, observer, interrupted, .. } = self;
        Stores::of(&local.reuse, models, destination, &**observer, interrupted)
    }
}
