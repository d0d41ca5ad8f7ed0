//! Pieces of missing files that other files of this machine have: copied before a byte is fetched, and verified like
//! any byte.
//!
//! 1. Pieces are found by their digests in the files whose lists are known: the version that was installed under the
//!    same path, other models, cache objects, baked files. A piece that is wrong in one place is looked for in others.
//!    A file with several wrong pieces is left out.
//! 2. The remaining pieces are looked for at their own offsets in the files that should have been this one: the file in
//!    its place, and local copies that were wrong. A file of which no sample is right is another file, and is not read
//!    to its end.
//!
//! The bytes go into the file's part: its final name keeps the old file until the new one is verified and renamed.
//! Sources are only read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::job::Job;
use super::known_files::{FileLocation, KnownFile, KnownFiles};
use super::local_copier::WrongCopy;
use super::local_sources::LocalSources;
use super::plan::{Item, Plan};
use crate::marker::Marker;
use crate::piece_lists::PieceLists;
use crate::transfer::Download;
use crate::work_queue;
use provision_core::byte_range::ByteRange;
use provision_core::event::{Event, FileIndex, Observer};
use provision_core::lockfile::Model;
use provision_core::piece_index::{FoundPiece, PieceIndex};
use provision_core::piece_list::{PieceList, samples};
use provision_disk::{CopyError, Destination, DiskError, PartFile, PartOptions, PieceCopy, SourceFile};

/// The bytes that are copied between two events.
const BATCH: u64 = 32 << 20;
/// The wrong pieces of a file with a known list after which it is left out.
const MOST_WRONG: usize = 4;
/// The most searches; each leaves out the pieces that were wrong before.
const ROUNDS: usize = 4;
/// The pieces of the lists that are held between the two passes of a search: 16 MB. More lists are read twice.
const MOST_HELD: usize = 350_000;

/// The files of a run that lack pieces, and the files of this machine that may have them.
pub(super) struct PieceReuse<'a> {
    known: KnownFiles<'a>,
    lists: &'a PieceLists,
    models: &'a [&'a Model],
    threads: usize,
    observer: &'a dyn Observer,
    interrupted: &'a watch::Receiver<bool>,
}

/// Files that should have been one of the run's.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    /// Local copies that were wrong.
    pub(super) copies: Vec<WrongCopy>,
    /// The wrong ranges of the files in place that the plan has read.
    pub(super) wrong: HashMap<FileIndex, Vec<ByteRange>>,
}

/// The copies into one file.
#[derive(Debug, Default)]
pub(super) struct Reused {
    /// The bytes that were right.
    pub(super) bytes: u64,
    /// The failure of the disk.
    pub(super) error: Option<DiskError>,
}

/// A file that lacks pieces.
struct Lacking<'d> {
    download: &'d mut Download,
    list: Arc<PieceList>,
    reused: Reused,
    /// The number of files that are filled at once.
    at_once: usize,
}

/// The places of wanted pieces.
struct Found {
    pieces: Vec<FoundPiece>,
    /// By the number in `pieces`.
    sources: BTreeMap<u32, KnownFile>,
    /// The files in whose place one with a known list lies.
    replaced: HashSet<FileIndex>,
}

/// The first bytes of pieces that files did not have where their lists say. A file with several of them is left out.
#[derive(Default)]
struct LeftOut(Mutex<HashMap<FileLocation, HashSet<u64>>>);

impl LeftOut {
    fn contains(&self, place: &FileLocation) -> bool {
        lock(&self.0).get(place).is_some_and(|wrong| wrong.len() >= MOST_WRONG)
    }

    fn has(&self, place: &FileLocation, at: u64) -> bool {
        lock(&self.0).get(place).is_some_and(|wrong| wrong.contains(&at))
    }

    fn add(&self, place: &FileLocation, wrong: impl Iterator<Item = u64>) {
        let mut wrong = wrong.peekable();
        if wrong.peek().is_some() {
            lock(&self.0).entry(place.clone()).or_default().extend(wrong);
        }
    }

    fn count(&self) -> usize {
        lock(&self.0).values().map(HashSet::len).sum()
    }
}

impl<'a> PieceReuse<'a> {
    /// For the files of the job that are to fetch: `wanted` are their numbers.
    pub(super) fn of(
        job: &'a Job<'_>,
        (destination, marker): (Option<&'a Destination>, &Marker),
        (sources, lists): (LocalSources<'a>, &'a PieceLists),
        wanted: impl Iterator<Item = FileIndex>,
    ) -> Self {
        let Job { lock, models, config, observer, interrupted, .. } = job;
        let wanted = wanted.map(|index| (index, models[index]));
        Self {
            known: KnownFiles::of(destination, sources, marker, lock.models(), wanted),
            lists,
            models,
            threads: config.threads,
            observer: &**observer,
            interrupted,
        }
    }

    /// Estimates for each file of a plan the bytes that other files should have. The evidence is their lists, and the
    /// files that the plan has read.
    pub(super) fn estimate(&self, plan: &mut [Item]) {
        let lacking = |(index, item): (usize, &Item)| {
            let list = match &item.plan {
                Plan::Fetch(_) | Plan::FetchToCache(_) | Plan::WouldFetch(_) => {
                    self.lists.of(self.models[index])?
                }
                _ => return None,
            };
            let pieces = match &item.plan {
                Plan::Fetch(Some(part)) if part.has_list() => part.lacking_pieces(),
                _ => (0..list.pieces().len()).collect(),
            };
            Some((index as u32, list, pieces))
        };
        let found = self.search(plan.iter().enumerate().filter_map(lacking), &LeftOut::default());
        let mut here = vec![0; plan.len()];
        for piece in &found.pieces {
            here[piece.file as usize] += u64::from(piece.length);
        }
        for ((item, model), here) in plan.iter_mut().zip(self.models).zip(here) {
            let rest = model.size - item.held(model.size);
            let right = |wrong: &Vec<ByteRange>| model.size - wrong.iter().map(ByteRange::len).sum::<u64>();
            let wrong = item.wrong.as_ref().and_then(|wrong| wrong.ranges.as_ref());
            let repaired = wrong.map_or(0, right);
            item.here = here.max(repaired).min(rest);
        }
    }

    /// Copies pieces into the parts of `downloads`. Returns the result of each.
    pub(super) fn fill(&self, downloads: &mut [Download], mut damaged: Damaged) -> Vec<(FileIndex, Reused)> {
        let long = work_queue::long(downloads.iter().map(|download| self.models[download.index].size));
        let at_once = long.min(self.files_at_once());
        let of = |download| {
            let download: &mut Download = download;
            let list = download.pieces.clone()?;
            Some(Mutex::new(Lacking { download, list, reused: Reused::default(), at_once }))
        };
        let files: Vec<Mutex<Lacking<'_>>> = downloads.iter_mut().filter_map(of).collect();
        let mut replaced = HashSet::new();
        let left_out = LeftOut::default();
        for _ in 0..ROUNDS {
            let before = left_out.count();
            let found = self.search(files.iter().filter_map(|file| lock(file).lacking()), &left_out);
            replaced.extend(found.replaced.iter().copied());
            let by_file: HashMap<u32, &[FoundPiece]> = found
                .pieces
                .chunk_by(|a, b| a.file == b.file)
                .map(|pieces| (pieces[0].file, pieces))
                .collect();
            self.each(&files, |file| {
                let pieces = by_file.get(&(file.download.index as u32)).copied().unwrap_or_default();
                self.copy_found(file, pieces, &found.sources, &left_out)
            });
            if left_out.count() == before || self.is_interrupted() {
                break;
            }
        }
        let mut copies: HashMap<FileIndex, Vec<WrongCopy>> = HashMap::new();
        for copy in damaged.copies.drain(..) {
            copies.entry(copy.index).or_default().push(copy);
        }
        let copies = Mutex::new(copies);
        self.each(&files, |file| {
            let index = file.download.index;
            let mut of_this = lock(&copies).remove(&index).unwrap_or_default();
            if !replaced.contains(&index)
                && let Some(in_place) =
                    self.known.open(&FileLocation::Installed(self.models[index].path.clone()))
            {
                let wrong = damaged.wrong.get(&index).map(Vec::as_slice);
                self.copy_at_own_offsets(file, &in_place, wrong)?;
            }
            of_this.drain(..).try_for_each(|WrongCopy { file: copy, wrong, .. }| {
                self.copy_at_own_offsets(file, &copy, wrong.as_deref())
            })
        });
        let results = files.into_iter().map(|file| {
            let file = file.into_inner().unwrap_or_else(PoisonError::into_inner);
            (file.download.index, file.reused)
        });
        results.collect()
    }

    fn files_at_once(&self) -> usize {
        self.threads.clamp(1, 4)
    }

    /// Calls `work` for each file that has not failed, several at once.
    fn each(
        &self,
        files: &[Mutex<Lacking<'_>>],
        work: impl Fn(&mut Lacking<'_>) -> Result<(), DiskError> + Sync,
    ) {
        // A large file is copied by several threads, too.
        work_queue::each(
            files,
            |file| lock(file).list.size(),
            self.files_at_once(),
            |file| {
                let mut file = lock(file);
                if file.reused.error.is_none()
                    && !self.is_interrupted()
                    && let Err(error) = work(&mut file)
                    && !matches!(error, DiskError::Interrupted { .. })
                {
                    file.reused.error = Some(error);
                }
            },
        );
    }

    /// Looks for pieces in the files whose lists are known. `lacking` has the pieces that each file lacks.
    fn search(
        &self,
        lacking: impl Iterator<Item = (u32, Arc<PieceList>, Vec<usize>)>,
        left_out: &LeftOut,
    ) -> Found {
        let mut index = PieceIndex::of(lacking);
        let (mut sources, mut replaced) = (BTreeMap::new(), HashSet::new());
        if index.is_empty() {
            return Found { pieces: Vec::new(), sources, replaced };
        }
        let (mut known, mut lists, mut pieces) = (Vec::new(), Vec::new(), 0);
        let all = || self.lists.known(|| !self.is_interrupted());
        for list in all() {
            replaced.extend(self.known.replaced_by(&list));
            if index.wants_any_of(&list) {
                let files = self.known.files_of(&list);
                known.extend(files.into_iter().map(|file| (file, list.file())));
                pieces += list.pieces().len();
                if pieces <= MOST_HELD {
                    lists.push(list);
                }
            }
        }
        known.retain(|(file, _)| !left_out.contains(&file.place));
        // Those that are known by a digest first.
        known.sort_by(|(a, a_list), (b, b_list)| {
            (!a.is_named, &a.place, a_list).cmp(&(!b.is_named, &b.place, b_list))
        });
        known.dedup_by(|(a, a_list), (b, b_list)| (&a.place, a_list) == (&b.place, b_list));
        if pieces > MOST_HELD {
            lists.clear();
        }
        let again = (pieces > MOST_HELD).then(all).into_iter().flatten();
        for list in lists.into_iter().chain(again) {
            let of_list = known.iter().enumerate().filter(|(_, (_, file))| *file == list.file());
            for (number, (file, _)) in of_list {
                let there =
                    list.pieces().iter().filter(|piece| !left_out.has(&file.place, piece.range.start));
                index.search(number as u32, file.name_of.map(|of| of as u32), there);
            }
        }
        sources.extend(known.into_iter().enumerate().map(|(number, (file, _))| (number as u32, file)));
        Found { pieces: index.found(), sources, replaced }
    }

    /// Copies the pieces that were found for a file, source by source.
    fn copy_found(
        &self,
        file: &mut Lacking<'_>,
        pieces: &[FoundPiece],
        sources: &BTreeMap<u32, KnownFile>,
        left_out: &LeftOut,
    ) -> Result<(), DiskError> {
        let by_source: Vec<&[FoundPiece]> = pieces.chunk_by(|a, b| a.source == b.source).collect();
        let main = by_source.iter().max_by_key(|pieces| pieces.iter().map(|piece| piece.length).sum::<u32>());
        let Some(main) = main.and_then(|pieces| sources.get(&pieces[0].source)) else { return Ok(()) };
        self.say(file, self.known.path_of(&main.place).into_string(), by_source.len());
        for pieces in &by_source {
            let Some(KnownFile { place, .. }) = sources.get(&pieces[0].source) else { continue };
            let Some(source) = self.known.open(place).filter(|_| !left_out.contains(place)) else { continue };
            let copy =
                |piece: &FoundPiece| PieceCopy { piece: piece.piece as usize, source: &source, at: piece.at };
            let copies: Vec<PieceCopy<'_>> = pieces.iter().map(copy).collect();
            self.copy(file, &copies, |copies, right| {
                let wrong = copies.iter().zip(right).filter(|(_, right)| !**right);
                left_out.add(place, wrong.map(|(copy, _)| copy.at));
                !left_out.contains(place)
            })?;
        }
        Ok(())
    }

    /// Copies the missing pieces of a file from `source`, which should have been this file. The ranges `wrong` of
    /// `source` are known to be wrong.
    fn copy_at_own_offsets(
        &self,
        file: &mut Lacking<'_>,
        source: &SourceFile,
        wrong: Option<&[ByteRange]>,
    ) -> Result<(), DiskError> {
        let Some((_, list, lacking)) = file.lacking() else { return Ok(()) };
        let is_there = |piece: &usize| {
            let range = list.pieces()[*piece].range;
            let overlaps = |wrong: &ByteRange| wrong.start < range.end && range.start < wrong.end;
            range.end <= source.stamp().size && !wrong.unwrap_or_default().iter().any(overlaps)
        };
        let there: Vec<usize> = lacking.into_iter().filter(is_there).collect();
        if there.is_empty() {
            return Ok(());
        }
        self.say(file, source.path().to_string(), 1);
        let copy = |piece: usize| PieceCopy { piece, source, at: list.pieces()[piece].range.start };
        let (samples, rest) = if wrong.is_some() { (there, Vec::new()) } else { samples(there) };
        let mut is_another = !rest.is_empty();
        let samples: Vec<_> = samples.into_iter().map(copy).collect();
        self.copy(file, &samples, |_, right| {
            is_another &= !right.contains(&true);
            true
        })?;
        if is_another {
            return Ok(());
        }
        let rest: Vec<_> = rest.into_iter().map(copy).collect();
        self.copy(file, &rest, |_, _| true)
    }

    /// Copies pieces into the file's part, a batch at a time. `go_on` gets each batch, and its right pieces.
    fn copy(
        &self,
        file: &mut Lacking<'_>,
        copies: &[PieceCopy<'_>],
        mut go_on: impl FnMut(&[PieceCopy<'_>], &[bool]) -> bool,
    ) -> Result<(), DiskError> {
        let mut copies = copies;
        while !copies.is_empty() {
            let (mut end, mut bytes) = (0, 0);
            while end < copies.len() && bytes < BATCH {
                bytes += file.list.pieces()[copies[end].piece].range.len();
                end += 1;
            }
            let (batch, rest) = copies.split_at(end);
            copies = rest;
            let index = file.download.index;
            let part = self.part(file)?;
            let copied = part.copy_pieces(batch, &mut |_| !self.is_interrupted());
            let right = copied.map_err(CopyError::into_disk_error)?.right;
            let of_right = batch.iter().zip(&right).filter(|(_, right)| **right);
            let bytes = of_right.map(|(copy, _)| part.pieces().pieces()[copy.piece].range.len()).sum();
            if bytes > 0 {
                file.reused.bytes += bytes;
                self.observer.observe(&Event::Brought { file: index, bytes });
            }
            if !go_on(batch, &right) {
                break;
            }
        }
        Ok(())
    }

    /// The file's part, with its list.
    fn part<'f>(&self, file: &'f mut Lacking<'_>) -> Result<&'f PartFile, DiskError> {
        let Download { part, place, model, part_names, .. } = &mut *file.download;
        let opened = if let Some(opened) = part.take().filter(PartFile::has_list) {
            opened
        } else {
            let pieces = Some(file.list.clone());
            let options = PartOptions { pieces, threads: self.threads, ..PartOptions::from(&*part_names) };
            PartFile::open(place, model, options.among(file.at_once), || !self.is_interrupted())?
        };
        Ok(part.insert(opened))
    }

    fn say(&self, file: &Lacking<'_>, from: String, files: usize) {
        self.observer.observe(&Event::Reusing { file: file.download.index, from, files });
    }

    fn is_interrupted(&self) -> bool {
        *self.interrupted.borrow()
    }
}

impl Lacking<'_> {
    /// Its number, its list, and the positions of the pieces that it lacks. `None` if it lacks none, or its disk
    /// failed.
    fn lacking(&self) -> Option<(u32, Arc<PieceList>, Vec<usize>)> {
        let pieces = match &self.download.part {
            _ if self.reused.error.is_some() => Vec::new(),
            Some(part) if part.has_list() => part.lacking_pieces(),
            _ => (0..self.list.pieces().len()).collect(),
        };
        (!pieces.is_empty()).then(|| (self.download.index as u32, self.list.clone(), pieces))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
