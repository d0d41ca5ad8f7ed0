//! The destination's lock: one run at a time works in a destination.
//!
//! # One machine
//! A run holds an exclusive `flock` on `.provision.lock` until it ends. The kernel releases it however the holder dies,
//! so there is nothing to clean up. The file names its holder, for the message of a run that waits. The holder removes
//! it at the end, while it still has the lock. A run that locks a removed file notices that the name leads elsewhere,
//! and retries. A file that a killed run has left is locked and removed, and the run creates its own: only its creator
//! writes a lock file, so a planted one changes nothing.
//!
//! Some network volumes grant every lock. The holder finds that out by locking the file a second time through another
//! handle; then each process names its parts itself ([`PartNames::PerProcess`](crate::PartNames::PerProcess)).
//!
//! # Several machines
//! On a network volume, `flock` may hold within one machine only (NFS with `local_lock`, FUSE without locks of its
//! own), and no machine can find that out alone. Two runs that share a part would install bytes that were not
//! verified. So on [network file systems](network_fs) the lock file is a second lock, a lease:
//!
//! - A run creates the file exclusively (`O_EXCL`; the server decides) and renews it by a touch every two seconds.
//! - The file names the scope of the holder's `flock`: this mount, and this boot of this system.
//! - A run that gets the `flock` of a file from another scope watches the file's times. A change is a sign of life.
//!   After twelve seconds without one the lease has expired, and the watcher removes the file.
//!
//! Only observed time counts: no lease expires while the server does not answer. The cost is twelve seconds after a run
//! was killed on another machine. A holder that was suspended for longer finds out before its next write ([`lease`]).
//!
//! # Limits
//! - Two machines that remove an expired file within the same few milliseconds both hold the lock. At its next
//!   heartbeat, the one whose file was removed notices.
//! - Where a touch has no effect, or is visible only after twelve seconds (object stores through FUSE), a living
//!   holder's lease expires.
//!
//! Decision 11 in `docs/decisions.md` has the rejected alternative.

mod flock;
pub(crate) mod lease;
mod nested;
mod network_fs;
#[cfg(test)]
mod tests;

pub use flock::{Acquire, DestinationLock, LockAttempt};
