//! Part files: a model's bytes while they arrive, with a journal of the bytes on disk.
//!
//! Connections write in parallel: each write is a `pwrite` at its own place, without a lock and without a seek. A short
//! lock guards the bookkeeping only: which bytes are written, which of them the journal lacks, and the running digest.
//!
//! # Ownership
//! A part has an exclusive `flock` until its handle is closed. The lock counts only while the file still has its name:
//! a process that wakes up after another one has installed the part holds a lock on an unnamed file, and notices. The
//! part's own inode becomes the installed file, so no thread may write to it any more:
//! - other processes cannot: they lack the lock, or their parts have other names ([`PartNames`]);
//! - threads of this process cannot: a verified part is sealed.
//!
//! On network volumes another machine can take over the destination's lock, so each change of a part or journal first
//! checks the lease.
//!
//! # A failed sync
//! The kernel reports lost pages once and may treat them as clean afterwards. So a part is given up when its sync
//! fails: the journal is removed, then the part, and every later operation returns the same error.
//!
//! # Files
//! `part_file` is the part itself, `resume` opens it again, `closed` estimates and removes one, `journal_file` writes
//! its journal, `hasher` follows with the digest, and `verified` ends it. `copy` fills it from this machine, `orphans`
//! from parts of other processes. `unpinned` is a part of unknown digest. `leftovers` finds parts whose runs have
//! ended. The header of `lib.rs` has the order of their imports.

mod closed;
mod copy;
mod copy_pieces;
mod hash_from_disk;
mod hasher;
mod journal_file;
mod leftovers;
mod names;
mod options;
mod orphans;
mod part_file;
mod piece_state;
mod resume;
mod running_digest;
#[cfg(test)]
mod tests;
mod unpinned;
mod verified;

pub use copy::{CopyError, CopyMethod};
pub use copy_pieces::{Copied, PieceCopy};
pub use hasher::HasherGuard;
pub use leftovers::{PartLeftover, PartLeftovers, SearchedDirectories, part_leftovers};
pub(crate) use names::FileNames;
pub use names::PartNames;
pub use options::PartOptions;
pub use part_file::{PartFile, Written};
pub use piece_state::{PieceEnd, ReadyPiece, WrongPiece};
pub use verified::Verified;
