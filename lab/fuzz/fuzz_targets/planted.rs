//! Bugs planted on purpose, for `cargo lab fuzz --prove-red`: each kind that a search must report.
//!
//! Chance needs an hour at a million inputs a second to find the word of the first bug. A search that is guided by new
//! branches needs seconds. The others are given as inputs, so they only have to be reported.
#![no_main]

use std::hint::black_box;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use provision_fuzz::{bounded, processor_time, text};

fuzz_target!(|data: &[u8]| bounded(data, check));

/// Does nothing, except for the bugs. The first is in inputs that begin with `bug!`.
fn check(data: &[u8]) {
    let given = text(data);
    if given == "hang" {
        let mut n = 0u64;
        while black_box(n) < u64::MAX {
            n = black_box(n + 1);
        }
    }
    if given == "slow" {
        let end = processor_time() + Duration::from_millis(1500);
        while processor_time() < end {}
    }
    if given == "memory" {
        black_box(vec![1u8; 64 << 20]);
    }
    // One branch for each letter, as parsers have.
    let has = |at: usize, letter| black_box(data.get(at).copied()) == Some(letter);
    assert!(!(has(0, b'b') && has(1, b'u') && has(2, b'g') && has(3, b'!')), "the planted bug was found");
}
