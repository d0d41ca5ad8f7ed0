//! A scratch directory that hands out numbered paths and is removed when it is dropped.

use std::cell::Cell;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;
use xshell::Shell;

use crate::tools::process::Run;

/// A scratch directory.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: Utf8PathBuf,
    handed_out: Cell<u32>,
    _directory: TempDir,
}

impl Scratch {
    /// Creates a directory in `parent` whose name begins with `prefix`.
    pub(crate) fn create(parent: impl AsRef<std::path::Path>, prefix: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        let path = Utf8Path::from_path(directory.path())
            .with_context(|| format!("the path {} is not UTF-8", directory.path().display()))?;
        Ok(Self { path: path.to_owned(), handed_out: Cell::new(0), _directory: directory })
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// A run of a program in a directory of its own.
    pub(crate) fn run(&self, sh: &Shell, program: impl AsRef<Utf8Path>) -> Result<Run> {
        let program = program.as_ref();
        Run::new(program, &sh.var("PATH")?, self.fresh(program.file_name().unwrap_or("run")))
    }

    /// Writes a file under a name that is used once, and returns its path.
    pub(crate) fn file(&self, kind: &str, content: impl AsRef<[u8]>) -> Result<Utf8PathBuf> {
        let path = self.fresh(kind);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// A path that is used once: `KIND-NUMBER`. The caller creates it.
    pub(crate) fn fresh(&self, kind: &str) -> Utf8PathBuf {
        self.handed_out.set(self.handed_out.get() + 1);
        self.path.join(format!("{kind}-{}", self.handed_out.get()))
    }
}
