//! Resumes a part: opens and locks it, and finds the bytes that it may have.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::names::FileNames;
use crate::crc_ranges::CrcRanges;
use crate::directory::{Directory, FILE_MODE};
use crate::error::DiskError;
use crate::file_stat::FileId;
use crate::source_file::BLOCK;
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::Hasher;
use provision_core::journal;
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;

/// The verified content of a part.
#[derive(Debug, Default)]
pub(super) struct ResumeState {
    pub(super) written: RangeSet,
    /// The journal's records that matched.
    pub(super) ranges: CrcRanges,
    /// The digest of the contiguous prefix, and its length.
    pub(super) hasher: Hasher,
    pub(super) hashed: u64,
}

/// Reads the ranges that the journal lists, and keeps the records whose checksum matches.
pub(super) fn verify_journal(
    file: &File,
    directory: &Directory,
    names: &FileNames,
    model: &Model,
    mut keep_going: impl FnMut() -> bool,
) -> Result<ResumeState, DiskError> {
    let mut resumed = ResumeState::default();
    let Some(bytes) = directory.read_small(&names.journal, journal::MAX_BYTES)? else { return Ok(resumed) };
    let mut records = journal::parse(&bytes, &model.sha256, model.size);
    records.sort_by_key(|record| record.range);
    let mut block = vec![0; BLOCK];
    for record in records {
        let mut crc = crc32fast::Hasher::new();
        let mut at = record.range.start;
        // Hashes a contiguous record on a copy: the bytes of a record that does not match must not count.
        let mut hasher = (at == resumed.hashed).then(|| resumed.hasher.clone());
        while at < record.range.end {
            if !keep_going() {
                return Err(DiskError::Interrupted { path: directory.path().join(&names.part) });
            }
            let n = BLOCK.min((record.range.end - at) as usize);
            if file.read_exact_at(&mut block[..n], at).is_err() {
                break;
            }
            crc.update(&block[..n]);
            if let Some(hasher) = &mut hasher {
                hasher.update(&block[..n]);
            }
            at += n as u64;
        }
        if at == record.range.end && crc.finalize() == record.crc {
            resumed.written.insert(record.range);
            let crc = crc32fast::Hasher::new_with_initial_len(record.crc, record.range.len());
            resumed.ranges.insert(record.range, crc);
            if let Some(hasher) = hasher {
                (resumed.hasher, resumed.hashed) = (hasher, record.range.end);
            }
        }
    }
    Ok(resumed)
}

/// The bytes of the pieces that have some on the disk, as far as the file reaches. A piece that is a hole has none.
pub(super) fn claimed_pieces(file: &File, list: &PieceList) -> io::Result<RangeSet> {
    let length = file.metadata()?.len();
    let mut claimed = RangeSet::new();
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                ByteRange::new(start, rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(length))
            }
            // The rest is a hole.
            Err(Errno::NXIO) => break,
            // The file system does not tell.
            Err(_) => ByteRange::new(at, length),
        };
        for piece in &list.pieces()[list.touching(data)] {
            if piece.range.end <= length {
                claimed.insert(piece.range);
            }
        }
        at = data.end.max(at + 1);
    }
    Ok(claimed)
}

/// Opens or creates a part and locks it. A part that is not this process's own is replaced: a symlink, a FIFO, a file
/// with a second name, or another user's. That user, who may be the one of an earlier run, could change it after the
/// install.
pub(super) fn open_locked(directory: &Directory, names: &FileNames) -> Result<File, DiskError> {
    let name = names.part.as_str();
    let path = directory.path().join(name);
    loop {
        let created = open(directory, name, OFlags::CREATE | OFlags::EXCL);
        let (file, is_new) = match created {
            Ok(file) => (file, true),
            Err(Errno::EXIST) => match open(directory, name, OFlags::empty()) {
                Ok(file) => (file, false),
                Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => return Err(DiskError::NotAFile { path, what: "a directory" }),
                // A symlink or a socket.
                Err(Errno::LOOP | Errno::NXIO) => {
                    directory.remove(name)?;
                    continue;
                }
                Err(Errno::ACCESS) => {
                    let _lock = lock_unwritable(directory, name)?;
                    directory.remove(name)?;
                    continue;
                }
                Err(error) => return Err(DiskError::of("opening it", &path, error)),
            },
            Err(error) => return Err(DiskError::of("opening it", &path, error)),
        };
        let held = rustix::fs::fstat(&file).map_err(DiskError::at("reading its metadata", &path))?;
        lock(&file, &path)?;
        // Its owner may have installed or removed it between open and lock.
        if directory.identity(name)? != Some(FileId::of(&held)) {
            continue;
        }
        if is_new || is_own(directory, &names.temporary, &held)? {
            return Ok(file);
        }
        directory.remove(name)?;
    }
}

/// Locks the part `name`, if there is one. The part may be removed while the result lives.
pub(super) fn lock_existing(directory: &Directory, name: &str) -> Result<Option<File>, DiskError> {
    let path = directory.path().join(name);
    match open(directory, name, OFlags::empty()) {
        Ok(file) => lock(&file, &path).map(|()| Some(file)),
        Err(Errno::ACCESS) => lock_unwritable(directory, name),
        Err(error) if is_no_part(error) => Ok(None),
        Err(error) => Err(DiskError::of("opening it", &path, error)),
    }
}

/// Locks a part that this process may not write, such as another user's, for as long as the result lives. The lock is a
/// shared one: NFS refuses an exclusive one to a reader.
///
/// # Errors
/// [`DiskError::PartBusy`] if another process works on it, or may do so: another user's part that cannot be read hides
/// its lock.
fn lock_unwritable(directory: &Directory, name: &str) -> Result<Option<File>, DiskError> {
    let path = directory.path().join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let failed = |error| DiskError::of("opening it", &path, error);
    match retry_on_intr(|| rustix::fs::openat(directory.handle(), name, flags, Mode::empty())) {
        Ok(file) => {
            let file = File::from(file);
            lock_as(&file, &path, FlockOperation::NonBlockingLockShared)?;
            let held = FileId::of(&rustix::fs::fstat(&file).map_err(failed)?);
            // Another process has installed it meanwhile, and a third one works on the next part.
            if directory.identity(name)?.is_some_and(|named| named != held) {
                return Err(DiskError::PartBusy { path });
            }
            Ok(Some(file))
        }
        // An earlier run of this user left it under an odd umask.
        Err(Errno::ACCESS) => match rustix::fs::statat(directory.handle(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_uid != rustix::process::geteuid().as_raw() => {
                Err(DiskError::PartBusy { path })
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed(error)),
        },
        Err(error) if is_no_part(error) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// True if `error` shows that the name has no file, or a symlink, a socket or a directory.
fn is_no_part(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ISDIR)
}

fn open(directory: &Directory, name: &str, more: OFlags) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    retry_on_intr(|| rustix::fs::openat(directory.handle(), name, flags, FILE_MODE)).map(File::from)
}

fn lock(file: &File, path: &Utf8Path) -> Result<(), DiskError> {
    lock_as(file, path, FlockOperation::NonBlockingLockExclusive)
}

fn lock_as(file: &File, path: &Utf8Path, operation: FlockOperation) -> Result<(), DiskError> {
    match retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(DiskError::PartBusy { path: path.to_owned() }),
        Err(error) => Err(DiskError::of("locking it", path, error)),
    }
}

/// True if `held` is a regular file with one name that belongs to this user. Some volumes give every file another
/// owner: there, a new file under the name `temporary` has the same one.
fn is_own(directory: &Directory, temporary: &str, held: &Stat) -> Result<bool, DiskError> {
    if FileType::from_raw_mode(held.st_mode) != FileType::RegularFile || held.st_nlink != 1 {
        return Ok(false);
    }
    if held.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(true);
    }
    directory.remove(temporary)?;
    let path = directory.path().join(temporary);
    let failed = |error| DiskError::of("creating it", &path, error);
    let new = open(directory, temporary, OFlags::CREATE | OFlags::EXCL).map_err(failed)?;
    let owner = rustix::fs::fstat(&new).map_err(failed)?.st_uid;
    directory.remove(temporary)?;
    Ok(owner == held.st_uid)
}
