//! Programs that the checks and benchmarks run and that a machine may lack.

use anyhow::{Result, bail};
use camino::Utf8Path;
use xshell::Shell;

/// A program and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

pub(crate) const BUSYBOX: Program = Program { name: "busybox", package: "busybox-static" };
pub(crate) const CC: Program = Program { name: "cc", package: "gcc" };
pub(crate) const DNSMASQ: Program = Program { name: "dnsmasq", package: "dnsmasq-base" };
pub(crate) const DOCKER: Program = Program { name: "docker", package: "docker.io" };
pub(crate) const DOCKER_REGISTRY: Program = Program { name: "docker-registry", package: "docker-registry" };
pub(crate) const MKFS_BTRFS: Program = Program { name: "mkfs.btrfs", package: "btrfs-progs" };
pub(crate) const MKFS_EXT4: Program = Program { name: "mkfs.ext4", package: "e2fsprogs" };
pub(crate) const MKFS_XFS: Program = Program { name: "mkfs.xfs", package: "xfsprogs" };
pub(crate) const MUSL: Program = Program { name: "ld-musl-config", package: "musl" };
pub(crate) const NGINX: Program = Program { name: "nginx", package: "nginx" };
pub(crate) const OPENSSL: Program = Program { name: "openssl", package: "openssl" };
pub(crate) const PIP: Program = Program { name: "pip", package: "python3-pip" };
pub(crate) const PYTHON: Program = Program { name: "python3", package: "python3" };
pub(crate) const STRACE: Program = Program { name: "strace", package: "strace" };
/// GNU time, the program: the shell's keyword of that name cannot tell peak memory.
pub(crate) const TIME: Program = Program { name: "time", package: "time" };

impl Program {
    pub(crate) fn is_there(self, sh: &Shell) -> bool {
        // Not asked of the shell: `time` is a keyword of some.
        let path = sh.var("PATH").unwrap_or_default();
        path.split(':').any(|directory| Utf8Path::new(directory).join(self.name).is_file())
    }
}

/// Puts the directories that Debian keeps daemons in on the search path: nginx is there, and only root looks there.
pub(crate) fn extend_path(sh: &Shell) {
    let path = sh.var("PATH").unwrap_or_default();
    sh.set_var("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
}

/// Fails unless all of them are there, and says how to install those that are not.
pub(crate) fn require(sh: &Shell, what_for: &str, programs: &[Program]) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|program| !program.is_there(sh)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|program| program.name).collect();
    let packages: Vec<_> = missing.iter().map(|program| program.package).collect();
    bail!(
        "{what_for} needs {}, not found on PATH; on Debian: apt-get update && apt-get install --no-install-recommends {}",
        names.join(", "),
        packages.join(" ")
    );
}
