//! Imports other tools' model lists as [`ImportedModel`]s.
//!
//! | format | contents |
//! |---|---|
//! | a `ComfyUI` workflow | `properties.models` of its nodes, also in subgraphs and group nodes: name, url, directory, hash |
//! | the same in API format | names of files, for a [`Dictionary`] |
//! | `ComfyUI`-Manager's model list | name, type, `save_path`, filename, url |
//! | an aria2 input file | addresses on a line, then indented `out=`, `dir=`, `checksum=` |
//! | pget's list | an address and a path on each line |
//! | addresses | one on each line, or short forms such as `hf:…` |
//! | a shell script or Dockerfile | arrays of addresses, and lines with `wget`, `curl`, `aria2c`, `hf download` |
//! | `sha256sum`'s output | digests, for files of other lists |
//!
//! A workflow may be inside a picture or video. The format is detected from the content. A list is checked like typed
//! input: an address that is no source, a line that does not fit the format, a hash of another kind, or a name without
//! an address is listed as [`Unused`] with the reason, and the rest is used. If a statement about a file cannot be read
//! (a checksum of 63 digits, an option without `=`), the whole file is left out, because its meaning is unknown. A list
//! that cannot be read at all (broken JSON) is an error. Sizes that were rounded for display are ignored.
//!
//! A list may contain secrets (`header=Authorization: …`, a token in a query). Messages name options and files, and
//! show addresses without their queries (invariant I6). Lists come from strangers, so all shown text passes
//! [`TerminalText`](provision_core::terminal_text::TerminalText).

mod api_workflow;
mod aria2;
mod comfyui_manager;
mod detect;
mod dictionary;
mod error;
mod format;
mod join;
mod list;
mod loader_folders;
mod notes;
mod picture;
mod position;
mod script;
mod sha256sum;
mod unaddressed;
mod unused;
mod url_list;
mod workflow;

use std::borrow::Cow;
use std::io::{Cursor, Read as _, SeekFrom};

use serde_json::Value;

pub use dictionary::Dictionary;
pub use error::ImportError;
pub use format::{Format, UnknownFormat};
pub use join::{Conflict, Imported, Statement, join};
use list::digest;
pub use list::{ImportedModel, List, Sum};
pub use picture::{Kind, ReadSeek};
pub use position::{At, ListPosition};
pub use unused::{Candidate, LineProblem, ScriptProblem, Unused, UnusedReason};

/// The longest list, in bytes. Pictures and videos may be larger, because only their metadata is read.
pub const MAX_LIST: u64 = 64 << 20;

/// The most objects of a list in JSON. Each takes up to a hundred times its text in memory.
const MAX_OBJECTS: usize = 500_000;

/// The contents of a list's file.
enum Contents {
    Text(String),
    Embedded(Kind, picture::Texts),
}

/// Reads a list: text in UTF-8, or a picture or video with a workflow. Messages call it `name`; `format` overrides the
/// detection.
///
/// # Errors
/// Returns an error if the list cannot be read.
pub fn read(name: &str, bytes: &[u8], format: Option<Format>) -> Result<List, ImportError> {
    read_file(name, &mut Cursor::new(bytes), format)
}

/// Reads a list from a file, and of a picture or video only its metadata.
///
/// # Errors
/// Returns an error if the list cannot be read.
pub fn read_file(name: &str, file: &mut dyn ReadSeek, format: Option<Format>) -> Result<List, ImportError> {
    of_contents(name, contents(name, file)?, format)
}

fn of_contents(name: &str, contents: Contents, format: Option<Format>) -> Result<List, ImportError> {
    match contents {
        Contents::Text(text) => of_text(name, &text, format),
        Contents::Embedded(kind, texts) => embedded(name, kind, texts, format),
    }
}

fn contents(name: &str, file: &mut dyn ReadSeek) -> Result<Contents, ImportError> {
    let list = || name.to_owned();
    let cannot = |error: std::io::Error| ImportError::Read { list: list(), problem: error.to_string() };
    if let Some((kind, texts)) = picture::texts(file).map_err(cannot)? {
        return Ok(Contents::Embedded(kind, texts));
    }
    file.seek(SeekFrom::Start(0)).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(MAX_LIST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_LIST {
        return Err(ImportError::TooLarge { list: list() });
    }
    let text = String::from_utf8(bytes).map_err(|_| ImportError::NoText { list: list() })?;
    Ok(Contents::Text(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

fn of_text(name: &str, text: &str, format: Option<Format>) -> Result<List, ImportError> {
    let format = match format {
        Some(format) => format,
        None => detect::format(name, text)?,
    };
    match format {
        Format::Workflow => workflow::read(name, &json(name, text)?),
        Format::Api => api_workflow::read(name, &json(name, text)?),
        Format::Manager => comfyui_manager::read(name, &json(name, text)?),
        Format::Aria2 => Ok(aria2::read(name, text)),
        Format::Pget | Format::Urls => Ok(url_list::read(name, text, format)),
        Format::Script => script::read(name, text),
        Format::Sha256sum => Ok(sha256sum::read(name, text)),
    }
}

/// Reads the workflow of a picture or video, or else its prompt, which has no addresses.
fn embedded(
    name: &str,
    kind: Kind,
    texts: picture::Texts,
    format: Option<Format>,
) -> Result<List, ImportError> {
    let list = || name.to_owned();
    if let Some(format) = format.filter(|format| !matches!(format, Format::Workflow | Format::Api)) {
        return Err(ImportError::Shape { list: list(), format });
    }
    let read = |text: Option<String>, wanted| {
        let value = json_value(&text.filter(|_| format.is_none_or(|format| format == wanted))?).ok()?;
        if wanted == Format::Workflow {
            workflow::read(name, &value)
        } else {
            api_workflow::read(name, &value)
        }
        .ok()
    };
    let is_lost = texts.workflow.is_some() || texts.is_damaged;
    if let Some(list) = read(texts.workflow, Format::Workflow) {
        return Ok(list);
    }
    match read(texts.prompt, Format::Api) {
        Some(mut list) => {
            if is_lost && format.is_none() {
                let place = ListPosition::entry(name, "its workflow");
                list.leave_out("the workflow", UnusedReason::Damaged { kind }, &place);
            }
            Ok(list)
        }
        None if is_lost => Err(ImportError::DamagedPicture { list: list(), kind }),
        None => Err(ImportError::NoWorkflow { list: list(), kind }),
    }
}

fn json(name: &str, text: &str) -> Result<Value, ImportError> {
    json_value(text).map_err(|error| {
        let place = ListPosition { list: name.to_owned(), at: At::Line(error.line().max(1)) };
        // The parser's message ends with the position, which `place` shows already.
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
        ImportError::Json { place, problem }
    })
}

/// Parses JSON as Python writes it, with `NaN` and `Infinity`: `ComfyUI` does so in prompts. The parser bounds the
/// depth, and the number of objects bounds the memory.
fn json_value(text: &str) -> serde_json::Result<Value> {
    if text.bytes().filter(|byte| *byte == b'{').count() > MAX_OBJECTS {
        return Err(serde::de::Error::custom(format_args!("it has more than {MAX_OBJECTS} objects")));
    }
    serde_json::from_str(text).or_else(|error| match with_finite_numbers(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(finite) => serde_json::from_str(&finite).map_err(|_| error),
    })
}

/// The text with `null` for `NaN` and `Infinity`, which stand outside of strings.
fn with_finite_numbers(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    let mut finite = String::new();
    let (mut copied, mut at, mut is_string) = (0, 0, false);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if is_string => at += 1,
            b'"' => is_string = !is_string,
            b'N' | b'I' | b'-' if !is_string => {
                if let Some(word) = WORDS.iter().find(|word| bytes[at..].starts_with(word.as_bytes())) {
                    finite.push_str(&text[copied..at]);
                    finite.push_str("null");
                    copied = at + word.len();
                    at = copied - 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    finite.push_str(&text[copied..]);
    Cow::Owned(finite)
}

/// The lines that are neither blank nor comments, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    lines.filter(|(_, line)| !line.trim_start().is_empty() && !line.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests;
