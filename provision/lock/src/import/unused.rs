//! An item of a list that was not used, and the reason.

use std::fmt;

use provision_core::digest::DigestError;
use provision_core::terminal_text::TerminalText;

use super::picture::Kind;
use super::position::ListPosition;
use crate::source::{Source, SourceError};

/// An item of a list that was not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// The item.
    pub what: String,
    /// The reason.
    pub why: UnusedReason,
    /// The position in the list.
    pub place: ListPosition,
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
    /// A workflow names the file in a widget or input, without an address.
    #[error("the workflow has no URL for it")]
    Named {
        /// The folder of the loader.
        folder: Option<&'static str>,
    },
    /// The dictionaries have other files that it could be.
    #[error("the names do not tell which file it is")]
    Unsure {
        /// The files.
        candidates: Vec<Candidate>,
    },
    /// The workflow of a picture or video.
    #[error("this {kind} is cut off or damaged; only its prompt was read, which has no URLs")]
    Damaged {
        /// The kind of file.
        kind: Kind,
    },
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
    /// A script's download whose address or directory is not in its text.
    #[error("{0}")]
    Script(ScriptProblem),
    /// The option would change the request.
    #[error("this option is not imported; tokens come from the environment or a netrc file")]
    Option,
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

/// A file of a dictionary that a name could mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The source.
    pub source: Source,
    /// The position in the dictionary.
    pub place: ListPosition,
    /// The path that the workflow expects.
    pub path: String,
}

/// The problem of a script's download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScriptProblem {
    /// Only a run would know the address.
    #[error("only a run of the script would tell the URL; add the file with `lock add SOURCE`")]
    Address,
    /// Only a run would know the address, and the script has an array that reached no download.
    #[error("its URLs are probably those of an array, which is imported by its name")]
    OfArray,
    /// A program in another language downloads.
    #[error("it downloads, and only shell is read; add its files with `lock add hf:OWNER/REPO/PATH`")]
    Python,
    /// The addresses are in another file.
    #[error("its URLs are in another file; import that file")]
    AnotherFile,
    /// The file is no model by its name, and its folder is none of `ComfyUI`'s.
    #[error(
        "neither its name nor its folder is a model's; if it is one, add it with `lock add SOURCE --path`"
    )]
    NoModel,
    /// A quote, bracket or here-document has no end.
    #[error("a quote, bracket or here-document has no end, so the script is not read from here on")]
    Unclosed,
    /// The script has too many steps.
    #[error("the script has more steps than are read; its further downloads are left out")]
    TooLong,
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

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, TerminalText(&self.what), TerminalText(&self.why))
    }
}
