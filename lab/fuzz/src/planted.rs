//! Bugs planted on purpose, for `cargo lab fuzz --prove-red`: each kind that a search must report.
//!
//! Chance needs an hour at a million inputs a second to find the word of the first bug. A search that is guided by new
//! branches needs seconds. The others are given as inputs, so they only have to be reported.

use std::hint::black_box;
use std::time::Duration;

use crate::limits::processor_time;
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

/// Does nothing, except for the bugs.
///
/// # Panics
/// On an input that begins with `bug!`, which is the first bug.
pub fn check(data: &[u8]) {
    let given = text(data);
    if given == "hang" {
        let mut n = 0u64;
        while black_box(n) < u64::MAX {
            n = black_box(n + 1);
        }
    }
    if given == "slow" {
        let end = processor_time() + Duration::from_millis(1500);
        while processor_time() < end {}
    }
    if given == "memory" {
        black_box(vec![1u8; 64 << 20]);
    }
    word!(data, 0; b'b' b'u' b'g' b'!');
}
