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
//!
//! A file that is a symlink into a baked directory has `link`, where it leads, and `changed`, the change time of the file
//! at its end: all baked files have one mtime, and a new image may have other bytes under the same name. It counts if
//! it still leads there and nothing of that has changed. A marker that lists every model of its lock has `text`, the digest of the
//! lock as it was written: where that fits, ten thousand models need not be parsed to know that all is well.

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use provision_core::digest::Sha256;
use provision_core::lockfile::{Lockfile, Model};
use provision_core::model_path::ModelPath;
use provision_disk::{ChangeTime, Destination, Found, Installed, Stamp, StoreError};

const VERSION: u32 = 1;
/// Where it is kept what was proven of a set that is not complete; the same text as a marker's.
const PROVEN: &str = ".provision.journal";
/// The largest marker that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    lock: Sha256,
    #[serde(rename = "text", default, skip_serializing_if = "Option::is_none")]
    lock_bytes: Option<Sha256>,
    files: Vec<Entry>,
}

impl Text {
    /// `None` for anything but a marker of this version.
    fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|text| text.version == VERSION)
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    path: ModelPath,
    size: u64,
    mtime: (i64, u32),
    sha256: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<Utf8PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<ChangeTime>,
}

/// What a marker says of one file.
#[derive(Debug)]
struct Vouched {
    stamp: Stamp,
    sha256: Sha256,
    /// Where the name leads, and when that file was last changed.
    link: Option<(Utf8PathBuf, ChangeTime)>,
}

/// What a marker says of the files in a destination.
#[derive(Debug, Default)]
pub struct Marker {
    files: HashMap<ModelPath, Vouched>,
    /// The digest of the text of the lock whose every model is listed.
    text: Option<Sha256>,
}

impl Marker {
    /// Reads the marker called `name`; an empty one where there is none that can be believed.
    pub fn load(destination: &Destination, name: &str) -> Self {
        let bytes = destination.root().read_small(name, MAX_BYTES).ok().flatten().unwrap_or_default();
        let Some(text) = Text::parse(&bytes) else { return Self::default() };
        let entry = |e: Entry| {
            let stamp = Stamp { size: e.size, mtime: e.mtime };
            (e.path, Vouched { stamp, sha256: e.sha256, link: e.link.zip(e.changed) })
        };
        Self { files: text.files.into_iter().map(entry).collect(), text: text.lock_bytes }
    }

    /// The file at `model`'s place, if it is the one that the marker lists. Looks at it, opens nothing.
    pub fn vouched(&self, destination: &Destination, model: &Model) -> Option<Installed> {
        let vouched = self.files.get(&model.path)?;
        let is_meant = vouched.sha256 == model.sha256 && vouched.stamp.size == model.size;
        (is_meant && vouched.holds(destination, &model.path)).then(|| Installed {
            path: model.path.clone(),
            stamp: vouched.stamp,
            sha256: vouched.sha256,
            identity: None,
            link: vouched.link.as_ref().map(|(target, _)| target.clone()),
        })
    }

    /// Where the file at `path` leads, if it was made a symlink.
    pub fn link(&self, path: &ModelPath) -> Option<&Utf8Path> {
        self.files.get(path)?.link.as_ref().map(|(target, _)| target.as_path())
    }

    /// Whether it vouches for all of `models`.
    pub fn covers<'a>(&self, destination: &Destination, models: impl IntoIterator<Item = &'a Model>) -> bool {
        !self.files.is_empty()
            && models.into_iter().all(|model| {
                self.files.get(&model.path).is_some_and(|vouched| {
                    vouched.sha256 == model.sha256
                        && vouched.stamp.size == model.size
                        && vouched.holds(destination, &model.path)
                })
            })
    }

    /// Whether it vouches for every model of the lock whose text has this digest, and for how many that is.
    pub fn covers_text(&self, destination: &Destination, text: &Sha256) -> Option<usize> {
        let holds = |(path, vouched): (&ModelPath, &Vouched)| vouched.holds(destination, path);
        (self.text.as_ref() == Some(text) && self.files.iter().all(holds)).then_some(self.files.len())
    }

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What is known of the files in a destination: by the marker called `name`, else by a run that did not complete it.
    pub fn load_or_proven(destination: &Destination, name: &str) -> Self {
        let marker = Self::load(destination, name);
        if marker.is_empty() { Self::load(destination, PROVEN) } else { marker }
    }

    /// Removes the marker, durably, before a file that it vouches for is replaced.
    pub fn remove(destination: &Destination, name: &str) -> Result<(), StoreError> {
        let root = destination.root();
        if root.remove(name)? | root.remove(PROVEN)? { root.sync() } else { Ok(()) }
    }

    /// Whether it lists the file at `path`, right or not.
    pub fn lists(&self, path: &ModelPath) -> bool {
        self.files.contains_key(path)
    }

    /// Writes the marker for `installed`, and for those other models of the lock that this marker still vouches for.
    /// The bytes of every file in it must be durable; their names are made so here.
    ///
    /// # Errors
    /// [`StoreError::Moved`] where a file is not where it was put: no marker is written.
    pub fn write(
        &self,
        destination: &Destination,
        lock: &Lockfile,
        installed: &[Installed],
    ) -> Result<(), StoreError> {
        let files = self.files_of(destination, lock, installed);
        destination.verify_in_place(&files)?;
        write_as(lock.marker(), destination, lock, files)?;
        destination.root().remove(PROVEN).map(drop)
    }

    /// Keeps what was proven of a set that is not complete, so that the next run need not read it all again. It is no
    /// marker: people look for that to see whether a set is complete.
    pub fn write_proven(
        &self,
        destination: &Destination,
        lock: &Lockfile,
        installed: &[Installed],
    ) -> Result<(), StoreError> {
        let mut files = self.files_of(destination, lock, installed);
        files.retain(|file| destination.is_in_place(file).unwrap_or(false));
        write_as(PROVEN, destination, lock, files)
    }

    /// What is known of the lock's models, in its order.
    fn files_of(
        &self,
        destination: &Destination,
        lock: &Lockfile,
        installed: &[Installed],
    ) -> Vec<Installed> {
        let new: HashMap<&ModelPath, &Installed> = installed.iter().map(|file| (&file.path, file)).collect();
        let known = |model: &Model| {
            let new = new.get(&model.path).map(|file| (*file).clone());
            new.or_else(|| self.vouched(destination, model))
        };
        lock.models().iter().filter_map(known).collect()
    }
}

fn write_as(
    name: &str,
    destination: &Destination,
    lock: &Lockfile,
    files: Vec<Installed>,
) -> Result<(), StoreError> {
    let files: Vec<Entry> = files.into_iter().map(|file| Entry::of(destination, file)).collect();
    let lock_bytes = (files.len() == lock.models().len()).then(|| lock.text_digest());
    let text = Text { version: VERSION, lock: lock.content_digest(), lock_bytes, files };
    let mut bytes = serde_json::to_vec(&text).unwrap_or_default();
    bytes.push(b'\n');
    destination.root().write_small(name, &bytes)
}

impl Vouched {
    /// Whether what is at `path` is as it was.
    fn holds(&self, destination: &Destination, path: &ModelPath) -> bool {
        match &self.link {
            None => destination.find(path).is_ok_and(|found| found == Found::File(self.stamp)),
            Some((target, changed)) => {
                let found = destination.find_linked(path, target);
                found.is_ok_and(|found| found == Some((self.stamp, *changed)))
            }
        }
    }
}

impl Entry {
    /// For a file that has been proven. A symlink whose end has gone meanwhile is not vouched for.
    fn of(destination: &Destination, file: Installed) -> Self {
        let Installed { path, stamp, sha256, link, .. } = file;
        let at_end = |target: &Utf8PathBuf| destination.find_linked(&path, target).ok().flatten();
        let changed = link.as_ref().and_then(at_end).map(|(_, changed)| changed);
        Self { path, size: stamp.size, mtime: stamp.mtime, sha256, link, changed }
    }
}

/// A marker's text, read and written again, with the paths that it lists; `None` where it is no marker.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn written_again(bytes: &[u8]) -> Option<(Vec<u8>, Vec<ModelPath>)> {
    let text = Text::parse(bytes)?;
    let written = serde_json::to_vec(&text).unwrap_or_default();
    Some((written, text.files.into_iter().map(|entry| entry.path).collect()))
}
