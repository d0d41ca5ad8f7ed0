//! `verify`: hashes every file and lists the wrong ones, with the wrong ranges of files that have a piece list. No
//! marker vouches for them afterwards.
//!
//! With `--json`, standard output has
//!
//! ```json
//! {"version":1,"complete":false,"seconds":1.2,
//!  "files":[{"path":"vae/x","size":253806246,"right":true,"proven_by":"digest","wrong":[],"problem":null},
//!           {"path":"vae/y","size":20430698424,"right":false,"proven_by":null,"wrong":[[4194304,8388608]],"problem":"bytes …"}]}
//! ```
//!
//! `proven_by` is `pieces` or `digest`. `wrong` has the wrong ranges by the piece list: the first byte, and the first
//! byte behind it.

use std::sync::Arc;
use std::time::Instant;

use super::arguments::VerifyArgs;
use super::environment::Network;
use super::exit::{Code, Failure};
use super::locks::Access;
use super::output::escaped;
use super::progress::{Mode, Verbosity, Work};
use super::{draw, locks, print_line, say, units};
use provision_core::byte_range::ByteRange;
use provision_core::byte_size::ByteSize;
use provision_core::event::{Event, Observer};
use provision_core::lockfile::Model;
use provision_core::piece_list::VerifiedBy;
use provision_core::terminal_text::TerminalText;
use provision_disk::processors;
use provision_engine::inspect::{self, FileState};
use provision_engine::piece_lists::PieceLists;
use serde_json::json;

/// Wrong ranges that a message names.
const NAMED: usize = 3;

/// Says the warnings about lists.
struct Warnings;

impl Observer for Warnings {
    fn observe(&self, event: &Event) {
        if let Event::Warning { message } = event {
            say(TerminalText(format_args!("warning: {message}")));
        }
    }
}

/// Hashes the chosen files on all cores.
///
/// # Errors
/// [`Code::Integrity`] if a file is missing or wrong.
pub fn run(args: &VerifyArgs, default_lock: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let place = args.place.with_installation()?;
    let texts = locks::read_all(&place, default_lock, &mut Access::with(&mut Network::default()))?;
    let lock = texts.join()?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    locks::check_destination(&place)?;
    let mut distrusted = Ok(());
    let states = match place.open()?.map(Arc::new) {
        Some(destination) => {
            let lists = PieceLists::on_disk(&texts.lists(), Some(destination.clone()), Arc::new(Warnings));
            let list = |model: &Model| lists.of(model);
            let progress = draw(Mode::Auto, args.output.verbosity(), Work::Install);
            let mut states = inspect::hash(&destination, &models, processors(), &list, args.full, &*progress);
            progress.finish();
            distrusted = inspect::distrust(&destination, &models, &states);
            if args.full {
                let mistaken = lists.mistaken();
                let listed =
                    models.iter().zip(&mut states).filter(|(model, _)| mistaken.contains(&model.path));
                for (model, state) in listed.filter(|(_, state)| state.is_right()) {
                    *state = FileState::WrongList { found: model.sha256, wrong: Vec::new() };
                }
            }
            lists.warn();
            states
        }
        None => models.iter().map(|_| FileState::Missing).collect(),
    };
    let took = started.elapsed();
    if args.json {
        let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        print_line(escaped(&format!("{:#}", as_json(&models, &states, seconds))));
    } else {
        models.iter().zip(&states).for_each(|(model, state)| tell_state(args, model, state));
    }
    let wrong = states.iter().filter(|state| !state.is_right()).count();
    let bytes: u64 =
        models.iter().zip(&states).filter(|(_, c)| c.is_right()).map(|(model, _)| model.size).sum();
    let place = place.dest();
    if wrong == 0 {
        if args.output.verbosity() > Verbosity::Quiet {
            let rate = units::rate(bytes as f64 / took.as_secs_f64().max(0.001));
            say(format_args!(
                "verified: {}, {} in {place}, hashed in {} ({rate}){}",
                units::count(models.len(), "file"),
                units::bytes(bytes),
                units::duration(took),
                evidence(&states)
            ));
        }
        return Ok(());
    }
    let advice = match distrusted {
        Ok(()) => advice(&states),
        // Without the right to change anything here, a marker goes on vouching for wrong files.
        Err(error) => format!("fetch with --verify full to replace what is wrong ({})", error.reason()),
    };
    let unreadable = |state: &FileState| matches!(state, FileState::Unreadable(_) | FileState::Right(_));
    Err(Failure::new(
        // An unreadable file may be right.
        if states.iter().all(unreadable) { Code::Disk } else { Code::Integrity },
        format!(
            "{wrong} of {} in {place} not as the lock says; {advice}",
            units::count(models.len(), "file")
        ),
    ))
}

/// A line for a file that is wrong; with `--verbose` for every file.
fn tell_state(args: &VerifyArgs, model: &Model, state: &FileState) {
    match state {
        FileState::Right(hash) if args.output.verbosity() == Verbosity::Verbose => {
            let by = if hash.verified_by == VerifiedBy::Pieces { " (by its piece list)" } else { "" };
            print_line(format_args!("ok       {}{by}", model.path));
        }
        FileState::Right(_) => {}
        wrong => print_line(format_args!("wrong    {}: {}", model.path, describe(model, wrong))),
    }
}

/// The evidence for a right set, if it was not the digest of each file alone.
fn evidence(states: &[FileState]) -> String {
    let is_by_list = |state: &&FileState| matches!(state, FileState::Right(hash) if hash.verified_by == VerifiedBy::Pieces);
    match states.iter().filter(is_by_list).count() {
        0 => String::new(),
        all if all == states.len() => "; by piece lists".to_owned(),
        some => format!("; {some} of them by piece lists"),
    }
}

/// The advice for wrong files that no marker vouches for any more.
fn advice(states: &[FileState]) -> String {
    let count = |wanted: fn(&FileState) -> bool| states.iter().filter(|state| wanted(state)).count();
    let wrong = count(|state| !state.is_right());
    let lists = count(|state| matches!(state, FileState::WrongList { .. }));
    let stay = count(|state| !state.is_right() && !state.is_mended_by_fetch()) - lists;
    let mut ways = Vec::new();
    if wrong > lists {
        ways.push(match stay {
            0 => "the next fetch replaces what is wrong",
            _ if stay + lists == wrong => "a fetch cannot replace what is in the way or cannot be read",
            _ => "the next fetch replaces what is wrong, but not what is in the way or cannot be read",
        });
    }
    if lists > 0 {
        ways.push("the lock's author writes a right piece list with `lock pieces`");
    }
    ways.join("; ")
}

/// The problem of a model's file.
pub(super) fn describe(model: &Model, state: &FileState) -> String {
    match state {
        FileState::Right(_) => "right".to_owned(),
        FileState::Missing => "missing".to_owned(),
        FileState::WrongSize { found } => {
            let (found, size) = (ByteSize(*found).exact(), ByteSize(model.size).exact());
            format!("has {found}, the lock says {size}")
        }
        FileState::WrongDigest { found, .. } => {
            format!("has SHA-256 {found}, the lock says {}", model.sha256)
        }
        FileState::WrongPieces { wrong, .. } => ranges(wrong),
        FileState::WrongList { found, wrong } => {
            let why = match (&wrong[..], *found == model.sha256) {
                ([], true) => "it describes no such file".to_owned(),
                ([], false) => format!("by the list the file is right, and it has SHA-256 {found}"),
                (wrong, _) => format!("the file has this digest, and by the list {}", ranges(wrong)),
            };
            format!(
                "the piece list of {} does not describe the file with SHA-256 {}: {why}",
                model.path, model.sha256
            )
        }
        FileState::NotAFile(what) if state.is_mended_by_fetch() => format!("is {what} to no file"),
        FileState::NotAFile(what) => format!("is {what}, not a file: move it away"),
        FileState::Unreadable(error) => error.to_string(),
    }
}

/// The first of the wrong ranges, with their last bytes, and the number of the others.
fn ranges(wrong: &[ByteRange]) -> String {
    let named: Vec<_> =
        wrong.iter().take(NAMED).map(|range| format!("{} to {}", range.start, range.end - 1)).collect();
    let more = match wrong.len() - named.len() {
        0 => String::new(),
        more => format!(" and {}", units::count(more, "more range")),
    };
    format!("bytes {}{more} are wrong", named.join(", "))
}

fn as_json(models: &[&Model], states: &[FileState], seconds: f64) -> serde_json::Value {
    let file = |(model, state): (&&Model, &FileState)| {
        let (proven_by, problem) = match state {
            FileState::Right(hash) => (Some(hash.verified_by), None),
            wrong => (None, Some(describe(model, wrong))),
        };
        let wrong: &[ByteRange] = match state {
            FileState::WrongPieces { wrong, .. } | FileState::WrongList { wrong, .. } => wrong,
            _ => &[],
        };
        let wrong: Vec<_> = wrong.iter().map(|range| [range.start, range.end]).collect();
        json!({
            "path": model.path, "size": model.size, "right": state.is_right(), "proven_by": proven_by, "wrong": wrong,
            "problem": problem,
        })
    };
    let files: Vec<_> = models.iter().zip(states).map(file).collect();
    let complete = states.iter().all(FileState::is_right);
    json!({"version": 1, "complete": complete, "seconds": seconds, "files": files})
}
