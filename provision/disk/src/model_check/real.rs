//! The real `PartFile`, two owners of it in one real directory: every order of their calls, with one fault.
//!
//! There is no state to go back to on a real disk, so each order is run from its beginning: a run asks a [`Choices`] for
//! every decision, and the next run decides differently as late as possible. Dropping a `PartFile` is all that a kill does
//! between two of its calls: memory and lock are gone, what was written stays.

use std::fs;
use std::sync::Arc;

use camino::Utf8Path;

use super::{CONTENT, PAGE, WRONG};
use crate::{Destination, PartFile, PartNames, StoreError};
use provision_core::byte_range::ByteRange;
use provision_core::lockfile::Model;

/// The decisions of a run, and how many there were to choose from at each.
#[derive(Debug, Default)]
struct Choices {
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn of(&mut self, many: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, many));
        }
        self.at += 1;
        self.made[self.at - 1].0
    }

    /// To the next run; false where there is none.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, many)) = self.made.pop() {
            if chosen + 1 < many {
                self.made.push((chosen + 1, many));
                return true;
            }
        }
        false
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    GoOn,
    Checkpoint,
    Short,
    Lie,
    Kill,
}

/// An owner of the part: a process, but for its memory.
struct Owner {
    part_names: PartNames,
    part: Option<Arc<PartFile>>,
    synced: bool,
    runs: usize,
    done: bool,
}

impl Owner {
    fn acts(&self, can_fail: bool, shared: bool) -> Vec<Act> {
        if self.done {
            return Vec::new();
        }
        let mut acts = vec![Act::GoOn];
        let Some(part) = self.part.as_ref().filter(|_| can_fail) else { return acts };
        acts.push(Act::Kill);
        let left = part.missing().len();
        if left > 0 {
            acts.push(Act::Short);
        }
        // Where both work at once there are too many orders for a lie at each place: the last bytes are the wrong ones.
        if left > 0 && (shared || part.held() >= CONTENT.len() as u64 - PAGE as u64) {
            acts.push(Act::Lie);
        }
        if shared && !self.synced && part.held() > 0 {
            acts.push(Act::Checkpoint);
        }
        acts
    }

    fn act(&mut self, act: Act, destination: &Destination, model: &Model, name: usize, shared: bool) {
        let Some(part) = self.part.clone() else { return self.open(destination, model, name, shared) };
        match act {
            Act::Kill => {
                self.part = None;
                // With names of their own, the other one finds what this one left.
                self.done = !shared;
            }
            Act::Checkpoint => {
                part.checkpoint().unwrap();
                self.synced = true;
            }
            Act::GoOn if part.missing().is_empty() => self.finish(part),
            Act::GoOn | Act::Short | Act::Lie => {
                let gap = part.missing()[0];
                let end = gap.end.min((gap.start / PAGE as u64 + 1) * PAGE as u64);
                let end = if act == Act::Short { u64::midpoint(gap.start, end) } else { end };
                let from = if act == Act::Lie { WRONG } else { CONTENT };
                let range = ByteRange::new(gap.start, end);
                part.write(range.start, &from[range.start as usize..range.end as usize]).unwrap();
                part.journal_written().unwrap();
            }
        }
    }

    fn open(&mut self, destination: &Destination, model: &Model, name: usize, shared: bool) {
        if destination.root().path().join("d/x").exists() {
            self.done = true;
            return;
        }
        self.runs += 1;
        if !shared {
            self.part_names = PartNames::PerProcess(format!("{name}-{}", self.runs));
        }
        match PartFile::resume(destination, model, &self.part_names, || true) {
            Ok(part) => self.part = Some(Arc::new(part)),
            Err(StoreError::PartBusy { .. }) if shared => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn finish(&mut self, part: Arc<PartFile>) {
        self.part = None;
        match part.clone().verify() {
            Ok(verified) => {
                verified.install().unwrap();
                self.done = true;
            }
            Err(StoreError::Mismatch { .. }) => {
                part.reset().unwrap();
                self.part = Some(part);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs one order to its end and says how long it was.
fn run(choices: &mut Choices, shared: bool) -> usize {
    // In memory where there is such a place: what a disk does is not what is asked here.
    let memory = Utf8Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let destination = Destination::create(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
    let model = Model {
        path: "d/x".parse().unwrap(),
        sources: vec!["http://h/x".parse().unwrap()],
        size: CONTENT.len() as u64,
        sha256: super::digest(&CONTENT),
        source: None,
        groups: vec![],
    };
    let new = || Owner { part_names: PartNames::Shared, part: None, synced: false, runs: 0, done: false };
    let mut owners = [new(), new()];
    let mut faults_left = 1;
    let mut steps = 0;
    while owners.iter().any(|owner| !owner.done) {
        steps += 1;
        assert!(steps < 100, "it never ends: {choices:?}");
        let mut acts: Vec<(usize, Act)> = Vec::new();
        for (at, owner) in owners.iter().enumerate() {
            let other = &owners[1 - at];
            // Trying again while another has it changes nothing; and while neither has begun they are the same.
            let waits =
                owner.part.is_none() && (shared && other.part.is_some() || at == 1 && other.runs == 0);
            if !waits {
                let can_fail = faults_left > 0 && (shared || at == 0);
                acts.extend(owner.acts(can_fail, shared).into_iter().map(|act| (at, act)));
            }
        }
        let (at, act) = acts[choices.of(acts.len())];
        faults_left -= usize::from(matches!(act, Act::Kill | Act::Short | Act::Lie));
        owners[at].act(act, &destination, &model, at, shared);
        if let Ok(installed) = fs::read(directory.path().join("d/x")) {
            assert_eq!(installed, CONTENT, "{choices:?}");
        }
    }
    assert_eq!(fs::read(directory.path().join("d/x")).unwrap(), CONTENT, "{choices:?}");
    steps
}

fn all(name: &str, shared: bool) {
    let mut choices = Choices::default();
    let (mut orders, mut longest) = (0, 0);
    loop {
        longest = longest.max(run(&mut choices, shared));
        orders += 1;
        if !choices.next() {
            break;
        }
    }
    println!("{name}: {orders} orders of up to {longest} calls");
}

#[test]
fn two_owners_of_a_real_part_under_a_lock_end_with_the_file() {
    all("a real part, with a lock", true);
}

#[test]
fn two_owners_of_real_parts_with_names_of_their_own_end_with_the_file() {
    all("real parts, without a lock", false);
}
