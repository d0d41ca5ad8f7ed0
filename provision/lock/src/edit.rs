//! [`Document`] edits a lock's text in place: a change touches only the lines that it must.
//!
//! People write locks by hand, so comments, key order, line endings, blank lines and a missing last newline stay as
//! they are. A change is a splice of the text. `toml_edit` locates the values, but its writer is not used: it drops
//! every carriage return and adds a final newline, so a one-line change of a CRLF file would become a change of every
//! line.
//!
//! Invariants, each held by a property test:
//! - A change that changes nothing leaves the same bytes. So does adding a model and removing it again.
//! - A comment directly above a model belongs to it, and moves and goes with it. So does one directly below its last
//!   key, unless it is directly above the next model. A comment with blank lines on both sides belongs to no model and
//!   stays.
//! - A new model goes behind the model with the next lower path. A sorted file stays sorted, and an unsorted one is not
//!   reordered for one entry.
//! - Keys and tables that begin with `hint-` are comments: those of a model move and go with it, and those of the lock
//!   stay.
//! - The result is a valid lock. The fetch's own parser reads the whole text after each change; a change that would
//!   break it leaves the document as it was.
//!
//! Models as an inline array (`model = [{…}]`) can be read, but a change is refused with a message that says so.

mod list;
mod spans;

use provision_core::lockfile::{Lockfile, LockfileError, Model, quoted};
use provision_core::model_path::ModelPath;

use crate::entry::Entry;
use spans::{KeySpan, ModelSpan, Spans};

/// The keys, in the order in which they are written.
const KEYS: [&str; 8] = ["path", "url", "mirrors", "size", "sha256", "pieces", "groups", "source"];

/// A lock's text and the positions in it.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    text: String,
    lock: Lockfile,
    spans: Spans,
}

/// The result of putting an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The entry is new.
    Added,
    /// The entry existed and differed; carries the previous one.
    Updated(Box<Entry>),
    /// The entry already existed in this form.
    Unchanged,
}

/// An edit that was refused. The document is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The result would be no valid lock: two paths collide, or one lies below another.
    #[error("the edit would make the lock invalid, so nothing was written: {0}")]
    Invalid(LockfileError),
    /// The lock has no model of this path.
    #[error("{name} has no model {path:?}; `lock list` shows its models")]
    Missing {
        /// The lock's name in messages.
        name: String,
        /// The path.
        path: ModelPath,
    },
    /// The same path twice among the new entries.
    #[error("{path:?} is given twice, but a path has one entry; give one of them another --path")]
    Twice {
        /// The path.
        path: ModelPath,
    },
    /// The models are an inline array.
    #[error(
        "{name} lists its models in an inline array (`model = […]`), which this command cannot edit; write each one as \
         a [[model]] table, and remove an empty `model = []`"
    )]
    Inline {
        /// The lock's name in messages.
        name: String,
    },
}

/// A replacement: start, end, new text.
type Splice = (usize, usize, String);

impl Document {
    /// A lock without models; messages call it `name`.
    pub fn empty(name: &str) -> Self {
        Self::parse(name, "version = 1\n").expect("this is a lock")
    }

    /// Parses a lock's text.
    ///
    /// # Errors
    /// Returns the parser's error: a text that cannot be parsed is not edited.
    pub fn parse(name: &str, text: &str) -> Result<Self, LockfileError> {
        let lock = Lockfile::parse(name, text)?;
        let spans = Spans::find(text);
        Ok(Self { name: name.to_owned(), text: text.to_owned(), lock, spans })
    }

    /// The current text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The current lock.
    pub fn lock(&self) -> &Lockfile {
        &self.lock
    }

    /// Returns the entry of `path`.
    pub fn get(&self, path: &ModelPath) -> Option<Entry> {
        self.model(path).map(Entry::from)
    }

    /// Checks that models can be added and changed.
    ///
    /// # Errors
    /// [`EditError::Inline`]
    pub fn check_editable(&self) -> Result<(), EditError> {
        self.models().map(drop)
    }

    /// Adds `entry`, or replaces all fields of the existing one.
    pub fn put(&mut self, entry: &Entry) -> Result<Outcome, EditError> {
        let outcomes = self.put_all(std::slice::from_ref(entry))?;
        Ok(outcomes.into_iter().next().unwrap_or(Outcome::Unchanged))
    }

    /// Puts several entries, all or none, and returns their outcomes in order.
    pub fn put_all(&mut self, entries: &[Entry]) -> Result<Vec<Outcome>, EditError> {
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(EditError::Twice { path: pair[0].path.clone() });
        }
        let outcomes: Vec<Outcome> = entries.iter().map(|entry| self.outcome(entry)).collect();
        let mut splices = Vec::new();
        let mut added = Vec::new();
        for entry in sorted {
            match self.outcome(entry) {
                Outcome::Unchanged => {}
                Outcome::Added => added.push(entry),
                Outcome::Updated(before) => self.update(&before, entry, &mut splices)?,
            }
        }
        // New models follow the updates, so that a new key at the end of a model comes before the next model.
        for entry in added {
            let at = self.place_for(&entry.path)?;
            splices.push((at, at, self.paragraph(entry, at)));
        }
        self.splice(splices)?;
        Ok(outcomes)
    }

    /// Removes a model with its comments and returns its entry.
    pub fn remove(&mut self, path: &ModelPath) -> Result<Entry, EditError> {
        let entry = self.get(path);
        self.remove_all(std::slice::from_ref(path))?;
        entry.ok_or_else(|| self.missing(path))
    }

    /// Removes several models, all or none.
    pub fn remove_all(&mut self, paths: &[ModelPath]) -> Result<(), EditError> {
        let mut splices: Vec<Splice> = Vec::new();
        for path in paths {
            if self.model(path).is_none() {
                return Err(self.missing(path));
            }
            let span = self.span(path)?;
            let (start, end) = (span.region.start, span.region.end);
            if !splices.iter().any(|splice| splice.1 == end) {
                splices.push((start, end, String::new()));
            }
        }
        self.splice(splices)
    }

    fn model(&self, path: &ModelPath) -> Option<&Model> {
        let models = self.lock.models();
        models.binary_search_by(|model| model.path.cmp(path)).ok().map(|at| &models[at])
    }

    fn missing(&self, path: &ModelPath) -> EditError {
        EditError::Missing { name: self.name.clone(), path: path.clone() }
    }

    fn models(&self) -> Result<&[ModelSpan], EditError> {
        self.spans.models.as_deref().ok_or_else(|| EditError::Inline { name: self.name.clone() })
    }

    fn span(&self, path: &ModelPath) -> Result<&ModelSpan, EditError> {
        let span = self.models()?.iter().find(|span| span.path == path.as_str());
        span.ok_or_else(|| self.missing(path))
    }

    fn outcome(&self, entry: &Entry) -> Outcome {
        match self.get(&entry.path) {
            None => Outcome::Added,
            Some(before) if before == *entry => Outcome::Unchanged,
            Some(before) => Outcome::Updated(Box::new(before)),
        }
    }

    /// The position for a new model: behind the model with the next lower path, or behind the lock's own keys.
    fn place_for(&self, path: &ModelPath) -> Result<usize, EditError> {
        let below = self.models()?.iter().filter(|span| span.path.as_str() < path.as_str());
        let next_below = below.max_by(|a, b| a.path.cmp(&b.path));
        Ok(next_below.map_or(self.spans.head_end, |span| span.region.end))
    }

    /// An entry as text, with the blank line before it. At an end without a newline, it ends without one, too.
    fn paragraph(&self, entry: &Entry, at: usize) -> String {
        let newline = self.spans.newline;
        let mut lines = vec![String::new(), "[[model]]".to_owned()];
        lines.extend(KEYS.iter().filter_map(|key| Some(format!("{key} = {}", value(key, entry)?))));
        if self.text[..at].ends_with('\n') {
            lines.iter().fold(String::new(), |text, line| text + line + newline)
        } else {
            lines.iter().fold(String::new(), |text, line| text + newline + line)
        }
    }

    /// Collects the splices that turn `before` into `entry`.
    fn update(&self, before: &Entry, entry: &Entry, splices: &mut Vec<Splice>) -> Result<(), EditError> {
        let span = self.span(&entry.path)?;
        for key in KEYS {
            let new = value(key, entry);
            if new == value(key, before) {
                continue;
            }
            match (span.keys.get(key), new) {
                (Some(old), Some(new)) => splices.extend(self.change(key, old, before, entry, new)),
                (Some(old), None) => splices.push(self.without(old)),
                (None, Some(new)) => splices.push(self.new_key(key, span, &new)),
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn change(&self, key: &str, old: &KeySpan, before: &Entry, entry: &Entry, new: String) -> Vec<Splice> {
        let lists = match key {
            "mirrors" => (addresses(before), addresses(entry)),
            "groups" => (quoted_all(&before.groups), quoted_all(&entry.groups)),
            _ => (vec![], vec![]),
        };
        // A list that only grows keeps its form and comments.
        match lists.1.strip_prefix(lists.0.as_slice()) {
            Some(more) if !lists.0.is_empty() => list::append(&self.text, old, more, self.spans.newline),
            _ => vec![(old.value.start, old.value.end, new)],
        }
    }

    fn without(&self, old: &KeySpan) -> Splice {
        let start = spans::line_start(&self.text, old.key.start);
        (start, spans::line_end(&self.text, old.value.end), String::new())
    }

    /// Builds the line for `key`: behind the preceding key's line, with the same indentation.
    fn new_key(&self, key: &str, span: &ModelSpan, new: &str) -> Splice {
        let before = KEYS.iter().take_while(|known| **known != key);
        let anchor = before.filter_map(|known| span.keys.get(*known)).last();
        let anchor = anchor.expect("a model has a path");
        let line = spans::line_start(&self.text, anchor.key.start);
        let indent = &self.text[line..anchor.key.start];
        let at = spans::line_end(&self.text, anchor.value.end);
        let newline = self.spans.newline;
        let text = if self.text[..at].ends_with('\n') {
            format!("{indent}{key} = {new}{newline}")
        } else {
            format!("{newline}{indent}{key} = {new}")
        };
        (at, at, text)
    }

    /// Applies the splices if the result is a valid lock.
    fn splice(&mut self, mut splices: Vec<Splice>) -> Result<(), EditError> {
        if splices.is_empty() {
            return Ok(());
        }
        // A stable sort: insertions at one position keep their order and come before removals there.
        splices.sort_by_key(|splice| (splice.0, splice.1));
        let mut text = String::with_capacity(self.text.len() + 512);
        let mut done = 0;
        for (start, end, new) in &splices {
            text.push_str(&self.text[done..*start]);
            text.push_str(new);
            done = *end;
        }
        text.push_str(&self.text[done..]);
        if !self.text.ends_with('\n') {
            // If the end was removed, a file without a last newline stays without one.
            text.truncate(trim_newline(&text).len());
        }
        *self = Self::parse(&self.name, &text).map_err(EditError::Invalid)?;
        Ok(())
    }
}

/// A key's value as text; `None` if the key is left out.
fn value(key: &str, entry: &Entry) -> Option<String> {
    let list = |items: &[String]| (!items.is_empty()).then(|| format!("[{}]", items.join(", ")));
    match key {
        "path" => Some(quoted(entry.path.as_str())),
        "url" => Some(quoted(entry.url.written())),
        "mirrors" => list(&addresses(entry)),
        "size" => Some(entry.size.to_string()),
        "sha256" => Some(quoted(&entry.sha256.to_string())),
        "pieces" => entry.pieces.map(|list| quoted(&list.to_string())),
        "groups" => list(&quoted_all(&entry.groups)),
        _ => entry.source.as_deref().map(quoted),
    }
}

fn addresses(entry: &Entry) -> Vec<String> {
    entry.mirrors.iter().map(|mirror| quoted(mirror.written())).collect()
}

fn quoted_all(items: &[String]) -> Vec<String> {
    items.iter().map(|item| quoted(item)).collect()
}

fn trim_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
