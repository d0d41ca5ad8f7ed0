//! A file behind a branch of the Hub: what its redirect says is held against the lock whenever it is asked for, first and
//! after a signed address has expired (fault 35).

use provision_core::event::Event;
use provision_engine::transfer::SourceError;
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, Content, Shape};

use crate::program::{fetch, run};
use crate::world::{PATIENCE, World, start_origin};

const SIZE: u64 = 32 << 20;
const PATH: &str = "vae/x.safetensors";

/// A lock with one file behind the branch `main`, whose bytes lie on a store that caps each connection.
struct Branch {
    world: World,
    store: BlockingOrigin,
    hub: Hub,
    content: Content,
    /// What somebody puts in its place: as long, so that only its digest tells.
    other: Content,
}

impl Branch {
    fn new() -> Self {
        let store = start_origin("127.0.0.2");
        store.shape(Shape { rate_per_connection: Some(3 << 20), ..Shape::default() });
        let mut world = World::new();
        let hub = Hub::mount(&world.origin, &store);
        let (content, other) = (Content::generated(1, SIZE), Content::generated(2, SIZE));
        hub.commit("org/repo", "main", &[(PATH, content.clone())]);
        let branch = world.origin.url(&format!("/org/repo/resolve/main/{PATH}"));
        world.model(PATH, &content, &[branch]);
        Self { world, store, hub, content, other }
    }

    fn replace(&self) -> String {
        self.hub.commit("org/repo", "main", &[(PATH, self.other.clone())])
    }

    /// Does `run`, and `midway` once a quarter of the bytes has been sent.
    fn midway<T: Send>(&self, run: impl FnOnce() -> T + Send, midway: impl FnOnce()) -> T {
        std::thread::scope(|scope| {
            let run = scope.spawn(run);
            self.store.wait_for(PATIENCE, |counters| counters.body_bytes_sent > SIZE / 4).unwrap();
            midway();
            run.join().unwrap()
        })
    }

    /// Requests for the bytes of the file that took the other's place.
    fn asked_for_other(&self) -> u64 {
        self.store.counters().path(&Hub::stored_path(&self.other)).requests
    }
}

#[test]
fn fault_35_an_expired_address_is_renewed_although_the_branch_went_on_without_this_file() {
    let Branch { world, store, hub, content, .. } = &Branch::new();
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| world.fetch_all());
        store.wait_for(PATIENCE, |counters| counters.body_bytes_sent > SIZE / 4).unwrap();
        hub.commit("org/repo", "main", &[("README.md", Content::bytes("news"))]);
        store.expire_signatures();
        run.join().unwrap()
    });
    assert_eq!(report.files[0].fetched, content.size());
    assert_eq!(world.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
    assert!(world.origin.counters().requests >= 2, "it was not asked again");
}

#[test]
fn a_file_that_was_replaced_behind_its_branch_is_not_fetched_at_all() {
    let branch = Branch::new();
    let commit = branch.replace();
    let error = branch.world.fetch_refused();
    assert!(error.is_integrity(), "{error}");
    let text = error.to_string();
    let (was, is) = (branch.content.sha256_hex(), branch.other.sha256_hex());
    for part in [&*was, &*is, &*commit, "has changed", "cargo xtask lock update", "/resolve/main/"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert_eq!(branch.store.counters().requests, 0);
    assert_eq!(branch.world.origin.counters().requests, 1, "it will not change by asking again");
}

#[test]
fn a_file_that_is_replaced_midway_stops_its_source_and_keeps_what_is_right() {
    let branch = Branch::new();
    let error = branch.midway(
        || branch.world.fetch_refused(),
        || {
            branch.replace();
            branch.store.expire_signatures();
        },
    );
    let last = error.attempts.last().map(|attempt| &attempt.error);
    assert!(error.is_integrity() && matches!(last, Some(SourceError::Request(_))), "{error:?}");
    assert!(error.to_string().contains(&branch.other.sha256_hex()), "{error}");
    assert_eq!(branch.asked_for_other(), 0);
    // The branch gets its file back: what had come is not paid for twice.
    let held = branch.world.held();
    assert!(held > 0);
    branch.hub.commit("org/repo", "main", &[(PATH, branch.content.clone())]);
    assert_eq!(branch.world.fetch_all().files[0].resumed, held);
}

#[test]
fn a_mirror_takes_over_where_a_branch_went_on() {
    let mut branch = Branch::new();
    let mirror = start_origin("127.0.0.3");
    mirror.put("/x", branch.content.clone());
    let sources = [branch.world.origin.url(&format!("/org/repo/resolve/main/{PATH}")), mirror.url("/x")];
    branch.world.model(PATH, &branch.content, &sources);
    branch.midway(
        || branch.world.fetch_all(),
        || {
            branch.replace();
            branch.store.expire_signatures();
        },
    );
    assert_eq!(branch.asked_for_other(), 0);
    let sent = mirror.counters().body_bytes_sent;
    assert!(sent > 0 && sent < SIZE * 9 / 10, "{sent}");
}

#[test]
fn the_program_ends_with_5_for_a_replaced_file_and_installs_nothing() {
    for is_midway in [false, true] {
        let branch = Branch::new();
        let ended = if is_midway {
            let run = || run(&mut fetch(&branch.world, &["--connections", "8"]));
            branch.midway(run, || {
                branch.replace();
                branch.store.expire_signatures();
            })
        } else {
            branch.replace();
            run(&mut fetch(&branch.world, &[]))
        };
        assert_eq!(ended.code, Some(5), "midway: {is_midway}: {}", ended.err);
        assert!(ended.err.contains("cargo xtask lock update"), "{}", ended.err);
        branch.world.assert_nothing_wrong();
        let left = branch.world.listing();
        let is_wrong = |name: &String| name == PATH || name == ".models-installed";
        assert!(!left.iter().any(is_wrong), "{left:?}");
    }
}

#[test]
fn another_length_is_enough_where_the_hub_says_no_digest() {
    let mut world = World::new();
    let store = start_origin("127.0.0.2");
    let hub = Hub::mount(&world.origin, &store);
    hub.commit("org/repo", "main", &[("config.json", Content::bytes("{\"longer\": 1}"))]);
    let url = world.origin.url("/org/repo/resolve/main/config.json");
    world.model("config.json", &Content::bytes("{}"), &[url]);
    let error = world.fetch_refused();
    assert!(error.is_integrity() && error.to_string().contains("the lock says 2 bytes"), "{error}");
    assert_eq!(world.origin.counters().requests, 1);
}
