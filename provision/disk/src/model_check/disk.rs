//! A disk in memory: what the page cache shows, what the disk has, and every way in which a power cut may join them.
//!
//! Contents and names become durable independently of each other, as with delayed allocation: a new name may lead to an
//! empty file. Within one directory the changes become durable in their order, each whole (a rename is one change), as
//! on the journalling file systems that the program is for. Two directories know nothing of each other.

use std::collections::BTreeMap;

use super::PAGE;

/// A file, by number.
pub(super) type Inode = usize;

/// What files are called. The number is the part's own: see `PartNames`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Name {
    Part(u8),
    Journal(u8),
    Temporary(u8),
    Final,
    Marker,
}

/// Where a name is: the marker lies in the destination, all else in a directory below it.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Change {
    Link(Name, Inode),
    Unlink(Name),
    Rename(Name, Name),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Directory {
    now: BTreeMap<Name, Inode>,
    durable: BTreeMap<Name, Inode>,
    /// What the one has and the other has not, in order.
    pending: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Appended to: torn anywhere. Others are torn between pages.
    is_text: bool,
    /// Who has the lock on it.
    owner: Option<usize>,
    /// Its journal was removed and its bytes were given up on purpose, and the removal is not durable.
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
        self.change(name.place(), Change::Link(name, inode));
        inode
    }

    pub(super) fn unlink(&mut self, name: Name) {
        if self.find(name).is_some() {
            self.change(name.place(), Change::Unlink(name));
        }
    }

    pub(super) fn rename(&mut self, from: Name, to: Name) {
        self.change(from.place(), Change::Rename(from, to));
    }

    fn change(&mut self, place: Place, change: Change) {
        let directory = &mut self.directories[place as usize];
        apply(&mut directory.now, change);
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

    /// Empties a part whose journal has just been removed.
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

    /// `flock`; false where another has it.
    pub(super) fn lock(&mut self, inode: Inode, process: usize) -> bool {
        let owner = &mut self.inodes[inode].owner;
        let is_free = owner.is_none_or(|owner| owner == process);
        if is_free {
            *owner = Some(process);
        }
        is_free
    }

    /// What the kernel does when a process ends.
    pub(super) fn unlock_all(&mut self, process: usize) {
        self.inodes.iter_mut().filter(|content| content.owner == Some(process)).for_each(|c| c.owner = None);
    }

    /// Numbers the files in the order in which they are reached, so that equal disks are equal, and forgets those that
    /// nothing leads to. `handles` are those that are open.
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
            for change in &mut directory.pending {
                if let Change::Link(_, inode) = change {
                    number(inode);
                }
            }
        }
        handles.for_each(&mut number);
        let mut old: Vec<Option<Content>> = self.inodes.drain(..).map(Some).collect();
        self.inodes = order.into_iter().filter_map(|at| old[at].take()).collect();
    }

    /// The disks that a power cut may leave. With `torn`, every page and every change of a directory may be there or
    /// not; without, all that is not durable is lost, or nothing is.
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

fn apply(names: &mut BTreeMap<Name, Inode>, change: Change) {
    match change {
        Change::Link(name, inode) => {
            names.insert(name, inode);
        }
        Change::Unlink(name) => {
            names.remove(&name);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}

impl Directory {
    fn outcomes(&self, torn: bool) -> Vec<BTreeMap<Name, Inode>> {
        let mut names = self.durable.clone();
        let mut outcomes = vec![names.clone()];
        for (at, change) in self.pending.iter().enumerate() {
            apply(&mut names, *change);
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
            // The length is there and the bytes are not.
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
