//! A disk in memory: the page cache, the durable state, and every state that a power cut may leave.
//!
//! Contents and names become durable independently, as with delayed allocation: a new name may lead to an empty file.
//! Within one directory, changes become durable in order and each as a whole (a rename is one change), as on
//! journalling file systems. Two directories are independent.

use std::collections::BTreeMap;

use super::rules::PAGE;

/// A file, by number.
pub(super) type Inode = usize;

/// The name of a file. The number distinguishes part names: see `PartNames`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Name {
    Part(u8),
    Journal(u8),
    Temporary(u8),
    Final,
    Marker,
}

/// The directory of a name: the marker is in the destination, every other file in a directory below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Below,
    Root,
}

impl Name {
    fn place(self) -> Place {
        if self == Self::Marker { Place::Root } else { Place::Below }
    }
}

type Names = BTreeMap<Name, Inode>;

/// New targets of names. A rename has two of them.
type Change = Vec<(Name, Option<Inode>)>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Directory {
    now: Names,
    durable: Names,
    /// The changes that are not durable, in order.
    pending: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// An appended file: a power cut tears it anywhere. Others are torn between pages.
    is_text: bool,
    /// The process that has its `flock`.
    owner: Option<usize>,
    /// The part was emptied on purpose, and the removal of its journal is not durable yet.
    is_given_up: bool,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    directories: [Directory; 2],
    inodes: Vec<Content>,
}

impl Disk {
    pub(super) fn find(&self, name: Name) -> Option<Inode> {
        self.directories[name.place() as usize].now.get(&name).copied()
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.directories.iter().flat_map(|directory| directory.now.keys().copied()).collect()
    }

    pub(super) fn create(&mut self, name: Name, is_text: bool) -> Inode {
        let (now, durable) = (Vec::new(), Vec::new());
        self.inodes.push(Content { now, durable, is_text, owner: None, is_given_up: false });
        let inode = self.inodes.len() - 1;
        self.change(name.place(), vec![(name, Some(inode))]);
        inode
    }

    pub(super) fn unlink(&mut self, name: Name) {
        if self.find(name).is_some() {
            self.change(name.place(), vec![(name, None)]);
        }
    }

    pub(super) fn rename(&mut self, from: Name, to: Name) {
        if let Some(inode) = self.find(from) {
            self.change(from.place(), vec![(from, None), (to, Some(inode))]);
        }
    }

    fn change(&mut self, place: Place, change: Change) {
        let directory = &mut self.directories[place as usize];
        apply(&mut directory.now, &change);
        directory.pending.push(change);
    }

    pub(super) fn read(&self, inode: Inode) -> &[u8] {
        &self.inodes[inode].now
    }

    pub(super) fn write(&mut self, inode: Inode, at: usize, bytes: &[u8]) {
        let content = &mut self.inodes[inode].now;
        let end = at + bytes.len();
        content.resize(content.len().max(end), 0);
        content[at..end].copy_from_slice(bytes);
    }

    pub(super) fn append(&mut self, inode: Inode, text: &str) {
        self.inodes[inode].now.extend_from_slice(text.as_bytes());
    }

    /// Empties a part after the removal of its journal.
    pub(super) fn give_up(&mut self, inode: Inode) {
        self.inodes[inode].now.clear();
        self.inodes[inode].is_given_up = true;
    }

    pub(super) fn is_given_up(&self, inode: Inode) -> bool {
        self.inodes[inode].is_given_up
    }

    /// `fsync` of a file.
    pub(super) fn sync(&mut self, inode: Inode) {
        let content = &mut self.inodes[inode];
        content.durable.clone_from(&content.now);
    }

    /// `fsync` of a directory.
    pub(super) fn sync_names(&mut self, place: Place) {
        let directory = &mut self.directories[place as usize];
        directory.durable.clone_from(&directory.now);
        directory.pending.clear();
        if place == Place::Below {
            self.inodes.iter_mut().for_each(|content| content.is_given_up = false);
        }
    }

    /// `flock`. Returns false if another process has it.
    pub(super) fn lock(&mut self, inode: Inode, process: usize) -> bool {
        let owner = &mut self.inodes[inode].owner;
        let is_free = owner.is_none_or(|owner| owner == process);
        if is_free {
            *owner = Some(process);
        }
        is_free
    }

    /// Releases the locks of a process that ended.
    pub(super) fn unlock_all(&mut self, process: usize) {
        self.inodes.iter_mut().filter(|content| content.owner == Some(process)).for_each(|c| c.owner = None);
    }

    /// Renumbers the files in the order in which they are reached, so that equal disks compare equal. Drops unreachable
    /// files. `handles` are the open files.
    pub(super) fn renumber<'a>(&mut self, handles: impl Iterator<Item = &'a mut Inode>) {
        let mut numbers: Vec<Option<Inode>> = vec![None; self.inodes.len()];
        let mut order = Vec::with_capacity(self.inodes.len());
        let mut number = |old: &mut Inode| {
            let new = *numbers[*old].get_or_insert_with(|| {
                order.push(*old);
                order.len() - 1
            });
            *old = new;
        };
        for directory in &mut self.directories {
            directory.now.values_mut().for_each(&mut number);
            directory.durable.values_mut().for_each(&mut number);
            let pending = directory.pending.iter_mut().flatten();
            pending.filter_map(|(_, inode)| inode.as_mut()).for_each(&mut number);
        }
        handles.for_each(&mut number);
        let mut old: Vec<Option<Content>> = self.inodes.drain(..).map(Some).collect();
        self.inodes = order.into_iter().filter_map(|at| old[at].take()).collect();
    }

    /// The disks that a power cut may leave. With `torn`, any subset of the unsynced pages and changes survives;
    /// without, all or none.
    pub(super) fn after_power_cut(&self, torn: bool) -> Vec<Self> {
        let mut disks = vec![self.clone()];
        for at in 0..self.inodes.len() {
            let outcomes = self.inodes[at].outcomes(torn);
            disks = each(disks, &outcomes, |disk, outcome| {
                let content = &mut disk.inodes[at];
                content.now.clone_from(outcome);
                content.durable.clone_from(outcome);
                content.owner = None;
            });
        }
        for place in [Place::Below, Place::Root] {
            let outcomes = self.directories[place as usize].outcomes(torn);
            disks = each(disks, &outcomes, |disk, outcome| {
                disk.directories[place as usize] =
                    Directory { now: outcome.clone(), durable: outcome.clone(), pending: Vec::new() };
            });
        }
        disks
    }
}

fn each<T>(disks: Vec<Disk>, outcomes: &[T], set: impl Fn(&mut Disk, &T)) -> Vec<Disk> {
    let mut all = Vec::with_capacity(disks.len() * outcomes.len());
    for disk in disks {
        for outcome in outcomes {
            let mut disk = disk.clone();
            set(&mut disk, outcome);
            all.push(disk);
        }
    }
    all
}

fn apply(names: &mut Names, change: &Change) {
    for (name, inode) in change {
        match inode {
            Some(inode) => names.insert(*name, *inode),
            None => names.remove(name),
        };
    }
}

impl Directory {
    fn outcomes(&self, torn: bool) -> Vec<Names> {
        let mut names = self.durable.clone();
        let mut outcomes = vec![names.clone()];
        for (at, change) in self.pending.iter().enumerate() {
            apply(&mut names, change);
            if torn || at + 1 == self.pending.len() {
                outcomes.push(names.clone());
            }
        }
        outcomes
    }
}

impl Content {
    fn outcomes(&self, torn: bool) -> Vec<Vec<u8>> {
        if self.now == self.durable {
            return vec![self.now.clone()];
        }
        let mut outcomes = vec![self.durable.clone(), self.now.clone()];
        if !torn {
            return outcomes;
        }
        if self.is_text {
            let durable = self.durable.len();
            let half = durable + self.now.len().saturating_sub(durable) / 2;
            outcomes.push(self.now[..half.min(self.now.len())].to_vec());
            // The length survives, the bytes do not.
            let mut zeros = self.durable.clone();
            zeros.resize(self.now.len().max(durable), 0);
            outcomes.push(zeros);
        } else {
            let len = self.now.len().max(self.durable.len());
            let full = |bytes: &[u8]| [bytes, &vec![0; len - bytes.len()]].concat();
            let (now, durable) = (full(&self.now), full(&self.durable));
            for kept in 0..1u32 << len.div_ceil(PAGE) {
                let page = |at: usize| if kept >> (at / PAGE) & 1 == 1 { now[at] } else { durable[at] };
                outcomes.push((0..len).map(page).collect());
            }
        }
        outcomes.sort();
        outcomes.dedup();
        outcomes
    }
}
