//! `cache list` and `cache prune`.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::arguments::{CacheArgs, CacheBounds, CacheCommand, CachePlace};
use super::environment::Network;
use super::exit::{Code, Failure};
use super::locks::Access;
use super::{environment, locks, print_line, say, units};
use provision_core::lockfile::Lockfile;
use provision_disk::{Acquire, DestinationLock};
use provision_engine::cache::{Bounds, Cache, Entry};

/// Runs the command.
///
/// # Errors
/// The cache cannot be read, or a run is fetching into it and nothing may be removed.
pub fn run(args: &CacheArgs, default_lock: &str) -> Result<(), Failure> {
    match &args.command {
        CacheCommand::List(place) => list(place, default_lock),
        CacheCommand::Prune { place, bounds, dry_run } => prune(place, bounds, *dry_run, default_lock),
    }
}

/// The cache that is meant: the option's, else the user's.
fn path_of(place: &CachePlace) -> Result<Utf8PathBuf, Failure> {
    place.cache.clone().or_else(environment::user_cache).ok_or_else(|| {
        let why = "there is no HOME, and so no cache of the user's: give --cache DIR";
        Failure::new(Code::Usage, why)
    })
}

fn list(place: &CachePlace, default_lock: &str) -> Result<(), Failure> {
    let path = path_of(place)?;
    let Some(cache) = Cache::open_existing(&path)? else {
        print_line(format_args!("there is no cache at {path}"));
        return Ok(());
    };
    let (entries, names) = (cache.entries()?, Names::of(place, default_lock)?);
    for entry in &entries {
        print_line(line("", entry, &names));
    }
    print_line(format_args!("{} in {path}", sum(&entries)));
    Ok(())
}

fn prune(place: &CachePlace, bounds: &CacheBounds, dry_run: bool, default_lock: &str) -> Result<(), Failure> {
    let path = path_of(place)?;
    let Some(cache) = Cache::open_existing(&path)? else {
        say(format_args!("there is no cache at {path}: nothing to remove"));
        return Ok(());
    };
    let names = Names::of(place, default_lock)?;
    let limits = Bounds {
        bytes: if bounds.all { Some(0) } else { bounds.max_size },
        used_since: bounds
            .unused_for
            .map(|age| environment::now() - i64::try_from(age.as_secs()).unwrap_or(i64::MAX)),
    };
    let removed = if dry_run {
        cache.excess(limits)?
    } else {
        // A running fetch uses its parts: nothing may be removed under it.
        let _lock = match DestinationLock::try_acquire(cache.place())? {
            Acquire::Acquired(lock) => lock,
            Acquire::Held(holder) => {
                let why = format!("a run is fetching into this cache: {holder}; wait for it to end");
                return Err(Failure::new(Code::Busy, why));
            }
        };
        cache.prune(limits)?
    };
    let verb = if dry_run { "would remove " } else { "removed " };
    for entry in &removed {
        print_line(line(verb, entry, &names));
    }
    print_line(format_args!("{verb}{}; {} left in {path}", sum(&removed), left(&cache, &removed, dry_run)?));
    Ok(())
}

fn left(cache: &Cache, removed: &[Entry], dry_run: bool) -> Result<String, Failure> {
    let gone = |entry: &Entry| dry_run && removed.contains(entry);
    let entries: Vec<Entry> = cache.entries()?.into_iter().filter(|entry| !gone(entry)).collect();
    Ok(sum(&entries))
}

/// `a70580f0213e  254 MB, used 2 d 03 h ago: vae/x.safetensors`
fn line(verb: &str, entry: &Entry, names: &Names) -> String {
    let age = u64::try_from(environment::now() - entry.used).unwrap_or(0);
    let digest = &entry.sha256.to_string()[..12];
    let mut line = format!(
        "{verb}{digest}  {}, used {} ago",
        units::bytes(entry.bytes),
        units::duration(Duration::from_secs(age))
    );
    if entry.is_partial {
        line += ", partial";
    }
    if entry.links > 0 {
        line = format!("{line}, also {} elsewhere", units::count(entry.links as usize, "name"));
    }
    let known = names.of_entry(entry);
    if known.is_empty() { line } else { format!("{line}: {}", known.join(", ")) }
}

fn sum(entries: &[Entry]) -> String {
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    format!("{}, {}", units::count(entries.len(), "file"), units::bytes(bytes))
}

/// The names that locks give to the files of a cache.
struct Names(Option<Lockfile>);

impl Names {
    /// Names only make the list easier to read: a missing default lock is no error.
    fn of(place: &CachePlace, default_lock: &str) -> Result<Self, Failure> {
        if place.locks.lock.is_empty() && !Utf8Path::new(default_lock).exists() {
            return Ok(Self(None));
        }
        let mut network = Network::default();
        let texts = locks::read_locks(&place.locks, None, default_lock, &mut Access::with(&mut network))?;
        Ok(Self(Some(texts.join()?)))
    }

    fn of_entry(&self, entry: &Entry) -> Vec<&str> {
        let models = self.0.iter().flat_map(Lockfile::models);
        models.filter(|model| model.sha256 == entry.sha256).map(|model| model.path.as_str()).collect()
    }
}
