//! Resumes a part: opens and locks it, and verifies the ranges that its journal lists.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::names::FileNames;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::file_stat::FileId;
use crate::source_file::BLOCK;
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::Hasher;
use provision_core::journal;
use provision_core::lockfile::Model;

/// The verified content of a part.
#[derive(Debug, Default)]
pub(super) struct ResumeState {
    pub(super) written: RangeSet,
    /// The journal's records that matched.
    pub(super) ranges: Vec<(ByteRange, u32)>,
    /// The digest of the contiguous prefix, and its length.
    pub(super) hasher: Hasher,
    pub(super) hashed: u64,
}

/// Reads what the journal lists, and keeps the records whose checksum matches.
pub(super) fn verify_journal(
    file: &File,
    directory: &Directory,
    names: &FileNames,
    model: &Model,
    mut keep_going: impl FnMut() -> bool,
) -> Result<ResumeState, StoreError> {
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
                return Err(StoreError::Interrupted { path: directory.path().join(&names.part) });
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
            resumed.ranges.push((record.range, record.crc));
            if let Some(hasher) = hasher {
                (resumed.hasher, resumed.hashed) = (hasher, record.range.end);
            }
        }
    }
    Ok(resumed)
}

/// Opens or creates a part and locks it. Replaces a symlink, a FIFO or a file with several names.
pub(super) fn open_locked(directory: &Directory, name: &str) -> Result<File, StoreError> {
    let path = directory.path().join(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    loop {
        let opened =
            retry_on_intr(|| rustix::fs::openat(directory.handle(), name, flags, Mode::from_raw_mode(0o600)));
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::NXIO) => {
                directory.remove(name)?;
                continue;
            }
            Err(Errno::ISDIR) => return Err(StoreError::NotAFile { path, what: "a directory" }),
            Err(error) => return Err(StoreError::of("opening it", &path, error)),
        };
        let held = rustix::fs::fstat(&file).map_err(StoreError::at("reading its metadata", &path))?;
        if FileType::from_raw_mode(held.st_mode) != FileType::RegularFile || held.st_nlink > 1 {
            directory.remove(name)?;
            continue;
        }
        match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::PartBusy { path }),
            Err(error) => return Err(StoreError::of("locking it", &path, error)),
        }
        // Its owner may have installed or removed it between open and lock.
        match rustix::fs::statat(directory.handle(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if FileId::of(&named) == FileId::of(&held) => return Ok(file),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(StoreError::of("reading its metadata", &path, error)),
        }
    }
}
