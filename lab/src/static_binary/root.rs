//! Root directories in which the static binary runs.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use camino::Utf8Path;
use xshell::{Shell, cmd};

/// The content of a root besides the binary and its input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Nothing, as in an image `FROM scratch`.
    Empty,
    /// Another C library and busybox, as in Alpine.
    Musl,
    /// A name-service configuration with modules, one of which exists and is no library.
    Modules,
}

/// The line that the packages of systemd and Avahi write.
const NSSWITCH: &str =
    "hosts: mymachines mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] files myhostname dns\n";

/// Makes a root at `path`, with a directory /etc.
pub(super) fn make(sh: &Shell, path: &Utf8Path, kind: Kind) -> Result<()> {
    sh.create_dir(path.join("etc"))?;
    match kind {
        Kind::Empty => {}
        Kind::Musl => {
            sh.create_dir(path.join("lib"))?;
            sh.create_dir(path.join("bin"))?;
            // `-L`: Debian's loader is a symlink into another directory.
            cmd!(sh, "sh -c 'cp -L /lib/ld-musl-*.so.1 \"$0\"' {path}/lib").quiet().run()?;
            cmd!(sh, "sh -c 'cp \"$(command -v busybox)\" \"$0\"' {path}/bin/busybox").quiet().run()?;
            cmd!(sh, "chroot {path} /bin/busybox true").quiet().run()?;
        }
        Kind::Modules => {
            sh.write_file(path.join("etc/nsswitch.conf"), NSSWITCH)?;
            // Loading this file fails, and the trace shows a search for it.
            for folder in ["lib", "usr/lib"] {
                let module = path.join(folder).join("libnss_mdns4_minimal.so.2");
                sh.write_file(&module, "not a library\n")?;
                std::fs::set_permissions(&module, Permissions::from_mode(0o755))?;
            }
        }
    }
    Ok(())
}
