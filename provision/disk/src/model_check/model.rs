//! The model: two processes on one disk, the steps that they can take, and what must hold in every state.
//!
//! A process takes one system call a step, in the order of `fetch`, `PartFile` and `Verified`. The deciding parts are
//! real: `Schedule`, the journal's text, `CrcRanges`, SHA-256. The order of the calls around them is written a second
//! time, since a `PartFile` can neither be stopped between two system calls nor be cloned.

use std::hash::{Hash, Hasher};

use super::disk::{Disk, Inode, Name, Place};
use super::memory::{Act, Checkpoint, Memory, digest, matches, verify_journal};
use super::rules::{CONTENT, Rules, SCALE, SIZE, WRONG};
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::journal::{self, Reach};
use provision_core::schedule::{Connection, MIN_CLAIM};

/// A step of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The initial state.
    Start,
    /// A process takes a step.
    Of(usize, Act),
    /// A process is killed.
    Kill(usize),
    /// The machine loses its power.
    PowerCut,
}

impl Step {
    pub(super) fn is_fault(self) -> bool {
        match self {
            Self::Start => false,
            Self::Of(_, act) => act.is_fault(),
            Self::Kill(_) | Self::PowerCut => true,
        }
    }
}

/// A state of the model.
#[derive(Debug, Clone, Hash)]
pub(super) struct Model {
    pub(super) disk: Disk,
    pub(super) processes: [Process; 2],
    /// The holder of the destination's lock.
    pub(super) holder: Option<usize>,
    faults_left: u8,
}

impl Model {
    pub(super) fn new(rules: &Rules) -> Self {
        let processes = [Process::default(), Process::default()];
        Self { disk: Disk::default(), processes, holder: None, faults_left: rules.faults }
    }

    /// The possible steps.
    pub(super) fn steps(&self, rules: &Rules) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, process) in self.processes.iter().enumerate() {
            steps.extend(process.acts(at, self, rules).into_iter().map(|act| Step::Of(at, act)));
            if process.is_running() {
                steps.push(Step::Kill(at));
            }
        }
        if rules.power_cuts {
            steps.push(Step::PowerCut);
        }
        steps.retain(|step| !step.is_fault() || self.faults_left > 0);
        steps
    }

    /// The states after a step: one, or several after a power cut.
    pub(super) fn after(&self, step: Step, rules: &Rules) -> Result<Vec<Self>, &'static str> {
        let mut next = self.clone();
        next.faults_left -= u8::from(step.is_fault());
        match step {
            Step::Start => {}
            Step::Of(at, act) => {
                let mut process = std::mem::take(&mut next.processes[at]);
                let done = process.act(at, act, &mut next, rules);
                next.processes[at] = process;
                done?;
            }
            Step::Kill(at) => next.stop(at, rules),
            Step::PowerCut => {
                (0..2).for_each(|at| next.stop(at, rules));
                let disks = next.disk.after_power_cut(rules.torn).into_iter();
                return Ok(disks.map(|disk| Self { disk, ..next.clone() }.renumbered()).collect());
            }
        }
        Ok(vec![next.renumbered()])
    }

    /// Ends a process: its memory is lost, and the kernel releases its locks.
    fn stop(&mut self, at: usize, rules: &Rules) {
        self.processes[at].stop(rules);
        self.disk.unlock_all(at);
        self.release(at);
    }

    /// True if another fault can happen.
    pub(super) fn can_fail(&self) -> bool {
        self.faults_left > 0
    }

    pub(super) fn release(&mut self, at: usize) {
        if self.holder == Some(at) {
            self.holder = None;
        }
    }

    fn renumbered(mut self) -> Self {
        self.disk.renumber(self.processes.iter_mut().flat_map(Process::handles));
        self
    }

    /// True if both processes are done, with file and marker in place.
    pub(super) fn has_ended(&self) -> bool {
        self.processes.iter().all(Process::is_done)
            && self.disk.find(Name::Final).is_some()
            && self.disk.find(Name::Marker).is_some()
    }

    /// Checks I1 to I3 on the visible files. After a power cut, these are the durable ones.
    pub(super) fn holds(&self, rules: &Rules) -> Result<(), &'static str> {
        let disk = &self.disk;
        let installed = disk.find(Name::Final).map(|file| disk.read(file));
        if installed.is_some_and(|bytes| bytes != CONTENT) {
            return Err("I1: wrong bytes under the final name");
        }
        if disk.find(Name::Marker).is_some() && installed.is_none() {
            return Err("I2: a marker without its file");
        }
        if rules.shares_names && !rules.lock_works {
            return Ok(());
        }
        for name in disk.names() {
            let (Name::Journal(own), Some(journal)) = (name, disk.find(name)) else { continue };
            let mut records = journal::parse(disk.read(journal), &digest(&CONTENT), SIZE);
            records.retain(|record| record.reach == Reach::Durable);
            match disk.find(Name::Part(own)) {
                // Emptied because of a wrong digest. If its journal is back after a power cut, reading the part
                // rejects it.
                Some(part) if disk.is_given_up(part) => {}
                Some(part) if !records.iter().all(|record| matches(record, disk.read(part))) => {
                    return Err("I3: bytes that the journal calls durable are lost");
                }
                None if installed.is_none() && !records.is_empty() => {
                    return Err("I3: a part whose bytes the journal calls durable is lost");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The next system call of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
enum Phase {
    /// Not started, or killed and not restarted.
    #[default]
    Outside,
    Plan,
    /// The file is in place and verified.
    Present,
    VerifyJournal,
    /// Some records of the journal match.
    SyncResumed(Vec<(ByteRange, u32)>),
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
    RemoveJournalAfterInstall,
    Mark,
    SyncMarker,
    Done,
}

/// A bit for each byte in the part: `RangeSet` has no hash.
type RangeSetBits = u16;

/// A process: its next call, its open files and its memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    phase: Phase,
    /// Counts its restarts under part names of its own.
    run: u8,
    part: Option<Inode>,
    journal: Option<Inode>,
    memory: Option<Memory>,
}

impl Hash for Process {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.phase, self.run, self.part, self.journal).hash(hasher);
        let Some(memory) = &self.memory else { return };
        // Without time, the schedule's state is its unclaimed ranges.
        memory.schedule.unclaimed(memory.file).hash(hasher);
        for (claim, at) in &memory.in_flight {
            (claim.range, at).hash(hasher);
        }
        bits(&memory.written).hash(hasher);
        (&memory.hashed, memory.has_checkpointed).hash(hasher);
        for ranges in [&memory.unjournaled, &memory.journaled] {
            ranges.iter().collect::<Vec<_>>().hash(hasher);
        }
        if let Some(checkpoint) = &memory.checkpoint {
            (checkpoint.stage, checkpoint.ranges.iter().collect::<Vec<_>>()).hash(hasher);
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

    /// A restarted process has new part names, unless names are shared.
    pub(super) fn stop(&mut self, rules: &Rules) {
        let begun = self.phase != Phase::Outside && !rules.shares_names;
        *self = Self { run: self.run + u8::from(begun), ..Self::default() };
    }

    pub(super) fn handles(&mut self) -> impl Iterator<Item = &mut Inode> {
        self.part.iter_mut().chain(self.journal.iter_mut())
    }

    /// The number in its part name.
    fn name(&self, at: usize, rules: &Rules) -> u8 {
        if rules.shares_names { 0 } else { 1 + 16 * at as u8 + self.run }
    }

    pub(super) fn acts(&self, at: usize, model: &Model, rules: &Rules) -> Vec<Act> {
        match (&self.phase, &self.memory) {
            (Phase::Done, _) => Vec::new(),
            (Phase::Outside, _) if rules.lock_works && model.holder.is_some_and(|holder| holder != at) => {
                Vec::new()
            }
            // Before either has started, the processes are equal: the first one starts.
            (Phase::Outside, _) if at > 0 && model.processes[0].phase == Phase::Outside => Vec::new(),
            (Phase::Work, Some(memory)) => memory.acts(rules, model.can_fail()),
            _ => vec![Act::NextCall],
        }
    }

    pub(super) fn act(
        &mut self,
        at: usize,
        act: Act,
        model: &mut Model,
        rules: &Rules,
    ) -> Result<(), &'static str> {
        match act {
            Act::NextCall => self.next_call(at, model, rules),
            Act::Deliver(claim) => self.receive(claim, &CONTENT, false, model),
            Act::Lie(claim) => self.receive(claim, &WRONG, false, model),
            Act::Short(claim) => {
                self.receive(claim, &CONTENT, true, model)?;
                let memory = self.memory.as_mut().expect("it is working");
                let (ended, _) = memory.in_flight.remove(claim);
                if rules.loses_claims {
                    memory.schedule.reserve(ended.id, ended.range.len());
                }
                memory.schedule.finish(ended.id, Connection::Closed);
                memory.launch()
            }
            Act::JournalWritten => {
                let memory = self.memory.as_mut().expect("it is working");
                let unjournaled = std::mem::take(&mut memory.unjournaled);
                let text = journal::records(Reach::Written, unjournaled.iter());
                memory.journaled.append(unjournaled);
                self.append(at, &text, &mut model.disk, rules);
                Ok(())
            }
            Act::Checkpoint => {
                self.checkpoint(at, &mut model.disk, rules);
                while !rules.lock_works
                    && self.memory.as_ref().is_some_and(|memory| memory.checkpoint.is_some())
                {
                    self.checkpoint(at, &mut model.disk, rules);
                }
                Ok(())
            }
        }
    }

    fn next_call(&mut self, at: usize, model: &mut Model, rules: &Rules) -> Result<(), &'static str> {
        let own = self.name(at, rules);
        let disk = &mut model.disk;
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Outside => {
                model.holder = model.holder.or(Some(at));
                Phase::Plan
            }
            Phase::Plan => match (disk.find(Name::Final), disk.find(Name::Part(own))) {
                (Some(_), _) => Phase::Present,
                (None, Some(part)) if verify_journal(disk, part, own).0.is_empty() && rules.shares_names => {
                    // Nothing matches: the part is dropped. A process that has it open keeps the file.
                    discard(disk, own);
                    Phase::Plan
                }
                (None, part) => {
                    let part = part.unwrap_or_else(|| disk.create(Name::Part(own), false));
                    if rules.lock_works && !disk.lock(part, at) {
                        return Err("two processes work where one has the lock");
                    }
                    self.part = Some(part);
                    Phase::VerifyJournal
                }
            },
            Phase::Present => {
                let file = disk.find(Name::Final).expect("it is present");
                if rules.syncs_existing {
                    disk.sync(file);
                    disk.sync_names(Place::Below);
                }
                discard(disk, own);
                Phase::Mark
            }
            Phase::VerifyJournal => {
                let (ranges, _) = verify_journal(disk, self.part.expect("it is open"), own);
                if ranges.is_empty() {
                    disk.unlink(Name::Temporary(own));
                    disk.unlink(Name::Journal(own));
                    Phase::Adopt(0)
                } else {
                    Phase::SyncResumed(ranges)
                }
            }
            Phase::SyncResumed(ranges) => {
                disk.sync(self.part.expect("it is open"));
                Phase::RewriteJournal(ranges)
            }
            Phase::RewriteJournal(ranges) => {
                disk.unlink(Name::Temporary(own));
                let temporary = disk.create(Name::Temporary(own), true);
                let held: RangeSet = ranges.iter().map(|(range, _)| *range).collect();
                disk.append(temporary, &(header() + &journal::records(Reach::Durable, ranges)));
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
                memory.hash_ready(disk, self.part.expect("it is open"));
                if !rules.shares_names {
                    memory.adopt(disk, self.part.expect("it is open"), own);
                }
                memory.begin()?;
                self.memory = Some(memory);
                Phase::Work
            }
            Phase::Work => {
                let memory = self.memory.as_ref().expect("it is working");
                if memory.hashed.len() < CONTENT.len() {
                    return Err("a claim is lost: it is complete, and bytes are missing");
                }
                if rules.skips_verify || digest(&memory.hashed) == digest(&CONTENT) {
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
                if rules.marks_before_sync { Phase::RemoveJournalAfterInstall } else { Phase::SyncNames }
            }
            Phase::SyncNames => {
                disk.sync_names(Place::Below);
                Phase::RemoveJournalAfterInstall
            }
            Phase::RemoveJournalAfterInstall => {
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
                model.release(at);
                Phase::Done
            }
            Phase::Done => Phase::Done,
        };
        Ok(())
    }

    /// Receives the rest of a claim, or half of it if the connection ends early.
    fn receive(
        &mut self,
        claim_at: usize,
        bytes: &[u8],
        ends_early: bool,
        model: &mut Model,
    ) -> Result<(), &'static str> {
        let (memory, part) = (self.memory.as_mut().expect("it is working"), self.part.expect("it is open"));
        let (claim, at) = memory.in_flight[claim_at];
        let end = memory.schedule.end_of(claim.id).ok_or("a claim is unknown to the schedule")?;
        let rest = end - at;
        let len = match ends_early {
            true if rest < MIN_CLAIM => 0,
            true => rest / 2,
            false => rest,
        };
        let granted = memory.schedule.reserve(claim.id, len);
        if granted > 0 {
            memory.write(&mut model.disk, part, ByteRange::new(at / SCALE, (at + granted) / SCALE), bytes)?;
        }
        memory.in_flight[claim_at].1 = at + granted;
        if !ends_early {
            memory.in_flight.remove(claim_at);
            memory.schedule.finish(claim.id, Connection::Kept);
            memory.launch()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, at: usize, disk: &mut Disk, rules: &Rules) {
        let part = self.part.expect("it is open");
        let memory = self.memory.as_mut().expect("it is working");
        let Some(checkpoint) = memory.checkpoint.take() else {
            let mut ranges = std::mem::take(&mut memory.journaled);
            ranges.append(std::mem::take(&mut memory.unjournaled));
            memory.checkpoint = Some(Checkpoint { stage: 0, ranges });
            memory.has_checkpointed = !rules.lock_works;
            return;
        };
        let Checkpoint { stage, ranges } = checkpoint;
        let order = if rules.journals_before_sync { [1, 2, 0] } else { [0, 1, 2] };
        match order[usize::from(stage)] {
            0 => disk.sync(part),
            1 => {
                let text = journal::records(Reach::Durable, ranges.iter());
                self.append(at, &text, disk, rules);
            }
            _ => {
                disk.sync(self.journal.expect("a record was appended"));
                disk.sync_names(Place::Below);
            }
        }
        if stage < 2 {
            let memory = self.memory.as_mut().expect("it is working");
            memory.checkpoint = Some(Checkpoint { stage: stage + 1, ranges });
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
