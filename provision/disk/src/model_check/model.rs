//! The model: two processes on one disk, the steps that they can take, and what must hold in every state.
//!
//! A process takes one system call a step, in the order of `fetch`, `PartFile` and `Verified`. The deciding parts are
//! real: `Schedule`, the journal's text, `CrcRanges`, SHA-256. The order of the calls around them is written a second
//! time, since a `PartFile` can neither be stopped between two system calls nor be cloned.

use super::disk::{Disk, Inode, Name, Place};
use super::memory::{Act, Call, Memory, digest, matches, verify_journal};
use super::rules::{Broken, CONTENT, Rules, SCALE, SIZE, WRONG};
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::journal::{self, Reach};
use provision_core::schedule::{Connection, MIN_CLAIM};

const START: &[Call] = &[Call::Start, Call::Plan];
const PLAN: &[Call] = &[Call::Plan];
/// The file is in place and verified.
const PRESENT: &[Call] = &[Call::SyncExisting, Call::Mark, Call::SyncNames(Place::Root)];
const RESUME: &[Call] = &[
    Call::VerifyJournal,
    Call::SyncPart,
    Call::RewriteJournal,
    Call::ReplaceJournal,
    Call::SyncNames(Place::Below),
    Call::Begin,
    Call::Work,
];
/// No record of the journal matches.
const FROM_START: &[Call] = &[Call::Begin, Call::Work];
/// The digest is wrong.
const REFETCH: &[Call] = &[Call::RemoveJournal, Call::Empty, Call::Work];
const INSTALL: &[Call] = &[
    Call::SyncPart,
    Call::Rename,
    Call::SyncNames(Place::Below),
    Call::Close,
    Call::Mark,
    Call::SyncNames(Place::Root),
];
const MARK_BEFORE_SYNC: &[Call] =
    &[Call::SyncPart, Call::Rename, Call::Close, Call::Mark, Call::SyncNames(Place::Root)];
const CHECKPOINT: &[Call] = &[Call::SyncPart, Call::AppendDurable, Call::SyncJournal];
const JOURNAL_BEFORE_SYNC: &[Call] = &[Call::AppendDurable, Call::SyncJournal, Call::SyncPart];

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
    pub(super) fn new(rules: Rules) -> Self {
        let processes = [0, 1].map(|at| Process::new(at, rules));
        Self { disk: Disk::default(), processes, holder: None, faults_left: rules.faults }
    }

    /// The possible steps.
    pub(super) fn steps(&self, rules: Rules) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, process) in self.processes.iter().enumerate() {
            steps.extend(process.acts(self, rules).into_iter().map(|act| Step::Of(at, act)));
            if process.has_begun() && !process.is_done() {
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
    pub(super) fn after(&self, step: Step, rules: Rules) -> Result<Vec<Self>, &'static str> {
        let mut next = self.clone();
        next.faults_left -= u8::from(step.is_fault());
        match step {
            Step::Start => {}
            Step::Of(at, act) => {
                let mut process = next.processes[at].clone();
                process.act(act, &mut next, rules)?;
                next.processes[at] = process;
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
    fn stop(&mut self, at: usize, rules: Rules) {
        self.processes[at].stop(rules);
        self.disk.unlock_all(at);
        self.release(at);
    }

    fn release(&mut self, at: usize) {
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
    pub(super) fn holds(&self, rules: Rules) -> Result<(), &'static str> {
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

/// A process: its next calls, its open files and its memory.
#[derive(Debug, Clone, Hash)]
pub(super) struct Process {
    at: usize,
    /// The number in its part names.
    own: u8,
    calls: &'static [Call],
    part: Option<Inode>,
    journal: Option<Inode>,
    /// The records of the journal that match.
    resumed: Vec<(ByteRange, u32)>,
    /// The memory of a transfer.
    memory: Option<Memory>,
}

impl Process {
    fn new(at: usize, rules: Rules) -> Self {
        let own = if rules.shares_names { 0 } else { 1 + 16 * at as u8 };
        Self { at, own, calls: START, part: None, journal: None, resumed: Vec::new(), memory: None }
    }

    fn has_begun(&self) -> bool {
        self.calls != START
    }

    fn is_done(&self) -> bool {
        self.calls.is_empty()
    }

    /// Ends the process. A restarted one has new part names, unless names are shared.
    fn stop(&mut self, rules: Rules) {
        let own = self.own + u8::from(self.has_begun() && !rules.shares_names);
        *self = Self { own, ..Self::new(self.at, rules) };
    }

    fn handles(&mut self) -> impl Iterator<Item = &mut Inode> {
        self.part.iter_mut().chain(self.journal.iter_mut())
    }

    fn part(&self) -> Inode {
        self.part.expect("it is open")
    }

    fn memory(&mut self) -> &mut Memory {
        self.memory.as_mut().expect("it is working")
    }

    fn acts(&self, model: &Model, rules: Rules) -> Vec<Act> {
        let is_locked = rules.lock_works && model.holder.is_some_and(|holder| holder != self.at);
        // Before either has started, the processes are equal: the first one starts.
        let is_second = self.at > 0 && !model.processes[0].has_begun();
        match &self.memory {
            Some(memory) => memory.acts(rules, model.faults_left > 0),
            None if self.is_done() || !self.has_begun() && (is_locked || is_second) => Vec::new(),
            None => vec![Act::NextCall],
        }
    }

    fn act(&mut self, act: Act, model: &mut Model, rules: Rules) -> Result<(), &'static str> {
        match act {
            Act::NextCall => {
                let (call, rest) = self.calls.split_first().expect("it is not done");
                self.calls = rest;
                self.call(*call, model, rules)?;
                if self.is_done() {
                    model.release(self.at);
                }
            }
            Act::Deliver(claim) => self.receive(claim, &CONTENT, false, model)?,
            Act::Lie(claim) => self.receive(claim, &WRONG, false, model)?,
            Act::Short(claim) => {
                self.receive(claim, &CONTENT, true, model)?;
                let memory = self.memory();
                let (ended, _) = memory.in_flight.remove(claim);
                if rules.broken == Some(Broken::LosesClaims) {
                    memory.schedule.reserve(ended.id, ended.range.len());
                }
                memory.schedule.finish(ended.id, Connection::Closed);
                memory.launch()?;
            }
            Act::JournalWritten => {
                let memory = self.memory();
                let unjournaled = std::mem::take(&mut memory.unjournaled);
                let text = journal::records(Reach::Written, unjournaled.iter());
                memory.journaled.append(unjournaled);
                self.append(&text, &mut model.disk);
            }
            Act::Checkpoint => loop {
                let memory = self.memory();
                if let Some((call, rest)) = memory.checkpoint.split_first() {
                    memory.checkpoint = rest;
                    self.call(*call, model, rules)?;
                } else {
                    memory.syncing = std::mem::take(&mut memory.journaled);
                    memory.syncing.append(std::mem::take(&mut memory.unjournaled));
                    memory.has_checkpointed = !rules.lock_works;
                    memory.checkpoint = match rules.broken {
                        Some(Broken::JournalsBeforeSync) => JOURNAL_BEFORE_SYNC,
                        _ => CHECKPOINT,
                    };
                }
                if rules.lock_works || self.memory().checkpoint.is_empty() {
                    break;
                }
            },
        }
        Ok(())
    }

    fn call(&mut self, call: Call, model: &mut Model, rules: Rules) -> Result<(), &'static str> {
        let (disk, own) = (&mut model.disk, self.own);
        match call {
            Call::Start => model.holder = model.holder.or(Some(self.at)),
            Call::Plan => match (disk.find(Name::Final), disk.find(Name::Part(own))) {
                (Some(_), _) => self.calls = PRESENT,
                (None, Some(part)) if rules.shares_names && verify_journal(disk, part, own).0.is_empty() => {
                    // Nothing matches: the part is dropped. A process that has it open keeps the file.
                    discard(disk, own);
                    self.calls = PLAN;
                }
                (None, part) => {
                    let part = part.unwrap_or_else(|| disk.create(Name::Part(own), false));
                    if rules.lock_works && !disk.lock(part, self.at) {
                        return Err("two processes work where one has the lock");
                    }
                    self.part = Some(part);
                    self.calls = RESUME;
                }
            },
            Call::SyncExisting => {
                if rules.broken != Some(Broken::TrustsExisting) {
                    disk.sync(disk.find(Name::Final).expect("it is present"));
                    disk.sync_names(Place::Below);
                }
                discard(disk, own);
            }
            Call::VerifyJournal => {
                self.resumed = verify_journal(disk, self.part(), own).0;
                if self.resumed.is_empty() {
                    disk.unlink(Name::Temporary(own));
                    disk.unlink(Name::Journal(own));
                    self.calls = FROM_START;
                }
            }
            Call::SyncPart => disk.sync(self.part()),
            Call::RewriteJournal => {
                disk.unlink(Name::Temporary(own));
                let temporary = disk.create(Name::Temporary(own), true);
                let records = journal::records(Reach::Durable, self.resumed.iter().copied());
                disk.append(temporary, &(header() + &records));
                disk.sync(temporary);
            }
            Call::ReplaceJournal => disk.rename(Name::Temporary(own), Name::Journal(own)),
            Call::SyncNames(place) => disk.sync_names(place),
            Call::Begin => {
                let resumed = std::mem::take(&mut self.resumed);
                let mut memory = Memory::new(resumed.into_iter().map(|(range, _)| range).collect());
                memory.hash_ready(disk, self.part());
                if !rules.shares_names {
                    memory.adopt(disk, self.part(), own);
                }
                memory.begin()?;
                self.memory = Some(memory);
            }
            Call::Work => {
                let hashed = self.memory.take().expect("it is working").hashed;
                if hashed.len() < CONTENT.len() {
                    return Err("a claim is lost: it is complete, and bytes are missing");
                }
                let is_right = digest(&hashed) == digest(&CONTENT);
                self.calls = match rules.broken {
                    Some(Broken::MarksBeforeSync) if is_right => MARK_BEFORE_SYNC,
                    Some(Broken::SkipsVerify) => INSTALL,
                    _ if is_right => INSTALL,
                    _ => REFETCH,
                };
            }
            Call::AppendDurable => {
                let text = journal::records(Reach::Durable, self.memory().syncing.iter());
                self.append(&text, disk);
            }
            Call::SyncJournal => {
                disk.sync(self.journal.expect("a record was appended"));
                disk.sync_names(Place::Below);
            }
            Call::RemoveJournal => {
                self.journal = None;
                disk.unlink(Name::Journal(own));
            }
            Call::Empty => {
                disk.give_up(self.part());
                let mut memory = Memory::new(RangeSet::new());
                memory.begin()?;
                self.memory = Some(memory);
            }
            Call::Rename => {
                if disk.find(Name::Part(own)) != self.part {
                    return Err("a part was replaced under its owner");
                }
                if rules.lock_works && disk.find(Name::Final).is_some() {
                    return Err("the file is installed twice");
                }
                disk.rename(Name::Part(own), Name::Final);
            }
            Call::Close => {
                disk.unlink(Name::Journal(own));
                disk.unlock_all(self.at);
                (self.part, self.journal) = (None, None);
            }
            Call::Mark => {
                if disk.find(Name::Marker).is_none() {
                    let marker = disk.create(Name::Marker, true);
                    disk.append(marker, "1");
                    disk.sync(marker);
                }
            }
        }
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
        let part = self.part();
        let memory = self.memory();
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

    fn append(&mut self, text: &str, disk: &mut Disk) {
        let name = Name::Journal(self.own);
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
    for name in [Name::Temporary(own), Name::Journal(own), Name::Part(own)] {
        disk.unlink(name);
    }
}

fn header() -> String {
    journal::header(&digest(&CONTENT), SIZE)
}
