//! External programs that the checks and benchmarks need, with the Debian packages that ship them.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::process::silently;

/// A program and its Debian package.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program(&'static str, &'static str);

pub(crate) const ARIA2: Program = Program("aria2c", "aria2");
pub(crate) const BUSYBOX: Program = Program("busybox", "busybox-static");
pub(crate) const CC: Program = Program("cc", "gcc");
pub(crate) const CROSS_CC: Program =
    Program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross");
pub(crate) const CURL: Program = Program("curl", "curl");
pub(crate) const DNSMASQ: Program = Program("dnsmasq", "dnsmasq-base");
pub(crate) const DOCKER: Program = Program("docker", "docker.io");
pub(crate) const DOCKER_REGISTRY: Program = Program("docker-registry", "docker-registry");
pub(crate) const DPKG: Program = Program("dpkg-deb", "dpkg");
pub(crate) const FAKETIME: Program = Program("faketime", "faketime");
pub(crate) const MKFS_BTRFS: Program = Program("mkfs.btrfs", "btrfs-progs");
pub(crate) const MKFS_EXT4: Program = Program("mkfs.ext4", "e2fsprogs");
pub(crate) const MKFS_XFS: Program = Program("mkfs.xfs", "xfsprogs");
pub(crate) const MUSL: Program = Program("ld-musl-config", "musl");
pub(crate) const NGINX: Program = Program("nginx", "nginx");
pub(crate) const OPENSSL: Program = Program("openssl", "openssl");
pub(crate) const PIP: Program = Program("pip", "python3-pip");
pub(crate) const PYTHON: Program = Program("python3", "python3");
pub(crate) const SHELLCHECK: Program = Program("shellcheck", "shellcheck");
pub(crate) const QEMU: Program = Program("qemu-aarch64-static", "qemu-user-static");
/// No package of Debian: `cargo install s3s-fs --features binary`.
pub(crate) const S3S_FS: Program = Program("s3s-fs", "");
pub(crate) const STRACE: Program = Program("strace", "strace");
/// GNU time: the shell keyword `time` does not measure peak memory.
pub(crate) const TIME: Program = Program("time", "time");

impl Program {
    pub(crate) fn is_there(self, sh: &Shell) -> bool {
        // `command -v time` would find the shell's keyword.
        let path = sh.var("PATH").unwrap_or_default();
        path.split(':').any(|directory| Utf8Path::new(directory).join(self.0).is_file())
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
    let missing = programs.iter().filter(|program| !program.is_there(sh));
    let (names, packages): (Vec<_>, Vec<_>) = missing.map(|Program(name, package)| (*name, *package)).unzip();
    ensure!(
        names.is_empty(),
        "{purpose} needs {}, not found on PATH; on Debian: apt-get update && apt-get install --no-install-recommends {}",
        names.join(", "),
        packages.join(" ")
    );
    Ok(())
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
        silently(cmd!(sh, "pip install {options...} {partial} {package} {arguments...}"))
            .with_context(|| format!("pip could not install {package}"))?;
        // Only a complete installation gets the name that later runs trust.
        std::fs::rename(partial, &folder)?;
    }
    Ok(folder)
}
