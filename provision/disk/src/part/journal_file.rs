//! The journal of a part on disk: appended records, and the rewrite that keeps it short.
//!
//! An open or a write that fails (ENOSPC, EDQUOT) becomes a [`DiskError`] that ends the file. The part and the earlier
//! records stay, and the next run resumes from them.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use camino::Utf8PathBuf;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::names::FileNames;
use crate::crc_ranges::CrcRanges;
use crate::directory::Directory;
use crate::error::DiskError;
use provision_core::digest::Sha256;
use provision_core::journal::{self, Reach};

/// A checkpoint rewrites a journal that is longer than this, in bytes. With 64 connections to one file that takes a
/// minute or two. A journal longer than [`journal::MAX_BYTES`] would not be read.
pub(super) const MAX_JOURNAL_BYTES: u64 = 1 << 20;

const WRITING: &str = "writing the journal";

/// The journal file of one part.
#[derive(Debug)]
pub(super) struct JournalFile {
    directory: Arc<Directory>,
    names: FileNames,
    size: u64,
    sha256: Sha256,
    /// The user that the part belongs to.
    owner: u32,
    /// Opened by the first append.
    file: Option<File>,
    bytes: u64,
    /// The ranges that it lists as durable, joined: the content after a rewrite.
    pub(super) durable: CrcRanges,
}

impl JournalFile {
    /// The length of a file whose length was unknown. No record is written yet.
    pub(super) fn end_at(&mut self, size: u64) {
        self.size = size;
    }

    pub(super) fn new(
        directory: Arc<Directory>,
        names: FileNames,
        (size, sha256): (u64, Sha256),
        owner: u32,
    ) -> Self {
        Self { directory, names, size, sha256, owner, file: None, bytes: 0, durable: CrcRanges::default() }
    }

    pub(super) fn path(&self) -> Utf8PathBuf {
        self.directory.path().join(&self.names.journal)
    }

    /// True if `text` would make it longer than [`MAX_JOURNAL_BYTES`].
    pub(super) fn has_no_room_for(&self, text: &str) -> bool {
        self.bytes + text.len() as u64 > MAX_JOURNAL_BYTES
    }

    /// Replaces the journal by the shortest equivalent one: the durable ranges, and `written` ranges that are not
    /// durable yet.
    pub(super) fn rewrite(&mut self, written: &CrcRanges) -> Result<(), DiskError> {
        let text = journal::header(&self.sha256, self.size)
            + &journal::records(Reach::Durable, self.durable.iter())
            + &journal::records(Reach::Written, written.iter());
        self.file = None;
        self.directory.write_small_through(&self.names.temporary, &self.names.journal, text.as_bytes())?;
        self.bytes = text.len() as u64;
        Ok(())
    }

    /// Appends records. `missing` is the number of bytes that the part lacks, for the message about a full disk.
    pub(super) fn append(&mut self, text: &str, missing: u64) -> Result<(), DiskError> {
        let path = self.path();
        if self.file.is_none() {
            let failed = |error| DiskError::of(WRITING, &path, error).needing(missing);
            self.file = Some(self.open().map_err(failed)?);
        }
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(text.as_bytes()));
        self.bytes += text.len() as u64;
        written.map_err(|error| DiskError::of_volume(WRITING, &path, error).needing(missing))
    }

    /// Makes appended records durable, and the names of part and journal with them.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        let Some(file) = &self.file else { return Ok(()) };
        retry_on_intr(|| rustix::fs::fdatasync(file))
            .map_err(|error| DiskError::of_volume("syncing the journal", &self.path(), error))?;
        self.directory.sync()
    }

    /// Removes it. The next append starts a new one.
    pub(super) fn remove(&mut self) -> Result<(), DiskError> {
        (self.file, self.bytes, self.durable) = (None, 0, CrcRanges::default());
        self.directory.remove(&self.names.journal).map(drop)
    }

    /// Creates it, or opens the one that this process has written. Replaces any other: a symlink, a FIFO, a file with a
    /// second name or another user's.
    fn open(&self) -> std::io::Result<File> {
        let mut file = match self.open_with(OFlags::CREATE | OFlags::EXCL) {
            Err(Errno::EXIST) => match self.open_with(OFlags::empty()) {
                Ok(file) if self.is_own(&file)? => file,
                _ => {
                    let (handle, name) = (self.directory.handle(), self.names.journal.as_str());
                    retry_on_intr(|| rustix::fs::unlinkat(handle, name, AtFlags::empty()))?;
                    self.open_with(OFlags::CREATE | OFlags::EXCL)?
                }
            },
            created => created?,
        };
        if file.metadata()?.len() == 0 {
            file.write_all(journal::header(&self.sha256, self.size).as_bytes())?;
        }
        Ok(file)
    }

    fn is_own(&self, file: &File) -> Result<bool, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(is_file && stat.st_nlink == 1 && stat.st_uid == self.owner)
    }

    fn open_with(&self, more: OFlags) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (handle, mode) = (self.directory.handle(), Mode::from_raw_mode(0o600));
        retry_on_intr(|| rustix::fs::openat(handle, &self.names.journal, flags | more, mode)).map(File::from)
    }
}
