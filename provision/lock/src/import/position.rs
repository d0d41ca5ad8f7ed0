//! A position in a list, for messages.

use std::fmt;

use provision_core::terminal_text::TerminalText;

/// A list and a position in it, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPosition {
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

impl ListPosition {
    pub(super) fn line(list: &str, line: usize) -> Self {
        Self { list: list.to_owned(), at: At::Line(line) }
    }

    pub(super) fn entry(list: &str, entry: impl Into<String>) -> Self {
        Self { list: list.to_owned(), at: At::Entry(entry.into()) }
    }
}

impl fmt::Display for ListPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Line(line) => write!(f, "{}:{line}", TerminalText(&self.list)),
            At::Entry(entry) => write!(f, "{}, {}", TerminalText(&self.list), TerminalText(entry)),
        }
    }
}
