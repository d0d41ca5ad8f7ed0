//! Files laid out for image layers: each top directory of the models in a tree of its own, from the root on.
//!
//! For `vae/x.safetensors` in the destination `/opt/models`: `INTO/vae/opt/models/vae/x.safetensors`. Such a tree is
//! copied onto `/` of an image, and so becomes a layer that holds nothing else, parents included: where only
//! `/opt/models/vae` was copied, a builder would make `/opt/models` itself and give it the time of the build. With mode
//! and mtime of every file and directory fixed, the same bytes make the same layer.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, Timespec, Timestamps};
use rustix::io::retry_on_intr;

use crate::{Destination, Directory, Found, INSTALLED_MTIME, StoreError};
use provision_core::lockfile::Model;

/// The layer of models that lie right below the destination.
const ROOT: &str = "_";

/// What becomes one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The models' top directory; `_` for those that have none.
    pub name: String,
    /// The tree that is to be copied onto the image's root.
    pub tree: Utf8PathBuf,
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The name of the layer that a model belongs to.
pub fn layer_of(model: &Model) -> &str {
    model.path.as_str().split_once('/').map_or(ROOT, |(top, _)| top)
}

/// Moves `models`, which are installed in `destination` (an absolute path), into trees below `into`. Both lie on one file
/// system.
pub fn lay_out(destination: &Utf8Path, models: &[&Model], into: &Utf8Path) -> Result<Vec<Layer>, StoreError> {
    let place = Destination::create(into)?;
    let missing = |path: Utf8PathBuf| StoreError::Missing { path };
    let source = Destination::open(destination)?.ok_or_else(|| missing(destination.to_owned()))?;
    let below_root = below_root(destination);
    let mut layers: BTreeMap<&str, Layer> = BTreeMap::new();
    for model in models {
        let name = layer_of(model);
        if !layers.contains_key(name) {
            if let Some(what) = in_the_way(place.root().find(name)?) {
                return Err(StoreError::NotAFile { path: into.join(name), what });
            }
            let tree = into.join(name);
            layers.insert(name, Layer { name: name.to_owned(), tree, files: 0, bytes: 0 });
        }
        let Some(layer) = layers.get_mut(name) else { continue };
        layer.files += 1;
        layer.bytes += model.size;
        let path = destination.join(model.path.as_str());
        let from = source.parent(&model.path, false)?.ok_or_else(|| missing(path.clone()))?;
        let directory = in_tree(name, &below_root, model);
        let to = place.directory(&directory, true)?.ok_or_else(|| missing(into.join(directory)))?;
        let name = model.path.file_name();
        retry_on_intr(|| rustix::fs::renameat(from.handle(), name, to.handle(), name)).map_err(|error| {
            StoreError::of_rename("moving it into its layer", &path, &to.path().join(name), error)
        })?;
    }
    fix_directories(&place, layers.values(), &below_root, models)?;
    // A name is new in its tree before it is gone from the destination: a power cut may show a file twice, never nowhere.
    place.root().sync()?;
    let mut seen = BTreeSet::new();
    for model in models.iter().filter(|model| seen.insert(model.path.parent())) {
        if let Some(directory) = source.parent(&model.path, false)? {
            directory.sync()?;
        }
    }
    Ok(layers.into_values().collect())
}

/// The names that lead from the root to the destination.
fn below_root(destination: &Utf8Path) -> Vec<&str> {
    destination
        .components()
        .filter(|part| !matches!(part, Utf8Component::RootDir))
        .map(|part| part.as_str())
        .collect()
}

/// The directory of a model's file in its layer, below the directory of all layers.
fn in_tree(layer: &str, below_root: &[&str], model: &Model) -> String {
    let parent = model.path.parent();
    let names = std::iter::once(layer).chain(below_root.iter().copied());
    names.chain((!parent.is_empty()).then_some(parent)).collect::<Vec<_>>().join("/")
}

fn in_the_way(found: Found) -> Option<&'static str> {
    match found {
        Found::File(_) => Some("a file"),
        found => found.obstacle(),
    }
}

/// Gives every directory of the trees its mode and mtime, after the last name in it was made, and makes it durable.
fn fix_directories<'a>(
    place: &Destination,
    layers: impl Iterator<Item = &'a Layer>,
    below_root: &[&str],
    models: &[&Model],
) -> Result<(), StoreError> {
    for layer in layers {
        let mut directories = BTreeSet::new();
        for model in models.iter().filter(|model| layer_of(model) == layer.name) {
            let path = in_tree(&layer.name, below_root, model);
            directories.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
            directories.insert(path);
        }
        for path in directories {
            let directory = place.directory(&path, false)?;
            fix(&*directory.ok_or_else(|| StoreError::Missing { path: place.root().path().join(path) })?)?;
        }
    }
    Ok(())
}

fn fix(directory: &Directory) -> Result<(), StoreError> {
    let fixed = Timespec { tv_sec: INSTALLED_MTIME, tv_nsec: 0 };
    retry_on_intr(|| rustix::fs::fchmod(directory.handle(), Mode::from_raw_mode(0o755)))
        .map_err(StoreError::at("setting the directory's mode", directory.path()))?;
    retry_on_intr(|| {
        rustix::fs::futimens(directory.handle(), &Timestamps { last_access: fixed, last_modification: fixed })
    })
    .map_err(StoreError::at("setting the directory's modification time", directory.path()))?;
    directory.sync()
}
