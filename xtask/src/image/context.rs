//! The lock and its piece lists inside the build context.
//!
//! `.dockerignore` lets only locks at the workspace's root pass, and the lists beside them. Another lock is copied
//! there while the build runs, with the lists that it pins. The copy's name is made of its content: docker's key for
//! the models' stage contains the name, so that the same lock finds its layers again.

use std::fs::{self, File};
use std::io::{self, Read as _};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;
use provision_core::lockfile::Lockfile;
use provision_core::piece_list::{DIRECTORY, PieceList};

use crate::project;

/// The lists beside a lock at the root, as the Dockerfile names them.
const PIECES: &str = "models.piece[s]";

/// A lock in the build context. Copies are removed on drop.
#[derive(Debug)]
pub(crate) struct LockInContext {
    /// The path relative to the context.
    pub(crate) name: String,
    /// The pattern of its lists' directory. It may match nothing.
    pub(crate) pieces: String,
    copy: Option<Utf8PathBuf>,
    lists: Option<Utf8PathBuf>,
}

impl LockInContext {
    pub(crate) fn place(path: &Utf8Path, lock: &Lockfile) -> Result<Self> {
        let root = project::root();
        let real = path.canonicalize_utf8().with_context(|| path.to_string())?;
        if let (Some(name), Some("lock")) = (real.file_name(), real.extension())
            && real.parent() == Some(&root.canonicalize_utf8()?)
        {
            return Ok(Self { name: name.to_owned(), pieces: PIECES.to_owned(), copy: None, lists: None });
        }
        let text = fs::read(&real).with_context(|| path.to_string())?;
        let stem = format!(".image-{}", Sha256::of(&text).short());
        let (name, pieces) = (format!("{stem}.lock"), format!("{stem}.piece[s]"));
        let (copy, lists) = (root.join(&name), root.join(format!("{stem}.pieces")));
        let placed = Self { name, pieces, copy: Some(copy.clone()), lists: Some(lists.clone()) };
        fs::write(&copy, text)
            .and_then(|()| copy_lists(lock, &real.with_file_name(DIRECTORY), &lists))
            .with_context(|| format!("cannot copy {path} into the build context {root}"))?;
        Ok(placed)
    }
}

/// Copies the lists that `lock` pins. One that is missing or wrong is left out: an image needs none.
fn copy_lists(lock: &Lockfile, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    for model in lock.models() {
        let Some(digest) = model.pieces else { continue };
        let Ok(list) = File::open(from.join(digest.to_string())) else { continue };
        let (mut bytes, at_most) = (Vec::new(), PieceList::max_bytes(model.size));
        list.take(at_most).read_to_end(&mut bytes)?;
        if Sha256::of(&bytes) == digest {
            fs::create_dir_all(to)?;
            fs::write(to.join(digest.to_string()), bytes)?;
        }
    }
    Ok(())
}

impl Drop for LockInContext {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy {
            let _ = fs::remove_file(copy);
        }
        if let Some(lists) = &self.lists {
            let _ = fs::remove_dir_all(lists);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_elsewhere_brings_the_lists_that_it_pins() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (lists, digest) = (folder.join(DIRECTORY), |bytes: &[u8]| Sha256::of(bytes).to_string());
        fs::create_dir(&lists).unwrap();
        for (name, bytes) in [("right", "right"), ("wrong", "other"), ("unknown", "unknown")] {
            fs::write(lists.join(digest(name.as_bytes())), bytes).unwrap();
        }
        let entry = |name: &str| {
            format!(
                "[[model]]\npath = \"{name}\"\nurl = \"https://h/{name}\"\nsize = 5000000\nsha256 = \"{}\"\npieces = \"{}\"\n",
                digest(b"file"),
                digest(name.as_bytes())
            )
        };
        let text: String = ["right", "wrong", "missing"].map(entry).concat();
        let (path, text) = (folder.join("a.lock"), format!("version = 1\n{text}"));
        fs::write(&path, &text).unwrap();
        let lock = Lockfile::parse("a.lock", &text).unwrap();
        let placed = LockInContext::place(&path, &lock).unwrap();
        let copies = project::root().join(placed.pieces.replace("[s]", "s"));
        let names =
            fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), [digest(b"right")]);
        let lock = project::root().join(&placed.name);
        assert!(lock.exists());
        drop(placed);
        assert!(!copies.exists() && !lock.exists());
    }
}
