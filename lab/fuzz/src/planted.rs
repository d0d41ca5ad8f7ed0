//! Bugs planted on purpose, for `cargo xtask fuzz --prove-red`: what the targets would report of a real one.
//!
//! Chance alone needs an hour at a million tries a second to find the word of the first. It takes an engine that sees that
//! a branch was new. The other two are given as inputs: that they are reported is what is proved.

use std::hint::black_box;

use crate::text;

/// One branch for each letter, as parsers have.
macro_rules! word {
    ($data:expr, $at:expr;) => { panic!("the planted bug was found") };
    ($data:expr, $at:expr; $letter:literal $($more:literal)*) => {
        if black_box($data.get($at).copied()) == Some($letter) {
            word!($data, $at + 1; $($more)*);
        }
    };
}

/// Does nothing, but for the bugs.
///
/// # Panics
/// On a text that begins with `bug!`: that is the first bug.
pub fn check(data: &[u8]) {
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
    word!(data, 0; b'b' b'u' b'g' b'!');
}
