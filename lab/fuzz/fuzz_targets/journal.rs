//! See `provision_fuzz::journal`, which says what has to hold.
#![no_main]

use provision_fuzz::{Bounded, journal};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, journal::check));
