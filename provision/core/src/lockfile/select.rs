//! Selection of a lock's models by name and group.

use super::{Lockfile, Model};

/// Patterns and groups from the command line; empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Paths, file stems or globs over paths. A model that any of them names is in.
    pub patterns: Vec<String>,
    /// Groups. A model in any of them is in.
    pub groups: Vec<String>,
}

/// A selection that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// A pattern that matches no model.
    #[error("no model in the lock is called {pattern:?}; there are: {known}")]
    NoModel {
        /// The pattern.
        pattern: String,
        /// The first paths of the lock.
        known: String,
    },
    /// A group without models.
    #[error("no model in the lock belongs to the group {group:?}; there are: {known}")]
    NoGroup {
        /// The group.
        group: String,
        /// The lock's groups.
        known: String,
    },
    /// Patterns and groups that exclude each other.
    #[error("none of the models named belongs to the groups named; leave the models or the groups out")]
    Nothing,
}

impl Lockfile {
    /// The selected models, in the lock's order.
    ///
    /// # Errors
    /// A pattern or group that matches nothing: a misspelt name must not pass for "all present".
    pub fn select(&self, selection: &Selection) -> Result<Vec<&Model>, SelectError> {
        let mut named = vec![selection.patterns.is_empty(); self.models().len()];
        for pattern in &selection.patterns {
            let mut any = false;
            for (model, named) in self.models().iter().zip(&mut named) {
                if matches(pattern, model) {
                    *named = true;
                    any = true;
                }
            }
            if !any {
                return Err(SelectError::NoModel { pattern: pattern.clone(), known: self.known_paths() });
            }
        }
        for group in &selection.groups {
            if !self.models().iter().any(|model| model.groups.contains(group)) {
                return Err(SelectError::NoGroup { group: group.clone(), known: self.known_groups() });
            }
        }
        let in_groups = |model: &Model| {
            selection.groups.is_empty() || model.groups.iter().any(|group| selection.groups.contains(group))
        };
        let chosen: Vec<&Model> = self
            .models()
            .iter()
            .zip(&named)
            .filter(|(model, named)| **named && in_groups(model))
            .map(|(m, _)| m)
            .collect();
        let asked = !selection.patterns.is_empty() || !selection.groups.is_empty();
        if chosen.is_empty() && asked { Err(SelectError::Nothing) } else { Ok(chosen) }
    }

    fn known_paths(&self) -> String {
        let mut known: Vec<&str> = self.models().iter().take(8).map(|model| model.path.as_str()).collect();
        if self.models().len() > known.len() {
            known.push("…");
        }
        known.join(", ")
    }

    fn known_groups(&self) -> String {
        let mut known: Vec<&str> = self.models().iter().flat_map(|m| &m.groups).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        // A group may be called anything, and this is read in a terminal.
        if known.is_empty() { "none".to_owned() } else { known.join(", ").replace(char::is_control, "·") }
    }
}

/// A path and a stem are taken literally first, so that a name with brackets in it can be named. An invalid glob
/// matches nothing, which is an error already.
fn matches(pattern: &str, model: &Model) -> bool {
    let path = model.path.as_str();
    // The matcher would take a `!` in front for "all but": here it is a character like any other.
    let escaped = pattern.strip_prefix('!').map(|rest| format!("\\!{rest}"));
    let glob = escaped.as_deref().unwrap_or(pattern);
    path == pattern || model.path.stem() == pattern || fast_glob::glob_match(glob, path)
}
