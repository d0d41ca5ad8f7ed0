//! The properties that every input from outside keeps, one module a target. The programs in `fuzz_targets/` only pass
//! them to [`Bounded::check`].
//!
//! No input panics: cargo-fuzz turns on overflow checks and debug assertions. Each target also asserts what its parser
//! promises, so a wrong answer without a panic is found, too. [`Bounded`] limits memory and
//! processor time; libFuzzer ends an input that hangs (`-timeout`).

mod limits;

pub mod content_range;
pub mod journal;
pub mod location;
pub mod lockfile;
pub mod marker;
pub mod model_path;
pub mod pieces;
pub mod planted;
pub mod retry_after;

pub use limits::Bounded;

/// The longest prefix of `data` that is UTF-8. Lossy conversion would turn most inputs into the same characters.
fn text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    }
}
