//! The lock as a file: readers see the old text or the new one, and writers change it one at a time.
//!
//! A change goes through a draft beside the lock, `.NAME.tmp`, which has two purposes. It holds the new text: written,
//! synced, and renamed over the lock, so a crash leaves the old text or the new one. It also carries the write lock
//! (`flock`), held from before the lock is read until the rename, so the second writer reads what the first one wrote
//! and no entry is lost. The kernel releases the `flock` of a killed process; the next writer removes its draft. Until
//! the draft has its text, it names its owner, for the message of a waiting writer ([`LockWait`]).
//!
//! Rejected: a `flock` on the lock itself. Each change replaces its inode, it may not exist yet, and a read-only
//! checkout cannot be locked on every volume.
//!
//! When a waiting writer gets the draft, it may already be renamed or removed. So the writer checks the name again
//! after the wait, and the lock's text again before the rename: an editor does not take part in the locking, and what
//! it saved meanwhile is read again. Where `flock` does nothing (some network volumes), this check is the only
//! protection, and each writer's draft gets its own name.
//!
//! A symlink's target is changed; mode and owner stay. The draft gets the lock's mode only with its text. Before that,
//! it is no more readable than the lock, but its owner may write it: with a read-only lock's mode, the next writer
//! could not open it. In the short time between, a draft that cannot be opened for writing is opened for reading, which
//! is enough to wait for its owner. If nothing changed, nothing is written.

mod write_lock;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use provision_core::lockfile::{LockfileError, LockfileErrorKind, MAX_BYTES};
use rustix::fs::{Access, AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::edit::Document;
use provision_core::terminal_text::TerminalText;

pub use write_lock::{LONGEST, LockWait};

/// A draft's first line begins with this until the draft has its text.
const OWNER_PREFIX: &str = "# a draft of ";

/// The number of attempts when other programs change the file in between.
const ATTEMPTS: usize = 16;

/// The result of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited<T> {
    /// The change's result.
    pub value: T,
    /// True if the file's text changed.
    pub changed: bool,
}

/// The lock cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A system call failed.
    #[error("{path}: {doing} failed: {source}{}", hint(source))]
    Io {
        /// The file.
        path: Utf8PathBuf,
        /// The failed operation.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The file is no valid lock.
    #[error(transparent)]
    Lock(#[from] LockfileError),
    /// A symlink that leads nowhere.
    #[error("{path} is a symlink to a file that does not exist; remove the symlink, or create the file")]
    Dangling {
        /// The symlink.
        path: Utf8PathBuf,
    },
    /// Another program keeps changing the file.
    #[error(
        "{path} was changed by another program before each attempt to write it; close that program and run again"
    )]
    KeepsChanging {
        /// The file.
        path: Utf8PathBuf,
    },
    /// Another writer holds the write lock for too long.
    #[error(
        "{path} has been locked for more than {} s by {holder}, which is changing it; wait for its end, or stop it, \
         then run again",
        LONGEST.as_secs()
    )]
    Busy {
        /// The file.
        path: Utf8PathBuf,
        /// The writer that holds it.
        holder: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; give the lock's path with --lock",
        io::ErrorKind::PermissionDenied => "; make the file and its directory writable",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it writable",
        io::ErrorKind::ResourceBusy => {
            "; a file that is a mount point cannot be replaced: mount its directory instead"
        }
        _ => "",
    }
}

/// Reads the lock at `path`.
pub fn read(path: &Utf8Path) -> Result<Document, FileError> {
    let Some((text, _)) = read_text(path)? else {
        return Err(io(path, "reading the lock", Errno::NOENT));
    };
    Ok(Document::parse(path.as_str(), &text)?)
}

/// Checks that the lock at `path` can be written, as far as that is known without writing.
pub fn check_writable(path: &Utf8Path) -> Result<(), FileError> {
    let draft = beside(&follow(path)?, "");
    let directory = directory_of(&draft).as_std_path();
    rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| io(&draft, "making a draft of the lock", error))
}

/// Changes the lock at `path`, or creates it: `change` edits the current document, and the result is written. Other
/// writers wait meanwhile, so ask hosts before this call, not inside `change`. If a program that does not lock changed
/// the file, `change` is called again. If it returns an error, the file stays as it is.
///
/// # Errors
/// Returns `change`'s error, an I/O error, or a timeout of the wait for another writer.
pub fn edit<T, E: From<FileError>>(
    path: &Utf8Path,
    wait: LockWait<'_>,
    mut change: impl FnMut(&mut Document) -> Result<T, E>,
) -> Result<Edited<T>, E> {
    let target = follow(path)?;
    for _ in 0..ATTEMPTS {
        let draft = Draft::open(&target, wait)?;
        let before = read_text(&target)?;
        let mut document = match &before {
            Some((text, _)) => Document::parse(path.as_str(), text).map_err(FileError::from)?,
            None => Document::empty(path.as_str()),
        };
        let untouched = document.text().to_owned();
        let value = change(&mut document)?;
        if document.text() == untouched {
            return Ok(Edited { value, changed: false });
        }
        if draft.commit(document.text(), before)? {
            return Ok(Edited { value, changed: true });
        }
    }
    Err(FileError::KeepsChanging { path: path.to_owned() }.into())
}

/// A draft of the new text, which carries the write lock.
struct Draft {
    file: File,
    path: Utf8PathBuf,
    target: Utf8PathBuf,
    /// True if the draft's name must be removed on drop.
    named: bool,
}

impl Draft {
    fn open(target: &Utf8Path, wait: LockWait<'_>) -> Result<Self, FileError> {
        let path = beside(target, "");
        let mut wait = wait.begin();
        loop {
            let failed = |error| io(&path, "making a draft of the lock", error);
            let (file, is_ours) = open(&path).map_err(failed)?;
            let excludes = match try_lock(&file) {
                Ok(()) => true,
                Err(Errno::WOULDBLOCK) => {
                    if wait.pause(|| holder(&file)) {
                        continue;
                    }
                    return Err(FileError::Busy { path: target.to_owned(), holder: holder(&file) });
                }
                Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => false,
                Err(error) => return Err(io(&path, "locking the draft", error)),
            };
            if !is_named(&file, &path) {
                continue;
            }
            // Some volumes grant every lock: they grant a second one on the same file, too.
            let second = open(&path).ok();
            if !excludes || second.is_some_and(|(second, _)| try_lock(&second).is_ok()) {
                let _ = std::fs::remove_file(&path);
                return Self::private(target);
            }
            let is_new = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
            if !is_ours || !is_new {
                // Left by a killed writer, with an unknown mode and owner.
                std::fs::remove_file(&path).map_err(|error| io(&path, "removing an old draft", error))?;
                continue;
            }
            let host = rustix::system::uname();
            let process = rustix::process::getpid().as_raw_nonzero();
            let owner = format!("{OWNER_PREFIX}process {process} on {}\n", host.nodename().to_string_lossy());
            // Without it, only a message has less to say.
            let _ = file.write_all_at(owner.as_bytes(), 0);
            return Ok(Self { file, path, target: target.to_owned(), named: true });
        }
    }

    /// A draft with a unique name: two writers that cannot exclude each other must not write the same file.
    fn private(target: &Utf8Path) -> Result<Self, FileError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let process = rustix::process::getpid().as_raw_nonzero();
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = beside(target, &format!(".{process}-{count}"));
            match make(&path, OFlags::EXCL) {
                Ok(file) => return Ok(Self { file, path, target: target.to_owned(), named: true }),
                // Left by a killed process with the same process id.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io(&path, "making a draft of the lock", error)),
            }
        }
    }

    /// Renames the draft with `text` over the lock if the lock still has the text `before`. Returns false if it does
    /// not.
    fn commit(mut self, text: &str, before: Option<(String, File)>) -> Result<bool, FileError> {
        let failed = |doing| move |path: &Utf8Path, error: io::Error| io(path, doing, error);
        let mode_failed = |error: Errno| io(&self.path, "setting its mode", error);
        let mut mode = None;
        if let Some((_, old)) = &before {
            let stat = rustix::fs::fstat(old).map_err(|error| io(&self.target, "reading its mode", error))?;
            let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            // Only root may change the owner. Otherwise the file belongs to this user, as after any editor.
            let _ = rustix::fs::fchown(&self.file, Some(owner.0), Some(owner.1));
            let old = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::fchmod(&self.file, old | Mode::RUSR | Mode::WUSR).map_err(mode_failed)?;
            mode = Some(old);
        }
        let write = |file: &File| {
            file.set_len(0)?;
            file.write_all_at(text.as_bytes(), 0)
        };
        write(&self.file).map_err(|error| failed("writing the draft")(&self.path, error))?;
        if let Some(mode) = mode {
            rustix::fs::fchmod(&self.file, mode).map_err(mode_failed)?;
        }
        self.file.sync_all().map_err(|error| failed("syncing the draft")(&self.path, error))?;
        let now = read_text(&self.target)?;
        if now.map(|(text, _)| text) != before.map(|(text, _)| text) {
            return Ok(false);
        }
        std::fs::rename(&self.path, &self.target)
            .map_err(|error| failed("renaming the draft to the lock")(&self.target, error))?;
        self.named = false;
        let directory = directory_of(&self.target);
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed("syncing the directory")(directory, error))?;
        Ok(true)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.named {
            // The draft is still locked. If the removal fails, the next writer removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The name of a draft of `target`.
fn beside(target: &Utf8Path, owner: &str) -> Utf8PathBuf {
    target.with_file_name(format!(".{}{owner}.tmp", target.file_name().unwrap_or("lock")))
}

fn make(path: &Utf8Path, more: OFlags) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::open(path.as_std_path(), flags, Mode::from_raw_mode(0o666)).map(File::from)
}

/// Creates the draft at `path`, or opens the one that is there to lock it; the flag says if it is new. Only a new one
/// is written: another may be another user's, or a second name of another file.
fn open(path: &Utf8Path) -> Result<(File, bool), Errno> {
    match make(path, OFlags::EXCL) {
        Err(Errno::EXIST | Errno::ACCESS) => {}
        made => return made.map(|file| (file, true)),
    }
    let read = || {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(path.as_std_path(), flags, Mode::empty()).map(File::from)
    };
    match open_by(|| make(path, OFlags::empty()), read, || can_write_beside(path)) {
        // A symlink is no draft.
        Err(Errno::LOOP) if std::fs::remove_file(path).is_ok() => {
            make(path, OFlags::EXCL).map(|file| (file, true))
        }
        opened => opened.map(|(file, _)| (file, false)),
    }
}

/// The same with injected operations, for tests.
fn open_by(
    mut make: impl FnMut() -> Result<File, Errno>,
    mut read: impl FnMut() -> Result<File, Errno>,
    can_write: impl Fn() -> bool,
) -> Result<(File, bool), Errno> {
    for _ in 0..ATTEMPTS {
        match make() {
            // The draft already has a read-only lock's mode, or belongs to another user.
            Err(Errno::ACCESS) => {}
            made => return made.map(|file| (file, true)),
        }
        match read() {
            Ok(file) => return Ok((file, false)),
            // The draft was renamed over the lock meanwhile.
            Err(Errno::NOENT) if can_write() => {}
            Err(_) => return Err(Errno::ACCESS),
        }
    }
    // access(2) allows what open(2) refuses every time: the server or a security policy has different rules for each.
    Err(Errno::ACCESS)
}

/// Returns true if a file can be created beside `path`. If not, that is the reason that no draft exists.
fn can_write_beside(path: &Utf8Path) -> bool {
    rustix::fs::access(directory_of(path).as_std_path(), Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// The directory of a file, which may be the current one.
fn directory_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

fn try_lock(file: &File) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))
}

/// The draft's owner, as its first line names it.
fn holder(draft: &File) -> String {
    let mut said = [0; 200];
    let n = draft.read_at(&mut said, 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..n]);
    let owner = said.lines().next().and_then(|line| line.strip_prefix(OWNER_PREFIX));
    owner.map_or_else(|| "another process".to_owned(), |owner| TerminalText(owner).to_string())
}

/// Returns true if `path` still leads to `file`.
fn is_named(file: &File, path: &Utf8Path) -> bool {
    let held = rustix::fs::fstat(file);
    let named = rustix::fs::statat(rustix::fs::CWD, path.as_std_path(), AtFlags::SYMLINK_NOFOLLOW);
    matches!((held, named), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Follows symlinks to the file; `path` itself if no file exists.
fn follow(path: &Utf8Path) -> Result<Utf8PathBuf, FileError> {
    match path.canonicalize_utf8() {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.symlink_metadata() {
            Ok(_) => Err(FileError::Dangling { path: path.to_owned() }),
            Err(_) => Ok(path.to_owned()),
        },
        Err(error) => Err(io(path, "looking for the lock", error)),
    }
}

/// The text and the file that it was read from; `None` if no file exists.
fn read_text(path: &Utf8Path) -> Result<Option<(String, File)>, FileError> {
    let failed = |error: io::Error| io(path, "reading the lock", error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    (&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    let is_no_lock = |kind| FileError::Lock(LockfileError::of_file(path.as_str(), kind));
    if bytes.len() as u64 > MAX_BYTES {
        return Err(is_no_lock(LockfileErrorKind::TooLarge));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some((text, file))),
        Err(_) => Err(is_no_lock(LockfileErrorKind::NotText)),
    }
}

fn io(path: &Utf8Path, doing: &'static str, error: impl Into<io::Error>) -> FileError {
    FileError::Io { path: path.to_owned(), doing, source: error.into() }
}

#[cfg(test)]
mod tests;
