//! The static `provision` of one machine type, built and checked: one small file without a loader, shared libraries or
//! symbols, so that it runs in any root.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::byte_size::ByteSize;
use xshell::{Shell, cmd};

use super::VERSION;
use crate::project;

/// The largest size of the binary, in bytes.
const LARGEST: u64 = 10_000_000;

/// Links the C library in. The short form of relative relocations (RELR, glibc 2.36) saves a quarter of a megabyte.
pub(crate) const RUSTFLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";

/// Lines of readelf that a stripped static file does not have: a loader, a shared library, a symbol table.
const FORBIDDEN: [&str; 3] = ["program interpreter:", "(NEEDED)", " SYMTAB "];

/// The machine type of the compiler's own machine, a target triple.
pub(super) fn host(sh: &Shell) -> Result<String> {
    Ok(cmd!(sh, "rustc --print host-tuple").quiet().read()?)
}

/// Cargo's output directory.
pub(super) fn folder(sh: &Shell) -> Utf8PathBuf {
    let given = sh.var("CARGO_TARGET_DIR").unwrap_or_default();
    project::root().join(if given.is_empty() { "target" } else { &given })
}

/// Builds the binary for `target`, a triple, and returns its path.
///
/// # Errors
/// A failed build, and a binary that is not static, stripped and small. The binary of this machine must also start.
pub(super) fn build(sh: &Shell, target: &str) -> Result<Utf8PathBuf> {
    let is_native = target == host(sh)?;
    // The same source gives the same bytes in any directory: panics name fixed directories.
    let registry = sh.var("CARGO_HOME").or_else(|_| sh.var("HOME").map(|home| home + "/.cargo"));
    let registry = registry.context("neither CARGO_HOME nor HOME is set")?;
    let remap =
        format!("--remap-path-prefix={registry}=/cargo --remap-path-prefix={}=/provision", project::root());
    // Without --target, cargo would link build scripts and macros statically, too.
    let mut build = cmd!(sh, "cargo build --locked --profile dist -p provision --target {target}")
        .env("RUSTFLAGS", format!("{RUSTFLAGS} {remap}"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    // A cross compiler has Debian's name, unless a variable names another.
    let name = target.replace('-', "_");
    let linker = format!("CARGO_TARGET_{}_LINKER", name.to_uppercase());
    for variable in [format!("CC_{name}"), linker.clone()] {
        if !is_native && sh.var(&variable).is_err() {
            build = build.env(variable, format!("{}-gcc", target.replace("-unknown", "")));
        }
    }
    build
        .run()
        .with_context(|| if is_native { "the build failed".to_owned() } else { needs(target, &linker) })?;
    let path = folder(sh).join(target).join("dist/provision");

    let forbidden = forbidden(sh, &path)?;
    ensure!(forbidden.is_empty(), "{path} is not static and stripped; readelf prints:\n{forbidden}");
    let size = path.metadata()?.len();
    ensure!(size <= LARGEST, "{path} has {}, more than {}", ByteSize(size).exact(), ByteSize(LARGEST));
    if is_native {
        let version = cmd!(sh, "{path} --version").quiet().read()?;
        ensure!(version == format!("provision {VERSION}"), "{path} reports {version:?}");
    }
    Ok(path)
}

/// What a build for another machine type needs. `linker` is the variable that names a linker.
fn needs(target: &str, linker: &str) -> String {
    format!(
        "the build for {target} failed; one for another machine type needs `rustup target add {target}` and a \
         cross compiler (on Debian: apt-get install crossbuild-essential-{}, or set {linker})",
        debian(target)
    )
}

/// Debian's name of an architecture, with which a target triple begins.
pub(super) fn debian(architecture: &str) -> &str {
    match architecture.split('-').next() {
        Some("x86_64") => "amd64",
        Some("aarch64") => "arm64",
        other => other.unwrap_or_default(),
    }
}

/// The lines of readelf that match [`FORBIDDEN`]. readelf is a part of binutils, as the linker is.
fn forbidden(sh: &Shell, path: &Utf8Path) -> Result<String> {
    let readelf = cmd!(sh, "readelf --wide --program-headers --dynamic --section-headers {path}");
    let text = readelf.env("LC_ALL", "C").quiet().read()?;
    let is_forbidden = |line: &&str| FORBIDDEN.iter().any(|word| line.contains(word));
    Ok(text.lines().filter(is_forbidden).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_has_a_loader_libraries_and_symbols() {
        let program = std::env::current_exe().unwrap();
        let found = forbidden(&Shell::new().unwrap(), Utf8Path::from_path(&program).unwrap()).unwrap();
        for word in FORBIDDEN {
            assert!(found.contains(word), "{word}: {found}");
        }
    }

    #[test]
    fn the_needs_of_a_build_are_named_with_their_packages() {
        for (target, package) in [
            ("aarch64-unknown-linux-gnu", "apt-get install crossbuild-essential-arm64,"),
            ("x86_64-unknown-linux-gnu", "apt-get install crossbuild-essential-amd64,"),
        ] {
            let text = needs(target, "LINKER");
            assert!(
                text.contains(&format!("`rustup target add {target}`")) && text.contains(package),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_program_is_an_error() {
        assert!(forbidden(&Shell::new().unwrap(), &project::root().join("Cargo.toml")).is_err());
    }
}
