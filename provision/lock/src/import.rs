//! Lists of models in other tools' formats, read into what is [`Wanted`].
//!
//! | format | what it has |
//! |---|---|
//! | a `ComfyUI` workflow | `properties.models` of its nodes, and of its subgraphs' nodes: name, url, directory, hash |
//! | `ComfyUI`-Manager's model list | name, type, `save_path`, filename, url |
//! | an aria2 input file | addresses on a line, then indented `out=`, `dir=`, `checksum=` |
//! | pget's list | an address and a path on each line |
//! | addresses | one on each line, or short forms such as `hf:…` |
//! | `sha256sum`'s output | digests, for what other lists name |
//!
//! Which one a text is, is seen from it. Nothing in a list is believed more than a person's typing: an address that is no
//! source, a line that is none of the format's, a hash of another kind, a name without an address are listed as [`Unused`]
//! with why, and the rest is used. A file of which the list says something that cannot be read (a checksum of 63 digits, an
//! option without `=`) is left out as a whole: nobody knows what was meant. A list that cannot be read at all (broken JSON)
//! is an error. Sizes that are rounded for people are no sizes.
//!
//! Values of lists may be secrets (`header=Authorization: …`, a token in a query); messages name options and files, and
//! show addresses without their queries (invariant I6). What they do show is [`TerminalText`]: a list comes from anybody.

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

pub use join::{Imported, join};

use crate::layout::{self, Hints, LayoutError};
use crate::source::{Source, SourceError};
use provision_core::terminal_text::TerminalText;

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A `ComfyUI` workflow, as its menu saves it.
    Workflow,
    /// `ComfyUI`-Manager's model list.
    Manager,
    /// An aria2 input file.
    Aria2,
    /// An address and a path on each line.
    Pget,
    /// An address on each line.
    Urls,
    /// `sha256sum`'s output.
    Sha256sum,
}

/// Where in which list something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What the list is called.
    pub list: String,
    /// Where in it.
    pub at: At,
}

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A line's number, from 1.
    Line(usize),
    /// An entry of a format that is not made of lines, in words.
    Entry(String),
}

/// A file that a list asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The file's name as the list has it, or what the source calls it; empty where neither says.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// Where else.
    pub mirrors: Vec<Source>,
    /// The whole path, where the list gives one.
    pub path: Option<String>,
    /// The directory, where the list gives one.
    pub directory: Option<String>,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// The digest of its bytes.
    pub sha256: Option<Sha256>,
    /// Where it stands.
    pub place: Place,
}

impl Wanted {
    /// Where it goes, as far as the list and the source tell.
    pub fn destination(&self) -> Result<ModelPath, LayoutError> {
        self.destination_with(None)
    }

    /// The same, with what a host said of the model's type.
    pub fn destination_with(&self, civitai_type: Option<&str>) -> Result<ModelPath, LayoutError> {
        let path = self.path.as_deref().map(layout::within);
        let at_source = self.source.path();
        layout::destination(&Hints {
            explicit: path.as_deref(),
            directory: self.directory.as_deref(),
            name: Some(self.name.as_str()).filter(|name| !name.is_empty()),
            civitai_type,
            at_source: at_source.as_deref(),
        })
    }
}

/// A digest and the file that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The file's name or path.
    pub name: String,
    /// The digest.
    pub sha256: Sha256,
    /// Where it stands.
    pub place: Place,
}

/// Something in a list that nothing came of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// What it is.
    pub what: String,
    /// Why not.
    pub why: Why,
    /// Where it stands.
    pub place: Place,
}

/// Why something was not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Its address is no source.
    #[error("{0}")]
    Source(SourceError),
    /// One of several addresses is none.
    #[error("it comes from its other addresses; of one of them: {0}")]
    Mirror(SourceError),
    /// It has none.
    #[error("the list gives no address for it")]
    NoAddress,
    /// A line that does not fit the format.
    #[error("{0}")]
    Line(LineProblem),
    /// A hash of another kind.
    #[error("its hash is of the kind {kind:?}; only SHA-256 is used")]
    HashKind {
        /// The kind.
        kind: String,
    },
    /// A hash that is none.
    #[error("its hash is none: {0}")]
    Digest(DigestError),
    /// A whole repository.
    #[error("it is a whole repository; add its files with hf:OWNER/REPO/PATH, where PATH may be a glob")]
    Repository,
    /// A place that is not below `models`.
    #[error("it goes to {directory:?}, which is not below ComfyUI's models directory")]
    Elsewhere {
        /// The place.
        directory: String,
    },
    /// An option that changes the request.
    #[error("this option is not taken over; tokens come from the environment or a netrc file")]
    Option,
    /// A second source for one path, and nothing that says that the bytes are the same.
    #[error("the same path comes from another source in {first}, and no digest says that they are one")]
    SamePath {
        /// Where the other one stands.
        first: Place,
    },
    /// A digest for nothing.
    #[error("no list names a file of this name")]
    NoModel,
    /// A digest that could be several files'.
    #[error("several files have this name: {}", candidates.join(", "))]
    Ambiguous {
        /// The files.
        candidates: Vec<String>,
    },
}

/// A list that cannot be read, or lists that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Not JSON.
    #[error("{place}: not JSON: {problem}")]
    Json {
        /// Where.
        place: Place,
        /// What the parser says.
        problem: String,
    },
    /// JSON of another kind than was said.
    #[error("{} is no {format}", TerminalText(list))]
    Shape {
        /// What the list is called.
        list: String,
        /// What it should be.
        format: Format,
    },
    /// A workflow in the form that is sent to the server, which has no addresses.
    #[error(
        "{} is a workflow in API format, which does not say where its models come from; save it with \
         \"Save\" or \"Export\" instead of \"Export (API)\"",
        TerminalText(list)
    )]
    ApiWorkflow {
        /// What the list is called.
        list: String,
    },
    /// No format fits.
    #[error(
        "{} is in none of the formats that are read ({}); say which one is meant with --format",
        TerminalText(list),
        Format::ALL.map(Format::name).join(", ")
    )]
    Unknown {
        /// What the list is called.
        list: String,
    },
    /// Nothing in it.
    #[error("{} has nothing in it", TerminalText(list))]
    Empty {
        /// What the list is called.
        list: String,
    },
    /// Two digests for one path.
    #[error(
        "{}: {first} and {second} give it different digests; one of the lists is wrong, or they mean two files",
        TerminalText(path)
    )]
    Conflict {
        /// The path.
        path: String,
        /// The one.
        first: Place,
        /// The other.
        second: Place,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// An indented line before any address.
    #[error("an option stands before any address")]
    OptionFirst,
    /// An indented line without `=`.
    #[error("an option is written NAME=VALUE, so its file is left out")]
    NoOption,
    /// More than an address and a path.
    #[error("there are {found} columns; a line has an address, or an address and a path")]
    Columns {
        /// How many.
        found: usize,
    },
    /// Not a line of `sha256sum`.
    #[error("this is not a line of sha256sum's output (64 hex digits, two spaces, a name)")]
    Sum,
    /// A digest that is none.
    #[error("{0}")]
    Digest(DigestError),
    /// A file's checksum that is none.
    #[error("its checksum is none, so it is left out: {0}")]
    Checksum(DigestError),
}

/// A list that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// What it is.
    pub format: Format,
    /// The files that it asks for.
    pub wanted: Vec<Wanted>,
    /// The digests that it gives for files of other lists.
    pub sums: Vec<Sum>,
    /// What nothing came of.
    pub unused: Vec<Unused>,
}

impl List {
    fn new(format: Format) -> Self {
        Self { format, wanted: Vec::new(), sums: Vec::new(), unused: Vec::new() }
    }

    fn leave_out(&mut self, what: impl Into<String>, why: Why, place: &Place) {
        self.unused.push(Unused { what: what.into(), why, place: place.clone() });
    }

    /// A line that is not understood. It is not repeated: it may hold a secret.
    fn leave_out_line(&mut self, problem: LineProblem, place: &Place) {
        self.leave_out("not understood", Why::Line(problem), place);
    }

    /// A hash in words of a list that has other things to say: what is wrong with it is noted.
    fn hash(&mut self, name: &str, kind: Option<&str>, hash: &str, place: &Place) -> Option<Sha256> {
        let kind = kind.unwrap_or("sha256");
        if !kind.eq_ignore_ascii_case("sha256") && !kind.eq_ignore_ascii_case("sha-256") {
            self.leave_out(name, Why::HashKind { kind: kind.to_owned() }, place);
            return None;
        }
        match digest(hash) {
            Ok(sha256) => Some(sha256),
            Err(error) => {
                self.leave_out(name, Why::Digest(error), place);
                None
            }
        }
    }
}

/// Reads a list; `name` is what messages call it, and `format` is what it is, where that is known.
///
/// # Errors
/// Where it cannot be read.
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
        // The message ends with the place, which is said already.
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
        ImportError::Json { place, problem }
    })
}

/// A digest in either case, as other tools write them.
fn digest(text: &str) -> Result<Sha256, DigestError> {
    text.trim().to_ascii_lowercase().parse()
}

/// The lines that say something, with their numbers.
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
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Workflow, Self::Manager, Self::Aria2, Self::Pget, Self::Urls, Self::Sha256sum];

    /// Its name on the command line.
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

/// A name that no format has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no format is called so; there are: {}", Format::ALL.map(Format::name).join(", "))]
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
            Self::Pget => "list of addresses and paths",
            Self::Urls => "list of addresses",
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
