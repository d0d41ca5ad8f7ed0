//! Runs `provision_fuzz::marker::check` on every input.
#![no_main]

use provision_fuzz::{Bounded, marker};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, marker::check));
