//! The library's behaviour: real sockets, real directories. A file per subject; a test that proves a case of the
//! fault catalogue begins with its number.

mod fetching;
mod program;
mod world;
