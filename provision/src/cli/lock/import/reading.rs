//! Reads the lists of one command. One that cannot be read ends no other.

use std::io::{ErrorKind, Read};

use camino::Utf8Path;
use provision_core::first_names::first_names;
use provision_core::terminal_text::TerminalText;
use provision_lock::import::{Format, ImportError, List, read};

use crate::cli::exit::{Code, Failure};
use crate::cli::lock::session::Failures;
use crate::cli::{say, units};

/// The longest list, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// The files without a model that a message names.
const NAMED: usize = 3;

/// Reads the lists. Files that cannot be read are failures.
///
/// `*.json` also matches indexes and configurations. JSON that names no model loses none, so it is only mentioned, unless there is
/// no list at all.
pub(super) fn lists(
    files: &[impl AsRef<Utf8Path>],
    format: Option<Format>,
    failures: &mut Failures,
) -> Vec<List> {
    let mut lists = Vec::with_capacity(files.len());
    let mut without_models = Vec::new();
    for file in files {
        let file = file.as_ref();
        let name = if file == "-" { "standard input" } else { file.as_str() };
        match bytes(file, name).map(|bytes| read(name, &bytes, format)) {
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
        let names = first_names(without_models.iter().map(|(name, _)| *name), NAMED);
        say(TerminalText(format_args!("note: {files} without any model, so not a list: {names}")));
    }
    lists
}

fn bytes(path: &Utf8Path, name: &str) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| {
        let why = match error.kind() {
            ErrorKind::IsADirectory => format!("{name} is a folder: give its files, such as {name}/*.json"),
            _ => format!("{name} cannot be read: {error}"),
        };
        Failure::new(Code::Usage, why)
    };
    let source: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(cannot)?)
    };
    let mut bytes = Vec::new();
    source.take(MAX_LIST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_LIST {
        let why = format!("{name} is larger than {} MiB, the limit for a list of models", MAX_LIST >> 20);
        return Err(Failure::new(Code::Usage, why));
    }
    Ok(bytes)
}
