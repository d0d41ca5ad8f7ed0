//! External programs that the checks and benchmarks need, with the Debian packages that ship them.

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use crate::project;

/// A program and its Debian package.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

pub(crate) const ARIA2: Program = Program { name: "aria2c", package: "aria2" };
pub(crate) const BUSYBOX: Program = Program { name: "busybox", package: "busybox-static" };
pub(crate) const CC: Program = Program { name: "cc", package: "gcc" };
pub(crate) const CROSS_CC: Program =
    Program { name: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross" };
pub(crate) const CURL: Program = Program { name: "curl", package: "curl" };
pub(crate) const DNSMASQ: Program = Program { name: "dnsmasq", package: "dnsmasq-base" };
pub(crate) const DOCKER: Program = Program { name: "docker", package: "docker.io" };
pub(crate) const DOCKER_REGISTRY: Program = Program { name: "docker-registry", package: "docker-registry" };
pub(crate) const DPKG: Program = Program { name: "dpkg-deb", package: "dpkg" };
pub(crate) const FAKETIME: Program = Program { name: "faketime", package: "faketime" };
pub(crate) const MKFS_BTRFS: Program = Program { name: "mkfs.btrfs", package: "btrfs-progs" };
pub(crate) const MKFS_EXT4: Program = Program { name: "mkfs.ext4", package: "e2fsprogs" };
pub(crate) const MKFS_XFS: Program = Program { name: "mkfs.xfs", package: "xfsprogs" };
pub(crate) const MUSL: Program = Program { name: "ld-musl-config", package: "musl" };
pub(crate) const NGINX: Program = Program { name: "nginx", package: "nginx" };
pub(crate) const OPENSSL: Program = Program { name: "openssl", package: "openssl" };
pub(crate) const PIP: Program = Program { name: "pip", package: "python3-pip" };
pub(crate) const PYTHON: Program = Program { name: "python3", package: "python3" };
pub(crate) const SHELLCHECK: Program = Program { name: "shellcheck", package: "shellcheck" };
pub(crate) const QEMU: Program = Program { name: "qemu-aarch64-static", package: "qemu-user-static" };
/// No package of Debian: `cargo install s3s-fs --features binary`.
pub(crate) const S3S_FS: Program = Program { name: "s3s-fs", package: "" };
pub(crate) const STRACE: Program = Program { name: "strace", package: "strace" };
/// GNU time: the shell keyword `time` does not measure peak memory.
pub(crate) const TIME: Program = Program { name: "time", package: "time" };

impl Program {
    pub(crate) fn is_there(self, sh: &Shell) -> bool {
        // `command -v time` would find the shell's keyword.
        let path = sh.var("PATH").unwrap_or_default();
        path.split(':').any(|directory| Utf8Path::new(directory).join(self.name).is_file())
    }
}

/// Adds directories to `PATH`: those of Debian's daemons, which only root's has, for nginx; and that of the tools that
/// CI builds.
pub(crate) fn extend_path(sh: &Shell) {
    let (path, root) = (sh.var("PATH").unwrap_or_default(), project::root());
    sh.set_var("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:{root}/target/ci-tools/bin"));
}

/// Fails if a program is missing. The error names the packages to install. `purpose` is what needs them.
pub(crate) fn require(sh: &Shell, purpose: &str, programs: &[Program]) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|program| !program.is_there(sh)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|program| program.name).collect();
    let packages: Vec<_> = missing.iter().map(|program| program.package).collect();
    bail!(
        "{purpose} needs {}, not found on PATH; on Debian: apt-get update && apt-get install --no-install-recommends {}",
        names.join(", "),
        packages.join(" ")
    );
}

/// Installs a package of Python's index in `parent`, unless it is there, and returns its directory for `PYTHONPATH`. The
/// directory's name has the version, so another version is installed beside it. `arguments` are further ones of pip.
pub(crate) fn python_package(
    sh: &Shell,
    parent: &Utf8Path,
    package: &str,
    arguments: &[&str],
) -> Result<Utf8PathBuf> {
    let (folder, partial) = (parent.join(package), parent.join(format!("{package}.partial")));
    if !folder.is_dir() {
        sh.remove_path(&partial)?;
        let options = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore", "--target"];
        cmd!(sh, "pip install {options...} {partial} {package} {arguments...}")
            .ignore_stderr()
            .run()
            .with_context(|| format!("pip could not install {package}"))?;
        // Only a complete installation gets the name that later runs trust.
        std::fs::rename(partial, &folder)?;
    }
    Ok(folder)
}
