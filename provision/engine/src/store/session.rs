//! The requests of a push: sent again after a failure as the retry policy says, stopped by a signal, counted by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::StoreJob;
use super::error::PushError;
use super::state::States;
use crate::cache::Cache;
use provision_core::backoff::FailureRow;
use provision_core::digest::Hasher;
use provision_core::event::{Event, FileIndex, Observer};
use provision_core::lockfile::Model;
use provision_http::metadata::{MetadataClient, MetadataError, OnWait};
use provision_http::{HttpClient, Reply, RequestError, Resolved, Sent, Upload};

/// The time for the end of a part after a signal. The process ends two seconds later in any case.
const LONGEST_PART: Duration = Duration::from_secs(6);

/// A store during a run.
pub(super) struct Session {
    pub(super) client: Arc<HttpClient>,
    /// The store's address, as it is shown.
    pub(super) store: String,
    /// Bytes that left.
    pub(super) sent: Arc<AtomicU64>,
    pub(super) states: Option<States>,
    waits: MetadataClient,
    observer: Arc<dyn Observer>,
    interrupted: watch::Receiver<bool>,
}

/// The failures in a row of one request.
#[derive(Default)]
pub(super) struct Failures {
    row: FailureRow,
    began: Duration,
}

/// A file that is being sent.
pub(super) struct Transfer {
    pub(super) index: FileIndex,
    pub(super) path: String,
    observer: Arc<dyn Observer>,
    /// Bytes of all attempts.
    sent: Arc<AtomicU64>,
    /// Bytes of the current attempt.
    attempt: Arc<AtomicU64>,
    of_run: Arc<AtomicU64>,
}

/// Passes warnings on, and no progress.
struct WarningsOnly(Arc<dyn Observer>);

impl Observer for WarningsOnly {
    fn observe(&self, event: &Event) {
        if matches!(event, Event::Warning { .. }) {
            self.0.observe(event);
        }
    }
}

impl Transfer {
    /// Of something that belongs to a model and is none of the run's files.
    pub(super) fn without_progress(model: &Model, session: &Session) -> Self {
        let observer = Arc::new(WarningsOnly(session.observer.clone()));
        Self { observer, ..Self::new(0, model, session) }
    }

    pub(super) fn new(index: FileIndex, model: &Model, session: &Session) -> Self {
        Self {
            index,
            path: model.path.to_string(),
            observer: session.observer.clone(),
            sent: Arc::default(),
            attempt: Arc::default(),
            of_run: session.sent.clone(),
        }
    }

    /// A part of the same file, whose attempts are its own.
    pub(super) fn part(&self) -> Self {
        let (observer, attempt) = (self.observer.clone(), Arc::default());
        let (sent, of_run) = (self.sent.clone(), self.of_run.clone());
        Self { index: self.index, path: self.path.clone(), observer, sent, attempt, of_run }
    }

    /// Counts bytes as they leave.
    pub(super) fn counter(&self) -> Sent {
        let (observer, file) = (self.observer.clone(), self.index);
        let counters = [self.sent.clone(), self.attempt.clone(), self.of_run.clone()];
        Arc::new(move |bytes| {
            for counter in &counters {
                counter.fetch_add(bytes, Ordering::Relaxed);
            }
            observer.observe(&Event::Received { file, bytes });
        })
    }

    /// Bytes that left for this file.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends an attempt, of whose bytes `kept` count.
    pub(super) fn end_attempt(&self, kept: u64, reason: &str) {
        let lost = self.attempt.swap(0, Ordering::Relaxed).saturating_sub(kept);
        if lost > 0 {
            let reason = reason.to_owned();
            self.observer.observe(&Event::Dropped { file: self.index, bytes: lost, reason });
        }
    }

    /// Counts bytes that the store has from an earlier run.
    pub(super) fn found(&self, bytes: u64) {
        self.observer.observe(&Event::Brought { file: self.index, bytes });
    }

    /// Bytes that the store had are lost.
    pub(super) fn lost(&self, bytes: u64, reason: &str) {
        let reason = reason.to_owned();
        self.observer.observe(&Event::Dropped { file: self.index, bytes, reason });
    }

    /// Says something about the file.
    pub(super) fn warn(&self, text: &str) {
        self.observer.observe(&Event::Warning { message: format!("{}: {text}", self.path) });
    }
}

impl Failures {
    /// True after a failure.
    pub(super) fn any(&self) -> bool {
        self.row.failures > 0
    }
}

impl Session {
    pub(super) fn new(job: &StoreJob<'_>, on_wait: OnWait) -> Self {
        Self {
            waits: MetadataClient::new(&job.client, job.retry.clone(), on_wait),
            client: job.client.clone(),
            store: job.store.to_string(),
            sent: Arc::default(),
            states: None,
            observer: job.observer.clone(),
            interrupted: job.interrupted.clone(),
        }
    }

    /// Keeps the states of uploads below a cache. Without one, an interrupted upload begins again.
    pub(super) fn keep_states(&mut self, cache: Option<&Cache>) {
        self.states = cache.and_then(|cache| States::open(cache.place().root().path(), &self.store));
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.interrupted.borrow()
    }

    /// The result of `work`; `None` if the run is stopped before.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut interrupted = self.interrupted.clone();
        tokio::select! {
            biased;
            Ok(_) = interrupted.wait_for(|stop| *stop) => None,
            done = work => Some(done),
        }
    }

    /// The same, with some time for work that ends soon: a registry loses an upload whose part is cut.
    pub(super) async fn unless_stopped_midway<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut interrupted = self.interrupted.clone();
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return Some(done),
            Ok(_) = interrupted.wait_for(|stop| *stop) => {}
        }
        tokio::time::timeout(LONGEST_PART, work).await.ok()
    }

    /// An error once the run is to stop.
    pub(super) fn go_on(&self) -> Result<(), PushError> {
        if self.is_stopped() { Err(PushError::Interrupted) } else { Ok(()) }
    }

    /// The beginning of a request that may fail.
    pub(super) fn attempts(&self) -> Failures {
        Failures { began: self.waits.now(), ..Failures::default() }
    }

    /// Waits after a failure that a retry may cure, and returns any other.
    pub(super) async fn wait_after(
        &self,
        error: RequestError,
        failures: &mut Failures,
    ) -> Result<(), PushError> {
        // The store does not know the request, and learns nothing in a minute.
        if matches!(error, RequestError::Busy { status: 501, .. }) {
            return Err(error.into());
        }
        let error = MetadataError::Request(error);
        let waiting = self.waits.wait_after(error, &mut failures.row, failures.began);
        self.unless_stopped(waiting).await.ok_or(PushError::Interrupted)??;
        failures.began = self.waits.now();
        Ok(())
    }

    /// Sends a request until it is answered. It may be sent twice, so it has the same effect then. `transfer` counts
    /// its body.
    pub(super) async fn send(
        &self,
        to: &Resolved,
        upload: &Upload<'_>,
        transfer: Option<&Transfer>,
    ) -> Result<Reply, PushError> {
        let mut failures = self.attempts();
        loop {
            match self.client.upload(to, upload).await {
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    if let Some(transfer) = transfer {
                        transfer.end_attempt(0, &error.to_string());
                    }
                    self.wait_after(error, &mut failures).await?;
                }
            }
        }
    }

    /// True if the store has the last byte of a file of this size.
    pub(super) async fn has(&self, at: &Resolved, size: u64) -> Result<bool, PushError> {
        let mut failures = self.attempts();
        loop {
            match self.client.has(at.clone(), size).await {
                Ok(has) => return Ok(has),
                Err(error) => self.wait_after(error, &mut failures).await?,
            }
        }
    }

    /// Hashes a whole file of the store, and returns its length; `None` if the store does not have it.
    /// No more than `size` bytes and a block are read.
    pub(super) async fn read(
        &self,
        at: &Resolved,
        size: u64,
        hasher: &mut Hasher,
    ) -> Result<Option<u64>, PushError> {
        let (mut failures, mut last_cut) = (self.attempts(), None);
        loop {
            *hasher = Hasher::new();
            match self.client.read_file(at.clone(), size, &mut |block| hasher.update(block)).await {
                Ok((length, None)) => return Ok(Some(length)),
                // Twice at the same byte: the store has no more than its answer's beginning.
                Ok((length, Some(_))) if last_cut == Some(length) => {
                    return Ok(Some(length).filter(|length| *length > 0));
                }
                Ok((length, Some(error))) => {
                    last_cut = Some(length);
                    self.wait_after(error, &mut failures).await?;
                }
                Err(error) if error.is_absence() => return Ok(None),
                Err(error) => self.wait_after(error, &mut failures).await?,
            }
        }
    }
}
