//! Parts with a list: any cuts, any order of writes, sources that lie, kills, copies.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{CopyError, PartFile, PartNames, PartOptions, PieceCopy, PieceEnd};
use crate::error::StoreError;
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

fn options(list: &Arc<PieceList>) -> PartOptions<'static> {
    PartOptions { threads: 3, ..PartOptions::with_list(&PartNames::Shared, Some(list.clone())) }
}

fn open(fixture: &Fixture, model: &Model, list: &Arc<PieceList>) -> Arc<PartFile> {
    Arc::new(PartFile::open(&fixture.destination, model, options(list), || true).unwrap())
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
        let fixture = Fixture::new();
        let content = bytes(seed, LEN);
        let (model, list) = listed(&content, piece_cuts);
        let mut sent = content.clone();
        for at in &lies {
            sent[*at] ^= 1;
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut part = open(&fixture, &model, &list);
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
                part = open(&fixture, &model, &list);
                let wrong = lies.iter().map(|at| ByteRange::new(*at as u64, *at as u64 + 1));
                let lost = pieces_of(&list, before.into_iter().chain(wrong));
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
                Err(StoreError::WrongPieces { ranges, .. }) => {
                    part.drop_wrong(&part.wrong()).unwrap();
                    prop_assert_eq!(part.missing(), ranges);
                    part.missing()
                }
                Err(error) => panic!("{error}"),
            };
            let wrong = pieces_of(&list, lies.iter().map(|at| ByteRange::new(*at as u64, *at as u64 + 1)));
            prop_assert!(!refetched.is_empty() && refetched.iter().all(|range| wrong.contains(*range)));
            sent.clone_from(&content);
        }
        prop_assert_eq!(fs::read(fixture.file("d/x")).unwrap(), content);
    }
}

#[test]
fn fault_158_a_resume_by_pieces_loses_the_zeroed_pages_only() {
    let fixture = Fixture::new();
    let content = bytes(1, 512 << 10);
    let (model, list) = listed(&content, (32..512).step_by(32).map(|at| at << 10));
    let part = open(&fixture, &model, &list);
    put(&part, 0..content.len(), &content);
    part.checkpoint().unwrap();
    drop(part);
    // A power cut on a disk that lied about its sync: two pages have no bytes, and the journal claims all of them.
    let file = fs::File::options().write(true).open(fixture.part(&model, "part")).unwrap();
    file.write_all_at(&[0; 4096], 64 << 10).unwrap();
    file.write_all_at(&[0; 4096], 320 << 10).unwrap();
    let part = open(&fixture, &model, &list);
    assert_eq!(part.missing(), [ByteRange::new(64 << 10, 96 << 10), ByteRange::new(320 << 10, 352 << 10)]);
    drop(part);
    fs::remove_file(fixture.part(&model, "journal")).unwrap();
    let part = open(&fixture, &model, &list);
    assert_eq!(part.held(), model.size - (64 << 10), "no journal is needed");
    drop(part);
    // The journal is there for a run that has no list.
    let without = fixture.open(&model);
    assert_eq!(without.held(), model.size - (64 << 10));
}

#[test]
fn fault_159_a_dropped_piece_is_in_no_journal() {
    let fixture = Fixture::new();
    let content = bytes(2, 400_000);
    let (model, list) = listed(&content, [100_000, 200_000, 300_000]);
    let part = open(&fixture, &model, &list);
    let lie = vec![7; 400_000];
    put(&part, 100_000..200_000, &lie);
    part.checkpoint().unwrap();
    put(&part, 300_000..400_000, &lie);
    part.journal_written().unwrap();
    put(&part, 250_000..300_000, &content);
    part.hash_ready().unwrap();
    let wrong = part.wrong();
    part.drop_wrong(&wrong).unwrap();
    assert_eq!(wrong.iter().map(|piece| piece.index).collect::<Vec<_>>(), [1, 3]);
    drop(part);
    let without = fixture.open(&model);
    assert_eq!(without.held(), 0, "a run without the list would take the lie for right bytes");
    drop(without);
    let part = open(&fixture, &model, &list);
    put(&part, 0..400_000, &content);
    part.checkpoint().unwrap();
    drop(part);
    Arc::new(fixture.open(&model)).verify().unwrap();
}

#[test]
fn fault_160_bytes_kept_from_a_dropped_piece_are_not_hashed_again() {
    let fixture = Fixture::new();
    let content = bytes(3, 300_000);
    let (model, list) = listed(&content, [100_000, 200_000]);
    let part = open(&fixture, &model, &list);
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
    let fixture = Fixture::new();
    let content = bytes(4, 400_000);
    let (model, list) = listed(&content, (1..10).map(|at| at * 40_000));
    let mut source = content.clone();
    source[90_000] ^= 1;
    source.truncate(390_000);
    fs::write(fixture.file("source"), &source).unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(fixture.file("source")).unwrap();
    let opened = SourceFile::open(&path).unwrap().unwrap();
    let copied = install_copy((&fixture.destination, options(&list)), &model, &opened, |_| true);
    let Err(CopyError::Pieces { part, missing, .. }) = copied else { panic!("{copied:?}") };
    let lacks = [ByteRange::new(80_000, 120_000), ByteRange::new(360_000, 400_000)];
    assert_eq!(missing, lacks);
    drop(part);
    let part = open(&fixture, &model, &list);
    assert_eq!(part.missing(), lacks, "the copy is resumed");
    // From other places of another file: piece 9, and a wrong place for piece 2.
    let shifted: Vec<u8> = [&[0; 100], &content[360_000..]].concat();
    fs::write(fixture.file("other"), shifted).unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(fixture.file("other")).unwrap();
    let other = SourceFile::open(&path).unwrap().unwrap();
    let copies = [2, 9, 0].map(|piece| PieceCopy { piece, source: &other, at: 100 });
    let copied = part.copy_pieces(&copies, &mut |_| true).unwrap();
    assert_eq!(copied.right, [false, true, true], "piece 0 is proven already");
    assert_eq!(part.missing(), lacks[..1]);
    put(&part, 80_000..120_000, &content);
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), content);
}

#[test]
fn an_interrupted_copy_or_resume_keeps_the_proven_pieces() {
    let fixture = Fixture::new();
    let content = bytes(5, 400_000);
    let (model, list) = listed(&content, (1..10).map(|at| at * 40_000));
    let (source, path) = (fixture.file("source"), fixture.file("source"));
    fs::write(&source, &content).unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(path).unwrap();
    let source = SourceFile::open(&path).unwrap().unwrap();
    let one = PartOptions { threads: 1, ..options(&list) };
    let part = PartFile::open(&fixture.destination, &model, one, || true).unwrap();
    let mut blocks = 0;
    let copies: Vec<_> =
        (0..10).map(|piece| PieceCopy { piece, source: &source, at: piece as u64 * 40_000 }).collect();
    let stopped = part.copy_pieces(&copies, &mut |_| {
        blocks += 1;
        blocks < 3
    });
    assert!(matches!(stopped, Err(CopyError::Part(StoreError::Interrupted { .. }))), "{stopped:?}");
    assert_eq!(part.held(), 160_000, "two pieces side by side, twice");
    drop(part);
    let stopped = PartFile::open(&fixture.destination, &model, options(&list), || false);
    assert!(matches!(stopped, Err(StoreError::Interrupted { .. })), "{stopped:?}");
    assert_eq!(open(&fixture, &model, &list).held(), 160_000);
}

/// The file `name` of the fixture, and an action that cuts its end off when it is called first.
fn cut_at_first(fixture: &Fixture, name: &str, len: u64) -> impl FnMut() -> bool + use<> {
    let (path, mut is_cut) = (fixture.file(name), false);
    move || {
        if !std::mem::replace(&mut is_cut, true) {
            fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        }
        true
    }
}

#[test]
fn an_unreadable_piece_of_a_part_is_given_up() {
    let fixture = Fixture::new();
    let content = bytes(14, 400_000);
    let (model, list) = listed(&content, (1..10).map(|at| at * 40_000));
    let fill = |part: &PartFile| {
        for gap in part.missing() {
            put(part, gap.start as usize..gap.end as usize, &content);
        }
        part.checkpoint().unwrap();
    };
    fill(&open(&fixture, &model, &list));
    let name = format!("d/.x.{}.part", model.sha256.short());
    let cut = cut_at_first(&fixture, &name, 100_000);
    let one = PartOptions { threads: 1, ..options(&list) };
    let part = PartFile::open(&fixture.destination, &model, one, cut).unwrap();
    assert_eq!(part.missing(), [ByteRange::new(80_000, 400_000)]);
    fill(&part);
    part.hash_ready().unwrap();
    assert!(part.lacking_pieces().is_empty());
    drop(part);
    let cut = cut_at_first(&fixture, &name, 100_000);
    // Another thread may have read more before the cut.
    let held = PartFile::resumable_bytes(&fixture.destination, &model, Some(&list), cut).unwrap();
    assert!(held >= 80_000, "{held}");
    let part = open(&fixture, &model, &list);
    fill(&part);
    part.verify().unwrap().install().unwrap();
    assert_eq!(fs::read(fixture.file("d/x")).unwrap(), content);
}

#[test]
fn a_source_that_cannot_be_read_is_no_wrong_one() {
    let fixture = Fixture::new();
    let content = bytes(13, 400_000);
    let (model, list) = listed(&content, (1..10).map(|at| at * 40_000));
    fs::write(fixture.file("source"), &content).unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(fixture.file("source")).unwrap();
    let source = SourceFile::open(&path).unwrap().unwrap();
    let one = PartOptions { threads: 1, ..options(&list) };
    let mut cut = cut_at_first(&fixture, "source", 0);
    let copied = install_copy((&fixture.destination, one.clone()), &model, &source, |_| cut());
    let Err(CopyError::Source(StoreError::Io { source, .. })) = &copied else { panic!("{copied:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(!fixture.part(&model, "part").exists(), "a part without bytes stays");
    // A file that was shorter from the start is another one.
    fs::write(fixture.file("source"), b"short").unwrap();
    let source = SourceFile::open(&path).unwrap().unwrap();
    let copied = install_copy((&fixture.destination, one), &model, &source, |_| true);
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
    let (source, part) = (fixture.file("source"), fixture.part(&model, "part"));
    fs::write(&source, &content).unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(source.clone()).unwrap();
    let opened = SourceFile::open(&path).unwrap().unwrap();
    let copied = install_copy((&fixture.destination, &PartNames::Shared), &model, &opened, |_| {
        // Emptied for the second copy, in which the machine flips a bit.
        if fs::metadata(&part).unwrap().len() == 0 {
            let file = fs::File::options().write(true).open(&source).unwrap();
            file.write_all_at(&[content[0] ^ 1], 0).unwrap();
        }
        true
    });
    assert!(matches!(copied, Err(CopyError::Part(StoreError::CopyDiffers { .. }))), "{copied:?}");
    assert!(!part.exists() && !fixture.file("d/x").exists());
}

#[test]
fn a_wrong_source_costs_no_byte_of_a_part() {
    for has_list in [true, false] {
        let fixture = Fixture::new();
        let content = bytes(9, 400_000);
        let (model, list) = listed(&content, (1..10).map(|at| at * 40_000));
        let options = || if has_list { options(&list) } else { (&PartNames::Shared).into() };
        let part = PartFile::open(&fixture.destination, &model, options(), || true).unwrap();
        put(&part, 0..200_000, &content);
        part.checkpoint().unwrap();
        drop(part);
        fs::write(fixture.file("source"), bytes(10, 400_000)).unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(fixture.file("source")).unwrap();
        let other = SourceFile::open(&path).unwrap().unwrap();
        install_copy((&fixture.destination, options()), &model, &other, |_| true).unwrap_err();
        let part = PartFile::open(&fixture.destination, &model, options(), || true).unwrap();
        assert_eq!(part.missing(), [ByteRange::new(200_000, 400_000)], "list: {has_list}");
    }
}

#[test]
fn a_file_is_proven_by_the_list_and_its_wrong_pieces_are_named() {
    let fixture = Fixture::new();
    let content = bytes(11, 3_000_000);
    let (model, list) = listed(&content, (1..60).map(|at| at * 50_000));
    let verify_source = |bytes: &[u8]| {
        fs::write(fixture.file("source"), bytes).unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(fixture.file("source")).unwrap();
        let source = SourceFile::open(&path).unwrap().unwrap();
        match local_install::verify_source(&source, &model, options(&list), || true) {
            Err(CopyError::Source(StoreError::WrongPieces { ranges, .. })) => Err(ranges),
            proven => Ok(proven.unwrap()),
        }
    };
    assert_eq!(verify_source(&content), Ok(VerifiedBy::Pieces));
    let mut wrong = content.clone();
    for at in [0, 1_049_999, 1_050_000, 2_999_999] {
        wrong[at] ^= 1;
    }
    let ranges = [(0, 50_000), (1_000_000, 1_100_000), (2_950_000, 3_000_000)];
    assert_eq!(verify_source(&wrong), Err(ranges.map(|(start, end)| ByteRange::new(start, end)).to_vec()));
    // More bytes than the list has, and another file.
    for other in [[&content[..], b"more"].concat(), bytes(12, 3_000_000)] {
        assert_eq!(verify_source(&other), Err(vec![ByteRange::new(0, 3_000_000)]));
    }
}

#[test]
fn a_list_that_the_lock_does_not_pin_is_not_used() {
    let fixture = Fixture::new();
    let content = bytes(6, 300_000);
    let (model, _) = listed(&content, [100_000, 200_000]);
    let mut lie = content.clone();
    lie[0] ^= 1;
    let pieces = listed(&lie, [100_000, 200_000]).1.pieces().to_vec();
    let other = Arc::new(PieceList::new(300_000, model.sha256, pieces).unwrap());
    let part = open(&fixture, &model, &other);
    assert!(!part.has_list());
    put(&part, 0..300_000, &lie);
    assert!(matches!(part.verify(), Err(StoreError::Mismatch { .. })));
}

#[test]
fn holes_are_not_read_and_count_for_nothing() {
    let fixture = Fixture::new();
    let content = bytes(7, 4 << 20);
    let (model, list) = listed(&content, [1 << 20, 2 << 20, 3 << 20]);
    let part = open(&fixture, &model, &list);
    put(&part, 2 << 20..3 << 20, &content);
    drop(part);
    let claimed = PartFile::claimed_bytes(&fixture.destination, &model, Some(&list)).unwrap();
    assert_eq!(claimed, 1 << 20);
    let mut blocks = 0;
    let part = PartFile::open(&fixture.destination, &model, options(&list), || {
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
