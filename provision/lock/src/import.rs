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
mod join;
mod manager;
mod sha256sum;
mod workflow;

use std::fmt;
use std::str::FromStr;

use provision_core::digest::{DigestError, Sha256};
use provision_core::model_path::ModelPath;
use serde_json::Value;

pub use join::{Imported, SamePath, join};

use crate::placement::{self, Hints, PlacementError};
use crate::source::{Source, SourceError};
use provision_core::terminal_text::TerminalText;

/// The supported formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A `ComfyUI` workflow, as its menu saves it.
    Workflow,
    /// `ComfyUI`-Manager's model list.
    Manager,
    /// An aria2 input file.
    Aria2,
    /// A URL and a path on each line.
    Pget,
    /// A URL on each line.
    Urls,
    /// `sha256sum`'s output.
    Sha256sum,
}

/// A list and a position in it, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The list's name.
    pub list: String,
    /// The position.
    pub at: At,
}

/// A position in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A line number, from 1.
    Line(usize),
    /// An entry of a format without lines, in words.
    Entry(String),
}

/// A file that a list names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedModel {
    /// The file's name from the list, or else from the source; empty if neither has one.
    pub name: String,
    /// The source.
    pub source: Source,
    /// Further sources of the same bytes.
    pub mirrors: Vec<Source>,
    /// The whole path, if the list gives one.
    pub path: Option<String>,
    /// The value of `--path-of` for it, which replaces the list's own place.
    pub chosen: Option<String>,
    /// The directory, if the list gives one.
    pub directory: Option<String>,
    /// The length in bytes.
    pub size: Option<u64>,
    /// The SHA-256 of the file.
    pub sha256: Option<Sha256>,
    /// The position in the list.
    pub place: Place,
}

impl ImportedModel {
    /// The chosen path, or the list's whole path relative to `models`.
    pub fn explicit(&self) -> Option<String> {
        self.chosen.clone().or_else(|| self.path.as_deref().map(placement::within))
    }

    /// The destination path, from the list and the source.
    pub fn destination(&self) -> Result<ModelPath, PlacementError> {
        self.destination_with(None)
    }

    /// The same, with the model type that a host declares.
    pub fn destination_with(&self, civitai_type: Option<&str>) -> Result<ModelPath, PlacementError> {
        let path = self.explicit();
        let at_source = self.source.path();
        placement::destination(&Hints {
            explicit: path.as_deref(),
            directory: self.directory.as_deref(),
            name: Some(self.name.as_str()).filter(|name| !name.is_empty()),
            civitai_type,
            at_source: at_source.as_deref(),
        })
    }
}

/// A digest and the file that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The file's name or path.
    pub name: String,
    /// The SHA-256.
    pub sha256: Sha256,
    /// The position in the list.
    pub place: Place,
}

/// An item of a list that was not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// The item.
    pub what: String,
    /// The reason.
    pub why: UnusedReason,
    /// The position in the list.
    pub place: Place,
}

/// The reason that an item was not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusedReason {
    /// The address is no source.
    #[error("{0}")]
    Source(SourceError),
    /// One of several addresses is no source.
    #[error("one of its URLs is not used: {0}")]
    Mirror(SourceError),
    /// The item has no address.
    #[error("the list has no URL for it")]
    NoAddress,
    /// The line does not fit the format.
    #[error("{0}")]
    Line(LineProblem),
    /// The hash is of another kind.
    #[error("its hash is of the kind {kind:?}, but only SHA-256 is used")]
    HashKind {
        /// The kind.
        kind: String,
    },
    /// The hash is invalid.
    #[error("its hash is invalid: {0}")]
    Digest(DigestError),
    /// The item is a whole repository.
    #[error("it is a whole repository; add its files with hf:OWNER/REPO/PATH, where PATH may be a glob")]
    Repository,
    /// The directory is not below `models`.
    #[error(
        "it goes to {directory:?}, which is not below ComfyUI's models directory; add it with `lock add --path`"
    )]
    Elsewhere {
        /// The directory.
        directory: String,
    },
    /// The option would change the request.
    #[error("this option is not imported; tokens come from the environment or a netrc file")]
    Option,
    /// A second source for one path, without a digest that shows equal bytes.
    #[error(
        "{first} has another source for the same path, and no digest shows that the files are equal; choose another path for \
         one with --path-of"
    )]
    SamePath {
        /// The position of the first one.
        first: Place,
    },
    /// No imported file matches the digest.
    #[error("no list names a file of this name")]
    NoModel,
    /// Several imported files match the digest.
    #[error("several files have this name: {}", candidates.join(", "))]
    Ambiguous {
        /// The files.
        candidates: Vec<String>,
    },
}

/// A list cannot be read, or lists contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Invalid JSON.
    #[error("{place}: invalid JSON: {problem}")]
    Json {
        /// The position.
        place: Place,
        /// The parser's message.
        problem: String,
    },
    /// JSON, but not in the given format.
    #[error("{} is not in the format \"{format}\"; give another --format", TerminalText(list))]
    Shape {
        /// The list's name.
        list: String,
        /// The expected format.
        format: Format,
    },
    /// A workflow in the form that is sent to the server, which has no addresses.
    #[error(
        "{} is a workflow in API format, which does not say where its models come from; save it with \
         \"Save\" or \"Export\" instead of \"Export (API)\"",
        TerminalText(list)
    )]
    ApiWorkflow {
        /// The list's name.
        list: String,
    },
    /// No format fits.
    #[error(
        "{} has none of the known formats ({}); choose one with --format",
        TerminalText(list),
        Format::ALL.map(Format::name).join(", ")
    )]
    Unknown {
        /// The list's name.
        list: String,
    },
    /// The list is empty.
    #[error("{} is empty", TerminalText(list))]
    Empty {
        /// The list's name.
        list: String,
    },
    /// Two digests for one path.
    #[error(
        "{}: {first} and {second} list different digests ({} and {}); correct one of the lists, or give one of the \
         files another path with --path-of",
        TerminalText(path), digests[0], digests[1]
    )]
    Conflict {
        /// The path.
        path: String,
        /// The position of one digest.
        first: Place,
        /// The position of the other.
        second: Place,
        /// Both digests.
        digests: Box<[Sha256; 2]>,
    },
}

/// The problem of a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// An indented line before any address.
    #[error("an option precedes the first URL")]
    OptionFirst,
    /// An indented line without `=`.
    #[error("an option has the form NAME=VALUE; its file is left out")]
    NoOption,
    /// More than an address and a path.
    #[error("the line has {found} columns; it needs a URL, or a URL and a path")]
    Columns {
        /// The number of columns.
        found: usize,
    },
    /// Not a line of `sha256sum`'s output.
    #[error("not a line of sha256sum output (64 hex digits, two spaces, a name)")]
    Sum,
    /// The digest is invalid.
    #[error("{0}")]
    Digest(DigestError),
    /// A file's checksum is invalid.
    #[error("its checksum is invalid and not used: {0}")]
    Checksum(DigestError),
}

/// A parsed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The format.
    pub format: Format,
    /// The files that the list names.
    pub models: Vec<ImportedModel>,
    /// Digests for files of other lists.
    pub sums: Vec<Sum>,
    /// Items that were not used.
    pub unused: Vec<Unused>,
}

impl List {
    fn new(format: Format) -> Self {
        Self { format, models: Vec::new(), sums: Vec::new(), unused: Vec::new() }
    }

    fn leave_out(&mut self, what: impl Into<String>, why: UnusedReason, place: &Place) {
        self.unused.push(Unused { what: what.into(), why, place: place.clone() });
    }

    /// Records a line that was not understood. Its text is not repeated: it may contain a secret.
    fn leave_out_line(&mut self, problem: LineProblem, place: &Place) {
        self.leave_out("not understood", UnusedReason::Line(problem), place);
    }

    /// Parses a hash whose list has other useful contents; a problem is recorded as unused.
    fn hash(&mut self, name: &str, kind: Option<&str>, hash: &str, place: &Place) -> Option<Sha256> {
        let kind = kind.unwrap_or("sha256");
        if !kind.eq_ignore_ascii_case("sha256") && !kind.eq_ignore_ascii_case("sha-256") {
            self.leave_out(name, UnusedReason::HashKind { kind: kind.to_owned() }, place);
            return None;
        }
        match digest(hash) {
            Ok(sha256) => Some(sha256),
            Err(error) => {
                self.leave_out(name, UnusedReason::Digest(error), place);
                None
            }
        }
    }
}

/// Reads a list. Messages call it `name`; `format` overrides the detection.
///
/// # Errors
/// Returns an error if the list cannot be read.
pub fn read(name: &str, text: &str, format: Option<Format>) -> Result<List, ImportError> {
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

/// Parses a digest in either case, because other tools write both.
fn digest(text: &str) -> Result<Sha256, DigestError> {
    text.trim().to_ascii_lowercase().parse()
}

/// The lines that are neither blank nor comments, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    lines.filter(|(_, line)| !line.trim_start().is_empty() && !line.trim_start().starts_with('#'))
}

impl Place {
    fn line(list: &str, line: usize) -> Self {
        Self { list: list.to_owned(), at: At::Line(line) }
    }

    fn entry(list: &str, entry: impl Into<String>) -> Self {
        Self { list: list.to_owned(), at: At::Entry(entry.into()) }
    }
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 6] =
        [Self::Workflow, Self::Manager, Self::Aria2, Self::Pget, Self::Urls, Self::Sha256sum];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Manager => "manager",
            Self::Aria2 => "aria2",
            Self::Pget => "pget",
            Self::Urls => "urls",
            Self::Sha256sum => "sha256sum",
        }
    }
}

/// An unknown format name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format; the formats are {}", Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(UnknownFormat)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workflow => "ComfyUI workflow",
            Self::Manager => "model list of ComfyUI-Manager",
            Self::Aria2 => "aria2 input file",
            Self::Pget => "list of URLs and paths",
            Self::Urls => "list of URLs",
            Self::Sha256sum => "output of sha256sum",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Line(line) => write!(f, "{}:{line}", TerminalText(&self.list)),
            At::Entry(entry) => write!(f, "{}, {}", TerminalText(&self.list), TerminalText(entry)),
        }
    }
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, TerminalText(&self.what), TerminalText(&self.why))
    }
}

#[cfg(test)]
mod tests;
