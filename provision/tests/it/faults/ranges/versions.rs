//! Files that change during a fetch, and the validators that show it (faults 15 to 18).

use provision_core::event::Event;
use provision_core::schedule::Limits;
use provision_testbed::{Content, Fault, When};

use super::{SIZE, requests, sent, world};
use crate::world::{World, start_origin};

/// A fixture whose lock names `wanted`. Its URL serves `versions` in turn: the next one replaces the one before at each
/// request whose number is in `at`. One connection, so that requests have an order.
fn replaced(wanted: &Content, versions: &[Content], at: &'static [usize]) -> World {
    let mut world = World::new();
    world.file("x", wanted);
    world.origin.put("/x", versions[0].clone());
    world.config.transfer.limits = Limits { connections: 1, per_host: 1 };
    let (control, versions) = (world.origin.control(), versions.to_vec());
    let replace = move |_: &_, number: usize| {
        if let Some(n) = at.iter().position(|at| *at == number) {
            control.put("/x", versions[n + 1].clone());
        }
        false
    };
    world.origin.inject("/x", Fault::status(500).when(When::custom(replace)));
    world
}

fn dropped(world: &World) -> usize {
    world.events.count(|event| matches!(event, Event::Dropped { .. }))
}

#[test]
fn fault_15_bytes_of_the_old_validator_are_dropped() {
    let old = Content::generated(99, SIZE);
    let (world, _) =
        world(Fault::All(vec![Fault::OtherContent(old), Fault::Etag("\"old\"".to_owned())]), When::First(2));
    let report = world.fetch_all();
    assert_eq!(
        world.events.count(|event| matches!(event, Event::Dropped { .. })),
        1,
        "once, not by the digest"
    );
    assert!(world.events.text().contains("changed while it was being fetched"));
    assert_eq!(report.files[0].fetched, SIZE, "what was dropped does not count");
    assert!(requests(&world).len() <= 20);
}

#[test]
fn fault_15_a_validator_that_keeps_changing_leads_to_one_stream() {
    let (world, _) = world(Fault::Etag("\"other\"".to_owned()), When::Every(2));
    let report = world.fetch_all();
    let requests = requests(&world);
    assert!(requests.len() <= 20, "{} requests", requests.len());
    assert!(requests.iter().any(|request| request.range.is_none()), "one stream has one validator");
    assert_eq!(report.files[0].fetched, SIZE);
}

#[test]
fn fault_15_no_old_byte_of_a_changed_file_is_kept() {
    let (old, new) = (Content::generated(99, SIZE), Content::generated(1, SIZE));
    let world = replaced(&new, &[old, new.clone()], &[3]);
    let report = world.fetch_all();
    assert_eq!(dropped(&world), 1);
    let said = world.events.text();
    assert!(said.contains("changed while it was being fetched"), "{said}");
    assert!(!said.contains("SHA-256"), "known by the validator, and not only by the digest: {said}");
    assert_eq!(report.files[0].fetched, SIZE);
    assert!(requests(&world).len() <= 14, "{} requests", requests(&world).len());
}

#[test]
fn fault_15_a_second_change_of_the_file_leads_to_one_stream() {
    let (old, older, new) =
        (Content::generated(99, SIZE), Content::generated(98, SIZE), Content::generated(1, SIZE));
    let world = replaced(&new, &[old, older, new.clone()], &[2, 5]);
    let report = world.fetch_all();
    assert_eq!(dropped(&world), 2);
    assert_eq!(report.files[0].fetched, SIZE);
    let requests = requests(&world);
    assert!(requests.len() <= 8, "{} requests", requests.len());
    assert!(requests.last().unwrap().range.is_none(), "one stream has one validator: {requests:?}");
}

#[test]
fn fault_15_a_permanently_changed_file_is_an_integrity_error() {
    let (old, new) = (Content::generated(1, SIZE), Content::generated(99, SIZE));
    let world = replaced(&old, &[old.clone(), new], &[2]);
    let error = world.fetch_refused();
    assert!(error.is_integrity() && error.to_string().contains("SHA-256"), "{error}");
    assert!(requests(&world).len() <= 24, "{} requests", requests(&world).len());
    assert!(sent(&world) < 3.0, "{}", sent(&world));
    assert!(world.listing().is_empty(), "{:?}", world.listing());
}

#[test]
fn fault_16_mirrors_may_differ_in_their_validators() {
    let (mut world, content) = world(Fault::status(404), When::After(3));
    let mirror = start_origin("127.0.0.1");
    mirror.put("/x", content.clone());
    mirror.set_etag("/x", "\"quite-another\"");
    let sources = [world.origin.url("/x"), mirror.url("/x")];
    world.model("x", &content, &sources).config.transfer.limits = Limits { connections: 1, per_host: 1 };
    let report = world.fetch_all();
    assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
    assert!(mirror.counters().body_bytes_sent < SIZE, "what the first source brought is kept");
    assert_eq!(report.files[0].fetched, SIZE);
}

#[test]
fn fault_17_if_range_is_not_sent_where_it_yields_the_whole_body() {
    let (world, _) = world(Fault::IgnoreIfRange, When::Always);
    // `fetch_all` checks every request for `If-Range`.
    let report = world.fetch_all();
    assert!(requests(&world).iter().all(|request| request.status == 206));
    assert_eq!((dropped(&world), report.files[0].retries), (0, 0));
    assert!(sent(&world) < 1.05, "{}", sent(&world));
}

#[test]
fn fault_18_a_weak_validator_is_not_sent_and_may_change() {
    for (fault, when) in [
        (Fault::WeakEtag, When::Always),
        (Fault::WeakEtag, When::Every(2)),
        (Fault::Etag("W/\"1\"".to_owned()), When::Every(2)),
    ] {
        let (world, _) = world(fault, when);
        let report = world.fetch_all();
        assert!(requests(&world).iter().all(|request| request.status == 206));
        assert_eq!((dropped(&world), report.files[0].retries), (0, 0));
        assert!(sent(&world) < 1.05, "{}", sent(&world));
    }
}
