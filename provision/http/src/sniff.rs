//! Content sniffing: recognises a Git LFS pointer, a web page or an error document that came instead of a file. Pure.
//!
//! It looks at the first bytes of a body whose length, digest or end says that it is not the model, and never at bytes
//! that may be right. The one exception is a Git LFS pointer. By its specification a pointer is shorter than 1 KiB, so
//! the beginning of one is never the beginning of a longer model, and is not even written.
//!
//! Text of a server goes into a message, so it is cut to one line. The secrets of the request, and words that look like
//! secrets, are removed (I6).

use provision_core::byte_size::ByteSize;
use std::fmt;

use http::header::{self, HeaderMap};
use serde_json::Value;

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::redact::Redactor;
use provision_core::terminal_text::is_unsafe;

/// The number of bytes that [`sniff`] looks at.
pub const SNIFF_LENGTH: usize = 4 << 10;

/// The size below which every pointer is (Git LFS specification).
const LONGEST_POINTER: u64 = 1024;

/// The first line of a pointer, with the specification's present and former host.
const POINTERS: [&str; 2] =
    ["version https://git-lfs.github.com/spec/v1\n", "version https://hawser.github.com/spec/v1\n"];

/// The content that came instead of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SniffedContent {
    /// A Git LFS pointer, which a repository holds in the file's place.
    Pointer {
        /// The digest of the pointer's file.
        oid: Option<Sha256>,
        /// The size of the pointer's file in bytes.
        size: Option<u64>,
        /// Digest and size are the lock's.
        is_locked_file: bool,
    },
    /// A web page.
    Page {
        /// The title.
        title: Option<String>,
    },
    /// An error document in JSON or XML.
    Error {
        /// The message.
        text: String,
    },
}

impl SniffedContent {
    /// True if the URL leads to other bytes for good: neither a retry nor a login would help.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Pointer { .. })
    }
}

impl fmt::Display for SniffedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer { oid, size, is_locked_file } => {
                f.write_str("a Git LFS pointer came instead of the file")?;
                match (oid, size) {
                    (Some(oid), Some(size)) if *is_locked_file => write!(
                        f,
                        "; it points to the file that the lock lists (SHA-256 {oid}, {})",
                        ByteSize(*size).exact()
                    )?,
                    (Some(oid), Some(size)) => write!(
                        f,
                        "; it points to another file than the lock lists (SHA-256 {oid}, {})",
                        ByteSize(*size).exact()
                    )?,
                    _ => {}
                }
                f.write_str(
                    ". The repository holds a pointer there: use the URL of the file itself (/resolve/ on the Hub, \
                     media.githubusercontent.com/media/ on GitHub), or fetch it with git lfs",
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
                write!(f, "an error message came instead of the model, with a success status: {text}")
            }
        }
    }
}

/// The content of `body`, which came instead of `model` and begins at the file's first byte. `None` if it is not
/// recognised. `redactor` removes the secrets of the request from its text.
pub fn sniff(body: &[u8], model: &Model, redactor: &Redactor) -> Option<SniffedContent> {
    let body = &body[..body.len().min(SNIFF_LENGTH)];
    // The first byte excludes nearly every file, and small files come by the thousand.
    let begins = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body).trim_ascii_start();
    if !matches!(begins.first()?, b'v' | b'<' | b'{') {
        return None;
    }
    let text = String::from_utf8_lossy(begins);
    let text = &*text;
    if let Some(rest) = POINTERS.iter().find_map(|first| text.strip_prefix(first)) {
        return Some(pointer(rest, model));
    }
    // A page whose model is named `.html` is not recognised: it may be the model.
    let has_extension = |extension: &str| {
        model.path.file_name().rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(extension))
    };
    if !has_extension("html") && !has_extension("htm") && is_page(text) {
        return Some(SniffedContent::Page {
            title: between(text, "<title", "</title>").and_then(|title| one_line(title, redactor)),
        });
    }
    let message = match text.as_bytes().first()? {
        b'{' => json_error(text),
        b'<' => xml_error(text),
        _ => None,
    };
    Some(SniffedContent::Error { text: one_line(&message?, redactor)? })
}

/// The reason in the body of a refusal: a JSON or XML document's message, a page's title, or a text's first line. It is
/// short and has no secret of the request.
pub(crate) fn reason(body: &[u8], headers: &HeaderMap, redactor: &Redactor) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let message = match text.as_bytes().first()? {
        b'{' => json_error(text).or_else(|| other_json_error(text))?,
        b'<' if is_page(text) => between(text, "<title", "</title>")?.to_owned(),
        b'<' => xml_error(text)?,
        _ => {
            let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
            let is_text = content_type.trim().to_ascii_lowercase().starts_with("text/plain");
            text.lines().next().filter(|_| is_text)?.to_owned()
        }
    };
    one_line(&message, redactor)
}

/// True if a body with this beginning cannot be `model`, whatever follows.
pub fn rules_out(content: &SniffedContent, model: &Model) -> bool {
    matches!(content, SniffedContent::Pointer { .. }) && model.size > LONGEST_POINTER
}

/// The pointer with these lines after its first.
fn pointer(rest: &str, model: &Model) -> SniffedContent {
    let value = |key: &str| rest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let oid = value("oid").and_then(|oid| oid.trim().strip_prefix("sha256:")?.parse::<Sha256>().ok());
    let size = value("size").and_then(|size| size.trim().parse::<u64>().ok());
    SniffedContent::Pointer {
        oid,
        size,
        is_locked_file: oid == Some(model.sha256) && size == Some(model.size),
    }
}

/// True for the beginning of an HTML page. A prolog and comments may precede the root element (XHTML 1.0 section
/// 3.1.1).
fn is_page(text: &str) -> bool {
    let mut start = text;
    while let Some(end) = [("<?xml", "?>"), ("<!--", "-->")]
        .into_iter()
        .find_map(|(begin, end)| start.starts_with(begin).then_some(end))
    {
        let Some((_, rest)) = start.split_once(end) else { return false };
        start = rest.trim_start();
    }
    ["<!doctype html", "<html"]
        .into_iter()
        .any(|begin| start.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin)))
}

/// The message of a JSON error document, which has to be complete.
fn json_error(text: &str) -> Option<String> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return None };
    let message = |object: &serde_json::Map<String, Value>| {
        let keys = ["code", "error", "message", "detail", "error_description"].into_iter();
        let texts: Vec<String> =
            keys.filter_map(|key| object.get(key)?.as_str().map(str::to_owned)).collect();
        (!texts.is_empty()).then(|| texts.join(": "))
    };
    match object.get("error") {
        Some(Value::Object(inner)) => message(inner),
        Some(Value::String(_)) => message(&object),
        _ if object.contains_key("message") || object.contains_key("detail") => message(&object),
        _ => None,
    }
}

/// The message of a registry's or `ModelScope`'s error document, which has to be complete.
fn other_json_error(text: &str) -> Option<String> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return None };
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    if let Some(first) = object.get("errors").and_then(|errors| errors.get(0)) {
        let texts: Vec<String> = ["code", "message"].iter().filter_map(|key| text(first, key)).collect();
        return if texts.is_empty() { first.as_str().map(str::to_owned) } else { Some(texts.join(": ")) };
    }
    let object = Value::Object(object);
    ["Message", "msg", "reason", "title", "code"].iter().find_map(|key| text(&object, key))
}

/// The message of an object store's error document.
fn xml_error(text: &str) -> Option<String> {
    if !text.contains("<Error>") && !text.contains("<Error ") {
        return None;
    }
    let texts: Vec<&str> = [("<Code", "</Code>"), ("<Message", "</Message>")]
        .into_iter()
        .filter_map(|(start, end)| between(text, start, end))
        .collect();
    (!texts.is_empty()).then(|| texts.join(": "))
}

/// The text of an element, with any attributes.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    // Only ASCII letters change, so the offsets stay the same.
    let lower = text.to_ascii_lowercase();
    let at = lower.find(&start.to_ascii_lowercase())?;
    let from = at + lower[at..].find('>')? + 1;
    let to = from + lower[from..].find(&end.to_ascii_lowercase())?;
    Some(&text[from..to])
}

/// A server's text in one line without the secrets of the request. A word that looks like a token, a signature or a
/// signed URL is removed as well: it may be another client's secret.
fn one_line(text: &str, redactor: &Redactor) -> Option<String> {
    let text = redactor.redact(text);
    let is_secret = |word: &str| {
        let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
        word.contains(['?', '=', '&', '%', '@'])
            || word.len() > 32
            || (word.len() >= 12 && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic))
    };
    let words = text.split(|c: char| c.is_whitespace() || is_unsafe(c)).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.map(|word| if is_secret(word) { "…" } else { word }).collect();
    let line: String = words.join(" ").chars().take(120).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests;
