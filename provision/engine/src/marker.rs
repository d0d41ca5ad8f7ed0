//! The marker: a record of the files that are installed in a directory.
//!
//! It is written last, durably, after every file that it lists is durable under its final name (I2). With it a
//! container starts in milliseconds: a run reads one small file and checks the size and mtime of each model. It hashes
//! nothing and opens no socket.
//!
//! ```json
//! {"version":1,"lock":"5d0c…","files":[{"path":"vae/x.safetensors","size":253806246,"mtime":[1182287200,0],"sha256":"a705…"}]}
//! ```
//!
//! Each entry counts on its own: its path, size and digest are those of the current lock, and the file on disk still
//! has that size and mtime. So an added model, a new mirror or a run for some models does not invalidate the other
//! entries, and an entry that differs from the lock never counts. `lock` is the content digest of the installed lock,
//! for people who look for it. Other fields are ignored, so the format can grow; a field that must not be ignored needs
//! a new `version`. An unreadable marker, a symlink, another version, or a file that does not begin as above counts as no
//! marker.
//!
//! An entry for a symlink, into a baked directory or to a place of the user's, has `link`, the target, and `changed`,
//! the change time of the linked file. The entry counts if both are unchanged.
//!
//! An entry for a file in another directory than its path says, by the folders of the destination, has `directory`, and
//! counts only while the file is looked for there: a file elsewhere with the same size and time may not be durable.
//!
//! `former` has the entries of an earlier marker that the lock no longer lists, while their files are unchanged. They
//! vouch for nothing: they tell `clean` which files a run has installed.
//!
//! A marker that lists every model of its lock has `text`, the digest of the lock's text, if the piece lists of all are
//! kept. If it matches, a run need not parse ten thousand models to know that nothing is left to do.

use std::collections::{BTreeMap, HashMap, HashSet};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use provision_core::digest::Sha256;
use provision_core::lockfile::{Lockfile, Model};
use provision_core::model_path::ModelPath;
use provision_disk::{ChangeTime, Destination, DiskError, Found, Installed, Stamp};

const VERSION: u32 = 1;
/// The file that records the verified files of a set that is not complete, in the marker's format.
const PARTIAL: &str = ".provision.journal";
/// The start of every marker: the first field, as it is written.
const START: &[u8] = b"{\"version\":";
/// The largest marker that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    lock: Sha256,
    #[serde(rename = "text", default, skip_serializing_if = "Option::is_none")]
    lock_bytes: Option<Sha256>,
    files: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<Entry>,
}

impl Text {
    /// `None` for anything but a marker of this version. One with another start vouches for nothing, since
    /// [`Marker::all`] would not find it, and a change of its files would leave it there.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(START) {
            return None;
        }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
}

/// One file of a marker.
#[derive(Debug, Clone)]
struct Vouched {
    stamp: Stamp,
    sha256: Sha256,
    /// The target of a symlink, and the change time of the linked file.
    link: Option<(Utf8PathBuf, ChangeTime)>,
    /// The directory of a file in another one than its path says.
    directory: Option<String>,
}

/// The files that a marker lists.
#[derive(Debug, Default)]
pub struct Marker {
    files: HashMap<ModelPath, Vouched>,
    /// The content digest of its lock; `None` if there is no marker.
    lock: Option<Sha256>,
    /// The files of an earlier lock.
    former: HashMap<ModelPath, Vouched>,
    /// The digest of the text of the lock whose every model is listed.
    text: Option<Sha256>,
    /// It is the record of an incomplete run.
    is_partial: bool,
}

impl Marker {
    /// Reads the marker called `name`; empty if there is no valid one.
    pub fn load(destination: &Destination, name: &str) -> Self {
        let bytes = destination.root().read_small(name, MAX_BYTES).ok().flatten().unwrap_or_default();
        let Some(text) = Text::parse(&bytes) else { return Self::default() };
        let entries = |entries: Vec<Entry>| entries.into_iter().map(Vouched::of).collect();
        Self {
            files: entries(text.files),
            former: entries(text.former),
            text: text.lock_bytes,
            lock: Some(text.lock),
            is_partial: false,
        }
    }

    /// The file at `model`'s path, if the marker lists it and it is unchanged. Reads its metadata only.
    pub fn vouched(&self, destination: &Destination, model: &Model) -> Option<Installed> {
        let vouched = self.files.get(&model.path)?;
        let is_meant = vouched.sha256 == model.sha256 && vouched.stamp.size == model.size;
        (is_meant && vouched.holds(destination, &model.path)).then(|| Installed {
            path: model.path.clone(),
            stamp: vouched.stamp,
            sha256: vouched.sha256,
            identity: None,
            verified_by: None,
            link: vouched.link.as_ref().map(|(target, _)| target.clone()),
        })
    }

    /// True if it lists all of `models`, and each file is unchanged.
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

    /// The number of files, if it lists every model of the lock whose text has this digest, and each file is unchanged.
    pub fn covers_text(&self, destination: &Destination, text: &Sha256) -> Option<usize> {
        let holds = |(path, vouched): (&ModelPath, &Vouched)| vouched.holds(destination, path);
        (self.text.as_ref() == Some(text) && self.files.iter().all(holds)).then_some(self.files.len())
    }

    /// True if it is the record of a run that did not complete the set, and no marker.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// True if it lists no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads the marker called `name`, or else the record of a run that did not complete the set.
    pub fn load_or_partial(destination: &Destination, name: &str) -> Self {
        let marker = Self::load(destination, name);
        if marker.is_empty() { Self { is_partial: true, ..Self::load(destination, PARTIAL) } } else { marker }
    }

    /// Removes the marker, durably. Call it before a file that the marker lists is replaced.
    pub fn remove(destination: &Destination, name: &str) -> Result<(), DiskError> {
        let root = destination.root();
        if root.remove(name)? | root.remove(PARTIAL)? { root.sync() } else { Ok(()) }
    }

    /// Removes, durably, every marker that lists one of `paths`, of whatever lock it is.
    pub fn remove_those_of(destination: &Destination, paths: &[&ModelPath]) -> Result<(), DiskError> {
        let root = destination.root();
        let mut removed = false;
        for (name, marker) in Self::all(destination)? {
            removed |= paths.iter().any(|path| marker.lists(path)) && root.remove(&name)?;
        }
        if removed { root.sync() } else { Ok(()) }
    }

    /// True if it lists the file at `path`, changed or not.
    pub fn lists(&self, path: &ModelPath) -> bool {
        self.files.contains_key(path)
    }

    /// Writes the marker for `installed`, and for the other models of the lock whose entries in this marker still
    /// count. The bytes of every listed file must be durable; this call syncs their names. `has_lists`: the piece lists
    /// of all are kept.
    ///
    /// # Errors
    /// [`DiskError::Moved`] if a file is not where it was installed: no marker is written.
    pub fn write(
        &self,
        destination: &Destination,
        lock: &Lockfile,
        installed: &[Installed],
        has_lists: bool,
    ) -> Result<(), DiskError> {
        let files = self.files_of(destination, lock, installed);
        destination.verify_in_place(&files)?;
        let text = (has_lists && files.len() == lock.models().len()).then(|| lock.text_digest());
        write_as((lock.marker(), text), destination, lock, files, self.former_of(destination, lock))?;
        destination.root().remove(PARTIAL).map(drop)
    }

    /// Records the verified files of a set that is not complete, so that the next run need not hash them again. The
    /// record is not the marker, because the marker's existence tells users that a set is complete.
    pub fn write_partial(
        &self,
        destination: &Destination,
        lock: &Lockfile,
        installed: &[Installed],
    ) -> Result<(), DiskError> {
        let mut files = self.files_of(destination, lock, installed);
        files.retain(|file| destination.is_in_place(file).unwrap_or(false));
        write_as((PARTIAL, None), destination, lock, files, self.former_of(destination, lock))
    }

    /// The unchanged files of this marker that the lock does not list, by path. None if this marker is not of an
    /// earlier version of the lock. Another lock in the same directory has no file in common, or left the record of an
    /// incomplete run.
    fn former_of(&self, destination: &Destination, lock: &Lockfile) -> Vec<Entry> {
        let listed: HashSet<&ModelPath> = lock.models().iter().map(|model| &model.path).collect();
        let is_same = self.lock == Some(lock.content_digest());
        let is_earlier = !self.is_partial && self.files.keys().any(|path| listed.contains(path));
        if !is_same && !is_earlier {
            return Vec::new();
        }
        let mut former: Vec<Entry> = self
            .unchanged(destination)
            .filter(|(path, _)| !listed.contains(path))
            .map(|(path, vouched)| vouched.clone().entry(path.clone()))
            .collect();
        former.sort_by(|a, b| a.path.cmp(&b.path));
        former
    }

    /// Its files, former ones too, that have not changed since it was written.
    fn unchanged(&self, destination: &Destination) -> impl Iterator<Item = (&ModelPath, &Vouched)> {
        self.files.iter().chain(&self.former).filter(|(path, vouched)| vouched.holds(destination, path))
    }

    /// The files, former ones too, that have not changed since a run installed them, with their sizes in bytes. A file
    /// that a run found, and a symlink, may be the user's.
    pub fn installed(&self, destination: &Destination) -> BTreeMap<&ModelPath, u64> {
        let of_a_run = |vouched: &Vouched| vouched.link.is_none() && vouched.stamp.is_of(&vouched.sha256);
        let unchanged = self.unchanged(destination).filter(|(_, vouched)| of_a_run(vouched));
        unchanged.map(|(path, vouched)| (path, vouched.stamp.size)).collect()
    }

    /// True if no file that it vouches for is left unchanged.
    pub fn is_dead(&self, destination: &Destination) -> bool {
        !self.files.iter().any(|(path, vouched)| vouched.holds(destination, path))
    }

    /// True if it was written for `lock`, under its name or as the record of an incomplete run.
    pub fn is_of(&self, name: &str, lock: &Lockfile) -> bool {
        name == lock.marker() || (name == PARTIAL && self.lock == Some(lock.content_digest()))
    }

    /// The paths that it vouches for, whatever is there now.
    pub fn paths(&self) -> impl Iterator<Item = &ModelPath> {
        self.files.keys()
    }

    /// The files that it knows, former ones too, as they were: path, length in bytes, digest.
    pub fn files(&self) -> impl Iterator<Item = (&ModelPath, u64, Sha256)> {
        let all = self.files.iter().chain(&self.former);
        all.map(|(path, vouched)| (path, vouched.stamp.size, vouched.sha256))
    }

    /// All paths that it knows, former ones too.
    pub fn all_paths(&self) -> impl Iterator<Item = &ModelPath> {
        self.files.keys().chain(self.former.keys())
    }

    /// All files that it knows, former ones too, with their digests.
    pub fn digests(&self) -> impl Iterator<Item = (&ModelPath, Sha256)> {
        self.files.iter().chain(&self.former).map(|(path, vouched)| (path, vouched.sha256))
    }

    /// The markers in the destination's root, and the record of an incomplete run, by name.
    pub fn all(destination: &Destination) -> Result<Vec<(String, Self)>, DiskError> {
        let root = destination.root();
        let mut markers = Vec::new();
        for name in root.names()? {
            // Models may lie in the root, too: only a file that begins like a marker is read.
            if root.begins_with(&name, START).unwrap_or(false) {
                let marker = Self::load(destination, &name);
                if !marker.is_empty() || !marker.former.is_empty() {
                    markers.push((name, marker));
                }
            }
        }
        markers.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(markers)
    }

    /// The installed files of the lock's models, in the lock's order.
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
    (name, lock_bytes): (&str, Option<Sha256>),
    destination: &Destination,
    lock: &Lockfile,
    files: Vec<Installed>,
    former: Vec<Entry>,
) -> Result<(), DiskError> {
    let files: Vec<Entry> = files.into_iter().map(|file| Entry::of(destination, file)).collect();
    let text = Text { version: VERSION, lock: lock.content_digest(), lock_bytes, files, former };
    let mut bytes = serde_json::to_vec(&text).unwrap_or_default();
    bytes.push(b'\n');
    destination.root().write_small(name, &bytes)
}

impl Vouched {
    fn of(entry: Entry) -> (ModelPath, Self) {
        let stamp = Stamp { size: entry.size, mtime: entry.mtime };
        let Entry { path, sha256, link, changed, directory, .. } = entry;
        (path, Self { stamp, sha256, link: link.zip(changed), directory })
    }

    /// The entry for this file.
    fn entry(self, path: ModelPath) -> Entry {
        let Self { stamp: Stamp { size, mtime }, sha256, link, directory } = self;
        let (link, changed) = link.unzip();
        Entry { path, size, mtime, sha256, link, changed, directory }
    }

    /// True if the file at `path` is unchanged.
    fn holds(&self, destination: &Destination, path: &ModelPath) -> bool {
        let own = self.directory.as_deref().unwrap_or(path.parent());
        if !destination.directory_of(path).is_ok_and(|directory| directory == own) {
            return false;
        }
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
    /// The entry for a verified file. If the target of a symlink is gone, the entry does not count.
    fn of(destination: &Destination, file: Installed) -> Self {
        let Installed { path, stamp, sha256, link, .. } = file;
        let at_end = |target: &Utf8PathBuf| destination.find_linked(&path, target).ok().flatten();
        let changed = link.as_ref().and_then(at_end).map(|(_, changed)| changed);
        let directory = destination.directory_of(&path).ok().filter(|own| own != path.parent());
        let directory = directory.map(std::borrow::Cow::into_owned);
        Self { path, size: stamp.size, mtime: stamp.mtime, sha256, link, changed, directory }
    }
}

/// A marker's text, parsed and written again, with the paths that it lists; `None` if it is not a marker.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn written_again(bytes: &[u8]) -> Option<(Vec<u8>, Vec<ModelPath>)> {
    let text = Text::parse(bytes)?;
    let written = serde_json::to_vec(&text).unwrap_or_default();
    Some((written, text.files.into_iter().map(|entry| entry.path).collect()))
}
