//! Files without a declared digest: the bytes that are read and kept, and those that are never mixed.

use std::sync::Arc;

use camino::Utf8PathBuf;
use provision_core::event::Silent;
use provision_engine::unpinned::CacheLimit;
use provision_lock::digest_reader::{DigestReader, ReadCache};
use provision_lock::entry_builder::{AddRequest, EntryError};
use provision_lock::resolve::Kind;
use provision_testbed::hosts::github::GitHub;
use provision_testbed::{Content, Fault, When};

use crate::fixture::{Fixture, add_request, block_on, fetch, sha};

const PATH: &str = "/vae/y.bin";

/// A host with this file at [`PATH`].
fn serving(content: &Content) -> Fixture {
    let fixture = Fixture::new();
    fixture.site.put(PATH, content.clone());
    fixture
}

/// The request of `lock add` for the file at [`PATH`].
fn request_of(fixture: &Fixture) -> AddRequest {
    add_request(&fixture.site.url(PATH))
}

/// The result of `lock add` for the file at [`PATH`].
fn add(fixture: &Fixture) -> Result<provision_core::digest::Sha256, EntryError> {
    fixture.build(&request_of(fixture)).map(|entries| entries[0].sha256)
}

fn bytes_sent(fixture: &Fixture) -> u64 {
    fixture.site.counters().path(PATH).body_bytes
}

/// The destination's files below `vae`.
fn left(fixture: &Fixture) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(fixture.destination().join("vae")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The file is replaced between two ranges. The new one is read halfway, and then the command ends.
fn replaced_midway(old: &Content, new: &Content) -> Fixture {
    let fixture = serving(old);
    let (site, replaced) = (fixture.site.control(), new.clone());
    let cut = When::custom(move |_, number| {
        if number == 2 {
            site.put(PATH, replaced.clone());
        }
        // The first request is the probe.
        number == 1 || number == 3
    });
    fixture.site.inject(PATH, Fault::CutBody(1_200_000).when(cut));
    fixture.site.inject(PATH, Fault::HangUp.when(When::After(4)));
    let error = add(&fixture).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Unreachable), "{error}");
    fixture.site.clear_faults(PATH);
    fixture
}

#[test]
fn a_part_is_never_resumed_as_another_version() {
    let (old, new) = (Content::generated(3, 2_000_000), Content::generated(4, 2_000_000));
    let fixture = replaced_midway(&old, &new);
    // The host returns to the first command's version.
    fixture.site.put(PATH, old.clone());
    assert_eq!(add(&fixture).unwrap(), sha(&old), "bytes of both would be of neither");
}

#[test]
fn a_version_found_midway_is_resumed_by_the_next_command() {
    let (old, new) = (Content::generated(3, 2_000_000), Content::generated(4, 2_000_000));
    let fixture = replaced_midway(&old, &new);
    let before = bytes_sent(&fixture);
    assert_eq!(add(&fixture).unwrap(), sha(&new));
    let sent = bytes_sent(&fixture) - before;
    assert!(sent < 1_000_000, "{sent}: what was read of it was kept");
    assert_eq!(left(&fixture).len(), 2, "a part and its journal: {:?}", left(&fixture));
}

#[test]
fn a_body_longer_than_declared_is_an_error() {
    let content = Content::generated(3, 1_500_000);
    let longer = Content::generated(5, 1_500_001);
    for fault in [
        Fault::All(vec![Fault::OtherContent(longer.clone()), Fault::Chunked]),
        Fault::All(vec![Fault::OtherContent(longer.clone()), Fault::NoLength]),
        Fault::Endless { chunked: true },
        Fault::Endless { chunked: false },
    ] {
        let fixture = serving(&content);
        fixture.site.set_etag(PATH, "\"same\"");
        fixture.site.inject(PATH, fault.clone().when(When::custom(|request, _| request.range.is_none())));
        let error = add(&fixture).unwrap_err();
        let says = "longer than 1.5 MB (1500000 bytes), which the host declared";
        assert!(error.to_string().contains(says), "{fault:?}: {error}");
        assert_eq!(error.kind(), Some(Kind::Differs));
        assert_eq!(left(&fixture), Vec::<String>::new(), "nothing that could be taken for the file");
    }
}

#[test]
fn a_body_without_a_length_is_read() {
    let content = Content::generated(3, 1_500_000);
    for fault in [Fault::Chunked, Fault::NoLength] {
        let fixture = serving(&content);
        fixture.site.inject(PATH, fault.when(When::custom(|request, _| request.range.is_none())));
        assert_eq!(add(&fixture).unwrap(), sha(&content));
    }
}

/// An honest host that never says a length.
fn without_length(fault: &Fault) -> Fixture {
    let fixture = serving(&Content::generated(3, 1_500_000));
    fixture.site.inject(PATH, Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, fault.clone()]));
    fixture
}

#[test]
fn a_host_that_says_no_length_is_read_once_and_fetched() {
    let content = Content::generated(3, 1_500_000);
    for fault in [Fault::Chunked, Fault::NoLength] {
        let fixture = without_length(&fault);
        let entries = fixture.build(&request_of(&fixture)).unwrap();
        assert_eq!((entries[0].sha256, entries[0].size), (sha(&content), content.size()));
        let sent = bytes_sent(&fixture);
        // The bytes are there already.
        fetch(&fixture, &entries);
        assert_eq!(bytes_sent(&fixture), sent, "{fault:?}");
        // A machine without them downloads them from the same host.
        let other = without_length(&fault);
        let entries = {
            let mut entry = entries[0].clone();
            entry.url = other.site.url(PATH).parse().unwrap();
            [entry]
        };
        fetch(&other, &entries);
        let verdicts = other.check(&entries[0]);
        assert_eq!(verdicts[0].kind(), None, "{}", verdicts[0]);
        // Nothing shows a change, so nothing is read.
        let source = entries[0].url.as_url().as_str().parse().unwrap();
        let mut builder = other.builder();
        let again = block_on(builder.follow(&entries[0], &source, false)).unwrap();
        assert_eq!((again, builder.reader.files_read()), (None, 0));
    }
}

#[test]
fn a_given_digest_is_checked_where_a_host_says_no_length() {
    let content = Content::generated(3, 1_500_000);
    let fixture = without_length(&Fault::Chunked);
    let mut request = request_of(&fixture);
    request.sha256 = Some(sha(&content));
    assert_eq!(fixture.build(&request).unwrap()[0].size, content.size());
    request.sha256 = Some(sha(&Content::generated(4, 1)));
    let error = fixture.build(&request).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Differs), "{error}");
    // With a size as well, nothing is read.
    let fixture = without_length(&Fault::Chunked);
    let mut request = request_of(&fixture);
    (request.sha256, request.size) = (Some(sha(&content)), Some(content.size()));
    fixture.build(&request).unwrap();
    assert!(left(&fixture).is_empty(), "{:?}", left(&fixture));
}

#[test]
fn a_mirror_of_another_length_is_refused_after_the_read() {
    let content = Content::generated(3, 1_500_000);
    let fixture = without_length(&Fault::Chunked);
    fixture.site.put("/vae/other.bin", Content::generated(3, 1_500_001));
    fixture.site.put("/vae/same.bin", content);
    for (mirror, is_right) in [("/vae/other.bin", false), ("/vae/same.bin", true)] {
        let mut request = request_of(&fixture);
        request.mirrors = vec![fixture.site.url(mirror).parse().unwrap()];
        let built = fixture.build(&request);
        assert_eq!(built.is_ok(), is_right, "{mirror}: {built:?}");
        if let Err(error) = built {
            assert_eq!(error.kind(), Some(Kind::Differs), "{error}");
        }
    }
}

#[test]
fn a_stream_without_a_length_or_an_end_stops_at_the_limit() {
    let fixture = without_length(&Fault::Endless { chunked: true });
    let directory = fixture.destination().with_file_name("cache");
    let limit = Some(CacheLimit { bytes: 3_000_000, evicts: true });
    let cache = Some(ReadCache { directory: directory.clone(), limit });
    let mut builder = fixture.builder();
    builder.reader = builder.reader.with_cache(cache);
    let error = block_on(builder.build(&request_of(&fixture))).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("sends more than 3 MB") && said.contains("nine tenths"), "{said}");
    let kept = walk(directory.as_std_path());
    assert!(kept.iter().all(|path| !path.contains("part")), "{kept:?}");
}

/// The files below a directory.
fn walk(directory: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}

#[test]
fn a_cut_stream_without_a_length_is_read_again() {
    let content = Content::generated(3, 1_500_000);
    let fixture = serving(&content);
    let honest = Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, Fault::Chunked]);
    fixture.site.inject(PATH, Fault::ChunkedCut(700_000).when(When::custom(|_, number| number == 2)));
    fixture.site.inject(PATH, honest);
    assert_eq!(add(&fixture).unwrap(), sha(&content));
}

#[test]
fn content_disposition_names_a_file_whose_url_does_not() {
    let content = Content::generated(3, 5000);
    let fixture = Fixture::new();
    let put = |path: &str, disposition: &str| {
        fixture.site.put(path, content.clone());
        let headers = vec![("Content-Disposition".to_owned(), disposition.to_owned())];
        fixture.site.inject(path, Fault::Headers(headers));
    };
    put("/download", "attachment; filename=\"wrong\"; filename*=UTF-8''a%20style.safetensors");
    put("/files/latest", "attachment; filename=\"../../latest.pt\"");
    put("/x.safetensors", "attachment; filename=other.pt");
    put("/bad", "attachment; filename=\"CON\"");
    put("/vae/get", "attachment; filename=v.pt");
    let build = |url: &str, explicit: Option<&str>| {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let mut request = add_request(&format!("{}?{query}", fixture.site.url(path)));
        (request.explicit, request.is_typed) = (explicit.map(str::to_owned), true);
        fixture.build(&request).map(|entries| entries[0].path.to_string())
    };
    assert_eq!(build("/download?id=7", Some("loras/")).unwrap(), "loras/a style.safetensors");
    assert_eq!(build("/files/latest", Some("loras")).unwrap(), "loras/latest.pt");
    assert_eq!(build("/vae/get", None).unwrap(), "vae/v.pt");
    // The URL's own name counts first, and a typed path before both.
    assert_eq!(build("/x.safetensors", Some("loras/")).unwrap(), "loras/x.safetensors");
    assert_eq!(build("/download?id=7", Some("loras/mine.pt")).unwrap(), "loras/mine.pt");
    // Without a folder, no host is asked.
    let before = fixture.site.requests().len();
    let error = build("/download?id=8", None).unwrap_err();
    assert!(error.to_string().contains("no folder is known"), "{error}");
    assert_eq!(fixture.site.requests().len(), before);
    // A name that no path may have.
    let error = build("/bad", Some("loras/")).unwrap_err();
    assert!(error.to_string().contains("not a valid model path"), "{error}");
    // Without the header, the URL's last part stays the name.
    fixture.site.put("/raw/thing", content.clone());
    assert_eq!(build("/raw/thing", Some("loras/")).unwrap(), "loras/thing");
}

#[test]
fn a_response_of_another_length_than_the_probe_is_final() {
    let content = Content::generated(3, 1_500_000);
    // The whole file, and the missing range.
    for (fault, when) in [
        (
            Fault::OtherContent(Content::generated(5, 1_500_007)),
            When::custom(|request, _| request.range.is_none()),
        ),
        (Fault::WrongTotal(1_500_007), When::RangesNotFromZero),
    ] {
        let fixture = serving(&content);
        fixture.site.inject(PATH, fault.clone().when(when));
        fixture.site.inject(PATH, Fault::CutBody(1_000_000).when(When::Nth(1)));
        let error = add(&fixture).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("has 1.5 MB (1500007 bytes) now, and the host declared 1.5 MB (1500000 bytes)"),
            "{fault:?}: {said}"
        );
        assert!(!said.contains("lock"), "there is none yet: {said}");
        assert_eq!(error.kind(), Some(Kind::Differs));
        assert_eq!(left(&fixture), Vec::<String>::new());
    }
}

#[test]
fn without_ranges_the_whole_file_is_read_once() {
    let content = Content::generated(3, 1_500_000);
    for fault in [
        Fault::NoContentRange,
        Fault::Multipart,
        Fault::OkWithContentRange { whole: false },
        Fault::OtherStart { shift: 5 },
        Fault::RangeNotSatisfiable { content_range: None },
    ] {
        let fixture = serving(&content);
        fixture.site.inject(PATH, fault.clone().when(When::RangesNotFromZero));
        fixture.site.inject(PATH, Fault::CutBody(1_000_000).when(When::Nth(1)));
        assert_eq!(add(&fixture).unwrap_or_else(|error| panic!("{fault:?}: {error}")), sha(&content));
    }
    // Even if the whole body is cut each time, the read ends, and it leaves no part that cannot be resumed.
    let fixture = serving(&content);
    fixture.site.inject(PATH, Fault::NoContentRange.when(When::RangesNotFromZero));
    fixture.site.inject(PATH, Fault::CutBody(1_000_000).when(When::After(1)));
    let error = add(&fixture).unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
    assert_eq!(left(&fixture), Vec::<String>::new());
}

#[test]
fn a_host_that_alternates_versions_is_an_error() {
    let fixture = serving(&Content::generated(3, 1_500_000));
    // Two servers behind one name, each with its own validator, and every body is cut.
    let other = || Fault::All(vec![Fault::Etag("\"other\"".to_owned()), Fault::CutBody(500_000)]);
    fixture.site.inject(PATH, other().when(When::Every(2)));
    fixture.site.inject(PATH, Fault::CutBody(500_000).when(When::After(1)));
    let error = add(&fixture).unwrap_err();
    assert!(error.to_string().contains("changed while it was being fetched"), "{error}");
    assert!(fixture.site.counters().requests < 20, "{}", fixture.site.counters().requests);
}

#[test]
fn another_validator_before_the_first_byte_is_no_failure() {
    let content = Content::generated(3, 1_500_000);
    let fixture = serving(&content);
    fixture.site.inject(PATH, Fault::Etag("\"other\"".to_owned()).when(When::After(1)));
    assert_eq!(add(&fixture).unwrap(), sha(&content));
    assert_eq!(fixture.site.counters().requests, 2, "the probe and the file");
    assert!(fixture.waits.lock().unwrap().is_empty());
}

#[test]
fn a_login_page_of_any_content_type_is_not_digested() {
    let page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>";
    let html = || Fault::Headers(vec![("Content-Type".to_owned(), "text/html; charset=utf-8".to_owned())]);
    for (fault, path) in [
        // 206 and 200, each as a page by type and as if it were a file.
        (Some(html()), PATH),
        (Some(Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, html()])), PATH),
        (None, PATH),
        (Some(Fault::IgnoreRange { accept_ranges: false }), PATH),
    ] {
        let fixture = Fixture::new();
        fixture.site.put(path, Content::bytes(format!("\n {page}")));
        if let Some(fault) = fault.clone() {
            fixture.site.inject(path, fault);
        }
        let error = add(&fixture).unwrap_err();
        assert!(error.to_string().contains("a web page (HTML) came instead"), "{fault:?}: {error}");
        assert_eq!(left(&fixture), Vec::<String>::new());
    }
    let fixture = serving(&Content::generated(3, 1_500_000));
    fixture.site.inject(PATH, Fault::ContentEncoding("gzip".to_owned()));
    let error = add(&fixture).unwrap_err();
    assert!(error.to_string().contains("sends the body as gzip"), "{error}");
    assert!(bytes_sent(&fixture) <= 1, "one byte was asked for");
}

/// A release with one asset without a digest, and the request for it.
fn asset(content: &Content) -> (Fixture, GitHub, AddRequest) {
    let fixture = Fixture::new();
    let github = GitHub::mount(&fixture.site, &fixture.store);
    github.upload("o/r", "v1", "x.onnx", content, false);
    let request = AddRequest { explicit: Some("vae/".to_owned()), ..add_request("github:o/r@v1/x.onnx") };
    (fixture, github, request)
}

/// The storage behind an asset answers a probe with this validator, cuts a body midway, and then sends nothing for the
/// rest of the command.
fn interrupt_an_asset(fixture: &Fixture, etag: &str) {
    let etag = || Fault::Etag(etag.to_owned());
    fixture.store.inject("*", etag().when(When::First(1)));
    fixture.store.inject("*", Fault::All(vec![etag(), Fault::CutBody(1_200_000)]).when(When::First(2)));
    fixture.store.inject("*", Fault::HangUp.when(When::First(4)));
    fixture.store.inject("*", etag());
}

#[test]
fn an_unchanged_listing_does_not_join_two_versions() {
    let (old, new) = (Content::generated(1, 2_000_000), Content::generated(2, 2_000_000));
    for (first, second) in [("\"one\"", "\"two\""), ("W/\"weak\"", "W/\"weak\""), ("\"one\"", "W/\"weak\"")] {
        let (fixture, _, request) = asset(&old);
        interrupt_an_asset(&fixture, first);
        fixture.build(&request).unwrap_err();
        // The release is unchanged, but the storage has other bytes.
        fixture.store.clear_faults("*");
        let other = vec![Fault::OtherContent(new.clone()), Fault::Etag(second.to_owned())];
        fixture.store.inject("*", Fault::All(other));
        assert_eq!(fixture.build(&request).unwrap()[0].sha256, sha(&new), "{first} {second}");
    }
}

#[test]
fn only_a_named_asset_without_a_digest_is_read_again() {
    let (fixture, github, request) = asset(&Content::generated(1, 2_000_000));
    let entry = fixture.build(&request).unwrap().remove(0);
    fetch(&fixture, std::slice::from_ref(&entry));
    let installed = left(&fixture);
    let sent = fixture.store.counters().body_bytes_sent;
    let follow = |is_named| block_on(fixture.builder().follow(&entry, &request.source, is_named)).unwrap();
    assert_eq!(follow(false), None);
    assert!(fixture.store.counters().body_bytes_sent <= sent + 8, "nothing was read but first bytes");
    assert_eq!(follow(true), None);
    assert!(fixture.store.counters().body_bytes_sent > sent + 1_999_999, "it was read");
    assert_eq!(left(&fixture), installed, "no part of a file that is there");
    // Another length means another file, even for a model that was not named.
    let longer = Content::generated(2, 2_000_001);
    github.upload("o/r", "v1", "x.onnx", &longer, false);
    assert_eq!(follow(false).unwrap().sha256, sha(&longer));
}

#[test]
fn an_empty_file_needs_a_given_digest() {
    let fixture = serving(&Content::bytes(""));
    let error = add(&fixture).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("0 bytes") && said.contains("--sha256 e3b0c442"), "{said}");
    assert_eq!(error.kind(), Some(Kind::Unreachable));
    let mut given = request_of(&fixture);
    given.sha256 = Some(provision_core::digest::Sha256::of(b""));
    assert_eq!(fixture.build(&given).unwrap()[0].size, 0);
}

#[test]
fn an_asset_is_resumed_until_it_is_replaced() {
    let (old, new) = (Content::generated(1, 2_000_000), Content::generated(2, 2_000_000));
    for is_replaced in [false, true] {
        let (fixture, github, request) = asset(&old);
        // The storage's own validator carries no information.
        interrupt_an_asset(&fixture, "\"same\"");
        fixture.build(&request).unwrap_err();
        let before = fixture.store.counters().body_bytes_sent;
        if is_replaced {
            github.upload("o/r", "v1", "x.onnx", &new, false);
        }
        let found = fixture.build(&request).unwrap()[0].sha256;
        let sent = fixture.store.counters().body_bytes_sent - before;
        assert_eq!(found, sha(if is_replaced { &new } else { &old }));
        assert_eq!(sent >= 2_000_000, is_replaced, "{sent}");
    }
}

#[test]
fn an_interruption_at_the_last_byte_costs_only_that_byte() {
    let content = Content::generated(3, 1_500_000);
    let fixture = serving(&content);
    fixture.site.inject(PATH, Fault::CutBody(1_499_999).when(When::Nth(1)));
    assert_eq!(add(&fixture).unwrap(), sha(&content));
    assert_eq!(bytes_sent(&fixture), content.size() + 1, "and the probe's one");
}

/// A reader with the cache `cache` beside the destination.
fn reader(fixture: &Fixture, limit: Option<CacheLimit>) -> (DigestReader, Utf8PathBuf) {
    let directory = fixture.destination().with_file_name("cache");
    let silent = Arc::new(Silent);
    let retry = Fixture::retry();
    let reader = DigestReader::new(fixture.origin(), retry, fixture.on_wait(), fixture.destination(), silent);
    (reader.with_cache(Some(ReadCache { directory: directory.clone(), limit })), directory)
}

/// Reads the file at [`PATH`].
fn read(fixture: &Fixture, reader: &mut DigestReader) {
    let found = fixture.one(&fixture.site.url(PATH));
    block_on(reader.read(&found, &"vae/y.bin".parse().unwrap(), None)).unwrap();
}

#[test]
fn a_cache_that_cannot_be_used_is_unlocked_at_once() {
    let fixture = serving(&Content::generated(3, 2_000_000));
    let (mut reader, directory) = reader(&fixture, None);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("sha256"), "").unwrap();
    read(&fixture, &mut reader);
    assert!(!left(&fixture).is_empty());
    // Another command may use it, while the first one works elsewhere.
    std::fs::remove_file(directory.join("sha256")).unwrap();
    read(&fixture, &mut self::reader(&fixture, None).0);
    assert!(directory.join("sha256").is_dir());
    drop(reader);
}

#[test]
fn a_limit_that_was_not_asked_for_removes_nothing() {
    for evicts in [false, true] {
        let fixture = serving(&Content::generated(3, 2_000_000));
        let (mut reader, directory) = reader(&fixture, Some(CacheLimit { bytes: 3_000_000, evicts }));
        // An object that a fetch stored.
        let object = directory.join("sha256/00").join("0".repeat(64));
        std::fs::create_dir_all(object.parent().unwrap()).unwrap();
        std::fs::write(&object, Content::generated(4, 2_000_000).to_vec()).unwrap();
        read(&fixture, &mut reader);
        assert_eq!((object.exists(), left(&fixture).is_empty()), (!evicts, evicts));
        // The cache is still used for a file that fits.
        fixture.site.put(PATH, Content::generated(5, 900_000));
        let before = left(&fixture);
        read(&fixture, &mut reader);
        assert_eq!(left(&fixture), before);
    }
}
