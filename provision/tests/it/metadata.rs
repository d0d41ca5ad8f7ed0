//! Documents, probes, waits, and a registry's tokens.

use provision_core::backoff::RetryPolicy;
use provision_core::source_url::SourceUrl;
use provision_http::RequestError;
use provision_http::metadata::{MetadataClient, MetadataError, Wait};
use provision_testbed::hosts::github::{GitHub, Limit};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::hosts::oci::Registry;
use provision_testbed::{BlockingOrigin, Content, Fault, OriginConfig as TestbedConfig, When};

use crate::prelude::*;

fn start() -> BlockingOrigin {
    BlockingOrigin::start(TestbedConfig::default()).unwrap()
}

fn policy() -> RetryPolicy {
    RetryPolicy { retries: 3, base: Duration::from_millis(2), ..RetryPolicy::default() }
}

/// A client with `config`; `on_wait` receives waits.
fn metadata_client(config: ClientConfig, on_wait: impl Fn(&Wait) + Send + Sync + 'static) -> MetadataClient {
    MetadataClient::new(&HttpClient::new(config).unwrap(), policy(), Arc::new(on_wait))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn url(text: &str) -> SourceUrl {
    text.parse().unwrap()
}

#[test]
fn a_document_names_its_next_page_and_says_that_it_wants_json() {
    let (site, store) = (start(), start());
    let hub = Hub::mount(&site, &store);
    hub.commit("o/r", "main", &[("a.bin", Content::generated(1, 9)), ("b.bin", Content::generated(2, 9))]);
    hub.page(1);
    let metadata = metadata_client(ClientConfig::default(), |_| {});
    let tree = url(&site.url("/api/models/o/r/tree/main"));
    let first = block_on(metadata.json(&tree)).unwrap();
    let second = block_on(metadata.json(first.next.as_ref().unwrap())).unwrap();
    assert!(second.next.is_none());
    let entries: Vec<serde_json::Value> = second.parse().unwrap();
    assert_eq!(entries[0]["path"], "b.bin");
    assert_eq!(site.requests()[0].header("accept"), Some("application/json"));
    assert!(matches!(second.parse::<u8>(), Err(MetadataError::Malformed { .. })));

    site.inject("/api/models/o/r/tree/main", Fault::redirect("https://elsewhere.invalid/"));
    assert!(block_on(metadata.json(&tree)).is_err());
}

#[test]
fn fault_98_a_silent_host_is_asked_once_for_all_its_files() {
    let site = start();
    let files: Vec<_> = (0..50).map(|n| format!("/{n}")).collect();
    for path in &files {
        site.inject(path, Fault::NoAnswer);
    }
    let config = ClientConfig { head_timeout: Duration::from_millis(100), ..ClientConfig::default() };
    let metadata = metadata_client(config, |_| {});
    for path in &files {
        let error = block_on(metadata.probe(&url(&site.url(path)))).unwrap_err();
        assert!(error.to_string().contains("no data for 0.1 s"), "{error}");
    }
    assert_eq!(site.counters().requests, 3);
    // Another host is still asked.
    let other = start();
    other.put("/x", Content::generated(1, 9));
    block_on(metadata.probe(&url(&other.url("/x")))).unwrap();
}

#[test]
fn fault_96_a_host_that_comes_late_is_waited_for_by_a_lock_verb() {
    let site = start();
    site.put("/x", Content::generated(1, 9));
    site.inject("/x", Fault::status(503).when(When::First(9)));
    let patient = RetryPolicy {
        give_up_after: Duration::from_secs(20),
        longest: Duration::from_millis(20),
        ..policy()
    };
    let client = HttpClient::new(ClientConfig::default()).unwrap();
    let metadata = MetadataClient::new(&client, patient, Arc::new(|_| {}));
    block_on(metadata.probe(&url(&site.url("/x")))).unwrap();
    assert_eq!(site.counters().requests, 10);
}

#[test]
fn fault_110_a_wait_until_the_end_of_time_is_an_error() {
    let site = start();
    for (name, value) in [
        ("Retry-After", "999999999999"),
        ("Retry-After", "18446744073709551615"),
        ("Retry-After", "99999999999999999999999999"),
        ("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("RateLimit", "\"api\";r=0;t=18446744073709551615"),
        ("X-RateLimit-Reset", "18446744073709551615"),
        ("X-RateLimit-Reset", "999999999999"),
    ] {
        site.clear_faults("/x");
        let mut headers = vec![(name.to_owned(), value.to_owned())];
        headers.push(("X-RateLimit-Remaining".to_owned(), "0".to_owned()));
        let code = if name == "X-RateLimit-Reset" { 403 } else { 429 };
        site.inject("/x", Fault::Status { code, headers, body: "later\n".into() });
        let metadata = metadata_client(ClientConfig::default(), |_| {});
        let error = block_on(metadata.probe(&url(&site.url("/x")))).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("limits requests") || text.contains(&code.to_string()), "{value}: {text}");
    }
}

#[test]
fn a_probe_reads_one_byte_and_keeps_the_redirect_headers() {
    let (site, store) = (start(), start());
    let hub = Hub::mount(&site, &store);
    let content = Content::generated(1, 5_000_000);
    let commit = hub.commit("o/r", "main", &[("x.bin", content.clone())]);
    let metadata = metadata_client(ClientConfig::default(), |_| {});
    let probe = block_on(metadata.probe(&url(&site.url("/o/r/resolve/main/x.bin")))).unwrap();
    assert_eq!(probe.commit(), Some(commit.as_str()));
    assert_eq!(probe.linked(), Some((content.sha256_hex().as_str(), Some(content.size()))));
    assert_eq!((probe.size, probe.has_ranges), (Some(content.size()), true));
    // The server counts a byte after it has sent it.
    let sent = store.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 0).unwrap();
    assert_eq!(sent.body_bytes_sent, 1);
    assert!(site.requests().iter().chain(&store.requests()).all(|request| request.method == "GET"));

    // Without ranges the whole body would come; the probe reads the length from the head and stops.
    let stored = Hub::stored_path(&content);
    store.inject(&stored, Fault::IgnoreRange { accept_ranges: false });
    let probe = block_on(metadata.probe(&url(&site.url("/o/r/resolve/main/x.bin")))).unwrap();
    assert_eq!((probe.size, probe.has_ranges), (Some(content.size()), false));

    site.put("/empty", Content::bytes(""));
    let probe = block_on(metadata.probe(&url(&site.url("/empty")))).unwrap();
    assert_eq!(probe.size, Some(0));
}

#[test]
fn retry_after_is_reported_and_honoured() {
    let (site, store) = (start(), start());
    let hub = Hub::mount(&site, &store);
    hub.commit("o/r", "main", &[("x.bin", Content::generated(1, 9))]);
    hub.limit_api(0, 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let (heard, limited) = (told.clone(), hub.clone());
    let metadata = metadata_client(ClientConfig::default(), move |wait| {
        heard.lock().unwrap().push(wait.clone());
        limited.unlimit();
    });
    let began = Instant::now();
    block_on(metadata.json(&url(&site.url("/api/models/o/r/tree/main")))).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let told = told.lock().unwrap();
    assert!(told[0].is_requested && told[0].wait >= Duration::from_secs(1));
    assert!(told[0].to_string().starts_with("127.0.0.1 asks to wait 1 s"), "{}", told[0]);
}

#[test]
fn a_retry_after_that_is_too_long_is_an_error_with_its_length() {
    let (site, store) = (start(), start());
    let github = GitHub::mount(&site, &store);
    github.upload("o/r", "v1", "x.onnx", &Content::generated(1, 9), true);
    github.limit(Some(Limit::Primary(4_102_444_800)));
    let metadata = metadata_client(ClientConfig::default(), |_| panic!("the wait is too long to be started"));
    let api = url(&site.url("/api/v3/repos/o/r/releases/tags/v1"));
    let error = block_on(metadata.json(&api)).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, MetadataError::Limited { .. }), "{said}");
    assert!(said.contains("GITHUB_TOKEN") && said.contains("2100"), "{said}");
    github.limit(Some(Limit::Primary(1)));
    let limited = github.clone();
    let metadata = metadata_client(ClientConfig::default(), move |_| limited.limit(None));
    block_on(metadata.json(&api)).unwrap();
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let site = start();
    let metadata = metadata_client(ClientConfig::default(), |wait| panic!("{wait}"));
    for status in [401, 404, 410] {
        site.inject("/x", Fault::status(status));
        let error = block_on(metadata.json(&url(&site.url("/x")))).unwrap_err();
        assert!(
            matches!(
                error,
                MetadataError::Request(RequestError::Refused { .. } | RequestError::Missing { .. })
            ),
            "{error}"
        );
        site.clear_faults("/x");
    }
    assert_eq!(site.counters().requests, 3);
    site.put("/x", Content::bytes("{}"));
    site.inject("/x", Fault::status(502).when(When::First(2)));
    let metadata = metadata_client(ClientConfig::default(), |wait| assert!(!wait.is_requested));
    block_on(metadata.json(&url(&site.url("/x")))).unwrap();
}

/// A body that comes a byte at a time: each byte is in time, the whole body is not.
#[test]
fn fault_30_a_document_that_trickles_times_out() {
    let site = start();
    let registry = Registry::mount(&site, None);
    let digest = registry.push("m", &Content::generated(1, 9));
    registry.guard("m");
    site.put("/x", Content::bytes(vec![b' '; 1000]));
    let drip = || Fault::Trickle { every: Duration::from_millis(50) };
    site.inject("/x", drip());
    let config = ClientConfig {
        head_timeout: Duration::from_millis(700),
        document_timeout: Duration::from_millis(900),
        ..ClientConfig::default()
    };
    let origin = HttpClient::new(config.clone()).unwrap();
    let once = RetryPolicy { retries: 1, ..policy() };
    let metadata = MetadataClient::new(&origin, once, Arc::new(|_| {}));
    let began = Instant::now();
    let listing = block_on(metadata.json(&url(&site.url("/x")))).unwrap_err().to_string();
    let lock = block_on(origin.document(&url(&site.url("/x")), 5000)).unwrap_err().to_string();
    site.inject("/token", Fault::All(vec![Fault::OtherContent(Content::bytes(vec![b' '; 1000])), drip()]));
    let blob = url(&site.url(&format!("/v2/m/blobs/{digest}")));
    let token = block_on(metadata.probe(&blob)).unwrap_err().to_string();
    for said in [listing, lock, token] {
        assert!(said.ends_with("the document was not complete after 0.9 s"), "{said}");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    // A stalled body and a trickling one have different errors. A body over the limit is not read to its end.
    site.replace_faults("/x", Fault::Stall(10));
    let error = block_on(origin.document(&url(&site.url("/x")), 5000)).unwrap_err();
    assert!(error.to_string().ends_with("no data for 0.7 s"), "{error}");
    for fault in [Fault::Endless { chunked: true }, Fault::Endless { chunked: false }] {
        site.replace_faults("/x", fault);
        let error = block_on(origin.document(&url(&site.url("/x")), 1 << 20)).unwrap_err();
        assert!(error.to_string().ends_with("larger than 1 MiB"), "{error}");
        let error = block_on(metadata.json(&url(&site.url("/x")))).unwrap_err();
        assert!(matches!(error, MetadataError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn a_registry_token_is_requested_once_and_used_by_a_fetch() {
    let mut fixture = Fixture::new();
    fixture.has_token = false;
    let (site, store) = (start(), start());
    let registry = Registry::mount(&site, Some(&store));
    let content = Content::generated(1, 3 << 20);
    let digest = registry.push("models/vae", &content);
    registry.guard("models/vae");
    let blob = site.url(&format!("/v2/models/vae/blobs/{digest}"));
    fixture.model("vae/x.safetensors", &content, std::slice::from_ref(&blob));
    fixture.fetch_all();
    assert_eq!(std::fs::read(fixture.path("vae/x.safetensors")).unwrap(), content.to_vec());
    assert!(store.requests().iter().all(|request| request.header("authorization").is_none()));

    registry.guard_with("models/vae", "Basic dTpw");
    let metadata = metadata_client(ClientConfig::default(), |_| {});
    let error = block_on(metadata.probe(&url(&blob))).unwrap_err();
    assert!(error.to_string().contains("/token") && error.to_string().contains("netrc"), "{error}");
    let mut config = ClientConfig::default();
    config.credentials.add(Credential::basic("127.0.0.1", "u", "p"));
    let metadata = metadata_client(config, |_| {});
    let probe = block_on(metadata.probe(&url(&blob))).unwrap();
    assert_eq!(probe.size, Some(content.size()));
}

#[test]
fn fault_53_a_next_page_with_the_token_in_its_path_is_not_shown() {
    let site = start();
    let token = "lettersonlytoken";
    let mut config = ClientConfig::default();
    config.credentials.add(Credential::bearer("127.0.0.1", Some(site.addr().port()), token));
    let metadata = metadata_client(config, |_| {});
    site.put("/tree", Content::bytes("[]"));
    let link = format!("<{}>; rel=\"next\"", site.url(&format!("/tree/{token}/2")));
    site.inject("/tree", Fault::Headers(vec![("Link".to_owned(), link)]));
    let first = block_on(metadata.json(&url(&site.url("/tree")))).unwrap();
    let next = first.next.unwrap();
    assert!(next.as_url().path().contains(token), "the request has the URL as it was given");
    let said = block_on(metadata.json(&next)).unwrap_err().to_string();
    assert!(said.contains("/tree/…/2") && !said.contains(token), "{said}");

    // A listing that holds the token behind an escape is refused, too.
    site.clear_faults("/tree");
    site.put("/tree", Content::bytes("[\"vae/letters\\u006fnlytoken\"]"));
    let said = block_on(metadata.json(&url(&site.url("/tree")))).unwrap_err().to_string();
    assert!(said.contains("repeats a secret"), "{said}");
}
