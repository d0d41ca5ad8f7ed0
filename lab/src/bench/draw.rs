//! Pictures of a report, as hand-written SVG: text and a handful of shapes need no library.

mod bars;
mod curves;
mod svg;

pub(super) use bars::bars;
pub(super) use curves::curves;
