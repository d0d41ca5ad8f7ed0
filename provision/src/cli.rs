//! The command line around the library crates: arguments, environment, progress, messages, exit codes.
//!
//! Both binaries (`provision` and `cargo xtask`) use it, so an option means the same in CI, in a Dockerfile and at container
//! start. [`environment`] alone reads environment variables; [`progress`] alone draws.

pub mod arguments;
pub mod cache;
pub mod environment;
pub mod exit;
pub mod fetch;
pub mod layers;
pub mod lock;
pub mod locks;
pub mod process;
pub mod progress;
pub mod report;
pub mod signals;
pub mod status;
pub mod suggestions;
pub mod units;
pub mod verify;

use std::io::Write as _;

/// Writes a message to standard error. A closed stream is no failure.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a result line to standard output.
pub(crate) fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
