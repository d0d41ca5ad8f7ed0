//! Addresses, signatures and refusals of buckets.

use std::sync::Arc;

use super::*;
use crate::auth::credentials::Secret;
use crate::client::ClientConfig;
use crate::credential_service::Services;
use crate::s3_config::{CredentialsFuture, CredentialsProvider};
use provision_core::redact::Redactor;
use provision_core::store_address::StoreAddress;

const SHA: &str = "a70580f0213e67967ee9c95f05bb400e8fb08307e017a924bf3441223e023d1f";

/// Gives the same keys each time.
#[derive(Debug)]
struct Fixed(S3Credentials);

impl CredentialsProvider for Fixed {
    fn credentials<'a>(&'a self, _: &'a dyn Services, _: Option<&'a S3Credentials>) -> CredentialsFuture<'a> {
        Box::pin(std::future::ready(Ok(Some(self.0.clone()))))
    }

    fn add_to(&self, redactor: &mut Redactor) {
        self.0.add_to(redactor);
    }
}

fn client(with_keys: bool, sources: Sources) -> Arc<HttpClient> {
    let mut config = ClientConfig { sources, ..ClientConfig::default() };
    if with_keys {
        config.s3.credentials = Arc::new(Fixed(S3Credentials {
            access_key: "AKIAEXAMPLE".to_owned(),
            secret_key: Secret::new("canary/secret+key"),
            session_token: Some(Secret::new("canary-token")),
            expires: None,
            source: "AWS_ACCESS_KEY_ID".to_owned(),
        }));
    }
    HttpClient::new(config).unwrap()
}

fn object(text: &str) -> SourceUrl {
    let address = StoreAddress::parse(text, &|_| None).unwrap();
    address.url_of(&"vae/a b".parse().unwrap(), 1, &SHA.parse().unwrap()).unwrap()
}

fn shown(client: &HttpClient, text: &str) -> String {
    client.effective(&object(text)).as_url().to_string().replace(SHA, "SHA")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn xml(code: &str, rest: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>canary-token, no</Message>{rest}</Error>"
    )
}

#[test]
fn an_object_has_an_address_at_its_endpoint() {
    let client = client(false, Sources::Own);
    for (text, url) in [
        ("s3://b/p", "https://b.s3.us-east-1.amazonaws.com/p/SHA"),
        ("s3://b.c/p?region=eu-1", "https://s3.eu-1.amazonaws.com/b.c/p/SHA"),
        ("s3://b?region=cn-north-1", "https://b.s3.cn-north-1.amazonaws.com.cn/SHA"),
        ("s3://b/p?endpoint=http://minio:9000/x", "http://minio:9000/x/b/p/SHA"),
        ("s3://b/{path}?endpoint=https://h&style=virtual", "https://b.h/vae/a%20b"),
        ("s3://b?endpoint=https://10.0.0.1&style=virtual", "https://10.0.0.1/b/SHA"),
    ] {
        assert_eq!(shown(&client, text), url, "{text}");
        let once = client.effective(&object(text));
        assert_eq!(client.effective(&once), once);
    }
}

#[test]
fn fault_134_a_signature_is_for_one_request_and_shows_no_secret() {
    let client = client(true, Sources::Own);
    let at = client.effective(&object("s3://b/p"));
    let signed = runtime().block_on(client.sign(&at, Method::Get, &[], &[])).unwrap();
    let url = signed.as_url().as_str();
    assert!(url.contains("X-Amz-Signature=") && url.contains("X-Amz-Security-Token=canary-token"), "{url}");
    assert!(url.contains("us-east-1%2Fs3%2Faws4_request") && !url.contains("canary%2Fsecret"), "{url}");
    assert!(!signed.to_string().contains("X-Amz") && at.as_url().query().is_none(), "{signed}");
    // Nothing is signed for a list's own endpoint, and without keys.
    let listed = self::client(true, Sources::Listed { private: false, http: false });
    let theirs = listed.effective(&object("s3://b/p?endpoint=https://evil.example"));
    let unsigned = runtime().block_on(listed.sign(&theirs, Method::Get, &[], &[])).unwrap();
    assert_eq!(unsigned.as_url().query(), None);
    let anonymous = self::client(false, Sources::Own);
    let plain = runtime().block_on(anonymous.sign(&at, Method::Get, &[("a", "b c")], &[])).unwrap();
    assert_eq!(plain.as_url().query(), Some("a=b+c"));
}

#[test]
fn fault_115_a_list_leads_to_no_private_endpoint_and_no_file() {
    let listed = client(true, Sources::Listed { private: false, http: false });
    for text in [
        "s3://b?endpoint=http://127.0.0.1:9000",
        "s3://b?endpoint=https://10.0.0.1",
        "s3://b?endpoint=http://h.example",
    ] {
        assert!(matches!(listed.first(&object(text)), Err(RequestError::Untrusted { .. })), "{text}");
    }
    assert!(listed.first(&object("s3://b")).is_ok_and(|chain| chain.public_only));
    let file = SourceUrl::of_file("/etc/passwd".into()).unwrap();
    assert!(matches!(client(true, Sources::Own).first(&file), Err(RequestError::Untrusted { .. })));
}

#[test]
fn region_clock_and_keys_are_corrected_once() {
    let client = client(true, Sources::Own);
    let at = client.effective(&object("s3://b/p"));
    let sign = || {
        runtime()
            .block_on(client.sign(&client.effective(&object("s3://b/p")), Method::Get, &[], &[]))
            .unwrap()
            .into_owned()
    };
    sign();
    let mut headers = HeaderMap::new();
    headers.insert(header::DATE, "Fri, 24 May 2013 00:00:00 GMT".parse().unwrap());
    let mut corrected = Corrected::default();
    let mut corrects = |status: u16, body: &str, headers: &HeaderMap| {
        let status = StatusCode::from_u16(status).unwrap();
        client.corrects(&at, (status, headers), body.as_bytes(), &mut corrected)
    };
    let region = xml("AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>");
    assert!(corrects(400, &region, &headers));
    assert!(!corrects(400, &region, &headers), "once");
    assert!(corrects(403, &xml("RequestTimeTooSkewed", ""), &headers));
    assert!(!corrects(403, &xml("RequestTimeTooSkewed", ""), &headers), "once");
    assert!(corrects(400, &xml("ExpiredToken", ""), &headers));
    for code in ["NoSuchKey", "InvalidAccessKeyId", "AccessDenied"] {
        assert!(!corrects(403, &xml(code, ""), &headers), "{code}");
    }
    let url = sign();
    assert!(url.as_url().as_str().contains("eu-central-1%2Fs3"), "{}", url.as_url());
    assert_eq!(url.host(), "b.s3.eu-central-1.amazonaws.com");
    // Of another host than the clock's, which moved with the region.
    assert!(!url.as_url().as_str().contains("X-Amz-Date=2013"), "{}", url.as_url());
    assert!(client.buckets.known().ahead[&at.authority()] < 0);
}

#[test]
fn a_clock_of_plain_http_moves_a_signature_by_a_day_at_most() {
    let client = client(true, Sources::Own);
    let skewed = |endpoint: &str, ahead: u64| {
        let at = client.effective(&object(&format!("s3://b/p?endpoint={endpoint}")));
        let date = wall_clock() + std::time::Duration::from_secs(ahead);
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, httpdate::fmt_http_date(date).parse().unwrap());
        let body = xml("RequestTimeTooSkewed", "");
        client.corrects(&at, (StatusCode::FORBIDDEN, &headers), body.as_bytes(), &mut Corrected::default())
    };
    assert!(skewed("http://minio:9000", 80_000));
    assert!(!skewed("http://minio:9000", 90_000), "a signature for another day");
    assert!(skewed("https://minio:9000", 90_000) && skewed("http://127.0.0.1:9000", 90_000));
}

#[test]
fn a_region_is_learnt_for_the_endpoint_that_says_it() {
    let client = client(true, Sources::Own);
    let at = client.effective(&object("s3://b/p?endpoint=https://evil.example"));
    let body = xml("AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>");
    let answer = (StatusCode::BAD_REQUEST, &HeaderMap::new());
    assert!(client.corrects(&at, answer, body.as_bytes(), &mut Corrected::default()));
    assert_eq!(shown(&client, "s3://b/p"), "https://b.s3.us-east-1.amazonaws.com/p/SHA");
}

#[test]
fn an_unsigned_refusal_of_a_list_names_no_key() {
    let listed = client(true, Sources::Listed { private: false, http: false });
    runtime().block_on(listed.sign(&listed.effective(&object("s3://b/p")), Method::Get, &[], &[])).unwrap();
    let at = listed.effective(&object("s3://b/p?endpoint=https://evil.example"));
    let chain = Resolved::first(at.clone());
    let (status, headers) = (StatusCode::FORBIDDEN, HeaderMap::new());
    let body = xml("InvalidAccessKeyId", "");
    let error = listed.failure(status, &headers, &chain, false, body.as_bytes()).unwrap();
    assert!(!error.to_string().contains("AWS_ACCESS_KEY_ID:"), "{error}");
    assert!(!error.to_string().contains("does not accept the S3 key"), "{error}");
    let expired = xml("ExpiredToken", "");
    let answer = (StatusCode::BAD_REQUEST, &headers);
    assert!(!listed.corrects(&at, answer, expired.as_bytes(), &mut Corrected::default()), "no key was sent");
}

#[test]
fn fault_135_a_refused_key_is_named_and_a_hidden_object_is_a_miss() {
    let client = client(true, Sources::Own);
    let store = client.effective(&object("s3://b/p"));
    runtime().block_on(client.sign(&store, Method::Get, &[], &[])).unwrap();
    let mut of_lock = (**store.object().unwrap()).clone();
    of_lock.is_store = false;
    let of_lock = client.effective(&SourceUrl::of_object(of_lock).unwrap());
    let failure = |at: &SourceUrl, status: u16, code: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        let chain = Resolved::first(at.clone());
        client.failure(status, &HeaderMap::new(), &chain, false, xml(code, "").as_bytes()).unwrap()
    };
    for (at, status, code, is_refusal, word) in [
        (&store, 403, "InvalidAccessKeyId", true, "the S3 key in AWS_ACCESS_KEY_ID"),
        (&store, 403, "SignatureDoesNotMatch", true, "the S3 key in AWS_ACCESS_KEY_ID"),
        (&store, 400, "ExpiredToken", true, "the S3 key in AWS_ACCESS_KEY_ID"),
        (&store, 403, "RequestTimeTooSkewed", true, "clock"),
        (&store, 403, "AccessDenied", false, "may not read this object"),
        (&of_lock, 403, "AccessDenied", true, "may not read this object"),
        (&store, 404, "NoSuchKey", false, "check the bucket"),
    ] {
        let error = failure(at, status, code);
        assert_eq!(error.is_refusal(), is_refusal, "{code}: {error}");
        assert!(error.to_string().contains(word) && !error.to_string().contains("canary"), "{error}");
    }
    assert!(matches!(failure(&store, 503, "SlowDown"), RequestError::Busy { .. }));
}
