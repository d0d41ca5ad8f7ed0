//! Copies single pieces into a part from files of this machine, and verifies each of them.
//!
//! A piece becomes part of the file only if it has the digest of the list. Other bytes stay in the file, where nothing
//! counts them, until right ones are written over them. Each thread copies two pieces side by side.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::copy::{CopyError, CopyMethod, JOURNAL_INTERVAL};
use super::part_file::PartFile;
use crate::error::DiskError;
use crate::source_file::{BLOCK, SourceFile};
use crate::threads::share;
use provision_core::byte_range::ByteRange;
use provision_core::digest::Hasher;
use provision_core::piece_list::samples;

/// A piece, and the place that may have its bytes.
#[derive(Debug, Clone, Copy)]
pub struct PieceCopy<'a> {
    /// Its position in the list.
    pub piece: usize,
    /// The file.
    pub source: &'a SourceFile,
    /// Its first byte there.
    pub at: u64,
}

/// The result of a copy of pieces.
#[derive(Debug)]
pub struct Copied {
    /// For each copy: true if the piece is in the part and verified.
    pub right: Vec<bool>,
    /// The method of the last ones.
    pub method: CopyMethod,
    /// The first failure to read a piece of a source.
    pub unreadable: Option<DiskError>,
}

/// The copies that the threads share.
struct Job<'a> {
    copies: &'a [PieceCopy<'a>],
    next: AtomicUsize,
    right: Vec<AtomicBool>,
    /// Bytes that are copied and not reported.
    unreported: AtomicU64,
    /// Bytes that are verified and not in the journal.
    unjournaled: AtomicU64,
    unreadable: Mutex<Option<DiskError>>,
}

/// A piece that a thread copies. Dropped before its end, it leaves no trace.
struct Lane<'a> {
    part: &'a PartFile,
    number: usize,
    copy: PieceCopy<'a>,
    range: ByteRange,
    /// The number of copied bytes.
    done: u64,
    hasher: Hasher,
    crc: crc32fast::Hasher,
    block: Vec<u8>,
}

impl PartFile {
    /// Copies pieces of which the part has no byte, by the cheapest method that the file systems have. Before each
    /// block, `step` gets the number of bytes copied since its last call and says whether to go on.
    ///
    /// # Errors
    /// The part cannot be written, or `step` says no; the verified pieces stay in both cases.
    pub fn copy_pieces(
        &self,
        copies: &[PieceCopy<'_>],
        step: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Copied, CopyError> {
        self.copy_pieces_by(CopyMethod::Kernel, copies, step)
    }

    /// Copies the missing pieces from a file that should have the same bytes. A file of which no sample is right is
    /// another one, and not read to its end.
    ///
    /// # Errors
    /// [`CopyError::Source`] if no sample is right because they cannot be read.
    pub(crate) fn fill_pieces_from(
        &self,
        source: &SourceFile,
        step: &mut dyn FnMut(u64) -> bool,
    ) -> Result<CopyMethod, CopyError> {
        let method = self.begin_copy(source);
        let same = |piece| PieceCopy { piece, source, at: self.pieces().pieces()[piece].range.start };
        let (first, rest) = samples(self.lacking_pieces());
        let Copied { right, mut method, unreadable } =
            self.copy_pieces_by(method, &first.into_iter().map(same).collect::<Vec<_>>(), step)?;
        if right.contains(&true) {
            method =
                self.copy_pieces_by(method, &rest.into_iter().map(same).collect::<Vec<_>>(), step)?.method;
        } else if let Some(error) = unreadable {
            return Err(CopyError::Source(error));
        }
        Ok(method)
    }

    fn copy_pieces_by(
        &self,
        method: CopyMethod,
        copies: &[PieceCopy<'_>],
        step: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Copied, CopyError> {
        let job = Job {
            copies,
            next: AtomicUsize::new(0),
            right: copies.iter().map(|_| AtomicBool::new(false)).collect(),
            unreported: AtomicU64::new(0),
            unjournaled: AtomicU64::new(0),
            unreadable: Mutex::default(),
        };
        let mut keep_going = || {
            if job.unjournaled.load(Ordering::Relaxed) >= JOURNAL_INTERVAL {
                job.unjournaled.store(0, Ordering::Relaxed);
                self.journal_written().map_err(CopyError::Part)?;
            }
            Ok(step(job.unreported.swap(0, Ordering::Relaxed)))
        };
        let threads = self.threads.min(copies.len().div_ceil(2));
        let copied = share(threads, &mut keep_going, |keep_going| self.copy_lanes(&job, method, keep_going));
        step(job.unreported.into_inner());
        match copied {
            Err(CopyError::Part(DiskError::Interrupted { .. })) => {
                Err(CopyError::Part(self.checkpoint_interrupted()))
            }
            copied => {
                let method = copied?;
                self.journal_written().map_err(CopyError::Part)?;
                let right = job.right.into_iter().map(AtomicBool::into_inner).collect();
                let unreadable = job.unreadable.into_inner().unwrap_or_else(PoisonError::into_inner);
                Ok(Copied { right, method, unreadable })
            }
        }
    }

    /// Copies two pieces side by side, as long as there are some.
    fn copy_lanes(
        &self,
        job: &Job<'_>,
        mut method: CopyMethod,
        keep_going: &mut dyn FnMut() -> Result<bool, CopyError>,
    ) -> Result<CopyMethod, CopyError> {
        let (mut first, mut second) = (None, None);
        loop {
            for lane in [&mut first, &mut second] {
                if lane.is_none() {
                    *lane = self.next_copy(job);
                }
            }
            if first.is_none() {
                std::mem::swap(&mut first, &mut second);
            }
            let Some(a) = &mut first else { return Ok(method) };
            if !keep_going()? {
                return Err(CopyError::Part(DiskError::Interrupted { path: self.path() }));
            }
            // Equal lengths: the rest of the longer one finds a new companion.
            let most = second.as_ref().map_or(u64::MAX, Lane::left).min(a.left()).min(BLOCK as u64);
            let is_read = [
                a.copy_next(job, most as usize, &mut method)?,
                second.as_mut().map_or(Ok(false), |b| b.copy_next(job, most as usize, &mut method))?,
            ];
            match (is_read, &mut second) {
                ([true, true], Some(b)) => {
                    Hasher::update_two([&mut a.hasher, &mut b.hasher], [&a.block, &b.block]);
                }
                ([true, false], _) => a.hasher.update(&a.block),
                ([false, true], Some(b)) => b.hasher.update(&b.block),
                _ => {}
            }
            for (lane, is_read) in [&mut first, &mut second].into_iter().zip(is_read) {
                if let Some(one) = lane.take_if(|one| !is_read || one.left() == 0)
                    && is_read
                {
                    one.finish(job);
                }
            }
            let copied = is_read.iter().filter(|is_read| **is_read).count() as u64 * most;
            job.unreported.fetch_add(copied, Ordering::Relaxed);
        }
    }

    /// Takes the next piece that can be copied.
    fn next_copy<'a>(&'a self, job: &Job<'a>) -> Option<Lane<'a>> {
        loop {
            let number = job.next.fetch_add(1, Ordering::Relaxed);
            let copy = *job.copies.get(number)?;
            let mut state = self.state();
            let state = &mut *state;
            let range = state.pieces.range(copy.piece);
            if self.has_list() && state.pieces.take_empty(copy.piece, &state.written) {
                let (hasher, crc, block) = (Hasher::new(), crc32fast::Hasher::new(), Vec::new());
                return Some(Lane { part: self, number, copy, range, done: 0, hasher, crc, block });
            }
            job.right[number].store(state.pieces.is_verified(copy.piece), Ordering::Relaxed);
        }
    }
}

impl Lane<'_> {
    fn left(&self) -> u64 {
        self.range.len() - self.done
    }

    /// Copies the next bytes. Returns false if the source lacks them.
    fn copy_next(&mut self, job: &Job<'_>, len: usize, method: &mut CopyMethod) -> Result<bool, CopyError> {
        self.block.resize(len, 0);
        let places = (self.copy.at + self.done, self.range.start + self.done);
        match self.part.copy_bytes(self.copy.source, places, &mut self.block, method) {
            Ok(()) => {}
            Err(CopyError::Source(error)) => {
                // A place behind the end of the file that was opened was never there.
                if places.0 + len as u64 <= self.copy.source.stamp().size {
                    let mut first = job.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.crc.update(&self.block);
        self.done += len as u64;
        Ok(true)
    }

    /// Ends a piece that is copied: it becomes part of the file if it is right.
    fn finish(mut self, job: &Job<'_>) {
        let found = std::mem::take(&mut self.hasher).finish();
        if found != self.part.pieces().pieces()[self.copy.piece].sha256 {
            return;
        }
        let crc = self.crc.clone();
        self.part.add_verified(self.copy.piece, self.range, crc);
        job.right[self.number].store(true, Ordering::Relaxed);
        job.unjournaled.fetch_add(self.range.len(), Ordering::Relaxed);
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut state = self.part.state();
        let state = &mut *state;
        state.pieces.end_copy(self.copy.piece, &state.written);
    }
}
