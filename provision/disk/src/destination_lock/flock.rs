//! Acquires, watches and releases the destination's lock. The protocol is in the header of `destination_lock.rs`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::lease::{self, HEARTBEAT_INTERVAL, Heartbeat, LEASE_TIMEOUT, LockLease, NAME, is_named};
use super::network_fs::{SCOPE, Volume};
use crate::destination::Destination;
use crate::directory::Directory;
use crate::error::DiskError;
use crate::file_stat::FileId;

/// The most that the time between two observations counts. The volume may have been unreachable in between.
const MAX_OBSERVED_GAP: Duration = Duration::from_secs(1);

/// The right to work in a destination. Dropping it releases the lock.
#[derive(Debug)]
pub struct DestinationLock {
    pub(super) file: Arc<File>,
    directory: Arc<Directory>,
    pub(super) exclusive: bool,
    heartbeat: Option<Heartbeat>,
}

/// The result of one attempt.
#[derive(Debug)]
pub enum Acquire<T = DestinationLock> {
    /// This run holds the lock, or all locks.
    Acquired(T),
    /// Another run holds it: the lock's path and its holder, for a message.
    Held(String),
}

/// Repeated attempts of one run. Remembers its observations of a holder on another machine.
#[derive(Debug, Default)]
pub struct LockAttempt {
    watch: Option<HolderWatch>,
}

/// Observations of a holder whose `flock` may be invisible here.
#[derive(Debug)]
struct HolderWatch {
    state: HolderState,
    observed_at: Instant,
    /// The observed time without a change.
    unchanged_for: Duration,
    /// True once the state has changed under observation: the holder was alive.
    has_changed: bool,
}

/// The visible state of a holder.
#[derive(Debug, PartialEq, Eq)]
struct HolderState {
    identity: FileId,
    mtime: (i64, u32),
    text: String,
}

impl LockAttempt {
    /// The pause between two attempts while a holder is watched.
    pub const POLL_INTERVAL: Duration = Duration::from_millis(200);

    /// Tries to acquire the lock, without waiting.
    pub fn try_acquire(&mut self, destination: &Destination) -> Result<Acquire, DiskError> {
        self.try_acquire_at(destination, &Volume::of(destination.root().handle()), Instant::now())
    }

    /// True while the lease of a holder on another machine may expire; that is decided in a few seconds. False once
    /// the holder has shown a sign of life. Allows one more heartbeat after the timeout: several watchers keep each
    /// other out while they look.
    pub fn is_watching(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| {
            !watch.has_changed && watch.unchanged_for < LEASE_TIMEOUT + HEARTBEAT_INTERVAL
        })
    }

    pub(super) fn try_acquire_at(
        &mut self,
        destination: &Destination,
        volume: &Volume,
        now: Instant,
    ) -> Result<Acquire, DiskError> {
        /// The number of times that the file may lose its name during one attempt.
        const TRIES: u32 = 20;
        let mut stale = None;
        for _ in 0..TRIES {
            match self.try_once(destination, volume, now) {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => {}
                // NFS reports a file that another machine has removed as stale.
                Err(error) if is_stale(&error) => stale = Some(error),
                Err(error) => return Err(error),
            }
        }
        let path = destination.root().path().join(NAME);
        stale.map_or_else(|| Ok(self.held_by(&path, "")), Err)
    }

    /// Returns `None` if the file lost its name meanwhile.
    fn try_once(
        &mut self,
        destination: &Destination,
        volume: &Volume,
        now: Instant,
    ) -> Result<Option<Acquire>, DiskError> {
        let directory = destination.root().clone();
        let path = directory.path().join(NAME);
        let unreadable = |error| DiskError::of("reading it", &path, error);
        // In containers many processes have the same small number; the host's name tells them apart.
        let holder = format!(
            "held by process {} on {}\n{SCOPE}{}\n",
            rustix::process::getpid().as_raw_nonzero(),
            rustix::system::uname().nodename().to_string_lossy(),
            volume.scope
        );
        let write_holder =
            |file: &File| file.write_all_at(holder.as_bytes(), 0).map_err(DiskError::at("writing it", &path));
        let failed = |error| DiskError::of("opening it", &path, error);
        // The server decides which run creates it.
        let (file, is_new) = match lease::open(&directory, OFlags::CREATE | OFlags::EXCL).map_err(failed)? {
            Some(file) => (file, true),
            None => match lease::open_existing(&directory)? {
                Some(file) => (file, false),
                None => return Ok(None),
            },
        };
        if is_new {
            // Before the `flock`: a watcher that has it for a moment must not take the empty file for a foreign
            // holder's.
            write_holder(&file)?;
        }
        match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // The holder, or another watcher for a moment.
                let text = lease::text(&file).map_err(unreadable)?;
                if volume.is_foreign(&text) {
                    self.observe(&file, text.clone(), now).map_err(unreadable)?;
                } else {
                    self.watch = None;
                }
                return Ok(Some(self.held_by(&path, &text)));
            }
            Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {
                self.watch = None;
                destination.set_lease(None);
                let file = Arc::new(file);
                let lock = DestinationLock { file, directory, exclusive: false, heartbeat: None };
                return Ok(Some(Acquire::Acquired(lock)));
            }
            Err(error) => return Err(DiskError::of("locking it", &path, error)),
        }
        if !is_named(&file, &directory).map_err(unreadable)? {
            return Ok(None);
        }
        let Some(second) = lease::open_existing(&directory)? else { return Ok(None) };
        let again = retry_on_intr(|| rustix::fs::flock(&second, FlockOperation::NonBlockingLockExclusive));
        let exclusive = again == Err(Errno::WOULDBLOCK);
        let text = lease::text(&file).map_err(unreadable)?;
        if exclusive && volume.is_foreign(&text) {
            let is_alive = self.observe(&file, text.clone(), now).map_err(unreadable)?;
            // An expired file is not reused: the run that creates the next one has the lock.
            if !is_alive && is_named(&file, &directory).map_err(unreadable)? {
                directory.remove(NAME)?;
            }
            // As in `DestinationLock::drop`: a child process must not keep it.
            let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
            return Ok(is_alive.then(|| self.held_by(&path, &text)));
        }
        self.watch = None;
        if exclusive && !is_new {
            // Left by a run that was killed, or planted: it may be another file's second name, or another user's. Only
            // a file that this run has created is written.
            directory.remove(NAME)?;
            let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
            return Ok(None);
        }
        let file = Arc::new(file);
        let lease = (exclusive && volume.spans_machines)
            .then(|| Arc::new(LockLease::new(file.clone(), directory.clone())));
        destination.set_lease(lease.clone());
        let heartbeat = lease.and_then(Heartbeat::start);
        Ok(Some(Acquire::Acquired(DestinationLock { file, directory, exclusive, heartbeat })))
    }

    /// Observes the holder. Returns false once its state has not changed for [`LEASE_TIMEOUT`]. The first observation
    /// always counts as a sign of life.
    fn observe(&mut self, file: &File, text: String, now: Instant) -> Result<bool, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let mtime = (stat.st_mtime, stat.st_mtime_nsec as u32);
        let state = HolderState { identity: FileId::of(&stat), mtime, text };
        let (unchanged_for, has_changed) = match self.watch.take() {
            Some(before) if before.state == state => {
                let gap = now.saturating_duration_since(before.observed_at).min(MAX_OBSERVED_GAP);
                (before.unchanged_for + gap, before.has_changed)
            }
            before => (Duration::ZERO, before.is_some()),
        };
        self.watch = Some(HolderWatch { state, observed_at: now, unchanged_for, has_changed });
        Ok(unchanged_for < LEASE_TIMEOUT)
    }

    /// The lock's path, and its holder as far as the file names it.
    fn held_by(&self, path: &Utf8Path, text: &str) -> Acquire {
        let doubt = if self.is_watching() {
            "; its lease may have expired, which is known in about twelve seconds"
        } else {
            ""
        };
        Acquire::Held(described(path, text, doubt))
    }
}

/// A lock's path, and its holder as far as its `text` names it.
pub(super) fn described(path: &Utf8Path, text: &str, doubt: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let holder: String = line.chars().filter(|c| !c.is_control()).collect();
    let holder = if holder.is_empty() { "held" } else { &holder };
    format!("{path} ({holder}{doubt})")
}

impl DestinationLock {
    /// Tries to acquire the lock. Does not wait for a holder, but waits some seconds while a lease on another machine
    /// may expire.
    pub fn try_acquire(destination: &Destination) -> Result<Acquire, DiskError> {
        let mut attempt = LockAttempt::default();
        loop {
            let result = attempt.try_acquire(destination)?;
            if matches!(result, Acquire::Acquired(_)) || !attempt.is_watching() {
                return Ok(result);
            }
            std::thread::park_timeout(LockAttempt::POLL_INTERVAL);
        }
    }

    /// True if the lock keeps other runs out. False on volumes where locks do nothing.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

impl Drop for DestinationLock {
    fn drop(&mut self) {
        self.heartbeat.take();
        // After a lost lease, the name leads to another run's lock. Where locks do nothing, no run goes by the file.
        if !self.exclusive || is_named(&self.file, &self.directory) == Ok(true) {
            // A file that stays is harmless: the next holder reuses it.
            let _ = self.directory.remove(NAME);
        }
        // As in `PartFile::drop`: a child process of another thread must not keep the lock.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn is_stale(error: &DiskError) -> bool {
    matches!(error, DiskError::Io { source, .. } if Errno::from_io_error(source) == Some(Errno::STALE))
}
