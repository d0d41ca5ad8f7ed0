//! Invalid certificates, and TLS connections that end without a close (faults 37 and 38).

use std::net::IpAddr;

use provision::cli::exit::{Code, code_of};
use provision_testbed::Certificate;
use rustls_pki_types::CertificateDer;

use super::SIZE;
use crate::prelude::*;

/// A fixture whose origin has this TLS setup; the testbed's authority is the only one that is trusted.
fn encrypted(tls: Tls) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.origin = start_encrypted_origin("127.0.0.1", tls);
    fixture.http.roots = Roots::Only(vec![CertificateDer::from(authority())]);
    fixture.file("x", &Content::generated(1, SIZE));
    fixture
}

#[test]
fn fault_37_a_valid_certificate_is_accepted() {
    let mut fixture = encrypted(Tls { names: &["models.example"], ..Tls::default() });
    fixture.fetch_all();
    let content = Content::generated(2, SIZE);
    fixture.origin.put("/y", content.clone());
    fixture.http.hosts = [("models.example", vec![IpAddr::from([127, 0, 0, 1])])].into_iter().collect();
    let url = fixture.origin.url_at("models.example", "/y");
    fixture.model("y", &content, &[url]).fetch_all();
}

/// An attack or a mistake in the configuration: a person has to look, so the mirror is not used.
#[test]
fn fault_37_a_bad_certificate_stops_the_file_before_a_request() {
    use Certificate::{Expired, OtherName, SelfSigned, UnknownAuthority};
    for certificate in [Expired, OtherName, UnknownAuthority, SelfSigned] {
        let mut fixture = encrypted(Tls { certificate, ..Tls::default() });
        let mirror = start_encrypted_origin("127.0.0.2", Tls::default());
        mirror.put("/x", Content::generated(1, SIZE));
        let sources = [fixture.origin.url("/x"), mirror.url("/x")];
        fixture.model("x", &Content::generated(1, SIZE), &sources);
        let error = fixture.fetch_refused_with(&["its certificate cannot be verified", "SSL_CERT_FILE"]);
        let text = error.to_string();
        assert_eq!(error.attempts.len(), 1, "{certificate:?}: {error}");
        assert_eq!(mirror.counters().connections_accepted, 0, "{certificate:?}");
        assert!(text.starts_with(&fixture.origin.addr().to_string()), "it names the host: {text}");
        assert_eq!(code_of([&error]), Code::Network, "{certificate:?}");
        let counters = fixture.origin.counters();
        assert_eq!(counters.requests, 0, "{certificate:?}: a request was sent to an unverified host");
        assert!(counters.connections_accepted <= 4, "{certificate:?}: {counters:?}");
        assert_eq!(fixture.events.count(|event| matches!(event, Event::Retry { .. })), 0, "{certificate:?}");
        assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
    }
}

#[test]
fn fault_37_a_certificate_for_another_name_is_refused() {
    let mut fixture = encrypted(Tls { names: &["models.example"], ..Tls::default() });
    fixture.http.hosts = [("other.example", vec![IpAddr::from([127, 0, 0, 1])])].into_iter().collect();
    let url = fixture.origin.url_at("other.example", "/x");
    let error = fixture.model("x", &Content::generated(1, SIZE), &[url]).fetch_refused().to_string();
    assert!(error.starts_with("other.example:") && error.contains("certificate"), "{error}");
    assert_eq!(fixture.requests(), 0);
}

/// A fixture whose origin closes TLS connections without `close_notify`.
fn without_close_notify(fault: Fault, when: When) -> Fixture {
    let fixture = encrypted(Tls { close_notify: false, ..Tls::default() });
    fixture.origin.inject("/x", fault.when(when));
    fixture
}

#[test]
fn fault_38_an_unclean_end_after_the_last_byte_is_accepted() {
    let whole = Fault::IgnoreRange { accept_ranges: false };
    for fault in [Fault::CloseAfter, Fault::NoLength, Fault::All(vec![whole, Fault::NoLength])] {
        let fixture = without_close_notify(fault.clone(), When::Always);
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{fault:?}");
        assert_eq!(report.files[0].retries, 0, "{fault:?}: {}", fixture.events.text());
        assert!(fixture.requests() <= 12, "{fault:?}: {}", fixture.requests());
    }
}

#[test]
fn fault_38_an_unclean_end_before_the_last_byte_is_resumed() {
    for fault in [Fault::CutBody(300_000), Fault::ChunkedCut(300_000)] {
        let fixture = without_close_notify(fault.clone(), When::Every(2));
        let report = fixture.fetch_all();
        assert_eq!(report.files[0].fetched, SIZE, "{fault:?}");
        assert!(report.files[0].retries >= 1, "{fault:?}");
        assert!(fixture.requests() <= 40, "{}", fixture.requests());
    }
}

#[test]
fn fault_38_a_body_without_a_length_may_end_too_early() {
    let whole = Fault::IgnoreRange { accept_ranges: false };
    let fault = Fault::All(vec![whole, Fault::NoLength, Fault::CutBody(2_000_000)]);
    let fixture = without_close_notify(fault, When::Always);
    let error = fixture.fetch_refused_with(&["cut short"]);
    assert_eq!(code_of([&error]), Code::Network);
    assert!(fixture.requests() <= 16, "{}", fixture.requests());
}
