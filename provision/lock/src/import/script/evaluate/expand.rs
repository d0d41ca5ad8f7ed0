//! The expansions of a word: quotes, parameters, `$(basename …)` and `$(dirname …)`. Braces are not read.

use super::{DEEPEST, Evaluator, UNKNOWN, cost};
use crate::import::script::shell::{Text, closed_length, is_name};

/// The texts that a word becomes.
struct Expansion {
    done: Vec<Text>,
    /// The text that is not complete; `None` before its first character. Quotes leave an empty one.
    open: Option<String>,
    line: usize,
    /// The word is one expansion, which keeps the line of its value.
    is_one: bool,
    /// Texts without quotes are split at white space.
    splits: bool,
}

impl Expansion {
    fn push(&mut self, text: &str) {
        self.open.get_or_insert_default().push_str(text);
    }

    /// The values of a parameter; the first and last ones join the text around them.
    fn push_all(&mut self, values: &[Text]) {
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.end();
            }
            if self.is_one {
                self.line = value.line;
            }
            self.push(&value.text);
        }
    }

    fn end(&mut self) {
        let line = self.line;
        self.done.extend(self.open.take().map(|text| Text { text, line }.limited()));
    }
}

impl Evaluator {
    /// The texts that a shell makes of a word.
    pub(super) fn expand(&mut self, word: &Text) -> Vec<Text> {
        let texts = self.expansion(word, true, false);
        let is_braced = |text: &Text| {
            let group = text.text.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            group.is_some_and(|(group, _)| group.contains(',') || group.contains(".."))
        };
        if word.text.contains('{') && !word.text.contains(['"', '\'']) && texts.iter().any(is_braced) {
            return vec![Text::unknown(word.line)];
        }
        texts
    }

    /// The word as one text.
    pub(super) fn scalar(&mut self, word: &Text) -> Text {
        one(self.expansion(word, false, false), word)
    }

    /// A text as between double quotes, in which quotes are letters.
    pub(super) fn quoted(&mut self, text: &Text) -> Text {
        one(self.expansion(text, false, true), text)
    }

    fn expansion(&mut self, word: &Text, splits: bool, is_here: bool) -> Vec<Text> {
        self.steps += word.text.len() / 32;
        if self.depth > DEEPEST {
            return vec![Text::unknown(word.line)];
        }
        self.depth += 1;
        let text = word.text.as_str();
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let is_one = inner.strip_prefix('$').is_some_and(|rest| parameter_length(rest) == rest.len());
        let (line, done, open) = (word.line, Vec::new(), None);
        let mut into = Expansion { done, open, line, is_one, splits };
        let (mut rest, mut is_quoted) = (text, is_here);
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            match letter {
                '\'' if !is_quoted => {
                    let (literal, after) = rest.split_once('\'').unwrap_or((rest, ""));
                    into.push(literal);
                    rest = after;
                }
                '"' if !is_here => {
                    is_quoted = !is_quoted;
                    into.push("");
                }
                '\\' if !is_quoted || rest.starts_with(['"', '\\', '$', '`', '\n']) => {
                    let escaped = rest.chars().next().map_or(0, char::len_utf8);
                    into.push(rest[..escaped].trim_start_matches('\n'));
                    rest = &rest[escaped..];
                }
                '`' => {
                    into.push("\0");
                    rest = &rest[closed_length(rest, '`').unwrap_or(rest.len())..];
                }
                '$' => {
                    let (parameter, after) = rest.split_at(parameter_length(rest));
                    rest = after;
                    if !parameter.is_empty() {
                        self.parameter(parameter, is_quoted, &mut into);
                    } else if is_quoted || !rest.starts_with(['\'', '"']) {
                        into.push("$");
                    }
                }
                _ => into.push(letter.encode_utf8(&mut [0; 4])),
            }
        }
        into.end();
        self.depth -= 1;
        into.done
    }

    /// An expansion behind its `$`.
    fn parameter(&mut self, text: &str, is_quoted: bool, into: &mut Expansion) {
        let line = into.line;
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        let mut values = if text.starts_with('(') {
            let (command, path) = inner.trim().split_once(' ').unwrap_or_default();
            let is_word = !path.contains([' ', '|', ';', '\n']);
            let path = |evaluator: &mut Self| evaluator.scalar(&Text { text: path.to_owned(), line });
            match command {
                "basename" if is_word => {
                    let path = path(self);
                    vec![path.with(basename(&path.text))]
                }
                "dirname" if is_word => {
                    let path = path(self);
                    vec![path.with(path.text.rsplit_once('/').map_or(".", |(directory, _)| directory))]
                }
                _ => vec![Text::unknown(line)],
            }
        } else {
            self.values(if text.starts_with('{') { inner } else { text }, line)
        };
        self.steps += cost(&values);
        let splits = into.splits && !is_quoted && values.iter().any(|value| value.text.contains([' ', '\n']));
        if splits {
            let fields = |value: &Text| {
                value.text.split_whitespace().map(|field| value.with(field)).collect::<Vec<_>>()
            };
            values = values.iter().flat_map(fields).collect();
        }
        into.push_all(&values);
    }

    /// The values of a parameter, `NAME` or `NAME[INDEX]` with its operator.
    fn values(&mut self, text: &str, line: usize) -> Vec<Text> {
        let unknown = || vec![Text::unknown(line)];
        let is_indirect = text.len() > 1 && text.starts_with('!');
        let text = text.strip_prefix('!').filter(|_| is_indirect).unwrap_or(text);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = if text.starts_with(['@', '*']) {
            1
        } else {
            text.find(|c| !is_of_name(c)).unwrap_or(text.len())
        };
        let (name, rest) = text.split_at(end);
        let (index, operator) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((index, operator)) => (Some(index), operator),
            None => (None, rest),
        };
        if name.is_empty() {
            // `$#`, `$?`, `${#NAME}`.
            return unknown();
        }
        let is_list = matches!(name, "@" | "*") || matches!(index, Some("@" | "*"));
        let number = name.parse::<usize>().ok();
        let mut values: Option<Vec<Text>> = match number {
            _ if matches!(name, "@" | "*") => Some(self.frame().positional.clone()),
            Some(number) => {
                let at = number.checked_sub(1);
                at.and_then(|at| self.frame().positional.get(at)).map(|value| vec![value.clone()])
            }
            None => self.get(name).map(|value| value.to_vec()),
        };
        if is_indirect && !is_list {
            // The value is a parameter's name, such as `NAME[@]`.
            let named = values.and_then(|values| values.into_iter().next()).filter(Text::is_known);
            let named = named.map_or_else(String::new, |named| named.text);
            return self.values(named.trim_start_matches('!'), line);
        }
        self.steps += values.as_deref().map_or(0, cost);
        if let Some(known) = &mut values {
            match index {
                _ if is_indirect && is_list => {
                    *known = known.iter().enumerate().map(|(at, one)| one.with(element(at, one).0)).collect();
                }
                Some(index) if !is_list => {
                    let index = self.scalar(&Text { text: index.to_owned(), line }).text;
                    let found = known.iter().enumerate().map(|(at, one)| (element(at, one), one.line));
                    let found = found.rev().find(|((key, _), _)| *key == index);
                    let is_known = !index.contains(UNKNOWN);
                    *known = match found.filter(|_| is_known) {
                        Some(((_, value), line)) => vec![Text { text: value.to_owned(), line }],
                        None => unknown(),
                    };
                }
                _ => {
                    *known = known.iter().enumerate().map(|(at, one)| one.with(element(at, one).1)).collect();
                    known.truncate(if is_list { usize::MAX } else { 1 });
                }
            }
        }
        let is_empty = values.iter().flatten().all(|value| value.text.is_empty());
        let default = operator.strip_prefix(':').unwrap_or(operator).strip_prefix(['-', '=']);
        if let Some(default) = default {
            let default = Text { text: default.to_owned(), line };
            return if is_empty { vec![self.scalar(&default)] } else { values.unwrap_or_default() };
        }
        // A parameter that the call does not have is empty.
        let is_absent = self.frames.len() > 1 && !self.is_uncalled && !is_name(name);
        let Some(values) = values else { return if is_absent { Vec::new() } else { unknown() } };
        if operator.is_empty() {
            return values;
        }
        if let (true, Some(Ok(from))) = (is_list, operator.strip_prefix(':').map(str::parse::<usize>)) {
            // The positional parameters count from one.
            let from = if index.is_none() { from.saturating_sub(1) } else { from };
            return values.into_iter().skip(from).collect();
        }
        values.iter().map(|value| value.with(strip(&value.text, operator).unwrap_or("\0"))).collect()
    }
}

/// The texts of a word that is one.
fn one(texts: Vec<Text>, word: &Text) -> Text {
    let line = texts.first().map_or(word.line, |text| text.line);
    let text = texts.into_iter().map(|text| text.text).collect::<Vec<_>>().join(" ");
    Text { text, line }.limited()
}

/// The length of the expansion behind a `$`.
fn parameter_length(text: &str) -> usize {
    match text.chars().next() {
        Some(open @ ('(' | '{')) => {
            let close = if open == '(' { ')' } else { '}' };
            closed_length(&text[1..], close).map_or(text.len(), |length| 1 + length)
        }
        Some(c) if c.is_ascii_alphabetic() || c == '_' => {
            text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
        }
        Some(c) if c.is_ascii_digit() || matches!(c, '@' | '*' | '#' | '?' | '$' | '!' | '-') => 1,
        _ => 0,
    }
}

/// The key and value of an array's element: `[KEY]=VALUE`, or its number.
fn element(at: usize, element: &Text) -> (String, &str) {
    let keyed = element.text.strip_prefix('[').and_then(|text| text.split_once("]="));
    keyed.map_or_else(|| (at.to_string(), element.text.as_str()), |(key, value)| (key.to_owned(), value))
}

/// The last part of a path, or of an address without its query.
fn basename(path: &str) -> &str {
    let end = if path.contains("://") { path.find(['?', '#']).unwrap_or(path.len()) } else { path.len() };
    path[..end].trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// The text without the prefix (`#`, `##`) or the end (`%`, `%%`) that the operator's pattern matches; `None` for
/// another operator, and for a pattern with more than one `*`, at its outer end.
fn strip<'a>(text: &'a str, operator: &str) -> Option<&'a str> {
    let kind = operator.chars().next().filter(|kind| matches!(kind, '#' | '%'))?;
    let (pattern, is_longest) = match operator[1..].strip_prefix(kind) {
        Some(pattern) => (pattern, true),
        None => (&operator[1..], false),
    };
    // An escaped `?` is a letter, as in `%%\?*`.
    let is_glob = pattern.replace("\\?", "").contains(['?', '[', '$', '`']);
    let pattern = pattern.replace(['"', '\'', '\\'], "");
    let is_open = if kind == '%' { pattern.ends_with('*') } else { pattern.starts_with('*') };
    let literal = pattern.trim_matches('*');
    if literal.is_empty() || literal.contains('*') || is_glob {
        return None;
    }
    let found = if is_longest == (kind == '%') { text.find(literal) } else { text.rfind(literal) };
    Some(match (kind, is_open) {
        ('%', true) => found.map_or(text, |at| &text[..at]),
        ('%', false) => text.strip_suffix(literal).unwrap_or(text),
        (_, true) => found.map_or(text, |at| &text[at + literal.len()..]),
        _ => text.strip_prefix(literal).unwrap_or(text),
    })
}
