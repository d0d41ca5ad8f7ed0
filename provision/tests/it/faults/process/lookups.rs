//! Name lookups that hang, or that take longer than a connection may (fault 109).

use std::net::Ipv4Addr;

use super::name_server::{bind, serve, with_resolv_conf};
use crate::prelude::*;

#[test]
fn fault_109_hanging_names_delay_neither_writes_nor_others() {
    let Some(_silent) = bind("127.0.0.109") else { return };
    let mut fixture = Fixture::new();
    for n in 0..40 {
        fixture.model(
            &format!("hang/{n}"),
            &Content::generated(n, 1000),
            &[format!("http://h{n}.example/x")],
        );
    }
    fixture.file("good", &Content::generated(99, 40_000_000));
    let command = fetch(&fixture, &["--connections", "64"]);
    let resolv = "nameserver 127.0.0.109\noptions timeout:30 attempts:1\n";
    let child = start(&mut with_resolv_conf(&fixture, &command, resolv));
    wait_until(Duration::from_secs(10), "the file of the good host", || fixture.path("good").exists());
    let stopped = Instant::now();
    signal(&child, Signal::TERM);
    child.end().exits(143);
    assert!(stopped.elapsed() < Duration::from_secs(3), "{:?}", stopped.elapsed());
}

/// The first name server is dead and each of four names is asked there first, for four seconds.
#[test]
fn fault_109_a_lookup_beyond_the_connect_timeout_succeeds() {
    let (Some(_dead), Some(good)) = (bind("127.0.1.109"), bind("127.0.2.109")) else { return };
    serve(good, "files.example.org", Ipv4Addr::LOCALHOST);
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 3_000_000);
    fixture.origin.put("/x", content.clone());
    let url = fixture.origin.url_at("files.example.org", "/x");
    fixture.model("x", &content, &[url]);
    let command = fetch(&fixture, &["--retries", "1"]);
    let resolv = "nameserver 127.0.1.109\nnameserver 127.0.2.109\nsearch a.local b.local c.local\n\
                  options ndots:5 timeout:4 attempts:1\n";
    let started = Instant::now();
    let ended = run(&mut with_resolv_conf(&fixture, &command, resolv)).exits(0);
    fixture.assert_installed();
    // One lookup for all connections.
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}: {}", started.elapsed(), ended.err);
}
