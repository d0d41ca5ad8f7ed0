//! Secrets that a host echoes (fault 53). The secrets here consist of letters only and look like any word, so only the
//! client that sent them can redact them.

use provision_core::backoff::RetryPolicy;
use provision_http::metadata::{MetadataClient, MetadataError};

use crate::prelude::*;

const SIZE: u64 = 100_000;

/// A credential, and the spellings in which a host could echo it.
struct Secret {
    credential: Credential,
    spellings: Vec<String>,
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |escaped, byte| escaped + &format!("%{byte:02x}"))
}

/// A token, and a login.
fn secrets() -> [Secret; 2] {
    let spelt = |texts: &[&str]| {
        texts.iter().flat_map(|text| [(*text).to_owned(), text.to_lowercase(), escaped(text)]).collect()
    };
    let token = format!("{MARK}Letters");
    let encoded = secrets::encode(&format!("user:{token}"));
    [
        Secret { credential: Credential::bearer("127.0.0.1", None, &token), spellings: spelt(&[&token]) },
        Secret {
            credential: Credential::basic("127.0.0.1", "user", &token),
            spellings: spelt(&[&token, &encoded]),
        },
    ]
}

/// A fixture whose origin receives the secret.
fn fixture(secret: &Secret) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.has_token = false;
    fixture.http.credentials.add(secret.credential.clone());
    let token = format!("{MARK}Letters");
    secrets::belongs_to(&fixture.origin, &token);
    secrets::belongs_to(&fixture.origin, &secrets::encode(&format!("user:{token}")));
    fixture.config.transfer.retry.retries = 1;
    fixture.file("x", &Content::generated(1, SIZE));
    fixture
}

/// The file fails, the secret was sent, and the error does not contain it.
#[track_caller]
fn refused(fixture: &Fixture, spelling: &str) -> String {
    let error = fixture.fetch_refused().to_string();
    assert!(fixture.origin.requests().iter().any(|request| request.header("authorization").is_some()));
    let said = [error.clone(), fixture.events.text()].concat();
    assert!(!said.to_lowercase().contains(&spelling.to_lowercase()), "{spelling}: {said}");
    error
}

#[test]
fn fault_53_secrets_echoed_in_an_unexpected_body_are_redacted() {
    for secret in secrets() {
        for spelling in &secret.spellings {
            for body in [
                format!("{{\"error\": \"{spelling} may not read it\"}}"),
                format!("<Error><Code>Denied</Code><Message>{spelling} may not read it</Message></Error>"),
                format!("<html><title>{spelling} may not read it</title></html>"),
                // Of the file's length: the digest decides.
                format!("<html><title>{spelling} may not read it</title>{}", " ".repeat(SIZE as usize)),
            ] {
                let fixture = fixture(&secret);
                let body: Vec<u8> = body.into_bytes().into_iter().take(SIZE as usize).collect();
                fixture.origin.put("/x", Content::bytes(body));
                let error = refused(&fixture, spelling);
                assert!(error.contains("… may not read it"), "{error}");
            }
        }
    }
}

#[test]
fn fault_53_secrets_echoed_in_response_headers_are_redacted() {
    for secret in secrets() {
        for spelling in &secret.spellings {
            let header = |name: &str| (name.to_owned(), format!("of {spelling}."));
            let headers = vec![header("X-Error-Message"), header("X-Error-Code")];
            for code in [400, 401, 403, 429, 500] {
                let fixture = fixture(&secret);
                let fault = Fault::Status { code, headers: headers.clone(), body: spelling.clone().into() };
                fixture.origin.inject("/x", fault);
                assert!(refused(&fixture, spelling).contains("of …."), "{code}");
            }
            let reason = format!("HTTP/1.1 403 {spelling}\r\nContent-Length: 0\r\n\r\n");
            let encoding = Fault::All(vec![Fault::UnknownTotal, Fault::ContentEncoding(spelling.clone())]);
            for fault in [encoding, Fault::Raw(reason.into_bytes().into())] {
                let fixture = fixture(&secret);
                fixture.origin.inject("/x", fault);
                refused(&fixture, spelling);
            }
        }
    }
}

#[test]
fn fault_53_secrets_echoed_in_a_redirect_are_redacted() {
    for secret in secrets() {
        for spelling in &secret.spellings {
            let at = |fixture: &Fixture, path: &str| fixture.origin.url(path);
            let fixture = fixture(&secret);
            for location in [
                at(&fixture, &format!("/denied/{spelling}/x")),
                at(&fixture, &format!("/denied?to={spelling}")),
                format!("/denied/{spelling}?to={spelling}"),
                format!("http://{spelling}.invalid/x"),
                format!("http://user:{spelling}@h.invalid/x"),
                format!("{spelling}:x"),
            ] {
                fixture.origin.replace_faults("/x", Fault::redirect(&location));
                refused(&fixture, spelling);
            }
        }
    }
}

#[test]
fn fault_53_a_host_name_that_contains_a_token_is_not_resolved() {
    let [secret, _] = secrets();
    let fixture = fixture(&secret);
    fixture.origin.inject("/x", Fault::redirect(format!("http://{MARK}Letters.invalid/x")));
    let error = refused(&fixture, MARK);
    assert!(error.contains("the host name contains a secret of this request"), "{error}");
}

#[test]
fn fault_53_a_token_like_a_scheme_or_a_commit_is_redacted() {
    // Too short for the mark: some hosts have hexadecimal tokens.
    let token = "abcdefabcd";
    let mut fixture = Fixture::new();
    fixture.has_token = false;
    fixture.http.credentials.add(Credential::bearer("127.0.0.1", None, token));
    fixture.file("x", &Content::generated(1, SIZE));
    let replaced = Fault::All(vec![
        Fault::redirect("/y"),
        Fault::Headers(vec![
            ("X-Linked-Size".to_owned(), "7".to_owned()),
            ("X-Repo-Commit".to_owned(), token.to_owned()),
        ]),
    ]);
    for (fault, words) in [
        (Fault::redirect(format!("{token}:x")), "its scheme is"),
        (replaced, "the file at this URL has changed"),
    ] {
        fixture.origin.replace_faults("/x", fault);
        let error = fixture.fetch_refused().to_string();
        assert!(error.contains(words) && !error.contains(token), "{error}");
    }
}

#[test]
fn fault_53_a_listing_that_echoes_a_token_is_refused() {
    let [secret, _] = secrets();
    let fixture = fixture(&secret);
    fixture.origin.put("/api", Content::bytes(format!("[{{\"path\": \"{MARK}Letters\"}}]")));
    let origin = HttpClient::new(fixture.http.clone()).unwrap();
    let metadata = MetadataClient::new(&origin, RetryPolicy::default(), Arc::new(|_| {}));
    let url = fixture.origin.url("/api").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(metadata.json(&url)).unwrap_err();
    assert!(matches!(error, MetadataError::Malformed { .. }), "{error}");
    secrets::assert_none("an error about a listing", &secrets::formats(&error));

    // Quoted words of a document are redacted, with the secrets of its URL.
    secrets::belongs_to(&fixture.origin, &format!("{MARK}Query"));
    fixture.origin.put("/api", Content::bytes("{}"));
    let url = format!("{url}?token={MARK}Query", url = fixture.origin.url("/api")).parse().unwrap();
    let document = runtime.block_on(metadata.json(&url)).unwrap();
    assert_eq!(document.redacted(&format!("no\n{MARK}Query here")), "no… here");
}
