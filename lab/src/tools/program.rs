//! Builds of the programs under test. A check always runs a separate process, never code of its own binary.

use anyhow::Result;
use camino::Utf8PathBuf;
use xshell::{Shell, cmd};

use crate::project;

/// The runtime binary, as `cargo build --release` builds it.
pub(crate) fn release(sh: &Shell) -> Result<Utf8PathBuf> {
    cmd!(sh, "cargo build --quiet --locked --release --package provision --bin provision").quiet().run()?;
    Ok(target(sh).join("release/provision"))
}

/// `cargo xtask`, as its alias builds it.
pub(crate) fn xtask(sh: &Shell) -> Result<Utf8PathBuf> {
    cmd!(sh, "cargo build --quiet --locked --profile task --package xtask").quiet().run()?;
    Ok(target(sh).join("task/xtask"))
}

/// The static binary. `cargo xtask dist` with these options prints its path on the first line, then its size and
/// digest.
#[expect(clippy::print_stdout, reason = "a CI log keeps the size and the digest of the checked binary")]
pub(crate) fn dist(sh: &Shell, options: &[&str]) -> Result<Utf8PathBuf> {
    let output = cmd!(sh, "cargo xtask dist {options...}").quiet().read()?;
    println!("{output}");
    Ok(output.lines().next().unwrap_or_default().into())
}

/// Cargo's output directory.
pub(crate) fn target(sh: &Shell) -> Utf8PathBuf {
    let given = sh.var("CARGO_TARGET_DIR").unwrap_or_default();
    project::root().join(if given.is_empty() { "target" } else { &given })
}
