//! `provision lock check --pieces`: lists, entries and files agree. No host is asked.

use std::collections::HashMap;
use std::sync::Arc;

use provision_core::event::Silent;
use provision_core::lockfile::Model;
use provision_core::terminal_text::TerminalText;
use provision_engine::inspect::{self, FileState};
use provision_lock::piece_files::{self, ListError};

use super::files::{FilesArgs, code_of, refusal};
use super::session::Failures;
use crate::cli::arguments::{Choice, Locks, threads};
use crate::cli::environment::Network;
use crate::cli::exit::{Code, Failure};
use crate::cli::{locks, tell, units};

/// Checks the lists of the chosen models: they are beside the lock, have the digests that it says, and describe the files, which are
/// read completely, by their pieces and as a whole.
pub(super) fn run(choice: &Choice, files: &FilesArgs, from: &Locks, default: &str) -> Result<(), Failure> {
    let texts = locks::read_locks(from, None, default, &mut locks::Access::with(&mut Network::default()))?;
    let lock = texts.join()?;
    let directories = texts.lists().directories;
    let models = locks::select(&lock, &choice.clone().into())?;
    let mut failures = Failures::default();
    let (mut listed, mut lists) = (Vec::new(), HashMap::new());
    for model in models {
        let Some(pin) = model.pieces else {
            tell(format_args!("no list      {}  {}", model.path, units::bytes(model.size)));
            continue;
        };
        match piece_files::find(&directories, model) {
            Ok(list) => {
                lists.insert(pin, Arc::new(list));
                listed.push(model);
            }
            Err(error) => {
                let (word, code) = match &error {
                    ListError::Missing => ("missing", Code::Integrity),
                    ListError::Unreadable(_) => ("unreadable", Code::Disk),
                    _ => ("differs", Code::Integrity),
                };
                tell(format_args!("{word:<11}  {}  {}", model.path, units::bytes(model.size)));
                failures.add(code, TerminalText(format_args!("{}: {}", model.path, refused(model, &error))));
            }
        }
    }
    let list_of = |model: &Model| lists.get(&model.pieces?).cloned();
    let (states, _) = files.open()?.read(&listed, |directory, models| {
        let states = inspect::hash(directory, models, threads(), &list_of, true, &Silent);
        let none = models.iter().map(|_| None).collect();
        (states, none)
    });
    for (model, state) in listed.into_iter().zip(&states) {
        let word = match state {
            FileState::Right(_) => "right",
            FileState::WrongList { .. } => "differs",
            FileState::Unreadable(_) => "unreadable",
            _ => "no file",
        };
        let pieces = list_of(model).map_or(0, |list| list.pieces().len());
        let size = units::bytes(model.size);
        tell(format_args!("{word:<11}  {}  {size}  {}", model.path, units::count(pieces, "piece")));
        if !state.is_right() {
            failures.add(code_of(state), refusal(model, state, "check again"));
        }
    }
    failures.conclude("not confirmed")
}

/// Why the list of `model` is not used, and the way out.
fn refused(model: &Model, error: &ListError) -> String {
    let pin = model.pieces.map(|pin| pin.to_string()).unwrap_or_default();
    let way_out = format!("`lock pieces {}` writes a right one", model.path);
    match error {
        ListError::OtherFile { .. } => format!(
            "the piece list of {} does not describe the file with SHA-256 {}: {error}; {way_out}",
            model.path, model.sha256
        ),
        ListError::Format(_) => format!("the lock's piece list {pin} is none: {error}; {way_out}"),
        _ => format!("its piece list {pin}: {error}; restore the file, or {way_out}"),
    }
}
