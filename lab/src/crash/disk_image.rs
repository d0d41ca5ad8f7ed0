//! File systems in image files: made, mounted, cloned while they are in use, and unmounted at the end of a check.
//!
//! A clone has the state of one moment. The images are on XFS, itself in an image, which clones a file by sharing its
//! blocks, under the lock that writes take. A copy block by block would mix moments.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use crate::tools::programs::{self, MKFS_BTRFS, MKFS_EXT4, MKFS_XFS, Program};
use crate::tools::wait;

pub(super) const NO_MOUNTS: &str =
    "file systems cannot be mounted here, which the power cut needs; add --no-mounts to leave it out";

/// A kind of file system, with its default options.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileSystem {
    pub(super) name: &'static str,
    program: Program,
    /// The image's length: at least what mkfs requires.
    bytes: u64,
}

pub(super) const EXT4: FileSystem = FileSystem { name: "ext4", program: MKFS_EXT4, bytes: 96 << 20 };
const XFS: FileSystem = FileSystem { name: "xfs", program: MKFS_XFS, bytes: 320 << 20 };
const BTRFS: FileSystem = FileSystem { name: "btrfs", program: MKFS_BTRFS, bytes: 160 << 20 };
pub(super) const FILE_SYSTEMS: [FileSystem; 3] = [EXT4, XFS, BTRFS];

impl FileSystem {
    fn make(self, sh: &Shell, image: &Utf8Path, bytes: u64) -> Result<()> {
        File::create(image)?.set_len(bytes)?;
        let program = format!("mkfs.{}", self.name);
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
        // A killed process keeps its files open until it has exited.
        if wait::until("a file system to be unmounted", Duration::from_secs(5), unmount).is_err() {
            let _ = cmd!(self.sh, "umount --lazy {at}").quiet().run();
        }
    }
}

/// The images, one of which is mounted at a time.
#[derive(Debug)]
pub(super) struct DiskImages {
    // Unmounted before its directory is removed.
    _mount: Mount,
    images: Utf8PathBuf,
    /// The mount point of a disk or a clone.
    pub(super) at: Utf8PathBuf,
    sh: Shell,
}

impl DiskImages {
    pub(super) fn new(sh: &Shell, folder: &Utf8Path) -> Result<Self> {
        programs::require(sh, "crash --only power", &[MKFS_EXT4, MKFS_XFS])?;
        let (image, images) = (folder.join("images.img"), folder.join("images"));
        XFS.make(sh, &image, 3 << 30)?;
        let mount = Mount::new(sh, &image, &images).context(NO_MOUNTS)?;
        Ok(Self { _mount: mount, images, at: folder.join("disk"), sh: sh.clone() })
    }

    /// The reason why this machine lacks the file system.
    pub(super) fn lacks(&self, kind: FileSystem) -> Option<String> {
        if !kind.program.is_there(&self.sh) {
            return Some(format!("mkfs.{} is not installed", kind.name));
        }
        self.disk(kind).err().map(|error| format!("{error:#}"))
    }

    /// The image of the mounted disk.
    pub(super) fn image(&self) -> Utf8PathBuf {
        self.images.join("disk.img")
    }

    /// A new disk, mounted.
    pub(super) fn disk(&self, kind: FileSystem) -> Result<Mount> {
        kind.make(&self.sh, &self.image(), kind.bytes)?;
        self.mount(&self.image())
    }

    /// Mounts an image. The kernel recovers the journal of a clone.
    pub(super) fn mount(&self, image: &Utf8Path) -> Result<Mount> {
        Mount::new(&self.sh, image, &self.at)
    }
}

/// Clones the image under another name: the disk as it is at this moment.
pub(super) fn clone_image(image: &Utf8Path, name: &str) -> Result<Utf8PathBuf> {
    let path = image.with_file_name(name);
    let (from, to) = (File::open(image)?, File::create(&path)?);
    rustix::fs::ioctl_ficlone(&to, &from).context("cloning the disk")?;
    Ok(path)
}
