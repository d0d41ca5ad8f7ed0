use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::Download;
use super::super::buffers::Buffers;
use super::*;
use crate::test_support::directory;
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::piece_list::{Piece as ListedPiece, PieceList};
use provision_disk::{Destination, DiskError, PartNames};

const MIB: usize = 1 << 20;

struct Place {
    _directory: tempfile::TempDir,
    destination: Arc<Destination>,
}

/// A file with its part.
struct File {
    target: Arc<Target>,
    part: Arc<PartFile>,
}

impl Place {
    fn new() -> Self {
        let (directory, path) = directory();
        Self { destination: Arc::new(Destination::create(&path).unwrap()), _directory: directory }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> File {
        self.file_with(name, bytes, None)
    }

    fn file_with(&self, name: &str, bytes: &[u8], pieces: Option<PieceList>) -> File {
        let model = Model {
            path: name.parse().unwrap(),
            sources: vec!["http://h/x".parse().unwrap()],
            size: bytes.len() as u64,
            sha256: Sha256::of(bytes),
            pieces: pieces.as_ref().and_then(PieceList::digest),
            groups: vec![],
            source: None,
        };
        let download = Download {
            index: 0,
            model,
            stores: vec![],
            place: self.destination.clone(),
            part_names: PartNames::Shared,
            part: None,
            then: None,
            pieces: pieces.map(Arc::new),
        };
        let target = Arc::new(Target::new(download, FileId(0)));
        let part = target.open().unwrap();
        File { target, part }
    }
}

/// The list of `bytes` with pieces of random lengths.
fn list(bytes: &[u8], random: &mut fastrand::Rng) -> PieceList {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + random.usize(1..=700_000)).min(bytes.len());
        let range = ByteRange::new(at as u64, end as u64);
        pieces.push(ListedPiece { range, sha256: Sha256::of(&bytes[at..end]) });
        at = end;
    }
    PieceList::new(bytes.len() as u64, Sha256::of(bytes), pieces).unwrap()
}

fn hashing(threads: usize) -> (Hashing, mpsc::UnboundedReceiver<FileId>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Hashing::new(threads, sender), receiver)
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// Writes `bytes[range]` and offers them, from memory or not. True if a thread should work.
fn write(hashing: &Hashing, file: &File, bytes: &[u8], range: std::ops::Range<usize>, keep: bool) -> bool {
    let mut buffer = Buffers::new(1 << 40).take();
    let len = range.len();
    buffer.room()[..len].copy_from_slice(&bytes[range.clone()]);
    buffer.fill(len);
    let written = file.part.write(range.start as u64, &buffer).unwrap();
    hashing.offer(&file.target, &file.part, range.start as u64, (len, keep.then_some(buffer)), &written)
}

/// Cuts `0..len` into writes of at most 1 MiB.
fn writes(len: usize, random: &mut fastrand::Rng) -> Vec<std::ops::Range<usize>> {
    let mut writes = Vec::new();
    let mut at = 0;
    while at < len {
        let end = (at + random.usize(1..=MIB)).min(len);
        writes.push(at..end);
        at = end;
    }
    writes
}

#[test]
fn fault_108_a_stopped_run_hashes_no_further_block() {
    let (place, hashing) = (Place::new(), hashing(1).0);
    let content = bytes(1, 3 * MIB);
    let file = place.file("a", &content);
    for at in [0, MIB, 2 * MIB] {
        write(&hashing, &file, &content, at..at + MIB, false);
    }
    hashing.stop();
    hashing.work();
    hashing.finish(&file.target, &file.part);
    assert_eq!(file.part.ready(), 3 * MIB as u64);
    let stopped = file.part.clone().verify_while(|| !hashing.is_stopped());
    assert!(matches!(stopped, Err(DiskError::Interrupted { .. })), "{stopped:?}");
    file.part.clone().verify().unwrap();
}

#[test]
fn files_hashed_in_any_order_get_their_own_digests() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let (hashing, mut wrong) = hashing(1);
        let contents: Vec<_> = (0..3).map(|n| bytes(seed + n, random.usize(1..5 * MIB))).collect();
        let files: Vec<_> = contents
            .iter()
            .zip(["a", "b", "c"])
            .map(|(bytes, name)| {
                let pieces = random.bool().then(|| list(bytes, &mut random));
                place.file_with(name, bytes, pieces)
            })
            .collect();
        let mut all = Vec::new();
        for (n, content) in contents.iter().enumerate() {
            all.extend(writes(content.len(), &mut random).into_iter().map(|range| (n, range)));
        }
        if seed % 2 == 0 {
            random.shuffle(&mut all);
        }
        for (n, range) in all {
            if write(&hashing, &files[n], &contents[n], range, random.bool()) {
                hashing.work();
            }
            assert!(hashing.kept_bytes.load(Ordering::Relaxed) <= hashing.max_kept);
        }
        for File { target, part } in files {
            hashing.finish(&target, &part);
            assert_eq!(part.ready(), 0, "seed {seed}");
            hashing.verify(&target, &part).unwrap();
        }
        let state = hashing.state();
        assert!(
            state.kept.is_empty() && state.complete.is_empty() && state.partial.is_empty(),
            "seed {seed}"
        );
        assert_eq!(hashing.kept_bytes.load(Ordering::Relaxed), 0, "seed {seed}");
        assert!(wrong.try_recv().is_err(), "seed {seed}");
    }
}

#[test]
fn one_file_with_a_list_is_proven_by_all_threads_and_its_wrong_piece_is_told() {
    for seed in 0..10 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let (hashing, mut wrong) = hashing(4);
        let content = bytes(seed, 6 * MIB);
        let pieces = list(&content, &mut random);
        let file = place.file_with("a", &content, Some(pieces));
        let mut sent = content.clone();
        let flipped = random.usize(0..content.len());
        sent[flipped] ^= 1;
        let mut all = writes(content.len(), &mut random);
        random.shuffle(&mut all);
        let keep: Vec<bool> = all.iter().map(|_| random.bool()).collect();
        std::thread::scope(|scope| {
            for (range, keep) in all.into_iter().zip(keep) {
                if write(&hashing, &file, &sent, range, keep) {
                    scope.spawn(|| hashing.work());
                }
            }
        });
        hashing.finish(&file.target, &file.part);
        assert_eq!(wrong.try_recv(), Ok(FileId(0)), "seed {seed}");
        let verified = file.part.clone().verify();
        assert!(matches!(verified, Err(DiskError::WrongPieces { .. })), "seed {seed}: {verified:?}");
        file.target.provenance().record(ByteRange::new(0, content.len() as u64), 0);
        let dropped = file.target.drop_wrong(&file.part).unwrap();
        assert_eq!(dropped.len(), 1, "seed {seed}");
        let (range, sender) = (dropped[0].0.range, dropped[0].1.only());
        assert!((range.start..range.end).contains(&(flipped as u64)), "seed {seed}");
        // Bytes that others send from now on have nothing to do with it.
        assert_eq!((sender, file.target.provenance().senders(range).unknown), (Some(0), range.len()));
        // Bytes that were kept of the wrong piece are not hashed again.
        write(&hashing, &file, &content, range.start as usize..range.end as usize, random.bool());
        hashing.finish(&file.target, &file.part);
        file.part.clone().verify().unwrap();
    }
}

#[test]
fn one_file_alone_is_hashed_once_enough_bytes_wait() {
    let (place, hashing) = (Place::new(), hashing(1).0);
    let content = bytes(1, 4 * MIB);
    let file = place.file("a", &content);
    assert!(!write(&hashing, &file, &content, 0..MIB, true));
    assert!(write(&hashing, &file, &content, MIB..2 * MIB, true));
    assert!(!write(&hashing, &file, &content, 2 * MIB..3 * MIB, true), "a thread works on it already");
    hashing.work();
    assert!(file.part.ready() < ENOUGH);
}

#[test]
fn bytes_kept_before_a_reset_are_not_hashed() {
    let (place, hashing) = (Place::new(), hashing(1).0);
    let content = bytes(1, MIB);
    let file = place.file("a", &content);
    write(&hashing, &file, &content, 0..MIB, true);
    // The kept bytes have the right digest; those in the file do not.
    file.part.reset().unwrap();
    let wrong = bytes(2, MIB);
    write(&hashing, &file, &wrong, 0..MIB, false);
    hashing.finish(&file.target, &file.part);
    assert!(file.part.clone().verify().is_err());
}

#[test]
fn a_file_whose_hasher_is_taken_is_skipped() {
    let (place, hashing) = (Place::new(), hashing(1).0);
    let contents = [bytes(1, 3 * MIB), bytes(2, MIB)];
    let files = [place.file("a", &contents[0]), place.file("b", &contents[1])];
    write(&hashing, &files[0], &contents[0], 0..MIB, true);
    let elsewhere = files[0].part.take_hasher(0).unwrap();
    assert!(write(&hashing, &files[1], &contents[1], 0..MIB, true));
    hashing.work();
    assert_eq!((elsewhere.ready(), files[1].part.ready()), (MIB as u64, 0));
    drop(elsewhere);
    write(&hashing, &files[0], &contents[0], MIB..2 * MIB, false);
    write(&hashing, &files[0], &contents[0], 2 * MIB..3 * MIB, true);
    hashing.finish(&files[0].target, &files[0].part);
    files[0].part.clone().verify().unwrap();
}

#[test]
fn bytes_that_a_thread_puts_back_late_are_forgotten_with_their_file() {
    for end in ["verified", "reset", "failed"] {
        let (place, hashing) = (Place::new(), hashing(2).0);
        let content = bytes(1, MIB);
        let file = place.file("a", &content);
        write(&hashing, &file, &content, 0..MIB, true);
        let piece = Piece { target: file.target.clone(), part: file.part.clone(), at: 0 };
        let mut lane = hashing.lane(&piece).unwrap();
        let users = Arc::strong_count(&file.part);
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| {
                let part = file.part.clone();
                match end {
                    "verified" => drop(hashing.verify(&file.target, &part).unwrap()),
                    "reset" => hashing.reset(&part).unwrap(),
                    _ => hashing.end_file(&file.target, &part),
                }
            });
            while Arc::strong_count(&file.part) == users && !ended.is_finished() {
                std::thread::yield_now();
            }
            // The thread ends after its block, and bytes of the buffer are left.
            let block = lane.rest()[..1000].to_vec();
            lane.guard.update(&block);
            lane.taken += block.len();
            hashing.end(lane);
            ended.join().unwrap();
        });
        let state = hashing.state();
        assert!(state.kept.is_empty() && state.complete.is_empty() && state.partial.is_empty(), "{end}");
        assert_eq!(hashing.kept_bytes.load(Ordering::Relaxed), 0, "{end}");
    }
}

#[test]
fn bytes_written_during_hashing_are_taken_from_memory() {
    let (place, hashing) = (Place::new(), hashing(1).0);
    let content = bytes(1, 2 * MIB);
    let file = place.file("a", &content);
    write(&hashing, &file, &content, 0..MIB, false);
    let mut guard = file.part.take_hasher(0).unwrap();
    guard.update(&content[..MIB]);
    assert_eq!(guard.ready(), 0);
    write(&hashing, &file, &content, MIB..2 * MIB, false);
    guard.update(&content[MIB..]);
    drop(guard);
    file.part.clone().verify().unwrap();
}
