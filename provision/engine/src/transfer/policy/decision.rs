//! The decisions of the policy, as the coordinator carries them out.

use std::time::Duration;

use crate::transfer::file_error::FileError;
use provision_core::source_url::SourceUrl;
use provision_disk::DiskError;

/// The next step after a claim has ended.
#[derive(Debug)]
pub(in crate::transfer) enum Decision {
    /// Continue.
    GoOn,
    /// Forget the resolved source, and continue.
    Resolve,
    /// Wait before the file's next claim. `left` is the time before which the source does not end; `is_news` is false
    /// if the failure belongs to one that was reported.
    Wait { wait: Duration, throttled: bool, reason: String, failures: u32, left: Duration, is_news: bool },
    /// Revoke every claim, wait for them, and then take this step.
    Drain(Step),
}

impl Decision {
    /// The wait that the host asks for, from all requests.
    pub(in crate::transfer) fn pause_of_host(&self) -> Option<Duration> {
        match self {
            Self::Wait { wait, throttled: true, .. } => Some(*wait),
            Self::Drain(Step::NextSource(moved)) => moved.throttled,
            _ => None,
        }
    }
}

/// A step that needs all claims to have ended.
#[derive(Debug)]
pub(in crate::transfer) enum Step {
    /// Continue with the missing bytes, under the current policy.
    Restart,
    /// Drop every byte, then continue.
    StartOver { reason: String },
    /// The policy has moved on to another source.
    NextSource(Box<Move>),
    /// Give the file up.
    Fail(Box<FileError>),
    /// Give the file up, because of the disk.
    FailOnDisk(DiskError),
}

/// A move to another source.
#[derive(Debug)]
pub(in crate::transfer) struct Move {
    /// The failure of the source that is left.
    pub(in crate::transfer) reason: String,
    /// The source that is left.
    pub(in crate::transfer) from: SourceUrl,
    /// It may be asked again later.
    pub(in crate::transfer) for_now: bool,
    /// It is a store without the file.
    pub(in crate::transfer) is_miss: bool,
    /// The host that is left asks for this wait, from all requests.
    pub(in crate::transfer) throttled: Option<Duration>,
    /// Drop every byte.
    pub(in crate::transfer) start_over: bool,
    /// The wait before the other source's first claim.
    pub(in crate::transfer) wait: Duration,
    /// The files that leave the source together; 0 if another file's move has been reported for this one.
    pub(in crate::transfer) files: usize,
}

impl From<Move> for Decision {
    fn from(moved: Move) -> Self {
        Self::Drain(Step::NextSource(Box::new(moved)))
    }
}
