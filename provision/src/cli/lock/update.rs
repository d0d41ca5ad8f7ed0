//! `provision lock update`.

use crate::cli::arguments::{Choice, Patience};
use crate::cli::exit::{Code, Failure};
use crate::cli::locks;
use crate::cli::print_line;
use camino::Utf8Path;
use clap::Args;
use provision_core::lockfile::Model;
use provision_core::terminal_text::TerminalText;
use provision_lock::edit::Outcome;
use provision_lock::entry::Entry;
use provision_lock::entry_builder::{EntryError, Followed};
use provision_lock::file::edit;
use provision_lock::source::Source;

use super::session::{Failures, HostSession, Parts, code_of_entry};
use super::{EditFailure, LockFile, write};

/// Options of `lock update`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpdateArgs {
    /// The models.
    #[command(flatten)]
    choice: Choice,
    /// Only say what would change; nothing is downloaded
    #[arg(long, env = "PROVISION_DRY_RUN", value_parser = clap::builder::FalseyValueParser::new())]
    dry_run: bool,
    /// The directory for bytes that must be read.
    #[command(flatten)]
    parts: Parts,
    /// The patience with hosts.
    #[command(flatten)]
    patience: Patience,
    /// The lock.
    #[command(flatten)]
    file: LockFile,
}

/// The source that a model's entry follows.
enum Origin {
    Source(Source),
    /// None: its address names these bytes for ever.
    Pinned,
    /// None that a host has a name for.
    Plain,
}

fn origin(model: &Model, is_named: bool) -> Result<Origin, Failure> {
    let by_address = Source::of_url(&model.sources[0]);
    let Some(text) = &model.source else {
        return Ok(match by_address {
            source if source.is_pinned() => Origin::Pinned,
            Source::Url(_) if !is_named => Origin::Plain,
            source => Origin::Source(source),
        });
    };
    let source: Source = text.parse().map_err(|error| {
        Failure::new(Code::Usage, format!("{}: its `source` in the lock is invalid: {error}", model.path))
    })?;
    // A moving source can be written by hand the same way.
    Ok(if source.is_pinned() && source == by_address { Origin::Pinned } else { Origin::Source(source) })
}

pub(crate) fn run(args: &UpdateArgs, default: &str) -> Result<(), Failure> {
    let path = args.file.writable(default)?;
    let lock = locks::read(&path)?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    let session = HostSession::start(args.patience)?;
    // The lock already accepted it.
    let mut builder = session.builder(&args.parts, true)?;
    let mut failures = Failures::default();
    let mut changed: Vec<(Entry, Entry)> = Vec::new();
    let is_named = !args.choice.models.is_empty();
    for model in models {
        let source = match origin(model, is_named) {
            Ok(Origin::Source(source)) => source,
            Ok(Origin::Pinned) => {
                print_line(format_args!("pinned     {}", model.path));
                continue;
            }
            Ok(Origin::Plain) => {
                print_line(format_args!(
                    "plain      {}  a URL without branch or tag; name the model to read it again",
                    model.path
                ));
                continue;
            }
            Err(failure) => {
                failures.add(failure.code, failure.message);
                continue;
            }
        };
        let before = Entry::from(model);
        if args.dry_run {
            match session.wait_for(builder.ask_again(&before, &source, is_named)) {
                Ok(Followed::Unchanged) => write::report(&before, &Outcome::Unchanged, true),
                Ok(Followed::Changed(now)) => write::report(&now, &Outcome::Updated(Box::new(before)), true),
                Ok(Followed::Unread(found)) => write::report_unread(&before.path, found.size, &source),
                Err(error) => fail(&mut failures, model, &error),
            }
            continue;
        }
        let read = builder.reader.files_read();
        match session.wait_for(builder.follow(&before, &source, is_named)) {
            Ok(Some(now)) => changed.push((before, now)),
            Ok(None) => write::report(&before, &Outcome::Unchanged, false),
            Err(error) => fail(&mut failures, model, &error),
        }
        // Written at once: its bytes have been read, and the next result may take hours.
        if builder.reader.files_read() > read && !put(&path, &std::mem::take(&mut changed), &mut failures) {
            break;
        }
    }
    put(&path, &changed, &mut failures);
    failures.conclude("not updated")
}

fn fail(failures: &mut Failures, model: &Model, error: &EntryError) {
    let told = format_args!("{}: {error}", model.path);
    failures.add_of_host(code_of_entry(error), &model.path, error.silence(), TerminalText(told));
}

/// Replaces the entries of models, prints the changes, and returns false if the lock could not be written. That is one
/// of the failures; the others are printed, too.
fn put(path: &Utf8Path, changed: &[(Entry, Entry)], failures: &mut Failures) -> bool {
    if changed.is_empty() {
        return true;
    }
    let edited = edit::<_, EditFailure>(path, write::lock_wait(), |document| {
        let is_as_read = |(before, _): &&(Entry, Entry)| document.get(&before.path).as_ref() == Some(before);
        let (ours, others): (Vec<_>, Vec<_>) = changed.iter().partition(is_as_read);
        // All at once: each change parses the whole lock.
        document.put_all(&ours.iter().map(|(_, now)| now.clone()).collect::<Vec<_>>())?;
        Ok((
            ours.into_iter().cloned().collect::<Vec<_>>(),
            others.into_iter().map(|(before, _)| before.path.clone()).collect::<Vec<_>>(),
        ))
    });
    let (ours, others) = match edited {
        Ok(edited) => edited.value,
        Err(EditFailure(failure)) => {
            failures.add(failure.code, failure.message);
            return false;
        }
    };
    for (before, now) in ours {
        write::report(&now, &Outcome::Updated(Box::new(before)), false);
    }
    for path in others {
        failures.add(
            Code::Busy,
            format!("{path} was changed in the lock by another program meanwhile; run again"),
        );
    }
    true
}
