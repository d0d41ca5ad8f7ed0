//! Bytes whose digest nobody says: what is read of them, what stays, and what is never mixed.

use provision_lock::make::MakeError;
use provision_lock::resolve::Kind;
use provision_testbed::hosts::github::GitHub;
use provision_testbed::{Content, Fault, When};

use crate::world::{World, block_on, fetch, order, sha};

const PATH: &str = "/vae/y.bin";

/// What `lock add` of the file at [`PATH`] comes to.
fn add(world: &World) -> Result<provision_core::digest::Sha256, MakeError> {
    world.make(&order(&world.site.url(PATH))).map(|entries| entries[0].sha256)
}

fn bytes_sent(world: &World) -> u64 {
    world.site.counters().path(PATH).body_bytes
}

/// What lies in the destination below `vae`.
fn left(world: &World) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(world.destination().join("vae")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The file is replaced between two ranges, the new one is read to its middle, and then the command ends.
fn replaced_midway(old: &Content, new: &Content) -> World {
    let world = World::new();
    world.site.put(PATH, old.clone());
    let (site, replaced) = (world.site.control(), new.clone());
    let cut = When::custom(move |_, number| {
        if number == 2 {
            site.put(PATH, replaced.clone());
        }
        // The probe is the first.
        number == 1 || number == 3
    });
    world.site.inject(PATH, Fault::CutBody(1_200_000).when(cut));
    world.site.inject(PATH, Fault::HangUp.when(When::After(4)));
    let error = add(&world).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Unreachable), "{error}");
    world.site.clear_faults(PATH);
    world
}

#[test]
fn a_part_of_one_version_is_never_gone_on_with_as_another() {
    let (old, new) = (Content::generated(3, 2_000_000), Content::generated(4, 2_000_000));
    let world = replaced_midway(&old, &new);
    // The host goes back to the version that the first command began with.
    world.site.put(PATH, old.clone());
    assert_eq!(add(&world).unwrap(), sha(&old), "bytes of both would be of neither");
}

#[test]
fn a_version_that_came_midway_is_gone_on_with_by_the_next_command() {
    let (old, new) = (Content::generated(3, 2_000_000), Content::generated(4, 2_000_000));
    let world = replaced_midway(&old, &new);
    let before = bytes_sent(&world);
    assert_eq!(add(&world).unwrap(), sha(&new));
    let sent = bytes_sent(&world) - before;
    assert!(sent < 1_000_000, "{sent}: what was read of it was kept");
    assert_eq!(left(&world).len(), 2, "a part and its journal: {:?}", left(&world));
}

#[test]
fn a_body_that_goes_on_is_longer_than_the_host_said() {
    let content = Content::generated(3, 1_500_000);
    let longer = Content::generated(5, 1_500_001);
    for fault in [
        Fault::All(vec![Fault::OtherContent(longer.clone()), Fault::Chunked]),
        Fault::All(vec![Fault::OtherContent(longer.clone()), Fault::NoLength]),
        Fault::Endless { chunked: true },
        Fault::Endless { chunked: false },
    ] {
        let world = World::new();
        world.site.put(PATH, content.clone());
        world.site.set_etag(PATH, "\"same\"");
        world.site.inject(PATH, fault.clone().when(When::custom(|request, _| request.range.is_none())));
        let error = add(&world).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("longer than the 1500000 bytes that the host said"), "{fault:?}: {said}");
        assert_eq!(error.kind(), Some(Kind::Differs));
        assert_eq!(left(&world), Vec::<String>::new(), "nothing that could be taken for the file");
    }
}

#[test]
fn an_honest_body_without_a_length_is_read() {
    let content = Content::generated(3, 1_500_000);
    for fault in [Fault::Chunked, Fault::NoLength] {
        let world = World::new();
        world.site.put(PATH, content.clone());
        world.site.inject(PATH, fault.when(When::custom(|request, _| request.range.is_none())));
        assert_eq!(add(&world).unwrap(), sha(&content));
    }
}

#[test]
fn an_answer_of_another_length_than_the_probes_is_an_end() {
    let content = Content::generated(3, 1_500_000);
    // The whole, and what is missing of it.
    for (fault, when) in [
        (
            Fault::OtherContent(Content::generated(5, 1_500_007)),
            When::custom(|request, _| request.range.is_none()),
        ),
        (Fault::WrongTotal(1_500_007), When::RangesNotFromZero),
    ] {
        let world = World::new();
        world.site.put(PATH, content.clone());
        world.site.inject(PATH, fault.clone().when(when));
        world.site.inject(PATH, Fault::CutBody(1_000_000).when(When::Nth(1)));
        let error = add(&world).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("has 1500007 bytes now, and the host said 1500000"), "{fault:?}: {said}");
        assert!(!said.contains("lock"), "there is none yet: {said}");
        assert_eq!(error.kind(), Some(Kind::Differs));
        assert_eq!(left(&world), Vec::<String>::new());
    }
}

#[test]
fn where_ranges_are_not_to_be_had_midway_all_of_it_is_read_once() {
    let content = Content::generated(3, 1_500_000);
    for fault in [
        Fault::NoContentRange,
        Fault::Multipart,
        Fault::OkWithContentRange { whole: false },
        Fault::OtherStart { shift: 5 },
        Fault::RangeNotSatisfiable { content_range: None },
    ] {
        let world = World::new();
        world.site.put(PATH, content.clone());
        world.site.inject(PATH, fault.clone().when(When::RangesNotFromZero));
        world.site.inject(PATH, Fault::CutBody(1_000_000).when(When::Nth(1)));
        assert_eq!(add(&world).unwrap_or_else(|error| panic!("{fault:?}: {error}")), sha(&content));
    }
    // And where that is cut each time, too, it ends, and leaves nothing that nobody can go on with.
    let world = World::new();
    world.site.put(PATH, content.clone());
    world.site.inject(PATH, Fault::NoContentRange.when(When::RangesNotFromZero));
    world.site.inject(PATH, Fault::CutBody(1_000_000).when(When::After(1)));
    let error = add(&world).unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
    assert_eq!(left(&world), Vec::<String>::new());
}

#[test]
fn a_host_that_cannot_decide_on_a_version_is_given_up() {
    let world = World::new();
    world.site.put(PATH, Content::generated(3, 1_500_000));
    // Two servers behind one name, each with a validator of its own, and every body breaks off.
    let other = || Fault::All(vec![Fault::Etag("\"other\"".to_owned()), Fault::CutBody(500_000)]);
    world.site.inject(PATH, other().when(When::Every(2)));
    world.site.inject(PATH, Fault::CutBody(500_000).when(When::After(1)));
    let error = add(&world).unwrap_err();
    assert!(error.to_string().contains("changed while it was being fetched"), "{error}");
    assert!(world.site.counters().requests < 20, "{}", world.site.counters().requests);
}

#[test]
fn another_validator_than_the_probes_is_no_failure_where_nothing_was_read_yet() {
    let world = World::new();
    let content = Content::generated(3, 1_500_000);
    world.site.put(PATH, content.clone());
    world.site.inject(PATH, Fault::Etag("\"other\"".to_owned()).when(When::After(1)));
    assert_eq!(add(&world).unwrap(), sha(&content));
    assert_eq!(world.site.counters().requests, 2, "the probe and the file");
    assert!(world.waits.lock().unwrap().is_empty());
}

#[test]
fn a_page_to_log_in_on_is_not_digested_whatever_it_calls_itself() {
    let page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>";
    let html = || Fault::Headers(vec![("Content-Type".to_owned(), "text/html; charset=utf-8".to_owned())]);
    for (fault, path) in [
        // 206 with its own type, 200 with its own type, and either as if it were a file.
        (Some(html()), PATH),
        (Some(Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, html()])), PATH),
        (None, PATH),
        (Some(Fault::IgnoreRange { accept_ranges: false }), PATH),
    ] {
        let world = World::new();
        world.site.put(path, Content::bytes(format!("\n {page}")));
        if let Some(fault) = fault.clone() {
            world.site.inject(path, fault);
        }
        let error = add(&world).unwrap_err();
        assert!(error.to_string().contains("a web page (HTML) came instead"), "{fault:?}: {error}");
        assert_eq!(left(&world), Vec::<String>::new());
    }
    let world = World::new();
    world.site.put(PATH, Content::generated(3, 1_500_000));
    world.site.inject(PATH, Fault::ContentEncoding("gzip".to_owned()));
    let error = add(&world).unwrap_err();
    assert!(error.to_string().contains("sends the body as gzip"), "{error}");
    assert!(bytes_sent(&world) <= 1, "one byte was asked for");
}

/// The store behind an asset answers a probe, breaks off a body in its middle, and then sends nothing for as long as a command
/// lasts; with this validator.
fn interrupt_an_asset(world: &World, etag: &str) {
    let etag = || Fault::Etag(etag.to_owned());
    world.store.inject("*", etag().when(When::First(1)));
    world.store.inject("*", Fault::All(vec![etag(), Fault::CutBody(1_200_000)]).when(When::First(2)));
    world.store.inject("*", Fault::HangUp.when(When::First(4)));
    world.store.inject("*", etag());
}

#[test]
fn what_a_listing_says_does_not_join_bytes_of_two_versions() {
    let (old, new) = (Content::generated(1, 2_000_000), Content::generated(2, 2_000_000));
    for (first, second) in [("\"one\"", "\"two\""), ("W/\"weak\"", "W/\"weak\""), ("\"one\"", "W/\"weak\"")] {
        let world = World::new();
        let github = GitHub::mount(&world.site, &world.store);
        github.upload("o/r", "v1", "x.onnx", &old, false);
        let mut wanted = order("github:o/r@v1/x.onnx");
        wanted.explicit = Some("vae/".to_owned());
        interrupt_an_asset(&world, first);
        world.make(&wanted).unwrap_err();
        // The release says what it said, and the store has other bytes.
        world.store.clear_faults("*");
        let other = vec![Fault::OtherContent(new.clone()), Fault::Etag(second.to_owned())];
        world.store.inject("*", Fault::All(other));
        assert_eq!(world.make(&wanted).unwrap()[0].sha256, sha(&new), "{first} {second}");
    }
}

#[test]
fn an_asset_without_a_digest_is_read_again_only_where_it_is_named_and_is_not_kept_where_it_is_the_same() {
    let world = World::new();
    let content = Content::generated(1, 2_000_000);
    let github = GitHub::mount(&world.site, &world.store);
    github.upload("o/r", "v1", "x.onnx", &content, false);
    let mut wanted = order("github:o/r@v1/x.onnx");
    wanted.explicit = Some("vae/".to_owned());
    let entry = world.make(&wanted).unwrap().remove(0);
    fetch(&world, std::slice::from_ref(&entry));
    let installed = left(&world);
    let sent = world.store.counters().body_bytes_sent;
    let follow = |is_named| block_on(world.maker().follow(&entry, &wanted.source, is_named)).unwrap();
    assert_eq!(follow(false), None);
    assert!(world.store.counters().body_bytes_sent <= sent + 8, "nothing was read but first bytes");
    assert_eq!(follow(true), None);
    assert!(world.store.counters().body_bytes_sent > sent + 1_999_999, "it was read");
    assert_eq!(left(&world), installed, "no part of a file that is there");
    // Another length is another file, whoever asks.
    let longer = Content::generated(2, 2_000_001);
    github.upload("o/r", "v1", "x.onnx", &longer, false);
    assert_eq!(follow(false).unwrap().sha256, sha(&longer));
}

#[test]
fn an_empty_file_is_refused_unless_its_digest_is_given() {
    let world = World::new();
    world.site.put(PATH, Content::bytes(""));
    let error = add(&world).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("0 bytes") && said.contains("--sha256 e3b0c442"), "{said}");
    assert_eq!(error.kind(), Some(Kind::Unreachable));
    let mut given = order(&world.site.url(PATH));
    given.sha256 = Some(provision_core::digest::Sha256::of(b""));
    assert_eq!(world.make(&given).unwrap()[0].size, 0);
}

#[test]
fn an_asset_is_gone_on_with_until_it_is_replaced() {
    let (old, new) = (Content::generated(1, 2_000_000), Content::generated(2, 2_000_000));
    for is_replaced in [false, true] {
        let world = World::new();
        let github = GitHub::mount(&world.site, &world.store);
        github.upload("o/r", "v1", "x.onnx", &old, false);
        let mut wanted = order("github:o/r@v1/x.onnx");
        wanted.explicit = Some("vae/".to_owned());
        // The store's own validator says nothing.
        interrupt_an_asset(&world, "\"same\"");
        world.make(&wanted).unwrap_err();
        let before = world.store.counters().body_bytes_sent;
        if is_replaced {
            github.upload("o/r", "v1", "x.onnx", &new, false);
        }
        let found = world.make(&wanted).unwrap()[0].sha256;
        let sent = world.store.counters().body_bytes_sent - before;
        assert_eq!(found, sha(if is_replaced { &new } else { &old }));
        assert_eq!(sent >= 2_000_000, is_replaced, "{sent}");
    }
}

#[test]
fn an_interruption_of_the_last_byte_costs_nothing_but_it() {
    let world = World::new();
    let content = Content::generated(3, 1_500_000);
    world.site.put(PATH, content.clone());
    world.site.inject(PATH, Fault::CutBody(1_499_999).when(When::Nth(1)));
    assert_eq!(add(&world).unwrap(), sha(&content));
    assert_eq!(bytes_sent(&world), content.size() + 1, "and the probe's one");
}
