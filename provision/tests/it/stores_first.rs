//! Stores before the lock's addresses: what they have, miss and get wrong.

use provision_core::store_address::StoreAddress;

use crate::prelude::*;

const SIZE: u64 = 48 << 20;

/// Files at the origin, and at a store on `127.0.0.3`, where `/SHA256` has them.
struct Stored {
    fixture: Fixture,
    store: BlockingOrigin,
}

fn stored(files: usize, size: u64) -> Stored {
    let (mut fixture, store) = (Fixture::in_memory(), start_origin("127.0.0.3"));
    for n in 0..files {
        let content = Content::generated(n as u64, size);
        fixture.file(&format!("f{n}"), &content);
        store.put(&path(&content), content);
    }
    fixture.stores.push(address(&store));
    Stored { fixture, store }
}

fn address(store: &BlockingOrigin) -> StoreAddress {
    StoreAddress::parse(&store.url("/{sha256}").replace("%7B", "{").replace("%7D", "}"), &|_| None).unwrap()
}

fn path(content: &Content) -> String {
    format!("/{}", content.sha256_hex())
}

#[test]
fn a_full_store_leaves_the_origin_alone() {
    let Stored { fixture, store: _running } = stored(3, 6 << 20);
    let report = fixture.fetch_all();
    assert_eq!(fixture.requests(), 0);
    assert!(report.files.iter().all(|file| file.sources[0].fetched == 6 << 20));
}

#[test]
fn fault_130_a_store_that_misses_files_costs_one_request_each() {
    let Stored { fixture, store } = stored(2, 6 << 20);
    store.inject(&path(&Content::generated(0, 6 << 20)), Fault::status(404));
    fixture.fetch_all();
    assert_eq!(store.counters().path(&path(&Content::generated(0, 6 << 20))).requests, 1);
    assert!(fixture.origin.counters().path("/f0").requests > 0);
    assert_eq!(fixture.origin.counters().path("/f1").requests, 0);
    assert!(fixture.warnings().is_empty(), "{:?}", fixture.warnings());
}

#[test]
fn fault_131_a_store_that_is_silent_or_down_is_left_for_the_run() {
    for is_down in [false, true] {
        let Stored { mut fixture, store } = stored(3, 2 << 20);
        fixture.http.head_timeout = Duration::from_secs(20);
        if is_down {
            store.stop();
        } else {
            (0..3).for_each(|n| store.inject(&path(&Content::generated(n, 2 << 20)), Fault::NoAnswer));
        }
        let report = fixture.fetch_all();
        assert!(report.elapsed < Duration::from_secs(5), "{:?}", report.elapsed);
        assert_eq!(fixture.warnings().len(), 1, "{:?}", fixture.warnings());
    }
}

#[test]
fn fault_132_a_store_with_wrong_bytes_is_out_and_said_once() {
    let Stored { fixture, store } = stored(3, 6 << 20);
    (0..3).for_each(|n| store.put(&path(&Content::generated(n, 6 << 20)), Content::generated(9, 6 << 20)));
    fixture.fetch_all();
    assert_eq!(fixture.warnings().len(), 1, "{:?}", fixture.warnings());
    assert!(fixture.warnings()[0].contains("127.0.0.3"));
}

#[test]
fn a_store_that_refuses_the_login_is_not_asked_for_each_file() {
    for store_only in [false, true] {
        let Stored { mut fixture, store } = stored(40, 1000);
        store.inject("*", Fault::status(401));
        fixture.config.transfer.store_only = store_only;
        let report = fixture.fetch().unwrap();
        assert!(store.counters().requests < 20, "{}", store.counters().requests);
        assert_eq!(fixture.warnings().len(), 1, "{:?}", fixture.warnings());
        let failed: Vec<_> = report.files.iter().filter_map(|file| file.result.as_ref().err()).collect();
        assert_eq!(failed.len(), if store_only { 40 } else { 0 });
        assert_eq!(failed.iter().any(|error| error.is_refusal()), store_only, "exit code 6");
    }
}

#[test]
fn a_blob_without_a_byte_is_a_miss() {
    let Stored { fixture, store } = stored(1, 6 << 20);
    store.inject(&path(&Content::generated(0, 6 << 20)), Fault::CutBody(0));
    let report = fixture.fetch_all();
    assert!(matches!(report.files[0].result, Ok(Some(Outcome::Fetched))));
    assert!(store.counters().requests <= 2, "{}", store.counters().requests);
}

#[test]
fn two_stores_are_used_side_by_side_and_the_origin_is_not() {
    let Stored { mut fixture, store } = stored(1, SIZE);
    let other = start_origin("127.0.0.4");
    let content = Content::generated(0, SIZE);
    other.put(&path(&content), content);
    for store in [&store, &other] {
        store.shape(Shape::rate(2 << 20));
    }
    fixture.stores.push(address(&other));
    let report = fixture.fetch_all();
    assert_eq!((report.files[0].sources.len(), fixture.requests()), (2, 0));
}

#[test]
fn of_two_stores_the_one_with_wrong_bytes_is_out() {
    for wrong in [0, 1] {
        let Stored { mut fixture, store } = stored(1, SIZE);
        let (other, content) = (start_origin("127.0.0.4"), Content::generated(0, SIZE));
        other.put(&path(&content), content.clone());
        fixture.stores.push(address(&other));
        let stores = [&store, &other];
        stores[wrong].put(&path(&content), Content::generated(9, SIZE));
        for store in stores {
            store.shape(Shape::rate(3 << 20));
        }
        fixture.fetch_all();
        let said = fixture.warnings();
        assert!(said.len() == 1 && said[0].contains(["127.0.0.3", "127.0.0.4"][wrong]), "{said:?}");
        assert_eq!(fixture.requests(), 0, "the right store had it");
    }
}

#[test]
fn of_two_stores_at_one_host_only_the_wrong_one_is_out() {
    let Stored { mut fixture, store } = stored(2, 6 << 20);
    let at = |prefix: &str| StoreAddress::parse(&format!("{}{prefix}/{{sha256}}", store.url("/")), &|_| None);
    fixture.stores = ["wrong", "right"].map(|prefix| at(prefix).unwrap()).into();
    for n in 0..2 {
        let content = Content::generated(n, 6 << 20);
        store.put(&format!("/wrong{}", path(&content)), Content::generated(9, 6 << 20));
        store.put(&format!("/right{}", path(&content)), content);
    }
    fixture.fetch_all();
    let said = fixture.warnings();
    assert!(said.len() == 1 && said[0].contains("/wrong/"), "{said:?}");
    assert_eq!(fixture.requests(), 0, "the other store has them");
}

#[test]
fn store_only_names_the_store_that_misses_and_the_way_out() {
    let Stored { mut fixture, store } = stored(1, 6 << 20);
    store.inject(&path(&Content::generated(0, 6 << 20)), Fault::status(404));
    fixture.config.transfer.store_only = true;
    let error = fixture.fetch_refused_with(&["127.0.0.3", "provision store push"]).to_string();
    assert!(!error.contains("URL in the lock"), "its address is not in the lock: {error}");
    fixture.stores.clear();
    fixture.fetch_refused_with(&["no store has it"]);
    assert_eq!(fixture.requests(), 0);
}

#[test]
fn the_origin_joins_stores_that_are_slow_for_ten_seconds() {
    let Stored { mut fixture, store } = stored(1, 32 << 20);
    store.shape(Shape::rate(128 << 10));
    fixture.config.transfer.origin_below = Some(8 << 20);
    // Slow connections that take the whole budget would have to end a claim first.
    fixture.config.transfer.limits = Limits { connections: 16, per_host: 8 };
    let report = fixture.fetch_all();
    assert_eq!(report.files[0].sources.len(), 2, "{:?}", report.files[0].sources);
    // 32 s from the store alone.
    assert!(report.elapsed < Duration::from_secs(24), "{:?}", report.elapsed);
}
