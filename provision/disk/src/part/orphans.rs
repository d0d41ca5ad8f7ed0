//! What other processes left of a part, where locks do nothing and each has names of its own.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::copy::JOURNAL_INTERVAL;
use super::names::Owner;
use super::resume::verify_journal;
use super::{FileNames, PartFile};
use crate::{BLOCK, INSTALLED_MTIME, StoreError};
use provision_core::lockfile::Model;

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
    ///
    /// What cannot be read is left where it is: its bytes can be had elsewhere. `keep_going` is asked before each block, and the
    /// journal is kept as for a download, so that an interrupted adoption is gone on with.
    pub(super) fn adopt_orphans(
        &self,
        model: &Model,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<(), StoreError> {
        let stem = FileNames::stem(model);
        // By the volume's own clock: this part was made just now.
        let now = rustix::fs::fstat(&self.file)
            .map_err(StoreError::at("reading its metadata", &self.path()))?
            .st_mtime;
        let mut abandoned = Vec::new();
        for name in self.directory.names()? {
            let Some(other) = name.strip_suffix(".part").filter(|other| other.starts_with(&stem)) else {
                continue;
            };
            if name == self.names.part {
                continue;
            }
            let names = FileNames::of(other);
            let Ok(Some((file, stamp))) = self.directory.open_file(&names.part) else { continue };
            let Ok(usage) = self.directory.usage(&names.journal) else { continue };
            let journalled = usage.map_or(i64::MIN, |usage| usage.written);
            // A part that is about to get its final name has the mtime of an installed file already.
            let changed = rustix::fs::fstat(&file).map_or(now, |stat| stat.st_ctime);
            let written = if stamp.mtime.0 == INSTALLED_MTIME { changed } else { stamp.mtime.0 };
            let is_silent = now.saturating_sub(written.max(journalled)) > ABANDONED;
            if self.held() < self.size && !self.adopt(&file, &names, model, &mut keep_going)? {
                continue;
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
        for FileNames { part, journal, temporary } in abandoned {
            // What cannot be removed is in the method of nothing but room.
            let _ = [temporary, journal, part].map(|name| self.directory.remove(&name));
        }
        Ok(())
    }

    /// Copies what is resumed of another part and missing here; false where that could not be read to its end.
    fn adopt(
        &self,
        from: &File,
        names: &FileNames,
        model: &Model,
        keep_going: &mut impl FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let resumed = match verify_journal(from, &self.directory, names, model, &mut *keep_going) {
            Ok(resumed) => resumed,
            Err(error @ StoreError::Interrupted { .. }) => return Err(error),
            Err(_) => return Ok(false),
        };
        let mut since_record = 0;
        for missing in self.missing() {
            for (piece, _) in &resumed.ranges {
                let (mut at, end) = (piece.start.max(missing.start), piece.end.min(missing.end));
                while at < end {
                    if !keep_going() {
                        return Err(self.checkpoint_interrupted());
                    }
                    let mut block = vec![0; BLOCK.min((end - at) as usize)];
                    if from.read_exact_at(&mut block, at).is_err() {
                        return Ok(false);
                    }
                    self.write(at, &block)?;
                    self.hash(at, &block)?;
                    at += block.len() as u64;
                    since_record += block.len() as u64;
                    if since_record >= JOURNAL_INTERVAL {
                        self.journal_written()?;
                        since_record = 0;
                    }
                }
            }
        }
        Ok(true)
    }
}
