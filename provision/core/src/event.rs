//! Events of a run, and the observer that receives them.
//!
//! The library crates print nothing (invariant I4): they call an [`Observer`], and the program draws bars, lines or
//! JSON from the same events. An event never carries a secret: URLs become text through
//! [`SourceUrl`](crate::source_url::SourceUrl), which leaves their queries out.

use std::time::Duration;

use serde::Serialize;

use crate::model_path::ModelPath;

/// A file of the run: its position in [`Event::Planned`]'s list.
pub type FileIndex = usize;

/// The plan's decision for one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Planned {
    /// The file is installed and valid.
    Present,
    /// Some of its bytes are held and verified.
    Resume,
    /// No usable byte is held.
    Fetch,
    /// Its bytes are on this machine: in another file of the run, in the baked directory, in the cache, in another
    /// program's store.
    Copy,
    /// It becomes a symlink into the baked directory, or a hard link to a file of another program's store.
    Link,
}

/// One file in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// Its path below the destination.
    pub path: ModelPath,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes that are held and need not be fetched.
    pub held: u64,
    /// Bytes of the rest that other files of this machine should have, by their piece lists.
    #[serde(skip_serializing_if = "is_zero")]
    pub here: u64,
    /// The decision.
    pub plan: Planned,
}

/// The way in which a file became valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was installed already.
    Present,
    /// It was fetched.
    Fetched,
    /// It was copied from a file of the run with the same digest.
    Copied,
    /// It was copied from the baked directory.
    Baked,
    /// It is a symlink into the baked directory.
    Linked,
    /// It came from the cache.
    Cached,
    /// It came from another program's store.
    Reused,
    /// It was sent to a store.
    Pushed,
}

/// The bytes that a source gave in this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceBytes {
    /// Its address, without its query.
    pub source: String,
    /// Their number.
    pub fetched: u64,
}

/// Something that happened in a run. `file` is a [`FileIndex`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Another run holds the destination; this one waits for it.
    Waiting {
        /// The lock's path and the known facts about its holder.
        holder: String,
    },
    /// The wait is over.
    Acquired,
    /// The destination is open, and this run works in it.
    Opened {
        /// The directory.
        destination: String,
        /// Bytes free there, for this user.
        free: u64,
    },
    /// Bytes on disk are being read and hashed, before the plan is known.
    Checking {
        /// The file's path.
        path: ModelPath,
        /// Its length in bytes.
        size: u64,
    },
    /// The plan; sent once, before the first byte.
    Planned {
        /// Every file of the run.
        files: Vec<PlannedFile>,
        /// Bytes to fetch.
        to_fetch: u64,
        /// Bytes that the plan needs on the disk.
        needed: u64,
        /// Bytes free there, for this user.
        free: u64,
    },
    /// The first request for a file, or the first after another source ended.
    Started {
        /// The file.
        file: FileIndex,
        /// The address that is asked, without its query.
        source: String,
    },
    /// Bytes were received and written; in a push, bytes were sent.
    Received {
        /// The file.
        file: FileIndex,
        /// Their number, since the last such event.
        bytes: u64,
    },
    /// A file's bytes are about to be taken from another file on this machine.
    Copying {
        /// The file.
        file: FileIndex,
        /// The other one's path.
        from: String,
        /// The bytes stay there: the other file is verified, and a link leads to it.
        as_link: bool,
    },
    /// Pieces of a file are about to be copied from other files on this machine.
    Reusing {
        /// The file.
        file: FileIndex,
        /// The path of the other file that should have the most bytes of it.
        from: String,
        /// The number of other files.
        files: usize,
    },
    /// Bytes were copied from another file on this machine.
    Brought {
        /// The file.
        file: FileIndex,
        /// Their number, since the last such event.
        bytes: u64,
    },
    /// Bytes that had been received are not used after all; they will be fetched again.
    Dropped {
        /// The file.
        file: FileIndex,
        /// Their number.
        bytes: u64,
        /// The cause.
        reason: String,
    },
    /// The number of connections open for a file. The run's number is the sum over its files.
    Connections {
        /// The file.
        file: FileIndex,
        /// The number.
        count: usize,
    },
    /// A request failed and is tried again.
    Retry {
        /// The file.
        file: FileIndex,
        /// The files that the failure counts for: more than one if the host does not answer.
        files: usize,
        /// The address that is asked, without its query.
        source: String,
        /// The failure.
        reason: String,
        /// Failures in a row, without a byte gained.
        failures: u32,
        /// The number of failures that ends the source.
        limit: u32,
        /// The wait before the next try.
        #[serde(serialize_with = "as_seconds")]
        wait: Duration,
        /// The time before which the source is not given up.
        #[serde(serialize_with = "as_seconds")]
        left: Duration,
    },
    /// A file leaves a source.
    SourceEnded {
        /// The file.
        file: FileIndex,
        /// The files that leave it: more than one if the host does not answer.
        files: usize,
        /// The failure may pass: the source is asked again if the next one fails.
        for_now: bool,
        /// A store does not have the file, which is no failure.
        is_miss: bool,
        /// The address that is asked, without its query.
        source: String,
        /// The cause.
        reason: String,
        /// The next source, if there is one.
        next: Option<String>,
    },
    /// A file is right and durable under its final name.
    Finished {
        /// The file.
        file: FileIndex,
        /// The way in which it became valid.
        outcome: Outcome,
        /// Bytes received for it in this run; in a push, bytes sent.
        fetched: u64,
        /// From its first request to its install.
        #[serde(serialize_with = "as_seconds")]
        elapsed: Duration,
        /// The bytes of each source, if several or a store gave some.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sources: Vec<SourceBytes>,
    },
    /// A file is given up.
    Failed {
        /// The file.
        file: FileIndex,
        /// The failure and the way out.
        reason: String,
    },
    /// A message to the user that stops nothing.
    Warning {
        /// The message.
        message: String,
    },
    /// The marker is written: the set is complete.
    MarkerWritten {
        /// Its file name.
        name: String,
    },
    /// A valid marker: there is nothing to do.
    MarkerValid {
        /// Its file name.
        name: String,
        /// The number of files that it lists.
        files: usize,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Receives the events of a run. Called from many threads; it must not block for long.
pub trait Observer: Send + Sync {
    /// Receives an event.
    fn observe(&self, event: &Event);
}

/// An observer that ignores every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event) {}
}
