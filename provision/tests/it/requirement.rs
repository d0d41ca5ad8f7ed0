//! What a test needs of the machine: rights, tools, interfaces.
//!
//! A machine that lacks it passes the test over with a line that says so; one where every test has to prove something
//! (`CI` is set) fails it.

use std::process::{Command, Stdio};

/// Whether what a test needs is there.
pub(crate) fn needs(what: &str, there: bool) -> bool {
    #[expect(clippy::disallowed_methods, reason = "only a test's own behaviour follows from it")]
    let must = std::env::var_os("CI").is_some();
    assert!(there || !must, "CI must have {what}: this test must not be passed over there");
    #[expect(clippy::print_stderr, reason = "nobody is to take it for proven")]
    if !there {
        eprintln!("skipped: needs {what}");
    }
    there
}

/// Whether this is root, who may mount and make devices.
pub(crate) fn needs_root() -> bool {
    needs("root", rustix::process::geteuid().is_root())
}

/// Whether such a program is installed; `version` is what makes it say its version and end.
pub(crate) fn needs_tool(tool: &str, version: &str) -> bool {
    let found = Command::new(tool).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    needs(tool, found.is_ok())
}
