//! Runs `provision_fuzz::pieces::check` on every input.
#![no_main]

use provision_fuzz::{Bounded, pieces};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, pieces::check));
