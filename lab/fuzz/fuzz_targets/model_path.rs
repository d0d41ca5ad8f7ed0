//! Runs `provision_fuzz::model_path::check` on every input.
#![no_main]

use provision_fuzz::{Bounded, model_path};

#[global_allocator]
static MEMORY: Bounded = Bounded::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| MEMORY.check(data, model_path::check));
