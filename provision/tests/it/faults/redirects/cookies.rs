//! Redirects that want their cookie back (fault 101).

use crate::both_clients::BOTH;
use crate::prelude::*;

/// A redirect of requests to `path` without a `Cookie` that has `wanted`.
fn gate(origin: &Control, path: &str, location: &str, set: &str, wanted: &'static str) {
    let headers = [("Location", location), ("Set-Cookie", set)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let without =
        When::custom(move |request, _| !request.header("cookie").is_some_and(|has| has.contains(wanted)));
    origin.inject(path, Fault::Status { code: 302, headers, body: "".into() }.when(without));
}

/// A fixture whose file `x` is at this origin. The fixture's own origin refuses any cookie.
fn fixture(content: &Content) -> (Fixture, BlockingOrigin) {
    let (mut fixture, origin) = (Fixture::new(), start_origin("127.0.0.1"));
    origin.put("/x", content.clone());
    fixture.model("x", content, &[origin.url("/x")]);
    (fixture, origin)
}

#[test]
fn fault_101_a_redirects_cookie_is_sent_back() {
    let content = Content::generated(1, 10_000);
    let (fixture, origin) = fixture(&content);
    let value = format!("{MARK}-cookie");
    secrets::belongs_to(&origin, &value);
    gate(&origin, "/x", "/x", &format!("gate={value}; Path=/; HttpOnly"), "gate=");
    fixture.fetch_all();
    for over in BOTH {
        let url = origin.url("/x");
        assert_eq!(over.get(&ClientConfig::default(), &url).unwrap(), content.to_vec(), "{over:?}");
    }
}

#[test]
fn fault_101_a_cookie_goes_to_no_other_host_or_port() {
    let (elsewhere, beside) = (start_origin("127.0.0.2"), start_origin("127.0.0.1"));
    let content = Content::generated(1, 10_000);
    let (fixture, origin) = fixture(&content);
    let value = format!("{MARK}-cookie");
    secrets::belongs_to(&origin, &value);
    let set = format!("gate={value}; Path=/; Domain=127.0.0.1");
    // There and back again; only then does the first host have its cookie.
    gate(&origin, "/x", &elsewhere.url("/a"), &set, "gate=");
    gate(&elsewhere, "/a", &beside.url("/b"), "own=1", "never");
    gate(&beside, "/b", &origin.url("/x"), "own=2", "never");
    fixture.fetch_all();
    for over in BOTH {
        let url = origin.url("/x");
        assert_eq!(over.get(&ClientConfig::default(), &url).unwrap(), content.to_vec(), "{over:?}");
    }
    for origin in [&elsewhere, &beside] {
        assert!(origin.counters().requests > 0);
        assert!(origin.requests().iter().all(|request| request.header("cookie").is_none()));
    }
}

#[test]
fn fault_101_a_cookie_is_in_no_message() {
    let (fixture, origin) = fixture(&Content::generated(1, 300_000));
    let value = format!("{MARK}-cookie");
    secrets::belongs_to(&origin, &value);
    gate(&origin, "/x", "/x", &format!("gate={value}"), "gate=");
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let body = format!("{{\"message\": \"no access with {value}\"}}").into();
    origin.inject("/x", Fault::Status { code: 403, headers, body });
    for over in BOTH {
        let error = over.get(&ClientConfig::default(), &origin.url("/x")).unwrap_err();
        assert!(error.to_string().contains("(no access with …)"), "{error}");
        secrets::assert_none("an error", &secrets::formats(&error));
    }
    // A circle that no cookie ends stays an error.
    origin.clear_faults("/x");
    gate(&origin, "/x", "/x", &format!("gate={value}"), "never");
    fixture.fetch_refused_with(&["more than 10 times"]);
}
