//! `--path-of SOURCE=PATH`: chosen paths for sources of the lists.

use std::fmt::Display;

use provision_core::terminal_text::TerminalText;
use provision_lock::import::List;
use provision_lock::source::Source;

use crate::cli::exit::{Code, Failure};
use crate::cli::lock::session::Failures;

/// The ways to split a value of `--path-of`, the longest source first: a URL and a path may each have a `=`.
///
/// # Errors
/// No split has a source. The message does not repeat the value, which may contain a secret.
pub(super) fn splits(text: &str) -> Result<Vec<(Source, &str)>, Failure> {
    let refused = |why: &dyn Display| Failure::new(Code::Usage, format!("--path-of: {why}"));
    let mut error = None;
    let mut splits = Vec::new();
    for (at, _) in text.rmatch_indices('=') {
        match text[..at].parse::<Source>() {
            Ok(source) => splits.push((source, &text[at + 1..])),
            Err(why) => error = error.or(Some(why)),
        }
    }
    match error {
        Some(error) if splits.is_empty() => Err(refused(&error)),
        None if splits.is_empty() => Err(refused(&"it has the form SOURCE=PATH")),
        _ => Ok(splits),
    }
}

/// Gives the sources of the lists their chosen paths. One that no list names is one of the failures. Only the lists
/// tell a `=` of a query from the one before the path, so the message has no path.
pub(super) fn place(lists: &mut [List], paths: &[Vec<(Source, &str)>], failures: &mut Failures) {
    for splits in paths {
        let is_named = |source: &Source| {
            lists.iter().flat_map(|list| &list.models).any(|model| model.source.is_same(source))
        };
        let chosen = splits.iter().find(|(source, path)| !path.is_empty() && is_named(source));
        let Some((source, path)) = chosen else {
            let source = splits.first().map(|(source, _)| source.to_string()).unwrap_or_default();
            let why = format!("--path-of {source}: no list names this source before a `=PATH`");
            failures.add(Code::Usage, TerminalText(why));
            continue;
        };
        let models = lists.iter_mut().flat_map(|list| &mut list.models);
        for model in models.filter(|model| model.source.is_same(source)) {
            model.chosen = Some((*path).to_owned());
        }
    }
}
