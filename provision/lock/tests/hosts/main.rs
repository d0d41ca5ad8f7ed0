//! What hosts say, end to end: each host's face of the testbed, over real sockets, into entries of a lock.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod reading;
mod refusals;
mod world;

use std::sync::Arc;
use std::time::Duration;

use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::event::Silent;
use provision_core::lockfile::Model;
use provision_http::metadata::OnWait;
use provision_lock::check::{Verdict, check};
use provision_lock::entry::Entry;
use provision_lock::make::{MakeError, Order};
use provision_lock::resolve::{Kind, Resolver};
use provision_lock::source::Source;
use provision_lock::stream::Reader;
use provision_testbed::hosts::civitai::{Civitai, File, Version};
use provision_testbed::hosts::github::{GitHub, Limit};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::hosts::modelscope::ModelScope;
use provision_testbed::hosts::oci::Registry;
use provision_testbed::{Content, Fault, When};

use crate::world::{World, block_on, fetch, lock_of, order, sha};

#[test]
fn the_hubs_tree_is_asked_once_over_its_pages_and_every_redirect_agrees() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    let (vae, lora) = (Content::generated(1, 5_000_000), Content::generated(2, 700));
    let files = [
        ("split_files/vae/a.safetensors", vae.clone()),
        ("split_files/loras/b.safetensors", lora.clone()),
        ("split_files/loras/c.safetensors", vae.clone()),
        ("README.md", Content::bytes("# x")),
    ];
    let commit = hub.commit("o/r", "main", &files);
    hub.page(2);
    let mut resolver = world.resolver();
    let mut resolve = |source: &str| block_on(resolver.resolve(&source.parse::<Source>().unwrap())).unwrap();
    let found = resolve("hf:o/r/split_files/vae/a.safetensors");
    assert_eq!(
        found[0].url.as_url().as_str(),
        format!("https://huggingface.co/o/r/resolve/{commit}/split_files/vae/a.safetensors")
    );
    assert_eq!((found[0].size, found[0].sha256), (vae.size(), Some(sha(&vae))));
    assert_eq!(found[0].followed().as_deref(), Some("hf:o/r/split_files/vae/a.safetensors"));
    let found = resolve("hf:o/r/split_files/*/*.safetensors");
    let paths: Vec<_> = found.iter().map(|found| found.source.path().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "split_files/loras/b.safetensors",
            "split_files/loras/c.safetensors",
            "split_files/vae/a.safetensors"
        ]
    );
    let pinned = resolve(&format!("hf:o/r@{commit}/split_files/loras/b.safetensors"));
    assert_eq!((pinned[0].followed(), pinned[0].is_moving()), (None, false));
    assert_eq!(world.requests_to("/api/models/o/r/revision/"), 1);
    // Four files and three directories, two a page.
    assert_eq!(world.requests_to("/api/models/o/r/tree/"), 4);
    assert_eq!(world.requests_to("/resolve/"), 5);
    assert!(world.store.counters().body_bytes_sent <= 5, "nothing was fetched but first bytes");
    assert!(world.site.requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn what_the_hub_does_not_have_is_said_with_what_it_has() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    let (kind, said) = world.refused("hf:o/r/vae/typo.safetensors");
    assert!(kind == Kind::Gone && said.contains("\"vae/a.safetensors\""), "{said}");
    let (kind, said) = world.refused("hf:o/r/loras/*");
    assert!(kind == Kind::Gone && said.contains("vae/a"), "{said}");
    let (kind, said) = world.refused("hf:o/r@nobranch/vae/a.safetensors");
    assert!(kind == Kind::Gone && said.contains("RevisionNotFound"), "{said}");
    // A private repository looks the same, so the way out is a token's.
    let (kind, said) = world.refused("hf:o/none/vae/a.safetensors");
    assert!(kind == Kind::Refused && said.contains("HF_TOKEN"), "{said}");
}

#[test]
fn a_tree_and_a_redirect_that_disagree_are_both_shown_and_nothing_is_made() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    let (content, other) = (Content::generated(1, 1000), Content::generated(2, 1000));
    let commit = hub.commit("o/r", "main", &[("vae/a.safetensors", content.clone())]);
    let path = format!("/o/r/resolve/{commit}/vae/a.safetensors");
    let misled = |headers: Vec<(&str, String)>| {
        world.site.clear_faults(&path);
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        world.site.inject(&path, Fault::Headers(headers));
    };
    misled(vec![("X-Linked-Etag", format!("\"{}\"", other.sha256_hex()))]);
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert_eq!(kind, Kind::Differs);
    assert!(said.contains(&content.sha256_hex()) && said.contains(&other.sha256_hex()), "{said}");
    misled(vec![("X-Linked-Size", "999".to_owned())]);
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(kind == Kind::Differs && said.contains("999") && said.contains("1000"), "{said}");
    misled(vec![("X-Repo-Commit", "0".repeat(40))]);
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(kind == Kind::Unreachable && said.contains(&commit), "{said}");
    assert!(world.make(&order("hf:o/r/vae/a.safetensors")).is_err());
}

#[test]
fn a_gated_repository_wants_a_token_and_names_its_licences_page() {
    let mut world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    hub.gate("o/r", "hf_good");
    let page = world.site.url("/o/r");
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(kind == Kind::Refused && said.contains("HF_TOKEN") && said.contains(&page), "{said}");
    world.token = Some("hf_other");
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(kind == Kind::Refused && said.contains("licence") && said.contains(&page), "{said}");
    assert!(!said.contains("hf_other"), "{said}");
    world.token = Some("hf_good");
    world.one("hf:o/r/vae/a.safetensors");
    let leaks = |request: &provision_testbed::Recorded| request.header("authorization").is_some();
    assert!(!world.store.requests().iter().any(leaks), "the storage is another host");

    hub.hide("o/r", "hf_good");
    world.one("hf:o/r/vae/a.safetensors");
    world.token = None;
    let (kind, said) = world.refused("hf:o/r/vae/a.safetensors");
    assert!(kind == Kind::Refused && said.contains("HF_TOKEN"), "{said}");
}

#[test]
fn a_limit_on_the_way_is_waited_out_and_told() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    hub.commit("o/r", "main", &[("vae/a.safetensors", Content::generated(1, 10))]);
    hub.limit_resolvers(0, 1);
    let (limited, waits) = (hub.clone(), world.waits.clone());
    let on_wait: OnWait = Arc::new(move |wait| {
        waits.lock().unwrap().push(wait.clone());
        limited.unlimit();
    });
    let mut resolver = Resolver::new(&world.origin(), World::retry(), on_wait);
    block_on(resolver.resolve(&"hf:o/r/vae/a.safetensors".parse().unwrap())).unwrap();
    let waits = world.waits.lock().unwrap();
    assert_eq!(waits.len(), 1);
    assert!(waits[0].is_requested && waits[0].wait >= Duration::from_secs(1), "{waits:?}");
}

#[test]
fn a_file_whose_digest_nobody_says_is_paid_for_once() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    let text = "{\"a\": 1}".repeat(5000);
    let plain = Content::generated(3, 2_500_000);
    let commit = hub.commit("o/r", "main", &[("configs/x.json", Content::bytes(text.clone()))]);
    world.site.put("/files/vae/y.safetensors", plain.clone());
    // It breaks off midway, and is gone on with.
    world.site.inject("/files/vae/y.safetensors", Fault::CutBody(1_000_000).when(When::Nth(1)));
    let small = world.make(&order("hf:o/r/configs/x.json")).unwrap();
    assert_eq!(small[0].sha256, Sha256::of(text.as_bytes()));
    assert!(small[0].url.as_url().path().contains(&commit));
    let large = world.make(&order(&world.site.url("/files/vae/y.safetensors"))).unwrap();
    assert_eq!((large[0].path.as_str(), large[0].sha256), ("vae/y.safetensors", sha(&plain)));
    assert_eq!(large[0].source, None);
    let sent = world.site.counters().path("/files/vae/y.safetensors").body_bytes;
    assert!(sent < plain.size() + 300_000, "{sent}: what came before the break was kept");

    let requests = (world.site.counters().requests, world.store.counters().requests);
    let entries: Vec<Entry> = small.into_iter().chain(large).collect();
    fetch(&world, &entries);
    let again = (world.site.counters().requests, world.store.counters().requests);
    assert_eq!(again, requests, "the fetch asked nobody");
    let installed = std::fs::read(world.destination().join("vae/y.safetensors")).unwrap();
    assert_eq!(installed, plain.to_vec());
    let rest = std::fs::read_dir(world.destination().join("vae")).unwrap().count();
    assert_eq!(rest, 1, "no part, no journal");
}

#[test]
fn a_read_that_was_interrupted_goes_on_in_the_next_command() {
    let world = World::new();
    let content = Content::generated(3, 3_000_000);
    world.site.put("/vae/y.bin", content.clone());
    let url = world.site.url("/vae/y.bin");
    // The probe, then nothing but breaks.
    world.site.inject("/vae/y.bin", Fault::CutBody(900_000).when(When::custom(|_, number| number > 0)));
    let mut maker = world.maker();
    let retry = RetryPolicy { retries: 1, ..World::retry() };
    let silent = Arc::new(Silent);
    maker.reader = Reader::new(world.origin(), retry, world.on_wait(), world.destination(), silent);
    let error = block_on(maker.make(&order(&url))).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Unreachable), "{error}");
    drop(maker);
    world.site.clear_faults("/vae/y.bin");
    let before = world.site.counters().path("/vae/y.bin").body_bytes;
    let entries = world.make(&order(&url)).unwrap();
    assert_eq!(entries[0].sha256, sha(&content));
    let rest = world.site.counters().path("/vae/y.bin").body_bytes - before;
    assert!(rest < content.size() - 800_000, "{rest}: it went on where it was");
}

#[test]
fn bytes_of_two_versions_never_make_one_digest() {
    let world = World::new();
    let (old, new) = (Content::generated(3, 2_000_000), Content::generated(4, 2_000_000));
    let url = world.site.url("/vae/y.bin");
    // No validator: what broke off is read from its beginning again.
    world.site.put("/vae/y.bin", old.clone());
    world.site.set_etag("/vae/y.bin", "W/\"weak\"");
    world.site.inject("/vae/y.bin", Fault::CutBody(1_000_000).when(When::Nth(1)));
    assert_eq!(world.make(&order(&url)).unwrap()[0].sha256, sha(&old));
    let ranges: Vec<_> = world.site.requests().iter().map(|request| request.range.clone()).collect();
    assert_eq!(ranges, [Some("bytes=0-0".to_owned()), None, None]);

    // Another file under the address while it is read: all of it is the new one.
    let (site, replaced) = (world.site.control(), new.clone());
    world.site.clear_faults("/vae/y.bin");
    world.site.put("/vae/y.bin", old.clone());
    let replace = When::custom(move |_, number| {
        if number == 2 {
            site.put("/vae/y.bin", replaced.clone());
        }
        number == 1
    });
    world.site.inject("/vae/y.bin", Fault::CutBody(1_000_000).when(replace));
    assert_eq!(world.make(&order(&url)).unwrap()[0].sha256, sha(&new));
}

#[test]
fn a_plain_address_that_is_followed_is_read_anew() {
    let world = World::new();
    let (old, new) = (Content::generated(3, 20_000), Content::generated(4, 30_000));
    world.site.put("/vae/y.bin", old.clone());
    let source: Source = world.site.url("/vae/y.bin").parse().unwrap();
    let entry = world.make(&Order::of(source.clone())).unwrap().remove(0);
    assert!(block_on(world.maker().follow(&entry, &source, true)).unwrap().is_none());
    world.site.put("/vae/y.bin", new.clone());
    let now = block_on(world.maker().follow(&entry, &source, true)).unwrap().unwrap();
    assert_eq!((now.sha256, now.size), (sha(&new), 30_000));
}

#[test]
fn an_address_is_believed_by_a_redirect_like_the_hubs_or_by_a_given_digest() {
    let world = World::new();
    let content = Content::generated(1, 400_000);
    // The same origin under another port is no Hub's address, but answers as one.
    Hub::mount(&world.site, &world.store).commit("o/r", "main", &[("vae/a.safetensors", content.clone())]);
    let url = world.site.url("/o/r/resolve/main/vae/a.safetensors");
    let entries = world.make(&order(&url)).unwrap();
    assert_eq!((entries[0].sha256, entries[0].size), (sha(&content), content.size()));
    assert_eq!(entries[0].url.as_url().as_str(), url);
    assert!(!world.destination().exists(), "nothing had to be read");

    world.site.put("/x/loras/b.safetensors", content.clone());
    let mut given = order(&world.site.url("/x/loras/b.safetensors"));
    given.sha256 = Some(sha(&content));
    let entries = world.make(&given).unwrap();
    assert_eq!((entries[0].sha256, entries[0].size), (sha(&content), content.size()));
    assert!(!world.destination().exists());
    let mut wrong = order(&url);
    wrong.sha256 = Some(Sha256::of(b"another"));
    let error = world.make(&wrong).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Differs));
    assert!(error.to_string().contains(&content.sha256_hex()), "{error}");
}

#[test]
fn an_address_that_expires_is_refused_unless_that_is_allowed() {
    let world = World::new();
    let content = Content::generated(1, 1000);
    world.site.put("/vae/a.safetensors", content.clone());
    let url = world.site.url("/vae/a.safetensors") + "?X-Amz-Expires=3600&X-Amz-Signature=canary";
    let error = world.make(&order(&url)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("3600 seconds") && said.contains("--allow-expiring"), "{said}");
    assert!(!said.contains("canary") && error.kind().is_none(), "{said}");
    assert_eq!(world.site.counters().requests, 0);
    let mut mirrored = order(&world.site.url("/vae/a.safetensors"));
    mirrored.mirrors = vec![url.parse().unwrap()];
    assert!(matches!(world.make(&mirrored), Err(MakeError::Expiring { .. })));
    let mut maker = world.maker();
    maker.allow_expiring = true;
    let entries = block_on(maker.make(&order(&url))).unwrap();
    assert_eq!(entries[0].sha256, sha(&content));
}

#[test]
fn a_place_that_is_not_known_is_asked_for_before_any_host_is() {
    let world = World::new();
    let error = world.make(&order(&world.site.url("/weights/a.safetensors"))).unwrap_err();
    assert!(error.to_string().contains("--path"), "{error}");
    assert_eq!(world.site.counters().requests, 0);
}

#[test]
fn a_mirror_has_to_have_the_same_bytes() {
    let world = World::new();
    let (content, other) = (Content::generated(1, 1000), Content::generated(2, 1000));
    let hub = Hub::mount(&world.site, &world.store);
    let commit = hub.commit("o/r", "main", &[("vae/a.safetensors", content.clone())]);
    hub.commit("o/s", "main", &[("vae/a.safetensors", content.clone())]);
    hub.commit("o/t", "main", &[("vae/a.safetensors", other.clone())]);
    let mut with = order("hf:o/r/vae/a.safetensors");
    with.mirrors = vec!["hf:o/s/vae/a.safetensors".parse().unwrap()];
    let entries = world.make(&with).unwrap();
    assert!(entries[0].url.as_url().path().contains(&commit));
    let mirror = entries[0].mirrors[0].as_url().path();
    assert!(mirror.starts_with("/o/s/resolve/") && !mirror.contains("main"), "{mirror}");
    with.mirrors = vec!["hf:o/t/vae/a.safetensors".parse().unwrap()];
    assert_eq!(world.make(&with).unwrap_err().kind(), Some(Kind::Differs));
    // The first one's host says no digest, the mirror's does.
    world.site.put("/plain/vae/a.safetensors", content);
    with.source = world.site.url("/plain/vae/a.safetensors").parse().unwrap();
    assert_eq!(world.make(&with).unwrap_err().kind(), Some(Kind::Differs));
    with.mirrors = vec!["hf:o/s/vae/a.safetensors".parse().unwrap()];
    assert_eq!(world.make(&with).unwrap()[0].mirrors.len(), 1);
}

#[test]
fn civitai_gives_digest_type_and_name_and_the_download_the_size() {
    let mut world = World::new();
    let civitai = Civitai::mount(&world.site, &world.store);
    let (full, half) = (Content::generated(1, 3333), Content::generated(2, 1500));
    let file = |name: &str, content: &Content, precision: &str, is_hashed| File {
        name: name.to_owned(),
        content: content.clone(),
        precision: Some(precision.to_owned()),
        is_hashed,
    };
    let version = |token: Option<&str>, is_hashed| Version {
        kind: "LORA".to_owned(),
        name: "A style".to_owned(),
        files: vec![
            file("a.safetensors", &full, "fp32", is_hashed),
            file("b.safetensors", &half, "fp16", true),
        ],
        token: token.map(str::to_owned),
    };
    civitai.publish(42, version(None, true));
    let entries = world.make(&order("civitai:42")).unwrap();
    assert_eq!(entries[0].path.as_str(), "loras/a.safetensors");
    assert_eq!((entries[0].sha256, entries[0].size), (sha(&full), 3333));
    assert_eq!(entries[0].url.as_url().as_str(), "https://civitai.com/api/download/models/42");
    assert_eq!(entries[0].source, None, "a version is never given out again");
    let entries = world.make(&order("civitai:42?fp=fp16")).unwrap();
    assert_eq!((entries[0].path.as_str(), entries[0].size), ("loras/b.safetensors", 1500));
    assert!(!world.destination().exists());

    civitai.publish(42, version(Some("civ"), true));
    let (kind, said) = world.refused("civitai:42");
    assert!(kind == Kind::Refused && said.contains("CIVITAI_TOKEN"), "{said}");
    world.token = Some("civ");
    world.one("civitai:42");
    // Not hashed yet: it is read.
    civitai.publish(43, version(Some("civ"), false));
    let entries = world.make(&order("civitai:43")).unwrap();
    assert_eq!(entries[0].sha256, sha(&full));
    let (kind, _) = world.refused("civitai:44");
    assert_eq!(kind, Kind::Gone);
}

#[test]
fn github_gives_the_digest_and_an_old_asset_is_read() {
    let mut world = World::new();
    let github = GitHub::mount(&world.site, &world.store);
    let content = Content::generated(1, 70_000);
    github.upload("o/r", "v1", "x.onnx", &content, true);
    github.upload("o/r", "v1", "old.onnx", &content, false);
    let found = world.one("github:o/r@v1/x.onnx");
    assert_eq!((found.sha256, found.size), (Some(sha(&content)), content.size()));
    assert_eq!(found.url.as_url().as_str(), "https://github.com/o/r/releases/download/v1/x.onnx");
    assert_eq!((found.is_moving(), found.followed()), (true, None), "the address says the tag");
    let newest = world.one("github:o/r/x.onnx");
    assert_eq!(newest.url, found.url, "pinned to the newest release's tag");
    assert_eq!(newest.followed().as_deref(), Some("github:o/r/x.onnx"));
    let mut old = order("github:o/r@v1/old.onnx");
    old.explicit = Some("upscale_models/".to_owned());
    let entries = world.make(&old).unwrap();
    assert_eq!((entries[0].path.as_str(), entries[0].sha256), ("upscale_models/old.onnx", sha(&content)));
    let (kind, said) = world.refused("github:o/r@v1/typo");
    assert!(kind == Kind::Gone && said.contains("\"x.onnx\""), "{said}");

    github.hide("o/r", "ghp");
    let (kind, said) = world.refused("github:o/r@v1/x.onnx");
    assert!(kind == Kind::Gone && said.contains("GITHUB_TOKEN"), "{said}");
    world.token = Some("ghp");
    world.one("github:o/r@v1/x.onnx");
    world.token = None;
    github.limit(Some(Limit::Primary(4_102_444_800)));
    let (kind, said) = world.refused("github:o/r@v1/x.onnx");
    assert!(kind == Kind::Unreachable && said.contains("GITHUB_TOKEN") && said.contains("2100"), "{said}");
}

#[test]
fn modelscope_gives_both_and_its_private_models_want_a_token() {
    let mut world = World::new();
    let modelscope = ModelScope::mount(&world.site);
    let content = Content::generated(1, 700);
    modelscope.put("o/m", "master", "vae/x.safetensors", content.clone());
    let found = world.one("modelscope:o/m/vae/*");
    assert_eq!((found.sha256, found.size), (Some(sha(&content)), 700));
    assert_eq!(
        found.url.as_url().as_str(),
        "https://modelscope.cn/models/o/m/resolve/master/vae/x.safetensors"
    );
    modelscope.hide("o/m", "ms");
    let (kind, said) = world.refused("modelscope:o/m/vae/x.safetensors");
    assert!(kind == Kind::Gone && said.contains("MODELSCOPE_API_TOKEN"), "{said}");
    world.token = Some("ms");
    world.one("modelscope:o/m/vae/x.safetensors");
}

#[test]
fn a_registrys_blob_is_its_digest() {
    let world = World::new();
    let registry = Registry::mount(&world.site, Some(&world.store));
    let content = Content::generated(1, 700);
    let digest = registry.push("models/vae", &content);
    registry.guard("models/vae");
    let source = format!("oci:{}/models/vae@{digest}", world.site.addr());
    let found = world.one(&source);
    assert_eq!((found.sha256, found.size, found.followed()), (Some(sha(&content)), 700, None));
    let (kind, said) = world.refused(&source.replace(&digest[7..15], "00000000"));
    assert!(kind == Kind::Gone && said.contains("no such blob"), "{said}");
}

/// The verdict of a check of `model`'s first address.
fn verdict(world: &World, model: &Model) -> Verdict {
    block_on(check(&mut world.resolver(), model)).into_iter().next().unwrap()
}

#[test]
fn an_update_follows_a_branch_and_leaves_what_is_pinned() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    let (old, new) = (Content::generated(1, 1000), Content::generated(2, 2000));
    let small = Content::bytes("{}");
    let files = [("vae/a.safetensors", old.clone()), ("configs/c.json", small)];
    let before = hub.commit("o/r", "main", &files);
    let entry = world.make(&order("hf:o/r@main/vae/a.safetensors")).unwrap().remove(0);
    let config = world.make(&order("hf:o/r@main/configs/c.json")).unwrap().remove(0);
    let followed: Source = entry.source.as_deref().unwrap().parse().unwrap();
    assert_eq!(followed.to_string(), "hf:o/r@main/vae/a.safetensors");
    assert!(block_on(world.maker().follow(&entry, &followed, false)).unwrap().is_none(), "nothing moved");
    let asked = world.requests_to("/resolve/");
    let follows: Source = config.source.as_deref().unwrap().parse().unwrap();
    assert!(block_on(world.maker().follow(&config, &follows, true)).unwrap().is_none());
    assert_eq!(world.requests_to("/resolve/"), asked + 1, "an unmoved small file is not read again");

    let after = hub.commit("o/r", "main", &[("vae/a.safetensors", new.clone())]);
    let now = block_on(world.maker().follow(&entry, &followed, false)).unwrap().unwrap();
    assert_eq!((now.sha256, now.size, &now.path), (sha(&new), 2000, &entry.path));
    assert!(entry.url.as_url().path().contains(&before) && now.url.as_url().path().contains(&after));
    assert_eq!(now.source, entry.source);
    // The old commit still has the old bytes.
    let lock = lock_of(std::slice::from_ref(&entry));
    assert!(matches!(verdict(&world, &lock.models()[0]), Verdict::Right));
}

#[test]
fn a_check_tells_replaced_from_gone_from_refused() {
    let world = World::new();
    let hub = Hub::mount(&world.site, &world.store);
    let (content, other) = (Content::generated(1, 1000), Content::generated(2, 1000));
    hub.commit("o/r", "main", &[("vae/a.safetensors", content.clone())]);
    let mut entry = world.make(&order("hf:o/r/vae/a.safetensors")).unwrap().remove(0);
    // An address by branch, as people write them, and a mirror that gives no digest.
    entry.url = "https://huggingface.co/o/r/resolve/main/vae/a.safetensors".parse().unwrap();
    world.site.put("/mirror/a", content.clone());
    entry.mirrors = vec![world.site.url("/mirror/a").parse().unwrap()];
    let lock = lock_of(&[entry]);
    let model = &lock.models()[0];
    let verdicts = block_on(check(&mut world.resolver(), model));
    assert!(matches!(verdicts[..], [Verdict::Right, Verdict::SizeOnly]), "{verdicts:?}");

    hub.commit("o/r", "main", &[("vae/a.safetensors", other.clone())]);
    let replaced = verdict(&world, model);
    assert_eq!(replaced.kind(), Some(Kind::Differs));
    let said = replaced.to_string();
    assert!(said.contains(&content.sha256_hex()) && said.contains(&other.sha256_hex()), "{said}");
    hub.remove("o/r", "main", "vae/a.safetensors");
    assert_eq!(verdict(&world, model).kind(), Some(Kind::Gone));
    hub.hide("o/r", "hf_good");
    assert_eq!(verdict(&world, model).kind(), Some(Kind::Refused));
    world.site.put("/mirror/a", Content::generated(1, 999));
    let verdicts = block_on(check(&mut world.resolver(), model));
    assert_eq!(verdicts[1].kind(), Some(Kind::Differs), "{verdicts:?}");
    assert!(!world.destination().exists());
}
