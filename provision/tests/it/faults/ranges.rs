//! Origins that answer ranges wrongly, or with the wrong bytes (faults 1 to 28).

mod instead;
mod versions;

use std::sync::Mutex;

use provision_core::event::{Event, Outcome};
use provision_testbed::{Claim, Content, Fault, Recorded, When};

use crate::world::World;

const SIZE: u64 = 6_000_007;

/// A world with one file, `x`, at whose address this goes wrong.
fn world(fault: Fault, when: When) -> (World, Content) {
    let mut world = World::new();
    let content = Content::generated(1, SIZE);
    world.file("x", &content);
    world.origin.inject("/x", fault.when(when));
    (world, content)
}

/// As `world`, with a mirror that behaves.
fn mirrored(fault: Fault, when: When) -> World {
    let (mut world, content) = world(fault, when);
    world.origin.put("/mirror", content.clone());
    let sources = [world.origin.url("/x"), world.origin.url("/mirror")];
    world.model("x", &content, &sources);
    world
}

fn requests(world: &World) -> Vec<Recorded> {
    world.origin.requests().into_iter().filter(|request| request.path == "/x").collect()
}

/// The file arrived by one stream of the whole body, after no more than `most` requests.
fn assert_plain(world: &World, most: usize) {
    world.fetch_all();
    let requests = requests(world);
    assert!(requests.len() <= most, "{} requests", requests.len());
    let whole = requests.iter().filter(|request| request.range.is_none()).count();
    assert_eq!(whole, 1, "one stream is asked for");
}

/// The first source is given up for a reason that says `words`, within `most` requests, and the mirror takes over;
/// without a mirror the file fails for the same reason.
fn assert_next_source(fault: &Fault, words: &[&str], most: u64) {
    let world = mirrored(fault.clone(), When::Always);
    let report = world.fetch_all();
    assert!(report.files[0].source.as_deref().unwrap().contains("/mirror?"));
    assert!(world.origin.counters().path("/x").requests <= most);
    assert_eq!(world.events.count(|event| matches!(event, Event::SourceEnded { .. })), 1);

    let (world, _) = self::world(fault.clone(), When::Always);
    let error = world.fetch_refused().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert!(world.origin.counters().requests <= most, "{} requests", world.origin.counters().requests);
    assert!(!world.path("x").exists());
}

/// How many bytes were sent for each byte of the file.
fn sent(world: &World) -> f64 {
    world.origin.counters().body_bytes_sent as f64 / SIZE as f64
}

#[test]
fn fault_01_a_whole_body_is_never_written_at_an_offset() {
    assert_plain(&world(Fault::IgnoreRange { accept_ranges: false }, When::Always).0, 9);
}

#[test]
fn fault_02_a_promise_of_ranges_is_worth_nothing() {
    assert_plain(&world(Fault::IgnoreRange { accept_ranges: true }, When::Always).0, 9);
    // Even where the first answers kept it.
    let (world, _) = world(Fault::IgnoreRange { accept_ranges: true }, When::RangesNotFromZero);
    world.fetch_all();
    assert!(requests(&world).len() <= 12);
}

#[test]
fn fault_03_a_200_with_a_content_range_is_not_the_range() {
    for whole in [true, false] {
        assert_plain(&world(Fault::OkWithContentRange { whole }, When::Always).0, 9);
    }
}

#[test]
fn fault_04_a_206_that_does_not_say_which_bytes_is_not_used() {
    assert_plain(&world(Fault::NoContentRange, When::Always).0, 9);
}

#[test]
fn fault_05_another_start_is_forgiven_once_and_then_one_stream_is_taken() {
    let (once, _) = world(Fault::OtherStart { shift: 100 }, When::First(1));
    once.fetch_all();
    assert!(requests(&once).iter().all(|request| request.range.is_some()), "ranges go on being used");
    assert_plain(&world(Fault::OtherStart { shift: 100 }, When::Always).0, 9);
    assert_plain(&world(Fault::OtherStart { shift: -7 }, When::RangesNotFromZero).0, 9);
}

#[test]
fn fault_06_a_shorter_range_is_kept_and_the_rest_asked_for() {
    let (world, _) = world(Fault::ShorterRange { length: 100_000 }, When::Always);
    let report = world.fetch_all();
    assert!(requests(&world).len() <= 80, "{} requests", requests(&world).len());
    assert!(sent(&world) < 1.05, "{}", sent(&world));
    assert_eq!(report.files[0].retries, 0, "it is legal");
}

#[test]
fn fault_07_a_longer_range_is_cut_at_the_end_of_the_claim() {
    for claim in [Claim::Honest, Claim::Nothing] {
        let (world, _) = world(Fault::LongerRange { extra: 50_000, claim }, When::Always);
        let report = world.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{claim:?}");
        assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 0, "{claim:?}");
        let requests = requests(&world);
        assert!(requests.len() <= 12, "{claim:?}");
        for (n, request) in requests.iter().enumerate() {
            // The last range of the file cannot be longer where that is said openly.
            let end =
                request.range.as_deref().and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
            let again = requests[n + 1..].iter().any(|later| later.connection == request.connection);
            assert!(!again || end == Some(SIZE - 1), "{claim:?}: its connection is dropped: {request:?}");
        }
    }
    // A length that is not the range's is no honest answer: it is not even begun to be read.
    let (world, _) = world(Fault::LongerRange { extra: 9, claim: Claim::LengthOnly }, When::First(3));
    world.fetch_all();
}

#[test]
fn fault_08_another_total_ends_the_source() {
    assert_next_source(&Fault::WrongTotal(SIZE + 1), &["6000008 bytes", "the lock says 6000007"], 4);
    let (world, _) = world(Fault::WrongTotal(5), When::After(2));
    let error = world.fetch_refused();
    assert!(error.is_integrity(), "{error}");
}

#[test]
fn fault_09_an_unknown_total_is_accepted() {
    let (world, _) = world(Fault::UnknownTotal, When::Always);
    world.fetch_all();
    assert!(requests(&world).iter().all(|request| request.status == 206));
}

#[test]
fn fault_10_several_parts_are_not_taken_apart() {
    assert_plain(&world(Fault::Multipart, When::Always).0, 9);
}

#[test]
fn fault_11_a_length_that_is_not_the_ranges_is_tried_again() {
    for delta in [-10, 10] {
        let (once, _) = world(Fault::WrongLength { delta }, When::First(3));
        once.fetch_all();
        assert_next_source(&Fault::WrongLength { delta }, &["Content-Length"], 24);
    }
}

#[test]
fn fault_12_a_body_that_ends_early_goes_on_from_that_byte() {
    let (world, _) = world(Fault::CutBody(300_000), When::Always);
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert!(sent(&world) < 1.1, "{}", sent(&world));
    assert!(requests(&world).len() <= 40, "{} requests", requests(&world).len());
    assert!(report.files[0].retries >= 5, "progress resets the count of failures");
}

#[test]
fn fault_13_length_and_chunked() {
    for delta in [0, -5, 5] {
        let (world, _) = world(Fault::LengthAndChunked { delta }, When::Always);
        world.fetch_all();
        assert!(requests(&world).len() <= 16, "{} requests", requests(&world).len());
        let requests = requests(&world);
        for connection in requests.iter().map(|request| request.connection) {
            let served = requests.iter().filter(|request| request.connection == connection).count();
            assert_eq!(served, 1, "such a connection is dropped");
        }
    }
}

#[test]
fn fault_14_a_chunked_range_that_is_cut_short_goes_on() {
    let (world, _) = world(Fault::ChunkedCut(200_000), When::Always);
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert!(sent(&world) < 1.1, "{}", sent(&world));
}

#[test]
fn fault_14_honest_chunks_are_fine() {
    let (world, _) = world(Fault::Chunked, When::Always);
    assert_eq!(world.fetch_all().files[0].retries, 0);
}

#[test]
fn fault_19_a_compressed_body_ends_the_source() {
    assert_next_source(&Fault::ContentEncoding("gzip".to_owned()), &["gzip"], 4);
}

#[test]
fn fault_20_the_identity_encoding_is_none() {
    let (world, _) = world(Fault::ContentEncoding("identity".to_owned()), When::Always);
    assert_eq!(world.fetch_all().files[0].retries, 0);
}

#[test]
fn fault_22_a_416_within_the_file_leads_to_one_stream() {
    for content_range in [None, Some(format!("bytes */{SIZE}"))] {
        let (world, _) = world(Fault::RangeNotSatisfiable { content_range }, When::Ranges);
        assert_plain(&world, 9);
    }
    let other = Fault::RangeNotSatisfiable { content_range: Some("bytes */5".to_owned()) };
    assert_next_source(&other, &["5 bytes", "6000007"], 4);
}

#[test]
fn fault_22_a_416_to_everything_ends_the_source() {
    let fault = Fault::RangeNotSatisfiable { content_range: None };
    assert_next_source(&fault, &["416"], 9);
}

#[test]
fn fault_23_a_login_page_is_named_as_such() {
    assert_next_source(&Fault::LoginPage, &["web page (HTML)"], 4);
    let world = mirrored(Fault::LoginPage, When::After(2));
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE, "what came before the page is kept");
}

#[test]
fn fault_24_text_inside_a_body_is_caught() {
    let fault = Fault::ErrorText { at: 3_000_000, text: "upstream connect error".to_owned() };
    let world = mirrored(fault.clone(), When::Always);
    let report = world.fetch_all();
    assert!(report.files[0].source.as_deref().unwrap().contains("/mirror?"));
    assert_eq!(report.files[0].fetched, SIZE, "wrong bytes do not count as fetched");
    let (world, _) = self::world(fault, When::Always);
    let error = world.fetch_refused();
    assert!(error.is_integrity() && error.to_string().contains("SHA-256"), "{error}");
    assert!(world.listing().is_empty(), "{:?}", world.listing());
}

#[test]
fn fault_25_one_flipped_bit_costs_the_file_once_more() {
    let at = 1_234_567;
    let seen = Mutex::new(false);
    let first_over_it = move |request: &Recorded, _: usize| {
        let start = request.range_start().unwrap_or(0);
        let covers = start <= at && at < start + (1 << 20);
        covers && !std::mem::replace(&mut *seen.lock().unwrap(), true)
    };
    let (world, _) = world(Fault::FlippedBit { at, bit: 3 }, When::custom(first_over_it));
    let report = world.fetch_all();
    assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 1);
    assert!((1.9..2.3).contains(&sent(&world)), "{}", sent(&world));
    assert!(matches!(report.files[0].result, Ok(Some(Outcome::Fetched))));
}

#[test]
fn fault_25_the_same_wrong_bit_twice_is_the_file() {
    let (world, _) = world(Fault::FlippedBit { at: 5, bit: 0 }, When::Always);
    let error = world.fetch_refused();
    assert!(error.is_integrity(), "{error}");
    assert!(sent(&world) < 2.3, "{}", sent(&world));
    assert!(world.listing().is_empty());
}

#[test]
fn fault_26_every_source_wrong_is_an_integrity_error_and_leaves_no_bytes() {
    let (mut world, content) = world(Fault::OtherContent(Content::generated(2, SIZE)), When::Always);
    world.origin.put("/second", Content::generated(3, SIZE));
    world.origin.put("/third", Content::generated(4, SIZE + 1));
    let sources = ["/x", "/second", "/third"].map(|path| world.origin.url(path));
    world.model("x", &content, &sources);
    let error = world.fetch_refused();
    assert!(error.is_integrity());
    assert_eq!(error.attempts.len(), 3, "each source has its say: {error}");
    for path in ["/x", "/second", "/third"] {
        assert!(error.to_string().contains(path), "{error}");
    }
    assert!(error.to_string().contains(&content.sha256_hex()[..16]), "{error}");
    assert!(world.listing().is_empty());
    // Two of them are read to the end; the third is known by its size.
    assert!(world.origin.counters().body_bytes_sent < 4 * SIZE);
}

#[test]
fn fault_27_an_empty_file_is_installed_without_a_request() {
    let mut world = World::new();
    world.file("empty", &Content::generated(1, 0));
    world.fetch_all();
    assert_eq!(std::fs::metadata(world.path("empty")).unwrap().len(), 0);
    assert_eq!(world.origin.counters().requests, 0);
}

#[test]
fn fault_28_a_body_without_end_is_cut() {
    for chunked in [true, false] {
        // With ranges every claim is cut at its end.
        let (ranged, _) = world(Fault::Endless { chunked }, When::Always);
        ranged.fetch_all();
        // Without, the first byte too many ends the source.
        let fault = Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, Fault::Endless { chunked }]);
        assert_next_source(&fault, &["longer than the file's size in the lock"], 9);
    }
}

#[test]
fn fault_28_a_body_that_has_all_its_bytes_and_no_end_is_not_waited_for() {
    let fault = vec![Fault::IgnoreRange { accept_ranges: false }, Fault::Chunked, Fault::Stall(SIZE)];
    let (world, _) = world(Fault::All(fault), When::Always);
    world.fetch_all();
    assert!(requests(&world).len() <= 9);
}

#[test]
fn an_origin_without_ranges_is_read_again_and_what_is_held_is_passed_over() {
    let cut = Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, Fault::CutBody(4_000_000)]);
    let cuts = Mutex::new(0);
    let is_stream = |request: &Recorded| request.range.is_none() || request.range_start() == Some(4_000_000);
    // The stream breaks, and so do the first two that are to go on where it broke.
    let first_three = move |request: &Recorded, _: usize| {
        let mut cuts = cuts.lock().unwrap();
        *cuts += usize::from(is_stream(request));
        is_stream(request) && *cuts <= 3
    };
    let (world, _) = world(cut, When::custom(first_three));
    world.origin.inject("/x", Fault::IgnoreRange { accept_ranges: false });
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE, "no byte counts twice");
    assert_eq!(report.files[0].retries, 3);
    assert!(requests(&world).len() <= 12, "{} requests", requests(&world).len());
    assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
}

#[test]
fn a_stream_that_breaks_is_resumed_by_range_where_that_is_allowed() {
    // Ranges are answered by the whole body at first, and properly when the stream is to go on.
    let early = When::custom(|request, _| request.range_start().is_some_and(|start| start < 4_000_000));
    let (world, _) = world(Fault::IgnoreRange { accept_ranges: true }, early);
    world.origin.inject("/x", Fault::CutBody(4_000_000).when(When::custom(|r, _| r.range.is_none())));
    let report = world.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    let last = requests(&world).pop().unwrap();
    assert!(last.status == 206 && last.range_start().unwrap() >= 4_000_000, "{last:?}");
}

#[test]
fn a_stream_that_always_breaks_at_one_place_ends_by_the_count_of_failures() {
    let fault = vec![Fault::IgnoreRange { accept_ranges: false }, Fault::CutBody(2_000_000)];
    let (world, _) = world(Fault::All(fault), When::Always);
    let error = world.fetch_refused().to_string();
    assert!(error.contains("cut short"), "{error}");
    assert!(requests(&world).len() <= 16, "{} requests", requests(&world).len());
}
