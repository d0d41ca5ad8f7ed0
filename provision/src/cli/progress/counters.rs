//! Counters of a run.
//!
//! [`Event::Received`] touches four atomics and no lock. Readers see the numbers while they change, so a sum may lack
//! bytes that arrive in between; shown values are clamped.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use super::{lock, text};
use provision_core::event::{Event, FileIndex, Planned, PlannedFile};

/// The most files to work on that are shown one by one.
const MANY: usize = 20;

/// One file of the plan.
pub(super) struct File {
    /// Its path, safe for a terminal.
    pub(super) name: String,
    /// Its length.
    pub(super) size: u64,
    /// Bytes held, and received since, less those dropped.
    position: AtomicU64,
    /// Bytes received in this run, never decreasing: the base of the speed.
    received: AtomicU64,
    connections: AtomicUsize,
    starts: AtomicU32,
    /// Its bytes come from another file on this machine.
    is_copied: AtomicBool,
    /// Pieces of it come from other files on this machine.
    is_reused: AtomicBool,
    state: AtomicU8,
}

const OPEN: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

impl File {
    fn new(planned: &PlannedFile) -> Self {
        let position = match planned.plan {
            Planned::Present => planned.size,
            Planned::Resume | Planned::Fetch | Planned::Copy | Planned::Link => {
                planned.held.min(planned.size)
            }
        };
        Self {
            name: text::clean(planned.path.as_str()),
            size: planned.size,
            position: AtomicU64::new(position),
            received: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            starts: AtomicU32::new(0),
            is_copied: AtomicBool::new(false),
            is_reused: AtomicBool::new(false),
            state: AtomicU8::new(if planned.plan == Planned::Present { DONE } else { OPEN }),
        }
    }

    /// Bytes that are there.
    pub(super) fn position(&self) -> u64 {
        self.position.load(Relaxed).min(self.size)
    }

    /// Bytes received in this run.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Open connections.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// True if pieces of it come from other files on this machine.
    pub(super) fn is_reused(&self) -> bool {
        self.is_reused.load(Relaxed)
    }

    /// The number of sources begun.
    pub(super) fn starts(&self) -> u32 {
        self.starts.load(Relaxed)
    }
}

/// Files that were read before the plan.
#[derive(Clone, Default)]
pub(super) struct Checked {
    /// Their number, including the last one.
    pub(super) files: usize,
    /// Their total length.
    pub(super) bytes: u64,
    /// The last one's path, safe for a terminal.
    pub(super) last: String,
}

/// The run's sums at a moment.
#[derive(Clone, Copy)]
pub(super) struct Totals {
    pub(super) files: usize,
    pub(super) done: usize,
    pub(super) failed: usize,
    pub(super) size: u64,
    /// Bytes held.
    pub(super) position: u64,
    /// Bytes to come, without those of failed files.
    pub(super) left: u64,
    /// Bytes received in this run.
    pub(super) received: u64,
    pub(super) connections: usize,
}

/// The plan, and the sums over it.
#[derive(Default)]
struct Plan {
    files: Box<[File]>,
    size: u64,
    work: usize,
}

/// The numbers of a run.
#[derive(Default)]
pub(super) struct Counters {
    plan: OnceLock<Plan>,
    position: AtomicU64,
    received: AtomicU64,
    connections: AtomicUsize,
    /// Bytes missing from failed files.
    abandoned: AtomicU64,
    done: AtomicUsize,
    failed: AtomicUsize,
    /// Files in progress, in the order of their start.
    active: Mutex<Vec<FileIndex>>,
    checked: Mutex<Checked>,
    /// Lets readers see the end of the checks without a lock.
    planned: AtomicBool,
}

impl Counters {
    /// Counts.
    pub(super) fn observe(&self, event: &Event) {
        match event {
            Event::Checking { path, size } => {
                let mut checked = lock(&self.checked);
                checked.files += 1;
                checked.bytes = checked.bytes.saturating_add(*size);
                checked.last = text::clean(path.as_str());
            }
            Event::Planned { files, .. } => self.plan(files),
            Event::Received { file, bytes } | Event::Brought { file, bytes } => {
                let Some(file) = self.file(*file) else { return };
                file.position.fetch_add(*bytes, Relaxed);
                file.received.fetch_add(*bytes, Relaxed);
                self.position.fetch_add(*bytes, Relaxed);
                self.received.fetch_add(*bytes, Relaxed);
            }
            Event::Dropped { file, bytes, .. } => {
                let Some(file) = self.file(*file) else { return };
                self.move_to(file, |position| position.saturating_sub(*bytes));
            }
            Event::Started { file: index, .. } => {
                let Some(file) = self.file(*index) else { return };
                if file.starts.fetch_add(1, Relaxed) == 0 && file.is_copied.swap(false, Relaxed) {
                    // The copy failed.
                    self.move_to(file, |_| 0);
                }
                self.activate(*index);
            }
            Event::Copying { file: index, .. } => {
                let Some(file) = self.file(*index) else { return };
                if file.is_copied.swap(true, Relaxed) {
                    // From another file, since the first one was not right.
                    self.move_to(file, |_| 0);
                }
                self.activate(*index);
            }
            Event::Reusing { file: index, .. } => {
                let Some(file) = self.file(*index) else { return };
                file.is_reused.store(true, Relaxed);
                self.activate(*index);
            }
            Event::Connections { file, count } => {
                let Some(file) = self.file(*file) else { return };
                self.set_connections(file, *count);
            }
            Event::Finished { file: index, .. } => {
                let Some(file) = self.file(*index) else { return };
                self.move_to(file, |_| file.size);
                self.end(*index, file, DONE);
            }
            Event::Failed { file: index, .. } => {
                let Some(file) = self.file(*index) else { return };
                self.end(*index, file, FAILED);
            }
            _ => {}
        }
    }

    fn activate(&self, index: FileIndex) {
        let mut active = lock(&self.active);
        if !active.contains(&index) {
            active.push(index);
        }
    }

    fn plan(&self, planned: &[PlannedFile]) {
        let files: Box<[File]> = planned.iter().map(File::new).collect();
        let size = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        let position = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.position()));
        let present = planned.iter().filter(|file| file.plan == Planned::Present).count();
        let plan = Plan { work: files.len() - present, files, size };
        if self.plan.set(plan).is_ok() {
            self.position.store(position, Relaxed);
            self.done.store(present, Relaxed);
            self.planned.store(true, Relaxed);
        }
    }

    /// Sets a file's position and adjusts the run's.
    fn move_to(&self, file: &File, to: impl Fn(u64) -> u64) {
        let before = file.position.load(Relaxed);
        let before = file.position.fetch_update(Relaxed, Relaxed, |now| Some(to(now))).unwrap_or(before);
        // Wrapping, as atomics are: the sum is right whichever value is larger.
        self.position.fetch_add(to(before).wrapping_sub(before), Relaxed);
    }

    fn set_connections(&self, file: &File, count: usize) {
        let before = file.connections.swap(count, Relaxed);
        self.connections.fetch_add(count.wrapping_sub(before), Relaxed);
    }

    fn end(&self, index: FileIndex, file: &File, state: u8) {
        self.set_connections(file, 0);
        lock(&self.active).retain(|other| *other != index);
        let before = file.state.swap(state, Relaxed);
        if before == state {
            return;
        }
        match before {
            DONE => self.done.fetch_sub(1, Relaxed),
            FAILED => self.failed.fetch_sub(1, Relaxed),
            _ => 0,
        };
        if state == DONE {
            self.done.fetch_add(1, Relaxed);
        } else {
            self.failed.fetch_add(1, Relaxed);
            self.abandoned.fetch_add(file.size - file.position(), Relaxed);
        }
    }

    /// A file of the plan; `None` for an index that is not in it.
    pub(super) fn file(&self, index: FileIndex) -> Option<&File> {
        self.files().get(index)
    }

    /// The files of the plan; none before the plan.
    pub(super) fn files(&self) -> &[File] {
        self.plan.get().map_or(&[], |plan| &plan.files)
    }

    /// A file's name, safe for a terminal.
    pub(super) fn name(&self, index: FileIndex) -> &str {
        self.file(index).map_or("?", |file| &file.name)
    }

    /// Files in progress, in the order of their start.
    pub(super) fn active(&self) -> Vec<FileIndex> {
        lock(&self.active).clone()
    }

    /// The checked files, until there is a plan.
    pub(super) fn checking(&self) -> Option<Checked> {
        if self.planned.load(Relaxed) {
            return None;
        }
        Some(lock(&self.checked).clone()).filter(|checked| checked.files > 0)
    }

    /// Returns true once there is a plan.
    pub(super) fn is_planned(&self) -> bool {
        self.planned.load(Relaxed)
    }

    /// Returns true if there are too many files for a line each. Installed files do not count.
    pub(super) fn has_many_files(&self) -> bool {
        self.plan.get().is_some_and(|plan| plan.work > MANY)
    }

    /// The sums.
    pub(super) fn totals(&self) -> Totals {
        let size = self.plan.get().map_or(0, |plan| plan.size);
        let position = self.position.load(Relaxed).min(size);
        Totals {
            files: self.files().len(),
            done: self.done.load(Relaxed),
            failed: self.failed.load(Relaxed),
            size,
            position,
            left: (size - position).saturating_sub(self.abandoned.load(Relaxed)),
            received: self.received.load(Relaxed),
            connections: self.connections.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{planned, received, started};
    use super::*;
    use provision_core::event::Outcome;

    fn counters() -> Counters {
        let counters = Counters::default();
        counters.observe(&planned(&[
            ("a", 100, 100, Planned::Present),
            ("b", 100, 40, Planned::Resume),
            ("c", 100, 0, Planned::Fetch),
            ("d", 100, 0, Planned::Copy),
        ]));
        counters
    }

    #[test]
    fn held_bytes_are_position_but_not_speed_and_drops_go_back() {
        let counters = counters();
        let totals = counters.totals();
        assert_eq!((totals.size, totals.position, totals.left, totals.received), (400, 140, 260, 0));
        assert_eq!((totals.files, totals.done, totals.failed), (4, 1, 0));

        counters.observe(&started(1));
        counters.observe(&received(1, 50));
        counters.observe(&Event::Dropped { file: 1, bytes: 70, reason: String::new() });
        let file = counters.file(1).unwrap();
        assert_eq!((file.position(), file.received()), (20, 50));
        assert_eq!((counters.totals().position, counters.totals().received), (120, 50));
        // More than the total.
        counters.observe(&Event::Dropped { file: 1, bytes: 999, reason: String::new() });
        assert_eq!((counters.file(1).unwrap().position(), counters.totals().position), (0, 100));
    }

    #[test]
    fn a_files_end_settles_its_numbers() {
        let counters = counters();
        for file in [1, 2] {
            counters.observe(&started(file));
            counters.observe(&Event::Connections { file, count: 8 });
        }
        counters.observe(&Event::Connections { file: 1, count: 3 });
        assert_eq!(counters.totals().connections, 11);
        assert_eq!(counters.active(), [1, 2]);

        let finished = |file| Event::Finished {
            file,
            outcome: Outcome::Fetched,
            fetched: 60,
            elapsed: Duration::ZERO,
            sources: Vec::new(),
        };
        counters.observe(&received(1, 75));
        counters.observe(&finished(1));
        counters.observe(&finished(1));
        counters.observe(&finished(0));
        counters.observe(&Event::Failed { file: 2, reason: String::new() });
        let totals = counters.totals();
        assert_eq!((totals.done, totals.failed, totals.connections), (2, 1, 0));
        assert_eq!((totals.position, totals.left), (200, 100));
        assert!(counters.active().is_empty());
    }

    #[test]
    fn a_copy_that_becomes_a_download_starts_from_zero() {
        let counters = counters();
        let copying = |from: &str| Event::Copying { file: 3, from: from.to_owned(), as_link: false };
        counters.observe(&copying("/baked/d"));
        assert_eq!(counters.active(), [3]);
        counters.observe(&Event::Brought { file: 3, bytes: 70 });
        assert_eq!((counters.totals().position, counters.totals().left), (210, 190));
        counters.observe(&copying("/cache/d"));
        assert_eq!((counters.totals().position, counters.totals().left), (140, 260));
        counters.observe(&Event::Brought { file: 3, bytes: 30 });
        counters.observe(&started(3));
        assert_eq!((counters.totals().position, counters.totals().left), (140, 260));
    }

    #[test]
    fn a_copy_that_failed_is_not_there() {
        let counters = counters();
        counters.observe(&Event::Failed { file: 3, reason: String::new() });
        let totals = counters.totals();
        assert_eq!((totals.position, totals.left, totals.failed), (140, 160, 1));
    }

    #[test]
    fn events_that_make_no_sense_are_survived() {
        let counters = Counters::default();
        counters.observe(&received(7, 1));
        counters.observe(&started(7));
        counters.observe(&Event::Failed { file: 7, reason: String::new() });
        assert_eq!(counters.totals().failed, 0);
        assert_eq!(counters.name(7), "?");
    }
}
