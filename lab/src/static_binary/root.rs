//! Root directories for the binary, made on the spot.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

/// What there is besides the program and its input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Nothing, as in an image `FROM scratch`.
    Empty,
    /// Another C library and its programs, as in Alpine.
    Musl,
    /// A name service switch that names modules: some are not there, one is for another glibc and says so if it runs.
    Modules,
}

/// A root directory.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: Utf8PathBuf,
}

/// As systemd's and Avahi's packages write it.
const NSSWITCH: &str =
    "hosts: mymachines mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] files myhostname dns\n";

impl Root {
    /// `/provision` and what the kind has; `etc` are files for /etc.
    pub(super) fn make(
        sh: &Shell,
        path: Utf8PathBuf,
        kind: Kind,
        binary: &Utf8Path,
        etc: &[(&str, &str)],
    ) -> Result<Self> {
        sh.create_dir(path.join("etc"))?;
        sh.copy_file(binary, path.join("provision"))?;
        match kind {
            Kind::Empty => {}
            Kind::Musl => {
                let lib = path.join("lib");
                sh.create_dir(&lib)?;
                // Followed: the loader is a link into a directory of Debian's.
                cmd!(sh, "sh -c 'cp -L /lib/ld-musl-*.so.1 \"$0\"' {lib}").quiet().run()?;
                sh.create_dir(path.join("bin"))?;
                cmd!(sh, "sh -c 'cp \"$(command -v busybox)\" \"$0\"' {path}/bin/busybox").quiet().run()?;
                cmd!(sh, "chroot {path} /bin/busybox true").quiet().run()?;
            }
            Kind::Modules => {
                sh.write_file(path.join("etc/nsswitch.conf"), NSSWITCH)?;
                // Not a library at all: whoever loads it fails, and whoever looks for it is seen.
                for folder in ["lib", "usr/lib"] {
                    let module = path.join(folder).join("libnss_mdns4_minimal.so.2");
                    sh.write_file(&module, "not for this program\n")?;
                    std::fs::set_permissions(&module, std::fs::Permissions::from_mode(0o755))?;
                }
            }
        }
        for (name, text) in etc {
            sh.write_file(path.join("etc").join(name), text)?;
        }
        Ok(Self { path })
    }
}
