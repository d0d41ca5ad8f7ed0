//! The memory of a working process: claims, written ranges and the running digest. A kill loses all of it.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::disk::{Disk, Inode, Name, Place};
use super::rules::{CONTENT, Rules, SCALE, SIZE};
use crate::crc_ranges::{CrcRanges, checksum};
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::digest::Sha256;
use provision_core::journal;
use provision_core::schedule::{Claim, FileId, Limits, Schedule};

/// A system call of a process, with the decision that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    /// Takes the destination's lock.
    Start,
    /// Looks for the file and its part, and opens the part.
    Plan,
    SyncExisting,
    VerifyJournal,
    SyncPart,
    RewriteJournal,
    ReplaceJournal,
    SyncNames(Place),
    /// Adopts other parts and makes the first claims.
    Begin,
    /// Transfers bytes until all are there, and verifies them.
    Work,
    AppendDurable,
    SyncJournal,
    RemoveJournal,
    Empty,
    Rename,
    /// Removes the journal of the installed part.
    Close,
    Mark,
}

/// A possible step of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// The only possible step.
    NextCall,
    /// The rest of a claim arrives and is written.
    Deliver(usize),
    /// A fault: the connection ends early.
    Short(usize),
    /// A fault: wrong bytes arrive.
    Lie(usize),
    /// `PartFile::journal_written`.
    JournalWritten,
    /// The next step of `PartFile::checkpoint`.
    Checkpoint,
}

impl Act {
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Self::Short(_) | Self::Lie(_))
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) schedule: Schedule,
    file: FileId,
    /// The claims in flight, each with its first byte that is not written.
    pub(super) in_flight: Vec<(Claim, u64)>,
    written: RangeSet,
    pub(super) unjournaled: CrcRanges,
    pub(super) journaled: CrcRanges,
    /// The rest of a checkpoint in progress, and its ranges.
    pub(super) checkpoint: &'static [Call],
    pub(super) syncing: CrcRanges,
    /// This run has started a checkpoint.
    pub(super) has_checkpointed: bool,
    /// The hashed bytes.
    pub(super) hashed: Vec<u8>,
}

impl Hash for Memory {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // Without time, the schedule's state is its unclaimed ranges.
        self.schedule.unclaimed(self.file).hash(hasher);
        let claims = self.in_flight.iter().map(|(claim, at)| (claim.range, *at));
        (claims.collect::<Vec<_>>(), self.written.iter().collect::<Vec<_>>()).hash(hasher);
        for ranges in [&self.unjournaled, &self.journaled, &self.syncing] {
            ranges.iter().collect::<Vec<_>>().hash(hasher);
        }
        (self.checkpoint, self.has_checkpointed, &self.hashed).hash(hasher);
    }
}

impl Memory {
    pub(super) fn new(written: RangeSet) -> Self {
        let mut schedule = Schedule::new(Limits { connections: 3, per_host: 3 });
        let host = schedule.add_host();
        let file = schedule.add_file(host, []);
        Self {
            schedule,
            file,
            in_flight: Vec::new(),
            written,
            unjournaled: CrcRanges::default(),
            journaled: CrcRanges::default(),
            checkpoint: &[],
            syncing: CrcRanges::default(),
            has_checkpointed: false,
            hashed: Vec::new(),
        }
    }

    /// Schedules the missing ranges and makes the first claims.
    pub(super) fn begin(&mut self) -> Result<(), &'static str> {
        let gaps = self.written.missing(SIZE);
        let gaps = gaps.iter().map(|gap| ByteRange::new(gap.start * SCALE, gap.end * SCALE));
        self.schedule.restart(self.file, gaps);
        self.launch()
    }

    /// Makes every possible claim, as the coordinator does.
    pub(super) fn launch(&mut self) -> Result<(), &'static str> {
        while let Some(claim) = self.schedule.next(Duration::ZERO) {
            let overlaps = |(other, at): &(Claim, u64)| {
                let end = self.schedule.end_of(other.id).unwrap_or(*at);
                claim.range.start < end && *at < claim.range.end
            };
            let bytes = ByteRange::new(claim.range.start / SCALE, claim.range.end / SCALE);
            if self.in_flight.iter().any(overlaps) || self.written.overlaps(bytes) {
                return Err("two claims overlap");
            }
            self.in_flight.push((claim, claim.range.start));
        }
        Ok(())
    }

    /// The possible steps. No journal is written once no fault can happen: nothing would read it.
    pub(super) fn acts(&self, rules: Rules, can_fail: bool) -> Vec<Act> {
        let in_flight = 0..self.in_flight.len();
        let mut acts: Vec<Act> =
            in_flight.flat_map(|at| [Act::Deliver(at), Act::Short(at), Act::Lie(at)]).collect();
        if can_fail && rules.journals_written && !self.unjournaled.is_empty() {
            acts.push(Act::JournalWritten);
        }
        let may_checkpoint = can_fail && (rules.lock_works || !self.has_checkpointed);
        let has_news = may_checkpoint && (!self.unjournaled.is_empty() || !self.journaled.is_empty());
        if !self.checkpoint.is_empty() || rules.checkpoints && has_news {
            acts.push(Act::Checkpoint);
        }
        // A checkpoint in progress ends first.
        if self.schedule.is_complete(self.file) && self.checkpoint.is_empty() {
            acts.push(Act::NextCall);
        }
        acts
    }

    /// `PartFile::write`: the place must be empty.
    pub(super) fn write(
        &mut self,
        disk: &mut Disk,
        part: Inode,
        range: ByteRange,
        from: &[u8],
    ) -> Result<(), &'static str> {
        if self.written.overlaps(range) {
            return Err("a byte is written twice");
        }
        let bytes = &from[range.start as usize..range.end as usize];
        disk.write(part, range.start as usize, bytes);
        self.written.insert(range);
        self.unjournaled.insert(range, checksum(bytes));
        // Hashed from memory if contiguous, otherwise from the file.
        if self.hashed.len() as u64 == range.start {
            self.hashed.extend_from_slice(bytes);
        }
        self.hash_ready(disk, part);
        Ok(())
    }

    pub(super) fn hash_ready(&mut self, disk: &Disk, part: Inode) {
        let contiguous =
            self.written.iter().next().filter(|first| first.start == 0).map_or(0, |first| first.end);
        let rest = self.hashed.len()..contiguous as usize;
        if !rest.is_empty() {
            let read = disk.read(part).get(rest.clone());
            self.hashed.extend_from_slice(read.unwrap_or(&vec![0; rest.len()]));
        }
    }

    /// `PartFile::adopt_orphans`.
    pub(super) fn adopt(&mut self, disk: &mut Disk, part: Inode, own: u8) {
        for name in disk.names() {
            let Name::Part(other) = name else { continue };
            let Some(orphan) = disk.find(name).filter(|_| other != own) else { continue };
            let (ranges, bytes) = verify_journal(disk, orphan, other);
            for missing in self.written.missing(SIZE) {
                for (piece, _) in &ranges {
                    let wanted = ByteRange::new(piece.start.max(missing.start), piece.end.min(missing.end));
                    if !wanted.is_empty() {
                        let _ = self.write(disk, part, wanted, &bytes);
                    }
                }
            }
        }
    }
}

pub(super) fn digest(bytes: &[u8]) -> Sha256 {
    Sha256::of(bytes)
}

/// The records of a part's journal that match, and the part's bytes.
pub(super) fn verify_journal(disk: &Disk, part: Inode, own: u8) -> (Vec<(ByteRange, u32)>, Vec<u8>) {
    let bytes = disk.read(part).to_vec();
    let text = disk.find(Name::Journal(own)).map(|journal| disk.read(journal)).unwrap_or_default();
    let mut records = journal::parse(text, &digest(&CONTENT), SIZE);
    records.sort_by_key(|record| record.range);
    records.retain(|record| matches(record, &bytes));
    (records.iter().map(|record| (record.range, record.crc)).collect(), bytes)
}

/// True if the bytes of the record's range have its checksum.
pub(super) fn matches(record: &journal::Record, bytes: &[u8]) -> bool {
    let there = bytes.get(record.range.start as usize..record.range.end as usize);
    there.is_some_and(|bytes| crc32fast::hash(bytes) == record.crc)
}
