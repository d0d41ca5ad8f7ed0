//! Folders of a destination that lie in several directories, some of them elsewhere. The program that reads the models
//! searches them in order, so a file is the one in the first directory that has it.
//!
//! A directory is named by its path below the destination, or by its absolute path. The user names these directories,
//! as the user names the destination: their own paths may contain symlinks, and below them the destination's rule
//! holds. The choice for a file is made when it is first looked for, and kept: a file that appears in another directory
//! during a run changes nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::error::DiskError;
use provision_core::model_path::{ModelPath, directories_above};

/// The folders of a destination that have more than their own directory, by the first component of a model's path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders(pub BTreeMap<String, Folder>);

/// A folder: the start of the paths of a kind of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The kind. Folders of one kind share their files: `unet/x` and `diffusion_models/x` are one.
    pub kind: String,
    /// The directories, in the order of the search: below the destination, or absolute. Normalized, without a slash at
    /// the end.
    pub directories: Vec<String>,
    /// The one of `directories` that gets new files.
    pub new: String,
    /// A model is a directory, and is found or missing as a whole.
    pub whole: bool,
}

impl Folder {
    /// The part of `path` that names a model, and that the directories are searched for.
    fn model<'a>(&self, path: &'a ModelPath) -> Option<&'a str> {
        let (_, below) = path.as_str().split_once('/')?;
        Some(if self.whole { below.split('/').next().unwrap_or(below) } else { below })
    }
}

impl Folders {
    /// True if every folder has only its own directory.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, path: &ModelPath) -> Option<&Folder> {
        let (first, _) = path.as_str().split_once('/')?;
        self.0.get(first)
    }

    /// Equal for paths that are one file for the program that reads the models.
    pub(crate) fn file_key<'a>(&'a self, path: &'a ModelPath) -> (&'a str, &'a str) {
        match (self.of(path), path.as_str().split_once('/')) {
            (Some(folder), Some((_, below))) => (&folder.kind, below),
            _ => ("", path.as_str()),
        }
    }

    /// The directories that may have the file at `path`.
    pub(crate) fn candidates<'a>(&'a self, path: &'a ModelPath) -> impl Iterator<Item = Cow<'a, str>> {
        let folder = self.of(path);
        let own = folder.is_none().then_some(Cow::Borrowed(path.parent()));
        let searched = folder.into_iter().flat_map(|folder| &folder.directories);
        own.into_iter().chain(searched.map(|directory| Cow::Owned(below(directory, path))))
    }

    /// The absolute directory that `path` lies in, and the rest; `None` for a path below the destination.
    pub(crate) fn split<'a>(&self, path: &'a str) -> Option<(&'a Utf8Path, &'a str)> {
        if !path.starts_with('/') {
            return None;
        }
        let all = self.0.values().flat_map(|folder| &folder.directories);
        let above = all.filter(|directory| {
            path.strip_prefix(directory.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let base = above.map(String::len).max().unwrap_or(path.len());
        Some((Utf8Path::new(&path[..base]), path[base..].trim_start_matches('/')))
    }

    /// The directories that have to be opened for `path`, that one last, from the destination or from the directory of
    /// a folder on.
    pub(crate) fn on_the_way<'a>(&self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let base = self.split(path).map_or(0, |(base, _)| base.as_str().len());
        directories_above(path).chain([path]).filter(move |path| path.len() >= base.max(1))
    }
}

/// The directory of the file at `path`, if its folder lies in `directory`.
fn below(directory: &str, path: &ModelPath) -> String {
    match path.parent().split_once('/') {
        Some((_, inner)) => format!("{directory}/{inner}"),
        None => directory.to_owned(),
    }
}

/// The directories that were chosen, by the file.
#[derive(Debug, Default)]
pub(crate) struct Choices(Mutex<HashMap<ModelPath, String>>);

impl Choices {
    /// Forgets them: files may have come or gone.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    /// The directory of the file at `path`; `root` is the destination's.
    pub(crate) fn directory<'a>(
        &self,
        folders: &Folders,
        root: (&impl std::os::fd::AsFd, &Utf8Path),
        path: &'a ModelPath,
    ) -> Result<Cow<'a, str>, DiskError> {
        let Some(folder) = folders.of(path) else { return Ok(Cow::Borrowed(path.parent())) };
        let mut chosen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(directory) = chosen.get(path) {
            return Ok(Cow::Owned(directory.clone()));
        }
        let directory = below(choose(folder, root, path)?, path);
        chosen.insert(path.clone(), directory.clone());
        Ok(Cow::Owned(directory))
    }
}

/// The first directory of `folder` that has the file, else that of new files.
fn choose<'f>(
    folder: &'f Folder,
    (root, root_path): (&impl std::os::fd::AsFd, &Utf8Path),
    path: &ModelPath,
) -> Result<&'f str, DiskError> {
    let Some(model) = folder.model(path) else { return Ok(&folder.new) };
    let wanted = if folder.whole { FileType::Directory } else { FileType::RegularFile };
    for directory in &folder.directories {
        let at = Utf8PathBuf::from(directory).join(model);
        match rustix::fs::statat(root, at.as_std_path(), AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == wanted => return Ok(directory),
            // A file that the reading program cannot reach does not exist for it.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG) => {}
            Err(error) => return Err(DiskError::of("reading its metadata", &root_path.join(at), error)),
        }
    }
    Ok(&folder.new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Folders {
        let folder = |kind: &str, directories: &[&str], whole| Folder {
            kind: kind.to_owned(),
            directories: directories.iter().map(|directory| (*directory).to_owned()).collect(),
            new: directories[0].to_owned(),
            whole,
        };
        let all = [
            ("unet", folder("d", &["unet", "/v/models", "/v/models/d"], false)),
            ("d", folder("d", &["d", "/v/models", "/v/models/d"], false)),
            ("m", folder("m", &["m", "n"], true)),
        ];
        Folders(all.map(|(name, folder)| (name.to_owned(), folder)).into())
    }

    #[test]
    fn a_path_has_a_place_in_each_directory_of_its_folder() {
        let folders = folders();
        let places = |path: &str| {
            let path = path.parse().unwrap();
            folders.candidates(&path).map(Cow::into_owned).collect::<Vec<_>>()
        };
        assert_eq!(places("unet/a/x"), ["unet/a", "/v/models/a", "/v/models/d/a"]);
        assert_eq!((places("vae/x"), places("x")), (vec!["vae".to_owned()], vec![String::new()]));
        let key = |path: &str| {
            let path: ModelPath = path.parse().unwrap();
            let (kind, below) = folders.file_key(&path);
            format!("{kind}:{below}")
        };
        assert_eq!((key("unet/x"), key("d/x"), key("vae/x")), ("d:x".into(), "d:x".into(), ":vae/x".into()));
    }

    #[test]
    fn a_directory_elsewhere_is_opened_from_its_folder_on() {
        let folders = folders();
        let way = |path: &'static str| folders.on_the_way(path).collect::<Vec<_>>();
        assert_eq!(way("a/b"), ["a", "a/b"]);
        assert_eq!(way("/v/models/a/b"), ["/v/models", "/v/models/a", "/v/models/a/b"]);
        assert_eq!(way("/v/models/d/b"), ["/v/models/d", "/v/models/d/b"]);
        assert!(way("").is_empty());
        assert_eq!(folders.split("/v/modelsx"), Some((Utf8Path::new("/v/modelsx"), "")));
        assert_eq!(folders.split("v/models"), None);
    }

    #[test]
    fn the_choice_is_the_first_directory_and_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(place.path()).unwrap();
        let (folders, choices) = (folders(), Choices::default());
        let chosen = |path: &str| {
            let path = path.parse().unwrap();
            choices.directory(&folders, (&root, Utf8Path::new("")), &path).unwrap().into_owned()
        };
        std::fs::create_dir_all(place.path().join("n/whole")).unwrap();
        std::fs::write(place.path().join("n/file"), "").unwrap();
        assert_eq!((chosen("m/whole/a/x"), chosen("m/other/x")), ("n/whole/a".into(), "m/other".into()));
        assert_eq!(chosen("m/file"), "m", "a model of this folder is a directory");
        std::fs::create_dir_all(place.path().join("m/whole")).unwrap();
        assert_eq!(chosen("m/whole/a/x"), "n/whole/a");
        choices.forget();
        assert_eq!(chosen("m/whole/a/x"), "m/whole/a");
    }
}
