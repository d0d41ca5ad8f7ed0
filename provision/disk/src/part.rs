//! A file's bytes on their way to being whole.
//!
//! Many connections write at once: each write is a `pwrite` at its own place, so there is no lock around it and no
//! seek. What a short lock guards is only the book-keeping: which bytes are written, which of them are not yet in
//! the journal, and the hash of the contiguous prefix.
//!
//! # The hash follows
//! The contiguous prefix is hashed while the rest is still on its way: see `guard`.
//!
//! # Ownership
//! An exclusive `flock` on the part, held for life, and taken on a file that still has its name: a slow process
//! that wakes up after another has installed holds a lock on nothing. What is installed is the part's own inode, so
//! nobody may be able to write to it any more: other processes cannot, since the lock is kept until the handle is
//! closed, or their parts have other names; the threads of this one cannot, since a resumed part is sealed.
//!
//! Where the destination's lock may be taken by another machine, whoever changes part or journal asks first whether that has
//! happened (`guard`).
//!
//! # A sync that failed
//! The kernel says once that it sync_error pages, and may call them clean then. So the part is given up where that
//! happens: its journal goes, then its name, and whoever still holds it is told the same failure.

mod copy;
mod hasher;
mod names;
mod orphans;
mod records;
mod resume;
mod unpinned;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use camino::Utf8PathBuf;
use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};

pub use copy::{CopyError, CopyMethod, install_copy};
pub use hasher::HasherGuard;
pub(super) use names::FileNames;
pub use names::PartNames;
use records::{JOURNAL_BYTES, JournalFile};
use resume::{ResumeState, open_locked, verify_journal};

use crate::crc_ranges::{CrcRanges, checksum};
use crate::install::Verified;
use crate::lock::lease::LockLease;
use crate::{Destination, Directory, FileId, StoreError};
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::{Hasher, Sha256};
use provision_core::journal::{self, Reach};
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;

const SYNCING: &str = "syncing it";

/// Where the hash is after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The first byte that it has not taken.
    pub hashed: u64,
    /// How many bytes from there on are in the file.
    pub ready: u64,
    /// Which of the part's beginnings the bytes belong to. After [`PartFile::reset`] others may stand in their place:
    /// what was kept of them must not be hashed any more.
    pub generation: u64,
}

/// An open part file with its journal. See the module's documentation.
#[derive(Debug)]
pub struct PartFile {
    file: File,
    directory: Arc<Directory>,
    lease: Option<Arc<LockLease>>,
    names: FileNames,
    model: ModelPath,
    size: u64,
    sha256: Sha256,
    state: Mutex<State>,
    /// Told when the hasher comes home.
    hasher_returned: Condvar,
    /// Held for the whole of a checkpoint, so that there is one at a time. Taken before `journal`.
    syncing: Mutex<()>,
    /// Taken before `state`.
    journal: Mutex<JournalFile>,
    /// True once nothing may be written any more. Read for the whole of a write. Taken before `syncing`.
    sealed: RwLock<bool>,
}

#[derive(Debug)]
struct State {
    written: RangeSet,
    /// Written and not in the journal.
    unjournaled: CrcRanges,
    unjournaled_bytes: u64,
    /// In the journal as written, not as durable.
    journaled: CrcRanges,
    /// At home, or with whoever hashes.
    hasher: Option<Hasher>,
    /// How many bytes from the start the hasher has taken.
    hashed: u64,
    /// How often it was begun again.
    generation: u64,
    sealed: bool,
    /// What a sync failed with.
    sync_error: Option<Errno>,
}

impl State {
    /// How many bytes are there from the first on.
    fn contiguous(&self) -> u64 {
        self.written.iter().next().filter(|first| first.start == 0).map_or(0, |first| first.end)
    }

    /// How many bytes the hasher could take now.
    fn ready(&self) -> u64 {
        self.contiguous().saturating_sub(self.hashed)
    }
}

impl PartFile {
    /// Opens the part of `model`, making it if there is none, and proves what its journal claims by reading it.
    /// `keep_going` is asked before each block.
    pub fn open(
        destination: &Destination,
        model: &Model,
        part_names: &PartNames,
        keep_going: impl FnMut() -> bool,
    ) -> Result<Self, StoreError> {
        let directory = destination.parent(&model.path, true)?.ok_or_else(|| {
            StoreError::of("creating the directory", destination.root().path(), Errno::NOENT)
        })?;
        let names = FileNames::new(model, part_names);
        let file = open_locked(&directory, &names.part)?;
        let path = directory.path().join(&names.part);
        let length = file.metadata().map_err(StoreError::at("reading its metadata", &path))?.len();
        if length > model.size {
            file.set_len(model.size).map_err(|error| StoreError::of_volume("truncating it", &path, error))?;
        }
        let resumed = if length == 0 {
            ResumeState::default()
        } else {
            verify_journal(&file, &directory, &names, model, keep_going)?
        };
        let part = Self {
            file,
            directory,
            lease: destination.lease(),
            names,
            model: model.path.clone(),
            size: model.size,
            sha256: model.sha256,
            state: Mutex::new(State {
                written: resumed.written,
                unjournaled: CrcRanges::default(),
                unjournaled_bytes: 0,
                journaled: CrcRanges::default(),
                hasher: Some(resumed.hasher),
                hashed: resumed.hashed,
                generation: 0,
                sealed: false,
                sync_error: None,
            }),
            hasher_returned: Condvar::new(),
            syncing: Mutex::new(()),
            journal: Mutex::default(),
            sealed: RwLock::new(false),
        };
        if resumed.ranges.is_empty() {
            part.directory.remove(&part.names.temporary)?;
            part.directory.remove(&part.names.journal)?;
        } else {
            // What is false, torn or overtaken must not be read again next time.
            part.sync_data()?;
            let mut journal = part.journal.lock().unwrap_or_else(PoisonError::into_inner);
            for (range, crc) in resumed.ranges {
                journal.durable.insert(range, crc32fast::Hasher::new_with_initial_len(crc, range.len()));
            }
            part.rewrite(&mut journal)?;
            drop(journal);
        }
        Ok(part)
    }

    /// As [`PartFile::open`], with what earlier runs left of it, whatever they called it. To be called before anything is
    /// claimed of the part.
    pub fn resume(
        destination: &Destination,
        model: &Model,
        part_names: &PartNames,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Self, StoreError> {
        let part = Self::open(destination, model, part_names, &mut keep_going)?;
        if *part_names != PartNames::Shared {
            part.adopt_orphans(model, keep_going)?;
        }
        Ok(part)
    }

    /// What the part of `model` holds, resumed by reading it, without changing anything: for a plan that is only
    /// shown. Zero where there is none.
    pub fn resumable_bytes(
        destination: &Destination,
        model: &Model,
        keep_going: impl FnMut() -> bool,
    ) -> Result<u64, StoreError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(0) };
        let names = FileNames::new(model, &PartNames::Shared);
        let Some((file, _)) = directory.open_file(&names.part)? else { return Ok(0) };
        Ok(verify_journal(&file, &directory, &names, model, keep_going)?.written.len())
    }

    /// What the journal of `model` claims, unproven: for a quick look.
    pub fn journaled_bytes(destination: &Destination, model: &Model) -> Result<u64, StoreError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(0) };
        let names = FileNames::new(model, &PartNames::Shared);
        if directory.find(&names.part)? == crate::Found::Nothing {
            return Ok(0);
        }
        let bytes = directory.read_small(&names.journal, journal::MAX_BYTES)?.unwrap_or_default();
        Ok(journal::parse(&bytes, &model.sha256, model.size).iter().map(|record| record.range.len()).sum())
    }

    /// Removes the part of `model`, if there is one and nobody has it.
    pub fn discard(destination: &Destination, model: &Model) -> Result<(), StoreError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(()) };
        let names = FileNames::new(model, &PartNames::Shared);
        directory.remove(&names.temporary)?;
        directory.remove(&names.journal)?;
        directory.remove(&names.part)?;
        Ok(())
    }

    /// How many bytes are held.
    pub fn held(&self) -> u64 {
        self.state().written.len()
    }

    /// What is not held, ascending.
    pub fn missing(&self) -> Vec<ByteRange> {
        self.state().written.missing(self.size)
    }

    /// What of `range` is not held, ascending.
    pub fn missing_of(&self, range: ByteRange) -> Vec<ByteRange> {
        let gaps = self.missing().into_iter();
        let within = gaps.filter(|gap| gap.start < range.end && range.start < gap.end);
        within.map(|gap| ByteRange::new(gap.start.max(range.start), gap.end.min(range.end))).collect()
    }

    /// Whether these bytes are held.
    pub fn contains(&self, range: ByteRange) -> bool {
        self.state().written.contains(range)
    }

    /// Bytes written that no record of the journal names.
    pub fn unjournaled(&self) -> u64 {
        self.state().unjournaled_bytes
    }

    /// How many bytes are in the file from the first on that no hash has taken.
    pub fn ready(&self) -> u64 {
        self.state().ready()
    }

    /// The file's length when it is whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its first bytes, as many as `most` and there are: for a message about what they are. None where it cannot be read.
    pub fn read_prefix(&self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most.min(self.size as usize)];
        let read = self.file.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Writes `bytes` at `at`. Nobody may have written there before: the schedule hands out every byte once.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] where the part has been resumed or removed, [`StoreError::TakenOver`] where it is another run's
    /// by now: nothing is written then.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<Written, StoreError> {
        debug_assert!(at + bytes.len() as u64 <= self.size, "the schedule hands out nothing past the end");
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        if *sealed {
            return Err(StoreError::Sealed { path: self.path() });
        }
        self.check_lease()?;
        self.file.write_all_at(bytes, at).map_err(|error| self.error("writing it", error))?;
        Ok(self.track_write(at, bytes))
    }

    /// Keeps the books for `bytes`, which are in the file at `at`.
    fn track_write(&self, at: u64, bytes: &[u8]) -> Written {
        let len = bytes.len() as u64;
        let crc = checksum(bytes);
        let range = ByteRange::new(at, at + len);
        let mut state = self.state();
        debug_assert!(!state.sealed, "a sealed part is not written");
        state.written.insert(range);
        state.unjournaled.insert(range, crc);
        state.unjournaled_bytes += len;
        Written { hashed: state.hashed, ready: state.ready(), generation: state.generation }
    }

    /// Hashes `bytes`, which have just been written at `at`, and whatever follows them.
    fn hash(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if let Some(mut guard) = self.take_hasher().filter(|guard| guard.at() == at) {
            guard.update(bytes);
        }
        self.hash_ready()
    }

    /// Makes what has been written durable and then says so in the journal. Returns how many bytes that were.
    pub fn checkpoint(&self) -> Result<u64, StoreError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_lease()?;
        let ranges = {
            let mut state = self.state();
            if state.sealed {
                return Ok(0);
            }
            if let Some(sync_error) = state.sync_error {
                drop(state);
                return Err(self.error(SYNCING, sync_error));
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
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let text = journal::records(Reach::Durable, ranges.iter());
        let len = ranges.len();
        journal.durable.append(ranges);
        if journal.bytes + text.len() as u64 > JOURNAL_BYTES {
            self.rewrite(&mut journal)?;
            return Ok(len);
        }
        self.append(&mut journal, &text)?;
        if let Some(file) = journal.file.as_ref() {
            // The names of part and journal are worth nothing if the directory forgets them.
            let path = self.directory.path().join(&self.names.journal);
            retry_on_intr(|| rustix::fs::fdatasync(file))
                .map_err(|error| StoreError::of_volume("syncing the journal", &path, error))?;
            self.directory.sync()?;
        }
        Ok(len)
    }

    /// Makes the bytes durable, or gives the part up. The caller has `syncing`, or the part to itself.
    fn sync_data(&self) -> Result<(), StoreError> {
        let Err(error) = retry_on_intr(|| rustix::fs::fdatasync(&self.file)) else { return Ok(()) };
        // The kernel may have dropped the pages and will not say so twice: none of this part can be believed.
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().sync_error = Some(error);
        self.check_lease()?;
        let _ = self.directory.remove(&self.names.journal);
        let _ = self.directory.remove(&self.names.part);
        drop(journal);
        Err(self.error(SYNCING, error))
    }

    /// Forgets everything: every byte is wanted again. Nobody may be writing.
    pub fn reset(&self) -> Result<(), StoreError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sync_error()?;
        self.check_lease()?;
        let held =
            rustix::fs::fstat(&self.file).map_err(StoreError::at("reading its metadata", &self.path()))?;
        if self.directory.identity(&self.names.part)? != Some(FileId::of(&held)) {
            // Another may have installed it while this process stood still: then it is a file that is in use.
            return Err(StoreError::PartReplaced { path: self.path() });
        }
        *journal = JournalFile::default();
        self.directory.remove(&self.names.journal)?;
        self.file.set_len(0).map_err(|error| self.error("truncating it", error))?;
        let mut state = self.state_with_hasher();
        *state = State {
            written: RangeSet::new(),
            unjournaled: CrcRanges::default(),
            unjournaled_bytes: 0,
            journaled: CrcRanges::default(),
            hasher: Some(Hasher::new()),
            hashed: 0,
            generation: state.generation + 1,
            sealed: false,
            sync_error: None,
        };
        Ok(())
    }

    /// Proves the whole file: every byte written, and their digest the one that the lock names. Nothing can be
    /// written afterwards.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] where the digest is another; the bytes stay until [`PartFile::reset`] or
    /// [`PartFile::remove`]. The sync's failure where one has failed: the part is gone then.
    pub fn verify(self: Arc<Self>) -> Result<Verified, StoreError> {
        self.hash_ready()?;
        // Nobody may be writing; whoever tries to is told so from here on.
        let mut closed = self.sealed.write().unwrap_or_else(PoisonError::into_inner);
        // A checkpoint that is under way ends first, and none begins afterwards: it would write a journal for a part
        // that has become the file.
        let syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sync_error()?;
        self.check_lease()?;
        let mut state = self.state_with_hasher();
        while state.hashed < state.contiguous() {
            // Whoever had the hasher brings it home after each block, before the last bytes are in it.
            drop(state);
            self.hash_ready()?;
            state = self.state_with_hasher();
        }
        debug_assert_eq!(state.hashed, self.size, "verified before it was complete");
        let found = state.hasher.clone().unwrap_or_default().finish();
        if state.hashed != self.size || found != self.sha256 {
            let path = self.directory.path().join(self.model.file_name());
            return Err(StoreError::Mismatch { path, expected: self.sha256, found });
        }
        state.sealed = true;
        *closed = true;
        drop(state);
        drop((journal, syncing, closed));
        Ok(Verified { part: self })
    }

    /// Removes the part and its journal. Nothing can be written or journalled afterwards.
    pub fn remove(&self) -> Result<(), StoreError> {
        *self.sealed.write().unwrap_or_else(PoisonError::into_inner) = true;
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let _journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().sealed = true;
        self.check_lease()?;
        self.directory.remove(&self.names.journal)?;
        self.directory.remove(&self.names.part)?;
        Ok(())
    }

    pub(super) fn parts(&self) -> (&File, &Arc<Directory>, &FileNames) {
        (&self.file, &self.directory, &self.names)
    }

    pub(super) fn model(&self) -> (&ModelPath, u64, Sha256) {
        (&self.model, self.size, self.sha256)
    }

    pub(super) fn path(&self) -> Utf8PathBuf {
        self.directory.path().join(&self.names.part)
    }

    fn error(&self, doing: &'static str, source: impl Into<std::io::Error>) -> StoreError {
        StoreError::of_volume(doing, &self.path(), source).needing(self.size - self.held())
    }

    fn check_sync_error(&self) -> Result<(), StoreError> {
        let sync_error = self.state().sync_error;
        sync_error.map_or(Ok(()), |sync_error| Err(self.error(SYNCING, sync_error)))
    }

    /// What is another run's by now is left to it.
    pub(super) fn check_lease(&self) -> Result<(), StoreError> {
        let lasts = self.lease.as_ref().is_none_or(|lease| lease.is_held());
        if lasts { Ok(()) } else { Err(StoreError::TakenOver { path: self.path() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_with_hasher(&self) -> MutexGuard<'_, State> {
        self.hasher_returned
            .wait_while(self.state(), |state| state.hasher.is_none())
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // Closing would do, if no other thread were just starting a process: until that has become another program it
        // has a copy of every descriptor, and the lock would live as long.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests;
