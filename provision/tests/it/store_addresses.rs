//! Stores of the site and of the lock, by their addresses: a web server, a registry, a bucket, a directory.

use provision_core::redact::Redactor;
use provision_core::store_address::StoreAddress;
use provision_http::Secret;
use provision_http::credential_service::Services;
use provision_http::s3_config::{CredentialsFuture, CredentialsProvider, S3Credentials};
use provision_testbed::hosts::oci::Registry;

use crate::prelude::*;

const SIZE: u64 = 3_000_000;

fn content() -> Content {
    Content::generated(7, SIZE)
}

/// A fixture whose lock has one file at its origin, and a store that is another host.
fn fixture() -> (Fixture, BlockingOrigin) {
    let mut fixture = Fixture::new();
    fixture.file("vae/x", &content());
    (fixture, start_origin("127.0.0.3"))
}

fn address(text: &str) -> StoreAddress {
    StoreAddress::parse(text, &|_| None).unwrap()
}

/// The requests for bytes of the file.
fn requests(origin: &BlockingOrigin) -> usize {
    origin.requests().len()
}

#[test]
fn a_web_server_by_template_is_asked_before_the_lock() {
    let (mut fixture, store) = fixture();
    store.put(&format!("/m/{}/{SIZE}", content().sha256_hex()), content());
    fixture.stores = vec![address(&format!("{}m/{{sha256}}/{{size}}", store.url("/")))];
    fixture.fetch_all();
    assert_eq!(requests(&fixture.origin), 0);
}

#[test]
fn a_registry_is_asked_with_its_own_token() {
    let (mut fixture, store) = fixture();
    let registry = Registry::mount(&store, None);
    registry.push("team/models", &content());
    registry.guard("team/models");
    fixture.stores = vec![address(&format!("oci://{}/team/models?ns=registry.example", store.addr()))];
    fixture.fetch_all();
    assert_eq!(requests(&fixture.origin), 0);
    let blobs = store.requests().into_iter().filter(|request| request.path.contains("/blobs/"));
    assert!(
        blobs.clone().count() > 0 && blobs.clone().all(|blob| blob.target.ends_with("?ns=registry.example"))
    );
}

#[test]
fn a_store_without_the_file_is_asked_once() {
    let (mut fixture, store) = fixture();
    Registry::mount(&store, None);
    fixture.stores = vec![
        address(&format!("oci://{}/team/models", store.addr())),
        address(&format!("{}m/{{sha256}}", store.url("/"))),
        address(&format!("s3://bucket/p?endpoint={}", store.url("/"))),
    ];
    fixture.fetch_all();
    assert!(requests(&store) <= 3, "{:?}", store.requests());
}

#[test]
fn a_registry_that_answers_416_at_length_is_left() {
    let (mut fixture, store) = fixture();
    // As docker-registry: the length of the blob, a short body, and the end of the connection.
    let answer = "HTTP/1.1 416 Requested Range Not Satisfiable\r\nContent-Length: 900000000\r\n\
                  Content-Range: bytes */3\r\n\r\ninvalid range: the blob is short\n";
    let blob = format!("/v2/m/blobs/sha256:{}", content().sha256_hex());
    store.put(&blob, Content::bytes("abc"));
    store.inject(&blob, Fault::Raw(answer.into()));
    fixture.stores = vec![address(&format!("oci://{}/m", store.addr()))];
    let began = Instant::now();
    fixture.fetch_all();
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

/// Keys that never change.
#[derive(Debug)]
struct Keys;

fn keys() -> S3Credentials {
    S3Credentials {
        access_key: "AKIAEXAMPLE".to_owned(),
        secret_key: Secret::new(format!("{MARK}-s3")),
        session_token: None,
        expires: None,
        source: "AWS_ACCESS_KEY_ID".to_owned(),
    }
}

impl CredentialsProvider for Keys {
    fn credentials<'a>(&'a self, _: &'a dyn Services, _: Option<&'a S3Credentials>) -> CredentialsFuture<'a> {
        Box::pin(std::future::ready(Ok(Some(keys()))))
    }

    fn add_to(&self, redactor: &mut Redactor) {
        keys().add_to(redactor);
    }
}

#[test]
fn fault_134_a_bucket_gets_signatures_and_no_other_host_does() {
    let (mut fixture, store) = fixture();
    let key = format!("/b/p/{}", content().sha256_hex());
    store.put(&key, content());
    // The first answer is of a wrong region, the second of a wrong clock.
    let error = |code: &str, more: &str| Fault::Status {
        code: if more.is_empty() { 403 } else { 400 },
        headers: vec![("Date".to_owned(), "Fri, 24 May 2030 00:00:00 GMT".to_owned())],
        body: format!("<Error><Code>{code}</Code><Message>{MARK}-s3</Message>{more}</Error>").into(),
    };
    let region = error("AuthorizationHeaderMalformed", "<Region>eu-1</Region>");
    store.inject(&key, region.when(When::Nth(0)));
    store.inject(&key, error("RequestTimeTooSkewed", "").when(When::Nth(1)));
    let bucket = format!("s3://b/p?endpoint={}", store.url("/"));
    fixture.stores = vec![address(&bucket)];
    fixture.http.s3.credentials = Arc::new(Keys);
    let report = fixture.fetch_all();
    let text = format!("{report:?} {}", fixture.events.text());
    assert!(!text.contains("X-Amz-Signature") && !text.contains("AKIA"), "{text}");
    let signed: Vec<_> = store.requests().into_iter().map(|request| request.target).collect();
    assert!(signed.iter().all(|target| target.contains("X-Amz-Signature=")), "{signed:?}");
    let right = |target: &String| target.contains("%2Feu-1%2Fs3%2F") && target.contains("X-Amz-Date=203005");
    assert!(signed.iter().skip(2).all(right) && signed.len() > 2, "{signed:?}");
    assert_eq!(requests(&fixture.origin), 0);
}

#[test]
fn fault_135_a_key_that_a_bucket_refuses_is_named() {
    let mut fixture = Fixture::new();
    let store = start_origin("127.0.0.3");
    // The lock's only source is the bucket.
    let bucket = format!("s3://b/{{path}}?endpoint={}", store.url("/"));
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>";
    store.inject("/b/vae/x", Fault::Status { code: 403, headers: Vec::new(), body: body.into() });
    fixture.model("vae/x", &content(), &[bucket]);
    fixture.http.s3.credentials = Arc::new(Keys);
    let error = fixture.fetch_refused();
    assert!(error.is_refusal() && error.reason().contains("AWS_ACCESS_KEY_ID"), "{error}");
}

/// A directory beside the destination that has these bytes under the file's digest.
fn directory(fixture: &Fixture, name: &str, bytes: &[u8]) -> PathBuf {
    let path = fixture.beside(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join(content().sha256_hex()), bytes).unwrap();
    path
}

fn file_address(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[test]
fn a_directory_is_read_also_offline() {
    let (mut fixture, _) = fixture();
    let path = directory(&fixture, "store", &content().to_vec());
    fixture.stores = vec![address(&file_address(&path))];
    fixture.config.offline = true;
    let report = fixture.fetch_all();
    assert!(matches!(report.files[0].result, Ok(Some(Outcome::Reused))));
    assert_eq!(report.files[0].store.as_deref(), Some(&*file_address(&path)));
}

#[test]
fn fault_136_a_directory_with_wrong_bytes_is_said_once_and_left() {
    let (mut fixture, _) = fixture();
    let mut wrong = content().to_vec();
    wrong[1_000_000] ^= 1;
    let path = directory(&fixture, "wrong", &wrong);
    // A file of another length is one that is not there.
    let second = Content::generated(8, 1_000_000);
    fixture.file("vae/y", &second);
    std::fs::write(path.join(second.sha256_hex()), b"short").unwrap();
    fixture.stores = vec![address(&file_address(&path))];
    fixture.fetch_all();
    let said = fixture.events.filter_map(|event| match event {
        Event::Warning { message } if message.contains("is not used any more") => Some(message.clone()),
        _ => None,
    });
    assert_eq!(said.len(), 1, "{said:?}");
    // Where no other source has it, the wrong bytes are the reason.
    std::fs::remove_dir_all(fixture.destination()).unwrap();
    fixture.origin.inject("/vae/x", Fault::status(404));
    let report = fixture.fetch().unwrap();
    let error = report.files.iter().find_map(|file| file.result.as_ref().err()).unwrap();
    assert!(error.is_integrity() && error.reason().contains("the bytes have SHA-256"), "{error}");
}

#[test]
fn a_directory_may_be_the_only_source_of_a_lock() {
    let mut fixture = Fixture::new();
    let path = directory(&fixture, "store", &content().to_vec());
    fixture.model("vae/x", &content(), &[file_address(&path)]);
    fixture.fetch_all();
    let mut without = Fixture::new();
    let nothing = file_address(&without.beside("nothing"));
    without.model("vae/x", &content(), &[nothing]);
    let error = without.fetch_refused();
    assert!(error.reason().contains("no such file") && !error.is_integrity(), "{error}");
}

#[test]
fn fault_137_a_remote_lock_names_nothing_of_this_machine() {
    let place = Fixture::new();
    let directory = file_address(&directory(&place, "store", &content().to_vec()));
    let (_, evil) = fixture();
    let endpoint = format!("s3://b/{{path}}?endpoint={}", evil.url(""));
    for source in [directory, endpoint] {
        let mut fixture = Fixture::new();
        fixture.model("vae/x", &content(), &[source]);
        let text = fixture.lock_text();
        fixture.origin.put("/models.lock", Content::bytes(text.clone()));
        let pin = Sha256::of(text.as_bytes()).to_string();
        let url = fixture.origin.url("/models.lock");
        run(&mut fetch(&fixture, &["--lock", &url, "--lock-sha256", &pin])).exits(3).err_has(&["--store"]);
    }
    assert_eq!(requests(&evil), 0, "a host of the lock's choice got a signature");
}

#[test]
fn fault_133_the_secret_of_a_store_is_never_shown() {
    let (fixture, store) = fixture();
    let secret = format!("sv=1&sig={MARK}-sas");
    secrets::belongs_to(&store, &format!("{MARK}-sas"));
    let path = format!("/m/{}", content().sha256_hex());
    let body = format!("<Error><Code>No</Code><Message>{secret}</Message></Error>");
    store.inject(&path, Fault::Status { code: 403, headers: Vec::new(), body: body.into() });
    let text = format!("{}m/{{sha256}}?{{env:STORE_SAS}}", store.url("/"));
    let shown = |arguments: &[&str], value: Option<&str>| {
        let mut command = fetch(&fixture, arguments);
        command.env("PROVISION_STORE", &text);
        if let Some(value) = value {
            command.env("STORE_SAS", value);
        }
        run(&mut command)
    };
    shown(&[], None).exits(2).err_has(&["STORE_SAS"]);
    assert_eq!(shown(&["--dry-run"], Some(&secret)).code, Some(0));
    let report = fixture.beside("report.json");
    shown(&["-v", "--report", report.to_str().unwrap()], Some(&secret)).exits(0);
    assert!(store.requests().iter().any(|request| request.target.contains(&secret)));
    // A complete set opens nothing, so it needs no value.
    assert_eq!(shown(&[], None).code, Some(0));
}
