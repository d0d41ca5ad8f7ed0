//! The library's behaviour: real sockets, real directories. A file per subject; a test that proves a case of the
//! fault catalogue begins with its number.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cache;
mod credentials;
mod ensure;
mod faults;
mod fetching;
mod hub;
mod interrupt;
mod metadata;
mod program;
mod requirement;
mod resume;
mod secrets;
mod sets;
mod sources;
mod world;
