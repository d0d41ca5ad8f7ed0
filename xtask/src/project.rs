//! Paths of the project's files, and the environment of its commands.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use camino::Utf8Path;

/// The workspace's root.
pub(crate) fn root() -> &'static Utf8Path {
    let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The project's own lock.
pub(crate) fn lock() -> String {
    root().join("models.lock").into_string()
}

/// Starts this program again without the variables that `cargo run` sets for it; returns only where none is set, or on
/// an error.
///
/// Cargo runs some build scripts again when these variables change (ring's). A cargo that this program starts would
/// compile all crates above them anew, and so would the next one that it does not start.
pub(crate) fn forget_cargo_run() -> io::Result<()> {
    let is_of_run = |name: &OsString| {
        let starts = |prefix| name.as_encoded_bytes().starts_with(prefix);
        starts(b"CARGO_PKG_".as_slice()) || starts(b"CARGO_MANIFEST_")
    };
    let mut names = env::vars_os().map(|(name, _)| name).filter(is_of_run).peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    let mut command = Command::new(env::current_exe()?);
    for name in names {
        command.env_remove(name);
    }
    Err(command.args(env::args_os().skip(1)).exec())
}
