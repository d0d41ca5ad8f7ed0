//! `provision lock pieces`: the piece lists of installed or cached files, written beside the lock.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camino::Utf8Path;
use clap::Args;
use clap::builder::FalseyValueParser;
use provision_core::digest::Sha256;
use provision_core::lockfile::{Lockfile, Model};
use provision_core::model_path::ModelPath;
use provision_core::piece_list::{DIRECTORY, PieceList};
use provision_core::terminal_text::TerminalText;
use provision_disk::processors;
use provision_engine::piece_lists::{self, make::make};
use provision_lock::edit::Document;
use provision_lock::entry::Entry;
use provision_lock::file::edit;
use provision_lock::piece_files;

use super::local_files::{Files, FilesArgs, code_of, refusal};
use super::session::Failures;
use super::{EditFailure, LockFile, write};
use crate::cli::arguments::Choice;
use crate::cli::exit::{Code, Failure};
use crate::cli::{environment, locks, print_line, say, units};

/// The time for which a list without a lock may be that of another command, which names it next.
const NEW: Duration = Duration::from_mins(10);

/// The reason that a list is removed.
const UNNAMED: &str = "no *.lock or *.toml beside it names it";

/// The digits of a list's name that a line shows.
const SHOWN: usize = 8;

/// Options of `lock pieces`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PiecesArgs {
    /// The models.
    #[command(flatten)]
    choice: Choice,
    /// Only say what would be written; the files are read
    #[arg(long, env = "PROVISION_DRY_RUN", value_parser = FalseyValueParser::new())]
    dry_run: bool,
    /// The location of the files.
    #[command(flatten)]
    files: FilesArgs,
    /// The lock.
    #[command(flatten)]
    file: LockFile,
}

/// A verified file, and the digest and number of pieces of its list. A file of one piece has none.
struct Listed<'m> {
    model: &'m Model,
    list: Option<(Sha256, usize)>,
    /// The lock or the directory of lists changes.
    is_new: bool,
}

pub(crate) fn run(args: &PiecesArgs, default: &str) -> Result<(), Failure> {
    let path = args.file.writable(default)?;
    let lock = locks::read(&path)?;
    super::current(&path)?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    let mut failures = Failures::default();
    let files = args.files.open()?;
    let (states, lists) = files.read(&models, !args.dry_run, |directory, models, observer| {
        make(directory, models, processors(), observer)
    });
    let mut listed = Vec::new();
    for ((model, state), list) in models.into_iter().zip(&states).zip(lists) {
        match list {
            Some(list) => {
                let pieces = list.pieces().len();
                let bytes = list.write();
                listed.extend(put(
                    &path,
                    model,
                    bytes.map(|bytes| (bytes, pieces)),
                    args.dry_run,
                    &mut failures,
                ));
            }
            None => failures.add(code_of(state), refusal(model, state, !args.dry_run, "this again")),
        }
    }
    record(&path, &lock, &listed, args.dry_run, &mut failures);
    if !args.dry_run {
        clean(&path);
    }
    failures.conclude("no piece list")
}

/// Writes the lists of those of `paths` whose bytes passed, which are `made`, or are on this machine, after they were
/// added to the lock.
pub(super) fn by_product<'p>(
    path: &Utf8Path,
    paths: impl Iterator<Item = &'p ModelPath>,
    made: Vec<PieceList>,
    files: &FilesArgs,
    failures: &mut Failures,
) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let lock = locks::read(path)?;
    let paths: Vec<_> = paths.collect();
    let models: Vec<_> = lock.models().iter().filter(|model| paths.contains(&&model.path)).collect();
    let mut made: HashMap<_, _> = made.into_iter().map(|list| (list.file(), list)).collect();
    let unread: Vec<_> = models.iter().copied().filter(|model| !made.contains_key(&model.sha256)).collect();
    let files: Files = files.open()?;
    let (_, read) = files
        .read(&unread, true, |directory, models, observer| make(directory, models, processors(), observer));
    let read = unread.iter().zip(read).filter_map(|(model, list)| Some((model.sha256, list?)));
    made.extend(read);
    let mut listed = Vec::new();
    for model in models {
        match made.get(&model.sha256) {
            Some(list) => {
                let pieces = list.pieces().len();
                let bytes = list.write().map(|bytes| (bytes, pieces));
                listed.extend(put(path, model, bytes, false, failures));
            }
            None => say(format_args!(
                "note: {0} has no piece list yet, because its bytes are not on this machine; `lock pieces {0}` writes it after the \
                 next fetch",
                model.path
            )),
        }
    }
    record(path, &lock, &listed, false, failures);
    Ok(())
}

/// Writes a model's list beside the lock. `None` if that failed.
fn put<'m>(
    lock: &Utf8Path,
    model: &'m Model,
    list: Option<(Vec<u8>, usize)>,
    is_dry_run: bool,
    failures: &mut Failures,
) -> Option<Listed<'m>> {
    let Some((bytes, pieces)) = list else {
        return Some(Listed { model, list: None, is_new: model.pieces.is_some() });
    };
    let digest = Sha256::of(&bytes);
    let (directory, pinned) = (piece_files::directory_of(lock), model.pieces == Some(digest));
    let written = if is_dry_run {
        let there = piece_lists::find(&directory, &Model { pieces: Some(digest), ..model.clone() });
        Ok(there.is_err())
    } else {
        piece_files::write(&directory, &digest, &bytes, pinned)
    };
    match written {
        Ok(is_new) => Some(Listed { model, list: Some((digest, pieces)), is_new: is_new || !pinned }),
        Err(error) => {
            let path = piece_files::directory_of(lock).join(digest.to_string());
            failures.add(
                Code::Disk,
                format_args!("{}: {path} cannot be written: {error}; correct that and run again", model.path),
            );
            None
        }
    }
}

/// Puts the digests of lists that are beside the lock into it, by one edit, and prints a line for each model.
fn record(
    path: &Utf8Path,
    lock: &Lockfile,
    listed: &[Listed<'_>],
    is_dry_run: bool,
    failures: &mut Failures,
) {
    let is_listed = |lock: &Lockfile| lock.models().iter().any(|model| model.pieces.is_some());
    let mut is_first = !is_listed(lock) && listed.iter().any(|listed| listed.list.is_some());
    let mut others = Vec::new();
    if !is_dry_run {
        let edited = edit::<_, EditFailure>(path, write::lock_wait(), |document: &mut Document| {
            let had = is_listed(document.lock());
            let (mut entries, mut others) = (Vec::new(), Vec::new());
            for Listed { model, list, .. } in listed {
                let entry = document.get(&model.path);
                match entry.filter(|entry| (entry.size, entry.sha256) == (model.size, model.sha256)) {
                    Some(entry) => entries.push(Entry { pieces: list.map(|(digest, _)| digest), ..entry }),
                    None => others.push(model.path.clone()),
                }
            }
            document.put_all(&entries)?;
            Ok((others, !had && is_listed(document.lock())))
        });
        match edited {
            Ok(edited) => (others, is_first) = edited.value,
            Err(EditFailure(failure)) => return failures.add(failure.code, failure.message),
        }
    }
    for listed in listed.iter().filter(|listed| !others.contains(&listed.model.path)) {
        report(listed, is_dry_run);
    }
    for path in others {
        let why = format!("{path} was changed in the lock by another program meanwhile; run again");
        failures.add(Code::Busy, why);
    }
    if is_first {
        let verb = if is_dry_run { "would be" } else { "are" };
        say(format_args!(
            "note: these {verb} the first piece lists of {path}. Programs from before piece lists cannot read it (exit 3): update \
             them first. Commit {DIRECTORY} with the lock"
        ));
    }
}

fn report(Listed { model, list, is_new }: &Listed<'_>, is_dry_run: bool) {
    let size = units::bytes(model.size);
    // The widths of the other verbs that write a lock.
    let width = if is_dry_run { 12 } else { 9 };
    let Some((digest, pieces)) = list else {
        let end = if *is_new { "; its list is not needed, and leaves the lock" } else { "" };
        return print_line(format_args!("{:<width$}  {}  {size}{end}", "one piece", model.path));
    };
    let verb = match (is_new, is_dry_run) {
        (false, _) => "unchanged",
        (true, true) => "would write",
        (true, false) => "written",
    };
    let (pieces, digest) = (units::count(*pieces, "piece"), digest.to_string());
    let list = format_args!("{DIRECTORY}/{}…", &digest[..SHOWN]);
    print_line(format_args!("{verb:<width$}  {}  {size}  {pieces}  {list}", model.path));
}

/// Removes lists that no lock names any more.
fn clean(lock: &Utf8Path) {
    let now = UNIX_EPOCH + Duration::from_secs(environment::now().unsigned_abs());
    let before: SystemTime = now - NEW;
    let stay = |why: &dyn std::fmt::Display| {
        let directory = piece_files::directory_of(lock);
        say(TerminalText(format_args!("note: lists that no lock names stay in {directory}: {why}")));
    };
    match piece_files::unnamed(lock, before) {
        Ok(unnamed) => unnamed.iter().for_each(|path| match std::fs::remove_file(path) {
            Ok(()) => print_line(TerminalText(format_args!("removed    {path}  {UNNAMED}"))),
            Err(error) => stay(&error),
        }),
        Err(error) => stay(&error),
    }
}
