//! Parts with a list: any cuts, any order of writes, sources that lie, kills, copies.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{CopyError, PartFile, PartNames, PartOptions, PieceCopy, PieceEnd};
use crate::error::DiskError;
use crate::local_install::{self, install_copy};
use crate::source_file::SourceFile;
use crate::testing::{Fixture, listed, model};
use provision_core::byte_range::{ByteRange, RangeSet};
use provision_core::lockfile::Model;
use provision_core::piece_list::{Lister, PieceList, VerifiedBy};

/// The length of the files: a list has no more pieces than two for 64 KiB.
const LEN: usize = 1_500_000;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// A model of random bytes with a list, and its destination.
struct Listed {
    fixture: Fixture,
    content: Vec<u8>,
    model: Model,
    list: Arc<PieceList>,
}

impl Listed {
    /// Pieces of equal length.
    fn new(len: usize, piece: usize) -> Self {
        Self::cut(bytes(1, len), (piece..len).step_by(piece))
    }

    fn cut(content: Vec<u8>, cuts: impl IntoIterator<Item = usize>) -> Self {
        let (model, list) = listed(&content, cuts);
        Self { fixture: Fixture::new(), content, model, list }
    }

    fn options(&self) -> PartOptions<'static> {
        PartOptions { threads: 3, ..PartOptions::with_list(&PartNames::Shared, Some(self.list.clone())) }
    }

    fn one_thread(&self) -> PartOptions<'static> {
        PartOptions { threads: 1, ..self.options() }
    }

    fn open(&self) -> Arc<PartFile> {
        Arc::new(self.open_while(self.options(), || true).unwrap())
    }

    fn open_while(
        &self,
        options: PartOptions<'_>,
        goes_on: impl FnMut() -> bool,
    ) -> Result<PartFile, DiskError> {
        PartFile::open(&self.fixture.destination, &self.model, options, goes_on)
    }

    fn part(&self) -> std::path::PathBuf {
        self.fixture.part(&self.model, "part")
    }

    /// The file `name` with these bytes, opened as a source.
    fn source(&self, name: &str, bytes: &[u8]) -> SourceFile {
        self.fixture.source_of(name, bytes)
    }

    fn assert_installed(&self) {
        assert_eq!(fs::read(self.fixture.file("d/x")).unwrap(), self.content);
    }
}

fn put(part: &PartFile, range: std::ops::Range<usize>, from: &[u8]) {
    let _ = part.write(range.start as u64, &from[range]).unwrap();
}

/// The ranges of the pieces that have bytes of `ranges`.
fn pieces_of(list: &PieceList, ranges: impl IntoIterator<Item = ByteRange>) -> RangeSet {
    let touched = ranges.into_iter().flat_map(|range| list.touching(range));
    touched.map(|piece| list.pieces()[piece].range).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_writes_lies_and_kills_cost_the_wrong_and_unfinished_pieces_only(
        seed in any::<u64>(),
        piece_cuts in prop::collection::btree_set(1..LEN, 1..40),
        write_cuts in prop::collection::btree_set(1..LEN, 1..40),
        lies in prop::collection::vec(0..LEN, 0..4),
        kills in 0u8..3,
    ) {
        let listed = Listed::cut(bytes(seed, LEN), piece_cuts);
        let mut sent = listed.content.clone();
        for at in &lies {
            sent[*at] ^= 1;
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let wrong = pieces_of(&listed.list, lies.iter().map(|at| ByteRange::new(*at as u64, *at as u64 + 1)));
        let mut part = listed.open();
        let mut kills = kills;
        loop {
            let mut cuts: Vec<usize> = write_cuts.iter().copied().collect();
            cuts.extend(part.missing().iter().flat_map(|gap| [gap.start as usize, gap.end as usize]));
            cuts.sort_unstable();
            let mut ranges: Vec<_> = cuts.windows(2).map(|cut| cut[0]..cut[1]).collect();
            ranges.retain(|range| !range.is_empty() && !part.contains(ByteRange::new(range.start as u64, range.end as u64)));
            random.shuffle(&mut ranges);
            let stop = if kills > 0 { random.usize(..=ranges.len()) } else { ranges.len() };
            for range in ranges.drain(..stop) {
                put(&part, range.clone(), &sent);
                match random.u8(..6) {
                    0 => part.journal_written().unwrap(),
                    1 => drop(part.checkpoint().unwrap()),
                    2 => part.hash_ready().unwrap(),
                    3 => part.hash(range.start as u64, &sent[range]).unwrap(),
                    4 => part.drop_wrong(&part.wrong()).unwrap(),
                    _ => {}
                }
            }
            if kills > 0 {
                kills -= 1;
                let before = part.missing();
                drop(part);
                part = listed.open();
                let lost = pieces_of(&listed.list, before.into_iter().chain(wrong.iter()));
                for gap in part.missing() {
                    prop_assert!(lost.contains(gap), "{gap:?} is neither wrong nor unfinished: {lost:?}");
                }
                continue;
            }
            let refetched = match part.clone().verify() {
                Ok(verified) => {
                    let installed = verified.install().unwrap();
                    prop_assert_eq!(installed.verified_by, Some(VerifiedBy::Pieces));
                    break;
                }
                Err(DiskError::WrongPieces { ranges, .. }) => {
                    part.drop_wrong(&part.wrong()).unwrap();
                    prop_assert_eq!(part.missing(), ranges);
                    part.missing()
                }
                Err(error) => panic!("{error}"),
            };
            prop_assert!(!refetched.is_empty() && refetched.iter().all(|range| wrong.contains(*range)));
            sent.clone_from(&listed.content);
        }
        listed.assert_installed();
    }
}

#[test]
fn fault_158_a_resume_by_pieces_loses_the_zeroed_pages_only() {
    let listed = Listed::new(512 << 10, 32 << 10);
    let part = listed.open();
    put(&part, 0..listed.content.len(), &listed.content);
    part.checkpoint().unwrap();
    drop(part);
    // A power cut on a disk that lied about its sync: two pages have no bytes, and the journal claims all of them.
    let file = fs::File::options().write(true).open(listed.part()).unwrap();
    file.write_all_at(&[0; 4096], 64 << 10).unwrap();
    file.write_all_at(&[0; 4096], 320 << 10).unwrap();
    let part = listed.open();
    assert_eq!(part.missing(), [ByteRange::new(64 << 10, 96 << 10), ByteRange::new(320 << 10, 352 << 10)]);
    drop(part);
    fs::remove_file(listed.part().with_extension("journal")).unwrap();
    let held = listed.model.size - (64 << 10);
    assert_eq!(listed.open().held(), held, "no journal is needed");
    // The journal is there for a run that has no list.
    assert_eq!(listed.fixture.open(&listed.model).held(), held);
}

#[test]
fn fault_159_a_dropped_piece_is_in_no_journal() {
    let listed = Listed::new(400_000, 100_000);
    let part = listed.open();
    let lie = vec![7; 400_000];
    put(&part, 100_000..200_000, &lie);
    part.checkpoint().unwrap();
    put(&part, 300_000..400_000, &lie);
    part.journal_written().unwrap();
    put(&part, 250_000..300_000, &listed.content);
    part.hash_ready().unwrap();
    let wrong = part.wrong();
    part.drop_wrong(&wrong).unwrap();
    assert_eq!(wrong.iter().map(|piece| piece.index).collect::<Vec<_>>(), [1, 3]);
    drop(part);
    let without = listed.fixture.open(&listed.model);
    assert_eq!(without.held(), 0, "a run without the list would take the lie for right bytes");
    drop(without);
    let part = listed.open();
    put(&part, 0..400_000, &listed.content);
    part.checkpoint().unwrap();
    drop(part);
    Arc::new(listed.fixture.open(&listed.model)).verify().unwrap();
}

#[test]
fn fault_160_bytes_kept_from_a_dropped_piece_are_not_hashed_again() {
    let listed = Listed::new(300_000, 100_000);
    let content = &listed.content;
    let part = listed.open();
    let lied = part.write(100_000, &vec![7; 100_000]).unwrap();
    part.hash_ready().unwrap();
    part.drop_wrong(&part.wrong()).unwrap();
    let sent = part.write(100_000, &content[100_000..200_000]).unwrap();
    let mut guard = part.take_hasher(1).unwrap();
    assert!(lied.generation < guard.generation(), "the caller tells the lie by its generation");
    assert!(sent.generation >= guard.generation());
    guard.update(&content[100_000..200_000]);
    assert_eq!(guard.finish(), PieceEnd::Verified);
    let other = part.write(0, &content[..100_000]).unwrap();
    assert!(other.generation >= part.take_hasher(0).unwrap().generation());
}

#[test]
fn a_copy_keeps_the_right_pieces_of_a_wrong_source() {
    let listed = Listed::new(400_000, 40_000);
    let mut wrong = listed.content.clone();
    wrong[90_000] ^= 1;
    wrong.truncate(390_000);
    let source = listed.source("source", &wrong);
    let copied =
        install_copy((&listed.fixture.destination, listed.options()), &listed.model, &source, |_| true);
    let Err(CopyError::Pieces { part, missing, .. }) = copied else { panic!("{copied:?}") };
    let lacks = [ByteRange::new(80_000, 120_000), ByteRange::new(360_000, 400_000)];
    assert_eq!(missing, lacks);
    drop(part);
    let part = listed.open();
    assert_eq!(part.missing(), lacks, "the copy is resumed");
    // From other places of another file: piece 9, and a wrong place for piece 2.
    let other = listed.source("other", &[&[0; 100], &listed.content[360_000..]].concat());
    let copies = [2, 9, 0].map(|piece| PieceCopy { piece, source: &other, at: 100 });
    let copied = part.copy_pieces(&copies, &mut |_| true).unwrap();
    assert_eq!(copied.right, [false, true, true], "piece 0 is proven already");
    assert_eq!(part.missing(), lacks[..1]);
    put(&part, 80_000..120_000, &listed.content);
    part.verify().unwrap().install().unwrap();
    listed.assert_installed();
}

#[test]
fn an_interrupted_copy_or_resume_keeps_the_proven_pieces() {
    let listed = Listed::new(400_000, 40_000);
    let source = listed.source("source", &listed.content);
    let part = listed.open_while(listed.one_thread(), || true).unwrap();
    let mut blocks = 0;
    let copies: Vec<_> =
        (0..10).map(|piece| PieceCopy { piece, source: &source, at: piece as u64 * 40_000 }).collect();
    let stopped = part.copy_pieces(&copies, &mut |_| {
        blocks += 1;
        blocks < 3
    });
    assert!(matches!(stopped, Err(CopyError::Part(DiskError::Interrupted { .. }))), "{stopped:?}");
    assert_eq!(part.held(), 160_000, "two pieces side by side, twice");
    drop(part);
    let stopped = listed.open_while(listed.options(), || false);
    assert!(matches!(stopped, Err(DiskError::Interrupted { .. })), "{stopped:?}");
    assert_eq!(listed.open().held(), 160_000);
}

/// An action that cuts the file's end off when it is called first.
fn cut_at_first(path: std::path::PathBuf, len: u64) -> impl FnMut() -> bool {
    let mut is_cut = false;
    move || {
        if !std::mem::replace(&mut is_cut, true) {
            fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        }
        true
    }
}

#[test]
fn an_unreadable_piece_of_a_part_is_given_up() {
    let listed = Listed::new(400_000, 40_000);
    let fill = |part: &PartFile| {
        for gap in part.missing() {
            put(part, gap.start as usize..gap.end as usize, &listed.content);
        }
        part.checkpoint().unwrap();
    };
    fill(&listed.open());
    let part = listed.open_while(listed.one_thread(), cut_at_first(listed.part(), 100_000)).unwrap();
    assert_eq!(part.missing(), [ByteRange::new(80_000, 400_000)]);
    fill(&part);
    part.hash_ready().unwrap();
    assert!(part.lacking_pieces().is_empty());
    drop(part);
    let cut = cut_at_first(listed.part(), 100_000);
    // Another thread may have read more before the cut.
    let destination = &listed.fixture.destination;
    let held = PartFile::resumable_bytes(destination, &listed.model, Some(&listed.list), cut).unwrap();
    assert!(held >= 80_000, "{held}");
    let part = listed.open();
    fill(&part);
    part.verify().unwrap().install().unwrap();
    listed.assert_installed();
}

#[test]
fn a_source_that_cannot_be_read_is_no_wrong_one() {
    let listed = Listed::new(400_000, 40_000);
    let to = || (&listed.fixture.destination, listed.one_thread());
    let source = listed.source("source", &listed.content);
    let mut cut = cut_at_first(listed.fixture.file("source"), 0);
    let copied = install_copy(to(), &listed.model, &source, |_| cut());
    let Err(CopyError::Source(DiskError::Io { source, .. })) = &copied else { panic!("{copied:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(!listed.part().exists(), "a part without bytes stays");
    // A file that was shorter from the start is another one.
    let copied = install_copy(to(), &listed.model, &listed.source("source", b"short"), |_| true);
    assert!(matches!(copied, Err(CopyError::Pieces { .. })), "{copied:?}");
}

#[test]
fn a_source_that_is_right_is_not_blamed_for_the_copy() {
    let fixture = Fixture::new();
    let content = bytes(15, 3 << 20);
    let model = model("d/x", &content);
    let part = fixture.open(&model);
    put(&part, 0..1 << 20, &vec![7; 1 << 20]);
    part.checkpoint().unwrap();
    drop(part);
    let part = fixture.part(&model, "part");
    let opened = fixture.source_of("source", &content);
    let copied = install_copy((&fixture.destination, &PartNames::Shared), &model, &opened, |_| {
        // Emptied for the second copy, in which the machine flips a bit.
        if fs::metadata(&part).unwrap().len() == 0 {
            let file = fs::File::options().write(true).open(fixture.file("source")).unwrap();
            file.write_all_at(&[content[0] ^ 1], 0).unwrap();
        }
        true
    });
    assert!(matches!(copied, Err(CopyError::Part(DiskError::CopyDiffers { .. }))), "{copied:?}");
    assert!(!part.exists() && !fixture.file("d/x").exists());
}

#[test]
fn a_wrong_source_costs_no_byte_of_a_part() {
    for has_list in [true, false] {
        let listed = Listed::new(400_000, 40_000);
        let options = || if has_list { listed.options() } else { (&PartNames::Shared).into() };
        let part = listed.open_while(options(), || true).unwrap();
        put(&part, 0..200_000, &listed.content);
        part.checkpoint().unwrap();
        drop(part);
        let other = listed.source("source", &bytes(10, 400_000));
        install_copy((&listed.fixture.destination, options()), &listed.model, &other, |_| true).unwrap_err();
        let part = listed.open_while(options(), || true).unwrap();
        assert_eq!(part.missing(), [ByteRange::new(200_000, 400_000)], "list: {has_list}");
    }
}

#[test]
fn a_file_is_proven_by_the_list_and_its_wrong_pieces_are_named() {
    let listed = Listed::new(3_000_000, 50_000);
    let verify_source = |bytes: &[u8]| {
        let source = listed.source("source", bytes);
        match local_install::verify_source(&source, &listed.model, listed.options(), || true) {
            Err(CopyError::Source(DiskError::WrongPieces { ranges, .. })) => Err(ranges),
            proven => Ok(proven.unwrap()),
        }
    };
    assert_eq!(verify_source(&listed.content), Ok(VerifiedBy::Pieces));
    let mut wrong = listed.content.clone();
    for at in [0, 1_049_999, 1_050_000, 2_999_999] {
        wrong[at] ^= 1;
    }
    let ranges = [(0, 50_000), (1_000_000, 1_100_000), (2_950_000, 3_000_000)];
    assert_eq!(verify_source(&wrong), Err(ranges.map(|(start, end)| ByteRange::new(start, end)).to_vec()));
    // More bytes than the list has, and another file.
    for other in [[&listed.content[..], b"more"].concat(), bytes(12, 3_000_000)] {
        assert_eq!(verify_source(&other), Err(vec![ByteRange::new(0, 3_000_000)]));
    }
}

#[test]
fn a_list_that_the_lock_does_not_pin_is_not_used() {
    let mut listed = Listed::new(300_000, 100_000);
    let mut lie = listed.content.clone();
    lie[0] ^= 1;
    let pieces = crate::testing::listed(&lie, [100_000, 200_000]).1.pieces().to_vec();
    listed.list = Arc::new(PieceList::new(300_000, listed.model.sha256, pieces).unwrap());
    let part = listed.open();
    assert!(!part.has_list());
    put(&part, 0..300_000, &lie);
    assert!(matches!(part.verify(), Err(DiskError::Mismatch { .. })));
}

#[test]
fn holes_are_not_read_and_count_for_nothing() {
    let listed = Listed::new(4 << 20, 1 << 20);
    put(&listed.open(), 2 << 20..3 << 20, &listed.content);
    let destination = &listed.fixture.destination;
    let claimed = PartFile::claimed_bytes(destination, &listed.model, Some(&listed.list)).unwrap();
    assert_eq!(claimed, 1 << 20);
    let mut blocks = 0;
    let part = listed.open_while(listed.options(), || {
        blocks += 1;
        true
    });
    assert_eq!((part.unwrap().held(), blocks), (1 << 20, 1));
}

#[test]
fn a_part_makes_the_list_of_its_file_also_after_a_resume() {
    let fixture = Fixture::new();
    let content = bytes(8, 9 << 20);
    let model = model("d/x", &content);
    let made = PartOptions { makes_list: true, ..(&PartNames::Shared).into() };
    let part = PartFile::open(&fixture.destination, &model, made.clone(), || true).unwrap();
    put(&part, 0..5 << 20, &content);
    part.checkpoint().unwrap();
    drop(part);
    let part = Arc::new(PartFile::open(&fixture.destination, &model, made, || true).unwrap());
    assert_eq!((part.held(), part.take_list()), (5 << 20, None));
    put(&part, 5 << 20..9 << 20, &content);
    part.clone().verify().unwrap();
    let mut lister = Lister::new(model.size);
    lister.update(&content);
    assert_eq!(part.take_list(), Some(lister.finish(model.sha256)));
}
