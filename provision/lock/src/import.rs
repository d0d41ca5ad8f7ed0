//! Imports other tools' model lists as [`ImportedModel`]s.
//!
//! | format | contents |
//! |---|---|
//! | a `ComfyUI` workflow | `properties.models` of its nodes, and of its subgraphs' nodes: name, url, directory, hash |
//! | `ComfyUI`-Manager's model list | name, type, `save_path`, filename, url |
//! | an aria2 input file | addresses on a line, then indented `out=`, `dir=`, `checksum=` |
//! | pget's list | an address and a path on each line |
//! | addresses | one on each line, or short forms such as `hf:…` |
//! | `sha256sum`'s output | digests, for what other lists name |
//!
//! The format is detected from the text. A list is checked like typed input: an address that is no source, a line that does
//! not fit the format, a hash of another kind, or a name without an address is listed as [`Unused`] with the reason, and the
//! rest is used. If a statement about a file cannot be read (a checksum of 63 digits, an option without `=`), the whole file is
//! left out, because its meaning is unknown. A list that cannot be read at all (broken JSON) is an error. Sizes that were
//! rounded for display are ignored.
//!
//! A list may contain secrets (`header=Authorization: …`, a token in a query). Messages name options and files, and show
//! addresses without their queries (invariant I6). Lists come from strangers, so all shown text passes [`TerminalText`].

mod aria2;
mod columns;
mod detect;
mod error;
mod format;
mod join;
mod list;
mod manager;
mod place;
mod sha256sum;
mod unused;
mod workflow;

use serde_json::Value;

pub use error::ImportError;
pub use format::{Format, UnknownFormat};
pub use join::{Conflict, Imported, Statement, join};
use list::digest;
pub use list::{ImportedModel, List, Sum};
pub use place::{At, Place};
pub use unused::{LineProblem, Unused, UnusedReason};

/// Reads a list, which is text in UTF-8. Messages call it `name`; `format` overrides the detection.
///
/// # Errors
/// Returns an error if the list cannot be read.
pub fn read(name: &str, bytes: &[u8], format: Option<Format>) -> Result<List, ImportError> {
    let text = str::from_utf8(bytes).map_err(|_| ImportError::NoText { list: name.to_owned() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let format = match format {
        Some(format) => format,
        None => detect::format(name, text)?,
    };
    match format {
        Format::Workflow => workflow::read(name, &json(name, text)?),
        Format::Manager => manager::read(name, &json(name, text)?),
        Format::Aria2 => Ok(aria2::read(name, text)),
        Format::Pget | Format::Urls => Ok(columns::read(name, text, format)),
        Format::Sha256sum => Ok(sha256sum::read(name, text)),
    }
}

fn json(name: &str, text: &str) -> Result<Value, ImportError> {
    serde_json::from_str(text).map_err(|error| {
        let place = Place { list: name.to_owned(), at: At::Line(error.line()) };
        // The parser's message ends with the position, which `place` shows already.
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
        ImportError::Json { place, problem }
    })
}

/// The lines that are neither blank nor comments, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    lines.filter(|(_, line)| !line.trim_start().is_empty() && !line.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests;
