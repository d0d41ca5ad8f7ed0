//! A list that cannot be read.

use provision_core::terminal_text::TerminalText;

use super::format::Format;
use super::place::Place;

/// A list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The list is not text.
    #[error("{} is no list of models: it is not text in UTF-8", TerminalText(list))]
    NoText {
        /// The list's name.
        list: String,
    },
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
    /// JSON in no known format that names no file of a model: an index, a configuration.
    #[error("{} is JSON that names no model", TerminalText(list))]
    NoModels {
        /// The list's name.
        list: String,
    },
}
