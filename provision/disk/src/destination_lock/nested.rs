//! Runs whose destinations lie in each other: `models`, and `models/checkpoints`. Both write the same directories, so
//! they take turns as two runs in one destination do.
//!
//! A run takes its own lock first and then looks at the others' locks. So of two runs that start at the same time, at
//! least one sees the other. If a directory above is locked, the run gives its own lock back; if one below is, it keeps
//! its own and waits. So no two runs wait for each other: the run above goes first.
//!
//! Other directories' lock files are opened and tried: a run neither creates nor writes nor removes one. It sees no lock
//! above a mount that its container does not have. The part's own `flock` protects the files that both write then.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use camino::Utf8Path;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::retry_on_intr;

use super::flock::{DestinationLock, described};
use super::lease::{self, LEASE_TIMEOUT, NAME};
use super::network_fs::Volume;
use crate::confined;
use crate::destination::Destination;
use crate::file_stat::FileId;
use provision_core::model_path::directories_above;

impl DestinationLock {
    /// A run that holds a directory above the destination: its lock's path and its holder, for a message. `own` are
    /// other locks of this run.
    pub fn held_above(&self, destination: &Destination, own: &[&Self]) -> Option<String> {
        let own: Vec<_> = own.iter().filter_map(|lock| lock.identity()).collect();
        let root = self.exclusive.then(|| destination.root().path().canonicalize_utf8().ok())??;
        let owners = self.trusted_owners(destination);
        root.ancestors().skip(1).find_map(|above| {
            let is_trusted = |stat: &Stat| owners.contains(&stat.st_uid) && !own.contains(&FileId::of(stat));
            self.holder_of(CWD, &above.join(NAME), &above.join(NAME), is_trusted)
        })
    }

    /// A run that holds one of the directories below the destination where the files at `paths` lie, as for
    /// [`DestinationLock::held_above`]. Symlinks are not followed: their targets have locks of their own.
    pub fn held_below<'a>(
        &self,
        destination: &Destination,
        paths: impl IntoIterator<Item = &'a str>,
        own: &[&Self],
    ) -> Option<String> {
        if !self.exclusive {
            return None;
        }
        let own: Vec<_> = own.iter().filter_map(|lock| lock.identity()).collect();
        let directories: BTreeSet<&str> = paths.into_iter().flat_map(directories_above).collect();
        directories.into_iter().find_map(|path| {
            let directory =
                confined::open_directory(destination.mode(), destination.root().handle(), path).ok()?;
            let shown = destination.root().path().join(path).join(NAME);
            let is_other = |stat: &Stat| !own.contains(&FileId::of(stat));
            self.holder_of(&directory, Utf8Path::new(NAME), &shown, is_other)
        })
    }

    fn identity(&self) -> Option<FileId> {
        rustix::fs::fstat(&self.file).map(|stat| FileId::of(&stat)).ok()
    }

    /// The users whose lock above the destination counts: this one, as the system and as the volume number it, root,
    /// and the destination's owner. Every user can lock a file in a directory such as `/tmp`, and would stop every run
    /// below it.
    fn trusted_owners(&self, destination: &Destination) -> Vec<u32> {
        let shown = [&*self.file, destination.root().handle()].map(rustix::fs::fstat);
        let shown = shown.into_iter().flatten().map(|stat| stat.st_uid);
        shown.chain([rustix::process::geteuid().as_raw(), 0]).collect()
    }

    /// The holder of the lock file at `path`, if it is held and its owner is trusted; `shown` is its path for a
    /// message.
    fn holder_of(
        &self,
        at: impl AsFd,
        path: &Utf8Path,
        shown: &Utf8Path,
        is_trusted: impl Fn(&Stat) -> bool,
    ) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path: &Path = path.as_std_path();
        // A file that cannot be opened is another user's, who shares no directory with this one.
        let file = File::from(retry_on_intr(|| rustix::fs::openat(&at, path, flags, Mode::empty())).ok()?);
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !is_trusted(&stat) {
            return None;
        }
        let free = retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)).is_ok();
        let text = lease::text(&file).unwrap_or_default();
        let is_held = !free || self.is_renewed_elsewhere(&file, &stat, &text);
        if free {
            // As in `DestinationLock::drop`: a child process must not keep it.
            let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
        }
        is_held.then(|| described(shown, &text, ""))
    }

    /// True if a run on another machine has renewed its lease on `file` of late, by the clock of the volume.
    fn is_renewed_elsewhere(&self, file: &File, stat: &Stat, text: &str) -> bool {
        let own = rustix::fs::fstat(&self.file);
        let is_recent = own.is_ok_and(|own| {
            own.st_dev == stat.st_dev && own.st_mtime.abs_diff(stat.st_mtime) < LEASE_TIMEOUT.as_secs()
        });
        is_recent && Volume::of(file).is_foreign(text)
    }
}
