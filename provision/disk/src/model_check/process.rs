//! One process, system call by system call: the order in which `fetch`, `PartFile` and `Verified` do things.
//!
//! What decides is real: `Schedule`, the journal's text, `CrcRanges`, SHA-256. What is rewritten is who calls what when,
//! since a `PartFile` cannot be stopped between two of its system calls, nor be cloned.

use std::hash::{Hash, Hasher};

use super::disk::{Disk, Inode, Name, Place};
use super::memory::{Act, Memory, SIZE, Syncing};
use super::world::World;
use super::{CONTENT, Rules, SCALE, WRONG, digest, prove};
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::journal::{self, Reach};
use provision_core::schedule::{Connection, MIN_CLAIM};

/// Where a process is: what it does next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
enum Phase {
    /// Not begun, or killed and not begun again.
    #[default]
    Outside,
    Plan,
    /// The file is in its place and right.
    Present,
    Prove,
    /// Some of the part is proven.
    SyncProven(Vec<(ByteRange, u32)>),
    RewriteJournal(Vec<(ByteRange, u32)>),
    ReplaceJournal(RangeSetBits),
    SyncReplaced(RangeSetBits),
    Adopt(RangeSetBits),
    Work,
    RemoveJournal,
    Empty,
    SyncPart,
    Rename,
    SyncNames,
    Tidy,
    Mark,
    SyncMarker,
    Done,
}

/// A bit for each byte that is held: `RangeSet` has no hash.
type RangeSetBits = u16;

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    phase: Phase,
    /// How often it was begun.
    run: u8,
    part: Option<Inode>,
    journal: Option<Inode>,
    memory: Option<Memory>,
}

impl Hash for Process {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.phase, self.run, self.part, self.journal).hash(hasher);
        let Some(memory) = &self.memory else { return };
        // What a schedule will do, as far as time stands still: what it holds back is what is neither written nor claimed.
        memory.schedule.unclaimed(memory.file).hash(hasher);
        for (claim, at) in &memory.flights {
            (claim.range, at).hash(hasher);
        }
        bits(&memory.written).hash(hasher);
        (&memory.hashed, memory.has_synced).hash(hasher);
        for pieces in [&memory.fresh, &memory.noted] {
            pieces.iter().collect::<Vec<_>>().hash(hasher);
        }
        if let Some(syncing) = &memory.syncing {
            (syncing.stage, syncing.pieces.iter().collect::<Vec<_>>()).hash(hasher);
        }
    }
}

impl Process {
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Outside | Phase::Done)
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// With names of its own, a process that is begun again has others.
    pub(super) fn stop(&mut self, rules: &Rules) {
        let begun = self.phase != Phase::Outside && !rules.shares_names;
        *self = Self { run: self.run + u8::from(begun), ..Self::default() };
    }

    pub(super) fn handles(&mut self) -> impl Iterator<Item = &mut Inode> {
        self.part.iter_mut().chain(self.journal.iter_mut())
    }

    /// The number in its part's name.
    fn name(&self, at: usize, rules: &Rules) -> u8 {
        if rules.shares_names { 0 } else { 1 + 16 * at as u8 + self.run }
    }

    pub(super) fn acts(&self, at: usize, world: &World, rules: &Rules) -> Vec<Act> {
        match (&self.phase, &self.memory) {
            (Phase::Done, _) => Vec::new(),
            (Phase::Outside, _) if rules.lock_works && world.holder.is_some_and(|holder| holder != at) => {
                Vec::new()
            }
            // While neither has begun they are the same: the first is the one that begins.
            (Phase::Outside, _) if at > 0 && world.processes[0].phase == Phase::Outside => Vec::new(),
            (Phase::Work, Some(memory)) => memory.acts(rules, world.can_fail()),
            _ => vec![Act::GoOn],
        }
    }

    pub(super) fn act(
        &mut self,
        at: usize,
        act: Act,
        world: &mut World,
        rules: &Rules,
    ) -> Result<(), &'static str> {
        match act {
            Act::GoOn => self.go_on(at, world, rules),
            Act::Deliver(flight) => self.receive(flight, &CONTENT, false, world),
            Act::Lie(flight) => self.receive(flight, &WRONG, false, world),
            Act::Short(flight) => {
                self.receive(flight, &CONTENT, true, world)?;
                let memory = self.memory.as_mut().expect("it works");
                let (claim, _) = memory.flights.remove(flight);
                if rules.loses_claims {
                    memory.schedule.reserve(claim.id, claim.range.len());
                }
                memory.schedule.finish(claim.id, Connection::Closed);
                memory.launch()
            }
            Act::Note => {
                let memory = self.memory.as_mut().expect("it works");
                let fresh = std::mem::take(&mut memory.fresh);
                let text = journal::records(Reach::Written, fresh.iter());
                memory.noted.append(fresh);
                self.append(at, &text, &mut world.disk, rules);
                Ok(())
            }
            Act::Checkpoint => {
                self.checkpoint(at, &mut world.disk, rules);
                while !rules.lock_works && self.memory.as_ref().is_some_and(|memory| memory.syncing.is_some())
                {
                    self.checkpoint(at, &mut world.disk, rules);
                }
                Ok(())
            }
        }
    }

    fn go_on(&mut self, at: usize, world: &mut World, rules: &Rules) -> Result<(), &'static str> {
        let own = self.name(at, rules);
        let disk = &mut world.disk;
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Outside => {
                world.holder = world.holder.or(Some(at));
                Phase::Plan
            }
            Phase::Plan => match (disk.find(Name::Final), disk.find(Name::Part(own))) {
                (Some(_), _) => Phase::Present,
                (None, Some(part)) if prove(disk, part, own).0.is_empty() && rules.shares_names => {
                    // Worth nothing without a journal's word. What another has open is only a name less.
                    discard(disk, own);
                    Phase::Plan
                }
                (None, part) => {
                    let part = part.unwrap_or_else(|| disk.create(Name::Part(own), false));
                    if rules.lock_works && !disk.lock(part, at) {
                        return Err("two processes work where one has the lock");
                    }
                    self.part = Some(part);
                    Phase::Prove
                }
            },
            Phase::Present => {
                let file = disk.find(Name::Final).expect("it is present");
                if rules.makes_present_durable {
                    disk.sync(file);
                    disk.sync_names(Place::Below);
                }
                discard(disk, own);
                Phase::Mark
            }
            Phase::Prove => {
                let (pieces, _) = prove(disk, self.part.expect("it is open"), own);
                if pieces.is_empty() {
                    disk.unlink(Name::Temporary(own));
                    disk.unlink(Name::Journal(own));
                    Phase::Adopt(0)
                } else {
                    Phase::SyncProven(pieces)
                }
            }
            Phase::SyncProven(pieces) => {
                disk.sync(self.part.expect("it is open"));
                Phase::RewriteJournal(pieces)
            }
            Phase::RewriteJournal(pieces) => {
                disk.unlink(Name::Temporary(own));
                let temporary = disk.create(Name::Temporary(own), true);
                let held: RangeSet = pieces.iter().map(|(range, _)| *range).collect();
                disk.append(temporary, &(header() + &journal::records(Reach::Durable, pieces)));
                disk.sync(temporary);
                Phase::ReplaceJournal(bits(&held))
            }
            Phase::ReplaceJournal(held) => {
                disk.rename(Name::Temporary(own), Name::Journal(own));
                Phase::SyncReplaced(held)
            }
            Phase::SyncReplaced(held) => {
                disk.sync_names(Place::Below);
                Phase::Adopt(held)
            }
            Phase::Adopt(held) => {
                let mut memory = Memory::new(&from_bits(held));
                memory.follow(disk, self.part.expect("it is open"));
                if !rules.shares_names {
                    memory.adopt(disk, self.part.expect("it is open"), own);
                }
                memory.begin()?;
                self.memory = Some(memory);
                Phase::Work
            }
            Phase::Work => {
                let memory = self.memory.as_ref().expect("it works");
                if memory.hashed.len() < CONTENT.len() {
                    return Err("a claim is lost: it is complete, and bytes are missing");
                }
                if rules.believes || digest(&memory.hashed) == digest(&CONTENT) {
                    self.memory = None;
                    Phase::SyncPart
                } else {
                    Phase::RemoveJournal
                }
            }
            Phase::RemoveJournal => {
                self.journal = None;
                disk.unlink(Name::Journal(own));
                Phase::Empty
            }
            Phase::Empty => {
                disk.give_up(self.part.expect("it is open"));
                let mut memory = Memory::new(&RangeSet::new());
                memory.begin()?;
                self.memory = Some(memory);
                Phase::Work
            }
            Phase::SyncPart => {
                disk.sync(self.part.expect("it is open"));
                Phase::Rename
            }
            Phase::Rename => {
                if disk.find(Name::Part(own)) != self.part {
                    return Err("a part was replaced under its owner");
                }
                if rules.lock_works && disk.find(Name::Final).is_some() {
                    return Err("the file is installed twice");
                }
                disk.rename(Name::Part(own), Name::Final);
                if rules.marks_early { Phase::Tidy } else { Phase::SyncNames }
            }
            Phase::SyncNames => {
                disk.sync_names(Place::Below);
                Phase::Tidy
            }
            Phase::Tidy => {
                disk.unlink(Name::Journal(own));
                disk.unlock_all(at);
                (self.part, self.journal) = (None, None);
                Phase::Mark
            }
            Phase::Mark => {
                if disk.find(Name::Marker).is_none() {
                    let marker = disk.create(Name::Marker, true);
                    disk.append(marker, "1");
                    disk.sync(marker);
                }
                Phase::SyncMarker
            }
            Phase::SyncMarker => {
                disk.sync_names(Place::Root);
                world.release(at);
                Phase::Done
            }
            Phase::Done => Phase::Done,
        };
        Ok(())
    }

    /// The rest of a claim's bytes, or, where it falls short, the first half of a claim.
    fn receive(
        &mut self,
        flight: usize,
        bytes: &[u8],
        falls_short: bool,
        world: &mut World,
    ) -> Result<(), &'static str> {
        let (memory, part) = (self.memory.as_mut().expect("it works"), self.part.expect("it is open"));
        let (claim, at) = memory.flights[flight];
        let end = memory.schedule.end_of(claim.id).ok_or("a claim is nobody's")?;
        let rest = end - at;
        let len = match falls_short {
            true if rest < MIN_CLAIM => 0,
            true => rest / 2,
            false => rest,
        };
        let granted = memory.schedule.reserve(claim.id, len);
        if granted > 0 {
            memory.write(&mut world.disk, part, ByteRange::new(at / SCALE, (at + granted) / SCALE), bytes)?;
        }
        memory.flights[flight].1 = at + granted;
        if !falls_short {
            memory.flights.remove(flight);
            memory.schedule.finish(claim.id, Connection::Kept);
            memory.launch()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, at: usize, disk: &mut Disk, rules: &Rules) {
        let part = self.part.expect("it is open");
        let memory = self.memory.as_mut().expect("it works");
        let Some(syncing) = memory.syncing.take() else {
            let mut pieces = std::mem::take(&mut memory.noted);
            pieces.append(std::mem::take(&mut memory.fresh));
            memory.syncing = Some(Syncing { stage: 0, pieces });
            memory.has_synced = !rules.lock_works;
            return;
        };
        let Syncing { stage, pieces } = syncing;
        let order = if rules.journal_first { [1, 2, 0] } else { [0, 1, 2] };
        match order[usize::from(stage)] {
            0 => disk.sync(part),
            1 => {
                let text = journal::records(Reach::Durable, pieces.iter());
                self.append(at, &text, disk, rules);
            }
            _ => {
                disk.sync(self.journal.expect("a record was appended"));
                disk.sync_names(Place::Below);
            }
        }
        if stage < 2 {
            let memory = self.memory.as_mut().expect("it works");
            memory.syncing = Some(Syncing { stage: stage + 1, pieces });
        }
    }

    fn append(&mut self, at: usize, text: &str, disk: &mut Disk, rules: &Rules) {
        let name = Name::Journal(self.name(at, rules));
        let journal = *self.journal.get_or_insert_with(|| {
            disk.find(name).unwrap_or_else(|| {
                let journal = disk.create(name, true);
                disk.append(journal, &header());
                journal
            })
        });
        disk.append(journal, text);
    }
}

/// `PartFile::discard`.
fn discard(disk: &mut Disk, own: u8) {
    disk.unlink(Name::Temporary(own));
    disk.unlink(Name::Journal(own));
    disk.unlink(Name::Part(own));
}

fn header() -> String {
    journal::header(&digest(&CONTENT), SIZE)
}

fn bits(set: &RangeSet) -> RangeSetBits {
    (0..SIZE).filter(|at| set.contains(ByteRange::new(*at, at + 1))).map(|at| 1 << at).sum()
}

fn from_bits(held: RangeSetBits) -> RangeSet {
    (0..SIZE).filter(|at| held >> at & 1 == 1).map(|at| ByteRange::new(at, at + 1)).collect()
}
