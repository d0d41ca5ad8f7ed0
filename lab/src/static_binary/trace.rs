//! What `strace -f -e trace=openat,execve` saw of a run.

use anyhow::{Context as _, Result, ensure};

/// Wants no shared object opened, or looked for, by the program or anything that it starts.
pub(super) fn opens_no_library(trace: &str) -> Result<()> {
    // Before it there is chroot, which is a program like any other.
    let (_, own) = trace.split_once("execve(\"/provision\"").context("the program was not started")?;
    let opened: Vec<_> = own.lines().filter(|line| line.contains("openat(")).collect();
    ensure!(!opened.is_empty(), "strace saw nothing:\n{trace}");
    for line in &opened {
        ensure!(!line.contains(".so"), "a shared object was looked for: {line}");
        ensure!(!line.contains("nsswitch"), "the name service switch was read: {line}");
    }
    ensure!(!own.contains("\nexecve(") && !own.contains(" execve("), "another program was started:\n{own}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROOT: &str =
        "7 execve(\"/usr/sbin/chroot\", …) = 0\n7 openat(AT_FDCWD, \"/lib/libc.so.6\", …) = 3\n";

    fn judge(own: &str) -> bool {
        opens_no_library(&format!("{CHROOT}7 execve(\"/provision\", …) = 0\n{own}")).is_ok()
    }

    #[test]
    fn only_what_comes_after_the_start_counts() {
        assert!(judge("7 openat(AT_FDCWD, \"/etc/hosts\", …) = 3\n"));
        assert!(!judge("8 openat(AT_FDCWD, \"/lib/libnss_resolve.so.2\", …) = -1 ENOENT\n"));
        assert!(!judge("8 openat(AT_FDCWD, \"/etc/nsswitch.conf\", …) = 3\n"));
        assert!(!judge("8 openat(AT_FDCWD, \"/x\", …) = 3\n9 execve(\"/bin/sh\", …) = 0\n"));
        assert!(!judge(""), "a trace of nothing proves nothing");
        assert!(opens_no_library(CHROOT).is_err());
    }
}
