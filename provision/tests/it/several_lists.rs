//! `lock import` of several lists at once: lists that cannot be read, paths that several of them name, and what is said
//! about it.

use std::collections::HashSet;
use std::io::Read as _;

use crate::lock_commands::{Fixture, has};
use crate::prelude::*;
use crate::program::{Ended, start_in_terminal, terminal};

const PATH: &str = "vae/x.safetensors";

/// A fixture whose Hub has the file in these repositories, each with a content of this seed.
fn hub(repositories: &[(&str, u64)]) -> Fixture {
    let fixture = Fixture::new();
    for (repository, seed) in repositories {
        fixture.hub.commit(repository, "main", &[(PATH, Content::generated(*seed, 3000))]);
    }
    fixture
}

fn source(repository: &str) -> String {
    format!("hf:{repository}/{PATH}")
}

/// Writes a list of these sources.
fn list(fixture: &Fixture, name: &str, sources: &[String]) {
    std::fs::write(fixture.path(name), sources.join("\n") + "\n").unwrap();
}

/// A workflow with one model.
fn workflow(name: &str, url: &str, hash: Option<&str>) -> String {
    let mut model = serde_json::json!({"name": name, "url": url, "directory": "vae"});
    if let Some(hash) = hash {
        model["hash"] = hash.into();
        model["hash_type"] = "SHA256".into();
    }
    let node = serde_json::json!({"id": 1, "type": "VAELoader", "properties": {"models": [model]}});
    serde_json::json!({"nodes": [node]}).to_string()
}

fn url(repository: &str) -> String {
    format!("https://huggingface.co/{repository}/resolve/main/{PATH}")
}

/// The addresses of the lock's only entry, in order.
fn addresses(fixture: &Fixture) -> Vec<String> {
    let lock = fixture.lock();
    assert_eq!(lock.matches("[[model]]").count(), 1, "{lock}");
    let repository = |address: &str| address.split("/resolve/").next().map(str::to_owned);
    lock.split('"').filter(|word| word.starts_with("http")).filter_map(repository).collect()
}

#[test]
fn every_kind_of_unreadable_list_is_reported_and_ends_no_other() {
    let fixture = hub(&[("o/a", 1)]);
    list(&fixture, "good", &[source("o/a")]);
    std::fs::write(fixture.path("broken.json"), "{\"nodes\": [").unwrap();
    std::fs::write(fixture.path("latin"), [b'v', 0xe4, b'e']).unwrap();
    std::fs::write(fixture.path("empty"), "").unwrap();
    std::fs::create_dir(fixture.path("folder")).unwrap();
    let bad = ["missing", "broken.json", "latin", "empty", "folder"];
    let Ended { out, err, .. } = fixture.run(2, &[&["lock", "import"][..], &bad, &["good"]].concat());
    has(&out, &["added      vae/x.safetensors", "models.lock: 1 entry added"]);
    has(
        &err,
        &["5 failures", "missing cannot be read", "broken.json:1: invalid JSON", "latin ", "empty is empty"],
    );
    has(&err, &["folder is a folder", "its files"]);
}

#[test]
fn json_without_models_is_a_line_and_no_failure() {
    let fixture = hub(&[("o/a", 1)]);
    std::fs::write(fixture.path("w.json"), workflow("x.safetensors", &url("o/a"), None)).unwrap();
    std::fs::write(
        fixture.path("index.json"),
        r#"[{"title": "Image", "templates": [{"name": "w", "guide": "https://docs.example/w"}]}]"#,
    )
    .unwrap();
    std::fs::write(fixture.path("other.json"), r#"{"files": [{"at": "https://h/vae/y.safetensors?x=1"}]}"#)
        .unwrap();
    let Ended { err, .. } = fixture.run(0, &["lock", "import", "w.json", "index.json"]);
    has(&err, &["note: 1 JSON file without any model, so not a list: index.json"]);
    // A form that is not known, but names models: nothing is lost silently.
    has(
        &fixture.run(2, &["lock", "import", "w.json", "other.json"]).err,
        &["other.json has none of the known formats"],
    );
    // The only list.
    fixture.run(2, &["lock", "import", "index.json"]).err_has(&["index.json is JSON that names no model"]);
    has(
        &fixture.run(2, &["lock", "import", "w.json", "index.json", "--format", "workflow"]).err,
        &["index.json"],
    );
}

#[test]
fn a_contradiction_of_two_lists_costs_its_path_only() {
    let fixture = hub(&[("o/a", 1), ("o/b", 2)]);
    fixture.hub.commit("o/c", "main", &[("vae/y.safetensors", Content::generated(3, 3000))]);
    let [a, b] = [1, 2].map(|seed| Content::generated(seed, 3000).sha256_hex());
    std::fs::write(fixture.path("a.json"), workflow("x.safetensors", &url("o/a"), Some(&a))).unwrap();
    std::fs::write(fixture.path("b.json"), workflow("x.safetensors", &url("o/b"), Some(&b))).unwrap();
    list(&fixture, "c", &["hf:o/c/vae/y.safetensors".to_owned()]);
    let Ended { out, err, .. } = fixture.run(2, &["lock", "import", "a.json", "b.json", "c"]);
    has(&out, &["added      vae/y.safetensors"]);
    has(&err, &["vae/x.safetensors", "a.json, node 1", "b.json, node 1", &a, &b]);
    assert!(!fixture.lock().contains(PATH), "{}", fixture.lock());
    // The option that the message gives ends it.
    let option = option_in(&err);
    assert_eq!(option, "hf:o/b@main/vae/x.safetensors=vae/x-2.safetensors");
    fixture.run(0, &["lock", "import", "a.json", "b.json", "c", "--path-of", &option]);
    has(&fixture.lock(), &[PATH, "vae/x-2.safetensors", &a, &b]);
}

/// The value of the first `--path-of` in a message.
fn option_in(err: &str) -> String {
    let rest = err.split("--path-of ").nth(1).unwrap_or_else(|| panic!("{err}"));
    rest.split(['`', '\n', ' ']).next().unwrap().trim_matches('\'').to_owned()
}

#[test]
fn different_files_of_one_path_have_a_ready_option() {
    let fixture = hub(&[("o/a", 1), ("o/b", 2)]);
    list(&fixture, "a", &[source("o/a")]);
    // Its own name at its source tells it apart.
    fixture.hub.commit("o/b", "main", &[("vae/z.safetensors", Content::generated(2, 3000))]);
    let own = url("o/b").replace("x.safe", "z.safe");
    std::fs::write(fixture.path("b.json"), workflow("x.safetensors", &own, None)).unwrap();
    for dry in [&["--dry-run"][..], &[]] {
        let args = [&["lock", "import", "a", "b.json"], dry].concat();
        let Ended { err, .. } = fixture.run(2, &args);
        has(&err, &["b.json, node 1", "is listed twice", "from hf:o/a/", "from hf:o/b@main/"]);
        let option = option_in(&err);
        assert_eq!(option, "hf:o/b@main/vae/z.safetensors=vae/z.safetensors");
        let args = [&["lock", "import", "a", "b.json", "--path-of", &option], dry].concat();
        fixture.run(0, &args).out_has(&["vae/x.safetensors", "vae/z.safetensors"]);
    }
}

#[test]
fn further_sources_of_equal_bytes_are_mirrors_in_order() {
    let repositories = ["o/a", "o/b", "o/c", "o/d", "o/e"];
    let fixture = hub(&repositories.map(|repository| (repository, 1)));
    let expected = repositories.map(|repository| format!("https://huggingface.co/{repository}"));
    for repository in repositories {
        list(&fixture, repository.strip_prefix("o/").unwrap(), &[source(repository)]);
    }
    for _ in 0..3 {
        let out = fixture.run(0, &["lock", "import", "a", "b", "c", "d", "e", "a"]).out;
        has(&out, &["models.lock: 1 entry added"]);
        assert_eq!(addresses(&fixture), expected);
        std::fs::remove_file(fixture.path("models.lock")).unwrap();
    }
    // A dry run says the same and writes nothing.
    let out = fixture.run(0, &["lock", "import", "a", "b", "--dry-run"]).out;
    has(&out, &["would add     vae/x.safetensors", "1 entry would be added"]);
    assert!(!fixture.path("models.lock").exists());
}

#[test]
fn a_failed_first_source_leaves_the_path_to_the_second() {
    let fixture = hub(&[("o/a", 1), ("o/b", 1), ("o/c", 1)]);
    fixture.hub.gate("o/a", "hf_owner");
    let digest = Content::generated(1, 3000).sha256_hex();
    for hash in [None, Some(digest.as_str())] {
        for name in ["a", "b", "c", "gone"] {
            let text = workflow("x.safetensors", &url(&format!("o/{name}")), hash);
            std::fs::write(fixture.path(name), text).unwrap();
        }
        let Ended { out, err, .. } = fixture.run(6, &["lock", "import", "a", "gone", "b", "c"]);
        has(&out, &["added      vae/x.safetensors"]);
        has(&err, &["a, node 1", "gone, node 1"]);
        assert_eq!(addresses(&fixture), ["o/b", "o/c"].map(|name| format!("https://huggingface.co/{name}")));
        std::fs::remove_file(fixture.path("models.lock")).unwrap();
    }
}

#[test]
fn the_source_with_a_digest_is_the_entry_and_nothing_is_read() {
    let fixture = hub(&[("o/a", 1)]);
    fixture.site.put("/plain/vae/x.safetensors", Content::generated(1, 3000));
    let plain = fixture.site.url("/plain/vae/x.safetensors");
    for sources in [[plain.clone(), source("o/a")], [source("o/a"), plain.clone()]] {
        list(&fixture, "list", &sources);
        for option in ["--dry-run", "--allow-private"] {
            let args = ["lock", "import", "list", "--allow-private", option];
            let Ended { out, err, .. } =
                fixture.run(2, if option == "--dry-run" { &args } else { &args[..4] });
            has(&out, &["vae/x.safetensors", "hf:o/a/"]);
            assert!(!out.contains("would read"), "{out}");
            has(&err, &["no digest", &plain, "lock add", "--mirror", "--path-of"]);
        }
        assert_eq!(addresses(&fixture), ["https://huggingface.co/o/a"]);
        std::fs::remove_file(fixture.path("models.lock")).unwrap();
    }
}

/// A host that says no length of this file.
fn without_length(fixture: &Fixture, path: &str, content: Content) -> String {
    fixture.site.put(path, content);
    let fault = Fault::All(vec![Fault::IgnoreRange { accept_ranges: false }, Fault::Chunked]);
    fixture.site.inject(path, fault);
    fixture.site.url(path)
}

#[test]
fn equal_digests_are_one_entry_where_one_host_says_no_length() {
    let fixture = hub(&[("o/a", 1)]);
    let content = Content::generated(1, 3000);
    let plain = without_length(&fixture, "/plain/vae/x.safetensors", content.clone());
    let of_plain = workflow("x.safetensors", &plain, Some(&content.sha256_hex()));
    std::fs::write(fixture.path("plain.json"), of_plain).unwrap();
    std::fs::write(fixture.path("hub.json"), workflow("x.safetensors", &url("o/a"), None)).unwrap();
    for lists in [["plain.json", "hub.json"], ["hub.json", "plain.json"]] {
        let args = ["lock", "import", lists[0], lists[1], "--allow-private"];
        fixture.run(0, &[&args[..], &["--dry-run"]].concat()).out_has(&["would add     vae/x.safetensors"]);
        fixture.run(0, &args);
        assert_eq!(addresses(&fixture).len(), 2, "{}", fixture.lock());
        std::fs::remove_file(fixture.path("models.lock")).unwrap();
    }
    let asked = fixture.site.requests().iter().filter(|request| request.path.starts_with("/plain/")).count();
    assert_eq!(asked, 4, "a probe for each command, and no read");
}

#[test]
fn files_of_unknown_size_are_not_said_to_have_0_bytes() {
    let fixture = Fixture::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("/vae/{name}.bin"));
    let [a, b] = [a, b].map(|path| without_length(&fixture, &path, Content::generated(1, 3000)));
    fixture.site.put(&c, Content::generated(3, 3000));
    list(&fixture, "unknown", &[a.clone(), b.clone()]);
    list(&fixture, "some", &[a, b, fixture.site.url(&c)]);
    let run = |args: &[&str]| fixture.run(0, &[&["lock", "import", "--allow-private"], args].concat());
    run(&["unknown", "--dry-run"]).out_has(&["2 files to be read first: unknown size"]);
    run(&["some", "--dry-run"]).out_has(&["3 files to be read first: 3 kB, and 2 of unknown size"]);
    run(&["some"]).err_has(&["3 files to be read for their digests: 3 kB, and 2 of unknown size"]);
}

#[test]
fn a_typed_path_replaces_an_entry_of_the_hosts_name() {
    let fixture = Fixture::new();
    for (path, seed) in [("/1/download", 1), ("/2/download", 2)] {
        fixture.site.put(path, Content::generated(seed, 3000));
        let header = ("Content-Disposition".to_owned(), "attachment; filename=x.safetensors".to_owned());
        fixture.site.inject(path, Fault::Headers(vec![header]));
    }
    let [first, second] = ["/1/download", "/2/download"].map(|path| fixture.site.url(path));
    fixture.run(0, &["lock", "add", &first, "--path", "vae/"]);
    fixture.run(2, &["lock", "add", &second, "--path", "vae/"]).err_has(&["the host gives this name"]);
    fixture.run(0, &["lock", "add", &second, "--path", PATH]).out_has(&["updated    vae/x.safetensors"]);
}

#[test]
fn an_invalid_path_is_an_error_with_the_imports_option() {
    let fixture = hub(&[("o/a", 1), ("o/b", 2)]);
    let write = |file: &str, name: &str, repository: &str| {
        std::fs::write(fixture.path(file), workflow(name, &url(repository), None)).unwrap();
    };
    write("a.json", "../../x.safetensors", "o/a");
    let err = fixture.run(2, &["lock", "import", "a.json"]).err;
    has(&err, &["would leave", "in an import with `--path-of hf:o/a@main/vae/x.safetensors=FOLDER/NAME`"]);
    // Another spelling of a name is no other file everywhere.
    write("a.json", "x.safetensors", "o/a");
    write("b.json", "X.safetensors", "o/b");
    let err = fixture.run(2, &["lock", "import", "a.json", "b.json"]).err;
    has(&err, &["in an import with `--path-of hf:o/b@main/vae/x.safetensors=FOLDER/NAME`"]);
    let option = "hf:o/b@main/vae/x.safetensors=vae/y.safetensors";
    fixture.run(0, &["lock", "import", "a.json", "b.json", "--path-of", option]);
}

#[test]
fn a_branch_and_a_commit_of_one_file_are_one_entry() {
    let fixture = hub(&[("o/a", 1)]);
    let commit = fixture.hub.commit("o/a", "main", &[("other.txt", Content::bytes("1"))]);
    list(&fixture, "list", &[format!("hf:o/a@main/{PATH}"), format!("hf:o/a@{commit}/{PATH}")]);
    fixture.run(0, &["lock", "import", "list"]);
    assert_eq!(addresses(&fixture), ["https://huggingface.co/o/a"]);
    // The branch moves on; the file stays.
    fixture.hub.commit("o/a", "main", &[("other.txt", Content::bytes("2"))]);
    std::fs::remove_file(fixture.path("models.lock")).unwrap();
    fixture.run(0, &["lock", "import", "list"]);
    assert_eq!(addresses(&fixture).len(), 2);
    has(&fixture.lock(), &[&commit]);
}

/// A slow Hub with so many files, and a list of them, `list`.
fn slow(count: u64) -> (Fixture, Vec<String>) {
    let (fixture, names, _) = many(count);
    fixture.site.shape(Shape { first_byte_delay: Duration::from_millis(100), ..Shape::default() });
    (fixture, names)
}

/// A Hub with so many files, a list of them, their names, and their commit.
fn many(count: u64) -> (Fixture, Vec<String>, String) {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..count).map(|at| format!("vae/{at}.safetensors")).collect();
    let files = names.iter().zip(1..).map(|(name, seed)| (name.as_str(), Content::generated(seed, 1000)));
    let commit = fixture.hub.commit("o/a", "main", &files.collect::<Vec<_>>());
    let sources: Vec<String> = names.iter().map(|name| format!("hf:o/a/{name}")).collect();
    list(&fixture, "list", &sources);
    (fixture, names, commit)
}

#[test]
fn many_files_are_asked_for_at_the_same_time() {
    let (fixture, names) = slow(40);
    let began = Instant::now();
    let Ended { out, err, .. } = fixture.run(0, &["lock", "import", "list"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    // In the order of the list, and each repository's listing once.
    let written: Vec<&str> =
        out.lines().filter_map(|line| line.split_whitespace().nth(1)).take(names.len()).collect();
    assert_eq!(written, names);
    assert_eq!(fixture.site.requests().iter().filter(|request| request.path.starts_with("/api/")).count(), 2);
    assert_eq!(err, "", "a short wait has no line in a log");
}

#[test]
fn a_terminal_shows_how_many_files_were_asked_for() {
    let (fixture, _) = slow(80);
    let (mut user, end) = terminal();
    let mut command = fixture.command(&["lock", "import", "list"]);
    let running = start_in_terminal(&mut command, end);
    drop(command);
    // A terminal without programs gives an error after the last byte.
    let mut seen = Vec::new();
    let _ = user.read_to_end(&mut seen);
    running.end().exits(0);
    let seen = String::from_utf8(seen).unwrap();
    has(&seen, &[" of 80 files", "asked "]);
    assert!(seen.ends_with("\r\u{1b}[2K") && !seen.contains('\n'), "{seen:?}");
}

#[test]
fn one_wait_that_a_host_asks_for_is_kept_by_all_and_said_once() {
    let (fixture, names, commit) = many(12);
    let limited = Fault::RetryAfter { status: 429, value: "1".to_owned() };
    for name in &names[..8] {
        let path = format!("/o/a/resolve/{commit}/{name}");
        fixture.site.inject(&path, limited.clone().when(When::First(1)));
    }
    let began = Instant::now();
    let err = fixture.run(0, &["lock", "import", "list"]).err;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(err.matches("asks to wait").count(), 1, "{err}");
}

#[test]
fn models_without_a_url_are_counted_and_the_result_comes_last() {
    let fixture = hub(&[("o/a", 1)]);
    let mut workflow: serde_json::Value =
        serde_json::from_str(&workflow("x.safetensors", &url("o/a"), None)).unwrap();
    let nodes = workflow["nodes"].as_array_mut().unwrap();
    for at in 0..30 {
        nodes.push(serde_json::json!({"id": at + 10, "type": "L", "widgets_values": [format!("{at}.pth")]}));
    }
    std::fs::write(fixture.path("w.json"), workflow.to_string()).unwrap();
    let Ended { out, err, .. } = fixture.run(0, &["lock", "import", "w.json"]);
    has(&err, &["30 models", "0.pth", "more", "--verbose"]);
    assert!(err.lines().count() < 8, "{err}");
    assert!(out.lines().last().unwrap().ends_with("models.lock: 1 entry added, 3 kB"), "{out}");
    let err = fixture.run(0, &["lock", "import", "w.json", "--verbose"]).err;
    let named: HashSet<&str> = err.lines().filter_map(|line| line.split(": ").last()).collect();
    assert!((0..30).all(|at| named.contains(format!("{at}.pth").as_str())), "{err}");
}
