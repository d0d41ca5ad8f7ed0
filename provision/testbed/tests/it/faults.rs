//! Faults in status, headers and body.

use provision_testbed::{Claim, Content, Fault, LOGIN_PAGE, When};

use crate::client::{End, PATH, Reply, SIZE, bytes, content, faulty, get, origin};

/// Checks the answer to a request for bytes 10 to 19: its status, some of its headers, and its body.
async fn check(fault: Fault, status: u16, headers: &[(&str, Option<&str>)], body: &[u8]) -> Reply {
    let reply = faulty(fault.clone(), 10, 19).await;
    assert_eq!(reply.status, status, "{fault:?}");
    for (name, value) in headers {
        assert_eq!(reply.header(name), *value, "{fault:?}: {name}");
    }
    assert_eq!(reply.body, body, "{fault:?}");
    reply
}

#[tokio::test]
async fn fault_1_to_11_ranges_and_totals() {
    let (asked, all) = (bytes(10, 19), content().to_vec());
    let range = |value| [("content-range", Some(value))];
    check(Fault::IgnoreRange { accept_ranges: false }, 200, &[("accept-ranges", None)], &all).await;
    check(Fault::IgnoreRange { accept_ranges: true }, 200, &[("accept-ranges", Some("bytes"))], &all).await;
    for (whole, body) in [(true, &all), (false, &asked)] {
        check(Fault::OkWithContentRange { whole }, 200, &range("bytes 10-19/1000"), body).await;
    }
    check(Fault::NoContentRange, 206, &[("content-range", None)], &asked).await;
    check(Fault::OtherStart { shift: -3 }, 206, &range("bytes 7-16/1000"), &bytes(7, 16)).await;
    check(Fault::ShorterRange { length: 4 }, 206, &range("bytes 10-13/1000"), &bytes(10, 13)).await;
    for (claim, range, length) in [
        (Claim::Honest, "bytes 10-24/1000", "15"),
        (Claim::LengthOnly, "bytes 10-19/1000", "15"),
        (Claim::Nothing, "bytes 10-19/1000", "10"),
    ] {
        let headers = [("content-range", Some(range)), ("content-length", Some(length))];
        check(Fault::LongerRange { extra: 5, claim }, 206, &headers, &bytes(10, 24)).await;
    }
    // Past the end of the file the bytes are noise.
    let reply = faulty(Fault::LongerRange { extra: 5, claim: Claim::LengthOnly }, 990, 999).await;
    assert_eq!(reply.body.len(), 15);
    check(Fault::WrongTotal(999), 206, &range("bytes 10-19/999"), &asked).await;
    check(Fault::UnknownTotal, 206, &range("bytes 10-19/*"), &asked).await;
    check(Fault::WrongLength { delta: 5 }, 206, &[("content-length", Some("15"))], &asked).await;
    check(Fault::WrongLength { delta: -4 }, 206, &[("content-length", Some("6"))], &bytes(10, 15)).await;
    let reply = faulty(Fault::Multipart, 10, 19).await;
    assert_eq!((reply.status, reply.header("content-range")), (206, None));
    assert!(reply.header("content-type").unwrap().starts_with("multipart/byteranges"));
    assert!(reply.body.windows(10).any(|window| window == asked));
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
}

#[tokio::test]
async fn fault_12_to_14_framing() {
    let cut = check(Fault::CutBody(4), 206, &[("content-length", Some("10"))], &bytes(10, 13)).await;
    assert_eq!(cut.end, End::Fin);
    let reply = faulty(Fault::LengthAndChunked { delta: 0 }, 10, 19).await;
    assert_eq!(reply.header("content-length"), Some("10"));
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    assert_eq!(reply.unchunk(), (bytes(10, 19), true));
    let reply = faulty(Fault::ChunkedCut(4), 10, 19).await;
    assert_eq!((reply.status, reply.header("content-length")), (206, None));
    assert_eq!(reply.unchunk(), (bytes(10, 13), false));
    assert_eq!(faulty(Fault::ChunkedCut(400), 10, 19).await.unchunk(), (bytes(10, 19), false));
    assert_eq!(faulty(Fault::Chunked, 10, 19).await.unchunk(), (bytes(10, 19), true));
}

#[tokio::test]
async fn fault_15_to_18_etags() {
    let origin = origin().await;
    origin.set_etag(PATH, "\"mirror\"");
    origin.inject(PATH, Fault::Etag("\"new\"".to_owned()).when(When::After(2)));
    let range = "Range: bytes=1-2\r\nIf-Range: \"mirror\"\r\n";
    for (status, etag) in [(206, "\"mirror\""), (206, "\"mirror\""), (200, "\"new\""), (200, "\"new\"")] {
        let reply = get(&origin, PATH, range).await;
        assert_eq!((reply.status, reply.header("etag")), (status, Some(etag)));
    }
    origin.replace_faults(PATH, Fault::IgnoreIfRange);
    assert_eq!(get(&origin, PATH, range).await.status, 200);
    assert_eq!(get(&origin, PATH, "Range: bytes=1-2\r\n").await.status, 206);
    let reply = faulty(Fault::WeakEtag, 1, 2).await;
    assert!(reply.header("etag").unwrap().starts_with("W/\""));
}

#[tokio::test]
async fn fault_19_to_23_32_to_35_43_to_49_refusals_and_redirects() {
    for name in ["gzip", "identity"] {
        let reply = faulty(Fault::ContentEncoding(name.to_owned()), 10, 19).await;
        assert_eq!((reply.status, reply.header("content-encoding")), (206, Some(name)));
    }
    check(Fault::LoginPage, 200, &[], LOGIN_PAGE.as_bytes()).await;
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let unsatisfiable =
        |range: Option<&str>| Fault::RangeNotSatisfiable { content_range: range.map(str::to_owned) };
    let gated = Fault::Status { code: 403, headers: header("X-Error-Code", "GatedRepo"), body: "no".into() };
    let injected = "/a\r\nX-Injected: 1";
    for (fault, status, headers) in [
        (unsatisfiable(Some("bytes */77")), 416, &[("content-range", Some("bytes */77"))][..]),
        (unsatisfiable(None), 416, &[("content-range", None)]),
        (Fault::RetryAfter { status: 429, value: "soon".to_owned() }, 429, &[("retry-after", Some("soon"))]),
        (gated, 403, &[("x-error-code", Some("GatedRepo"))]),
        (Fault::status(503), 503, &[]),
        (Fault::redirect(injected), 302, &[("location", Some("/a")), ("x-injected", Some("1"))]),
        (Fault::Redirect { status: 307, location: None }, 307, &[("location", None)]),
    ] {
        let reply = faulty(fault.clone(), 10, 19).await;
        let found: Vec<_> = headers.iter().map(|(name, _)| (*name, reply.header(name))).collect();
        assert_eq!((reply.status, &found[..]), (status, headers), "{fault:?}");
        assert!(status != 403 || reply.body == b"no");
    }
}

#[tokio::test]
async fn fault_24_to_26_wrong_bytes_under_the_right_etag() {
    let etag = content().etag();
    let reply = faulty(Fault::ErrorText { at: 12, text: "oops".to_owned() }, 10, 19).await;
    assert_eq!(reply.body, [&bytes(10, 11)[..], b"oops", &bytes(16, 19)].concat());
    assert_eq!(reply.header("etag"), Some(etag.as_str()));
    let reply = faulty(Fault::FlippedBit { at: 12, bit: 0 }, 12, 19).await;
    assert_eq!(reply.body[0], bytes(12, 12)[0] ^ 1);
    assert_eq!(reply.body[1..], bytes(13, 19));
    let reply = faulty(Fault::FlippedBit { at: 12, bit: 0 }, 13, 19).await;
    assert_eq!(reply.body, bytes(13, 19));
    let other = Content::generated(8, SIZE);
    let reply = faulty(Fault::OtherContent(other.clone()), 10, 19).await;
    assert_eq!(
        (reply.body.as_slice(), reply.header("etag")),
        (other.slice(10..20).as_slice(), Some(etag.as_str()))
    );
}

#[tokio::test]
async fn the_first_injection_that_matches_is_applied() {
    let origin = origin().await;
    origin.inject(PATH, Fault::status(500).when(When::First(1)));
    origin.inject(PATH, Fault::status(501).when(When::Nth(1)));
    origin.inject(PATH, Fault::status(502).when(When::Every(3)));
    origin.inject(PATH, Fault::status(503).when(When::RangesNotFromZero));
    origin.inject(
        "*",
        Fault::status(504)
            .when(When::custom(|request, number| request.header("x-please").is_some() && number > 0)),
    );
    let mut statuses = Vec::new();
    let (start, later) = ("Range: bytes=0-1\r\n", "Range: bytes=1-1\r\n");
    for headers in ["", "", "", "", start, start, later, "X-Please: 1\r\n"] {
        statuses.push(get(&origin, PATH, headers).await.status);
    }
    assert_eq!(statuses, [500, 501, 502, 200, 206, 502, 503, 504]);
    assert_eq!(get(&origin, "/nothing/there", "X-Please: 1\r\n").await.status, 504);
    origin.clear_faults(PATH);
    origin.clear_faults("*");
    assert_eq!(get(&origin, PATH, "X-Please: 1\r\n").await.status, 200);
}

#[tokio::test]
async fn faults_can_be_combined() {
    let all = Fault::All(vec![Fault::WeakEtag, Fault::UnknownTotal, Fault::CutBody(1)]);
    let reply = faulty(all, 10, 19).await;
    assert!(reply.header("etag").unwrap().starts_with("W/"));
    assert_eq!((reply.header("content-range"), reply.body.len()), (Some("bytes 10-19/*"), 1));
}
