//! The real `PartFile`: two owners in one real directory, every order of their calls, one fault.
//!
//! A real disk cannot return to an earlier state, so each order runs from the start. [`Choices`] makes every decision
//! of a run, and the next run decides differently as late as possible. Dropping a `PartFile` has the effect of a kill
//! between two calls: memory and lock are lost, written bytes stay.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use camino::Utf8Path;

use super::rules::{CONTENT, PAGE, WRONG};
use crate::destination::Destination;
use crate::error::DiskError;
use crate::part::{PartFile, PartNames, PartOptions};
use crate::testing::{listed, model};
use provision_core::lockfile::Model;
use provision_core::piece_list::PieceList;

/// The decisions of a run, each with its number of options.
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

    /// Prepares the next run. Returns false after the last one.
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
    Continue,
    Checkpoint,
    Short,
    Lie,
    Kill,
    /// A kill, and the first page of the part has zeros: a power cut before its sync. Only with a list, which needs no
    /// journal.
    Cut,
}

/// A destination with one model.
struct Scene {
    directory: tempfile::TempDir,
    destination: Destination,
    model: Model,
    list: Option<Arc<PieceList>>,
    /// All owners use one part name, as with a working lock.
    shared: bool,
}

impl Scene {
    fn new(shared: bool, by_pieces: bool) -> Self {
        // In memory if possible: the disk's behaviour is not tested here.
        let memory = Utf8Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.unwrap();
        let destination = Destination::create(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
        let (listed, list) = listed(&CONTENT, [PAGE]);
        let (model, list) = if by_pieces { (listed, Some(list)) } else { (model("d/x", &CONTENT), None) };
        Self { directory, destination, model, list, shared }
    }

    fn installed(&self) -> Option<Vec<u8>> {
        fs::read(self.directory.path().join("d/x")).ok()
    }
}

/// An owner of a part: stands for a process.
#[derive(Default)]
struct Owner {
    part: Option<Arc<PartFile>>,
    checkpointed: bool,
    runs: usize,
    done: bool,
    /// The bytes that it wrote.
    sent: u64,
}

impl Owner {
    fn acts(&self, can_fail: bool, shared: bool) -> Vec<Act> {
        if self.done {
            return Vec::new();
        }
        let mut acts = vec![Act::Continue];
        let Some(part) = self.part.as_ref().filter(|_| can_fail) else { return acts };
        let (held, has_missing) = (part.held(), !part.missing().is_empty());
        // Two owners at work have too many orders for a lie at each place: only the last page can be wrong.
        let may_lie = shared || held >= CONTENT.len() as u64 - PAGE as u64;
        let faults = [
            (Act::Kill, true),
            (Act::Cut, part.has_list() && held > 0 && !self.checkpointed),
            (Act::Short, has_missing),
            (Act::Lie, has_missing && may_lie),
            (Act::Checkpoint, shared && held > 0 && !self.checkpointed),
        ];
        acts.extend(faults.iter().filter(|(_, can_be)| *can_be).map(|(act, _)| *act));
        acts
    }

    fn act(&mut self, act: Act, scene: &Scene, at: usize) {
        let Some(part) = self.part.clone() else { return self.open(scene, at) };
        match act {
            Act::Kill | Act::Cut => {
                if act == Act::Cut {
                    let (file, ..) = part.parts();
                    file.write_all_at(&[0; PAGE], 0).unwrap();
                }
                self.part = None;
                // With names of their own, the other one finds what this one left.
                self.done = !scene.shared;
            }
            Act::Checkpoint => {
                part.checkpoint().unwrap();
                self.checkpointed = true;
            }
            Act::Continue if part.missing().is_empty() => self.finish(&part),
            Act::Continue | Act::Short | Act::Lie => {
                let gap = part.missing()[0];
                let end = gap.end.min((gap.start / PAGE as u64 + 1) * PAGE as u64);
                let end = if act == Act::Short { u64::midpoint(gap.start, end) } else { end };
                let from = if act == Act::Lie { WRONG } else { CONTENT };
                part.write(gap.start, &from[gap.start as usize..end as usize]).unwrap();
                part.journal_written().unwrap();
                part.hash_ready().unwrap();
                self.sent += end - gap.start;
            }
        }
    }

    fn open(&mut self, scene: &Scene, at: usize) {
        if scene.installed().is_some() {
            self.done = true;
            return;
        }
        self.runs += 1;
        let own = PartNames::PerProcess(format!("{at}-{}", self.runs));
        let names = if scene.shared { PartNames::Shared } else { own };
        let options = PartOptions { pieces: scene.list.clone(), ..(&names).into() };
        match PartFile::resume(&scene.destination, &scene.model, options, || true) {
            Ok(part) => self.part = Some(Arc::new(part)),
            Err(DiskError::PartBusy { .. }) if scene.shared => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn finish(&mut self, part: &Arc<PartFile>) {
        match part.clone().verify() {
            Ok(verified) => {
                verified.install().unwrap();
                (self.part, self.done) = (None, true);
            }
            Err(DiskError::Mismatch { .. }) => part.reset().unwrap(),
            Err(DiskError::WrongPieces { .. }) => {
                let wrong = part.wrong();
                assert_eq!(wrong.len(), 1, "one lie");
                part.drop_wrong(&wrong).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs one order to its end. Returns its length.
fn run(choices: &mut Choices, shared: bool, by_pieces: bool) -> usize {
    let scene = Scene::new(shared, by_pieces);
    let mut owners = [Owner::default(), Owner::default()];
    let (mut faults_left, mut steps) = (1, 0);
    while owners.iter().any(|owner| !owner.done) {
        steps += 1;
        assert!(steps < 100, "the run does not end: {choices:?}");
        let mut acts: Vec<(usize, Act)> = Vec::new();
        for (at, owner) in owners.iter().enumerate() {
            let other = &owners[1 - at];
            // A retry while the other owner has the part changes nothing. Before either has started, they are equal.
            let waits =
                owner.part.is_none() && (shared && other.part.is_some() || at == 1 && other.runs == 0);
            if !waits {
                let can_fail = faults_left > 0 && (shared || at == 0);
                acts.extend(owner.acts(can_fail, shared).into_iter().map(|act| (at, act)));
            }
        }
        let (at, act) = acts[choices.of(acts.len())];
        faults_left -= usize::from(matches!(act, Act::Kill | Act::Cut | Act::Short | Act::Lie));
        owners[at].act(act, &scene, at);
        assert!(scene.installed().is_none_or(|installed| installed == CONTENT), "{choices:?}");
    }
    assert!(scene.installed().is_some(), "{choices:?}");
    let sent: u64 = owners.iter().map(|owner| owner.sent).sum();
    let most = (CONTENT.len() + 2 * PAGE) as u64;
    assert!(!by_pieces || !shared || sent <= most, "a fault costs one piece, not {sent} bytes: {choices:?}");
    steps
}

fn all(shared: bool, by_pieces: bool) {
    let mut choices = Choices::default();
    let (mut orders, mut longest) = (0, 0);
    loop {
        longest = longest.max(run(&mut choices, shared, by_pieces));
        orders += 1;
        if !choices.next() {
            break;
        }
    }
    println!("lock: {shared}, list: {by_pieces}: {orders} orders of up to {longest} calls");
}

#[test]
fn two_owners_of_one_real_part_end_with_the_file() {
    all(true, false);
}

#[test]
fn two_owners_with_own_real_parts_end_with_the_file() {
    all(false, false);
}

#[test]
fn two_owners_of_one_real_part_with_a_list_lose_one_piece_at_most() {
    all(true, true);
}

#[test]
fn two_owners_with_own_real_parts_with_a_list_end_with_the_file() {
    all(false, true);
}
