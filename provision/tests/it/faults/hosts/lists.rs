//! Lists from others that lead into the user's own network.

use provision_testbed::{BlockingOrigin, Content, OriginConfig};

use crate::lock_commands::{Fixture, has, said};
use crate::program::run;

/// A fixture whose Hub has one file, a server on loopback that no list may lead to, and a netrc file with a login for it.
fn fixture() -> (Fixture, BlockingOrigin) {
    let fixture = Fixture::new();
    fixture.hub.commit("o/r", "main", &[("vae/good.safetensors", Content::generated(1, 3000))]);
    let inside = BlockingOrigin::start(OriginConfig::default()).unwrap();
    inside.put("/admin/restart", Content::generated(2, 400));
    std::fs::write(fixture.path("netrc"), "machine 127.0.0.1 login me password secret\n").unwrap();
    (fixture, inside)
}

fn import(fixture: &Fixture, code: i32, options: &[&str]) -> (String, String) {
    let args = [&["lock", "import", "list"][..], options].concat();
    said(run(fixture.command(&args).env("NETRC", fixture.path("netrc"))), code, &args)
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
            let (out, err) = import(&fixture, 2, &["--format", format]);
            has(&out, &["vae/good.safetensors"]);
            has(&err, &["list", "private or loopback address", "--allow-private"]);
            assert!(!fixture.lock().contains("vae/bad"), "{format}: {}", fixture.lock());
        }
    }
    assert_eq!(inside.counters().connections_accepted, 0);
    // The option of plain http is another one.
    has(&import(&fixture, 2, &["--allow-http"]).1, &["--allow-private"]);
    assert_eq!(inside.counters().connections_accepted, 0);
}

#[test]
fn fault_115_a_list_asks_nothing_over_plain_http() {
    let (fixture, _) = fixture();
    let list = format!("http://models.example/vae/x.bin\nhttp://192.0.2.7/vae/y.bin\n{GOOD}\n");
    std::fs::write(fixture.path("list"), list).unwrap();
    let (out, err) = import(&fixture, 2, &[]);
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
    has(&import(&fixture, 0, &["--allow-private"]).0, &["added      vae/bad.safetensors"]);
    let requests = inside.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.header("authorization").is_none()), "{requests:?}");
    // What the user names is the user's own word, login included.
    let args = ["lock", "add", &url, "--path", "vae/mine.safetensors"];
    said(run(fixture.command(&args).env("NETRC", fixture.path("netrc"))), 0, &args);
    assert!(inside.requests().iter().any(|request| request.header("authorization").is_some()));
}
