//! Runs `provision_fuzz::content_range::check` on every input.
#![no_main]

use provision_fuzz::{Bounded, content_range};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, content_range::check));
