//! An open directory and the operations on names in it. None of them follows a symlink.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::confined::{self, ResolveMode};
use crate::error::DiskError;
use crate::file_stat::{FileId, Stamp};

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    handle: File,
    path: Utf8PathBuf,
    /// The symlinks that an install may replace: name and target.
    links: Mutex<HashMap<String, Utf8PathBuf>>,
}

/// A file's disk usage and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on the disk. A sparse file takes less than its length.
    pub bytes: u64,
    /// The access time, in seconds since 1970.
    pub used: i64,
    /// The modification time, in seconds since 1970.
    pub written: i64,
    /// The time of the last change of bytes, names or metadata, in seconds since 1970.
    pub changed: i64,
    /// The number of hard links.
    pub names: u64,
}

/// The kind of file under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No file has the name.
    Nothing,
    /// A regular file.
    File(Stamp),
    /// A symlink, whatever its target.
    Symlink,
    /// Another kind, in words ("a directory").
    Other(&'static str),
}

/// A symlink, in words.
pub(crate) const SYMLINK: &str = "a symlink";

impl Found {
    /// The kind in words, if an install must not replace it.
    pub fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::File(_) => None,
            Self::Symlink => Some(SYMLINK),
            Self::Other(what) => Some(what),
        }
    }
}

/// The mode of a new file. The umask, a set-group-ID directory and a default access list apply to it, as to a file that
/// `cp` makes.
pub(crate) const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
/// The mode of a file that only this user may read.
const PRIVATE_MODE: Mode = Mode::from_raw_mode(0o600);

/// Creates a directory, as [`FILE_MODE`] says. Returns false if the name is taken. `path` is for messages.
pub(crate) fn create_directory(at: impl AsFd, name: &str, path: &Utf8Path) -> Result<bool, DiskError> {
    match retry_on_intr(|| rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777))) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::NOTDIR) => Err(DiskError::NotADirectory { path: path.to_owned(), what: "below a file" }),
        Err(error) => Err(DiskError::of("creating the directory", path, error)),
    }
}

/// The suffix of temporary names.
const TEMPORARY: &str = ".tmp";

/// The prefix of the temporary names for `name`.
fn temporary_prefix(name: &str) -> String {
    format!(".{}.", &name[..name.floor_char_boundary(200)])
}

impl Directory {
    /// Its path, for messages.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    pub(crate) fn new(handle: File, path: Utf8PathBuf) -> Self {
        Self { handle, path, links: Mutex::default() }
    }

    /// Allows an install to replace the symlink `name`, as long as its target is exactly `target`.
    pub fn allow_replacing(&self, name: &str, target: &Utf8Path) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.insert(name.to_owned(), target.to_owned());
    }

    /// True if an install may replace the symlink `name`.
    pub(crate) fn may_replace_link(&self, name: &str) -> Result<bool, DiskError> {
        let target = self.links.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        Ok(target.is_some() && self.read_link(name)? == target.map(String::from))
    }

    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Opens a subdirectory, and follows no symlink. If it is missing, `create` decides between creating it and `None`.
    pub fn subdirectory(&self, name: &str, create: bool) -> Result<Option<Self>, DiskError> {
        let path = self.path.join(name);
        loop {
            match confined::open_directory(ResolveMode::PerComponent, &self.handle, name) {
                Ok(handle) => return Ok(Some(Self::new(handle, path))),
                Err(Errno::NOENT) if !create => return Ok(None),
                Err(Errno::NOENT) => {
                    if create_directory(&self.handle, name, &path)? {
                        self.sync()?;
                    }
                }
                Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                    let what = match self.find(name)? {
                        Found::File(_) => "a file",
                        found => found.obstacle().unwrap_or("nothing"),
                    };
                    return Err(DiskError::NotADirectory { path, what });
                }
                Err(error) => return Err(DiskError::of("opening the directory", &path, error)),
            }
        }
    }

    /// The kind of file under `name`.
    pub fn find(&self, name: &str) -> Result<Found, DiskError> {
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
            Err(error) => Err(DiskError::of("reading its metadata", &self.path.join(name), error)),
        }
    }

    /// Device and inode of `name`. `None` if there is no file.
    pub(crate) fn identity(&self, name: &str) -> Result<Option<FileId>, DiskError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileId::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(DiskError::of("reading its metadata", &self.path.join(name), error)),
        }
    }

    /// Disk usage and times of `name`. `None` if there is no file.
    #[allow(clippy::useless_conversion, reason = "aarch64 counts links in 32 bits, x86-64 in 64")]
    pub fn usage(&self, name: &str) -> Result<Option<Usage>, DiskError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Usage {
                bytes: stat.st_blocks as u64 * 512,
                used: stat.st_atime,
                written: stat.st_mtime,
                changed: stat.st_ctime,
                names: stat.st_nlink.into(),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(DiskError::of("reading its metadata", &self.path.join(name), error)),
        }
    }

    /// The length of the regular file `name`; 0 if there is none.
    pub fn length(&self, name: &str) -> Result<u64, DiskError> {
        Ok(match self.find(name)? {
            Found::File(stamp) => stamp.size,
            _ => 0,
        })
    }

    /// Sets the access time of `name` to now, also on mounts that do not record reads.
    pub fn touch(&self, name: &str) -> Result<(), DiskError> {
        let time = |tv_nsec| rustix::fs::Timespec { tv_sec: 0, tv_nsec };
        let times = rustix::fs::Timestamps {
            last_access: time(rustix::fs::UTIME_NOW),
            last_modification: time(rustix::fs::UTIME_OMIT),
        };
        retry_on_intr(|| rustix::fs::utimensat(&self.handle, name, &times, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(DiskError::at("setting its access time", &self.path.join(name)))
    }

    /// Opens a regular file for reading. `None` if there is no file.
    pub fn open_file(&self, name: &str) -> Result<Option<(File, Stamp)>, DiskError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match retry_on_intr(|| rustix::fs::openat(&self.handle, name, flags, Mode::empty()))
        {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(DiskError::NotAFile { path, what: "a symlink" }),
            Err(error) => return Err(DiskError::of("opening it", &path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(DiskError::at("reading its metadata", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DiskError::NotAFile { path, what: "something else" });
        }
        Ok(Some((file, Stamp::of(&stat))))
    }

    /// True if `name` is a regular file that begins with these bytes.
    pub fn begins_with(&self, name: &str, bytes: &[u8]) -> Result<bool, DiskError> {
        // A FIFO or a device would wait, or answer for ever.
        if !matches!(self.find(name)?, Found::File(stamp) if stamp.size >= bytes.len() as u64) {
            return Ok(false);
        }
        let Some((file, _)) = self.open_file(name)? else { return Ok(false) };
        let mut read = vec![0; bytes.len()];
        Ok(file.read_exact_at(&mut read, 0).is_ok() && read == bytes)
    }

    /// Reads a small file. `None` if there is no file, or if it is longer than `limit`.
    pub fn read_small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let Some((file, stamp)) = self.open_file(name)? else { return Ok(None) };
        if stamp.size > limit {
            return Ok(None);
        }
        let mut bytes = vec![0; stamp.size as usize];
        file.read_exact_at(&mut bytes, 0).map_err(DiskError::at("reading it", &self.path.join(name)))?;
        Ok(Some(bytes))
    }

    /// The target of a symlink, as written. `None` if there is no symlink, or if its target is not UTF-8.
    pub fn read_link(&self, name: &str) -> Result<Option<String>, DiskError> {
        match rustix::fs::readlinkat(&self.handle, name, Vec::new()) {
            Ok(target) => Ok(target.into_string().ok()),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(DiskError::of("reading the symlink", &self.path.join(name), error)),
        }
    }

    /// Makes the names in this directory durable.
    pub fn sync(&self) -> Result<(), DiskError> {
        retry_on_intr(|| rustix::fs::fsync(&self.handle))
            .map_err(|error| DiskError::of_volume("syncing the directory", &self.path, error))
    }

    /// Removes a name. Returns false if there is none.
    pub fn remove(&self, name: &str) -> Result<bool, DiskError> {
        match retry_on_intr(|| rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(DiskError::of("removing it", &self.path.join(name), error)),
        }
    }

    /// Writes a small file atomically and durably: a new temporary file, data, `fsync`, rename, `fsync` of the
    /// directory. A kill in between leaves the temporary file for [`Directory::remove_temporaries`].
    pub fn write_small(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = format!("{}{:08x}{TEMPORARY}", temporary_prefix(name), fastrand::u32(..));
        self.replace_small(&temporary, name, bytes)?;
        // A file that a power cut may remove must not be trusted until then.
        self.sync().inspect_err(|_| drop(self.remove(name)))
    }

    /// Writes a small file that only this user may read, atomically: a power cut leaves the old one, or the new one. No
    /// other process may be writing it.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = format!("{}{TEMPORARY}", temporary_prefix(name));
        self.remove(&temporary)?;
        self.write_small_as((&temporary, PRIVATE_MODE), name, bytes, &self.path.join(name))
    }

    /// Writes a small file as [`Directory::write_small`] does, through a temporary name that only the caller uses.
    /// Replaces a temporary file that an earlier owner left.
    ///
    /// The file stays if the directory cannot be synced. This is for journals: old and new list only durable bytes, so
    /// either may survive a power cut.
    pub(crate) fn write_small_through(
        &self,
        temporary: &str,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        self.remove(temporary)?;
        self.replace_small(temporary, name, bytes)?;
        self.sync()
    }

    fn replace_small(&self, temporary: &str, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.write_small_as((temporary, FILE_MODE), name, bytes, &self.path.join(name));
        written.inspect_err(|_| drop(self.remove(temporary)))
    }

    /// Removes the temporary files that killed runs left for `name`. No other process may be writing it.
    pub fn remove_temporaries(&self, name: &str) -> Result<(), DiskError> {
        let prefix = temporary_prefix(name);
        let is_one = |other: &String| {
            let middle = other.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(TEMPORARY));
            middle.is_some_and(|middle| middle.len() == 8 && middle.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        self.names()?.iter().filter(|other| is_one(other)).try_for_each(|other| self.remove(other).map(drop))
    }

    fn write_small_as(
        &self,
        temporary: (&str, Mode),
        name: &str,
        bytes: &[u8],
        path: &Utf8Path,
    ) -> Result<(), DiskError> {
        let file = self.create_small(temporary, bytes, path)?;
        retry_on_intr(|| rustix::fs::fsync(&file))
            .map_err(|error| DiskError::of_volume("syncing it", path, error))?;
        self.rename_small(temporary.0, name, path)
    }

    /// Writes a new temporary file for `path`.
    fn create_small(
        &self,
        (temporary, mode): (&str, Mode),
        bytes: &[u8],
        path: &Utf8Path,
    ) -> Result<File, DiskError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = retry_on_intr(|| rustix::fs::openat(&self.handle, temporary, flags, mode));
        let file = File::from(file.map_err(DiskError::at("creating it", path))?);
        file.write_all_at(bytes, 0).map_err(|error| DiskError::of_volume("writing it", path, error))?;
        Ok(file)
    }

    fn rename_small(&self, temporary: &str, name: &str, path: &Utf8Path) -> Result<(), DiskError> {
        retry_on_intr(|| rustix::fs::renameat(&self.handle, temporary, &self.handle, name)).map_err(|error| {
            DiskError::of_rename("renaming it to its final name", &self.path.join(temporary), path, error)
        })
    }

    /// Lists the names in this directory.
    pub fn names(&self) -> Result<Vec<String>, DiskError> {
        let entries =
            rustix::fs::Dir::read_from(&self.handle).map_err(DiskError::at("listing it", &self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(DiskError::at("listing it", &self.path))?;
            if let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    pub(crate) fn free_space(&self) -> Result<u64, DiskError> {
        let stat = rustix::fs::fstatvfs(&self.handle)
            .map_err(DiskError::at("reading its free space", &self.path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
