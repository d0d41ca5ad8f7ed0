//! End to end: the testbed's emulated hosts, over real sockets, into lock entries.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fixture;
mod reading;
mod refusals;

use std::sync::Arc;

use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::event::Silent;
use provision_lock::check::Verdict;
use provision_lock::digest_reader::DigestReader;
use provision_lock::entry::Entry;
use provision_lock::entry_builder::{AddRequest, EntryError, Followed};
use provision_lock::resolve::Kind;
use provision_lock::source::Source;
use provision_testbed::hosts::civitai::Civitai;
use provision_testbed::hosts::github::{GitHub, Limit};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::hosts::modelscope::ModelScope;
use provision_testbed::hosts::oci::Registry;
use provision_testbed::{Content, Fault, When};

use crate::fixture::{Fixture, add_request, block_on, civitai_version, fetch, sha};

#[test]
fn the_hubs_tree_is_requested_once_and_redirects_agree() {
    let fixture = Fixture::new();
    let hub = Hub::mount(&fixture.site, &fixture.store);
    let (vae, lora) = (Content::generated(1, 5_000_000), Content::generated(2, 700));
    let files = [
        ("split_files/vae/a.safetensors", vae.clone()),
        ("split_files/loras/b.safetensors", lora.clone()),
        ("split_files/loras/c.safetensors", vae.clone()),
        ("README.md", Content::bytes("# x")),
    ];
    let commit = hub.commit("o/r", "main", &files);
    hub.page(2);
    let resolver = fixture.resolver();
    let resolve = |source: &str| block_on(resolver.resolve(&source.parse::<Source>().unwrap())).unwrap();
    let found = resolve("hf:o/r/split_files/vae/a.safetensors");
    assert_eq!(
        found[0].url.as_url().as_str(),
        format!("https://huggingface.co/o/r/resolve/{commit}/split_files/vae/a.safetensors")
    );
    assert_eq!((found[0].size, found[0].sha256), (Some(vae.size()), Some(sha(&vae))));
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
    assert_eq!(fixture.requests_to("/api/models/o/r/revision/"), 1);
    // Four files and three directories, two per page.
    assert_eq!(fixture.requests_to("/api/models/o/r/tree/"), 4);
    assert_eq!(fixture.requests_to("/resolve/"), 5);
    assert!(fixture.store.counters().body_bytes_sent <= 5, "nothing was fetched but first bytes");
    assert!(fixture.site.requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn a_missing_hub_file_is_an_error_with_the_known_files() {
    let fixture = Fixture::new();
    fixture.small_hub();
    fixture.assert_refused("hf:o/r/vae/typo.safetensors", Kind::Gone, &["\"vae/a.safetensors\""]);
    fixture.assert_refused("hf:o/r/loras/*", Kind::Gone, &["vae/a"]);
    fixture.assert_refused("hf:o/r@nobranch/vae/a.safetensors", Kind::Gone, &["RevisionNotFound"]);
    // A private repository looks the same, so the message offers a token.
    fixture.assert_refused("hf:o/none/vae/a.safetensors", Kind::Refused, &["HF_TOKEN"]);
}

#[test]
fn a_disagreement_of_tree_and_redirect_is_an_error() {
    let fixture = Fixture::new();
    let (content, other) = (Content::generated(1, 1000), Content::generated(2, 1000));
    let (_, commit) = fixture.hub_with(&content);
    let path = format!("/o/r/resolve/{commit}/vae/a.safetensors");
    let misled = |headers: Vec<(&str, String)>| {
        fixture.site.clear_faults(&path);
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        fixture.site.inject(&path, Fault::Headers(headers));
    };
    misled(vec![("X-Linked-Etag", format!("\"{}\"", other.sha256_hex()))]);
    let digests = [content.sha256_hex(), other.sha256_hex()];
    fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Differs, &[&digests[0], &digests[1]]);
    misled(vec![("X-Linked-Size", "999".to_owned())]);
    fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Differs, &["999", "1000"]);
    misled(vec![("X-Repo-Commit", "0".repeat(40))]);
    fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Unreachable, &[&commit]);
    assert!(fixture.build(&add_request("hf:o/r/vae/a.safetensors")).is_err());
}

#[test]
fn a_gated_repository_needs_a_token_and_its_licence() {
    let mut fixture = Fixture::new();
    let hub = fixture.small_hub();
    hub.gate("o/r", "hf_good");
    let page = fixture.site.url("/o/r");
    fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Refused, &["HF_TOKEN", &page]);
    fixture.token = Some("hf_other");
    let said = fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Refused, &["licence", &page]);
    assert!(!said.contains("hf_other"), "{said}");
    fixture.token = Some("hf_good");
    fixture.one("hf:o/r/vae/a.safetensors");
    let leaks = |request: &provision_testbed::Recorded| request.header("authorization").is_some();
    assert!(!fixture.store.requests().iter().any(leaks), "the storage is another host");

    hub.hide("o/r", "hf_good");
    fixture.one("hf:o/r/vae/a.safetensors");
    fixture.token = None;
    fixture.assert_refused("hf:o/r/vae/a.safetensors", Kind::Refused, &["HF_TOKEN"]);
}

#[test]
fn a_rate_limit_is_waited_out_and_reported() {
    let fixture = Fixture::new();
    let hub = fixture.small_hub();
    hub.limit_resolvers(0, 1);
    let resolver = fixture.resolver_that_waits(move || hub.unlimit());
    block_on(resolver.resolve(&"hf:o/r/vae/a.safetensors".parse().unwrap())).unwrap();
    fixture.assert_waited();
}

#[test]
fn a_file_without_a_digest_is_downloaded_once() {
    let fixture = Fixture::new();
    let hub = Hub::mount(&fixture.site, &fixture.store);
    let text = "{\"a\": 1}".repeat(5000);
    let plain = Content::generated(3, 2_500_000);
    let commit = hub.commit("o/r", "main", &[("configs/x.json", Content::bytes(text.clone()))]);
    fixture.site.put("/files/vae/y.safetensors", plain.clone());
    // The read is interrupted midway and then resumed.
    fixture.site.inject("/files/vae/y.safetensors", Fault::CutBody(1_000_000).when(When::Nth(1)));
    let small = fixture.entry("hf:o/r/configs/x.json");
    assert_eq!(small.sha256, Sha256::of(text.as_bytes()));
    assert!(small.url.as_url().path().contains(&commit));
    let large = fixture.entry(&fixture.site.url("/files/vae/y.safetensors"));
    assert_eq!((large.path.as_str(), large.sha256), ("vae/y.safetensors", sha(&plain)));
    assert_eq!(large.source, None);
    let sent = fixture.site.counters().path("/files/vae/y.safetensors").body_bytes;
    assert!(sent < plain.size() + 300_000, "{sent}: what came before the break was kept");

    let requests = (fixture.site.counters().requests, fixture.store.counters().requests);
    fetch(&fixture, &[small, large]);
    let again = (fixture.site.counters().requests, fixture.store.counters().requests);
    assert_eq!(again, requests, "the fetch made no request");
    let installed = std::fs::read(fixture.destination().join("vae/y.safetensors")).unwrap();
    assert_eq!(installed, plain.to_vec());
    let rest = std::fs::read_dir(fixture.destination().join("vae")).unwrap().count();
    assert_eq!(rest, 1, "no part, no journal");
}

#[test]
fn an_interrupted_read_is_resumed_by_the_next_command() {
    let fixture = Fixture::new();
    let content = Content::generated(3, 3_000_000);
    fixture.site.put("/vae/y.bin", content.clone());
    let url = fixture.site.url("/vae/y.bin");
    // The probe, then only interruptions.
    fixture.site.inject("/vae/y.bin", Fault::CutBody(900_000).when(When::custom(|_, number| number > 0)));
    let mut builder = fixture.builder();
    let retry = RetryPolicy { retries: 1, ..Fixture::retry() };
    let silent = Arc::new(Silent);
    builder.reader =
        DigestReader::new(fixture.origin(), retry, fixture.on_wait(), fixture.destination(), silent);
    let error = block_on(builder.build(&add_request(&url))).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Unreachable), "{error}");
    drop(builder);
    fixture.site.clear_faults("/vae/y.bin");
    let before = fixture.site.counters().path("/vae/y.bin").body_bytes;
    let entry = fixture.entry(&url);
    assert_eq!(entry.sha256, sha(&content));
    let rest = fixture.site.counters().path("/vae/y.bin").body_bytes - before;
    assert!(rest < content.size() - 800_000, "{rest}: it went on where it was");
}

#[test]
fn bytes_of_two_versions_never_share_a_digest() {
    let fixture = Fixture::new();
    let (old, new) = (Content::generated(3, 2_000_000), Content::generated(4, 2_000_000));
    let url = fixture.site.url("/vae/y.bin");
    // No validator: an interrupted read restarts at the first byte.
    fixture.site.put("/vae/y.bin", old.clone());
    fixture.site.set_etag("/vae/y.bin", "W/\"weak\"");
    fixture.site.inject("/vae/y.bin", Fault::CutBody(1_000_000).when(When::Nth(1)));
    assert_eq!(fixture.entry(&url).sha256, sha(&old));
    let ranges: Vec<_> = fixture.site.requests().iter().map(|request| request.range.clone()).collect();
    assert_eq!(ranges, [Some("bytes=0-0".to_owned()), None, None]);

    // The file is replaced during the read: all bytes are the new file's.
    let (site, replaced) = (fixture.site.control(), new.clone());
    fixture.site.clear_faults("/vae/y.bin");
    fixture.site.put("/vae/y.bin", old.clone());
    let replace = When::custom(move |_, number| {
        if number == 2 {
            site.put("/vae/y.bin", replaced.clone());
        }
        number == 1
    });
    fixture.site.inject("/vae/y.bin", Fault::CutBody(1_000_000).when(replace));
    assert_eq!(fixture.entry(&url).sha256, sha(&new));
}

#[test]
fn a_followed_url_is_read_again() {
    let fixture = Fixture::new();
    let (old, new) = (Content::generated(3, 20_000), Content::generated(4, 30_000));
    fixture.site.put("/vae/y.bin", old.clone());
    let source: Source = fixture.site.url("/vae/y.bin").parse().unwrap();
    let entry = fixture.build(&AddRequest::of(source.clone())).unwrap().remove(0);
    assert!(block_on(fixture.builder().follow(&entry, &source, true)).unwrap().is_none());
    fixture.site.put("/vae/y.bin", new.clone());
    let now = block_on(fixture.builder().follow(&entry, &source, true)).unwrap().unwrap();
    assert_eq!((now.sha256, now.size), (sha(&new), 30_000));
}

#[test]
fn a_hub_like_redirect_or_given_digest_is_accepted() {
    let fixture = Fixture::new();
    let content = Content::generated(1, 400_000);
    // The same origin under another port has no Hub URL, but answers like the Hub.
    fixture.hub_with(&content);
    let url = fixture.site.url("/o/r/resolve/main/vae/a.safetensors");
    let entry = fixture.entry(&url);
    assert_eq!((entry.sha256, entry.size), (sha(&content), content.size()));
    assert_eq!(entry.url.as_url().as_str(), url);
    assert!(!fixture.destination().exists(), "nothing had to be read");

    fixture.site.put("/x/loras/b.safetensors", content.clone());
    let mut given = add_request(&fixture.site.url("/x/loras/b.safetensors"));
    given.sha256 = Some(sha(&content));
    let entry = fixture.build(&given).unwrap().remove(0);
    assert_eq!((entry.sha256, entry.size), (sha(&content), content.size()));
    assert!(!fixture.destination().exists());
    let mut wrong = add_request(&url);
    wrong.sha256 = Some(Sha256::of(b"another"));
    let error = fixture.build(&wrong).unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Differs));
    assert!(error.to_string().contains(&content.sha256_hex()), "{error}");
}

#[test]
fn an_expiring_url_is_refused_unless_allowed() {
    let fixture = Fixture::new();
    let content = Content::generated(1, 1000);
    fixture.site.put("/vae/a.safetensors", content.clone());
    let url = fixture.site.url("/vae/a.safetensors") + "?X-Amz-Expires=3600&X-Amz-Signature=canary";
    let error = fixture.build(&add_request(&url)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("3600 seconds") && said.contains("--allow-expiring"), "{said}");
    assert!(!said.contains("canary") && error.kind().is_none(), "{said}");
    assert_eq!(fixture.site.counters().requests, 0);
    let mut mirrored = add_request(&fixture.site.url("/vae/a.safetensors"));
    mirrored.mirrors = vec![url.parse().unwrap()];
    assert!(matches!(fixture.build(&mirrored), Err(EntryError::Expiring { .. })));
    let mut builder = fixture.builder();
    builder.allow_expiring = true;
    let entry = block_on(builder.build(&add_request(&url))).unwrap().remove(0);
    assert_eq!(entry.sha256, sha(&content));
}

#[test]
fn an_unknown_place_is_an_error_before_any_request() {
    let fixture = Fixture::new();
    let error = fixture.build(&add_request(&fixture.site.url("/weights/a.safetensors"))).unwrap_err();
    assert!(error.to_string().contains("--path"), "{error}");
    assert_eq!(fixture.site.counters().requests, 0);
}

#[test]
fn a_mirror_must_have_the_same_bytes() {
    let fixture = Fixture::new();
    let (content, other) = (Content::generated(1, 1000), Content::generated(2, 1000));
    let (hub, commit) = fixture.hub_with(&content);
    hub.commit("o/s", "main", &[("vae/a.safetensors", content.clone())]);
    hub.commit("o/t", "main", &[("vae/a.safetensors", other.clone())]);
    let mut with = add_request("hf:o/r/vae/a.safetensors");
    with.mirrors = vec!["hf:o/s/vae/a.safetensors".parse().unwrap()];
    let entry = fixture.build(&with).unwrap().remove(0);
    assert!(entry.url.as_url().path().contains(&commit));
    let mirror = entry.mirrors[0].as_url().path();
    assert!(mirror.starts_with("/o/s/resolve/") && !mirror.contains("main"), "{mirror}");
    with.mirrors = vec!["hf:o/t/vae/a.safetensors".parse().unwrap()];
    assert_eq!(fixture.build(&with).unwrap_err().kind(), Some(Kind::Differs));
    // The first host declares no digest, the mirror's does.
    fixture.site.put("/plain/vae/a.safetensors", content);
    with.source = fixture.site.url("/plain/vae/a.safetensors").parse().unwrap();
    assert_eq!(fixture.build(&with).unwrap_err().kind(), Some(Kind::Differs));
    with.mirrors = vec!["hf:o/s/vae/a.safetensors".parse().unwrap()];
    assert_eq!(fixture.build(&with).unwrap()[0].mirrors.len(), 1);
}

#[test]
fn fault_113_a_lists_bad_mirror_costs_no_entry() {
    let fixture = Fixture::new();
    let (content, other) = (Content::generated(1, 1000), Content::generated(2, 1000));
    let (hub, _) = fixture.hub_with(&content);
    hub.commit("o/s", "main", &[("vae/a.safetensors", content.clone())]);
    hub.commit("o/t", "main", &[("vae/a.safetensors", other)]);
    fixture.site.put("/plain/vae/a.safetensors", content);
    let gone = fixture.site.url("/gone");
    let mirrors = ["hf:o/t/vae/a.safetensors", gone.as_str(), "hf:o/s/vae/a.safetensors"];
    for source in ["hf:o/r/vae/a.safetensors", &fixture.site.url("/plain/vae/a.safetensors")] {
        let mut request = add_request(source);
        request.mirrors = mirrors.map(|mirror| mirror.parse().unwrap()).to_vec();
        assert!(fixture.build(&request).is_err(), "the user names the mirrors");
        request.may_lose_mirrors = true;
        let mut builder = fixture.builder();
        let mut prepared = block_on(builder.prepare(&request)).unwrap();
        assert_eq!(prepared.len(), 1);
        let built = block_on(builder.finish(prepared.remove(0))).unwrap();
        assert_eq!((built.entry.mirrors.len(), built.lost_mirrors.len()), (1, 2), "{built:?}");
    }
}

#[test]
fn civitai_declares_digest_type_and_name_but_not_the_size() {
    let mut fixture = Fixture::new();
    let civitai = Civitai::mount(&fixture.site, &fixture.store);
    let (full, half) = (Content::generated(1, 3333), Content::generated(2, 1500));
    let version = |token, is_hashed| {
        let files = [("a.safetensors", &full, "fp32"), ("b.safetensors", &half, "fp16")];
        let mut version = civitai_version(&files, token);
        version.files[0].is_hashed = is_hashed;
        version
    };
    civitai.publish(42, version(None, true));
    let entry = fixture.entry("civitai:42");
    assert_eq!(entry.path.as_str(), "loras/a.safetensors");
    assert_eq!((entry.sha256, entry.size), (sha(&full), 3333));
    assert_eq!(entry.url.as_url().as_str(), "https://civitai.com/api/download/models/42");
    assert_eq!(entry.source, None, "a version is never given out again");
    let entry = fixture.entry("civitai:42?fp=fp16");
    assert_eq!((entry.path.as_str(), entry.size), ("loras/b.safetensors", 1500));
    assert!(!fixture.destination().exists());

    civitai.publish(42, version(Some("civ"), true));
    fixture.assert_refused("civitai:42", Kind::Refused, &["CIVITAI_TOKEN"]);
    fixture.token = Some("civ");
    fixture.one("civitai:42");
    // Not hashed by the site yet, so it is read.
    civitai.publish(43, version(Some("civ"), false));
    let entry = fixture.entry("civitai:43");
    assert_eq!(entry.sha256, sha(&full));
    fixture.assert_refused("civitai:44", Kind::Gone, &[]);
}

#[test]
fn fault_114_a_file_id_chooses_a_versions_file() {
    let fixture = Fixture::new();
    let civitai = Civitai::mount(&fixture.site, &fixture.store);
    let contents = [Content::generated(1, 3333), Content::generated(2, 3333)];
    let files = [("a.safetensors", &contents[0], "fp16"), ("b.safetensors", &contents[1], "fp16")];
    civitai.publish(140, civitai_version(&files, None));
    let url = |id: u64| format!("https://civitai.com/api/download/models/140?fileId={id}");
    let entries = [14_000, 14_001].map(|id| fixture.entry(&url(id)));
    for (entry, (id, content)) in entries.iter().zip([(14_000, &contents[0]), (14_001, &contents[1])]) {
        assert_eq!((entry.sha256, entry.url.as_url().as_str()), (sha(content), &*url(id)));
    }
    assert_eq!(entries[1].path.as_str(), "loras/b.safetensors");
    fetch(&fixture, &entries);
    // Every other way to name it keeps the file, too, and the requests go to the site's main name.
    for way in [
        "civitai:140?fileId=14001",
        "https://civitai.com/models/14?modelVersionId=140&fileId=14001",
        "https://civitai.red/models/14/a-style?modelVersionId=140&fileId=14001",
        "https://www.civitai.red/api/download/models/140?fileId=14001&token=t",
    ] {
        let entry = fixture.entry(way);
        assert_eq!((entry.sha256, entry.url.as_url().as_str()), (sha(&contents[1]), &*url(14_001)), "{way}");
    }
    let followed =
        |entry: &Entry| block_on(fixture.builder().ask_again(entry, &Source::of_url(&entry.url), true));
    assert!(matches!(followed(&entries[1]), Ok(Followed::Unchanged)));
    let verdicts = fixture.check(&entries[1]);
    assert!(matches!(verdicts[0], Verdict::Right), "{}", verdicts[0]);
    fixture.assert_refused(&url(2), Kind::Gone, &["a.safetensors"]);
}

#[test]
fn github_declares_the_digest_and_an_old_asset_is_read() {
    let mut fixture = Fixture::new();
    let github = GitHub::mount(&fixture.site, &fixture.store);
    let content = Content::generated(1, 70_000);
    github.upload("o/r", "v1", "x.onnx", &content, true);
    github.upload("o/r", "v1", "old.onnx", &content, false);
    let found = fixture.one("github:o/r@v1/x.onnx");
    assert_eq!((found.sha256, found.size), (Some(sha(&content)), Some(content.size())));
    assert_eq!(found.url.as_url().as_str(), "https://github.com/o/r/releases/download/v1/x.onnx");
    assert_eq!((found.is_moving(), found.followed()), (true, None), "the address says the tag");
    let newest = fixture.one("github:o/r/x.onnx");
    assert_eq!(newest.url, found.url, "pinned to the newest release's tag");
    assert_eq!(newest.followed().as_deref(), Some("github:o/r/x.onnx"));
    let mut old = add_request("github:o/r@v1/old.onnx");
    old.explicit = Some("upscale_models/".to_owned());
    let entry = fixture.build(&old).unwrap().remove(0);
    assert_eq!((entry.path.as_str(), entry.sha256), ("upscale_models/old.onnx", sha(&content)));
    fixture.assert_refused("github:o/r@v1/typo", Kind::Gone, &["\"x.onnx\""]);

    github.hide("o/r", "ghp");
    fixture.assert_refused("github:o/r@v1/x.onnx", Kind::Gone, &["GITHUB_TOKEN"]);
    fixture.token = Some("ghp");
    fixture.one("github:o/r@v1/x.onnx");
    fixture.token = None;
    github.limit(Some(Limit::Primary(4_102_444_800)));
    fixture.assert_refused("github:o/r@v1/x.onnx", Kind::Unreachable, &["GITHUB_TOKEN", "2100"]);
}

#[test]
fn modelscope_declares_both_and_private_models_need_a_token() {
    let mut fixture = Fixture::new();
    let modelscope = ModelScope::mount(&fixture.site);
    let content = Content::generated(1, 700);
    modelscope.put("o/m", "master", "vae/x.safetensors", content.clone());
    let found = fixture.one("modelscope:o/m/vae/*");
    assert_eq!((found.sha256, found.size), (Some(sha(&content)), Some(700)));
    assert_eq!(
        found.url.as_url().as_str(),
        "https://modelscope.cn/models/o/m/resolve/master/vae/x.safetensors"
    );
    modelscope.hide("o/m", "ms");
    fixture.assert_refused("modelscope:o/m/vae/x.safetensors", Kind::Gone, &["MODELSCOPE_API_TOKEN"]);
    fixture.token = Some("ms");
    fixture.one("modelscope:o/m/vae/x.safetensors");
}

#[test]
fn a_registrys_blob_is_its_digest() {
    let fixture = Fixture::new();
    let registry = Registry::mount(&fixture.site, Some(&fixture.store));
    let content = Content::generated(1, 700);
    let digest = registry.push("models/vae", &content);
    registry.guard("models/vae");
    let source = format!("oci:{}/models/vae@{digest}", fixture.site.addr());
    let found = fixture.one(&source);
    assert_eq!((found.sha256, found.size, found.followed()), (Some(sha(&content)), Some(700), None));
    fixture.assert_refused(&source.replace(&digest[7..15], "00000000"), Kind::Gone, &["no such blob"]);
}

#[test]
fn an_update_follows_a_branch_and_keeps_pinned_entries() {
    let fixture = Fixture::new();
    let hub = Hub::mount(&fixture.site, &fixture.store);
    let (old, new) = (Content::generated(1, 1000), Content::generated(2, 2000));
    let small = Content::bytes("{}");
    let files = [("vae/a.safetensors", old.clone()), ("configs/c.json", small)];
    let before = hub.commit("o/r", "main", &files);
    let entry = fixture.entry("hf:o/r@main/vae/a.safetensors");
    let config = fixture.entry("hf:o/r@main/configs/c.json");
    let followed: Source = entry.source.as_deref().unwrap().parse().unwrap();
    assert_eq!(followed.to_string(), "hf:o/r@main/vae/a.safetensors");
    assert!(block_on(fixture.builder().follow(&entry, &followed, false)).unwrap().is_none(), "nothing moved");
    let asked = fixture.requests_to("/resolve/");
    let follows: Source = config.source.as_deref().unwrap().parse().unwrap();
    assert!(block_on(fixture.builder().follow(&config, &follows, true)).unwrap().is_none());
    assert_eq!(fixture.requests_to("/resolve/"), asked + 1, "an unmoved small file is not read again");

    let after = hub.commit("o/r", "main", &[("vae/a.safetensors", new.clone())]);
    let now = block_on(fixture.builder().follow(&entry, &followed, false)).unwrap().unwrap();
    assert_eq!((now.sha256, now.size, &now.path), (sha(&new), 2000, &entry.path));
    assert!(entry.url.as_url().path().contains(&before) && now.url.as_url().path().contains(&after));
    assert_eq!(now.source, entry.source);
    // The old commit still serves the old bytes.
    assert!(matches!(fixture.check(&entry)[0], Verdict::Right));
}

#[test]
fn a_check_distinguishes_replaced_gone_and_refused() {
    let fixture = Fixture::new();
    let (content, other) = (Content::generated(1, 1000), Content::generated(2, 1000));
    let (hub, _) = fixture.hub_with(&content);
    let mut entry = fixture.entry("hf:o/r/vae/a.safetensors");
    // A branch's URL, as people write it, and a mirror without a digest.
    entry.url = "https://huggingface.co/o/r/resolve/main/vae/a.safetensors".parse().unwrap();
    fixture.site.put("/mirror/a", content.clone());
    entry.mirrors = vec![fixture.site.url("/mirror/a").parse().unwrap()];
    let verdicts = fixture.check(&entry);
    assert!(matches!(verdicts[..], [Verdict::Right, Verdict::SizeOnly]), "{verdicts:?}");

    hub.commit("o/r", "main", &[("vae/a.safetensors", other.clone())]);
    let replaced = &fixture.check(&entry)[0];
    assert_eq!(replaced.kind(), Some(Kind::Differs));
    let said = replaced.to_string();
    assert!(said.contains(&content.sha256_hex()) && said.contains(&other.sha256_hex()), "{said}");
    hub.remove("o/r", "main", "vae/a.safetensors");
    assert_eq!(fixture.check(&entry)[0].kind(), Some(Kind::Gone));
    hub.hide("o/r", "hf_good");
    assert_eq!(fixture.check(&entry)[0].kind(), Some(Kind::Refused));
    fixture.site.put("/mirror/a", Content::generated(1, 999));
    let verdicts = fixture.check(&entry);
    assert_eq!(verdicts[1].kind(), Some(Kind::Differs), "{verdicts:?}");
    assert!(!fixture.destination().exists());
}
