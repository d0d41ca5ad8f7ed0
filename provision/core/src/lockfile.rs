//! `models.lock`, version 1: each model file with its path, digest, size and sources.
//!
//! ```toml
//! version = 1
//! marker = ".qwen_models_downloaded"          # optional; default ".models-installed"
//!
//! [[model]]
//! path = "vae/qwen_image_vae.safetensors"     # below the destination
//! url = "https://…"                           # the first source
//! mirrors = ["https://…"]                     # optional, tried in order after it
//! size = 253806246                            # bytes
//! sha256 = "a70580…"                          # 64 lower-case hex digits
//! pieces = "0c2ae1…"                          # optional: the digest of its piece list
//! groups = ["image-edit"]                     # optional, for --group
//! source = "hf:Comfy-Org/Qwen-Image@main/…"   # optional: what `lock update` follows
//! hint-licence = "apache-2.0"                 # optional: every program ignores such keys, in a model and in the lock
//! ```
//!
//! Parsing checks a lock completely: in a [`Lockfile`] every path is safe, no two paths are one file on any file
//! system, no path lies below another, and the sizes add up in 64 bits. An error shows its line. `raw` has the shape of
//! the text and the other modules its meaning, so that the format can grow without a change of meaning.

mod error;
mod hints;
mod join;
mod raw;
mod redaction;
mod select;
mod token_limit;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

pub use error::{Location, LockfileError, LockfileErrorKind};
pub use hints::HINT;
pub use join::JoinError;
pub use select::{SelectError, Selection};

use crate::digest::{Hasher, Sha256};
use crate::model_path::{ModelPath, directories_above};
use crate::source_url::SourceUrl;

/// The name of the marker where the lock gives none.
pub const DEFAULT_MARKER: &str = ".models-installed";

/// The largest lock that is read, in bytes: 30,000 models or so. More is a mistake or an attack.
pub const MAX_BYTES: u64 = 8 << 20;

/// A lock that has been checked as a whole.
#[derive(Debug, Clone)]
pub struct Lockfile {
    /// The marker's name as written, if the lock gives one.
    marker: Option<String>,
    models: Vec<Model>,
    /// The digest of its text, or of the texts of joined locks.
    text: Sha256,
}

/// One file: its path, bytes and sources.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its path below the destination.
    pub path: ModelPath,
    /// The first source, then the mirrors. Never empty.
    pub sources: Vec<SourceUrl>,
    /// Its length in bytes.
    pub size: u64,
    /// The digest of all its bytes.
    pub sha256: Sha256,
    /// The digest of its piece list, if it has one.
    pub pieces: Option<Sha256>,
    /// The groups it belongs to.
    pub groups: Vec<String>,
    /// The source that the URLs were resolved from, for the commands that edit a lock. A fetch does not use it; it is
    /// kept as written.
    pub source: Option<String>,
}

impl Model {
    /// Returns true if loading the file can run code: pickles execute their content.
    pub fn is_pickle(&self) -> bool {
        matches!(self.path.extension().as_deref(), Some("ckpt" | "pt" | "pth" | "bin" | "pkl"))
    }
}

impl Lockfile {
    /// Parses and checks `text`. Messages call it `name` (a path, or `standard input`).
    ///
    /// # Errors
    /// The first problem, with its location in the text.
    pub fn parse(name: &str, text: &str) -> Result<Self, LockfileError> {
        Self::check(text).map_err(|(span, kind)| LockfileError::new(name, text, span, kind))
    }

    /// The marker's file name, right below the destination.
    pub fn marker(&self) -> &str {
        self.marker.as_deref().unwrap_or(DEFAULT_MARKER)
    }

    /// The models, sorted by path.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The paths of its models and its marker, to find out which further paths fit beside them.
    pub fn paths(&self) -> TakenPaths {
        let mut used = UsedNames::new(self.marker());
        // They fit beside each other, or this would be no lock.
        let _ = self.models.iter().try_for_each(|model| used.add(&model.path));
        TakenPaths { used, exact: self.models.iter().map(|model| model.path.clone()).collect() }
    }

    /// The digest of the text, as it is written.
    pub fn text_digest(&self) -> Sha256 {
        self.text
    }

    /// The marker's name and the text digest of the joined `texts`, without parsing their models. `None` if a head does
    /// not parse; a whole parse then reports the error. Keys of the lock itself precede the first `[[model]]` (TOML
    /// 1.0, "Table").
    pub fn peek(texts: &[&str]) -> Option<(String, Sha256)> {
        let mut marker = None;
        for text in texts {
            let named = raw::peek(head(text))?.marker;
            let named = named.map(|name| check_marker(&name)).transpose().ok()?;
            marker = marker.or(named);
        }
        let digest = join::digest_of_texts(texts.iter().map(|text| Sha256::of(text.as_bytes())));
        Some((marker.unwrap_or_else(|| DEFAULT_MARKER.to_owned()), digest))
    }

    /// The digest of path, size and digest of each model, in order. URLs, groups, comments and formatting do not change
    /// it, so a new mirror does not make an installed set unknown.
    pub fn content_digest(&self) -> Sha256 {
        let mut hasher = Hasher::new();
        for model in &self.models {
            hasher.update(format!("{} {} {}\n", model.sha256, model.size, model.path).as_bytes());
        }
        hasher.finish()
    }

    fn check(text: &str) -> Result<Self, error::Located> {
        if token_limit::is_too_much(text) {
            return Err((None, LockfileErrorKind::TooMuch));
        }
        let raw = raw::parse(text)?;
        let marker = match raw.marker {
            None => None,
            Some(name) => Some(check_marker(name.get_ref()).map_err(|kind| (Some(name.span()), kind))?),
        };
        let mut models = Vec::with_capacity(raw.model.len());
        let mut names = UsedNames::new(marker.as_deref().unwrap_or(DEFAULT_MARKER));
        let mut total = 0;
        for hints::WithoutHints(raw) in raw.model {
            let span = raw.path.span();
            let model = raw.into_model()?;
            names.add(&model.path).map_err(|kind| (Some(span.clone()), kind))?;
            check_total(&mut total, model.size).map_err(|kind| (Some(span), kind))?;
            models.push(model);
        }
        models.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { marker, models, text: Sha256::of(text.as_bytes()) })
    }
}

/// The text as a basic string (TOML 1.0), always on one line.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Adds a model's size to the total.
fn check_total(total: &mut u128, size: u64) -> Result<(), LockfileErrorKind> {
    *total += u128::from(size);
    if *total > i64::MAX as u128 {
        return Err(LockfileErrorKind::TotalTooLarge { total: *total });
    }
    Ok(())
}

/// The lines before the first that begins with a bracket: the keys of the lock itself.
fn head(text: &str) -> &str {
    let lines = text.split_inclusive('\n').take_while(|line| !line.trim_start().starts_with('['));
    &text[..lines.map(str::len).sum()]
}

fn check_marker(name: &str) -> Result<String, LockfileErrorKind> {
    let path: ModelPath = name.parse().map_err(LockfileErrorKind::Path)?;
    if name.contains('/') { Err(LockfileErrorKind::MarkerInDirectory) } else { Ok(path.to_string()) }
}

/// The paths of a lock, and those that an edit will add.
#[derive(Debug, Clone, Default)]
pub struct TakenPaths {
    used: UsedNames,
    exact: HashSet<ModelPath>,
}

impl TakenPaths {
    /// Takes `path`. One that is taken already is the same entry.
    ///
    /// # Errors
    /// It cannot lie beside another path: some file system takes both for one, or one is a directory of the other.
    pub fn take(&mut self, path: &ModelPath) -> Result<(), LockfileErrorKind> {
        if self.exact.contains(path) {
            return Ok(());
        }
        self.used.add(path)?;
        self.exact.insert(path.clone());
        Ok(())
    }

    /// Checks that `path` could be taken.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn check(&self, path: &ModelPath) -> Result<(), LockfileErrorKind> {
        if self.exact.contains(path) { Ok(()) } else { self.used.check(path, &path.collision_key()) }
    }
}

/// The names in use: each file's, and each directory's above it.
#[derive(Debug, Clone, Default)]
struct UsedNames {
    /// collision key → the path as written, and whether it is a directory
    taken: HashMap<String, (String, bool)>,
}

impl UsedNames {
    fn new(marker: &str) -> Self {
        let key = marker.parse::<ModelPath>().map(|path| path.collision_key()).unwrap_or_default();
        Self { taken: HashMap::from([(key, (marker.to_owned(), false))]) }
    }

    fn add(&mut self, path: &ModelPath) -> Result<(), LockfileErrorKind> {
        let key = path.collision_key();
        self.check(path, &key)?;
        for above in directories_above(&key) {
            self.taken.entry(above.to_owned()).or_insert_with(|| (path.to_string(), true));
        }
        self.taken.insert(key, (path.to_string(), false));
        Ok(())
    }

    /// Checks that `path`, whose collision key is `key`, can lie beside the others.
    fn check(&self, path: &ModelPath, key: &str) -> Result<(), LockfileErrorKind> {
        if let Some((other, is_directory)) = self.taken.get(key) {
            return Err(match (other == path.as_str(), is_directory) {
                (_, true) => LockfileErrorKind::Nested { outer: path.to_string(), inner: other.clone() },
                (true, false) => LockfileErrorKind::Duplicate { path: path.to_string() },
                (false, false) => {
                    LockfileErrorKind::LookAlike { path: path.to_string(), other: other.clone() }
                }
            });
        }
        let file_above = directories_above(key).find_map(|above| {
            let (outer, is_directory) = self.taken.get(above)?;
            (!is_directory).then_some(outer)
        });
        file_above.map_or(Ok(()), |outer| {
            Err(LockfileErrorKind::Nested { outer: outer.clone(), inner: path.to_string() })
        })
    }
}

#[cfg(test)]
mod tests;
