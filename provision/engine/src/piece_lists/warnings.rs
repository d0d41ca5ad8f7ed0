//! The warnings of a run about its lists: one for each cause, with the first files.

use std::collections::{BTreeMap, BTreeSet};

use provision_core::event::{Event, Observer};
use provision_core::model_path::ModelPath;
use provision_core::shortened_list::shortened_list;

/// The files that a warning names.
const NAMED: usize = 3;

/// The cause for which files have no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// No place has it.
    Missing,
    /// A file of its name has other bytes.
    Wrong,
    /// It cannot be read from this machine.
    Unreadable,
    /// The lock pins bytes that are no list.
    Format,
    /// The lock pins the list of another file.
    OtherFile,
    /// It cannot be fetched.
    Unfetched,
}

impl Cause {
    fn way_out(self) -> &'static str {
        match self {
            Self::Missing => "commit models.pieces with the lock; `lock pieces` writes it",
            Self::Wrong => "restore it, or write it again with `lock pieces`",
            Self::Unreadable => "correct its mode, or write it again with `lock pieces`",
            Self::Format => "write it again with `lock pieces`",
            Self::OtherFile => "`lock check --pieces` finds all such lists, `lock pieces` writes right ones",
            Self::Unfetched => "the next run that needs it asks again",
        }
    }
}

/// The warnings, by cause.
#[derive(Debug, Default)]
pub(super) struct Warnings(Vec<Warning>);

#[derive(Debug)]
struct Warning {
    cause: Cause,
    /// The first file's.
    why: String,
    files: BTreeSet<ModelPath>,
    /// Those of them whose list is at no other place, each with its own.
    lacking: BTreeMap<ModelPath, String>,
    is_said: bool,
}

impl Warnings {
    /// Adds a file. One whose list is missing has no second reason.
    pub(super) fn note(&mut self, cause: Cause, file: &ModelPath, why: impl FnOnce() -> String) {
        if cause == Cause::Missing && self.0.iter().any(|warning| warning.files.contains(file)) {
            return;
        }
        match self.0.iter_mut().find(|warning| warning.cause == cause) {
            None => {
                let (files, why) = (BTreeSet::from([file.clone()]), why());
                let lacking = BTreeMap::from([(file.clone(), why.clone())]);
                self.0.push(Warning { cause, why, files, lacking, is_said: false });
            }
            Some(warning) if warning.is_said => {}
            Some(warning) => {
                warning.files.insert(file.clone());
                warning.lacking.entry(file.clone()).or_insert_with(why);
            }
        }
    }

    /// The list of a file is at a later place.
    pub(super) fn found(&mut self, file: &ModelPath) {
        for warning in &mut self.0 {
            warning.lacking.remove(file);
        }
    }

    /// The files whose lists are a mistake of the lock's author. Not those of a warning that is said.
    pub(super) fn mistaken(&self) -> BTreeSet<ModelPath> {
        let is_mistake = |warning: &&Warning| matches!(warning.cause, Cause::Format | Cause::OtherFile);
        self.0.iter().filter(is_mistake).flat_map(|warning| warning.files.iter().cloned()).collect()
    }

    pub(super) fn say(&mut self, observer: &dyn Observer) {
        for warning in self.0.iter_mut().filter(|warning| !warning.is_said) {
            let Warning { cause, why, files, lacking, is_said } = warning;
            let (files, lacking) = (std::mem::take(files), std::mem::take(lacking));
            let (names, use_of, why) = match lacking.first_key_value() {
                None => (shortened_list(files, NAMED), "used with another copy of the piece list", &*why),
                Some((_, why)) => (shortened_list(lacking.keys(), NAMED), "used without a piece list", why),
            };
            let message = format!("{names}: {use_of}: {why}; {}", cause.way_out());
            observer.observe(&Event::Warning { message });
            *is_said = true;
        }
    }
}
