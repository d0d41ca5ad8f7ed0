//! Hashes files piece by piece, on several threads. A file with a piece list is cut into runs of pieces, so that all
//! threads work on it; one without a list is a single piece. Each thread reads two runs at a time, because two digests
//! side by side take little longer than one.

use std::sync::{Arc, Mutex, PoisonError};

use super::{FileState, HashResult, HashTarget, Inspection, open};
use crate::work_queue::{self, Queue};
use provision_core::byte_range::RangeSet;
use provision_core::digest::{Hasher, Sha256};
use provision_core::event::Event;
use provision_core::piece_list::{MAX_PIECE, PieceList, VerifiedBy};
use provision_disk::{DiskError, SourceFile};

/// The bytes that are read at once, for each run.
const BLOCK: u64 = 1 << 20;
/// The longest run of pieces, in bytes.
const RUN: u64 = 32 << 20;
/// The runs of a file for each thread, so that all threads end together.
const RUNS: u64 = 8;

/// The callbacks of a run: before each block, and for each right file.
#[derive(Clone, Copy)]
pub(super) struct Hooks<'a> {
    pub(super) go_on: &'a (dyn Fn() -> bool + Sync),
    pub(super) on_right: &'a (dyn Fn(&HashTarget<'_>, &SourceFile) -> Result<(), DiskError> + Sync),
}

/// A file to compare.
struct ComparedFile<'a> {
    target: &'a HashTarget<'a>,
    list: Arc<PieceList>,
    verified_by: VerifiedBy,
    /// The digest of the whole file is computed besides, so its pieces are one run.
    with_digest: bool,
    progress: Mutex<Progress>,
}

/// The findings of a file's runs so far.
#[derive(Default)]
struct Progress {
    /// Open while runs are being read.
    file: Option<Arc<SourceFile>>,
    /// Runs that have not ended.
    left: usize,
    wrong: RangeSet,
    /// The digest of the whole file, if it was computed.
    digest: Option<Sha256>,
    /// The file's state, once it is known. Further runs are not read.
    state: Option<FileState>,
}

/// Pieces of a subject that are read one after the other.
struct Run {
    subject: usize,
    /// Positions in the list.
    pieces: std::ops::Range<usize>,
    /// Its place in the queue: longer files without a list come before the runs.
    rank: u64,
}

/// The states of `targets`, in their order.
pub(super) fn compare(
    inspection: &Inspection<'_>,
    targets: &[HashTarget<'_>],
    hooks: Hooks<'_>,
) -> Vec<FileState> {
    let mut runs = Vec::new();
    let mut subjects = Vec::with_capacity(targets.len());
    for (at, target) in targets.iter().enumerate() {
        let mut subject = ComparedFile::new(inspection, target);
        let first = runs.len();
        subject.cut(at, inspection.threads, &mut runs);
        subject.progress.get_mut().unwrap_or_else(PoisonError::into_inner).left = runs.len() - first;
        subjects.push(subject);
    }
    let in_pairs =
        |queue: &Queue<'_, Run>| Reader { inspection, subjects: &subjects, queue, hooks }.read_in_pairs();
    work_queue::each_in_pairs(&runs, |run| run.rank, inspection.threads, &in_pairs);
    let state = |subject: ComparedFile<'_>| {
        let progress = subject.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        progress.state.unwrap_or(FileState::Missing)
    };
    subjects.into_iter().map(state).collect()
}

/// A thread that hashes two runs at a time.
struct Reader<'a> {
    inspection: &'a Inspection<'a>,
    subjects: &'a [ComparedFile<'a>],
    queue: &'a Queue<'a, Run>,
    hooks: Hooks<'a>,
}

impl<'a> Reader<'a> {
    /// Takes runs off the queue until it is empty.
    fn read_in_pairs(&self) {
        let (mut a, mut b) = (self.next(), self.next());
        loop {
            (a, b) = (self.advance(a), self.advance(b));
            match (&mut a, &mut b) {
                (Some(a), Some(b)) if a.whole.is_none() && b.whole.is_none() => Lane::hash_two(a, b),
                (Some(one), None) | (None, Some(one)) => one.hash(),
                (Some(a), Some(b)) => {
                    a.hash();
                    b.hash();
                }
                (None, None) => return,
            }
        }
    }

    fn next(&self) -> Option<Lane<'a>> {
        while let Some((_, run)) = self.queue.take() {
            let subject = &self.subjects[run.subject];
            match subject.begin(self.inspection) {
                Some(file) => return Some(Lane::new(subject, run, file)),
                None => subject.end(&RangeSet::new(), None, None, self.hooks),
            }
        }
        None
    }

    /// The lane with bytes to hash, or the next run with some.
    fn advance(&self, mut lane: Option<Lane<'a>>) -> Option<Lane<'a>> {
        while let Some(mut open) = lane.take() {
            let state = match open.read(self.hooks.go_on) {
                Ok(true) => return Some(open),
                Ok(false) => None,
                Err(state) => Some(state),
            };
            let Lane { subject, file, wrong, digest, .. } = open;
            // The last run closes the file.
            drop(file);
            subject.end(&wrong, digest, state, self.hooks);
            lane = self.next();
        }
        None
    }
}

impl<'a> ComparedFile<'a> {
    fn new(inspection: &Inspection<'_>, target: &'a HashTarget<'a>) -> Self {
        let model = target.model;
        // A list is looked up, and missed, only if there is a file to compare it with.
        let listed = model.pieces.filter(|_| open(inspection.destination, target).is_ok());
        let list = listed.and_then(|_| (inspection.lists)(model));
        let with_digest = inspection.is_full && list.is_some();
        let (list, verified_by) = match list {
            Some(list) => (list, if with_digest { VerifiedBy::Digest } else { VerifiedBy::Pieces }),
            None => (Arc::new(PieceList::of_whole(model.size, model.sha256)), VerifiedBy::Digest),
        };
        Self { target, list, verified_by, with_digest, progress: Mutex::default() }
    }

    /// Adds its runs.
    fn cut(&self, subject: usize, threads: usize, runs: &mut Vec<Run>) {
        let (pieces, size) = (self.list.pieces(), self.target.model.size);
        if self.with_digest || self.list.is_whole() {
            return runs.push(Run { subject, pieces: 0..pieces.len(), rank: size });
        }
        let length = (size / (RUNS * threads as u64)).clamp(MAX_PIECE, RUN);
        let mut first = 0;
        while first < pieces.len() {
            let end = pieces[first].range.start + length;
            let last = pieces.partition_point(|piece| piece.range.end <= end);
            runs.push(Run { subject, pieces: first..last, rank: length });
            first = last;
        }
    }

    /// The file, opened by its first run. `None` if its state is known.
    fn begin(&self, inspection: &Inspection<'_>) -> Option<Arc<SourceFile>> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.state.is_none() && progress.file.is_none() {
            match open(inspection.destination, self.target) {
                Ok(file) => {
                    let (path, size) = (self.target.model.path.clone(), self.target.model.size);
                    inspection.observer.observe(&Event::Checking { path, size });
                    progress.file = Some(Arc::new(file));
                }
                Err(state) => progress.state = Some(state),
            }
        }
        progress.file.clone().filter(|_| progress.state.is_none())
    }

    /// Adds the findings of a run. The last one decides, and closes the file.
    fn end(&self, wrong: &RangeSet, digest: Option<Sha256>, state: Option<FileState>, hooks: Hooks<'_>) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.iter().for_each(|range| progress.wrong.insert(range));
        progress.digest = progress.digest.or(digest);
        progress.state = progress.state.take().or(state);
        progress.left -= 1;
        if progress.left == 0
            && let Some(file) = progress.file.take()
            && progress.state.is_none()
        {
            let (wrong, digest) = (std::mem::take(&mut progress.wrong), progress.digest);
            progress.state = Some(self.decide(&file, &wrong, digest, hooks));
        }
    }

    /// The state of a file whose last byte was read.
    fn decide(
        &self,
        file: &SourceFile,
        wrong: &RangeSet,
        digest: Option<Sha256>,
        hooks: Hooks<'_>,
    ) -> FileState {
        let model = self.target.model;
        match file.current_size() {
            Ok(found) if found != model.size => return FileState::WrongSize { found },
            Ok(_) => {}
            Err(error) => return FileState::Unreadable(error),
        }
        let identity = file.identity();
        let is_digest_right = digest == Some(model.sha256);
        match digest {
            Some(found) if self.with_digest && wrong.is_empty() != is_digest_right => {
                FileState::WrongList { found, wrong: wrong.iter().collect() }
            }
            Some(found) if !self.with_digest && !is_digest_right => {
                FileState::WrongDigest { found, identity }
            }
            _ if !wrong.is_empty() => FileState::WrongPieces { wrong: wrong.iter().collect(), identity },
            _ => match (hooks.on_right)(self.target, file) {
                Ok(()) => {
                    let verified_by = self.verified_by;
                    FileState::Right(HashResult { stamp: file.stamp(), identity, verified_by })
                }
                Err(error) => FileState::Unreadable(error),
            },
        }
    }
}

/// A run that is being read.
struct Lane<'a> {
    subject: &'a ComparedFile<'a>,
    file: Arc<SourceFile>,
    /// The pieces that are not compared, the first of which is being read.
    pieces: std::ops::Range<usize>,
    /// The position of the next read.
    at: u64,
    hasher: Hasher,
    /// Takes the same bytes.
    whole: Option<Hasher>,
    block: Vec<u8>,
    /// The bytes of the block that are read and not hashed.
    filled: std::ops::Range<usize>,
    wrong: RangeSet,
    digest: Option<Sha256>,
}

impl<'a> Lane<'a> {
    fn new(subject: &'a ComparedFile<'a>, run: &Run, file: Arc<SourceFile>) -> Self {
        let pieces = run.pieces.clone();
        Self {
            at: subject.list.pieces().get(pieces.start).map_or(0, |piece| piece.range.start),
            block: vec![0; BLOCK.min(subject.target.model.size) as usize],
            whole: subject.with_digest.then(Hasher::new),
            hasher: Hasher::new(),
            filled: 0..0,
            wrong: RangeSet::new(),
            digest: None,
            subject,
            file,
            pieces,
        }
    }

    /// Has bytes to hash. False at the end of the run.
    ///
    /// # Errors
    /// The file's state, which ends the run.
    fn read(&mut self, go_on: &dyn Fn() -> bool) -> Result<bool, FileState> {
        while self.filled.is_empty() {
            let Some(piece) =
                self.subject.list.pieces().get(self.pieces.clone()).and_then(|left| left.first())
            else {
                self.digest = self.whole.take().map(Hasher::finish).or(self.digest);
                return Ok(false);
            };
            if !go_on() {
                let path = self.file.path().to_owned();
                return Err(FileState::Unreadable(DiskError::Interrupted { path }));
            }
            let length = (piece.range.end - self.at).min(BLOCK) as usize;
            if length == 0 {
                let found = std::mem::take(&mut self.hasher).finish();
                if self.subject.list.is_whole() {
                    self.digest = Some(found);
                }
                if found != piece.sha256 {
                    self.wrong.insert(piece.range);
                }
                self.pieces.start += 1;
                continue;
            }
            match self.file.read_at(self.at, &mut self.block[..length]).map_err(FileState::Unreadable)? {
                // It has become shorter.
                0 => {
                    let found = self.file.current_size().map_err(FileState::Unreadable)?;
                    return Err(FileState::WrongSize { found });
                }
                n => self.filled = 0..n,
            }
            self.at += self.filled.len() as u64;
        }
        Ok(true)
    }

    /// Hashes the block; for the whole file side by side.
    fn hash(&mut self) {
        let bytes = &self.block[self.filled.clone()];
        match &mut self.whole {
            Some(whole) => Hasher::update_two([&mut self.hasher, whole], [bytes, bytes]),
            None => self.hasher.update(bytes),
        }
        self.filled = 0..0;
    }

    /// Hashes as many bytes of both, side by side.
    fn hash_two(a: &mut Self, b: &mut Self) {
        let length = a.filled.len().min(b.filled.len());
        let bytes = [&a.block[a.filled.start..][..length], &b.block[b.filled.start..][..length]];
        Hasher::update_two([&mut a.hasher, &mut b.hasher], bytes);
        a.filled.start += length;
        b.filled.start += length;
    }
}
