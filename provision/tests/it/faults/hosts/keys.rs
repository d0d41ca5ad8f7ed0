//! Keys of buckets: where a run finds them, what a refusal names, and what never leaves this machine.

use crate::lock_commands::has;
use crate::prelude::*;
use crate::secrets::belongs_to;

/// A bucket with one model, and the lock of that.
fn bucket() -> (BlockingOrigin, Fixture) {
    let site = start_origin("127.0.0.4");
    let (mut fixture, content) = (Fixture::new(), Content::generated(1, 3000));
    site.put(&format!("/models/x/{}", content.sha256_hex()), content.clone());
    fixture.model("x", &content, &[format!("s3://models/x?endpoint={}", site.url(""))]);
    (site, fixture)
}

fn ended(fixture: &Fixture, setting: impl FnOnce(&mut Command)) -> Ended {
    let mut command = fetch(fixture, &["--retries", "1"]);
    setting(&mut command);
    run(&mut command)
}

/// Removes the keys of every process test.
fn without_keys(command: &mut Command) {
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_AUTHORIZATION_TOKEN"] {
        command.env_remove(name);
    }
}

#[test]
fn fault_147_refused_and_unusable_keys_are_named_and_not_shown() {
    let (site, fixture) = bucket();
    let refusal = |code: &str| Fault::Status {
        code: 403,
        headers: vec![("Content-Type".to_owned(), "application/xml".to_owned())],
        body: format!("<Error><Code>{code}</Code><Message>no</Message></Error>").into(),
    };
    for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"] {
        site.replace_faults("*", refusal(code));
        let ended = ended(&fixture, |_| {}).exits(6);
        has(&ended.err, &["the S3 key in AWS_ACCESS_KEY_ID"]);
    }
    let seen = site.counters().requests;
    let named = |setting: &dyn Fn(&mut Command), names: &[&str]| {
        let ended = ended(&fixture, |command| {
            without_keys(command);
            setting(command);
        })
        .exits(6);
        has(&ended.err, names);
        assert_eq!(site.counters().requests, seen, "the bucket was asked");
    };
    let profile = |command: &mut Command| {
        command.env("AWS_PROFILE", "other");
    };
    named(&profile, &["the profile other (AWS_PROFILE)"]);
    let container = |command: &mut Command| {
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/keys");
    };
    named(&container, &["AWS_CONTAINER_CREDENTIALS_FULL_URI", "https"]);
}

#[test]
fn fault_147_keys_of_a_container_sign_and_stay_with_their_hosts() {
    let (site, fixture) = bucket();
    let container = start_origin("127.0.0.5");
    let session = format!("{MARK}-session");
    belongs_to(&site, &session);
    belongs_to(&container, &format!("{MARK}-container"));
    let keys = format!(
        "{{\"AccessKeyId\": \"ASIATEST\", \"SecretAccessKey\": \"{MARK}-s3\", \"Token\": \"{session}\", \
         \"Expiration\": \"2099-01-01T00:00:00Z\"}}"
    );
    container.put("/keys", Content::bytes(keys));
    ended(&fixture, |command| {
        without_keys(command);
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", format!("{MARK}-container"));
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.url("/keys"));
        // A proxy would read the request for keys.
        command.env("http_proxy", "http://127.0.0.1:9").env("no_proxy", "127.0.0.4");
    })
    .exits(0);
    fixture.assert_installed();
    let asked = container.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].header("authorization"), Some(format!("{MARK}-container").as_str()));
    let signed = site.requests();
    assert!(signed.iter().all(|request| request.target.contains("X-Amz-Signature=")), "{signed:?}");
    assert!(signed.iter().all(|request| request.target.contains(&session)), "{signed:?}");
}

#[test]
fn fault_148_keys_that_expire_midway_are_renewed_or_named() {
    let (site, fixture) = bucket();
    let container = start_origin("127.0.0.5");
    belongs_to(&container, &format!("{MARK}-container"));
    let keys = |key: &str| {
        format!(
            "{{\"AccessKeyId\": \"{key}\", \"SecretAccessKey\": \"{MARK}-s3\", \"Token\": \"t\", \
             \"Expiration\": \"2099-01-01T00:00:00Z\"}}"
        )
    };
    let status = |code, body: &str| Fault::Status { code, headers: Vec::new(), body: body.to_owned().into() };
    let expired = status(403, "<Error><Code>ExpiredToken</Code><Message>no</Message></Error>");
    let is_old = When::custom(|request, _| request.target.contains("ASIAOLD"));
    site.inject("*", expired.when(is_old));
    container.put("/keys", Content::bytes(keys("ASIANEW")));
    let with_container = |command: &mut Command| {
        without_keys(command);
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", format!("{MARK}-container"));
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.url("/keys"));
    };
    let old_first = || status(200, &keys("ASIAOLD")).when(When::First(1));

    container.replace_faults("/keys", old_first());
    ended(&fixture, with_container).exits(0);
    fixture.assert_installed();
    assert_eq!(container.requests().len(), 2);

    std::fs::remove_dir_all(fixture.path("")).unwrap();
    container.replace_faults("/keys", old_first());
    container.inject("/keys", status(500, "no"));
    let ended = ended(&fixture, with_container).exits(6);
    has(&ended.err, &["AWS_CONTAINER_CREDENTIALS_FULL_URI"]);
}
