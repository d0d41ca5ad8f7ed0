//! A file's bytes on their way to being whole.
//!
//! Many connections write at once: each write is a `pwrite` at its own place, so there is no lock around it and no
//! seek. What a short lock guards is only the book-keeping: which bytes are written, which of them are not yet in
//! the journal, and the hash of the contiguous prefix.
//!
//! # The hash follows
//! The contiguous prefix is hashed while the rest is still on its way: see `lease`.
//!
//! # Ownership
//! An exclusive `flock` on the part, held for life, and taken on a file that still has its name: a slow process
//! that wakes up after another has installed holds a lock on nothing.

mod bring;
mod lease;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use camino::Utf8PathBuf;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub use bring::{BringError, Way, install_copy};
pub use lease::Lease;

use super::install::Verified;
use super::journal::{self, Reach};
use super::pieces::{Pieces, checksum};
use super::{BLOCK, Destination, Directory, StoreError};
use crate::byte_range::{ByteRange, RangeSet};
use crate::digest::{Hasher, Sha256};
use crate::lockfile::Model;
use crate::model_path::{ModelPath, NAME_MAX};

/// What a part file is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// One name for all processes; the `flock` keeps others out.
    Shared,
    /// A name of this process's own, where locks do nothing.
    Private(String),
}

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
    names: Names,
    model: ModelPath,
    size: u64,
    sha256: Sha256,
    state: Mutex<State>,
    /// Told when the hasher comes home.
    home: Condvar,
    /// Held for the whole of a checkpoint, so that there is one at a time. Taken before `journal`.
    syncing: Mutex<()>,
    /// The journal, once it has a record. Taken before `state`.
    journal: Mutex<Option<File>>,
}

#[derive(Debug)]
struct State {
    written: RangeSet,
    /// Written and not in the journal.
    fresh: Pieces,
    fresh_bytes: u64,
    /// In the journal as written, not as durable.
    noted: Pieces,
    /// At home, or with whoever hashes.
    hasher: Option<Hasher>,
    /// How many bytes from the start the hasher has taken.
    hashed: u64,
    /// How often it was begun again.
    generation: u64,
    sealed: bool,
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

#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) part: String,
    pub(super) journal: String,
    /// What a new journal is called until it is whole, and a link until it has its final name.
    pub(super) temporary: String,
}

impl Names {
    pub(super) fn new(model: &Model, naming: &Naming) -> Self {
        let stem = Self::stem(model);
        let stem = match naming {
            Naming::Shared => stem,
            Naming::Private(own) => format!("{stem}.{own}"),
        };
        Self::of(&stem)
    }

    fn of(stem: &str) -> Self {
        let name = |ending| format!("{stem}.{ending}");
        Self { part: name("part"), journal: name("journal"), temporary: name("tmp") }
    }

    /// What all the parts of this model begin with. A name too long for a longer one is replaced by its digest.
    fn stem(model: &Model) -> String {
        let name = model.path.file_name();
        let stem = format!(".{name}.{}", model.sha256.short());
        if stem.len() + 40 <= NAME_MAX {
            stem
        } else {
            format!(".{}", &Sha256::of(name.as_bytes()).to_string()[..32])
        }
    }
}

/// What of a part its journal could prove.
#[derive(Debug, Default)]
struct Proven {
    written: RangeSet,
    pieces: Vec<(ByteRange, u32)>,
    hasher: Hasher,
    hashed: u64,
}

impl PartFile {
    /// Opens the part of `model`, making it if there is none, and proves what its journal claims by reading it.
    /// `go_on` is asked before each block.
    pub fn open(
        destination: &Destination,
        model: &Model,
        naming: &Naming,
        go_on: impl FnMut() -> bool,
    ) -> Result<Self, StoreError> {
        let directory = destination
            .parent(&model.path, true)?
            .ok_or_else(|| StoreError::of("making the directory", destination.root().path(), Errno::NOENT))?;
        let names = Names::new(model, naming);
        let file = open_exclusively(&directory, &names.part)?;
        let path = directory.path().join(&names.part);
        let length = file.metadata().map_err(StoreError::at("looking at it", &path))?.len();
        if length > model.size {
            file.set_len(model.size).map_err(StoreError::at("cutting it", &path))?;
        }
        let proven =
            if length == 0 { Proven::default() } else { prove(&file, &directory, &names, model, go_on)? };
        let part = Self {
            file,
            directory,
            names,
            model: model.path.clone(),
            size: model.size,
            sha256: model.sha256,
            state: Mutex::new(State {
                written: proven.written,
                fresh: Pieces::default(),
                fresh_bytes: 0,
                noted: Pieces::default(),
                hasher: Some(proven.hasher),
                hashed: proven.hashed,
                generation: 0,
                sealed: false,
            }),
            home: Condvar::new(),
            syncing: Mutex::new(()),
            journal: Mutex::new(None),
        };
        if proven.pieces.is_empty() {
            part.directory.remove(&part.names.temporary)?;
            part.directory.remove(&part.names.journal)?;
        } else {
            // What is false, torn or overtaken must not be read again next time.
            rustix::fs::fdatasync(&part.file).map_err(|error| part.error("syncing it", error))?;
            let text =
                journal::header(&part.sha256, part.size) + &journal::records(Reach::Durable, proven.pieces);
            let Names { journal, temporary, .. } = &part.names;
            part.directory.write_small_through(temporary, journal, text.as_bytes())?;
        }
        Ok(part)
    }

    /// As [`PartFile::open`], with what earlier runs left of it, whatever they called it. To be called before anything is
    /// claimed of the part.
    pub fn resume(
        destination: &Destination,
        model: &Model,
        naming: &Naming,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Self, StoreError> {
        let part = Self::open(destination, model, naming, &mut go_on)?;
        if *naming != Naming::Shared {
            part.adopt_orphans(model, go_on)?;
        }
        Ok(part)
    }

    /// What the part of `model` holds, proven by reading it, without changing anything: for a plan that is only
    /// shown. Zero where there is none.
    pub fn peek(
        destination: &Destination,
        model: &Model,
        go_on: impl FnMut() -> bool,
    ) -> Result<u64, StoreError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(0) };
        let names = Names::new(model, &Naming::Shared);
        let Some((file, _)) = directory.open_file(&names.part)? else { return Ok(0) };
        Ok(prove(&file, &directory, &names, model, go_on)?.written.len())
    }

    /// What the journal of `model` claims, unproven: for a quick look.
    pub fn claimed(destination: &Destination, model: &Model) -> Result<u64, StoreError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(0) };
        let names = Names::new(model, &Naming::Shared);
        if directory.find(&names.part)? == super::Found::Nothing {
            return Ok(0);
        }
        let bytes = directory.read_small(&names.journal, journal::MAX_BYTES)?.unwrap_or_default();
        Ok(journal::parse(&bytes, &model.sha256, model.size).iter().map(|record| record.range.len()).sum())
    }

    /// Removes the part of `model`, if there is one and nobody has it.
    pub fn discard(destination: &Destination, model: &Model) -> Result<(), StoreError> {
        let Some(directory) = destination.parent(&model.path, false)? else { return Ok(()) };
        let names = Names::new(model, &Naming::Shared);
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
    pub fn unrecorded(&self) -> u64 {
        self.state().fresh_bytes
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
    pub fn beginning(&self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most.min(self.size as usize)];
        let read = self.file.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Writes `bytes` at `at`. Nobody may have written there before: the schedule hands out every byte once.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<Written, StoreError> {
        debug_assert!(at + bytes.len() as u64 <= self.size, "the schedule hands out nothing past the end");
        self.file.write_all_at(bytes, at).map_err(|error| self.error("writing it", error))?;
        Ok(self.record(at, bytes))
    }

    /// Keeps the books for `bytes`, which are in the file at `at`.
    fn record(&self, at: u64, bytes: &[u8]) -> Written {
        let len = bytes.len() as u64;
        let crc = checksum(bytes);
        let range = ByteRange::new(at, at + len);
        let mut state = self.state();
        debug_assert!(!state.sealed, "a sealed part is not written");
        state.written.insert(range);
        state.fresh.insert(range, crc);
        state.fresh_bytes += len;
        Written { hashed: state.hashed, ready: state.ready(), generation: state.generation }
    }

    /// Hashes `bytes`, which have just been written at `at`, and whatever follows them.
    fn hash(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if let Some(mut lease) = self.lease().filter(|lease| lease.at() == at) {
            lease.take(bytes);
        }
        self.follow()
    }

    /// Notes in the journal what has been written, without waiting for the disk: enough for the next run after a
    /// kill, not after a power cut.
    pub fn note(&self) -> Result<(), StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let text = {
            let mut state = self.state();
            if state.sealed || state.fresh_bytes == 0 {
                return Ok(());
            }
            state.fresh_bytes = 0;
            let fresh = std::mem::take(&mut state.fresh);
            let text = journal::records(Reach::Written, fresh.iter());
            state.noted.append(fresh);
            text
        };
        self.append(&mut journal, &text)
    }

    /// Makes what has been written durable and then says so in the journal. Returns how many bytes that were.
    pub fn checkpoint(&self) -> Result<u64, StoreError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = {
            let mut state = self.state();
            if state.sealed {
                return Ok(0);
            }
            state.fresh_bytes = 0;
            let mut pieces = std::mem::take(&mut state.noted);
            pieces.append(std::mem::take(&mut state.fresh));
            pieces
        };
        if pieces.is_empty() {
            return Ok(0);
        }
        if let Err(error) = rustix::fs::fdatasync(&self.file) {
            // The kernel may have dropped the pages and will not say so twice: none of this part can be believed.
            let _ = self.directory.remove(&self.names.journal);
            let _ = self.directory.remove(&self.names.part);
            return Err(self.error("syncing it", error));
        }
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.append(&mut journal, &journal::records(Reach::Durable, pieces.iter()))?;
        if let Some(file) = journal.as_ref() {
            // The names of part and journal are worth nothing if the directory forgets them.
            let path = self.directory.path().join(&self.names.journal);
            rustix::fs::fdatasync(file).map_err(StoreError::at("syncing the journal", &path))?;
            self.directory.sync()?;
        }
        Ok(pieces.len())
    }

    fn append(&self, journal: &mut Option<File>, text: &str) -> Result<(), StoreError> {
        let path = self.directory.path().join(&self.names.journal);
        if journal.is_none() {
            *journal = Some(self.open_journal().map_err(StoreError::at("opening it", &path))?);
        }
        // Opened for appending.
        let written = journal.as_mut().map_or(Ok(()), |file| file.write_all(text.as_bytes()));
        written.map_err(StoreError::at("writing the journal", &path))
    }

    /// Forgets everything: every byte is wanted again. Nobody may be writing.
    pub fn reset(&self) -> Result<(), StoreError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        *journal = None;
        self.directory.remove(&self.names.journal)?;
        self.file.set_len(0).map_err(|error| self.error("emptying it", error))?;
        let mut state = self.state_with_hasher();
        *state = State {
            written: RangeSet::new(),
            fresh: Pieces::default(),
            fresh_bytes: 0,
            noted: Pieces::default(),
            hasher: Some(Hasher::new()),
            hashed: 0,
            generation: state.generation + 1,
            sealed: false,
        };
        Ok(())
    }

    /// Proves the whole file: every byte written, and their digest the one that the lock names. Nothing can be
    /// written afterwards.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] where the digest is another; the bytes stay until [`PartFile::reset`] or
    /// [`PartFile::remove`].
    pub fn verify(self: Arc<Self>) -> Result<Verified, StoreError> {
        self.follow()?;
        // A checkpoint that is under way ends first, and none begins afterwards: it would write a journal for a part
        // that has become the file.
        let syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state_with_hasher();
        while state.hashed < state.contiguous() {
            // Whoever had the hasher brings it home after each block, before the last bytes are in it.
            drop(state);
            self.follow()?;
            state = self.state_with_hasher();
        }
        debug_assert_eq!(state.hashed, self.size, "verified before it was complete");
        let found = state.hasher.clone().unwrap_or_default().finish();
        if state.hashed != self.size || found != self.sha256 {
            let path = self.directory.path().join(self.model.file_name());
            return Err(StoreError::Mismatch { path, expected: self.sha256, found });
        }
        state.sealed = true;
        drop(state);
        drop((journal, syncing));
        Ok(Verified { part: self })
    }

    /// Removes the part and its journal. Nothing can be written or journalled afterwards.
    pub fn remove(&self) -> Result<(), StoreError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let _journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().sealed = true;
        self.directory.remove(&self.names.journal)?;
        self.directory.remove(&self.names.part)?;
        Ok(())
    }

    pub(super) fn parts(&self) -> (&File, &Arc<Directory>, &Names) {
        (&self.file, &self.directory, &self.names)
    }

    pub(super) fn model(&self) -> (&ModelPath, u64, Sha256) {
        (&self.model, self.size, self.sha256)
    }

    pub(super) fn path(&self) -> Utf8PathBuf {
        self.directory.path().join(&self.names.part)
    }

    fn error(&self, doing: &'static str, source: impl Into<std::io::Error>) -> StoreError {
        StoreError::of(doing, &self.path(), source)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_with_hasher(&self) -> MutexGuard<'_, State> {
        self.home
            .wait_while(self.state(), |state| state.hasher.is_none())
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn open_journal(&self) -> std::io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file =
            File::from(rustix::fs::openat(self.directory.handle(), &self.names.journal, flags, mode)?);
        if file.metadata()?.len() == 0 {
            file.write_all(journal::header(&self.sha256, self.size).as_bytes())?;
        }
        Ok(file)
    }

    /// Where locks do nothing, a part left by a process that is gone is copied, never written in place: its owner
    /// may only be slow. To be called before anything is claimed of this part.
    fn adopt_orphans(&self, model: &Model, mut go_on: impl FnMut() -> bool) -> Result<(), StoreError> {
        let stem = Names::stem(model);
        for name in self.directory.names()? {
            let Some(other) = name.strip_suffix(".part").filter(|other| other.starts_with(&stem)) else {
                continue;
            };
            if name == self.names.part || self.held() == self.size {
                continue;
            }
            let names = Names::of(other);
            let Some((file, _)) = self.directory.open_file(&names.part)? else { continue };
            let proven = prove(&file, &self.directory, &names, model, &mut go_on)?;
            for missing in self.missing() {
                for (piece, _) in &proven.pieces {
                    let wanted = ByteRange::new(piece.start.max(missing.start), piece.end.min(missing.end));
                    self.copy(&file, wanted)?;
                }
            }
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

impl Drop for PartFile {
    fn drop(&mut self) {
        // Closing would do, if no other thread were just starting a process: until that has become another program it
        // has a copy of every descriptor, and the lock would live as long.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Reads what the journal claims, hashes it again and keeps what is so.
fn prove(
    file: &File,
    directory: &Directory,
    names: &Names,
    model: &Model,
    mut go_on: impl FnMut() -> bool,
) -> Result<Proven, StoreError> {
    let mut proven = Proven::default();
    let Some(bytes) = directory.read_small(&names.journal, journal::MAX_BYTES)? else { return Ok(proven) };
    let mut records = journal::parse(&bytes, &model.sha256, model.size);
    records.sort_by_key(|record| record.range);
    let mut block = vec![0; BLOCK];
    for record in records {
        let mut crc = crc32fast::Hasher::new();
        let mut at = record.range.start;
        // The hash goes along where it is contiguous, on a copy: a piece that proves false is not in it.
        let mut hasher = (at == proven.hashed).then(|| proven.hasher.clone());
        while at < record.range.end {
            if !go_on() {
                return Err(StoreError::Interrupted { path: directory.path().join(&names.part) });
            }
            let n = BLOCK.min((record.range.end - at) as usize);
            if file.read_exact_at(&mut block[..n], at).is_err() {
                break;
            }
            crc.update(&block[..n]);
            if let Some(hasher) = &mut hasher {
                hasher.update(&block[..n]);
            }
            at += n as u64;
        }
        if at == record.range.end && crc.finalize() == record.crc {
            proven.written.insert(record.range);
            proven.pieces.push((record.range, record.crc));
            if let Some(hasher) = hasher {
                (proven.hasher, proven.hashed) = (hasher, record.range.end);
            }
        }
    }
    Ok(proven)
}

/// Opens or makes a part and locks it. What is under the name and is not a plain file of one name is replaced.
fn open_exclusively(directory: &Directory, name: &str) -> Result<File, StoreError> {
    let path = directory.path().join(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    loop {
        let opened = rustix::fs::openat(directory.handle(), name, flags, Mode::from_raw_mode(0o600));
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::NXIO) => {
                directory.remove(name)?;
                continue;
            }
            Err(Errno::ISDIR) => return Err(StoreError::NotAFile { path, what: "a directory" }),
            Err(error) => return Err(StoreError::of("opening it", &path, error)),
        };
        let held = rustix::fs::fstat(&file).map_err(StoreError::at("looking at it", &path))?;
        if FileType::from_raw_mode(held.st_mode) != FileType::RegularFile || held.st_nlink > 1 {
            directory.remove(name)?;
            continue;
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::PartBusy { path }),
            Err(error) => return Err(StoreError::of("locking it", &path, error)),
        }
        // Between open and lock its owner may have installed or removed it.
        match rustix::fs::statat(directory.handle(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => return Ok(file),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(StoreError::of("looking at it", &path, error)),
        }
    }
}

#[cfg(test)]
mod tests;
