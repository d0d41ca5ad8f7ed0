//! Redaction of a lock's lines for error messages (I6).
//!
//! An error shows its line, and a lock may hold signed queries, passwords before hosts, and anything under an unknown
//! key. A wrong line is one that no parser understood: a quote is missing, a string spans lines, a key is misspelt. So
//! the redaction blanks everything except parts that are safe where they stand: names of keys, a path, a number, the
//! digits of a digest, and scheme, host and path of a URL as far as nothing in it looks like a query. Each blank is as
//! wide as the character it replaces, so that the caret below the line stays in place.
//!
//! The parser's messages quote the text, too: [`message`] redacts them.

use std::ops::Range;

/// The character in place of a hidden one.
const BLANK: char = '·';

/// The longest name of an unknown key that is shown: a misspelt key is short, a token is long.
const LONGEST_KEY: usize = 20;

/// The keys of a lock.
const KEYS: [&str; 11] =
    ["version", "marker", "model", "path", "url", "mirrors", "size", "sha256", "pieces", "groups", "source"];

/// Keys whose value is shown if it looks like a path.
const NAMES: [&str; 3] = ["path", "marker", "groups"];
/// Keys whose value is a number.
const NUMBERS: [&str; 2] = ["version", "size"];
/// Keys whose value is a digest.
const DIGESTS: [&str; 2] = ["sha256", "pieces"];
/// Keys whose value is one URL or several.
const ADDRESSES: [&str; 2] = ["url", "mirrors"];

/// The line with possible secrets blanked.
pub(super) fn line(line: &str) -> String {
    let mut shown = MaskedLine { line: line.chars().collect(), open: Vec::new() };
    shown.open = vec![false; shown.line.len()];
    shown.unmask();
    let pick = |(c, open): (&char, &bool)| if *open || c.is_whitespace() { *c } else { BLANK };
    shown.line.iter().zip(&shown.open).map(pick).collect()
}

/// A parser's message without the quoted text.
pub(super) fn message(message: &str) -> String {
    // serde's words: `invalid type: string "…", expected i64`, `unknown field `…`, expected one of …`.
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(kind)
            && let Some((found, expected)) = rest.rsplit_once(", expected ")
        {
            let found = found.split(['"', '`']).next().unwrap_or_default().trim();
            return format!(
                "{kind}{}, expected {expected}",
                if found.is_empty() { "a value" } else { found }
            );
        }
    }
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((key, expected)) = rest.rsplit_once("`, expected ")
    {
        return if is_safe_key(key) {
            message.to_owned()
        } else {
            format!("unknown field, expected {expected}")
        };
    }
    // The other messages are fixed sentences. In backquotes they have TOML's own signs (`=`, `0x`) and a lock's keys;
    // any other quoted word comes from the text.
    let quotes = message.contains('"') && !message.contains("`\"`");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let is_ours = |word: &str| KEYS.contains(&word) || word.len() <= 3;
    if quotes || !quoted.all(is_ours) {
        return "this cannot be understood".to_owned();
    }
    message.to_owned()
}

/// A value that should be a number, for a message.
pub(super) fn number(text: &str) -> String {
    if is_number(text.chars()) { text.to_owned() } else { "no number".to_owned() }
}

fn is_number(text: impl Iterator<Item = char>) -> bool {
    let mut length = 0;
    text.inspect(|_| length += 1).all(|c| c.is_ascii_digit() || "+-._eE\"' ".contains(c)) && length <= 40
}

fn is_safe_key(key: &str) -> bool {
    let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    !key.is_empty() && key.len() <= LONGEST_KEY && key.chars().all(safe)
}

/// A line, and a flag for each character that may be shown.
struct MaskedLine {
    line: Vec<char>,
    open: Vec<bool>,
}

impl MaskedLine {
    fn unmask(&mut self) {
        let start = self.skip_space(0);
        match self.at(start) {
            Some('[') => return self.header(start),
            // An element of a list that spans lines.
            Some('"' | '\'') => return self.strings(start, ADDRESSES[1]),
            _ => {}
        }
        let end = self.while_at(start, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let equals = self.skip_space(end);
        if self.at(equals) != Some('=') {
            return;
        }
        let key: String = self.line[start..end].iter().collect();
        if !is_safe_key(&key) {
            return;
        }
        self.open[start..=equals].fill(true);
        let value = self.skip_space(equals + 1);
        if NUMBERS.contains(&key.as_str()) {
            let end = self.while_at(value, |c| !matches!(c, '#' | ','));
            if is_number(self.line[value..end].iter().copied()) {
                self.open[value..end].fill(true);
            }
        } else {
            self.strings(value, &key);
        }
    }

    /// `[[model]]`, or another table with a safe name.
    fn header(&mut self, start: usize) {
        let name = self.while_at(start, |c| c == '[');
        let end = self.while_at(name, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let key: String = self.line[name..end].iter().collect();
        self.open[start..name].fill(true);
        if is_safe_key(&key) && self.at(end) == Some(']') {
            let close = self.while_at(end, |c| c == ']');
            self.open[name..close].fill(true);
        }
    }

    /// The strings of a value: one or a list.
    fn strings(&mut self, mut at: usize, key: &str) {
        while let Some(c) = self.at(at) {
            match c {
                '[' | ']' | ',' => {
                    self.open[at] = true;
                    at += 1;
                }
                '"' | '\'' => {
                    self.open[at] = true;
                    let end = self.while_at(at + 1, |end| end != c);
                    let next = self.at(self.skip_space(end + 1));
                    if self.at(end).is_none() || !matches!(next, None | Some(',' | ']' | '#')) {
                        return self.open_string(at + 1);
                    }
                    self.open[end] = true;
                    self.string(at + 1, end, key);
                    at = end + 1;
                }
                c if c.is_whitespace() => at += 1,
                _ => return self.open_string(at),
            }
        }
    }

    /// The safe part of a string without a closing quote, whose end and kind are unknown.
    fn open_string(&mut self, start: usize) {
        let end = self.while_at(start, |c| !matches!(c, '"' | '\'' | ','));
        let text: String = self.line[start..end].iter().collect();
        // A host without a path may be a user with a password.
        let has_path = text.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if has_path {
            self.address(start, &text);
        }
    }

    /// The safe part of a string that is written from `start` to `end`.
    fn string(&mut self, start: usize, end: usize, key: &str) {
        let text: String = self.line[start..end].iter().collect();
        if ADDRESSES.contains(&key) || text.contains("://") {
            self.address(start, &text);
        } else if NAMES.contains(&key) && !text.contains('@') {
            let length = text.chars().take_while(|c| !begins_a_query(*c)).count();
            self.open[start..start + length].fill(true);
        } else if DIGESTS.contains(&key) {
            for at in start..end {
                self.open[at] = self.line[at].is_ascii_hexdigit();
            }
        }
    }

    /// The safe part of a URL that is written at `start`.
    fn address(&mut self, start: usize, text: &str) {
        for part in safe_parts(text).into_iter().flatten() {
            self.open[start + part.start..start + part.end].fill(true);
        }
    }

    fn at(&self, at: usize) -> Option<char> {
        self.line.get(at).copied()
    }

    fn while_at(&self, start: usize, is: impl Fn(char) -> bool) -> usize {
        start + self.line[start.min(self.line.len())..].iter().take_while(|c| is(**c)).count()
    }

    fn skip_space(&self, start: usize) -> usize {
        self.while_at(start, char::is_whitespace)
    }
}

/// Returns true if a secret may follow: a query, a parameter, a fragment or an escape.
fn begins_a_query(c: char) -> bool {
    matches!(c, '?' | '#' | '=' | '&' | ';' | '@' | '\\' | '%')
}

/// The position of a URL's scheme, and of its host and path as far as they look like ones, in characters.
fn safe_parts(text: &str) -> Option<[Range<usize>; 2]> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || scheme.len() > 8 || !scheme.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let start = scheme.len() + 3;
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let path = &rest[authority.len()..];
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        None => name.chars().all(of_name),
    };
    let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    // A password with a slash in it looks like a host, a port and a path.
    if !is_name || !is_port || path.contains('@') {
        return Some([0..start, start..start]);
    }
    let host_start = start + user.chars().count() + usize::from(user.len() < authority.len() - host.len());
    let path = path.chars().take_while(|c| !begins_a_query(*c)).count();
    Some([0..start, host_start..host_start + host.chars().count() + path])
}
