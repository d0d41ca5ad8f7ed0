//! What hosts refuse, hide, or say wrongly: that it is told apart, and what is said of it.

use std::sync::Arc;
use std::time::Duration;

use provision_http::metadata::OnWait;
use provision_lock::check::check;
use provision_lock::listing::{rows, table};
use provision_lock::resolve::{Kind, Resolver};
use provision_testbed::hosts::civitai::{Civitai, File, Version};
use provision_testbed::hosts::github::{GitHub, Limit};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::hosts::modelscope::ModelScope;
use provision_testbed::{Content, Fault};

use crate::world::{World, block_on, fetch, lock_of, order, sha};

#[test]
fn a_repository_that_is_gone_is_told_from_one_that_may_be_private_by_a_token() {
    let mut world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    let entry = world.make(&order("hf:o/r/vae/a.safetensors")).unwrap().remove(0);
    let lock = lock_of(&[entry]);
    // A stranger is told the same of both.
    for repository in ["o/none", "o/r"] {
        hub.hide("o/r", "hf_owner");
        let (kind, said) = world.refused(&format!("hf:{repository}/vae/a.safetensors"));
        assert_eq!(kind, Kind::Refused, "{said}");
        for part in ["no such repository", "private", "HF_TOKEN", repository] {
            assert!(said.contains(part), "{said}");
        }
    }
    world.token = Some("hf_other");
    let (kind, said) = world.refused("hf:o/none/vae/a.safetensors");
    assert_eq!(kind, Kind::Gone, "{said}");
    assert!(said.contains("gone") && said.contains("scope") && !said.contains("hf_other"), "{said}");
    // By its address in the lock, too, at the commit.
    let url = lock.models()[0].sources[0].clone();
    let verdicts = block_on(check(&mut world.resolver(), &lock.models()[0]));
    assert_eq!(verdicts[0].kind(), Some(Kind::Gone), "{url}: {}", verdicts[0]);
    let error = world.make(&order("hf:o/r/vae/a.safetensors")).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Gone));
    // Its owner sees it.
    world.token = Some("hf_owner");
    let verdicts = block_on(check(&mut world.resolver(), &lock.models()[0]));
    assert_eq!(verdicts[0].kind(), None, "{}", verdicts[0]);
    // A token that nobody knows says nothing about the repository, and the Hub says so.
    let headers = [
        ("X-Error-Code", "RepoNotFound"),
        ("X-Error-Message", "Invalid credentials in Authorization header"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    world.site.inject("*", Fault::Status { code: 401, headers, body: "{}".into() });
    assert_eq!(world.refused("hf:o/r/vae/a.safetensors").0, Kind::Refused);
}

#[test]
fn nobody_who_gives_no_answer_is_said_to_have_lost_a_file() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    let entry = world.make(&order("hf:o/r@main/vae/a.safetensors")).unwrap().remove(0);
    let lock = lock_of(&[entry]);
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
        world.site.inject("*", fault.clone());
        let verdicts = block_on(check(&mut world.resolver(), &lock.models()[0]));
        assert_eq!(verdicts[0].kind(), Some(kind), "{fault:?}: {}", verdicts[0]);
        world.site.clear_faults("*");
    }
}

#[test]
fn a_wait_longer_than_anybody_waits_is_an_error_that_says_until_when() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    let limits: [&dyn Fn(); 2] = [&|| hub.limit_api(0, 3600), &|| hub.limit_resolvers(0, 3600)];
    for limit in limits {
        limit();
        let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
        assert_eq!(kind, Kind::Unreachable, "{said}");
        assert!(
            said.contains("answers again at") && said.contains("3600 s") && said.contains("HF_TOKEN"),
            "{said}"
        );
        hub.unlimit();
    }
    // Where bytes have to be read, too.
    world.site.put("/vae/y.bin", Content::generated(1, 10));
    let whole = provision_testbed::When::custom(|request, _| request.range.is_none());
    world.site.inject("/vae/y.bin", Fault::RetryAfter { status: 429, value: "3600".to_owned() }.when(whole));
    let error = world.make(&order(&world.site.url("/vae/y.bin"))).unwrap_err();
    assert!(error.to_string().contains("answers again at"), "{error}");
    assert!(world.waits.lock().unwrap().is_empty(), "nobody waited");
}

#[test]
fn a_listing_without_an_end_is_not_read_for_ever() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    let commit = hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    let path = format!("/api/models/o/r/tree/{commit}");
    let next = format!("<{}?recursive=true>; rel=\"next\"", world.site.url(&path));
    world.site.inject(&path, Fault::Headers(vec![("Link".to_owned(), next)]));
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(kind == Kind::Unreachable && said.contains("next page is this one"), "{said}");
    assert!(world.requests_to("/tree/") < 5, "{}", world.requests_to("/tree/"));

    world.site.clear_faults(&path);
    let entry = "{\"type\":\"file\",\"path\":\"x\"},";
    let listing = format!("[{}{}]", entry.repeat(200_000), entry.trim_end_matches(','));
    world.site.inject(&path, Fault::Status { code: 200, headers: Vec::new(), body: listing.into() });
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(kind == Kind::Unreachable && said.contains("more than 200000 entries"), "{said}");
}

#[test]
fn the_next_page_on_another_host_is_not_asked_for_and_gets_no_token() {
    let mut world = World::new();
    world.token = Some("hf_good");
    let hub = Hub::mount(&world.site, &world.store);
    let commit = hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    let path = format!("/api/models/o/r/tree/{commit}");
    let elsewhere = format!("<{}>; rel=\"next\"", world.store.url("/tree?cursor=1"));
    world.site.inject(&path, Fault::Headers(vec![("Link".to_owned(), elsewhere)]));
    let (_, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(said.contains("next page is on another host"), "{said}");
    assert_eq!(world.store.counters().requests, 0);
    // A listing that another host answered has no next page on this one, either.
    let listing = Fault::Status {
        code: 200,
        headers: vec![("Link".to_owned(), format!("<{}>; rel=\"next\"", world.store.url("/more")))],
        body: "[]".into(),
    };
    world.store.inject("/listing", listing);
    world.site.clear_faults(&path);
    world.site.inject(&path, Fault::redirect(world.store.url("/listing")));
    let (_, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(said.contains("next page is on another host"), "{said}");
    let asked = world.store.requests();
    assert!(asked.iter().all(|request| request.path == "/listing"), "{asked:?}");
    assert!(asked.iter().all(|request| request.header("authorization").is_none()), "{asked:?}");
}

#[test]
fn a_download_that_is_another_of_a_versions_files_is_seen_by_its_length() {
    let world = World::new();
    let civitai = Civitai::mount(&world.site, &world.store);
    let (full, half) = (Content::generated(1, 333_300), Content::generated(2, 150_000));
    let file = |name: &str, content: &Content, precision: &str| File {
        name: name.to_owned(),
        content: content.clone(),
        precision: Some(precision.to_owned()),
        is_hashed: true,
    };
    let publish = |other: &Content| {
        let files = vec![file("a.safetensors", &full, "fp32"), file("b.safetensors", other, "fp16")];
        let version = Version { kind: "LORA".to_owned(), name: "A style".to_owned(), files, token: None };
        civitai.publish(42, version);
    };
    publish(&half);
    let entries = world.make(&order("civitai:42")).unwrap();
    assert_eq!((entries[0].sha256, entries[0].size), (sha(&full), full.size()));
    // The site hands out the other one.
    world.store.put("/elsewhere", half.clone());
    let download = "/api/download/models/42";
    world.site.inject(download, Fault::redirect(world.store.url("/elsewhere")));
    let (kind, said) = world.refused("civitai:42");
    assert_eq!(kind, Kind::Differs, "{said}");
    for part in ["\"a.safetensors\"", "325.48828125 KB", "150000 bytes", "?fp=", "\"b.safetensors\""] {
        assert!(said.contains(part), "{part}: {said}");
    }
    world.site.clear_faults(download);
    // Two that are as long as each other: whose digest is it? The bytes say it.
    let twin = Content::generated(9, full.size());
    publish(&twin);
    assert_eq!(world.one("civitai:42").sha256, None);
    world.store.put("/elsewhere", twin.clone());
    world.site.inject(download, Fault::redirect(world.store.url("/elsewhere")));
    assert_eq!(world.make(&order("civitai:42")).unwrap()[0].sha256, sha(&twin));
}

#[test]
fn githubs_secondary_limit_is_waited_out_whichever_status_it_has() {
    for status in [403, 429] {
        let world = World::new();
        let github = GitHub::mount(&world.site, &world.store);
        github.upload("o/r", "v1", "x.onnx", &Content::generated(1, 10), true);
        github.limit(Some(Limit::Secondary { status, seconds: 1 }));
        let (limited, waits) = (github.clone(), world.waits.clone());
        let on_wait: OnWait = Arc::new(move |wait| {
            waits.lock().unwrap().push(wait.clone());
            limited.limit(None);
        });
        let mut resolver = Resolver::new(&world.origin(), World::retry(), on_wait);
        block_on(resolver.resolve(&"github:o/r@v1/x.onnx".parse().unwrap())).unwrap();
        let waits = world.waits.lock().unwrap().clone();
        assert!(
            waits.len() == 1 && waits[0].is_requested && waits[0].wait >= Duration::from_secs(1),
            "{waits:?}"
        );
        github.limit(Some(Limit::Secondary { status, seconds: 900 }));
        let (kind, said) = world.refused("github:o/r@v1/x.onnx");
        assert!(kind == Kind::Unreachable && said.contains("answers again at"), "{said}");
    }
}

#[test]
fn a_private_releases_asset_is_locked_and_fetched_where_the_token_opens_it() {
    let mut world = World::new();
    let github = GitHub::mount(&world.site, &world.store);
    let (content, old) = (Content::generated(1, 70_000), Content::generated(2, 80_000));
    github.upload("o/r", "v1", "x.onnx", &content, true);
    github.upload("o/r", "v1", "old.onnx", &old, false);
    world.token = Some("ghp");
    let public = world.one("github:o/r@v1/x.onnx");
    assert_eq!(public.url.as_url().as_str(), "https://github.com/o/r/releases/download/v1/x.onnx");

    github.hide("o/r", "ghp");
    let add = |source: &str| {
        let mut wanted = order(source);
        wanted.explicit = Some("upscale_models/".to_owned());
        world.make(&wanted).unwrap_or_else(|error| panic!("{error}")).remove(0)
    };
    let entries = [add("github:o/r@v1/x.onnx"), add("github:o/r@v1/old.onnx")];
    assert_eq!(entries[0].url.as_url().as_str(), "https://api.github.com/repos/o/r/releases/assets/1");
    assert_eq!((entries[0].sha256, entries[1].sha256), (sha(&content), sha(&old)));
    assert_eq!(entries[0].source.as_deref(), Some("github:o/r@v1/x.onnx"));
    fetch(&world, &entries);
    let installed = std::fs::read(world.destination().join("upscale_models/x.onnx")).unwrap();
    assert_eq!(installed, content.to_vec());
    let leaks = world.store.requests().iter().any(|request| request.header("authorization").is_some());
    assert!(!leaks, "the storage is another host");
    let lock = lock_of(&entries);
    let verdicts = block_on(check(&mut world.resolver(), &lock.models()[0]));
    assert_eq!(verdicts[0].kind(), None, "{}", verdicts[0]);
    // Who has no token is told which.
    world.token = None;
    let verdicts = block_on(check(&mut world.resolver(), &lock.models()[0]));
    assert!(verdicts[0].to_string().contains("GITHUB_TOKEN"), "{}", verdicts[0]);
}

#[test]
fn a_release_is_locked_at_the_api_where_the_public_address_is_not_its() {
    let mut world = World::new();
    let github = GitHub::mount(&world.site, &world.store);
    let content = Content::generated(1, 70_000);
    github.upload("o/r", "v1", "x.onnx", &content, true);
    github.upload("o/r", "v1", "old.onnx", &content, false);
    let public = |name: &str| format!("/o/r/releases/download/v1/{name}");
    let address = |world: &World| world.one("github:o/r@v1/x.onnx").url.as_url().to_string();
    let at_api = "https://api.github.com/repos/o/r/releases/assets/1";
    world.token = Some("ghp");
    // What is there is another file.
    world.store.inject("*", Fault::OtherContent(Content::generated(2, 71_000)));
    assert_eq!(address(&world), at_api);
    world.store.clear_faults("*");
    // Nobody answers. Where nobody says the digest, either, the bytes are needed.
    for status in [429, 503] {
        let fault = Fault::RetryAfter { status, value: "3600".to_owned() };
        for name in ["x.onnx", "old.onnx"] {
            world.site.inject(&public(name), fault.clone());
        }
        assert_eq!(address(&world), at_api, "{status}");
        world.refused("github:o/r@v1/old.onnx");
    }
    // Another server in place of the API, with a token and without: the public host is not its.
    world.public_github = true;
    assert_eq!(address(&world), at_api);
    world.token = None;
    assert_eq!(address(&world), at_api);
}

#[test]
fn a_file_of_modelscope_is_listed_as_moving() {
    let world = World::new();
    let modelscope = ModelScope::mount(&world.site);
    modelscope.put("o/m", "master", "vae/x.safetensors", Content::generated(1, 700));
    let entries = world.make(&order("modelscope:o/m/vae/x.safetensors")).unwrap();
    let table = table(&rows(&lock_of(&entries)), None);
    assert!(table.contains("moving  modelscope:o/m/vae/x.safetensors"), "{table}");
}
