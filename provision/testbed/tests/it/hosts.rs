//! The emulated hosts: the behaviour that clients of the real ones rely on.

use provision_testbed::hosts::civitai::{Civitai, File, Version};
use provision_testbed::hosts::github::{GitHub, Limit};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::hosts::modelscope::ModelScope;
use provision_testbed::hosts::oci::Registry;
use provision_testbed::{Content, Origin};
use serde_json::{Value, json};

use crate::client::{Reply, ask, connect, get, origin, read};

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

async fn head(origin: &Origin, target: &str, headers: &str) -> Reply {
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "HEAD", target, &format!("{headers}Connection: close\r\n")).await;
    read(&mut stream, true).await
}

/// The path and query of a redirect to this origin.
fn target<'a>(reply: &'a Reply, to: &Origin) -> &'a str {
    reply.header("location").unwrap().strip_prefix(&to.url("")).unwrap()
}

#[tokio::test]
async fn the_hub_lists_a_repository_page_by_page() {
    let (site, store) = (origin().await, origin().await);
    let hub = Hub::mount(&site, &store);
    let model = Content::generated(1, 5000);
    let commit = hub.commit(
        "org/repo",
        "main",
        &[("split_files/vae/x.safetensors", model.clone()), ("README.md", Content::bytes("hello"))],
    );
    let all = get(&site, "/api/models/org/repo/tree/main?recursive=true", "").await;
    assert_eq!((all.status, all.header("link")), (200, None));
    let entries = body(&all);
    let paths: Vec<_> = entries.as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["README.md", "split_files", "split_files/vae", "split_files/vae/x.safetensors"]);
    assert_eq!(entries[3]["lfs"]["oid"], model.sha256_hex());
    assert_eq!((&entries[3]["size"], &entries[3]["lfs"]["size"]), (&json!(5000), &json!(5000)));
    assert!(entries[0].get("lfs").is_none());
    // The output of `git hash-object` for these five bytes.
    assert_eq!(entries[0]["oid"], "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");

    hub.page(3);
    let mut next = "/api/models/org/repo/tree/main?recursive=true".to_owned();
    let mut found = Vec::new();
    loop {
        let page = get(&site, &next, "").await;
        found.extend(body(&page).as_array().unwrap().clone());
        let Some(link) = page.header("link") else { break };
        let url = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
        url.strip_prefix(&site.url("")).unwrap().clone_into(&mut next);
    }
    assert_eq!(Value::Array(found), entries);

    let by_commit = get(&site, &format!("/api/models/org/repo/tree/{commit}/split_files"), "").await;
    assert_eq!(body(&by_commit)[0]["path"], "split_files/vae");
    let shown = body(&get(&site, "/api/models/org/repo/revision/main?blobs=true", "").await);
    assert_eq!((shown["sha"].as_str(), shown["id"].as_str()), (Some(commit.as_str()), Some("org/repo")));
    assert_eq!(shown["siblings"][1]["lfs"]["sha256"], model.sha256_hex());

    for (target, code) in [
        ("/api/models/org/none", "RepoNotFound"),
        ("/api/models/org/repo/tree/nope", "RevisionNotFound"),
        ("/api/models/org/repo/tree/main/nope", "EntryNotFound"),
        ("/org/repo/resolve/main/nope", "EntryNotFound"),
    ] {
        let reply = get(&site, target, "").await;
        assert_eq!(reply.header("x-error-code"), Some(code), "{target}: {}", reply.status);
    }
}

#[tokio::test]
async fn the_hub_redirects_large_files_to_the_store_only() {
    let (site, store) = (origin().await, origin().await);
    let hub = Hub::mount(&site, &store);
    let (large, small) = (Content::generated(2, 900), Content::bytes("{}"));
    let commit =
        hub.commit("org/repo", "main", &[("a/x.safetensors", large.clone()), ("config.json", small.clone())]);

    let reply = head(&site, "/org/repo/resolve/main/a/x.safetensors", "").await;
    assert_eq!(reply.status, 302);
    assert_eq!(reply.header("x-repo-commit"), Some(commit.as_str()));
    assert_eq!(reply.header("x-linked-etag"), Some(format!("\"{}\"", large.sha256_hex()).as_str()));
    assert_eq!(reply.header("x-linked-size"), Some("900"));
    let hash = reply.header("x-xet-hash").unwrap();
    assert!(hash.len() == 64 && hash != large.sha256_hex(), "{hash}");
    let signed = target(&reply, &store);
    assert_eq!(get(&store, signed, "Range: bytes=1-2\r\n").await.body, large.slice(1..3));
    assert_eq!(head(&store, signed, "").await.status, 403, "a signature is good for GET only");
    store.expire_signatures();
    assert_eq!(get(&store, signed, "").await.status, 403);

    let reply = get(&site, "/org/repo/resolve/main/config.json", "").await;
    assert_eq!(reply.status, 307);
    let location = reply.header("location").unwrap();
    assert!(location.starts_with("/api/resolve-cache/models/org/repo/"), "{location}");
    assert_eq!(get(&site, location, "").await.body, b"{}");
    let without_query = location.split('?').next().unwrap();
    assert_eq!(get(&site, without_query, "").await.status, 404, "the query is part of the address");

    let newer = hub.commit("org/repo", "main", &[("a/x.safetensors", Content::generated(3, 901))]);
    assert_ne!(newer, commit);
    let moved = get(&site, "/org/repo/resolve/main/a/x.safetensors", "").await;
    assert_eq!(moved.header("x-linked-size"), Some("901"));
    let pinned = get(&site, &format!("/org/repo/resolve/{commit}/a/x.safetensors"), "").await;
    assert_eq!(pinned.header("x-linked-size"), Some("900"), "a commit does not change");
}

#[tokio::test]
async fn the_hub_has_gates_private_repositories_and_limits() {
    let (site, store) = (origin().await, origin().await);
    let hub = Hub::mount(&site, &store);
    for name in ["org/gated", "org/private"] {
        hub.commit(name, "main", &[("x.bin", Content::generated(1, 10))]);
    }
    hub.gate("org/gated", "hf_good");
    hub.hide("org/private", "hf_good");
    let (good, other) = ("Authorization: Bearer hf_good\r\n", "Authorization: Bearer hf_other\r\n");
    for (target, headers, status, code) in [
        ("/api/models/org/gated/tree/main", "", 200, None),
        ("/org/gated/resolve/main/x.bin", "", 401, Some("GatedRepo")),
        ("/org/gated/resolve/main/x.bin", other, 403, Some("GatedRepo")),
        ("/org/gated/resolve/main/x.bin", good, 302, None),
        ("/api/models/org/private/tree/main", other, 401, Some("RepoNotFound")),
        ("/org/private/resolve/main/x.bin", "", 401, Some("RepoNotFound")),
        ("/org/private/resolve/main/x.bin", good, 302, None),
    ] {
        let reply = get(&site, target, headers).await;
        assert_eq!((reply.status, reply.header("x-error-code")), (status, code), "{target} {headers}");
    }
    hub.limit_api(1, 55);
    assert_eq!(get(&site, "/api/models/org/gated/tree/main", "").await.status, 200);
    let refused = get(&site, "/api/models/org/gated/tree/main", "").await;
    assert_eq!((refused.status, refused.header("ratelimit")), (429, Some("\"api\";r=0;t=55")));
    assert_eq!(get(&site, "/org/gated/resolve/main/x.bin", good).await.status, 302, "another limit");
}

#[tokio::test]
async fn civitai_describes_versions_and_requires_a_known_client() {
    let (site, store) = (origin().await, origin().await);
    let civitai = Civitai::mount(&site, &store);
    let (full, half) = (Content::generated(1, 3000), Content::generated(2, 1500));
    let file = |name: &str, content: &Content, precision: &str| File {
        name: name.to_owned(),
        content: content.clone(),
        precision: Some(precision.to_owned()),
        is_hashed: true,
    };
    civitai.publish(
        42,
        Version {
            kind: "LORA".to_owned(),
            name: "A style".to_owned(),
            files: vec![file("a.safetensors", &full, "fp32"), file("b.safetensors", &half, "fp16")],
            token: Some("civ".to_owned()),
        },
    );
    let described = body(&get(&site, "/api/v1/model-versions/42", "").await);
    assert_eq!(described["model"]["type"], "LORA");
    assert_eq!(described["files"][0]["hashes"]["SHA256"], full.sha256_hex().to_ascii_uppercase());
    assert_eq!(described["files"][0]["sizeKB"], json!(3000.0 / 1024.0));
    let agent = "User-Agent: someone/1\r\n";
    let with_token = format!("{agent}Authorization: Bearer civ\r\n");
    let download = "/api/download/models/42";
    assert_eq!(get(&site, download, "").await.status, 403);
    assert_eq!(get(&site, download, "User-Agent: reqwest/0.12\r\n").await.status, 403);
    assert_eq!(head(&site, download, &with_token).await.status, 401);
    let stranger = get(&site, download, agent).await;
    assert_eq!(stranger.status, 307);
    let login = get(&site, stranger.header("location").unwrap(), agent).await;
    assert_eq!((login.status, login.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let reply = get(&site, download, &with_token).await;
    assert_eq!(get(&store, target(&reply, &store), "").await.body, full.to_vec());
    let reply = get(&site, &format!("{download}?fp=fp16"), &with_token).await;
    assert_eq!(get(&store, target(&reply, &store), "").await.body, half.to_vec());
    assert_eq!(
        get(&store, target(&reply, &store), &with_token).await.status,
        400,
        "two kinds of authorization"
    );
    assert_eq!(get(&site, "/api/v1/model-versions/43", "").await.status, 404);
}

#[tokio::test]
async fn github_describes_releases_and_limits_its_api() {
    let (site, store) = (origin().await, origin().await);
    let github = GitHub::mount(&site, &store);
    let content = Content::generated(1, 700);
    github.upload("o/r", "v1", "x.onnx", &content, true);
    github.upload("o/r", "v1", "old.onnx", &content, false);
    let api = "/api/v3/repos/o/r/releases/tags/v1";
    let release = body(&get(&site, api, "").await);
    assert_eq!(release["assets"][0]["digest"], format!("sha256:{}", content.sha256_hex()));
    assert_eq!(release["assets"][1]["digest"], Value::Null);
    let url = release["assets"][0]["browser_download_url"].as_str().unwrap();
    let reply = get(&site, url.strip_prefix(&site.url("")).unwrap(), "").await;
    assert_eq!(reply.status, 302);
    assert_eq!(get(&store, target(&reply, &store), "").await.body, content.to_vec());
    github.limit(Some(Limit::Primary(1_900_000_000)));
    let refused = get(&site, api, "").await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (403, Some("0")));
    for status in [403, 429] {
        github.limit(Some(Limit::Secondary { status, seconds: 7 }));
        let refused = get(&site, api, "").await;
        assert_eq!((refused.status, refused.header("retry-after")), (status, Some("7")));
        assert_ne!(refused.header("x-ratelimit-remaining"), Some("0"));
    }
    github.limit(None);
    github.hide("o/r", "ghp");
    assert_eq!(get(&site, api, "").await.status, 404);
    assert_eq!(get(&site, api, "Authorization: Bearer ghp\r\n").await.status, 200);
    let download = "/o/r/releases/download/v1/x.onnx";
    let token = "Authorization: Bearer ghp\r\n";
    for headers in ["", token] {
        assert_eq!(
            get(&site, download, headers).await.status,
            404,
            "a download requires a browser's session"
        );
    }
    let asset = "/api/v3/repos/o/r/releases/assets/1";
    let bytes = "Accept: application/octet-stream\r\n";
    assert_eq!(get(&site, asset, bytes).await.status, 404);
    assert_eq!(body(&get(&site, asset, token).await)["name"], "x.onnx");
    let reply = get(&site, asset, &format!("{token}{bytes}")).await;
    assert_eq!(reply.status, 302);
    assert_eq!(get(&store, target(&reply, &store), "").await.body, content.to_vec());
    let before = body(&get(&site, api, token).await);
    github.upload("o/r", "v1", "x.onnx", &content, true);
    let after = body(&get(&site, api, token).await);
    let of = |release: &Value| {
        let assets = release["assets"].as_array().unwrap().iter();
        let asset = assets.clone().find(|asset| asset["name"] == "x.onnx").unwrap();
        (asset["id"].clone(), asset["updated_at"].clone())
    };
    assert!(of(&before).0 != of(&after).0 && of(&before).1 != of(&after).1, "another asset of that name");
}

#[tokio::test]
async fn modelscope_lists_digests_and_serves_ranges() {
    let site = origin().await;
    let modelscope = ModelScope::mount(&site);
    let content = Content::generated(1, 700);
    modelscope.put("o/m", "master", "vae/x.safetensors", content.clone());
    let listed = body(&get(&site, "/api/v1/models/o/m/repo/files?Revision=master&Recursive=true", "").await);
    assert_eq!(listed["Code"], 200);
    assert_eq!(listed["Data"]["Files"][0]["Sha256"], content.sha256_hex());
    let path = "/models/o/m/resolve/master/vae/x.safetensors";
    let reply = get(&site, path, "Range: bytes=3-9\r\n").await;
    assert_eq!((reply.status, reply.body), (206, content.slice(3..10)));
    modelscope.hide("o/m", "ms");
    assert_eq!(get(&site, path, "").await.status, 404);
    assert_eq!(get(&site, path, "Authorization: Bearer ms\r\n").await.status, 200);
}

#[tokio::test]
async fn a_registry_challenges_and_its_service_issues_tokens() {
    let (site, store) = (origin().await, origin().await);
    let registry = Registry::mount(&site, None);
    let content = Content::generated(1, 700);
    let digest = registry.push("models/vae", &content);
    let blob = format!("/v2/models/vae/blobs/{digest}");
    let reply = get(&site, &blob, "Range: bytes=3-9\r\n").await;
    assert_eq!((reply.status, reply.body), (206, content.slice(3..10)));
    registry.guard("models/vae");
    let refused = head(&site, &blob, "").await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer realm=\"")
            && challenge.contains("scope=\"repository:models/vae:pull\"")
    );
    let service = "/token?service=testbed&scope=repository%3Amodels%2Fvae%3Apull";
    let token = body(&get(&site, service, "").await)["token"].as_str().unwrap().to_owned();
    assert_eq!(get(&site, &blob, &format!("Authorization: Bearer {token}\r\n")).await.status, 200);
    registry.guard_with("models/vae", "Basic dTpw");
    assert_eq!(get(&site, service, "").await.status, 401);
    assert_eq!(get(&site, service, "Authorization: Basic dTpw\r\n").await.status, 200);

    let other = origin().await;
    let registry = Registry::mount(&other, Some(&store));
    let digest = registry.push("m", &content);
    let reply = get(&other, &format!("/v2/m/blobs/{digest}"), "").await;
    assert_eq!(reply.status, 307);
    assert_eq!(get(&store, target(&reply, &store), "").await.body, content.to_vec());
    let unknown = get(&other, "/v2/m/blobs/sha256:00", "").await;
    assert_eq!(body(&unknown)["errors"][0]["code"], "BLOB_UNKNOWN");
}
