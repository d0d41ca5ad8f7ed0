//! The disk: part files, journals, installs and locks. No other crate names the file system of the destination.
//!
//! A [`Destination`] is a directory that is opened once. Everything below it is reached from that handle without
//! following a symlink (`confined`), other than the user's own to directories (`links`), and in the directories
//! elsewhere that the user names (`folders`). A [`PartFile`] collects a file's bytes beside its target, and its journal
//! lists the durable ones. Only a [`Verified`] part can be installed under the final name (I5).
//!
//! # Names on disk
//! For `vae/x.safetensors` with a digest that begins with `a70580f0`:
//!
//! | name | content |
//! |---|---|
//! | `vae/.x.safetensors.a70580f0.part` | the bytes so far; sparse where bytes are missing |
//! | `vae/.x.safetensors.a70580f0.journal` | the ranges that are on disk |
//! | `vae/x.safetensors` | the complete and verified file, or nothing |
//! | `.provision.lock` | the lock of a run that works here |
//! | `.provision.journal` | the files that an incomplete run has verified (written by the engine's `marker`) |
//! | `.provision.5d0c8c1f2a3b4c5d.lock` | the pinned text of a lock that was read from a URL |
//!
//! # The order of writes
//! 1. Data, `fdatasync` of the part, `durable` record in the journal (I3).
//! 2. Modification time, `fsync` of the part, rename, `fsync` of the directory (I1; `install`).
//! 3. Each file is looked up by its path again, then a marker may list it (I2; `durability`). A file that was found in
//!    place is synced before that.
//!
//! No handle is trusted after a failed `fsync`: Linux reports a lost page once.
//!
//! # The order of imports
//! An arrow leads from a file to the files that import it. No import leads back.
//!
//! ```text
//! error → file_stat, crc_ranges, confined, folders
//!   → directory → links, destination_lock/lease → destination (and folders), threads → source_file
//!   → part/names → part/options, part/resume, part/journal_file, part/piece_state → part/part_file → part/hasher
//!       → part/hash_from_disk → part/verified → install → local_install
//!       → part/copy → part/copy_pieces → part/orphans, local_install
//!       → part/orphans → part/leftovers
//!       → part/closed, part/unpinned
//! directory → destination_lock/network_fs
//! destination_lock/lease, destination_lock/network_fs, destination → destination_lock/flock → destination_lock/nested
//! destination, source_file → durability, layer_tree
//! ```

mod confined;
mod crc_ranges;
mod destination;
mod destination_lock;
mod directory;
mod durability;
mod error;
mod file_stat;
mod folders;
mod install;
mod layer_tree;
mod links;
mod local_install;
#[cfg(test)]
mod model_check;
mod part;
mod source_file;
#[cfg(test)]
mod testing;
mod threads;

pub use destination::{Destination, LinkedDirectory, OtherVolume, free_space_near, is_in_layer};
pub use destination_lock::{Acquire, DestinationLock, LockAttempt};
pub use directory::{Directory, Found, Usage};
pub use error::{DiskError, Lacking};
pub use file_stat::{ChangeTime, EARLIEST_MTIME, FileId, Installed, Stamp, installed_mtime};
pub use folders::{Folder, Folders};
pub use layer_tree::{Layer, lay_out, layer_of, layer_sizes};
pub use links::FollowLinks;
pub use local_install::{
    LinkedFile, install_copy, install_hard_link, install_pieces, install_symlink, is_linkable, verify_source,
};
pub use part::{
    Copied, CopyError, CopyMethod, HasherGuard, PartFile, PartLeftover, PartLeftovers, PartNames,
    PartOptions, PieceCopy, PieceEnd, ReadyPiece, SearchedDirectories, Verified, Written, WrongPiece,
    part_leftovers,
};
pub use source_file::{HashedRead, SourceFile};
pub use threads::processors;
