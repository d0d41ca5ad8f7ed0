//! Certificate variables of the environment (fault 55), through the program.

use std::net::IpAddr;

use crate::fixture::pem;
use crate::prelude::*;

fn fixture() -> (Fixture, BlockingOrigin) {
    let addr = ("127.0.0.4".parse::<IpAddr>().unwrap(), 0).into();
    let config = OriginConfig { addr, tls: Some(Tls::default()), ..OriginConfig::default() };
    let origin = BlockingOrigin::start(config).unwrap();
    secrets::watch(origin.control(), false);
    let content = Content::generated(1, 300_000);
    origin.put("/x", content.clone());
    let mut fixture = Fixture::new();
    fixture.model("x", &content, &[origin.url("/x")]);
    for directory in ["empty", "with"] {
        std::fs::create_dir(fixture.beside(directory)).unwrap();
    }
    std::fs::write(fixture.beside("with/authority.crt"), pem(&authority())).unwrap();
    std::fs::write(fixture.beside("nothing.pem"), "").unwrap();
    std::fs::write(fixture.beside("garbage.pem"), "-----BEGIN CERTIFICATE-----\nnot base64\n").unwrap();
    (fixture, origin)
}

fn fetch(fixture: &Fixture, variables: &[(&str, String)]) -> Ended {
    let mut command = verb(fixture, "fetch", &["--retries", "1"]);
    command.env_remove("https_proxy").envs(variables.iter().map(|(name, value)| (name, value)));
    run(&mut command)
}

#[test]
fn fault_55_unreadable_certificates_end_a_run_at_its_start() {
    let (fixture, origin) = fixture();
    let at = |name: &str| fixture.beside(name).to_str().unwrap().to_owned();
    for (name, value) in [
        ("SSL_CERT_FILE", at("absent.pem")),
        ("SSL_CERT_FILE", at("nothing.pem")),
        ("SSL_CERT_FILE", at("garbage.pem")),
        ("SSL_CERT_FILE", at("empty")),
        ("SSL_CERT_DIR", at("absent")),
        ("SSL_CERT_DIR", at("empty")),
        ("SSL_CERT_DIR", at("nothing.pem")),
        ("SSL_CERT_DIR", format!("{}:{}", at("absent"), at("empty"))),
        ("SSL_CERT_DIR", ":".to_owned()),
    ] {
        fetch(&fixture, &[(name, value.clone())])
            .row(format!("{name}={value}"))
            .exits(2)
            .err_has(&[name, &value]);
        assert!(fixture.listing().is_empty(), "{name}={value}");
    }
    // A valid one does not make up for an invalid one.
    let both = [("SSL_CERT_FILE", at("with/authority.crt")), ("SSL_CERT_DIR", at("empty"))];
    assert_eq!(fetch(&fixture, &both).code, Some(2));
    assert_eq!(origin.counters().connections_accepted, 0);
}

#[test]
fn fault_55_several_certificate_directories_are_read() {
    let (fixture, _origin) = fixture();
    let at = |name: &str| fixture.beside(name).to_str().unwrap().to_owned();
    for (name, value) in [
        ("SSL_CERT_DIR", format!("{}:{}", at("empty"), at("with"))),
        ("SSL_CERT_DIR", format!("{}::{}", at("with"), at("absent"))),
        ("SSL_CERT_FILE", at("with/authority.crt")),
    ] {
        let _ = std::fs::remove_dir_all(fixture.destination());
        fetch(&fixture, &[(name, value.clone())]).row(format!("{name}={value}")).exits(0);
        fixture.assert_installed();
    }
}
