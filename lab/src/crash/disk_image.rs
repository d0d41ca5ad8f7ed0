//! File systems in files: made, mounted, cloned while they are in use, and unmounted however a check ends.
//!
//! A clone has to be the state of one moment. The images lie on a file system that can share blocks (XFS, itself in an
//! image), where a clone is made under the lock that writes take: nothing is copied block by block while it changes.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use super::context::CrashContext;
use crate::tools::programs::{self, MKFS_BTRFS, MKFS_EXT4, MKFS_XFS, Program};
use crate::tools::wait;

/// The image of the disk that a job is done on.
const DISK: &str = "disk.img";

/// A kind of file system, with its default options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    pub(super) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    fn program(self) -> Program {
        match self {
            Self::Ext4 => MKFS_EXT4,
            Self::Xfs => MKFS_XFS,
            Self::Btrfs => MKFS_BTRFS,
        }
    }

    /// The image's length: the least that its mkfs takes, and enough.
    fn bytes(self) -> u64 {
        match self {
            Self::Ext4 => 96 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 160 << 20,
        }
    }

    fn make(self, sh: &Shell, image: &Utf8Path, bytes: u64) -> Result<()> {
        File::create(image)?.set_len(bytes)?;
        let program = format!("mkfs.{}", self.name());
        Ok(cmd!(sh, "{program} -q {image}").quiet().ignore_stdout().run()?)
    }
}

/// A mounted image.
#[derive(Debug)]
pub(super) struct Mount {
    at: Utf8PathBuf,
    sh: Shell,
}

impl Mount {
    fn new(sh: &Shell, image: &Utf8Path, at: &Utf8Path) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        cmd!(sh, "mount -o loop {image} {at}").quiet().run()?;
        Ok(Self { at: at.to_owned(), sh: sh.clone() })
    }

    /// Makes everything on it durable.
    pub(super) fn sync(&self) -> Result<()> {
        let at = &self.at;
        Ok(cmd!(self.sh, "sync -f {at}").quiet().run()?)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = &self.at;
        let unmount = || Ok(cmd!(self.sh, "umount {at}").quiet().ignore_stderr().run().ok());
        // A process that has just been killed may still be on its way out.
        if wait::until("a file system to be unmounted", Duration::from_secs(5), unmount).is_err() {
            let _ = cmd!(self.sh, "umount --lazy {at}").quiet().run();
        }
    }
}

/// Where images lie, and where one of them is mounted.
#[derive(Debug)]
pub(super) struct DiskImages {
    // Before its directory goes.
    _mount: Mount,
    images: Utf8PathBuf,
    at: Utf8PathBuf,
    sh: Shell,
}

impl DiskImages {
    pub(super) fn new(sh: &Shell, context: &CrashContext) -> Result<Self> {
        programs::require(sh, "crash --only power", &[MKFS_EXT4, MKFS_XFS])?;
        let folder = context.directory("volumes")?;
        let image = folder.join("holder.img");
        FileSystem::Xfs.make(sh, &image, 3 << 30)?;
        let images = folder.join("images");
        let mount = Mount::new(sh, &image, &images)
            .context("file systems cannot be mounted here, so nothing says what a power cut leaves; --no-mounts leaves that out")?;
        Ok(Self { _mount: mount, images, at: folder.join("disk"), sh: sh.clone() })
    }

    /// Why this kind cannot be had here.
    pub(super) fn lacks(&self, kind: FileSystem) -> Option<String> {
        if !kind.program().is_there(&self.sh) {
            return Some(format!("mkfs.{} is not installed", kind.name()));
        }
        self.disk(kind).err().map(|error| format!("{error:#}"))
    }

    /// A new disk, mounted.
    pub(super) fn disk(&self, kind: FileSystem) -> Result<Mount> {
        kind.make(&self.sh, &self.image(), kind.bytes())?;
        Mount::new(&self.sh, &self.image(), &self.at)
    }

    /// Where a disk is mounted.
    pub(super) fn at(&self) -> &Utf8Path {
        &self.at
    }

    fn image(&self) -> Utf8PathBuf {
        self.images.join(DISK)
    }

    /// What clones the disk; for other threads, too.
    pub(super) fn cloner(&self) -> Cloner {
        Cloner { images: self.images.clone() }
    }

    /// Mounts a clone in the disk's place: its journal is recovered.
    pub(super) fn mount_clone(&self, clone: &Utf8Path) -> Result<Mount> {
        Mount::new(&self.sh, clone, &self.at)
    }
}

/// Clones the disk.
#[derive(Debug, Clone)]
pub(super) struct Cloner {
    images: Utf8PathBuf,
}

impl Cloner {
    /// The disk as it is at this moment.
    pub(super) fn clone_disk(&self, name: &str) -> Result<Utf8PathBuf> {
        let path = self.images.join(name);
        let (from, to) = (File::open(self.images.join(DISK))?, File::create(&path)?);
        rustix::fs::ioctl_ficlone(&to, &from).context("cloning the disk")?;
        Ok(path)
    }
}
