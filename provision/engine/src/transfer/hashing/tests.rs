use camino::Utf8PathBuf;

use super::super::buffers::Buffers;
use super::*;
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_disk::{Destination, PartNames};

const MIB: usize = 1 << 20;

struct Place {
    _directory: tempfile::TempDir,
    destination: Destination,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        Self { destination: Destination::create(&path).unwrap(), _directory: directory }
    }

    fn part(&self, name: &str, bytes: &[u8]) -> Arc<PartFile> {
        let model = Model {
            path: name.parse().unwrap(),
            sources: vec!["http://h/x".parse().unwrap()],
            size: bytes.len() as u64,
            sha256: Sha256::of(bytes),
            pieces: None,
            groups: vec![],
            source: None,
        };
        Arc::new(PartFile::open(&self.destination, &model, &PartNames::Shared, || true).unwrap())
    }
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// Writes `bytes[range]` and offers them, from memory or not. True if a thread should work.
fn write(
    hashing: &Hashing,
    part: &Arc<PartFile>,
    bytes: &[u8],
    range: std::ops::Range<usize>,
    keep: bool,
) -> bool {
    let mut buffer = Buffers::new(1 << 40).take();
    let len = range.len();
    buffer.room()[..len].copy_from_slice(&bytes[range.clone()]);
    buffer.fill(len);
    let written = part.write(range.start as u64, &buffer).unwrap();
    hashing.offer(part, range.start as u64, keep.then_some(buffer), written)
}

#[test]
fn fault_108_a_stopped_run_hashes_no_further_block() {
    let (place, hashing) = (Place::new(), Hashing::new(1));
    let content = bytes(1, 3 * MIB);
    let part = place.part("a", &content);
    for at in [0, MIB, 2 * MIB] {
        write(&hashing, &part, &content, at..at + MIB, false);
    }
    hashing.stop();
    hashing.work();
    hashing.finish(&part);
    assert_eq!(part.ready(), 3 * MIB as u64);
    let stopped = part.clone().verify_while(|| !hashing.is_stopped());
    assert!(matches!(stopped, Err(provision_disk::StoreError::Interrupted { .. })), "{stopped:?}");
    part.verify().unwrap();
}

#[test]
fn files_hashed_in_any_order_get_their_own_digests() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let place = Place::new();
        let hashing = Hashing::new(1);
        let contents: Vec<_> = (0..3).map(|n| bytes(seed + n, random.usize(1..5 * MIB))).collect();
        let parts: Vec<_> =
            contents.iter().zip(["a", "b", "c"]).map(|(c, name)| place.part(name, c)).collect();
        let mut pieces = Vec::new();
        for (n, content) in contents.iter().enumerate() {
            let mut at = 0;
            while at < content.len() {
                let end = (at + random.usize(1..=MIB)).min(content.len());
                pieces.push((n, at..end));
                at = end;
            }
        }
        if seed % 2 == 0 {
            random.shuffle(&mut pieces);
        }
        for (n, range) in pieces {
            if write(&hashing, &parts[n], &contents[n], range, random.bool()) {
                hashing.work();
            }
            assert!(hashing.state().kept_bytes <= MAX_KEPT);
        }
        for part in parts {
            hashing.finish(&part);
            assert_eq!(part.ready(), 0, "seed {seed}");
            part.verify().unwrap();
        }
        let state = hashing.state();
        assert!(state.kept.is_empty() && state.waiting.is_empty() && state.kept_bytes == 0, "seed {seed}");
    }
}

#[test]
fn one_file_alone_is_hashed_once_enough_bytes_wait() {
    let (place, hashing) = (Place::new(), Hashing::new(1));
    let content = bytes(1, 4 * MIB);
    let part = place.part("a", &content);
    assert!(!write(&hashing, &part, &content, 0..MIB, true));
    assert!(write(&hashing, &part, &content, MIB..2 * MIB, true));
    assert!(!write(&hashing, &part, &content, 2 * MIB..3 * MIB, true), "a thread works on it already");
    hashing.work();
    assert!(part.ready() < ENOUGH);
}

#[test]
fn bytes_kept_before_a_reset_are_not_hashed() {
    let (place, hashing) = (Place::new(), Hashing::new(1));
    let content = bytes(1, MIB);
    let part = place.part("a", &content);
    write(&hashing, &part, &content, 0..MIB, true);
    // The kept bytes have the right digest; those in the file do not.
    part.reset().unwrap();
    let wrong = bytes(2, MIB);
    write(&hashing, &part, &wrong, 0..MIB, false);
    hashing.finish(&part);
    assert!(part.verify().is_err());
}

#[test]
fn a_file_whose_hasher_is_taken_is_skipped() {
    let (place, hashing) = (Place::new(), Hashing::new(1));
    let contents = [bytes(1, 3 * MIB), bytes(2, MIB)];
    let parts = [place.part("a", &contents[0]), place.part("b", &contents[1])];
    write(&hashing, &parts[0], &contents[0], 0..MIB, true);
    let elsewhere = parts[0].take_hasher(0).unwrap();
    assert!(write(&hashing, &parts[1], &contents[1], 0..MIB, true));
    hashing.work();
    assert_eq!((elsewhere.ready(), parts[1].ready()), (MIB as u64, 0));
    drop(elsewhere);
    write(&hashing, &parts[0], &contents[0], MIB..2 * MIB, false);
    write(&hashing, &parts[0], &contents[0], 2 * MIB..3 * MIB, true);
    hashing.finish(&parts[0]);
    parts[0].clone().verify().unwrap();
}

#[test]
fn bytes_written_during_hashing_are_taken_from_memory() {
    let (place, hashing) = (Place::new(), Hashing::new(1));
    let content = bytes(1, 2 * MIB);
    let part = place.part("a", &content);
    write(&hashing, &part, &content, 0..MIB, false);
    let mut guard = part.take_hasher(0).unwrap();
    guard.update(&content[..MIB]);
    assert_eq!(guard.ready(), 0);
    write(&hashing, &part, &content, MIB..2 * MIB, false);
    guard.update(&content[MIB..]);
    drop(guard);
    part.verify().unwrap();
}
