//! Faults in status, headers and body.

use provision_testbed::{Claim, Content, Fault, LOGIN_PAGE, When};

use crate::client::{End, PATH, SIZE, bytes, content, faulty, get, origin};

#[tokio::test]
async fn fault_1_to_3_a_range_answered_by_200() {
    let reply = faulty(Fault::IgnoreRange { accept_ranges: false }, 10, 19).await;
    assert_eq!((reply.status, reply.header("accept-ranges")), (200, None));
    assert_eq!(reply.body, content().to_vec());
    let reply = faulty(Fault::IgnoreRange { accept_ranges: true }, 10, 19).await;
    assert_eq!((reply.status, reply.header("accept-ranges")), (200, Some("bytes")));
    assert_eq!(reply.body, content().to_vec());
    let reply = faulty(Fault::OkWithContentRange { whole: true }, 10, 19).await;
    assert_eq!((reply.status, reply.header("content-range")), (200, Some("bytes 10-19/1000")));
    assert_eq!(reply.body, content().to_vec());
    let reply = faulty(Fault::OkWithContentRange { whole: false }, 10, 19).await;
    assert_eq!((reply.status, reply.header("content-range")), (200, Some("bytes 10-19/1000")));
    assert_eq!(reply.body, bytes(10, 19));
}

#[tokio::test]
async fn fault_4_to_6_no_range_another_one_or_a_shorter_one() {
    let reply = faulty(Fault::NoContentRange, 10, 19).await;
    assert_eq!((reply.status, reply.header("content-range")), (206, None));
    assert_eq!(reply.body, bytes(10, 19));
    let reply = faulty(Fault::OtherStart { shift: -3 }, 10, 19).await;
    assert_eq!(reply.header("content-range"), Some("bytes 7-16/1000"));
    assert_eq!(reply.body, bytes(7, 16));
    let reply = faulty(Fault::ShorterRange { length: 4 }, 10, 19).await;
    assert_eq!(reply.header("content-range"), Some("bytes 10-13/1000"));
    assert_eq!(reply.body, bytes(10, 13));
}

#[tokio::test]
async fn fault_7_a_body_longer_than_requested() {
    for (claim, range, length) in [
        (Claim::Honest, "bytes 10-24/1000", "15"),
        (Claim::LengthOnly, "bytes 10-19/1000", "15"),
        (Claim::Nothing, "bytes 10-19/1000", "10"),
    ] {
        let reply = faulty(Fault::LongerRange { extra: 5, claim }, 10, 19).await;
        assert_eq!(reply.header("content-range"), Some(range), "{claim:?}");
        assert_eq!(reply.header("content-length"), Some(length), "{claim:?}");
        assert_eq!(reply.body, bytes(10, 24), "{claim:?}");
    }
    // Past the end of the file the bytes are noise.
    let reply = faulty(Fault::LongerRange { extra: 5, claim: Claim::LengthOnly }, 990, 999).await;
    assert_eq!(reply.body.len(), 15);
}

#[tokio::test]
async fn fault_8_to_11_totals_multipart_length() {
    let reply = faulty(Fault::WrongTotal(999), 10, 19).await;
    assert_eq!(reply.header("content-range"), Some("bytes 10-19/999"));
    let reply = faulty(Fault::UnknownTotal, 10, 19).await;
    assert_eq!(reply.header("content-range"), Some("bytes 10-19/*"));
    let reply = faulty(Fault::Multipart, 10, 19).await;
    assert_eq!((reply.status, reply.header("content-range")), (206, None));
    assert!(reply.header("content-type").unwrap().starts_with("multipart/byteranges"));
    assert!(reply.body.windows(10).any(|window| window == bytes(10, 19)));
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
    let reply = faulty(Fault::WrongLength { delta: 5 }, 10, 19).await;
    assert_eq!(
        (reply.header("content-length"), reply.body.as_slice()),
        (Some("15"), bytes(10, 19).as_slice())
    );
    let reply = faulty(Fault::WrongLength { delta: -4 }, 10, 19).await;
    assert_eq!(
        (reply.header("content-length"), reply.body.as_slice()),
        (Some("6"), bytes(10, 15).as_slice())
    );
}

#[tokio::test]
async fn fault_12_to_14_framing() {
    let reply = faulty(Fault::CutBody(4), 10, 19).await;
    assert_eq!(
        (reply.header("content-length"), reply.body.as_slice()),
        (Some("10"), bytes(10, 13).as_slice())
    );
    assert_eq!(reply.end, End::Fin);
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
async fn fault_19_to_23_encodings_416_and_login_page() {
    for name in ["gzip", "identity"] {
        let reply = faulty(Fault::ContentEncoding(name.to_owned()), 10, 19).await;
        assert_eq!((reply.status, reply.header("content-encoding")), (206, Some(name)));
    }
    let content_range = Some("bytes */77".to_owned());
    let reply = faulty(Fault::RangeNotSatisfiable { content_range }, 10, 19).await;
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */77")));
    let reply = faulty(Fault::RangeNotSatisfiable { content_range: None }, 10, 19).await;
    assert_eq!((reply.status, reply.header("content-range")), (416, None));
    let reply = faulty(Fault::LoginPage, 10, 19).await;
    assert_eq!((reply.status, reply.body), (200, LOGIN_PAGE.into()));
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
async fn fault_32_to_35_and_43_to_49_refusals_and_redirects() {
    let reply = faulty(Fault::RetryAfter { status: 429, value: "soon".to_owned() }, 0, 9).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("soon")));
    let headers = vec![("X-Error-Code".to_owned(), "GatedRepo".to_owned())];
    let reply = faulty(Fault::Status { code: 403, headers, body: "no".into() }, 0, 9).await;
    assert_eq!((reply.status, reply.header("x-error-code")), (403, Some("GatedRepo")));
    assert_eq!(reply.body, b"no");
    assert_eq!(faulty(Fault::status(503), 0, 9).await.status, 503);
    let reply = faulty(Fault::redirect("/a\r\nX-Injected: 1"), 0, 9).await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("/a")));
    assert_eq!(reply.header("x-injected"), Some("1"));
    let reply = faulty(Fault::Redirect { status: 307, location: None }, 0, 9).await;
    assert_eq!((reply.status, reply.header("location")), (307, None));
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
    for headers in [
        "",
        "",
        "",
        "",
        "Range: bytes=0-1\r\n",
        "Range: bytes=0-1\r\n",
        "Range: bytes=1-1\r\n",
        "X-Please: 1\r\n",
    ] {
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
