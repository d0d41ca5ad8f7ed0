//! A list that cannot be read.

use provision_core::terminal_text::TerminalText;

use super::MAX_LIST;
use super::format::Format;
use super::picture::Kind;
use super::position::ListPosition;

/// A list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{} cannot be read: {problem}", TerminalText(list))]
    Read {
        /// The list's name.
        list: String,
        /// The system's message.
        problem: String,
    },
    /// The list is too large.
    #[error("{} is larger than {} MiB, the limit for a list of models; split it, if it is one", TerminalText(list), MAX_LIST >> 20)]
    TooLarge {
        /// The list's name.
        list: String,
    },
    /// The list is not text.
    #[error(
        "{} is no list of models: it is neither text in UTF-8 nor a PNG, WebP, JPEG or AVIF picture or an MP4 or WebM video",
        TerminalText(list)
    )]
    NoText {
        /// The list's name.
        list: String,
    },
    /// A lock of names has an error.
    #[error("{0}")]
    Lock(String),
    /// Invalid JSON.
    #[error("{place}: invalid JSON: {problem}")]
    Json {
        /// The position.
        place: ListPosition,
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
    /// A picture or video without a workflow.
    #[error(
        "{} is a {kind} without a workflow; programs that pass pictures on often remove it: export the workflow from ComfyUI \
         and import that file",
        TerminalText(list)
    )]
    NoWorkflow {
        /// The list's name.
        list: String,
        /// The kind of file.
        kind: Kind,
    },
    /// A picture or video whose workflow is damaged.
    #[error(
        "the workflow in {} cannot be read, because this {kind} is cut off or damaged; copy it again, or export the workflow \
         from ComfyUI and import that file",
        TerminalText(list)
    )]
    DamagedPicture {
        /// The list's name.
        list: String,
        /// The kind of file.
        kind: Kind,
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
    /// A shell script that is too long.
    #[error("{} is longer than {} MiB, the limit for a script; import its lists by themselves", TerminalText(list), most >> 20)]
    LongScript {
        /// The list's name.
        list: String,
        /// The limit in bytes.
        most: usize,
    },
    /// A shell script without a download.
    #[error("{}: no download found in this script; add its files with `lock add SOURCE`", TerminalText(list))]
    NoDownload {
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
