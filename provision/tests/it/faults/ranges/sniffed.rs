//! Other content in a file's place: pages, pointers, error documents, bodies cut short, wrong bytes (faults 12, 23 to
//! 26). Each has its own message.

use provision::cli::exit::{Code, code_of};
use provision_core::byte_size::ByteSize;
use provision_engine::transfer::FileError;
use provision_testbed::LOGIN_PAGE;

use super::{SIZE, fixture, requests};
use crate::prelude::*;

/// A fixture with a model whose URL serves `body` instead, sent in this way.
fn serving(body: impl Into<Vec<u8>>, how: &[Fault]) -> Fixture {
    let (fixture, _) = fixture(Fault::All(how.to_vec()), When::Always);
    fixture.origin.put("/x", Content::bytes(body.into()));
    fixture
}

fn pointer() -> String {
    let model = Content::generated(1, SIZE);
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {SIZE}\n", model.sha256_hex())
}

/// Every way to send a body of the wrong length: with or without a length, as a range or whole.
fn ways() -> Vec<Vec<Fault>> {
    let whole = Fault::IgnoreRange { accept_ranges: false };
    vec![
        vec![],
        vec![Fault::Chunked],
        vec![whole.clone()],
        vec![whole.clone(), Fault::Chunked],
        vec![whole, Fault::NoLength],
    ]
}

/// The file fails after a few requests, and no byte of the body is kept.
fn refused(fixture: &Fixture) -> (FileError, Code) {
    let error = fixture.fetch_refused();
    let asked = requests(fixture).len();
    assert!(asked <= 9, "{asked} requests: {error}");
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Retry { .. })), 0, "{error}");
    assert!(fixture.listing().is_empty(), "{:?}: {error}", fixture.listing());
    let code = code_of([&error]);
    (error, code)
}

#[test]
fn fault_23_a_git_lfs_pointer_is_named_however_it_is_sent() {
    let unknown_total = vec![Fault::UnknownTotal];
    for how in ways().into_iter().chain([unknown_total]) {
        let mut fixture = serving(pointer(), &how);
        // A second connection would get a 416, which shows another length of the file, and could be first to report it.
        fixture.config.transfer.limits = Limits { connections: 1, per_host: 1 };
        let (error, code) = refused(&fixture);
        assert_eq!(code, Code::Integrity, "{how:?}");
        let model = Content::generated(1, SIZE).sha256_hex();
        let expected = format!(
            "{}?…: a Git LFS pointer came instead of the file; it points to the file that the lock lists (SHA-256 \
             {model}, 6 MB ({SIZE} bytes)). The repository holds a pointer there: use the URL of the file itself (/resolve/ on \
             the Hub, media.githubusercontent.com/media/ on GitHub), or fetch it with git lfs",
            fixture.origin.url("/x")
        );
        assert_eq!(error.to_string(), expected, "{how:?}");
    }
}

#[test]
fn fault_23_an_lfs_pointer_to_another_file_leads_to_a_mirror() {
    let other = pointer().replace(&format!("size {SIZE}"), "size 7");
    let (error, code) = refused(&serving(other.clone(), &[]));
    assert!(error.to_string().contains("another file than the lock lists"), "{error}");
    assert_eq!(code, Code::Integrity);
    for how in ways() {
        let mut fixture = serving(other.clone(), &how);
        let report = fixture.mirror("x", &Content::generated(1, SIZE)).fetch_all();
        assert_eq!(report.files[0].fetched, SIZE);
        assert!(requests(&fixture).len() <= 9, "{how:?}");
    }
}

#[test]
fn fault_23_html_is_detected_whatever_its_type_and_length() {
    let long = format!("{LOGIN_PAGE}{}", "<p>once more</p>\n".repeat(20_000));
    for page in [LOGIN_PAGE, &long] {
        for how in ways() {
            let (error, code) = refused(&serving(page, &how));
            let expected = "a web page (HTML) came instead of the model, titled \"Sign in\": a login or error page, or \
                            a link to a page";
            assert!(error.to_string().ends_with(expected), "{how:?}: {error}");
            assert_eq!(code, Code::Network, "{how:?}");
        }
    }
    // The content type alone suffices, too.
    let (fixture, _) = fixture(Fault::LoginPage, When::Always);
    let (error, code) = refused(&fixture);
    assert!(error.to_string().contains("titled \"Sign in\""), "{error}");
    assert_eq!(code, Code::Network);
}

#[test]
fn fault_23_html_without_a_length_keeps_the_bytes_held_before() {
    let page = Fault::OtherContent(Content::bytes(LOGIN_PAGE));
    let how = vec![Fault::IgnoreRange { accept_ranges: false }, page, Fault::Chunked];
    let (fixture, _) = fixture(Fault::All(how), When::After(3));
    fixture.fetch_refused_with(&["web page (HTML)"]);
    let held = fixture.held();
    assert!(held >= 1 << 20, "{held} are held");
    fixture.origin.clear_faults("/x");
    let before = fixture.sent();
    fixture.fetch_all();
    assert!(fixture.sent() - before < SIZE - (1 << 19), "only the rest is fetched");
}

#[test]
fn fault_24_an_error_document_with_status_200_is_quoted() {
    let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Access \
               Denied</Message></Error>";
    let json = r#"{"error": {"code": "RateLimited", "message": "slow down"}}"#;
    for (body, words) in [(xml, "AccessDenied: Access Denied"), (json, "RateLimited: slow down")] {
        for how in ways() {
            let (error, code) = refused(&serving(body, &how));
            let expected =
                format!("an error message came instead of the model, with a success status: {words}");
            assert!(error.to_string().ends_with(&expected), "{how:?}: {error}");
            assert_eq!(code, Code::Network, "{how:?}");
        }
    }
}

#[test]
fn fault_12_a_body_always_cut_at_one_offset_reports_the_offset() {
    for end in [vec![], vec![Fault::NoLength]] {
        let how = [vec![Fault::IgnoreRange { accept_ranges: false }], end, vec![Fault::CutBody(1_000_000)]]
            .concat();
        let (fixture, _) = fixture(Fault::All(how), When::Always);
        let error = fixture.fetch_refused();
        let lengths = format!("1 MB (1000000 bytes) of {}", ByteSize(SIZE).exact());
        let expected = format!("{}: the body was cut short after {lengths}", fixture.origin.addr());
        assert_eq!(error.to_string(), expected);
        assert_eq!(code_of([&error]), Code::Network);
        assert!(requests(&fixture).len() <= 16, "{} requests", requests(&fixture).len());
        assert!(fixture.held() >= 900_000, "no received byte is known to be wrong: {}", fixture.held());
    }
}

#[test]
fn fault_26_wrong_bytes_are_reported_by_digest_and_prefix() {
    let (right, other) = (Content::generated(1, SIZE), Content::generated(2, SIZE));
    let page = right.replaced(0, LOGIN_PAGE);
    for (found, because) in [
        (&other, "The file at the source has changed, or something on the way changes it"),
        (
            &page,
            "By its first bytes, a web page (HTML) came instead of the model, titled \"Sign in\": a login or error \
             page, or a link to a page",
        ),
    ] {
        let (fixture, _) = fixture(Fault::OtherContent(found.clone()), When::Always);
        let error = fixture.fetch_refused();
        let expected = format!(
            "{}?…: the bytes have SHA-256 {}, the lock says {}; they were deleted. {because}",
            fixture.origin.url("/x"),
            found.sha256_hex(),
            right.sha256_hex()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(code_of([&error]), Code::Integrity);
        assert!(requests(&fixture).len() <= 30, "{} requests", requests(&fixture).len());
        assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
    }
}
