//! A directory with the files of a package, which is removed when it is dropped.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

/// The directory.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) root: Utf8PathBuf,
    _directory: TempDir,
}

impl Stage {
    /// Makes the directory below `parent`.
    pub(super) fn create(parent: &Utf8Path, name: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(&format!(".{name}.")).tempdir_in(parent)?;
        let root = Utf8Path::from_path(directory.path()).context("the path is not UTF-8")?.to_owned();
        Ok(Self { root, _directory: directory })
    }

    /// Writes a file that everybody may read, whatever the umask is.
    pub(super) fn write(&self, path: impl AsRef<Utf8Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        fs::write(&path, bytes)?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    /// Copies a file and sets its mode.
    pub(super) fn copy(&self, path: impl AsRef<Utf8Path>, from: &Utf8Path, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("{from} cannot be read"))?;
        self.write(path.as_ref(), bytes)?;
        Ok(fs::set_permissions(self.root.join(path), Permissions::from_mode(mode))?)
    }
}
