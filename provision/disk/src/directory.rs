//! One directory, by handle, and what can be done with a name in it. No symlink is followed.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::StoreError;
use crate::confined::{self, ResolveMode};

/// A directory, held open.
#[derive(Debug)]
pub struct Directory {
    handle: File,
    path: Utf8PathBuf,
    /// Names of symlinks that are ours and may be replaced, and where they lead.
    links: Mutex<HashMap<String, Utf8PathBuf>>,
}

/// Size and modification time: what a marker compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

/// When a file was last changed in any way, by the system's own book-keeping: seconds and nanoseconds since 1970. Two
/// files that this program installed have one mtime; the change time of one that was put in the other's place differs.
pub type ChangeTime = (i64, u32);

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { size: stat.st_size as u64, mtime: (stat.st_mtime, stat.st_mtime_nsec as u32) }
    }
}

/// Which file it is, whatever it is called: its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// What a file takes, and when it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on the disk; a sparse file takes less than its length.
    pub bytes: u64,
    /// The access time, in seconds since 1970.
    pub used: i64,
    /// The modification time, in seconds since 1970.
    pub written: i64,
    /// How many names the file has.
    pub names: u64,
}

/// What is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A regular file.
    File(Stamp),
    /// A symlink, wherever it leads.
    Symlink,
    /// Something else, in words ("a directory").
    Other(&'static str),
}

impl Found {
    /// What it is, in words, where it is something that a file must not replace.
    pub fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::File(_) => None,
            Self::Symlink => Some("a symlink"),
            Self::Other(what) => Some(what),
        }
    }
}

/// Makes a directory with the mode that every one has, whatever the umask; false where something has its name
/// already. `path` is for messages.
pub(super) fn make_directory(at: impl AsFd, name: &str, path: &Utf8Path) -> Result<bool, StoreError> {
    const MODE: Mode = Mode::from_raw_mode(0o755);
    match retry_on_intr(|| rustix::fs::mkdirat(&at, name, MODE)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(false),
        Err(Errno::NOTDIR) => {
            return Err(StoreError::NotADirectory { path: path.to_owned(), what: "below a file" });
        }
        Err(error) => return Err(StoreError::of("creating the directory", path, error)),
    }
    // By handle: the name may be a symlink by now. The umask may have taken the right to open it, but not to point at
    // it; then its mode is set through the handle's name in /proc, which leads to nothing else.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |error| StoreError::of("setting the directory's mode", path, error);
    let made = retry_on_intr(|| rustix::fs::openat(&at, name, flags, Mode::empty())).map_err(failed)?;
    let stat = rustix::fs::fstat(&made).map_err(failed)?;
    if Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o7777) != MODE {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry_on_intr(|| rustix::fs::openat(&made, ".", flags, Mode::empty())) {
            Ok(made) => retry_on_intr(|| rustix::fs::fchmod(&made, MODE)),
            Err(_) => {
                retry_on_intr(|| rustix::fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), MODE))
            }
        }
        .map_err(failed)?;
    }
    Ok(true)
}

/// What temporary names end with.
const TEMPORARY: &str = ".tmp";

/// What the temporary names for `name` begin with.
fn temporary_prefix(name: &str) -> String {
    format!(".{}.", &name[..name.floor_char_boundary(200)])
}

impl Directory {
    /// Its path, for messages.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    pub(super) fn new(handle: File, path: Utf8PathBuf) -> Self {
        Self { handle, path, links: Mutex::default() }
    }

    /// Allows an install to replace the symlink under `name`, for as long as it leads to exactly `target`.
    pub fn allow_replacing(&self, name: &str, target: &Utf8Path) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.insert(name.to_owned(), target.to_owned());
    }

    /// Whether an install may replace the symlink under `name`.
    pub(super) fn may_replace_link(&self, name: &str) -> Result<bool, StoreError> {
        let target = self.links.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        Ok(target.is_some() && self.read_link(name)? == target.map(String::from))
    }

    pub(super) fn handle(&self) -> &File {
        &self.handle
    }

    pub(super) fn subdirectory(&self, name: &str, make: bool) -> Result<Option<Self>, StoreError> {
        let path = self.path.join(name);
        loop {
            match confined::open_directory(ResolveMode::PerComponent, &self.handle, name) {
                Ok(handle) => return Ok(Some(Self::new(handle, path))),
                Err(Errno::NOENT) if !make => return Ok(None),
                Err(Errno::NOENT) => {
                    if make_directory(&self.handle, name, &path)? {
                        self.sync()?;
                    }
                }
                Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                    let what = match self.find(name)? {
                        Found::File(_) => "a file",
                        found => found.obstacle().unwrap_or("nothing"),
                    };
                    return Err(StoreError::NotADirectory { path, what });
                }
                Err(error) => return Err(StoreError::of("opening the directory", &path, error)),
            }
        }
    }

    /// What is under `name`, symlinks not followed.
    pub fn find(&self, name: &str) -> Result<Found, StoreError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Found::File(Stamp::of(&stat)),
                FileType::Directory => Found::Other("a directory"),
                FileType::Symlink => Found::Symlink,
                FileType::Fifo => Found::Other("a FIFO"),
                FileType::Socket => Found::Other("a socket"),
                FileType::CharacterDevice | FileType::BlockDevice => Found::Other("a device"),
                FileType::Unknown => Found::Other("of an unknown kind"),
            }),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(StoreError::of("reading its metadata", &self.path.join(name), error)),
        }
    }

    /// Which file is under `name`; `None` where there is none.
    pub(super) fn identity(&self, name: &str) -> Result<Option<FileId>, StoreError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileId::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::of("reading its metadata", &self.path.join(name), error)),
        }
    }

    /// What the file under `name` takes; `None` where there is none.
    pub fn usage(&self, name: &str) -> Result<Option<Usage>, StoreError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Usage {
                bytes: stat.st_blocks as u64 * 512,
                used: stat.st_atime,
                written: stat.st_mtime,
                names: stat.st_nlink,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::of("reading its metadata", &self.path.join(name), error)),
        }
    }

    /// Sets the access time of the file under `name` to now, whatever the mount options say of reads.
    pub fn touch(&self, name: &str) -> Result<(), StoreError> {
        let time = |tv_nsec| rustix::fs::Timespec { tv_sec: 0, tv_nsec };
        let times = rustix::fs::Timestamps {
            last_access: time(rustix::fs::UTIME_NOW),
            last_modification: time(rustix::fs::UTIME_OMIT),
        };
        retry_on_intr(|| rustix::fs::utimensat(&self.handle, name, &times, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(StoreError::at("setting its modification time", &self.path.join(name)))
    }

    /// Opens a regular file for reading; `None` where there is none.
    pub fn open_file(&self, name: &str) -> Result<Option<(File, Stamp)>, StoreError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match retry_on_intr(|| rustix::fs::openat(&self.handle, name, flags, Mode::empty()))
        {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(StoreError::NotAFile { path, what: "a symlink" }),
            Err(error) => return Err(StoreError::of("opening it", &path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(StoreError::at("reading its metadata", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::NotAFile { path, what: "something else" });
        }
        Ok(Some((file, Stamp::of(&stat))))
    }

    /// The first `limit` bytes of a small file; `None` where there is none or it is longer.
    pub fn read_small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((file, stamp)) = self.open_file(name)? else { return Ok(None) };
        if stamp.size > limit {
            return Ok(None);
        }
        let mut bytes = vec![0; stamp.size as usize];
        file.read_exact_at(&mut bytes, 0).map_err(StoreError::at("reading it", &self.path.join(name)))?;
        Ok(Some(bytes))
    }

    /// Where a symlink leads, as it is written; `None` where there is no symlink, or one whose target is not text.
    pub fn read_link(&self, name: &str) -> Result<Option<String>, StoreError> {
        match rustix::fs::readlinkat(&self.handle, name, Vec::new()) {
            Ok(target) => Ok(target.into_string().ok()),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(StoreError::of("reading the symlink", &self.path.join(name), error)),
        }
    }

    /// Makes names in this directory durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        retry_on_intr(|| rustix::fs::fsync(&self.handle))
            .map_err(|error| StoreError::of_volume("syncing the directory", &self.path, error))
    }

    /// Removes a file's name; fine where there is none.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        match retry_on_intr(|| rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(StoreError::of("removing it", &self.path.join(name), error)),
        }
    }

    /// Writes a small file so that it is there whole and durable, or not at all: a temporary name made exclusively,
    /// data, `fsync`, rename, `fsync` of the directory. A kill midway leaves the temporary, see
    /// [`Directory::remove_temporaries`].
    pub fn write_small(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = format!("{}{:08x}{TEMPORARY}", temporary_prefix(name), fastrand::u32(..));
        self.replace_small(&temporary, name, bytes)?;
        // What could be gone after a power cut is not left to be believed until then.
        self.sync().inspect_err(|_| drop(self.remove(name)))
    }

    /// As [`Directory::write_small`], through a temporary name that is the caller's alone: what an earlier owner left
    /// under it is replaced. The file stays where only its name cannot be made durable: for journals, which claim nothing
    /// that was not durable before, so that it does not matter which of two a power cut leaves.
    pub(super) fn write_small_through(
        &self,
        temporary: &str,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.remove(temporary)?;
        self.replace_small(temporary, name, bytes)?;
        self.sync()
    }

    fn replace_small(&self, temporary: &str, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.write_small_as(temporary, name, bytes, &self.path.join(name));
        written.inspect_err(|_| drop(self.remove(temporary)))
    }

    /// Removes what killed runs left of writing `name`. Nobody else may be writing it.
    pub fn remove_temporaries(&self, name: &str) -> Result<(), StoreError> {
        let prefix = temporary_prefix(name);
        let is_one = |other: &String| {
            let middle = other.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(TEMPORARY));
            middle.is_some_and(|middle| middle.len() == 8 && middle.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        self.names()?.iter().filter(|other| is_one(other)).try_for_each(|other| self.remove(other).map(drop))
    }

    fn write_small_as(
        &self,
        temporary: &str,
        name: &str,
        bytes: &[u8],
        path: &Utf8Path,
    ) -> Result<(), StoreError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = retry_on_intr(|| rustix::fs::openat(&self.handle, temporary, flags, mode));
        let file = File::from(file.map_err(StoreError::at("creating it", path))?);
        file.write_all_at(bytes, 0).map_err(|error| StoreError::of_volume("writing it", path, error))?;
        retry_on_intr(|| rustix::fs::fchmod(&file, mode))
            .map_err(StoreError::at("setting its mode", path))?;
        retry_on_intr(|| rustix::fs::fsync(&file))
            .map_err(|error| StoreError::of_volume("syncing it", path, error))?;
        retry_on_intr(|| rustix::fs::renameat(&self.handle, temporary, &self.handle, name)).map_err(|error| {
            StoreError::of_rename("renaming it to its final name", &self.path.join(temporary), path, error)
        })
    }

    /// The names in it.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries =
            rustix::fs::Dir::read_from(&self.handle).map_err(StoreError::at("listing it", &self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::at("listing it", &self.path))?;
            if let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    pub(super) fn free_space(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::fstatvfs(&self.handle)
            .map_err(StoreError::at("reading its free space", &self.path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
