//! From a file that is already on this machine into a part, by the cheapest method that the file systems have, and proven
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
pub(super) const JOURNAL_INTERVAL: u64 = 64 << 20;

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
    /// The source is at fault: its bytes are wrong, or cannot be read. They may be had elsewhere.
    #[error(transparent)]
    Source(StoreError),
    /// The place where they should go is at fault.
    #[error(transparent)]
    Part(StoreError),
}

impl CopyError {
    /// A failure while the source was read; being reported to stop is nobody's fault.
    pub(crate) fn of_source(error: StoreError) -> Self {
        if matches!(error, StoreError::Interrupted { .. }) { Self::Part(error) } else { Self::Source(error) }
    }
}

/// Copies `source` to the model's final name, by the protocol of every install. `step` is reported before each block how
/// many bytes have come since it was asked last, and says whether to go on.
pub fn install_copy(
    (destination, part_names): (&Destination, &PartNames),
    model: &Model,
    source: &SourceFile,
    mut step: impl FnMut(u64) -> bool,
) -> Result<(Installed, CopyMethod), CopyError> {
    let part = PartFile::resume(destination, model, part_names, || step(0)).map_err(CopyError::Part)?;
    let part = Arc::new(part);
    let mut mixed = part.held() > 0;
    loop {
        let method = part.fill_from(source, &mut step)?;
        match part.clone().verify() {
            Ok(verified) => return Ok((verified.install().map_err(CopyError::Part)?, method)),
            // Bytes of an earlier run were among them: nobody knows whose are wrong.
            Err(StoreError::Mismatch { .. }) if mixed => part.reset().map_err(CopyError::Part)?,
            Err(StoreError::Mismatch { expected, found, .. }) => {
                part.remove().map_err(CopyError::Part)?;
                let path = source.path().to_owned();
                return Err(CopyError::Source(StoreError::Mismatch { path, expected, found }));
            }
            Err(error) => return Err(CopyError::Part(error)),
        }
        mixed = false;
    }
}

impl PartFile {
    /// Fills the part from a file that should have the same bytes. What is there already is not copied again.
    fn fill_from(
        &self,
        source: &SourceFile,
        step: &mut impl FnMut(u64) -> bool,
    ) -> Result<CopyMethod, CopyError> {
        let whole = self.held() == 0 && source.stamp().size == self.size;
        let mut method =
            if whole && self.clone_from_file(source) { CopyMethod::Reflink } else { CopyMethod::Kernel };
        let mut reported = 0;
        let mut since_record = 0;
        for range in self.missing() {
            let mut at = range.start;
            while at < range.end {
                if !step(std::mem::take(&mut reported)) {
                    return Err(CopyError::Part(self.checkpoint_interrupted()));
                }
                let block = ByteRange::new(at, range.end.min(at + BLOCK as u64));
                self.copy_block(source, block, &mut method)?;
                at = block.end;
                reported += block.len();
                since_record += block.len();
                if since_record >= JOURNAL_INTERVAL {
                    self.journal_written().map_err(CopyError::Part)?;
                    since_record = 0;
                }
            }
        }
        step(reported);
        Ok(method)
    }

    /// Shares the source's blocks, where the file system can. A file that has grown since it was opened is left out.
    fn clone_from_file(&self, source: &SourceFile) -> bool {
        rustix::fs::ioctl_ficlone(&self.file, &source.file).is_ok()
            && rustix::fs::fstat(&self.file).is_ok_and(|stat| stat.st_size as u64 == self.size)
    }

    /// Makes what was brought count for the next run.
    pub(super) fn checkpoint_interrupted(&self) -> StoreError {
        let interrupted = StoreError::Interrupted { path: self.path() };
        self.journal_written().and_then(|()| self.checkpoint()).map_or_else(|error| error, |_| interrupted)
    }

    fn copy_block(
        &self,
        source: &SourceFile,
        block: ByteRange,
        method: &mut CopyMethod,
    ) -> Result<(), CopyError> {
        if *method == CopyMethod::Kernel {
            self.check_lease().map_err(CopyError::Part)?;
            match self.copy_in_kernel(source, block) {
                Ok(true) => {}
                Ok(false) => *method = CopyMethod::ReadWrite,
                Err(error) => return Err(CopyError::Part(error)),
            }
        }
        let mut bytes = vec![0; block.len() as usize];
        if *method == CopyMethod::ReadWrite {
            source
                .file
                .read_exact_at(&mut bytes, block.start)
                .map_err(|error| CopyError::Source(StoreError::of("reading it", source.path(), error)))?;
            self.write(block.start, &bytes).map_err(CopyError::Part)?;
            return self.hash(block.start, &bytes).map_err(CopyError::Part);
        }
        let read = self.file.read_exact_at(&mut bytes, block.start);
        read.map_err(|error| CopyError::Part(self.error("reading it back", error)))?;
        self.track_write(block.start, &bytes);
        self.hash(block.start, &bytes).map_err(CopyError::Part)
    }

    /// False where the kernel cannot: reading and writing will find out why, if there is a reason.
    fn copy_in_kernel(&self, source: &SourceFile, block: ByteRange) -> Result<bool, StoreError> {
        let (mut from, mut to) = (block.start, block.start);
        while to < block.end {
            let left = (block.end - to) as usize;
            match rustix::fs::copy_file_range(&source.file, Some(&mut from), &self.file, Some(&mut to), left)
            {
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
