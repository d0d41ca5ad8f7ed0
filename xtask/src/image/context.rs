//! The lock and its piece lists inside the build context.
//!
//! `.dockerignore` lets only locks at the workspace's root pass, and the lists beside them. Another lock is copied
//! into a directory there while the build runs, with the lists that it pins. The directory's name is made of the
//! lock's content: docker's key for the models' stage contains the name, so that the same lock finds its layers again.

use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_core::digest::Sha256;
use provision_core::lockfile::Lockfile;
use provision_core::piece_list::DIRECTORY;
use provision_engine::piece_lists;

use crate::project;

/// The lists beside a lock, as the Dockerfile names them: the pattern may match nothing.
const PIECES: &str = "models.piece[s]";

/// A lock in the build context. A copy is removed on drop.
#[derive(Debug)]
pub(crate) struct LockInContext {
    /// The path relative to the context.
    pub(crate) name: String,
    /// The pattern of its lists' directory.
    pub(crate) pieces: String,
    copy: Option<Utf8PathBuf>,
}

impl LockInContext {
    pub(crate) fn place(path: &Utf8Path, lock: &Lockfile) -> Result<Self> {
        let root = project::root();
        let real = path.canonicalize_utf8().with_context(|| path.to_string())?;
        if let (Some(name), Some("lock")) = (real.file_name(), real.extension())
            && real.parent() == Some(&root.canonicalize_utf8()?)
        {
            return Ok(Self { name: name.to_owned(), pieces: PIECES.to_owned(), copy: None });
        }
        let text = fs::read(&real).with_context(|| path.to_string())?;
        let name = format!(".image-{}", Sha256::of(&text).short());
        let copy = root.join(&name);
        let (name, pieces) = (format!("{name}/models.lock"), format!("{name}/{PIECES}"));
        let placed = Self { name, pieces, copy: Some(copy.clone()) };
        let (from, to) = (real.with_file_name(DIRECTORY), copy.join(DIRECTORY));
        let write = || {
            fs::create_dir_all(&copy)?;
            fs::write(copy.join("models.lock"), text)?;
            // A list that is missing or wrong is left out: an image needs none.
            for model in lock.models().iter().filter(|model| piece_lists::find(&from, model).is_ok()) {
                let name = model.pieces.map(|digest| digest.to_string()).unwrap_or_default();
                fs::create_dir_all(&to)?;
                // The mode of the list may be private, and the image has other users.
                fs::write(to.join(&name), fs::read(from.join(&name))?)?;
            }
            std::io::Result::Ok(())
        };
        write().with_context(|| format!("cannot copy {path} into the build context {root}"))?;
        Ok(placed)
    }
}

impl Drop for LockInContext {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy {
            let _ = fs::remove_dir_all(copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provision_core::piece_list::Lister;

    #[test]
    fn a_lock_elsewhere_brings_the_lists_that_it_pins() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let lists = folder.join(DIRECTORY);
        fs::create_dir(&lists).unwrap();
        let entry = |byte: u8| {
            let file = vec![byte; 5_000_000];
            let mut lister = Lister::new(file.len() as u64);
            lister.update(&file);
            let list = lister.finish(Sha256::of(&file)).write().unwrap();
            let digest = Sha256::of(&list).to_string();
            let text = format!(
                "[[model]]\npath = \"{byte}\"\nurl = \"https://h/{byte}\"\nsize = 5000000\nsha256 = \"{}\"\npieces = \"{digest}\"\n",
                Sha256::of(&file)
            );
            (text, digest, list)
        };
        let [right, wrong, missing, unknown] = [1, 2, 3, 4].map(entry);
        for (name, bytes) in [(&right.1, &right.2), (&wrong.1, &unknown.2), (&unknown.1, &unknown.2)] {
            fs::write(lists.join(name), bytes).unwrap();
        }
        let text = format!("version = 1\n{}{}{}", right.0, wrong.0, missing.0);
        let path = folder.join("a.lock");
        fs::write(&path, &text).unwrap();
        let placed = LockInContext::place(&path, &Lockfile::parse("a.lock", &text).unwrap()).unwrap();
        let copies = project::root().join(placed.pieces.replace("[s]", "s"));
        let names =
            fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), [right.1]);
        let lock = project::root().join(&placed.name);
        assert_eq!(fs::read_to_string(&lock).unwrap(), text);
        drop(placed);
        assert!(!copies.exists() && !lock.exists());
    }
}
