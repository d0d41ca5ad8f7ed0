//! Parts and installed files of earlier runs, all valid (faults 21, 64). Planted and broken ones are in
//! `faults::disk::leftovers`.

use provision_core::event::{Event, Planned};
use provision_disk::{Destination, PartFile, PartNames};
use provision_testbed::{Content, Fault, Shape, When};

use crate::world::World;

/// The size of the only file.
pub(crate) const SIZE: u64 = 8_000_000;
/// The marker's name.
pub(crate) const MARKER: &str = ".models-installed";

/// A fixture with one file of that size.
pub(crate) fn world() -> (World, Content) {
    let mut world = World::new();
    let content = Content::generated(1, SIZE);
    world.file("x", &content);
    (world, content)
}

/// A fixture that was stopped halfway.
pub(crate) fn halfway() -> World {
    let (world, _) = world();
    world.origin.shape(Shape::rate(1_000_000));
    assert!(world.fetch_and_interrupt_at(SIZE / 2).interrupted);
    world.origin.shape(Shape::default());
    world
}

/// The only file below the destination with this ending.
pub(crate) fn only(world: &World, ending: &str) -> std::path::PathBuf {
    let mut names = world.listing();
    names.retain(|name| name.ends_with(ending));
    assert_eq!(names.len(), 1, "{names:?}");
    world.path(&names[0])
}

/// Writes a part with a valid journal for the first `held` bytes, as an earlier run would have left it.
pub(crate) fn plant_part(world: &World, content: &Content, held: u64) {
    let destination = Destination::create(&world.destination()).unwrap();
    let lock = world.lock();
    let part = PartFile::open(&destination, &lock.models()[0], &PartNames::Shared, || true).unwrap();
    let _ = part.write(0, &content.slice(0..held)).unwrap();
    part.checkpoint().unwrap();
}

#[test]
fn fault_21_a_complete_part_is_hashed_without_a_request() {
    let (world, content) = world();
    plant_part(&world, &content, SIZE);
    let report = world.fetch_all();
    assert_eq!(world.origin.counters().requests, 0);
    assert_eq!((report.files[0].resumed, report.files[0].fetched), (SIZE, 0));
}

#[test]
fn fault_21_a_complete_part_of_wrong_bytes_is_refetched() {
    let (world, content) = world();
    plant_part(&world, &content.flipped(SIZE / 2, 1), SIZE);
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert_eq!(report.files[0].resumed, 0);
    assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 1);
}

#[test]
fn a_part_is_resumed_and_only_the_rest_is_requested() {
    let (world, content) = world();
    plant_part(&world, &content, 6_000_000);
    let report = world.fetch_all();
    assert_eq!(report.plan[0].plan, Planned::Resume);
    assert_eq!((report.files[0].resumed, report.files[0].fetched), (6_000_000, 2_000_000));
    assert!(world.origin.requests().iter().all(|request| request.range_start() >= Some(6_000_000)));
}

#[test]
fn fault_64_the_marker_is_removed_before_a_listed_file_changes() {
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
    world.origin.inject("/x", Fault::status(404).when(look));
    let report = world.fetch().unwrap();
    assert!(report.files[0].result.is_err());
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(!seen.is_empty() && seen.iter().all(|exists| !exists), "{seen:?}");
    assert_eq!(std::fs::read(world.path("x")).unwrap(), old.to_vec(), "the old version is untouched");
    assert!(!world.path(MARKER).exists());
    world.origin.clear_faults("/x");
    let report = world.fetch_all();
    assert_eq!(report.files[1].fetched, 0, "the other file stays");
}
