//! From a file that is already on this machine into a part, by the cheapest way that the file systems have, and proven
//! like any other bytes.
//!
//! A reflink shares the blocks; `copy_file_range` lets the kernel (or a file server) do the copying; else bytes are read
//! and written. What the kernel brought is read back *from the part* and hashed: what is installed has been seen. The
//! journal is kept as for a download, so that an interrupted copy is resumed.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::Errno;

use super::{PartFile, PartNames};
use crate::{BLOCK, Destination, Installed, SourceFile, StoreError};
use provision_core::byte_range::ByteRange;
use provision_core::lockfile::Model;

/// Between two words in the journal, in bytes.
pub(super) const NOTE_EVERY: u64 = 64 << 20;

/// How bytes came to be where they are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMethod {
    /// The blocks are shared (`FICLONE`).
    Reflink,
    /// The kernel copied (`copy_file_range`).
    Kernel,
    /// Read and written.
    ReadWrite,
}

/// Why bytes could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The original is at fault: its bytes are wrong, or cannot be read. They may be had elsewhere.
    #[error(transparent)]
    Source(StoreError),
    /// The place where they should go is at fault.
    #[error(transparent)]
    Part(StoreError),
}

impl CopyError {
    /// A failure while the original was read; being told to stop is nobody's fault.
    pub(crate) fn of_original(error: StoreError) -> Self {
        if matches!(error, StoreError::Interrupted { .. }) { Self::Part(error) } else { Self::Source(error) }
    }
}

/// Copies `original` to the model's final name, by the protocol of every install. `step` is told before each block how
/// many bytes have come since it was asked last, and says whether to go on.
pub fn install_copy(
    (destination, naming): (&Destination, &PartNames),
    model: &Model,
    original: &SourceFile,
    mut step: impl FnMut(u64) -> bool,
) -> Result<(Installed, CopyMethod), CopyError> {
    let part = PartFile::resume(destination, model, naming, || step(0)).map_err(CopyError::Part)?;
    let part = Arc::new(part);
    let mut mixed = part.held() > 0;
    loop {
        let way = part.bring(original, &mut step)?;
        match part.clone().verify() {
            Ok(verified) => return Ok((verified.install().map_err(CopyError::Part)?, way)),
            // Bytes of an earlier run were among them: nobody knows whose are wrong.
            Err(StoreError::Mismatch { .. }) if mixed => part.reset().map_err(CopyError::Part)?,
            Err(StoreError::Mismatch { expected, found, .. }) => {
                part.remove().map_err(CopyError::Part)?;
                let path = original.path().to_owned();
                return Err(CopyError::Source(StoreError::Mismatch { path, expected, found }));
            }
            Err(error) => return Err(CopyError::Part(error)),
        }
        mixed = false;
    }
}

impl PartFile {
    /// Fills the part from a file that should have the same bytes. What is there already is not copied again.
    fn bring(
        &self,
        original: &SourceFile,
        step: &mut impl FnMut(u64) -> bool,
    ) -> Result<CopyMethod, CopyError> {
        let whole = self.held() == 0 && original.stamp().size == self.size;
        let mut way =
            if whole && self.clone_from_file(original) { CopyMethod::Reflink } else { CopyMethod::Kernel };
        let mut told = 0;
        let mut unnoted = 0;
        for range in self.missing() {
            let mut at = range.start;
            while at < range.end {
                if !step(std::mem::take(&mut told)) {
                    return Err(CopyError::Part(self.leave()));
                }
                let block = ByteRange::new(at, range.end.min(at + BLOCK as u64));
                self.bring_block(original, block, &mut way)?;
                at = block.end;
                told += block.len();
                unnoted += block.len();
                if unnoted >= NOTE_EVERY {
                    self.journal_written().map_err(CopyError::Part)?;
                    unnoted = 0;
                }
            }
        }
        step(told);
        Ok(way)
    }

    /// Shares the original's blocks, where the file system can. A file that has grown since it was opened is left out.
    fn clone_from_file(&self, original: &SourceFile) -> bool {
        rustix::fs::ioctl_ficlone(&self.file, &original.file).is_ok()
            && rustix::fs::fstat(&self.file).is_ok_and(|stat| stat.st_size as u64 == self.size)
    }

    /// Makes what was brought count for the next run.
    pub(super) fn leave(&self) -> StoreError {
        let interrupted = StoreError::Interrupted { path: self.path() };
        self.journal_written().and_then(|()| self.checkpoint()).map_or_else(|error| error, |_| interrupted)
    }

    fn bring_block(
        &self,
        original: &SourceFile,
        block: ByteRange,
        way: &mut CopyMethod,
    ) -> Result<(), CopyError> {
        if *way == CopyMethod::Kernel {
            self.check_tenure().map_err(CopyError::Part)?;
            match self.copy_in_kernel(original, block) {
                Ok(true) => {}
                Ok(false) => *way = CopyMethod::ReadWrite,
                Err(error) => return Err(CopyError::Part(error)),
            }
        }
        let mut bytes = vec![0; block.len() as usize];
        if *way == CopyMethod::ReadWrite {
            original
                .file
                .read_exact_at(&mut bytes, block.start)
                .map_err(|error| CopyError::Source(StoreError::of("reading it", original.path(), error)))?;
            self.write(block.start, &bytes).map_err(CopyError::Part)?;
            return self.hash(block.start, &bytes).map_err(CopyError::Part);
        }
        let read = self.file.read_exact_at(&mut bytes, block.start);
        read.map_err(|error| CopyError::Part(self.error("reading it back", error)))?;
        self.record(block.start, &bytes);
        self.hash(block.start, &bytes).map_err(CopyError::Part)
    }

    /// False where the kernel cannot: reading and writing will find out why, if there is a reason.
    fn copy_in_kernel(&self, original: &SourceFile, block: ByteRange) -> Result<bool, StoreError> {
        let (mut from, mut to) = (block.start, block.start);
        while to < block.end {
            let left = (block.end - to) as usize;
            match rustix::fs::copy_file_range(
                &original.file,
                Some(&mut from),
                &self.file,
                Some(&mut to),
                left,
            ) {
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
