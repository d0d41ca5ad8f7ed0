//! A file behind a branch of the Hub. Each redirect is compared with the lock: the first one, and those after a signed
//! URL has expired (fault 35).

use provision_engine::transfer::SourceError;
use provision_testbed::hosts::hub::Hub;

use crate::prelude::*;

const SIZE: u64 = 32 << 20;
const PATH: &str = "vae/x.safetensors";

/// A lock with one file behind the branch `main`; the origin of its bytes caps each connection.
struct Branch {
    fixture: Fixture,
    store: BlockingOrigin,
    hub: Hub,
    content: Content,
    /// The replacement: of the same length, so that only its digest differs.
    other: Content,
}

impl Branch {
    fn new() -> Self {
        let store = start_origin("127.0.0.2");
        store.shape(Shape { rate_per_connection: Some(3 << 20), ..Shape::default() });
        let mut fixture = Fixture::new();
        let hub = Hub::mount(&fixture.origin, &store);
        let (content, other) = (Content::generated(1, SIZE), Content::generated(2, SIZE));
        hub.commit("org/repo", "main", &[(PATH, content.clone())]);
        let branch = fixture.origin.url(&format!("/org/repo/resolve/main/{PATH}"));
        fixture.model(PATH, &content, &[branch]);
        Self { fixture, store, hub, content, other }
    }

    fn replace(&self) -> String {
        self.hub.commit("org/repo", "main", &[(PATH, self.other.clone())])
    }

    /// Runs `run`, and `midway` once a quarter of the bytes has been sent.
    fn midway<T: Send>(&self, run: impl FnOnce() -> T + Send, midway: impl FnOnce()) -> T {
        std::thread::scope(|scope| {
            let run = scope.spawn(run);
            self.store.wait_for(PATIENCE, |counters| counters.body_bytes_sent > SIZE / 4).unwrap();
            midway();
            run.join().unwrap()
        })
    }

    /// Requests for the bytes of the replacement.
    fn requests_for_other(&self) -> u64 {
        self.store.counters().path(&Hub::stored_path(&self.other)).requests
    }
}

#[test]
fn fault_35_an_expired_url_is_renewed_although_the_branch_moved() {
    let Branch { fixture, store, hub, content, .. } = &Branch::new();
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| fixture.fetch_all());
        store.wait_for(PATIENCE, |counters| counters.body_bytes_sent > SIZE / 4).unwrap();
        hub.commit("org/repo", "main", &[("README.md", Content::bytes("news"))]);
        store.expire_signatures();
        run.join().unwrap()
    });
    assert_eq!(report.files[0].fetched, content.size());
    assert_eq!(fixture.events.count(|event| matches!(event, Event::Dropped { .. })), 0);
    assert!(fixture.requests() >= 2, "no second request was sent");
}

#[test]
fn a_file_replaced_on_its_branch_is_not_fetched() {
    let branch = Branch::new();
    let commit = branch.replace();
    let error = branch.fixture.fetch_refused();
    assert!(error.is_integrity(), "{error}");
    let text = error.to_string();
    let (was, is) = (branch.content.sha256_hex(), branch.other.sha256_hex());
    for part in [&*was, &*is, &*commit, "has changed", "command `lock update`", "/resolve/main/"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert_eq!(branch.store.counters().requests, 0);
    assert_eq!(branch.fixture.requests(), 1, "it will not change by asking again");
}

#[test]
fn a_file_replaced_midway_ends_its_source_and_keeps_bytes() {
    let branch = Branch::new();
    let error = branch.midway(
        || branch.fixture.fetch_refused(),
        || {
            branch.replace();
            branch.store.expire_signatures();
        },
    );
    let last = error.attempts.last().map(|attempt| &attempt.error);
    assert!(error.is_integrity() && matches!(last, Some(SourceError::Request(_))), "{error:?}");
    assert!(error.to_string().contains(&branch.other.sha256_hex()), "{error}");
    assert_eq!(branch.requests_for_other(), 0);
    // The branch gets its file back: held bytes are not fetched twice.
    let held = branch.fixture.held();
    assert!(held > 0);
    branch.hub.commit("org/repo", "main", &[(PATH, branch.content.clone())]);
    assert_eq!(branch.fixture.fetch_all().files[0].resumed, held);
}

#[test]
fn a_mirror_takes_over_where_a_branch_has_moved() {
    let mut branch = Branch::new();
    let mirror = start_origin("127.0.0.3");
    mirror.put("/x", branch.content.clone());
    let sources = [branch.fixture.origin.url(&format!("/org/repo/resolve/main/{PATH}")), mirror.url("/x")];
    branch.fixture.model(PATH, &branch.content, &sources).config.transfer.one_source = true;
    branch.midway(
        || branch.fixture.fetch_all(),
        || {
            branch.replace();
            branch.store.expire_signatures();
        },
    );
    assert_eq!(branch.requests_for_other(), 0);
    let sent = mirror.counters().body_bytes_sent;
    assert!(sent > 0 && sent < SIZE * 9 / 10, "{sent}");
}

#[test]
fn a_replaced_file_exits_with_5_and_installs_nothing() {
    for is_midway in [false, true] {
        let branch = Branch::new();
        if is_midway {
            let run = || run(&mut fetch(&branch.fixture, &["--connections", "8"]));
            branch.midway(run, || {
                branch.replace();
                branch.store.expire_signatures();
            })
        } else {
            branch.replace();
            run(&mut fetch(&branch.fixture, &[]))
        }
        .row(format!("midway: {is_midway}"))
        .exits(5)
        .err_has(&["command `lock update`"]);
        branch.fixture.assert_nothing_wrong();
        let left = branch.fixture.listing();
        let is_wrong = |name: &String| name == PATH || name == ".models-installed";
        assert!(!left.iter().any(is_wrong), "{left:?}");
    }
}

#[test]
fn without_a_hub_digest_another_length_means_replaced() {
    let mut fixture = Fixture::new();
    let store = start_origin("127.0.0.2");
    let hub = Hub::mount(&fixture.origin, &store);
    hub.commit("org/repo", "main", &[("config.json", Content::bytes("{\"longer\": 1}"))]);
    let url = fixture.origin.url("/org/repo/resolve/main/config.json");
    fixture.model("config.json", &Content::bytes("{}"), &[url]);
    let error = fixture.fetch_refused();
    assert!(error.is_integrity() && error.to_string().contains("the lock says 2 bytes"), "{error}");
    assert_eq!(fixture.requests(), 1);
}
