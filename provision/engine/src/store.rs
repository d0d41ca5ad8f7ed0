//! Stores by digest: fills one from the files of this machine ([`push`]), and reports the files of a lock that one has
//! ([`check`]).
//!
//! A store is asked for the last byte of a file before the file is sent, so a push that is repeated sends nothing. The
//! bytes that leave are hashed as they leave, and no store is told that a file is complete before its digest is the
//! lock's: a file that is wrong here is never right there. The bytes of an interrupted push stay where the protocol
//! allows it, and the next push goes on.
//!
//! `template`, `registry`, `bucket` and `directory` are the four protocols; `reader` reads and hashes, `session` sends
//! and waits, `state` keeps the states of interrupted uploads. `lists` adds the piece lists of the files.

mod bucket;
mod directory;
mod error;
mod lists;
mod manifest;
mod reader;
mod registry;
mod session;
mod state;
mod template;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::sync::watch;

use crate::cache::Cache;
use bucket::BucketStore;
use directory::DirectoryStore;
pub use error::PushError;
pub use lists::PushedLists;
use provision_core::backoff::RetryPolicy;
use provision_core::digest::{Hasher, Sha256};
use provision_core::event::{Event, Observer, Outcome, Planned, PlannedFile};
use provision_core::lockfile::Model;
use provision_core::source_url::SourceUrl;
use provision_core::store_address::StoreAddress;
use provision_disk::{Destination, SourceFile};
use provision_http::HttpClient;
use provision_http::metadata::OnWait;
use reader::Reader;
use registry::RegistryStore;
use session::{Session, Transfer};
use template::TemplateStore;

/// A store, and how it is asked.
pub struct StoreJob<'a> {
    /// The models, in the lock's order.
    pub models: Vec<&'a Model>,
    /// The store.
    pub store: StoreAddress,
    /// Its requests.
    pub client: Arc<HttpClient>,
    /// The patience with it.
    pub retry: RetryPolicy,
    /// Receives the events of a push, and a warning for each wait.
    pub observer: Arc<dyn Observer>,
    /// Turns true when the run is to stop.
    pub interrupted: watch::Receiver<bool>,
}

/// Places on this machine with the bytes for a push.
#[derive(Default)]
pub struct LocalFiles {
    /// The destination of the lock.
    pub destination: Option<Destination>,
    /// Caches. The first one keeps the states of interrupted uploads.
    pub caches: Vec<Cache>,
    /// Directories that have piece lists by their digests.
    pub lists: Vec<Utf8PathBuf>,
}

/// The end of a push.
pub struct PushReport {
    /// The models' ends, in the job's order; `None` after an interruption. True if the file was sent, false if the
    /// store had it.
    pub files: Vec<Option<Result<bool, PushError>>>,
    /// The piece lists of the files that are at the store.
    pub lists: PushedLists,
    /// Bytes that left, those of failed attempts included.
    pub sent: u64,
    /// From the first request to the last.
    pub elapsed: Duration,
    /// The tag of the manifest that holds the files at a registry, or the failure to write it.
    pub tag: Option<Result<String, PushError>>,
}

/// The state of a file at a store.
#[derive(Debug)]
pub enum StoredState {
    /// Its last byte is there; after a full check, all of them are right.
    There,
    /// The store does not have it, or has one of another size.
    Missing,
    /// Its bytes have this digest.
    Wrong(Sha256),
    /// The store did not say.
    Unknown(PushError),
}

/// The protocol of a store.
enum Target {
    Template(TemplateStore),
    Registry(RegistryStore),
    Bucket(BucketStore),
    Directory(DirectoryStore),
}

impl Target {
    /// Opens the store; a directory is created for a push only.
    fn open(address: &StoreAddress, pushes: bool) -> Result<Self, PushError> {
        Ok(match address {
            StoreAddress::Template(_) => Self::Template(TemplateStore),
            StoreAddress::Registry(registry) => Self::Registry(RegistryStore::new(registry.clone())),
            StoreAddress::Bucket(_) => Self::Bucket(BucketStore),
            StoreAddress::Directory(path) => Self::Directory(DirectoryStore::open(path, pushes)?),
        })
    }
}

/// An open store.
struct Store {
    target: Target,
    address: StoreAddress,
    session: Session,
    pushes: bool,
}

impl Store {
    fn open(job: &StoreJob<'_>, pushes: bool) -> Result<Self, PushError> {
        let observer = job.observer.clone();
        let on_wait: OnWait =
            Arc::new(move |wait| observer.observe(&Event::Warning { message: wait.to_string() }));
        Ok(Self {
            target: Target::open(&job.store, pushes)?,
            address: job.store.clone(),
            session: Session::new(job, on_wait),
            pushes,
        })
    }

    fn url_of(&self, model: &Model) -> Result<SourceUrl, PushError> {
        self.address.url_of(&model.path, model.size, &model.sha256).ok_or(PushError::NoAddress)
    }

    /// True if the store has the file.
    async fn has(&self, model: &Model) -> Result<bool, PushError> {
        if let Target::Directory(directory) = &self.target {
            return tokio::task::block_in_place(|| directory.has(model));
        }
        let at = self.session.client.at_store(&self.url_of(model)?, self.pushes)?;
        self.session.has(&at, model.size).await
    }

    /// Sends a file's bytes, of which the reader has read none.
    async fn put(&self, model: &Model, reader: Reader, transfer: &Transfer) -> Result<(), PushError> {
        match &self.target {
            Target::Template(store) => {
                store.put(&self.session, self.url_of(model)?, model, reader, transfer).await
            }
            Target::Registry(store) => store.put(&self.session, model, reader, transfer).await,
            Target::Bucket(store) => {
                store.put(&self.session, self.url_of(model)?, model, reader, transfer).await
            }
            Target::Directory(store) => {
                tokio::task::block_in_place(|| store.put(model, &reader, transfer, &self.session))
            }
        }
    }

    /// Sends a file from the first place on this machine that has its bytes.
    async fn push_from(
        &self,
        having: &LocalFiles,
        model: &Model,
        transfer: &Transfer,
    ) -> Result<(), PushError> {
        let mut wrong = None;
        for source in having.sources(model)? {
            match self.put(model, Reader::new(source, model), transfer).await {
                Err(error @ PushError::Wrong { .. }) => wrong = Some(error),
                end => return end,
            }
        }
        Err(wrong.unwrap_or(PushError::Nowhere))
    }
}

impl LocalFiles {
    /// The files that should have a model's bytes. They have its size.
    fn sources(&self, model: &Model) -> Result<Vec<SourceFile>, PushError> {
        let mut found = Vec::new();
        if let Some(destination) = &self.destination {
            found.extend(SourceFile::open_below_or_linked(destination, &model.path)?);
        }
        for cache in &self.caches {
            found.extend(cache.find(model)?);
        }
        for directory in &self.lists {
            // The failure of a list's place is a list's, and no model's.
            found.extend(SourceFile::open(&directory.join(model.sha256.to_string())).ok().flatten());
        }
        found.retain(|source| source.stamp().size == model.size);
        Ok(found)
    }
}

/// Fills a store with the job's models.
///
/// # Errors
/// The store as a whole cannot be used: it does not answer, or refuses the questions. Failures of single files are in
/// the report.
pub async fn push(job: StoreJob<'_>, having: &LocalFiles) -> Result<PushReport, PushError> {
    let started = Instant::now();
    let mut store = Store::open(&job, true)?;
    store.session.keep_states(having.caches.first());
    let (store, session) = (&store, &store.session);
    let mut files: Vec<Option<Result<bool, PushError>>> = job.models.iter().map(|_| None).collect();
    let asking = async {
        for (model, end) in job.models.iter().zip(&mut files) {
            *end = store.has(model).await?.then_some(Ok(false));
        }
        Ok::<_, PushError>(())
    };
    match session.unless_stopped(asking).await {
        None => {
            let (lists, elapsed) = (PushedLists::default(), started.elapsed());
            return Ok(PushReport { files, lists, sent: 0, elapsed, tag: None });
        }
        Some(asked) => asked?,
    }
    let planned = |(model, end): (&&Model, &Option<_>)| PlannedFile {
        path: model.path.clone(),
        size: model.size,
        held: 0,
        here: 0,
        plan: if end.is_some() { Planned::Present } else { Planned::Fetch },
    };
    let planned: Vec<_> = job.models.iter().zip(&files).map(planned).collect();
    let to_fetch = planned.iter().filter(|file| file.plan == Planned::Fetch).map(|file| file.size).sum();
    job.observer.observe(&Event::Planned { files: planned, to_fetch, needed: 0, free: 0 });
    let mut pushed = HashSet::new();
    let (mut is_silent, mut was_busy) = (false, false);
    for (index, model) in job.models.iter().enumerate() {
        if files[index].is_some() || session.is_stopped() {
            continue;
        }
        let (began, transfer) = (Instant::now(), Transfer::new(index, model, session));
        let source = job.store.to_string();
        job.observer.observe(&Event::Started { file: index, source });
        let pushing = async {
            if is_silent {
                return Err(PushError::NotTried);
            }
            // Twice in the lock.
            if pushed.contains(&model.sha256) && store.has(model).await? {
                return Ok(());
            }
            // Boxed: each protocol's future is large.
            Box::pin(store.push_from(having, model, &transfer)).await
        };
        let end = match session.unless_stopped_midway(pushing).await {
            None | Some(Err(PushError::Interrupted)) => break,
            Some(end) => end,
        };
        if let Err(error) = &end {
            // Two files in a row, each after all patience.
            is_silent |= error.is_silence() || (was_busy && error.is_busy());
            was_busy = error.is_busy();
            job.observer.observe(&Event::Failed { file: index, reason: error.to_string() });
        } else {
            was_busy = false;
            pushed.insert(model.sha256);
            let (outcome, fetched) = (Outcome::Pushed, transfer.sent());
            let elapsed = began.elapsed();
            job.observer.observe(&Event::Finished {
                file: index,
                outcome,
                fetched,
                sources: Vec::new(),
                elapsed,
            });
        }
        files[index] = Some(end.map(|()| true));
    }
    let held = job.models.iter().zip(&files).filter(|(_, end)| matches!(end, Some(Ok(_))));
    let held: Vec<&Model> = held.map(|(model, _)| *model).collect();
    let (mut lists, mut held_lists, mut tag) = (PushedLists::default(), Vec::new(), None);
    if !is_silent {
        (lists, held_lists) = store.push_lists(having, &held).await;
    }
    if let Target::Registry(registry) = &store.target
        && !is_silent
        && !held.is_empty()
    {
        tag = Some(registry.hold(store, having, &held, &held_lists).await);
    }
    let sent = session.sent.load(Ordering::Relaxed);
    Ok(PushReport { files, lists, sent, elapsed: started.elapsed(), tag })
}

/// Asks a store for each of the job's models, in their order. A full check reads every byte; a piece list is always
/// read. `on_held` gets each answer as it comes, with that for the list if the store can have one; none after an
/// interruption.
///
/// # Errors
/// The store's directory cannot be opened.
pub async fn check(
    job: &StoreJob<'_>,
    is_full: bool,
    on_held: &mut dyn FnMut(&Model, StoredState, Option<StoredState>),
) -> Result<(), PushError> {
    let store = Store::open(job, false)?;
    for model in &job.models {
        let asking = async {
            if !is_full {
                return Ok(if store.has(model).await? { StoredState::There } else { StoredState::Missing });
            }
            if let Target::Directory(directory) = &store.target {
                let go_on = || !store.session.is_stopped();
                return tokio::task::block_in_place(|| directory.read(model, go_on));
            }
            let at = store.session.client.at_store(&store.url_of(model)?, false)?;
            let mut hasher = Hasher::new();
            let length = store.session.read(&at, model.size, &mut hasher).await?;
            let digest = hasher.finish();
            Ok(match length {
                None => StoredState::Missing,
                Some(_) if digest == model.sha256 => StoredState::There,
                Some(_) => StoredState::Wrong(digest),
            })
        };
        let Some(held) = store.session.unless_stopped(asking).await else { return Ok(()) };
        let held = held.unwrap_or_else(StoredState::Unknown);
        let is_silent = matches!(&held, StoredState::Unknown(error) if error.is_silence());
        let mut list = None;
        if !is_silent {
            let Some(asked) = store.session.unless_stopped(store.check_list(model)).await else {
                return Ok(());
            };
            list = asked;
        }
        on_held(model, held, list);
        if is_silent {
            break;
        }
    }
    Ok(())
}
