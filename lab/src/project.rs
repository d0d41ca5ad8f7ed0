//! Paths of the project's files, and the environment of its commands.

use std::env;
use std::ffi::OsString;

use camino::Utf8Path;

/// The workspace's root.
pub(crate) fn root() -> &'static Utf8Path {
    let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Removes the variables that `cargo run` sets for this program. Call it before any thread starts.
///
/// Cargo runs some build scripts again when these variables change (ring's). A cargo that this program starts would
/// compile all crates above them anew, and so would the next one that it does not start.
pub(crate) fn forget_cargo_run() {
    let is_of_run = |name: &OsString| {
        name.to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    };
    for name in env::vars_os().map(|(name, _)| name).filter(is_of_run) {
        // SAFETY: no other thread exists that could read the environment.
        unsafe { env::remove_var(name) };
    }
}
