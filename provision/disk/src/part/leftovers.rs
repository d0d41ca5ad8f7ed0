//! Leftovers: parts, journals and temporary files of runs that have ended, below a whole destination.
//!
//! A name has the shape of [`FileNames`]: `.NAME.DIGEST.part`, with the owner in it on volumes without locks. A part
//! that another process may still write is no leftover: its `flock` is held, or its owner is not known to be dead and
//! wrote to it within the last day.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::sync::Arc;

use camino::Utf8PathBuf;
use rustix::fs::FlockOperation;
use rustix::io::{Errno, retry_on_intr};

use super::names::{FileNames, Owner};
use super::orphans::ABANDONED_AFTER;
use crate::destination::Destination;
use crate::directory::{Directory, Found};
use crate::error::DiskError;
use provision_core::lockfile::Model;

/// The directories below a destination are searched to this depth. A model's path is shorter.
const DEEPEST: usize = 64;

/// The files of one part that has no owner any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartLeftover {
    /// The directory below the destination; empty for the destination itself.
    pub directory: String,
    /// The common start of its names: `.x.safetensors.a70580f0`.
    pub stem: String,
    /// Its names.
    pub names: Vec<String>,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// The leftovers of a destination, and the directories that could not be read.
#[derive(Debug, Default)]
pub struct PartLeftovers {
    /// The parts, by directory and name.
    pub parts: Vec<PartLeftover>,
    /// A failure for each directory that could not be searched.
    pub unread: Vec<DiskError>,
}

/// The directories to search.
#[derive(Debug, Clone, Copy)]
pub enum SearchedDirectories<'a> {
    /// The destination and everything below it, and these directories, to which a symlink or a folder may lead.
    All(&'a BTreeSet<String>),
    /// These directories, as [`Destination::directory_of`] names them.
    Only(&'a BTreeSet<String>),
}

impl PartLeftover {
    /// True if a run with `model` in its lock resumes from this part.
    pub fn is_of(&self, destination: &Destination, model: &Model) -> bool {
        let stem = FileNames::stem(model);
        let own = self.stem.strip_prefix(&stem);
        destination.directory_of(&model.path).is_ok_and(|directory| directory == self.directory)
            && own.is_some_and(|own| own.is_empty() || own.starts_with('.'))
    }

    /// Removes its files, and syncs nothing: after a power cut it is a leftover again. Returns false, and removes
    /// nothing, if another process has locked the part.
    pub fn remove(&self, destination: &Destination) -> Result<bool, DiskError> {
        let Some(directory) = destination.directory(&self.directory, false)? else { return Ok(true) };
        let _held: Option<File> = match lock_part(&directory, &self.stem) {
            Ok(part) => part,
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => {
                return Err(DiskError::of("locking it", &directory.path().join(&self.stem), error));
            }
        };
        // A part without its journal is dropped by a run; a journal without its part is ignored. So the order does not
        // matter.
        self.names.iter().try_for_each(|name| directory.remove(name).map(drop))?;
        Ok(true)
    }

    /// The path of its part below the destination, for messages.
    pub fn path(&self) -> Utf8PathBuf {
        let name = self.names.first().map_or("", String::as_str);
        Utf8PathBuf::from(&self.directory).join(name)
    }
}

/// Finds the leftovers in `directories`. `now` is in seconds since 1970. A temporary file counts if a part has the same
/// stem, or if `is_ours` knows the file that it was written for.
pub fn part_leftovers(
    destination: &Destination,
    directories: SearchedDirectories<'_>,
    now: i64,
    is_ours: &dyn Fn(&str) -> bool,
) -> PartLeftovers {
    let mut found = PartLeftovers::default();
    // A directory elsewhere is another program's: it is searched for the parts of models, and not as a whole.
    let descends = |path: &str| matches!(directories, SearchedDirectories::All(_)) && !path.starts_with('/');
    // Each directory is closed after its search: there may be more of them than file descriptors.
    let open = |path: &str| match path {
        "" => Ok(Some(destination.root().clone())),
        path => Ok(destination.open_directory(path, false)?.map(Arc::new)),
    };
    let mut search = |path: &str| match open(path) {
        Ok(Some(directory)) => match leftovers_in(path, &directory, descends(path), now, is_ours) {
            Ok((parts, below)) => {
                found.parts.extend(parts);
                below
            }
            Err(error) => {
                found.unread.push(error);
                Vec::new()
            }
        },
        Ok(None) | Err(DiskError::NotADirectory { .. }) => Vec::new(),
        Err(error) => {
            found.unread.push(error);
            Vec::new()
        }
    };
    match directories {
        SearchedDirectories::Only(paths) => paths.iter().for_each(|path| drop(search(path))),
        SearchedDirectories::All(paths) => {
            let mut left: Vec<_> = paths.iter().cloned().chain([String::new()]).collect();
            let mut seen = HashSet::new();
            while let Some(path) = left.pop() {
                if !seen.insert(path.clone()) {
                    continue;
                }
                let below = search(&path).into_iter().map(|name| match path.as_str() {
                    "" => name,
                    above => format!("{above}/{name}"),
                });
                left.extend(below.filter(|path| path.split('/').count() <= DEEPEST));
            }
        }
    }
    found.parts.sort_by(|a, b| (&a.directory, &a.stem).cmp(&(&b.directory, &b.stem)));
    found
}

/// The leftovers of one directory, and its subdirectories.
fn leftovers_in(
    path: &str,
    directory: &Directory,
    with_subdirectories: bool,
    now: i64,
    is_ours: &dyn Fn(&str) -> bool,
) -> Result<(Vec<PartLeftover>, Vec<String>), DiskError> {
    let (mut stems, mut below) = (BTreeMap::<String, Vec<&str>>::new(), Vec::new());
    let names = directory.names()?;
    for name in &names {
        if let Some((stem, extension)) = name.rsplit_once('.')
            && matches!(extension, "part" | "journal" | "tmp")
            && Stem::of(stem).is_some()
        {
            stems.entry(stem.to_owned()).or_default().push(name);
        } else if with_subdirectories
            && name != "."
            && name != ".."
            && directory.find(name)? == Found::Other("a directory")
        {
            below.push(name.clone());
        }
    }
    let mut parts = Vec::new();
    for (stem, mut names) in stems {
        names.sort_by_key(|name| (name.strip_suffix(".part").is_none(), *name));
        let of = Stem::of(&stem);
        let is_temporary = names.iter().all(|name| name.strip_suffix(".tmp").is_some());
        if is_temporary && !of.as_ref().is_some_and(|of| is_ours(of.name)) {
            continue;
        }
        let mut usages = Vec::new();
        for name in &names {
            // Only regular files are this program's.
            if let (Found::File(stamp), Some(usage)) = (directory.find(name)?, directory.usage(name)?) {
                usages.push((*name, stamp, usage));
            }
        }
        let Some(written) = usages
            .iter()
            .map(|(_, stamp, usage)| {
                // A part whose install has begun has the mtime of an installed file.
                if stamp.is_installed() { usage.changed } else { usage.written }
            })
            .max()
        else {
            continue;
        };
        let is_abandoned = now.saturating_sub(written) > ABANDONED_AFTER;
        if matches!(of, Some(Stem { owner: Some(Owner::Unknown), .. })) && !is_abandoned {
            continue;
        }
        parts.push(PartLeftover {
            directory: path.to_owned(),
            stem,
            names: usages.iter().map(|(name, ..)| (*name).to_owned()).collect(),
            bytes: usages.iter().map(|(.., usage)| usage.bytes).sum(),
        });
    }
    Ok((parts, below))
}

/// Takes the `flock` of the part, if there is one. A volume without locks grants it.
fn lock_part(directory: &Directory, stem: &str) -> Result<Option<File>, Errno> {
    let Ok(Some((file, _))) = directory.open_file(&FileNames::of(stem).part) else { return Ok(None) };
    match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK),
        Err(_) => Ok(None),
    }
}

/// A stem of the shape that [`FileNames`] makes.
struct Stem<'a> {
    /// The name of the file that it is for; empty if a digest stands for it.
    name: &'a str,
    /// The state of its owner, if the stem names one.
    owner: Option<Owner>,
}

impl<'a> Stem<'a> {
    fn of(stem: &'a str) -> Option<Self> {
        let is_hex = |text: &str, len| {
            text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let shared = |stem: &'a str| {
            let rest = stem.strip_prefix('.')?;
            match rest.rsplit_once('.') {
                Some((name, digest)) if !name.is_empty() && is_hex(digest, 8) => Some(name),
                _ => is_hex(rest, 32).then_some(""),
            }
        };
        if let Some(name) = shared(stem) {
            return Some(Self { name, owner: None });
        }
        let (before, own) = stem.rsplit_once('.')?;
        Some(Self { owner: Some(Owner::named(own)?), name: shared(before)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::PartNames;
    use crate::testing::{CONTENT, Fixture, model};

    const NOW: i64 = 4_000_000_000;

    fn found(fixture: &Fixture) -> PartLeftovers {
        part_leftovers(&fixture.destination, SearchedDirectories::All(&BTreeSet::new()), NOW, &|name| {
            name == "known"
        })
    }

    fn names(found: &PartLeftovers) -> Vec<String> {
        let names = |part: &PartLeftover| {
            part.names.iter().map(|name| format!("{}/{name}", part.directory)).collect()
        };
        found.parts.iter().flat_map(names as fn(&PartLeftover) -> Vec<String>).collect()
    }

    #[test]
    fn parts_are_found_everywhere_and_foreign_files_are_not() {
        let fixture = Fixture::new();
        drop(fixture.open(&model("d/x", CONTENT)));
        std::fs::create_dir(fixture.file("d/e")).unwrap();
        for name in [
            "d/e/.y.0123abcd.journal",
            ".0123456789abcdef0123456789abcdef.part",
            "d/.known.0123abcd.tmp",
            // Not ours: no digest, a digest in capitals, no dot, another program's temporary file.
            "d/.x.part",
            "d/.x.0123ABCD.part",
            "d/x.0123abcd.part",
            "d/.other.0123abcd.tmp",
            "d/y",
        ] {
            std::fs::write(fixture.file(name), b"1").unwrap();
        }
        std::fs::create_dir(fixture.file("d/.z.0123abcd.part")).unwrap();
        let all = found(&fixture);
        let stem = FileNames::stem(&model("d/x", CONTENT));
        let part = format!("d/{stem}.part");
        let mut expected = [
            "/.0123456789abcdef0123456789abcdef.part",
            &part,
            "d/.known.0123abcd.tmp",
            "d/e/.y.0123abcd.journal",
        ];
        expected.sort_unstable();
        let mut names = names(&all);
        names.sort();
        assert_eq!(names, expected);
        assert!(all.parts.iter().any(|part| part.is_of(&fixture.destination, &model("d/x", CONTENT))));
        for part in &all.parts {
            assert!(part.remove(&fixture.destination).unwrap());
        }
        assert!(found(&fixture).parts.is_empty());
        assert!(fixture.file("d/.x.part").exists() && fixture.file("d/.other.0123abcd.tmp").exists());
    }

    #[test]
    fn a_part_that_is_locked_or_may_have_an_owner_stays() {
        let fixture = Fixture::new();
        let held = fixture.open(&model("d/x", CONTENT));
        let [part] = &found(&fixture).parts[..] else { panic!("one part") };
        assert!(!part.remove(&fixture.destination).unwrap(), "locked");
        drop(held);
        // An owner in another PID namespace: it counts as alive for a day.
        let PartNames::PerProcess(own) = PartNames::per_process() else { panic!("a name of its own") };
        let (_, rest) = own.split_once('-').unwrap();
        let name = format!("d/.x.0123abcd.00000000-{rest}.part");
        std::fs::write(fixture.file(&name), b"1").unwrap();
        let written = std::fs::metadata(fixture.file(&name)).unwrap().modified().unwrap();
        let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let at = |now| {
            part_leftovers(&fixture.destination, SearchedDirectories::All(&BTreeSet::new()), now, &|_| false)
                .parts
                .len()
        };
        assert_eq!(at(written + ABANDONED_AFTER), 1, "only the shared one");
        assert_eq!(at(written + ABANDONED_AFTER + 1), 2);
    }
}
