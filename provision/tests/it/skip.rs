//! Requirements of a test that the machine may lack: rights, tools, interfaces.
//!
//! A test without its requirement is skipped with a message. With `CI` set it fails instead, so CI runs every test.

use std::process::{Command, Stdio};

/// Returns whether the requirement is met; prints the skip message or fails otherwise.
pub(crate) fn needs(what: &str, there: bool) -> bool {
    #[expect(clippy::disallowed_methods, reason = "only a test's own behaviour follows from it")]
    let must = std::env::var_os("CI").is_some();
    assert!(there || !must, "CI must have {what}: this test must not be passed over there");
    #[expect(clippy::print_stderr, reason = "a skipped test must not look like a passed one")]
    if !there {
        eprintln!("skipped: needs {what}");
    }
    there
}

/// Root, which may mount and make devices.
pub(crate) fn needs_root() -> bool {
    needs("root", rustix::process::geteuid().is_root())
}

/// `value`, such as a test's fixture, if the test runs as root.
pub(crate) fn with_root<T>(value: T) -> Option<T> {
    needs_root().then_some(value)
}

/// `value` if strace is there.
pub(crate) fn with_strace<T>(value: T) -> Option<T> {
    needs_tool("strace", "-V").then_some(value)
}

/// `value` if the program can run as the user `nobody`.
pub(crate) fn with_nobody<T>(value: T) -> Option<T> {
    (needs_root() && needs_tool("setpriv", "--version")).then_some(value)
}

/// `value` if the test may mount file systems.
pub(crate) fn with_mount<T>(value: T) -> Option<T> {
    (needs_root() && needs_tool("mount", "--version")).then_some(value)
}

/// An installed program; with the argument `version` it prints its version and ends.
pub(crate) fn needs_tool(tool: &str, version: &str) -> bool {
    let found = Command::new(tool).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    needs(tool, found.is_ok())
}
