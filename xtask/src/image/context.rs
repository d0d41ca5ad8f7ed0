//! The lock inside the build context.
//!
//! `.dockerignore` lets only locks at the workspace's root pass. Another lock is copied there while the build runs. The
//! copy's name is made of its content: docker's key for the models' stage contains the name, so that the same lock
//! finds its layers again.

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;

use crate::project;

/// A lock in the build context. A copy is removed on drop.
#[derive(Debug)]
pub(crate) struct LockInContext {
    /// The path relative to the context.
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
        fs::write(&copy, text)
            .with_context(|| format!("cannot copy {path} into the build context {root}"))?;
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
