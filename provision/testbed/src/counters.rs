//! Counts of an origin's requests and bytes, for tests to assert on and to wait for.
//!
//! Every change wakes the waiters, so no test has to sleep. A request is in the log before it is counted, so a test
//! that waited for a count finds its request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::request::Recorded;

/// The number of requests that the log holds; it drops the oldest first.
pub const LOG_LIMIT: usize = 100_000;

/// A snapshot of an origin's counts since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted, including those above the limit.
    pub connections_accepted: u64,
    /// Connections above [`Shape::max_connections`](crate::Shape::max_connections).
    pub connections_refused: u64,
    /// Connections being served now.
    pub connections_open: u64,
    /// The most connections that were served at once.
    pub peak_open: u64,
    /// Requests read, with any answer.
    pub requests: u64,
    /// Body bytes handed to the kernel, without heads and chunk framing.
    pub body_bytes_sent: u64,
    /// Requests and body bytes by decoded path.
    pub paths: BTreeMap<String, PathCounters>,
}

/// The counts of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    /// Requests read.
    pub requests: u64,
    /// Body bytes handed to the kernel.
    pub body_bytes: u64,
}

impl Counters {
    /// The counts of a decoded path; zeros for a path that was never requested.
    pub fn path(&self, path: &str) -> PathCounters {
        self.paths.get(path).copied().unwrap_or_default()
    }
}

/// The live counters of an origin.
#[derive(Debug, Default)]
pub(crate) struct LiveCounters {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    log: VecDeque<Recorded>,
}

/// Counts one open connection until it is dropped.
pub(crate) struct OpenGuard(Arc<LiveCounters>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.change(|state| state.counters.connections_open -= 1);
    }
}

impl LiveCounters {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut lock(&self.state));
        self.changed.notify_waiters();
        value
    }

    /// Counts a new connection. Returns its number, from 0, and a guard unless `limit` connections are open.
    pub(crate) fn accept(self: &Arc<Self>, limit: Option<usize>) -> (u64, Option<OpenGuard>) {
        self.change(|State { counters, .. }| {
            counters.connections_accepted += 1;
            let is_over = limit.is_some_and(|limit| counters.connections_open >= limit as u64);
            if is_over {
                counters.connections_refused += 1;
            } else {
                counters.connections_open += 1;
                counters.peak_open = counters.peak_open.max(counters.connections_open);
            }
            (counters.connections_accepted - 1, (!is_over).then(|| OpenGuard(Arc::clone(self))))
        })
    }

    pub(crate) fn request(&self, recorded: Recorded) {
        self.change(|State { counters, log }| {
            counters.requests += 1;
            counters.paths.entry(recorded.path.clone()).or_default().requests += 1;
            if log.len() == LOG_LIMIT {
                log.pop_front();
            }
            log.push_back(recorded);
        });
    }

    /// Counts body bytes for the path of a request that was counted.
    pub(crate) fn body(&self, path: &str, bytes: u64) {
        self.change(|State { counters, .. }| {
            counters.body_bytes_sent += bytes;
            if let Some(path) = counters.paths.get_mut(path) {
                path.body_bytes += bytes;
            }
        });
    }

    /// The log, without the first `seen` requests since the origin started.
    pub(crate) fn log_since(&self, seen: u64) -> Vec<Recorded> {
        let state = lock(&self.state);
        let dropped = state.counters.requests - state.log.len() as u64;
        state.log.iter().skip(seen.saturating_sub(dropped) as usize).cloned().collect()
    }

    pub(crate) fn snapshot(&self) -> Counters {
        lock(&self.state).counters.clone()
    }

    /// Returns the first snapshot that satisfies `done`.
    pub(crate) async fn wait_for(&self, mut done: impl FnMut(&Counters) -> bool) -> Counters {
        loop {
            // Registered before the look, so that a change in between is not missed.
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

/// Locks a mutex even if a thread panicked while it held it: no statement leaves the data behind these mutexes broken.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
