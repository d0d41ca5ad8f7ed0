//! Whether a destination's lock is still its holder's, on a volume where another machine may have taken that for dead.
//!
//! A holder that stood still (a machine that was suspended, a process that was stopped) and goes on does not know that it was
//! taken for dead, and whoever took over works on the same parts. So a holder looks whether its lock has its name before
//! each touch, and whoever writes looks too where the last look is older than [`LEASE_TIMEOUT`], by a clock that goes on in a
//! suspended machine. The lock of a dead holder is removed before another is made: a name that is not its own any more says
//! all. It is renewed_at for by opening it, since a volume may answer for a mere name from memory.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

use crate::{Directory, FileId};

/// The lock's file name.
pub(crate) const NAME: &str = ".provision.lock";

/// How often a holder shows that it lives.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// A holder of whom nothing was seen for so long is dead. Volumes show a change late: some cache times for seconds.
pub(crate) const LEASE_TIMEOUT: Duration = Duration::from_secs(12);

/// What a holder knows of its lock.
#[derive(Debug)]
pub(crate) struct LockLease {
    file: Arc<File>,
    directory: Arc<Directory>,
    /// When it was last found to be its holder's, in milliseconds since the system's start.
    renewed_at: AtomicU64,
    is_lost: AtomicBool,
}

impl LockLease {
    /// Of a lock that was just had.
    pub(crate) fn new(file: Arc<File>, directory: Arc<Directory>) -> Self {
        Self { file, directory, renewed_at: AtomicU64::new(now()), is_lost: AtomicBool::new(false) }
    }

    /// Whether nobody else can have taken the lock.
    pub(crate) fn is_held(&self) -> bool {
        if self.is_lost.load(Ordering::Acquire) {
            return false;
        }
        let silence = now().saturating_sub(self.renewed_at.load(Ordering::Acquire));
        u128::from(silence) < LEASE_TIMEOUT.as_millis() || self.renew()
    }

    /// Looks whether the lock is still its holder's, and touches it then.
    pub(crate) fn renew(&self) -> bool {
        let began = now();
        // What cannot be renewed_at at now is renewed_at at again.
        match is_named(&self.file, &self.directory) {
            Ok(true) => {
                // Where it fails, others think that this holder is dead, and the next look says so.
                let _ = touch(&self.file);
                self.renewed_at.store(began, Ordering::Release);
            }
            Ok(false) => self.is_lost.store(true, Ordering::Release),
            Err(_) => {}
        }
        !self.is_lost.load(Ordering::Acquire)
    }

    /// As if nothing of its process had run for long.
    #[cfg(test)]
    pub(crate) fn expire_for_test(&self) {
        self.renewed_at.store(0, Ordering::Release);
    }
}

/// What a holder does to be seen.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// `None` where no thread can be had: then nobody sees that this holder lives, as if the volume had no such lock.
    pub(crate) fn of(lease: Arc<LockLease>) -> Option<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let beat = move || {
            while stopped.recv_timeout(HEARTBEAT_INTERVAL) == Err(RecvTimeoutError::Timeout) && lease.renew()
            {
            }
        };
        let thread = std::thread::Builder::new().name("lock-heartbeat".to_owned()).spawn(beat).ok()?;
        Some(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Milliseconds since the system's start, those in which it was suspended too.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// By the volume's clock.
pub(crate) fn touch(file: &File) -> Result<(), Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    retry_on_intr(|| rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now }))
}

/// Opens the lock's file; with `EXCL` makes it. `None` where there is none, or one already.
pub(crate) fn open(directory: &Directory, more: OFlags) -> Result<Option<File>, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    let mode = Mode::from_raw_mode(0o644);
    match retry_on_intr(|| rustix::fs::openat(directory.handle(), NAME, flags, mode)) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) if !more.contains(OFlags::CREATE) => Ok(None),
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What stands in the lock's file.
pub(crate) fn text(file: &File) -> Result<String, Errno> {
    let mut said = [0; 200];
    let n = retry_on_intr(|| rustix::io::pread(file, &mut said, 0))?;
    Ok(String::from_utf8_lossy(&said[..n]).into_owned())
}

/// Whether the lock's name leads to this file. A server may give a new file the number of one that was removed: they differ
/// in what stands in them, or the old one is stale.
pub(crate) fn is_named(file: &File, directory: &Directory) -> Result<bool, Errno> {
    let Some(named) = open(directory, OFlags::empty())? else { return Ok(false) };
    let look = |file: &File| Ok((FileId::of(&rustix::fs::fstat(file)?), text(file)?));
    let there = look(&named)?;
    match look(file) {
        Ok(held) => Ok(held == there),
        Err(Errno::STALE) => Ok(false),
        Err(error) => Err(error),
    }
}
