//! Symlinks to directories, from a destination to the places where a user keeps models: `checkpoints ->
//! /volume/checkpoints`.
//!
//! A destination follows none, or those of this user and of root. Otherwise another user who may write to a directory
//! of the destination could lead a run, with its rights, to any directory. For the same reason a run that writes
//! records its links at the start, and follows no other one afterwards: a directory that turns into a symlink leads
//! nowhere.
//!
//! A link is not opened by its name. Its target is read, and opened as the last link of the chain names it, so each
//! link of the chain has been checked. The directories on the way to the target are the user's choice, as those on the
//! way to the destination.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::directory::{Directory, SYMLINK};
use crate::error::DiskError;
use crate::file_stat::FileId;

/// The most links in a row that are followed. The kernel follows 40; people make one or two.
const LONGEST_CHAIN: usize = 8;

/// The rule for symlinks to directories below a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowLinks {
    /// None is followed.
    Never,
    /// Those of this user and of root are followed.
    Own,
}

/// The links that a destination follows.
#[derive(Debug, Default)]
pub(crate) struct FollowedLinks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rule: Rule,
    /// By the directory that has the link, and its name there.
    followed: HashMap<(FileId, String), Link>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// None.
    #[default]
    Never,
    /// Those of this user and of root.
    Own,
    /// Those that were followed before.
    Noted,
}

/// A link as it was when it was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    id: FileId,
    target: Utf8PathBuf,
}

impl FollowedLinks {
    /// Follows these links from now on.
    pub(crate) fn set(&self, follow: FollowLinks) {
        self.state().rule = match follow {
            FollowLinks::Never => Rule::Never,
            FollowLinks::Own => Rule::Own,
        };
    }

    /// Follows only the links that were followed before, from now on.
    pub(crate) fn freeze(&self) {
        let mut state = self.state();
        if state.rule == Rule::Own {
            state.rule = Rule::Noted;
        }
    }

    /// True if it has followed a link.
    pub(crate) fn any(&self) -> bool {
        !self.state().followed.is_empty()
    }

    /// Opens the directory to which the symlink `name` in `parent` leads. `None` if there is nothing, and `required` is
    /// false.
    pub(crate) fn follow(
        &self,
        parent: &Directory,
        name: &str,
        required: bool,
    ) -> Result<Option<Directory>, DiskError> {
        let path = parent.path().join(name);
        let rule = self.state().rule;
        if rule == Rule::Never {
            return Err(DiskError::NotADirectory { path, what: SYMLINK });
        }
        let (link, last) = read_chain(parent, name, &path)?;
        let key = (FileId::of_file(parent.handle(), parent.path())?, name.to_owned());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened =
            retry_on_intr(|| rustix::fs::openat(parent.handle(), last.as_std_path(), flags, Mode::empty()));
        let handle: File = match opened {
            Ok(handle) => handle.into(),
            Err(Errno::NOENT) if !required => return Ok(None),
            Err(Errno::NOENT) => return Err(DiskError::Dangling { path, target: link.target }),
            Err(Errno::NOTDIR) => {
                return Err(DiskError::NotADirectory { path, what: "a symlink to a file" });
            }
            // The last one of the chain was replaced meanwhile.
            Err(Errno::LOOP) => return Err(DiskError::LinkAppeared { path }),
            Err(error) => return Err(DiskError::of("opening what the symlink leads to", &path, error)),
        };
        if rule == Rule::Noted && self.state().followed.get(&key) != Some(&link) {
            return Err(DiskError::LinkAppeared { path });
        }
        self.state().followed.insert(key, link);
        Ok(Some(Directory::new(handle, path)))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the links from `name` on. Returns the first one, and the target of the last one, relative to `parent`.
fn read_chain(parent: &Directory, name: &str, path: &Utf8Path) -> Result<(Link, Utf8PathBuf), DiskError> {
    let failed = |error| DiskError::of("reading the symlink", path, error);
    let user = rustix::process::geteuid().as_raw();
    let mut first = None;
    let mut at = Utf8PathBuf::from(name);
    for _ in 0..LONGEST_CHAIN {
        let stat = match rustix::fs::statat(parent.handle(), at.as_std_path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => stat,
            // The caller opens it, and sees its kind.
            Ok(_) | Err(Errno::NOENT) if first.is_some() => break,
            Ok(_) => return Err(DiskError::LinkAppeared { path: path.to_owned() }),
            Err(error) => return Err(failed(error)),
        };
        if stat.st_uid != user && stat.st_uid != 0 {
            return Err(DiskError::ForeignLink { path: path.to_owned(), owner: stat.st_uid, user });
        }
        let target = rustix::fs::readlinkat(parent.handle(), at.as_std_path(), Vec::new()).map_err(failed)?;
        let target = target.into_string().map_err(|_| DiskError::NotADirectory {
            path: path.to_owned(),
            what: "a symlink to a name that is not UTF-8",
        })?;
        let target = Utf8PathBuf::from(target);
        at = at.parent().unwrap_or(Utf8Path::new("")).join(&target);
        first.get_or_insert(Link { id: FileId::of(&stat), target });
    }
    match first {
        Some(first) => Ok((first, at)),
        None => Err(failed(Errno::LOOP)),
    }
}
