//! `clean`: lists the leftovers of earlier runs in a destination, asks, and removes them. No network.
//!
//! The question comes before the destination's lock is taken, so that no container start waits for an answer.

use camino::Utf8Path;

use super::arguments::CleanArgs;
use super::exit::{Code, Failure};
use super::locks::Access;
use super::{ask, environment, locks, print_line, say, units};
use provision_core::lockfile::Lockfile;
use provision_core::terminal_text::TerminalText;
use provision_disk::Acquire;
use provision_engine::leftovers::{self, Kind, Leftover, Scope};

/// Runs the command.
///
/// # Errors
/// The lock or the destination cannot be read, another run works in it, or there is no terminal for the question.
pub fn run(args: &CleanArgs, default_lock: &str) -> Result<(), Failure> {
    let at = args.place.with_installation()?;
    let (locks, kept) = (read_locks(args, default_lock)?, locks::kept_names(&args.place.locks)?);
    if locks.is_empty() && (args.unlisted || !args.gone.is_empty()) {
        let why = format!(
            "no lock says which files belong to {}: give --lock the lock of this directory",
            at.dest()
        );
        return Err(Failure::new(Code::Usage, why));
    }
    locks::check_destination(&at)?;
    let place = at.dest();
    let Some(destination) = at.open()? else {
        print_line(format_args!("there is no directory {place}: nothing is left over"));
        return Ok(());
    };
    let scope = Scope {
        kept: &kept,
        gone: &args.gone,
        unlisted: args.unlisted,
        everywhere: true,
        ..Scope::new(&locks, environment::now())
    };
    let found = leftovers::find(&destination, &scope)?;
    for error in &found.unread {
        say(format_args!("warning: not searched: {error}"));
    }
    for leftover in &found.found {
        print_line(line(leftover));
    }
    hints(args, &found);
    let sum = sum(&found.found);
    if found.found.is_empty() {
        print_line(format_args!("nothing to remove in {place}"));
        return Ok(());
    }
    if args.dry_run {
        print_line(format_args!("would remove {sum} in {place}"));
        return Ok(());
    }
    if !args.yes && !is_agreed(&format!("remove {sum} in {place}?"))? {
        print_line("nothing removed");
        return Ok(());
    }
    let _locks = match leftovers::lock(&destination, &scope)? {
        Acquire::Acquired(locks) => locks,
        Acquire::Held(holder) => {
            let why = format!("a run works in {place}: {holder}; wait for it to end, then repeat");
            return Err(Failure::new(Code::Busy, why));
        }
    };
    let removed = leftovers::remove(&destination, &scope, &found.found)?;
    for kept in found.found.iter().filter(|found| !removed.iter().any(|one| one.path == found.path)) {
        say(format_args!("warning: {} is in use or has changed, and stays", TerminalText(&kept.path)));
    }
    print_line(format_args!("removed {} in {place}", self::sum(&removed)));
    Ok(())
}

/// The locks, each on its own. None is no error if none was given: parts can be recognised without.
fn read_locks(args: &CleanArgs, default_lock: &str) -> Result<Vec<Lockfile>, Failure> {
    if args.place.locks.lock.is_empty() && !Utf8Path::new(default_lock).exists() {
        return Ok(Vec::new());
    }
    locks::read_all(&args.place, default_lock, &mut Access::Never)?.separate()
}

/// `part      vae/.x.safetensors.a70580f0.part  1.2 GB, the next fetch would resume it`
fn line(leftover: &Leftover) -> String {
    let (word, more) = match leftover.kind {
        Kind::Part { is_resumable: true } => ("part", ", the next fetch would resume it".to_owned()),
        Kind::Part { is_resumable: false } => ("part", String::new()),
        Kind::Lock => ("lock", ", kept text of a lock at another address".to_owned()),
        Kind::List => ("list", ", piece list of a file that is not installed any more".to_owned()),
        Kind::Marker { files: 0 } => ("marker", ", none of its files is left as it was".to_owned()),
        Kind::Marker { files } => ("marker", format!(", vouches for {}", units::count(files, "file"))),
        Kind::Unlisted => ("unlisted", String::new()),
    };
    format!("{word:<10} {}  {}{more}", TerminalText(&leftover.path), units::bytes(leftover.bytes))
}

/// The leftovers that the options leave, and the options that remove them.
fn hints(args: &CleanArgs, found: &leftovers::Leftovers) {
    for other in &found.others {
        say(format_args!(
            "{} vouches for {} of a lock that was not given, which stay; if that lock is gone, add --gone {}",
            &other.name,
            units::count(other.files, "file"),
            &other.name
        ));
    }
    let (files, bytes) = found.unlisted;
    if files > 0 && !args.unlisted {
        say(format_args!(
            "{}, {}, installed earlier, which no lock lists any more; --unlisted removes {} too",
            units::count(files, "file"),
            units::bytes(bytes),
            if files == 1 { "it" } else { "them" }
        ));
    }
    for path in &found.elsewhere {
        say(format_args!(
            "{} was installed earlier, and no lock given here lists it; it stays, because other programs may use its directory",
            TerminalText(path)
        ));
    }
}

fn sum(leftovers: &[Leftover]) -> String {
    let bytes: u64 = leftovers.iter().map(|one| one.bytes).sum();
    format!("{}, {}", units::count(leftovers.len(), "file"), units::bytes(bytes))
}

/// Asks on the terminal. Where there is none, the answer is an option.
fn is_agreed(question: &str) -> Result<bool, Failure> {
    let usage = |why: String| Failure::new(Code::Usage, why);
    let answer = ask(format_args!("{question} [y/N]"))
        .map_err(|error| usage(format!("no answer: {error}; add --yes to remove what is listed")))?
        .ok_or_else(|| usage("nothing removed: add --yes to remove what is listed".to_owned()))?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}
