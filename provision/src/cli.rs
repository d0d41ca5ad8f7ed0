//! The shell around the library: arguments, environment, progress, messages, exit codes.
//!
//! Shared by both binaries (`provision` and `cargo xtask`), so that an option means the same in CI, in a Dockerfile
//! and at container start. Everything that reads the environment is in [`environment`]; everything that is drawn is
//! in [`progress`].

pub mod arguments;
pub mod cache;
pub mod environment;
pub mod exit;
pub mod fetch;
pub mod human;
pub mod layers;
pub mod lock;
pub mod locks;
pub mod process;
pub mod progress;
pub mod report;
pub mod signals;
pub mod status;
pub mod verify;

use std::io::Write as _;

/// Says something to the person at standard error. A closed one is no reason to fail.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a line of what was asked for to standard output.
pub(crate) fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
