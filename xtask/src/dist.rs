//! `cargo xtask dist`: builds the static `provision` for images and checks that it is one small file without a loader,
//! shared libraries or symbols, so that it runs in any root.

#![expect(clippy::print_stdout, reason = "path, size and digest are the command's output")]

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use clap::Args;
use provision_core::byte_size::ByteSize;
use xshell::{Shell, cmd};

use crate::project;

/// The largest size of the binary, in bytes.
const LARGEST: u64 = 10_000_000;

/// Links the C library in. The short form of relative relocations (RELR, glibc 2.36) saves a quarter of a megabyte.
pub(crate) const RUSTFLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";

/// Lines of readelf that a stripped static file does not have: a loader, a shared library, a symbol table.
const FORBIDDEN: [&str; 3] = ["program interpreter:", "(NEEDED)", " SYMTAB "];

/// Builds the static `provision` for images, checks it, and prints its path, size and SHA-256
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DistArgs {
    /// The machine type, for which a linker must be installed [default: this machine's]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
}

pub(crate) fn run(args: &DistArgs) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project::root());
    let version = cmd!(sh, "rustc --version --verbose").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc --version --verbose prints no host")?;
    let target = args.target.as_deref().unwrap_or(host);
    // Without --target, cargo would link build scripts and macros statically, too.
    cmd!(sh, "cargo build --locked --profile dist -p provision --target {target}")
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .run()?;
    let folder = sh.var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let path = project::root().join(folder).join(target).join("dist/provision");

    let forbidden = forbidden(&sh, &path)?;
    ensure!(
        forbidden.is_empty(),
        "{path} is not static and stripped; readelf prints:\n{}",
        forbidden.join("\n")
    );
    let size = path.metadata()?.len();
    let exact = ByteSize(size).exact();
    ensure!(size <= LARGEST, "{path} has {exact}, more than {}", ByteSize(LARGEST));
    if target == host {
        let version = cmd!(sh, "{path} --version").quiet().read()?;
        ensure!(version == concat!("provision ", env!("CARGO_PKG_VERSION")), "{path} reports {version:?}");
    }
    let sum = cmd!(sh, "sha256sum {path}").quiet().read()?;
    let sha256 = sum.split_whitespace().next().unwrap_or_default();
    println!("{path}\n{exact}, static, stripped\nsha256 {sha256}");
    Ok(())
}

/// The lines of readelf that match [`FORBIDDEN`]. readelf is a part of binutils, as the linker is.
fn forbidden(sh: &Shell, path: &Utf8Path) -> Result<Vec<String>> {
    let readelf = cmd!(sh, "readelf --wide --program-headers --dynamic --section-headers {path}");
    let text = readelf.env("LC_ALL", "C").quiet().read()?;
    let is_forbidden = |line: &&str| FORBIDDEN.iter().any(|word| line.contains(word));
    Ok(text.lines().filter(is_forbidden).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_has_a_loader_libraries_and_symbols() {
        let program = std::env::current_exe().unwrap();
        let found = forbidden(&Shell::new().unwrap(), Utf8Path::from_path(&program).unwrap()).unwrap();
        for word in FORBIDDEN {
            assert!(found.iter().any(|line| line.contains(word)), "{word}: {found:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_program_is_an_error() {
        assert!(forbidden(&Shell::new().unwrap(), &project::root().join("Cargo.toml")).is_err());
    }
}
