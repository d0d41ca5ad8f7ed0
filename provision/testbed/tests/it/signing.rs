//! Signed URLs, and the small Hub that redirects to them.

use provision_testbed::{Content, Control, Fault, SIGNATURE_PREFIX};

use crate::client::{ask, connect, get, origin, read};

#[tokio::test]
async fn fault_35_a_signature_expires_and_a_new_one_is_issued() {
    let origin = origin().await;
    let content = Content::generated(1, 100);
    origin.put_hub("o/r", "main", "model", content.clone());
    let (path, signed) = ("/o/r/resolve/main/model", "/signed/o/r/resolve/main/model");
    let mut targets = Vec::new();
    for _ in 0..2 {
        let entry = get(&origin, path, "").await;
        assert_eq!(entry.status, 302);
        let target = entry.header("location").unwrap().strip_prefix(&origin.url("")).unwrap().to_owned();
        assert!(
            target.starts_with(&format!("{signed}?sig=")) && target.contains(SIGNATURE_PREFIX),
            "{target}"
        );
        assert_eq!(get(&origin, &target, "Range: bytes=5-9\r\n").await.body, content.slice(5..10));
        targets.push(target);
        origin.expire_signatures();
    }
    assert_ne!(targets[0], targets[1]);
    for target in targets {
        let reply = get(&origin, &target, "").await;
        assert_eq!(reply.status, 403);
        assert!(String::from_utf8(reply.body).unwrap().contains("Request has expired"));
    }
    assert_eq!(get(&origin, signed, "").await.status, 403);
    origin.inject(&Control::signed_path(path), Fault::status(401));
    assert_eq!(get(&origin, signed, "").await.status, 401);
}

#[tokio::test]
async fn a_hub_redirects_to_a_host_that_rejects_its_token() {
    let (hub, cdn) = (origin().await, origin().await);
    let content = Content::generated(2, 50);
    let url = hub.put_hub_on(&cdn, "org/repo", "main", "vae/x.safetensors", content.clone());
    assert_eq!(url, hub.url("/org/repo/resolve/main/vae/x.safetensors"));
    hub.require_token("/org/repo/", "hf_secret", "GatedRepo");
    let entry = "/org/repo/resolve/main/vae/x.safetensors";

    let reply = get(&hub, entry, "").await;
    assert_eq!((reply.status, reply.header("x-error-code")), (401, Some("GatedRepo")));
    assert!(reply.header("x-error-message").is_some());

    let reply = get(&hub, entry, "Authorization: Bearer hf_secret\r\n").await;
    assert_eq!(reply.status, 302);
    assert_eq!(reply.header("x-repo-commit").unwrap().len(), 40);
    assert_eq!(reply.header("x-linked-etag"), Some(format!("\"{}\"", content.sha256_hex()).as_str()));
    assert_eq!(reply.header("x-linked-size"), Some("50"));
    let target = reply.header("location").unwrap().strip_prefix(&cdn.url("")).unwrap();
    assert_eq!(get(&cdn, target, "").await.body, content.to_vec());
    assert_eq!(get(&cdn, target, "Authorization: Bearer hf_secret\r\n").await.status, 400);
    let mut stream = connect(cdn.addr()).await;
    ask(&mut stream, "HEAD", target, "Connection: close\r\n").await;
    assert_eq!(read(&mut stream, true).await.status, 403);
}
