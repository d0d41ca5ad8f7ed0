//! `provision lock check --pieces`: lists, entries and files agree. No host is asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use camino::Utf8PathBuf;
use provision_core::lockfile::Model;
use provision_core::model_path::ModelPath;
use provision_core::piece_list::PieceList;
use provision_disk::processors;
use provision_engine::inspect::{self, FileState};
use provision_engine::piece_lists::{self, ListError};

use super::local_files::{FilesArgs, code_of, refusal};
use super::session::Failures;
use crate::cli::arguments::{Choice, Locks};
use crate::cli::exit::{Code, Failure};
use crate::cli::{locks, print_line, units};

/// Checks the lists of the chosen models: they are beside the lock, have the digests that it says, and describe the
/// files. The files are read completely, by their pieces and as a whole. Each of several locks has its own.
pub(super) fn run(choice: &Choice, files: &FilesArgs, from: &Locks, default: &str) -> Result<(), Failure> {
    locks::need_files(from, ", or run `verify --full`, which has the lists that the destination keeps")?;
    let texts = locks::read_locks(from, None, default, &mut locks::Access::Never)?;
    let (lock, each) = (texts.join()?, texts.separate()?);
    let models = locks::select(&lock, &choice.clone().into())?;
    for model in models.iter().filter(|model| model.pieces.is_none()) {
        print_line(format_args!("no list      {}  {}", model.path, units::bytes(model.size)));
    }
    let paths: HashSet<&ModelPath> = models.iter().map(|model| &model.path).collect();
    let mut failures = Failures::default();
    let (mut listed, mut seen, mut lists) = (Vec::new(), HashSet::new(), HashMap::new());
    for (text, lock) in texts.each().iter().zip(&each) {
        let directories = text.directories();
        for model in lock.models().iter().filter(|model| paths.contains(&model.path)) {
            let Some(pin) = model.pieces else { continue };
            match find(&directories, model) {
                Ok(list) => {
                    if seen.insert((&model.path, pin)) {
                        listed.push(model);
                    }
                    // By the digest alone: a cached file has another path.
                    lists.insert(pin, Arc::new(list));
                }
                Err(error) => {
                    let (word, code) = match &error {
                        ListError::Missing => ("missing", Code::Integrity),
                        ListError::Unreadable(_) => ("unreadable", Code::Disk),
                        _ => ("differs", Code::Integrity),
                    };
                    print_line(format_args!("{word:<11}  {}  {}", model.path, units::bytes(model.size)));
                    let of_lock = if each.len() > 1 { format!("{}: ", text.name()) } else { String::new() };
                    let why = refused(model, &error);
                    failures.add(code, format_args!("{of_lock}{}: {why}", model.path));
                }
            }
        }
    }
    let list_of = |model: &Model| lists.get(&model.pieces?).cloned();
    let (states, _) = files.open()?.read(&listed, false, |directory, models, observer| {
        let states = inspect::hash(directory, models, processors(), &list_of, true, observer);
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
        print_line(format_args!("{word:<11}  {}  {size}  {}", model.path, units::count(pieces, "piece")));
        if !state.is_right() {
            failures.add(code_of(state), refusal(model, state, false, "check again"));
        }
    }
    failures.conclude("not confirmed")
}

/// The list in the first of `directories` that has it.
fn find(directories: &[Utf8PathBuf], model: &Model) -> Result<PieceList, ListError> {
    let mut error = ListError::Missing;
    for directory in directories {
        match piece_lists::find(directory, model) {
            Err(ListError::Missing) => {}
            Err(why) => error = why,
            found => return found,
        }
    }
    Err(error)
}

/// The reason that the list of `model` is not used, and the way out.
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
