//! Parts and installed files of earlier runs, all valid (faults 21, 64). Planted and broken ones are in
//! `faults::disk::leftovers`.

use crate::prelude::*;

/// The size of the only file.
pub(crate) const SIZE: u64 = 8_000_000;
/// The marker's name.
pub(crate) const MARKER: &str = ".models-installed";

/// A fixture with one file of that size.
pub(crate) fn fixture() -> (Fixture, Content) {
    Fixture::of("x", Content::generated(1, SIZE))
}

/// A fixture that was stopped halfway.
pub(crate) fn halfway() -> Fixture {
    let (fixture, _) = fixture();
    fixture.origin.shape(Shape::rate(1_000_000));
    assert!(fixture.fetch_and_interrupt_at(SIZE / 2).interrupted);
    fixture.origin.shape(Shape::default());
    fixture
}

/// The only file below the destination with this ending.
pub(crate) fn only(fixture: &Fixture, ending: &str) -> PathBuf {
    let mut names = fixture.listing();
    names.retain(|name| name.ends_with(ending));
    assert_eq!(names.len(), 1, "{names:?}");
    fixture.path(&names[0])
}

/// Writes a part with a valid journal for the first `held` bytes, as an earlier run would have left it.
pub(crate) fn plant_part(fixture: &Fixture, content: &Content, held: u64) {
    let destination = Destination::create(&fixture.destination()).unwrap();
    let lock = fixture.lock();
    let part = PartFile::open(&destination, &lock.models()[0], &PartNames::Shared, || true).unwrap();
    let _ = part.write(0, &content.slice(0..held)).unwrap();
    part.checkpoint().unwrap();
}

#[test]
fn fault_21_a_complete_part_is_hashed_without_a_request() {
    let (fixture, content) = fixture();
    plant_part(&fixture, &content, SIZE);
    let report = fixture.fetch_all();
    assert_eq!(fixture.requests(), 0);
    assert_eq!((report.files[0].resumed, report.files[0].fetched), (SIZE, 0));
}

#[test]
fn fault_21_a_complete_part_of_wrong_bytes_is_refetched() {
    let (fixture, content) = fixture();
    plant_part(&fixture, &content.flipped(SIZE / 2, 1), SIZE);
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert_eq!(report.files[0].resumed, 0);
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 1);
}

#[test]
fn a_part_is_resumed_and_only_the_rest_is_requested() {
    let (fixture, content) = fixture();
    plant_part(&fixture, &content, 6_000_000);
    let report = fixture.fetch_all();
    assert_eq!(report.plan[0].plan, Planned::Resume);
    assert_eq!((report.files[0].resumed, report.files[0].fetched), (6_000_000, 2_000_000));
    assert!(fixture.origin.requests().iter().all(|request| request.range_start() >= Some(6_000_000)));
}

#[test]
fn fault_64_the_marker_is_removed_before_a_listed_file_changes() {
    let (mut fixture, old) = fixture();
    fixture.file("y", &Content::generated(5, 1000));
    fixture.fetch_all();
    let new = Content::generated(2, SIZE);
    fixture.file("x", &new);
    let marker = fixture.path(MARKER);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let look = When::custom(move |_, _| {
        sink.lock().unwrap().push(marker.exists());
        true
    });
    fixture.origin.inject("/x", Fault::status(404).when(look));
    let report = fixture.fetch().unwrap();
    assert!(report.files[0].result.is_err());
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(!seen.is_empty() && seen.iter().all(|exists| !exists), "{seen:?}");
    assert_eq!(std::fs::read(fixture.path("x")).unwrap(), old.to_vec(), "the old version is untouched");
    assert!(!fixture.path(MARKER).exists());
    fixture.origin.clear_faults("/x");
    let report = fixture.fetch_all();
    assert_eq!(report.files[1].fetched, 0, "the other file stays");
}
