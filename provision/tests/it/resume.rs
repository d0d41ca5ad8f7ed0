//! What a run finds of earlier ones: parts, journals, markers, installed files (faults 21, 64, 75 to 78).

use std::os::unix::fs::symlink;

use provision::event::{Event, Planned};
use provision::store::{Destination, Naming, PartFile};
use provision_testbed::{Content, Fault, Shape, When};

use crate::world::World;

const SIZE: u64 = 8_000_000;
const MARKER: &str = ".models-installed";

fn world() -> (World, Content) {
    let mut world = World::new();
    let content = Content::generated(1, SIZE);
    world.file("x", &content);
    (world, content)
}

/// A world that was stopped halfway.
fn halfway() -> World {
    let (world, _) = world();
    world.origin.shape(Shape::rate(1_000_000));
    assert!(world.fetch_and_interrupt_at(SIZE / 2).interrupted);
    world.origin.shape(Shape::default());
    world
}

fn only(world: &World, ending: &str) -> std::path::PathBuf {
    let mut names = world.listing();
    names.retain(|name| name.ends_with(ending));
    assert_eq!(names.len(), 1, "{names:?}");
    world.path(&names[0])
}

/// Puts a part with a true journal for the first `held` bytes where an earlier run would have left it.
fn plant_part(world: &World, content: &Content, held: u64) {
    let destination = Destination::create(&world.destination()).unwrap();
    let lock = world.lock();
    let part = PartFile::open(&destination, &lock.models()[0], &Naming::Shared, || true).unwrap();
    let _ = part.write(0, &content.slice(0..held)).unwrap();
    part.checkpoint().unwrap();
}

#[test]
fn fault_21_a_file_of_which_every_byte_is_held_is_hashed_and_not_asked_for() {
    let (world, content) = world();
    plant_part(&world, &content, SIZE);
    let report = world.fetch_all();
    assert_eq!(world.origin.counters().requests, 0);
    assert_eq!((report.files[0].resumed, report.files[0].fetched), (SIZE, 0));
}

#[test]
fn fault_21_a_full_part_of_wrong_bytes_is_dropped_and_fetched_again() {
    let (world, content) = world();
    plant_part(&world, &content.flipped(SIZE / 2, 1), SIZE);
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert_eq!(report.files[0].resumed, 0);
    assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 1);
}

#[test]
fn a_part_is_gone_on_with_and_only_the_rest_is_asked_for() {
    let (world, content) = world();
    plant_part(&world, &content, 6_000_000);
    let report = world.fetch_all();
    assert_eq!(report.plan[0].plan, Planned::Resume);
    assert_eq!((report.files[0].resumed, report.files[0].fetched), (6_000_000, 2_000_000));
    assert!(world.origin.requests().iter().all(|request| request.range_start() >= Some(6_000_000)));
}

#[test]
fn fault_64_the_marker_is_gone_before_a_file_that_it_vouches_for_is_replaced() {
    let (mut world, old) = world();
    world.file("y", &Content::generated(5, 1000));
    world.fetch_all();
    let new = Content::generated(2, SIZE);
    world.file("x", &new);
    let marker = world.path(MARKER);
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    let look = When::custom(move |_, _| {
        sink.lock().unwrap().push(marker.exists());
        true
    });
    world.origin.misbehave("/x", Fault::status(404).when(look));
    let report = world.fetch().unwrap();
    assert!(report.files[0].result.is_err());
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(!seen.is_empty() && seen.iter().all(|exists| !exists), "{seen:?}");
    assert_eq!(std::fs::read(world.path("x")).unwrap(), old.to_vec(), "the old version is untouched");
    assert!(!world.path(MARKER).exists());
    world.origin.behave("/x");
    let report = world.fetch_all();
    assert_eq!(report.files[1].fetched, 0, "the other file stays");
}

#[test]
fn fault_75_a_planted_or_sparse_part_counts_for_nothing() {
    for length in [0, 5, SIZE, SIZE + 1000] {
        let (world, _) = world();
        std::fs::create_dir_all(world.destination()).unwrap();
        plant_part(&world, &Content::generated(9, SIZE), 1_000_000);
        let (part, journal) = (only(&world, ".part"), only(&world, ".journal"));
        std::fs::remove_file(journal).unwrap();
        std::fs::File::create(&part).unwrap().set_len(length).unwrap();
        let report = world.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{length}");
    }
}

#[test]
fn fault_75_a_part_whose_bytes_were_changed_under_a_true_journal_is_caught() {
    let world = halfway();
    let part = only(&world, ".part");
    let mut bytes = std::fs::read(&part).unwrap();
    let held = world.held();
    bytes[1000] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    assert!(world.held() < held, "the piece is not believed");
    let report = world.fetch_all();
    assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
    assert!(report.files[0].resumed < held);
}

#[test]
fn fault_75_a_part_that_is_no_file_of_ours_is_not_written_through() {
    let (world, content) = world();
    plant_part(&world, &content, 1000);
    let part = only(&world, ".part");
    let victim = world.beside("victim");
    std::fs::write(&victim, b"precious").unwrap();
    std::fs::remove_file(&part).unwrap();
    symlink(&victim, &part).unwrap();
    world.fetch_all();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");

    // And a hard link.
    let (world, content) = self::world();
    plant_part(&world, &content, 1000);
    let part = only(&world, ".part");
    std::fs::remove_file(&part).unwrap();
    let victim = world.beside("victim");
    std::fs::write(&victim, b"precious").unwrap();
    std::fs::hard_link(&victim, &part).unwrap();
    world.fetch_all();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
}

/// What happens to a journal's bytes.
type Break = fn(Vec<u8>) -> Vec<u8>;

#[test]
fn fault_76_of_a_broken_journal_only_what_proves_right_counts() {
    let breaks: [(&str, Break); 5] = [
        ("zeroed", |bytes| vec![0; bytes.len()]),
        ("cut", |mut bytes| {
            bytes.truncate(bytes.len() * 2 / 3);
            bytes
        }),
        ("flipped", |mut bytes| {
            for at in (90..bytes.len()).step_by(61) {
                bytes[at] ^= 4;
            }
            bytes
        }),
        ("empty", |_| Vec::new()),
        ("noise", |bytes| Content::generated(3, bytes.len() as u64).to_vec()),
    ];
    for (what, make) in breaks {
        let world = halfway();
        let journal = only(&world, ".journal");
        let held = world.held();
        std::fs::write(&journal, make(std::fs::read(&journal).unwrap())).unwrap();
        assert!(world.held() <= held, "{what}");
        let report = world.fetch_all();
        assert!(report.files[0].resumed <= held, "{what}");
        assert_eq!(report.files[0].resumed + report.files[0].fetched, SIZE, "{what}");
    }
}

#[test]
fn fault_66_what_a_kill_left_of_small_files_that_were_being_written_is_cleared_away() {
    let leave = |world: &World, journal: &std::path::Path| {
        std::fs::write(journal.with_extension("tmp"), b"half a jour").unwrap();
        std::fs::write(world.path("..models-installed.0badcafe.tmp"), b"half a mark").unwrap();
    };
    let world = halfway();
    leave(&world, &only(&world, ".journal"));
    // `fetch_all` looks at what else is there in the end.
    assert!(world.fetch_all().files[0].resumed > 0);

    let world = halfway();
    let journal = only(&world, ".journal");
    leave(&world, &journal);
    std::fs::remove_file(journal).unwrap();
    world.fetch_all();
}

#[test]
fn fault_76_a_journal_that_claims_everything_proves_nothing() {
    let (world, content) = world();
    plant_part(&world, &content, SIZE);
    // A true journal, over a part whose second half is zeros.
    let part = only(&world, ".part");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[SIZE as usize / 2..].fill(0);
    std::fs::write(&part, bytes).unwrap();
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE, "the one piece is not believed");
}

#[test]
fn fault_77_a_marker_that_is_none_is_ignored() {
    let (world, _) = world();
    world.fetch_all();
    let good = std::fs::read(world.path(MARKER)).unwrap();
    let requests = world.origin.counters().requests;
    let version_2 = String::from_utf8(good.clone()).unwrap().replace("\"version\":1", "\"version\":2");
    for bad in
        [&b""[..], b"garbage", b"{}", b"{\"version\":1}", &good[..good.len() / 2], version_2.as_bytes()]
    {
        std::fs::write(world.path(MARKER), bad).unwrap();
        let report = world.fetch_all();
        assert!(!report.by_marker, "{:?}", String::from_utf8_lossy(bad));
        assert!(world.fetch().unwrap().by_marker, "it was written anew");
    }
    // A symlink, even to a good one.
    let elsewhere = world.beside("marker");
    std::fs::write(&elsewhere, &good).unwrap();
    std::fs::remove_file(world.path(MARKER)).unwrap();
    symlink(&elsewhere, world.path(MARKER)).unwrap();
    let report = world.fetch_all();
    assert!(!report.by_marker);
    assert!(
        std::fs::symlink_metadata(world.path(MARKER)).unwrap().is_file(),
        "replaced, not written through"
    );
    assert_eq!(std::fs::read(&elsewhere).unwrap(), good);
    assert_eq!(world.origin.counters().requests, requests, "the file was there all the time");
}

#[test]
fn fault_77_a_marker_that_is_a_directory_is_said_so() {
    let (world, _) = world();
    std::fs::create_dir_all(world.path(MARKER)).unwrap();
    let error = world.fetch().unwrap_err().to_string();
    assert!(error.contains(MARKER), "{error}");
}

#[test]
fn fault_77_a_marker_of_another_lock_vouches_for_nothing_that_differs() {
    let (mut world, _) = world();
    world.fetch_all();
    let new = Content::generated(2, SIZE);
    world.file("x", &new).file("y", &Content::generated(3, 1000));
    let report = world.fetch_all();
    assert!(!report.by_marker);
    assert_eq!(report.files[0].fetched, SIZE);
}

#[test]
fn fault_78_under_a_fine_marker_a_file_that_is_missing_shorter_or_newer_is_seen() {
    let mut world = World::new();
    let contents = [1, 2, 3].map(|seed| Content::generated(seed, 1_500_000));
    for (name, content) in ["missing", "newer", "shorter"].iter().zip(&contents) {
        world.file(name, content);
    }
    world.fetch_all();
    std::fs::remove_file(world.path("missing")).unwrap();
    std::fs::OpenOptions::new().write(true).open(world.path("shorter")).unwrap().set_len(1000).unwrap();
    std::fs::write(world.path("newer"), contents[1].to_vec()).unwrap();
    let before = world.origin.counters();
    let report = world.fetch_all();
    assert!(!report.by_marker);
    let after = world.origin.counters();
    let asked = |path| after.path(path).requests - before.path(path).requests;
    assert!(asked("/missing") > 0 && asked("/shorter") > 0);
    assert_eq!(asked("/newer"), 0, "its bytes are right: hashed, kept");
    assert!(world.fetch().unwrap().by_marker);
}
