//! What a disk can refuse, and what to do about it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::io::Errno;

/// A failure of the disk or of what was found on it. Every message names the path and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room for more bytes: on the file system, or in what its user may have of it.
    #[error(
        "{path}: {} while {doing}{}; {} or choose another --dest, then run again (it resumes)",
        lacking.what(),
        more(*needed),
        lacking.way_out(*free)
    )]
    Full {
        /// The file.
        path: Utf8PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What there is no more of.
        lacking: Lacking,
        /// Bytes that the file still needs, where that is known.
        needed: Option<u64>,
        /// Bytes free in its directory, quota or not, as far as that can be told.
        free: u64,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// No room for one more name, whatever is free.
    #[error(
        "{path}: no room left while {doing}: the file system has no inode for one more file; remove some files or choose \
         another --dest, then run again (it resumes)"
    )]
    NoInodes {
        /// The file.
        path: Utf8PathBuf,
        /// What was being done.
        doing: &'static str,
    },
    /// A file larger than allowed.
    #[error(
        "{path}: the file is larger than files may be here{}; raise `ulimit -f`, or choose another --dest if its file \
         system has such a limit (FAT32: 4 GiB), then run again (it resumes)",
        more(*needed)
    )]
    TooLarge {
        /// The file.
        path: Utf8PathBuf,
        /// Bytes that the file still needs, where that is known.
        needed: Option<u64>,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A volume that lacks what whole files are made with.
    #[error(
        "{path}: the volume at {volume} refuses {doing}; it has no atomic rename, random writes or syncing, as object \
         stores that look like directories have not: choose a --dest on another volume"
    )]
    Unsuitable {
        /// The file.
        path: Utf8PathBuf,
        /// Where the volume is mounted, as far as that can be told.
        volume: Utf8PathBuf,
        /// What was being done.
        doing: &'static str,
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
    /// The destination's lock is another's by now.
    #[error(
        "{path}: this run stood still for so long that another took it for dead and works here now; nothing more was \
         written: let that one end, then run again"
    )]
    TakenOver {
        /// The part file.
        path: Utf8PathBuf,
    },
    /// A rename across file systems. Never made up for by a copy: a name would be there before its bytes are.
    #[error(
        "{from} cannot become {to}: that is on another file system or mount, and a file gets its name in one step or not \
         at all; choose another --dest, or unmount what is mounted there"
    )]
    CrossDevice {
        /// What was to be renamed.
        from: Utf8PathBuf,
        /// What it was to be called.
        to: Utf8PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A name that a power cut may undo.
    #[error(
        "{path} got its name, but its directory could not be synced, so a power cut might undo that; {}; check the disk, \
         then run again",
        if *replaced { "the older file of that name is replaced, and this one is whole" } else { "the name was taken back" }
    )]
    NotDurable {
        /// The file.
        path: Utf8PathBuf,
        /// It took the place of an older file.
        replaced: bool,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A file that is not where this run put it or found it.
    #[error(
        "{path} is not where it was a moment ago: it, or a directory above it, was moved or replaced while this ran; no \
         marker is written: let nothing else work in this directory and run again"
    )]
    Moved {
        /// The path.
        path: Utf8PathBuf,
    },
    /// Bytes were to be written into a part that has been proven.
    #[error("{path} was proven and cannot be written any more; this should not happen: run again")]
    Sealed {
        /// The part file.
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
        expected: provision_core::digest::Sha256,
        /// The digest of what is there.
        found: provision_core::digest::Sha256,
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
    #[error("{path}: {doing} failed; check the disk and its volume, then run again (it resumes)")]
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

/// What there is no more of where bytes do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// Space on the file system.
    Space,
    /// What the user may have of it.
    Quota,
}

impl Lacking {
    fn what(self) -> &'static str {
        match self {
            Self::Space => "no room left",
            Self::Quota => "the disk quota is used up",
        }
    }

    fn way_out(self, free: u64) -> String {
        match self {
            Self::Space => format!("{free} bytes are free: free some space"),
            Self::Quota => format!(
                "the file system itself has {free} bytes free: remove some of your files, have the quota raised,"
            ),
        }
    }
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
            Some(Errno::NOSPC) if has_no_inodes(&path) => Self::NoInodes { path, doing },
            Some(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                let lacking = if errno == Errno::DQUOT { Lacking::Quota } else { Lacking::Space };
                let free = free_space_of(&path);
                Self::Full { path, doing, lacking, needed: None, free, source }
            }
            Some(Errno::FBIG) => Self::TooLarge { path, needed: None, source },
            Some(Errno::ROFS) => Self::ReadOnly { path },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { path, doing, source },
            Some(Errno::MFILE | Errno::NFILE) => Self::TooManyFiles { path },
            _ => Self::Io { path, doing, source },
        }
    }

    /// As [`StoreError::of`], for what any volume that is fit for files can do on an open file: a refusal is the
    /// volume's own.
    pub(super) fn of_volume(doing: &'static str, path: &Utf8Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match Errno::from_io_error(&source) {
            Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE | Errno::PERM) => {
                let volume = volume_of(path);
                Self::Unsuitable { path: path.to_owned(), volume, doing, source }
            }
            _ => Self::of(doing, path, source),
        }
    }

    /// The error for a rename that failed.
    pub(super) fn of_rename(doing: &'static str, from: &Utf8Path, to: &Utf8Path, source: Errno) -> Self {
        match source {
            Errno::XDEV => {
                Self::CrossDevice { from: from.to_owned(), to: to.to_owned(), source: source.into() }
            }
            // Somebody else's file, where only its owner may replace it (the sticky bit).
            Errno::PERM if is_sticky(to) => Self::of(doing, to, source),
            _ => Self::of_volume(doing, to, source),
        }
    }

    /// Says how many bytes more the file needs, where room is what is lacking.
    pub(super) fn needing(mut self, bytes: u64) -> Self {
        if let Self::Full { needed, .. } | Self::TooLarge { needed, .. } = &mut self {
            *needed = Some(bytes);
        }
        self
    }

    /// For `map_err`.
    pub(super) fn at<E: Into<io::Error>>(doing: &'static str, path: &Utf8Path) -> impl FnOnce(E) -> Self {
        move |source| Self::of(doing, path, source)
    }
}

/// How much more a file needs, in words.
fn more(needed: Option<u64>) -> String {
    needed.map_or_else(String::new, |needed| format!(" (it needs {needed} bytes more)"))
}

/// The directory that `path` lies in, for what is only said in a message.
fn directory_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

/// Bytes free where `path` lies: 0 where that cannot be told.
fn free_space_of(path: &Utf8Path) -> u64 {
    let stat = rustix::fs::statvfs(directory_of(path).as_std_path());
    stat.map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether it is inodes that are lacking. File systems without a number of them say 0 of 0.
fn has_no_inodes(path: &Utf8Path) -> bool {
    let stat = rustix::fs::statvfs(directory_of(path).as_std_path());
    stat.is_ok_and(|stat| stat.f_files > 0 && stat.f_favail == 0)
}

fn is_sticky(path: &Utf8Path) -> bool {
    let stat = rustix::fs::stat(directory_of(path).as_std_path());
    stat.is_ok_and(|stat| stat.st_mode & 0o1000 != 0)
}

/// Where the volume that `path` lies on is mounted: the last directory upwards that is on the same device.
fn volume_of(path: &Utf8Path) -> Utf8PathBuf {
    let directory = if path.is_dir() { path } else { directory_of(path) };
    let directory = directory.canonicalize_utf8().unwrap_or_else(|_| directory.to_owned());
    let device = |path: &Utf8Path| rustix::fs::stat(path.as_std_path()).map(|stat| stat.st_dev).ok();
    let own = device(&directory);
    let above = directory.ancestors().take_while(|above| own.is_some() && device(above) == own);
    above.last().unwrap_or(&directory).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_69_no_room_no_quota_and_too_large_are_three_messages_with_their_numbers() {
        let path = Utf8Path::new("/dev/shm/x");
        let text = |errno: Errno| StoreError::of("writing it", path, errno).needing(1234).to_string();
        let free = free_space_of(path).to_string();
        for (errno, word) in
            [(Errno::NOSPC, "no room left"), (Errno::DQUOT, "quota"), (Errno::FBIG, "ulimit -f")]
        {
            let text = text(errno);
            assert!(text.contains(word) && text.contains("needs 1234 bytes more"), "{text}");
            assert!(text.contains("--dest") && text.contains("it resumes"), "the way out: {text}");
        }
        let quota = text(Errno::DQUOT);
        let of_space = text(Errno::NOSPC);
        assert!(of_space.contains("bytes are free: free some space or choose another --dest"), "{of_space}");
        assert!(quota.contains("have the quota raised, or choose another --dest"), "{quota}");
        assert!(!free.is_empty());
    }

    #[test]
    fn fault_84_a_volume_that_cannot_is_named() {
        let path = Utf8Path::new("/dev/shm/x");
        for errno in [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS, Errno::PERM] {
            let text = StoreError::of_volume("writing it", path, errno).to_string();
            assert!(text.contains("volume at /dev/shm refuses writing it"), "{text}");
            assert!(text.contains("choose a --dest on another volume"), "{text}");
        }
        let text = StoreError::of_rename("renaming it", path, path, Errno::INVAL).to_string();
        assert!(text.contains("atomic rename"), "{text}");
        // /dev/shm is sticky: that is somebody else's file.
        let error = StoreError::of_rename("renaming it", path, path, Errno::PERM);
        assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    }

    #[test]
    fn fault_83_a_rename_across_file_systems_names_both() {
        let (from, to) = (Utf8Path::new("/a/x.part"), Utf8Path::new("/b/x"));
        let text = StoreError::of_rename("renaming it", from, to, Errno::XDEV).to_string();
        assert!(text.contains("/a/x.part") && text.contains("/b/x"), "{text}");
    }
}
