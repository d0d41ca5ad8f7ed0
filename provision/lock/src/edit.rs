//! [`Document`]: a lock's text, changed where it must be and nowhere else.
//!
//! The text is somebody's: comments, the order of keys, line ends, blank lines and a missing last newline are theirs. So a
//! change is a splice of the text. `toml_edit` finds where things are; its own writer is not used, since it drops every
//! carriage return and adds a newline at the end, and then a one-line change of a CRLF file is a change of each line.
//!
//! Invariants, each held by a property test:
//! - A change that changes nothing leaves the same bytes. Adding a model and removing it again does, too.
//! - A comment right above a model is the model's: it stays with it and goes with it. So is one right below its last
//!   key, unless it is right above the next model. One with blank lines on both sides is nobody's and stays.
//! - A new model comes right behind the model whose path is next below its own, so a sorted file stays sorted, and an
//!   unsorted one is not turned over for one entry.
//! - What comes out is a lock: the text is parsed as a whole after each change, by the parser that a fetch uses, and a
//!   change that would break it leaves the document as it was.
//!
//! Not supported: models as an inline array (`model = [{…}]`), which nobody writes by hand. Reading one works; a change is
//! refused with a message that says so.

mod list;
mod spans;

use provision_core::lockfile::{Lockfile, LockfileError, Model, quoted};
use provision_core::model_path::ModelPath;

use crate::entry::Entry;
use spans::{KeySpan, ModelSpan, Spans};

/// The keys in the order in which they are written.
const KEYS: [&str; 7] = ["path", "url", "mirrors", "size", "sha256", "groups", "source"];

/// A lock's text and what is where in it.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    text: String,
    lock: Lockfile,
    spans: Spans,
}

/// What became of an entry that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Added,
    /// It was there and differed; this is what it was.
    Updated(Box<Entry>),
    /// It was there as it is.
    Unchanged,
}

/// Why a change was not made. The document is as before.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What would come out is no lock: two paths that collide, or one below another.
    #[error("the lock would not be valid any more: {0}")]
    Invalid(LockfileError),
    /// A path that the lock does not have.
    #[error("{name} has no model {path:?}")]
    Missing {
        /// What the lock is called.
        name: String,
        /// The path.
        path: ModelPath,
    },
    /// One path twice among what is to be put.
    #[error("{path:?} is given twice; a path has one entry")]
    Twice {
        /// The path.
        path: ModelPath,
    },
    /// Models as an inline array.
    #[error(
        "{name} has its models in an inline array (`model = […]`), which this command does not change; write each as \
         a [[model]] table, and leave `model = []` out where there are none"
    )]
    Inline {
        /// What the lock is called.
        name: String,
    },
}

/// A piece of the text that is replaced: from, to, by what.
type Splice = (usize, usize, String);

impl Document {
    /// A lock without models; `name` is what messages call it.
    pub fn empty(name: &str) -> Self {
        Self::parse(name, "version = 1\n").expect("this is a lock")
    }

    /// Takes a lock's text.
    ///
    /// # Errors
    /// Whatever keeps it from being a lock: what is not understood is not edited.
    pub fn parse(name: &str, text: &str) -> Result<Self, LockfileError> {
        let lock = Lockfile::parse(name, text)?;
        let spans = Spans::find(text);
        Ok(Self { name: name.to_owned(), text: text.to_owned(), lock, spans })
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lock as it is now.
    pub fn lock(&self) -> &Lockfile {
        &self.lock
    }

    /// The entry of `path`.
    pub fn get(&self, path: &ModelPath) -> Option<Entry> {
        self.model(path).map(Entry::from)
    }

    /// Makes the lock say what `entry` says, all of it.
    pub fn put(&mut self, entry: &Entry) -> Result<Outcome, EditError> {
        let outcomes = self.put_all(std::slice::from_ref(entry))?;
        Ok(outcomes.into_iter().next().unwrap_or(Outcome::Unchanged))
    }

    /// Puts several entries, all or none; what became of each, in their order.
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
        // Behind the changes, so that a new key at a model's end comes before the next model.
        for entry in added {
            let at = self.place_for(&entry.path)?;
            splices.push((at, at, self.paragraph(entry, at)));
        }
        self.splice(splices)?;
        Ok(outcomes)
    }

    /// Takes a model out, with its comments; what it was.
    pub fn remove(&mut self, path: &ModelPath) -> Result<Entry, EditError> {
        let entry = self.get(path);
        self.remove_all(std::slice::from_ref(path))?;
        entry.ok_or_else(|| self.missing(path))
    }

    /// Takes several models out, all or none.
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

    /// Where a new model goes: behind the one next below it, or behind the lock's own keys.
    fn place_for(&self, path: &ModelPath) -> Result<usize, EditError> {
        let below = self.models()?.iter().filter(|span| span.path.as_str() < path.as_str());
        let next_below = below.max_by(|a, b| a.path.cmp(&b.path));
        Ok(next_below.map_or(self.spans.head_end, |span| span.region.end))
    }

    /// An entry as text, with the blank line in front; at an end without a newline it leaves none, too.
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

    /// The splices that make `entry` of `before`.
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
        // What is only added to keeps its form and its comments.
        match lists.1.strip_prefix(lists.0.as_slice()) {
            Some(more) if !lists.0.is_empty() => list::append(&self.text, old, more, self.spans.newline),
            _ => vec![(old.value.start, old.value.end, new)],
        }
    }

    fn without(&self, old: &KeySpan) -> Splice {
        let start = spans::line_start(&self.text, old.key.start);
        (start, spans::line_end(&self.text, old.value.end), String::new())
    }

    /// A line for `key`, behind the line of the key that is written before it, and indented as that is.
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

    /// Makes the changes, if what comes out is a lock.
    fn splice(&mut self, mut splices: Vec<Splice>) -> Result<(), EditError> {
        if splices.is_empty() {
            return Ok(());
        }
        // Stable: what is put at one place stays in its order, before what is taken away from there.
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
            // What was at the end is gone, and a file without a last newline does not get one by that.
            text.truncate(trim_newline(&text).len());
        }
        *self = Self::parse(&self.name, &text).map_err(EditError::Invalid)?;
        Ok(())
    }
}

/// A key's value as it is written; `None` where it is left out.
fn value(key: &str, entry: &Entry) -> Option<String> {
    let list = |items: &[String]| (!items.is_empty()).then(|| format!("[{}]", items.join(", ")));
    match key {
        "path" => Some(quoted(entry.path.as_str())),
        "url" => Some(quoted(entry.url.as_url().as_str())),
        "mirrors" => list(&addresses(entry)),
        "size" => Some(entry.size.to_string()),
        "sha256" => Some(quoted(&entry.sha256.to_string())),
        "groups" => list(&quoted_all(&entry.groups)),
        _ => entry.source.as_deref().map(quoted),
    }
}

fn addresses(entry: &Entry) -> Vec<String> {
    entry.mirrors.iter().map(|mirror| quoted(mirror.as_url().as_str())).collect()
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
