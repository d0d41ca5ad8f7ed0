//! Signatures in the path of a redirect (fault 104).

use provision_testbed::ResetAt;

use crate::both_clients::BOTH;
use crate::prelude::*;

#[test]
fn fault_104_a_signature_in_a_redirects_path_is_not_shown() {
    let storage = start_origin("127.0.0.2");
    let secret = format!("{MARK}-path");
    secrets::belongs_to(&storage, &secret);
    secrets::belongs_to(&storage, &secret.to_lowercase());
    let echo = || Fault::Status {
        code: 403,
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: format!("{{\"message\": \"/token/{secret}/x is over\"}}").into(),
    };
    for path in [
        format!("/token/{secret}/x.bin"),
        format!("/sig={secret}/x.bin"),
        format!("/download/x.bin/{secret}"),
        format!("/x.bin;signature={secret}"),
    ] {
        for fault in [
            echo(),
            Fault::status(404),
            Fault::status(500),
            Fault::LoginPage,
            Fault::CutBody(1000),
            Fault::Reset(ResetAt::Body(1000)),
            Fault::redirect("ftp://h/x"),
            Fault::redirect(format!("{path}/again")),
            Fault::OtherContent(Content::generated(2, 300_000)),
        ] {
            let mut fixture = Fixture::new();
            secrets::belongs_to(&fixture.origin, &secret);
            fixture.file("x.bin", &Content::generated(1, 300_000));
            let location = storage.url("/").trim_end_matches('/').to_owned() + &path;
            fixture.origin.inject("/x.bin", Fault::redirect(location));
            storage.put(&path, Content::generated(1, 300_000));
            storage.replace_faults(&path, fault.clone());
            for over in BOTH {
                if let Err(error) = over.get(&ClientConfig::default(), &fixture.origin.url("/x.bin")) {
                    secrets::assert_none(&format!("{fault:?}"), &secrets::formats(&error));
                }
            }
            let report = fixture.beside("report.json");
            let report = report.to_str().unwrap();
            for mode in ["plain", "json"] {
                let options = ["--retries", "1", "--progress", mode, "--verbose", "--report", report];
                let ended = run(&mut fetch(&fixture, &options));
                assert_ne!(ended.code, Some(0), "{fault:?}");
                secrets::assert_none("the report", &std::fs::read_to_string(report).unwrap());
            }
        }
    }
}

#[test]
fn fault_104_a_redirects_known_components_are_shown() {
    let storage = start_origin("127.0.0.2");
    let fixture = Fixture::new();
    storage.inject("/a/Secret77/b/models/x.bin", Fault::status(404));
    let location = storage.url("/a/Secret77/b/models/x.bin");
    fixture.origin.inject("/models/x.bin", Fault::redirect(location));
    let expected = storage.url("/…/models/x.bin").replace("%E2%80%A6", "…");
    for over in BOTH {
        let error = over.get(&ClientConfig::default(), &fixture.origin.url("/models/x.bin")).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{expected} answered 404")), "{expected}: {error}");
    }
}
