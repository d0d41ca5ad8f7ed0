//! Runs `provision_fuzz::journal::check` on every input.
#![no_main]

use provision_fuzz::{Bounded, journal};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, journal::check));
