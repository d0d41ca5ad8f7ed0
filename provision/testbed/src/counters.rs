//! What was asked of an origin and what it gave, for tests to assert on and to wait for.
//!
//! Hot paths touch atomics only; a snapshot is put together when somebody looks. Whoever waits is woken by each
//! change, so no test has to sleep. A request is in the log before it is counted: who waited for a count finds it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::request::Recorded;

/// How many requests the log holds; older ones are forgotten first.
pub const LOG_LIMIT: usize = 100_000;

/// A snapshot of what an origin has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted, those above the limit included.
    pub connections_accepted: u64,
    /// Connections above [`Shape::max_connections`](crate::Shape::max_connections).
    pub connections_refused: u64,
    /// Connections being served now.
    pub connections_open: u64,
    /// The most connections that were served at once.
    pub peak_open: u64,
    /// Requests read, whatever was answered.
    pub requests: u64,
    /// Body bytes handed to the kernel; no heads, no chunk framing.
    pub body_bytes_sent: u64,
    /// The same by decoded path.
    pub paths: BTreeMap<String, PathCounters>,
}

/// What one path was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    /// Requests read.
    pub requests: u64,
    /// Body bytes handed to the kernel.
    pub body_bytes: u64,
}

impl Counters {
    /// The counters of a decoded path; zeros for one never asked for.
    pub fn path(&self, path: &str) -> PathCounters {
        self.paths.get(path).copied().unwrap_or_default()
    }
}

/// The live counters of an origin.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
    open: AtomicU64,
    peak: AtomicU64,
    requests: AtomicU64,
    body_bytes: AtomicU64,
    // A std Mutex: held for a lookup, never across an await.
    paths: Mutex<BTreeMap<String, Arc<PathTally>>>,
    log: Mutex<VecDeque<Recorded>>,
    changed: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct PathTally {
    requests: AtomicU64,
    body_bytes: AtomicU64,
}

/// Counts one open connection for as long as it lives.
pub(crate) struct OpenGuard(Arc<Tally>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Tally {
    /// The number of the connection just accepted, from 0.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.fetch_add(1, Relaxed)
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn open_now(&self) -> u64 {
        self.open.load(Relaxed)
    }

    pub(crate) fn open(self: &Arc<Self>) -> OpenGuard {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(open, Relaxed);
        self.changed.notify_waiters();
        OpenGuard(Arc::clone(self))
    }

    pub(crate) fn request(&self, recorded: Recorded) -> Arc<PathTally> {
        let path = Arc::clone(lock(&self.paths).entry(recorded.path.clone()).or_default());
        let mut log = lock(&self.log);
        if log.len() == LOG_LIMIT {
            log.pop_front();
        }
        log.push_back(recorded);
        self.requests.fetch_add(1, Relaxed);
        drop(log);
        path.requests.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
        path
    }

    pub(crate) fn body(&self, path: &PathTally, bytes: u64) {
        path.body_bytes.fetch_add(bytes, Relaxed);
        self.body_bytes.fetch_add(bytes, Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn log(&self) -> Vec<Recorded> {
        self.log_since(0)
    }

    /// Without the first `seen` requests that there were.
    pub(crate) fn log_since(&self, seen: u64) -> Vec<Recorded> {
        let log = lock(&self.log);
        // Counted while the log is locked, too.
        let forgotten = self.requests.load(Relaxed) - log.len() as u64;
        let known = usize::try_from(seen.saturating_sub(forgotten)).unwrap_or(usize::MAX);
        log.iter().skip(known).cloned().collect()
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let paths = lock(&self.paths)
            .iter()
            .map(|(path, tally)| {
                let (requests, body_bytes) = (tally.requests.load(Relaxed), tally.body_bytes.load(Relaxed));
                (path.clone(), PathCounters { requests, body_bytes })
            })
            .collect();
        Counters {
            connections_accepted: self.accepted.load(Relaxed),
            connections_refused: self.refused.load(Relaxed),
            connections_open: self.open.load(Relaxed),
            peak_open: self.peak.load(Relaxed),
            requests: self.requests.load(Relaxed),
            body_bytes_sent: self.body_bytes.load(Relaxed),
            paths,
        }
    }

    /// Returns the first snapshot that satisfies `done`.
    pub(crate) async fn wait_for(&self, mut done: impl FnMut(&Counters) -> bool) -> Counters {
        loop {
            // Registered before looking, so that a change in between is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let counters = self.snapshot();
            if done(&counters) {
                return counters;
            }
            changed.await;
        }
    }
}

/// Locks, also after a panic elsewhere: everything behind these mutexes is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
