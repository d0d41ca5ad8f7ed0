//! Honest answers.

use std::io::{Read, Write};
use std::time::Duration;

use provision_testbed::{BlockingOrigin, Content, Origin, OriginConfig};

use crate::client::{End, PATH, SIZE, ask, bytes, connect, content, get, origin, read};

#[tokio::test]
async fn whole_file() {
    let reply = get(&origin().await, PATH, "").await;
    assert_eq!((reply.status, reply.end), (200, End::Fin));
    assert_eq!(reply.body, content().to_vec());
}

#[tokio::test]
async fn range_head_404_and_416_over_one_connection() {
    let origin = origin().await;
    let mut stream = connect(origin.addr()).await;

    ask(&mut stream, "GET", PATH, "Range: bytes=10-19\r\n").await;
    let reply = read(&mut stream, false).await;
    assert_eq!((reply.status, &reply.end), (206, &End::Complete));
    assert_eq!(reply.header("content-range"), Some("bytes 10-19/1000"));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    assert_eq!(reply.header("etag"), Some(content().etag().as_str()));
    assert_eq!(reply.body, bytes(10, 19));

    ask(&mut stream, "GET", "/none", "").await;
    assert_eq!(read(&mut stream, false).await.status, 404);

    ask(&mut stream, "GET", PATH, "Range: bytes=1000-\r\n").await;
    let reply = read(&mut stream, false).await;
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */1000")));

    ask(&mut stream, "HEAD", PATH, "Connection: close\r\n").await;
    let reply = read(&mut stream, true).await;
    assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (200, Some("1000"), 0));

    let counters = origin.wait_for(|counters| counters.connections_open == 0).await;
    assert_eq!((counters.connections_accepted, counters.peak_open, counters.requests), (1, 1, 4));
    assert_eq!(counters.path(PATH).requests, 3);
    assert_eq!(counters.path(PATH).body_bytes, 10);
    let requests = origin.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0].range.as_deref(), Some("bytes=10-19"));
    assert_eq!(requests[0].header("host"), Some("h"));
    let statuses: Vec<_> = requests.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [206, 404, 416, 200]);
}

#[tokio::test]
async fn paths_are_compared_decoded() {
    let origin = origin().await;
    origin.put("/é x?", Content::bytes("body"));
    let target = origin.url("/é x?").split_off(origin.url("").len());
    assert_eq!(target, "/%C3%A9%20x%3F");
    assert_eq!(get(&origin, &target, "").await.body, b"body");
    assert_eq!(get(&origin, &format!("http://proxied{target}"), "").await.body, b"body");
    origin.remove("/é x?");
    assert_eq!(get(&origin, &target, "").await.status, 404);
}

#[tokio::test]
async fn a_large_file_arrives_whole() {
    let origin = origin().await;
    let large = Content::generated(1, 5_000_001);
    origin.put("/large", large.clone());
    assert!(get(&origin, "/large", "").await.body == large.to_vec());
    assert_eq!(origin.counters().body_bytes_sent, 5_000_001);
}

#[tokio::test]
async fn fault_27_an_empty_file() {
    let origin = origin().await;
    origin.put("/empty", Content::bytes(""));
    let reply = get(&origin, "/empty", "").await;
    assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (200, Some("0"), 0));
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let origin = origin().await;
    let reply = get(&origin, PATH, &format!("X-Long: {}\r\n", "x".repeat(40_000))).await;
    assert_eq!(reply.status, 431);
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "POST", PATH, "Content-Length: 0\r\n").await;
    assert_eq!(read(&mut stream, true).await.status, 405);
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "GET /", "/", "").await;
    assert_eq!(read(&mut stream, true).await.status, 400);
}

#[tokio::test]
async fn the_body_stops_when_the_client_leaves() {
    let origin = origin().await;
    origin.put("/huge", Content::generated(1, 20 << 30));
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "GET", "/huge", "").await;
    origin.wait_for(|counters| counters.body_bytes_sent > 100_000).await;
    drop(stream);
    let counters = origin.wait_for(|counters| counters.connections_open == 0).await;
    assert!(counters.body_bytes_sent < 20 << 30);
}

#[tokio::test]
async fn stopping_closes_everything() {
    for graceful in [true, false] {
        let origin = Origin::start(OriginConfig::default()).await.unwrap();
        let addr = origin.addr();
        let mut idle = connect(addr).await;
        origin.wait_for(|counters| counters.connections_open == 1).await;
        if graceful {
            origin.stop().await;
            assert!(tokio::net::TcpStream::connect(addr).await.is_err());
        } else {
            drop(origin);
        }
        assert_ne!(read(&mut idle, true).await.end, End::Complete);
    }
}

#[test]
fn a_blocking_origin_serves_code_that_is_not_async() {
    let origin = BlockingOrigin::start(OriginConfig::default()).unwrap();
    origin.put(PATH, content());
    let mut stream = std::net::TcpStream::connect(origin.addr()).unwrap();
    stream.write_all(format!("GET {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert!(reply.ends_with(&content().to_vec()));
    let long = Duration::from_mins(1);
    let counters = origin.wait_for(long, |counters| counters.connections_open == 0).unwrap();
    assert_eq!(counters.body_bytes_sent, SIZE);
    assert!(origin.wait_for(Duration::from_millis(1), |_| false).is_err());
    let addr = origin.addr();
    origin.stop();
    assert!(std::net::TcpStream::connect(addr).is_err());
}
