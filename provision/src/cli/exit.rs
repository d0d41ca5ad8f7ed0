//! Exit codes, and the error that carries one to `main`.

use std::fmt;
use std::process::ExitCode;

use provision_core::lockfile::{JoinError, LockfileError};
use provision_disk::DiskError;
use provision_engine::fetch::FetchError;
use provision_engine::transfer::FileError;

/// The exit codes. Scripts may rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// An unexpected failure.
    Unexpected = 1,
    /// Invalid arguments.
    Usage = 2,
    /// `models.lock`, or a piece list that is to be shown, is invalid.
    Lock = 3,
    /// Every source failed.
    Network = 4,
    /// Every source had wrong bytes, or files on disk are wrong.
    Integrity = 5,
    /// A source needs a token or a permission.
    Refused = 6,
    /// The disk failed or is full.
    Disk = 7,
    /// Another run holds the destination.
    Busy = 8,
    /// `status`: not every file is installed.
    Incomplete = 9,
    /// SIGHUP.
    HungUp = 129,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// A failure that ends the program.
#[derive(Debug)]
pub struct Failure {
    /// Its exit code.
    pub code: Code,
    /// The message; empty if it was printed already.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// Prints the message and returns the exit code.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            super::say(format_args!("error: {}", self.message));
        }
        self.code.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<LockfileError> for Failure {
    fn from(error: LockfileError) -> Self {
        Self::new(Code::Lock, error)
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        Self::new(Code::Lock, error)
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::new(Code::Disk, error.reason())
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Disk(error) => error.into(),
            FetchError::Unwritable { .. } => Self::new(Code::Disk, error),
            FetchError::Busy { .. } => Self::new(Code::Busy, error),
            FetchError::Offline { .. } => Self::new(Code::Network, error),
            FetchError::CacheIsDestination { .. } => Self::new(Code::Usage, error),
            FetchError::Interrupted => Self::new(Code::Interrupted, error),
        }
    }
}

/// The code for failed files: integrity before refusal before disk before network.
pub fn code_of<'a>(failures: impl IntoIterator<Item = &'a FileError>) -> Code {
    let rank = |error: &FileError| match error {
        FileError { disk: None, .. } if error.is_integrity() => (3, Code::Integrity),
        FileError { disk: Some(DiskError::MistakenList { .. }), .. } => (3, Code::Integrity),
        FileError { disk: None, .. } if error.is_refusal() => (2, Code::Refused),
        FileError { disk: Some(_), .. } => (1, Code::Disk),
        // This process lacks descriptors, as when a file cannot be opened.
        FileError { .. } if error.is_out_of_descriptors() => (1, Code::Disk),
        FileError { .. } => (0, Code::Network),
    };
    failures.into_iter().map(rank).max_by_key(|(rank, _)| *rank).map_or(Code::Unexpected, |(_, code)| code)
}
