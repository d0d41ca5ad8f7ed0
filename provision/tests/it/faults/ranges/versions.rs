//! Files that change during a fetch, and the validators that show it (faults 15 to 18).

use super::{SIZE, fixture, requests, sent};
use crate::prelude::*;

/// A fixture whose lock names `wanted`. Its URL serves `versions` in turn: the next one replaces the one before at each
/// request whose number is in `at`. One connection, so that requests have an order.
fn replaced(wanted: &Content, versions: &[Content], at: &'static [usize]) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.file("x", wanted);
    fixture.origin.put("/x", versions[0].clone());
    fixture.config.transfer.limits = Limits { connections: 1, per_host: 1 };
    let (control, versions) = (fixture.origin.control(), versions.to_vec());
    let replace = move |_: &_, number: usize| {
        if let Some(n) = at.iter().position(|at| *at == number) {
            control.put("/x", versions[n + 1].clone());
        }
        false
    };
    fixture.origin.inject("/x", Fault::status(500).when(When::custom(replace)));
    fixture
}

fn dropped(fixture: &Fixture) -> usize {
    fixture.events.count(|event| matches!(event, Event::Dropped { .. }))
}

/// The wrong bytes were dropped once, by the digest, and came again as one stream.
fn assert_one_stream(fixture: &Fixture) {
    let report = fixture.fetch_all();
    assert_eq!(dropped(fixture), 1);
    assert_eq!(report.files[0].fetched, SIZE, "dropped bytes do not count");
    let requests = requests(fixture);
    assert!(requests.len() <= 20, "{} requests", requests.len());
    assert!(requests.last().unwrap().range.is_none(), "one stream has one validator: {requests:?}");
    assert!(sent(fixture) < 2.1, "{}", sent(fixture));
}

#[test]
fn fault_15_no_byte_of_another_version_is_installed() {
    let old = Content::generated(99, SIZE);
    let fault = Fault::All(vec![Fault::OtherContent(old.clone()), Fault::Etag("\"old\"".to_owned())]);
    assert_one_stream(&fixture(fault, When::First(2)).0);
    let (older, new) = (Content::generated(98, SIZE), Content::generated(1, SIZE));
    assert_one_stream(&replaced(&new, &[old.clone(), new.clone()], &[3]));
    assert_one_stream(&replaced(&new, &[old, older, new.clone()], &[2, 4]));
}

#[test]
fn fault_15_a_permanently_changed_file_is_an_integrity_error() {
    let (old, new) = (Content::generated(1, SIZE), Content::generated(99, SIZE));
    let fixture = replaced(&old, &[old.clone(), new], &[2]);
    let error = fixture.fetch_refused();
    assert!(error.is_integrity() && error.to_string().contains("SHA-256"), "{error}");
    assert!(requests(&fixture).len() <= 24, "{} requests", requests(&fixture).len());
    assert!(sent(&fixture) < 2.1, "{}", sent(&fixture));
    assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
}

#[test]
fn fault_95_replicas_with_other_validators_lose_no_byte() {
    let (fixture, _) = fixture(Fault::Etag("\"other\"".to_owned()), When::Every(2));
    let report = fixture.fetch_all();
    assert_eq!((dropped(&fixture), report.files[0].retries), (0, 0));
    assert!(requests(&fixture).iter().all(|request| request.range.is_some()));
    assert!(sent(&fixture) < 1.05, "{}", sent(&fixture));
}

#[test]
fn fault_95_a_resumed_file_may_have_another_validator() {
    let (mut fixture, _) = fixture(Fault::status(404), When::After(3));
    fixture.config.transfer.limits = Limits { connections: 1, per_host: 1 };
    assert!(fixture.fetch().unwrap().files[0].result.is_err());
    let held = fixture.held();
    assert!(held > SIZE / 4, "{held}");
    fixture.origin.control().replace_faults("/x", Fault::Etag("\"other\"".to_owned()).when(When::Every(2)));
    let report = fixture.fetch_all();
    assert_eq!((report.files[0].resumed, report.files[0].fetched), (held, SIZE - held));
    assert_eq!(dropped(&fixture), 0);
    assert!(sent(&fixture) < 1.05, "{}", sent(&fixture));
}

#[test]
fn fault_16_mirrors_may_differ_in_their_validators() {
    let (mut fixture, content) = fixture(Fault::status(404), When::After(3));
    let mirror = start_origin("127.0.0.1");
    mirror.put("/x", content.clone());
    mirror.set_etag("/x", "\"quite-another\"");
    let sources = [fixture.origin.url("/x"), mirror.url("/x")];
    fixture.model("x", &content, &sources).config.transfer.limits = Limits { connections: 1, per_host: 1 };
    let report = fixture.fetch_all();
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
    assert!(mirror.counters().body_bytes_sent < SIZE, "bytes of the first source are kept");
    assert_eq!(report.files[0].fetched, SIZE);
}

#[test]
fn fault_17_if_range_is_not_sent_where_it_yields_the_whole_body() {
    let (fixture, _) = fixture(Fault::IgnoreIfRange, When::Always);
    // `fetch_all` checks every request for `If-Range`.
    let report = fixture.fetch_all();
    assert!(requests(&fixture).iter().all(|request| request.status == 206));
    assert_eq!((dropped(&fixture), report.files[0].retries), (0, 0));
    assert!(sent(&fixture) < 1.05, "{}", sent(&fixture));
}

#[test]
fn fault_18_a_weak_validator_is_not_sent_and_may_change() {
    for (fault, when) in [
        (Fault::WeakEtag, When::Always),
        (Fault::WeakEtag, When::Every(2)),
        (Fault::Etag("W/\"1\"".to_owned()), When::Every(2)),
    ] {
        let (fixture, _) = fixture(fault, when);
        let report = fixture.fetch_all();
        assert!(requests(&fixture).iter().all(|request| request.status == 206));
        assert_eq!((dropped(&fixture), report.files[0].retries), (0, 0));
        assert!(sent(&fixture) < 1.05, "{}", sent(&fixture));
    }
}
