//! What the fuzz targets reach of the inside: the pure functions that judge text from outside. Only in a build by
//! cargo-fuzz, and no part of the library's interface.

pub use crate::marker::written_again as marker;
pub use crate::origin::fuzzing::{MAX_HOPS, follow, is_public, judge};
pub use crate::store::fuzzing::{Record, journal_header, journal_parse, journal_records};
