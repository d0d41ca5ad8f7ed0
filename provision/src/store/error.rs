//! What a disk can refuse, and what to do about it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::io::Errno;

/// A failure of the disk or of what was found on it. Every message names the path and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space, no quota, or a file larger than allowed.
    #[error(
        "{path}: no room left while {doing} ({free} bytes are free); free some space or choose another --dest, then run \
         again (it resumes)"
    )]
    Full {
        /// The file.
        path: Utf8PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Bytes free in its directory, as far as that can be told.
        free: u64,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The plan needs more than there is.
    #[error(
        "{path}: {needed} bytes are needed and {free} are free; free {} more or choose another {option}",
        needed - free
    )]
    NotEnoughSpace {
        /// The directory.
        path: Utf8PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// The option that names the directory.
        option: &'static str,
    },
    /// A read-only file system.
    #[error("{path}: the file system is read-only; mount it writable or choose another --dest")]
    ReadOnly {
        /// The file.
        path: Utf8PathBuf,
    },
    /// No permission.
    #[error(
        "{path}: no permission while {doing}; check the owner and mode, or run as a user who may write here"
    )]
    Denied {
        /// The file.
        path: Utf8PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// Something else than a regular file where a file belongs.
    #[error("{path} is {what}, not a regular file; nothing was changed: move it away and run again")]
    NotAFile {
        /// The path.
        path: Utf8PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Something else than a directory where a directory belongs.
    #[error(
        "{path} is {what}, not a directory; nothing was changed: move it away and run again (only the destination \
         itself may be a symlink)"
    )]
    NotADirectory {
        /// The path.
        path: Utf8PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The run was told to stop while a file was being read.
    #[error("{path}: interrupted while reading it")]
    Interrupted {
        /// The file.
        path: Utf8PathBuf,
    },
    /// A file that was there a moment ago.
    #[error("{path} is gone; something else works in this directory: run again")]
    Missing {
        /// The path.
        path: Utf8PathBuf,
    },
    /// Another process has the part file.
    #[error("{path} is being written by another process; wait for it, or stop it")]
    PartBusy {
        /// The part file.
        path: Utf8PathBuf,
    },
    /// A part file that is no longer the one that was written.
    #[error(
        "{path} was replaced while it was being written; something else works in this directory: run again"
    )]
    PartReplaced {
        /// The part file.
        path: Utf8PathBuf,
    },
    /// A rename across file systems.
    #[error("{path} lies on another file system than its directory, so it cannot be replaced in one step")]
    CrossDevice {
        /// The path.
        path: Utf8PathBuf,
    },
    /// Too many open files.
    #[error("{path}: no file descriptor left; raise `ulimit -n` or lower --connections")]
    TooManyFiles {
        /// The path.
        path: Utf8PathBuf,
    },
    /// The bytes that were read do not have the digest that they should.
    #[error("{path} has SHA-256 {found}, expected {expected}")]
    Mismatch {
        /// The file.
        path: Utf8PathBuf,
        /// The digest that the lock names.
        expected: crate::digest::Sha256,
        /// The digest of what is there.
        found: crate::digest::Sha256,
    },
    /// A copy of bytes that had been proven.
    #[error(
        "{path}: what was copied there reads back as something else; its disk or the machine's memory may be failing"
    )]
    CopyDiffers {
        /// The copy.
        path: Utf8PathBuf,
    },
    /// Anything else.
    #[error("{path}: {doing} failed")]
    Io {
        /// The file.
        path: Utf8PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// What happened, with the system's word on it.
    pub fn reason(&self) -> String {
        let mut reason = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        reason
    }

    /// The error for a system call on `path` that failed while `doing`.
    pub(super) fn of(doing: &'static str, path: &Utf8Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                let free = super::destination::free_space_of(&path);
                Self::Full { path, doing, free, source }
            }
            Some(Errno::ROFS) => Self::ReadOnly { path },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { path, doing, source },
            Some(Errno::XDEV) => Self::CrossDevice { path },
            Some(Errno::MFILE | Errno::NFILE) => Self::TooManyFiles { path },
            _ => Self::Io { path, doing, source },
        }
    }

    /// For `map_err`.
    pub(super) fn at<E: Into<io::Error>>(doing: &'static str, path: &Utf8Path) -> impl FnOnce(E) -> Self {
        move |source| Self::of(doing, path, source)
    }
}
