//! What other processes left of a part, where locks do nothing and each has names of its own.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::names::Owner;
use super::prove::{Proven, prove};
use super::{Names, PartFile};
use crate::byte_range::ByteRange;
use crate::lockfile::Model;
use crate::store::{BLOCK, INSTALLED_MTIME, StoreError};

/// Where locks do nothing, a part in which nothing has happened for so long is nobody's, in seconds. A run notes four times
/// a second what has come; but a part may wait its turn behind hours of others.
const ABANDONED: i64 = 24 * 60 * 60;

impl PartFile {
    /// Where locks do nothing, a part left by a process that is gone is copied, never written in place: its owner
    /// may only be slow. To be called before anything is claimed of this part.
    ///
    /// What is nobody's any more is removed then, or each run that is killed would leave all its bytes for ever: that of a
    /// dead owner, and that in which nothing has happened for [`ABANDONED`]. A living owner loses its work by that, and
    /// says so; nothing wrong can come of it, since this part is another file.
    pub(super) fn adopt_orphans(
        &self,
        model: &Model,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<(), StoreError> {
        let stem = Names::stem(model);
        // By the volume's own clock: this part was made just now.
        let now =
            rustix::fs::fstat(&self.file).map_err(StoreError::at("looking at it", &self.path()))?.st_mtime;
        let mut abandoned = Vec::new();
        for name in self.directory.names()? {
            let Some(other) = name.strip_suffix(".part").filter(|other| other.starts_with(&stem)) else {
                continue;
            };
            if name == self.names.part {
                continue;
            }
            let names = Names::of(other);
            let Some((file, stamp)) = self.directory.open_file(&names.part)? else { continue };
            let journalled = self.directory.usage(&names.journal)?.map_or(i64::MIN, |usage| usage.written);
            // A part that is about to get its final name has the mtime of an installed file already.
            let changed = rustix::fs::fstat(&file).map_or(now, |stat| stat.st_ctime);
            let written = if stamp.mtime.0 == INSTALLED_MTIME { changed } else { stamp.mtime.0 };
            let is_silent = now.saturating_sub(written.max(journalled)) > ABANDONED;
            let proven = if self.held() == self.size {
                Proven::default()
            } else {
                prove(&file, &self.directory, &names, model, &mut go_on)?
            };
            for missing in self.missing() {
                for (piece, _) in &proven.pieces {
                    let wanted = ByteRange::new(piece.start.max(missing.start), piece.end.min(missing.end));
                    self.copy(&file, wanted)?;
                }
            }
            match Owner::of(model, other) {
                Some(Owner::Dead) => abandoned.push(names),
                Some(Owner::Unknown) if is_silent => abandoned.push(names),
                _ => {}
            }
        }
        if !abandoned.is_empty() {
            // What was theirs outlives a power cut before they go.
            self.checkpoint()?;
        }
        for Names { part, journal, temporary } in abandoned {
            // What cannot be removed is in the way of nothing but room.
            let _ = [temporary, journal, part].map(|name| self.directory.remove(&name));
        }
        Ok(())
    }

    /// Copies `range` out of another file, at the same place.
    fn copy(&self, from: &File, range: ByteRange) -> Result<(), StoreError> {
        let mut at = range.start;
        while at < range.end {
            let mut block = vec![0; BLOCK.min((range.end - at) as usize)];
            from.read_exact_at(&mut block, at).map_err(|error| self.error("copying into it", error))?;
            let len = block.len() as u64;
            self.write(at, &block)?;
            self.hash(at, &block)?;
            at += len;
        }
        Ok(())
    }
}
