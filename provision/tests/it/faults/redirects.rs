//! Redirects and credentials: the hosts that a request may reach and the headers it may carry (faults 43 to 51).

mod certificates;
mod cookies;
mod echoed;
mod encrypted;
mod paths;
mod private;
mod proxies;

use crate::fixture::assert_polite;
use crate::prelude::*;

const CANARY: &str = "canary-token";

/// A fixture whose file `x` is redirected to `location`; the first host has a credential.
fn fixture(location: impl Into<String>) -> Fixture {
    let mut fixture = Fixture::with(&[("x", 1, 2_000_000)]);
    fixture.origin.inject("/x", Fault::redirect(location));
    fixture.http.credentials.add(Credential::bearer("127.0.0.1", None, CANARY));
    fixture
}

fn authorizations(origin: &Control) -> usize {
    origin.requests().iter().filter(|request| request.header("authorization").is_some()).count()
}

fn refused(location: Option<&str>, words: &str) {
    let fixture = fixture("");
    fixture
        .origin
        .replace_faults("/x", Fault::Redirect { status: 302, location: location.map(str::to_owned) });
    let error = fixture.fetch_refused().to_string();
    assert!(error.contains(words), "{location:?}: {error}");
    assert!(!error.contains(CANARY), "{error}");
    assert!(fixture.requests() <= 8, "{location:?}");
    assert!(fixture.listing().is_empty());
}

#[test]
fn fault_43_a_credential_is_not_sent_again_after_a_detour() {
    let elsewhere = start_origin("127.0.0.2");
    let fixture = fixture(elsewhere.url("/y"));
    fixture.origin.put("/z", Content::generated(1, 2_000_000));
    elsewhere.inject("/y", Fault::redirect(fixture.origin.url("/z")));
    fixture.fetch_all();
    let after = fixture.origin.requests().into_iter().filter(|request| request.path == "/z");
    assert!(after.clone().count() > 0);
    assert!(after.into_iter().all(|request| request.header("authorization").is_none()));
}

/// The only headers that another host may receive: any other could carry a credential.
#[test]
fn fault_43_44_another_host_or_port_gets_the_required_headers() {
    for address in ["127.0.0.2", "127.0.0.1"] {
        let elsewhere = start_origin(address);
        elsewhere.put("/y", Content::generated(1, 2_000_000));
        let fixture = fixture(elsewhere.url("/y?sig=1").replace("%3F", "?"));
        fixture.fetch_all();
        assert!(authorizations(&fixture.origin) > 0, "its own host gets the credential");
        assert_polite(&elsewhere);
        for request in elsewhere.requests() {
            let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
            names.retain(|name| !["host", "user-agent", "accept", "accept-encoding", "range"].contains(name));
            assert!(names.is_empty(), "{address}: {names:?}");
            assert_eq!(request.header("host"), Some(elsewhere.addr().to_string().as_str()));
        }
    }
}

#[test]
fn a_redirect_within_the_host_keeps_the_credential() {
    for status in [301, 302, 303, 307, 308] {
        let fixture = fixture("");
        fixture.origin.clear_faults("/x");
        fixture.origin.put("/private/y", Content::generated(1, 2_000_000));
        fixture.origin.require_token("/private", CANARY, "GatedRepo");
        let location = Some("/private/y".to_owned());
        fixture.origin.inject("/x", Fault::Redirect { status, location });
        fixture.fetch_all();
    }
}

#[test]
fn fault_46_only_http_is_followed() {
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"] {
        refused(Some(location), "scheme");
    }
}

#[test]
fn fault_48_a_loop_and_an_eleventh_hop_are_refused() {
    let in_a_circle = fixture("/x");
    in_a_circle.fetch_refused_with(&["more than 10 times"]);
    assert!(in_a_circle.requests() <= 4 * 11, "{}", in_a_circle.requests());

    for (hops, is_fine) in [(10, true), (11, false)] {
        let fixture = fixture(if hops == 1 { "/end" } else { "/hop1" });
        for hop in 1..hops {
            let next = if hop + 1 == hops { "/end".to_owned() } else { format!("/hop{}", hop + 1) };
            fixture.origin.inject(&format!("/hop{hop}"), Fault::redirect(next));
        }
        fixture.origin.put("/end", Content::generated(1, 2_000_000));
        if is_fine {
            fixture.fetch_all();
        } else {
            fixture.fetch_refused();
        }
    }
}

#[test]
fn fault_51_no_request_carries_a_referer() {
    let elsewhere = start_origin("127.0.0.2");
    elsewhere.inject("/y", Fault::redirect("/z"));
    elsewhere.put("/z", Content::generated(1, 2_000_000));
    let fixture = fixture(elsewhere.url("/y"));
    fixture.fetch_all();
    let requests: Vec<_> = fixture.origin.requests().into_iter().chain(elsewhere.requests()).collect();
    assert!(requests.iter().any(|request| request.path == "/z"));
    for request in requests {
        assert_eq!((request.header("referer"), request.header("origin")), (None, None), "{request:?}");
    }
}

#[test]
fn fault_49_an_invalid_location_is_refused() {
    refused(None, "no usable URL");
    refused(Some(""), "no usable URL");
    refused(Some("http://user:canary@127.0.0.1/y"), "user name or password");
    refused(Some("http://a%2Fb/y"), "no usable URL");
    refused(Some("http://127.0.0.1:99999/y"), "no usable URL");
    refused(Some("http://127.0.0.1 /"), "no usable URL");
    refused(Some("http://127.0.0.1/y\rX-Injected: 1"), "the answer is not valid HTTP");
    refused(Some("http://127.0.0.1/\ty"), "control characters");
}

#[test]
fn fault_50_a_token_realm_on_another_host_gets_no_request() {
    let elsewhere = start_origin("127.0.0.2");
    let mut fixture = Fixture::new();
    fixture.has_token = false;
    fixture.file("x", &Content::generated(1, 2_000_000));
    fixture.http.credentials.add(Credential::basic("127.0.0.2", "user", CANARY));
    let challenge = format!("Basic realm=\"{}\"", elsewhere.url("/"));
    let headers = vec![("WWW-Authenticate".to_owned(), challenge)];
    fixture.origin.inject("/x", Fault::Status { code: 401, headers, body: "no".into() });
    let error = fixture.fetch_refused();
    assert!(error.is_refusal() && error.to_string().contains("netrc"), "{error}");
    assert_eq!(elsewhere.counters().connections_accepted, 0);
    assert_eq!(authorizations(&fixture.origin), 0);
    assert!(fixture.requests() <= 4);
}

#[test]
fn fault_105_a_chain_with_many_parameters_ends_soon() {
    let fixture = Fixture::with(&[("x", 1, 10_000)]);
    let query = |hop: u32| (0..2000).map(|n| format!("&p=value{hop}x{n}")).collect::<Vec<_>>().concat();
    for hop in 0..8 {
        let path = if hop == 0 { "/x".to_owned() } else { format!("/hop{hop}") };
        let next = fixture.origin.url(&format!("/hop{}", hop + 1));
        fixture.origin.inject(&path, Fault::redirect(format!("{next}?{}", query(hop))));
    }
    let echo = vec![("X-Error-Message".to_owned(), query(3))];
    fixture.origin.inject("/hop8", Fault::Status { code: 403, headers: echo, body: query(5).into() });
    let began = Instant::now();
    let error = fixture.fetch_refused().to_string();
    assert!(error.contains("403") && !error.contains("value3x7"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
