//! Reads the lists of one command. One that cannot be read ends no other.

use std::io::{Cursor, ErrorKind, Read};

use camino::{Utf8Path, Utf8PathBuf};
use provision_core::shortened_list::shortened_list;
use provision_core::terminal_text::TerminalText;
use provision_lock::import::{Dictionary, Format, ImportError, List, MAX_LIST, ReadSeek, read_file};

use crate::cli::exit::{Code, Failure};
use crate::cli::lock::session::Failures;
use crate::cli::{say, units};

/// The files without a model that a message names.
const NAMED: usize = 3;

/// Reads the lists. Files that cannot be read are failures.
///
/// `*.json` also matches indexes and configurations. JSON that names no model loses none, so it is only mentioned,
/// unless there is no list at all.
pub(super) fn lists(
    files: &[impl AsRef<Utf8Path>],
    format: Option<Format>,
    failures: &mut Failures,
) -> Vec<List> {
    let mut lists = Vec::with_capacity(files.len());
    let mut without_models = Vec::new();
    for file in files {
        let file = file.as_ref();
        let name = name(file);
        match open(file, name).map(|mut file| read_file(name, &mut *file, format)) {
            Ok(Ok(list)) => lists.push(list),
            Ok(Err(error @ ImportError::NoModels { .. })) => without_models.push((name, error)),
            Ok(Err(error)) => failures.add(Code::Usage, error),
            Err(failure) => failures.add(failure.code, failure.message),
        }
    }
    if lists.is_empty() {
        for (_, error) in without_models {
            failures.add(Code::Usage, error);
        }
    } else if !without_models.is_empty() {
        let files = units::count(without_models.len(), "JSON file");
        let names = shortened_list(without_models.iter().map(|(name, _)| *name), NAMED);
        say(TerminalText(format_args!("note: {files} without any model, so not a list: {names}")));
    }
    lists
}

/// Reads the dictionaries of `--names`. One that cannot be read is one of the failures.
pub(super) fn dictionary(files: &[Utf8PathBuf], failures: &mut Failures) -> Dictionary {
    let mut dictionary = Dictionary::default();
    for path in files {
        let added = open(path, name(path)).and_then(|mut file| {
            dictionary.add(name(path), &mut *file).map_err(|error| Failure::new(Code::Usage, error))
        });
        if let Err(failure) = added {
            failures.add(failure.code, failure.message);
        }
    }
    dictionary
}

/// A list's name in messages.
fn name(path: &Utf8Path) -> &str {
    if path == "-" { "standard input" } else { path.as_str() }
}

/// Opens a list. Anything but a plain file cannot be read at any position, so its bytes are read first.
fn open(path: &Utf8Path, name: &str) -> Result<Box<dyn ReadSeek>, Failure> {
    let cannot = |error: std::io::Error| {
        let why = match error.kind() {
            ErrorKind::IsADirectory => format!("{name} is a folder: give its files, such as {name}/*.json"),
            _ => format!("{name} cannot be read: {error}"),
        };
        Failure::new(Code::Usage, why)
    };
    let stream: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(path).map_err(cannot)?;
        if file.metadata().map_err(cannot)?.is_file() {
            return Ok(Box::new(file));
        }
        Box::new(file)
    };
    let mut bytes = Vec::new();
    stream.take(MAX_LIST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(Box::new(Cursor::new(bytes)))
}
