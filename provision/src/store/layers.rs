//! Files laid out for image layers: each top directory of the models in a tree of its own, from the root on.
//!
//! For `vae/x.safetensors` in the destination `/opt/models`: `INTO/vae/opt/models/vae/x.safetensors`. Such a tree is
//! copied onto `/` of an image, and so becomes a layer that holds nothing else, parents included: where only
//! `/opt/models/vae` was copied, a builder would make `/opt/models` itself and give it the time of the build. With mode
//! and mtime of every file and directory fixed, the same bytes make the same layer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps};

use super::destination::make_all;
use super::{Destination, Found, INSTALLED_MTIME, StoreError};
use crate::lockfile::Model;

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
    let below_root = destination.as_str().trim_start_matches('/');
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
        let (from, to) =
            (destination.join(model.path.as_str()), layer.tree.join(below_root).join(model.path.as_str()));
        make_all(to.parent().unwrap_or(&layer.tree))?;
        rustix::fs::renameat(CWD, from.as_std_path(), CWD, to.as_std_path())
            .map_err(StoreError::at("moving it into its layer", &from))?;
    }
    fix_directories(layers.values(), below_root, models)?;
    Ok(layers.into_values().collect())
}

fn in_the_way(found: Found) -> Option<&'static str> {
    match found {
        Found::File(_) => Some("a file"),
        found => found.in_the_way(),
    }
}

/// Gives every directory of the trees its mode and mtime, after the last name in it was made.
fn fix_directories<'a>(
    layers: impl Iterator<Item = &'a Layer>,
    below_root: &str,
    models: &[&Model],
) -> Result<(), StoreError> {
    for layer in layers {
        let mut directories = BTreeSet::from([layer.tree.clone()]);
        for model in models {
            let in_layer = layer_of(model) == layer.name;
            let path = layer.tree.join(below_root).join(model.path.parent());
            if in_layer {
                let above = path.ancestors().take_while(|above| above.starts_with(&layer.tree));
                directories.extend(above.map(Utf8Path::to_owned));
            }
        }
        directories.iter().try_for_each(|directory| fix(directory))?;
    }
    Ok(())
}

fn fix(directory: &Utf8Path) -> Result<(), StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory.as_std_path(), flags, Mode::empty());
    let opened: File = opened.map_err(StoreError::at("opening the directory", directory))?.into();
    let fixed = Timespec { tv_sec: INSTALLED_MTIME, tv_nsec: 0 };
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))
        .map_err(StoreError::at("setting the directory's mode", directory))?;
    rustix::fs::futimens(&opened, &Timestamps { last_access: fixed, last_modification: fixed })
        .map_err(StoreError::at("setting the directory's time", directory))
}
