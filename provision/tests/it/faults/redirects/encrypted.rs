//! Schemes and host names over TLS with valid certificates: a token reaches its own host and no other.

use std::net::IpAddr;

use super::{CANARY, authorizations};
use crate::prelude::*;

/// Names that all resolve to one origin.
const NAMES: [&str; 6] = [
    "huggingface.co",
    "huggingface.co.evil",
    "evilhuggingface.co",
    "cdn.huggingface.co",
    "xn--hggingface-zhb.co",
    "evil.example",
];

fn start(address: &str) -> BlockingOrigin {
    let tls = Some(Tls { names: &NAMES, ..Tls::default() });
    let addr = (address.parse::<IpAddr>().unwrap(), 0).into();
    let origin = BlockingOrigin::start(OriginConfig { addr, tls, ..OriginConfig::default() }).unwrap();
    secrets::watch(origin.control(), false);
    origin
}

/// A fixture that trusts the testbed's authority and resolves every name to `origin`.
fn fixture(origin: &BlockingOrigin) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.http.roots = Roots::Only(vec![authority().into()]);
    fixture.http.hosts = NAMES.iter().map(|name| (*name, vec![origin.addr().ip()])).collect();
    fixture
}

#[test]
fn fault_44_another_scheme_of_the_same_host_gets_no_credential() {
    let encrypted = start("127.0.0.1");
    let content = Content::generated(1, 2_000_000);
    encrypted.put("/y", content.clone());
    let mut fixture = fixture(&encrypted);
    fixture.http.credentials.add(Credential::bearer("127.0.0.1", None, CANARY));
    fixture.file("x", &content);
    fixture.origin.inject("/x", Fault::redirect(encrypted.url("/y")));
    fixture.fetch_all();
    assert!(authorizations(&fixture.origin) > 0);
    assert!(encrypted.counters().requests > 0);
    assert_eq!(authorizations(&encrypted), 0);
}

#[test]
fn fault_45_from_https_nothing_leads_to_http() {
    let encrypted = start("127.0.0.2");
    let mut fixture = fixture(&encrypted);
    let content = Content::generated(1, 2_000_000);
    fixture.origin.put("/y", content.clone());
    encrypted.inject("/x", Fault::redirect(fixture.origin.url("/y")));
    fixture.model("x", &content, &[encrypted.url("/x")]);
    fixture.fetch_refused_with(&["from https to http"]);
    assert_eq!(fixture.origin.counters().connections_accepted, 0, "it was not even connected to");
    assert!(fixture.listing().is_empty(), "{:?}", fixture.listing());
}

#[test]
fn fault_52_a_look_alike_gets_no_token_and_its_own_host_does() {
    let hub = start("127.0.0.3");
    let content = Content::generated(1, 100_000);
    hub.put("/x", content.clone());
    hub.put("/huggingface.co/resolve/main/x", content.clone());
    let mut sources: Vec<String> = NAMES[1..].iter().map(|name| hub.url_at(name, "/x")).collect();
    sources.push(hub.url_at("evil.example", "/x") + "?x=huggingface.co");
    sources.push(hub.url_at("evil.example", "/huggingface.co/resolve/main/x"));
    sources.push(hub.url_at("evil.example", "/x") + "?https://huggingface.co/");
    for source in sources {
        let mut fixture = fixture(&hub);
        fixture.http.credentials.add(Credential::bearer("huggingface.co", None, CANARY));
        let before = hub.counters().requests;
        fixture.model("x", &content, std::slice::from_ref(&source));
        fixture.fetch_all();
        assert!(hub.counters().requests > before);
        assert_eq!(authorizations(&hub), 0, "{source}");
    }
    // Nor does a redirect that has the name in another place.
    hub.inject("/away", Fault::redirect(hub.url_at("huggingface.co.evil", "/x")));
    for (path, expected) in [("/away", false), ("/x", true)] {
        let mut fixture = fixture(&hub);
        fixture.http.credentials.add(Credential::bearer("huggingface.co", None, CANARY));
        fixture.model("x", &content, &[hub.url_at("huggingface.co", path)]);
        fixture.fetch_all();
        let told = hub.requests().into_iter().rfind(|request| request.path == "/x");
        let has_token = told.unwrap().header("authorization").is_some();
        assert_eq!(has_token, expected, "{path}");
    }
}
