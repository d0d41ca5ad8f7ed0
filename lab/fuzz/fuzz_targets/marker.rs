//! The marker: garbage is refused, and an accepted marker is the same after a rewrite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use provision_engine::written_again as marker;
use provision_fuzz::{bounded, stays_beneath};

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input is a marker's text.
fn check(data: &[u8]) {
    let Some((written, paths)) = marker(data) else { return };
    assert!(data.starts_with(b"{\"version\":"), "a search for markers would not find it");
    paths.iter().for_each(stays_beneath);
    let (again, same) = marker(&written).expect("a rewritten marker is accepted");
    assert_eq!(again, written, "the marker differs after a rewrite");
    assert_eq!(paths, same);
    // A torn marker is refused: a run that was killed while it wrote has not vouched for any file.
    for cut in [written.len() / 2, written.len() - 1] {
        assert!(marker(&written[..cut]).is_none(), "a torn marker is accepted");
    }
}
