//! The disk: the only place that names the file system.
//!
//! A [`Destination`] is a directory that is opened once; everything below it is reached from that handle without
//! following a symlink (`confined`), so that no name in it can lead out. A [`PartFile`] collects a
//! file's bytes beside its target, a journal remembers which of them are durable, and only a
//! [`Verified`] part can be installed under the final name.
//!
//! # Names on disk
//! For `vae/x.safetensors` with a digest that begins with `a70580f0`:
//!
//! | name | what |
//! |---|---|
//! | `vae/.x.safetensors.a70580f0.part` | the bytes so far; sparse where none have come |
//! | `vae/.x.safetensors.a70580f0.journal` | which of them are durable |
//! | `vae/x.safetensors` | the file, whole and right, or absent |
//! | `.provision.lock` | held while a run works here |
//! | `.provision.journal` | what an incomplete run has proven (the engine's `marker` writes it) |
//! | `.provision.5d0c8c1f2a3b4c5d.lock` | the text of a lock that lies at an address, as it was pinned |
//!
//! # The order of writes
//! Data, `fdatasync(part)`, then the journal record (I3). Mode and mtime, `fsync(part)`, rename, `fsync(directory)`,
//! and only then may a marker be written (I1, I2): after each file that it lists was looked for once more by its path
//! (`durability`). A file that was only found is synced before. Nothing here trusts a handle after an `fsync` failed on it:
//! Linux reports a lost page once.

mod confined;
mod crc_ranges;
mod destination;
mod directory;
mod durability;
mod error;
mod install;
mod layer_tree;
mod link;
mod lock;
#[cfg(test)]
mod model_check;
mod part;
mod source_file;

pub use destination::Destination;
pub use destination::free_space_near;
pub use directory::{ChangeTime, Directory, FileId, Found, Stamp, Usage};
pub use error::{Lacking, StoreError};
pub use install::{Installed, Verified};
pub use layer_tree::{Layer, lay_out, layer_of};
pub use link::{install_hard_link, install_symlink};
pub use lock::{Acquire, DestinationLock, LockAttempt};
pub use part::{CopyError, CopyMethod, HasherGuard, PartFile, PartNames, Written, install_copy};
pub use source_file::{HashedRead, SourceFile};

/// The mtime of every installed file: 2000-01-01T00:00:00Z, in seconds since 1970. The same bytes make the same
/// image layer only if their metadata is the same too.
pub const INSTALLED_MTIME: i64 = 946_684_800;

/// How much is read or written at once where a whole file passes through, in bytes.
const BLOCK: usize = 1 << 20;
