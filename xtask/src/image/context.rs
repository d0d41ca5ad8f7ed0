//! The lock as the build sees it.
//!
//! `.dockerignore` lets the locks through that lie at the workspace's root. Any other is copied there for the length
//! of the build, under a name made of its content: Docker's key for the models' stage has the name in it, and the same
//! lock must find its layers again.

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;

use crate::project;

/// A lock in the build's context. A copy goes when it is dropped.
#[derive(Debug)]
pub(crate) struct LockInContext {
    /// Relative to the context.
    pub(crate) name: String,
    copy: Option<Utf8PathBuf>,
}

impl LockInContext {
    pub(crate) fn place(path: &Utf8Path) -> Result<Self> {
        let root = project::root();
        let real = path.canonicalize_utf8().with_context(|| path.to_string())?;
        if let (Some(name), Some("lock")) = (real.file_name(), real.extension())
            && real.parent() == Some(&root.canonicalize_utf8()?)
        {
            return Ok(Self { name: name.to_owned(), copy: None });
        }
        let text = fs::read(&real).with_context(|| path.to_string())?;
        let name = format!(".image-{}.lock", Sha256::of(&text).short());
        let copy = root.join(&name);
        fs::write(&copy, text).with_context(|| format!("copying {path} into the build's context"))?;
        Ok(Self { name, copy: Some(copy) })
    }
}

impl Drop for LockInContext {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy {
            let _ = fs::remove_file(copy);
        }
    }
}
