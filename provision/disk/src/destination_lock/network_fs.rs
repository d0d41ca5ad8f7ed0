//! Network file systems, whose `flock` may hold within one machine only, and the scope in which it holds.

use std::os::fd::AsFd;

use provision_core::digest::Sha256;

/// Starts the second line of the lock file, before the holder's scope.
pub(super) const SCOPE: &str = "system ";

/// File systems that several machines can mount and whose `flock` may not hold between them, by their numbers in
/// statfs(2): NFS, FUSE, the three of SMB, Ceph, Lustre, 9p, the two of AFS, GPFS, `BeeGFS`, `OrangeFS`, `vboxsf`.
/// Cluster file systems (GFS2, OCFS2) are absent: they lock for all machines.
const NETWORK_FILESYSTEMS: [u32; 14] = [
    0x6969,
    0x6573_5546,
    0x517B,
    0xFF53_4D42,
    0xFE53_4D42,
    0x00C3_6400,
    0x0BD0_0BD0,
    0x0102_1997,
    0x5346_414F,
    0x6B41_4653,
    0x4750_4653,
    0x1983_0326,
    0x2003_0528,
    0x786F_4256,
];

/// The reach of a `flock` on the destination's volume.
#[derive(Debug)]
pub(super) struct Volume {
    /// True if other machines may mount the volume and not see the `flock`.
    pub(super) spans_machines: bool,
    /// Identifies this mount and this boot of this system. The `flock` holds in this scope.
    pub(super) scope: String,
}

impl Volume {
    /// The volume of an open directory or file.
    pub(super) fn of(handle: impl AsFd) -> Self {
        let kind = rustix::fs::fstatfs(&handle).map(|stat| stat.f_type as u32);
        let device = rustix::fs::fstat(&handle).map_or(0, |stat| stat.st_dev);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let scope = Sha256::of(format!("{boot} {device}").as_bytes()).short();
        Self { spans_machines: kind.is_ok_and(|kind| NETWORK_FILESYSTEMS.contains(&kind)), scope }
    }

    /// True if the holder that wrote `text` may have a `flock` that is invisible here.
    pub(super) fn is_foreign(&self, text: &str) -> bool {
        let scope = text.lines().nth(1).and_then(|line| line.strip_prefix(SCOPE));
        self.spans_machines && scope != Some(&self.scope)
    }
}
