//! The static `provision` of one machine type, built and checked: one small file without a loader, shared libraries or
//! symbols, so that it runs in any root.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::byte_size::ByteSize;
use xshell::{PushEnv, Shell, cmd};

use crate::project;

/// The largest size of the binary, in bytes.
const LARGEST: u64 = 10_000_000;

/// Links the C library in. The short form of relative relocations (RELR, glibc 2.36) saves a quarter of a megabyte.
pub(crate) const RUSTFLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";

/// Lines of readelf that a stripped static file does not have: a loader, a shared library, a symbol table.
const FORBIDDEN: [&str; 3] = ["program interpreter:", "(NEEDED)", " SYMTAB "];

/// The machine type of the compiler's own machine, a target triple.
pub(crate) fn host(sh: &Shell) -> Result<String> {
    let version = cmd!(sh, "rustc --version --verbose").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc --version --verbose prints no host")?.to_owned())
}

/// Cargo's output directory.
pub(super) fn folder(sh: &Shell) -> Utf8PathBuf {
    let given = sh.var("CARGO_TARGET_DIR").unwrap_or_default();
    project::root().join(if given.is_empty() { "target" } else { &given })
}

/// [`RUSTFLAGS`], and what keeps directories of this machine out of the messages of panics: the same source gives the
/// same bytes in any directory.
pub(super) fn rustflags(sh: &Shell) -> Result<String> {
    let registry = match sh.var("CARGO_HOME") {
        Ok(home) => home,
        Err(_) => sh.var("HOME").context("neither CARGO_HOME nor HOME is set")? + "/.cargo",
    };
    Ok(format!(
        "{RUSTFLAGS} --remap-path-prefix={registry}=/cargo --remap-path-prefix={}=/provision",
        project::root()
    ))
}

/// Builds the binary for `target`, a triple, and returns its path.
///
/// # Errors
/// A missing cross compiler or standard library, a failed build, and a binary that is not static, stripped and small.
/// The binary of this machine must also start.
pub(crate) fn build(sh: &Shell, target: &str) -> Result<Utf8PathBuf> {
    let host = host(sh)?;
    let _variables = (target != host).then(|| cross(sh, target)).transpose()?;
    // Without --target, cargo would link build scripts and macros statically, too.
    cmd!(sh, "cargo build --locked --profile dist -p provision --target {target}")
        .env("RUSTFLAGS", rustflags(sh)?)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .run()?;
    let path = folder(sh).join(target).join("dist/provision");

    let forbidden = forbidden(sh, &path)?;
    ensure!(
        forbidden.is_empty(),
        "{path} is not static and stripped; readelf prints:\n{}",
        forbidden.join("\n")
    );
    let size = path.metadata()?.len();
    ensure!(size <= LARGEST, "{path} has {}, more than {}", ByteSize(size).exact(), ByteSize(LARGEST));
    if target == host {
        let version = cmd!(sh, "{path} --version").quiet().read()?;
        ensure!(version == concat!("provision ", env!("CARGO_PKG_VERSION")), "{path} reports {version:?}");
    }
    Ok(path)
}

/// Sets the variables with which cargo and C compile for another machine type, unless they are set. They hold until the
/// drop.
fn cross<'a>(sh: &'a Shell, target: &str) -> Result<Vec<PushEnv<'a>>> {
    let libraries = cmd!(sh, "rustc --print target-libdir --target {target}").quiet().read();
    let libraries = libraries.with_context(|| format!("{target} is no target of this Rust compiler"))?;
    ensure!(
        Utf8Path::new(&libraries).is_dir(),
        "the standard library for {target} is missing; install it: rustup target add {target}"
    );
    // Debian's name of aarch64-unknown-linux-gnu is aarch64-linux-gnu.
    let machine = target.replace("-unknown", "");
    let lower = target.replace('-', "_");
    let names = [format!("CARGO_TARGET_{}_LINKER", lower.to_uppercase()), format!("CC_{lower}")];
    let mut set = Vec::new();
    for name in names.into_iter().filter(|name| sh.var(name).is_err()) {
        let compiler = format!("{machine}-gcc");
        let is_there = cmd!(sh, "{compiler} --version").quiet().ignore_stdout().run().is_ok();
        ensure!(
            is_there,
            "{compiler}, the linker for {target}, is not on PATH; on Debian: apt-get install {}, or set {name}",
            packages(&machine)
        );
        set.push(sh.push_env(name, compiler));
    }
    Ok(set)
}

/// Debian's packages with the cross compiler and the C library for a machine type such as `aarch64-linux-gnu`.
fn packages(machine: &str) -> String {
    let architecture = match machine.split('-').next() {
        Some("aarch64") => "arm64",
        Some("x86_64") => "amd64",
        other => other.unwrap_or_default(),
    };
    format!("gcc-{} libc6-dev-{architecture}-cross", machine.replace('_', "-"))
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
    fn a_missing_compiler_or_library_is_named_with_its_package() {
        let sh = Shell::new().unwrap();
        let message = cross(&sh, "wasm32v1-none").unwrap_err().to_string();
        assert!(message.contains("rustup target add wasm32v1-none"), "{message}");
        assert_eq!(packages("aarch64-linux-gnu"), "gcc-aarch64-linux-gnu libc6-dev-arm64-cross");
        assert_eq!(packages("x86_64-linux-gnu"), "gcc-x86-64-linux-gnu libc6-dev-amd64-cross");
    }

    #[test]
    fn a_file_that_is_no_program_is_an_error() {
        assert!(forbidden(&Shell::new().unwrap(), &project::root().join("Cargo.toml")).is_err());
    }
}
