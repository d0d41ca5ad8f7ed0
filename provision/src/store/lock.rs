//! One run at a time works in a destination: `.provision.lock`, an exclusive `flock` held for life.
//!
//! The kernel drops the lock with its holder, however that dies, so there is nothing to clean up. The file says who
//! holds it, for the message of whoever waits. It is removed at the end while the lock is still held; whoever gets
//! the lock of a removed file notices (the name leads to another inode, or to none) and tries again.
//!
//! Some network volumes answer "locked" to everybody. That is found out by locking the file a second time through
//! another handle; then parts get names of their own for each process ([`Naming::Private`](super::Naming)).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{Destination, Directory, StoreError};

/// The lock's file name.
const NAME: &str = ".provision.lock";

/// The right to work in a destination. Dropping it gives it back.
#[derive(Debug)]
pub struct DestinationLock {
    file: File,
    directory: Arc<Directory>,
    exclusive: bool,
}

/// What an attempt to get the lock found.
#[derive(Debug)]
pub enum Acquire {
    /// It is ours.
    Acquired(DestinationLock),
    /// Somebody else has it: the lock's path and what it says of its holder.
    Held(String),
}

impl DestinationLock {
    /// Tries to get the lock, without waiting.
    pub fn try_acquire(destination: &Destination) -> Result<Acquire, StoreError> {
        let directory = destination.root().clone();
        let path = directory.path().join(NAME);
        loop {
            let file = open(&directory)?;
            match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let mut said = [0; 200];
                    let n = file.read_at(&mut said, 0).unwrap_or(0);
                    let said: String =
                        String::from_utf8_lossy(&said[..n]).chars().filter(|c| !c.is_control()).collect();
                    return Ok(Acquire::Held(format!(
                        "{path} ({})",
                        if said.is_empty() { "held" } else { &said }
                    )));
                }
                Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {
                    return Ok(Acquire::Acquired(Self { file, directory, exclusive: false }));
                }
                Err(error) => return Err(StoreError::of("locking it", &path, error)),
            }
            if !is_still_named(&file, &directory) {
                continue;
            }
            let second = open(&directory)?;
            let again =
                retry_on_intr(|| rustix::fs::flock(&second, FlockOperation::NonBlockingLockExclusive));
            let exclusive = again == Err(Errno::WOULDBLOCK);
            // In containers every process has the same small number: the host's name tells them apart.
            let host = rustix::system::uname();
            let process = rustix::process::getpid().as_raw_nonzero();
            let said = format!("held by process {process} on {}", host.nodename().to_string_lossy());
            let written = file.set_len(0).and_then(|()| file.write_all_at(said.as_bytes(), 0));
            written.map_err(StoreError::at("writing it", &path))?;
            return Ok(Acquire::Acquired(Self { file, directory, exclusive }));
        }
    }

    /// Whether the lock keeps others out. False on volumes where locking does nothing.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

impl Drop for DestinationLock {
    fn drop(&mut self) {
        // Failing to remove it is harmless: the next holder uses it again.
        let _ = self.directory.remove(NAME);
        // See `PartFile`: a process that another thread is just starting must not keep the lock.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn open(directory: &Directory) -> Result<File, StoreError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(directory.handle(), NAME, flags, Mode::from_raw_mode(0o644)))
        .map(File::from)
        .map_err(StoreError::at("opening it", &directory.path().join(NAME)))
}

fn is_still_named(file: &File, directory: &Directory) -> bool {
    let named = rustix::fs::statat(directory.handle(), NAME, AtFlags::SYMLINK_NOFOLLOW);
    let held = rustix::fs::fstat(file);
    matches!((named, held), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}
