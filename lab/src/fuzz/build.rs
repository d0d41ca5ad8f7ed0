//! One build for all targets, which is their lint as well.

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;
use xshell::{Shell, cmd};

use crate::project;

/// Where `.ci/run` puts the tools that it builds.
const TOOLS: &str = "target/ci-tools/bin";

/// What is not there of what a build needs, and how to get it.
pub(super) fn missing(sh: &Shell) -> Option<String> {
    sh.change_dir(project::root());
    let path = sh.var("PATH").unwrap_or_default();
    sh.set_var("PATH", format!("{}:{path}", project::root().join(TOOLS)));
    let is_there = |mut program: std::process::Command| {
        let quiet = program.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    if !is_there(cmd!(sh, "cargo fuzz --version").into()) {
        return Some("cargo-fuzz is not installed: cargo install cargo-fuzz --locked".to_owned());
    }
    if !is_there(cmd!(sh, "c++ --version").into()) {
        return Some("the engine is C++, and there is no compiler for that: apt-get install g++".to_owned());
    }
    None
}

/// Builds the targets and says which directory has their programs.
pub(super) fn build(sh: &Shell) -> Result<Utf8PathBuf> {
    // Fails where the lock does not fit the manifests; what follows needs no network.
    cmd!(sh, "cargo fetch --quiet --locked --manifest-path lab/fuzz/Cargo.toml").quiet().run()?;
    let version = cmd!(sh, "rustc --version --verbose").quiet().read()?;
    let triple = version.lines().find_map(|line| line.strip_prefix("host: "));
    ensure!(triple.is_some(), "rustc does not say what it builds for:\n{version}");
    let triple = triple.unwrap_or_default();
    cmd!(
        sh,
        "cargo fuzz build --fuzz-dir lab/fuzz --sanitizer none --target {triple} --target-dir target/fuzz/build"
    )
    .env("CARGO_NET_OFFLINE", "true")
    // The targets are compiled by clippy, which is the compiler with more lints: no second build only to look at them.
    .env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver")
    .env("CLIPPY_ARGS", "-Dwarnings")
    .quiet()
    .run()?;
    Ok(project::root().join("target/fuzz/build").join(triple).join("release"))
}
