//! What lies there after a strike, held against the invariants: by the bytes, which are known, and without the code on
//! trial.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::job::{Job, JobDir};
use super::journal;
use super::models::{File, ModelSet};

/// The marker's default name.
pub(super) const MARKER: &str = ".models-installed";
/// What an incomplete run has proven; a marker's text.
const PROVEN: &str = ".provision.journal";
/// Held while a run works in a directory.
const LOCK: &str = ".provision.lock";
/// The mtime of every installed file, in seconds since 1970.
const INSTALLED_MTIME: i64 = 946_684_800;

/// What the machine went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The process died, and the system lives: what was written is there.
    Death,
    /// Everything that was not durable may be gone.
    PowerCut,
}

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Violation {
    /// I1: a final name with other bytes than the lock's.
    FinalName(String),
    /// I2: a marker that vouches for something that is not there.
    Marker(String),
    /// I3: a journal's claim that the part does not bear out.
    Journal(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FinalName(what) => write!(f, "I1 broken: {what}"),
            Self::Marker(what) => write!(f, "I2 broken: {what}"),
            Self::Journal(what) => write!(f, "I3 broken: {what}"),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) violations: Vec<Violation>,
    /// Bytes that a next run has to fetch, at most.
    pub(super) to_fetch: u64,
    /// The marker is there and vouches for all new files.
    pub(super) is_complete: bool,
}

impl Look {
    pub(super) fn sound(self) -> Result<Self> {
        let broken: Vec<String> = self.violations.iter().map(ToString::to_string).collect();
        ensure!(broken.is_empty(), "{}", broken.join("\n"));
        Ok(self)
    }
}

/// Looks at everything.
pub(super) fn look(set: &ModelSet, job: Job, place: &JobDir, after: After) -> Result<Look> {
    let mut look = Look { violations: final_names(set, job, place)?, ..Look::default() };
    look.is_complete = marker(set, place, &mut look.violations)?;
    proven(set, place, &mut look.violations)?;
    let mut held = BTreeMap::<String, u64>::new();
    for path in files_below(&place.root)? {
        if path.file_name() != Some(PROVEN) && path.extension() == Some("journal") {
            journal(set, &path, after, &mut held, &mut look.violations)?;
        }
    }
    for file in &set.new.files {
        if job.is_local() || is_there(file, place)? {
            continue;
        }
        let held = held.get(&file.sha256).copied().unwrap_or(0);
        look.to_fetch += file.bytes.len() as u64 - held;
    }
    Ok(look)
}

/// Final names that have other bytes than they may (I1).
pub(super) fn final_names(set: &ModelSet, job: Job, place: &JobDir) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for (new, old) in set.new.files.iter().zip(&set.old.files) {
        for path in place.homes(new.path) {
            let Some(bytes) = read(&path)? else { continue };
            let is_right = bytes == *new.bytes || (job == Job::Replace && bytes == *old.bytes);
            if !is_right {
                violations.push(Violation::FinalName(describe(&path, &bytes, new)));
            }
        }
        let object = object(place, new);
        if let Some(bytes) = read(&object)?
            && bytes != *new.bytes
        {
            violations.push(Violation::FinalName(describe(&object, &bytes, new)));
        }
    }
    Ok(violations)
}

/// Everything as it should be when a run has ended well: exact, with fixed metadata, vouched for, and nothing left over.
/// What is in `either_way` may be there or not.
pub(super) fn complete(set: &ModelSet, job: Job, place: &JobDir, either_way: &[Utf8PathBuf]) -> Result<()> {
    let look = look(set, job, place, After::Death)?.sound()?;
    let mut expected = BTreeSet::new();
    for file in &set.new.files {
        let [home, layer] = place.homes(file.path);
        let path = if job == Job::Layers { layer } else { home };
        let metadata = fs::symlink_metadata(&path).with_context(|| format!("{path} is not there"))?;
        if job != Job::Symlink {
            ensure!(metadata.is_file(), "{path} is no file");
            let (mode, time) = (metadata.mode() & 0o7777, metadata.mtime());
            ensure!(mode == 0o644, "{path} has the mode {mode:o}");
            ensure!(time == INSTALLED_MTIME, "{path} has the time {time}");
        }
        expected.insert(path);
        if matches!(job, Job::Cache | Job::Link) {
            expected.insert(object(place, file));
        }
    }
    if job != Job::Layers {
        ensure!(look.is_complete, "there is no marker that vouches for everything");
        expected.insert(place.destination().join(MARKER));
    }
    let found: BTreeSet<_> = files_below(&place.root)?.into_iter().collect();
    let missing: Vec<_> = expected.difference(&found).filter(|path| !either_way.contains(path)).collect();
    ensure!(missing.is_empty(), "not there: {missing:?}");
    let left: Vec<_> = found.difference(&expected).filter(|path| !either_way.contains(path)).collect();
    ensure!(left.is_empty(), "left over: {left:?}");
    Ok(())
}

/// What is not as it should be in the trees of image layers.
pub(super) fn laid_out(set: &ModelSet, place: &JobDir) -> Result<Option<String>> {
    for file in &set.new.files {
        let [home, layer] = place.homes(file.path);
        match read(&layer)? {
            Some(bytes) if bytes == *file.bytes => {}
            Some(bytes) => return Ok(Some(describe(&layer, &bytes, file))),
            None if home.exists() => return Ok(Some(format!("{home} was not moved"))),
            None => return Ok(Some(format!("{layer} is nowhere"))),
        }
    }
    Ok(None)
}

/// What may be there or not when a run has found nothing to do there: files of a dead one that say nothing to anybody. A
/// lock that nobody holds is used again; what was proven counts for less than the marker, and goes with it; a cache is
/// not filled from a destination that is complete.
///
/// And a known gap: the journal of a file that was installed right before the end. Its name says that it belongs to a
/// part, and there is none. In a cache neither the next run nor pruning looks at it. In a destination it stays where the
/// marker is complete, which only a power cut can bring about: the journal's removal is not waited for.
pub(super) fn harmless(set: &ModelSet, look: &Look, place: &JobDir) -> Result<Vec<Utf8PathBuf>> {
    let (destination, cache) = (place.destination(), place.cache());
    let mut paths = vec![cache.join(LOCK)];
    let of_nothing =
        |path: &Utf8PathBuf| path.extension() == Some("journal") && !journal::part_of(path).exists();
    paths.extend(files_below(&cache)?.into_iter().filter(of_nothing));
    if look.is_complete {
        paths.extend([destination.join(LOCK), destination.join(PROVEN)]);
        paths.extend(set.new.files.iter().map(|file| object(place, file)));
        paths.extend(files_below(&destination)?.into_iter().filter(of_nothing));
    }
    Ok(paths)
}

fn describe(path: &Utf8Path, bytes: &[u8], wanted: &File) -> String {
    let wrong = bytes.iter().zip(wanted.bytes.iter()).position(|(a, b)| a != b);
    format!(
        "{path} has {} of {} bytes, the first wrong one {}",
        bytes.len(),
        wanted.bytes.len(),
        wrong.map_or_else(|| "beyond them".to_owned(), |at| format!("at {at}"))
    )
}

fn is_there(file: &File, place: &JobDir) -> Result<bool> {
    let [home, _] = place.homes(file.path);
    let is_it =
        |path: Utf8PathBuf| Ok::<_, anyhow::Error>(read(&path)?.is_some_and(|bytes| bytes == *file.bytes));
    Ok(is_it(home)? || is_it(object(place, file))?)
}

/// Where a cache has the file's bytes.
fn object(place: &JobDir, file: &File) -> Utf8PathBuf {
    place.cache().join("sha256").join(&file.sha256[..2]).join(&file.sha256)
}

/// The marker (I2). Returns whether it vouches for all new files.
fn marker(set: &ModelSet, place: &JobDir, violations: &mut Vec<Violation>) -> Result<bool> {
    let mut right = BTreeSet::new();
    for entry in entries(&place.destination().join(MARKER))? {
        let path = place.destination().join(&entry.path);
        let bytes = read(&path)?;
        let wrong = match (set.find(&entry.path, &entry.sha256), bytes) {
            (None, _) => format!("it lists {entry:?}, which nobody asked for"),
            (Some(_), None) => format!("it lists {path}, which is not there"),
            (Some(file), Some(bytes)) if bytes != *file.bytes => {
                format!("it lists {}", describe(&path, &bytes, file))
            }
            (Some(file), Some(_)) => {
                right.insert(file.sha256.clone());
                continue;
            }
        };
        violations.push(Violation::Marker(wrong));
    }
    Ok(set.new.files.iter().all(|file| right.contains(&file.sha256)))
}

/// What a run that did not complete the set has written down: it counts where size and time are as it says.
fn proven(set: &ModelSet, place: &JobDir, violations: &mut Vec<Violation>) -> Result<()> {
    for entry in entries(&place.destination().join(PROVEN))? {
        let path = place.destination().join(&entry.path);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let counts = metadata.len() == entry.size && metadata.mtime() == entry.seconds;
        let is_right = || {
            let file = set.find(&entry.path, &entry.sha256);
            Ok::<_, anyhow::Error>(read(&path)?.zip(file).is_some_and(|(bytes, file)| bytes == *file.bytes))
        };
        if counts && !is_right()? {
            violations.push(Violation::Marker(format!("{PROVEN} lists {path}, which has other bytes")));
        }
    }
    Ok(())
}

/// What a marker says of a file.
#[derive(Debug)]
struct Entry {
    path: String,
    size: u64,
    seconds: i64,
    sha256: String,
}

/// The entries of a marker; none where it is not one, since then it counts as none.
fn entries(path: &Utf8Path) -> Result<Vec<Entry>> {
    let text = read(path)?.unwrap_or_default();
    let Ok(value) = serde_json::from_slice::<Value>(&text) else { return Ok(Vec::new()) };
    let files = value["files"].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |file: &Value| Entry {
        path: word(&file["path"]),
        size: file["size"].as_u64().unwrap_or_default(),
        seconds: file["mtime"][0].as_i64().unwrap_or_default(),
        sha256: word(&file["sha256"]),
    };
    Ok(files.iter().map(entry).collect())
}

/// A journal's claims (I3), and what of the part they prove.
fn journal(
    set: &ModelSet,
    path: &Utf8Path,
    after: After,
    held: &mut BTreeMap<String, u64>,
    violations: &mut Vec<Violation>,
) -> Result<()> {
    let part_path = journal::part_of(path);
    let (Some(text), Some(part)) = (read(path)?, read(&part_path)?) else { return Ok(()) };
    let Some((digest, records)) = journal::parse(&text) else { return Ok(()) };
    let file = set.new.files.iter().find(|file| file.sha256 == digest);
    for record in &records {
        if !record.durable && after == After::PowerCut {
            continue;
        }
        let range = record.start as usize..record.end as usize;
        let is_right = record.holds(&part)
            && file.is_some_and(|file| file.bytes.get(range.clone()) == part.get(range.clone()));
        if !is_right {
            violations.push(Violation::Journal(format!(
                "{path} says of {part_path} (now {} bytes): {record:?}",
                part.len()
            )));
        }
    }
    let most = held.entry(digest).or_default();
    *most = (*most).max(journal::held(&records, &part));
    Ok(())
}

/// The bytes of a file, `None` where there is none; through symlinks.
fn read(path: &Utf8Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("reading {path}")),
    }
}

/// Everything below that is no directory, sorted.
pub(super) fn files_below(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        if !directory.is_dir() {
            continue;
        }
        for entry in directory.read_dir_utf8().with_context(|| format!("listing {directory}"))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.into_path());
            } else {
                found.push(entry.into_path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The files below with their lengths, for a failure.
pub(super) fn listing(directory: &Utf8Path) -> String {
    let line = |path: &Utf8PathBuf| {
        let metadata = fs::symlink_metadata(path);
        let (size, time) = metadata.map_or((0, 0), |metadata| (metadata.len(), metadata.mtime()));
        format!("    {path}  {size} bytes, time {time}")
    };
    let found = files_below(directory).unwrap_or_default();
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, JobDir) {
        let scratch = tempfile::tempdir().unwrap();
        let place = JobDir::at(Utf8PathBuf::from_path_buf(scratch.path().to_owned()).unwrap());
        (scratch, place)
    }

    fn put(path: &Utf8Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_wrong_file_a_wrong_marker_and_a_wrong_journal_are_found() {
        let set = ModelSet::new();
        let (_scratch, place) = place();
        let file = &set.new.files[2];
        let sum = |look: &Look| look.violations.len();
        let see = |job, after| look(&set, job, &place, after).unwrap();
        assert_eq!(sum(&see(Job::Fetch, After::Death)), 0, "nothing is there");
        assert_eq!(see(Job::Fetch, After::Death).to_fetch, set.new.size());

        put(&place.homes(file.path)[0], &set.old.files[2].bytes);
        assert_eq!(sum(&see(Job::Replace, After::Death)), 0, "the old version");
        assert!(matches!(see(Job::Fetch, After::Death).violations[..], [Violation::FinalName(_)]));

        let entry = format!(
            r#"{{"version":1,"files":[{{"path":"{}","size":{},"mtime":[0,0],"sha256":"{}"}}]}}"#,
            file.path,
            file.bytes.len(),
            file.sha256
        );
        put(&place.destination().join(MARKER), entry.as_bytes());
        assert!(matches!(see(Job::Replace, After::Death).violations[..], [Violation::Marker(_)]));
        put(&place.homes(file.path)[0], &file.bytes);
        assert_eq!(sum(&see(Job::Fetch, After::Death)), 0, "now it is right");

        let other = &set.new.files[0];
        let sealed = |body: String| format!("{body} {:08x}\n", crc32fast::hash(body.as_bytes()));
        let crc = crc32fast::hash(&other.bytes[..100]);
        let head = sealed(format!("provision-journal 1 {} {}", other.sha256, other.bytes.len()));
        let stem = place.destination().join("loras/deep/.y.safetensors.00000000");
        let journal = |word: &str| head.clone() + &sealed(format!("{word} 0 100 {crc:08x}"));
        put(&stem.with_extension("00000000.part"), &other.bytes[..100]);
        put(&stem.with_extension("00000000.journal"), journal("durable").as_bytes());
        let held = see(Job::Fetch, After::PowerCut);
        assert_eq!((sum(&held), held.to_fetch), (0, set.new.size() - file.bytes.len() as u64 - 100));
        put(&stem.with_extension("00000000.part"), &other.bytes[..99]);
        assert!(matches!(see(Job::Fetch, After::PowerCut).violations[..], [Violation::Journal(_)]));
        put(&stem.with_extension("00000000.journal"), journal("written").as_bytes());
        assert_eq!(sum(&see(Job::Fetch, After::PowerCut)), 0, "it did not say that it is durable");
        assert_eq!(sum(&see(Job::Fetch, After::Death)), 1, "and a death loses nothing");
    }
}
