//! `cargo xtask dist`: the runtime binary for images, and the proof that it is what an image needs: one file that
//! runs in any root, and small.

#![expect(clippy::print_stdout, reason = "the path and the digest are what it is run for")]

mod elf;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use clap::Args;
use xshell::{Shell, cmd};

use crate::project;
use elf::Elf;

/// The most bytes that the binary may have.
const LARGEST: u64 = 8_000_000;

/// The C library in the same file. Addresses that are relative to the file's own are listed in the short form (RELR,
/// glibc 2.36): a quarter of a megabyte.
pub(crate) const RUSTFLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";

/// Builds the static `provision` for images, checks it, and prints its path, size and SHA-256
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DistArgs {
    /// For this machine type; a linker for it has to be there [default: this machine's]
    #[arg(long, value_name = "TRIPLE")]
    pub(crate) target: Option<String>,
}

pub(crate) fn run(args: &DistArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    build(&sh, args)?;
    Ok(())
}

/// Builds it, checks it, says what it is, and returns where it is.
pub(crate) fn build(sh: &Shell, args: &DistArgs) -> Result<Utf8PathBuf> {
    let host = host(sh)?;
    let target = args.target.as_deref().unwrap_or(&host);
    // Named, also where it is this machine's: without it, build scripts and macros would be linked statically, too.
    cmd!(sh, "cargo build --locked --profile dist -p provision --target {target}")
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .run()?;
    let folder = sh.var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let path = project::root().join(folder).join(target).join("dist/provision");

    let file = std::fs::read(&path).with_context(|| path.to_string())?;
    let size = file.len() as u64;
    let elf = Elf::parse(&file).with_context(|| path.to_string())?;
    ensure!(elf.interpreter.is_none(), "{path} wants a loader: {:?}", elf.interpreter);
    ensure!(elf.needed == 0, "{path} wants {} shared libraries", elf.needed);
    ensure!(!elf.has_symbols, "{path} is not stripped");
    ensure!(size <= LARGEST, "{path} has {size} bytes, more than {LARGEST}");
    if target == host {
        let version = cmd!(sh, "{path} --version").quiet().read()?;
        ensure!(version == concat!("provision ", env!("CARGO_PKG_VERSION")), "it calls itself {version:?}");
    }
    let sum = cmd!(sh, "sha256sum {path}").quiet().read()?;
    let sha256 = sum.split_whitespace().next().unwrap_or_default();
    println!("{path}\n{size} bytes, static, stripped\nsha256 {sha256}");
    Ok(path)
}

fn host(sh: &Shell) -> Result<String> {
    let version = cmd!(sh, "rustc --version --verbose").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it runs on")?.to_owned())
}
