//! The system calls of a run, as `strace -f -e trace=openat,execve` prints them.

use anyhow::{Context as _, Result, ensure};

/// Requires that `/provision` opened or looked for no shared object, and started no other program.
pub(super) fn opens_no_library(trace: &str) -> Result<()> {
    // The lines before it belong to chroot, which is dynamic.
    let (_, own) =
        trace.split_once("execve(\"/provision\"").context("the trace has no start of /provision")?;
    let opened: Vec<_> = own.lines().filter(|line| line.contains("openat(")).collect();
    ensure!(!opened.is_empty(), "the trace has no opened file:\n{trace}");
    for line in &opened {
        ensure!(!line.contains(".so"), "the binary looked for a shared object: {line}");
        ensure!(!line.contains("nsswitch"), "the binary read the name-service configuration: {line}");
    }
    ensure!(!own.contains("\nexecve(") && !own.contains(" execve("), "another program was started:\n{own}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROOT: &str =
        "7 execve(\"/usr/sbin/chroot\", …) = 0\n7 openat(AT_FDCWD, \"/lib/libc.so.6\", …) = 3\n";

    fn passes(own: &str) -> bool {
        opens_no_library(&format!("{CHROOT}7 execve(\"/provision\", …) = 0\n{own}")).is_ok()
    }

    #[test]
    fn only_calls_after_the_start_of_the_binary_count() {
        assert!(passes("7 openat(AT_FDCWD, \"/etc/hosts\", …) = 3\n"));
        assert!(!passes("8 openat(AT_FDCWD, \"/lib/libnss_resolve.so.2\", …) = -1 ENOENT\n"));
        assert!(!passes("8 openat(AT_FDCWD, \"/etc/nsswitch.conf\", …) = 3\n"));
        assert!(!passes("8 openat(AT_FDCWD, \"/x\", …) = 3\n9 execve(\"/bin/sh\", …) = 0\n"));
        assert!(!passes(""), "an empty trace shows nothing");
        assert!(opens_no_library(CHROOT).is_err());
    }
}
