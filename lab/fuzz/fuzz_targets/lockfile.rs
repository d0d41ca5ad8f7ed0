//! Runs `provision_fuzz::lockfile::check` on every input.
#![no_main]

use provision_fuzz::{Bounded, lockfile};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, lockfile::check));
