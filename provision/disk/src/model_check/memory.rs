//! What a process knows while it works, and what it can do then: its claims, what it has written and what it has hashed. All
//! of it is gone with a kill.

use std::time::Duration;

use super::disk::{Disk, Inode, Name};
use super::{CONTENT, Rules, SCALE, prove};
use crate::crc_ranges::{CrcRanges, checksum};
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::schedule::{Claim, FileId, Limits, Schedule};

pub(super) const SIZE: u64 = CONTENT.len() as u64;

/// What a process can do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// The next step, where there is only one.
    GoOn,
    /// The rest of a claim's bytes arrive and are written.
    Deliver(usize),
    /// A fault: the connection ends in the middle.
    Short(usize),
    /// A fault: other bytes arrive.
    Lie(usize),
    /// `PartFile::note`.
    Note,
    /// The next step of `PartFile::checkpoint`.
    Checkpoint,
}

impl Act {
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Self::Short(_) | Self::Lie(_))
    }
}

/// Where a checkpoint is, and what it took.
#[derive(Debug, Clone)]
pub(super) struct Syncing {
    pub(super) stage: u8,
    pub(super) pieces: CrcRanges,
}

/// What a process has open and knows while it works.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) schedule: Schedule,
    pub(super) file: FileId,
    /// Its claims, and the first byte of each that was not written.
    pub(super) flights: Vec<(Claim, u64)>,
    pub(super) written: RangeSet,
    pub(super) fresh: CrcRanges,
    pub(super) noted: CrcRanges,
    pub(super) syncing: Option<Syncing>,
    /// A checkpoint was begun in this run.
    pub(super) has_synced: bool,
    /// The bytes that the hash has taken.
    pub(super) hashed: Vec<u8>,
}

impl Memory {
    pub(super) fn new(held: &RangeSet) -> Self {
        let mut schedule = Schedule::new(Limits { connections: 3, per_host: 3 });
        let host = schedule.add_host();
        let gaps = held.missing(SIZE);
        let file = schedule
            .add_file(host, gaps.iter().map(|gap| ByteRange::new(gap.start * SCALE, gap.end * SCALE)));
        Self {
            schedule,
            file,
            flights: Vec::new(),
            written: held.clone(),
            fresh: CrcRanges::default(),
            noted: CrcRanges::default(),
            syncing: None,
            has_synced: false,
            hashed: Vec::new(),
        }
    }

    /// Starts over with what is missing now, and makes the first claims.
    pub(super) fn begin(&mut self) -> Result<(), &'static str> {
        let gaps = self.written.missing(SIZE);
        let gaps = gaps.iter().map(|gap| ByteRange::new(gap.start * SCALE, gap.end * SCALE));
        self.schedule.restart(self.file, gaps);
        self.launch()
    }

    /// As the coordinator does: whenever a claim can be made, it is.
    pub(super) fn launch(&mut self) -> Result<(), &'static str> {
        while let Some(claim) = self.schedule.next(Duration::ZERO) {
            let overlaps = |(other, at): &(Claim, u64)| {
                let end = self.schedule.end_of(other.id).unwrap_or(*at);
                claim.range.start < end && *at < claim.range.end
            };
            let bytes = ByteRange::new(claim.range.start / SCALE, claim.range.end / SCALE);
            if self.flights.iter().any(overlaps) || self.written.overlaps(bytes) {
                return Err("two claims overlap");
            }
            self.flights.push((claim, claim.range.start));
        }
        Ok(())
    }

    /// A journal is for those who come after a fault: where none can come any more, none is written.
    pub(super) fn acts(&self, rules: &Rules, can_fail: bool) -> Vec<Act> {
        let flights = 0..self.flights.len();
        let mut acts: Vec<Act> = flights.clone().map(Act::Deliver).collect();
        acts.extend(flights.clone().map(Act::Short));
        acts.extend(flights.map(Act::Lie));
        if can_fail && rules.notes && !self.fresh.is_empty() {
            acts.push(Act::Note);
        }
        let may_sync = can_fail && (rules.lock_works || !self.has_synced);
        let has_news = may_sync && (!self.fresh.is_empty() || !self.noted.is_empty());
        if self.syncing.is_some() || rules.checkpoints && has_news {
            acts.push(Act::Checkpoint);
        }
        // A checkpoint that is under way ends first.
        if self.schedule.is_complete(self.file) && self.syncing.is_none() {
            acts.push(Act::GoOn);
        }
        acts
    }

    /// `PartFile::write`: nobody may have written there.
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
        self.fresh.insert(range, checksum(bytes));
        // From memory where it follows, else from the file.
        if self.hashed.len() as u64 == range.start {
            self.hashed.extend_from_slice(bytes);
        }
        self.follow(disk, part);
        Ok(())
    }

    pub(super) fn follow(&mut self, disk: &Disk, part: Inode) {
        let contiguous =
            self.written.iter().next().filter(|first| first.start == 0).map_or(0, |first| first.end);
        let rest = self.hashed.len()..contiguous as usize;
        if !rest.is_empty() {
            let read = disk.read(part).get(rest.clone());
            self.hashed.extend_from_slice(read.unwrap_or(&vec![0; rest.len()]));
        }
    }

    /// What others left is copied, never written in place: its owner may only be slow.
    pub(super) fn adopt(&mut self, disk: &mut Disk, part: Inode, own: u8) {
        for name in disk.names() {
            let Name::Part(other) = name else { continue };
            let Some(orphan) = disk.find(name).filter(|_| other != own) else { continue };
            let (pieces, bytes) = prove(disk, orphan, other);
            for missing in self.written.missing(SIZE) {
                for (piece, _) in &pieces {
                    let wanted = ByteRange::new(piece.start.max(missing.start), piece.end.min(missing.end));
                    if !wanted.is_empty() {
                        let _ = self.write(disk, part, wanted, &bytes);
                    }
                }
            }
        }
    }
}
