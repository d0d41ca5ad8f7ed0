//! The file's name in `Content-Disposition` (RFC 6266): `filename*` with its encoding (RFC 8187) comes before
//! `filename`.
//!
//! A name that a host sends is not trusted: directories are dropped, as RFC 6266 section 4.3 advises, and a text with
//! characters that no terminal or path should have is no name. The caller checks the rest as it checks any path.

use http::header::{self, HeaderMap};
use percent_encoding::percent_decode_str;

/// The longest name in bytes, as file systems have it.
const LONGEST: usize = 255;

/// The name, if the headers have a usable one.
pub(crate) fn file_name(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_DISPOSITION)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let parameters = parameters(&text);
    let named = |wanted: &str| {
        let (_, value) = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(value.clone())
    };
    let extended = named("filename*").and_then(|value| decoded(&value)).and_then(|name| last(&name));
    extended.or_else(|| named("filename").and_then(|name| last(&name)))
}

/// The parameters behind the first `;`, with quoted texts unquoted. A `;` may stand in a quoted text.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, end) = if let Some(quoted) = after.strip_prefix('"') {
            unquoted(quoted)
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        found.push((name.trim_start_matches([';', ' ', '\t']).trim().to_owned(), value));
        rest = end;
    }
    found
}

/// A quoted text up to its end, and the text behind it.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

/// `UTF-8'LANGUAGE'NAME`, percent-encoded; the other encoding of RFC 8187 is ISO-8859-1.
fn decoded(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    let bytes = percent_decode_str(encoded);
    if charset.eq_ignore_ascii_case("utf-8") {
        bytes.decode_utf8().ok().map(Into::into)
    } else if charset.eq_ignore_ascii_case("iso-8859-1") {
        Some(bytes.map(char::from).collect())
    } else {
        None
    }
}

/// The last part of a path, if it may be a name.
fn last(name: &str) -> Option<String> {
    let last = name.trim().rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let is_name = !last.is_empty() && last.len() <= LONGEST && !matches!(last, "." | "..");
    (is_name && !last.chars().any(|c| c.is_control() || c == '\u{fffd}')).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::headers;

    #[test]
    fn a_content_disposition_names_the_file() {
        let name = |value: &str| file_name(&headers(&[("content-disposition", value)]));
        for (value, expected) in [
            ("attachment; filename=x.pt", Some("x.pt")),
            ("attachment; filename=\"a; b \\\"c\\\".pt\"; size=7", Some("a; b \"c\".pt")),
            ("inline;FileName = \"x.pt\"", Some("x.pt")),
            ("attachment; filename=\"fallback.pt\"; filename*=UTF-8''na%C3%AFve%20x.pt", Some("naïve x.pt")),
            ("attachment; filename*=utf-8'en'x%2ept; filename=y.pt", Some("x.pt")),
            ("attachment; filename*=ISO-8859-1''na%EFve.pt", Some("naïve.pt")),
            // A text that cannot be decoded does not count.
            ("attachment; filename*=UTF-8''%FF; filename=y.pt", Some("y.pt")),
            ("attachment; filename*=KOI8-R''x; filename=y.pt", Some("y.pt")),
            ("attachment; filename*=x.pt; filename=y.pt", Some("y.pt")),
            // Directories are dropped.
            ("attachment; filename=\"../../etc/x.pt\"", Some("x.pt")),
            ("attachment; filename=\"C:\\\\models\\\\x.pt\"", Some("x.pt")),
            ("attachment; filename*=UTF-8''..%2F..%2Fx.pt", Some("x.pt")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"x/\"", None),
            ("attachment; filename*=UTF-8''x%0A.pt", None),
            ("attachment; filename*=UTF-8''x%1B[2J.pt", None),
            ("attachment; filename=", None),
            ("attachment; filename=\"", None),
            ("attachment", None),
            ("filename=x.pt", None),
            ("", None),
        ] {
            assert_eq!(name(value).as_deref(), expected, "{value}");
        }
        assert_eq!(name(&format!("attachment; filename={}", "x".repeat(256))), None);
    }
}
