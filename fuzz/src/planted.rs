//! Bugs planted on purpose, for `cargo xtask fuzz --prove-red`: what the targets would report of a real one.
//!
//! No chance finds the word of the first: at a million tries a second that takes two thousand years. It
//! takes an engine that sees that a branch was new. The other two are given as inputs: that they are reported is what
//! is proved.

use std::hint::black_box;

use crate::{model_path, text};

/// One branch for each letter, as parsers have.
macro_rules! word {
    ($data:expr, $at:expr;) => { panic!("the planted bug was found") };
    ($data:expr, $at:expr; $letter:literal $($more:literal)*) => {
        if black_box($data.get($at).copied()) == Some($letter) {
            word!($data, $at + 1; $($more)*);
        }
    };
}

/// As [`model_path::check`], with bugs.
///
/// # Panics
/// On a text that begins with `planted`: that is the first bug.
pub fn check(data: &[u8]) {
    model_path::check(data);
    let given = text(data);
    if given == "hang" {
        let mut n = 0u64;
        while black_box(n) < u64::MAX {
            n = black_box(n + 1);
        }
    }
    if given == "memory" {
        black_box(vec![1u8; 64 << 20]);
    }
    word!(data, 0; b'p' b'l' b'a' b'n' b't' b'e' b'd');
}
