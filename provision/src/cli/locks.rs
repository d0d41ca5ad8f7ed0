//! Reads the locks of a run, each once, so that a later edit does not change the run.
//!
//! A lock is a file, standard input, or a text at an address (`remote`). Several locks are one set.

mod remote;

use std::fs::File;
use std::io::Read;

use camino::{Utf8Path, Utf8PathBuf};

use super::arguments::{Locks, LocksAndDestination};
use super::exit::{Code, Failure};
use provision_core::lockfile::{
    Lockfile, LockfileError, LockfileErrorKind, MAX_BYTES, Model, SelectError, Selection,
};
use provision_core::piece_list::DIRECTORY;
use provision_core::source_url::SourceUrl;
use provision_engine::piece_lists::ListPlaces;

pub use remote::Access;
use remote::{Kept, Remote};

/// The name of standard input.
const STDIN: &str = "-";

/// A lock's text with its name for messages.
#[derive(Debug)]
pub struct Text {
    name: String,
    /// The text as read, not parsed yet.
    written: String,
    /// It is from an address.
    is_remote: bool,
    /// The file to keep it in, if it was just fetched from an address.
    kept: Option<Kept>,
    /// The place of its piece lists; standard input has none.
    lists: Option<Lists>,
}

/// The place of a lock's piece lists.
#[derive(Debug, Clone)]
enum Lists {
    /// In a directory beside this lock.
    Beside(Utf8PathBuf),
    /// Below the same address as the lock.
    Below(SourceUrl),
}

/// The use of this machine by a source that only its user may allow, in words with the way out. The source is a file of
/// this machine, or a host that gets the name and the session of its keys.
fn of_this_machine(source: &SourceUrl) -> Option<&'static str> {
    if source.file().is_some() {
        return Some(
            "a directory of this machine, which a lock from an address may not; give the directory with --store",
        );
    }
    source.object()?.endpoint.as_ref()?;
    Some(
        "an endpoint of a bucket, which a lock from an address may not: your keys would sign for it; give the bucket with \
         --store, or the endpoint in AWS_ENDPOINT_URL_S3",
    )
}

/// The texts of a run's locks, in the given order.
#[derive(Debug)]
pub struct Texts(Vec<Text>);

impl Text {
    fn parse(&self) -> Result<Lockfile, Failure> {
        let lock = Lockfile::parse(&self.name, &self.written)?;
        let mut sources = lock.models().iter().flat_map(|model| &model.sources).filter(|_| self.is_remote);
        if let Some(what) = sources.find_map(of_this_machine) {
            let why = format!("the lock {} names {what}", self.name);
            return Err(Failure::new(Code::Lock, why));
        }
        Ok(lock)
    }

    /// Its name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directories of its piece lists: beside a symlink to a lock, and beside the lock itself.
    pub fn directories(&self) -> Vec<Utf8PathBuf> {
        let Some(Lists::Beside(lock)) = &self.lists else { return Vec::new() };
        let real = lock.canonicalize_utf8().unwrap_or_else(|_| lock.clone());
        let mut directories = vec![lock.with_file_name(DIRECTORY), real.with_file_name(DIRECTORY)];
        directories.dedup();
        directories
    }

    fn new(name: &str, bytes: Vec<u8>) -> Result<Self, Failure> {
        let written = String::from_utf8(bytes);
        let written = written.map_err(|_| LockfileError::of_file(name, LockfileErrorKind::NotText))?;
        Ok(Self { name: name.to_owned(), written, is_remote: false, kept: None, lists: None })
    }
}

impl Texts {
    /// Checks each lock, then joins them.
    pub fn join(&self) -> Result<Lockfile, Failure> {
        let parsed = self.0.iter().map(|text| Ok((text.name.clone(), text.parse()?)));
        Ok(Lockfile::join(parsed.collect::<Result<_, Failure>>()?)?)
    }

    /// Each lock on its own.
    pub fn separate(&self) -> Result<Vec<Lockfile>, Failure> {
        self.0.iter().map(Text::parse).collect()
    }

    /// The places of their piece lists.
    pub fn lists(&self) -> ListPlaces {
        let mut places = ListPlaces::default();
        for text in &self.0 {
            places.directories.extend(text.directories());
            places.directories.dedup();
            if let Some(Lists::Below(lock)) = &text.lists {
                places.locks.push(lock.clone());
            }
        }
        places
    }

    /// Each text.
    pub fn each(&self) -> &[Text] {
        &self.0
    }

    /// The texts as written.
    pub fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|text| text.written.as_str()).collect()
    }

    /// Keeps the texts that were fetched, so that the next start needs no network. A failure to keep one is only a
    /// warning.
    pub fn keep(&self, destination: &Utf8Path) {
        for text in &self.0 {
            if let Some(kept) = &text.kept {
                kept.write(destination, &text.name, &text.written);
            }
        }
    }
}

/// Reads and checks the lock at `path`; `-` is standard input. For commands that take one file.
pub fn read(path: &Utf8Path) -> Result<Lockfile, Failure> {
    if is_address(path.as_str()) {
        // The message does not repeat the address, which may be signed.
        let why = "--lock is an address, and this command takes a file; fetch it first, or give another lock";
        return Err(Failure::new(Code::Usage, why));
    }
    read_text(path)?.parse()
}

/// Reads the locks of a run; `default` is read if none was given.
pub fn read_all(
    place: &LocksAndDestination,
    default: &str,
    asking: &mut Access<'_>,
) -> Result<Texts, Failure> {
    read_locks(&place.locks, Some(&place.dest()), default, asking)
}

/// Reads `locks`. `destination` may have kept texts from an earlier run.
pub fn read_locks(
    locks: &Locks,
    destination: Option<&Utf8Path>,
    default: &str,
    asking: &mut Access<'_>,
) -> Result<Texts, Failure> {
    // All names are checked before the first lock is read.
    let sources = sources(locks, default)?;
    let read = |source| match source {
        Source::File(path) => read_text(&path),
        Source::Remote(remote) => remote.read(destination, asking),
    };
    sources.into_iter().map(read).collect::<Result<_, _>>().map(Texts)
}

/// The files of the destination that keep the texts of those of `locks` that are at an address.
pub fn kept_names(locks: &Locks) -> Result<Vec<String>, Failure> {
    let name = |source| match source {
        Source::Remote(remote) => Some(remote.kept().into_name()),
        Source::File(_) => None,
    };
    Ok(sources(locks, STDIN)?.into_iter().filter_map(name).collect())
}

/// The place of a lock.
enum Source {
    /// A path, or `-`.
    File(Utf8PathBuf),
    Remote(Remote),
}

/// Returns true if the text is an address; no path looks like one.
fn is_address(text: &str) -> bool {
    text.contains("://")
}

/// Checks that each lock is a file, for the files beside it.
pub fn need_files(locks: &Locks, instead: &str) -> Result<(), Failure> {
    if locks.lock.iter().any(|lock| lock == STDIN || is_address(lock)) {
        // The message does not repeat an address, which may be signed.
        let why =
            format!("--lock is an address or standard input; give the lock's file with --lock{instead}");
        return Err(Failure::new(Code::Usage, why));
    }
    Ok(())
}

fn sources(locks: &Locks, default: &str) -> Result<Vec<Source>, Failure> {
    let usage = |why: String| Failure::new(Code::Usage, why);
    if locks.lock.iter().filter(|lock| *lock == STDIN).count() > 1 {
        return Err(usage("--lock - reads standard input, which can be read once; give it once".to_owned()));
    }
    let mut pins = locks.lock_sha256.iter();
    let source = |lock: &String| {
        if !is_address(lock) {
            return Ok(Source::File(lock.into()));
        }
        Remote::new(lock, pins.next()).map(Source::Remote)
    };
    let mut sources = locks.lock.iter().map(source).collect::<Result<Vec<_>, _>>()?;
    let left = pins.len();
    if left > 0 {
        return Err(usage(format!(
            "--lock-sha256 (or PROVISION_LOCK_SHA256) is given {} times and {} of the locks are addresses; give it once \
             for each address, in their order",
            locks.lock_sha256.len(),
            locks.lock_sha256.len() - left
        )));
    }
    if sources.is_empty() {
        sources.push(Source::File(default.into()));
    }
    Ok(sources)
}

fn read_text(path: &Utf8Path) -> Result<Text, Failure> {
    let name = if path == STDIN { "standard input" } else { path.as_str() };
    let cannot = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "; give the lock's path with --lock",
            _ => "",
        };
        Failure::new(Code::Usage, format!("the lock {name} cannot be read: {error}{hint}"))
    };
    let too_large = || LockfileError::of_file(name, LockfileErrorKind::TooLarge);
    let mut bytes = Vec::new();
    let mut source: Box<dyn Read> = if path == STDIN {
        Box::new(std::io::stdin())
    } else {
        let file = File::open(path).map_err(cannot)?;
        // A file's size is checked before reading; the limit below covers pipes.
        if file.metadata().is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
            return Err(too_large().into());
        }
        Box::new(file)
    };
    source.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large().into());
    }
    let lists = (path != STDIN).then(|| Lists::Beside(path.to_owned()));
    Ok(Text { lists, ..Text::new(name, bytes)? })
}

/// The chosen models of `lock`.
pub fn select<'a>(lock: &'a Lockfile, selection: &Selection) -> Result<Vec<&'a Model>, Failure> {
    lock.select(selection).map_err(|error: SelectError| Failure::new(Code::Usage, error))
}

/// Checks that the destination is a directory or does not exist yet.
pub fn check_destination(place: &LocksAndDestination) -> Result<(), Failure> {
    let path = &place.dest();
    if path.as_str().is_empty() {
        return Err(Failure::new(Code::Usage, "--dest is empty; give the directory that the models go to"));
    }
    if path.exists() && !path.is_dir() {
        return Err(Failure::new(
            Code::Usage,
            format!("--dest {path} is not a directory; give one, or a path that does not exist yet"),
        ));
    }
    Ok(())
}
