//! Credentials: each secret reaches its own host only, and no output (faults 52 to 54).

use camino::Utf8Path;
use provision_testbed::SIGNATURE_PREFIX;

use crate::prelude::*;
use crate::secrets::unsigned;

const CANARY: &str = "canary-token";

/// Every text that a run leaves behind: files below the destination that are not models.
fn traces(fixture: &Fixture) -> String {
    let mut text = String::new();
    for name in fixture.listing() {
        let path = fixture.path(&name);
        let path = Utf8Path::from_path(&path).unwrap();
        text += &name;
        if name.contains("journal") || name.contains("installed") || name.contains("lock") {
            text += &String::from_utf8_lossy(&std::fs::read(path).unwrap());
        }
    }
    text
}

fn assert_no_secret(text: &str) {
    for secret in [CANARY, SIGNATURE_PREFIX, "canary-query"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn fault_53_no_token_or_signature_is_printed_or_written() {
    let cdn = start_origin("127.0.0.2");
    let mut fixture = Fixture::new();
    fixture.http.credentials.add(Credential::bearer("127.0.0.1", None, CANARY));
    let content = Content::generated(1, 24 << 20);
    let hub = fixture.origin.put_hub_on(&cdn, "o/r", "main", "x.safetensors", content.clone());
    fixture.origin.require_token("/o/r", CANARY, "GatedRepo");
    fixture.model("x.safetensors", &content, &[format!("{hub}?download=canary-query")]);
    cdn.shape(Shape::rate(4 << 20));
    let signed = Control::signed_path("/o/r/resolve/main/x.safetensors");
    // Several failures occur on the way.
    cdn.inject(&signed, Fault::CutBody(300_000).when(When::Nth(1)));
    cdn.inject(&signed, Fault::status(503).when(When::Nth(3)));
    cdn.inject(&signed, Fault::OtherStart { shift: 3 }.when(When::Nth(5)));

    // Interrupted: the journal and the part exist.
    let report = fixture.fetch_and_interrupt_after(|| {
        cdn.wait_for(PATIENCE, |counters| counters.body_bytes_sent > 6 << 20).unwrap();
    });
    assert!(report.interrupted);
    assert!(traces(&fixture).contains("journal"), "{:?}", fixture.listing());
    assert_no_secret(&traces(&fixture));
    assert_no_secret(&format!("{report:?}"));

    // Complete, with renewed signatures.
    cdn.expire_signatures();
    let report = fixture.fetch_all();
    assert_no_secret(&traces(&fixture));
    assert_no_secret(&format!("{report:?}"));
    assert_no_secret(&fixture.events.text());
    assert!(fixture.events.count(|event| matches!(event, Event::Retry { .. })) > 0);
    assert!(cdn.requests().iter().all(|request| request.header("authorization").is_none()));
    assert!(fixture.origin.requests().iter().all(|request| request.header("authorization").is_some()));

    // Then every kind of failure.
    let faults = [
        Fault::status(404),
        Fault::status(403),
        Fault::status(500),
        Fault::LoginPage,
        Fault::WrongTotal(3),
        Fault::HangUp,
        Fault::Raw("nonsense\r\n\r\n".into()),
        Fault::redirect("/o/r?sig=SECRETSIG"),
        Fault::redirect("ftp://canary-token@h/SECRETSIG"),
        Fault::FlippedBit { at: 0, bit: 0 },
    ];
    fixture.config.force = true;
    fixture.config.transfer.retry.retries = 1;
    cdn.shape(Shape::default());
    for fault in faults {
        cdn.replace_faults(&signed, fault.clone());
        let report = fixture.fetch().unwrap();
        let error = report.files[0].result.as_ref().unwrap_err();
        assert_no_secret(&format!("{error} {error:?} {report:?}"));
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            assert_no_secret(&format!("{error} {error:?}"));
            cause = error.source();
        }
    }
    assert_no_secret(&fixture.events.text());
    assert_no_secret(&format!("{:?}", fixture.http));
    let origin = HttpClient::new(fixture.http.clone()).unwrap();
    assert_no_secret(&format!("{origin:?} {:?}", origin.connection()));
    assert_no_secret(&format!("{:?}", fixture.lock()));
}

#[test]
fn a_missing_or_refused_token_is_reported_without_a_loop() {
    let mut fixture = Fixture::new();
    fixture.has_token = false;
    let content = Content::generated(1, 100_000);
    let url = fixture.origin.put_hub("o/r", "main", "x", content.clone());
    fixture.origin.require_token("/o/r", CANARY, "GatedRepo");
    fixture.model("x", &content, &[url]);
    let error = fixture.fetch_refused();
    assert!(error.is_refusal());
    assert!(error.to_string().contains("HF_TOKEN") && error.to_string().contains("licence"), "{error}");
    fixture.http.credentials.add(Credential::bearer("127.0.0.1", None, "another"));
    let error = fixture.fetch_refused().to_string();
    assert!(error.contains("accept the licence") && !error.contains("another"), "{error}");
    assert!(fixture.requests() <= 2);
}

#[test]
fn fault_54_the_proxy_password_is_used_and_never_shown() {
    let proxy = start_proxy("127.0.0.2");
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 3_000_000);
    proxy.put("/x", content.clone());
    fixture.model("x", &content, &["http://models.example/x".to_owned()]);
    let value = format!("http://user:{CANARY}@{}", proxy.addr());
    fixture.http.proxies.http = Some(ProxyVariable { name: "http_proxy", value });
    let report = fixture.fetch_all();
    let requests = proxy.requests();
    assert!(requests.iter().all(|request| unsigned(&request.target) == "http://models.example/x"));
    // Base64 of `user:canary-token`.
    let expected = Some("Basic dXNlcjpjYW5hcnktdG9rZW4=");
    assert!(requests.iter().all(|request| request.header("proxy-authorization") == expected));
    let origin = HttpClient::new(fixture.http.clone()).unwrap();
    let said = format!("{report:?} {:?} {origin:?} {:?}", fixture.http, origin.connection());
    for secret in [CANARY, "dXNlcjpj"] {
        assert!(!said.contains(secret) && !fixture.events.text().contains(secret), "{said}");
    }
}

/// A home directory whose netrc is not a file, or is malformed.
fn with_bad_netrc(garbage: bool) -> Fixture {
    let fixture = Fixture::new();
    let netrc = fixture.beside("home").join(".netrc");
    std::fs::create_dir(fixture.beside("home")).unwrap();
    if garbage {
        std::fs::write(netrc, "machine\nmachine models.example login\n password").unwrap();
    } else {
        // A directory is unreadable even for root.
        std::fs::create_dir(netrc).unwrap();
    }
    fixture
}

fn at_home(fixture: &Fixture) -> Command {
    let mut command = fetch(fixture, &["--retries", "1"]);
    command.env_remove("NETRC").env("HOME", fixture.beside("home"));
    command
}

#[test]
fn an_unusable_netrc_is_a_warning_until_a_login_is_needed() {
    for garbage in [true, false] {
        let mut fixture = with_bad_netrc(garbage);
        fixture.file("x", &Content::generated(1, 1000));
        run(&mut at_home(&fixture)).exits(0).err_has(&["warning: the netrc file ", "/home/.netrc"]);
        fixture.assert_installed();

        let mut fixture = with_bad_netrc(garbage);
        fixture.file("x", &Content::generated(1, 1000));
        fixture.origin.inject("/x", Fault::status(401));
        run(&mut at_home(&fixture)).exits(6).err_has(&["if it needs a login that is in your netrc file: "]);

        // A file that is named explicitly must be usable.
        let named = fixture.beside("home").join(".netrc");
        run(at_home(&fixture).env("NETRC", named)).exits(2);
    }
}
