//! Positions in a lock's text. `toml_edit` gives the spans of keys and values; this module assigns the lines between
//! them to models.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use toml_edit::{ArrayOfTables, Document, Item, Table, Value};

/// The positions of a lock's parts.
#[derive(Debug, Clone)]
pub(super) struct Spans {
    /// The line ending of the first line.
    pub(super) newline: &'static str,
    /// The end of the lock's own keys and of the comment directly below them.
    pub(super) head_end: usize,
    /// The models in text order; `None` if they are an inline array.
    pub(super) models: Option<Vec<ModelSpan>>,
}

/// One `[[model]]`.
#[derive(Debug, Clone)]
pub(super) struct ModelSpan {
    pub(super) path: String,
    /// The model's whole region: a blank line before it, the comments directly above, header, keys, and comments
    /// directly below.
    pub(super) region: Range<usize>,
    pub(super) keys: HashMap<String, KeySpan>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct KeySpan {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    /// The items of a list.
    pub(super) items: Vec<Range<usize>>,
}

impl Spans {
    /// Finds the positions in a valid lock.
    pub(super) fn find(text: &str) -> Self {
        let document = Document::parse(text).expect("what parses as a lock is TOML");
        let newline = match text.find('\n') {
            Some(at) if text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        };
        let root = document.as_table();
        // A table with a header of its own is no part of the head.
        let of_head =
            |(_, item): &(&str, &Item)| item.is_value() || item.as_table().is_some_and(Table::is_dotted);
        let ends = root.iter().filter(of_head).filter_map(|(_, item)| end_before(item, text.len()));
        let head = ends.max().map_or(0, |end| line_end(text, end));
        let others =
            root.iter().filter(|(key, _)| *key != "model").flat_map(|(_, item)| headers(item)).collect();
        let tables = match document.get("model") {
            None => Some(Vec::new()),
            Some(Item::ArrayOfTables(tables)) => Some(tables.iter().collect()),
            Some(_) => None,
        };
        let Some(mut tables) = tables else { return Self { newline, head_end: head, models: None } };
        tables.sort_by_key(|table| start_of(table));
        let (head_end, models) = regions(text, head, &tables, &others);
        Self { newline, head_end, models: Some(models) }
    }
}

/// Assigns the lines to models. The lock's other tables have headers at `others`; no model has their lines.
fn regions(text: &str, head: usize, tables: &[&Table], others: &BTreeSet<usize>) -> (usize, Vec<ModelSpan>) {
    let headers: Vec<usize> = tables.iter().map(|table| line_start(text, start_of(table))).collect();
    let mut head_end = None;
    let mut models: Vec<ModelSpan> = Vec::with_capacity(tables.len());
    let mut body_end = head;
    for at in 0..=tables.len() {
        let next = headers.get(at).copied();
        let other = others.range(body_end..).next().map(|other| line_start(text, *other));
        let other = other.filter(|other| next.is_none_or(|next| *other < next));
        let (tail_end, start) = match other {
            None => share(text, body_end, next),
            Some(other) => (share(text, body_end, Some(other)).0, share(text, other, next).1),
        };
        // The open region ends here.
        match models.last_mut() {
            Some(model) => model.region.end = tail_end,
            None => head_end = Some(tail_end),
        }
        let (Some(table), Some(header)) = (tables.get(at), next) else { break };
        let keys = keys_of(table);
        let end = headers.get(at + 1).copied().unwrap_or(text.len());
        let end = others.range(header..end).next().copied().unwrap_or(end);
        let last = table.iter().filter_map(|(_, item)| end_before(item, end)).max();
        body_end = line_end(text, last.unwrap_or(header));
        let path = table.get("path").and_then(Item::as_str).unwrap_or_default().to_owned();
        models.push(ModelSpan { path, region: start..body_end, keys });
    }
    (head_end.unwrap_or(head), models)
}

/// Splits the lines between `from` and the header `next` (or the end). Returns the end of the lines that belong to the
/// model above, and the start of those that belong to the model below.
fn share(text: &str, from: usize, next: Option<usize>) -> (usize, usize) {
    let end = next.unwrap_or(text.len());
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    let lines: Vec<&str> = text[from..end].split_inclusive('\n').collect();
    let above: usize = lines.iter().take_while(|line| is_comment(line)).map(|line| line.len()).sum();
    if next.is_none() {
        return (from + above, end);
    }
    let below = lines.iter().rev().take_while(|line| is_comment(line));
    let (count, below) = below.fold((0, 0), |(count, bytes), line| (count + 1, bytes + line.len()));
    // All lines form one block directly above the header.
    let tail_end = if count == lines.len() { from } else { from + above };
    let mut start = end - below;
    if let Some(blank) = lines.iter().rev().nth(count).filter(|line| line.trim().is_empty()) {
        start -= blank.len();
    }
    (tail_end, start)
}

fn keys_of(table: &Table) -> HashMap<String, KeySpan> {
    let span_of = |key: &str| {
        let (key, item) = table.get_key_value(key)?;
        let value = item.as_value()?;
        let items = match value {
            Value::Array(items) => items.iter().filter_map(Value::span).collect(),
            _ => Vec::new(),
        };
        Some(KeySpan { key: key.span()?, value: value.span()?, items })
    };
    table.iter().filter_map(|(key, _)| Some((key.to_owned(), span_of(key)?))).collect()
}

/// The end of the last value or header of `item` that is before `limit`.
fn end_before(item: &Item, limit: usize) -> Option<usize> {
    let own = item.span().map(|span| span.end).filter(|end| *end <= limit);
    own.into_iter()
        .chain(tables_of(item).flat_map(Table::iter).filter_map(|(_, item)| end_before(item, limit)))
        .max()
}

/// The positions of the headers of `item` and of the tables in it.
fn headers(item: &Item) -> Vec<usize> {
    let own = tables_of(item).map(start_of);
    own.chain(tables_of(item).flat_map(Table::iter).flat_map(|(_, item)| headers(item))).collect()
}

fn tables_of(item: &Item) -> impl Iterator<Item = &Table> {
    let one = item.as_table();
    let several = item.as_array_of_tables();
    one.into_iter().chain(several.into_iter().flat_map(ArrayOfTables::iter))
}

fn start_of(table: &Table) -> usize {
    table.span().map_or(0, |span| span.start)
}

/// The start of the line at `at`.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The end of the line at `at`, including its newline.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1)
}
