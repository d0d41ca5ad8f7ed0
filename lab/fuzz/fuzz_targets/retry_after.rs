//! Runs `provision_fuzz::retry_after::check` on every input.
#![no_main]

use provision_fuzz::{Bounded, retry_after};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, retry_after::check));
