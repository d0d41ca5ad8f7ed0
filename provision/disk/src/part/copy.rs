//! Fills a part from a file on this machine, by the cheapest method that the file systems have.
//!
//! A reflink shares the blocks; with `copy_file_range` the kernel or a file server copies; otherwise bytes are read
//! and written. After a reflink or `copy_file_range` the part is read back and hashed, so only bytes that this process
//! has read are installed. The journal is kept as for a download: an interrupted copy is resumed.

use std::os::unix::fs::FileExt as _;
use std::sync::PoisonError;

use camino::Utf8PathBuf;
use rustix::io::Errno;

use super::part_file::PartFile;
use crate::error::DiskError;
use crate::source_file::{BLOCK, SourceFile};
use provision_core::byte_range::ByteRange;
use provision_core::byte_size::ByteSize;

/// The number of copied bytes between two `written` records.
pub(super) const JOURNAL_INTERVAL: u64 = 64 << 20;

/// The method by which bytes were copied into a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// The blocks are shared (`FICLONE`).
    Reflink,
    /// The kernel copied (`copy_file_range`).
    Kernel,
    /// Read and written.
    ReadWrite,
}

/// A failed copy, by the side that failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source cannot be read, or has the wrong bytes. Another source may have the right ones.
    #[error(transparent)]
    Source(DiskError),
    /// The target cannot be written.
    #[error(transparent)]
    Part(DiskError),
    /// The source lacks some of the pieces of the file's list. The part has the others.
    #[error("{path} lacks {} of the wanted bytes", ByteSize(missing.iter().map(ByteRange::len).sum()))]
    Pieces {
        /// The part, for the next source.
        part: Box<PartFile>,
        /// The source.
        path: Utf8PathBuf,
        /// The missing ranges, ascending.
        missing: Vec<ByteRange>,
        /// The bytes of the pieces that the source had.
        copied: u64,
    },
}

impl CopyError {
    /// The error for a failed read of the source. An interruption is not the source's fault.
    pub fn of_source(error: DiskError) -> Self {
        if matches!(error, DiskError::Interrupted { .. }) { Self::Part(error) } else { Self::Source(error) }
    }

    /// The failure of the disk, where the side does not matter.
    pub fn into_disk_error(self) -> DiskError {
        match self {
            Self::Source(error) | Self::Part(error) => error,
            Self::Pieces { path, missing, .. } => DiskError::WrongPieces { path, ranges: missing },
        }
    }
}

impl PartFile {
    /// Copies the missing ranges from a file that should have the same bytes. Before each block, `step` gets the
    /// number of bytes copied since its last call and says whether to go on.
    pub(crate) fn fill_from(
        &self,
        source: &SourceFile,
        step: &mut dyn FnMut(u64) -> bool,
    ) -> Result<CopyMethod, CopyError> {
        let mut method = self.begin_copy(source);
        let mut unreported = 0;
        let mut since_record = 0;
        for range in self.missing() {
            let mut at = range.start;
            while at < range.end {
                if !step(std::mem::take(&mut unreported)) {
                    return Err(CopyError::Part(self.checkpoint_interrupted()));
                }
                let block = ByteRange::new(at, range.end.min(at + BLOCK as u64));
                self.copy_block(source, block, &mut method)?;
                at = block.end;
                unreported += block.len();
                since_record += block.len();
                if since_record >= JOURNAL_INTERVAL {
                    self.journal_written().map_err(CopyError::Part)?;
                    since_record = 0;
                }
            }
        }
        step(unreported);
        Ok(method)
    }

    /// Shares the source's blocks if the part is empty and the file system can. Otherwise the kernel copies.
    pub(super) fn begin_copy(&self, source: &SourceFile) -> CopyMethod {
        let whole = self.held() == 0 && source.stamp().size == self.size();
        if whole && self.clone_from_file(source) { CopyMethod::Reflink } else { CopyMethod::Kernel }
    }

    /// Shares the source's blocks, if the file system can. Rejects a source that has grown since it was opened.
    fn clone_from_file(&self, source: &SourceFile) -> bool {
        rustix::fs::ioctl_ficlone(&self.file, &source.file).is_ok()
            && rustix::fs::fstat(&self.file).is_ok_and(|stat| stat.st_size as u64 == self.size())
    }

    /// Checkpoints the copied bytes for the next run. Returns the error that ends this one.
    pub(crate) fn checkpoint_interrupted(&self) -> DiskError {
        let interrupted = DiskError::Interrupted { path: self.path() };
        self.journal_written().and_then(|()| self.checkpoint()).map_or_else(|error| error, |_| interrupted)
    }

    fn copy_block(
        &self,
        source: &SourceFile,
        block: ByteRange,
        method: &mut CopyMethod,
    ) -> Result<(), CopyError> {
        let mut bytes = vec![0; block.len() as usize];
        self.copy_bytes(source, (block.start, block.start), &mut bytes, method)?;
        self.track_write(block.start, &bytes);
        // Bytes behind them are hashed when the part is verified, which can be stopped.
        self.hash_next(block.start, &bytes);
        Ok(())
    }

    /// Copies bytes from the source's place `from` to `to`, and reads them into `bytes`. With a reflink they are there.
    pub(super) fn copy_bytes(
        &self,
        source: &SourceFile,
        (from, to): (u64, u64),
        bytes: &mut [u8],
        method: &mut CopyMethod,
    ) -> Result<(), CopyError> {
        // Read-locked as for a write.
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        if *sealed {
            return Err(CopyError::Part(DiskError::Sealed { path: self.path() }));
        }
        if *method == CopyMethod::Kernel {
            self.check_lease().map_err(CopyError::Part)?;
            if !self.copy_in_kernel(source, (from, to), bytes.len()).map_err(CopyError::Part)? {
                *method = CopyMethod::ReadWrite;
            }
        }
        if *method == CopyMethod::ReadWrite {
            let read = source.file.read_exact_at(bytes, from);
            read.map_err(|error| CopyError::Source(DiskError::of("reading it", source.path(), error)))?;
            self.write_bytes(to, bytes).map_err(CopyError::Part)
        } else if *method == CopyMethod::Reflink {
            // The blocks are the source's.
            let read = self.file.read_exact_at(bytes, to);
            read.map_err(|error| CopyError::Source(DiskError::of("reading it", source.path(), error)))
        } else {
            self.read_back(bytes, to).map_err(CopyError::Part)
        }
    }

    /// Returns false if the kernel cannot copy. If there is a lasting reason, reading and writing will report it.
    fn copy_in_kernel(
        &self,
        source: &SourceFile,
        (mut from, mut to): (u64, u64),
        len: usize,
    ) -> Result<bool, DiskError> {
        let end = to + len as u64;
        while to < end {
            let left = (end - to) as usize;
            let copied =
                rustix::fs::copy_file_range(&source.file, Some(&mut from), &self.file, Some(&mut to), left);
            match copied {
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                    return Err(self.error("copying into it", error));
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}
