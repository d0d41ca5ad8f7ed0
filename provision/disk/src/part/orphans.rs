//! Orphans: parts that other processes left, where locks do nothing and each process has part names of its own.
//!
//! A run copies an orphan's verified bytes into its own part. It never writes into the orphan: the owner may only be
//! slow.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::copy::{CopyError, JOURNAL_INTERVAL};
use super::copy_pieces::PieceCopy;
use super::names::{FileNames, Owner, PartNames};
use super::options::PartOptions;
use super::part_file::PartFile;
use super::resume::{claimed_pieces, verify_journal};
use crate::destination::Destination;
use crate::error::DiskError;
use crate::source_file::{BLOCK, SourceFile};
use provision_core::lockfile::Model;

/// An orphan of an unknown owner that has not changed for this long is removed, in seconds. A run writes its journal
/// four times a second, but a part may wait for hours until other files are done.
pub(super) const ABANDONED_AFTER: i64 = 24 * 60 * 60;

impl PartFile {
    /// Opens the part of `model` as [`PartFile::open`] does, and adopts the parts that earlier runs left under other
    /// names. Must be called before any range of the part is claimed.
    pub fn resume<'a>(
        destination: &Destination,
        model: &Model,
        options: impl Into<PartOptions<'a>>,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Self, DiskError> {
        let options = options.into();
        let is_shared = *options.names == PartNames::Shared;
        let part = Self::open(destination, model, options, &mut keep_going)?;
        if !is_shared {
            part.adopt_orphans(model, keep_going)?;
        }
        Ok(part)
    }

    /// Copies the verified bytes of all orphans of `model`.
    ///
    /// Removes an orphan afterwards if its owner is dead, or if it has not changed for [`ABANDONED_AFTER`]. Otherwise
    /// each killed run would leave all its bytes for ever. A living owner loses its work by that and reports it; its
    /// part is another file than this one, so no wrong byte can result.
    ///
    /// Leaves an orphan that cannot be read: another source may have its bytes. Keeps the journal as for a download,
    /// so an interrupted adoption is resumed.
    pub(super) fn adopt_orphans(
        &self,
        model: &Model,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<(), DiskError> {
        let stem = FileNames::stem(model);
        // The volume's clock: this part was created just now.
        let now = rustix::fs::fstat(&self.file)
            .map_err(DiskError::at("reading its metadata", &self.path()))?
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
            let journal_mtime = usage.map_or(i64::MIN, |usage| usage.written);
            // A part whose install has begun has the mtime of an installed file.
            let ctime = rustix::fs::fstat(&file).map_or(now, |stat| stat.st_ctime);
            let part_mtime = if stamp.is_installed() { ctime } else { stamp.mtime.0 };
            let is_unchanged = now.saturating_sub(part_mtime.max(journal_mtime)) > ABANDONED_AFTER;
            if self.held() < self.size() && !self.adopt(&file, &names, model, &mut keep_going)? {
                continue;
            }
            match Owner::of(model, other) {
                Some(Owner::Dead) => abandoned.push(names),
                Some(Owner::Unknown) if is_unchanged => abandoned.push(names),
                _ => {}
            }
        }
        if !abandoned.is_empty() {
            // The copied bytes must survive a power cut before the orphans are removed.
            self.checkpoint()?;
        }
        for FileNames { part, journal, temporary } in abandoned {
            // An orphan that cannot be removed takes room and does no other harm.
            let _ = [temporary, journal, part].map(|name| self.directory.remove(&name));
        }
        Ok(())
    }

    /// Copies the verified bytes of an orphan that are missing here. Returns false if the orphan cannot be read to its
    /// end.
    fn adopt(
        &self,
        orphan: &File,
        names: &FileNames,
        model: &Model,
        keep_going: &mut impl FnMut() -> bool,
    ) -> Result<bool, DiskError> {
        if self.has_list() {
            return self.adopt_pieces(names, keep_going);
        }
        let resumed = match verify_journal(orphan, &self.directory, names, model, &mut *keep_going) {
            Ok(resumed) => resumed,
            Err(error @ DiskError::Interrupted { .. }) => return Err(error),
            Err(_) => return Ok(false),
        };
        let mut since_record = 0;
        for missing in self.missing() {
            for (range, _) in resumed.ranges.iter() {
                let (mut at, end) = (range.start.max(missing.start), range.end.min(missing.end));
                while at < end {
                    if !keep_going() {
                        return Err(self.checkpoint_interrupted());
                    }
                    let mut block = vec![0; BLOCK.min((end - at) as usize)];
                    if orphan.read_exact_at(&mut block, at).is_err() {
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

    /// Copies the pieces of an orphan that are right. Returns false if some of the orphan cannot be read.
    fn adopt_pieces(
        &self,
        names: &FileNames,
        keep_going: &mut impl FnMut() -> bool,
    ) -> Result<bool, DiskError> {
        let Ok(Some(orphan)) = SourceFile::in_directory(&self.directory, &names.part) else {
            return Ok(false);
        };
        let Ok(claimed) = claimed_pieces(&orphan.file, self.pieces()) else { return Ok(false) };
        let same = |piece: usize| {
            let range = self.pieces().pieces()[piece].range;
            claimed.contains(range).then_some(PieceCopy { piece, source: &orphan, at: range.start })
        };
        let copies: Vec<_> = self.lacking_pieces().into_iter().filter_map(same).collect();
        let copied = self.copy_pieces(&copies, &mut |_| keep_going());
        copied.map(|copied| copied.unreadable.is_none()).map_err(CopyError::into_disk_error)
    }
}
