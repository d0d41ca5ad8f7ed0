//! Lists from others: those that lead into the user's own network, that contradict each other, or that cannot be read.

use crate::lock_commands::{Fixture, has};
use crate::prelude::*;

/// A fixture whose Hub has one file, a server on loopback that no list may lead to, and a netrc file with a login for
/// it.
fn fixture() -> (Fixture, BlockingOrigin) {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/good.safetensors", Content::generated(1, 3000))]);
    let inside = BlockingOrigin::start(OriginConfig::default()).unwrap();
    inside.put("/admin/restart", Content::generated(2, 400));
    std::fs::write(fixture.path("netrc"), "machine 127.0.0.1 login me password secret\n").unwrap();
    (fixture, inside)
}

fn import(fixture: &Fixture, code: i32, options: &[&str]) -> Ended {
    let args = [&["lock", "import", "list"][..], options].concat();
    run(fixture.command(&args).env("NETRC", fixture.path("netrc"))).exits(code)
}

const GOOD: &str = "https://huggingface.co/o/r/resolve/main/vae/good.safetensors";

/// The same two files in each format.
fn lists(url: &str) -> Vec<(&'static str, String)> {
    let workflow = |models: &[(&str, &str)]| {
        let models = models
            .iter()
            .map(|(name, url)| serde_json::json!({"name": name, "url": url, "directory": "vae"}));
        let node = serde_json::json!({"id": 1, "type": "VAELoader",
            "properties": {"models": models.collect::<Vec<_>>()}});
        serde_json::json!({"nodes": [node], "links": [], "version": 0.4}).to_string()
    };
    let manager = |name: &str, url: &str| serde_json::json!({"name": name, "type": "VAE", "save_path": "vae", "filename": name, "url": url});
    vec![
        ("workflow", workflow(&[("bad.safetensors", url), ("good.safetensors", GOOD)])),
        (
            "manager",
            serde_json::json!({"models": [manager("bad.safetensors", url), manager("good.safetensors", GOOD)]})
                .to_string(),
        ),
        (
            "aria2",
            format!("{url}\n  out=bad.safetensors\n  dir=models/vae\n{GOOD}\n  out=good.safetensors\n  dir=models/vae\n"),
        ),
        ("pget", format!("{url} models/vae/bad.safetensors\n{GOOD} models/vae/good.safetensors\n")),
    ]
}

#[test]
fn fault_115_a_list_asks_nothing_of_a_private_address() {
    let (fixture, inside) = fixture();
    let port = inside.addr().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "a.localhost", "0.0.0.0"] {
        let url = format!("http://{host}:{port}/admin/restart?now=1");
        for (format, text) in lists(&url) {
            std::fs::write(fixture.path("list"), text).unwrap();
            let Ended { out, err, .. } = import(&fixture, 2, &["--format", format]);
            has(&out, &["vae/good.safetensors"]);
            has(&err, &["list", "private or loopback address", "--allow-private"]);
            assert!(!fixture.lock().contains("vae/bad"), "{format}: {}", fixture.lock());
        }
    }
    assert_eq!(inside.counters().connections_accepted, 0);
    // The option of plain http is another one.
    import(&fixture, 2, &["--allow-http"]).err_has(&["--allow-private"]);
    assert_eq!(inside.counters().connections_accepted, 0);
}

#[test]
fn fault_115_a_list_asks_nothing_over_plain_http() {
    let (fixture, _) = fixture();
    let list = format!("http://models.example/vae/x.bin\nhttp://192.0.2.7/vae/y.bin\n{GOOD}\n");
    std::fs::write(fixture.path("list"), list).unwrap();
    let Ended { out, err, .. } = import(&fixture, 2, &[]);
    has(&out, &["vae/good.safetensors"]);
    has(&err, &["list:1", "plain http", "--allow-http", "list:2", "private", "2 failures"]);
    // A private address says more than the scheme.
    assert_eq!(err.matches("--allow-http").count(), 1, "{err}");
}

#[test]
fn fault_115_the_option_asks_without_a_login() {
    let (fixture, inside) = fixture();
    let url = format!("{}?now=1", inside.url("/admin/restart"));
    std::fs::write(fixture.path("list"), format!("{url} models/vae/bad.safetensors\n")).unwrap();
    import(&fixture, 0, &["--allow-private"]).out_has(&["added      vae/bad.safetensors"]);
    let requests = inside.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.header("authorization").is_none()), "{requests:?}");
    // What the user names is the user's own word, login included.
    let args = ["lock", "add", &url, "--path", "vae/mine.safetensors"];
    run(fixture.command(&args).env("NETRC", fixture.path("netrc"))).exits(0);
    assert!(inside.requests().iter().any(|request| request.header("authorization").is_some()));
}

#[test]
fn fault_113_one_path_of_two_repositories_has_a_mirror() {
    let (fixture, _) = fixture();
    let path = "split_files/vae/x.safetensors";
    let contents = [Content::generated(1, 3000), Content::generated(1, 3000), Content::generated(2, 3000)];
    for (repository, content) in ["o/a", "o/b", "o/c"].into_iter().zip(&contents) {
        fixture.hub.commit(repository, "main", &[(path, content.clone())]);
    }
    let [a, b, c] = ["o/a", "o/b", "o/c"].map(|repository| format!("hf:{repository}/{path}"));
    let digests = [&contents[0], &contents[2]].map(Content::sha256_hex);
    std::fs::write(fixture.path("list"), format!("{a}\n{b}\n{c}\n")).unwrap();
    for args in [&["lock", "import", "list"][..], &["lock", "add", &a, &b, &c]] {
        let err = fixture.run(2, args).err;
        has(
            &err,
            &["vae/x.safetensors is listed twice", "from hf:o/a/", "from hf:o/c/", &digests[0], &digests[1]],
        );
        let lock = fixture.lock();
        has(&lock, &["mirrors = [", "/o/a/resolve/", "/o/b/resolve/"]);
        assert!(lock.matches("[[model]]").count() == 1 && !lock.contains("/o/c/"), "{lock}");
        std::fs::remove_file(fixture.path("models.lock")).unwrap();
    }
    fixture.run(0, &["lock", "add", &a, &b]);
    // The mirror serves the file alone.
    fixture.hub.hide("o/a", "hf_owner");
    fixture.run(0, &["fetch"]);

    // The second source counts if the first one fails.
    std::fs::remove_file(fixture.path("models.lock")).unwrap();
    let Ended { out, .. } = fixture.run(6, &["lock", "import", "list"]);
    has(&out, &["added      vae/x.safetensors", "hf:o/b/"]);

    let checked = |name: &str, digest: &str| {
        let text = format!("{GOOD}\n  out=x\n  dir=models/vae\n  checksum=sha-256={digest}\n");
        std::fs::write(fixture.path(name), text).unwrap();
    };
    checked("one", &digests[0]);
    checked("two", &digests[1]);
    let err = fixture.run(2, &["lock", "import", "one", "two"]).err;
    has(&err, &["vae/x: one:1 and two:1 list different digests", &digests[0], &digests[1]]);
}

#[test]
fn fault_116_an_unreadable_list_keeps_no_other_out() {
    let (fixture, _) = fixture();
    std::fs::write(fixture.path("list"), format!("{GOOD}\n")).unwrap();
    std::fs::write(fixture.path("broken.json"), "{\"nodes\": [").unwrap();
    std::fs::write(fixture.path("binary"), [0xff, 0xfe, 0]).unwrap();
    let bad = ["broken.json", "missing", "binary"];
    let Ended { out, err, .. } = fixture.run(2, &["lock", "import", bad[0], bad[1], "list", bad[2]]);
    has(&out, &["added      vae/good.safetensors"]);
    has(
        &err,
        &[
            "3 failures",
            "broken.json:1: invalid JSON",
            "missing cannot be read",
            "binary is no list of models",
        ],
    );
    std::fs::remove_file(fixture.path("models.lock")).unwrap();
    // The list's own failures have their exit codes.
    std::fs::write(fixture.path("list"), format!("{GOOD}\nhf:o/none/vae/x.bin\n")).unwrap();
    fixture.run(6, &["lock", "import", bad[0], "list"]);
    for list in bad {
        fixture.run(2, &["lock", "import", list]).err_has(&[list]);
    }
}
