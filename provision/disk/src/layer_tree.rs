//! Trees for image layers: each top directory of the models gets a tree of its own, from the root on.
//!
//! For `vae/x.safetensors` in the destination `/opt/models`, the tree has `INTO/vae/opt/models/vae/x.safetensors`. A
//! builder copies the tree onto `/` of an image as one layer. The tree includes the parents: a builder would create a
//! missing `/opt/models` with the time of the build. Mode and mtime of every file and directory are fixed, so equal
//! bytes make an equal layer.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, Mode, Timespec, Timestamps};
use rustix::io::retry_on_intr;

use crate::destination::Destination;
use crate::directory::{Directory, Found, create_directory};
use crate::error::DiskError;
use crate::file_stat::EARLIEST_MTIME;
use provision_core::lockfile::Model;
use provision_core::model_path::directories_above;

/// The layer of models directly below the destination.
const ROOT: &str = "_";

/// The content of one image layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The models' top directory; `_` for models without one.
    pub name: String,
    /// The tree to copy onto the image's root.
    pub tree: Utf8PathBuf,
    /// The number of files.
    pub files: usize,
    /// The files' size in bytes.
    pub bytes: u64,
}

/// The name of a model's layer.
pub fn layer_of(model: &Model) -> &str {
    model.path.as_str().split_once('/').map_or(ROOT, |(top, _)| top)
}

/// The bytes of each layer of `models`, by its name.
pub fn layer_sizes<'a>(models: impl IntoIterator<Item = &'a Model>) -> BTreeMap<&'a str, u64> {
    let mut sizes = BTreeMap::new();
    for model in models {
        *sizes.entry(layer_of(model)).or_default() += model.size;
    }
    sizes
}

/// Moves `models` from `destination`, an absolute path where they are installed, into trees below `into`. Both must be
/// on one file system.
pub fn lay_out(destination: &Utf8Path, models: &[&Model], into: &Utf8Path) -> Result<Vec<Layer>, DiskError> {
    let missing = |path: Utf8PathBuf| DiskError::Missing { path };
    let source = Destination::open(destination)?.ok_or_else(|| missing(destination.to_owned()))?;
    for model in models {
        // A layer needs the bytes themselves.
        if let Some(what) = source.find(&model.path)?.obstacle() {
            return Err(DiskError::NotAFile { path: destination.join(model.path.as_str()), what });
        }
        if let Some(directory) = source.parent(&model.path, false)? {
            verify_own(&directory, model)?;
        }
    }
    // A file of another user refuses its mode: that must show before the first file has moved.
    for model in models {
        if let Some(directory) = source.parent(&model.path, false)? {
            set_mode(&directory, model.path.file_name())?;
        }
    }
    let trees = Destination::create(into)?;
    create_all(&trees, models)?;
    let below_root = below_root(destination);
    let mut layers: BTreeMap<&str, Layer> = BTreeMap::new();
    for model in models {
        let name = layer_of(model);
        let new = || Layer { name: name.to_owned(), tree: into.join(name), files: 0, bytes: 0 };
        let layer = layers.entry(name).or_insert_with(new);
        layer.files += 1;
        layer.bytes += model.size;
        let path = destination.join(model.path.as_str());
        let from = source.parent(&model.path, false)?.ok_or_else(|| missing(path.clone()))?;
        let directory = in_tree(name, &below_root, model);
        let to = trees.directory(&directory, true)?.ok_or_else(|| missing(into.join(directory)))?;
        let name = model.path.file_name();
        retry_on_intr(|| rustix::fs::renameat(from.handle(), name, to.handle(), name)).map_err(|error| {
            DiskError::of_rename("moving it into its layer", &path, &to.path().join(name), error)
        })?;
    }
    normalize_directories(&trees, layers.values(), &below_root, models)?;
    // The new name is durable before the removal of the old one: a power cut may leave both, never neither.
    trees.root().sync()?;
    let mut seen = BTreeSet::new();
    for model in models.iter().filter(|model| seen.insert(model.path.parent())) {
        if let Some(directory) = source.parent(&model.path, false)? {
            directory.sync()?;
        }
    }
    Ok(layers.into_values().collect())
}

/// Checks that the file is not another program's, too. A file with the mtime of an installed file may have a second
/// name, in the cache.
fn verify_own(directory: &Directory, model: &Model) -> Result<(), DiskError> {
    let Some((file, stamp)) = directory.open_file(model.path.file_name())? else { return Ok(()) };
    let path = directory.path().join(model.path.file_name());
    let stat = rustix::fs::fstat(&file).map_err(DiskError::at("reading its metadata", &path))?;
    if stat.st_nlink > 1 && !stamp.is_of(&model.sha256) {
        Err(DiskError::SharedFile { path })
    } else {
        Ok(())
    }
}

/// Sets the mode of a layer's files, whatever the umask of the run that made this one.
fn set_mode(directory: &Directory, name: &str) -> Result<(), DiskError> {
    let Some((file, _)) = directory.open_file(name)? else { return Ok(()) };
    let path = directory.path().join(name);
    let stat = rustix::fs::fstat(&file).map_err(DiskError::at("reading its metadata", &path))?;
    if stat.st_mode & 0o7777 == 0o644 {
        return Ok(());
    }
    retry_on_intr(|| rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)))
        .map_err(DiskError::at("setting its mode", &path))?;
    retry_on_intr(|| rustix::fs::fsync(&file)).map_err(DiskError::at("syncing it", &path))
}

/// Creates the trees' directories, all or none, before a file moves. Another run may lay its set out in the same
/// directory.
fn create_all(trees: &Destination, models: &[&Model]) -> Result<(), DiskError> {
    let names: BTreeSet<&str> = models.iter().map(|model| layer_of(model)).collect();
    let root = trees.root();
    for (created, name) in names.iter().enumerate() {
        let path = root.path().join(name);
        if !create_directory(root.handle(), name, &path)? {
            for name in names.iter().take(created) {
                let _ = rustix::fs::unlinkat(root.handle(), *name, AtFlags::REMOVEDIR);
            }
            let what = obstacle(root.find(name)?).unwrap_or("taken");
            return Err(DiskError::NotAFile { path, what });
        }
    }
    Ok(())
}

/// The components of the destination's path.
fn below_root(destination: &Utf8Path) -> Vec<&str> {
    destination
        .components()
        .filter(|part| !matches!(part, Utf8Component::RootDir))
        .map(|part| part.as_str())
        .collect()
}

/// The directory of a model's file in its layer, relative to the directory of all layers.
fn in_tree(layer: &str, below_root: &[&str], model: &Model) -> String {
    let parent = model.path.parent();
    let names = std::iter::once(layer).chain(below_root.iter().copied());
    names.chain((!parent.is_empty()).then_some(parent)).collect::<Vec<_>>().join("/")
}

fn obstacle(found: Found) -> Option<&'static str> {
    match found {
        Found::File(_) => Some("a file"),
        found => found.obstacle(),
    }
}

/// Sets mode and mtime of every directory of the trees and syncs it. No name may be created there afterwards.
fn normalize_directories<'a>(
    trees: &Destination,
    layers: impl Iterator<Item = &'a Layer>,
    below_root: &[&str],
    models: &[&Model],
) -> Result<(), DiskError> {
    for layer in layers {
        let mut directories = BTreeSet::new();
        for model in models.iter().filter(|model| layer_of(model) == layer.name) {
            let path = in_tree(&layer.name, below_root, model);
            directories.extend(directories_above(&path).map(str::to_owned));
            directories.insert(path);
        }
        for path in directories {
            let directory = trees.directory(&path, false)?;
            normalize(
                &*directory.ok_or_else(|| DiskError::Missing { path: trees.root().path().join(path) })?,
            )?;
        }
    }
    Ok(())
}

fn normalize(directory: &Directory) -> Result<(), DiskError> {
    let mtime = Timespec { tv_sec: EARLIEST_MTIME, tv_nsec: 0 };
    retry_on_intr(|| rustix::fs::fchmod(directory.handle(), Mode::from_raw_mode(0o755)))
        .map_err(DiskError::at("setting the directory's mode", directory.path()))?;
    retry_on_intr(|| {
        rustix::fs::futimens(directory.handle(), &Timestamps { last_access: mtime, last_modification: mtime })
    })
    .map_err(DiskError::at("setting the directory's modification time", directory.path()))?;
    directory.sync()
}
