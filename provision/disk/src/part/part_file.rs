//! An open part file: writes, bookkeeping, checkpoints and removal.
//!
//! Its methods keep the order of writes: data, `fdatasync`, then the journal's `durable` record (I3).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use camino::Utf8PathBuf;
use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};

use super::journal_file::JournalFile;
use super::names::FileNames;
use super::options::PartOptions;
use super::piece_state::{Pieces, WrongPiece};
use super::resume::{ResumeState, claimed_pieces, open_locked, verify_journal};
use super::running_digest::RunningDigest;
use crate::crc_ranges::{CrcRanges, checksum};
use crate::destination::Destination;
use crate::destination_lock::lease::LockLease;
use crate::directory::Directory;
use crate::error::DiskError;
use crate::file_stat::FileId;
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::Sha256;
use provision_core::journal::{self, Reach};
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::piece_list::PieceList;

pub(super) const SYNCING: &str = "syncing it";

/// The running digests after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The positions of the pieces that have bytes of the write.
    pub pieces: Range<usize>,
    /// True if some of the bytes can be hashed now: those before them in their piece are in the file.
    pub is_next: bool,
    /// The number of bytes of the whole part that can be hashed: see [`PartFile::ready`].
    pub ready: u64,
    /// Counts the times that bytes were dropped. Bytes kept in memory from an earlier generation than their piece's
    /// must not be hashed.
    pub generation: u64,
}

/// An open part file with its journal. See the header of `part.rs`.
#[derive(Debug)]
pub struct PartFile {
    pub(super) file: File,
    pub(super) directory: Arc<Directory>,
    leases: Vec<Arc<LockLease>>,
    pub(super) names: FileNames,
    model: ModelPath,
    size: AtomicU64,
    sha256: Sha256,
    list: Arc<PieceList>,
    /// The most threads that hash pieces when a method reads them itself.
    pub(super) threads: usize,
    makes_list: bool,
    state: Mutex<State>,
    /// Signals that a hasher is idle again.
    hasher_returned: Condvar,
    /// Held during a checkpoint, so that one runs at a time. Locked before `journal`.
    pub(super) syncing: Mutex<()>,
    /// Locked before `state`.
    pub(super) journal: Mutex<JournalFile>,
    /// True once writes are refused. Read-locked during a write. Locked before `syncing`.
    pub(super) sealed: RwLock<bool>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) written: RangeSet,
    /// Written, but not in the journal.
    pub(super) unjournaled: CrcRanges,
    pub(super) unjournaled_bytes: u64,
    /// In the journal as written, not as durable.
    journaled: CrcRanges,
    pub(super) pieces: Pieces,
    pub(super) sealed: bool,
    /// The error of the sync that failed.
    pub(super) sync_error: Option<Errno>,
}

impl State {
    /// The state of a part with these bytes.
    fn new(written: RangeSet, pieces: Pieces) -> Self {
        Self {
            written,
            unjournaled: CrcRanges::default(),
            unjournaled_bytes: 0,
            journaled: CrcRanges::default(),
            pieces,
            sealed: false,
            sync_error: None,
        }
    }
}

impl PartFile {
    /// Opens the part of `model`, or creates it. Keeps the bytes that are right. With a list, these are the pieces that
    /// match when read; without one, the ranges of the journal whose checksum matches. Before each block, `keep_going`
    /// says whether to go on.
    pub fn open<'a>(
        destination: &Destination,
        model: &Model,
        options: impl Into<PartOptions<'a>>,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Self, DiskError> {
        let options = options.into();
        let directory = destination.parent(&model.path, true)?.ok_or_else(|| {
            DiskError::of("creating the directory", destination.root().path(), Errno::NOENT)
        })?;
        let names = FileNames::new(model, options.names);
        let file = open_locked(&directory, &names).map_err(|error| error.needing(model.size))?;
        let path = directory.path().join(&names.part);
        let metadata = file.metadata().map_err(DiskError::at("reading its metadata", &path))?;
        let length = metadata.len();
        if length > model.size {
            file.set_len(model.size).map_err(|error| DiskError::of_volume("truncating it", &path, error))?;
        }
        let list = options.list_of(model);
        let resumed = if length == 0 {
            ResumeState::default()
        } else if list.is_whole() {
            match verify_journal(&file, &directory, &names, model, &mut keep_going) {
                // It lists nothing, and is replaced.
                Err(DiskError::NotAFile { .. }) => ResumeState::default(),
                verified => verified?,
            }
        } else {
            let written =
                claimed_pieces(&file, &list).map_err(DiskError::at("reading its extents", &path))?;
            ResumeState { written, ..ResumeState::default() }
        };
        let journal =
            JournalFile::new(directory.clone(), names.clone(), (model.size, model.sha256), metadata.uid());
        let mut pieces = Pieces::new(list.clone(), model.size, 0, options.makes_list);
        if list.is_whole() && !options.makes_list {
            pieces.resume(RunningDigest::of(resumed.hasher), resumed.hashed);
        }
        for range in resumed.written.iter() {
            pieces.wrote(range, &resumed.written);
        }
        let part = Self {
            file,
            directory,
            leases: destination.leases(),
            names,
            model: model.path.clone(),
            size: AtomicU64::new(model.size),
            sha256: model.sha256,
            list,
            threads: options.threads.max(1),
            makes_list: options.makes_list,
            state: Mutex::new(State::new(resumed.written, pieces)),
            hasher_returned: Condvar::new(),
            syncing: Mutex::new(()),
            journal: Mutex::new(journal),
            sealed: RwLock::new(false),
        };
        let ranges = if part.has_list() { part.verify_claimed(&mut keep_going)? } else { resumed.ranges };
        if ranges.is_empty() {
            part.directory.remove(&part.names.temporary)?;
            part.directory.remove(&part.names.journal)?;
        } else {
            // Records that are wrong, torn or obsolete must not be read again.
            part.sync_data()?;
            let mut journal = part.lock_journal();
            journal.durable.append(ranges);
            journal.rewrite(&CrcRanges::default())?;
            drop(journal);
        }
        Ok(part)
    }

    /// The number of bytes in the part.
    pub fn held(&self) -> u64 {
        self.state().written.len()
    }

    /// The missing ranges, ascending.
    pub fn missing(&self) -> Vec<ByteRange> {
        self.state().written.missing(self.size())
    }

    /// The missing ranges within `range`, ascending.
    pub fn missing_of(&self, range: ByteRange) -> Vec<ByteRange> {
        let gaps = self.missing().into_iter();
        let within = gaps.filter(|gap| gap.start < range.end && range.start < gap.end);
        within.map(|gap| ByteRange::new(gap.start.max(range.start), gap.end.min(range.end))).collect()
    }

    /// True if the part has all bytes of `range`.
    pub fn contains(&self, range: ByteRange) -> bool {
        self.state().written.contains(range)
    }

    /// The number of written bytes that no record of the journal lists.
    pub fn unjournaled(&self) -> u64 {
        self.state().unjournaled_bytes
    }

    /// The pieces of the file: one, if it has no list.
    pub fn pieces(&self) -> &Arc<PieceList> {
        &self.list
    }

    /// True if the file is verified by a list of its pieces, and not by its digest.
    pub fn has_list(&self) -> bool {
        !self.list.is_whole()
    }

    /// The list that a part opened with `makes_list` has made of its bytes. `None` if not all of them are hashed, or if
    /// the file needs no list.
    pub fn take_list(&self) -> Option<PieceList> {
        self.state_when_idle().pieces.take_list()
    }

    /// The size of the complete file.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Ends a file of unknown length at `size`: the part was opened with a limit. The bytes up to there are written,
    /// and no journal lists any of them.
    pub fn end_at(&self, size: u64) {
        debug_assert!(
            self.contains(ByteRange::new(0, size)) && size <= self.size(),
            "the written bytes end there"
        );
        self.size.store(size, Ordering::Relaxed);
        self.lock_journal().end_at(size);
        self.state().pieces.end_at(size);
    }

    /// Reads the first bytes, `most` at most, to sniff their content. Empty if they cannot be read.
    pub fn read_prefix(&self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most.min(self.size() as usize)];
        let read = self.file.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Writes `bytes` at `at`. The place must be empty: the schedule hands out each byte once.
    ///
    /// # Errors
    /// [`DiskError::Sealed`] if the part is verified or removed, [`DiskError::TakenOver`] if another run has taken
    /// the destination over. Nothing is written then.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<Written, DiskError> {
        debug_assert!(at + bytes.len() as u64 <= self.size(), "the schedule hands out no byte past the end");
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        if *sealed {
            return Err(DiskError::Sealed { path: self.path() });
        }
        self.write_bytes(at, bytes)?;
        Ok(self.track_write(at, bytes))
    }

    /// Writes bytes that are not registered. The caller holds `sealed`.
    pub(super) fn write_bytes(&self, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_lease()?;
        self.file.write_all_at(bytes, at).map_err(|error| self.error("writing it", error))
    }

    /// Updates the bookkeeping for `bytes`, which are in the file at `at`.
    pub(super) fn track_write(&self, at: u64, bytes: &[u8]) -> Written {
        let len = bytes.len() as u64;
        let crc = checksum(bytes);
        let range = ByteRange::new(at, at + len);
        let mut state = self.state();
        debug_assert!(!state.sealed, "a sealed part is not written");
        state.written.insert(range);
        state.unjournaled.insert(range, crc);
        state.unjournaled_bytes += len;
        let State { written, pieces: all, .. } = &mut *state;
        let (pieces, is_next) = all.wrote(range, written);
        Written { pieces, is_next, ready: all.ready(), generation: all.generation() }
    }

    /// Registers a piece that is in the file and has the digest of the list.
    pub(super) fn add_verified(&self, piece: usize, range: ByteRange, crc: crc32fast::Hasher) {
        let mut state = self.state();
        debug_assert!(!state.sealed, "a sealed part is not written");
        state.written.insert(range);
        state.unjournaled.insert(range, crc);
        state.unjournaled_bytes += range.len();
        state.pieces.add_verified(piece);
    }

    /// Fills `block` with the part's bytes at `at`.
    pub(super) fn read_back(&self, block: &mut [u8], at: u64) -> Result<(), DiskError> {
        self.file.read_exact_at(block, at).map_err(|error| self.error("reading it back", error))
    }

    /// Appends `written` records for the new bytes to the journal, without a sync. A run after a kill can use them; a
    /// run after a power cut may find them false.
    pub fn journal_written(&self) -> Result<(), DiskError> {
        self.check_lease()?;
        let mut journal = self.lock_journal();
        let text = {
            let mut state = self.state();
            if state.sealed || state.sync_error.is_some() || state.unjournaled_bytes == 0 {
                return Ok(());
            }
            state.unjournaled_bytes = 0;
            let ranges = std::mem::take(&mut state.unjournaled);
            let text = journal::records(Reach::Written, ranges.iter());
            state.journaled.append(ranges);
            text
        };
        journal.append(&text, self.size() - self.held())
    }

    /// Syncs the written bytes, then appends `durable` records to the journal. Returns how many bytes became durable.
    pub fn checkpoint(&self) -> Result<u64, DiskError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_lease()?;
        let ranges = {
            let mut state = self.state();
            if state.sealed {
                return Ok(0);
            }
            if let Some(error) = state.sync_error {
                drop(state);
                return Err(self.error(SYNCING, error));
            }
            state.unjournaled_bytes = 0;
            let mut ranges = std::mem::take(&mut state.journaled);
            ranges.append(std::mem::take(&mut state.unjournaled));
            ranges
        };
        if ranges.is_empty() {
            return Ok(0);
        }
        self.sync_data()?;
        let mut journal = self.lock_journal();
        let text = journal::records(Reach::Durable, ranges.iter());
        let len = ranges.len();
        journal.durable.append(ranges);
        if journal.has_no_room_for(&text) {
            let journaled = self.state().journaled.clone();
            journal.rewrite(&journaled)?;
        } else {
            journal.append(&text, self.size() - self.held())?;
            journal.sync()?;
        }
        Ok(len)
    }

    /// Syncs the data, or gives the part up. The caller holds `syncing` or the only reference.
    fn sync_data(&self) -> Result<(), DiskError> {
        let Err(error) = retry_on_intr(|| rustix::fs::fdatasync(&self.file)) else { return Ok(()) };
        // The kernel may have dropped pages and does not report it again: no byte of this part can be trusted.
        let mut journal = self.lock_journal();
        self.state().sync_error = Some(error);
        self.check_lease()?;
        let _ = journal.remove();
        let _ = self.directory.remove(&self.names.part);
        drop(journal);
        Err(self.error(SYNCING, error))
    }

    /// Empties the part and its journal. No write may be in progress.
    pub fn reset(&self) -> Result<(), DiskError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.lock_journal();
        self.check_sync_error()?;
        self.check_lease()?;
        let held =
            rustix::fs::fstat(&self.file).map_err(DiskError::at("reading its metadata", &self.path()))?;
        if self.directory.identity(&self.names.part)? != Some(FileId::of(&held)) {
            // Another run may have installed it while this process was suspended: the file is in use.
            return Err(DiskError::PartReplaced { path: self.path() });
        }
        journal.remove()?;
        self.file.set_len(0).map_err(|error| self.error("truncating it", error))?;
        let mut state = self.state_when_idle();
        let generation = state.pieces.generation() + 1;
        let pieces = Pieces::new(self.list.clone(), self.size(), generation, self.makes_list);
        *state = State::new(RangeSet::new(), pieces);
        Ok(())
    }

    /// Takes these wrong pieces out of the part and of its journal. No write to them may be in progress. Their bytes
    /// stay in the file until others are written over them. A record of the journal with bytes of a wrong piece goes
    /// with it. Its other bytes are lost to a run without the list, which trusts only records.
    pub fn drop_wrong(&self, wrong: &[WrongPiece]) -> Result<(), DiskError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.lock_journal();
        self.check_sync_error()?;
        self.check_lease()?;
        let (journaled, is_listed) = {
            let mut state = self.state();
            let mut is_listed = false;
            for WrongPiece { range, .. } in wrong {
                state.unjournaled.forget(*range);
                is_listed |= journal.durable.forget(*range) | state.journaled.forget(*range);
            }
            state.unjournaled_bytes = state.unjournaled.len();
            (state.journaled.clone(), is_listed)
        };
        if is_listed {
            // Before other bytes take the place of those that the records list.
            journal.rewrite(&journaled)?;
        }
        let mut state = self.state();
        for piece in wrong {
            state.written.remove(piece.range);
        }
        state.pieces.drop_pieces(wrong.iter().map(|piece| piece.index));
        Ok(())
    }

    /// Removes the part and its journal. Later writes fail, later checkpoints do nothing.
    pub fn remove(&self) -> Result<(), DiskError> {
        *self.sealed.write().unwrap_or_else(PoisonError::into_inner) = true;
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.lock_journal();
        self.state().sealed = true;
        self.check_lease()?;
        journal.remove()?;
        self.directory.remove(&self.names.part)?;
        Ok(())
    }

    pub(crate) fn parts(&self) -> (&File, &Arc<Directory>, &FileNames) {
        (&self.file, &self.directory, &self.names)
    }

    pub(crate) fn model(&self) -> (&ModelPath, u64, Sha256) {
        (&self.model, self.size(), self.sha256)
    }

    pub(crate) fn path(&self) -> Utf8PathBuf {
        self.directory.path().join(&self.names.part)
    }

    /// The path of the installed file.
    pub(super) fn final_path(&self) -> Utf8PathBuf {
        self.directory.path().join(self.model.file_name())
    }

    pub(super) fn error(&self, doing: &'static str, source: impl Into<std::io::Error>) -> DiskError {
        DiskError::of_volume(doing, &self.path(), source).needing(self.size() - self.held())
    }

    pub(super) fn check_sync_error(&self) -> Result<(), DiskError> {
        let sync_error = self.state().sync_error;
        sync_error.map_or(Ok(()), |error| Err(self.error(SYNCING, error)))
    }

    /// Fails if another run has taken the destination over: the part is that run's now.
    pub(crate) fn check_lease(&self) -> Result<(), DiskError> {
        let is_held = self.leases.iter().all(|lease| lease.is_held());
        if is_held { Ok(()) } else { Err(DiskError::TakenOver { path: self.path() }) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no thread has a hasher.
    pub(super) fn state_when_idle(&self) -> MutexGuard<'_, State> {
        self.hasher_returned
            .wait_while(self.state(), |state| !state.pieces.are_idle())
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `back`, by which a thread returns the hasher that it took.
    pub(super) fn hasher_returns<T>(&self, back: impl FnOnce(&mut Pieces) -> T) -> T {
        let result = back(&mut self.state().pieces);
        self.hasher_returned.notify_all();
        result
    }

    fn lock_journal(&self) -> MutexGuard<'_, JournalFile> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // Closing alone is too late while another thread starts a process. Until its exec, the child has a copy of
        // every descriptor, and the lock lives as long.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}
