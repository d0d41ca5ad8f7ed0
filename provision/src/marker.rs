//! The marker: "these files are installed here".
//!
//! Written last, durably, after every file that it lists is durable under its final name (I2). It is what makes a
//! container start in milliseconds: one small file is read and each file's size and mtime are looked at, nothing is
//! hashed and no socket is opened.
//!
//! ```json
//! {"version":1,"lock":"5d0c…","files":[{"path":"vae/x.safetensors","size":253806246,"mtime":[946684800,0],"sha256":"a705…"}]}
//! ```
//!
//! It vouches for files one by one: an entry counts if path, size and digest are what the lock at hand says and the
//! file on disk still has that size and mtime. `lock` is the content digest of the lock that was installed; it is
//! there for people who ask which one that was. So an added model, a new mirror or a run for some of the models does
//! not make the others unknown, and a marker of another lock vouches for nothing that differs. Anything unreadable,
//! a symlink, or another version counts as no marker.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::lockfile::{Lockfile, Model};
use crate::model_path::ModelPath;
use crate::store::{Destination, Found, Installed, Stamp, StoreError};

const VERSION: u32 = 1;
/// The largest marker that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    lock: Sha256,
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    path: ModelPath,
    size: u64,
    mtime: (i64, u32),
    sha256: Sha256,
}

/// What a marker says of the files in a destination.
#[derive(Debug, Default)]
pub struct Marker {
    files: HashMap<ModelPath, (Stamp, Sha256)>,
}

impl Marker {
    /// Reads the marker called `name`; an empty one where there is none that can be believed.
    pub fn load(destination: &Destination, name: &str) -> Self {
        let bytes = destination.root().read_small(name, MAX_BYTES).ok().flatten().unwrap_or_default();
        let Ok(text) = serde_json::from_slice::<Text>(&bytes) else { return Self::default() };
        if text.version != VERSION {
            return Self::default();
        }
        let entry = |e: Entry| (e.path, (Stamp { size: e.size, mtime: e.mtime }, e.sha256));
        Self { files: text.files.into_iter().map(entry).collect() }
    }

    /// Whether it vouches for `model`, given what is on disk.
    pub fn vouches_for(&self, model: &Model, found: Found) -> bool {
        self.files.get(&model.path).is_some_and(|(stamp, sha256)| {
            *sha256 == model.sha256 && stamp.size == model.size && found == Found::File(*stamp)
        })
    }

    /// Whether it vouches for all of `models`. Looks at each file, opens none.
    pub fn covers<'a>(&self, destination: &Destination, models: impl IntoIterator<Item = &'a Model>) -> bool {
        !self.files.is_empty()
            && models.into_iter().all(|model| {
                self.files.contains_key(&model.path)
                    && destination.find(&model.path).is_ok_and(|found| self.vouches_for(model, found))
            })
    }

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Removes the marker, durably, before a file that it vouches for is replaced.
    pub fn remove(destination: &Destination, name: &str) -> Result<(), StoreError> {
        if destination.root().remove(name)? { destination.root().sync() } else { Ok(()) }
    }

    /// Writes the marker for `installed`, and for those other models of the lock that this marker still vouches for.
    /// Every file in it must be durable.
    pub fn write(
        &self,
        destination: &Destination,
        lock: &Lockfile,
        installed: &[Installed],
    ) -> Result<(), StoreError> {
        let new: HashMap<&ModelPath, &Installed> = installed.iter().map(|file| (&file.path, file)).collect();
        let mut files = Vec::new();
        for model in lock.models() {
            let (path, size, sha256) = (model.path.clone(), model.size, model.sha256);
            if let Some(file) = new.get(&model.path) {
                files.push(Entry { path, size, mtime: file.stamp.mtime, sha256 });
            } else if let Ok(found @ Found::File(stamp)) = destination.find(&model.path)
                && self.vouches_for(model, found)
            {
                files.push(Entry { path, size, mtime: stamp.mtime, sha256 });
            }
        }
        let text = Text { version: VERSION, lock: lock.content_digest(), files };
        let mut bytes = serde_json::to_vec(&text).unwrap_or_default();
        bytes.push(b'\n');
        destination.root().write_small(lock.marker(), &bytes)
    }
}
