//! Origins that answer ranges wrongly, or send wrong bytes (faults 1 to 28).

mod sniffed;
mod versions;

use provision_testbed::{Claim, LOGIN_PAGE, Recorded};

use crate::prelude::*;

const SIZE: u64 = 6_000_007;

/// A fixture with one file, `x`, whose path has this fault.
fn fixture(fault: Fault, when: When) -> (Fixture, Content) {
    let (fixture, content) = Fixture::of("x", Content::generated(1, SIZE));
    fixture.origin.inject("/x", fault.when(when));
    (fixture, content)
}

/// As `fixture`, with a mirror that has no fault.
fn mirrored(fault: Fault, when: When) -> Fixture {
    let (mut fixture, content) = fixture(fault, when);
    fixture.mirror("x", &content);
    fixture
}

fn requests(fixture: &Fixture) -> Vec<Recorded> {
    fixture.origin.requests().into_iter().filter(|request| request.path == "/x").collect()
}

/// The first source is dropped for a reason that contains `words`, within `most` requests, and the mirror takes over.
/// Without a mirror the file fails for the same reason.
fn assert_next_source(fault: &Fault, words: &[&str], most: u64) {
    let fixture = mirrored(fault.clone(), When::Always);
    let report = fixture.fetch_all();
    assert!(report.files[0].source.as_deref().unwrap().contains("/mirror?"));
    assert!(fixture.origin.counters().path("/x").requests <= most);
    assert_eq!(fixture.events.count(|event| matches!(event, Event::SourceEnded { .. })), 1);

    let (fixture, _) = self::fixture(fault.clone(), When::Always);
    let error = fixture.fetch_refused().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert!(fixture.requests() <= most, "{} requests", fixture.requests());
    assert!(!fixture.path("x").exists());
}

/// The number of bytes sent for each byte of the file.
fn sent(fixture: &Fixture) -> f64 {
    fixture.sent() as f64 / SIZE as f64
}

#[test]
fn fault_01_to_05_10_22_unusable_ranges_lead_to_one_stream() {
    let ignored = |accept_ranges| Fault::IgnoreRange { accept_ranges };
    let of_416 = |content_range| Fault::RangeNotSatisfiable { content_range };
    for (fault, when) in [
        (ignored(false), When::Always),
        (ignored(true), When::Always),
        (Fault::OkWithContentRange { whole: true }, When::Always),
        (Fault::OkWithContentRange { whole: false }, When::Always),
        (Fault::NoContentRange, When::Always),
        (Fault::OtherStart { shift: 100 }, When::Always),
        (Fault::OtherStart { shift: -7 }, When::RangesNotFromZero),
        (Fault::Multipart, When::Always),
        (of_416(None), When::Ranges),
        (of_416(Some(format!("bytes */{SIZE}"))), When::Ranges),
    ] {
        let row = format!("{fault:?}, {when:?}");
        let (fixture, _) = fixture(fault, when);
        fixture.fetch_all();
        let requests = requests(&fixture);
        assert!(requests.len() <= 9, "{row}: {} requests", requests.len());
        let whole = requests.iter().filter(|request| request.range.is_none()).count();
        assert_eq!(whole, 1, "{row}: the file is one stream of the whole body");
    }
}

#[test]
fn fault_02_ranges_may_end_after_the_first_answers() {
    let (fixture, _) = fixture(Fault::IgnoreRange { accept_ranges: true }, When::RangesNotFromZero);
    fixture.fetch_all();
    assert!(requests(&fixture).len() <= 12);
}

#[test]
fn fault_05_one_wrong_start_ends_no_ranges() {
    let (once, _) = fixture(Fault::OtherStart { shift: 100 }, When::First(1));
    once.fetch_all();
    assert!(requests(&once).iter().all(|request| request.range.is_some()), "ranges go on being used");
}

#[test]
fn fault_06_a_shorter_range_is_kept_and_the_rest_asked_for() {
    let (fixture, _) = fixture(Fault::ShorterRange { length: 100_000 }, When::Always);
    let report = fixture.fetch_all();
    assert!(requests(&fixture).len() <= 80, "{} requests", requests(&fixture).len());
    assert!(sent(&fixture) < 1.05, "{}", sent(&fixture));
    assert_eq!(report.files[0].retries, 0, "it is legal");
}

#[test]
fn fault_90_a_source_that_gives_next_to_nothing_is_left() {
    let byte = Fault::ShorterRange { length: 1 };
    let page = Fault::ShorterRange { length: 4096 };
    for fault in [byte.clone(), page, Fault::CutBody(1), Fault::CutBody(4096), Fault::ChunkedCut(1)] {
        let fixture = mirrored(fault.clone(), When::Always);
        let report = fixture.fetch_all();
        assert!(report.files[0].source.as_deref().unwrap().contains("/mirror?"), "{fault:?}");
        let asked = fixture.origin.counters().path("/x").requests;
        assert!(asked <= 100, "{fault:?}: {asked} requests");
        let (fixture, _) = self::fixture(fault.clone(), When::Always);
        let error = fixture.fetch_refused().to_string();
        assert!(error.contains("cut short"), "{fault:?}: {error}");
    }
    // Enough bytes before each failure are progress.
    let (fixture, _) = fixture(Fault::CutBody(100_000), When::Always);
    fixture.fetch_all();
}

#[test]
fn fault_07_a_longer_range_is_cut_at_the_end_of_the_claim() {
    for claim in [Claim::Honest, Claim::Nothing] {
        let (fixture, _) = fixture(Fault::LongerRange { extra: 50_000, claim }, When::Always);
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{claim:?}");
        assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 0, "{claim:?}");
        let requests = requests(&fixture);
        assert!(requests.len() <= 12, "{claim:?}");
        for (n, request) in requests.iter().enumerate() {
            // The last range of the file cannot be longer if the header states its length.
            let end =
                request.range.as_deref().and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
            let again = requests[n + 1..].iter().any(|later| later.connection == request.connection);
            assert!(!again || end == Some(SIZE - 1), "{claim:?}: its connection is dropped: {request:?}");
        }
    }
    // A length that differs from the range's is an error before the body is read.
    let (fixture, _) = fixture(Fault::LongerRange { extra: 9, claim: Claim::LengthOnly }, When::First(3));
    fixture.fetch_all();
}

#[test]
fn fault_08_another_total_ends_the_source() {
    assert_next_source(
        &Fault::WrongTotal(SIZE + 1),
        &["6000008 bytes", "the lock says 6 MB (6000007 bytes)"],
        4,
    );
    let (fixture, _) = fixture(Fault::WrongTotal(5), When::After(2));
    let error = fixture.fetch_refused();
    assert!(error.is_integrity(), "{error}");
}

#[test]
fn fault_09_an_unknown_total_is_accepted() {
    let (fixture, _) = fixture(Fault::UnknownTotal, When::Always);
    fixture.fetch_all();
    assert!(requests(&fixture).iter().all(|request| request.status == 206));
}

#[test]
fn fault_11_a_length_that_is_not_the_ranges_is_tried_again() {
    for delta in [-10, 10] {
        let (once, _) = fixture(Fault::WrongLength { delta }, When::First(3));
        once.fetch_all();
        assert_next_source(&Fault::WrongLength { delta }, &["Content-Length"], 24);
    }
}

#[test]
fn fault_12_14_a_body_that_ends_early_goes_on_from_that_byte() {
    for (fault, most) in [(Fault::CutBody(300_000), 40), (Fault::ChunkedCut(200_000), 60)] {
        let (fixture, _) = fixture(fault.clone(), When::Always);
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{fault:?}");
        assert!(sent(&fixture) < 1.1, "{fault:?}: {}", sent(&fixture));
        assert!(requests(&fixture).len() <= most, "{fault:?}: {} requests", requests(&fixture).len());
        assert!(report.files[0].retries >= 5, "{fault:?}: progress resets the count of failures");
    }
}

#[test]
fn fault_13_length_and_chunked() {
    for delta in [0, -5, 5] {
        let (fixture, _) = fixture(Fault::LengthAndChunked { delta }, When::Always);
        fixture.fetch_all();
        assert!(requests(&fixture).len() <= 16, "{} requests", requests(&fixture).len());
        let requests = requests(&fixture);
        for connection in requests.iter().map(|request| request.connection) {
            let served = requests.iter().filter(|request| request.connection == connection).count();
            assert_eq!(served, 1, "such a connection is dropped");
        }
    }
}

#[test]
fn fault_14_honest_chunks_are_fine() {
    let (fixture, _) = fixture(Fault::Chunked, When::Always);
    assert_eq!(fixture.fetch_all().files[0].retries, 0);
}

#[test]
fn fault_19_a_compressed_body_ends_the_source() {
    let smaller = || Fault::OtherContent(Content::generated(3, SIZE / 2));
    let whole = Fault::IgnoreRange { accept_ranges: false };
    for mut how in [vec![smaller()], vec![whole.clone(), smaller()], vec![whole, Fault::Chunked]] {
        how.push(Fault::ContentEncoding("gzip".to_owned()));
        assert_next_source(&Fault::All(how), &["gzip"], 4);
    }
}

#[test]
fn fault_20_91_an_encoding_that_changes_no_length_is_ignored() {
    let whole = Fault::IgnoreRange { accept_ranges: false };
    for label in ["x-gzip", "gzip", "aws-chunked", "binary", "UTF-8", "none", "br", "identity", ""] {
        let labelled = Fault::ContentEncoding(label.to_owned());
        for how in [vec![labelled.clone()], vec![whole.clone(), labelled]] {
            let (fixture, _) = fixture(Fault::All(how), When::Always);
            let report = fixture.fetch_all();
            assert_eq!(report.files[0].retries, 0, "{label:?}: {}", fixture.events.text());
            assert_eq!(report.files[0].fetched, SIZE, "{label:?}");
        }
    }
}

#[test]
fn fault_92_the_type_of_a_body_of_right_length_is_ignored() {
    let whole = Fault::IgnoreRange { accept_ranges: false };
    for kind in ["text/html; charset=utf-8", "text/plain", "application/json", "application/xml"] {
        let typed = Fault::ContentType(kind.to_owned());
        for how in [vec![typed.clone()], vec![whole.clone(), typed.clone()]] {
            let (fixture, _) = fixture(Fault::All(how), When::Always);
            let report = fixture.fetch_all();
            assert_eq!(report.files[0].retries, 0, "{kind}: {}", fixture.events.text());
        }
    }
    // A page of that length is still called a page.
    let page = format!("{LOGIN_PAGE}{}", " ".repeat(SIZE as usize - LOGIN_PAGE.len()));
    for how in [vec![], vec![whole]] {
        let mut how = how;
        how.push(Fault::OtherContent(Content::bytes(page.clone())));
        how.push(Fault::ContentType("text/html".to_owned()));
        let (fixture, _) = fixture(Fault::All(how), When::Always);
        fixture.fetch_refused_with(&["web page (HTML)", "Sign in"]);
        assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
    }
}

#[test]
fn fault_22_a_416_with_another_total_or_to_all_ends_the_source() {
    let fault = |content_range| Fault::RangeNotSatisfiable { content_range };
    assert_next_source(&fault(Some("bytes */5".to_owned())), &["5 bytes", "6000007"], 4);
    assert_next_source(&fault(None), &["416"], 9);
}

#[test]
fn fault_23_a_login_page_is_named_as_such() {
    assert_next_source(&Fault::LoginPage, &["web page (HTML)"], 4);
    let fixture = mirrored(Fault::LoginPage, When::After(2));
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE, "bytes before the page are kept");
}

#[test]
fn fault_24_text_inside_a_body_is_caught() {
    let fault = Fault::ErrorText { at: 3_000_000, text: "upstream connect error".to_owned() };
    let fixture = mirrored(fault.clone(), When::Always);
    let report = fixture.fetch_all();
    assert!(report.files[0].source.as_deref().unwrap().contains("/mirror?"));
    assert_eq!(report.files[0].fetched, SIZE, "wrong bytes do not count as fetched");
    let (fixture, _) = self::fixture(fault, When::Always);
    let error = fixture.fetch_refused();
    assert!(error.is_integrity() && error.to_string().contains("SHA-256"), "{error}");
    assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
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
    let (fixture, _) = fixture(Fault::FlippedBit { at, bit: 3 }, When::custom(first_over_it));
    let report = fixture.fetch_all();
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 1);
    assert!((1.9..2.3).contains(&sent(&fixture)), "{}", sent(&fixture));
    assert!(matches!(report.files[0].result, Ok(Some(Outcome::Fetched))));
}

#[test]
fn fault_25_the_same_wrong_bit_twice_is_the_file() {
    let (fixture, _) = fixture(Fault::FlippedBit { at: 5, bit: 0 }, When::Always);
    let error = fixture.fetch_refused();
    assert!(error.is_integrity(), "{error}");
    assert!(sent(&fixture) < 2.3, "{}", sent(&fixture));
    assert!(fixture.listing().is_empty());
}

#[test]
fn fault_26_wrong_bytes_everywhere_are_an_integrity_error() {
    let (mut fixture, content) = fixture(Fault::OtherContent(Content::generated(2, SIZE)), When::Always);
    fixture.origin.put("/second", Content::generated(3, SIZE));
    fixture.origin.put("/third", Content::generated(4, SIZE + 1));
    let sources = ["/x", "/second", "/third"].map(|path| fixture.origin.url(path));
    fixture.model("x", &content, &sources);
    let error = fixture.fetch_refused();
    assert!(error.is_integrity());
    assert_eq!(error.attempts.len(), 3, "each source has its say: {error}");
    for path in ["/x", "/second", "/third"] {
        assert!(error.to_string().contains(path), "{error}");
    }
    assert!(error.to_string().contains(&content.sha256_hex()[..16]), "{error}");
    assert!(fixture.listing().is_empty());
    // Two of them are read to the end; the size rules out the third.
    assert!(fixture.sent() < 4 * SIZE);
}

#[test]
fn fault_27_an_empty_file_is_installed_without_a_request() {
    let fixture = Fixture::with(&[("empty", 1, 0)]);
    fixture.fetch_all();
    assert_eq!(std::fs::metadata(fixture.path("empty")).unwrap().len(), 0);
    assert_eq!(fixture.requests(), 0);
}

#[test]
fn fault_28_a_body_without_end_is_cut() {
    for chunked in [true, false] {
        // With ranges every claim is cut at its end.
        let (ranged, _) = fixture(Fault::Endless { chunked }, When::Always);
        ranged.fetch_all();
        // Without ranges, the first extra byte ends the source.
        let fault = Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, Fault::Endless { chunked }]);
        assert_next_source(&fault, &["longer than the file's size in the lock"], 9);
    }
}

#[test]
fn fault_28_a_complete_body_is_used_without_waiting_for_its_end() {
    let fault = vec![Fault::IgnoreRange { accept_ranges: false }, Fault::Chunked, Fault::Stall(SIZE)];
    let (fixture, _) = fixture(Fault::All(fault), When::Always);
    fixture.fetch_all();
    assert!(requests(&fixture).len() <= 9);
}

#[test]
fn without_ranges_a_resume_reads_again_and_skips_held_bytes() {
    let cut = Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, Fault::CutBody(4_000_000)]);
    let cuts = Mutex::new(0);
    let is_stream = |request: &Recorded| request.range.is_none() || request.range_start() == Some(4_000_000);
    // The stream breaks, and so do the first two that should resume it.
    let first_three = move |request: &Recorded, _: usize| {
        let mut cuts = cuts.lock().unwrap();
        *cuts += usize::from(is_stream(request));
        is_stream(request) && *cuts <= 3
    };
    let (fixture, _) = fixture(cut, When::custom(first_three));
    fixture.origin.inject("/x", Fault::IgnoreRange { accept_ranges: false });
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE, "no byte counts twice");
    assert_eq!(report.files[0].retries, 3);
    assert!(requests(&fixture).len() <= 12, "{} requests", requests(&fixture).len());
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
}

#[test]
fn a_broken_stream_resumes_by_range_where_ranges_work() {
    // Ranges first get the whole body, and proper answers once the stream is to be resumed.
    let early = When::custom(|request, _| request.range_start().is_some_and(|start| start < 4_000_000));
    let (fixture, _) = fixture(Fault::IgnoreRange { accept_ranges: true }, early);
    fixture.origin.inject("/x", Fault::CutBody(4_000_000).when(When::custom(|r, _| r.range.is_none())));
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    let last = requests(&fixture).pop().unwrap();
    assert!(last.status == 206 && last.range_start().unwrap() >= 4_000_000, "{last:?}");
}

#[test]
fn a_stream_that_always_breaks_at_one_offset_ends_its_source() {
    let fault = vec![Fault::IgnoreRange { accept_ranges: false }, Fault::CutBody(2_000_000)];
    let (fixture, _) = fixture(Fault::All(fault), When::Always);
    fixture.fetch_refused_with(&["cut short"]);
    assert!(requests(&fixture).len() <= 16, "{} requests", requests(&fixture).len());
}

#[test]
fn fault_94_an_origin_that_sends_more_is_read_as_one_stream() {
    for extra in [1, 50_000, SIZE] {
        let fault = Fault::LongerRange { extra, claim: Claim::Honest };
        let (fixture, _) = fixture(fault, When::Always);
        let report = fixture.fetch_all();
        assert_eq!((report.files[0].fetched, report.files[0].retries), (SIZE, 0));
        assert!(requests(&fixture).len() <= 4, "{extra}: {} requests", requests(&fixture).len());
    }
    let (fixture, _) = fixture(Fault::WholeAsRange, When::Always);
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].fetched, SIZE);
    assert!(requests(&fixture).len() <= 6, "{} requests", requests(&fixture).len());
}
