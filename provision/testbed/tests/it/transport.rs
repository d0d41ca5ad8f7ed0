//! Faults of the transport.

use std::time::Duration;

use provision_testbed::{Content, Fault, ResetAt, When};
use tokio::io::AsyncReadExt;

use crate::client::{End, PATH, ask, bytes, connect, faulty, get, origin, read};

#[tokio::test]
async fn fault_28_an_endless_body() {
    for (chunked, range, status) in
        [(false, "", 200), (true, "", 200), (false, "Range: bytes=10-19\r\n", 206)]
    {
        let origin = origin().await;
        origin.inject(PATH, Fault::Endless { chunked });
        let mut stream = connect(origin.addr()).await;
        ask(&mut stream, "GET", PATH, range).await;
        let mut some = vec![0; 300_000];
        stream.read_exact(&mut some).await.unwrap();
        let text = String::from_utf8_lossy(&some).to_lowercase();
        assert!(text.starts_with(&format!("http/1.1 {status}")));
        assert!(!text.contains("content-length"));
        assert_eq!(text.contains("transfer-encoding: chunked"), chunked);
        drop(stream);
        origin.wait_for(|counters| counters.connections_open == 0).await;
    }
}

#[tokio::test]
async fn fault_29_resets() {
    let reply = faulty(Fault::Reset(ResetAt::FirstByte), 10, 19).await;
    assert_eq!((reply.end, reply.head.len() + reply.body.len()), (End::Reset, 0));
    let reply = faulty(Fault::Reset(ResetAt::Head), 10, 19).await;
    assert_eq!((reply.end, reply.status), (End::Reset, 0));
    assert!(reply.head.starts_with("HTTP/1.1 206"), "{}", reply.head);
    for (at, sent) in [(ResetAt::Body(0), 0), (ResetAt::Body(4), 4), (ResetAt::LastByte, 9)] {
        let origin = origin().await;
        origin.inject(PATH, Fault::Reset(at));
        let reply = get(&origin, PATH, "Range: bytes=10-19\r\n").await;
        assert_eq!((reply.end, origin.counters().body_bytes_sent), (End::Reset, sent), "{at:?}");
    }
    let reply = faulty(Fault::Reset(ResetAt::Body(11)), 10, 19).await;
    assert_eq!((reply.end, reply.body), (End::Fin, bytes(10, 19)), "a shorter body is not changed");
}

#[tokio::test]
async fn fault_30_trickle_and_stall() {
    let origin = origin().await;
    origin.inject(PATH, Fault::Trickle { every: Duration::from_millis(1) }.when(When::Nth(0)));
    origin.inject(PATH, Fault::Stall(4).when(When::Nth(1)));
    origin.inject(PATH, Fault::NoAnswer.when(When::Nth(2)));
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "GET", PATH, "Range: bytes=10-19\r\n").await;
    assert_eq!(read(&mut stream, false).await.body, bytes(10, 19));
    let mut others = Vec::new();
    for requests in 2..=3 {
        let mut stream = connect(origin.addr()).await;
        ask(&mut stream, "GET", PATH, "Range: bytes=10-19\r\n").await;
        origin.wait_for(|counters| counters.requests == requests).await;
        others.push(stream);
    }
    let counters = origin.wait_for(|counters| counters.body_bytes_sent == 14).await;
    assert_eq!(counters.connections_open, 3, "stalled connections stay open");
    drop(others);
    origin.wait_for(|counters| counters.connections_open == 1).await;
}

#[tokio::test]
async fn fault_30_a_slow_body_ends_with_its_client() {
    let origin = origin().await;
    origin.inject(PATH, Fault::Trickle { every: Duration::from_hours(1) });
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "GET", PATH, "").await;
    origin.wait_for(|counters| counters.requests == 1).await;
    drop(stream);
    origin.wait_for(|counters| counters.connections_open == 0).await;
}

#[tokio::test]
async fn fault_31_oversized_headers() {
    let reply = faulty(Fault::HeaderFlood { lines: 5000 }, 10, 19).await;
    assert!(reply.head.len() > 500_000);
    assert_eq!(reply.body, bytes(10, 19));
    let origin = origin().await;
    origin.inject(PATH, Fault::EndlessHeader);
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "GET", PATH, "").await;
    let mut some = vec![0; 1 << 20];
    stream.read_exact(&mut some).await.unwrap();
    assert!(some.ends_with(b"eeee"));
    drop(stream);
    origin.wait_for(|counters| counters.connections_open == 0).await;
}

#[tokio::test]
async fn fault_39_closed_between_requests() {
    let origin = origin().await;
    origin.inject(PATH, Fault::CloseAfter.when(When::Every(2)));
    let mut stream = connect(origin.addr()).await;
    for _ in 0..2 {
        ask(&mut stream, "GET", PATH, "Range: bytes=10-19\r\n").await;
        let reply = read(&mut stream, false).await;
        assert_eq!((reply.header("connection"), reply.body.as_slice()), (None, bytes(10, 19).as_slice()));
    }
    assert_eq!(read(&mut stream, true).await.end, End::Fin);

    origin.replace_faults(PATH, Fault::HangUp);
    let reply = get(&origin, PATH, "").await;
    assert_eq!((reply.end, reply.head.len() + reply.body.len()), (End::Fin, 0));
}

#[tokio::test]
async fn raw_bytes_replace_the_answer() {
    let reply = faulty(Fault::Raw("HTTP/9 what\r\n".into()), 0, 1).await;
    assert_eq!((reply.head.as_str(), reply.end), ("HTTP/9 what\r\n", End::Fin));
}

#[tokio::test]
async fn a_range_of_a_huge_file_is_made_alone() {
    let origin = origin().await;
    origin.put("/2-pow-60", Content::generated(1, 1 << 60));
    let reply = get(&origin, "/2-pow-60", "Range: bytes=-9\r\n").await;
    assert_eq!(reply.body, Content::generated(1, 1 << 60).slice((1 << 60) - 9..1 << 60));
}
