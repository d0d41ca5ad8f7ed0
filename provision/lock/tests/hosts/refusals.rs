//! Refusals, private files and wrong statements of hosts: each has its own kind and message.

use provision_lock::listing::{rows, table};
use provision_lock::resolve::Kind;
use provision_testbed::hosts::civitai::Civitai;
use provision_testbed::hosts::github::{GitHub, Limit};
use provision_testbed::hosts::modelscope::ModelScope;
use provision_testbed::{Content, Fault};

use crate::fixture::{Fixture, add_request, block_on, civitai_version, fetch, lock_of, sha};

#[test]
fn a_missing_repository_differs_from_a_private_one() {
    let mut fixture = Fixture::new();
    let hub = fixture.small_hub();
    let entry = fixture.entry("hf:o/r/vae/a.safetensors");
    // Without a token, both get the same answer.
    for repository in ["o/none", "o/r"] {
        hub.hide("o/r", "hf_owner");
        let says = ["no such repository", "private", "HF_TOKEN", repository];
        fixture.assert_refused(&format!("hf:{repository}/vae/a.safetensors"), Kind::Refused, &says);
    }
    fixture.token = Some("hf_other");
    let said = fixture.assert_refused("hf:o/none/vae/a.safetensors", Kind::Gone, &["gone", "scope"]);
    assert!(!said.contains("hf_other"), "{said}");
    // The same for the lock's URL at the commit.
    let verdicts = fixture.check(&entry);
    assert_eq!(verdicts[0].kind(), Some(Kind::Gone), "{}: {}", entry.url, verdicts[0]);
    let error = fixture.build(&add_request("hf:o/r/vae/a.safetensors")).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Gone));
    // The owner's token can read it.
    fixture.token = Some("hf_owner");
    let verdicts = fixture.check(&entry);
    assert_eq!(verdicts[0].kind(), None, "{}", verdicts[0]);
    // An unknown token says nothing about the repository, and the Hub reports that.
    let headers = [
        ("X-Error-Code", "RepoNotFound"),
        ("X-Error-Message", "Invalid credentials in Authorization header"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    fixture.site.inject("*", Fault::Status { code: 401, headers, body: "{}".into() });
    assert_eq!(fixture.refused("hf:o/r/vae/a.safetensors").0, Kind::Refused);
}

#[test]
fn a_host_without_an_answer_has_not_lost_the_file() {
    let fixture = Fixture::new();
    fixture.small_hub();
    let entry = fixture.entry("hf:o/r@main/vae/a.safetensors");
    for (fault, kind) in [
        (Fault::HangUp, Kind::Unreachable),
        (Fault::status(500), Kind::Unreachable),
        (Fault::RetryAfter { status: 429, value: "3600".to_owned() }, Kind::Unreachable),
        (Fault::LoginPage, Kind::Unreachable),
        (Fault::redirect("http://127.0.0.1:1/"), Kind::Unreachable),
        (Fault::status(410), Kind::Gone),
        (Fault::status(404), Kind::Gone),
        (Fault::status(403), Kind::Refused),
    ] {
        fixture.site.inject("*", fault.clone());
        let verdicts = fixture.check(&entry);
        assert_eq!(verdicts[0].kind(), Some(kind), "{fault:?}: {}", verdicts[0]);
        fixture.site.clear_faults("*");
    }
}

#[test]
fn a_too_long_wait_is_an_error_with_its_end() {
    let fixture = Fixture::new();
    let hub = fixture.small_hub();
    let limits: [&dyn Fn(); 2] = [&|| hub.limit_api(0, 3600), &|| hub.limit_resolvers(0, 3600)];
    for limit in limits {
        limit();
        let says = ["answers again at", "3600 s", "HF_TOKEN"];
        fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Unreachable, &says);
        hub.unlimit();
    }
    // The same while bytes are read.
    fixture.site.put("/vae/y.bin", Content::generated(1, 10));
    let whole = provision_testbed::When::custom(|request, _| request.range.is_none());
    fixture
        .site
        .inject("/vae/y.bin", Fault::RetryAfter { status: 429, value: "3600".to_owned() }.when(whole));
    let error = fixture.build(&add_request(&fixture.site.url("/vae/y.bin"))).unwrap_err();
    assert!(error.to_string().contains("answers again at"), "{error}");
    assert!(fixture.waits.lock().unwrap().is_empty(), "no wait");
}

#[test]
fn an_endless_listing_is_an_error() {
    let fixture = Fixture::new();
    let (_, commit) = fixture.hub_with(&Content::generated(1, 10));
    let path = format!("/api/models/o/r/tree/{commit}");
    let next = format!("<{}?recursive=true>; rel=\"next\"", fixture.site.url(&path));
    fixture.site.inject(&path, Fault::Headers(vec![("Link".to_owned(), next)]));
    fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Unreachable, &["next page is this one"]);
    assert!(fixture.requests_to("/tree/") < 5, "{}", fixture.requests_to("/tree/"));

    fixture.site.clear_faults(&path);
    let entry = "{\"type\":\"file\",\"path\":\"x\"},";
    let listing = format!("[{}{}]", entry.repeat(200_000), entry.trim_end_matches(','));
    fixture.site.inject(&path, Fault::Status { code: 200, headers: Vec::new(), body: listing.into() });
    fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Unreachable, &["more than 200000 entries"]);
}

#[test]
fn a_next_page_on_another_host_is_not_requested() {
    let mut fixture = Fixture::new();
    fixture.token = Some("hf_good");
    let (_, commit) = fixture.hub_with(&Content::generated(1, 10));
    let path = format!("/api/models/o/r/tree/{commit}");
    let elsewhere = format!("<{}>; rel=\"next\"", fixture.store.url("/tree?cursor=1"));
    fixture.site.inject(&path, Fault::Headers(vec![("Link".to_owned(), elsewhere)]));
    let (_, said) = fixture.refused("hf:o/r/vae/a.safetensors");
    assert!(said.contains("next page is on another host"), "{said}");
    assert_eq!(fixture.store.counters().requests, 0);
    // A listing that another host answered has no next page on this one, either.
    let listing = Fault::Status {
        code: 200,
        headers: vec![("Link".to_owned(), format!("<{}>; rel=\"next\"", fixture.store.url("/more")))],
        body: "[]".into(),
    };
    fixture.store.inject("/listing", listing);
    fixture.site.replace_faults(&path, Fault::redirect(fixture.store.url("/listing")));
    let (_, said) = fixture.refused("hf:o/r/vae/a.safetensors");
    assert!(said.contains("next page is on another host"), "{said}");
    let asked = fixture.store.requests();
    assert!(asked.iter().all(|request| request.path == "/listing"), "{asked:?}");
    assert!(asked.iter().all(|request| request.header("authorization").is_none()), "{asked:?}");
}

#[test]
fn another_file_of_a_version_is_detected_by_its_length() {
    let fixture = Fixture::new();
    let civitai = Civitai::mount(&fixture.site, &fixture.store);
    let (full, half) = (Content::generated(1, 333_300), Content::generated(2, 150_000));
    let publish = |other: &Content| {
        let files = [("a.safetensors", &full, "fp32"), ("b.safetensors", other, "fp16")];
        civitai.publish(42, civitai_version(&files, None));
    };
    publish(&half);
    let entry = fixture.entry("civitai:42");
    assert_eq!((entry.sha256, entry.size), (sha(&full), full.size()));
    // The site serves the other file.
    fixture.store.put("/elsewhere", half.clone());
    let download = "/api/download/models/42";
    fixture.site.inject(download, Fault::redirect(fixture.store.url("/elsewhere")));
    let (listed, found) = ("with 333 kB", "has 150 kB (150000 bytes)");
    let says = ["\"a.safetensors\"", listed, found, "?fp=", "\"b.safetensors\""];
    fixture.assert_refused("civitai:42", Kind::Differs, &says);
    fixture.site.clear_faults(download);
    // Two files of one length: the digest could be either's, so the bytes are read.
    let twin = Content::generated(9, full.size());
    publish(&twin);
    assert_eq!(fixture.one("civitai:42").sha256, None);
    fixture.store.put("/elsewhere", twin.clone());
    fixture.site.inject(download, Fault::redirect(fixture.store.url("/elsewhere")));
    assert_eq!(fixture.entry("civitai:42").sha256, sha(&twin));
}

#[test]
fn early_access_and_a_challenge_blame_no_token() {
    let mut fixture = Fixture::new();
    let civitai = Civitai::mount(&fixture.site, &fixture.store);
    let files = [("a.safetensors", &Content::generated(1, 3333), "fp32")];
    civitai.publish(420, civitai_version(&files, Some("civ")));
    civitai.sell_until(420, "2026-12-24T08:00:00.000Z");
    for token in [None, Some("civ")] {
        fixture.token = token;
        let page = "https://civitai.com/models/42?modelVersionId=420";
        let says = ["early access until 2026-12-24", page, "or wait"];
        let said = fixture.assert_refused("civitai:420", Kind::Refused, &says);
        assert!(!said.contains("mistyped") && !said.contains("expired"), "{said}");
    }
    let headers = vec![("cf-mitigated".to_owned(), "challenge".to_owned())];
    let challenge = Fault::Status { code: 403, headers, body: "<html>Just a moment...</html>".into() };
    for path in ["/api/v1/model-versions/420", "/api/download/models/420"] {
        fixture.site.inject(path, challenge.clone());
        let said = fixture.refused("civitai:420").1;
        let is_download = path.starts_with("/api/download");
        assert!(said.contains(if is_download { "early access" } else { "challenge" }), "{said}");
        assert!(!said.contains("mistyped"), "{said}");
        fixture.site.clear_faults(path);
    }
}

#[test]
fn githubs_secondary_limit_is_waited_out_for_any_status() {
    for status in [403, 429] {
        let fixture = Fixture::new();
        let github = GitHub::mount(&fixture.site, &fixture.store);
        github.upload("o/r", "v1", "x.onnx", &Content::generated(1, 10), true);
        github.limit(Some(Limit::Secondary { status, seconds: 1 }));
        let limited = github.clone();
        let resolver = fixture.resolver_that_waits(move || limited.limit(None));
        block_on(resolver.resolve(&"github:o/r@v1/x.onnx".parse().unwrap())).unwrap();
        fixture.assert_waited();
        github.limit(Some(Limit::Secondary { status, seconds: 900 }));
        fixture.assert_refused("github:o/r@v1/x.onnx", Kind::Unreachable, &["answers again at"]);
    }
}

#[test]
fn a_private_releases_asset_is_locked_at_the_api() {
    let mut fixture = Fixture::new();
    let github = GitHub::mount(&fixture.site, &fixture.store);
    let (content, old) = (Content::generated(1, 70_000), Content::generated(2, 80_000));
    github.upload("o/r", "v1", "x.onnx", &content, true);
    github.upload("o/r", "v1", "old.onnx", &old, false);
    fixture.token = Some("ghp");
    let public = fixture.one("github:o/r@v1/x.onnx");
    assert_eq!(public.url.as_url().as_str(), "https://github.com/o/r/releases/download/v1/x.onnx");

    github.hide("o/r", "ghp");
    let add = |source: &str| {
        let mut request = add_request(source);
        request.explicit = Some("upscale_models/".to_owned());
        fixture.build(&request).unwrap_or_else(|error| panic!("{error}")).remove(0)
    };
    let entries = [add("github:o/r@v1/x.onnx"), add("github:o/r@v1/old.onnx")];
    assert_eq!(entries[0].url.as_url().as_str(), "https://api.github.com/repos/o/r/releases/assets/1");
    assert_eq!((entries[0].sha256, entries[1].sha256), (sha(&content), sha(&old)));
    assert_eq!(entries[0].source.as_deref(), Some("github:o/r@v1/x.onnx"));
    fetch(&fixture, &entries);
    let installed = std::fs::read(fixture.destination().join("upscale_models/x.onnx")).unwrap();
    assert_eq!(installed, content.to_vec());
    let leaks = fixture.store.requests().iter().any(|request| request.header("authorization").is_some());
    assert!(!leaks, "the storage is another host");
    let verdicts = fixture.check(&entries[0]);
    assert_eq!(verdicts[0].kind(), None, "{}", verdicts[0]);
    // Without a token, the message names the missing one.
    fixture.token = None;
    let verdicts = fixture.check(&entries[0]);
    assert!(verdicts[0].to_string().contains("GITHUB_TOKEN"), "{}", verdicts[0]);
}

#[test]
fn a_release_is_locked_at_the_api_if_its_public_url_differs() {
    let mut fixture = Fixture::new();
    let github = GitHub::mount(&fixture.site, &fixture.store);
    let content = Content::generated(1, 70_000);
    github.upload("o/r", "v1", "x.onnx", &content, true);
    github.upload("o/r", "v1", "old.onnx", &content, false);
    let public = |name: &str| format!("/o/r/releases/download/v1/{name}");
    let address = |fixture: &Fixture| fixture.one("github:o/r@v1/x.onnx").url.as_url().to_string();
    let at_api = "https://api.github.com/repos/o/r/releases/assets/1";
    fixture.token = Some("ghp");
    // The public URL serves another file.
    fixture.store.inject("*", Fault::OtherContent(Content::generated(2, 71_000)));
    assert_eq!(address(&fixture), at_api);
    fixture.store.clear_faults("*");
    // No answer. Without a declared digest, the bytes are needed, so this is an error.
    for status in [429, 503] {
        let fault = Fault::RetryAfter { status, value: "3600".to_owned() };
        for name in ["x.onnx", "old.onnx"] {
            fixture.site.inject(&public(name), fault.clone());
        }
        assert_eq!(address(&fixture), at_api, "{status}");
        fixture.refused("github:o/r@v1/old.onnx");
    }
    // Another server replaces the API, with and without a token: the public host does not belong to it.
    fixture.public_github = true;
    assert_eq!(address(&fixture), at_api);
    fixture.token = None;
    assert_eq!(address(&fixture), at_api);
}

#[test]
fn a_file_of_modelscope_is_listed_as_moving() {
    let fixture = Fixture::new();
    let modelscope = ModelScope::mount(&fixture.site);
    modelscope.put("o/m", "master", "vae/x.safetensors", Content::generated(1, 700));
    let entry = fixture.entry("modelscope:o/m/vae/x.safetensors");
    let table = table(&rows(&lock_of(&[entry]).models().iter().collect::<Vec<_>>()), None);
    assert!(table.contains("moving  modelscope:o/m/vae/x.safetensors"), "{table}");
}
