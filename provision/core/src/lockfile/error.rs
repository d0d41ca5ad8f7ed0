//! Errors of a lock, each shown with its line.

use std::fmt;
use std::ops::Range;

use super::redaction;
use crate::digest::DigestError;
use crate::model_path::ModelPathError;
use crate::source_url::SourceUrlError;
use crate::store_address::StoreAddressError;

/// The longest line that is shown, in bytes. For longer ones the numbers of line and column are enough.
const LONGEST_LINE: usize = 4096;

/// A problem and its byte range in the text. The caller adds the text.
pub(super) type Located = (Option<Range<usize>>, LockfileErrorKind);

/// A lock that cannot be used, with the location of the problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockfileError(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    name: String,
    location: Option<Location>,
    kind: LockfileErrorKind,
}

/// A location in a text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The line's number.
    pub line: usize,
    /// The first column of the problem.
    pub column: usize,
    /// The number of its columns.
    pub width: usize,
    /// The line itself, cut at 120 characters, with possible secrets blanked.
    pub text: String,
}

/// A problem in a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockfileErrorKind {
    /// Not TOML, or not the shape of a lock: an unknown key, a missing one, a value of another type.
    #[error("{0}")]
    Toml(String),
    /// A version that this program does not know.
    #[error("the lock's version is {found}; this program reads version 1, a newer one may read it")]
    Version {
        /// The version as written.
        found: String,
    },
    /// A path that is not portable or leaves the destination.
    #[error("{0}")]
    Path(ModelPathError),
    /// The marker is not a plain file name.
    #[error("the marker lies right below the destination: give a file name without `/`")]
    MarkerInDirectory,
    /// An address that cannot be fetched from.
    #[error("{0}")]
    Url(SourceUrlError),
    /// An address that is none of the forms of a store.
    #[error("{0}")]
    Store(StoreAddressError),
    /// A text that is no digest.
    #[error("{0}")]
    Digest(DigestError),
    /// A size below zero.
    #[error("a size is a number of bytes, {found} is below zero")]
    NegativeSize {
        /// The size as written.
        found: i64,
    },
    /// One path twice.
    #[error("{path:?} is listed twice; a path has one entry")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// Two paths that some file system takes for one.
    #[error(
        "{path:?} and {other:?} are one file where case, Unicode form or characters without a shape do not count"
    )]
    LookAlike {
        /// The later path.
        path: String,
        /// The earlier one.
        other: String,
    },
    /// A file where another entry needs a directory.
    #[error("{outer:?} is a file, so {inner:?} cannot lie below it")]
    Nested {
        /// The file.
        outer: String,
        /// The path below it.
        inner: String,
    },
    /// The sizes do not fit into 63 bits.
    #[error("the sizes up to here add up to {total} bytes, and no disk has more than 2^63")]
    TotalTooLarge {
        /// Their sum.
        total: u128,
    },
    /// A text larger than any lock.
    #[error("the lock is larger than {} MiB; if it is a lock, split it into several", super::MAX_BYTES >> 20)]
    TooLarge,
    /// A text of more keys and values than any list of models.
    #[error("the lock has more keys and values than are read; split it into several locks")]
    TooMuch,
    /// Bytes that are not UTF-8.
    #[error("the lock is not UTF-8 text")]
    NotText,
}

impl LockfileErrorKind {
    /// The path that conflicts with `path`, for problems of two paths.
    pub(super) fn other(&self, path: &str) -> Option<&str> {
        let (one, two) = match self {
            Self::LookAlike { path, other } => (path, other),
            Self::Nested { outer, inner } => (outer, inner),
            _ => return None,
        };
        Some(if one == path { two } else { one })
    }
}

impl LockfileError {
    /// An error about `span` of `text`, or about the whole of it.
    pub(super) fn new(name: &str, text: &str, span: Option<Range<usize>>, kind: LockfileErrorKind) -> Self {
        Self(Box::new(Inner {
            name: name.to_owned(),
            location: span.map(|span| Location::of(text, span)),
            kind,
        }))
    }

    /// An error about the file as a whole, without a text.
    pub fn of_file(name: &str, kind: LockfileErrorKind) -> Self {
        Self(Box::new(Inner { name: name.to_owned(), location: None, kind }))
    }

    /// Its location, if it is about one line.
    pub fn location(&self) -> Option<&Location> {
        self.0.location.as_ref()
    }

    /// The problem.
    pub fn kind(&self) -> &LockfileErrorKind {
        &self.0.kind
    }
}

impl Location {
    fn of(text: &str, span: Range<usize>) -> Self {
        let floor =
            |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let start = floor(span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or("");
        let column = text[line_start..start].chars().count();
        let end = floor(span.end).clamp(start, line_start + line.len().max(start - line_start));
        let shown = if line.len() > LONGEST_LINE {
            format!("(a line of {} bytes)", line.len())
        } else {
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            redaction::line(&line).chars().take(120).collect()
        };
        Self {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            width: text[start..end].chars().count().clamp(1, 120usize.saturating_sub(column).max(1)),
            text: shown,
        }
    }
}

impl fmt::Display for LockfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, location, kind } = &*self.0;
        let Some(Location { line, column, width, text }) = location else {
            return write!(f, "{name}: {kind}");
        };
        writeln!(f, "{name}:{line}:{column}: {kind}")?;
        let gutter = " ".repeat(line.to_string().len());
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{line} | {text}")?;
        if *column > text.chars().count() + 1 {
            return write!(f, "{gutter} |");
        }
        write!(f, "{gutter} | {}{}", " ".repeat(column - 1), "^".repeat(*width))
    }
}

impl std::error::Error for LockfileError {}
