//! What came instead of a file: a pointer, a page, an error in words.
//!
//! Pure: the first bytes of a body that cannot be the file, or is not, and what the lock wants. It decides nothing about
//! bytes that may be right: a body is looked at only where its length, its digest or its end says that it is another,
//! with one exception. A Git LFS pointer is shorter than 1 KiB by its specification, so whatever begins like one and is to
//! be longer is none of it, and is not even written.
//!
//! What a server wrote goes into a message, so it is cut to a line, and what may be a secret is left out (I6): what it was
//! really told, and what looks like one.

use std::fmt;

use serde_json::Value;

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::redact::Redactor;

/// How many bytes are worth looking at.
pub const SNIFF_LENGTH: usize = 4 << 10;

/// A pointer is shorter than this (Git LFS specification).
const LONGEST_POINTER: u64 = 1024;

/// The first line of a pointer; older ones name the specification by another host.
const POINTERS: [&str; 2] =
    ["version https://git-lfs.github.com/spec/v1\n", "version https://hawser.github.com/spec/v1\n"];

/// What came instead of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SniffedContent {
    /// A Git LFS pointer: what a repository holds in the file's place.
    Pointer {
        /// The digest of the file that it stands for.
        oid: Option<Sha256>,
        /// Its length in bytes.
        size: Option<u64>,
        /// Both are the lock's.
        is_ours: bool,
    },
    /// A web page.
    Page {
        /// What it is called.
        title: Option<String>,
    },
    /// An error in JSON or XML.
    Error {
        /// What it says.
        text: String,
    },
}

impl SniffedContent {
    /// Whether the address holds other bytes for good: nothing has gone wrong on the way, and nobody has to log in.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Pointer { .. })
    }
}

impl fmt::Display for SniffedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer { oid, size, is_ours } => {
                f.write_str("a Git LFS pointer came instead of the file")?;
                match (oid, size) {
                    (Some(oid), Some(size)) if *is_ours => write!(
                        f,
                        "; it points to the very file that the lock names (SHA-256 {oid}, {size} bytes)"
                    )?,
                    (Some(oid), Some(size)) => write!(
                        f,
                        "; it points to another file than the lock names (SHA-256 {oid}, {size} bytes)"
                    )?,
                    _ => {}
                }
                f.write_str(
                    ". The repository holds a pointer there: take the address that the host serves the file itself \
                     under (/resolve/ on the Hub, media.githubusercontent.com/media/ on GitHub), or fetch it with git lfs",
                )
            }
            Self::Page { title } => {
                f.write_str("a web page (HTML) came instead of the model")?;
                if let Some(title) = title {
                    write!(f, ", titled {title:?}")?;
                }
                f.write_str(": a login or error page, or a link to a page")
            }
            Self::Error { text } => {
                write!(
                    f,
                    "an error message came instead of the model, with a status that says all is well: {text}"
                )
            }
        }
    }
}

/// What `body`, which is not `model` but begins where it should begin, is. `None` where it cannot be said. `told` is what
/// must not be shown of it.
pub fn sniff(body: &[u8], model: &Model, told: &Redactor) -> Option<SniffedContent> {
    let body = &body[..body.len().min(SNIFF_LENGTH)];
    // Of nearly every file its first byte tells that it is none of these, and small files come by the thousand.
    let begins = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body).trim_ascii_start();
    if !matches!(begins.first()?, b'v' | b'<' | b'{') {
        return None;
    }
    let text = String::from_utf8_lossy(begins);
    let text = &*text;
    if let Some(rest) = POINTERS.iter().find_map(|first| text.strip_prefix(first)) {
        return Some(pointer(rest, model));
    }
    // Neither is told by a name that ends like one.
    let ends = |ending: &str| {
        model.path.file_name().rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(ending))
    };
    if !ends("html") && !ends("htm") && is_page(text) {
        return Some(SniffedContent::Page {
            title: between(text, "<title", "</title>").and_then(|title| printable(title, told)),
        });
    }
    let said = match text.as_bytes().first()? {
        b'{' => said_in_json(text),
        b'<' => said_in_xml(text),
        _ => None,
    };
    Some(SniffedContent::Error { text: printable(&said?, told)? })
}

/// Whether a body that begins like this cannot be `model`, whatever follows.
pub fn rules_out(came: &SniffedContent, model: &Model) -> bool {
    matches!(came, SniffedContent::Pointer { .. }) && model.size > LONGEST_POINTER
}

fn pointer(rest: &str, model: &Model) -> SniffedContent {
    let value = |key: &str| rest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let oid = value("oid").and_then(|oid| oid.trim().strip_prefix("sha256:")?.parse::<Sha256>().ok());
    let size = value("size").and_then(|size| size.trim().parse::<u64>().ok());
    SniffedContent::Pointer { oid, size, is_ours: oid == Some(model.sha256) && size == Some(model.size) }
}

fn is_page(text: &str) -> bool {
    let start: String = text.chars().take(256).collect::<String>().to_ascii_lowercase();
    // A comment may stand before either.
    let start = match start.strip_prefix("<!--") {
        Some(comment) => comment.split_once("-->").map_or("", |(_, rest)| rest.trim_start()),
        None => &start,
    };
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

/// What an object of JSON that is an error says; all of it has to be here.
fn said_in_json(text: &str) -> Option<String> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return None };
    let words = |object: &serde_json::Map<String, Value>| {
        let said = ["code", "error", "message", "detail", "error_description"].into_iter();
        let said: Vec<String> = said.filter_map(|key| object.get(key)?.as_str().map(str::to_owned)).collect();
        (!said.is_empty()).then(|| said.join(": "))
    };
    match object.get("error") {
        Some(Value::Object(inner)) => words(inner),
        Some(Value::String(_)) => words(&object),
        _ if object.contains_key("message") || object.contains_key("detail") => words(&object),
        _ => None,
    }
}

/// What the error documents of object stores say.
fn said_in_xml(text: &str) -> Option<String> {
    if !text.contains("<Error>") && !text.contains("<Error ") {
        return None;
    }
    let said: Vec<&str> = [("<Code", "</Code>"), ("<Message", "</Message>")]
        .into_iter()
        .filter_map(|(start, end)| between(text, start, end))
        .collect();
    (!said.is_empty()).then(|| said.join(": "))
}

/// What stands in an element, whatever attributes it has.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    // Letters beyond ASCII keep their lengths.
    let small = text.to_ascii_lowercase();
    let at = small.find(&start.to_ascii_lowercase())?;
    let from = at + small[at..].find('>')? + 1;
    let to = from + small[from..].find(&end.to_ascii_lowercase())?;
    Some(&text[from..to])
}

/// A server's words in one line, without what it was told. A word that may be a token, a signature or an address with one
/// is left out, too: the server may have it from somebody else.
fn printable(text: &str, told: &Redactor) -> Option<String> {
    let text = told.conceal(text);
    let is_secret = |word: &str| {
        let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
        word.contains(['?', '=', '&', '%', '@'])
            || word.len() > 32
            || (word.len() >= 12 && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic))
    };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.map(|word| if is_secret(word) { "…" } else { word }).collect();
    let line: String = words.join(" ").chars().take(120).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests;
