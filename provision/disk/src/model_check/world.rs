//! Two processes, one disk, and what must hold of them at every moment.

use std::hash::{Hash, Hasher};

use super::disk::{Disk, Name};
use super::memory::Act;
use super::process::Process;
use super::{CONTENT, Rules, durable_claims};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The beginning.
    Start,
    /// A process goes on.
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

/// Everything. See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) processes: [Process; 2],
    /// Who has the destination's lock.
    pub(super) holder: Option<usize>,
    faults_left: u8,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.disk, &self.processes, self.holder, self.faults_left).hash(hasher);
    }
}

impl World {
    pub(super) fn new(rules: &Rules) -> Self {
        let processes = [Process::default(), Process::default()];
        Self { disk: Disk::default(), processes, holder: None, faults_left: rules.faults }
    }

    /// What can happen now.
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

    /// The worlds after a step, and whether a power cut made them.
    pub(super) fn after(&self, step: Step, rules: &Rules) -> Result<Vec<(Self, bool)>, &'static str> {
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
                let disks = next.disk.after_power_cut(rules.torn);
                let with = |disk| {
                    let mut world = Self { disk, ..next.clone() };
                    world.renumber();
                    (world, true)
                };
                return Ok(disks.into_iter().map(with).collect());
            }
        }
        next.renumber();
        Ok(vec![(next, false)])
    }

    /// What is in memory is gone, and the kernel gives the locks back.
    fn stop(&mut self, at: usize, rules: &Rules) {
        self.processes[at].stop(rules);
        self.disk.unlock_all(at);
        self.release(at);
    }

    /// Whether a fault can still come.
    pub(super) fn can_fail(&self) -> bool {
        self.faults_left > 0
    }

    pub(super) fn release(&mut self, at: usize) {
        if self.holder == Some(at) {
            self.holder = None;
        }
    }

    fn renumber(&mut self) {
        let Self { disk, processes, .. } = self;
        disk.renumber(processes.iter_mut().flat_map(Process::handles));
    }

    /// Whether both have done their work.
    pub(super) fn has_ended(&self) -> bool {
        self.processes.iter().all(Process::is_done)
            && self.disk.find(Name::Final).is_some()
            && self.disk.find(Name::Marker).is_some()
    }

    /// I1 to I3, of what a program would find now. After a power cut that is what is durable.
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
            let claims = durable_claims(disk.read(journal));
            match disk.find(Name::Part(own)) {
                // Its bytes were wrong and were given up; that its journal is still there is found out by reading.
                Some(part) if disk.is_given_up(part) => {}
                Some(part) => {
                    let bytes = disk.read(part);
                    let is_there = |(range, crc): &(std::ops::Range<usize>, u32)| {
                        bytes.get(range.clone()).is_some_and(|bytes| crc32fast::hash(bytes) == *crc)
                    };
                    if !claims.iter().all(is_there) {
                        return Err("I3: bytes that the journal calls durable are lost");
                    }
                }
                None if installed.is_none() && !claims.is_empty() => {
                    return Err("I3: a part whose bytes the journal calls durable is lost");
                }
                None => {}
            }
        }
        Ok(())
    }
}
