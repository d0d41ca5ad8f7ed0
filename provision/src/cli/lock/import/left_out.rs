//! The items that an import leaves out: failures, remarks, and models for which the lists have no URL.

use std::collections::HashSet;

use camino::Utf8Path;
use provision_core::terminal_text::TerminalText;
use provision_lock::import::{Candidate, Conflict, ScriptProblem, Unused, UnusedReason};

use crate::cli::exit::Code;
use crate::cli::lock::command_line;
use crate::cli::lock::session::Failures;
use crate::cli::lock::write::Writing;
use crate::cli::process::invocation;
use crate::cli::{say, units};

/// The models without a URL that are named, unless all are asked for.
const NAMED: usize = 5;

/// The most files of one name in a message.
const SHOWN: usize = 6;

/// The meaning of a model that is not in the lock.
enum Loss {
    /// The list has an address for it, or a line that cannot be parsed.
    Failure,
    /// The list has no address for it.
    NoAddress,
    /// Every model is in the lock.
    Remark,
}

impl Loss {
    fn of(why: &UnusedReason) -> Self {
        match why {
            UnusedReason::Source(_)
            | UnusedReason::Line(_)
            | UnusedReason::Repository
            | UnusedReason::Elsewhere { .. }
            | UnusedReason::Script(
                ScriptProblem::Address
                | ScriptProblem::Python
                | ScriptProblem::AnotherFile
                | ScriptProblem::Unclosed
                | ScriptProblem::TooLong,
            )
            | UnusedReason::Unsure { .. } => Self::Failure,
            UnusedReason::NoAddress | UnusedReason::Named { .. } => Self::NoAddress,
            UnusedReason::Mirror(_)
            | UnusedReason::HashKind { .. }
            | UnusedReason::Digest(_)
            | UnusedReason::Option
            | UnusedReason::Damaged { .. }
            | UnusedReason::Script(ScriptProblem::NoModel | ScriptProblem::OfArray)
            | UnusedReason::NoModel
            | UnusedReason::Ambiguous { .. } => Self::Remark,
        }
    }
}

/// Adds the paths with two digests to the failures.
pub(super) fn refuse(conflicts: &[Conflict], failures: &mut Failures) {
    for conflict in conflicts {
        let other = conflict
            .other_source()
            .map(|source| format!(", or import both with {}", command_line::path_of(source, &conflict.path)));
        let other = other.unwrap_or_default();
        let why = format!("{conflict}; nothing is imported there: correct one of the lists{other}");
        failures.add(Code::Usage, why);
    }
}

/// Reports the items that were not used. With `all`, every model without a URL is named.
pub(super) fn report(all_unused: &[Unused], writing: &Writing<'_>, all: bool, failures: &mut Failures) {
    let mut without_address = Vec::new();
    for unused in all_unused {
        match Loss::of(&unused.why) {
            Loss::Failure => failures.add(Code::Usage, TerminalText(failure(unused))),
            Loss::NoAddress => without_address.push(unused),
            Loss::Remark => say(TerminalText(format_args!("not used: {unused}"))),
        }
    }
    note(writing, &without_address, all);
}

/// A failure's text, with a command for each file that it may be.
fn failure(unused: &Unused) -> String {
    let UnusedReason::Unsure { candidates } = &unused.why else { return unused.to_string() };
    let mut commands: Vec<String> = Vec::new();
    for Candidate { source, place, path } in candidates {
        let command = format!("`{}`{}", command_line::add(source, path), command_line::remark(source));
        // Two digests of one URL have one command, which asks the host.
        if !commands.iter().any(|known| known.starts_with(&command)) || !command_line::is_shown(source) {
            commands.push(format!("{command} ({place})"));
        }
    }
    let more = commands.len().saturating_sub(SHOWN);
    commands.truncate(SHOWN);
    let more = if more == 0 { String::new() } else { format!(", or {more} more") };
    format!("{unused}; add it with {}{more}", commands.join(" or "))
}

/// Prints the models without an address that are not in the lock otherwise, each once.
fn note(writing: &Writing<'_>, without_address: &[&Unused], all: bool) {
    let path: &Utf8Path = writing.path;
    let document = path.exists().then(|| provision_lock::file::read(path).ok()).flatten();
    let models = document.as_ref().map_or(&[][..], |document| document.lock().models());
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let paths = models.iter().map(|model| &model.path).chain(writing.paths());
    let mut known: HashSet<String> = paths.map(|path| last(path.as_str())).collect();
    let missing: Vec<&&Unused> =
        without_address.iter().filter(|unused| known.insert(last(&unused.what))).collect();
    if missing.is_empty() {
        return;
    }
    say(format_args!(
        "note: {} not in the lock, because the lists have no URL (--names FILE looks them up in another lock or list, and \
         `{} lock add SOURCE` adds one):",
        units::count(missing.len(), "model"),
        invocation()
    ));
    let named = if all { missing.len() } else { NAMED };
    for unused in missing.iter().take(named) {
        say(TerminalText(format_args!("  {}: {}", unused.place, unused.what)));
    }
    if let more @ 1.. = missing.len().saturating_sub(named) {
        say(format_args!("  and {more} more, which --verbose names"));
    }
}

#[cfg(test)]
mod tests {
    use provision_lock::import::{At, ListPosition};

    use super::*;

    #[test]
    fn each_file_of_a_name_has_a_command_that_survives_a_shell() {
        let place = |at: &str| ListPosition { list: "names".to_owned(), at: At::Entry(at.to_owned()) };
        let file = |url: &str, at: &str| Candidate {
            source: url.parse().unwrap(),
            place: place(at),
            path: "loras/it's/x.bin".to_owned(),
        };
        let candidates = vec![
            file("https://h/1.bin", "entry 1"),
            file("https://h/1.bin", "entry 2"),
            file("https://h/dl?id=7", "entry 3"),
            file("https://h/dl?id=8", "entry 4"),
        ];
        let why = UnusedReason::Unsure { candidates };
        let said = failure(&Unused { what: "x.bin".to_owned(), why, place: place("node 1") });
        let word = "'loras/it'\\''s/x.bin'";
        let expected = [
            format!("lock add https://h/1.bin --path {word}` (names, entry 1) or `"),
            format!("lock add SOURCE --path {word}`, where SOURCE is its whole address (names, entry 3)"),
        ];
        for part in expected {
            assert!(said.contains(&part), "{part}: {said}");
        }
        assert!(said.contains("entry 4") && !said.contains("entry 2") && !said.contains("id="), "{said}");
    }
}
