//! The lock as a file: read, or changed by one writer at a time.
//!
//! A change goes through a draft beside the lock, `.NAME.tmp`, which is two things at once. It is the new text: written,
//! synced, and renamed over the lock, so that a reader sees the old text or the new one and a crash leaves one of them. And
//! it is what writers exclude each other by, with `flock`, from before the lock is read until the rename: so the second
//! writer reads what the first one wrote, and no entry is lost. The kernel drops the lock with its holder; a draft that a
//! killed process left behind keeps nobody out, and the next writer puts it away. Until it has the text, a draft says whose
//! it is, for the message of whoever waits ([`Turn`]).
//!
//! Locking the lock itself was the other way. But each change gives it another inode, it need not exist yet, and a file
//! that was checked out read-only could not be locked on every volume.
//!
//! Who was waiting for a draft gets it when it is already the lock, or gone. So the name is looked at again after the
//! wait, and so is the lock's text before the rename: an editor knows nothing of our draft, and what was saved meanwhile is
//! read anew. Where `flock` does nothing (some network volumes), that look is all there is, and each writer's draft has a
//! name of its own.
//!
//! A symlink's target is what is changed, and mode and owner stay. The draft gets the mode when it has its text: until
//! then it is readable by nobody who may not read the lock, but its owner may write it, or a lock that is read-only would have
//! drafts that the next writer cannot open. For what is left of that moment, a draft that cannot be opened for writing is
//! opened for reading, which is enough to wait for its owner. Nothing is written where nothing changed.

mod turn;

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

pub use turn::{LONGEST, Turn};

/// What a draft begins with until it has its text.
const WHOSE: &str = "# a draft of ";

/// How often what others change in between is read anew.
const ATTEMPTS: usize = 16;

/// What came of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited<T> {
    /// What the change returned.
    pub value: T,
    /// Whether the file has another text now.
    pub changed: bool,
}

/// A lock that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{path}: {doing} failed: {source}{}", hint(source))]
    Io {
        /// The file.
        path: Utf8PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// What is there is no lock.
    #[error(transparent)]
    Lock(#[from] LockfileError),
    /// A symlink that leads nowhere.
    #[error("{path} is a symlink to a file that does not exist; remove it, or make the file")]
    Dangling {
        /// The symlink.
        path: Utf8PathBuf,
    },
    /// Something keeps writing to it.
    #[error(
        "{path} was changed by another program each time before it could be written; close that and run again"
    )]
    Restless {
        /// The file.
        path: Utf8PathBuf,
    },
    /// Another writer does not come to an end.
    #[error(
        "{holder} has been changing {path} for more than {} s, and one writer at a time may; let it go on, or end it, \
         and run again",
        LONGEST.as_secs()
    )]
    Busy {
        /// The file.
        path: Utf8PathBuf,
        /// Who has it.
        holder: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; give the lock's path with --lock",
        io::ErrorKind::PermissionDenied => "; make the file and its directory writable",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it writable",
        io::ErrorKind::ResourceBusy => {
            "; a file that is mounted by itself cannot be replaced: mount its directory"
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

/// Changes the lock at `path`, or makes one: `change` gets it as it is, and what it leaves is written. Other writers wait
/// meanwhile, so ask hosts before and not in it; it may be called again, where the file was changed by a program that does
/// not wait. An error of it leaves the file alone.
///
/// # Errors
/// Those of `change`, what the disk refuses, and a writer before this one that does not come to an end.
pub fn edit<T, E: From<FileError>>(
    path: &Utf8Path,
    turn: Turn<'_>,
    mut change: impl FnMut(&mut Document) -> Result<T, E>,
) -> Result<Edited<T>, E> {
    let target = follow(path)?;
    for _ in 0..ATTEMPTS {
        let draft = Draft::open(&target, turn)?;
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
        if draft.become_lock(document.text(), before)? {
            return Ok(Edited { value, changed: true });
        }
    }
    Err(FileError::Restless { path: path.to_owned() }.into())
}

/// The new text in the making, and the right to make it.
struct Draft {
    file: File,
    path: Utf8PathBuf,
    target: Utf8PathBuf,
    /// Whether the name is to be removed at the end.
    named: bool,
}

impl Draft {
    fn open(target: &Utf8Path, turn: Turn<'_>) -> Result<Self, FileError> {
        let path = beside(target, "");
        let mut wait = turn.begin();
        loop {
            let failed = |error| io(&path, "making a draft of the lock", error);
            let (file, is_ours) = open(&path).map_err(failed)?;
            let excludes = match try_lock(&file) {
                Ok(()) => true,
                Err(Errno::WOULDBLOCK) => {
                    if wait.a_little(|| holder(&file)) {
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
            // A volume that says "locked" to everybody says so to us twice.
            let second = open(&path).ok();
            if !excludes || second.is_some_and(|(second, _)| try_lock(&second).is_ok()) {
                let _ = std::fs::remove_file(&path);
                return Self::private(target);
            }
            let is_new = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
            if !is_ours || !is_new {
                // Of a writer that was killed: its mode and its owner are whatever they are.
                std::fs::remove_file(&path).map_err(|error| io(&path, "removing an old draft", error))?;
                continue;
            }
            let host = rustix::system::uname();
            let process = rustix::process::getpid().as_raw_nonzero();
            let whose = format!("{WHOSE}process {process} on {}\n", host.nodename().to_string_lossy());
            // Only a message is the poorer without it.
            let _ = file.write_all_at(whose.as_bytes(), 0);
            return Ok(Self { file, path, target: target.to_owned(), named: true });
        }
    }

    /// A draft of a name that nobody else has: two writers that do not exclude each other may not write one file.
    fn private(target: &Utf8Path) -> Result<Self, FileError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let process = rustix::process::getpid().as_raw_nonzero();
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = beside(target, &format!(".{process}-{count}"));
            match make(&path, OFlags::EXCL) {
                Ok(file) => return Ok(Self { file, path, target: target.to_owned(), named: true }),
                // Of a process that had our number and was killed.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io(&path, "making a draft of the lock", error)),
            }
        }
    }

    /// Makes `text` the lock's, if that still has the text that it had before; whether it did.
    fn become_lock(mut self, text: &str, before: Option<(String, File)>) -> Result<bool, FileError> {
        let failed = |doing| move |path: &Utf8Path, error: io::Error| io(path, doing, error);
        let mode_failed = |error: Errno| io(&self.path, "setting its mode", error);
        let mut mode = None;
        if let Some((_, old)) = &before {
            let stat = rustix::fs::fstat(old).map_err(|error| io(&self.target, "reading its mode", error))?;
            let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            // Only root may give a file away. For others it is theirs, as with every editor.
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
        let directory = self.target.parent().filter(|parent| !parent.as_str().is_empty());
        let directory = directory.unwrap_or(Utf8Path::new("."));
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed("syncing the directory")(directory, error))?;
        Ok(true)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.named {
            // Still locked. What stays behind is harmless: the next writer puts it away.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The name of a draft of `target`.
fn beside(target: &Utf8Path, whose: &str) -> Utf8PathBuf {
    target.with_file_name(format!(".{}{whose}.tmp", target.file_name().unwrap_or("lock")))
}

fn make(path: &Utf8Path, more: OFlags) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::open(path.as_std_path(), flags, Mode::from_raw_mode(0o666)).map(File::from)
}

/// The draft at `path`, made where there is none; and whether it may be written.
fn open(path: &Utf8Path) -> Result<(File, bool), Errno> {
    let read = || {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path.as_std_path(), flags, Mode::empty()).map(File::from)
    };
    open_by(|| make(path, OFlags::empty()), read, || can_write_beside(path))
}

/// The same by these ways to make it, to read it, and to look whether one may be made.
fn open_by(
    mut make: impl FnMut() -> Result<File, Errno>,
    mut read: impl FnMut() -> Result<File, Errno>,
    can_write: impl Fn() -> bool,
) -> Result<(File, bool), Errno> {
    for _ in 0..ATTEMPTS {
        match make() {
            // It has its mode already, which is a read-only lock's; or it is somebody else's.
            Err(Errno::ACCESS) => {}
            made => return made.map(|file| (file, true)),
        }
        match read() {
            Ok(file) => return Ok((file, false)),
            // It has become the lock meanwhile.
            Err(Errno::NOENT) if can_write() => {}
            Err(_) => return Err(Errno::ACCESS),
        }
    }
    // access(2) is asked for a name that open(2) refuses each time: a server, or a policy, with other rules for each.
    Err(Errno::ACCESS)
}

/// Whether a file may be made beside `path`: where not, that is why there is no draft.
fn can_write_beside(path: &Utf8Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    rustix::fs::access(directory.as_std_path(), Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

fn try_lock(file: &File) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))
}

/// Who has the draft, as it says itself.
fn holder(draft: &File) -> String {
    let mut said = [0; 200];
    let n = draft.read_at(&mut said, 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..n]);
    let whose = said.lines().next().and_then(|line| line.strip_prefix(WHOSE));
    whose.map_or_else(|| "another process".to_owned(), |whose| TerminalText(whose).to_string())
}

/// Whether `path` still leads to `file`.
fn is_named(file: &File, path: &Utf8Path) -> bool {
    let held = rustix::fs::fstat(file);
    let named = rustix::fs::statat(rustix::fs::CWD, path.as_std_path(), AtFlags::SYMLINK_NOFOLLOW);
    matches!((held, named), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// The file at the end of the symlinks, or `path` where there is nothing yet.
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

/// The text, and the file that it was read from; `None` where there is none.
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
