//! Errors of the disk: what failed, on which path, and what to do.

use provision_core::byte_range::ByteRange;
use provision_core::byte_size::ByteSize;
use provision_core::model_path::ModelPath;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::io::Errno;

/// A failed disk operation, or an unexpected file. Every message names the path and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system is full, or the user's quota is.
    #[error(
        "{path}: {} while {doing}{}; {} or choose another --dest, then run again (it resumes)",
        lacking.what(),
        in_words(*needed),
        lacking.advice(*free)
    )]
    Full {
        /// The file.
        path: Utf8PathBuf,
        /// The failed operation, as in "writing it".
        doing: &'static str,
        /// The exhausted resource.
        lacking: Lacking,
        /// Bytes that the file still needs, if known.
        needed: Option<u64>,
        /// Free bytes of the file system, regardless of a quota. Zero if unknown.
        free: u64,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file system has no free inode.
    #[error(
        "{path}: no room left while {doing}: the file system has no free inode; remove some files or choose \
         another --dest, then run again (it resumes)"
    )]
    NoInodes {
        /// The file.
        path: Utf8PathBuf,
        /// The failed operation, as in "writing it".
        doing: &'static str,
    },
    /// The file exceeds a size limit.
    #[error(
        "{path}: the file exceeds the size limit for files here{}; raise `ulimit -f`, or choose another --dest if the file \
         system has a limit (FAT32: 4 GiB), then run again (it resumes)",
        in_words(*needed)
    )]
    TooLarge {
        /// The file.
        path: Utf8PathBuf,
        /// Bytes that the file still needs, if known.
        needed: Option<u64>,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The volume lacks operations that an install needs.
    #[error(
        "{path}: the volume at {volume} refuses {doing}; it lacks atomic renames, random writes or syncing, as mounted \
         object stores do: choose a --dest on another volume"
    )]
    Unsuitable {
        /// The file.
        path: Utf8PathBuf,
        /// The volume's mount point, as far as it can be found.
        volume: Utf8PathBuf,
        /// The failed operation, as in "writing it".
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The plan needs more space than is free.
    #[error(
        "{path}: {} are needed and {} are free; free {} more or choose another {option}",
        ByteSize(*needed),
        ByteSize(*free),
        ByteSize(needed - free).exact()
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
    /// The file system is mounted read-only.
    #[error("{path}: the file system is read-only; mount it writable or choose another --dest")]
    ReadOnly {
        /// The file.
        path: Utf8PathBuf,
    },
    /// The operation is not permitted.
    #[error(
        "{path}: no permission while {doing}; check the owner and mode, or run as a user who may write here"
    )]
    Denied {
        /// The file.
        path: Utf8PathBuf,
        /// The failed operation, as in "writing it".
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another kind of file has the path of a regular file.
    #[error("{path} is {what}, not a regular file; nothing was changed: move it away and run again")]
    NotAFile {
        /// The path.
        path: Utf8PathBuf,
        /// The kind, as in "a symlink".
        what: &'static str,
    },
    /// A file whose metadata would change has another name, which this program did not make.
    #[error(
        "{path} is one file with another program's, by a hard link, and --layers would set the mode of both; nothing was \
         changed: remove this name and run again"
    )]
    SharedFile {
        /// The path.
        path: Utf8PathBuf,
    },
    /// Another kind of file has the path of a directory.
    #[error("{path} is {what}, not a directory; nothing was changed: move it away and run again")]
    NotADirectory {
        /// The path.
        path: Utf8PathBuf,
        /// The kind, as in "a symlink".
        what: &'static str,
    },
    /// A symlink of another user.
    #[error(
        "{path} is a symlink of user {owner}, and user {user} follows only symlinks of its own and of root; nothing was changed: \
         make it yours (chown -h {user}), or put the directory itself there"
    )]
    ForeignLink {
        /// The symlink.
        path: Utf8PathBuf,
        /// Its owner's number.
        owner: u32,
        /// The number of this process's user.
        user: u32,
    },
    /// A symlink that was no symlink, or another one, when the run began.
    #[error(
        "{path} became a symlink, or another one, while the run worked, and is not followed: let no other program work in this \
         directory, then run again"
    )]
    LinkAppeared {
        /// The symlink.
        path: Utf8PathBuf,
    },
    /// A symlink to nothing, where a directory has to be.
    #[error(
        "{path} is a symlink to {target}, which is not there: create that directory, or mount its volume, then run again"
    )]
    Dangling {
        /// The symlink.
        path: Utf8PathBuf,
        /// Its target.
        target: Utf8PathBuf,
    },
    /// Two paths of the lock are one file, by a symlink to a directory.
    #[error(
        "{path} and {other} are one file, by a symlink to a directory above one of them: keep one of the two in the lock, or \
         replace the symlink by a directory"
    )]
    OneFile {
        /// A path.
        path: Utf8PathBuf,
        /// The other one.
        other: Utf8PathBuf,
    },
    /// Two paths of the lock are one model for the program that reads the destination, which searches several folders
    /// for it.
    #[error(
        "{path} and {other} are one model for the program that reads {place}: it searches the same folders for both; keep one \
         of the two in the lock"
    )]
    OneModel {
        /// A path of the lock.
        path: String,
        /// The other one.
        other: String,
        /// The destination.
        place: Utf8PathBuf,
    },
    /// The run was cancelled while it read a file.
    #[error("{path}: interrupted while reading it")]
    Interrupted {
        /// The file.
        path: Utf8PathBuf,
    },
    /// A file that was there before is missing.
    #[error("{path} has disappeared; let no other program work in this directory, then run again")]
    Missing {
        /// The path.
        path: Utf8PathBuf,
    },
    /// Another process has the part's lock.
    #[error("{path} is being written by another process; wait for it, or stop it")]
    PartBusy {
        /// The part file.
        path: Utf8PathBuf,
    },
    /// The part's name leads to another file than the one that was written.
    #[error(
        "{path} was replaced while it was being written; let no other program work in this directory, then run again"
    )]
    PartReplaced {
        /// The part file.
        path: Utf8PathBuf,
    },
    /// The lease on the destination's lock has expired, and another run holds the lock.
    #[error(
        "{path}: this run was suspended until its lock expired, and another run works here now; nothing more was \
         written: wait for that run to end, then run again"
    )]
    TakenOver {
        /// The part file.
        path: Utf8PathBuf,
    },
    /// A rename would cross file systems. A copy is no substitute: the final name would exist before the bytes are
    /// complete.
    #[error(
        "{from} cannot be renamed to {to}: it is on another file system or mount, and only a rename is atomic; choose \
         another --dest, or unmount the file system there"
    )]
    CrossDevice {
        /// The current path.
        from: Utf8PathBuf,
        /// The intended path.
        to: Utf8PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The directory could not be synced after a rename.
    #[error(
        "{path} was renamed, but its directory could not be synced, so a power cut might undo the rename; {}; check the \
         disk, then run again",
        if *replaced { "it has replaced an older file, and is complete" } else { "the rename was undone" }
    )]
    NotDurable {
        /// The file.
        path: Utf8PathBuf,
        /// True if it replaced an older file.
        replaced: bool,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file is not at the path where this run installed or found it.
    #[error(
        "{path} is not where it was a moment ago: it or a directory above it was moved or replaced during this run; no \
         marker is written: let no other program work in this directory, then run again"
    )]
    Moved {
        /// The path.
        path: Utf8PathBuf,
    },
    /// A write into a part that is verified or removed.
    #[error("{path} is verified and cannot be written any more; this should not happen: run again")]
    Sealed {
        /// The part file.
        path: Utf8PathBuf,
    },
    /// The process or the system has no free file descriptor.
    #[error("{path}: no file descriptor left; raise `ulimit -n` or lower --connections")]
    TooManyFiles {
        /// The path.
        path: Utf8PathBuf,
    },
    /// The file does not have the expected digest.
    #[error("{path} has SHA-256 {found}, expected {expected}")]
    Mismatch {
        /// The file.
        path: Utf8PathBuf,
        /// The digest that the lock lists.
        expected: provision_core::digest::Sha256,
        /// The digest of the bytes that were read.
        found: provision_core::digest::Sha256,
    },
    /// Pieces of the file do not have the digests of its list.
    #[error(
        "{path}: {} in {} of its ranges are not those of its piece list; run again: no other byte is fetched again",
        ByteSize(ranges.iter().map(ByteRange::len).sum()),
        ranges.len()
    )]
    WrongPieces {
        /// The file.
        path: Utf8PathBuf,
        /// The ranges of the wrong pieces, ascending.
        ranges: Vec<ByteRange>,
    },
    /// The piece list and the lock's digest disagree: one says that the file is right, and the other that it is wrong.
    #[error(
        "{path}: the piece list of {model} does not describe the file with SHA-256 {expected}: {}; the lock's author writes a right \
         piece list with `lock pieces`",
        disagreement(.expected, .found)
    )]
    MistakenList {
        /// The file.
        path: Utf8PathBuf,
        /// The model whose list the lock pins.
        model: ModelPath,
        /// The digest that the lock lists.
        expected: provision_core::digest::Sha256,
        /// The digest of the file.
        found: provision_core::digest::Sha256,
    },
    /// A copy of verified bytes has another digest.
    #[error(
        "{path}: the copied bytes read back differently; the disk or the machine's memory may be failing, check both"
    )]
    CopyDiffers {
        /// The copy.
        path: Utf8PathBuf,
    },
    /// Another system error.
    #[error("{path}: {doing} failed; check the disk and its volume, then run again (it resumes)")]
    Io {
        /// The file.
        path: Utf8PathBuf,
        /// The failed operation, as in "writing it".
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// The resource that is exhausted when bytes do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// The file system's space.
    Space,
    /// The user's quota.
    Quota,
}

impl Lacking {
    fn what(self) -> &'static str {
        match self {
            Self::Space => "no room left",
            Self::Quota => "the disk quota is used up",
        }
    }

    fn advice(self, free: u64) -> String {
        match self {
            Self::Space => format!("{} are free: free some space", ByteSize(free)),
            Self::Quota => format!(
                "the file system itself has {} free: remove some of your files, have the quota raised,",
                ByteSize(free)
            ),
        }
    }
}

/// The disagreement of a list and a digest about a file with the digest `found`, in words.
fn disagreement(expected: &provision_core::digest::Sha256, found: &provision_core::digest::Sha256) -> String {
    if expected == found {
        "this file has that digest, and the list says other bytes".to_owned()
    } else {
        format!("by the list the file is right, and it has SHA-256 {found}")
    }
}

impl DiskError {
    /// True if this user may not write here, as on a read-only volume or in another user's directory.
    pub fn forbids_writing(&self) -> bool {
        matches!(self, Self::ReadOnly { .. } | Self::Denied { .. })
    }

    /// The message, followed by the messages of its causes.
    pub fn reason(&self) -> String {
        let mut reason = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        reason
    }

    /// The error for a failed system call on `path`. `doing` names the operation, as in "writing it".
    pub(crate) fn of(doing: &'static str, path: &Utf8Path, source: impl Into<io::Error>) -> Self {
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

    /// The error for an operation on an open file that every suitable volume supports: if the volume refuses it,
    /// [`DiskError::Unsuitable`]; otherwise as [`DiskError::of`].
    pub(crate) fn of_volume(doing: &'static str, path: &Utf8Path, source: impl Into<io::Error>) -> Self {
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
    pub(crate) fn of_rename(doing: &'static str, from: &Utf8Path, to: &Utf8Path, source: Errno) -> Self {
        match source {
            Errno::XDEV => {
                Self::CrossDevice { from: from.to_owned(), to: to.to_owned(), source: source.into() }
            }
            // Another user's file in a sticky directory: only its owner may replace it.
            Errno::PERM if is_sticky(to) => Self::of(doing, to, source),
            _ => Self::of_volume(doing, to, source),
        }
    }

    /// Adds the number of bytes that the file still needs, if space is exhausted.
    pub(crate) fn needing(mut self, bytes: u64) -> Self {
        if let Self::Full { needed, .. } | Self::TooLarge { needed, .. } = &mut self {
            *needed = Some(bytes);
        }
        self
    }

    /// As [`DiskError::of`], for `map_err`.
    pub(crate) fn at<E: Into<io::Error>>(doing: &'static str, path: &Utf8Path) -> impl FnOnce(E) -> Self {
        move |source| Self::of(doing, path, source)
    }
}

/// The needed bytes, in words.
fn in_words(needed: Option<u64>) -> String {
    needed.map_or_else(String::new, |needed| format!(" (it needs {} more)", ByteSize(needed)))
}

/// The directory of `path`, for a message.
fn directory_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

/// The free bytes in the directory of `path`. Zero if unknown.
fn free_space_of(path: &Utf8Path) -> u64 {
    let stat = rustix::fs::statvfs(directory_of(path).as_std_path());
    stat.map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// True if the file system has no free inode. File systems without a limit report 0 of 0.
fn has_no_inodes(path: &Utf8Path) -> bool {
    let stat = rustix::fs::statvfs(directory_of(path).as_std_path());
    stat.is_ok_and(|stat| stat.f_files > 0 && stat.f_favail == 0)
}

fn is_sticky(path: &Utf8Path) -> bool {
    let stat = rustix::fs::stat(directory_of(path).as_std_path());
    stat.is_ok_and(|stat| stat.st_mode & 0o1000 != 0)
}

/// The mount point of the volume of `path`: the topmost directory on the same device.
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
    fn fault_69_full_quota_and_too_large_have_their_own_messages() {
        let path = Utf8Path::new("/dev/shm/x");
        let text = |errno: Errno| DiskError::of("writing it", path, errno).needing(1234).to_string();
        let free = free_space_of(path).to_string();
        for (errno, word) in
            [(Errno::NOSPC, "no room left"), (Errno::DQUOT, "quota"), (Errno::FBIG, "ulimit -f")]
        {
            let text = text(errno);
            assert!(text.contains(word) && text.contains("needs 1.23 kB more"), "{text}");
            assert!(text.contains("--dest") && text.contains("it resumes"), "what to do: {text}");
        }
        let quota = text(Errno::DQUOT);
        let of_space = text(Errno::NOSPC);
        assert!(of_space.contains("B are free: free some space or choose another --dest"), "{of_space}");
        assert!(quota.contains("have the quota raised, or choose another --dest"), "{quota}");
        assert!(!free.is_empty());
    }

    #[test]
    fn fault_84_the_message_names_an_unsuitable_volume() {
        let path = Utf8Path::new("/dev/shm/x");
        for errno in [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS, Errno::PERM] {
            let text = DiskError::of_volume("writing it", path, errno).to_string();
            assert!(text.contains("volume at /dev/shm refuses writing it"), "{text}");
            assert!(text.contains("choose a --dest on another volume"), "{text}");
        }
        let text = DiskError::of_rename("renaming it", path, path, Errno::INVAL).to_string();
        assert!(text.contains("atomic renames"), "{text}");
        // /dev/shm is sticky: another user's file.
        let error = DiskError::of_rename("renaming it", path, path, Errno::PERM);
        assert!(matches!(error, DiskError::Denied { .. }), "{error}");
    }

    #[test]
    fn fault_83_the_message_names_both_paths_of_a_failed_rename() {
        let (from, to) = (Utf8Path::new("/a/x.part"), Utf8Path::new("/b/x"));
        let text = DiskError::of_rename("renaming it", from, to, Errno::XDEV).to_string();
        assert!(text.contains("/a/x.part") && text.contains("/b/x"), "{text}");
    }
}
