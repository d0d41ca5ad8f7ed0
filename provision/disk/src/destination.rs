//! The destination directory and the directories below it, opened once.
//!
//! Every operation goes through a handle, so a name that is replaced during a run leads nowhere else. A handle does
//! not show whether the directory is still at its path: `durability` checks that before a marker is written.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::confined::{self, ResolveMode};
use crate::destination_lock::lease::LockLease;
use crate::directory::{Directory, Found, SYMLINK, create_directory};
use crate::error::DiskError;
use crate::file_stat::{ChangeTime, FileId, Stamp};
use crate::folders::{Choices, Folders};
use crate::links::{FollowLinks, FollowedLinks};
use provision_core::model_path::ModelPath;

/// The directory that the paths of `models.lock` are relative to. Its own path may be or contain a symlink; below it,
/// none is followed unless [`Destination::with_links`] allows it.
#[derive(Debug)]
pub struct Destination {
    root: Arc<Directory>,
    mode: ResolveMode,
    /// The opened directories, by their path below the root.
    opened: Mutex<HashMap<String, Arc<Directory>>>,
    /// The leases on the locks of the destination and of the directories that its links lead to, where another machine
    /// can take them over.
    leases: Mutex<Vec<Arc<LockLease>>>,
    links: FollowedLinks,
    folders: Arc<Folders>,
    choices: Choices,
}

impl Destination {
    /// Opens the directory. Creates it and its parents if they are missing.
    pub fn create(path: &Utf8Path) -> Result<Self, DiskError> {
        create_all(path)?;
        Self::open(path)?.ok_or_else(|| DiskError::of("opening the destination", path, Errno::NOENT))
    }

    /// Opens the directory. `None` if it does not exist.
    pub fn open(path: &Utf8Path) -> Result<Option<Self>, DiskError> {
        Self::open_with(path, ResolveMode::Openat2)
    }

    /// Opens the directory with the given [`ResolveMode`] for paths below it.
    pub(crate) fn open_with(path: &Utf8Path, mode: ResolveMode) -> Result<Option<Self>, DiskError> {
        let opened = open_path(path, "opening the destination")?;
        Ok(opened.map(|directory| Self::at(directory, mode)))
    }

    /// The directory itself.
    pub fn root(&self) -> &Arc<Directory> {
        &self.root
    }

    /// Sets the lease that parts check before a write.
    pub(crate) fn set_lease(&self, lease: Option<Arc<LockLease>>) {
        *self.leases.lock().unwrap_or_else(PoisonError::into_inner) = lease.into_iter().collect();
    }

    /// Adds the lease of a directory that a link of this destination leads to.
    pub fn add_lease_of(&self, linked: &Self) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).extend(linked.leases());
    }

    pub(crate) fn leases(&self) -> Vec<Arc<LockLease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same directory with this rule for symlinks to directories below it.
    #[must_use]
    pub fn with_links(self, follow: FollowLinks) -> Self {
        self.links.set(follow);
        self
    }

    /// The same directory with these folders.
    #[must_use]
    pub fn with_folders(self, folders: Arc<Folders>) -> Self {
        Self { folders, ..self }
    }

    /// Its folders.
    pub fn folders(&self) -> &Arc<Folders> {
        &self.folders
    }

    /// The directory of the file at `path`: below the destination, or absolute.
    pub fn directory_of<'a>(&self, path: &'a ModelPath) -> Result<Cow<'a, str>, DiskError> {
        self.choices.directory(&self.folders, (self.root.handle(), self.root.path()), path)
    }

    /// The whole path of the file at `path`, for messages.
    pub fn path_of(&self, path: &ModelPath) -> Utf8PathBuf {
        let directory = self.directory_of(path).unwrap_or(Cow::Borrowed(path.parent()));
        self.root.path().join(&*directory).join(path.file_name())
    }

    /// The paths that the file at `path` may have, as for [`Destination::directory_of`].
    pub fn places<'a>(&'a self, path: &'a ModelPath) -> impl Iterator<Item = String> {
        self.folders.candidates(path).map(|directory| match &*directory {
            "" => path.file_name().to_owned(),
            directory => format!("{directory}/{}", path.file_name()),
        })
    }

    /// Looks for each file anew: call it once other runs can install none any more.
    pub fn forget_choices(&self) {
        self.choices.forget();
    }

    /// Creates the directories elsewhere that new files of `paths` go to, so that they can be locked. A directory that
    /// cannot be created is left to the file's own error.
    pub fn create_folders<'a>(&self, paths: impl IntoIterator<Item = &'a ModelPath>) {
        let mut seen = HashSet::new();
        for path in paths.into_iter().filter(|_| !self.folders.is_empty()) {
            if let Ok(directory) = self.directory_of(path)
                && let Some((base, _)) = self.folders.split(&directory)
                && seen.insert(base.to_owned())
            {
                let _ = create_all(base);
            }
        }
    }

    pub(crate) fn mode(&self) -> ResolveMode {
        self.mode
    }

    /// Follows the symlinks on the way to the files at `paths`, in every directory that may have them. Returns the
    /// directories that they lead to, and those of folders elsewhere, each once, for their locks. A path that cannot be
    /// followed is left to the file's own error.
    pub fn note_links<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a ModelPath>,
    ) -> Result<Vec<LinkedDirectory>, DiskError> {
        let mut seen = HashSet::from([FileId::of_file(self.root.handle(), self.root.path())?]);
        let mut linked = Vec::new();
        let parents: BTreeSet<_> = paths.into_iter().flat_map(|path| self.folders.candidates(path)).collect();
        for parent in &parents {
            for path in self.folders.on_the_way(parent) {
                let Ok(Some(directory)) = self.open_directory(path, false) else { break };
                let is_link = matches!(self.find_directory(path), Ok(Found::Symlink));
                if is_link && seen.insert(FileId::of_file(directory.handle(), directory.path())?) {
                    let destination = Self::at(directory, self.mode);
                    linked.push(LinkedDirectory { path: path.to_owned(), destination });
                }
            }
        }
        Ok(linked)
    }

    /// Follows no symlink from now on that it has not followed before.
    pub fn freeze_links(&self) {
        self.links.freeze();
    }

    /// Checks that no two of `paths` are one file by a symlink, such as `unet -> diffusion_models` with a model in
    /// each. Nor may they be one by folders of one kind, or with a common directory.
    ///
    /// # Errors
    /// [`DiskError::OneFile`] and [`DiskError::OneModel`] name both.
    pub fn verify_distinct<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a ModelPath>,
    ) -> Result<(), DiskError> {
        if !self.may_lead_elsewhere() {
            return Ok(());
        }
        let one_model = |path: &ModelPath, other: &ModelPath| {
            let [path, other] = [path, other].map(ToString::to_string);
            Err(DiskError::OneModel { path, other, place: self.root.path().to_owned() })
        };
        let mut seen: HashMap<(FileId, String), &ModelPath> = HashMap::new();
        let mut keys: HashMap<(&str, &str), &ModelPath> = HashMap::new();
        for path in paths {
            if let Some(other) = keys.insert(self.folders.file_key(path), path) {
                return one_model(path, other);
            }
            let Ok(Some(directory)) = self.parent(path, false) else { continue };
            let id = FileId::of_file(directory.handle(), directory.path())?;
            if let Some(other) = seen.insert((id, path.file_name().to_lowercase()), path) {
                if self.path_of(path) == self.path_of(other) {
                    return one_model(path, other);
                }
                let [path, other] = [path, other].map(|path| self.path_of(path));
                return Err(DiskError::OneFile { path, other });
            }
        }
        Ok(())
    }

    fn may_lead_elsewhere(&self) -> bool {
        self.links.any() || !self.folders.is_empty()
    }

    /// The kind of file at the path of a directory. A directory elsewhere counts as a symlink to it.
    fn find_directory(&self, path: &str) -> Result<Found, DiskError> {
        if self.folders.split(path).is_some_and(|(_, rest)| rest.is_empty()) {
            return Ok(Found::Symlink);
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.directory(parent, false)?.map_or(Ok(Found::Nothing), |directory| directory.find(name))
    }

    /// True if the file at `path` lies in a folder elsewhere, or behind a symlink to a directory. Other programs, and
    /// runs with other destinations, may use it.
    pub fn is_elsewhere(&self, path: &ModelPath) -> Result<bool, DiskError> {
        let directory = self.directory_of(path)?;
        for above in self.folders.on_the_way(&directory) {
            if self.find_directory(above)? == Found::Symlink {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The volume of the file at `path`, if a link or a folder leads to another one than the destination's.
    pub fn other_volume(&self, path: &ModelPath) -> Result<Option<OtherVolume>, DiskError> {
        if !self.may_lead_elsewhere() {
            return Ok(None);
        }
        let directory = self.nearest_directory(&self.directory_of(path)?)?;
        let device = |directory: &Directory| {
            let stat = rustix::fs::fstat(directory.handle());
            stat.map(|stat| stat.st_dev).map_err(DiskError::at("reading its metadata", directory.path()))
        };
        let own = device(&directory)?;
        if own == device(&self.root)? {
            return Ok(None);
        }
        Ok(Some(OtherVolume {
            device: own,
            path: directory.path().to_owned(),
            free: directory.free_space()?,
        }))
    }

    /// The directory whose volume gets the file at `path`, for messages, and the bytes that this user can still write
    /// there.
    pub fn room_for(&self, path: &ModelPath) -> Result<(Utf8PathBuf, u64), DiskError> {
        Ok(match self.other_volume(path)? {
            Some(volume) => (volume.path, volume.free),
            None => (self.root.path().to_owned(), self.free_space()?),
        })
    }

    /// The directory at `path`, or the nearest one above it.
    fn nearest_directory(&self, path: &str) -> Result<Arc<Directory>, DiskError> {
        let on_the_way: Vec<&str> = self.folders.on_the_way(path).collect();
        for path in on_the_way.into_iter().rev() {
            if let Some(directory) = self.directory(path, false)? {
                return Ok(directory);
            }
        }
        let base = self.folders.split(path).map(|(base, _)| nearest(base)).transpose()?.flatten();
        Ok(base.map_or_else(|| self.root.clone(), |above| above.root))
    }

    fn at(directory: Directory, mode: ResolveMode) -> Self {
        Self {
            root: Arc::new(directory),
            mode,
            opened: Mutex::default(),
            leases: Mutex::default(),
            links: FollowedLinks::default(),
            folders: Arc::default(),
            choices: Choices::default(),
        }
    }

    /// The directory of the file at `path`. If it is missing, `create` decides between creating it and `None`.
    pub fn parent(&self, path: &ModelPath, create: bool) -> Result<Option<Arc<Directory>>, DiskError> {
        self.directory(&self.directory_of(path)?, create)
    }

    /// The directory at `path`, as for [`Destination::parent`].
    pub(crate) fn directory(&self, path: &str, create: bool) -> Result<Option<Arc<Directory>>, DiskError> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = opened.get(path) {
            return Ok(Some(directory.clone()));
        }
        let Some(directory) = self.open_directory(path, create)? else { return Ok(None) };
        let directory = Arc::new(directory);
        opened.insert(path.to_owned(), directory.clone());
        Ok(Some(directory))
    }

    /// Opens the directory at `path` anew.
    pub(crate) fn open_directory(&self, path: &str, create: bool) -> Result<Option<Directory>, DiskError> {
        let (base, path) = match self.folders.split(path) {
            None => (self.root.clone(), path),
            Some((base, rest)) => match open_base(base, create)? {
                Some(directory) if rest.is_empty() => return Ok(Some(directory)),
                Some(directory) => (Arc::new(directory), rest),
                None => return Ok(None),
            },
        };
        match confined::open_directory(self.mode, base.handle(), path) {
            Ok(handle) => return Ok(Some(Directory::new(handle, base.path().join(path)))),
            Err(Errno::NOENT) if !create => return Ok(None),
            // One component at a time: creates missing directories, and can name an obstacle.
            Err(_) => {}
        }
        let mut at: Option<Directory> = None;
        for name in path.split('/') {
            let parent = at.as_ref().unwrap_or(&base);
            let opened = match parent.subdirectory(name, create) {
                Err(DiskError::NotADirectory { what: SYMLINK, .. }) => {
                    self.links.follow(parent, name, create)?
                }
                opened => opened?,
            };
            match opened {
                Some(sub) => at = Some(sub),
                None => return Ok(None),
            }
        }
        Ok(at)
    }

    /// True if the destination's own path still leads to this directory.
    pub(crate) fn root_is_in_place(&self) -> Result<bool, DiskError> {
        let at = |doing| DiskError::at::<Errno>(doing, self.root.path());
        let held = rustix::fs::fstat(self.root.handle()).map_err(at("reading its metadata"))?;
        match rustix::fs::stat(self.root.path().as_std_path()) {
            Ok(named) => Ok(FileId::of(&named) == FileId::of(&held)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(at("reading its metadata")(error)),
        }
    }

    /// The kind of file at `path`.
    pub fn find(&self, path: &ModelPath) -> Result<Found, DiskError> {
        match self.parent(path, false)? {
            Some(directory) => directory.find(path.file_name()),
            None => Ok(Found::Nothing),
        }
    }

    /// The target of the symlink at `path`, as written. `None` if there is no symlink, or if its target is not UTF-8.
    pub fn link_at(&self, path: &ModelPath) -> Result<Option<Utf8PathBuf>, DiskError> {
        match self.parent(path, false)? {
            Some(directory) => Ok(directory.read_link(path.file_name())?.map(Utf8PathBuf::from)),
            None => Ok(None),
        }
    }

    /// The stamp and change time of `target`, if `path` is a symlink to exactly `target` and that is a regular file.
    pub fn find_linked(
        &self,
        path: &ModelPath,
        target: &Utf8Path,
    ) -> Result<Option<(Stamp, ChangeTime)>, DiskError> {
        let Some(directory) = self.parent(path, false)? else { return Ok(None) };
        if directory.read_link(path.file_name())?.as_deref() != Some(target.as_str()) {
            return Ok(None);
        }
        match rustix::fs::statat(directory.handle(), target.as_str(), AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some((Stamp::of(&stat), (stat.st_ctime, stat.st_ctime_nsec as u32))))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(DiskError::of("reading its metadata", target, error)),
        }
    }

    /// The bytes that this user can still write here.
    pub fn free_space(&self) -> Result<u64, DiskError> {
        self.root.free_space()
    }

    /// True if both are the same directory.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let id = |at: &Self| rustix::fs::fstat(at.root.handle()).map(|stat| FileId::of(&stat)).ok();
        id(self).is_some() && id(self) == id(other)
    }

    /// True if a file can have a hard link in each: both are on one mount of one file system (link(2), EXDEV).
    /// Compares only the file system if the kernel does not number its mounts.
    pub fn shares_disk_with(&self, other: &Self) -> bool {
        share_disk(&self.root, &other.root)
    }

    /// The same for the directory of the file at `path`, which may lie on another disk than this one.
    pub fn shares_disk_at(&self, path: &ModelPath, other: &Self) -> bool {
        let directory = self.directory_of(path).and_then(|directory| self.nearest_directory(&directory));
        directory.is_ok_and(|directory| share_disk(&directory, &other.root))
    }
}

fn share_disk(one: &Directory, other: &Directory) -> bool {
    let mount = |at: &Directory| {
        let device = rustix::fs::fstat(at.handle()).map(|stat| stat.st_dev).ok()?;
        let flags = rustix::fs::StatxFlags::MNT_ID;
        let statx = rustix::fs::statx(at.handle(), "", AtFlags::EMPTY_PATH, flags);
        let number =
            statx.ok().filter(|statx| statx.stx_mask & flags.bits() != 0).map(|statx| statx.stx_mnt_id);
        Some((device, number))
    };
    mount(one).is_some() && mount(one) == mount(other)
}

/// Opens a directory of a folder that lies elsewhere.
fn open_base(path: &Utf8Path, create: bool) -> Result<Option<Directory>, DiskError> {
    if create {
        create_all(path)?;
    }
    open_path(path, "opening the directory")
}

/// Opens a directory that the user names; its path may contain symlinks. `None` if it does not exist.
fn open_path(path: &Utf8Path, doing: &'static str) -> Result<Option<Directory>, DiskError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::open(path.as_std_path(), flags, Mode::empty())) {
        Ok(handle) => Ok(Some(Directory::new(handle.into(), path.to_owned()))),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => Err(DiskError::NotADirectory { path: path.to_owned(), what: "a file" }),
        Err(error) => Err(DiskError::of(doing, path, error)),
    }
}

/// A directory that a symlink below a destination, or a folder of it, leads to.
#[derive(Debug)]
pub struct LinkedDirectory {
    /// The symlink's path below the destination, or the directory's absolute path.
    pub path: String,
    /// The directory.
    pub destination: Destination,
}

impl LinkedDirectory {
    /// Those of `places` that lie in it, relative to it.
    pub fn below<'a>(&'a self, places: &'a [String]) -> impl Iterator<Item = &'a str> {
        places.iter().filter_map(|path| path.strip_prefix(&self.path)?.strip_prefix('/'))
    }
}

/// Another volume than the destination's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherVolume {
    /// Its device number.
    pub device: u64,
    /// A directory on it.
    pub path: Utf8PathBuf,
    /// The bytes that this user can still write there.
    pub free: u64,
}

/// The bytes that this user can still write at `path`, or at its nearest existing ancestor.
pub fn free_space_near(path: &Utf8Path) -> Result<u64, DiskError> {
    nearest(path)?.map_or(Ok(0), |destination| destination.free_space())
}

/// True if `path`, or its nearest existing ancestor, lies in a container's own layer. Such a layer is an overlay, which
/// goes away with the container or becomes part of an image.
pub fn is_in_layer(path: &Utf8Path) -> bool {
    /// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
    const OVERLAY: u32 = 0x794c_7630;
    let Ok(Some(nearest)) = nearest(path) else { return false };
    rustix::fs::fstatfs(nearest.root.handle()).is_ok_and(|stat| stat.f_type as u32 == OVERLAY)
}

/// The directory at `path`, or its nearest existing ancestor.
fn nearest(path: &Utf8Path) -> Result<Option<Destination>, DiskError> {
    let mut at = path;
    loop {
        if let Some(destination) = Destination::open(at)? {
            return Ok(Some(destination));
        }
        at = match at.parent() {
            Some(parent) if !parent.as_str().is_empty() => parent,
            Some(_) => Utf8Path::new("."),
            None => return Ok(None),
        };
    }
}

/// Creates `path` and the directories above it, durably.
fn create_all(path: &Utf8Path) -> Result<(), DiskError> {
    if path.as_str().is_empty() || path.as_std_path().is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_str().is_empty());
    if let Some(parent) = parent {
        create_all(parent)?;
    }
    create_directory(CWD, path.as_str(), path)?;
    let above = parent.unwrap_or(Utf8Path::new("."));
    File::open(above).and_then(|dir| dir.sync_all()).map_err(DiskError::at("syncing the directory", above))
}
