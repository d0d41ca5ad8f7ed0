//! The lease on a destination's lock file, for network volumes, where another machine can take the lock over.
//!
//! A suspended holder can wake up after its lease has expired, when another run works on the same parts. So the holder
//! checks that the lock file still has its name: before each heartbeat, and before a write if the last renewal is
//! older than [`LEASE_TIMEOUT`]. The clock includes the time in which the system was suspended.
//!
//! An expired lock file is removed before another one is created. So a name that no longer leads to the holder's file
//! means that the lease is lost. The check opens the file, since a volume may answer for a mere name from a cache.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

use crate::directory::Directory;
use crate::error::DiskError;
use crate::file_stat::FileId;

/// The name of the lock file.
pub(super) const NAME: &str = ".provision.lock";

/// The interval between two renewals of a lease.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// A lease expires when its file has not changed for this long. It allows for volumes that cache times for seconds.
pub(super) const LEASE_TIMEOUT: Duration = Duration::from_secs(12);

/// The holder's side of a lease.
#[derive(Debug)]
pub(crate) struct LockLease {
    file: Arc<File>,
    directory: Arc<Directory>,
    /// The time of the last check that found the name in place, in milliseconds since the system's start.
    renewed_at: AtomicU64,
    is_lost: AtomicBool,
}

impl LockLease {
    /// The lease of a lock that was just acquired.
    pub(super) fn new(file: Arc<File>, directory: Arc<Directory>) -> Self {
        Self { file, directory, renewed_at: AtomicU64::new(now()), is_lost: AtomicBool::new(false) }
    }

    /// True if this process still holds the lock. Renews the lease if it may have expired.
    pub(crate) fn is_held(&self) -> bool {
        if self.is_lost.load(Ordering::Acquire) {
            return false;
        }
        let age = now().saturating_sub(self.renewed_at.load(Ordering::Acquire));
        u128::from(age) < LEASE_TIMEOUT.as_millis() || self.renew()
    }

    /// Touches the lock file if it still has its name. Returns false if the lease is lost.
    fn renew(&self) -> bool {
        let began = now();
        // If the check fails, the next call repeats it.
        match is_named(&self.file, &self.directory) {
            Ok(true) => {
                // If the touch fails, the lease expires for others, and the next check reports it.
                let _ = touch(&self.file);
                self.renewed_at.store(began, Ordering::Release);
            }
            Ok(false) => self.is_lost.store(true, Ordering::Release),
            Err(_) => {}
        }
        !self.is_lost.load(Ordering::Acquire)
    }

    /// Acts as if the process had been suspended since the system's start.
    #[cfg(test)]
    pub(super) fn expire_for_test(&self) {
        self.renewed_at.store(0, Ordering::Release);
    }
}

/// A thread that renews the lease. Dropping it stops the thread.
#[derive(Debug)]
pub(super) struct Heartbeat {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Returns `None` if the thread cannot be started. The lease then expires for other machines.
    pub(super) fn start(lease: Arc<LockLease>) -> Option<Self> {
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

/// Milliseconds since the system's start, suspended time included.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Sets the file's times to now, by the volume's clock.
pub(super) fn touch(file: &File) -> Result<(), Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    retry_on_intr(|| rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now }))
}

/// Opens the lock file; with `CREATE | EXCL` creates it. Returns `None` if there is none to open, or one in the way.
pub(super) fn open(directory: &Directory, more: OFlags) -> Result<Option<File>, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    let mode = Mode::from_raw_mode(0o644);
    match retry_on_intr(|| rustix::fs::openat(directory.handle(), NAME, flags, mode)) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) if !more.contains(OFlags::CREATE) => Ok(None),
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the lock file that is there, also one of another user. Returns `None` if there is none. Removes anything but a
/// regular file: a run never makes such a lock.
pub(super) fn open_existing(directory: &Directory) -> Result<Option<File>, DiskError> {
    let path = directory.path().join(NAME);
    let failed = |error| DiskError::of("opening it", &path, error);
    let opened = match open(directory, OFlags::empty()) {
        // Enough to lock it. Only its creator writes it.
        Err(Errno::ACCESS) => return Ok(directory.open_file(NAME)?.map(|(file, _)| file)),
        Err(Errno::LOOP | Errno::NXIO) => None,
        opened => match opened.map_err(failed)? {
            Some(file) => Some(file),
            None => return Ok(None),
        },
    };
    let is_file = |file: &File| {
        let stat = rustix::fs::fstat(file);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    let file = opened.filter(is_file);
    if file.is_none() {
        directory.remove(NAME)?;
    }
    Ok(file)
}

/// Reads the lock file's text.
pub(super) fn text(file: &File) -> Result<String, Errno> {
    let mut text = [0; 200];
    let n = retry_on_intr(|| rustix::io::pread(file, &mut text, 0))?;
    Ok(String::from_utf8_lossy(&text[..n]).into_owned())
}

/// True if the lock's name leads to this file. A server may reuse the inode of a removed file: then the texts differ,
/// or the handle is stale.
pub(super) fn is_named(file: &File, directory: &Directory) -> Result<bool, Errno> {
    let Some(named) = open(directory, OFlags::empty())? else { return Ok(false) };
    let describe = |file: &File| Ok((FileId::of(&rustix::fs::fstat(file)?), text(file)?));
    let named = describe(&named)?;
    match describe(file) {
        Ok(held) => Ok(held == named),
        Err(Errno::STALE) => Ok(false),
        Err(error) => Err(error),
    }
}
