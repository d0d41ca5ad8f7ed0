//! The question for the meaning of a `--path` without the suffix that the file has: a folder, or the file's name.
//!
//! Both are common, and a wrong guess is found only when a program does not list the model. A person at a terminal is
//! asked. A script gets the two commands, and exit code 2.

use provision_core::terminal_text::TerminalText;
use provision_lock::entry_builder::EntryError;
use provision_lock::placement::PlacementError;
use provision_lock::source::Source;

use super::command_line;
use crate::cli;

/// The two meanings of a path.
pub(super) struct Meanings<'a> {
    path: &'a str,
    name: &'a str,
    directory: &'a str,
    file: &'a str,
}

impl<'a> Meanings<'a> {
    /// The meanings, if they are the error.
    pub(super) fn of(error: &'a EntryError) -> Option<Self> {
        match error {
            EntryError::Placement {
                error: PlacementError::NoSuffix { path, name, directory, file }, ..
            } => Some(Self { path, name, directory, file }),
            _ => None,
        }
    }

    /// The error of a script: a command for each meaning.
    pub(super) fn commands(&self, source: &Source) -> String {
        format!(
            "{:?} has no suffix, but the file is {:?}: is it a folder, or the file's name? With your other options, run\n    \
             {}\n  or\n    {}{}",
            self.path,
            self.name,
            command_line::add(source, self.directory),
            command_line::add(source, self.file),
            command_line::remark(source),
        )
    }
}

/// Asks which meaning is meant, and returns that path. `None` without a terminal, or if the answer is neither.
pub(super) fn ask(meanings: &Meanings<'_>) -> Option<String> {
    let Meanings { path, name, directory, file } = meanings;
    let lines = [
        TerminalText(format!("{path:?} has no suffix, but the file is {name:?}. Which path is meant?"))
            .to_string(),
        TerminalText(format!("  1  {directory}{name}")).to_string(),
        TerminalText(format!("  2  {file}")).to_string(),
        "1 or 2:".to_owned(),
    ];
    match cli::ask(lines.join("\n")).ok()??.as_str() {
        "1" => Some((*directory).to_owned()),
        "2" => Some((*file).to_owned()),
        _ => None,
    }
}
