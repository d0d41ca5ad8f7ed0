//! What has to hold for text from outside, whatever it is. One module a target; the programs in `fuzz_targets/` only call
//! [`Bounded::check`] with it.
//!
//! That nothing panics is the least: integer overflow and failed debug assertions count, since cargo-fuzz builds with
//! them. Each target asserts what its parser promises, so that an answer that is wrong without a crash is found as well.
//! Time is bounded by the engine (`-timeout`), memory by [`Bounded`].

mod memory;

pub mod content_range;
pub mod journal;
pub mod location;
pub mod lockfile;
pub mod marker;
pub mod model_path;
pub mod planted;
pub mod retry_after;

pub use memory::Bounded;

/// The text that `data` is, as far as it is text: what comes off the wire is bytes, and lossy conversion would waste
/// most of what the engine tries.
fn text(data: &[u8]) -> &str {
    match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    }
}
