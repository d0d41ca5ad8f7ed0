//! Addresses that differ in a parameter that chooses the file.

use crate::lock_commands::{Fixture, has};
use crate::prelude::*;

#[test]
fn fault_114_addresses_that_differ_in_the_query_stay_apart() {
    let fixture = Fixture::new();
    let (a, b) = (Content::generated(1, 3000), Content::generated(2, 3000));
    fixture.site.put("/get", a.clone());
    let is_b =
        When::custom(|request, _| request.query_value("file").is_some_and(|value| value.ends_with("b.bin")));
    fixture.site.inject("/get", Fault::OtherContent(b.clone()).when(is_b));
    let url = |name: &str| format!("{}?file=vae/{name}", fixture.site.url("/get"));
    let out = fixture.run(0, &["lock", "add", &url("a.bin"), &url("b.bin")]).out;
    has(&out, &["added      vae/a.bin", "added      vae/b.bin"]);
    fixture.run(0, &["fetch"]);
    for (name, content) in [("a.bin", &a), ("b.bin", &b)] {
        assert_eq!(std::fs::read(fixture.path("models/vae").join(name)).unwrap(), content.to_vec());
    }
    // A list whose names do not tell the folder: two files, not one.
    std::fs::write(fixture.path("list"), format!("{}\n{}\n", url("x"), url("y"))).unwrap();
    let err = fixture.run(2, &["lock", "import", "list", "--format", "urls", "--allow-private"]).err;
    has(&err, &["list:1", "list:2", "names its folder", "2 failures"]);
    assert!(!err.contains("same path"), "{err}");
}

#[test]
fn fault_114_another_query_does_not_replace_an_entry() {
    let fixture = Fixture::new();
    for path in ["/get", "/x.bin"] {
        fixture.site.put(path, Content::generated(1, 3000));
        let is_b = When::custom(|request, _| request.query_value("id").is_some_and(|value| value == "b"));
        fixture.site.inject(path, Fault::OtherContent(Content::generated(2, 3000)).when(is_b));
    }
    let url = |path: &str, id: &str| format!("{}?id={id}", fixture.site.url(path));
    fixture.run(0, &["lock", "add", &url("/get", "a"), "--path", "vae/"]);
    let before = fixture.lock();
    let err = fixture.run(2, &["lock", "add", &url("/get", "b"), "--path", "vae/"]).err;
    has(&err, &["vae/get: the lock has another file of this address", "--path"]);
    assert_eq!(fixture.lock(), before);
    fixture.run(0, &["lock", "add", &url("/get", "b"), "--path", "vae/b"]);
    // A URL with the file's own name may have a new version.
    for id in ["a", "b"] {
        fixture.run(0, &["lock", "add", &url("/x.bin", id), "--path", "vae/"]);
    }
}

#[test]
fn fault_114_each_address_of_a_lock_has_its_kept_copy() {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/x.bin", Content::generated(1, 3000))]);
    fixture.run(0, &["lock", "add", "hf:o/r/vae/x.bin"]);
    let texts = ["", "# another\n"].map(|more| Content::bytes(fixture.lock() + more));
    fixture.site.put("/get", texts[0].clone());
    let is_b = When::custom(|request, _| request.query_value("lock").is_some_and(|value| value == "b"));
    fixture.site.inject("/get", Fault::OtherContent(texts[1].clone()).when(is_b));
    let fetch = |code: i32, name: &str, text: &Content, option: &[&str]| {
        let url = format!("{}?lock={name}", fixture.site.url("/get"));
        let args = ["fetch", "--lock", &url, "--lock-sha256", &text.sha256_hex()];
        fixture.run(code, &[&args, option].concat());
    };
    fetch(0, "a", &texts[0], &[]);
    fetch(0, "b", &texts[1], &[]);
    fetch(0, "a", &texts[0], &["--offline"]);
    fetch(0, "b", &texts[1], &["--offline"]);
}
