//! What happened, as data, and who is told.
//!
//! The library prints nothing (invariant I4): it tells an [`Observer`], and the shell draws bars, lines or JSON from
//! the same events. An event never carries a secret: addresses are [`SourceUrl`](crate::source_url::SourceUrl)s by
//! the time they become text here, which leaves their queries out.

use std::time::Duration;

use serde::Serialize;

use crate::model_path::ModelPath;

/// A file of the run: its position in [`Event::Planned`]'s list.
pub type FileIndex = usize;

/// What the plan says of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Planned {
    /// It is there and right.
    Present,
    /// Some of its bytes are there and proven.
    Resume,
    /// Nothing usable is there.
    Fetch,
    /// Its bytes are on this machine: in another file of the run, in the baked directory, in the cache.
    Copy,
    /// It becomes a symlink into the baked directory.
    Link,
}

/// One file in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// Its path below the destination.
    pub path: ModelPath,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes that need not be fetched.
    pub held: u64,
    /// What will be done.
    pub plan: Planned,
}

/// How a file came to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was there.
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
}

/// Something that happened. `file` is a [`FileIndex`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Another run holds the destination; this one waits for it.
    Waiting {
        /// The lock's path and what is known of its holder.
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
    /// What there is to do; comes once, before the first byte.
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
    /// A file's first request is about to be made, or its first after another source ended.
    Started {
        /// The file.
        file: FileIndex,
        /// The address, without its query.
        source: String,
    },
    /// Bytes were received and written.
    Received {
        /// The file.
        file: FileIndex,
        /// How many, since the last such event.
        bytes: u64,
    },
    /// A file's bytes are about to be taken from another file on this machine.
    Copying {
        /// The file.
        file: FileIndex,
        /// The other one's path.
        from: String,
        /// They stay there: the other one is proven, and a symlink leads to it.
        as_link: bool,
    },
    /// Bytes were copied from another file on this machine.
    Brought {
        /// The file.
        file: FileIndex,
        /// How many, since the last such event.
        bytes: u64,
    },
    /// Bytes that had been received are not used after all; they will be fetched again.
    Dropped {
        /// The file.
        file: FileIndex,
        /// How many.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// How many connections are open for a file. The run's number is the sum.
    Connections {
        /// The file.
        file: FileIndex,
        /// The number.
        count: usize,
    },
    /// Something went wrong that is tried again.
    Retry {
        /// The file.
        file: FileIndex,
        /// The address, without its query.
        source: String,
        /// What happened.
        reason: String,
        /// Failures in a row, without a byte gained.
        failures: u32,
        /// How many end the source.
        limit: u32,
        /// The wait before the next try.
        #[serde(serialize_with = "as_seconds")]
        wait: Duration,
    },
    /// A source is given up.
    SourceEnded {
        /// The file.
        file: FileIndex,
        /// The address, without its query.
        source: String,
        /// Why.
        reason: String,
        /// The next source, if there is one.
        next: Option<String>,
    },
    /// A file is right and durable under its final name.
    Finished {
        /// The file.
        file: FileIndex,
        /// How it came to be.
        outcome: Outcome,
        /// Bytes received for it in this run.
        fetched: u64,
        /// From its first request to its install.
        #[serde(serialize_with = "as_seconds")]
        elapsed: Duration,
    },
    /// A file is given up.
    Failed {
        /// The file.
        file: FileIndex,
        /// What happened and the way out.
        reason: String,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// What.
        message: String,
    },
    /// The marker is written: the set is complete.
    MarkerWritten {
        /// Its file name.
        name: String,
    },
    /// A valid marker says that there is nothing to do.
    MarkerValid {
        /// Its file name.
        name: String,
        /// How many files it vouches for.
        files: usize,
    },
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Who is told. Called from many threads; it must not block for long.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, event: &Event);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event) {}
}
