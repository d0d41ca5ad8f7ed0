//! The invariants I1 to I3, checked on the files that a run leaves: by their known bytes, without the code under test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use super::job::{Job, JobDir};
use super::journal;
use super::models::{ModelFile, NEW, OLD};

/// The marker's default name.
const MARKER: &str = ".models-installed";
/// The files that an incomplete run has verified, in the marker's format.
const VERIFIED: &str = ".provision.journal";
/// Held while a run works in a directory.
const LOCK: &str = ".provision.lock";
/// The mtime of an installed file with this digest, in seconds since 1970.
fn installed_mtime(sha256: &str) -> i64 {
    let start = u32::from_str_radix(&sha256[..8], 16).unwrap_or_default();
    946_684_800 + 2 * i64::from(start % (1 << 27))
}

/// The end of the run that left the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The process died. The system keeps everything that was written.
    Death,
    /// Everything that was not durable may be lost.
    PowerCut,
}

// A violation begins with its invariant.
/// A file under its final name has other bytes than the lock's.
const I1: &str = "I1 broken";
/// The marker lists a file that is not there, or has other bytes.
pub(super) const I2: &str = "I2 broken";
/// The part does not have the bytes that the journal's records claim.
const I3: &str = "I3 broken";

/// The result of an inspection.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Each begins with its invariant.
    pub(super) violations: Vec<String>,
    /// Bytes that the next run may fetch, at most.
    pub(super) to_fetch: u64,
    /// The marker lists all new files.
    pub(super) is_complete: bool,
}

/// Checks all invariants.
pub(super) fn inspect(dir: &JobDir, after: After) -> Result<Findings> {
    let mut findings = Findings { violations: final_names(dir)?, ..Findings::default() };
    let listed = listed(dir, MARKER, &mut findings.violations)?;
    findings.is_complete = NEW.files.iter().all(|file| listed.contains(&file.sha256));
    self::listed(dir, VERIFIED, &mut findings.violations)?;
    let mut held = BTreeMap::new();
    for path in files_below(&dir.root)? {
        if path.file_name() != Some(VERIFIED) && path.extension() == Some("journal") {
            journal(&path, after, &mut held, &mut findings.violations)?;
        }
    }
    for file in &NEW.files {
        let [in_destination, _] = dir.final_names(file);
        if has_bytes(&in_destination, file)? || has_bytes(&dir.object(file), file)? {
            continue;
        }
        findings.to_fetch += match dir.job {
            // Every byte is on the machine already.
            Job::Ensure | Job::Symlink | Job::Link => 0,
            // The other pieces are in the part or in the old file, which has its name until then.
            Job::Update => file.changed(),
            _ => file.size() - held.get(&file.sha256).copied().unwrap_or(0),
        };
    }
    Ok(findings)
}

pub(super) fn ensure_none(violations: &[String]) -> Result<()> {
    ensure!(violations.is_empty(), "{}", violations.join("\n"));
    Ok(())
}

/// Checks I1 alone.
pub(super) fn ensure_final_names(dir: &JobDir) -> Result<()> {
    ensure_none(&final_names(dir)?)
}

fn final_names(dir: &JobDir) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    let may_be_old = matches!(dir.job, Job::Replace | Job::Update);
    for (new, old) in NEW.files.iter().zip(&OLD.files) {
        let [destination, layer] = dir.final_names(new);
        for (path, may_be_old) in [(destination, may_be_old), (layer, may_be_old), (dir.object(new), false)] {
            let Some(bytes) = read(&path)? else { continue };
            if bytes != new.bytes && !(may_be_old && bytes == old.bytes) {
                violations.push(format!("{I1}: {}", describe(&path, &bytes, new)));
            }
        }
    }
    Ok(violations)
}

/// Checks the directory after a run that succeeded: exact files with fixed metadata, a marker, and nothing left over.
/// The paths in `tolerated` may be there or not.
pub(super) fn ensure_complete(dir: &JobDir, tolerated: &[Utf8PathBuf]) -> Result<()> {
    let job = dir.job;
    let findings = inspect(dir, After::Death)?;
    ensure_none(&findings.violations)?;
    ensure!(findings.is_complete || job == Job::Layers, "there is no marker that lists all files");
    let mut expected = BTreeSet::new();
    for file in &NEW.files {
        let path = dir.final_name(file);
        let metadata = fs::symlink_metadata(&path).with_context(|| format!("{path} is not there"))?;
        if job != Job::Symlink {
            ensure!(metadata.is_file(), "{path} is no file");
            let (mode, time) = (metadata.mode() & 0o7777, metadata.mtime());
            let due = installed_mtime(&file.sha256);
            ensure!(mode == 0o644 && time == due, "{path} has mode {mode:o} and time {time}");
        }
        expected.insert(path);
        if matches!(job, Job::Cache | Job::Link) {
            expected.insert(dir.object(file));
        }
        if let Some((_, pin)) = file.list().filter(|_| job.has_lists()) {
            expected.insert(dir.kept_lists().join(pin));
        }
    }
    if job != Job::Layers {
        expected.insert(dir.destination().join(MARKER));
    }
    let found: BTreeSet<_> = files_below(&dir.root)?.into_iter().collect();
    let wrong: Vec<_> =
        expected.symmetric_difference(&found).filter(|path| !tolerated.contains(path)).collect();
    ensure!(wrong.is_empty(), "missing, or left over: {wrong:?}");
    Ok(())
}

/// Checks that exit code 0 came after everything was durable: each file under its final name only, and the marker.
pub(super) fn ensure_durable(dir: &JobDir) -> Result<()> {
    for file in &NEW.files {
        let path = dir.final_name(file);
        ensure!(has_bytes(&path, file)?, "{path} was not durable");
        let [in_destination, _] = dir.final_names(file);
        ensure!(path == in_destination || !in_destination.exists(), "{in_destination} is there again");
    }
    let is_complete = inspect(dir, After::PowerCut)?.is_complete;
    ensure!(is_complete || dir.job == Job::Layers, "the marker was not durable");
    Ok(())
}

/// The paths that the next run may leave as they are, because it has nothing to do there: a free lock, the record of
/// verified files beside a complete marker, kept piece lists of the version before, and the cache of a complete
/// destination.
///
/// A known gap is the journal of a file that was installed right before the end. It has no part. The next run does not
/// look at it in a cache, nor in a destination whose marker is complete; a power cut brings the latter about, since
/// the run does not wait for the removal of the journal.
pub(super) fn tolerated(findings: &Findings, dir: &JobDir) -> Result<Vec<Utf8PathBuf>> {
    let (destination, cache) = (dir.destination(), dir.cache());
    let has_no_part =
        |path: &Utf8PathBuf| path.extension() == Some("journal") && !journal::part_of(path).exists();
    let mut paths = vec![cache.join(LOCK)];
    paths.extend(files_below(&cache)?.into_iter().filter(has_no_part));
    if findings.is_complete {
        paths.extend([destination.join(LOCK), destination.join(VERIFIED)]);
        paths.extend(NEW.files.iter().map(|file| dir.object(file)));
        paths.extend(files_below(&dir.kept_lists())?);
        paths.extend(files_below(&destination)?.into_iter().filter(has_no_part));
    }
    Ok(paths)
}

fn describe(path: &Utf8Path, bytes: &[u8], wanted: &ModelFile) -> String {
    let (length, of) = (bytes.len(), wanted.bytes.len());
    let wrong = bytes.iter().zip(wanted.bytes.iter()).position(|(a, b)| a != b).unwrap_or(length.min(of));
    format!("{path} has {length} of {of} bytes, and the first wrong one is {wrong}")
}

fn has_bytes(path: &Utf8Path, file: &ModelFile) -> Result<bool> {
    Ok(read(path)?.is_some_and(|bytes| bytes == file.bytes))
}

#[derive(Deserialize)]
struct Marker {
    files: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    path: String,
    size: u64,
    /// Seconds and nanoseconds.
    mtime: (i64, u32),
    sha256: String,
}

/// Checks the entries of a marker (I2), and returns the digests of those that are right. A text that is not a marker
/// lists nothing. An entry of the record of verified files counts only if size and time are still the file's.
fn listed(dir: &JobDir, name: &str, violations: &mut Vec<String>) -> Result<BTreeSet<String>> {
    let text = read(&dir.destination().join(name))?.unwrap_or_default();
    let mut digests = BTreeSet::new();
    for entry in serde_json::from_slice::<Marker>(&text).map(|marker| marker.files).unwrap_or_default() {
        let path = dir.destination().join(&entry.path);
        let is_entry_of = |found: fs::Metadata| found.len() == entry.size && found.mtime() == entry.mtime.0;
        if name == VERIFIED && !fs::metadata(&path).is_ok_and(is_entry_of) {
            continue;
        }
        let file = [&NEW, &OLD].into_iter().find_map(|version| version.find(&entry.path, &entry.sha256));
        let wrong = match (file, read(&path)?) {
            (Some(file), Some(bytes)) if bytes == file.bytes => {
                digests.insert(entry.sha256);
                continue;
            }
            (Some(file), Some(bytes)) => describe(&path, &bytes, file),
            (Some(_), None) => format!("{path}, which is not there"),
            (None, _) => format!("{entry:?}, which is in no lock"),
        };
        violations.push(format!("{I2}: {name} lists {wrong}"));
    }
    Ok(digests)
}

/// Checks the records of a journal (I3), and adds to `held` how many bytes of a digest they hold.
fn journal(
    path: &Utf8Path,
    after: After,
    held: &mut BTreeMap<String, u64>,
    violations: &mut Vec<String>,
) -> Result<()> {
    let part_path = journal::part_of(path);
    let (Some(text), Some(part)) = (read(path)?, read(&part_path)?) else { return Ok(()) };
    let Some((digest, records)) = journal::parse(&text) else { return Ok(()) };
    let file = NEW.files.iter().find(|file| file.sha256 == digest);
    for record in records.iter().filter(|record| record.durable || after == After::Death) {
        let range = record.start as usize..record.end as usize;
        let is_right = |file: &ModelFile| file.bytes.get(range.clone()) == part.get(range.clone());
        if !record.holds(&part) || !file.is_some_and(is_right) {
            let length = part.len();
            violations.push(format!("{I3}: {path} says of {part_path} (now {length} bytes): {record:?}"));
        }
    }
    let most = held.entry(digest).or_default();
    *most = (*most).max(journal::held(&records, &part));
    Ok(())
}

/// The bytes of a file, through symlinks; `None` if there is no file.
fn read(path: &Utf8Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        bytes => bytes.map(Some).with_context(|| format!("reading {path}")),
    }
}

/// Everything below that is not a directory, sorted.
fn files_below(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        if !directory.is_dir() {
            continue;
        }
        for entry in directory.read_dir_utf8().with_context(|| format!("listing {directory}"))? {
            let entry = entry?;
            let list = if entry.file_type()?.is_dir() { &mut open } else { &mut found };
            list.push(entry.into_path());
        }
    }
    found.sort();
    Ok(found)
}

/// The files below with their lengths and times, for a failure.
pub(super) fn listing(directory: &Utf8Path) -> String {
    let line = |path: &Utf8PathBuf| {
        let facts = fs::symlink_metadata(path).map(|found| (found.len(), found.mtime()));
        let (size, time) = facts.unwrap_or_default();
        format!("    {path}  {size} bytes, time {time}")
    };
    files_below(directory).unwrap_or_default().iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Utf8Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn wrong_files_markers_and_journals_are_found() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let dir = |job| JobDir { job, root: root.to_owned() };
        let file = &NEW.files[2];
        let (name, marker) =
            (dir(Job::Fetch).final_names(file)[0].clone(), dir(Job::Fetch).destination().join(MARKER));
        let sum = |found: &Findings| found.violations.len();
        let breaks =
            |found: &Findings, invariant| sum(found) == 1 && found.violations[0].starts_with(invariant);
        let check = |job, after| inspect(&dir(job), after).unwrap();
        assert_eq!(sum(&check(Job::Fetch, After::Death)), 0, "nothing is there");
        assert_eq!(check(Job::Fetch, After::Death).to_fetch, NEW.size());

        put(&name, &OLD.files[2].bytes);
        assert_eq!(sum(&check(Job::Replace, After::Death)), 0, "the old version");
        assert!(breaks(&check(Job::Fetch, After::Death), I1));

        let entry = format!(
            r#"{{"version":1,"files":[{{"path":"{}","size":{},"mtime":[0,0],"sha256":"{}"}}]}}"#,
            file.path,
            file.bytes.len(),
            file.sha256
        );
        put(&marker, entry.as_bytes());
        assert!(breaks(&check(Job::Replace, After::Death), I2));
        put(&name, &file.bytes);
        assert_eq!(sum(&check(Job::Fetch, After::Death)), 0, "now it is right");

        let other = &NEW.files[0];
        let sealed = |body: String| format!("{body} {:08x}\n", crc32fast::hash(body.as_bytes()));
        let crc = crc32fast::hash(&other.bytes[..100]);
        let head = sealed(format!("provision-journal 1 {} {}", other.sha256, other.bytes.len()));
        let stem = dir(Job::Fetch).destination().join("loras/deep/.y.safetensors.00000000");
        let journal = |word: &str| head.clone() + &sealed(format!("{word} 0 100 {crc:08x}"));
        put(&stem.with_extension("00000000.part"), &other.bytes[..100]);
        put(&stem.with_extension("00000000.journal"), journal("durable").as_bytes());
        let held = check(Job::Fetch, After::PowerCut);
        assert_eq!((sum(&held), held.to_fetch), (0, NEW.size() - file.bytes.len() as u64 - 100));
        put(&stem.with_extension("00000000.part"), &other.bytes[..99]);
        assert!(breaks(&check(Job::Fetch, After::PowerCut), I3));
        put(&stem.with_extension("00000000.journal"), journal("written").as_bytes());
        assert_eq!(sum(&check(Job::Fetch, After::PowerCut)), 0, "a written record promises nothing");
        assert_eq!(sum(&check(Job::Fetch, After::Death)), 1, "a death loses nothing");
    }
}
