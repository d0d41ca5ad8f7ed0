//! The text of an `extra_model_paths.yaml`: its sections, as `PyYAML` reads them for `ComfyUI`.
//!
//! Only the kinds of nodes that the file needs are kept. Size, depth and the number of merged entries are bounded; an
//! alias shares its node, so none can multiply.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

/// The deepest node. The file has a mapping of mappings.
const DEEPEST: usize = 16;
/// The most entries that merge keys add.
const MOST_MERGED: usize = 10_000;

/// A top-level entry: directories of models that have a base in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    /// As written: `~` and variables are not replaced.
    pub(super) base_path: Option<String>,
    /// Its directories are searched first.
    pub(super) is_default: bool,
    /// The folders and their directories, one a line, as written.
    pub(super) folders: Vec<(String, String)>,
}

/// A text that `ComfyUI` does not read either.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub(super) struct YamlError {
    line: usize,
    column: usize,
    what: String,
}

impl YamlError {
    fn at(marker: Marker, what: impl Into<String>) -> Self {
        Self { line: marker.line(), column: marker.col() + 1, what: what.into() }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self::at(*error.marker(), error.info())
    }
}

/// The sections in the order of the text. An empty text has none.
pub(super) fn sections(text: &str) -> Result<Vec<Section>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), merged: 0 };
    let Some(document) = reader.document()? else { return Ok(Vec::new()) };
    if document.is_null() {
        return Ok(Vec::new());
    }
    let Kind::Map(entries) = &*document.kind else {
        return Err(document.error("the file is no mapping of sections, such as `comfyui:`"));
    };
    let is_set = |(_, value): &&(String, Node)| !value.is_null();
    entries.iter().filter(is_set).map(|(name, value)| section(name, value)).collect()
}

fn section(name: &str, value: &Node) -> Result<Section, YamlError> {
    let Kind::Map(entries) = &*value.kind else {
        let what =
            format!("`{name}` is no section with keys below it, such as `base_path:` or `checkpoints:`");
        return Err(value.error(what));
    };
    let mut section =
        Section { name: name.to_owned(), base_path: None, is_default: false, folders: Vec::new() };
    for (key, value) in entries {
        match key.as_str() {
            "base_path" => section.base_path = Some(text(name, key, value)?),
            "is_default" => section.is_default = value.is_true(),
            _ => section.folders.push((key.clone(), text(name, key, value)?)),
        }
    }
    Ok(section)
}

fn text(section: &str, key: &str, value: &Node) -> Result<String, YamlError> {
    let is = match &*value.kind {
        Kind::Text { text, .. } if text.chars().any(|c| c.is_control() && c != '\n') => {
            "has a control character"
        }
        Kind::Text { text, .. } if !value.is_null() => return Ok(text.clone()),
        Kind::Text { .. } => "is empty",
        Kind::List(_) => "is a list; write one directory a line below `|`",
        Kind::Map(_) => "is a mapping, and has to be text",
    };
    Err(value.error(format!("section `{section}`: `{key}` {is}")))
}

#[derive(Clone)]
struct Node {
    marker: Marker,
    kind: Rc<Kind>,
}

enum Kind {
    /// `is_plain` is false for quoted text and blocks.
    Text {
        text: String,
        is_plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn error(&self, what: impl Into<String>) -> YamlError {
        YamlError::at(self.marker, what)
    }

    fn plain(&self) -> Option<&str> {
        match &*self.kind {
            Kind::Text { text, is_plain: true } => Some(text),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.plain(), Some("" | "~" | "null" | "Null" | "NULL"))
    }

    /// The truth of the value in Python. YAML 1.1 has more words than 1.2, and quoted text is true unless it is empty.
    fn is_true(&self) -> bool {
        match (&*self.kind, self.plain()) {
            (_, Some("no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE")) => false,
            (_, Some(text)) => !self.is_null() && text.replace('_', "").parse() != Ok(0.0),
            (Kind::Text { text, .. }, None) => !text.is_empty(),
            (Kind::List(items), _) => !items.is_empty(),
            (Kind::Map(entries), _) => !entries.is_empty(),
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    merged: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Marker), YamlError> {
        match self.parser.next_event() {
            Some(event) => event.map(|(event, span)| (event, span.start)).map_err(YamlError::from),
            None => Ok((Event::StreamEnd, Marker::default())),
        }
    }

    /// The only document; `None` if the text has none.
    fn document(&mut self) -> Result<Option<Node>, YamlError> {
        let mut found = None;
        loop {
            let (event, marker) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(found),
                Event::DocumentStart(_) if found.is_some() => {
                    return Err(YamlError::at(marker, "a second document begins here, and a file has one"));
                }
                Event::DocumentStart(_) => {
                    let first = self.next()?;
                    found = Some(self.node(first, 0)?);
                }
                _ => {}
            }
        }
    }

    /// The node that begins with this event.
    fn node(&mut self, (event, marker): (Event<'t>, Marker), depth: usize) -> Result<Node, YamlError> {
        if depth > DEEPEST {
            return Err(YamlError::at(marker, "too many levels: the file has sections, and keys in them"));
        }
        let (kind, anchor) = match event {
            Event::Alias(anchor) => {
                let undefined = || YamlError::at(marker, "an alias of itself, or of nothing");
                return self.anchors.get(&anchor).cloned().ok_or_else(undefined);
            }
            Event::Scalar(text, style, anchor, tag) => {
                // A tag such as `!!bool` repeats a plain scalar's own type.
                let is_value = |tag: &Tag| tag.is_yaml_core_schema() && tag.suffix != "str";
                let is_plain = tag.map_or(style == ScalarStyle::Plain, |tag| is_value(&tag));
                (Kind::Text { text: text.into_owned(), is_plain }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            _ => return Err(YamlError::at(marker, "a value is missing")),
        };
        let node = Node { marker, kind: Rc::new(kind) };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Kind, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                first => items.push(self.node(first, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, YamlError> {
        let (mut merged, mut own) = (Entries::default(), Vec::new());
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                first => self.node(first, depth + 1)?,
            };
            let first = self.next()?;
            let value = self.node(first, depth + 1)?;
            match &*key.kind {
                Kind::Text { text, is_plain: true } if text == "<<" => self.merge(&value, &mut merged)?,
                // It would be shown in messages.
                Kind::Text { text, .. } if text.chars().any(char::is_control) => {
                    return Err(key.error("a key has a control character"));
                }
                Kind::Text { text, .. } => own.push((text.clone(), value)),
                _ => return Err(key.error("a key is not text")),
            }
        }
        for (key, value) in own {
            merged.set(key, value);
        }
        Ok(Kind::Map(merged.all))
    }

    /// Adds the entries of a mapping, or of several of which an earlier one precedes.
    fn merge(&mut self, from: &Node, into: &mut Entries) -> Result<(), YamlError> {
        let maps =
            if let Kind::List(maps) = &*from.kind { maps.as_slice() } else { std::slice::from_ref(from) };
        for map in maps.iter().rev() {
            let Kind::Map(entries) = &*map.kind else {
                return Err(map.error("`<<` merges mappings, and this is none"));
            };
            self.merged += entries.len();
            if self.merged > MOST_MERGED {
                return Err(map.error("`<<` merges too many entries"));
            }
            for (key, value) in entries {
                into.set(key.clone(), value.clone());
            }
        }
        Ok(())
    }
}

/// The entries of a mapping: a later value of a key takes the earlier one's place.
#[derive(Default)]
struct Entries {
    all: Vec<(String, Node)>,
    at: HashMap<String, usize>,
}

impl Entries {
    fn set(&mut self, key: String, value: Node) {
        if let Some(at) = self.at.get(&key) {
            self.all[*at].1 = value;
        } else {
            self.at.insert(key.clone(), self.all.len());
            self.all.push((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Section {
        let mut sections = sections(text).unwrap();
        assert_eq!(sections.len(), 1, "{sections:?}");
        sections.remove(0)
    }

    fn error(text: &str) -> String {
        sections(text).unwrap_err().to_string()
    }

    #[test]
    fn a_section_has_a_base_and_several_lines_a_key() {
        let text = "# comment\n\u{e9}:\n  base_path: '~/models'\n  is_default: true\n  checkpoints: models/a/\n  loras: |\n    one\n    two words\n";
        let section = one(text);
        assert_eq!((section.name.as_str(), section.base_path.as_deref()), ("\u{e9}", Some("~/models")));
        assert!(section.is_default);
        let folders = [("checkpoints", "models/a/"), ("loras", "one\ntwo words\n")];
        assert_eq!(section.folders, folders.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_text_without_sections_is_empty() {
        for text in ["", "# only a comment\n", "\u{feff}", "---\n", "~\n", "a:\nb: ~\n"] {
            assert_eq!(sections(text), Ok(Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn truth_is_that_of_python_and_of_yaml_1_1() {
        let yes = ["true", "yes", "On", "1", "anything", "\"true\"", "\"false\"", "!!str no"];
        let no = ["!!bool \"no\"", "false", "No", "OFF", "0", "0.0", "~", "", "\"\"", "[]"];
        for (values, truth) in [(&yes[..], true), (&no, false)] {
            for value in values {
                assert_eq!(one(&format!("a:\n  is_default: {value}\n")).is_default, truth, "{value}");
            }
        }
    }

    #[test]
    fn a_repeated_key_keeps_its_place_and_takes_the_last_value() {
        let section = one("a:\n  vae: 1\na:\n  loras: one\n  vae: two\n  loras: three\n");
        let folders = [("loras", "three"), ("vae", "two")];
        assert_eq!(section.folders, folders.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn aliases_and_merge_keys_are_read() {
        let text =
            "base: &b\n  base_path: /m\n  vae: &v vae\nother:\n  <<: *b\n  loras: *v\n  base_path: /n\n";
        let other = &sections(text).unwrap()[1];
        assert_eq!(other.base_path.as_deref(), Some("/n"));
        let folders = [("vae", "vae"), ("loras", "vae")];
        assert_eq!(other.folders, folders.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_error_has_its_line_and_column() {
        assert_eq!(
            error("a:\n  vae:\n    - x\n"),
            "line 3, column 5: section `a`: `vae` is a list; write one directory a line below `|`"
        );
        assert_eq!(error("a:\n  vae:\n").split(": ").nth(1), Some("section `a`"));
        assert!(error("base_path: /m\nvae: x\n").starts_with("line 1, column 12: `base_path` is no section"));
        assert!(error("a:\n\tvae: x\n").starts_with("line 2, column"), "{}", error("a:\n\tvae: x\n"));
        assert!(error("- a\n").starts_with("line 1, column 1: the file is no mapping"));
        assert!(error("a:\n  vae: x\n--- \nb:\n").contains("a second document"));
        assert!(error("a:\n  vae: \"x\\0\"\n").contains("a control character"));
        assert!(error("\"a\\nb\":\n  vae: x\n").contains("line 1, column 1: a key has a control character"));
        assert!(error("a: {[x]: y}\n").contains("a key is not text"));
    }

    #[test]
    fn hostile_texts_end_soon() {
        // Bombs: each level has two of the one before.
        let bomb = |next: &dyn Fn(usize, usize) -> String| {
            let levels: Vec<String> = (1..60).map(|level| next(level, level - 1)).collect();
            format!("a0: &a0 {{vae: x}}\n{}", levels.concat())
        };
        let aliases = bomb(&|level, last| format!("a{level}: &a{level} {{x: *a{last}, y: *a{last}}}\n"));
        let merges =
            bomb(&|level, last| format!("a{level}: &a{level} {{<<: [*a{last}, *a{last}], k{level}: x}}\n"));
        assert!(error(&aliases).contains("is a mapping"));
        assert_eq!(sections(&merges).unwrap().len(), 60);
        let wide: Vec<String> = (0..200).map(|n| format!("  k{n}: x\n")).collect();
        let many = format!("a: &a\n{}b:\n  <<: [{}]\n", wide.concat(), ["*a"; 100].join(", "));
        assert!(error(&many).contains("too many entries"));
        assert!(error(&format!("a: {}", "[".repeat(50))).contains("too many levels"));
        assert!(sections(&format!("a: {}", "[".repeat(1_000_000))).is_err());
        assert!(sections(&format!("a: {}", "- ".repeat(500_000))).is_err());
        assert!(error("a: &a [*a]\n").contains("alias"));
    }
}
