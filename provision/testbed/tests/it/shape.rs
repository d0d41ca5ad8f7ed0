//! Rate, latency, limits.

use std::time::{Duration, Instant};

use provision_testbed::{Content, OverLimit, Shape};

use crate::client::{End, PATH, ask, connect, get, origin, read};

#[tokio::test]
async fn all_requests_of_a_connection_share_its_rate() {
    let origin = origin().await;
    origin.put("/file", Content::generated(1, 50_000));
    origin.shape(Shape::rate(500_000));
    let began = Instant::now();
    let mut stream = connect(origin.addr()).await;
    for _ in 0..3 {
        ask(&mut stream, "GET", "/file", "").await;
        assert_eq!(read(&mut stream, false).await.body.len(), 50_000);
    }
    // The allowance reaches 150,000 bytes then, and not earlier.
    assert!(began.elapsed() >= Duration::from_millis(299), "{:?}", began.elapsed());
}

#[tokio::test]
async fn every_second_connection_is_slow() {
    let origin = origin().await;
    origin.put("/file", Content::generated(1, 20_000));
    origin.shape(Shape { every_nth_slow: Some((2, 100_000)), ..Shape::default() });
    get(&origin, "/file", "").await;
    let began = Instant::now();
    get(&origin, "/file", "").await;
    assert!(began.elapsed() >= Duration::from_millis(199), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_first_byte_waits_until_the_client_leaves() {
    let origin = origin().await;
    origin.shape(Shape { first_byte_delay: Duration::from_millis(50), ..Shape::default() });
    let began = Instant::now();
    get(&origin, PATH, "").await;
    assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
    origin.shape(Shape { first_byte_delay: Duration::from_hours(1), ..Shape::default() });
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "GET", PATH, "").await;
    origin.wait_for(|counters| counters.requests == 2).await;
    drop(stream);
    origin.wait_for(|counters| counters.connections_open == 0).await;
}

#[tokio::test]
async fn fault_40_connections_above_the_limit() {
    let origin = origin().await;
    origin.shape(Shape::at_most(1, OverLimit::Refuse));
    let mut first = connect(origin.addr()).await;
    origin.wait_for(|counters| counters.connections_open == 1).await;
    let mut second = connect(origin.addr()).await;
    assert_eq!(read(&mut second, true).await.end, End::Reset);

    origin.shape(Shape::at_most(1, OverLimit::Unavailable));
    assert_eq!(get(&origin, PATH, "").await.status, 503);

    ask(&mut first, "GET", PATH, "Connection: close\r\n").await;
    assert_eq!(read(&mut first, true).await.status, 200);
    origin.wait_for(|counters| counters.connections_open == 0).await;
    assert_eq!(get(&origin, PATH, "").await.status, 200);
    let counters = origin.counters();
    assert_eq!((counters.connections_accepted, counters.connections_refused), (4, 2));
    assert_eq!(counters.peak_open, 1);
}
